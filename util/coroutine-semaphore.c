/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Counting for coroutines: CoSemaphore (units to take), SharedResource (a
 * semaphore that knows its total), CoWaitGroup (pieces of work to end).
 *
 * Their mutexes are held for a few instructions and never across a yield.
 * Units are given to a waiter by whoever releases them: it wakes up owning
 * them, so a newcomer cannot take them in between.
 */
#include "util/osdep.h"
#include "util/aio.h"
#include "coroutine-int.h"

struct CoSemWaiter {
    QSIMPLEQ_ENTRY(CoSemWaiter) next;
    Coroutine *co;
    uint64_t n;
};
typedef struct CoSemWaiter CoSemWaiter;

void qemu_co_sem_init(CoSemaphore *sem, uint64_t units)
{
    qemu_mutex_init(&sem->lock);
    sem->available = units;
    QSIMPLEQ_INIT(&sem->waiters);
}

void qemu_co_sem_destroy(CoSemaphore *sem)
{
    assert(QSIMPLEQ_EMPTY(&sem->waiters));
    qemu_mutex_destroy(&sem->lock);
}

static bool try_acquire_locked(CoSemaphore *sem, uint64_t n)
{
    if (sem->available < n || !QSIMPLEQ_EMPTY(&sem->waiters)) {
        return false;
    }
    sem->available -= n;
    return true;
}

bool qemu_co_sem_try_acquire(CoSemaphore *sem, uint64_t n)
{
    bool taken;

    qemu_mutex_lock(&sem->lock);
    taken = try_acquire_locked(sem, n);
    qemu_mutex_unlock(&sem->lock);
    return taken;
}

void coroutine_fn qemu_co_sem_acquire(CoSemaphore *sem, uint64_t n)
{
    CoSemWaiter w = { .co = qemu_coroutine_self(), .n = n };

    assert(qemu_in_coroutine());
    qemu_mutex_lock(&sem->lock);
    if (try_acquire_locked(sem, n)) {
        qemu_mutex_unlock(&sem->lock);
        return;
    }
    QSIMPLEQ_INSERT_TAIL(&sem->waiters, &w, next);
    qemu_mutex_unlock(&sem->lock);
    qemu_coroutine_yield();
}

void qemu_co_sem_release(CoSemaphore *sem, uint64_t n)
{
    QSIMPLEQ_HEAD(, CoSemWaiter) granted =
        QSIMPLEQ_HEAD_INITIALIZER(granted);
    CoSemWaiter *w, *next;

    qemu_mutex_lock(&sem->lock);
    assert(n <= UINT64_MAX - sem->available);
    sem->available += n;
    while ((w = QSIMPLEQ_FIRST(&sem->waiters)) && w->n <= sem->available) {
        sem->available -= w->n;
        QSIMPLEQ_REMOVE_HEAD(&sem->waiters, next);
        QSIMPLEQ_INSERT_TAIL(&granted, w, next);
    }
    qemu_mutex_unlock(&sem->lock);

    QSIMPLEQ_FOREACH_SAFE(w, &granted, next, next) {
        aio_co_wake(w->co);
    }
}

struct SharedResource {
    CoSemaphore sem;
    uint64_t total;
};

SharedResource *shres_create(uint64_t total)
{
    SharedResource *s = g_new0(SharedResource, 1);

    assert(total > 0);
    qemu_co_sem_init(&s->sem, total);
    s->total = total;
    return s;
}

void shres_destroy(SharedResource *s)
{
    assert(s->sem.available == s->total);
    qemu_co_sem_destroy(&s->sem);
    g_free(s);
}

void coroutine_fn co_get_from_shres(SharedResource *s, uint64_t n)
{
    assert(n <= s->total);
    qemu_co_sem_acquire(&s->sem, n);
}

bool co_try_get_from_shres(SharedResource *s, uint64_t n)
{
    return qemu_co_sem_try_acquire(&s->sem, n);
}

void co_put_to_shres(SharedResource *s, uint64_t n)
{
    qemu_co_sem_release(&s->sem, n);
}

void qemu_co_wait_group_init(CoWaitGroup *wg)
{
    qemu_mutex_init(&wg->lock);
    wg->count = 0;
    wg->waiter = NULL;
}

void qemu_co_wait_group_destroy(CoWaitGroup *wg)
{
    assert(!wg->count && !wg->waiter);
    qemu_mutex_destroy(&wg->lock);
}

void qemu_co_wait_group_add(CoWaitGroup *wg, unsigned n)
{
    qemu_mutex_lock(&wg->lock);
    assert(n <= UINT_MAX - wg->count);
    wg->count += n;
    qemu_mutex_unlock(&wg->lock);
}

void qemu_co_wait_group_done(CoWaitGroup *wg)
{
    Coroutine *co = NULL;

    qemu_mutex_lock(&wg->lock);
    assert(wg->count > 0);
    if (--wg->count == 0) {
        co = wg->waiter;
        wg->waiter = NULL;
    }
    qemu_mutex_unlock(&wg->lock);
    if (co) {
        aio_co_wake(co);
    }
}

void coroutine_fn qemu_co_wait_group_wait(CoWaitGroup *wg)
{
    bool wait;

    assert(qemu_in_coroutine());
    /*
     * The lock also covers the last done(): it has let go of the group, which
     * the caller may free, once we get it.
     */
    qemu_mutex_lock(&wg->lock);
    assert(!wg->waiter);
    wait = wg->count > 0;
    if (wait) {
        wg->waiter = qemu_coroutine_self();
    }
    qemu_mutex_unlock(&wg->lock);
    if (wait) {
        qemu_coroutine_yield();
    }
}
