/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Reads and writes on edges: checks, order, and alignment.
 *
 * 1. A request is counted in bs->in_flight and tracked from before its first
 *    effect until after its last.
 * 2. A request that is not aligned is padded to bl.request_alignment. A write
 *    then reads the blocks at its edges first, which makes it serialising:
 *    no other write may come in between. Nothing else is serialising unless
 *    the caller says so.
 * 3. Reads beyond the end of a node give zeroes. Writes beyond it extend the
 *    node, for users of the edge who may RESIZE.
 * 4. An aligned request allocates no memory here.
 */
#include "util/osdep.h"
#include "block/block_int.h"
#include "block/dirty-bitmap.h"
#include "block/io-internal.h"
#include "block/tracked-request.h"
#include "block/write-threshold.h"
#include "util/aio.h"
#include "util/atomic.h"
#include "util/iov.h"

/* ---------------------------------------------------------------- checks */

int bdrv_check_request(int64_t offset, int64_t bytes)
{
    if (offset < 0 || bytes < 0 || bytes > BDRV_MAX_LENGTH ||
        offset > BDRV_MAX_LENGTH - bytes) {
        return -EIO;
    }
    return 0;
}

int bdrv_check_qiov_request(int64_t offset, int64_t bytes,
                            const QEMUIOVector *qiov, size_t qiov_offset)
{
    if (bytes > BDRV_REQUEST_MAX_BYTES) {
        return -EIO;
    }
    if (qiov && bytes >= 0 &&
        (qiov_offset > qiov->size || bytes > qiov->size - qiov_offset)) {
        return -EIO;
    }
    return bdrv_check_request(offset, bytes);
}

void bdrv_inc_in_flight(BlockDriverState *bs)
{
    qatomic_inc(&bs->in_flight);
}

void bdrv_dec_in_flight(BlockDriverState *bs)
{
    /* Only whoever drains waits, and only for zero. @bs may go with it. */
    if (qatomic_fetch_dec(&bs->in_flight) == 1) {
        aio_wait_kick();
    }
}

void coroutine_fn bdrv_co_debug_event(BlockDriverState *bs,
                                      BlkdebugEvent event)
{
    if (bs && bs->drv && bs->drv->bdrv_co_debug_event) {
        bs->drv->bdrv_co_debug_event(bs, event);
    }
}

/* ----------------------------------------------------------------- order */

int coroutine_fn bdrv_co_wait_turn(BdrvTrackedRequest *req,
                                   BdrvRequestFlags flags, bool rmw)
{
    int64_t align = req->bs->bl.request_alignment;
    int64_t cluster_offset, cluster_bytes;

    if (likely(!(flags & BDRV_REQ_SERIALISING) && !rmw)) {
        tracked_request_wait(req);
        return 0;
    }
    if (flags & BDRV_REQ_SERIALISING) {
        align = bdrv_co_round_to_clusters(req->bs, req->offset, req->bytes,
                                          &cluster_offset, &cluster_bytes);
    }
    return tracked_request_serialise(req, align, flags & BDRV_REQ_NO_WAIT);
}

int coroutine_fn bdrv_co_write_prepare(BdrvChild *child,
                                       BdrvTrackedRequest *req,
                                       BdrvRequestFlags flags)
{
    BlockDriverState *bs = req->bs;
    int64_t length;

    if (!(bs->open_flags & BDRV_O_RDWR)) {
        return -EPERM;
    }
    if (req->type == BDRV_TRACKED_TRUNCATE) {
        assert(child->perm & BLK_PERM_RESIZE);
        return 0;
    }
    if (flags & BDRV_REQ_WRITE_UNCHANGED) {
        assert(child->perm & (BLK_PERM_WRITE | BLK_PERM_WRITE_UNCHANGED));
    } else {
        assert(child->perm & BLK_PERM_WRITE);
    }
    if (!(child->perm & BLK_PERM_RESIZE) || (flags & BDRV_REQ_NO_EXTEND)) {
        length = bdrv_co_getlength(bs);
        if (length < 0) {
            return length;
        }
        if (req->bytes > length || req->offset > length - req->bytes) {
            return -EIO;
        }
    }
    if (req->type == BDRV_TRACKED_WRITE) {
        bdrv_write_threshold_check_write(bs, req->offset, req->bytes);
    }
    return 0;
}

/* *@value becomes at least @n. True if this call raised it. */
static bool atomic_raise(int64_t *value, int64_t n)
{
    int64_t old = qatomic_read(value);

    while (old < n) {
        int64_t seen = qatomic_cmpxchg(value, old, n);

        if (seen == old) {
            return true;
        }
        old = seen;
    }
    return false;
}

static void raise_wr_highest(BlockDriverState *bs, uint64_t end)
{
    uint64_t old = qatomic_read(&bs->wr_highest_offset);

    while (old < end) {
        uint64_t seen = qatomic_cmpxchg(&bs->wr_highest_offset, old, end);

        if (seen == old) {
            break;
        }
        old = seen;
    }
}

void coroutine_fn bdrv_co_write_finish(BdrvTrackedRequest *req,
                                       int64_t offset, int64_t bytes, int ret)
{
    BlockDriverState *bs = req->bs;

    if (bytes == 0) {
        return;
    }
    /* A discard changes what is there, and never the length. */
    if (req->type == BDRV_TRACKED_WRITE) {
        if (ret >= 0 && atomic_raise(&bs->total_bytes, offset + bytes)) {
            bdrv_co_length_changed(bs);
        }
        raise_wr_highest(bs, offset + bytes);
    }
    /* Also after an error: part of it may have been written. */
    bdrv_set_dirty(bs, req->offset, req->bytes);
}

/* --------------------------------------------------------------- padding */

/* Longest request, in bytes, that is copied to have it aligned in memory. */
#define LINEAR_MAX (1 << 20)

/*
 * A request widened to whole blocks. Usually the data stays where it is, with
 * one block each of other memory around it. Where that does not pay or does
 * not work everything moves to one buffer (linear).
 */
typedef struct Padding {
    int64_t offset;     /* of the widened request */
    int64_t bytes;
    int64_t align;
    size_t head;        /* bytes in front of the data */
    size_t tail;        /* bytes behind it */
    bool linear;
    /* linear: the widened request; else the first and the last block */
    uint8_t *buf;
    QEMUIOVector qiov;  /* the widened request */
} Padding;

static int padding_init(Padding *pad, BlockDriverState *bs, int64_t offset,
                        int64_t bytes, QEMUIOVector *qiov, size_t qiov_offset)
{
    int64_t align = bs->bl.request_alignment;
    int64_t end = ROUND_UP(offset + bytes, align);

    pad->offset = offset & -align;
    pad->bytes = end - pad->offset;
    pad->align = align;
    pad->head = offset - pad->offset;
    pad->tail = end - (offset + bytes);
    /*
     * Blocks at both edges cost as much as a small request. A driver that
     * wants aligned memory would copy the widened vector anyway. And no vector
     * may have more than IOV_MAX elements.
     */
    pad->linear =
        pad->bytes <= 2 * align ||
        (bs->bl.min_mem_alignment > 1 && pad->bytes <= LINEAR_MAX) ||
        qemu_iovec_subvec_niov(qiov, qiov_offset, bytes) + 2 > IOV_MAX;

    pad->buf = qemu_try_blockalign(bs, pad->linear ? pad->bytes : 2 * align);
    if (!pad->buf) {
        return -ENOMEM;
    }
    if (pad->linear) {
        qemu_iovec_init_buf(&pad->qiov, pad->buf, pad->bytes);
    } else {
        qemu_iovec_init_extended(&pad->qiov, pad->buf, pad->head, qiov,
                                 qiov_offset, bytes,
                                 pad->buf + 2 * align - pad->tail, pad->tail);
    }
    return 0;
}

static void padding_destroy(Padding *pad)
{
    qemu_iovec_destroy(&pad->qiov);
    qemu_vfree(pad->buf);
}

/* Reads one or two adjacent blocks at an edge of the request. */
static int coroutine_fn padding_read_blocks(BlockDriverState *bs,
                                            int64_t offset, int64_t bytes,
                                            uint8_t *buf)
{
    QEMUIOVector qiov = QEMU_IOVEC_INIT_BUF(qiov, buf, bytes);

    return bdrv_co_read_aligned(bs, offset, bytes, &qiov, 0, 0);
}

/* Fills the edges of a write from what is stored. */
static int coroutine_fn padding_read_edges(Padding *pad, BlockDriverState *bs)
{
    int64_t last = pad->bytes - pad->align; /* start of the last block */
    uint8_t *last_buf = pad->linear ? pad->buf + last : pad->buf + pad->align;
    int ret;

    if (pad->head && pad->tail && last <= pad->align) {
        /* The edges touch, or are the same block. */
        bdrv_co_debug_event(bs, BLKDBG_PWRITEV_RMW_HEAD);
        ret = padding_read_blocks(bs, pad->offset, pad->bytes, pad->buf);
        if (ret >= 0) {
            bdrv_co_debug_event(bs, BLKDBG_PWRITEV_RMW_AFTER_HEAD);
        }
        return ret;
    }
    if (pad->head) {
        bdrv_co_debug_event(bs, BLKDBG_PWRITEV_RMW_HEAD);
        ret = padding_read_blocks(bs, pad->offset, pad->align, pad->buf);
        if (ret < 0) {
            return ret;
        }
        bdrv_co_debug_event(bs, BLKDBG_PWRITEV_RMW_AFTER_HEAD);
    }
    if (pad->tail) {
        bdrv_co_debug_event(bs, BLKDBG_PWRITEV_RMW_TAIL);
        ret = padding_read_blocks(bs, pad->offset + last, pad->align,
                                  last_buf);
        if (ret < 0) {
            return ret;
        }
        bdrv_co_debug_event(bs, BLKDBG_PWRITEV_RMW_AFTER_TAIL);
    }
    return 0;
}

/* ----------------------------------------------------------------- reads */

/* Part of a read lies beyond the end, which may be @length. */
static QEMU_NOINLINE int coroutine_fn
read_over_end(BlockDriverState *bs, int64_t offset, int64_t bytes,
              QEMUIOVector *qiov, size_t qiov_offset, BdrvRequestFlags flags,
              int64_t length)
{
    /* The driver fills up the block in which it ends. */
    int64_t end = ROUND_UP(length, (int64_t)bs->bl.request_alignment);
    int64_t stored = MIN(bytes, MAX(0, end - offset));
    int ret = 0;

    if (stored > 0) {
        ret = bdrv_driver_preadv(bs, offset, stored, qiov, qiov_offset, flags);
    }
    if (ret >= 0 && qiov && stored < bytes) {
        qemu_iovec_memset(qiov, qiov_offset + stored, 0, bytes - stored);
    }
    return MIN(ret, 0);
}

int coroutine_fn bdrv_co_read_aligned(BlockDriverState *bs, int64_t offset,
                                      int64_t bytes, QEMUIOVector *qiov,
                                      size_t qiov_offset,
                                      BdrvRequestFlags flags)
{
    int64_t length = bdrv_co_exact_length(bs);
    int ret;

    if (unlikely(length < 0)) {
        return length;
    }
    if (unlikely(offset + bytes > length)) {
        return read_over_end(bs, offset, bytes, qiov, qiov_offset, flags,
                             length);
    }
    ret = bdrv_driver_preadv(bs, offset, bytes, qiov, qiov_offset, flags);
    return MIN(ret, 0);
}

static int coroutine_fn read_tracked(BdrvChild *child, BdrvTrackedRequest *req,
                                     int64_t offset, int64_t bytes,
                                     QEMUIOVector *qiov, size_t qiov_offset,
                                     BdrvRequestFlags flags)
{
    int ret;

    if (unlikely(flags & BDRV_REQ_COPY_ON_READ)) {
        return bdrv_co_copy_on_readv(child, req, offset, bytes, qiov,
                                     qiov_offset, flags);
    }
    ret = bdrv_co_wait_turn(req, flags, false);
    if (ret < 0) {
        return ret;
    }
    if ((flags & BDRV_REQ_PREFETCH) &&
        !(req->bs->supported_read_flags & BDRV_REQ_PREFETCH)) {
        return 0;
    }
    return bdrv_co_read_aligned(req->bs, offset, bytes, qiov, qiov_offset,
                                flags);
}

static QEMU_NOINLINE int coroutine_fn
read_padded(BdrvChild *child, BdrvTrackedRequest *req, QEMUIOVector *qiov,
            size_t qiov_offset, BdrvRequestFlags flags)
{
    int64_t align = child->bs->bl.request_alignment;
    Padding pad;
    int ret;

    if (flags & BDRV_REQ_PREFETCH) {
        int64_t start = req->offset & -align;

        return read_tracked(child, req, start,
                            ROUND_UP(req->offset + req->bytes, align) - start,
                            NULL, 0, flags);
    }
    ret = padding_init(&pad, child->bs, req->offset, req->bytes, qiov,
                       qiov_offset);
    if (ret < 0) {
        return ret;
    }
    ret = read_tracked(child, req, pad.offset, pad.bytes, &pad.qiov, 0, flags);
    if (ret >= 0 && pad.linear) {
        qemu_iovec_from_buf(qiov, qiov_offset, pad.buf + pad.head, req->bytes);
    }
    padding_destroy(&pad);
    return ret;
}

int coroutine_fn bdrv_co_preadv_part(BdrvChild *child, int64_t offset,
                                     int64_t bytes, QEMUIOVector *qiov,
                                     size_t qiov_offset,
                                     BdrvRequestFlags flags)
{
    BlockDriverState *bs = child->bs;
    BdrvTrackedRequest req;
    int ret;

    if (unlikely(!bs->drv)) {
        return -ENOMEDIUM;
    }
    ret = bdrv_check_qiov_request(offset, bytes, qiov, qiov_offset);
    if (unlikely(ret < 0 || bytes == 0)) {
        return ret;
    }
    assert(qiov || (flags & BDRV_REQ_PREFETCH));

    bdrv_inc_in_flight(bs);
    tracked_request_begin(&req, bs, offset, bytes, BDRV_TRACKED_READ);
    if (likely(bdrv_is_aligned(bs, offset, bytes))) {
        ret = read_tracked(child, &req, offset, bytes, qiov, qiov_offset,
                           flags);
    } else {
        ret = read_padded(child, &req, qiov, qiov_offset, flags);
    }
    tracked_request_end(&req);
    bdrv_dec_in_flight(bs);
    return ret;
}

int coroutine_fn bdrv_co_preadv(BdrvChild *child, int64_t offset,
                                int64_t bytes, QEMUIOVector *qiov,
                                BdrvRequestFlags flags)
{
    return bdrv_co_preadv_part(child, offset, bytes, qiov, 0, flags);
}

int coroutine_fn bdrv_co_pread(BdrvChild *child, int64_t offset, int64_t bytes,
                               void *buf, BdrvRequestFlags flags)
{
    QEMUIOVector qiov = QEMU_IOVEC_INIT_BUF(qiov, buf, bytes);

    return bdrv_co_preadv_part(child, offset, bytes, &qiov, 0, flags);
}

/* ---------------------------------------------------------------- writes */

/* Whether the node turns this write of data into one of zeroes. */
static bool detects_zeroes(BlockDriverState *bs, QEMUIOVector *qiov,
                           size_t qiov_offset, int64_t bytes)
{
    return bs->detect_zeroes != BLOCKDEV_DETECT_ZEROES_OPTIONS_OFF &&
           bytes > 0 && bs->drv->bdrv_co_pwrite_zeroes &&
           qemu_iovec_is_zero(qiov, qiov_offset, bytes);
}

/* An aligned write whose turn it is. */
static int coroutine_fn write_aligned(BdrvChild *child,
                                      BdrvTrackedRequest *req, int64_t offset,
                                      int64_t bytes, QEMUIOVector *qiov,
                                      size_t qiov_offset,
                                      BdrvRequestFlags flags)
{
    BlockDriverState *bs = req->bs;
    int ret = bdrv_co_write_prepare(child, req, flags);

    if (unlikely(ret < 0)) {
        return ret;
    }
    if (unlikely(detects_zeroes(bs, qiov, qiov_offset, bytes))) {
        flags &= ~BDRV_REQ_WRITE_COMPRESSED;
        flags |= BDRV_REQ_ZERO_WRITE;
        if (bs->detect_zeroes == BLOCKDEV_DETECT_ZEROES_OPTIONS_UNMAP) {
            flags |= BDRV_REQ_MAY_UNMAP;
        }
        bdrv_co_debug_event(bs, BLKDBG_PWRITEV_ZERO);
        ret = bdrv_driver_pwrite_zeroes(bs, offset, bytes, flags);
    } else {
        bdrv_co_debug_event(bs, BLKDBG_PWRITEV);
        ret = bdrv_driver_pwritev(bs, offset, bytes, qiov, qiov_offset, flags);
    }
    bdrv_co_debug_event(bs, BLKDBG_PWRITEV_DONE);
    bdrv_co_write_finish(req, offset, bytes, ret);
    return ret;
}

static QEMU_NOINLINE int coroutine_fn
write_padded(BdrvChild *child, BdrvTrackedRequest *req, QEMUIOVector *qiov,
             size_t qiov_offset, BdrvRequestFlags flags)
{
    BlockDriverState *bs = child->bs;
    Padding pad;
    int ret;

    ret = bdrv_co_wait_turn(req, flags, true);
    if (ret >= 0) {
        ret = padding_init(&pad, bs, req->offset, req->bytes, qiov,
                           qiov_offset);
    }
    if (ret < 0) {
        return ret;
    }
    ret = padding_read_edges(&pad, bs);
    if (ret >= 0) {
        if (pad.linear) {
            qemu_iovec_to_buf(qiov, qiov_offset, pad.buf + pad.head,
                              req->bytes);
        }
        ret = write_aligned(child, req, pad.offset, pad.bytes, &pad.qiov, 0,
                            flags);
    }
    padding_destroy(&pad);
    return ret;
}

int coroutine_fn bdrv_co_pwritev_part(BdrvChild *child, int64_t offset,
                                      int64_t bytes, QEMUIOVector *qiov,
                                      size_t qiov_offset,
                                      BdrvRequestFlags flags)
{
    BlockDriverState *bs = child->bs;
    BdrvTrackedRequest req;
    int ret;

    if (unlikely(flags & BDRV_REQ_ZERO_WRITE)) {
        return bdrv_co_pwrite_zeroes(child, offset, bytes, flags);
    }
    if (unlikely(!bs->drv)) {
        return -ENOMEDIUM;
    }
    ret = bdrv_check_qiov_request(offset, bytes, qiov, qiov_offset);
    if (unlikely(ret < 0)) {
        return ret;
    }
    /* The end of a stream of compressed writes has no data. */
    if (unlikely(bytes == 0 && !(flags & BDRV_REQ_WRITE_COMPRESSED))) {
        return 0;
    }
    assert(qiov || bytes == 0);

    bdrv_inc_in_flight(bs);
    tracked_request_begin(&req, bs, offset, bytes, BDRV_TRACKED_WRITE);
    if (likely(bdrv_is_aligned(bs, offset, bytes))) {
        ret = bdrv_co_wait_turn(&req, flags, false);
        if (likely(ret >= 0)) {
            ret = write_aligned(child, &req, offset, bytes, qiov, qiov_offset,
                                flags);
        }
    } else {
        ret = write_padded(child, &req, qiov, qiov_offset, flags);
    }
    tracked_request_end(&req);
    bdrv_dec_in_flight(bs);
    return ret;
}

int coroutine_fn bdrv_co_pwritev(BdrvChild *child, int64_t offset,
                                 int64_t bytes, QEMUIOVector *qiov,
                                 BdrvRequestFlags flags)
{
    return bdrv_co_pwritev_part(child, offset, bytes, qiov, 0, flags);
}

int coroutine_fn bdrv_co_pwrite(BdrvChild *child, int64_t offset,
                                int64_t bytes, const void *buf,
                                BdrvRequestFlags flags)
{
    QEMUIOVector qiov = QEMU_IOVEC_INIT_BUF(qiov, buf, bytes);

    return bdrv_co_pwritev_part(child, offset, bytes, &qiov, 0, flags);
}

int coroutine_fn bdrv_co_pwrite_sync(BdrvChild *child, int64_t offset,
                                     int64_t bytes, const void *buf,
                                     BdrvRequestFlags flags)
{
    int ret = bdrv_co_pwrite(child, offset, bytes, buf, flags);

    return ret < 0 ? ret : bdrv_co_flush(child->bs);
}
