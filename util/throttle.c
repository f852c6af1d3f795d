/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Leaky buckets; see the header. */
#include "util/osdep.h"
#include "util/throttle.h"
#include "util/timer.h"

/* Part of a second that a bucket without bursts holds. */
#define SLICE 0.1

/* --- configuration --- */

void throttle_config_init(ThrottleConfig *cfg)
{
    memset(cfg, 0, sizeof(*cfg));
    for (int i = 0; i < THROTTLE_BUCKETS; i++) {
        cfg->buckets[i].burst_length = 1;
    }
}

static bool total_and_parts(const ThrottleConfig *cfg, ThrottleBucketType total)
{
    const ThrottleBucket *b = &cfg->buckets[total];

    /* Reads and writes come behind their total. */
    return (b[0].avg && (b[1].avg || b[2].avg)) ||
           (b[0].max && (b[1].max || b[2].max));
}

static bool bucket_is_valid(const ThrottleBucket *b, Error **errp)
{
    if (b->avg < 0 || b->max < 0 || b->avg > THROTTLE_VALUE_MAX ||
        b->max > THROTTLE_VALUE_MAX) {
        error_setg(errp, "bps/iops/max values must be within [0, %lld]",
                   THROTTLE_VALUE_MAX);
    } else if (b->burst_length <= 0) {
        error_setg(errp, "the burst length cannot be 0");
    } else if (b->burst_length > 1 && !b->max) {
        error_setg(errp, "burst length set without burst rate");
    } else if (b->max && b->burst_length > THROTTLE_VALUE_MAX / b->max) {
        error_setg(errp, "burst length too high for this burst rate");
    } else if (b->max && !b->avg) {
        error_setg(errp, "bps_max/iops_max require corresponding bps/iops "
                   "values");
    } else if (b->max && b->max < b->avg) {
        error_setg(errp, "bps_max/iops_max cannot be lower than bps/iops");
    } else {
        return true;
    }
    return false;
}

bool throttle_config_is_valid(const ThrottleConfig *cfg, Error **errp)
{
    if (total_and_parts(cfg, THROTTLE_BPS_TOTAL) ||
        total_and_parts(cfg, THROTTLE_OPS_TOTAL)) {
        error_setg(errp, "bps/iops/max total values and read/write values "
                   "cannot be used at the same time");
        return false;
    }
    if (cfg->op_size < 0) {
        error_setg(errp, "the iops size cannot be negative");
        return false;
    }
    if (cfg->op_size && !cfg->buckets[THROTTLE_OPS_TOTAL].avg &&
        !cfg->buckets[THROTTLE_OPS_READ].avg &&
        !cfg->buckets[THROTTLE_OPS_WRITE].avg) {
        error_setg(errp, "iops size requires an iops value to be set");
        return false;
    }
    for (int i = 0; i < THROTTLE_BUCKETS; i++) {
        if (!bucket_is_valid(&cfg->buckets[i], errp)) {
            return false;
        }
    }
    return true;
}

/* The buckets that a request in the direction goes into. */
static const ThrottleBucketType buckets_of[THROTTLE_DIRECTIONS][4] = {
    [THROTTLE_READ] = { THROTTLE_BPS_TOTAL, THROTTLE_BPS_READ,
                        THROTTLE_OPS_TOTAL, THROTTLE_OPS_READ },
    [THROTTLE_WRITE] = { THROTTLE_BPS_TOTAL, THROTTLE_BPS_WRITE,
                         THROTTLE_OPS_TOTAL, THROTTLE_OPS_WRITE },
};

bool throttle_config_limits(const ThrottleConfig *cfg,
                            ThrottleDirection direction)
{
    for (int i = 0; i < ARRAY_SIZE(buckets_of[0]); i++) {
        if (cfg->buckets[buckets_of[direction][i]].avg) {
            return true;
        }
    }
    return false;
}

/* --- buckets --- */

void throttle_init(ThrottleState *ts, const ThrottleConfig *cfg,
                   int64_t now_ns)
{
    *ts = (ThrottleState){ .cfg = *cfg, .leaked_ns = now_ns };
}

static void leak(ThrottleState *ts, int64_t now_ns)
{
    double seconds = (double)(now_ns - ts->leaked_ns) / NANOSECONDS_PER_SECOND;

    if (now_ns <= ts->leaked_ns) {
        return;
    }
    ts->leaked_ns = now_ns;
    for (int i = 0; i < THROTTLE_BUCKETS; i++) {
        const ThrottleBucket *b = &ts->cfg.buckets[i];
        ThrottleLevel *l = &ts->levels[i];

        l->level = MAX(l->level - b->avg * seconds, 0);
        l->burst_level = MAX(l->burst_level - b->max * seconds, 0);
    }
}

/* Seconds until what is above the capacity has leaked. */
static double excess_seconds(double level, double capacity, double rate)
{
    return level > capacity ? (level - capacity) / rate : 0;
}

static double bucket_wait(const ThrottleBucket *b, const ThrottleLevel *l)
{
    double wait;

    if (!b->avg) {
        return 0;
    }
    if (!b->max) {
        return excess_seconds(l->level, b->avg * SLICE, b->avg);
    }
    wait = excess_seconds(l->level, (double)b->max * b->burst_length, b->avg);
    if (b->burst_length > 1) {
        wait = MAX(wait, excess_seconds(l->burst_level, b->max * SLICE,
                                         b->max));
    }
    return wait;
}

int64_t throttle_wait_ns(ThrottleState *ts, ThrottleDirection direction,
                         int64_t now_ns)
{
    double wait = 0;

    leak(ts, now_ns);
    for (int i = 0; i < ARRAY_SIZE(buckets_of[0]); i++) {
        ThrottleBucketType type = buckets_of[direction][i];

        wait = MAX(wait, bucket_wait(&ts->cfg.buckets[type],
                                      &ts->levels[type]));
    }
    /*
     * Rounded up, so that what is awaited is over by then; but what rounding
     * of the levels leaves behind, less than a nanosecond, is not awaited
     * again. A century is enough.
     */
    wait = MIN(wait, 3e9) * NANOSECONDS_PER_SECOND;
    return wait < 1 ? 0 : (int64_t)(wait + 0.999999);
}

void throttle_account(ThrottleState *ts, ThrottleDirection direction,
                      int64_t bytes)
{
    double ops = 1;

    if (ts->cfg.op_size && bytes > ts->cfg.op_size) {
        ops = (double)bytes / ts->cfg.op_size;
    }
    for (int i = 0; i < ARRAY_SIZE(buckets_of[0]); i++) {
        ThrottleBucketType type = buckets_of[direction][i];
        double units = type < THROTTLE_OPS_TOTAL ? bytes : ops;

        if (ts->cfg.buckets[type].avg) {
            ts->levels[type].level += units;
            ts->levels[type].burst_level += units;
        }
    }
}
