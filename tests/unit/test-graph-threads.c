/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Two threads do I/O while the main thread changes the graph below them:
 * filters come and go, files and backing files are exchanged, nodes are
 * reopened, permissions and claims change. Every request succeeds, and none
 * is in flight on a node while it is drained. Made for TSan.
 */
#include "util/osdep.h"
#include "graph-fixture.h"
#include "qobject/qdict.h"
#include "util/iothread.h"

#define THREADS 2
#define COROUTINES 4
#define CHANGES 300

typedef struct Worker {
    BlockBackend *blk;
    IOThread *iothread;
    bool stop;              /* atomic */
    unsigned running;       /* atomic: coroutines that have not ended */
    uint64_t requests;      /* atomic */
} Worker;

static void coroutine_fn worker_run(void *opaque)
{
    Worker *w = opaque;
    g_autofree uint8_t *buf = g_malloc(4096);
    unsigned i = 0;

    while (!qatomic_read(&w->stop)) {
        int64_t offset = (i++ % 200) * 4096;

        g_assert_cmpint(blk_co_pwrite(w->blk, offset, 4096, buf, 0), ==, 0);
        g_assert_cmpint(blk_co_pread(w->blk, offset, 4096, buf, 0), ==, 0);
        qatomic_inc(&w->requests);
        /* Let the loop serve the other coroutines. */
        aio_co_schedule(qemu_get_current_aio_context(),
                        qemu_coroutine_self());
        qemu_coroutine_yield();
    }
    if (qatomic_fetch_dec(&w->running) == 1) {
        aio_wait_kick();
    }
}

static void worker_start(Worker *w, BlockDriverState *bs, int id)
{
    g_autofree char *name = g_strdup_printf("io%d", id);

    w->iothread = iothread_new(name, &error_abort);
    w->blk = blk_new_with_bs(bs, BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE,
                             BLK_PERM_ALL, &error_abort);
    w->running = COROUTINES;
    for (int i = 0; i < COROUTINES; i++) {
        aio_co_schedule(iothread_get_aio_context(w->iothread),
                        qemu_coroutine_create(worker_run, w));
    }
}

static void worker_join(Worker *w)
{
    qatomic_set(&w->stop, true);
    AIO_WAIT_WHILE(NULL, qatomic_read(&w->running) > 0);
    blk_unref(w->blk);
    iothread_free(w->iothread);
}

static void change_filter(BlockDriverState *top)
{
    BlockDriverState *filter = test_filter("filter", top, BDRV_O_RDWR);

    g_assert_true(bdrv_replace_node(top, filter, NULL, &error_abort));
    g_assert_true(bdrv_drop_filter(filter, NULL, &error_abort));
    bdrv_unref(filter);
}

static void change_file(BlockDriverState *top, BlockDriverState *files[2],
                        int i)
{
    g_assert_true(bdrv_replace_child_bs(top->file, files[i % 2], NULL,
                                        &error_abort));
}

static void change_backing(BlockDriverState *top, BlockDriverState *base,
                           int i)
{
    BdrvClaimOwner *owner = bdrv_claim_owner_new("change %d", i);

    g_assert_true(bdrv_set_backing_hd(top, i % 2 ? base : NULL, NULL,
                                      &error_abort));
    if (top->backing) {
        g_assert_true(bdrv_chain_claim(owner, top, base, BDRV_CLAIM_FREEZE,
                                       &error_abort));
    }
    bdrv_claim_owner_free(owner);
}

/* A snapshot, and back: the users move to the overlay and to the node again. */
static void change_snapshot(BlockDriverState *top)
{
    BlockDriverState *overlay = test_overlay("overlay", NULL, BDRV_O_RDWR);

    g_assert_true(bdrv_append(overlay, top, NULL, &error_abort));
    g_assert_true(bdrv_drop_intermediate(overlay, top, NULL, NULL,
                                         &error_abort));
    bdrv_unref(overlay);
}

static void change_options(BlockDriverState *top, int i)
{
    QDict *options = qdict_new();

    qdict_put_str(options, "detect-zeroes", i % 2 ? "on" : "off");
    g_assert_cmpint(bdrv_reopen(top, options, true, &error_abort), ==, 0);
}

static void change_drain(BlockDriverState *top)
{
    bdrv_drained_begin(top);
    g_assert_cmpuint(qatomic_read(&top->in_flight), ==, 0);
    bdrv_drained_end(top);
}

static void test_threads(void)
{
    BlockDriverState *files[2] = { test_leaf("file0", BDRV_O_RDWR),
                                   test_leaf("file1", BDRV_O_RDWR) };
    BlockDriverState *top = test_format("top", files[0], BDRV_O_RDWR);
    BlockDriverState *base = test_overlay("base", NULL, 0);
    Worker w[THREADS] = { 0 };
    uint64_t requests = 0;

    for (int i = 0; i < THREADS; i++) {
        worker_start(&w[i], top, i);
    }
    for (int i = 0; i < CHANGES; i++) {
        switch (i % 6) {
        case 0:
            change_filter(top);
            break;
        case 1:
            change_file(top, files, i / 6);
            break;
        case 2:
            change_backing(top, base, i / 6);
            break;
        case 3:
            change_options(top, i / 6);
            break;
        case 4:
            change_drain(top);
            break;
        case 5:
            change_snapshot(top);
            break;
        }
    }
    for (int i = 0; i < THREADS; i++) {
        worker_join(&w[i]);
        requests += w[i].requests;
    }
    g_assert_cmpuint(requests, >, 0);
    g_test_message("%" PRIu64 " requests during %d changes", requests,
                   CHANGES);
    bdrv_unref(top);
    bdrv_unref(base);
    bdrv_unref(files[0]);
    bdrv_unref(files[1]);
    g_assert_null(bdrv_next_node(NULL));
}

int main(int argc, char **argv)
{
    test_graph_init(&argc, &argv);
    g_test_add_func("/graph/threads", test_threads);
    return g_test_run();
}
