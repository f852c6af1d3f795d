/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Limits of a disk's requests and bytes per second, with bursts.
 *
 * Each limit is a bucket that requests fill and that leaks at the rate "avg". A
 * request may start when the bucket is not over its capacity, and is then added
 * whole: so one that is larger than the capacity passes, and those behind it
 * wait longer. The capacity is what a tenth of a second lets through, or with a
 * burst rate "max", what "burst_length" seconds at that rate do; if these are
 * more than one, a second bucket that leaks at "max" limits the burst itself.
 *
 * The caller has the lock, tells the time, and does the waiting.
 */
#ifndef UTIL_THROTTLE_H
#define UTIL_THROTTLE_H

#include "util/osdep.h"
#include "util/error.h"

/* Largest rate, and largest burst rate times length. */
#define THROTTLE_VALUE_MAX 1000000000000000LL

typedef enum {
    THROTTLE_READ,
    THROTTLE_WRITE,
    THROTTLE_DIRECTIONS,
} ThrottleDirection;

typedef enum {
    THROTTLE_BPS_TOTAL,
    THROTTLE_BPS_READ,
    THROTTLE_BPS_WRITE,
    THROTTLE_OPS_TOTAL,
    THROTTLE_OPS_READ,
    THROTTLE_OPS_WRITE,
    THROTTLE_BUCKETS,
} ThrottleBucketType;

typedef struct ThrottleBucket {
    int64_t avg;            /* units a second; 0: no limit */
    int64_t max;            /* the same in a burst; 0: none */
    int64_t burst_length;   /* seconds, at least 1 */
} ThrottleBucket;

typedef struct ThrottleConfig {
    ThrottleBucket buckets[THROTTLE_BUCKETS];
    int64_t op_size;        /* bytes that count as one request; 0: any */
} ThrottleConfig;

/* No limits. */
void throttle_config_init(ThrottleConfig *cfg);
bool throttle_config_is_valid(const ThrottleConfig *cfg, Error **errp);
/* Whether requests in this direction can ever have to wait. */
bool throttle_config_limits(const ThrottleConfig *cfg,
                            ThrottleDirection direction);

typedef struct ThrottleLevel {
    double level;           /* units above empty */
    double burst_level;
} ThrottleLevel;

typedef struct ThrottleState {
    ThrottleConfig cfg;
    ThrottleLevel levels[THROTTLE_BUCKETS];
    int64_t leaked_ns;      /* when buckets last leaked */
} ThrottleState;

/* Empty buckets. @cfg must be valid. */
void throttle_init(ThrottleState *ts, const ThrottleConfig *cfg,
                   int64_t now_ns);
/* How many ns a request has to wait from @now_ns on; 0: it may start. */
int64_t throttle_wait_ns(ThrottleState *ts, ThrottleDirection direction,
                         int64_t now_ns);
/* A request of @bytes starts. */
void throttle_account(ThrottleState *ts, ThrottleDirection direction,
                      int64_t bytes);

#endif
