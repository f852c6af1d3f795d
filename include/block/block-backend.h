/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * BlockBackend: the user of a node. Tools, jobs and exports do their I/O
 * through one. It owns one edge to the root node and the permissions on it,
 * queues requests while the node is drained, counts statistics, and adds FUA
 * to writes in write-through mode.
 *
 * blk_co_*: coroutine, any thread, without the graph lock (they take it).
 * Names without _co_: main thread outside coroutines; they poll.
 * The rest: main thread, unless it says any thread.
 */
#ifndef BLOCK_BACKEND_H
#define BLOCK_BACKEND_H

#include "block/block.h"
#include "block/accounting.h"
#include "util/aio.h"

/* @perm, @shared: what the user will do and tolerate; no node yet. */
BlockBackend *blk_new(uint64_t perm, uint64_t shared);
/* With a node; NULL if the permissions cannot be had. */
BlockBackend *blk_new_with_bs(BlockDriverState *bs, uint64_t perm,
                              uint64_t shared, Error **errp);
/*
 * Opens a node as bdrv_open() does and makes a backend for it that wants
 * consistent read (unless NO_IO) and, with RDWR, write, and that shares
 * everything. Resizing needs blk_set_perm() first. @options taken over.
 */
BlockBackend *blk_new_open(const char *filename, const char *reference,
                           QDict *options, int flags, Error **errp);
BlockBackend *blk_new_open_perm(const char *filename, const char *reference,
                                QDict *options, int flags, uint64_t perm,
                                uint64_t shared, Error **errp);
void blk_ref(BlockBackend *blk);
void blk_unref(BlockBackend *blk);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(BlockBackend, blk_unref)

/* Name for messages ("block device 'x'"); may be NULL. Copied. */
void blk_set_name(BlockBackend *blk, const char *name);
const char *blk_name(const BlockBackend *blk);
/* Who it works for, in messages and graphs: "nbd export 'e0'". */
void blk_set_owner(BlockBackend *blk, const char *fmt, ...)
    G_GNUC_PRINTF(2, 3);

BlockDriverState *blk_bs(BlockBackend *blk);
BdrvChild *blk_root(BlockBackend *blk);
bool blk_insert_bs(BlockBackend *blk, BlockDriverState *bs, Error **errp);
void blk_remove_bs(BlockBackend *blk);
/* Fails if the edge is claimed. */
bool blk_replace_bs(BlockBackend *blk, BlockDriverState *bs, Error **errp);
bool blk_set_perm(BlockBackend *blk, uint64_t perm, uint64_t shared,
                  Error **errp);
void blk_get_perm(BlockBackend *blk, uint64_t *perm, uint64_t *shared);

/*
 * Calls @cb(@opaque) in the main loop after the node's length has changed, once
 * for several changes. One user; NULL ends it. Main thread.
 */
void blk_set_resize_cb(BlockBackend *blk, void (*cb)(void *opaque),
                       void *opaque);

/* Write-back (true, default): completed writes need a flush to be durable. */
void blk_set_enable_write_cache(BlockBackend *blk, bool wce);
bool blk_enable_write_cache(BlockBackend *blk);
/* The node may be inactive (activate.h) while the backend may write to it. */
void blk_set_allow_inactive(BlockBackend *blk);
/* Allow requests beyond the end that the driver extends to (off). */
void blk_set_allow_write_beyond_eof(BlockBackend *blk, bool allow);
/* Requests during drain fail with -ECANCELED rather than wait (for teardown). */
void blk_set_disable_request_queuing(BlockBackend *blk, bool disable);

/* --- coroutine I/O: any thread --- */
int coroutine_fn blk_co_preadv(BlockBackend *blk, int64_t offset,
                               int64_t bytes, QEMUIOVector *qiov,
                               BdrvRequestFlags flags);
int coroutine_fn blk_co_preadv_part(BlockBackend *blk, int64_t offset,
                                    int64_t bytes, QEMUIOVector *qiov,
                                    size_t qiov_offset,
                                    BdrvRequestFlags flags);
int coroutine_fn blk_co_pwritev(BlockBackend *blk, int64_t offset,
                                int64_t bytes, QEMUIOVector *qiov,
                                BdrvRequestFlags flags);
int coroutine_fn blk_co_pwritev_part(BlockBackend *blk, int64_t offset,
                                     int64_t bytes, QEMUIOVector *qiov,
                                     size_t qiov_offset,
                                     BdrvRequestFlags flags);
int coroutine_fn blk_co_pread(BlockBackend *blk, int64_t offset, int64_t bytes,
                              void *buf, BdrvRequestFlags flags);
int coroutine_fn blk_co_pwrite(BlockBackend *blk, int64_t offset,
                               int64_t bytes, const void *buf,
                               BdrvRequestFlags flags);
/* Whole clusters (the end of the disk aside); see BDRV_REQ_WRITE_COMPRESSED. */
int coroutine_fn blk_co_pwrite_compressed(BlockBackend *blk, int64_t offset,
                                          int64_t bytes, const void *buf);
int coroutine_fn blk_co_pwrite_zeroes(BlockBackend *blk, int64_t offset,
                                      int64_t bytes, BdrvRequestFlags flags);
int coroutine_fn blk_co_pdiscard(BlockBackend *blk, int64_t offset,
                                 int64_t bytes);
int coroutine_fn blk_co_flush(BlockBackend *blk);
/* See bdrv_co_writeback(). */
int coroutine_fn blk_co_writeback(BlockBackend *blk);
int coroutine_fn blk_co_truncate(BlockBackend *blk, int64_t offset, bool exact,
                                 PreallocMode prealloc, BdrvRequestFlags flags,
                                 Error **errp);
/* See bdrv_co_splice(). Counts as a read, unless it returns -ENOTSUP. */
int coroutine_fn blk_co_splice(BlockBackend *blk, int64_t offset,
                               int64_t bytes, int pipe);
int coroutine_fn blk_co_copy_range(BlockBackend *in, int64_t off_in,
                                   BlockBackend *out, int64_t off_out,
                                   int64_t bytes, BdrvRequestFlags read_flags,
                                   BdrvRequestFlags write_flags);
int64_t coroutine_fn blk_co_getlength(BlockBackend *blk);
/* Bytes that the image takes from its host, or -errno. */
int64_t coroutine_fn blk_co_get_allocated_file_size(BlockBackend *blk);
int coroutine_fn blk_co_block_status_above(BlockBackend *blk,
                                           BlockDriverState *base,
                                           bool want_zero, int64_t offset,
                                           int64_t bytes, int64_t *pnum,
                                           int64_t *map,
                                           BlockDriverState **file,
                                           int *depth);
int coroutine_fn blk_co_is_allocated_above(BlockBackend *blk,
                                           BlockDriverState *base,
                                           bool include_base, int64_t offset,
                                           int64_t bytes, int64_t *pnum);

/* --- synchronous --- */
int blk_pread(BlockBackend *blk, int64_t offset, int64_t bytes, void *buf,
              BdrvRequestFlags flags);
int blk_pwrite(BlockBackend *blk, int64_t offset, int64_t bytes,
               const void *buf, BdrvRequestFlags flags);
int blk_preadv(BlockBackend *blk, int64_t offset, int64_t bytes,
               QEMUIOVector *qiov, BdrvRequestFlags flags);
int blk_pwritev(BlockBackend *blk, int64_t offset, int64_t bytes,
                QEMUIOVector *qiov, BdrvRequestFlags flags);
int blk_pwrite_compressed(BlockBackend *blk, int64_t offset, int64_t bytes,
                          const void *buf);
int blk_pwrite_zeroes(BlockBackend *blk, int64_t offset, int64_t bytes,
                      BdrvRequestFlags flags);
int blk_pdiscard(BlockBackend *blk, int64_t offset, int64_t bytes);
int blk_flush(BlockBackend *blk);
int blk_truncate(BlockBackend *blk, int64_t offset, bool exact,
                 PreallocMode prealloc, BdrvRequestFlags flags, Error **errp);
int64_t blk_getlength(BlockBackend *blk);
void blk_drain(BlockBackend *blk);

/*
 * Callback I/O: @cb(@opaque, ret) is called exactly once, in the AioContext of
 * the caller's thread, outside coroutines, never before the call returns. It
 * must not drop the last reference to @blk.
 */
typedef void BlockCompletionFunc(void *opaque, int ret);
void blk_aio_preadv(BlockBackend *blk, int64_t offset, QEMUIOVector *qiov,
                    BdrvRequestFlags flags, BlockCompletionFunc *cb,
                    void *opaque);
void blk_aio_pwritev(BlockBackend *blk, int64_t offset, QEMUIOVector *qiov,
                     BdrvRequestFlags flags, BlockCompletionFunc *cb,
                     void *opaque);
void blk_aio_pwrite_zeroes(BlockBackend *blk, int64_t offset, int64_t bytes,
                           BdrvRequestFlags flags, BlockCompletionFunc *cb,
                           void *opaque);
void blk_aio_pdiscard(BlockBackend *blk, int64_t offset, int64_t bytes,
                      BlockCompletionFunc *cb, void *opaque);
void blk_aio_flush(BlockBackend *blk, BlockCompletionFunc *cb, void *opaque);

/* --- properties: any thread --- */
bool blk_is_available(BlockBackend *blk);
bool blk_is_writable(BlockBackend *blk);
uint32_t blk_get_request_alignment(BlockBackend *blk);
uint32_t blk_get_max_transfer(BlockBackend *blk);
int blk_get_max_iov(BlockBackend *blk);
void *blk_blockalign(BlockBackend *blk, size_t size);
BlockAcctStats *blk_get_stats(BlockBackend *blk);
void blk_inc_in_flight(BlockBackend *blk);
void blk_dec_in_flight(BlockBackend *blk);

/* All backends, in the order they were made; NULL starts and ends. */
BlockBackend *blk_next(BlockBackend *blk);

#endif
