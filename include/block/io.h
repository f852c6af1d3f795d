/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Requests on nodes.
 *
 * bdrv_co_*: coroutine, any thread, graph read lock held (GRAPH_RDLOCK). They
 * go through an edge and check its permissions, or take a node where only the
 * node matters. Ranges are arbitrary bytes; the generic layer aligns, splits
 * and serialises for the driver. 0 or -errno. Reads beyond the end of the node
 * give zeroes. Writes beyond it extend the node if the edge has the RESIZE
 * permission; without it they may at most fill up the last sector of 512
 * bytes, and fail with -EIO beyond. (A BlockBackend refuses both.)
 *
 * Names without _co_: main thread outside coroutines; they run the request in
 * a coroutine of their own (taking the graph lock) and poll until it is done.
 */
#ifndef BLOCK_IO_H
#define BLOCK_IO_H

#include "block/block-common.h"
#include "block/graph-lock.h"
#include "util/coroutine.h"

/* --- data --- */
int coroutine_fn GRAPH_RDLOCK
bdrv_co_preadv(BdrvChild *child, int64_t offset, int64_t bytes,
               QEMUIOVector *qiov, BdrvRequestFlags flags);
int coroutine_fn GRAPH_RDLOCK
bdrv_co_preadv_part(BdrvChild *child, int64_t offset, int64_t bytes,
                    QEMUIOVector *qiov, size_t qiov_offset,
                    BdrvRequestFlags flags);
int coroutine_fn GRAPH_RDLOCK
bdrv_co_pwritev(BdrvChild *child, int64_t offset, int64_t bytes,
                QEMUIOVector *qiov, BdrvRequestFlags flags);
int coroutine_fn GRAPH_RDLOCK
bdrv_co_pwritev_part(BdrvChild *child, int64_t offset, int64_t bytes,
                     QEMUIOVector *qiov, size_t qiov_offset,
                     BdrvRequestFlags flags);
int coroutine_fn GRAPH_RDLOCK
bdrv_co_pread(BdrvChild *child, int64_t offset, int64_t bytes, void *buf,
              BdrvRequestFlags flags);
int coroutine_fn GRAPH_RDLOCK
bdrv_co_pwrite(BdrvChild *child, int64_t offset, int64_t bytes,
               const void *buf, BdrvRequestFlags flags);
/* Write, then flush. */
int coroutine_fn GRAPH_RDLOCK
bdrv_co_pwrite_sync(BdrvChild *child, int64_t offset, int64_t bytes,
                    const void *buf, BdrvRequestFlags flags);
/* @flags: MAY_UNMAP, NO_FALLBACK, FUA … */
int coroutine_fn GRAPH_RDLOCK
bdrv_co_pwrite_zeroes(BdrvChild *child, int64_t offset, int64_t bytes,
                      BdrvRequestFlags flags);
int coroutine_fn GRAPH_RDLOCK
bdrv_co_pdiscard(BdrvChild *child, int64_t offset, int64_t bytes);
/*
 * Lets the backing file show all over, for when it has the same content: dirty
 * bitmaps are not told. Wants the WRITE permission; -ENOTSUP if the driver
 * cannot or there is no backing file. An error may leave part of it done.
 */
int coroutine_fn GRAPH_RDLOCK bdrv_co_make_empty(BdrvChild *child);
int coroutine_fn GRAPH_RDLOCK bdrv_co_flush(BlockDriverState *bs);
/*
 * The node becomes @offset bytes long, or longer if not @exact. Requests to the
 * part beyond its end, old or new, and other truncations come before or after.
 * @flags: ZERO_WRITE if the new part must read as zeroes; NO_SHRINK from those
 * who want to grow and looked at the length before.
 */
int coroutine_fn GRAPH_RDLOCK
bdrv_co_truncate(BdrvChild *child, int64_t offset, bool exact,
                 PreallocMode prealloc, BdrvRequestFlags flags, Error **errp);
/*
 * Puts the pages of the whole range into @pipe, which is empty and has room for
 * them: nothing is copied. What is written to the range before somebody takes
 * them out may show in them. -ENOTSUP: the nodes below cannot, or not this range,
 * or the pipe is too short; read instead. After any error the pipe may have bytes
 * in it.
 */
int coroutine_fn GRAPH_RDLOCK
bdrv_co_splice(BdrvChild *child, int64_t offset, int64_t bytes, int pipe);
/* -ENOTSUP when the nodes below cannot; then nothing was written. */
int coroutine_fn GRAPH_RDLOCK
bdrv_co_copy_range(BdrvChild *src, int64_t src_offset, BdrvChild *dst,
                   int64_t dst_offset, int64_t bytes,
                   BdrvRequestFlags read_flags, BdrvRequestFlags write_flags);
int coroutine_fn GRAPH_RDLOCK
bdrv_co_copy_range_from(BdrvChild *src, int64_t src_offset, BdrvChild *dst,
                        int64_t dst_offset, int64_t bytes,
                        BdrvRequestFlags read_flags,
                        BdrvRequestFlags write_flags);
int coroutine_fn GRAPH_RDLOCK
bdrv_co_copy_range_to(BdrvChild *src, int64_t src_offset, BdrvChild *dst,
                      int64_t dst_offset, int64_t bytes,
                      BdrvRequestFlags read_flags,
                      BdrvRequestFlags write_flags);

/* --- length and information --- */
/* Bytes or -errno. A multiple of BDRV_SECTOR_SIZE: what a file lacks of its
 * last sector reads as zeroes. */
int64_t coroutine_fn GRAPH_RDLOCK bdrv_co_getlength(BlockDriverState *bs);
/* Asks the driver and updates the cached length. */
int coroutine_fn GRAPH_RDLOCK
bdrv_co_refresh_total_bytes(BlockDriverState *bs);
int64_t coroutine_fn GRAPH_RDLOCK
bdrv_co_get_allocated_file_size(BlockDriverState *bs);
int coroutine_fn GRAPH_RDLOCK
bdrv_co_get_info(BlockDriverState *bs, BlockDriverInfo *bdi);
int coroutine_fn GRAPH_RDLOCK
bdrv_co_check(BlockDriverState *bs, BdrvCheckResult *res,
              const BdrvCheckOptions *opts);

/*
 * What is cached of the files below @bs is written, and then dropped, so that
 * it takes no memory. Not a flush: nothing is durable after it. 0, or -errno if
 * cached data was lost.
 */
int coroutine_fn GRAPH_RDLOCK bdrv_co_writeback(BlockDriverState *bs);

/* --- status: BDRV_BLOCK_* bits or -errno, see block-common.h --- */
/* Of @bs itself, following RAW. *@map, *@file, *@pnum may be NULL. */
int coroutine_fn GRAPH_RDLOCK
bdrv_co_block_status(BlockDriverState *bs, int64_t offset, int64_t bytes,
                     int64_t *pnum, int64_t *map, BlockDriverState **file);
/*
 * Of the chain from @bs down to but excluding @base (NULL: to its end).
 * *@depth (may be NULL): 1 for @bs itself, +1 for every non-filter layer
 * below; 0 if nobody allocates the range.
 */
int coroutine_fn GRAPH_RDLOCK
bdrv_co_block_status_above(BlockDriverState *bs, BlockDriverState *base,
                           bool include_base, bool want_zero, int64_t offset,
                           int64_t bytes, int64_t *pnum, int64_t *map,
                           BlockDriverState **file, int *depth);
/* 1 if allocated in @bs, 0 if not, -errno. */
int coroutine_fn GRAPH_RDLOCK
bdrv_co_is_allocated(BlockDriverState *bs, int64_t offset, int64_t bytes,
                     int64_t *pnum);
/* Depth (>0) of the first layer above @base that allocates it, 0, -errno. */
int coroutine_fn GRAPH_RDLOCK
bdrv_co_is_allocated_above(BlockDriverState *top, BlockDriverState *base,
                           bool include_base, int64_t offset, int64_t bytes,
                           int64_t *pnum);
/* 1 if the range is known to read as zeroes, 0 if unknown, -errno. */
int coroutine_fn GRAPH_RDLOCK
bdrv_co_is_zero_fast(BlockDriverState *bs, int64_t offset, int64_t bytes);

/* --- synchronous forms --- */
int bdrv_pread(BdrvChild *child, int64_t offset, int64_t bytes, void *buf,
               BdrvRequestFlags flags);
int bdrv_pwrite(BdrvChild *child, int64_t offset, int64_t bytes,
                const void *buf, BdrvRequestFlags flags);
int bdrv_pwrite_sync(BdrvChild *child, int64_t offset, int64_t bytes,
                     const void *buf, BdrvRequestFlags flags);
int bdrv_pwrite_zeroes(BdrvChild *child, int64_t offset, int64_t bytes,
                       BdrvRequestFlags flags);
int bdrv_pdiscard(BdrvChild *child, int64_t offset, int64_t bytes);
int bdrv_make_empty(BdrvChild *child);
int bdrv_flush(BlockDriverState *bs);
int bdrv_flush_all(void);
int bdrv_truncate(BdrvChild *child, int64_t offset, bool exact,
                  PreallocMode prealloc, BdrvRequestFlags flags, Error **errp);
int64_t bdrv_getlength(BlockDriverState *bs);
int64_t bdrv_get_allocated_file_size(BlockDriverState *bs);
int bdrv_get_info(BlockDriverState *bs, BlockDriverInfo *bdi);
int bdrv_check(BlockDriverState *bs, BdrvCheckResult *res, BdrvCheckMode fix);
int bdrv_check_opts(BlockDriverState *bs, BdrvCheckResult *res,
                    const BdrvCheckOptions *opts);
int bdrv_block_status(BlockDriverState *bs, int64_t offset, int64_t bytes,
                      int64_t *pnum, int64_t *map, BlockDriverState **file);
int bdrv_block_status_above(BlockDriverState *bs, BlockDriverState *base,
                            int64_t offset, int64_t bytes, int64_t *pnum,
                            int64_t *map, BlockDriverState **file, int *depth);
int bdrv_is_allocated(BlockDriverState *bs, int64_t offset, int64_t bytes,
                      int64_t *pnum);

/*
 * Runs @entry(@opaque) in a coroutine that holds the graph read lock, in the
 * calling thread, and polls until it has returned; its result is returned.
 * Called inside a coroutine that holds the lock it just calls @entry.
 */
typedef int coroutine_fn BdrvCoEntry(void *opaque);
int bdrv_run_co(BdrvCoEntry *entry, void *opaque);

/* --- limits and buffers --- */
/* Merges the children's limits and asks the driver. Main thread. */
bool bdrv_refresh_limits(BlockDriverState *bs, Error **errp);
size_t bdrv_opt_mem_align(BlockDriverState *bs);
size_t bdrv_min_mem_align(BlockDriverState *bs);
/* Aligned for direct I/O on @bs; free with qemu_vfree(). */
void *qemu_blockalign(BlockDriverState *bs, size_t size);
void *qemu_try_blockalign(BlockDriverState *bs, size_t size);
bool bdrv_qiov_is_aligned(BlockDriverState *bs, QEMUIOVector *qiov);
/* Whether a freshly created @bs reads as zeroes (used by convert). */
int bdrv_has_zero_init(BlockDriverState *bs);
bool bdrv_can_write_zeroes_with_unmap(BlockDriverState *bs);

/* --- for drivers and jobs: ordering inside one node --- */
/*
 * Makes @req serialising over its range rounded to @align and waits for all
 * overlapping requests. Coroutine.
 */
void coroutine_fn bdrv_make_request_serialising(BdrvTrackedRequest *req,
                                                uint64_t align);
BdrvTrackedRequest *coroutine_fn bdrv_co_get_self_request(BlockDriverState *bs);
/* In-flight counting of whoever works on @bs outside a tracked request. */
void bdrv_inc_in_flight(BlockDriverState *bs);
void bdrv_dec_in_flight(BlockDriverState *bs);

#endif
