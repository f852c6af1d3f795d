/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Discards: advice to the driver that a range is not needed any more. What
 * the range reads as afterwards is the driver's business, so only blocks that
 * lie in the range completely are discarded, and a driver that cannot is no
 * error.
 */
#include "util/osdep.h"
#include "block/block_int.h"
#include "block/io-internal.h"
#include "block/tracked-request.h"

/*
 * How much the next driver call takes. Heads and tails that do not fill
 * @align go separately: many drivers refuse those, and only those must suffer.
 */
static int64_t piece_bytes(int64_t offset, int64_t bytes, int64_t align,
                           int64_t max_bytes)
{
    int64_t head = offset % align;

    if (head) {
        return MIN(bytes, align - head);
    }
    if (bytes > align) {
        bytes -= bytes % align;
    }
    return MIN(bytes, max_bytes);
}

static int coroutine_fn discard_blocks(BlockDriverState *bs, int64_t offset,
                                       int64_t bytes)
{
    int64_t align = MAX(bs->bl.pdiscard_alignment, bs->bl.request_alignment);
    int64_t max_bytes = MIN_NON_ZERO(bs->bl.max_pdiscard, BDRV_MAX_LENGTH);

    max_bytes = MAX(QEMU_ALIGN_DOWN(max_bytes, align), align);
    while (bytes > 0) {
        int64_t n = piece_bytes(offset, bytes, align, max_bytes);
        int ret = bs->drv->bdrv_co_pdiscard(bs, offset, n);
        bool whole = QEMU_IS_ALIGNED(offset, align) &&
                     QEMU_IS_ALIGNED(n, align);

        if (ret < 0 && ret != -ENOTSUP && !(ret == -EINVAL && !whole)) {
            return ret;
        }
        offset += n;
        bytes -= n;
    }
    return 0;
}

static int coroutine_fn discard_tracked(BdrvChild *child,
                                        BdrvTrackedRequest *req)
{
    BlockDriverState *bs = req->bs;
    int64_t align = bs->bl.request_alignment;
    int64_t start = ROUND_UP(req->offset, align);
    int64_t end = req->offset + req->bytes;
    int64_t length;
    int ret;

    tracked_request_wait(req);
    ret = bdrv_co_write_prepare(child, req, 0);
    if (ret < 0) {
        return ret;
    }
    length = bdrv_co_exact_length(bs);
    if (length < 0) {
        return length;
    }
    /* The last block may be cut by the end of the node. */
    end = end >= length ? ROUND_UP(length, align) : end & -align;
    if (start < end) {
        ret = discard_blocks(bs, start, end - start);
        bdrv_driver_changed(bs);
        bdrv_co_write_finish(req, start, end - start, ret);
    }
    return ret;
}

int coroutine_fn bdrv_co_pdiscard(BdrvChild *child, int64_t offset,
                                  int64_t bytes)
{
    BlockDriverState *bs = child->bs;
    BdrvTrackedRequest req;
    int ret;

    if (!bs->drv) {
        return -ENOMEDIUM;
    }
    if (!(bs->open_flags & BDRV_O_RDWR)) {
        return -EPERM;
    }
    ret = bdrv_check_request(offset, bytes);
    if (ret < 0 || bytes == 0) {
        return ret;
    }
    if (!(bs->open_flags & BDRV_O_UNMAP) || !bs->drv->bdrv_co_pdiscard) {
        return 0;
    }
    bdrv_inc_in_flight(bs);
    tracked_request_begin(&req, bs, offset, bytes, BDRV_TRACKED_DISCARD);
    ret = discard_tracked(child, &req);
    tracked_request_end(&req);
    bdrv_dec_in_flight(bs);
    return ret;
}
