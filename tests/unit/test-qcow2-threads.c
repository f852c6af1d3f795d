/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Several threads work on one image at a time, in the same clusters but never
 * in the same sector, while the main thread flushes, drains and reads. Each
 * thread knows what its sectors must read as. Made for TSan.
 */
#include "util/osdep.h"
#include "block/block_int.h"
#include "block/block-backend.h"
#include "qobject/qdict.h"
#include "util/aio.h"
#include "util/iothread.h"

#define THREADS 3
#define COROUTINES 6
#define OPS 120
#define SECTOR 512
#define DISK (1024 * 1024)
#define NB_SECTORS (DISK / SECTOR)
/* Every coroutine owns runs of so many sectors, in turn. */
#define STRIPE 5

typedef struct Worker {
    BlockBackend *blk;
    IOThread *iothread;
    unsigned running;       /* atomic */
} Worker;

typedef struct Task {
    Worker *w;
    GRand *rand;
    int id;
} Task;

/* A sector is its owner's. */
static uint8_t model[NB_SECTORS];
static int cluster_size;

static int random_stripe(Task *t)
{
    int stripes = NB_SECTORS / STRIPE;
    int owners = THREADS * COROUTINES;
    int i = g_rand_int_range(t->rand, 0, stripes / owners);

    return (i * owners + t->id) * STRIPE;
}

static void coroutine_fn one_op(Task *t)
{
    int first = random_stripe(t);
    int n = g_rand_int_range(t->rand, 1, STRIPE + 1);
    int64_t offset = first * SECTOR;
    uint8_t buf[STRIPE * SECTOR];
    uint8_t value = g_rand_int_range(t->rand, 1, 256);

    switch (g_rand_int_range(t->rand, 0, 8)) {
    case 0:
        g_assert_cmpint(blk_co_pwrite_zeroes(t->w->blk, offset, n * SECTOR,
                                             BDRV_REQ_MAY_UNMAP), ==, 0);
        memset(model + first, 0, n);
        break;
    case 1:
        g_assert_cmpint(blk_co_pdiscard(t->w->blk, offset, n * SECTOR), ==, 0);
        /* Less than a cluster stays as it is. */
        if (cluster_size == SECTOR) {
            memset(model + first, 0, n);
        }
        break;
    case 2:
        g_assert_cmpint(blk_co_flush(t->w->blk), ==, 0);
        break;
    case 3:
    case 4:
        g_assert_cmpint(blk_co_pread(t->w->blk, offset, n * SECTOR, buf, 0),
                        ==, 0);
        for (int i = 0; i < n * SECTOR; i++) {
            g_assert_cmpint(buf[i], ==, model[first + i / SECTOR]);
        }
        break;
    default:
        memset(buf, value, n * SECTOR);
        g_assert_cmpint(blk_co_pwrite(t->w->blk, offset, n * SECTOR, buf, 0),
                        ==, 0);
        memset(model + first, value, n);
        break;
    }
}

static void coroutine_fn task_entry(void *opaque)
{
    Task *t = opaque;

    for (int i = 0; i < OPS; i++) {
        one_op(t);
    }
    if (qatomic_fetch_dec(&t->w->running) == 1) {
        aio_wait_kick();
    }
}

static void start(Worker *w, BlockDriverState *bs, Task *tasks, int index)
{
    g_autofree char *name = g_strdup_printf("io%d", index);

    w->iothread = iothread_new(name, &error_abort);
    w->blk = blk_new_with_bs(bs, BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE,
                             BLK_PERM_ALL, &error_abort);
    blk_set_enable_write_cache(w->blk, true);
    w->running = COROUTINES;
    for (int i = 0; i < COROUTINES; i++) {
        Task *t = &tasks[i];

        t->w = w;
        t->id = index * COROUTINES + i;
        t->rand = g_rand_new_with_seed(g_test_rand_int());
        aio_co_schedule(iothread_get_aio_context(w->iothread),
                        qemu_coroutine_create(task_entry, t));
    }
}

static bool any_running(Worker *workers)
{
    for (int i = 0; i < THREADS; i++) {
        if (qatomic_read(&workers[i].running)) {
            return true;
        }
    }
    return false;
}

/* What the main thread does meanwhile. */
static void disturb(BlockBackend *blk, int i)
{
    g_autofree uint8_t *buf = g_malloc(65536);

    switch (i % 3) {
    case 0:
        g_assert_cmpint(blk_flush(blk), ==, 0);
        break;
    case 1:
        bdrv_drained_begin(blk_bs(blk));
        bdrv_drained_end(blk_bs(blk));
        break;
    case 2:
        g_assert_cmpint(blk_pread(blk, 0, 65536, buf, 0), ==, 0);
        break;
    }
}

static void verify(BlockBackend *blk)
{
    g_autofree uint8_t *buf = g_malloc(DISK);
    BdrvCheckResult res = { 0 };

    g_assert_cmpint(blk_pread(blk, 0, DISK, buf, 0), ==, 0);
    for (int i = 0; i < DISK; i++) {
        g_assert_cmpint(buf[i], ==, model[i / SECTOR]);
    }
    g_assert_cmpint(blk_flush(blk), ==, 0);
    g_assert_cmpint(bdrv_check(blk_bs(blk), &res, 0), ==, 0);
    g_assert_cmpint(res.corruptions, ==, 0);
    g_assert_cmpint(res.leaks, ==, 0);
}

static BlockBackend *open_image(const char *path)
{
    QDict *options = qdict_new();
    BlockBackend *blk;

    qdict_put_str(options, "driver", "qcow2");
    qdict_put_str(options, "l2-cache-size", "4096");
    qdict_put_str(options, "l2-cache-entry-size", "512");
    blk = blk_new_open(path, NULL, options, BDRV_O_RDWR | BDRV_O_UNMAP,
                       &error_abort);
    blk_set_enable_write_cache(blk, true);
    return blk;
}

static void test_threads(const void *opaque)
{
    g_autofree char *size = g_strdup_printf("%d", GPOINTER_TO_INT(opaque));
    g_autofree char *path = NULL;
    int fd = g_file_open_tmp("qcow2-XXXXXX", &path, NULL);
    QDict *create = qdict_new();
    Worker workers[THREADS] = { 0 };
    Task tasks[THREADS][COROUTINES];
    BlockBackend *blk;

    g_assert_cmpint(fd, >=, 0);
    close(fd);
    qdict_put_str(create, "size", "1M");
    qdict_put_str(create, "cluster_size", size);
    g_assert_cmpint(bdrv_create(bdrv_find_format("qcow2"), path, create,
                                &error_abort), ==, 0);
    qobject_unref(create);
    memset(model, 0, sizeof(model));
    cluster_size = GPOINTER_TO_INT(opaque);

    blk = open_image(path);
    for (int i = 0; i < THREADS; i++) {
        start(&workers[i], blk_bs(blk), tasks[i], i);
    }
    for (int i = 0; any_running(workers); i++) {
        disturb(blk, i);
        aio_poll(qemu_get_aio_context(), false);
    }
    for (int i = 0; i < THREADS; i++) {
        blk_unref(workers[i].blk);
        iothread_free(workers[i].iothread);
        for (int j = 0; j < COROUTINES; j++) {
            g_rand_free(tasks[i][j].rand);
        }
    }
    verify(blk);
    blk_unref(blk);
    blk = open_image(path);
    verify(blk);
    blk_unref(blk);
    unlink(path);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    qemu_init_main_loop(&error_abort);
    bdrv_init();
    g_test_add_data_func("/qcow2/threads/512", GINT_TO_POINTER(512),
                         test_threads);
    g_test_add_data_func("/qcow2/threads/4k", GINT_TO_POINTER(4096),
                         test_threads);
    g_test_add_data_func("/qcow2/threads/64k", GINT_TO_POINTER(65536),
                         test_threads);
    return g_test_run();
}
