/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "util/osdep.h"
#include <glib/gstdio.h>
#include <sys/wait.h>
#include "file-fixture.h"
#include "block/graph-lock.h"
#include "qobject/qjson.h"
#include "util/aio.h"
#include "util/bswap.h"
#include "util/fd.h"
#include "util/filelock.h"

static char *test_dir;

void file_test_init(int *argc, char ***argv)
{
    g_test_init(argc, argv, NULL);
    qemu_init_main_loop(&error_abort);
    bdrv_init();
    /* On the disk rather than in memory: O_DIRECT and holes are wanted. */
    test_dir = g_strdup("file-test-XXXXXX");
    g_assert_nonnull(g_mkdtemp(test_dir));
}

int file_test_run(void)
{
    int ret = g_test_run();
    GDir *dir = g_dir_open(test_dir, 0, NULL);
    const char *name;

    while ((name = g_dir_read_name(dir))) {
        g_autofree char *path = g_build_filename(test_dir, name, NULL);
        g_unlink(path);
    }
    g_dir_close(dir);
    g_rmdir(test_dir);
    g_free(test_dir);
    return ret;
}

char *file_test_make(const char *name, int64_t bytes)
{
    char *path = g_build_filename(test_dir, name, NULL);
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

    g_assert_cmpint(fd, >=, 0);
    g_assert_cmpint(ftruncate(fd, bytes), ==, 0);
    close(fd);
    return path;
}

static BlockDriverState *open_json(int flags, Error **errp, const char *json,
                                   va_list ap)
{
    g_autofree char *text = g_strdup_vprintf(json, ap);
    QObject *obj = qobject_from_json(text, &error_abort);

    return bdrv_open(NULL, NULL, qobject_to(QDict, obj), flags, errp);
}

BlockDriverState *file_test_open(int flags, Error **errp, const char *json,
                                 ...)
{
    BlockDriverState *bs;
    va_list ap;

    va_start(ap, json);
    bs = open_json(flags, errp, json, ap);
    va_end(ap);
    return bs;
}

BlockBackend *file_test_user(BlockDriverState *bs, uint64_t perm,
                             uint64_t shared)
{
    BlockBackend *blk = blk_new_with_bs(bs, perm, shared, &error_abort);

    g_assert_nonnull(blk);
    return blk;
}

BlockBackend *file_test_blk(int flags, const char *json, ...)
{
    BlockDriverState *bs;
    BlockBackend *blk;
    va_list ap;

    va_start(ap, json);
    bs = open_json(flags, &error_abort, json, ap);
    va_end(ap);
    blk = file_test_user(bs,
                         flags & BDRV_O_RDWR ? BLK_PERM_ALL
                                             : BLK_PERM_CONSISTENT_READ,
                         BLK_PERM_ALL);
    bdrv_unref(bs);
    return blk;
}

unsigned file_test_locks(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    unsigned held = 0;

    g_assert_cmpint(fd, >=, 0);
    for (int n = 0; n < 4; n++) {
        if (qemu_lock_fd_test(fd, 100 + n, 1, true)) {
            held |= 1U << n;
        }
        if (qemu_lock_fd_test(fd, 200 + n, 1, true)) {
            held |= 0x100U << n;
        }
    }
    close(fd);
    return held;
}

struct FileTestLocker {
    pid_t pid;
    int to_child;
    int from_child;
};

static void QEMU_NORETURN run_locker(const char *path, unsigned bytes,
                                     int from_parent, int to_parent)
{
    int fd;
    char c = 0;

    /* Locks belong to open files, and those of the nodes were inherited. */
    for (fd = 3; fd < 1024; fd++) {
        if (fd != from_parent && fd != to_parent) {
            close(fd);
        }
    }
    fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0) {
        _exit(1);
    }
    for (int n = 0; n < 4; n++) {
        if (((bytes & (1U << n)) && qemu_lock_fd(fd, 100 + n, 1, false)) ||
            ((bytes & (0x100U << n)) && qemu_lock_fd(fd, 200 + n, 1, false))) {
            _exit(1);
        }
    }
    if (write(to_parent, &c, 1) != 1) {
        _exit(1);
    }
    /* The other end is closed to end this. */
    while (read(from_parent, &c, 1) < 0 && errno == EINTR) {
    }
    _exit(0);
}

FileTestLocker *file_test_lock_elsewhere(const char *path, unsigned bytes)
{
    FileTestLocker *l = g_new0(FileTestLocker, 1);
    int down[2], up[2];
    char c;

    g_assert_cmpint(pipe(down), ==, 0);
    g_assert_cmpint(pipe(up), ==, 0);
    l->pid = fork();
    g_assert_cmpint(l->pid, >=, 0);
    if (!l->pid) {
        close(down[1]);
        run_locker(path, bytes, down[0], up[1]);
    }
    close(down[0]);
    close(up[1]);
    l->to_child = down[1];
    l->from_child = up[0];
    g_assert_cmpint(read(l->from_child, &c, 1), ==, 1);
    return l;
}

void file_test_unlock_elsewhere(FileTestLocker *l)
{
    int status;

    close(l->to_child);
    close(l->from_child);
    g_assert_cmpint(waitpid(l->pid, &status, 0), ==, l->pid);
    g_assert_cmpint(status, ==, 0);
    g_free(l);
}

void file_test_error(Error *err, const char *text)
{
    g_assert_nonnull(err);
    g_assert_cmpstr(error_get_pretty(err), ==, text);
    error_free(err);
}

static bool all_bytes(const uint8_t *buf, int64_t bytes, uint8_t value)
{
    for (int64_t i = 0; i < bytes; i++) {
        if (buf[i] != value) {
            g_test_message("byte %" PRId64 " is 0x%02x", i, buf[i]);
            return false;
        }
    }
    return true;
}

bool file_test_bytes_are(const char *path, int64_t offset, int64_t bytes,
                         uint8_t value)
{
    g_autofree uint8_t *buf = g_malloc(bytes);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = qemu_pread_full(fd, buf, bytes, offset);

    close(fd);
    g_assert_cmpint(n, ==, bytes);
    return all_bytes(buf, bytes, value);
}

void file_test_put(const char *path, int64_t offset, const void *buf, size_t n)
{
    int fd = open(path, O_RDWR | O_CLOEXEC);

    g_assert_cmpint(pwrite(fd, buf, n, offset), ==, n);
    close(fd);
}

uint64_t file_test_u64(const char *path, int64_t offset)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    uint64_t value;

    g_assert_cmpint(pread(fd, &value, 8, offset), ==, 8);
    close(fd);
    return be64_to_cpu(value);
}

bool file_test_reads(BlockBackend *blk, int64_t offset, int64_t bytes,
                     uint8_t value)
{
    g_autofree uint8_t *buf = g_malloc(bytes);

    memset(buf, ~value, bytes);
    g_assert_cmpint(blk_pread(blk, offset, bytes, buf, 0), ==, 0);
    return all_bytes(buf, bytes, value);
}

int file_test_fill(BlockBackend *blk, int64_t offset, int64_t bytes,
                   uint8_t value)
{
    g_autofree uint8_t *buf = g_malloc(bytes);

    memset(buf, value, bytes);
    return blk_pwrite(blk, offset, bytes, buf, 0);
}
