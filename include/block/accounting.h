/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Statistics of a BlockBackend: operations, bytes, time, failures, by kind.
 * Any thread; the counters have their own lock.
 */
#ifndef BLOCK_ACCOUNTING_H
#define BLOCK_ACCOUNTING_H

#include "qapi/qapi-types.h"
#include "util/osdep.h"
#include "util/thread.h"

typedef enum {
    BLOCK_ACCT_READ,
    BLOCK_ACCT_WRITE,
    BLOCK_ACCT_FLUSH,
    BLOCK_ACCT_UNMAP,
    BLOCK_MAX_IOTYPE,
} BlockAcctType;

/* Requests by the time they took: bin n has those of at least boundary n - 1 and
 * less than boundary n. Without boundaries nothing is counted. */
typedef struct BlockLatencyHistogram {
    unsigned nr_boundaries;
    uint64_t *boundaries;       /* ns, ascending */
    uint64_t *bins;             /* one more than boundaries */
} BlockLatencyHistogram;

typedef struct BlockAcctStats {
    QemuMutex lock;
    uint64_t nr_bytes[BLOCK_MAX_IOTYPE];
    uint64_t nr_ops[BLOCK_MAX_IOTYPE];
    uint64_t failed_ops[BLOCK_MAX_IOTYPE];
    uint64_t invalid_ops[BLOCK_MAX_IOTYPE];
    uint64_t total_time_ns[BLOCK_MAX_IOTYPE];
    uint64_t merged[BLOCK_MAX_IOTYPE];
    int64_t last_access_time_ns;
    BlockLatencyHistogram histograms[BLOCK_MAX_IOTYPE];
} BlockAcctStats;

/* One request being timed; on the caller's stack. */
typedef struct BlockAcctCookie {
    int64_t bytes;
    int64_t start_time_ns;
    BlockAcctType type;
} BlockAcctCookie;

void block_acct_init(BlockAcctStats *stats);
void block_acct_cleanup(BlockAcctStats *stats);
void block_acct_start(BlockAcctStats *stats, BlockAcctCookie *cookie,
                      int64_t bytes, BlockAcctType type);
void block_acct_done(BlockAcctStats *stats, BlockAcctCookie *cookie);
void block_acct_failed(BlockAcctStats *stats, BlockAcctCookie *cookie);
/* A request refused before it started (bad range). */
void block_acct_invalid(BlockAcctStats *stats, BlockAcctType type);
/*
 * Counts from zero with these boundaries; NULL ends it. False, with everything as
 * before, unless they ascend from more than 0.
 */
bool block_acct_set_histogram(BlockAcctStats *stats, BlockAcctType type,
                              const uint64List *boundaries);
/* Caller frees; NULL if nothing is counted. */
BlockLatencyHistogramInfo *block_acct_histogram(BlockAcctStats *stats,
                                                BlockAcctType type);
/* Nanoseconds since the last access. */
int64_t block_acct_idle_time_ns(BlockAcctStats *stats);

#endif
