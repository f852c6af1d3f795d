/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * CoMutex: one word, a stack of newcomers, and a queue that the holder owns.
 *
 *   state 0                 free
 *   state 1                 held, no newcomers
 *   state 1 | waiter        held; waiter is the newest of a chain of newcomers
 *
 * 1. While the mutex is held, only newcomers change state, by pushing
 *    themselves in front of the chain.
 * 2. fifo is touched by the holder only. When it is empty the holder takes
 *    the whole chain at once and turns it round: oldest first.
 * 3. Unlocking with waiters hands the mutex over: state stays held, so nobody
 *    can overtake, and the next holder is awake already or will be woken.
 *
 * A waiter lives on the stack of the coroutine that waits.
 */
#include "util/osdep.h"
#include "util/aio.h"
#include "util/atomic.h"
#include "coroutine-int.h"

#define HELD ((uintptr_t)1)

/*
 * Looks at a mutex that another thread holds before sleeping: a sleep with a
 * wake-up across threads costs several microseconds.
 */
#define SPINS 200

struct CoMutexWaiter {
    struct CoMutexWaiter *next;
    Coroutine *co;
};
typedef struct CoMutexWaiter CoMutexWaiter;

void qemu_co_mutex_init(CoMutex *mutex)
{
    memset(mutex, 0, sizeof(*mutex));
}

static bool try_take(CoMutex *mutex)
{
    uintptr_t unlocked = 0;

    return __atomic_compare_exchange_n(&mutex->state, &unlocked, HELD, false,
                                       __ATOMIC_ACQUIRE, __ATOMIC_RELAXED);
}

static void taken(CoMutex *mutex, Coroutine *self)
{
    qatomic_set(&mutex->holder, self);
    qatomic_set(&mutex->ctx, qatomic_read(&self->ctx));
    self->locks_held++;
}

/* Waits a little for a holder that runs in another thread at this moment. */
static bool spin(CoMutex *mutex, Coroutine *self)
{
    AioContext *here = qatomic_read(&self->ctx);

    for (int i = 0; i < SPINS; i++) {
        uintptr_t state = qatomic_read(&mutex->state);

        if (state == 0) {
            if (try_take(mutex)) {
                return true;
            }
        } else if (state != HELD || qatomic_read(&mutex->ctx) == here) {
            return false;
        }
        cpu_relax();
    }
    return false;
}

/* Yields until the holder hands over; returns at once if it is free. */
static void coroutine_fn wait_for_handover(CoMutex *mutex, Coroutine *self)
{
    CoMutexWaiter w = { .co = self };
    uintptr_t state = qatomic_read(&mutex->state);

    for (;;) {
        uintptr_t wanted;

        if (state == 0) {
            wanted = HELD;
        } else {
            w.next = (CoMutexWaiter *)(state & ~HELD);
            wanted = (uintptr_t)&w | HELD;
        }
        if (__atomic_compare_exchange_n(&mutex->state, &state, wanted, false,
                                        __ATOMIC_ACQ_REL, __ATOMIC_RELAXED)) {
            if (wanted != HELD) {
                qemu_coroutine_yield();
            }
            return;
        }
    }
}

void coroutine_fn qemu_co_mutex_lock(CoMutex *mutex)
{
    Coroutine *self = qemu_coroutine_self();

    assert(self->caller);
    if (!try_take(mutex)) {
        assert(qatomic_read(&mutex->holder) != self);
        if (!spin(mutex, self)) {
            wait_for_handover(mutex, self);
        }
    }
    taken(mutex, self);
}

bool coroutine_fn qemu_co_mutex_trylock(CoMutex *mutex)
{
    Coroutine *self = qemu_coroutine_self();

    assert(self->caller);
    if (!try_take(mutex)) {
        return false;
    }
    taken(mutex, self);
    return true;
}

/* Moves the newcomers, of whom there is at least one, to fifo. */
static void collect_newcomers(CoMutex *mutex)
{
    uintptr_t state =
        __atomic_exchange_n(&mutex->state, HELD, __ATOMIC_ACQUIRE);
    CoMutexWaiter *w = (CoMutexWaiter *)(state & ~HELD);

    while (w) {
        CoMutexWaiter *next = w->next;
        w->next = mutex->fifo;
        mutex->fifo = w;
        w = next;
    }
}

void coroutine_fn qemu_co_mutex_unlock(CoMutex *mutex)
{
    Coroutine *self = qemu_coroutine_self();
    CoMutexWaiter *w;
    Coroutine *co;

    assert(qatomic_read(&mutex->holder) == self);
    qatomic_set(&mutex->holder, NULL);
    qatomic_set(&mutex->ctx, NULL);
    self->locks_held--;

    if (!mutex->fifo) {
        uintptr_t held = HELD;

        if (__atomic_compare_exchange_n(&mutex->state, &held, 0, false,
                                        __ATOMIC_RELEASE, __ATOMIC_RELAXED)) {
            return;
        }
        collect_newcomers(mutex);
    }
    w = mutex->fifo;
    mutex->fifo = w->next;
    co = w->co;
    /* So that nobody of its thread waits actively for what it has to do. */
    qatomic_set(&mutex->ctx, qatomic_read(&co->ctx));
    /* From here on the mutex belongs to co, and w is gone. */
    aio_co_wake(co);
}

void coroutine_fn qemu_co_mutex_assert_locked(CoMutex *mutex)
{
    assert(qatomic_read(&mutex->state) & HELD);
    assert(qatomic_read(&mutex->holder) == qemu_coroutine_self());
}
