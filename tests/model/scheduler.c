/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The scheduler, and the functions of the event loop that it replaces.
 *
 * The list of what can run is in the order of the wakes. That order is itself
 * a result of earlier choices only, so a list of numbers repeats a run.
 */
#include "util/osdep.h"
#include "util/aio.h"
#include "util/thread-pool.h"
#include "arena.h"
#include "rng.h"
#include "scheduler.h"

#define MAX_RUNNABLE 4096

static bool on OUTSIDE_STATE;
static SchedPick *picker OUTSIDE_STATE;
static void *picker_opaque OUTSIDE_STATE;
static Coroutine *runnable[MAX_RUNNABLE] OUTSIDE_STATE;
static unsigned nr_runnable OUTSIDE_STATE;
static uint64_t steps OUTSIDE_STATE;
static char *record_buf OUTSIDE_STATE;
static size_t record_size OUTSIDE_STATE;
static uint32_t *record_count OUTSIDE_STATE;

void (*sched_deadlock)(void);
bool sched_yield_after_work = true;

/* ---------------------------------------------------------------- choices */

static const char digits[] =
    "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
QEMU_BUILD_BUG_ON(sizeof(digits) != SCHED_MAX_WIDTH + 1);

char sched_char(unsigned choice)
{
    assert(choice < SCHED_MAX_WIDTH);
    return digits[choice];
}

int sched_from_char(char c)
{
    const char *p = c ? strchr(digits, c) : NULL;

    return p ? p - digits : -1;
}

unsigned sched_pick_random(void *opaque, unsigned n)
{
    SchedRandom *r = opaque;
    Rng rng = { r->rng };
    unsigned choice;

    if (r->first && r->first[r->pos]) {
        choice = sched_from_char(r->first[r->pos++]);
        return choice % n;
    }
    choice = rng_below(&rng, n);
    r->rng = rng.state;
    return choice;
}

void sched_record(char *buf, size_t size, uint32_t *count)
{
    record_buf = buf;
    record_size = size;
    record_count = count;
    if (count) {
        *count = 0;
    }
}

unsigned sched_choose(unsigned n)
{
    unsigned choice;

    n = MIN(n, SCHED_MAX_WIDTH);
    if (n <= 1) {
        return 0;
    }
    choice = picker(picker_opaque, n);
    assert(choice < n);
    if (record_buf) {
        if (*record_count < record_size) {
            record_buf[*record_count] = sched_char(choice);
        }
        ++*record_count;
    }
    return choice;
}

/* ---------------------------------------------------------------- running */

void sched_start(SchedPick *pick, void *opaque)
{
    assert(nr_runnable == 0);
    on = true;
    picker = pick;
    picker_opaque = opaque;
    steps = 0;
    if (record_buf) {
        *record_count = 0;
    }
}

void sched_stop(void)
{
    assert(nr_runnable == 0);
    on = false;
}

unsigned sched_nr_runnable(void)
{
    return nr_runnable;
}

Coroutine *sched_runnable(unsigned i)
{
    assert(i < nr_runnable);
    return runnable[i];
}

uint64_t sched_steps(void)
{
    return steps;
}

void sched_add(Coroutine *co)
{
    for (unsigned i = 0; i < nr_runnable; i++) {
        if (runnable[i] == co) {
            fprintf(stderr, "coroutine is woken twice for one yield\n");
            abort();
        }
    }
    assert(nr_runnable < MAX_RUNNABLE);
    runnable[nr_runnable++] = co;
}

void sched_run(unsigned i)
{
    Coroutine *co = sched_runnable(i);

    memmove(runnable + i, runnable + i + 1,
            (nr_runnable - i - 1) * sizeof(runnable[0]));
    nr_runnable--;
    steps++;
    qemu_coroutine_enter(co);
}

void coroutine_fn sched_yield_point(void)
{
    sched_add(qemu_coroutine_self());
    qemu_coroutine_yield();
}

/* ----------------------------------------------- in place of the event loop */

bool __real_aio_poll(AioContext *ctx, bool blocking);
void __real_aio_co_wake(Coroutine *co);
void __real_aio_co_schedule(AioContext *ctx, Coroutine *co);
void __real_aio_co_enter(AioContext *ctx, Coroutine *co);
void coroutine_fn __real_qemu_co_yield_to_loop(void);
int coroutine_fn __real_thread_pool_submit_co(ThreadPoolFunc *func, void *arg);
int coroutine_fn __real_thread_pool_compute_co(ThreadPoolFunc *func, void *arg);
bool __wrap_aio_poll(AioContext *ctx, bool blocking);
void __wrap_aio_co_wake(Coroutine *co);
void __wrap_aio_co_schedule(AioContext *ctx, Coroutine *co);
void __wrap_aio_co_enter(AioContext *ctx, Coroutine *co);
void coroutine_fn __wrap_qemu_co_yield_to_loop(void);
int coroutine_fn __wrap_thread_pool_submit_co(ThreadPoolFunc *func, void *arg);
int coroutine_fn __wrap_thread_pool_compute_co(ThreadPoolFunc *func, void *arg);

bool __wrap_aio_poll(AioContext *ctx, bool blocking)
{
    if (!on) {
        return __real_aio_poll(ctx, blocking);
    }
    if (nr_runnable) {
        sched_run(sched_choose(nr_runnable));
        return true;
    }
    /* Bottom halves and what the loop itself has to do. */
    if (__real_aio_poll(ctx, false)) {
        return true;
    }
    if (blocking) {
        sched_deadlock();
    }
    return false;
}

void __wrap_aio_co_wake(Coroutine *co)
{
    if (on) {
        sched_add(co);
    } else {
        __real_aio_co_wake(co);
    }
}

void __wrap_aio_co_schedule(AioContext *ctx, Coroutine *co)
{
    if (on) {
        sched_add(co);
    } else {
        __real_aio_co_schedule(ctx, co);
    }
}

void __wrap_aio_co_enter(AioContext *ctx, Coroutine *co)
{
    if (on) {
        sched_add(co);
    } else {
        __real_aio_co_enter(ctx, co);
    }
}

void coroutine_fn __wrap_qemu_co_yield_to_loop(void)
{
    if (on) {
        sched_yield_point();
    } else {
        __real_qemu_co_yield_to_loop();
    }
}

static int coroutine_fn run_here(ThreadPoolFunc *func, void *arg)
{
    int ret;

    sched_yield_point();
    ret = func(arg);
    if (sched_yield_after_work) {
        sched_yield_point();
    }
    return ret;
}

int coroutine_fn __wrap_thread_pool_submit_co(ThreadPoolFunc *func, void *arg)
{
    return on ? run_here(func, arg) : __real_thread_pool_submit_co(func, arg);
}

int coroutine_fn __wrap_thread_pool_compute_co(ThreadPoolFunc *func, void *arg)
{
    return on ? run_here(func, arg) : __real_thread_pool_compute_co(func, arg);
}
