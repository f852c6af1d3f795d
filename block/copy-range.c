/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Copying between two nodes without the data passing through this process.
 *
 * The request goes down the source side (copy_range_from) until a driver that
 * stores data hands it to the target side (copy_range_to), which goes down to
 * a driver that asks the kernel. -ENOTSUP anywhere means that nothing was
 * copied by that call; the caller copies through a buffer then.
 */
#include "util/osdep.h"
#include "block/block_int.h"
#include "block/io-internal.h"
#include "block/tracked-request.h"

static int check_side(BdrvChild *child, int64_t offset, int64_t bytes)
{
    if (!child || !child->bs || !child->bs->drv) {
        return -ENOMEDIUM;
    }
    return bdrv_check_qiov_request(offset, bytes, NULL, 0);
}

int coroutine_fn bdrv_co_copy_range_from(BdrvChild *src, int64_t src_offset,
                                         BdrvChild *dst, int64_t dst_offset,
                                         int64_t bytes,
                                         BdrvRequestFlags read_flags,
                                         BdrvRequestFlags write_flags)
{
    BdrvTrackedRequest req;
    BlockDriverState *bs;
    int ret = check_side(src, src_offset, bytes);

    if (ret < 0) {
        return ret;
    }
    bs = src->bs;
    if (!bs->drv->bdrv_co_copy_range_from || bs->encrypted ||
        !bdrv_is_aligned(bs, src_offset, bytes)) {
        return -ENOTSUP;
    }
    bdrv_inc_in_flight(bs);
    tracked_request_begin(&req, bs, src_offset, bytes, BDRV_TRACKED_READ);
    ret = bdrv_co_wait_turn(&req, read_flags, false);
    if (ret >= 0) {
        ret = bs->drv->bdrv_co_copy_range_from(bs, src, src_offset, dst,
                                               dst_offset, bytes, read_flags,
                                               write_flags);
    }
    tracked_request_end(&req);
    bdrv_dec_in_flight(bs);
    return MIN(ret, 0);
}

int coroutine_fn bdrv_co_copy_range_to(BdrvChild *src, int64_t src_offset,
                                       BdrvChild *dst, int64_t dst_offset,
                                       int64_t bytes,
                                       BdrvRequestFlags read_flags,
                                       BdrvRequestFlags write_flags)
{
    BdrvTrackedRequest req;
    BlockDriverState *bs;
    int ret = check_side(dst, dst_offset, bytes);

    if (ret < 0) {
        return ret;
    }
    bs = dst->bs;
    if (!bs->drv->bdrv_co_copy_range_to || bs->encrypted ||
        !bdrv_is_aligned(bs, dst_offset, bytes)) {
        return -ENOTSUP;
    }
    bdrv_inc_in_flight(bs);
    tracked_request_begin(&req, bs, dst_offset, bytes, BDRV_TRACKED_WRITE);
    ret = bdrv_co_wait_turn(&req, write_flags, false);
    if (ret >= 0) {
        ret = bdrv_co_write_prepare(dst, &req, write_flags);
    }
    if (ret >= 0) {
        ret = bs->drv->bdrv_co_copy_range_to(bs, src, src_offset, dst,
                                             dst_offset, bytes, read_flags,
                                             write_flags);
        bdrv_driver_changed(bs);
        if (ret >= 0 && (write_flags & BDRV_REQ_FUA)) {
            ret = bdrv_co_flush(bs);
        }
        bdrv_co_write_finish(&req, dst_offset, bytes, ret);
    }
    tracked_request_end(&req);
    bdrv_dec_in_flight(bs);
    return MIN(ret, 0);
}

int coroutine_fn bdrv_co_copy_range(BdrvChild *src, int64_t src_offset,
                                    BdrvChild *dst, int64_t dst_offset,
                                    int64_t bytes, BdrvRequestFlags read_flags,
                                    BdrvRequestFlags write_flags)
{
    int ret = check_side(src, src_offset, bytes);

    assert(!(read_flags & (BDRV_REQ_COPY_ON_READ | BDRV_REQ_PREFETCH)));
    if (ret >= 0) {
        ret = check_side(dst, dst_offset, bytes);
    }
    if (ret < 0 || bytes == 0) {
        return ret;
    }
    if (write_flags & BDRV_REQ_ZERO_WRITE) {
        return bdrv_co_pwrite_zeroes(dst, dst_offset, bytes, write_flags);
    }
    return bdrv_co_copy_range_from(src, src_offset, dst, dst_offset, bytes,
                                   read_flags, write_flags);
}
