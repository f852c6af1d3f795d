/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Writing zeroes: by the driver where it can, else from a buffer.
 */
#include "util/osdep.h"
#include "block/block_int.h"
#include "block/io-internal.h"
#include "block/tracked-request.h"
#include "util/iov.h"

/* Longest buffer of zeroes, in bytes. */
#define ZERO_BUF_MAX (1 << 20)

/* What stays the same during one zero write. */
typedef struct ZeroWrite {
    BlockDriverState *bs;
    BdrvRequestFlags flags;
    int64_t align;      /* pieces of other sizes go to the driver separately */
    int64_t max_bytes;  /* of one driver call, a multiple of align */
    bool need_flush;    /* FUA was asked of somebody who cannot */
    /* Made when first needed. */
    uint8_t *buf;
    int64_t buf_bytes;
} ZeroWrite;

/*
 * How much the next driver call takes: up to the first multiple of z->align,
 * then whole multiples, then the rest.
 */
static int64_t piece_bytes(const ZeroWrite *z, int64_t offset, int64_t bytes)
{
    int64_t head = offset % z->align;

    if (head) {
        return MIN(bytes, z->align - head);
    }
    if (bytes > z->align) {
        bytes -= bytes % z->align;
    }
    return MIN(bytes, z->max_bytes);
}

static int coroutine_fn zero_by_driver(ZeroWrite *z, int64_t offset,
                                       int64_t bytes)
{
    BlockDriverState *bs = z->bs;
    int ret;

    if (!bs->drv->bdrv_co_pwrite_zeroes) {
        return -ENOTSUP;
    }
    ret = bs->drv->bdrv_co_pwrite_zeroes(bs, offset, bytes,
                                         z->flags & bs->supported_zero_flags);
    if (ret != -ENOTSUP && !(bs->supported_zero_flags & BDRV_REQ_FUA)) {
        z->need_flush = true;
    }
    return ret;
}

static int coroutine_fn zero_by_buffer(ZeroWrite *z, int64_t offset,
                                       int64_t bytes)
{
    BlockDriverState *bs = z->bs;
    BdrvRequestFlags flags = z->flags & BDRV_REQ_WRITE_UNCHANGED;

    /* One flush at the end, unless the driver makes each write durable. */
    if (bs->supported_write_flags & BDRV_REQ_FUA) {
        flags |= z->flags & BDRV_REQ_FUA;
    } else {
        z->need_flush = true;
    }
    if (!z->buf) {
        int64_t align = bs->bl.request_alignment;

        z->buf_bytes = MIN(bdrv_driver_max_transfer(bs),
                           MAX(ZERO_BUF_MAX, align));
        z->buf = qemu_try_blockalign(bs, z->buf_bytes);
        if (!z->buf) {
            return -ENOMEM;
        }
        memset(z->buf, 0, z->buf_bytes);
    }
    while (bytes > 0) {
        int64_t n = MIN(bytes, z->buf_bytes);
        QEMUIOVector qiov = QEMU_IOVEC_INIT_BUF(qiov, z->buf, n);
        int ret = bdrv_driver_pwritev(bs, offset, n, &qiov, 0, flags);

        if (ret < 0) {
            return ret;
        }
        offset += n;
        bytes -= n;
    }
    return 0;
}

int coroutine_fn bdrv_driver_pwrite_zeroes(BlockDriverState *bs,
                                           int64_t offset, int64_t bytes,
                                           BdrvRequestFlags flags)
{
    int64_t align = MAX(bs->bl.pwrite_zeroes_alignment,
                        bs->bl.request_alignment);
    int64_t max_bytes = MIN_NON_ZERO(bs->bl.max_pwrite_zeroes,
                                     BDRV_MAX_LENGTH);
    ZeroWrite z = {
        .bs = bs,
        .flags = flags & ~(BDRV_REQ_ZERO_WRITE | BDRV_REQ_WRITE_COMPRESSED),
        .align = align,
        .max_bytes = MAX(QEMU_ALIGN_DOWN(max_bytes, align), align),
    };
    int ret = 0;

    assert(bdrv_is_aligned(bs, offset, bytes));
    if (!(bs->open_flags & BDRV_O_UNMAP)) {
        z.flags &= ~BDRV_REQ_MAY_UNMAP;
    }
    /* A driver that does not know the flag may itself write a buffer. */
    if ((flags & BDRV_REQ_NO_FALLBACK) &&
        !(bs->supported_zero_flags & BDRV_REQ_NO_FALLBACK)) {
        return -ENOTSUP;
    }
    while (bytes > 0 && ret >= 0) {
        int64_t n = piece_bytes(&z, offset, bytes);

        ret = zero_by_driver(&z, offset, n);
        if (ret == -ENOTSUP && !(flags & BDRV_REQ_NO_FALLBACK)) {
            ret = zero_by_buffer(&z, offset, n);
        }
        offset += n;
        bytes -= n;
    }
    qemu_vfree(z.buf);
    bdrv_driver_changed(bs);
    if (ret >= 0 && (flags & BDRV_REQ_FUA) && z.need_flush) {
        ret = bdrv_co_flush(bs);
    }
    return MIN(ret, 0);
}

/*
 * Zeroes @bytes at @offset within one block, keeping the rest of the block:
 * it is read, changed and written. @buf has room for a block.
 */
static int coroutine_fn zero_in_block(BlockDriverState *bs, int64_t offset,
                                      int64_t bytes, BdrvRequestFlags flags,
                                      uint8_t *buf)
{
    int64_t align = bs->bl.request_alignment;
    int64_t block = offset & -align;
    QEMUIOVector qiov = QEMU_IOVEC_INIT_BUF(qiov, buf, align);
    int ret;

    assert(offset - block + bytes <= align);
    bdrv_co_debug_event(bs, BLKDBG_PWRITEV_RMW_HEAD);
    ret = bdrv_co_read_aligned(bs, block, align, &qiov, 0, 0);
    if (ret < 0) {
        return ret;
    }
    bdrv_co_debug_event(bs, BLKDBG_PWRITEV_RMW_AFTER_HEAD);
    memset(buf + (offset - block), 0, bytes);
    return bdrv_driver_pwritev(bs, block, align, &qiov, 0,
                               flags & (BDRV_REQ_FUA |
                                        BDRV_REQ_WRITE_UNCHANGED));
}

/* A zero write that does not start and end at block boundaries. */
static int coroutine_fn zero_unaligned(BlockDriverState *bs, int64_t offset,
                                       int64_t bytes, BdrvRequestFlags flags)
{
    int64_t align = bs->bl.request_alignment;
    int64_t end = offset + bytes;
    int64_t mid = ROUND_UP(offset, align);
    int64_t mid_end = end & -align;
    QEMU_AUTO_VFREE uint8_t *buf = NULL;
    int ret = 0;

    /* Blocks that can only be written are a fallback, too. */
    if (flags & BDRV_REQ_NO_FALLBACK) {
        return -ENOTSUP;
    }
    buf = qemu_try_blockalign(bs, align);
    if (!buf) {
        return -ENOMEM;
    }
    if (offset < mid) {
        ret = zero_in_block(bs, offset, MIN(mid, end) - offset, flags, buf);
    }
    if (ret >= 0 && mid < mid_end) {
        ret = bdrv_driver_pwrite_zeroes(bs, mid, mid_end - mid, flags);
    }
    if (ret >= 0 && mid <= mid_end && mid_end < end) {
        ret = zero_in_block(bs, mid_end, end - mid_end, flags, buf);
    }
    return ret;
}

static int coroutine_fn zero_tracked(BdrvChild *child, BdrvTrackedRequest *req,
                                     BdrvRequestFlags flags)
{
    BlockDriverState *bs = req->bs;
    int64_t align = bs->bl.request_alignment;
    int64_t start = req->offset & -align;
    int64_t end = ROUND_UP(req->offset + req->bytes, align);
    bool aligned = start == req->offset && end == start + req->bytes;
    int ret;

    ret = bdrv_co_wait_turn(req, flags, !aligned);
    if (ret >= 0) {
        ret = bdrv_co_write_prepare(child, req, flags);
    }
    if (ret < 0) {
        return ret;
    }
    bdrv_co_debug_event(bs, BLKDBG_PWRITEV_ZERO);
    if (aligned) {
        ret = bdrv_driver_pwrite_zeroes(bs, req->offset, req->bytes, flags);
    } else {
        ret = zero_unaligned(bs, req->offset, req->bytes, flags);
    }
    bdrv_co_debug_event(bs, BLKDBG_PWRITEV_DONE);
    bdrv_co_write_finish(req, start, end - start, ret);
    return ret;
}

int coroutine_fn bdrv_co_pwrite_zeroes(BdrvChild *child, int64_t offset,
                                       int64_t bytes, BdrvRequestFlags flags)
{
    BlockDriverState *bs = child->bs;
    BdrvTrackedRequest req;
    int ret;

    if (!bs->drv) {
        return -ENOMEDIUM;
    }
    ret = bdrv_check_request(offset, bytes);
    if (ret < 0 || bytes == 0) {
        return ret;
    }
    bdrv_inc_in_flight(bs);
    tracked_request_begin(&req, bs, offset, bytes, BDRV_TRACKED_WRITE);
    ret = zero_tracked(child, &req, flags);
    tracked_request_end(&req);
    bdrv_dec_in_flight(bs);
    return ret;
}
