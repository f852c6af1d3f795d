/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The metadata cache: finding, evicting, writing, forgetting. */
#include "util/osdep.h"
#include "qcow2-fixture.h"

#define CLUSTER 4096

static RamDisk *disk;

static void with_cache(Qcow2TestFunc *fn)
{
    static const TestGeometry g = { 3, 12, 4, 1024 * 1024, false };
    BlockBackend *blk;

    disk = ram_disk_new(4 * 1024 * 1024);
    ram_disk_format(disk, &g);
    disk->size = disk->capacity;
    /* Metadata is not where this writes: nothing to protect. */
    blk = ram_disk_open(disk, BDRV_O_RDWR, "'overlap-check': 'none'", NULL);
    run_locked(blk, fn);
    blk_unref(blk);
    ram_disk_free(disk);
}

/* A place on disk far behind all metadata. */
static uint64_t place(int i)
{
    return (100 + i) * CLUSTER;
}

static void coroutine_fn put_value(BlockDriverState *bs, Qcow2Cache *c, int i,
                                   uint8_t value)
{
    void *table;

    g_assert_cmpint(qcow2_cache_get(bs, c, place(i), &table), ==, 0);
    memset(table, value, CLUSTER);
    qcow2_cache_entry_mark_dirty(c, table);
    qcow2_cache_put(c, &table);
    g_assert_null(table);
}

static uint8_t coroutine_fn get_value(BlockDriverState *bs, Qcow2Cache *c,
                                      int i)
{
    void *table;
    uint8_t value;

    g_assert_cmpint(qcow2_cache_get(bs, c, place(i), &table), ==, 0);
    value = *(uint8_t *)table;
    qcow2_cache_put(c, &table);
    return value;
}

/* What was used last stays; what goes is written and comes back. */
static void coroutine_fn eviction(BlockDriverState *bs)
{
    Qcow2Cache *c = qcow2_cache_create(bs, 4, CLUSTER,
                                       QCOW2_OL_REFCOUNT_BLOCK);
    int reads;

    for (int i = 0; i < 4; i++) {
        put_value(bs, c, i, i + 1);
    }
    get_value(bs, c, 0);
    reads = disk->reads;
    get_value(bs, c, 4);
    g_assert_cmpint(disk->reads, ==, reads + 1);
    g_assert_true(qcow2_cache_contains(c, place(0)));
    g_assert_false(qcow2_cache_contains(c, place(1)));
    g_assert_cmpint(disk->data[place(1)], ==, 2);
    g_assert_cmpint(disk->data[place(0)], ==, 0);
    for (int i = 0; i < 20; i++) {
        put_value(bs, c, i, i + 10);
    }
    for (int i = 0; i < 20; i++) {
        g_assert_cmpint(get_value(bs, c, i), ==, i + 10);
    }
    g_assert_cmpint(qcow2_cache_write(bs, c), ==, 0);
    g_assert_false(qcow2_cache_is_dirty(c));
    for (int i = 0; i < 20; i++) {
        g_assert_cmpint(disk->data[place(i) + CLUSTER - 1], ==, i + 10);
    }
    qcow2_cache_destroy(c);
}

/* A pinned piece does not move, whatever else is asked for. */
static void coroutine_fn pinned(BlockDriverState *bs)
{
    Qcow2Cache *c = qcow2_cache_create(bs, 2, CLUSTER,
                                       QCOW2_OL_REFCOUNT_BLOCK);
    void *table, *again;

    g_assert_cmpint(qcow2_cache_get(bs, c, place(0), &table), ==, 0);
    for (int i = 1; i < 6; i++) {
        put_value(bs, c, i, i);
    }
    g_assert_true(qcow2_cache_contains(c, place(0)));
    g_assert_cmpint(qcow2_cache_get(bs, c, place(0), &again), ==, 0);
    g_assert_true(again == table);
    qcow2_cache_put(c, &again);
    qcow2_cache_put(c, &table);
    qcow2_cache_write(bs, c);
    qcow2_cache_destroy(c);
}

/* Pieces side by side go out in one write, in order. */
static void coroutine_fn merged(BlockDriverState *bs)
{
    Qcow2Cache *c = qcow2_cache_create(bs, 16, CLUSTER,
                                       QCOW2_OL_REFCOUNT_BLOCK);
    int writes;

    for (int i = 7; i >= 0; i--) {
        put_value(bs, c, i, i + 1);
    }
    put_value(bs, c, 12, 12);
    writes = disk->writes;
    g_assert_cmpint(qcow2_cache_write(bs, c), ==, 0);
    g_assert_cmpint(disk->writes, ==, writes + 2);
    for (int i = 0; i < 8; i++) {
        g_assert_cmpint(disk->data[place(i)], ==, i + 1);
    }
    qcow2_cache_destroy(c);
}

/* A failed write loses nothing; a failed read leaves nothing behind. */
static void coroutine_fn failing(BlockDriverState *bs)
{
    Qcow2Cache *c = qcow2_cache_create(bs, 2, CLUSTER,
                                       QCOW2_OL_REFCOUNT_BLOCK);
    void *table = NULL;

    put_value(bs, c, 0, 7);
    put_value(bs, c, 1, 8);
    disk->fail_after = 0;
    g_assert_cmpint(qcow2_cache_write(bs, c), ==, -EIO);
    g_assert_cmpint(qcow2_cache_get(bs, c, place(2), &table), ==, -EIO);
    g_assert_null(table);
    disk->fail_after = -1;
    g_assert_cmpint(get_value(bs, c, 0), ==, 7);
    g_assert_cmpint(get_value(bs, c, 1), ==, 8);
    g_assert_cmpint(qcow2_cache_write(bs, c), ==, 0);
    g_assert_cmpint(disk->data[place(0)], ==, 7);

    disk->fail_reads = true;
    disk->fail_after = 0;
    g_assert_cmpint(qcow2_cache_get(bs, c, place(3), &table), ==, -EIO);
    g_assert_false(qcow2_cache_contains(c, place(3)));
    disk->fail_after = -1;
    g_assert_cmpint(get_value(bs, c, 3), ==, 0);
    qcow2_cache_destroy(c);
}

/* The piece of a freed cluster is forgotten, not written. */
static void coroutine_fn discarded(BlockDriverState *bs)
{
    Qcow2Cache *c = qcow2_cache_create(bs, 4, CLUSTER,
                                       QCOW2_OL_REFCOUNT_BLOCK);

    put_value(bs, c, 0, 1);
    put_value(bs, c, 1, 2);
    qcow2_cache_discard_range(c, place(1), CLUSTER);
    g_assert_cmpint(qcow2_cache_write(bs, c), ==, 0);
    g_assert_cmpint(disk->data[place(0)], ==, 1);
    g_assert_cmpint(disk->data[place(1)], ==, 0);
    put_value(bs, c, 2, 3);
    qcow2_cache_discard_range(c, 0, 4 * 1024 * 1024);
    g_assert_false(qcow2_cache_is_dirty(c));
    g_assert_false(qcow2_cache_contains(c, place(0)));
    qcow2_cache_destroy(c);
}

/* Unused and clean pieces go at the second call; dirty ones never. */
static void coroutine_fn cleaned(BlockDriverState *bs)
{
    Qcow2Cache *c = qcow2_cache_create(bs, 8, CLUSTER,
                                       QCOW2_OL_REFCOUNT_BLOCK);

    get_value(bs, c, 0);
    put_value(bs, c, 1, 9);
    qcow2_cache_clean_unused(c);
    g_assert_true(qcow2_cache_contains(c, place(0)));
    get_value(bs, c, 2);
    qcow2_cache_clean_unused(c);
    g_assert_false(qcow2_cache_contains(c, place(0)));
    g_assert_true(qcow2_cache_contains(c, place(1)));
    g_assert_true(qcow2_cache_contains(c, place(2)));
    g_assert_cmpint(get_value(bs, c, 1), ==, 9);
    g_assert_cmpint(qcow2_cache_write(bs, c), ==, 0);
    qcow2_cache_destroy(c);
}

/* Places that cannot be. */
static void coroutine_fn misplaced(BlockDriverState *bs)
{
    Qcow2Cache *c = qcow2_cache_create(bs, 2, CLUSTER,
                                       QCOW2_OL_REFCOUNT_BLOCK);
    void *table = NULL;

    g_assert_cmpint(qcow2_cache_get(bs, c, 0, &table), ==, -EIO);
    g_assert_cmpint(qcow2_cache_get(bs, c, 512, &table), ==, -EIO);
    g_assert_cmpint(qcow2_cache_get(bs, c, 1ULL << 60, &table), ==, -EIO);
    g_assert_null(table);
    qcow2_cache_destroy(c);
}

/* Before an L2 slice is evicted the refcounts that it needs are durable. */
static void coroutine_fn ordered(BlockDriverState *bs)
{
    BDRVQcow2State *s = bs->opaque;
    Qcow2Cache *c = qcow2_cache_create(bs, 2, CLUSTER, QCOW2_OL_ACTIVE_L2);
    int flushes;

    g_assert_cmpint(qcow2_alloc_clusters(bs, CLUSTER), >, 0);
    g_assert_true(qcow2_cache_is_dirty(s->refcount_block_cache));
    put_value(bs, c, 0, 1);
    put_value(bs, c, 1, 2);
    flushes = disk->flushes;
    get_value(bs, c, 2);
    g_assert_false(qcow2_cache_is_dirty(s->refcount_block_cache));
    g_assert_cmpint(disk->flushes, ==, flushes + 1);
    /* One flush served them all. */
    g_assert_false(qcow2_cache_is_dirty(c));
    qcow2_cache_destroy(c);
}

#define SLICE 512
#define SLICES (CLUSTER / SLICE)

/* Slice @n of those that begin at place(0) and have their number in them. */
static void coroutine_fn check_slice(BlockDriverState *bs, Qcow2Cache *c,
                                     int n)
{
    uint64_t offset = place(0) + n * SLICE;
    void *table;

    g_assert_cmpint(qcow2_cache_get(bs, c, offset, &table), ==, 0);
    g_assert_cmpint(*(uint8_t *)table, ==, n + 1);
    g_assert_cmpint(((uint8_t *)table)[SLICE - 1], ==, n + 1);
    qcow2_cache_put(c, &table);
}

static Qcow2Cache *sliced_cache(BlockDriverState *bs, int num)
{
    for (int n = 0; n < 4 * SLICES; n++) {
        memset(disk->data + place(0) + n * SLICE, n + 1, SLICE);
    }
    return qcow2_cache_create(bs, num, SLICE, QCOW2_OL_REFCOUNT_BLOCK);
}

/* Who reads a table in order gets the rest of its cluster in one read. */
static void coroutine_fn ahead(BlockDriverState *bs)
{
    Qcow2Cache *c = sliced_cache(bs, 64);
    int reads = disk->reads;

    check_slice(bs, c, 0);
    g_assert_cmpint(disk->reads, ==, reads + 1);
    for (int n = 1; n < SLICES; n++) {
        check_slice(bs, c, n);
        g_assert_cmpint(disk->reads, ==, reads + 2);
    }
    for (int n = SLICES; n < 2 * SLICES; n++) {
        check_slice(bs, c, n);
        g_assert_cmpint(disk->reads, ==, reads + 3);
    }
    /* Not in order: by itself. */
    check_slice(bs, c, 3 * SLICES + 2);
    g_assert_false(qcow2_cache_contains(c, place(3) + 3 * SLICE));
    g_assert_cmpint(disk->reads, ==, reads + 4);
    qcow2_cache_destroy(c);
}

/* Reading ahead fails: what is asked for is read by itself. */
static void coroutine_fn ahead_failing(BlockDriverState *bs)
{
    Qcow2Cache *c = sliced_cache(bs, 64);

    check_slice(bs, c, 0);
    disk->fail_reads = disk->fail_once = true;
    disk->fail_after = 0;
    check_slice(bs, c, 1);
    g_assert_cmpint(disk->fail_after, ==, -1);
    g_assert_false(qcow2_cache_contains(c, place(0) + 2 * SLICE));
    for (int n = 2; n < 2 * SLICES; n++) {
        check_slice(bs, c, n);
    }
    qcow2_cache_destroy(c);
}

/* What is only in memory is neither read over nor given up for it. */
static void coroutine_fn ahead_of_dirty(BlockDriverState *bs)
{
    Qcow2Cache *c = sliced_cache(bs, 8);
    void *table, *pinned[5];
    int writes = disk->writes;

    g_assert_cmpint(qcow2_cache_get(bs, c, place(0) + 2 * SLICE, &table), ==,
                    0);
    ((uint8_t *)table)[1] = 0xee;
    qcow2_cache_entry_mark_dirty(c, table);
    qcow2_cache_put(c, &table);
    check_slice(bs, c, 0);
    check_slice(bs, c, 1);
    g_assert_cmpint(qcow2_cache_get(bs, c, place(0) + 2 * SLICE, &table), ==,
                    0);
    g_assert_cmpint(((uint8_t *)table)[1], ==, 0xee);
    qcow2_cache_put(c, &table);

    /* Two pieces are left, of which one is asked for. */
    for (int i = 0; i < 5; i++) {
        g_assert_cmpint(qcow2_cache_get(bs, c, place(10 + i), &pinned[i]), ==,
                        0);
    }
    for (int n = SLICES; n < 4 * SLICES; n++) {
        check_slice(bs, c, n);
    }
    g_assert_true(qcow2_cache_contains(c, place(0) + 2 * SLICE));
    g_assert_cmpint(disk->writes, ==, writes);
    for (int i = 0; i < 5; i++) {
        qcow2_cache_put(c, &pinned[i]);
    }
    g_assert_cmpint(qcow2_cache_write(bs, c), ==, 0);
    g_assert_cmpint(disk->data[place(0) + 2 * SLICE + 1], ==, 0xee);
    qcow2_cache_destroy(c);
}

/* Full of what must not be written, it still has a place to read into. */
static void coroutine_fn stopped(BlockDriverState *bs)
{
    BDRVQcow2State *s = bs->opaque;
    Qcow2Cache *c = qcow2_cache_create(bs, 2, CLUSTER, QCOW2_OL_ACTIVE_L2);
    int writes;

    put_value(bs, c, 0, 1);
    put_value(bs, c, 1, 2);
    writes = disk->writes;
    qcow2_cache_stop(c);
    qcow2_stop(bs, "test");
    for (int i = 0; i < 10; i++) {
        disk->data[place(2 + i)] = 10 + i;
        g_assert_cmpint(get_value(bs, c, 2 + i), ==, 10 + i);
    }
    put_value(bs, c, 12, 99);       /* no longer kept */
    g_assert_cmpint(get_value(bs, c, 0), ==, 1);
    g_assert_cmpint(get_value(bs, c, 1), ==, 2);
    g_assert_cmpint(qcow2_cache_write(bs, c), ==, -EUCLEAN);
    g_assert_true(qcow2_cache_is_dirty(c));
    g_assert_cmpint(disk->writes, ==, writes);
    g_assert_true(qcow2_is_stopped(s));
    qcow2_cache_destroy(c);
}

typedef struct Case {
    const char *name;
    Qcow2TestFunc *fn;
} Case;

static const Case cases[] = {
    { "eviction", eviction },
    { "pinned", pinned },
    { "merged", merged },
    { "failing", failing },
    { "discarded", discarded },
    { "cleaned", cleaned },
    { "misplaced", misplaced },
    { "ordered", ordered },
    { "ahead", ahead },
    { "ahead-failing", ahead_failing },
    { "ahead-of-dirty", ahead_of_dirty },
    { "stopped", stopped },
};

static void run_case(const void *opaque)
{
    with_cache(((const Case *)opaque)->fn);
}

int main(int argc, char **argv)
{
    qcow2_test_init(&argc, &argv);
    for (int i = 0; i < ARRAY_SIZE(cases); i++) {
        g_autofree char *path = g_strdup_printf("/qcow2/cache/%s",
                                                cases[i].name);

        g_test_add_data_func(path, &cases[i], run_case);
    }
    return g_test_run();
}
