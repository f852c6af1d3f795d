/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Devices: character devices that every system has, and a loop device where
 * the test may make one.
 */
#include "util/osdep.h"
#include <linux/fs.h>
#include <linux/loop.h>
#include <sys/ioctl.h>
#include "file-fixture.h"
#include "block/driver-table.h"

#define READ BLK_PERM_CONSISTENT_READ
#define KiB 1024
#define MiB (1024 * KiB)

/* --- loop devices --- */

typedef struct Loop {
    char *file;
    char *device;
    int fd;
} Loop;

/* False, and the test is skipped, where there are none for us. */
static bool loop_make(Loop *l, const char *name, int64_t bytes)
{
    int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
    int number = control < 0 ? -1 : ioctl(control, LOOP_CTL_GET_FREE);
    struct loop_info64 info = { .lo_flags = LO_FLAGS_AUTOCLEAR };
    int backing;

    if (control >= 0) {
        close(control);
    }
    if (number < 0) {
        g_test_skip("no loop devices");
        return false;
    }
    l->file = file_test_make(name, bytes);
    l->device = g_strdup_printf("/dev/loop%d", number);
    l->fd = open(l->device, O_RDWR | O_CLOEXEC);
    backing = open(l->file, O_RDWR | O_CLOEXEC);
    if (l->fd < 0 || ioctl(l->fd, LOOP_SET_FD, backing) < 0) {
        g_test_skip("no loop device for us");
        close(backing);
        if (l->fd >= 0) {
            close(l->fd);
        }
        g_free(l->file);
        g_free(l->device);
        return false;
    }
    close(backing);
    /* Even if the test does not get as far as loop_clear(). */
    g_assert_cmpint(ioctl(l->fd, LOOP_SET_STATUS64, &info), ==, 0);
    return true;
}

static void loop_clear(Loop *l)
{
    g_assert_cmpint(ioctl(l->fd, LOOP_CLR_FD), ==, 0);
    close(l->fd);
    g_free(l->file);
    g_free(l->device);
}

static BlockDriverState *open_device(const char *device, int flags)
{
    return file_test_open(BDRV_O_RDWR | flags, &error_abort,
                          "{'driver': 'host_device', 'filename': '%s',"
                          " 'discard': 'unmap'}", device);
}

static void run_io(int flags)
{
    Loop l;
    BlockDriverState *bs;
    BlockBackend *blk;

    if (!loop_make(&l, "io", 4 * MiB)) {
        return;
    }
    bs = open_device(l.device, flags);
    blk = file_test_user(bs, BLK_PERM_ALL, BLK_PERM_ALL);
    g_assert_cmpint(blk_getlength(blk), ==, 4 * MiB);
    g_assert_cmphex(file_test_locks(l.device), ==, BLK_PERM_ALL);
    g_assert_cmpint(file_test_fill(blk, 0, 4 * MiB, 0x5a), ==, 0);
    g_assert_cmpint(file_test_fill(blk, 12345, 1000, 0xa5), ==, 0);
    g_assert_true(file_test_reads(blk, 12345, 1000, 0xa5));
    g_assert_cmpint(blk_pwrite_zeroes(blk, MiB, MiB, 0), ==, 0);
    g_assert_cmpint(blk_pwrite_zeroes(blk, 2 * MiB, MiB / 2,
                                      BDRV_REQ_MAY_UNMAP), ==, 0);
    g_assert_cmpint(blk_pwrite_zeroes(blk, 3 * MiB + 5, 700, 0), ==, 0);
    g_assert_true(file_test_reads(blk, MiB, MiB + MiB / 2, 0));
    g_assert_true(file_test_reads(blk, 3 * MiB, 5, 0x5a));
    g_assert_true(file_test_reads(blk, 3 * MiB + 5, 700, 0));
    g_assert_true(file_test_reads(blk, 3 * MiB + 705, 5, 0x5a));
    g_assert_cmpint(blk_pdiscard(blk, 0, 64 * KiB), ==, 0);
    g_assert_cmpint(blk_flush(blk), ==, 0);
    g_assert_cmpint(file_test_fill(blk, 4 * MiB, 1, 1), <, 0);
    blk_unref(blk);
    bdrv_unref(bs);
    g_assert_true(file_test_bytes_are(l.file, MiB, MiB, 0));
    loop_clear(&l);
}

static void test_io(void)
{
    run_io(0);
}

static void test_io_direct(void)
{
    run_io(BDRV_O_NOCACHE);
}

/* Found by its name, read-only as well, and writable again without it. */
static void test_open(void)
{
    Loop l;
    BlockDriverState *bs;

    if (!loop_make(&l, "open", MiB)) {
        return;
    }
    bs = bdrv_open(l.device, NULL, NULL, BDRV_O_PROTOCOL, &error_abort);
    g_assert_cmpstr(bdrv_get_format_name(bs), ==, "host_device");
    g_assert_cmpstr(bs->filename, ==, l.device);
    g_assert_cmpint(bdrv_reopen_set_read_only(bs, false, &error_abort), ==, 0);
    g_assert_cmpint(bdrv_reopen_set_read_only(bs, true, &error_abort), ==, 0);
    bdrv_unref(bs);
    loop_clear(&l);
}

/* A device that cannot be written is no surprise at the first write. */
static void test_read_only(void)
{
    Loop l;
    BlockDriverState *bs;
    int on = 1, off = 0;
    Error *err = NULL;

    if (!loop_make(&l, "ro", MiB)) {
        return;
    }
    g_assert_cmpint(ioctl(l.fd, BLKROSET, &on), ==, 0);
    g_assert_null(file_test_open(BDRV_O_RDWR, &err, "{'driver':"
                                 " 'host_device', 'filename': '%s'}",
                                 l.device));
    error_free_or_abort(&err);
    bs = file_test_open(BDRV_O_RDWR, &error_abort, "{'driver': 'host_device',"
                        " 'filename': '%s', 'auto-read-only': true}",
                        l.device);
    g_assert_null(blk_new_with_bs(bs, BLK_PERM_WRITE, BLK_PERM_ALL, &err));
    error_free_or_abort(&err);
    blk_unref(file_test_user(bs, READ, BLK_PERM_ALL));
    bdrv_unref(bs);
    /* It outlives the file behind the device. */
    g_assert_cmpint(ioctl(l.fd, BLKROSET, &off), ==, 0);
    loop_clear(&l);
}

static void test_resize(void)
{
    Loop l;
    BlockDriverState *bs;
    BlockBackend *blk;
    Error *err = NULL;

    if (!loop_make(&l, "resize", MiB)) {
        return;
    }
    bs = open_device(l.device, 0);
    blk = file_test_user(bs, BLK_PERM_ALL, BLK_PERM_ALL);
    g_assert_cmpint(blk_truncate(blk, 2 * MiB, false, PREALLOC_MODE_OFF, 0,
                                 &err), ==, -EINVAL);
    file_test_error(err, "Cannot grow device files");
    err = NULL;
    g_assert_cmpint(blk_truncate(blk, 512, true, PREALLOC_MODE_OFF, 0, &err),
                    ==, -ENOTSUP);
    file_test_error(err, "Cannot resize device files");
    err = NULL;
    g_assert_cmpint(blk_truncate(blk, MiB, false, PREALLOC_MODE_FULL, 0, &err),
                    ==, -ENOTSUP);
    file_test_error(err, "Preallocation mode 'full' unsupported for this "
                         "non-regular file");
    g_assert_cmpint(blk_truncate(blk, 512, false, PREALLOC_MODE_OFF, 0,
                                 &error_abort), ==, 0);

    /* Longer behind our back. */
    g_assert_cmpint(truncate(l.file, 3 * MiB), ==, 0);
    g_assert_cmpint(ioctl(l.fd, LOOP_SET_CAPACITY), ==, 0);
    g_assert_cmpint(blk_getlength(blk), ==, 3 * MiB);
    blk_unref(blk);
    bdrv_unref(bs);
    loop_clear(&l);
}

static int create(const char *device, const char *name, const char *value,
                  Error **errp)
{
    g_autoptr(QDict) options = qdict_new();

    qdict_put_str(options, "size", "1M");
    if (name) {
        qdict_put_str(options, name, value);
    }
    return bdrv_host_device.bdrv_create(device, options, errp);
}

/* A device is used as it is; what was in it is not recognized any more. */
static void test_create(void)
{
    Loop l;
    BlockDriverState *bs;
    BlockBackend *blk;
    FileTestLocker *locker;
    Error *err = NULL;

    if (!loop_make(&l, "create", MiB)) {
        return;
    }
    bs = open_device(l.device, 0);
    blk = file_test_user(bs, BLK_PERM_ALL, BLK_PERM_ALL);
    g_assert_cmpint(file_test_fill(blk, 0, 4096, 0x11), ==, 0);
    blk_unref(blk);
    bdrv_unref(bs);

    g_assert_cmpint(create(l.device, "size", "2M", &err), <, 0);
    file_test_error(err, "Cannot grow device files");
    err = NULL;
    g_assert_cmpint(create(l.device, "preallocation", "falloc", &err), <, 0);
    file_test_error(err, "Unsupported preallocation mode 'falloc'");
    err = NULL;
    g_assert_cmpint(create(l.device, "nocow", "on", &err), <, 0);
    file_test_error(err, "The option 'nocow' is only for files, not for "
                         "devices");
    locker = file_test_lock_elsewhere(l.device, BLK_PERM_WRITE << 8);
    err = NULL;
    g_assert_cmpint(create(l.device, NULL, NULL, &err), <, 0);
    file_test_error(err, "Failed to get \"write\" lock");
    file_test_unlock_elsewhere(locker);
    g_assert_true(file_test_bytes_are(l.device, 0, 4096, 0x11));

    g_assert_cmpint(create(l.device, NULL, NULL, &error_abort), ==, 0);
    g_assert_true(file_test_bytes_are(l.device, 0, 512, 0));
    g_assert_true(file_test_bytes_are(l.device, 512, 3584, 0x11));
    loop_clear(&l);
}

/* A disk that is full says so. */
static void test_full(void)
{
    BlockDriverState *bs;
    BlockBackend *blk;

    if (access("/dev/full", W_OK) < 0) {
        g_test_skip("no /dev/full");
        return;
    }
    bs = open_device("/dev/full", 0);
    blk = file_test_user(bs, BLK_PERM_ALL, BLK_PERM_ALL);
    blk_set_allow_write_beyond_eof(blk, true);
    g_assert_cmpint(file_test_fill(blk, 0, 512, 1), ==, -ENOSPC);
    blk_unref(blk);
    bdrv_unref(bs);
}

int main(int argc, char **argv)
{
    file_test_init(&argc, &argv);
    g_test_add_func("/host-device/io", test_io);
    g_test_add_func("/host-device/io-direct", test_io_direct);
    g_test_add_func("/host-device/open", test_open);
    g_test_add_func("/host-device/read-only", test_read_only);
    g_test_add_func("/host-device/resize", test_resize);
    g_test_add_func("/host-device/create", test_create);
    g_test_add_func("/host-device/full", test_full);
    return file_test_run();
}
