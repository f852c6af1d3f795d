/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Draining: what is in flight ends, what comes later waits, and everything
 * goes on afterwards, in the thread where it began.
 */
#include "util/osdep.h"
#include "ram-driver.h"
#include "util/aio.h"
#include "util/iothread.h"
#include "util/iov.h"

#define LEN (1 << 20)
#define RW BDRV_O_RDWR

static const RamConfig config = { .length = LEN };

/* A read of one byte; the test has to keep it until it is done. */
typedef struct Read {
    RamAio aio;
    uint8_t byte;
    QEMUIOVector qiov;
} Read;

static void read_start(Read *r, BlockBackend *blk)
{
    r->aio = (RamAio) { 0 };
    qemu_iovec_init_buf(&r->qiov, &r->byte, 1);
    blk_aio_preadv(blk, 0, &r->qiov, 0, ram_aio_cb, &r->aio);
}

static void release_later(void *opaque)
{
    ram_release(opaque);
}

/* begin waits for the request that runs; later ones wait for end. */
static void test_wait_and_queue(void)
{
    BlockDriverState *bs = ram_node("node", RW, &config);
    BlockBackend *blk = ram_backend(bs);
    Read running, queued;

    ram_hold(bs, RAM_READ);
    read_start(&running, blk);
    ram_wait_held(bs, 1);
    aio_bh_schedule_oneshot(qemu_get_aio_context(), release_later, bs);
    bdrv_drained_begin(bs);
    g_assert_true(running.aio.done);
    g_assert_cmpuint(bs->in_flight, ==, 0);

    read_start(&queued, blk);
    ram_settle();
    g_assert_false(queued.aio.done);
    g_assert_cmpuint(ram_state(bs)->reads, ==, 1);
    g_assert_false(bdrv_drain_poll(bs));
    bdrv_drained_end(bs);
    g_assert_cmpint(ram_aio_wait(&queued.aio), ==, 0);
    g_assert_cmpuint(ram_state(bs)->reads, ==, 2);
    blk_unref(blk);
    bdrv_unref(bs);
}

/* Sections nest; the edge itself keeps working inside. */
static void test_nested(void)
{
    BlockDriverState *bs = ram_node("node", RW, &config);
    BlockBackend *blk = ram_backend(bs);
    Read queued;
    uint8_t byte;

    bdrv_drained_begin(bs);
    bdrv_drained_begin(bs);
    read_start(&queued, blk);
    g_assert_cmpint(bdrv_pread(blk_root(blk), 0, 1, &byte, 0), ==, 0);
    g_assert_cmpint(bdrv_pwrite(blk_root(blk), 0, 1, &byte, 0), ==, 0);
    bdrv_drained_end(bs);
    ram_settle();
    g_assert_false(queued.aio.done);
    g_assert_cmpint(bs->quiesce_counter, ==, 1);
    bdrv_drained_end(bs);
    g_assert_cmpint(ram_aio_wait(&queued.aio), ==, 0);
    g_assert_cmpint(bs->quiesce_counter, ==, 0);
    blk_unref(blk);
    bdrv_unref(bs);
}

/*
 * Draining the base stops users of every node above it, by all paths, once:
 *
 *      blk_a   blk_b
 *        |       |
 *        A       B
 *         \     / \
 *          base    other
 *
 * and nobody else.
 */
static void test_graph(void)
{
    RamConfig cfg = { .length = LEN };
    BlockDriverState *base = ram_node("base", 0, &cfg);
    BlockDriverState *a = ram_overlay("a", RW, &cfg, base);
    BlockDriverState *mid = ram_overlay("mid", 0, &cfg, base);
    BlockDriverState *b = ram_overlay("b", RW, &cfg, mid);
    BlockDriverState *other = ram_node("other", RW, &cfg);
    BlockBackend *blk_a = ram_backend(a), *blk_b = ram_backend(b);
    BlockBackend *blk_other = ram_backend(other);
    Read read_a, read_b, read_other;

    ram_hold(base, RAM_READ);
    read_start(&read_a, blk_a);
    read_start(&read_b, blk_b);
    ram_wait_held(base, 2);
    bdrv_drained_begin_nopoll(base);
    g_assert_true(bdrv_drain_poll(base));
    g_assert_cmpint(a->quiesce_counter, ==, 1);
    g_assert_cmpint(b->quiesce_counter, ==, 1);
    g_assert_cmpint(other->quiesce_counter, ==, 0);
    ram_release(base);
    while (bdrv_drain_poll(base)) {
        aio_poll(qemu_get_aio_context(), true);
    }
    g_assert_true(read_a.aio.done && read_b.aio.done);
    read_start(&read_other, blk_other);
    g_assert_cmpint(ram_aio_wait(&read_other.aio), ==, 0);
    read_start(&read_a, blk_a);
    ram_settle();
    g_assert_false(read_a.aio.done);
    bdrv_drained_end(base);
    g_assert_cmpint(ram_aio_wait(&read_a.aio), ==, 0);
    g_assert_cmpint(b->quiesce_counter, ==, 0);
    g_assert_cmpint(mid->quiesce_counter, ==, 0);
    blk_unref(blk_other);
    blk_unref(blk_b);
    blk_unref(blk_a);
    bdrv_unref(other);
    bdrv_unref(b);
    bdrv_unref(mid);
    bdrv_unref(a);
    bdrv_unref(base);
}

/* A diamond: the node on top is quiesced once for each edge, and ends at 0. */
static void test_diamond(void)
{
    RamConfig cfg = { .length = LEN };
    BlockDriverState *base = ram_node("base", 0, &cfg);
    BlockDriverState *left = ram_overlay("left", 0, &cfg, base);
    BlockDriverState *top = ram_overlay("top", 0, &cfg, left);
    BlockBackend *blk = blk_new_with_bs(top, BLK_PERM_CONSISTENT_READ,
                                        BLK_PERM_ALL, &error_abort);
    BdrvChild *second;

    second = bdrv_attach_child(top, bdrv_ref(base), "second", BDRV_CHILD_DATA,
                               &error_abort);
    bdrv_drained_begin(base);
    g_assert_cmpint(top->quiesce_counter, ==, 2);
    bdrv_drained_end(base);
    g_assert_cmpint(top->quiesce_counter, ==, 0);
    /* An edge that goes, or comes, in a drained section. */
    bdrv_drained_begin(base);
    g_assert_true(bdrv_unref_child(top, second, NULL, &error_abort));
    g_assert_cmpint(top->quiesce_counter, ==, 1);
    second = bdrv_attach_child(top, bdrv_ref(base), "second", BDRV_CHILD_DATA,
                               &error_abort);
    g_assert_cmpint(top->quiesce_counter, ==, 2);
    bdrv_drained_end(base);
    g_assert_cmpint(top->quiesce_counter, ==, 0);
    blk_unref(blk);
    bdrv_unref(top);
    bdrv_unref(left);
    bdrv_unref(base);
}

/*
 * The stop reaches the top of a long chain in a loop: the stack is no deeper
 * there than a few calls.
 */
#define CHAIN 500
#define DEPTH_MAX 2048

static uintptr_t stack_depth;   /* address of a variable of the callback's */

static char *top_desc(BdrvChild *child)
{
    return g_strdup("the top");
}

static QEMU_NOINLINE void top_note_depth(BdrvChild *child)
{
    stack_depth = (uintptr_t)__builtin_frame_address(0);
}

static const BdrvChildClass top_class = {
    .get_parent_desc = top_desc,
    .drained_begin = top_note_depth,
    .drained_end = top_note_depth,
};

static void check_depth(void)
{
    uintptr_t here = (uintptr_t)__builtin_frame_address(0);

    g_assert_cmpuint(stack_depth, !=, 0);
    g_assert_cmpuint(here - stack_depth, <, DEPTH_MAX);
    stack_depth = 0;
}

static void test_long_chain(void)
{
    RamConfig cfg = { .length = 4096 };
    BlockDriverState *base = ram_node("base", 0, &cfg), *top = base;
    g_autoptr(GPtrArray) nodes = g_ptr_array_new();
    BdrvChild *edge;

    g_ptr_array_add(nodes, base);
    for (int i = 0; i < CHAIN; i++) {
        BlockDriverState *bs = ram_filter(NULL, 0, top);

        g_ptr_array_add(nodes, bs);
        top = bs;
    }
    edge = bdrv_root_attach_child(bdrv_ref(top), "top", &top_class,
                                  BDRV_CHILD_FILTERED, 0, BLK_PERM_ALL, NULL,
                                  &error_abort);
    bdrv_drained_begin(base);
    g_assert_cmpint(top->quiesce_counter, ==, 1);
    check_depth();
    bdrv_drained_end(base);
    g_assert_cmpint(top->quiesce_counter, ==, 0);
    check_depth();
    bdrv_root_unref_child(edge);
    while (nodes->len) {
        bdrv_unref(g_ptr_array_steal_index(nodes, nodes->len - 1));
    }
}

static void test_drain_all(void)
{
    BlockDriverState *a = ram_node("a", RW, &config);
    BlockDriverState *b = ram_node("b", RW, &config);
    BlockBackend *blk_a = ram_backend(a), *blk_b = ram_backend(b);
    BlockDriverState *late;
    BlockBackend *blk_late;
    Read ra, rb, rlate;

    ram_hold(b, RAM_READ);
    read_start(&rb, blk_b);
    ram_wait_held(b, 1);
    aio_bh_schedule_oneshot(qemu_get_aio_context(), release_later, b);
    bdrv_drain_all_begin();
    g_assert_true(rb.aio.done);
    read_start(&ra, blk_a);
    /* A node made in between is not concerned; one that goes may go. */
    late = ram_node("late", RW, &config);
    blk_late = ram_backend(late);
    read_start(&rlate, blk_late);
    g_assert_cmpint(ram_aio_wait(&rlate.aio), ==, 0);
    blk_unref(blk_b);
    bdrv_unref(b);
    bdrv_drain_all_begin();
    bdrv_drain_all_end();
    ram_settle();
    g_assert_false(ra.aio.done);
    bdrv_drain_all_end();
    g_assert_cmpint(ram_aio_wait(&ra.aio), ==, 0);
    g_assert_null(bdrv_find_node("b"));
    blk_unref(blk_late);
    bdrv_unref(late);
    blk_unref(blk_a);
    bdrv_unref(a);
}

/*
 * A request is beyond the queue and waits for the graph lock when the node is
 * drained: it goes back to the queue once it has the lock.
 */
static void test_drained_behind_writer(void)
{
    BlockDriverState *bs = ram_node("node", RW, &config);
    BlockBackend *blk = ram_backend(bs);
    Read read;

    bdrv_graph_wrlock();
    read_start(&read, blk);
    bdrv_drained_begin_nopoll(bs);
    bdrv_graph_wrunlock();
    while (bdrv_drain_poll(bs)) {
        aio_poll(qemu_get_aio_context(), true);
    }
    g_assert_false(read.aio.done);
    g_assert_cmpuint(ram_state(bs)->reads, ==, 0);
    bdrv_drained_end(bs);
    g_assert_cmpint(ram_aio_wait(&read.aio), ==, 0);
    blk_unref(blk);
    bdrv_unref(bs);
}

/* With queuing disabled requests fail instead, those that queue already too. */
static void test_no_queuing(void)
{
    BlockDriverState *bs = ram_node("node", RW, &config);
    BlockBackend *blk = ram_backend(bs);
    Read first, second;

    bdrv_drained_begin(bs);
    read_start(&first, blk);
    ram_settle();
    g_assert_false(first.aio.done);
    blk_set_disable_request_queuing(blk, true);
    g_assert_cmpint(ram_aio_wait(&first.aio), ==, -ECANCELED);
    read_start(&second, blk);
    g_assert_cmpint(ram_aio_wait(&second.aio), ==, -ECANCELED);
    bdrv_drained_end(bs);
    blk_unref(blk);
    bdrv_unref(bs);
}

/* --------------------------------------------------------------- threads */

/*
 * Threads issue requests without pause. Each time the node is drained the
 * driver runs none, and the number of requests begun stands still.
 */
#define THREADS 3
#define COROUTINES 4
#define ROUNDS 300

typedef struct Worker {
    BlockBackend *blk;
    IOThread *iothread;
    bool stop;
    unsigned running;
    unsigned next_block;    /* each coroutine has its own */
    uint64_t done;
} Worker;

static void coroutine_fn worker_run(void *opaque)
{
    Worker *w = opaque;
    AioContext *ctx = qemu_get_current_aio_context();
    int64_t offset = qatomic_fetch_inc(&w->next_block) * 512;
    uint8_t buf[512] = { 0 };

    while (!qatomic_read(&w->stop)) {
        g_assert_cmpint(blk_co_pread(w->blk, offset, 512, buf, 0), ==, 0);
        /* Also after it was woken by the end of a drain. */
        g_assert_true(qemu_get_current_aio_context() == ctx);
        g_assert_cmpint(blk_co_pwrite(w->blk, offset, 512, buf, 0), ==, 0);
        g_assert_cmpint(blk_co_flush(w->blk), ==, 0);
        qatomic_inc(&w->done);
        qemu_co_yield_to_loop();
    }
    if (qatomic_fetch_dec(&w->running) == 1) {
        aio_wait_kick();
    }
}

static void worker_start(Worker *w, BlockDriverState *bs, unsigned id)
{
    *w = (Worker) { .blk = ram_backend(bs), .running = COROUTINES,
                    .next_block = id * COROUTINES };
    w->iothread = iothread_new("drain", &error_abort);
    for (int i = 0; i < COROUTINES; i++) {
        aio_co_schedule(iothread_get_aio_context(w->iothread),
                        qemu_coroutine_create(worker_run, w));
    }
}

static uint64_t work_done(Worker *workers)
{
    uint64_t sum = 0;

    for (int i = 0; i < THREADS; i++) {
        sum += qatomic_read(&workers[i].done);
    }
    return sum;
}

static void test_threads(void)
{
    RamConfig cfg = { .length = LEN };
    BlockDriverState *base = ram_node("base", RW, &cfg);
    BlockDriverState *top = ram_filter("top", RW, base);
    Worker workers[THREADS];
    uint64_t last = 0;

    for (int i = 0; i < THREADS; i++) {
        /* The threads' backends sit on both nodes. */
        worker_start(&workers[i], i % 2 ? base : top, i);
    }
    for (int i = 0; i < ROUNDS; i++) {
        RamState *s = ram_state(base);
        unsigned begun;

        if (i % 3 == 0) {
            bdrv_drain_all_begin();
        } else {
            bdrv_drained_begin(base);
        }
        begun = qatomic_read(&s->reads) + qatomic_read(&s->writes);
        g_assert_cmpuint(qatomic_read(&s->running), ==, 0);
        g_assert_cmpuint(qatomic_read(&base->in_flight), ==, 0);
        g_assert_cmpuint(qatomic_read(&top->in_flight), ==, 0);
        for (int j = 0; j < 20; j++) {
            aio_poll(qemu_get_aio_context(), false);
            sched_yield();
        }
        g_assert_cmpuint(qatomic_read(&s->running), ==, 0);
        g_assert_cmpuint(qatomic_read(&s->reads) + qatomic_read(&s->writes),
                         ==, begun);
        if (i % 3 == 0) {
            bdrv_drain_all_end();
        } else {
            bdrv_drained_end(base);
        }
        /* They do go on. */
        while (work_done(workers) <= last) {
            aio_poll(qemu_get_aio_context(), false);
            sched_yield();
        }
        last = work_done(workers);
    }
    for (int i = 0; i < THREADS; i++) {
        Worker *w = &workers[i];

        qatomic_set(&w->stop, true);
        AIO_WAIT_WHILE(NULL, qatomic_load_acquire(&w->running) > 0);
        iothread_free(w->iothread);
        blk_unref(w->blk);
    }
    bdrv_unref(top);
    bdrv_unref(base);
}

/* The last reference to a backend goes while others still use it. */
static void test_unref_in_flight(void)
{
    BlockDriverState *bs = ram_node("node", RW, &config);
    BlockBackend *blk = ram_backend(bs);
    Read read;

    ram_hold(bs, RAM_READ);
    read_start(&read, blk);
    ram_wait_held(bs, 1);
    aio_bh_schedule_oneshot(qemu_get_aio_context(), release_later, bs);
    blk_unref(blk);
    g_assert_true(read.aio.done);
    g_assert_cmpint(read.aio.ret, ==, 0);
    bdrv_unref(bs);
}

int main(int argc, char **argv)
{
    ram_test_init(&argc, &argv);
    g_test_add_func("/drain/wait-and-queue", test_wait_and_queue);
    g_test_add_func("/drain/nested", test_nested);
    g_test_add_func("/drain/graph", test_graph);
    g_test_add_func("/drain/diamond", test_diamond);
    g_test_add_func("/drain/long-chain", test_long_chain);
    g_test_add_func("/drain/all", test_drain_all);
    g_test_add_func("/drain/drained-behind-writer",
                    test_drained_behind_writer);
    g_test_add_func("/drain/no-queuing", test_no_queuing);
    g_test_add_func("/drain/threads", test_threads);
    g_test_add_func("/drain/unref-in-flight", test_unref_in_flight);
    return g_test_run();
}
