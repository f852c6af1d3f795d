/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Life of a coroutine: created from a pool, entered, yielding, ended.
 *
 *   create -> idle -enter-> running -yield-> idle
 *                              |
 *                              +-- entry returns -> pool
 *
 * 1. caller is set exactly while the coroutine is entered, so the callers of
 *    running coroutines form a chain down to the thread's leader.
 * 2. A coroutine yields to the one that entered it, in the same thread; only
 *    between yield and the next enter can it change threads.
 * 3. Dead coroutines go to a pool of their thread, and by batches to and from
 *    one of the process, so a stack is mapped rarely.
 */
#include "util/osdep.h"
#include "util/aio.h"
#include "util/atomic.h"
#include "coroutine-int.h"
#include "trace/util.h"

#define POOL_BATCH 32
#define POOL_THREAD_MAX (2 * POOL_BATCH)
#define POOL_GLOBAL_MAX 1024

typedef QSLIST_HEAD(CoroutinePool, Coroutine) CoroutinePool;

static struct {
    QemuMutex lock;
    CoroutinePool list;
    unsigned size;
} global_pool = { .lock = QEMU_MUTEX_INITIALIZER };

static __thread CoroutineThread this_thread;
static pthread_key_t thread_exit_key;
static pthread_once_t thread_exit_once = PTHREAD_ONCE_INIT;

/* ------------------------------------------------------------------- pool */

static void pool_give_to_process(CoroutineThread *t, unsigned n)
{
    qemu_mutex_lock(&global_pool.lock);
    while (n > 0 && global_pool.size < POOL_GLOBAL_MAX) {
        Coroutine *co = QSLIST_FIRST(&t->pool);
        QSLIST_REMOVE_HEAD(&t->pool, pool_next);
        QSLIST_INSERT_HEAD(&global_pool.list, co, pool_next);
        global_pool.size++;
        t->pool_size--;
        n--;
    }
    qemu_mutex_unlock(&global_pool.lock);

    for (; n > 0; n--) {
        Coroutine *co = QSLIST_FIRST(&t->pool);
        QSLIST_REMOVE_HEAD(&t->pool, pool_next);
        t->pool_size--;
        qemu_coroutine_stack_free(co);
    }
}

static void pool_take_from_process(CoroutineThread *t)
{
    qemu_mutex_lock(&global_pool.lock);
    while (t->pool_size < POOL_BATCH && global_pool.size > 0) {
        Coroutine *co = QSLIST_FIRST(&global_pool.list);
        QSLIST_REMOVE_HEAD(&global_pool.list, pool_next);
        QSLIST_INSERT_HEAD(&t->pool, co, pool_next);
        global_pool.size--;
        t->pool_size++;
    }
    qemu_mutex_unlock(&global_pool.lock);
}

static void pool_put(CoroutineThread *t, Coroutine *co)
{
    QSLIST_INSERT_HEAD(&t->pool, co, pool_next);
    if (++t->pool_size > POOL_THREAD_MAX) {
        pool_give_to_process(t, POOL_BATCH);
    }
}

static Coroutine *pool_get(CoroutineThread *t)
{
    Coroutine *co;

    if (!t->pool_size) {
        pool_take_from_process(t);
    }
    co = QSLIST_FIRST(&t->pool);
    if (!co) {
        co = qemu_coroutine_stack_new();
        trace_coroutine_stack_new(co, qemu_coroutine_stacks_mapped());
        return co;
    }
    QSLIST_REMOVE_HEAD(&t->pool, pool_next);
    t->pool_size--;
    return co;
}

/* ----------------------------------------------------------------- thread */

static void thread_exit_cb(void *opaque)
{
    CoroutineThread *t = opaque;

    pool_give_to_process(t, t->pool_size);
}

static void thread_exit_init(void)
{
    if (pthread_key_create(&thread_exit_key, thread_exit_cb) != 0) {
        abort();
    }
}

static void QEMU_NOINLINE thread_setup(CoroutineThread *t)
{
    t->current = &t->leader;
    qemu_coroutine_leader_init(&t->leader);
    pthread_once(&thread_exit_once, thread_exit_init);
    pthread_setspecific(thread_exit_key, t);
}

CoroutineThread *QEMU_NOINLINE qemu_coroutine_thread(void)
{
    CoroutineThread *t = &this_thread;

    /* Keeps the compiler from calling this pure and merging two calls. */
    __asm__ __volatile__("" : "+r"(t) : : "memory");
    if (unlikely(!t->current)) {
        thread_setup(t);
    }
    return t;
}

AioContext *qemu_get_current_aio_context(void)
{
    return qemu_coroutine_thread()->ctx;
}

Coroutine *qemu_coroutine_self(void)
{
    return qemu_coroutine_thread()->current;
}

bool qemu_in_coroutine(void)
{
    return qemu_coroutine_thread()->current->caller != NULL;
}

/* -------------------------------------------------------------- coroutines */

Coroutine *qemu_coroutine_create(CoroutineEntry *entry, void *opaque)
{
    Coroutine *co = pool_get(qemu_coroutine_thread());

    co->entry = entry;
    co->entry_arg = opaque;
    qatomic_set(&co->ctx, NULL);
    qemu_coroutine_switch_prepare(co);
    return co;
}

Coroutine *qemu_coroutine_main(void)
{
    Coroutine *co = qemu_coroutine_self();
    Coroutine *to;

    co->entry(co->entry_arg);

    if (co->locks_held) {
        fprintf(stderr, "coroutine ended while holding %u locks\n",
                co->locks_held);
        abort();
    }
    to = co->caller;
    co->caller = NULL;
    qemu_coroutine_thread()->current = to;
    return to;
}

static void enter_refused(Coroutine *co, const char *scheduled)
{
    if (scheduled) {
        fprintf(stderr, "coroutine entered although %s() scheduled it\n",
                scheduled);
    } else {
        fprintf(stderr, "coroutine re-entered recursively\n");
    }
    abort();
}

void qemu_aio_coroutine_enter(AioContext *ctx, Coroutine *co)
{
    CoroutineThread *t = qemu_coroutine_thread();
    Coroutine *self = t->current;
    const char *scheduled = qatomic_read(&co->scheduled);
    AioContext *move_to;

    if (unlikely(scheduled || co->caller)) {
        enter_refused(co, scheduled);
    }
    co->caller = self;
    if (qatomic_read(&co->ctx) != ctx) {
        qatomic_set(&co->ctx, ctx);
    }
    t->current = co;

    /* t stays right: what self entered comes back in this very thread. */
    switch (qemu_coroutine_switch(self, co, COROUTINE_ENTER)) {
    case COROUTINE_YIELD:
        move_to = co->move_to;
        if (unlikely(move_to)) {
            co->move_to = NULL;
            aio_co_schedule(move_to, co);
        }
        break;
    case COROUTINE_TERMINATE:
        pool_put(t, co);
        break;
    default:
        abort();
    }
}

void qemu_coroutine_enter(Coroutine *co)
{
    qemu_aio_coroutine_enter(qemu_get_current_aio_context(), co);
}

void qemu_coroutine_enter_if_inactive(Coroutine *co)
{
    if (!qemu_coroutine_entered(co)) {
        qemu_coroutine_enter(co);
    }
}

void coroutine_fn qemu_coroutine_yield(void)
{
    CoroutineThread *t = qemu_coroutine_thread();
    Coroutine *self = t->current;
    Coroutine *to = self->caller;

    if (unlikely(!to)) {
        fprintf(stderr, "yield outside of a coroutine\n");
        abort();
    }
    self->caller = NULL;
    t->current = to;
    qemu_coroutine_switch(self, to, COROUTINE_YIELD);
}

bool qemu_coroutine_entered(Coroutine *co)
{
    return co->caller != NULL;
}

AioContext *qemu_coroutine_get_aio_context(Coroutine *co)
{
    return qatomic_read(&co->ctx);
}
