/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "util/osdep.h"
#include "disk.h"
#include "util/aio.h"
#include "util/bswap.h"
#include "util/iov.h"

#define MAX_TURNS 4
#define GARBAGE 0xdb

/* Of a qcow2 header. */
#define VERSION 4
#define INCOMPATIBLE_FEATURES 72
#define INCOMPAT_DIRTY 1

/* What the next node is: opening has no other way to tell it. */
static CrashDisk *next_disk;

static CrashDisk *disk_of(BlockDriverState *bs)
{
    return *(CrashDisk **)bs->opaque;
}

/* --- content --- */

static void reserve(CrashDisk *disk, int64_t size)
{
    int64_t capacity = disk->capacity;

    if (size <= capacity) {
        return;
    }
    capacity = MAX(ROUND_UP(size, 65536), capacity + capacity / 2);
    disk->data = g_realloc(disk->data, capacity);
    memset(disk->data + disk->capacity, 0, capacity - disk->capacity);
    disk->capacity = capacity;
}

void crash_disk_load(CrashDisk *disk, const uint8_t *data, int64_t size)
{
    reserve(disk, size);
    memcpy(disk->data, data, size);
    if (disk->size > size) {
        memset(disk->data + size, 0, disk->size - size);
    }
    disk->size = size;
}

static void apply(CrashDisk *disk, const DiskOp *op, int64_t bytes)
{
    if (op->kind == DISK_TRUNCATE) {
        reserve(disk, op->bytes);
        if (op->bytes < disk->size) {
            memset(disk->data + op->bytes, 0, disk->size - op->bytes);
        }
        disk->size = op->bytes;
        return;
    }
    reserve(disk, op->offset + bytes);
    if (op->data) {
        memcpy(disk->data + op->offset, op->data, bytes);
    } else {
        memset(disk->data + op->offset, 0, bytes);
    }
    disk->size = MAX(disk->size, op->offset + bytes);
}

bool crash_disk_is_dirty(const uint8_t *data, int64_t size)
{
    return size >= INCOMPATIBLE_FEATURES + 8 && ldl_be_p(data + VERSION) >= 3 &&
           (ldq_be_p(data + INCOMPATIBLE_FEATURES) & INCOMPAT_DIRTY);
}

/* --- log --- */

static void disk_op_free(void *opaque)
{
    DiskOp *op = opaque;

    g_free(op->data);
    g_free(op);
}

void crash_disk_record(CrashDisk *disk, CrashTime *clock)
{
    g_clear_pointer(&disk->log, g_ptr_array_unref);
    disk->clock = clock;
    if (clock) {
        disk->log = g_ptr_array_new_with_free_func(disk_op_free);
    }
}

static CrashTime tick(CrashDisk *disk)
{
    return disk->clock ? ++*disk->clock : 0;
}

static DiskOp *op_start(CrashDisk *disk, DiskOpKind kind, int64_t offset,
                        int64_t bytes, uint8_t *data)
{
    DiskOp *op = g_new0(DiskOp, 1);

    *op = (DiskOp) {
        .kind = kind, .offset = offset, .bytes = bytes, .data = data,
        .started = tick(disk),
    };
    if (disk->log) {
        g_ptr_array_add(disk->log, op);
    }
    return op;
}

static int op_end(CrashDisk *disk, DiskOp *op, int ret)
{
    CrashTime now = tick(disk);

    if (ret == 0) {
        op->ended = now;
    }
    if (!disk->log) {
        disk_op_free(op);
    }
    return ret;
}

char *disk_op_describe(const DiskOp *op)
{
    switch (op->kind) {
    case DISK_WRITE:
    case DISK_ZERO:
    case DISK_DISCARD:
        return g_strdup_printf("%-7s %6" PRId64 " bytes at %#9" PRIx64,
                               op->kind == DISK_WRITE ? "write" :
                               op->kind == DISK_ZERO ? "zero" : "discard",
                               op->bytes, op->offset);
    case DISK_TRUNCATE:
        return g_strdup_printf("truncate to %" PRId64, op->bytes);
    case DISK_FLUSH:
        return g_strdup("flush");
    default:
        g_assert_not_reached();
    }
}

/* --- faults --- */

static bool fault_concerns(const DiskFault *f, bool read, bool grows)
{
    return f->kind == FAULT_ALL || (f->kind == FAULT_CHANGES && !read) ||
           (f->kind == FAULT_GROWTH && grows);
}

static int take_fault(CrashDisk *disk, bool read, bool grows)
{
    const DiskFault *f = &disk->fault;

    if (!f->at || !fault_concerns(f, read, grows)) {
        return 0;
    }
    disk->seen++;
    if (f->once ? disk->seen != f->at : disk->seen < f->at) {
        return 0;
    }
    if (!disk->failed++) {
        disk->failed_at = tick(disk);
    }
    return -f->error;
}

static void coroutine_fn delay(CrashDisk *disk)
{
    int turns = disk->delays ? g_rand_int_range(disk->delays, 0, MAX_TURNS)
                             : 0;

    while (turns--) {
        qemu_co_yield_to_loop();
    }
}

/* --- driver --- */

static int disk_open(BlockDriverState *bs, BlockdevOptions *options, int flags,
                     Error **errp)
{
    *(CrashDisk **)bs->opaque = next_disk;
    bs->supported_zero_flags = BDRV_REQ_MAY_UNMAP | BDRV_REQ_NO_FALLBACK;
    return 0;
}

static int64_t coroutine_fn disk_getlength(BlockDriverState *bs)
{
    return disk_of(bs)->size;
}

static void disk_refresh_limits(BlockDriverState *bs, Error **errp)
{
    bs->bl.request_alignment = disk_of(bs)->alignment;
}

static int coroutine_fn disk_preadv(BlockDriverState *bs, int64_t offset,
                                    int64_t bytes, QEMUIOVector *qiov,
                                    size_t qiov_offset, BdrvRequestFlags flags)
{
    CrashDisk *disk = disk_of(bs);
    int64_t in_file;
    int ret = take_fault(disk, true, false);

    disk->failed_minor += ret < 0 && disk->fault.once;
    delay(disk);
    if (ret < 0) {
        return ret;
    }
    in_file = CLAMP(disk->size - offset, 0, bytes);
    qemu_iovec_from_buf(qiov, qiov_offset, disk->data + offset, in_file);
    qemu_iovec_memset(qiov, qiov_offset + in_file, 0, bytes - in_file);
    delay(disk);
    return 0;
}

/* Whole sectors of it. */
static void apply_half(CrashDisk *disk, DiskOp *op)
{
    int64_t end = ROUND_DOWN(op->offset + op->bytes / 2, CRASH_SECTOR);

    if (end > op->offset) {
        op->bytes = end - op->offset;
        apply(disk, op, op->bytes);
        op->applied = tick(disk);
    }
}

/* Whether a failure may go unnoticed; the guest's data is compared anyway. */
static bool is_minor(const CrashDisk *disk, DiskOpKind kind, int64_t bytes)
{
    return kind == DISK_DISCARD || disk->fault.once ||
           (kind == DISK_TRUNCATE && bytes < disk->size);
}

/* Takes over @data. */
static int coroutine_fn change(CrashDisk *disk, DiskOpKind kind,
                               int64_t offset, int64_t bytes, uint8_t *data)
{
    int64_t end = kind == DISK_TRUNCATE ? bytes : offset + bytes;
    DiskOp *op = op_start(disk, kind, offset, bytes, data);
    int ret = take_fault(disk, false, end > disk->size);

    disk->failed_minor += ret < 0 && is_minor(disk, kind, bytes);
    delay(disk);
    if (ret == 0) {
        apply(disk, op, bytes);
        op->applied = tick(disk);
    } else if (kind == DISK_WRITE && disk->fault.partial) {
        apply_half(disk, op);
    }
    delay(disk);
    return op_end(disk, op, ret);
}

static int coroutine_fn disk_pwritev(BlockDriverState *bs, int64_t offset,
                                     int64_t bytes, QEMUIOVector *qiov,
                                     size_t qiov_offset,
                                     BdrvRequestFlags flags)
{
    uint8_t *data = g_malloc(bytes);

    qemu_iovec_to_buf(qiov, qiov_offset, data, bytes);
    return change(disk_of(bs), DISK_WRITE, offset, bytes, data);
}

static int coroutine_fn disk_pwrite_zeroes(BlockDriverState *bs,
                                           int64_t offset, int64_t bytes,
                                           BdrvRequestFlags flags)
{
    return change(disk_of(bs), DISK_ZERO, offset, bytes, NULL);
}

static int coroutine_fn disk_pdiscard(BlockDriverState *bs, int64_t offset,
                                      int64_t bytes)
{
    CrashDisk *disk = disk_of(bs);
    uint8_t *data = NULL;

    bytes = MIN(bytes, disk->size - offset);
    if (bytes <= 0) {
        return 0;
    }
    if (disk->garbage) {
        data = g_malloc(bytes);
        memset(data, GARBAGE, bytes);
    }
    return change(disk, DISK_DISCARD, offset, bytes, data);
}

static int coroutine_fn disk_truncate(BlockDriverState *bs, int64_t offset,
                                      bool exact, PreallocMode prealloc,
                                      BdrvRequestFlags flags, Error **errp)
{
    int ret;

    ret = change(disk_of(bs), DISK_TRUNCATE, 0, offset, NULL);
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Failed to resize the crash disk");
    }
    return ret;
}

static int coroutine_fn disk_flush(BlockDriverState *bs)
{
    CrashDisk *disk = disk_of(bs);
    DiskOp *op = op_start(disk, DISK_FLUSH, 0, 0, NULL);
    int ret = take_fault(disk, false, false);

    delay(disk);
    return op_end(disk, op, ret);
}

static BlockDriver bdrv_crash_disk = {
    .format_name = "crash-disk",
    .id = BLOCKDEV_DRIVER_NULL_CO,
    .protocol_name = "crash-disk",
    .instance_size = sizeof(CrashDisk *),
    .has_variable_length = true,
    .bdrv_open = disk_open,
    .bdrv_refresh_limits = disk_refresh_limits,
    .bdrv_co_getlength = disk_getlength,
    .bdrv_co_preadv = disk_preadv,
    .bdrv_co_pwritev = disk_pwritev,
    .bdrv_co_pwrite_zeroes = disk_pwrite_zeroes,
    .bdrv_co_pdiscard = disk_pdiscard,
    .bdrv_co_truncate = disk_truncate,
    .bdrv_co_flush_to_disk = disk_flush,
};

CrashDisk *crash_disk_new(const char *name)
{
    CrashDisk *disk = g_new0(CrashDisk, 1);

    disk->alignment = 1;
    next_disk = disk;
    disk->bs = bdrv_new_open_driver(&bdrv_crash_disk, name, BDRV_O_RDWR,
                                    &error_abort);
    return disk;
}

void crash_disk_free(CrashDisk *disk)
{
    crash_disk_record(disk, NULL);
    bdrv_unref(disk->bs);
    g_free(disk->data);
    g_free(disk);
}
