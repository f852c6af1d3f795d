/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The filter "compress": writes become compressed ones. The requests of the node
 * are whole clusters of the image below, so that the generic layer reads what
 * a smaller write leaves of one.
 */
#include "util/osdep.h"
#include "block/driver-table.h"
#include "block/filters/filter.h"

static bool check_child(BlockDriverState *bs, Error **errp)
{
    BlockDriverState *child = bs->file->bs;

    if (!child->bl.compress_alignment) {
        error_setg(errp, "Compression is not supported for underlying format: "
                   "%s", child->drv->format_name);
        return false;
    }
    return true;
}

static int compress_open(BlockDriverState *bs, BlockdevOptions *options,
                         int flags, Error **errp)
{
    if (!filter_open_file(bs, options->u.compress.file, errp) ||
        !check_child(bs, errp)) {
        return -EINVAL;
    }
    return 0;
}

static int compress_reopen_prepare(BDRVReopenState *state,
                                   BlockReopenQueue *queue, Error **errp)
{
    return check_child(state->bs, errp) ? 0 : -ENOTSUP;
}

static void compress_refresh_limits(BlockDriverState *bs, Error **errp)
{
    if (check_child(bs, errp)) {
        filter_refresh_flags(bs);
        bs->bl.request_alignment = bs->bl.compress_alignment;
    }
}

static int coroutine_fn compress_co_pwritev(BlockDriverState *bs,
                                            int64_t offset, int64_t bytes,
                                            QEMUIOVector *qiov,
                                            size_t qiov_offset,
                                            BdrvRequestFlags flags)
{
    return filter_co_pwritev(bs, offset, bytes, qiov, qiov_offset,
                             flags | BDRV_REQ_WRITE_COMPRESSED);
}

BlockDriver bdrv_compress = {
    .format_name = "compress",
    .id = BLOCKDEV_DRIVER_COMPRESS,
    .is_filter = true,
    .supports_inactive = true,
    .bdrv_open = compress_open,
    .bdrv_reopen_prepare = compress_reopen_prepare,
    .bdrv_refresh_limits = compress_refresh_limits,
    .bdrv_co_preadv = filter_co_preadv,
    .bdrv_co_pwritev = compress_co_pwritev,
    .bdrv_co_pwrite_zeroes = filter_co_pwrite_zeroes,
    .bdrv_co_pdiscard = filter_co_pdiscard,
    .bdrv_co_block_status = bdrv_co_filter_block_status,
};
