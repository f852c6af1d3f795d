/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * CoRwlock: a word for the case that nobody waits, and a queue under a mutex
 * for the case that somebody does.
 *
 * 1. Without QUEUED, state changes by compare and exchange alone.
 * 2. QUEUED is set and cleared under lock. While it is set, state changes
 *    under lock only, so who holds lock sees a state that stands still.
 * 3. Whoever gives up a side with QUEUED set grants the lock to the head of
 *    the queue as far as possible; who waits wakes up as the owner. QUEUED
 *    goes when the queue is empty.
 *
 * lock is held for a few instructions and never across a yield.
 */
#include "util/osdep.h"
#include "util/aio.h"
#include "util/atomic.h"
#include "coroutine-int.h"

#define WRITER 1u
#define QUEUED 2u
#define READER 4u /* one reader */

struct CoRwWaiter {
    QSIMPLEQ_ENTRY(CoRwWaiter) next;
    Coroutine *co;
    bool writer;
};
typedef struct CoRwWaiter CoRwWaiter;

void qemu_co_rwlock_init(CoRwlock *lock)
{
    lock->state = 0;
    qemu_mutex_init(&lock->lock);
    QSIMPLEQ_INIT(&lock->waiters);
}

void qemu_co_rwlock_destroy(CoRwlock *lock)
{
    assert(lock->state == 0);
    qemu_mutex_destroy(&lock->lock);
}

static bool may_enter(uint32_t state, bool writer)
{
    return writer ? state < READER && !(state & WRITER) : !(state & WRITER);
}

static uint32_t side(bool writer)
{
    return writer ? WRITER : READER;
}

/* Replaces @old by @new unless @old is out of date; updates @old then. */
static bool change(CoRwlock *lock, uint32_t *old, uint32_t new)
{
    return __atomic_compare_exchange_n(&lock->state, old, new, false,
                                       __ATOMIC_ACQ_REL, __ATOMIC_RELAXED);
}

static bool enter_fast(CoRwlock *lock, bool writer)
{
    uint32_t state = qatomic_read(&lock->state);

    while (!(state & QUEUED) && may_enter(state, writer)) {
        if (change(lock, &state, state + side(writer))) {
            return true;
        }
    }
    return false;
}

/* Queued and locked: lets in whoever is next. Drops the mutex. */
static void grant_and_unlock(CoRwlock *lock)
{
    QSIMPLEQ_HEAD(, CoRwWaiter) granted =
        QSIMPLEQ_HEAD_INITIALIZER(granted);
    uint32_t state = qatomic_read(&lock->state);
    CoRwWaiter *w, *next;

    while ((w = QSIMPLEQ_FIRST(&lock->waiters)) &&
           may_enter(state, w->writer)) {
        QSIMPLEQ_REMOVE_HEAD(&lock->waiters, next);
        QSIMPLEQ_INSERT_TAIL(&granted, w, next);
        state += side(w->writer);
    }
    if (QSIMPLEQ_EMPTY(&lock->waiters)) {
        state &= ~QUEUED;
    }
    qatomic_store_release(&lock->state, state);
    qemu_mutex_unlock(&lock->lock);

    /*
     * All of granted own the lock, and one that we wake may let it go and
     * free it: neither lock nor a woken w may be touched here.
     */
    QSIMPLEQ_FOREACH_SAFE(w, &granted, next, next) {
        aio_co_wake(w->co);
    }
}

/*
 * Gives up @release (0: nothing) and waits as the last in the queue, or
 * enters if it turns out that the way is free.
 */
static void coroutine_fn enter_slow(CoRwlock *lock, bool writer,
                                    uint32_t release)
{
    CoRwWaiter w = { .co = qemu_coroutine_self(), .writer = writer };

    qemu_mutex_lock(&lock->lock);
    qatomic_fetch_or(&lock->state, QUEUED);
    qatomic_sub(&lock->state, release);
    QSIMPLEQ_INSERT_TAIL(&lock->waiters, &w, next);
    /* This may grant and wake ourselves: a wake may precede the yield. */
    grant_and_unlock(lock);
    qemu_coroutine_yield();
}

void coroutine_fn qemu_co_rwlock_rdlock(CoRwlock *lock)
{
    if (!enter_fast(lock, false)) {
        enter_slow(lock, false, 0);
    }
    qemu_coroutine_self()->locks_held++;
}

void coroutine_fn qemu_co_rwlock_wrlock(CoRwlock *lock)
{
    if (!enter_fast(lock, true)) {
        enter_slow(lock, true, 0);
    }
    qemu_coroutine_self()->locks_held++;
}

void coroutine_fn qemu_co_rwlock_unlock(CoRwlock *lock)
{
    uint32_t state = qatomic_read(&lock->state);

    assert(state & ~QUEUED);
    qemu_coroutine_self()->locks_held--;
    while (!(state & QUEUED)) {
        if (change(lock, &state, state - side(state & WRITER))) {
            return;
        }
    }
    qemu_mutex_lock(&lock->lock);
    state = qatomic_read(&lock->state);
    if (state & QUEUED) {
        qatomic_sub(&lock->state, side(state & WRITER));
        grant_and_unlock(lock);
        return;
    }
    /* The last waiter was served in between; no other comes under lock. */
    while (!change(lock, &state, state - side(state & WRITER))) {
        cpu_relax();
    }
    qemu_mutex_unlock(&lock->lock);
}

void coroutine_fn qemu_co_rwlock_upgrade(CoRwlock *lock)
{
    uint32_t state = READER;

    assert(qatomic_read(&lock->state) >= READER);
    if (!change(lock, &state, WRITER)) {
        enter_slow(lock, true, READER);
    }
}

void coroutine_fn qemu_co_rwlock_downgrade(CoRwlock *lock)
{
    uint32_t state = WRITER;

    assert(qatomic_read(&lock->state) & WRITER);
    if (change(lock, &state, READER)) {
        return;
    }
    qemu_mutex_lock(&lock->lock);
    /* The only holder: the state cannot have become anything else. */
    state = WRITER;
    if (change(lock, &state, READER)) {
        qemu_mutex_unlock(&lock->lock);
        return;
    }
    qatomic_add(&lock->state, READER - WRITER);
    grant_and_unlock(lock);
}
