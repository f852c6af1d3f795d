/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Coroutines: functions with a stack of their own that can stop in the middle
 * (yield) and go on later.
 *
 * Rules for everything here
 *  1. A coroutine runs in the AioContext of the thread that entered it, and is
 *     woken there again: aio_co_wake() (util/aio.h) from any thread. Only the
 *     coroutine itself can move to another loop (aio_co_reschedule_self()).
 *  2. Waking is not entering: a wake queues the coroutine for its loop. It may
 *     come before the coroutine has yielded, and it never recurses.
 *  3. One wake per yield. Two wakes for one yield abort the program.
 *  4. A coroutine must hold no coroutine lock when it ends.
 *  5. After a yield the code may run in another thread: do not keep addresses
 *     of thread-local variables across one.
 *  6. Stacks are COROUTINE_STACK_SIZE bytes with a guard page below: running
 *     out is a SIGSEGV, never silent. Large buffers belong on the heap.
 *
 * Functions marked coroutine_fn need a coroutine and may yield; the others may
 * be called from any thread and do not yield. Nothing here fails except for
 * lack of memory, which aborts.
 */
#ifndef UTIL_COROUTINE_H
#define UTIL_COROUTINE_H

#include "util/osdep.h"
#include "util/queue.h"
#include "util/thread.h"

typedef void coroutine_fn CoroutineEntry(void *opaque);

/*
 * A coroutine that will run @entry(@opaque) when first entered; it frees
 * itself when @entry returns. One that is never entered leaks.
 */
Coroutine *qemu_coroutine_create(CoroutineEntry *entry, void *opaque);

/*
 * Runs @co in the current thread until it yields or ends. May be called from
 * a coroutine, which goes on afterwards. @co must not be running, and nobody
 * may have scheduled a wake for it: code that answers an event uses
 * aio_co_wake().
 */
void qemu_coroutine_enter(Coroutine *co);
/* The same with @ctx, the current thread's context, already known. */
void qemu_aio_coroutine_enter(AioContext *ctx, Coroutine *co);
/* Enters @co unless it is running or has entered the running coroutine. */
void qemu_coroutine_enter_if_inactive(Coroutine *co);

/* Back to whoever entered this coroutine. */
void coroutine_fn qemu_coroutine_yield(void);

/*
 * The running coroutine. Outside coroutines, a placeholder for the thread:
 * comparable, but it can neither yield nor be entered.
 */
Coroutine *qemu_coroutine_self(void);
bool qemu_in_coroutine(void);
/* True from enter to yield or end, also while @co waits for one it entered. */
bool qemu_coroutine_entered(Coroutine *co);
/* The context in which @co last ran or is scheduled, NULL before that. */
AioContext *qemu_coroutine_get_aio_context(Coroutine *co);

/* Counts for tests: stacks ever mapped by this process. */
unsigned qemu_coroutine_stacks_mapped(void);
/* Usable bytes of each stack. */
size_t qemu_coroutine_stack_size(void);

/* ------------------------------------------------------------------ locks */

/*
 * Mutual exclusion between coroutines in any threads; whoever waited longest
 * gets the lock next. Free and uncontended: one atomic operation each way.
 * Zero-initialised is also valid.
 */
typedef struct CoMutex {
    /* 0 free; else bit 0 set and the rest points to the newest waiter */
    uintptr_t state;
    /* Waiters, oldest first; belongs to the holder */
    struct CoMutexWaiter *fifo;
    /* The rest is written by the holder only */
    Coroutine *holder;
    AioContext *ctx;
} CoMutex;

void qemu_co_mutex_init(CoMutex *mutex);
void coroutine_fn qemu_co_mutex_lock(CoMutex *mutex);
/* Never yields. True if taken. */
bool coroutine_fn qemu_co_mutex_trylock(CoMutex *mutex);
/* By the coroutine that locked. Never yields. */
void coroutine_fn qemu_co_mutex_unlock(CoMutex *mutex);
/* Aborts unless the running coroutine holds @mutex. */
void coroutine_fn qemu_co_mutex_assert_locked(CoMutex *mutex);

/*
 * Condition variable, for a coroutine that holds a lock (CoMutex or
 * QemuMutex) protecting both the queue and the condition. First come, first
 * woken. Test the condition in a loop.
 */
struct CoQueueWaiter;
typedef struct CoQueue {
    QSIMPLEQ_HEAD(, CoQueueWaiter) entries;
} CoQueue;

typedef enum {
    /* Wait in front of all others (one that was woken but must wait again) */
    CO_QUEUE_WAIT_FRONT = 1,
} CoQueueWaitFlags;

struct QemuLockable;
void qemu_co_queue_init(CoQueue *queue);
void coroutine_fn qemu_co_queue_wait_impl(CoQueue *queue,
                                          struct QemuLockable *lock,
                                          CoQueueWaitFlags flags);
/*
 * Releases @lock, sleeps until woken, takes @lock again. @lock is a CoMutex *,
 * QemuMutex *, or NULL when all users of the queue run in one thread.
 * Users include "util/lockable.h".
 */
#define qemu_co_queue_wait(queue, lock)                                     \
    qemu_co_queue_wait_flags(queue, lock, 0)
#define qemu_co_queue_wait_flags(queue, lock, flags)                        \
    do {                                                                    \
        QemuLockable cqw_lockable_ = QEMU_MAKE_LOCKABLE(lock);              \
        qemu_co_queue_wait_impl(queue, &cqw_lockable_, flags);              \
    } while (0)
/* Wakes the first waiter; false if there is none. Caller holds the lock. */
bool qemu_co_queue_next(CoQueue *queue);
/* Wakes all that wait at this moment. Caller holds the lock. */
void qemu_co_queue_restart_all(CoQueue *queue);
bool qemu_co_queue_empty(CoQueue *queue);

/*
 * Many readers or one writer, coroutines in any threads. Strictly first come,
 * first served: a reader that comes after a waiting writer waits for it.
 * Uncontended: one atomic operation each way. Needs init and destroy.
 */
struct CoRwWaiter;
typedef struct CoRwlock {
    /* bit 0 writer, bit 1 somebody waits, the rest counts readers */
    uint32_t state;
    QemuMutex lock; /* protects waiters, and state while bit 1 is set */
    QSIMPLEQ_HEAD(, CoRwWaiter) waiters;
} CoRwlock;

void qemu_co_rwlock_init(CoRwlock *lock);
/* Free, and every unlock has returned. */
void qemu_co_rwlock_destroy(CoRwlock *lock);
void coroutine_fn qemu_co_rwlock_rdlock(CoRwlock *lock);
void coroutine_fn qemu_co_rwlock_wrlock(CoRwlock *lock);
/* Releases either side. Never yields. */
void coroutine_fn qemu_co_rwlock_unlock(CoRwlock *lock);
/*
 * Reader to writer. Unless it is the only reader and nobody waits, it gives
 * up its read side and queues as a writer: other writers may run in between,
 * so look again at what was read.
 */
void coroutine_fn qemu_co_rwlock_upgrade(CoRwlock *lock);
/* Writer to reader, letting in the readers at the head of the queue. */
void coroutine_fn qemu_co_rwlock_downgrade(CoRwlock *lock);

/*
 * Counting semaphore in units: a coroutine takes n of the free ones or waits,
 * strictly first come, first served (a small request does not overtake a
 * large one). Any threads. Needs init and destroy.
 */
struct CoSemWaiter;
typedef struct CoSemaphore {
    QemuMutex lock;
    uint64_t available;
    QSIMPLEQ_HEAD(, CoSemWaiter) waiters;
} CoSemaphore;

void qemu_co_sem_init(CoSemaphore *sem, uint64_t units);
/* Nobody waits. */
void qemu_co_sem_destroy(CoSemaphore *sem);
void coroutine_fn qemu_co_sem_acquire(CoSemaphore *sem, uint64_t n);
/* Never yields. True if taken. */
bool qemu_co_sem_try_acquire(CoSemaphore *sem, uint64_t n);
/* Never yields; also outside coroutines. */
void qemu_co_sem_release(CoSemaphore *sem, uint64_t n);

/* A limited amount of something (memory for example), shared by coroutines. */
typedef struct SharedResource SharedResource;
/* @total > 0 units, all free. Destroy when all of them are back. */
SharedResource *shres_create(uint64_t total);
void shres_destroy(SharedResource *s);
/* Take @n (0 to total) units: wait for them, or try (true if taken). */
void coroutine_fn co_get_from_shres(SharedResource *s, uint64_t n);
bool co_try_get_from_shres(SharedResource *s, uint64_t n);
/* Give @n units back. Never yields; also outside coroutines. */
void co_put_to_shres(SharedResource *s, uint64_t n);

/*
 * Waits for a number of pieces of work to end, in any threads. Reusable once
 * the wait returned. At most one coroutine waits at a time. The group may be
 * freed as soon as the wait returned.
 */
typedef struct CoWaitGroup {
    QemuMutex lock;
    unsigned count;
    Coroutine *waiter;
} CoWaitGroup;

void qemu_co_wait_group_init(CoWaitGroup *wg);
void qemu_co_wait_group_destroy(CoWaitGroup *wg);
/* @n pieces more; before they start. */
void qemu_co_wait_group_add(CoWaitGroup *wg, unsigned n);
/* One piece less. Never yields. */
void qemu_co_wait_group_done(CoWaitGroup *wg);
void coroutine_fn qemu_co_wait_group_wait(CoWaitGroup *wg);

#endif /* UTIL_COROUTINE_H */
