/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The pools of worker threads: results, limits, many loops at once. */
#include "util/osdep.h"
#include "util/aio.h"
#include "util/error.h"
#include "util/iothread.h"
#include "util/thread-pool.h"
#include "util/thread.h"

static AioContext *ctx;

typedef struct Job {
    int value;
    unsigned *running; /* atomic; coroutines */
    unsigned rounds;
    AioContext *home;
} Job;

/* Functions in the pool at this moment, and the most there ever were. */
static struct {
    QemuMutex lock;
    QemuCond cond;
    unsigned now;
    unsigned max;
} busy;

static int square(void *opaque)
{
    Job *job = opaque;

    g_assert_false(qemu_in_coroutine());
    g_assert_null(qemu_get_current_aio_context());
    return job->value * job->value;
}

/* Stays until the pool is as large as it gets: hangs if it never does. */
static int crowd(void *opaque)
{
    qemu_mutex_lock(&busy.lock);
    busy.now++;
    busy.max = MAX(busy.max, busy.now);
    qemu_cond_broadcast(&busy.cond);
    while (busy.max < THREAD_POOL_MAX) {
        qemu_cond_wait(&busy.cond, &busy.lock);
    }
    busy.now--;
    qemu_mutex_unlock(&busy.lock);
    return -EIO;
}

static void coroutine_fn job_co(void *opaque)
{
    Job *job = opaque;

    for (unsigned i = 0; i < job->rounds; i++) {
        job->value = i % 1000;
        g_assert_cmpint(thread_pool_submit_co(square, job), ==,
                        job->value * job->value);
        g_assert_true(qemu_get_current_aio_context() == job->home);
    }
    qatomic_dec(job->running);
    aio_wait_kick();
}

static void coroutine_fn crowd_co(void *opaque)
{
    Job *job = opaque;

    g_assert_cmpint(thread_pool_submit_co(crowd, NULL), ==, -EIO);
    qatomic_dec(job->running);
    aio_wait_kick();
}

static void test_result(void)
{
    unsigned running = 1;
    Job job = { .running = &running, .rounds = 20000, .home = ctx };
    int64_t start = get_clock();

    qemu_coroutine_enter(qemu_coroutine_create(job_co, &job));
    AIO_WAIT_WHILE(NULL, qatomic_load_acquire(&running));
    g_test_message("one after the other: %.0f ns",
                   (get_clock() - start) / (double)job.rounds);
    /* One at a time needs few threads. */
    g_assert_cmpuint(thread_pool_nr_threads(), <=, 3);
}

/* More work than threads: the limit holds, and the work gets done. */
static void test_limit(void)
{
    unsigned running = 1000;
    Job job = { .running = &running };

    qemu_mutex_init(&busy.lock);
    qemu_cond_init(&busy.cond);

    for (int i = 0; i < 1000; i++) {
        qemu_coroutine_enter(qemu_coroutine_create(crowd_co, &job));
    }
    g_assert_cmpuint(thread_pool_nr_threads(), <=, THREAD_POOL_MAX);
    AIO_WAIT_WHILE(NULL, qatomic_load_acquire(&running));
    g_assert_cmpuint(busy.max, ==, THREAD_POOL_MAX);
    g_assert_cmpuint(thread_pool_nr_threads(), <=, THREAD_POOL_MAX);
}

static int compute(void *unused)
{
    qemu_mutex_lock(&busy.lock);
    busy.now++;
    busy.max = MAX(busy.max, busy.now);
    qemu_mutex_unlock(&busy.lock);
    g_usleep(100);
    qemu_mutex_lock(&busy.lock);
    busy.now--;
    qemu_mutex_unlock(&busy.lock);
    return -ERANGE;
}

static void coroutine_fn compute_co(void *opaque)
{
    Job *job = opaque;

    g_assert_cmpint(thread_pool_compute_co(compute, NULL), ==, -ERANGE);
    qatomic_dec(job->running);
    aio_wait_kick();
}

static struct {
    unsigned held;  /* atomic */
    unsigned open;  /* atomic */
} gate;

static int hold(void *unused)
{
    qatomic_inc(&gate.held);
    while (!qatomic_load_acquire(&gate.open)) {
        g_usleep(1000);
    }
    return 0;
}

static void coroutine_fn hold_co(void *opaque)
{
    Job *job = opaque;

    g_assert_cmpint(thread_pool_submit_co(hold, NULL), ==, 0);
    qatomic_dec(job->running);
    aio_wait_kick();
}

/*
 * Work that computes has a thread a processor, which work that blocks does not
 * take away: hangs if it does.
 */
static void test_compute(void)
{
    unsigned holding = THREAD_POOL_MAX, computing = 1000;
    Job held = { .running = &holding }, job = { .running = &computing };
    int i;

    busy.max = 0;
    for (i = 0; i < THREAD_POOL_MAX; i++) {
        qemu_coroutine_enter(qemu_coroutine_create(hold_co, &held));
    }
    while (qatomic_read(&gate.held) < THREAD_POOL_MAX) {
        g_usleep(1000);
    }
    for (i = 0; i < 1000; i++) {
        qemu_coroutine_enter(qemu_coroutine_create(compute_co, &job));
    }
    AIO_WAIT_WHILE(NULL, qatomic_load_acquire(&computing));
    g_assert_cmpuint(busy.max, >=, 1);
    g_assert_cmpuint(busy.max, <=, g_get_num_processors());
    g_assert_cmpuint(thread_pool_nr_compute_threads(), <=,
                     g_get_num_processors());
    g_assert_cmpuint(qatomic_read(&holding), ==, THREAD_POOL_MAX);
    qatomic_set(&gate.open, 1);
    AIO_WAIT_WHILE(NULL, qatomic_load_acquire(&holding));
}

static void test_many_loops(void)
{
    g_autoptr(IOThread) a = iothread_new("pool-a", &error_abort);
    g_autoptr(IOThread) b = iothread_new("pool-b", &error_abort);
    AioContext *where[] = { iothread_get_aio_context(a),
                            iothread_get_aio_context(b), ctx };
    unsigned running = 60;
    Job jobs[60];
    int64_t start = get_clock();

    for (int i = 0; i < 60; i++) {
        jobs[i] = (Job){ .running = &running, .rounds = 500,
                         .home = where[i % 3] };
        aio_co_enter(where[i % 3], qemu_coroutine_create(job_co, &jobs[i]));
    }
    AIO_WAIT_WHILE(NULL, qatomic_load_acquire(&running));
    g_test_message("60 at a time: %.0f ns",
                   (get_clock() - start) / (60 * 500.0));
}

int main(int argc, char **argv)
{
    int ret;

    g_test_init(&argc, &argv, NULL);
    qemu_init_main_loop(&error_abort);
    ctx = qemu_get_aio_context();
    g_test_add_func("/thread-pool/result", test_result);
    g_test_add_func("/thread-pool/limit", test_limit);
    g_test_add_func("/thread-pool/compute", test_compute);
    g_test_add_func("/thread-pool/many-loops", test_many_loops);
    ret = g_test_run();
    aio_context_unref(ctx);
    return ret;
}
