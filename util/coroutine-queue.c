/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * CoQueue, the condition variable of coroutines. The queue has no lock of its
 * own: the caller's lock protects it. A waiter lives on the stack of the
 * coroutine that waits, and leaves the queue when it is woken, not when it
 * runs, so a wake is never given twice.
 */
#include "util/osdep.h"
#include "util/aio.h"
#include "util/lockable.h"
#include "coroutine-int.h"

struct CoQueueWaiter {
    QSIMPLEQ_ENTRY(CoQueueWaiter) next;
    Coroutine *co;
};
typedef struct CoQueueWaiter CoQueueWaiter;

void qemu_co_queue_init(CoQueue *queue)
{
    QSIMPLEQ_INIT(&queue->entries);
}

void coroutine_fn qemu_co_queue_wait_impl(CoQueue *queue, QemuLockable *lock,
                                          CoQueueWaitFlags flags)
{
    CoQueueWaiter w = { .co = qemu_coroutine_self() };

    assert(qemu_in_coroutine());
    if (flags & CO_QUEUE_WAIT_FRONT) {
        QSIMPLEQ_INSERT_HEAD(&queue->entries, &w, next);
    } else {
        QSIMPLEQ_INSERT_TAIL(&queue->entries, &w, next);
    }
    qemu_lockable_unlock(lock);
    qemu_coroutine_yield();
    /*
     * From here another coroutine may hold the lock and have changed what we
     * waited for: callers test again.
     */
    qemu_lockable_lock(lock);
}

bool qemu_co_queue_next(CoQueue *queue)
{
    CoQueueWaiter *w = QSIMPLEQ_FIRST(&queue->entries);

    if (!w) {
        return false;
    }
    QSIMPLEQ_REMOVE_HEAD(&queue->entries, next);
    aio_co_wake(w->co);
    return true;
}

void qemu_co_queue_restart_all(CoQueue *queue)
{
    /* Nobody comes back meanwhile: the caller holds the lock. */
    while (qemu_co_queue_next(queue)) {
        continue;
    }
}

bool qemu_co_queue_empty(CoQueue *queue)
{
    return QSIMPLEQ_EMPTY(&queue->entries);
}
