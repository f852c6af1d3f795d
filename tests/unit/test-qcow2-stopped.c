/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A node that met corruption writes nothing, reads on, also what only its
 * memory has, and a reopen makes it usable again; one that fails changes
 * nothing.
 */
#include "util/osdep.h"
#include "util/bswap.h"
#include "block/dirty-bitmap.h"
#include "block/reopen.h"
#include "qcow2-fixture.h"

#define CLUSTER 4096
#define TABLE (CLUSTER / 8 * CLUSTER)   /* guest bytes of an L2 table */
#define TABLES 8
#define DISK (TABLES * (uint64_t)TABLE)
#define BAD (3 * CLUSTER)               /* where the bad entry is */

static const TestGeometry v3 = { 3, 12, 4, DISK, false };
static const TestGeometry v2 = { 2, 12, 4, DISK, false };

static const char *const small_caches =
    "'l2-cache-size': 1024, 'l2-cache-entry-size': 512";

/* Each table has a cluster of data; the entry at BAD is not aligned. */
static RamDisk *damaged(const TestGeometry *g)
{
    RamDisk *disk = ram_disk_new(4 * 1024 * 1024);
    BlockBackend *blk;
    uint8_t buf[CLUSTER];
    uint64_t l2;

    ram_disk_format(disk, g);
    blk = ram_disk_open(disk, BDRV_O_RDWR, NULL, NULL);
    for (int i = 0; i < TABLES; i++) {
        memset(buf, i + 1, CLUSTER);
        g_assert_cmpint(blk_pwrite(blk, i * (uint64_t)TABLE, CLUSTER, buf, 0),
                        ==, 0);
    }
    g_assert_cmpint(blk_pwrite(blk, BAD, CLUSTER, buf, 0), ==, 0);
    blk_unref(blk);
    l2 = ldq_be_p(disk->data + 3 * CLUSTER) & L1E_OFFSET_MASK;
    disk->data[l2 + BAD / CLUSTER * 8 + 6] |= 2;
    return disk;
}

static void mend(RamDisk *disk)
{
    uint64_t l2 = ldq_be_p(disk->data + 3 * CLUSTER) & L1E_OFFSET_MASK;

    disk->data[l2 + BAD / CLUSTER * 8 + 6] &= ~2;
    disk->data[79] &= ~QCOW2_INCOMPAT_CORRUPT;
}

static void assert_data(BlockBackend *blk, uint64_t offset, uint8_t value)
{
    uint8_t buf[512];

    g_assert_cmpint(blk_pread(blk, offset, sizeof(buf), buf, 0), ==, 0);
    for (int i = 0; i < sizeof(buf); i++) {
        g_assert_cmpint(buf[i], ==, value);
    }
}

static int write_value(BlockBackend *blk, uint64_t offset, uint8_t value)
{
    uint8_t buf[CLUSTER];

    memset(buf, value, CLUSTER);
    return blk_pwrite(blk, offset, CLUSTER, buf, 0);
}

static void meet(BlockBackend *blk)
{
    uint8_t buf[512];

    g_assert_cmpint(blk_pread(blk, BAD, 512, buf, 0), ==, -EIO);
}

static void assert_reads(BlockBackend *blk)
{
    for (int i = 0; i < TABLES; i++) {
        assert_data(blk, i * (uint64_t)TABLE, i + 1);
    }
}

/* Two slices of cache, both dirty when corruption is met. */
static void test_full_cache(void)
{
    RamDisk *disk = damaged(&v3);
    BlockBackend *blk = ram_disk_open(disk, BDRV_O_RDWR, small_caches, NULL);
    g_autofree uint8_t *before = NULL;
    int64_t size;

    g_assert_cmpint(write_value(blk, TABLE + CLUSTER, 77), ==, 0);
    g_assert_cmpint(write_value(blk, 64 * CLUSTER, 78), ==, 0);
    meet(blk);
    size = disk->size;
    before = g_memdup2(disk->data, size);
    for (int round = 0; round < 3; round++) {
        assert_reads(blk);
        assert_data(blk, TABLE + CLUSTER, 77);
        assert_data(blk, 64 * CLUSTER, 78);
        g_assert_cmpint(write_value(blk, 0, 9), ==, -EUCLEAN);
        g_assert_cmpint(blk_pwrite_zeroes(blk, 0, TABLE, 0), ==, -EUCLEAN);
        g_assert_cmpint(blk_flush(blk), ==, -EUCLEAN);
    }
    blk_unref(blk);
    g_assert_cmpint(disk->size, ==, size);
    g_assert_cmpint(memcmp(disk->data, before, size), ==, 0);
    g_assert_cmphex(ldq_be_p(disk->data + 72), ==, QCOW2_INCOMPAT_CORRUPT);
    ram_disk_free(disk);
}

static void set_read_only(BlockBackend *blk, bool read_only)
{
    if (read_only) {
        blk_set_perm(blk, BLK_PERM_CONSISTENT_READ, BLK_PERM_ALL,
                     &error_abort);
    }
    bdrv_reopen_set_read_only(blk_bs(blk), read_only, &error_abort);
    if (!read_only) {
        blk_set_perm(blk, BLK_PERM_ALL, BLK_PERM_ALL, &error_abort);
    }
}

/* Read-only, repaired, writable; what was not flushed is given up. */
static void test_reopen(void)
{
    RamDisk *disk = damaged(&v3);
    BlockBackend *blk = ram_disk_open(disk, BDRV_O_RDWR, NULL, NULL);
    BdrvDirtyBitmap *bitmap;
    Error *err = NULL;

    bitmap = bdrv_create_dirty_bitmap(blk_bs(blk), CLUSTER, "b", &error_abort);
    g_assert_cmpint(write_value(blk, TABLE + CLUSTER, 77), ==, 0);
    meet(blk);
    set_read_only(blk, true);
    assert_reads(blk);
    assert_data(blk, TABLE + CLUSTER, 0);
    /* Nobody could say what has changed. */
    g_assert_cmpint(bdrv_get_dirty_count(bitmap), ==, DISK);
    g_assert_cmpint(bdrv_reopen_set_read_only(blk_bs(blk), false, &err), ==,
                    -EINVAL);
    g_assert_nonnull(strstr(error_get_pretty(err), "Image is corrupt"));
    error_free(err);
    assert_reads(blk);

    mend(disk);
    set_read_only(blk, false);
    assert_reads(blk);
    assert_data(blk, BAD, TABLES);
    g_assert_cmpint(write_value(blk, TABLE + CLUSTER, 79), ==, 0);
    g_assert_cmpint(blk_flush(blk), ==, 0);
    bdrv_release_dirty_bitmap(bitmap);
    assert_consistent(blk, &(BdrvCheckResult) { 0 });
    blk_unref(blk);
    blk = ram_disk_open(disk, 0, NULL, NULL);
    assert_data(blk, TABLE + CLUSTER, 79);
    blk_unref(blk);
    ram_disk_free(disk);
}

/* Version 2 keeps no mark: one reopen will do, until it is met again. */
static void test_unmarked(void)
{
    RamDisk *disk = damaged(&v2);
    BlockBackend *blk = ram_disk_open(disk, BDRV_O_RDWR, NULL, NULL);

    meet(blk);
    g_assert_cmpint(write_value(blk, 0, 1), ==, -EUCLEAN);
    g_assert_cmpint(bdrv_reopen_set_read_only(blk_bs(blk), false,
                                              &error_abort), ==, 0);
    g_assert_cmpint(write_value(blk, CLUSTER, 5), ==, 0);
    assert_reads(blk);
    meet(blk);
    g_assert_cmpint(write_value(blk, 0, 1), ==, -EUCLEAN);
    blk_unref(blk);
    ram_disk_free(disk);
}

/* The n-th request of the reopen fails, for every n. */
static void test_failing_reopen(void)
{
    for (int n = 0; ; n++) {
        RamDisk *disk = damaged(&v3);
        BlockBackend *blk = ram_disk_open(disk, BDRV_O_RDWR, NULL, NULL);
        Error *err = NULL;
        int ret;

        g_assert_cmpint(write_value(blk, TABLE + CLUSTER, 77), ==, 0);
        meet(blk);
        blk_set_perm(blk, BLK_PERM_CONSISTENT_READ, BLK_PERM_ALL,
                     &error_abort);
        disk->fail_reads = disk->fail_once = true;
        disk->failed = 0;
        disk->fail_after = n;
        ret = bdrv_reopen_set_read_only(blk_bs(blk), true, &err);
        disk->fail_after = -1;
        g_assert_true((ret < 0) == (err != NULL));
        assert_reads(blk);
        assert_data(blk, TABLE + CLUSTER, ret < 0 ? 77 : 0);
        g_assert_true(disk->failed || ret == 0);
        error_free(err);
        blk_unref(blk);
        ret = disk->failed;
        ram_disk_free(disk);
        if (!ret) {
            g_assert_cmpint(n, >, 3);
            return;
        }
    }
}

int main(int argc, char **argv)
{
    qcow2_test_init(&argc, &argv);
    g_test_add_func("/qcow2/stopped/full-cache", test_full_cache);
    g_test_add_func("/qcow2/stopped/reopen", test_reopen);
    g_test_add_func("/qcow2/stopped/unmarked", test_unmarked);
    g_test_add_func("/qcow2/stopped/failing-reopen", test_failing_reopen);
    return g_test_run();
}
