/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A file that becomes inactive and active: lock bytes and cached pages. */
#include "util/osdep.h"
#include "block/activate.h"
#include "block/file/file-int.h"
#include "file-fixture.h"

#define UNSHARED(bits) ((unsigned)(bits) << 8)

static int advised;             /* how often pages were dropped */
static int advice_error;        /* errno that it answers */

int __wrap_posix_fadvise64(int fd, off_t offset, off_t len, int advice);

int __wrap_posix_fadvise64(int fd, off_t offset, off_t len, int advice)
{
    g_assert_cmpint(offset, ==, 0);
    g_assert_cmpint(len, ==, 0);
    g_assert_cmpint(advice, ==, POSIX_FADV_DONTNEED);
    advised++;
    return advice_error;
}

static BlockBackend *open_user(const char *path, const char *drop_cache)
{
    BlockDriverState *bs = file_test_open(
        BDRV_O_RDWR, &error_abort,
        "{'driver': 'file', 'filename': '%s', 'drop-cache': '%s'}", path,
        drop_cache);
    BlockBackend *blk = file_test_user(
        bs, BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE,
        BLK_PERM_ALL & ~BLK_PERM_WRITE);

    blk_set_allow_inactive(blk);
    bdrv_unref(bs);
    return blk;
}

static void test_locks(void)
{
    g_autofree char *path = file_test_make("locks", 1 << 20);
    BlockBackend *blk = open_user(path, "on");
    unsigned held = file_test_locks(path);
    FileTestLocker *other;
    Error *err = NULL;

    g_assert_cmphex(held, ==, BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE |
                              UNSHARED(BLK_PERM_WRITE));
    bdrv_inactivate(blk_bs(blk), &error_abort);
    g_assert_cmphex(file_test_locks(path), ==, 0);
    g_assert_cmpint(file_test_fill(blk, 0, 512, 1), ==, -EPERM);

    other = file_test_lock_elsewhere(path, BLK_PERM_WRITE);
    g_assert_false(bdrv_activate(blk_bs(blk), &err));
    file_test_error(err, "Failed to get shared \"write\" lock");
    g_assert_true(bdrv_is_inactive(blk_bs(blk)));
    g_assert_cmphex(file_test_locks(path), ==, BLK_PERM_WRITE);
    file_test_unlock_elsewhere(other);

    /* It has grown meanwhile. */
    g_assert_cmpint(truncate(path, 2 << 20), ==, 0);
    bdrv_activate(blk_bs(blk), &error_abort);
    g_assert_cmphex(file_test_locks(path), ==, held);
    g_assert_cmpint(blk_getlength(blk), ==, 2 << 20);
    g_assert_cmpint(file_test_fill(blk, 0, 512, 1), ==, 0);
    blk_unref(blk);
}

static void test_drop_cache(void)
{
    g_autofree char *path = file_test_make("cache", 1 << 20);
    BlockBackend *blk = open_user(path, "off");
    Error *err = NULL;

    advised = 0;
    bdrv_inactivate(blk_bs(blk), &error_abort);
    bdrv_activate(blk_bs(blk), &error_abort);
    g_assert_cmpint(advised, ==, 0);
    blk_unref(blk);

    blk = open_user(path, "on");
    bdrv_inactivate(blk_bs(blk), &error_abort);
    advice_error = EIO;
    g_assert_false(bdrv_activate(blk_bs(blk), &err));
    g_assert_nonnull(strstr(error_get_pretty(err),
                            "Could not drop the cached pages"));
    error_free(err);
    g_assert_cmphex(file_test_locks(path), ==, 0);
    g_assert_cmpint(file_test_fill(blk, 0, 512, 1), ==, -EPERM);
    advice_error = 0;
    bdrv_activate(blk_bs(blk), &error_abort);
    g_assert_cmpint(advised, ==, 2);
    blk_unref(blk);
}

int main(int argc, char **argv)
{
    file_test_init(&argc, &argv);
    g_test_add_func("/file-active/locks", test_locks);
    g_test_add_func("/file-active/drop-cache", test_drop_cache);
    return file_test_run();
}
