/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the files of the request path share.
 *
 * The way of a request: an entry point (io.c, discard.c, copy-range.c) checks
 * it, counts it, tracks it and aligns it; then zeroes.c, copy-on-read.c or a
 * plain transfer (driver-io.c) breaks it into what the driver takes.
 *
 * All functions: coroutine, any thread, graph read lock held; 0 or -errno.
 */
#ifndef BLOCK_IO_INTERNAL_H
#define BLOCK_IO_INTERNAL_H

#include "block/block_int.h"

/* --- length.c --- */

/* Asks the driver, and tells parents of a change. Main thread, no coroutine. */
int bdrv_follow_length(BlockDriverState *bs);

/* --- io.c --- */

/* -EIO unless 0 <= offset, bytes and the end is at most BDRV_MAX_LENGTH. */
int bdrv_check_request(int64_t offset, int64_t bytes);
/* Also -EIO for data of more than BDRV_REQUEST_MAX_BYTES or beyond @qiov. */
int bdrv_check_qiov_request(int64_t offset, int64_t bytes,
                            const QEMUIOVector *qiov, size_t qiov_offset);

/* Whether the driver can be given the range as it is. */
static inline bool bdrv_is_aligned(BlockDriverState *bs, int64_t offset,
                                   int64_t bytes)
{
    return !((offset | bytes) & (bs->bl.request_alignment - 1));
}

/*
 * Before and after a request @req changes the node, with all waiting done.
 * prepare refuses read-only nodes (-EPERM) and ends beyond the node's for
 * users who may not resize (-EIO), and asserts permissions. finish takes the
 * range that the driver was given and the result; it keeps length, dirty
 * bitmaps and statistics right.
 */
int coroutine_fn bdrv_co_write_prepare(BdrvChild *child,
                                       BdrvTrackedRequest *req,
                                       BdrvRequestFlags flags);
void coroutine_fn bdrv_co_write_finish(BdrvTrackedRequest *req,
                                       int64_t offset, int64_t bytes, int ret);

/*
 * Waits for conflicting requests, as @flags (SERIALISING, NO_WAIT) say. @rmw:
 * blocks at the edges are going to be read, changed and written, so that
 * others must be kept out of them.
 */
int coroutine_fn bdrv_co_wait_turn(BdrvTrackedRequest *req,
                                   BdrvRequestFlags flags, bool rmw);

/* --- sync.c --- */

/*
 * bdrv_run_co() for an @entry that takes the graph lock itself. Not under the
 * write lock. Inside a coroutine, which must not hold the lock, just a call.
 */
int bdrv_run_co_unlocked(BdrvCoEntry *entry, void *opaque);

/* --- length.c --- */

/* What the driver says: bdrv_co_getlength() before rounding, or -errno. */
int64_t coroutine_fn bdrv_co_exact_length(BlockDriverState *bs);
/*
 * Tells the parents of @bs, and its bitmaps, that total_bytes has changed.
 * Filters above have the same length from then on, and their parents are told.
 */
void coroutine_fn bdrv_co_length_changed(BlockDriverState *bs);
/*
 * If @bs is a filter without a length of its own, its total_bytes becomes that
 * of the node below. True if that changed it. Any thread, graph lock held.
 */
bool bdrv_follow_filtered_length(BlockDriverState *bs);

/* --- driver-io.c: ranges are multiples of bl.request_alignment --- */

/*
 * Transfers of any length; they are split and bounced as the driver demands.
 * A write with FUA is durable at the end whatever the driver can do.
 */
int coroutine_fn bdrv_driver_preadv(BlockDriverState *bs, int64_t offset,
                                    int64_t bytes, QEMUIOVector *qiov,
                                    size_t qiov_offset,
                                    BdrvRequestFlags flags);
int coroutine_fn bdrv_driver_pwritev(BlockDriverState *bs, int64_t offset,
                                     int64_t bytes, QEMUIOVector *qiov,
                                     size_t qiov_offset,
                                     BdrvRequestFlags flags);
/* Longest transfer of one driver call. */
int64_t bdrv_driver_max_transfer(BlockDriverState *bs);

/* A change has reached the driver: a flush from here on has work to do. */
static inline void bdrv_driver_changed(BlockDriverState *bs)
{
    qatomic_inc(&bs->write_gen);
}

/* --- zeroes.c --- */

/* Makes the aligned range read as zeroes, by the driver or by a buffer. */
int coroutine_fn bdrv_driver_pwrite_zeroes(BlockDriverState *bs,
                                           int64_t offset, int64_t bytes,
                                           BdrvRequestFlags flags);

/* --- copy-on-read.c --- */

/*
 * Widens a range to the clusters of @bs, or to bl.request_alignment if it has
 * none. Bytes of one cluster.
 */
int64_t coroutine_fn bdrv_co_round_to_clusters(BlockDriverState *bs,
                                               int64_t offset, int64_t bytes,
                                               int64_t *cluster_offset,
                                               int64_t *cluster_bytes);
/*
 * Reads an aligned range, storing in the node what it does not hold itself.
 * With BDRV_REQ_PREFETCH nothing is handed out and @qiov may be NULL.
 */
int coroutine_fn bdrv_co_copy_on_readv(BdrvChild *child,
                                       BdrvTrackedRequest *req,
                                       int64_t offset, int64_t bytes,
                                       QEMUIOVector *qiov, size_t qiov_offset,
                                       BdrvRequestFlags flags);

/* Reads an aligned range; what lies beyond the end is zeroes. */
int coroutine_fn bdrv_co_read_aligned(BlockDriverState *bs, int64_t offset,
                                      int64_t bytes, QEMUIOVector *qiov,
                                      size_t qiov_offset,
                                      BdrvRequestFlags flags);

#endif
