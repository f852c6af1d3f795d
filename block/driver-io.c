/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Data between a request and the driver of a node: what the driver's limits
 * demand.
 *
 * 1. The driver sees ranges that are multiples of bl.request_alignment and at
 *    most bl.max_transfer long, and only flags that it supports.
 * 2. A protocol driver sees memory aligned to bl.min_mem_alignment in at most
 *    bl.max_iov pieces. Memory that is not goes through a bounce buffer; there
 *    is no other reason for one.
 * 3. The usual request, which fits all that, is handed on as it is: one
 *    comparison each, no memory.
 */
#include "util/osdep.h"
#include "block/block_int.h"
#include "block/io-internal.h"
#include "util/atomic.h"
#include "util/iov.h"

/* At most this much memory for one bounced request, in bytes. */
#define BOUNCE_MAX (1 << 20)

int64_t bdrv_driver_max_transfer(BlockDriverState *bs)
{
    int64_t align = bs->bl.request_alignment;
    int64_t max = MIN_NON_ZERO((int64_t)bs->bl.max_transfer,
                               BDRV_REQUEST_MAX_BYTES);

    return MAX(max & -align, align);
}

/* Whether the driver cannot take this part of @qiov as it lies in memory. */
static bool needs_bounce(BlockDriverState *bs, QEMUIOVector *qiov,
                         size_t qiov_offset, int64_t bytes)
{
    QEMUIOVector slice;
    bool aligned;

    if (!bs->drv->protocol_name || !qiov) {
        return false;
    }
    if (bs->bl.max_iov && qiov->niov > bs->bl.max_iov &&
        qemu_iovec_subvec_niov(qiov, qiov_offset, bytes) > bs->bl.max_iov) {
        return true;
    }
    if (bs->bl.min_mem_alignment <= 1) {
        return false;
    }
    if (qiov_offset == 0 && bytes == qiov->size) {
        return !bdrv_qiov_is_aligned(bs, qiov);
    }
    qemu_iovec_init_slice(&slice, qiov, qiov_offset, bytes);
    aligned = bdrv_qiov_is_aligned(bs, &slice);
    qemu_iovec_destroy(&slice);
    return !aligned;
}

/* One driver call. */
static int coroutine_fn read_piece(BlockDriverState *bs, int64_t offset,
                                   int64_t bytes, QEMUIOVector *qiov,
                                   size_t qiov_offset, BdrvRequestFlags flags)
{
    return bs->drv->bdrv_co_preadv(bs, offset, bytes, qiov, qiov_offset,
                                   flags & bs->supported_read_flags);
}

static int coroutine_fn write_piece(BlockDriverState *bs, int64_t offset,
                                    int64_t bytes, QEMUIOVector *qiov,
                                    size_t qiov_offset,
                                    BdrvRequestFlags flags)
{
    BlockDriver *drv = bs->drv;

    if ((flags & BDRV_REQ_WRITE_COMPRESSED) &&
        drv->bdrv_co_pwritev_compressed) {
        return drv->bdrv_co_pwritev_compressed(bs, offset, bytes, qiov,
                                               qiov_offset);
    }
    return drv->bdrv_co_pwritev(bs, offset, bytes, qiov, qiov_offset,
                                flags & bs->supported_write_flags);
}

/* The request in pieces of at most @max bytes, without looking at memory. */
static int coroutine_fn read_split(BlockDriverState *bs, int64_t offset,
                                   int64_t bytes, QEMUIOVector *qiov,
                                   size_t qiov_offset, BdrvRequestFlags flags,
                                   int64_t max)
{
    int ret = 0;

    while (bytes > 0 && ret >= 0) {
        int64_t n = MIN(bytes, max);

        ret = read_piece(bs, offset, n, qiov, qiov_offset, flags);
        offset += n;
        qiov_offset += n;
        bytes -= n;
    }
    return ret;
}

static int coroutine_fn write_split(BlockDriverState *bs, int64_t offset,
                                    int64_t bytes, QEMUIOVector *qiov,
                                    size_t qiov_offset,
                                    BdrvRequestFlags flags, int64_t max)
{
    int ret = 0;

    while (bytes > 0 && ret >= 0) {
        int64_t n = MIN(bytes, max);

        ret = write_piece(bs, offset, n, qiov, qiov_offset, flags);
        offset += n;
        qiov_offset += n;
        bytes -= n;
    }
    return ret;
}

/* The request through a buffer that suits the driver, piece by piece. */
static QEMU_NOINLINE int coroutine_fn
transfer_bounced(BlockDriverState *bs, int64_t offset, int64_t bytes,
                 QEMUIOVector *qiov, size_t qiov_offset,
                 BdrvRequestFlags flags, int64_t max, bool is_write)
{
    int64_t align = bs->bl.request_alignment;
    QEMU_AUTO_VFREE uint8_t *buf = NULL;
    int ret = 0;

    max = MIN(MIN(max, MAX(BOUNCE_MAX, align)), bytes);
    buf = qemu_try_blockalign(bs, max);
    if (!buf) {
        return -ENOMEM;
    }
    while (bytes > 0 && ret >= 0) {
        int64_t n = MIN(bytes, max);
        QEMUIOVector piece = QEMU_IOVEC_INIT_BUF(piece, buf, n);

        if (is_write) {
            qemu_iovec_to_buf(qiov, qiov_offset, buf, n);
            ret = write_piece(bs, offset, n, &piece, 0, flags);
        } else {
            ret = read_piece(bs, offset, n, &piece, 0, flags);
            if (ret >= 0) {
                qemu_iovec_from_buf(qiov, qiov_offset, buf, n);
            }
        }
        offset += n;
        qiov_offset += n;
        bytes -= n;
    }
    return ret;
}

int coroutine_fn bdrv_driver_preadv(BlockDriverState *bs, int64_t offset,
                                    int64_t bytes, QEMUIOVector *qiov,
                                    size_t qiov_offset,
                                    BdrvRequestFlags flags)
{
    int64_t max = bdrv_driver_max_transfer(bs);

    assert(bdrv_is_aligned(bs, offset, bytes));
    if (unlikely(!bs->drv->bdrv_co_preadv)) {
        return -ENOTSUP;
    }
    if (unlikely(needs_bounce(bs, qiov, qiov_offset, bytes))) {
        return transfer_bounced(bs, offset, bytes, qiov, qiov_offset, flags,
                                max, false);
    }
    if (likely(bytes <= max)) {
        return read_piece(bs, offset, bytes, qiov, qiov_offset, flags);
    }
    return read_split(bs, offset, bytes, qiov, qiov_offset, flags, max);
}

/* The longest piece of a write. Compressed ones cannot be taken apart. */
static int write_limit(BlockDriverState *bs, int64_t bytes,
                       BdrvRequestFlags flags, int64_t *max)
{
    BlockDriver *drv = bs->drv;

    *max = bdrv_driver_max_transfer(bs);
    if (flags & BDRV_REQ_WRITE_COMPRESSED) {
        if (!drv->bdrv_co_pwritev_compressed &&
            !(bs->supported_write_flags & BDRV_REQ_WRITE_COMPRESSED)) {
            return -ENOTSUP;
        }
        return bytes > *max ? -EINVAL : 0;
    }
    return drv->bdrv_co_pwritev ? 0 : -ENOTSUP;
}

int coroutine_fn bdrv_driver_pwritev(BlockDriverState *bs, int64_t offset,
                                     int64_t bytes, QEMUIOVector *qiov,
                                     size_t qiov_offset,
                                     BdrvRequestFlags flags)
{
    int64_t max;
    int ret = write_limit(bs, bytes, flags, &max);

    assert(bdrv_is_aligned(bs, offset, bytes));
    if (unlikely(ret < 0)) {
        return ret;
    }
    if (unlikely(needs_bounce(bs, qiov, qiov_offset, bytes))) {
        ret = transfer_bounced(bs, offset, bytes, qiov, qiov_offset, flags,
                               max, true);
    } else if (likely(bytes <= max)) {
        ret = write_piece(bs, offset, bytes, qiov, qiov_offset, flags);
    } else {
        ret = write_split(bs, offset, bytes, qiov, qiov_offset, flags, max);
    }
    bdrv_driver_changed(bs);
    if (ret >= 0 && (flags & BDRV_REQ_FUA) &&
        (!(bs->supported_write_flags & BDRV_REQ_FUA) ||
         ((flags & BDRV_REQ_WRITE_COMPRESSED) &&
          bs->drv->bdrv_co_pwritev_compressed))) {
        ret = bdrv_co_flush(bs);
    }
    return MIN(ret, 0);
}
