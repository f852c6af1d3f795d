/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Rate limit by slices. A slice ends later when more than its quota was
 * dispatched in it: the excess stretches it to as many slices as it needs, so
 * the average stays below the speed and one large unit is still possible.
 */
#include "util/osdep.h"
#include "util/ratelimit.h"

void ratelimit_init_clock(RateLimit *limit, QEMUClockType clock)
{
    memset(limit, 0, sizeof(*limit));
    limit->clock = clock;
    qemu_mutex_init(&limit->lock);
}

void ratelimit_init(RateLimit *limit)
{
    ratelimit_init_clock(limit, QEMU_CLOCK_REALTIME);
}

void ratelimit_destroy(RateLimit *limit)
{
    qemu_mutex_destroy(&limit->lock);
}

void ratelimit_set_speed(RateLimit *limit, uint64_t speed)
{
    const uint64_t per_second = NANOSECONDS_PER_SECOND / RATE_LIMIT_SLICE_NS;

    qemu_mutex_lock(&limit->lock);
    limit->speed = speed;
    limit->quota = speed ? MAX(speed / per_second, 1) : 0;
    qemu_mutex_unlock(&limit->lock);
}

/* When the slices are over that @dispatched units may take. */
static int64_t end_of_slices(const RateLimit *limit, uint64_t dispatched)
{
    uint64_t slices = dispatched / limit->quota;
    int64_t end_ns;

    slices = MAX(slices + (dispatched % limit->quota != 0), 1);
    if (slices > INT64_MAX / RATE_LIMIT_SLICE_NS ||
        __builtin_add_overflow(limit->slice_start_ns,
                               (int64_t)slices * RATE_LIMIT_SLICE_NS,
                               &end_ns)) {
        return INT64_MAX;
    }
    return end_ns;
}

int64_t ratelimit_calculate_delay(RateLimit *limit, uint64_t n)
{
    int64_t now_ns, delay_ns = 0;

    qemu_mutex_lock(&limit->lock);
    if (!limit->speed) {
        goto out;
    }
    now_ns = qemu_clock_get_ns(limit->clock);
    if (now_ns >= limit->slice_end_ns || now_ns < limit->slice_start_ns) {
        limit->slice_start_ns = now_ns;
        limit->dispatched = 0;
    }
    if (__builtin_add_overflow(limit->dispatched, n, &limit->dispatched)) {
        limit->dispatched = UINT64_MAX;
    }
    limit->slice_end_ns = end_of_slices(limit, limit->dispatched);
    if (limit->dispatched >= limit->quota) {
        delay_ns = limit->slice_end_ns - now_ns;
    }
out:
    qemu_mutex_unlock(&limit->lock);
    return delay_ns;
}
