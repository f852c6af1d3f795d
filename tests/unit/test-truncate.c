/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Several requests that change the length of a node at a time: each begins when
 * the one before has ended, with the length that it left.
 */
#include "util/osdep.h"
#include "ram-driver.h"
#include "util/aio.h"
#include "util/error.h"

#define KiB 1024

static const RamConfig cfg = { .length = 64 * KiB, .cluster = 4096 };

typedef struct Fixture {
    BlockDriverState *bs;
    BlockBackend *blk;
    RamState *s;
} Fixture;

static void fixture_init(Fixture *f)
{
    f->bs = ram_node("disk", BDRV_O_RDWR, &cfg);
    f->blk = blk_new_with_bs(f->bs, RAM_PERM | BLK_PERM_RESIZE, BLK_PERM_ALL,
                             &error_abort);
    blk_set_allow_write_beyond_eof(f->blk, true);
    f->s = ram_state(f->bs);
}

static void fixture_free(Fixture *f)
{
    blk_unref(f->blk);
    bdrv_unref(f->bs);
}

/* --- requests --- */

typedef struct Job {
    Fixture *f;
    int64_t offset;
    BdrvRequestFlags flags;
    bool hold_next;         /* the next truncation waits in the driver */
    int ret;
    bool done;
} Job;

static void coroutine_fn truncate_entry(void *opaque)
{
    Job *job = opaque;

    job->ret = blk_co_truncate(job->f->blk, job->offset, false,
                               PREALLOC_MODE_OFF, job->flags, NULL);
    if (job->hold_next) {
        ram_hold(job->f->bs, RAM_TRUNCATE);
    }
    job->done = true;
}

static void coroutine_fn write_entry(void *opaque)
{
    static const uint8_t buf[4096] = { 1 };
    Job *job = opaque;

    job->ret = blk_co_pwrite(job->f->blk, job->offset, sizeof(buf), buf, 0);
    job->done = true;
}

static void start(Job *job, Fixture *f, int64_t offset, BdrvRequestFlags flags,
                  CoroutineEntry *entry)
{
    *job = (Job) { .f = f, .offset = offset, .flags = flags };
    qemu_coroutine_enter(qemu_coroutine_create(entry, job));
}

static void finish(Job *job)
{
    AIO_WAIT_WHILE(NULL, !job->done);
    g_assert_cmpint(job->ret, ==, 0);
}

/* --- tests --- */

/* Growing from 64k to 128k and shrinking to 32k have no byte in common. */
static void test_grow_then_shrink(void)
{
    Job grow, shrink;
    Fixture f;

    fixture_init(&f);
    ram_hold(f.bs, RAM_TRUNCATE);
    start(&grow, &f, 128 * KiB, 0, truncate_entry);
    ram_wait_held(f.bs, 1);
    start(&shrink, &f, 32 * KiB, 0, truncate_entry);
    ram_settle();
    g_assert_cmpuint(f.s->truncates, ==, 1);
    ram_release(f.bs);
    finish(&grow);
    finish(&shrink);
    g_assert_cmpint(blk_getlength(f.blk), ==, 32 * KiB);
    fixture_free(&f);
}

/*
 * The growing one finds a shorter node than when it was asked for: it keeps
 * writes out from there on, not from 64k.
 */
static void test_shrink_then_grow(void)
{
    Job shrink, grow, write;
    Fixture f;

    fixture_init(&f);
    ram_hold(f.bs, RAM_TRUNCATE);
    start(&shrink, &f, 32 * KiB, 0, truncate_entry);
    ram_wait_held(f.bs, 1);
    start(&grow, &f, 128 * KiB, 0, truncate_entry);
    ram_settle();
    g_assert_cmpuint(f.s->truncates, ==, 1);

    shrink.hold_next = true;
    ram_release(f.bs);
    finish(&shrink);
    ram_wait_held(f.bs, 1);
    g_assert_cmpint(f.s->length, ==, 32 * KiB);
    start(&write, &f, 40 * KiB, 0, write_entry);
    ram_settle();
    g_assert_cmpuint(f.s->writes, ==, 0);
    ram_release(f.bs);
    finish(&grow);
    finish(&write);
    g_assert_cmpint(blk_getlength(f.blk), ==, 128 * KiB);
    fixture_free(&f);
}

/* A write behind the end is not cut off by one who wanted more, not less. */
static void test_no_shrink(void)
{
    Job write, grow;
    Fixture f;

    fixture_init(&f);
    ram_hold(f.bs, RAM_WRITE);
    start(&write, &f, 124 * KiB, 0, write_entry);
    ram_wait_held(f.bs, 1);
    start(&grow, &f, 96 * KiB, BDRV_REQ_NO_SHRINK, truncate_entry);
    ram_settle();
    ram_release(f.bs);
    finish(&write);
    finish(&grow);
    g_assert_cmpint(blk_getlength(f.blk), ==, 128 * KiB);
    g_assert_cmphex(f.s->data[124 * KiB], ==, 1);

    /* What asks for no more than there is does nothing; more is made. */
    start(&grow, &f, 128 * KiB, BDRV_REQ_NO_SHRINK, truncate_entry);
    finish(&grow);
    g_assert_cmpuint(f.s->truncates, ==, 0);
    start(&grow, &f, 160 * KiB, BDRV_REQ_NO_SHRINK, truncate_entry);
    finish(&grow);
    g_assert_cmpint(blk_getlength(f.blk), ==, 160 * KiB);
    fixture_free(&f);
}

int main(int argc, char **argv)
{
    ram_test_init(&argc, &argv);
    g_test_add_func("/truncate/grow-then-shrink", test_grow_then_shrink);
    g_test_add_func("/truncate/shrink-then-grow", test_shrink_then_grow);
    g_test_add_func("/truncate/no-shrink", test_no_shrink);
    return g_test_run();
}
