/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Clocks and timers.
 *
 * 1. A pending timer is in exactly one heap, ordered by time and, for equal
 *    times, by the order in which they were set.
 * 2. A time that has passed counts as the time of the heap's last run, so a
 *    timer that always asks for the past cannot keep others from firing.
 * 3. Callbacks run without the lock, in the thread of the group's context.
 *
 * Lock order: all_groups.lock, then TimerGroup.lock.
 */
#include "util/osdep.h"
#include "util/aio.h"
#include "util/atomic.h"
#include "util/timer.h"
#include "timer-int.h"

static struct {
    QemuMutex lock;
    QLIST_HEAD(, TimerGroup) list;
} all_groups = { .lock = QEMU_MUTEX_INITIALIZER };

/* Atomic */
static int64_t virtual_now_ns;

/* ------------------------------------------------------------------ clocks */

static int64_t read_clock(clockid_t id)
{
    struct timespec ts;

    clock_gettime(id, &ts);
    return ts.tv_sec * NANOSECONDS_PER_SECOND + ts.tv_nsec;
}

int64_t get_clock(void)
{
    return read_clock(CLOCK_MONOTONIC);
}

int64_t qemu_clock_get_ns(QEMUClockType type)
{
    switch (type) {
    case QEMU_CLOCK_REALTIME:
        return get_clock();
    case QEMU_CLOCK_HOST:
        return read_clock(CLOCK_REALTIME);
    case QEMU_CLOCK_VIRTUAL:
        return qatomic_load_seq_cst(&virtual_now_ns);
    default:
        abort();
    }
}

/* -------------------------------------------------------------------- heap */

static bool fires_before(const QEMUTimer *a, const QEMUTimer *b)
{
    return a->expire_ns != b->expire_ns ? a->expire_ns < b->expire_ns
                                        : a->seq < b->seq;
}

static void heap_put(TimerHeap *h, unsigned i, QEMUTimer *ts)
{
    h->timers[i] = ts;
    ts->heap_index = i;
}

/* Moves the timer at @i towards the root or the leaves until in order. */
static void heap_settle(TimerHeap *h, unsigned i)
{
    QEMUTimer *ts = h->timers[i];

    while (i > 0 && fires_before(ts, h->timers[(i - 1) / 2])) {
        heap_put(h, i, h->timers[(i - 1) / 2]);
        i = (i - 1) / 2;
    }
    for (;;) {
        unsigned child = 2 * i + 1;

        if (child + 1 < h->nr &&
            fires_before(h->timers[child + 1], h->timers[child])) {
            child++;
        }
        if (child >= h->nr || !fires_before(h->timers[child], ts)) {
            break;
        }
        heap_put(h, i, h->timers[child]);
        i = child;
    }
    heap_put(h, i, ts);
}

static void heap_update_deadline(TimerHeap *h)
{
    qatomic_set(&h->deadline_ns, h->nr ? h->timers[0]->expire_ns : INT64_MAX);
}

static void heap_insert(TimerHeap *h, QEMUTimer *ts)
{
    if (h->nr == h->allocated) {
        h->allocated = h->allocated ? 2 * h->allocated : 16;
        h->timers = g_renew(QEMUTimer *, h->timers, h->allocated);
    }
    heap_put(h, h->nr++, ts);
    heap_settle(h, ts->heap_index);
    heap_update_deadline(h);
}

static void heap_remove(TimerHeap *h, QEMUTimer *ts)
{
    unsigned i = ts->heap_index;
    QEMUTimer *last = h->timers[--h->nr];

    assert(h->timers[i] == ts || i == h->nr);
    if (last != ts) {
        heap_put(h, i, last);
        heap_settle(h, i);
    }
    ts->expire_ns = -1;
    heap_update_deadline(h);
}

/* ------------------------------------------------------------------- group */

void timer_group_init(TimerGroup *group, AioContext *ctx)
{
    memset(group, 0, sizeof(*group));
    group->ctx = ctx;
    qemu_mutex_init(&group->lock);
    for (int i = 0; i < QEMU_CLOCK_MAX; i++) {
        group->heap[i].deadline_ns = INT64_MAX;
    }
    qemu_mutex_lock(&all_groups.lock);
    QLIST_INSERT_HEAD(&all_groups.list, group, all);
    qemu_mutex_unlock(&all_groups.lock);
}

void timer_group_destroy(TimerGroup *group)
{
    qemu_mutex_lock(&all_groups.lock);
    QLIST_REMOVE(group, all);
    qemu_mutex_unlock(&all_groups.lock);
    for (int i = 0; i < QEMU_CLOCK_MAX; i++) {
        assert(group->heap[i].nr == 0);
        g_free(group->heap[i].timers);
    }
    qemu_mutex_destroy(&group->lock);
}

/* How often to look whether the time of day has jumped. */
#define HOST_CLOCK_CHECK_NS NANOSECONDS_PER_SECOND

int64_t timer_group_timeout_ns(TimerGroup *group)
{
    int64_t timeout = -1;

    for (int type = 0; type < QEMU_CLOCK_MAX; type++) {
        int64_t deadline = qatomic_load_seq_cst(&group->heap[type].deadline_ns);
        int64_t left;

        if (deadline == INT64_MAX) {
            continue;
        }
        left = MAX(deadline - qemu_clock_get_ns(type), 0);
        if (type == QEMU_CLOCK_VIRTUAL && left > 0) {
            continue; /* whoever moves the clock notifies us */
        }
        if (type == QEMU_CLOCK_HOST) {
            left = MIN(left, HOST_CLOCK_CHECK_NS);
        }
        timeout = timeout < 0 ? left : MIN(timeout, left);
    }
    return timeout;
}

static QEMUTimer *take_due(TimerGroup *group, TimerHeap *h, int64_t now_ns,
                           QEMUTimerCB **cb, void **opaque)
{
    QEMUTimer *ts;

    qemu_mutex_lock(&group->lock);
    ts = h->nr ? h->timers[0] : NULL;
    if (ts && ts->expire_ns > now_ns) {
        ts = NULL;
    }
    if (ts) {
        heap_remove(h, ts);
        *cb = ts->cb;
        *opaque = ts->opaque;
    }
    qemu_mutex_unlock(&group->lock);
    return ts;
}

static bool heap_run(TimerGroup *group, QEMUClockType type)
{
    TimerHeap *h = &group->heap[type];
    int64_t now_ns;
    unsigned budget;
    bool progress = false;
    QEMUTimerCB *cb;
    void *opaque;

    if (qatomic_read(&h->deadline_ns) == INT64_MAX) {
        return false;
    }
    now_ns = qemu_clock_get_ns(type);
    if (qatomic_read(&h->deadline_ns) > now_ns) {
        return false;
    }
    qemu_mutex_lock(&group->lock);
    h->last_run_ns = now_ns;
    budget = h->nr;
    qemu_mutex_unlock(&group->lock);

    while (budget-- > 0 && take_due(group, h, now_ns, &cb, &opaque)) {
        progress = true;
        cb(opaque);
    }
    return progress;
}

bool timer_group_run(TimerGroup *group)
{
    bool progress = false;

    for (int type = 0; type < QEMU_CLOCK_MAX; type++) {
        progress |= heap_run(group, type);
    }
    return progress;
}

/* ------------------------------------------------------------------ timers */

void aio_timer_init(AioContext *ctx, QEMUTimer *ts, QEMUClockType type,
                    int scale, QEMUTimerCB *cb, void *opaque)
{
    assert(type < QEMU_CLOCK_MAX && scale > 0);
    *ts = (QEMUTimer){
        .group = aio_timer_group(ctx),
        .cb = cb,
        .opaque = opaque,
        .type = type,
        .scale = scale,
        .expire_ns = -1,
    };
}

QEMUTimer *aio_timer_new(AioContext *ctx, QEMUClockType type, int scale,
                         QEMUTimerCB *cb, void *opaque)
{
    QEMUTimer *ts = g_new(QEMUTimer, 1);

    aio_timer_init(ctx, ts, type, scale, cb, opaque);
    return ts;
}

QEMUTimer *timer_new_ns(QEMUClockType type, QEMUTimerCB *cb, void *opaque)
{
    return aio_timer_new(qemu_get_aio_context(), type, SCALE_NS, cb, opaque);
}

QEMUTimer *timer_new_us(QEMUClockType type, QEMUTimerCB *cb, void *opaque)
{
    return aio_timer_new(qemu_get_aio_context(), type, SCALE_US, cb, opaque);
}

QEMUTimer *timer_new_ms(QEMUClockType type, QEMUTimerCB *cb, void *opaque)
{
    return aio_timer_new(qemu_get_aio_context(), type, SCALE_MS, cb, opaque);
}

static void set_timer(QEMUTimer *ts, int64_t expire_ns, bool only_earlier)
{
    TimerGroup *group = ts->group;
    TimerHeap *h = &group->heap[ts->type];
    bool first = false;

    qemu_mutex_lock(&group->lock);
    expire_ns = MAX(expire_ns, h->last_run_ns);
    if (!only_earlier || ts->expire_ns < 0 || expire_ns < ts->expire_ns) {
        if (ts->expire_ns >= 0) {
            heap_remove(h, ts);
        }
        ts->expire_ns = expire_ns;
        ts->seq = group->next_seq++;
        heap_insert(h, ts);
        first = h->timers[0] == ts;
    }
    qemu_mutex_unlock(&group->lock);

    if (first && group->ctx != qemu_get_current_aio_context()) {
        aio_notify(group->ctx);
    }
}

static int64_t scaled_to_ns(const QEMUTimer *ts, int64_t t)
{
    int64_t ns;

    return __builtin_mul_overflow(t, ts->scale, &ns) ? INT64_MAX - 1 : ns;
}

void timer_mod_ns(QEMUTimer *ts, int64_t expire_ns)
{
    set_timer(ts, expire_ns, false);
}

void timer_mod(QEMUTimer *ts, int64_t expire_scaled)
{
    set_timer(ts, scaled_to_ns(ts, expire_scaled), false);
}

void timer_mod_anticipate_ns(QEMUTimer *ts, int64_t expire_ns)
{
    set_timer(ts, expire_ns, true);
}

void timer_mod_anticipate(QEMUTimer *ts, int64_t expire_scaled)
{
    set_timer(ts, scaled_to_ns(ts, expire_scaled), true);
}

void timer_del(QEMUTimer *ts)
{
    TimerGroup *group = ts->group;

    qemu_mutex_lock(&group->lock);
    if (ts->expire_ns >= 0) {
        heap_remove(&group->heap[ts->type], ts);
    }
    qemu_mutex_unlock(&group->lock);
}

void timer_free(QEMUTimer *ts)
{
    if (ts) {
        timer_del(ts);
        g_free(ts);
    }
}

int64_t timer_expire_time_ns(QEMUTimer *ts)
{
    int64_t ret;

    qemu_mutex_lock(&ts->group->lock);
    ret = ts->expire_ns;
    qemu_mutex_unlock(&ts->group->lock);
    return ret;
}

bool timer_pending(QEMUTimer *ts)
{
    return timer_expire_time_ns(ts) >= 0;
}

bool timer_expired(QEMUTimer *ts, int64_t now_ns)
{
    int64_t expire_ns = timer_expire_time_ns(ts);

    return expire_ns >= 0 && expire_ns <= now_ns;
}

/* ----------------------------------------------------------- virtual clock */

/*
 * The next deadline after @now_ns in any context, INT64_MAX if there is none.
 * Earlier ones belong to threads that have not seen the time yet.
 */
static int64_t next_virtual_deadline(int64_t now_ns)
{
    int64_t ret = INT64_MAX;
    TimerGroup *group;

    qemu_mutex_lock(&all_groups.lock);
    QLIST_FOREACH(group, &all_groups.list, all) {
        int64_t deadline =
            qatomic_read(&group->heap[QEMU_CLOCK_VIRTUAL].deadline_ns);
        if (deadline > now_ns) {
            ret = MIN(ret, deadline);
        }
    }
    qemu_mutex_unlock(&all_groups.lock);
    return ret;
}

static void set_virtual_now(int64_t now_ns)
{
    AioContext *self = qemu_get_current_aio_context();
    TimerGroup *group;

    qatomic_xchg(&virtual_now_ns, now_ns);
    qemu_mutex_lock(&all_groups.lock);
    QLIST_FOREACH(group, &all_groups.list, all) {
        if (group->ctx != self) {
            aio_notify(group->ctx);
        }
    }
    qemu_mutex_unlock(&all_groups.lock);
    if (self) {
        heap_run(aio_timer_group(self), QEMU_CLOCK_VIRTUAL);
    }
}

int64_t qemu_clock_virtual_step(int64_t ns)
{
    int64_t now_ns = qemu_clock_get_ns(QEMU_CLOCK_VIRTUAL);
    int64_t target_ns = now_ns + ns;
    int64_t deadline_ns;

    assert(ns >= 0 && target_ns >= now_ns && !qemu_in_coroutine());
    while ((deadline_ns = next_virtual_deadline(now_ns)) < target_ns) {
        now_ns = deadline_ns;
        set_virtual_now(now_ns);
    }
    set_virtual_now(target_ns);
    return target_ns;
}
