/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Main work: a queue whose items run one at a time although each may poll the
 * loop that runs them.
 */
#include "util/osdep.h"
#include "util/main-work.h"

typedef struct MainWork {
    QEMUBHFunc *fn;
    void *opaque;
    QSIMPLEQ_ENTRY(MainWork) next;
} MainWork;

static QSIMPLEQ_HEAD(, MainWork) queue = QSIMPLEQ_HEAD_INITIALIZER(queue);
static bool running;
static bool held;
/* A bottom half is on its way. */
static bool kicked;

static void kick(void);

static void run_next(void *opaque)
{
    MainWork *work = QSIMPLEQ_FIRST(&queue);

    kicked = false;
    if (running || !work) {
        return;
    }
    QSIMPLEQ_REMOVE_HEAD(&queue, next);
    running = true;
    work->fn(work->opaque);
    g_free(work);
    if (!held) {
        running = false;
        kick();
    }
}

static void kick(void)
{
    if (!running && !kicked && !QSIMPLEQ_EMPTY(&queue)) {
        kicked = true;
        aio_bh_schedule_oneshot(qemu_get_aio_context(), run_next, NULL);
    }
}

void main_work_schedule(QEMUBHFunc *fn, void *opaque)
{
    MainWork *work = g_new(MainWork, 1);

    GLOBAL_STATE_CODE();
    *work = (MainWork) { .fn = fn, .opaque = opaque };
    QSIMPLEQ_INSERT_TAIL(&queue, work, next);
    kick();
}

void main_work_hold(void)
{
    assert(running && !held);
    held = true;
}

void main_work_release(void)
{
    assert(running && held);
    held = running = false;
    kick();
}

bool main_work_busy(void)
{
    return running;
}

typedef struct MainCall {
    Coroutine *co;
    int (*fn)(void *opaque);
    void *opaque;
    int ret;
} MainCall;

static void main_call(void *opaque)
{
    MainCall *call = opaque;

    call->ret = call->fn(call->opaque);
    aio_co_wake(call->co);
}

int coroutine_fn main_work_run_co(int (*fn)(void *opaque), void *opaque)
{
    MainCall call = { qemu_coroutine_self(), fn, opaque, 0 };

    main_work_schedule(main_call, &call);
    qemu_coroutine_yield();
    return call.ret;
}
