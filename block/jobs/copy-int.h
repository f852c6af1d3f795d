/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the files of the copy engine share; see include/block/copy.h. */
#ifndef BLOCK_JOBS_COPY_INT_H
#define BLOCK_JOBS_COPY_INT_H

#include "block/copy.h"
#include "util/coroutine.h"
#include "util/ratelimit.h"

/* --- extents: what is to be done where (copy-extents.c) --- */

typedef enum {
    COPY_SKIP = BLOCK_COPY_SKIP,
    COPY_ZERO = BLOCK_COPY_ZERO,
    COPY_DATA = BLOCK_COPY_DATA,
} CopyClass;

typedef struct CopyExtent {
    int64_t offset;
    int64_t end;
    CopyClass cls;
} CopyExtent;

/*
 * A queue of extents in ascending order, and at its end one extent that still
 * grows. Boundaries between extents are multiples of align; a unit in which
 * classes meet is COPY_DATA. Skipped extents are not kept.
 */
typedef struct CopyExtents {
    int64_t align;
    CopyExtent *ring;
    unsigned size;
    unsigned head;
    unsigned count;
    CopyExtent open;        /* its end may be unaligned; may be empty */
    int64_t known;          /* bytes of ZERO and DATA ever put in the queue */
} CopyExtents;

/* @start: a multiple of @align. */
void copy_extents_init(CopyExtents *x, int64_t align, unsigned size,
                       int64_t start);
void copy_extents_destroy(CopyExtents *x);
/* False when the next add might not find room. */
bool copy_extents_has_room(const CopyExtents *x);
/* Adds a range that starts where the last one ended. */
void copy_extents_add(CopyExtents *x, int64_t bytes, CopyClass cls);
/* No more adds: the open extent is complete. */
void copy_extents_finish(CopyExtents *x);
/*
 * Takes the next piece of work into *@e: at most @data_max or @zero_max bytes,
 * ending at a multiple of that or of the extent. Both are multiples of align.
 * False if there is none yet.
 */
bool copy_extents_take(CopyExtents *x, int64_t data_max, int64_t zero_max,
                       CopyExtent *e);

/* Everything below that offset has been taken, or is skipped. */
int64_t copy_extents_front(const CopyExtents *x);

/* --- the run --- */

typedef struct CopyWorker CopyWorker;

struct BlockCopyState {
    /* Fixed by block_copy_new() */
    BlockBackend *source;
    BlockBackend *target;
    BlockCopyOptions opt;       /* with the defaults filled in */
    int64_t zero_unit;          /* granularity of looking for zeroes */
    size_t mem_align;
    CopyWorker *workers;

    /* Any thread, atomic */
    bool cancelled;
    int64_t next_start_ns;      /* rate limit: no work before that time */
    RateLimit limit;

    /* The thread of the run */
    int64_t source_length;
    int64_t same_as_length;     /* if there is opt.same_as */
    CoWaitGroup group;
    CopyExtents extents;
    int64_t examined;
    bool scan_done;
    unsigned busy;              /* requests in flight */
    bool paused;
    CoQueue pause_queue;        /* requests that wait for the end of a pause */
    CoQueue work_queue;         /* workers that wait for extents */
    CoQueue room_queue;         /* the scan, waiting for room */
    uint64_t next_seq;          /* of the next piece of work to be taken */
    uint64_t turn;              /* the one that may write, if in_order */
    bool copy_range;            /* still believed to work */
    bool copy_range_proven;
    void *zero_buf;             /* a chunk of zeroes, made when needed */
    int64_t done;
    BlockCopyFailure failure;   /* error != 0: the run is ending */
};

struct CopyWorker {
    BlockCopyState *s;
    void *buf;                  /* a chunk, made when needed */
    void *same_buf;             /* the same of opt.same_as */
    uint64_t seq;
    int64_t at;                 /* where its work begins; INT64_MAX: none */
    Coroutine *turn_waiter;     /* waits for its turn */
    unsigned pieces;            /* writes of this worker in flight */
    Coroutine *piece_waiter;    /* waits for one of them to end */
    bool lost;                  /* part of the work was given up on */
};

/* True once the run is ending, because of failure or cancellation. */
bool copy_is_ending(BlockCopyState *s);
/* Notes the first failure and wakes everybody who waits. */
void copy_fail(BlockCopyState *s, BlockCopyPhase phase, int64_t offset,
               int64_t bytes, int error);
/* 0: try again; 1: go on without; -errno: give up (noted by copy_fail()). */
int coroutine_fn copy_ask(BlockCopyState *s, BlockCopyPhase phase,
                          int64_t offset, int64_t bytes, int error);
void copy_report(BlockCopyState *s);
/*
 * Around each request: waits while the run is paused. False, without an end,
 * if the run is ending instead.
 */
bool coroutine_fn copy_begin(BlockCopyState *s);
void copy_end(BlockCopyState *s);
/* Salvaging: the range becomes zeroes. */
void coroutine_fn copy_tell_lost(BlockCopyState *s, int64_t offset,
                                 int64_t bytes, int error);
/* Waits for the worker's turn; false if the run ends first. */
bool coroutine_fn copy_wait_turn(CopyWorker *w);
/* Lets the next one write; at most once for each piece of work. */
void copy_pass_turn(CopyWorker *w);

/* copy-scan.c: coroutine that fills s->extents. */
void coroutine_fn copy_scan_entry(void *opaque);

/*
 * copy-write.c: the worker has its turn, which is passed on inside. Failures
 * are noted by copy_fail(). What equals @same (NULL: nothing does) is not
 * written.
 */
void coroutine_fn copy_write_data(CopyWorker *w, int64_t offset,
                                  int64_t bytes, void *buf, const void *same,
                                  bool may_be_zero);
void coroutine_fn copy_write_zeroes(CopyWorker *w, int64_t offset,
                                    int64_t bytes);

#endif
