/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Refcounts of every width, host cluster allocation, and freeing. */
#include "util/osdep.h"
#include "qcow2-fixture.h"

#define CLUSTER 4096

static const TestGeometry g4k = { 3, 12, 4, 1024 * 1024, false };

/* Opens an empty image, runs @fn on it under the lock, checks for leaks of
 * what @fn allocated (@leaks clusters) and nothing worse. */
static void with_image(const TestGeometry *g, Qcow2TestFunc *fn, int leaks)
{
    RamDisk *disk = ram_disk_new(64 * 1024 * 1024);
    BlockBackend *blk;
    BdrvCheckResult res;

    ram_disk_format(disk, g);
    blk = ram_disk_open(disk, BDRV_O_RDWR, NULL, NULL);
    run_locked(blk, fn);
    blk_unref(blk);
    /* Leaks behind the end of the file take no space and do not count. */
    disk->size = disk->capacity;
    blk = ram_disk_open(disk, 0, NULL, NULL);
    assert_consistent(blk, &res);
    if (leaks >= 0) {
        g_assert_cmpint(res.leaks, ==, leaks);
    }
    blk_unref(blk);
    ram_disk_free(disk);
}

/* Numbers of every width keep their neighbours as they are. */
static void test_widths(void)
{
    for (int order = 0; order <= 6; order++) {
        BDRVQcow2State s = {
            .refcount_order = order,
            .refcount_bits = 1 << order,
            .refcount_max = order == 6 ? UINT64_MAX
                                       : (1ULL << (1 << order)) - 1,
        };
        g_autofree uint64_t *block = g_malloc0(512);
        int n = 512 * 8 >> order;
        g_autofree uint64_t *expect = g_new0(uint64_t, n);

        for (int i = 0; i < 4000; i++) {
            int j = g_test_rand_int_range(0, n);
            uint64_t v = ((uint64_t)g_test_rand_int() << 32 |
                          (uint32_t)g_test_rand_int()) & s.refcount_max;

            expect[j] = v;
            qcow2_refcount_block_set(&s, block, j, v);
        }
        for (int i = 0; i < n; i++) {
            g_assert_cmphex(qcow2_refcount_block_get(&s, block, i), ==,
                            expect[i]);
        }
    }
}

static uint64_t coroutine_fn refcount_at(BlockDriverState *bs, uint64_t offset)
{
    BDRVQcow2State *s = bs->opaque;
    uint64_t refcount;

    g_assert_cmpint(qcow2_get_refcount(bs, offset >> s->cluster_bits,
                                       &refcount), ==, 0);
    return refcount;
}

/* One allocation follows the other; given back at once, it is used again. */
static void coroutine_fn contiguous(BlockDriverState *bs)
{
    int64_t a = qcow2_alloc_clusters(bs, 3 * CLUSTER);
    int64_t b = qcow2_alloc_clusters(bs, 1);
    uint64_t n = 5;
    int64_t c;

    g_assert_cmpint(a, ==, 4 * CLUSTER);
    g_assert_cmpint(b, ==, a + 3 * CLUSTER);
    c = qcow2_alloc_data_clusters(bs, 0, b + CLUSTER, &n);
    g_assert_cmpint(c, ==, b + CLUSTER);
    g_assert_cmpint(n, ==, 5);
    for (int i = 0; i < 3; i++) {
        g_assert_cmpint(refcount_at(bs, a + i * CLUSTER), ==, 1);
    }

    qcow2_unalloc_clusters(bs, a, 3 * CLUSTER);
    g_assert_cmpint(refcount_at(bs, a), ==, 0);
    /* A run that does not fit into the hole leaves it to a smaller one. */
    g_assert_cmpint(qcow2_alloc_clusters(bs, 4 * CLUSTER), ==,
                    c + 5 * CLUSTER);
    g_assert_cmpint(qcow2_alloc_clusters(bs, CLUSTER), ==, a);
    g_assert_cmpint(qcow2_alloc_clusters(bs, 2 * CLUSTER), >=, a);
}

static void test_contiguous(void)
{
    with_image(&g4k, contiguous, -1);
}

/* At a given place: as many as are free there. */
static void coroutine_fn at_place(BlockDriverState *bs)
{
    g_assert_cmpint(qcow2_alloc_clusters_at(bs, 10 * CLUSTER, 2), ==, 2);
    g_assert_cmpint(qcow2_alloc_clusters_at(bs, 8 * CLUSTER, 5), ==, 2);
    g_assert_cmpint(qcow2_alloc_clusters_at(bs, 8 * CLUSTER, 1), ==, 0);
    g_assert_cmpint(qcow2_alloc_clusters_at(bs, 0, 1), ==, 0);
    g_assert_cmpint(refcount_at(bs, 8 * CLUSTER), ==, 1);
}

static void test_at_place(void)
{
    with_image(&g4k, at_place, 4);
}

/* A freed cluster is not used before a flush has made its end durable. */
static void coroutine_fn deferred(BlockDriverState *bs)
{
    BDRVQcow2State *s = bs->opaque;
    int64_t a = qcow2_alloc_clusters(bs, CLUSTER);

    qcow2_free_clusters(bs, a, CLUSTER, QCOW2_DISCARD_OTHER);
    g_assert_cmpint(refcount_at(bs, a), ==, 1);
    g_assert_cmpint(qcow2_alloc_clusters(bs, CLUSTER), ==, a + CLUSTER);
    g_assert_cmpint(qcow2_flush_metadata(bs), ==, 0);
    g_assert_cmpint(s->pending_frees->len, ==, 0);
    g_assert_cmpint(refcount_at(bs, a), ==, 0);
    g_assert_cmpint(qcow2_alloc_clusters(bs, CLUSTER), ==, a);
}

static void test_deferred(void)
{
    with_image(&g4k, deferred, 2);
}

/* So much waits that the file does not grow: it is flushed first. */
static void coroutine_fn reclaim(BlockDriverState *bs)
{
    uint64_t bytes = 2 * 1024 * 1024;
    int64_t a = qcow2_alloc_clusters(bs, bytes);

    qcow2_free_clusters(bs, a, bytes, QCOW2_DISCARD_OTHER);
    g_assert_cmpint(qcow2_alloc_clusters(bs, bytes), ==, a);
}

static void test_reclaim(void)
{
    with_image(&g4k, reclaim, 512);
}

/* Compressed data is packed; a cluster counts each piece that touches it. */
static void coroutine_fn packed(BlockDriverState *bs)
{
    int64_t a = qcow2_alloc_bytes(bs, 1000);
    int64_t b = qcow2_alloc_bytes(bs, 3000);
    int64_t c = qcow2_alloc_bytes(bs, 1000);

    g_assert_cmpint(b, ==, a + 1000);
    g_assert_cmpint(c, ==, a + 4000);
    g_assert_cmpint(refcount_at(bs, a), ==, 3);
    g_assert_cmpint(refcount_at(bs, a + CLUSTER), ==, 1);
    qcow2_unalloc_clusters(bs, c, 1000);
    g_assert_cmpint(refcount_at(bs, a), ==, 2);
    g_assert_cmpint(refcount_at(bs, a + CLUSTER), ==, 0);
    qcow2_unalloc_clusters(bs, a, 1000);
    qcow2_unalloc_clusters(bs, b, 3000);
    g_assert_cmpint(refcount_at(bs, a), ==, 0);
}

static void test_packed(void)
{
    with_image(&g4k, packed, 0);
}

/* With one bit no cluster can be shared. */
static void coroutine_fn packed_1bit(BlockDriverState *bs)
{
    int64_t a = qcow2_alloc_bytes(bs, 100);
    int64_t b = qcow2_alloc_bytes(bs, 100);

    g_assert_cmpint(b, ==, a + CLUSTER);
    g_assert_cmpint(refcount_at(bs, a), ==, 1);
}

static void test_packed_1bit(void)
{
    static const TestGeometry g = { 3, 12, 0, 1024 * 1024, false };

    with_image(&g, packed_1bit, 2);
}

/* Blocks cover 64 clusters of 512 bytes, a table cluster 64 blocks. */
static void coroutine_fn many(BlockDriverState *bs)
{
    BDRVQcow2State *s = bs->opaque;
    uint32_t old_size = s->reftable.size;
    int64_t last = 0;

    for (int i = 0; i < 20000; i++) {
        int64_t offset = qcow2_alloc_clusters(bs, 512);

        g_assert_cmpint(offset, >, last);
        last = offset;
    }
    g_assert_cmpint(s->reftable.size, >, old_size);
    g_assert_cmpint(refcount_at(bs, last), ==, 1);
    g_assert_cmpint(refcount_at(bs, last + 512), ==, 0);
}

static void test_reftable_growth(void)
{
    static const TestGeometry g = { 3, 9, 6, 128 * 1024, false };

    with_image(&g, many, 20000);
}

/* One long run that spans many blocks that do not exist yet. */
static void coroutine_fn long_run(BlockDriverState *bs)
{
    int64_t a = qcow2_alloc_clusters(bs, 3000 * 512);

    g_assert_cmpint(a, >, 0);
    for (int i = 0; i < 3000; i++) {
        g_assert_cmpint(refcount_at(bs, a + i * 512), ==, 1);
    }
}

static void test_long_run(void)
{
    static const TestGeometry g = { 3, 9, 6, 128 * 1024, false };

    with_image(&g, long_run, 3000);
}

/* Refcounts neither overflow nor underflow; nothing changes then. */
static void coroutine_fn bounds(BlockDriverState *bs)
{
    int64_t a = qcow2_alloc_clusters(bs, 2 * CLUSTER);

    g_assert_cmpint(qcow2_update_refcount(bs, a, CLUSTER, 2, false, 0), ==, 0);
    g_assert_cmpint(qcow2_update_refcount(bs, a, 2 * CLUSTER, 1, false, 0),
                    ==, -EINVAL);
    g_assert_cmpint(refcount_at(bs, a), ==, 3);
    g_assert_cmpint(refcount_at(bs, a + CLUSTER), ==, 1);
    g_assert_cmpint(qcow2_update_refcount(bs, a, 2 * CLUSTER, 2, true, 0), ==,
                    -EINVAL);
    g_assert_cmpint(refcount_at(bs, a), ==, 3);
    g_assert_cmpint(refcount_at(bs, a + CLUSTER), ==, 1);
    g_assert_cmpint(qcow2_update_refcount(bs, a, CLUSTER, 3, true, 0), ==, 0);
    g_assert_cmpint(qcow2_set_refcount(bs, 1 << 20, 1), ==, -ENOENT);
}

static void test_bounds(void)
{
    static const TestGeometry g = { 3, 12, 1, 1024 * 1024, false };

    with_image(&g, bounds, 1);
}

/*
 * The file is made longer once for each L2 table, however small the pieces of
 * it in the cache; what is reserved is used, or free again.
 */
static void test_preallocate(void)
{
    static const TestGeometry g = { 3, 12, 4, 4096, false };
    const int64_t mapped = 2 * 512 - 1;     /* clusters; two L2 tables */
    RamDisk *disk = ram_disk_new(8 << 20);
    BdrvCheckResult res;
    BlockBackend *blk;

    ram_disk_format(disk, &g);
    blk = ram_disk_open(disk, BDRV_O_RDWR, "'l2-cache-entry-size': 512", NULL);
    g_assert_true(blk_set_perm(blk, BLK_PERM_ALL, BLK_PERM_ALL, NULL));
    g_assert_cmpint(blk_truncate(blk, mapped * CLUSTER, true,
                                 PREALLOC_MODE_METADATA, 0, NULL), ==, 0);
    g_assert_cmpint(disk->truncates, ==, 2);
    assert_consistent(blk, &res);
    g_assert_cmpint(res.leaks, ==, 0);
    /* The first one was there before, and stays as it is. */
    g_assert_cmpint(res.bfi.allocated_clusters, ==, mapped - 1);

    /* No room for the second table's: nothing is lost. */
    g_assert_cmpint(blk_truncate(blk, 0, true, PREALLOC_MODE_OFF, 0, NULL), ==,
                    0);
    g_assert_cmpint(blk_flush(blk), ==, 0);
    disk->capacity = 3 << 20;
    g_assert_cmpint(blk_truncate(blk, mapped * CLUSTER, true,
                                 PREALLOC_MODE_METADATA, 0, NULL), ==,
                    -ENOSPC);
    assert_consistent(blk, &res);
    g_assert_cmpint(res.leaks, ==, 0);
    disk->capacity = 8 << 20;
    blk_unref(blk);
    ram_disk_free(disk);
}

int main(int argc, char **argv)
{
    qcow2_test_init(&argc, &argv);
    g_test_add_func("/qcow2/refcount/widths", test_widths);
    g_test_add_func("/qcow2/refcount/bounds", test_bounds);
    g_test_add_func("/qcow2/refcount/reftable-growth", test_reftable_growth);
    g_test_add_func("/qcow2/refcount/long-run", test_long_run);
    g_test_add_func("/qcow2/alloc/contiguous", test_contiguous);
    g_test_add_func("/qcow2/alloc/at-place", test_at_place);
    g_test_add_func("/qcow2/alloc/deferred-free", test_deferred);
    g_test_add_func("/qcow2/alloc/reclaim", test_reclaim);
    g_test_add_func("/qcow2/alloc/preallocate", test_preallocate);
    g_test_add_func("/qcow2/alloc/packed", test_packed);
    g_test_add_func("/qcow2/alloc/packed-1bit", test_packed_1bit);
    return g_test_run();
}
