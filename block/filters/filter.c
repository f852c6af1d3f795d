/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Callbacks of filters that hand requests on as they are. */
#include "util/osdep.h"
#include "block/filters/filter.h"

bool filter_open_file(BlockDriverState *bs, BlockdevRef *ref, Error **errp)
{
    if (!bdrv_open_child(bs, ref, "file",
                         BDRV_CHILD_FILTERED | BDRV_CHILD_PRIMARY, false,
                         errp)) {
        return false;
    }
    filter_refresh_flags(bs);
    return true;
}

QDict *filter_describe_file(const char *filename, Error **errp)
{
    BlockDriver *drv = bdrv_find_protocol(filename, true, errp);
    QDict *file;

    if (!drv) {
        return NULL;
    }
    file = qdict_new();
    qdict_put_str(file, "driver", drv->format_name);
    if (!drv->bdrv_parse_filename) {
        qdict_put_str(file, "filename", filename);
    } else if (!drv->bdrv_parse_filename(filename, file, errp)) {
        qobject_unref(file);
        return NULL;
    }
    return file;
}

void filter_refresh_flags(BlockDriverState *bs)
{
    BlockDriverState *child = bs->file->bs;

    bs->supported_read_flags = child->supported_read_flags;
    bs->supported_write_flags =
        BDRV_REQ_WRITE_UNCHANGED |
        (child->bl.compress_alignment ? BDRV_REQ_WRITE_COMPRESSED : 0) |
        (child->supported_write_flags & BDRV_REQ_FUA);
    bs->supported_zero_flags =
        BDRV_REQ_WRITE_UNCHANGED |
        (child->supported_zero_flags &
         (BDRV_REQ_FUA | BDRV_REQ_MAY_UNMAP | BDRV_REQ_NO_FALLBACK));
    bs->supported_truncate_flags =
        child->supported_truncate_flags & BDRV_REQ_ZERO_WRITE;
}

void filter_refresh_limits(BlockDriverState *bs, Error **errp)
{
    filter_refresh_flags(bs);
}

int filter_reopen_prepare(BDRVReopenState *state, BlockReopenQueue *queue,
                          Error **errp)
{
    /* The child may be another one; what it can do is looked at again. */
    return 0;
}

int coroutine_fn filter_co_preadv(BlockDriverState *bs, int64_t offset,
                                  int64_t bytes, QEMUIOVector *qiov,
                                  size_t qiov_offset, BdrvRequestFlags flags)
{
    return bdrv_co_preadv_part(bs->file, offset, bytes, qiov, qiov_offset,
                               flags);
}

int coroutine_fn filter_co_pwritev(BlockDriverState *bs, int64_t offset,
                                   int64_t bytes, QEMUIOVector *qiov,
                                   size_t qiov_offset, BdrvRequestFlags flags)
{
    return bdrv_co_pwritev_part(bs->file, offset, bytes, qiov, qiov_offset,
                                flags);
}

int coroutine_fn filter_co_pwrite_zeroes(BlockDriverState *bs, int64_t offset,
                                         int64_t bytes, BdrvRequestFlags flags)
{
    return bdrv_co_pwrite_zeroes(bs->file, offset, bytes, flags);
}

int coroutine_fn filter_co_pdiscard(BlockDriverState *bs, int64_t offset,
                                    int64_t bytes)
{
    return bdrv_co_pdiscard(bs->file, offset, bytes);
}
