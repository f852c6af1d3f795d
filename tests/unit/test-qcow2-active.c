/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A node that becomes inactive, or active again, while the n-th request fails,
 * for every n: it is as before, works, and the next try succeeds. What is
 * inactive writes nothing.
 */
#include "util/osdep.h"
#include "util/bswap.h"
#include "block/activate.h"
#include "block/dirty-bitmap.h"
#include "qcow2-fixture.h"

#define CLUSTER 4096
#define DISK (4 * 1024 * 1024)

static const TestGeometry lazy = { 3, 12, 4, DISK, true };

static BlockBackend *open_disk(RamDisk *disk)
{
    BlockBackend *blk = ram_disk_open(disk, BDRV_O_RDWR, NULL, NULL);

    blk_set_allow_inactive(blk);
    return blk;
}

static int write_value(BlockBackend *blk, uint64_t offset, uint8_t value)
{
    uint8_t buf[CLUSTER];

    memset(buf, value, CLUSTER);
    return blk_pwrite(blk, offset, CLUSTER, buf, 0);
}

static void assert_value(BlockBackend *blk, uint64_t offset, uint8_t value)
{
    uint8_t buf[CLUSTER];

    g_assert_cmpint(blk_pread(blk, offset, CLUSTER, buf, 0), ==, 0);
    for (int i = 0; i < CLUSTER; i++) {
        g_assert_cmpint(buf[i], ==, value);
    }
}

static BdrvDirtyBitmap *bitmap(BlockBackend *blk, const char *name)
{
    return bdrv_find_dirty_bitmap(blk_bs(blk), name);
}

/* With data, a stored bitmap, and refcounts that are behind. */
static BlockBackend *used_disk(RamDisk **disk)
{
    BlockBackend *blk;

    *disk = ram_disk_new(4 * DISK);
    ram_disk_format(*disk, &lazy);
    blk = open_disk(*disk);
    bdrv_dirty_bitmap_set_persistence(
        bdrv_create_dirty_bitmap(blk_bs(blk), CLUSTER, "stored",
                                 &error_abort), true);
    bdrv_create_dirty_bitmap(blk_bs(blk), CLUSTER, "other", &error_abort);
    g_assert_cmpint(write_value(blk, 0, 1), ==, 0);
    g_assert_cmpint(write_value(blk, DISK / 2, 2), ==, 0);
    return blk;
}

/* Whether @fn succeeds while the request after @n good ones fails. */
static bool try_with_fault(RamDisk *disk, BlockBackend *blk, int n,
                           bool (*fn)(BlockDriverState *, Error **))
{
    Error *err = NULL;
    bool ok;

    disk->failed = 0;
    disk->fail_reads = disk->fail_once = true;
    disk->fail_after = n;
    ok = fn(blk_bs(blk), &err);
    disk->fail_after = -1;
    g_assert_true(ok == !err);
    g_assert_true(ok || disk->failed);
    error_free(err);
    return ok;
}

static void assert_refuses(BlockBackend *blk)
{
    uint8_t buf[512];

    g_assert_true(bdrv_is_inactive(blk_bs(blk)));
    g_assert_cmpint(blk_pread(blk, 0, 512, buf, 0), ==, -EPERM);
    g_assert_cmpint(write_value(blk, 0, 9), ==, -EPERM);
    g_assert_cmpint(blk_pdiscard(blk, 0, CLUSTER), ==, -EPERM);
    g_assert_null(bitmap(blk, "stored"));
}

static void assert_data(BlockBackend *blk)
{
    g_assert_false(bdrv_is_inactive(blk_bs(blk)));
    assert_value(blk, 0, 1);
    assert_value(blk, DISK / 2, 2);
}

static void assert_all(BlockBackend *blk)
{
    assert_data(blk);
    g_assert_nonnull(bitmap(blk, "stored"));
}

/* What is in the file is all there is. */
static void assert_file(RamDisk *disk)
{
    BlockBackend *blk = ram_disk_open(disk, BDRV_O_RDWR, NULL, NULL);

    assert_all(blk);
    g_assert_cmpint(bdrv_get_dirty_count(bitmap(blk, "stored")), ==,
                    2 * CLUSTER);
    assert_consistent(blk, &(BdrvCheckResult) { 0 });
    blk_unref(blk);
    ram_disk_free(disk);
}

static void test_failing_inactivate(void)
{
    for (int n = 0; ; n++) {
        RamDisk *disk;
        BlockBackend *blk = used_disk(&disk);
        g_autofree uint8_t *before = NULL;
        bool ok = try_with_fault(disk, blk, n, bdrv_inactivate);
        int failed = disk->failed;

        if (!ok) {
            assert_all(blk);
            g_assert_cmpint(write_value(blk, 0, 3), ==, 0);
            g_assert_cmpint(write_value(blk, 0, 1), ==, 0);
            bdrv_inactivate(blk_bs(blk), &error_abort);
        }
        assert_refuses(blk);
        g_assert_cmphex(ldq_be_p(disk->data + 72) & QCOW2_INCOMPAT_DIRTY, ==,
                        0);
        before = g_memdup2(disk->data, disk->size);
        blk_unref(blk);
        g_assert_cmpint(memcmp(disk->data, before, disk->size), ==, 0);
        assert_file(disk);
        if (!failed) {
            g_assert_cmpint(n, >, 5);
            return;
        }
    }
}

static void test_failing_activate(void)
{
    for (int n = 0; ; n++) {
        RamDisk *disk;
        BlockBackend *blk = used_disk(&disk);
        int failed;
        bool ok;

        bdrv_inactivate(blk_bs(blk), &error_abort);
        ok = try_with_fault(disk, blk, n, bdrv_activate);
        failed = disk->failed;
        if (!ok) {
            assert_refuses(blk);
            bdrv_activate(blk_bs(blk), &error_abort);
        } else if (failed) {
            /* Bitmaps that cannot be read keep no image from being used. */
            assert_data(blk);
            blk_unref(blk);
            ram_disk_free(disk);
            continue;
        }
        assert_all(blk);
        /* It was not there to see what others wrote. */
        g_assert_cmpint(bdrv_get_dirty_count(bitmap(blk, "other")), ==, DISK);
        g_assert_cmpint(write_value(blk, 0, 1), ==, 0);
        blk_unref(blk);
        assert_file(disk);
        if (!failed) {
            g_assert_cmpint(n, >, 3);
            return;
        }
    }
}

int main(int argc, char **argv)
{
    qcow2_test_init(&argc, &argv);
    g_test_add_func("/qcow2/active/failing-inactivate",
                    test_failing_inactivate);
    g_test_add_func("/qcow2/active/failing-activate", test_failing_activate);
    return g_test_run();
}
