/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Reading a range as pages in a pipe, without a copy of the data.
 *
 * The request goes down as a read does, to a driver that has the bytes in the
 * page cache. Only drivers that show a part of their file as it is take part:
 * who reads the pages, and when, is unknown, so the place must belong to this
 * range of the disk for ever.
 */
#include "util/osdep.h"
#include "block/block_int.h"
#include "block/io-internal.h"
#include "block/tracked-request.h"

int coroutine_fn bdrv_co_splice(BdrvChild *child, int64_t offset,
                                int64_t bytes, int pipe)
{
    BlockDriverState *bs = child->bs;
    BdrvTrackedRequest req;
    int ret;

    if (!bs->drv) {
        return -ENOMEDIUM;
    }
    ret = bdrv_check_request(offset, bytes);
    if (ret < 0) {
        return ret;
    }
    if (!bs->drv->bdrv_co_splice || bs->encrypted ||
        !bdrv_is_aligned(bs, offset, bytes)) {
        return -ENOTSUP;
    }
    bdrv_inc_in_flight(bs);
    tracked_request_begin(&req, bs, offset, bytes, BDRV_TRACKED_READ);
    ret = bdrv_co_wait_turn(&req, 0, false);
    if (ret >= 0) {
        ret = bs->drv->bdrv_co_splice(bs, offset, bytes, pipe);
    }
    tracked_request_end(&req);
    bdrv_dec_in_flight(bs);
    return MIN(ret, 0);
}
