/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The copy engine: the only code that moves data from one node to another.
 * convert, and later mirror, backup, commit and stream, are policies on it.
 *
 * A run asks the source for block status ahead of the copying, merges the
 * answers into large ranges, and lets worker coroutines read, test for zeroes
 * and write them. Every range belongs to one of three classes: it is skipped
 * (the target reads the same already), it becomes zeroes, or its data is
 * moved. Where classes meet inside one unit of `align` bytes, the unit is data.
 *
 * Offsets and lengths are bytes. One run uses one thread, any thread.
 */
#ifndef BLOCK_COPY_H
#define BLOCK_COPY_H

#include "block/block-backend.h"

typedef struct BlockCopyState BlockCopyState;

/* What a run was doing when something failed. */
typedef enum {
    BLOCK_COPY_STATUS,      /* asking the source for block status */
    BLOCK_COPY_READ,
    BLOCK_COPY_COMPARE,     /* reading same_as */
    BLOCK_COPY_WRITE,       /* writes of data and of zeroes */
    BLOCK_COPY_LANDED,      /* the landed hook */
    BLOCK_COPY_FINISH,      /* ending a compressed stream */
} BlockCopyPhase;

/* What becomes of a range. */
typedef enum {
    BLOCK_COPY_SKIP,        /* nothing */
    BLOCK_COPY_ZERO,        /* it becomes zeroes */
    BLOCK_COPY_DATA,        /* it is read and written */
} BlockCopyClass;

/* Progress, in bytes of work: ranges that are skipped are no work. */
typedef struct BlockCopyProgress {
    int64_t done;           /* work that is finished */
    int64_t known;          /* work found so far, done included */
    int64_t start;          /* offset at which the looking began */
    int64_t examined;       /* offset up to which work has been looked for */
    int64_t length;         /* offset at which the looking ends */
    int64_t complete;       /* offset below which nothing is left to do: what
                             * was written there has ended, flushed or not */
} BlockCopyProgress;

typedef struct BlockCopyOptions {
    int workers;            /* coroutines, 1..64; each may own one buffer */
    int64_t chunk;          /* bytes of one transfer; 0: 768 KiB. At most 64 MiB,
                             * rounded up to a multiple of align */
    int64_t align;          /* a power of two up to 64 MiB, 0: 1. Transfers
                             * start at multiples of it and end at one or at
                             * the end of the copy */
    int64_t start;          /* first byte to copy, a multiple of align */
    int64_t length;         /* the end, an offset */
    int64_t min_sparse;     /* runs of zeroes in data become holes if they are
                             * this long, in units of align or of this rounded
                             * down to a power of two, whichever is larger.
                             * 0: every zero is written as data */
    bool target_is_zero;    /* target reads as zeroes: those are skipped */
    /*
     * The target has a backing file with the content of source_base: what the
     * source chain does not hold above source_base is skipped. So are zeroes
     * from target_backing_length on, where that backing file has ended.
     */
    bool target_has_backing;
    int64_t target_backing_length;
    BlockDriverState *source_base; /* below the source; NULL: no such node */
    /*
     * Tells the class of the first *@pnum (1..@bytes) bytes at @offset, or
     * -errno, which ends the run. Instead of the source's block status and the
     * three options above. NULL: none.
     */
    int coroutine_fn (*classify)(void *opaque, int64_t offset, int64_t bytes,
                                 int64_t *pnum);
    /*
     * Units of align in which this disk holds the same data as the source are
     * not written. Behind its end it is zero. NULL: everything is.
     */
    BlockBackend *same_as;
    bool keep_target_zeroes; /* zeroes are not written where the block status of
                             * the target says that it reads as zeroes */
    bool in_order;          /* writes are issued in ascending order (several
                             * are in flight all the same) */
    bool compressed;        /* data is written compressed; align must be the
                             * target's cluster size */
    bool copy_range;        /* let the kernel copy; falls back to buffers by
                             * itself. Data is then not looked at for zeroes */
    int64_t rate_limit;     /* bytes of work a second, 0: none */
    /*
     * Where a read fails, read again in smaller and smaller pieces down to this
     * size (at least 512, a power of two). Pieces of it that still fail after
     * salvage_retries more tries, and what block status says is lost, become
     * zeroes; that is told to on_error as BLOCK_COPY_READ, perhaps more than
     * once, and a range without block status as BLOCK_COPY_STATUS; the answer
     * does not count. 0: a failed read is an error.
     */
    int64_t salvage_unit;
    unsigned salvage_retries;
    /*
     * With in_order: is told the data of the source in ascending order, before
     * it is written; @buf NULL: zeroes. Skipped ranges are not told, nor is
     * what the kernel copies. May yield. NULL: none.
     */
    void coroutine_fn (*seen)(void *opaque, int64_t offset, int64_t bytes,
                              const void *buf);
    /*
     * The range is in the target (for punching and discarding). NULL: none.
     * Skipped ranges are not told. 0, or -errno, which ends the run.
     */
    int coroutine_fn (*landed)(void *opaque, int64_t offset, int64_t bytes);
    /* After block_copy_pause(): nothing is in flight. Does not yield. */
    void (*parked)(void *opaque);
    /* Progress moved. Does not yield. NULL: none. */
    void (*progress)(void *opaque, const BlockCopyProgress *progress);
    /*
     * A read or a write of this range failed with @error (-errno). Returns 0
     * to try again, 1 to go on without the range, or -errno to end the run
     * with that. May yield. NULL: end the run with @error.
     */
    int coroutine_fn (*on_error)(void *opaque, BlockCopyPhase phase,
                                 int64_t offset, int64_t bytes, int error);
    void *opaque;
} BlockCopyOptions;

/* Where a run failed first, for messages. */
typedef struct BlockCopyFailure {
    int error;              /* -errno; 0 if nothing failed */
    BlockCopyPhase phase;
    int64_t offset;
    int64_t bytes;
} BlockCopyFailure;

/*
 * Makes a run. @source and @target stay the caller's and outlive the state;
 * @options is copied. NULL with @errp set if the options make no sense.
 * Any thread, does not yield.
 */
BlockCopyState *block_copy_new(BlockBackend *source, BlockBackend *target,
                               const BlockCopyOptions *options, Error **errp);
/*
 * Copies everything, once. Nothing of it is in flight any more on return. 0, or
 * -errno with *@failure filled (may be NULL); -ECANCELED after a cancel. The
 * target is not flushed. Coroutine.
 */
int coroutine_fn block_copy_run(BlockCopyState *s, BlockCopyFailure *failure);
/* Lets a run end soon with -ECANCELED. Any thread, also before the run. */
void block_copy_cancel(BlockCopyState *s);
/*
 * Nothing new is begun until block_copy_resume(), and opt.parked is called as
 * soon as nothing is in flight, perhaps at once. Hooks that are being called
 * are not stopped, nor is a cancel. Neither nests. In the thread of the run.
 */
void block_copy_pause(BlockCopyState *s);
void block_copy_resume(BlockCopyState *s);
/* Changes the rate limit, also while running. Any thread. */
void block_copy_set_speed(BlockCopyState *s, int64_t bytes_per_second);
/* Not while it runs. NULL is fine. */
void block_copy_free(BlockCopyState *s);

#endif
