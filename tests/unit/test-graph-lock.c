/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The graph lock: readers in all threads, one writer, no deadlock when what
 * the writer polls for needs readers.
 */
#include "util/osdep.h"
#include "block/block_int.h"
#include "util/aio.h"
#include "util/atomic.h"
#include "util/iothread.h"

/* A reader that holds the lock until the test lets it go. */
typedef struct Reader {
    Coroutine *co;
    bool holds, ended;
} Reader;

static void coroutine_fn reader_run(void *opaque)
{
    Reader *r = opaque;

    bdrv_graph_co_rdlock();
    r->holds = true;
    qemu_coroutine_yield();
    r->holds = false;
    bdrv_graph_co_rdunlock();
    r->ended = true;
}

static void reader_start(Reader *r)
{
    *r = (Reader) { .co = qemu_coroutine_create(reader_run, r) };
    qemu_coroutine_enter(r->co);
}

static void reader_let_go(void *opaque)
{
    Reader *r = opaque;

    g_assert_true(r->holds);
    aio_co_wake(r->co);
}

static void settle(void)
{
    while (aio_poll(qemu_get_aio_context(), false)) {
        /* more to do */
    }
}

static void later(QEMUBHFunc *cb, void *opaque)
{
    aio_bh_schedule_oneshot(qemu_get_aio_context(), cb, opaque);
}

/* Readers share; the writer waits for all of them. */
static void test_readers_and_writer(void)
{
    Reader a, b, c;

    reader_start(&a);
    reader_start(&b);
    g_assert_true(a.holds && b.holds);
    later(reader_let_go, &a);
    later(reader_let_go, &b);
    g_assert_false(bdrv_graph_is_write_locked());
    bdrv_graph_wrlock();
    g_assert_true(bdrv_graph_is_write_locked());
    g_assert_true(a.ended && b.ended);
    /* A reader that comes now waits for the outermost unlock. */
    reader_start(&c);
    bdrv_graph_wrlock();
    bdrv_graph_wrunlock();
    settle();
    g_assert_false(c.holds);
    bdrv_graph_wrunlock();
    g_assert_false(bdrv_graph_is_write_locked());
    settle();
    g_assert_true(c.holds);
    reader_let_go(&c);
    settle();
    g_assert_true(c.ended);
}

typedef struct Late {
    Reader *old, *young;
} Late;

static void start_young(void *opaque)
{
    Late *l = opaque;

    reader_start(l->young);
    /* The writer waits for the old one; this one has to queue. */
    g_assert_false(l->young->holds);
    later(reader_let_go, l->old);
}

/* Readers that come while a writer waits do not keep it waiting. */
static void test_writer_not_starved(void)
{
    Reader old, young;
    Late l = { &old, &young };

    reader_start(&old);
    later(start_young, &l);
    bdrv_graph_wrlock();
    g_assert_true(old.ended);
    g_assert_false(young.holds);
    bdrv_graph_wrunlock();
    settle();
    g_assert_true(young.holds);
    reader_let_go(&young);
    settle();
    g_assert_true(young.ended);
}

static int coroutine_fn small_request(void *opaque)
{
    bool *ran = opaque;

    qemu_co_yield_to_loop();
    *ran = true;
    return 7;
}

typedef struct Nested {
    Reader *reader;
    bool ran;
} Nested;

static void nested_request(void *opaque)
{
    Nested *n = opaque;

    /* The writer below us on the stack waits for n->reader. */
    g_assert_cmpint(bdrv_run_co(small_request, &n->ran), ==, 7);
    later(reader_let_go, n->reader);
}

/*
 * While the writer polls, a callback runs a synchronous request: that gets the
 * lock at once, and the writer goes on waiting afterwards.
 */
static void test_request_while_writer_waits(void)
{
    Reader reader, young;
    Nested n = { .reader = &reader };

    reader_start(&reader);
    later(nested_request, &n);
    bdrv_graph_wrlock();
    g_assert_true(n.ran && reader.ended);
    /* The announcement is back. */
    reader_start(&young);
    g_assert_false(young.holds);
    bdrv_graph_wrunlock();
    settle();
    reader_let_go(&young);
    settle();
    g_assert_true(young.ended);
}

static void nested_writer(void *opaque)
{
    Nested *n = opaque;

    later(reader_let_go, n->reader);
    bdrv_graph_wrlock();
    g_assert_true(n->reader->ended);
    n->ran = true;
    bdrv_graph_wrunlock();
}

/* A callback that runs while a writer waits may itself write. */
static void test_writer_while_writer_waits(void)
{
    Reader reader, young;
    Nested n = { .reader = &reader };

    reader_start(&reader);
    later(nested_writer, &n);
    bdrv_graph_wrlock();
    g_assert_true(n.ran);
    g_assert_true(bdrv_graph_is_write_locked());
    reader_start(&young);
    g_assert_false(young.holds);
    bdrv_graph_wrunlock();
    settle();
    reader_let_go(&young);
    settle();
    g_assert_true(young.ended);
}

/* The holder of the write lock may run requests: it is alone. */
static void test_request_under_writer(void)
{
    bool ran = false;

    bdrv_graph_wrlock();
    g_assert_cmpint(bdrv_run_co(small_request, &ran), ==, 7);
    g_assert_true(ran);
    g_assert_true(bdrv_graph_is_write_locked());
    bdrv_graph_wrunlock();
}

/* --------------------------------------------------------------- threads */

typedef struct Mover {
    AioContext *to;
    bool moved, ended;
    bool unlocking;     /* under the lock */
} Mover;

static void coroutine_fn mover_run(void *opaque)
{
    Mover *m = opaque;

    bdrv_graph_co_rdlock();
    aio_co_reschedule_self(m->to);
    qatomic_store_release(&m->moved, true);
    aio_wait_kick();
    qemu_co_yield_to_loop();
    m->unlocking = true;
    bdrv_graph_co_rdunlock();
    qatomic_store_release(&m->ended, true);
    aio_wait_kick();
}

/* Readers that leave the thread in which they came; and that thread ends. */
static void test_moving_reader(void)
{
    IOThread *a = iothread_new("a", &error_abort);
    IOThread *b = iothread_new("b", &error_abort);
    Mover m = { .to = iothread_get_aio_context(b) };

    aio_co_schedule(iothread_get_aio_context(a),
                    qemu_coroutine_create(mover_run, &m));
    AIO_WAIT_WHILE(NULL, !qatomic_load_acquire(&m.moved));
    iothread_free(a);
    bdrv_graph_wrlock();
    g_assert_true(m.unlocking);
    bdrv_graph_wrunlock();
    AIO_WAIT_WHILE(NULL, !qatomic_load_acquire(&m.ended));
    iothread_free(b);
    bdrv_graph_wrlock();
    bdrv_graph_wrunlock();
}

/*
 * The lock is all that protects two plain integers that must be equal. Reader
 * coroutines come and go in threads that come and go, and some move to another
 * thread while they hold it. Made for TSan.
 */
#define THREADS 3
#define COROUTINES 4
#define WRITES 400

static int64_t left_value, right_value;

typedef struct Hammer {
    IOThread *threads[THREADS];
    bool stop;
    unsigned running;
    uint64_t reads;
} Hammer;

static void coroutine_fn hammer_run(void *opaque)
{
    Hammer *h = opaque;
    unsigned i = 0;

    while (!qatomic_read(&h->stop)) {
        int64_t seen;

        bdrv_graph_co_rdlock();
        seen = left_value;
        if (i++ % 4 == 0) {
            qemu_co_yield_to_loop();
        }
        g_assert_cmpint(seen, ==, right_value);
        bdrv_graph_co_rdunlock();
        qatomic_inc(&h->reads);
        qemu_co_yield_to_loop();
    }
    if (qatomic_fetch_dec(&h->running) == 1) {
        aio_wait_kick();
    }
}

static void coroutine_fn brief_run(void *opaque)
{
    Hammer *h = opaque;

    bdrv_graph_co_rdlock();
    g_assert_cmpint(left_value, ==, right_value);
    bdrv_graph_co_rdunlock();
    if (qatomic_fetch_dec(&h->running) == 1) {
        aio_wait_kick();
    }
}

/* A thread that ends, having been a reader. */
static void brief_thread(void)
{
    Hammer h = { .running = 1 };
    IOThread *thread = iothread_new("brief", &error_abort);

    aio_co_schedule(iothread_get_aio_context(thread),
                    qemu_coroutine_create(brief_run, &h));
    AIO_WAIT_WHILE(NULL, qatomic_load_acquire(&h.running) > 0);
    iothread_free(thread);
}

static void test_threads(void)
{
    Hammer h = { .running = THREADS * COROUTINES };

    for (int i = 0; i < THREADS; i++) {
        h.threads[i] = iothread_new("hammer", &error_abort);
        for (int j = 0; j < COROUTINES; j++) {
            aio_co_schedule(iothread_get_aio_context(h.threads[i]),
                            qemu_coroutine_create(hammer_run, &h));
        }
    }
    for (int i = 0; i < WRITES; i++) {
        uint64_t seen = qatomic_read(&h.reads);

        bdrv_graph_wrlock();
        left_value++;
        sched_yield();
        right_value++;
        bdrv_graph_wrunlock();
        if (i % 40 == 0) {
            brief_thread();
        }
        while (qatomic_read(&h.reads) == seen) {
            aio_poll(qemu_get_aio_context(), false);
            sched_yield();
        }
    }
    qatomic_set(&h.stop, true);
    AIO_WAIT_WHILE(NULL, qatomic_load_acquire(&h.running) > 0);
    for (int i = 0; i < THREADS; i++) {
        iothread_free(h.threads[i]);
    }
    g_assert_cmpint(left_value, ==, WRITES);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    qemu_init_main_loop(&error_abort);
    g_test_add_func("/graph-lock/readers-and-writer", test_readers_and_writer);
    g_test_add_func("/graph-lock/writer-not-starved", test_writer_not_starved);
    g_test_add_func("/graph-lock/request-while-writer-waits",
                    test_request_while_writer_waits);
    g_test_add_func("/graph-lock/writer-while-writer-waits",
                    test_writer_while_writer_waits);
    g_test_add_func("/graph-lock/request-under-writer",
                    test_request_under_writer);
    g_test_add_func("/graph-lock/moving-reader", test_moving_reader);
    g_test_add_func("/graph-lock/threads", test_threads);
    return g_test_run();
}
