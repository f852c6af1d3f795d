/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The pools of worker threads: one for work that blocks, one for work that
 * computes, which has no use for more threads than there are processors.
 *
 * A request lives on the stack of the coroutine that waits for it. Everything
 * of a pool is under its lock, which nobody holds while working. A submit wakes
 * an idle thread, or starts one when there are more requests than threads that
 * look for one; a thread that comes back to the queue takes the next request
 * without sleeping.
 */
#include "util/osdep.h"
#include "util/aio.h"
#include "util/queue.h"
#include "util/thread-pool.h"
#include "util/thread.h"
#include "trace/util.h"

#define IDLE_MS 10000

typedef struct PoolRequest {
    QSIMPLEQ_ENTRY(PoolRequest) next;
    ThreadPoolFunc *func;
    void *arg;
    Coroutine *co;
    int ret;
} PoolRequest;

typedef struct ThreadPool {
    QemuMutex lock;
    QemuCond cond; /* for idle threads */
    QSIMPLEQ_HEAD(, PoolRequest) queue;
    unsigned queued;
    unsigned threads;  /* all */
    unsigned idle;     /* waiting for cond, or waking up from that */
    unsigned starting; /* on their way to the queue, new */
    unsigned coming;   /* atomic; on their way to the queue, work done */
    unsigned max;      /* threads; fixed */
} ThreadPool;

static ThreadPool blocking, computing;

static void pool_init(ThreadPool *pool, unsigned max)
{
    qemu_mutex_init(&pool->lock);
    qemu_cond_init(&pool->cond);
    QSIMPLEQ_INIT(&pool->queue);
    pool->max = MAX(1, MIN(max, THREAD_POOL_MAX));
}

static void __attribute__((constructor)) pools_init(void)
{
    pool_init(&blocking, THREAD_POOL_MAX);
    /* Those that this process may use, for all that is known now. */
    pool_init(&computing, g_get_num_processors());
}

/* False if the thread should end. Locked. */
static bool wait_for_request(ThreadPool *pool)
{
    bool in_time = true;

    while (!pool->queued && in_time) {
        pool->idle++;
        in_time = qemu_cond_timedwait(&pool->cond, &pool->lock, IDLE_MS);
        pool->idle--;
    }
    return pool->queued > 0;
}

static void *worker(void *opaque)
{
    ThreadPool *pool = opaque;

    qemu_mutex_lock(&pool->lock);
    pool->starting--;
    while (wait_for_request(pool)) {
        PoolRequest *req = QSIMPLEQ_FIRST(&pool->queue);

        QSIMPLEQ_REMOVE_HEAD(&pool->queue, next);
        pool->queued--;
        qemu_mutex_unlock(&pool->lock);

        req->ret = req->func(req->arg);
        qatomic_inc(&pool->coming);
        aio_co_wake(req->co);

        qemu_mutex_lock(&pool->lock);
        qatomic_dec(&pool->coming);
    }
    pool->threads--;
    qemu_mutex_unlock(&pool->lock);
    return NULL;
}

/*
 * Unlocked. Returns 0, or -errno when there is no thread at all that could
 * ever serve the queue.
 */
static int start_thread(ThreadPool *pool)
{
    QemuThread thread;
    int ret = qemu_thread_try_create(&thread, "worker", worker, pool,
                                     QEMU_THREAD_DETACHED);

    if (ret < 0) {
        qemu_mutex_lock(&pool->lock);
        pool->starting--;
        if (--pool->threads > 0) {
            ret = 0; /* the others will get to it */
        }
        qemu_mutex_unlock(&pool->lock);
    }
    return ret;
}

/* Takes back a request that no thread will serve; false if one has it. */
static bool withdraw(ThreadPool *pool, PoolRequest *req)
{
    PoolRequest *r;
    bool found = false;

    qemu_mutex_lock(&pool->lock);
    QSIMPLEQ_FOREACH(r, &pool->queue, next) {
        found |= r == req;
    }
    if (found) {
        QSIMPLEQ_REMOVE(&pool->queue, req, PoolRequest, next);
        pool->queued--;
    }
    qemu_mutex_unlock(&pool->lock);
    return found;
}

static int coroutine_fn submit(ThreadPool *pool, ThreadPoolFunc *func,
                               void *arg)
{
    PoolRequest req = {
        .func = func,
        .arg = arg,
        .co = qemu_coroutine_self(),
    };
    bool start = false, wake = false;
    unsigned coming;
    int ret;

    assert(qemu_in_coroutine() && qemu_get_current_aio_context());
    qemu_mutex_lock(&pool->lock);
    QSIMPLEQ_INSERT_TAIL(&pool->queue, &req, next);
    pool->queued++;
    /*
     * Who is coming will see the request: what has just woken us often asks
     * for more work before its thread is back.
     */
    coming = qatomic_read(&pool->coming);
    if (pool->queued <= coming) {
        wake = false;
    } else if (pool->queued <= coming + pool->idle) {
        wake = true;
    } else if (pool->queued > coming + pool->idle + pool->starting &&
               pool->threads < pool->max) {
        pool->threads++;
        pool->starting++;
        start = true;
        trace_thread_pool_start(pool->threads, pool->queued);
    }
    qemu_mutex_unlock(&pool->lock);

    if (wake) {
        qemu_cond_signal(&pool->cond);
    } else if (start) {
        ret = start_thread(pool);
        if (ret < 0 && withdraw(pool, &req)) {
            return ret;
        }
    }
    qemu_coroutine_yield();
    return req.ret;
}

int coroutine_fn thread_pool_submit_co(ThreadPoolFunc *func, void *arg)
{
    return submit(&blocking, func, arg);
}

int coroutine_fn thread_pool_compute_co(ThreadPoolFunc *func, void *arg)
{
    return submit(&computing, func, arg);
}

static unsigned nr_threads(ThreadPool *pool)
{
    unsigned n;

    qemu_mutex_lock(&pool->lock);
    n = pool->threads;
    qemu_mutex_unlock(&pool->lock);
    return n;
}

unsigned thread_pool_nr_threads(void)
{
    return nr_threads(&blocking);
}

unsigned thread_pool_nr_compute_threads(void)
{
    return nr_threads(&computing);
}
