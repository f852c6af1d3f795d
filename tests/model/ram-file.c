/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "util/osdep.h"
#include "util/iov.h"
#include "ram-file.h"
#include "scheduler.h"

#define RUBBISH 0xd5

RamFile *ram_file_new(void)
{
    RamFile *f = g_new0(RamFile, 1);

    f->max_size = 1LL << 30;
    f->request_alignment = 1;
    f->zero_writes = true;
    f->discards = true;
    f->yield_before = true;
    return f;
}

void ram_file_free(RamFile *f)
{
    if (f) {
        assert(f->in_flight == 0);
        g_free(f->data);
        g_free(f);
    }
}

void ram_file_grow(RamFile *f, int64_t size)
{
    if (size > f->allocated) {
        int64_t now = MAX(f->allocated * 2, ROUND_UP(size, 4096));

        f->data = g_realloc(f->data, now);
        memset(f->data + f->allocated, 0, now - f->allocated);
        f->allocated = now;
    }
    f->size = MAX(f->size, size);
}

/* --------------------------------------------------------------- requests */

static RamFile *file_of(BlockDriverState *bs)
{
    return *(RamFile **)bs->opaque;
}

static void coroutine_fn begin(RamFile *f)
{
    f->in_flight++;
    if (f->yield_before) {
        sched_yield_point();
    }
}

static int coroutine_fn end(RamFile *f, int ret)
{
    if (f->yield_after) {
        sched_yield_point();
    }
    f->in_flight--;
    return ret;
}

static void check_aligned(RamFile *f, int64_t offset, int64_t bytes)
{
    assert(offset >= 0 && bytes > 0);
    assert(((offset | bytes) & (f->request_alignment - 1)) == 0);
}

static int coroutine_fn ram_preadv(BlockDriverState *bs, int64_t offset,
                                   int64_t bytes, QEMUIOVector *qiov,
                                   size_t qiov_offset, BdrvRequestFlags flags)
{
    RamFile *f = file_of(bs);
    int64_t there;

    check_aligned(f, offset, bytes);
    begin(f);
    there = CLAMP(f->size - offset, 0, bytes);
    if (there) {
        qemu_iovec_from_buf(qiov, qiov_offset, f->data + offset, there);
    }
    if (there < bytes) {
        qemu_iovec_memset(qiov, qiov_offset + there, 0, bytes - there);
    }
    return end(f, 0);
}

static int coroutine_fn ram_pwritev(BlockDriverState *bs, int64_t offset,
                                    int64_t bytes, QEMUIOVector *qiov,
                                    size_t qiov_offset,
                                    BdrvRequestFlags flags)
{
    RamFile *f = file_of(bs);

    check_aligned(f, offset, bytes);
    begin(f);
    if (offset + bytes > f->max_size) {
        return end(f, -ENOSPC);
    }
    ram_file_grow(f, offset + bytes);
    qemu_iovec_to_buf(qiov, qiov_offset, f->data + offset, bytes);
    return end(f, 0);
}

static int coroutine_fn ram_pwrite_zeroes(BlockDriverState *bs, int64_t offset,
                                          int64_t bytes,
                                          BdrvRequestFlags flags)
{
    RamFile *f = file_of(bs);

    check_aligned(f, offset, bytes);
    if (!f->zero_writes) {
        return -ENOTSUP;
    }
    begin(f);
    if (offset + bytes > f->max_size) {
        return end(f, -ENOSPC);
    }
    ram_file_grow(f, offset + bytes);
    memset(f->data + offset, 0, bytes);
    return end(f, 0);
}

static int coroutine_fn ram_pdiscard(BlockDriverState *bs, int64_t offset,
                                     int64_t bytes)
{
    RamFile *f = file_of(bs);
    int64_t there;

    if (!f->discards) {
        return -ENOTSUP;
    }
    begin(f);
    there = CLAMP(f->size - offset, 0, bytes);
    if (there) {
        memset(f->data + offset, RUBBISH, there);
    }
    return end(f, 0);
}

static int coroutine_fn ram_flush(BlockDriverState *bs)
{
    RamFile *f = file_of(bs);

    begin(f);
    return end(f, 0);
}

static int coroutine_fn ram_truncate(BlockDriverState *bs, int64_t offset,
                                     bool exact, PreallocMode prealloc,
                                     BdrvRequestFlags flags, Error **errp)
{
    RamFile *f = file_of(bs);

    if (offset > f->max_size) {
        error_setg(errp, "The file gets too large");
        return -ENOSPC;
    }
    begin(f);
    if (offset < f->size) {
        memset(f->data + offset, 0, f->size - offset);
        f->size = offset;
    }
    ram_file_grow(f, offset);
    return end(f, 0);
}

static int64_t coroutine_fn ram_getlength(BlockDriverState *bs)
{
    return file_of(bs)->size;
}

static int coroutine_fn ram_block_status(BlockDriverState *bs, bool want_zero,
                                         int64_t offset, int64_t bytes,
                                         int64_t *pnum, int64_t *map,
                                         BlockDriverState **file)
{
    *pnum = bytes;
    *map = offset;
    *file = bs;
    return BDRV_BLOCK_DATA | BDRV_BLOCK_OFFSET_VALID;
}

/* ------------------------------------------------------------- the driver */

/* Opening has no other way to pass it. */
static RamFile *next_file;

static int ram_open(BlockDriverState *bs, BlockdevOptions *options, int flags,
                    Error **errp)
{
    RamFile *f = next_file;

    *(RamFile **)bs->opaque = f;
    bs->supported_write_flags = f->fua ? BDRV_REQ_FUA : 0;
    bs->supported_zero_flags = BDRV_REQ_MAY_UNMAP | BDRV_REQ_NO_FALLBACK |
                               (f->fua ? BDRV_REQ_FUA : 0);
    bs->supported_truncate_flags = BDRV_REQ_ZERO_WRITE;
    return 0;
}

static void ram_close(BlockDriverState *bs)
{
    assert(file_of(bs)->in_flight == 0);
}

static void ram_refresh_limits(BlockDriverState *bs, Error **errp)
{
    bs->bl.request_alignment = file_of(bs)->request_alignment;
}

static int ram_reopen_prepare(BDRVReopenState *state, BlockReopenQueue *queue,
                              Error **errp)
{
    return 0;
}

static BlockDriver ram_file_driver = {
    .format_name = "ram-file",
    .protocol_name = "ram-file",
    .instance_size = sizeof(RamFile *),
    .bdrv_open = ram_open,
    .bdrv_close = ram_close,
    .bdrv_reopen_prepare = ram_reopen_prepare,
    .bdrv_refresh_limits = ram_refresh_limits,
    .bdrv_co_getlength = ram_getlength,
    .bdrv_co_preadv = ram_preadv,
    .bdrv_co_pwritev = ram_pwritev,
    .bdrv_co_pwrite_zeroes = ram_pwrite_zeroes,
    .bdrv_co_pdiscard = ram_pdiscard,
    .bdrv_co_flush_to_disk = ram_flush,
    .bdrv_co_truncate = ram_truncate,
    .bdrv_co_block_status = ram_block_status,
};

BlockDriverState *ram_file_open(RamFile *f, const char *name, int flags,
                                Error **errp)
{
    next_file = f;
    return bdrv_new_open_driver(&ram_file_driver, name, flags, errp);
}
