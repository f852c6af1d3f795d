/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Two threads do I/O on one file while the main thread makes its descriptor
 * change: writers come and go, O_DIRECT is switched. Every request succeeds
 * and finds what was written. Made for TSan.
 */
#include "util/osdep.h"
#include "file-fixture.h"
#include "block/file/file-int.h"
#include "util/aio.h"
#include "util/iothread.h"

#define READ BLK_PERM_CONSISTENT_READ
#define THREADS 2
#define COROUTINES 4
#define CHANGES 200
#define AREA (256 * 1024)

typedef struct Worker {
    BlockBackend *blk;
    IOThread *iothread;
    int64_t base;           /* each has an area of the file */
    bool writes;            /* or only reads the zeroes that are there */
    bool stop;              /* atomic */
    unsigned started;       /* atomic */
    unsigned running;       /* atomic */
    uint64_t requests;      /* atomic */
} Worker;

static void coroutine_fn worker_run(void *opaque)
{
    Worker *w = opaque;
    unsigned me = qatomic_fetch_inc(&w->started);
    g_autofree uint8_t *buf = g_malloc(1000);
    int64_t offset = w->base + me * (AREA / COROUTINES) + 3;
    uint8_t value = 0;
    int64_t pnum;
    int ret;

    while (!qatomic_read(&w->stop)) {
        if (w->writes) {
            memset(buf, ++value, 1000);
            g_assert_cmpint(blk_co_pwrite(w->blk, offset, 1000, buf, 0), ==,
                            0);
        }
        memset(buf, ~value, 1000);
        g_assert_cmpint(blk_co_pread(w->blk, offset, 1000, buf, 0), ==, 0);
        g_assert_cmpint(buf[0], ==, value);
        g_assert_cmpint(buf[999], ==, value);
        /* Behind a write there is data, whatever was remembered. */
        ret = blk_co_block_status_above(w->blk, NULL, true, offset, 1000,
                                        &pnum, NULL, NULL, NULL);
        g_assert_cmpint(ret, >=, 0);
        g_assert_true(!w->writes || (ret & BDRV_BLOCK_DATA));
        qatomic_inc(&w->requests);
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
    w->base = (int64_t)id * AREA;
    w->blk = file_test_user(bs, READ | (w->writes ? BLK_PERM_WRITE : 0),
                            BLK_PERM_ALL & ~BLK_PERM_RESIZE);
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

/* Another user, who changes what the node as a whole holds. */
static void change_user(BlockDriverState *bs, int i)
{
    BlockBackend *blk = file_test_user(
        bs, READ | (i % 3 ? BLK_PERM_WRITE : 0),
        i % 2 ? BLK_PERM_ALL : BLK_PERM_ALL & ~BLK_PERM_WRITE_UNCHANGED);

    aio_poll(qemu_get_aio_context(), false);
    blk_unref(blk);
}

static bool change_direct(BlockDriverState *bs, int i)
{
    QDict *options = qdict_new();
    Error *err = NULL;

    qdict_put_str(options, "cache.direct", i % 2 ? "off" : "on");
    if (bdrv_reopen(bs, options, true, &err) < 0) {
        g_test_message("%s", error_get_pretty(err));
        error_free(err);
        return false;
    }
    return true;
}

static void run(const char *aio, bool writes)
{
    g_autofree char *path = file_test_make("threads", THREADS * AREA);
    BlockDriverState *bs = file_test_open(
        BDRV_O_RDWR, &error_abort, "{'driver': 'file', 'filename': '%s',"
        " 'auto-read-only': true, 'aio': '%s'}", path, aio);
    Worker w[THREADS] = { 0 };
    bool direct = true;

    for (int i = 0; i < THREADS; i++) {
        w[i].writes = writes;
        worker_start(&w[i], bs, i);
    }
    for (int i = 0; i < CHANGES; i++) {
        change_user(bs, i);
        if (direct && i % 4 == 0) {
            direct = change_direct(bs, i / 4);
        }
    }
    for (int i = 0; i < THREADS; i++) {
        /* All changes may be over before a slow thread has begun. */
        while (qatomic_read(&w[i].requests) < 2 * COROUTINES) {
            aio_poll(qemu_get_aio_context(), false);
            g_usleep(1000);
        }
        worker_join(&w[i]);
    }
    g_assert_cmpuint(bs->relax_errors, ==, 0);
    g_assert_cmphex(file_test_locks(path), ==, 0);
    bdrv_unref(bs);
}

static void test_threads(void)
{
    run("threads", true);
    run("threads", false);
}

static void test_io_uring(void)
{
    run("io_uring", true);
    run("io_uring", false);
}

int main(int argc, char **argv)
{
    file_test_init(&argc, &argv);
    g_test_add_func("/file-threads/threads", test_threads);
    if (aio_context_has_uring(qemu_get_aio_context())) {
        g_test_add_func("/file-threads/io_uring", test_io_uring);
    }
    return file_test_run();
}
