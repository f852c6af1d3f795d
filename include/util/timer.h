/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Clocks and timers. A timer belongs to the loop of one AioContext, and its
 * callback runs there, outside coroutines.
 *
 * Times are int64_t nanoseconds of the clock unless the timer was made with a
 * scale: timer_mod() counts in units of SCALE_*. Every function may be called
 * from any thread and from coroutines; only the sleeps yield.
 */
#ifndef UTIL_TIMER_H
#define UTIL_TIMER_H

#include "util/osdep.h"

#define NANOSECONDS_PER_SECOND 1000000000LL
#define SCALE_NS 1
#define SCALE_US 1000
#define SCALE_MS 1000000

typedef enum {
    QEMU_CLOCK_REALTIME, /* monotonic, since some point in the past */
    QEMU_CLOCK_VIRTUAL,  /* starts at 0, moves only by ..._virtual_step() */
    QEMU_CLOCK_HOST,     /* time of day since 1970, may jump */
    QEMU_CLOCK_MAX
} QEMUClockType;

typedef void QEMUTimerCB(void *opaque);

struct TimerGroup;

/* Callers may embed one; the fields are private to timer.c. */
struct QEMUTimer {
    /* Fixed by init */
    struct TimerGroup *group;
    QEMUTimerCB *cb;
    void *opaque;
    QEMUClockType type;
    int scale;
    /* Under the group's lock */
    int64_t expire_ns;   /* -1: not pending */
    uint64_t seq;        /* order among equal times */
    unsigned heap_index; /* valid while pending */
};

/* The clock's time in ns, in ms, in us. */
int64_t qemu_clock_get_ns(QEMUClockType type);
static inline int64_t qemu_clock_get_us(QEMUClockType type)
{
    return qemu_clock_get_ns(type) / SCALE_US;
}
static inline int64_t qemu_clock_get_ms(QEMUClockType type)
{
    return qemu_clock_get_ns(type) / SCALE_MS;
}
/* QEMU_CLOCK_REALTIME in ns. */
int64_t get_clock(void);

/*
 * Moves QEMU_CLOCK_VIRTUAL by @ns >= 0, stopping at every deadline on the way
 * so that a callback sees its own time. Timers of the calling thread's
 * context run before this returns, those of others soon after. Returns the
 * new time. From one thread at a time, outside coroutines.
 */
int64_t qemu_clock_virtual_step(int64_t ns);

/*
 * A timer, not pending, that calls @cb(@opaque) in @ctx. timer_free() it, or
 * with the embedded form timer_del() it, before @ctx goes away.
 */
QEMUTimer *aio_timer_new(AioContext *ctx, QEMUClockType type, int scale,
                         QEMUTimerCB *cb, void *opaque);
void aio_timer_init(AioContext *ctx, QEMUTimer *ts, QEMUClockType type,
                    int scale, QEMUTimerCB *cb, void *opaque);
/* In the main loop. */
QEMUTimer *timer_new_ns(QEMUClockType type, QEMUTimerCB *cb, void *opaque);
QEMUTimer *timer_new_us(QEMUClockType type, QEMUTimerCB *cb, void *opaque);
QEMUTimer *timer_new_ms(QEMUClockType type, QEMUTimerCB *cb, void *opaque);

/*
 * Makes it fire once at the given time of its clock, instead of any time set
 * before; a time in the past fires in the next turn of the loop.
 */
void timer_mod_ns(QEMUTimer *ts, int64_t expire_ns);
void timer_mod(QEMUTimer *ts, int64_t expire_scaled);
/* The same if that is earlier than what is set. */
void timer_mod_anticipate_ns(QEMUTimer *ts, int64_t expire_ns);
void timer_mod_anticipate(QEMUTimer *ts, int64_t expire_scaled);
/*
 * It does not fire until set again. In another thread than the timer's, a
 * callback that has begun may still be running afterwards.
 */
void timer_del(QEMUTimer *ts);
/* timer_del() and free. Accepts NULL. */
void timer_free(QEMUTimer *ts);

bool timer_pending(QEMUTimer *ts);
/* Pending and due at @now_ns. */
bool timer_expired(QEMUTimer *ts, int64_t now_ns);
/* -1 when not pending. */
int64_t timer_expire_time_ns(QEMUTimer *ts);

/* ----------------------------------------------------------------- sleeps */

/* Sleeps @ns; 0 or less yields for one turn of the loop. */
void coroutine_fn qemu_co_sleep_ns(QEMUClockType type, int64_t ns);

/*
 * A sleep that others may end: zero-initialise. The sleeper owns it and keeps
 * it alive as long as somebody may call wake.
 */
typedef struct QemuCoSleep {
    Coroutine *to_wake;
} QemuCoSleep;

/* Sleeps @ns, or shorter if woken. */
void coroutine_fn qemu_co_sleep_ns_wakeable(QemuCoSleep *w,
                                            QEMUClockType type, int64_t ns);
/* Sleeps until woken. */
void coroutine_fn qemu_co_sleep(QemuCoSleep *w);
/* Ends the sleep from any thread. Does nothing while nobody sleeps on @w. */
void qemu_co_sleep_wake(QemuCoSleep *w);

#endif /* UTIL_TIMER_H */
