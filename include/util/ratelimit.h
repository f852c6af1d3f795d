/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Keeps a stream of work below a speed by telling how long to wait. Time is
 * cut into slices of 100 ms with a quota each; what exceeds the quota is paid
 * for by the slices that follow. Any thread; nothing yields.
 */
#ifndef UTIL_RATELIMIT_H
#define UTIL_RATELIMIT_H

#include "util/osdep.h"
#include "util/thread.h"
#include "util/timer.h"

#define RATE_LIMIT_SLICE_NS (100 * 1000 * 1000LL)

typedef struct RateLimit {
    QEMUClockType clock; /* fixed by init */
    QemuMutex lock;      /* protects the rest */
    uint64_t speed;      /* units per second, 0: no limit */
    uint64_t quota;      /* units per slice, at least 1 when limited */
    int64_t slice_start_ns;
    int64_t slice_end_ns;
    uint64_t dispatched; /* units since slice_start_ns */
} RateLimit;

/* No limit; on QEMU_CLOCK_REALTIME. */
void ratelimit_init(RateLimit *limit);
void ratelimit_init_clock(RateLimit *limit, QEMUClockType clock);
void ratelimit_destroy(RateLimit *limit);
/* @speed in units (bytes, say) per second; 0 removes the limit. */
void ratelimit_set_speed(RateLimit *limit, uint64_t speed);
/*
 * Accounts @n units about to be done, and returns how many ns to wait before
 * the work after them: 0 to go on at once.
 */
int64_t ratelimit_calculate_delay(RateLimit *limit, uint64_t n);

#endif /* UTIL_RATELIMIT_H */
