/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What users set of an event loop: looking for work before it sleeps, and how
 * many requests enter the kernel together. Runs on io_uring and without.
 */
#include "util/osdep.h"
#include "util/aio.h"
#include "util/error.h"
#include "util/iothread.h"
#include "util/thread.h"
#include "util/timer.h"

#define LONG_NS (1000 * NANOSECONDS_PER_SECOND)

static AioContext *ctx;

static void set_true(void *opaque)
{
    *(bool *)opaque = true;
}

/* Lets the loop wait for a timer; mostly it sleeps. */
static void wait_for_timer(void)
{
    bool fired = false;
    QEMUTimer timer;

    aio_timer_init(ctx, &timer, QEMU_CLOCK_REALTIME, SCALE_MS, set_true,
                   &fired);
    timer_mod(&timer, qemu_clock_get_ns(QEMU_CLOCK_REALTIME) / SCALE_MS + 2);
    while (!fired) {
        aio_poll(ctx, true);
    }
}

/* Until the loop has slept, and adapted itself. */
static void expect_change(int64_t from, int64_t to)
{
    g_assert_cmpint(aio_context_poll_ns(ctx), ==, from);
    while (aio_context_poll_ns(ctx) == from) {
        wait_for_timer();
    }
    g_assert_cmpint(aio_context_poll_ns(ctx), ==, to);
}

static void test_adapt(void)
{
    wait_for_timer();
    g_assert_cmpint(aio_context_poll_ns(ctx), ==, 0);
    aio_context_set_poll_params(ctx, LONG_NS, 0, 0);
    expect_change(0, 4000);
    expect_change(4000, 8000);
    aio_context_set_poll_params(ctx, LONG_NS, 3, 0);
    expect_change(8000, 24000);
    aio_context_set_poll_params(ctx, LONG_NS, INT64_MAX, 0);
    expect_change(24000, LONG_NS);
    /* Timers end it, however long it may last; there is no sleep any more. */
    wait_for_timer();
    g_assert_cmpint(aio_context_poll_ns(ctx), ==, LONG_NS);
    /* Work is rarer than that now. */
    aio_context_set_poll_params(ctx, 1, 0, 10);
    expect_change(LONG_NS, LONG_NS / 10);
    expect_change(LONG_NS / 10, LONG_NS / 100);
    aio_context_set_poll_params(ctx, 1, 0, 0);
    expect_change(LONG_NS / 100, 0);
    aio_context_set_poll_params(ctx, 0, 0, 0);
}

/* --- work from elsewhere --- */

typedef struct Giver {
    bool got;
    int fd[2];
    void (*give)(struct Giver *g);
} Giver;

static void give_bh(Giver *g)
{
    aio_bh_schedule_oneshot(ctx, set_true, &g->got);
}

static void give_notify(Giver *g)
{
    qatomic_set(&g->got, true);
    aio_notify(ctx);
}

static void give_byte(Giver *g)
{
    g_assert_cmpint(write(g->fd[1], "x", 1), ==, 1);
}

static void got_byte(void *opaque)
{
    Giver *g = opaque;
    char c;

    g_assert_cmpint(read(g->fd[0], &c, 1), ==, 1);
    g->got = true;
}

static void *giver_thread(void *opaque)
{
    Giver *g = opaque;

    g->give(g);
    return NULL;
}

/* A loop that would look for a quarter of an hour sees it at once. */
static void test_given(const void *give)
{
    int64_t start = get_clock();
    QemuThread thread;
    Giver g = { .give = give };

    g_assert_cmpint(pipe(g.fd), ==, 0);
    aio_set_fd_handler(ctx, g.fd[0], got_byte, NULL, &g);
    aio_context_set_poll_params(ctx, LONG_NS, INT64_MAX, 0);
    while (aio_context_poll_ns(ctx) != LONG_NS) {
        wait_for_timer();
    }
    for (int i = 0; i < 200; i++) {
        qatomic_set(&g.got, false);
        qemu_thread_create(&thread, "giver", giver_thread, &g,
                           QEMU_THREAD_JOINABLE);
        while (!qatomic_read(&g.got)) {
            aio_poll(ctx, true);
        }
        qemu_thread_join(&thread);
    }
    g_assert_cmpint(get_clock() - start, <, LONG_NS / 2);
    g_assert_cmpint(aio_context_poll_ns(ctx), ==, LONG_NS);
    aio_context_set_poll_params(ctx, 0, 0, 0);
    aio_set_fd_handler(ctx, g.fd[0], NULL, NULL, NULL);
    close(g.fd[0]);
    close(g.fd[1]);
}

/* Files that are always ready are so at once. */
static void test_always_ready(void)
{
    FILE *f = tmpfile();
    bool got = false;

    aio_context_set_poll_params(ctx, LONG_NS, INT64_MAX, 0);
    while (aio_context_poll_ns(ctx) != LONG_NS) {
        wait_for_timer();
    }
    aio_set_fd_handler(ctx, fileno(f), set_true, NULL, &got);
    while (!got) {
        aio_poll(ctx, true);
    }
    aio_set_fd_handler(ctx, fileno(f), NULL, NULL, NULL);
    aio_context_set_poll_params(ctx, 0, 0, 0);
    fclose(f);
}

/* --- threads --- */

static void count(void *opaque)
{
    qatomic_inc((unsigned *)opaque);
}

static void test_iothread(void)
{
    g_autoptr(IOThread) thread = iothread_new("t", &error_abort);
    unsigned done = 0;

    g_assert_cmpint(iothread_get_settings(thread)->poll_max_ns, ==, 0);
    for (unsigned i = 0; i < 3000; i++) {
        /* Changed under its feet. */
        iothread_set_settings(thread, &(IOThreadSettings){
            .poll_max_ns = i % 3 * 100000,
            .poll_grow = i % 5,
            .poll_shrink = i % 7,
            .aio_max_batch = i % 4,
        });
        aio_bh_schedule_oneshot(iothread_get_aio_context(thread), count, &done);
        while (i % 10 == 0 && qatomic_read(&done) <= i) {
            sched_yield();
        }
    }
    iothread_set_settings(thread, &(IOThreadSettings){
        .poll_max_ns = LONG_NS, .poll_grow = INT64_MAX });
    g_assert_cmpint(iothread_get_settings(thread)->poll_grow, ==, INT64_MAX);
    while (qatomic_read(&done) < 3000) {
        sched_yield();
    }
    /* And it ends, though it has a quarter of an hour. */
}

/* --- batches --- */

#define READS 16

typedef struct Read {
    int fd;
    uint64_t offset;
    char byte;
    unsigned *left;
} Read;

static void coroutine_fn read_byte(void *opaque)
{
    Read *r = opaque;
    struct iovec iov = { &r->byte, 1 };

    g_assert_cmpint(aio_uring_co_readv(r->fd, &iov, 1, r->offset), ==, 1);
    (*r->left)--;
}

/* How many of READS reads from the page cache are done before the turn ends. */
static unsigned done_early(int fd, int64_t max_batch)
{
    Read reads[READS];
    unsigned left = READS, early = 0;

    aio_context_set_aio_params(ctx, max_batch);
    for (int i = 0; i < READS; i++) {
        reads[i] = (Read){ .fd = fd, .offset = i, .left = &left };
        qemu_coroutine_enter(qemu_coroutine_create(read_byte, &reads[i]));
    }
    for (int i = 0; i < READS; i++) {
        early += *(volatile char *)&reads[i].byte == 'x';
    }
    AIO_WAIT_WHILE(NULL, left > 0);
    for (int i = 0; i < READS; i++) {
        g_assert_cmpint(reads[i].byte, ==, 'x');
    }
    aio_context_set_aio_params(ctx, 0);
    return early;
}

static void test_batch(void)
{
    FILE *f = tmpfile();

    for (int i = 0; i < READS; i++) {
        fputc('x', f);
    }
    g_assert_cmpint(fflush(f), ==, 0);
    g_assert_cmpuint(done_early(fileno(f), READS + 1), ==, 0);
    g_assert_cmpuint(done_early(fileno(f), INT64_MAX), ==, 0);
    /* The kernel may leave some to others of its threads. */
    g_assert_cmpuint(done_early(fileno(f), 1), >, 0);
    g_assert_cmpuint(done_early(fileno(f), 0), >, 0);
    fclose(f);
}

int main(int argc, char **argv)
{
    int ret;

    g_test_init(&argc, &argv, NULL);
    qemu_init_main_loop(&error_abort);
    ctx = qemu_get_aio_context();
    g_test_add_func("/aio-settings/adapt", test_adapt);
    g_test_add_data_func("/aio-settings/given/bh", give_bh, test_given);
    g_test_add_data_func("/aio-settings/given/notify", give_notify, test_given);
    g_test_add_data_func("/aio-settings/given/byte", give_byte, test_given);
    g_test_add_func("/aio-settings/always-ready", test_always_ready);
    g_test_add_func("/aio-settings/iothread", test_iothread);
    if (aio_context_has_uring(ctx)) {
        g_test_add_func("/aio-settings/batch", test_batch);
    }
    ret = g_test_run();
    aio_context_unref(ctx);
    return ret;
}
