/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What filters that hand most requests on have in common: callbacks for drivers
 * with one FILTERED child, "file" or "image", at the same offsets.
 */
#ifndef BLOCK_FILTERS_FILTER_H
#define BLOCK_FILTERS_FILTER_H

#include "block/block_int.h"

/* For bdrv_open: attaches what @ref says as the child "file". */
bool filter_open_file(BlockDriverState *bs, BlockdevRef *ref, Error **errp);

/* For bdrv_parse_filename: what opens the file @filename, as a nested dictionary
 * with a reference for the caller; NULL if no driver takes the name. */
QDict *filter_describe_file(const char *filename, Error **errp);

/* For bdrv_open and bdrv_refresh_limits: the flags of requests that the node
 * takes are those that its child does something with. */
void filter_refresh_flags(BlockDriverState *bs);
void filter_refresh_limits(BlockDriverState *bs, Error **errp);

/* For filters whose own options cannot change while they run. */
int filter_reopen_prepare(BDRVReopenState *state, BlockReopenQueue *queue,
                          Error **errp);

int coroutine_fn filter_co_preadv(BlockDriverState *bs, int64_t offset,
                                  int64_t bytes, QEMUIOVector *qiov,
                                  size_t qiov_offset, BdrvRequestFlags flags);
int coroutine_fn filter_co_pwritev(BlockDriverState *bs, int64_t offset,
                                   int64_t bytes, QEMUIOVector *qiov,
                                   size_t qiov_offset, BdrvRequestFlags flags);
int coroutine_fn filter_co_pwrite_zeroes(BlockDriverState *bs, int64_t offset,
                                         int64_t bytes, BdrvRequestFlags flags);
int coroutine_fn filter_co_pdiscard(BlockDriverState *bs, int64_t offset,
                                    int64_t bytes);

#endif
