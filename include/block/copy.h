/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The copy engine: the only code that moves data from one node to another.
 * convert, and later mirror, backup, commit and stream, are policies on it.
 *
 * A run asks the source for block status ahead of the copying, merges the
 * answers into large ranges, and lets worker coroutines read, test for zeroes
 * and write them. Progress counts bytes of work known so far.
 *
 * Coroutine, any thread; one run uses one thread.
 */
#ifndef BLOCK_COPY_H
#define BLOCK_COPY_H

#include "block/block-backend.h"
#include "util/ratelimit.h"

typedef struct BlockCopyState BlockCopyState;

typedef struct BlockCopyOptions {
    int workers;            /* coroutines, 1..64 */
    int64_t chunk;          /* bytes of one transfer; 0: 2 MiB */
    int64_t align;          /* transfers start at multiples of it; 0: 1 */
    int64_t length;         /* bytes to copy from offset 0 */
    int64_t min_sparse;     /* zero runs this long become holes; 0: none, the
                             * target is fully written */
    bool target_is_zero;    /* target reads zero already: zeroes are skipped */
    bool target_has_backing;/* unallocated source above source_base is skipped */
    BlockDriverState *source_base; /* do not copy what lies below; NULL: all */
    bool in_order;          /* writes reach the target in ascending order */
    bool compressed;        /* whole target clusters, compressed */
    bool copy_range;        /* let the kernel copy; falls back by itself */
    int64_t rate_limit;     /* bytes a second, 0: none */
    /*
     * A range [offset, offset+bytes) is in the target (hook for punching and
     * discarding). NULL: none. Coroutine; an error ends the run.
     */
    int coroutine_fn (*landed)(void *opaque, int64_t offset, int64_t bytes);
    /* Called whenever progress moved: bytes done and bytes known. */
    void (*progress)(void *opaque, int64_t done, int64_t total);
    /* A read or write failed; returns 0 to retry, 1 to go on without the
     * range, or -errno to stop. NULL: stop. */
    int coroutine_fn (*on_error)(void *opaque, bool is_read, int64_t offset,
                                 int64_t bytes, int error);
    void *opaque;
} BlockCopyOptions;

/* Where the run failed, for messages. */
typedef struct BlockCopyFailure {
    int error;              /* -errno */
    bool is_read;
    int64_t offset;
    int64_t bytes;
} BlockCopyFailure;

/* @source and @target stay the caller's and outlive the state. */
BlockCopyState *block_copy_new(BlockBackend *source, BlockBackend *target,
                               const BlockCopyOptions *options, Error **errp);
/* Copies everything; 0 or -errno with *@failure filled (may be NULL). */
int coroutine_fn block_copy_run(BlockCopyState *s, BlockCopyFailure *failure);
/* Makes a run end soon with -ECANCELED. Any thread. */
void block_copy_cancel(BlockCopyState *s);
void block_copy_free(BlockCopyState *s);

#endif
