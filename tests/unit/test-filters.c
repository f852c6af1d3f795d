/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What all filters have in common, on blkdebug. */
#include "util/osdep.h"
#include "file-fixture.h"
#include "block/dirty-bitmap.h"
#include "block/reopen.h"
#include "qobject/qdict.h"
#include "util/atomic.h"

#define KiB 1024
#define ALL_SHARED BLK_PERM_ALL

static BlockDriverState *open_file(const char *name, int64_t bytes)
{
    g_autofree char *path = file_test_make(name, bytes);

    return file_test_open(BDRV_O_RDWR, &error_abort,
                          "{'driver': 'file', 'node-name': '%s',"
                          " 'filename': '%s'}", name, path);
}

static BlockDriverState *open_filter(const char *name, const char *image)
{
    return file_test_open(BDRV_O_RDWR, &error_abort,
                          "{'driver': 'blkdebug', 'node-name': '%s',"
                          " 'image': '%s'}", name, image);
}

static void assert_length(BlockDriverState *bs, BdrvDirtyBitmap *bitmap,
                          int64_t bytes)
{
    g_assert_cmpint(bdrv_getlength(bs), ==, bytes);
    g_assert_cmpint(qatomic_read(&bs->total_bytes), ==, bytes);
    g_assert_cmpint(bdrv_dirty_bitmap_size(bitmap), ==, bytes);
}

/* Whoever resizes the node below, the filters above have its length. */
static void test_length_follows(void)
{
    BlockDriverState *file = open_file("resized", 64 * KiB);
    BlockDriverState *lower = open_filter("lower", "resized");
    BlockDriverState *upper = open_filter("upper", "lower");
    BdrvDirtyBitmap *bitmap = bdrv_create_dirty_bitmap(upper, 4 * KiB, "b",
                                                       &error_abort);
    BlockBackend *blk = file_test_user(file, BLK_PERM_WRITE | BLK_PERM_RESIZE,
                                       ALL_SHARED);

    assert_length(upper, bitmap, 64 * KiB);
    blk_truncate(blk, 256 * KiB, true, PREALLOC_MODE_OFF, 0, &error_abort);
    assert_length(upper, bitmap, 256 * KiB);
    blk_truncate(blk, 32 * KiB, true, PREALLOC_MODE_OFF, 0, &error_abort);
    assert_length(upper, bitmap, 32 * KiB);

    blk_unref(blk);
    bdrv_release_dirty_bitmap(bitmap);
    bdrv_unref(upper);
    bdrv_unref(lower);
    bdrv_unref(file);
}

/* So they have if another node comes below, unless that fails. */
static void test_length_of_other_node(void)
{
    BlockDriverState *small = open_file("small", 64 * KiB);
    BlockDriverState *large = open_file("large", 256 * KiB);
    BlockDriverState *lower = open_filter("lower", "small");
    BlockDriverState *upper = open_filter("upper", "lower");
    BdrvDirtyBitmap *bitmap = bdrv_create_dirty_bitmap(upper, 4 * KiB, "b",
                                                       &error_abort);
    BlockBackend *reader = file_test_user(upper, BLK_PERM_CONSISTENT_READ,
                                          ALL_SHARED);
    QDict *options = qdict_new();
    BlockBackend *blk;
    Error *err = NULL;

    qdict_put_str(options, "image", "large");
    bdrv_reopen(lower, options, true, &error_abort);
    assert_length(upper, bitmap, 256 * KiB);

    /* A writer who shares nothing is in the way of going back. */
    blk = file_test_user(small, BLK_PERM_WRITE, 0);
    bdrv_set_dirty_bitmap(bitmap, 200 * KiB, 4 * KiB);
    options = qdict_new();
    qdict_put_str(options, "image", "small");
    g_assert_cmpint(bdrv_reopen(lower, options, true, &err), <, 0);
    error_free(err);
    assert_length(upper, bitmap, 256 * KiB);
    g_assert_true(bdrv_dirty_bitmap_get(bitmap, 200 * KiB));

    blk_unref(blk);
    blk_unref(reader);
    bdrv_release_dirty_bitmap(bitmap);
    bdrv_unref(upper);
    bdrv_unref(lower);
    bdrv_unref(large);
    bdrv_unref(small);
}

int main(int argc, char **argv)
{
    file_test_init(&argc, &argv);
    g_test_add_func("/filters/length-follows", test_length_follows);
    g_test_add_func("/filters/length-of-other-node", test_length_of_other_node);
    return file_test_run();
}
