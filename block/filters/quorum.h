/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The inside of quorum: nodes with the same content, of which some may be wrong.
 *
 * The children are those in bs->children, in the order in which they came; with
 * the graph lock held they stay. A request goes to all of them at the same time.
 */
#ifndef BLOCK_FILTERS_QUORUM_H
#define BLOCK_FILTERS_QUORUM_H

#include "block/block_int.h"

typedef struct QuorumOptions {
    int64_t threshold;          /* children that have to agree; at least 1 */
    bool blkverify;             /* two children, a difference ends the program */
    bool rewrite;               /* write what won over what lost */
    QuorumReadPattern read_pattern;
} QuorumOptions;

typedef struct BDRVQuorumState {
    QuorumOptions options;      /* changed by reopen, with the node drained */
    uint64_t next_child;        /* number of the next child; main thread */
} BDRVQuorumState;

typedef struct QuorumRequest QuorumRequest;

/* The part of a request that one child does. */
typedef struct QuorumPart {
    QuorumRequest *r;
    BdrvChild *child;
    int ret;
    /* Reads only. */
    uint8_t *buf;
    QEMUIOVector qiov;
    unsigned votes;             /* children with these data; of the first one */
    struct QuorumPart *same_as; /* first part with these data */
} QuorumPart;

struct QuorumRequest {
    BlockDriverState *bs;
    int64_t offset;
    int64_t bytes;
    QEMUIOVector *qiov;         /* of a write */
    size_t qiov_offset;
    BdrvRequestFlags flags;
    /* What each child does, in a coroutine of its own. 0 or -errno. */
    int coroutine_fn (*run)(QuorumPart *part);
    QuorumPart *parts;
    unsigned nb_parts;
};

/*
 * One part for every child of @bs. The graph lock is held from here to
 * quorum_request_destroy(). The caller fills in the rest.
 */
void quorum_request_init(QuorumRequest *r, BlockDriverState *bs);
void quorum_request_destroy(QuorumRequest *r);
/* Runs all parts and waits for them. How many have succeeded. */
unsigned coroutine_fn quorum_request_run(QuorumRequest *r);

/*
 * Events for a child that failed with @ret, or whose data is wrong (0); and for
 * a request that too few children did alike.
 */
void quorum_report_bad(const QuorumRequest *r, const QuorumPart *part,
                       QuorumOpType type, int ret);
void quorum_report_failure(const QuorumRequest *r);
/*
 * Reports the children that failed; with fewer successes than the threshold,
 * -errno: the error that most of them have. Else 0.
 */
int quorum_request_result(const QuorumRequest *r, unsigned good,
                          QuorumOpType type);

/* The driver's callback. */
int coroutine_fn quorum_co_preadv(BlockDriverState *bs, int64_t offset,
                                  int64_t bytes, QEMUIOVector *qiov,
                                  size_t qiov_offset, BdrvRequestFlags flags);

#endif
