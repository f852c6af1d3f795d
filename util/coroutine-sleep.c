/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Coroutines that wait for a time, or for somebody to end the wait. */
#include "util/osdep.h"
#include "util/aio.h"
#include "util/atomic.h"
#include "util/timer.h"

void qemu_co_sleep_wake(QemuCoSleep *w)
{
    /* Timer and others may come at once: exactly one gets the coroutine. */
    Coroutine *co = qatomic_xchg(&w->to_wake, NULL);

    if (co) {
        aio_co_wake(co);
    }
}

void coroutine_fn qemu_co_sleep(QemuCoSleep *w)
{
    Coroutine *before = qatomic_xchg(&w->to_wake, qemu_coroutine_self());

    assert(!before && qemu_in_coroutine());
    qemu_coroutine_yield();
}

static void sleep_over(void *opaque)
{
    qemu_co_sleep_wake(opaque);
}

void coroutine_fn qemu_co_sleep_ns_wakeable(QemuCoSleep *w,
                                            QEMUClockType type, int64_t ns)
{
    AioContext *ctx = qemu_get_current_aio_context();
    QEMUTimer ts;
    int64_t until_ns;

    if (ns <= 0) {
        qemu_co_yield_to_loop();
        return;
    }
    if (__builtin_add_overflow(qemu_clock_get_ns(type), ns, &until_ns)) {
        until_ns = INT64_MAX;
    }
    aio_timer_init(ctx, &ts, type, SCALE_NS, sleep_over, w);
    /* It fires in this thread, so not before we have yielded. */
    timer_mod_ns(&ts, until_ns);
    qemu_co_sleep(w);
    timer_del(&ts);
}

void coroutine_fn qemu_co_sleep_ns(QEMUClockType type, int64_t ns)
{
    QemuCoSleep w = { 0 };

    qemu_co_sleep_ns_wakeable(&w, type, ns);
}
