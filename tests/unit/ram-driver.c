/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "util/osdep.h"
#include "ram-driver.h"
#include "util/aio.h"
#include "util/iov.h"
#include "util/lockable.h"

#define DEFAULT_CLUSTER 65536
/* Nodes can grow to this many times their first length. */
#define GROWTH 4

/* What the next node gets: opening has no other way to pass it. */
static const RamConfig *next_config;

/* ------------------------------------------------------------ life, hooks */

static int ram_open(BlockDriverState *bs, BlockdevOptions *options, int flags,
                    Error **errp)
{
    RamState *s = bs->opaque;

    s->cfg = *next_config;
    if (!s->cfg.cluster) {
        s->cfg.cluster = DEFAULT_CLUSTER;
    }
    s->length = s->cfg.length;
    s->capacity = ROUND_UP(s->length * GROWTH, (int64_t)1 << 20);
    s->data = g_malloc0(s->capacity);
    s->allocated = g_malloc0(s->capacity / s->cfg.cluster + 1);
    qemu_mutex_init(&s->lock);
    qemu_co_queue_init(&s->queue);
    bs->supported_write_flags = s->cfg.write_flags;
    bs->supported_zero_flags = s->cfg.zero_flags;
    return 0;
}

static void ram_close(BlockDriverState *bs)
{
    RamState *s = bs->opaque;

    g_assert_cmpuint(qatomic_read(&s->running), ==, 0);
    qemu_mutex_destroy(&s->lock);
    g_free(s->allocated);
    g_free(s->data);
}

static void ram_refresh_limits(BlockDriverState *bs, Error **errp)
{
    RamState *s = bs->opaque;
    const BlockLimits *want = &s->cfg.bl;
    BlockLimits *bl = &bs->bl;

    bl->request_alignment = MAX(want->request_alignment, 1);
    bl->max_pdiscard = want->max_pdiscard;
    bl->pdiscard_alignment = want->pdiscard_alignment;
    bl->max_pwrite_zeroes = want->max_pwrite_zeroes;
    bl->pwrite_zeroes_alignment = want->pwrite_zeroes_alignment;
    bl->max_transfer = want->max_transfer;
    bl->min_mem_alignment = MAX(want->min_mem_alignment, 1);
    bl->max_iov = want->max_iov;
}

/* Counts an operation, holds it, fails it. */
static int coroutine_fn ram_begin(RamState *s, RamOp op, unsigned *counter)
{
    int ret = 0;

    qatomic_inc(counter);
    qatomic_inc(&s->running);
    QEMU_LOCK_GUARD(&s->lock);
    while (s->hold & op) {
        s->held++;
        qemu_co_queue_wait(&s->queue, &s->lock);
        s->held--;
    }
    if (s->fail & op) {
        s->fail &= ~op;
        ret = s->error;
    }
    return ret;
}

static void ram_end(RamState *s)
{
    qatomic_dec(&s->running);
}

/* Requests of several threads come here: no write without need. */
static void ram_grow(RamState *s, int64_t end)
{
    if (end > s->length) {
        s->length = end;
    }
}

/* -------------------------------------------------------------- requests */

static void check_transfer(BlockDriverState *bs, int64_t offset,
                           int64_t bytes, QEMUIOVector *qiov,
                           size_t qiov_offset)
{
    RamState *s = bs->opaque;
    const BlockLimits *bl = &s->cfg.bl;
    QEMUIOVector slice;

    g_assert_cmpint(offset % MAX(bl->request_alignment, 1), ==, 0);
    g_assert_cmpint(bytes % MAX(bl->request_alignment, 1), ==, 0);
    g_assert_cmpint(bytes, >, 0);
    if (bl->max_transfer) {
        g_assert_cmpint(bytes, <=, bl->max_transfer);
    }
    g_assert_cmpint(offset + bytes, <=, s->capacity);
    qemu_iovec_init_slice(&slice, qiov, qiov_offset, bytes);
    if (bl->max_iov) {
        g_assert_cmpint(slice.niov, <=, bl->max_iov);
    }
    if (bl->min_mem_alignment) {
        g_assert_true(qemu_iovec_is_aligned(&slice, bl->min_mem_alignment,
                                            bl->request_alignment));
    }
    qemu_iovec_destroy(&slice);
}

static bool cluster_allocated(RamState *s, int64_t offset)
{
    return s->allocated[offset / s->cfg.cluster];
}

/* Bytes from @offset on, at most @bytes, that are in one state. */
static int64_t same_state(RamState *s, int64_t offset, int64_t bytes)
{
    int64_t end = offset;

    while (end < offset + bytes &&
           cluster_allocated(s, end) == cluster_allocated(s, offset)) {
        end = QEMU_ALIGN_DOWN(end, s->cfg.cluster) + s->cfg.cluster;
    }
    return MIN(end - offset, bytes);
}

/* Brings the clusters that a write changes in part into the overlay. */
static int coroutine_fn ram_allocate(BlockDriverState *bs, int64_t offset,
                                     int64_t bytes)
{
    RamState *s = bs->opaque;
    int64_t cluster = s->cfg.cluster;
    int64_t pos = QEMU_ALIGN_DOWN(offset, cluster);

    for (; pos < offset + bytes; pos += cluster) {
        if (cluster_allocated(s, pos)) {
            continue;
        }
        if (bs->backing && (pos < offset || pos + cluster > offset + bytes)) {
            int ret = bdrv_co_pread(bs->backing, pos, cluster, s->data + pos,
                                    0);
            if (ret < 0) {
                return ret;
            }
        }
        s->allocated[pos / cluster] = 1;
    }
    return 0;
}

static int coroutine_fn ram_preadv(BlockDriverState *bs, int64_t offset,
                                   int64_t bytes, QEMUIOVector *qiov,
                                   size_t qiov_offset, BdrvRequestFlags flags)
{
    RamState *s = bs->opaque;
    int ret;

    g_assert_cmphex(flags & ~bs->supported_read_flags, ==, 0);
    check_transfer(bs, offset, bytes, qiov, qiov_offset);
    ret = ram_begin(s, RAM_READ, &s->reads);
    while (ret >= 0 && bytes > 0) {
        int64_t n = same_state(s, offset, bytes);

        if (bs->backing && !cluster_allocated(s, offset)) {
            ret = bdrv_co_preadv_part(bs->backing, offset, n, qiov,
                                      qiov_offset, 0);
        } else {
            QEMU_LOCK_GUARD(&s->lock);
            qemu_iovec_from_buf(qiov, qiov_offset, s->data + offset, n);
        }
        offset += n;
        qiov_offset += n;
        bytes -= n;
    }
    ram_end(s);
    return ret;
}

static int coroutine_fn ram_pwritev(BlockDriverState *bs, int64_t offset,
                                    int64_t bytes, QEMUIOVector *qiov,
                                    size_t qiov_offset, BdrvRequestFlags flags)
{
    RamState *s = bs->opaque;
    int ret;

    g_assert_cmphex(flags & ~bs->supported_write_flags, ==, 0);
    check_transfer(bs, offset, bytes, qiov, qiov_offset);
    ret = ram_begin(s, RAM_WRITE, &s->writes);
    if (ret >= 0) {
        ret = ram_allocate(bs, offset, bytes);
    }
    if (ret >= 0) {
        if (flags & BDRV_REQ_FUA) {
            qatomic_inc(&s->fua_writes);
        }
        /* Guests may race for the same bytes, like on a real disk. */
        WITH_QEMU_LOCK_GUARD(&s->lock) {
            qemu_iovec_to_buf(qiov, qiov_offset, s->data + offset, bytes);
        }
        ram_grow(s, offset + bytes);
    }
    ram_end(s);
    return ret;
}

static int coroutine_fn ram_pwrite_zeroes(BlockDriverState *bs, int64_t offset,
                                          int64_t bytes,
                                          BdrvRequestFlags flags)
{
    RamState *s = bs->opaque;
    const BlockLimits *bl = &s->cfg.bl;
    int ret;

    g_assert_cmphex(flags & ~bs->supported_zero_flags, ==, 0);
    if (bl->max_pwrite_zeroes) {
        g_assert_cmpint(bytes, <=, bl->max_pwrite_zeroes);
    }
    if (s->cfg.no_zeroes ||
        (s->cfg.whole_zeroes &&
         ((offset | bytes) & (bl->pwrite_zeroes_alignment - 1)))) {
        return -ENOTSUP;
    }
    ret = ram_begin(s, RAM_ZERO, &s->zeroes);
    if (ret >= 0) {
        ret = ram_allocate(bs, offset, bytes);
    }
    if (ret >= 0) {
        if (flags & BDRV_REQ_MAY_UNMAP) {
            qatomic_inc(&s->unmaps);
        }
        memset(s->data + offset, 0, bytes);
        ram_grow(s, offset + bytes);
    }
    ram_end(s);
    return ret;
}

static int coroutine_fn ram_pdiscard(BlockDriverState *bs, int64_t offset,
                                     int64_t bytes)
{
    RamState *s = bs->opaque;
    const BlockLimits *bl = &s->cfg.bl;
    int ret;

    if (bl->max_pdiscard) {
        g_assert_cmpint(bytes, <=, bl->max_pdiscard);
    }
    if (bl->pdiscard_alignment &&
        ((offset | bytes) & (bl->pdiscard_alignment - 1))) {
        return -EINVAL;
    }
    ret = ram_begin(s, RAM_DISCARD, &s->discards);
    if (ret >= 0) {
        memset(s->data + offset, 0, bytes);
    }
    ram_end(s);
    return ret;
}

static int coroutine_fn ram_flush(BlockDriverState *bs)
{
    RamState *s = bs->opaque;
    int ret = ram_begin(s, RAM_FLUSH, &s->flushes);

    ram_end(s);
    return ret;
}

static int coroutine_fn ram_copy_from(BlockDriverState *bs, BdrvChild *src,
                                      int64_t src_offset, BdrvChild *dst,
                                      int64_t dst_offset, int64_t bytes,
                                      BdrvRequestFlags read_flags,
                                      BdrvRequestFlags write_flags)
{
    return bdrv_co_copy_range_to(src, src_offset, dst, dst_offset, bytes,
                                 read_flags, write_flags);
}

static int coroutine_fn ram_copy_to(BlockDriverState *bs, BdrvChild *src,
                                    int64_t src_offset, BdrvChild *dst,
                                    int64_t dst_offset, int64_t bytes,
                                    BdrvRequestFlags read_flags,
                                    BdrvRequestFlags write_flags)
{
    RamState *from = src->bs->opaque, *to = bs->opaque;

    g_assert_true(dst->bs == bs);
    if (src->bs->drv != bs->drv) {
        return -ENOTSUP;
    }
    memmove(to->data + dst_offset, from->data + src_offset, bytes);
    ram_grow(to, dst_offset + bytes);
    return 0;
}

/* ------------------------------------------------------ length and status */

static int64_t coroutine_fn ram_getlength(BlockDriverState *bs)
{
    return ram_state(bs)->length;
}

static int coroutine_fn ram_truncate(BlockDriverState *bs, int64_t offset,
                                     bool exact, PreallocMode prealloc,
                                     BdrvRequestFlags flags, Error **errp)
{
    RamState *s = bs->opaque;
    int64_t length = s->length;
    int ret;

    g_assert_cmphex(flags & ~bs->supported_truncate_flags, ==, 0);
    ret = ram_begin(s, RAM_TRUNCATE, &s->truncates);
    ram_end(s);
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Failed to resize");
        return ret;
    }
    /* Nobody else may change it meanwhile. */
    g_assert_cmpint(s->length, ==, length);
    if (offset > s->capacity) {
        error_setg(errp, "No space");
        return -ENOSPC;
    }
    if (offset < s->length) {
        memset(s->data + offset, 0, s->length - offset);
    } else if (flags & BDRV_REQ_ZERO_WRITE) {
        memset(s->allocated + s->length / s->cfg.cluster, 1,
               DIV_ROUND_UP(offset, s->cfg.cluster) -
                   s->length / s->cfg.cluster);
    }
    s->length = offset;
    return 0;
}

static int coroutine_fn ram_get_info(BlockDriverState *bs,
                                     BlockDriverInfo *bdi)
{
    bdi->cluster_size = ram_state(bs)->cfg.cluster;
    bdi->subcluster_size = bdi->cluster_size;
    return 0;
}

static int coroutine_fn ram_block_status(BlockDriverState *bs, bool want_zero,
                                         int64_t offset, int64_t bytes,
                                         int64_t *pnum, int64_t *map,
                                         BlockDriverState **file)
{
    RamState *s = bs->opaque;
    bool stored = cluster_allocated(s, offset);
    int ret = ram_begin(s, RAM_STATUS, &s->statuses);

    *pnum = same_state(s, offset, bytes);
    ram_end(s);
    if (ret < 0) {
        return ret;
    }
    if (!stored && bs->drv->supports_backing) {
        return 0;
    }
    *map = offset;
    *file = bs;
    return (stored ? BDRV_BLOCK_DATA : BDRV_BLOCK_ZERO) |
           BDRV_BLOCK_OFFSET_VALID;
}

/* --------------------------------------------------------------- drivers */

#define RAM_OPS                                                              \
    .instance_size = sizeof(RamState),                                       \
    .bdrv_open = ram_open,                                                   \
    .bdrv_close = ram_close,                                                 \
    .bdrv_refresh_limits = ram_refresh_limits,                               \
    .bdrv_co_preadv = ram_preadv,                                            \
    .bdrv_co_pwritev = ram_pwritev,                                          \
    .bdrv_co_pwrite_zeroes = ram_pwrite_zeroes,                              \
    .bdrv_co_pdiscard = ram_pdiscard,                                        \
    .bdrv_co_flush_to_disk = ram_flush,                                      \
    .bdrv_co_getlength = ram_getlength,                                      \
    .bdrv_co_truncate = ram_truncate,                                        \
    .bdrv_co_get_info = ram_get_info,                                        \
    .bdrv_co_block_status = ram_block_status

static BlockDriver ram_driver = {
    .format_name = "null-co",
    .protocol_name = "ram",
    .bdrv_co_copy_range_from = ram_copy_from,
    .bdrv_co_copy_range_to = ram_copy_to,
    RAM_OPS,
};

static BlockDriver ram_overlay_driver = {
    .format_name = "qcow2",
    .is_format = true,
    .supports_backing = true,
    RAM_OPS,
};

static int coroutine_fn filter_preadv(BlockDriverState *bs, int64_t offset,
                                      int64_t bytes, QEMUIOVector *qiov,
                                      size_t qiov_offset,
                                      BdrvRequestFlags flags)
{
    return bdrv_co_preadv_part(bs->file, offset, bytes, qiov, qiov_offset,
                               flags);
}

static int coroutine_fn filter_pwritev(BlockDriverState *bs, int64_t offset,
                                       int64_t bytes, QEMUIOVector *qiov,
                                       size_t qiov_offset,
                                       BdrvRequestFlags flags)
{
    return bdrv_co_pwritev_part(bs->file, offset, bytes, qiov, qiov_offset,
                                flags);
}

static int64_t coroutine_fn filter_getlength(BlockDriverState *bs)
{
    /* Opened before it has its child. */
    return bs->file ? bdrv_co_getlength(bs->file->bs) : 0;
}

static BlockDriver ram_filter_driver = {
    .format_name = "raw",
    .is_filter = true,
    .bdrv_co_preadv = filter_preadv,
    .bdrv_co_pwritev = filter_pwritev,
    .bdrv_co_getlength = filter_getlength,
};

BlockDriverState *ram_node(const char *name, int flags, const RamConfig *cfg)
{
    next_config = cfg;
    return bdrv_new_open_driver(&ram_driver, name, flags, &error_abort);
}

BlockDriverState *ram_overlay(const char *name, int flags,
                              const RamConfig *cfg, BlockDriverState *backing)
{
    BlockDriverState *bs;

    next_config = cfg;
    bs = bdrv_new_open_driver(&ram_overlay_driver, name, flags, &error_abort);
    bs->supported_truncate_flags = BDRV_REQ_ZERO_WRITE;
    if (backing) {
        bdrv_attach_child(bs, bdrv_ref(backing), "backing", BDRV_CHILD_COW,
                          &error_abort);
    }
    return bs;
}

static int coroutine_fn refresh_entry(void *opaque)
{
    return bdrv_co_refresh_total_bytes(opaque);
}

BlockDriverState *ram_filter(const char *name, int flags,
                             BlockDriverState *below)
{
    BlockDriverState *bs = bdrv_new_open_driver(&ram_filter_driver, name,
                                                flags, &error_abort);

    bdrv_attach_child(bs, bdrv_ref(below), "file",
                      BDRV_CHILD_FILTERED | BDRV_CHILD_PRIMARY, &error_abort);
    g_assert_cmpint(bdrv_run_co(refresh_entry, bs), ==, 0);
    return bs;
}

/* --------------------------------------------------------------- control */

void ram_hold(BlockDriverState *bs, unsigned ops)
{
    RamState *s = bs->opaque;

    QEMU_LOCK_GUARD(&s->lock);
    s->hold |= ops;
}

void ram_release(BlockDriverState *bs)
{
    RamState *s = bs->opaque;

    QEMU_LOCK_GUARD(&s->lock);
    s->hold = 0;
    qemu_co_queue_restart_all(&s->queue);
}

static bool held_enough(RamState *s, unsigned n)
{
    QEMU_LOCK_GUARD(&s->lock);
    return s->held >= n;
}

void ram_wait_held(BlockDriverState *bs, unsigned n)
{
    while (!held_enough(bs->opaque, n)) {
        aio_poll(qemu_get_aio_context(), false);
    }
}

void ram_fail(BlockDriverState *bs, unsigned ops, int error)
{
    RamState *s = bs->opaque;

    QEMU_LOCK_GUARD(&s->lock);
    s->fail = ops;
    s->error = error;
}

void ram_aio_cb(void *opaque, int ret)
{
    RamAio *aio = opaque;

    g_assert_false(qemu_in_coroutine());
    g_assert_false(aio->done);
    aio->ret = ret;
    qatomic_store_release(&aio->done, true);
}

int ram_aio_wait(RamAio *aio)
{
    while (!qatomic_load_acquire(&aio->done)) {
        aio_poll(qemu_get_aio_context(), true);
    }
    return aio->ret;
}

void ram_settle(void)
{
    while (aio_poll(qemu_get_aio_context(), false)) {
        /* more to do */
    }
}

BlockBackend *ram_backend(BlockDriverState *bs)
{
    return blk_new_with_bs(bs, RAM_PERM, BLK_PERM_ALL, &error_abort);
}

void ram_test_init(int *argc, char ***argv)
{
    g_test_init(argc, argv, NULL);
    qemu_init_main_loop(&error_abort);
    bdrv_init();
}
