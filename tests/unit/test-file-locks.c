/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Lock bytes of files: which are held, who is refused and with which words,
 * and that giving up never fails, wherever the file's name has gone.
 */
#include "util/osdep.h"
#include <glib/gstdio.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include "file-fixture.h"
#include "block/file/file-int.h"
#include "util/filelock.h"

#define READ BLK_PERM_CONSISTENT_READ
#define WRITE BLK_PERM_WRITE
#define RESIZE BLK_PERM_RESIZE
#define UNSHARED(bits) ((unsigned)(bits) << 8)

#define FILE_JSON "{'driver': 'file', 'filename': '%s'}"
#define AUTO_JSON \
    "{'driver': 'file', 'filename': '%s', 'auto-read-only': true}"

static int access_mode(BlockDriverState *bs)
{
    BDRVFileState *s = bs->opaque;

    return fcntl(s->fd, F_GETFL) & O_ACCMODE;
}

/* Every permission has its byte, and so has not sharing it. */
static void test_bytes(void)
{
    g_autofree char *path = file_test_make("bytes", 4096);
    BlockDriverState *bs = file_test_open(BDRV_O_RDWR, &error_abort, FILE_JSON,
                                          path);

    g_assert_cmphex(file_test_locks(path), ==, 0);
    for (unsigned perm = 0; perm <= BLK_PERM_ALL; perm++) {
        unsigned shared = ~perm & BLK_PERM_ALL;
        BlockBackend *blk;

        if (perm & (WRITE | BLK_PERM_WRITE_UNCHANGED)) {
            /* Sharing what one has, too. */
            shared |= perm & 1;
        }
        blk = file_test_user(bs, perm, shared);
        g_assert_cmphex(file_test_locks(path), ==,
                        perm | UNSHARED(~shared & BLK_PERM_ALL));
        blk_unref(blk);
        g_assert_cmphex(file_test_locks(path), ==, 0);
    }
    bdrv_unref(bs);
}

/* A raw image locks nothing but what its user wants. */
static void test_bytes_raw(void)
{
    g_autofree char *path = file_test_make("raw", 4096);
    BlockBackend *blk = file_test_blk(
        BDRV_O_RDWR, "{'driver': 'raw', 'file': " FILE_JSON "}", path);

    g_assert_true(blk_set_perm(blk, READ | WRITE, BLK_PERM_ALL, &error_abort));
    g_assert_cmphex(file_test_locks(path), ==, READ | WRITE);
    g_assert_true(blk_set_perm(blk, READ, BLK_PERM_ALL, &error_abort));
    g_assert_cmphex(file_test_locks(path), ==, READ);
    g_assert_true(blk_set_perm(blk, READ, BLK_PERM_ALL & ~RESIZE,
                               &error_abort));
    g_assert_cmphex(file_test_locks(path), ==, READ | UNSHARED(RESIZE));
    blk_unref(blk);
}

static void refused(BlockDriverState *bs, const char *path, uint64_t perm,
                    uint64_t shared, const char *text)
{
    g_autofree char *hint = g_strdup_printf(
        "Is another process using the image [%s]?\n", path);
    unsigned before = file_test_locks(path);
    Error *err = NULL;

    g_assert_null(blk_new_with_bs(bs, perm, shared, &err));
    g_assert_nonnull(err);
    g_assert_cmpstr(error_get_hint(err), ==, hint);
    file_test_error(err, text);
    g_assert_cmphex(file_test_locks(path), ==, before);
}

/* Another process objects: taking fails, says what, and takes nothing. */
static void test_conflicts(void)
{
    static const char *const names[] = { "consistent read", "write",
                                         "write unchanged", "resize" };
    g_autofree char *path = file_test_make("conflict", 4096);
    BlockDriverState *bs = file_test_open(BDRV_O_RDWR, &error_abort, FILE_JSON,
                                          path);

    for (int n = 0; n < 4; n++) {
        g_autofree char *get = g_strdup_printf("Failed to get \"%s\" lock",
                                               names[n]);
        g_autofree char *share = g_strdup_printf(
            "Failed to get shared \"%s\" lock", names[n]);
        FileTestLocker *l;

        l = file_test_lock_elsewhere(path, 0x100U << n);
        refused(bs, path, BLK_PERM_ALL, BLK_PERM_ALL, get);
        blk_unref(file_test_user(bs, BLK_PERM_ALL & ~(1U << n), 0));
        file_test_unlock_elsewhere(l);

        l = file_test_lock_elsewhere(path, 1U << n);
        refused(bs, path, 0, 0, share);
        blk_unref(file_test_user(bs, BLK_PERM_ALL, 1U << n));
        file_test_unlock_elsewhere(l);
    }
    bdrv_unref(bs);
}

/* An exclusive lock of somebody else on one of our bytes. */
static void test_byte_taken(void)
{
    g_autofree char *path = file_test_make("taken", 4096);
    BlockDriverState *bs = file_test_open(BDRV_O_RDWR, &error_abort, FILE_JSON,
                                          path);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    Error *err = NULL;

    g_assert_cmpint(qemu_lock_fd(fd, 201, 1, true), ==, 0);
    g_assert_null(blk_new_with_bs(bs, READ, 0, &err));
    file_test_error(err, "Failed to lock byte 201: "
                         "Resource temporarily unavailable");
    g_assert_cmpint(qemu_unlock_fd(fd, 201, 1), ==, 0);
    g_assert_cmphex(file_test_locks(path), ==, 0);
    close(fd);
    bdrv_unref(bs);
}

/* What is held is not asked for again; giving up is nobody's business. */
static void test_drop_with_conflict(void)
{
    g_autofree char *path = file_test_make("drop", 4096);
    BlockDriverState *bs = file_test_open(BDRV_O_RDWR, &error_abort, FILE_JSON,
                                          path);
    BlockBackend *a = file_test_user(bs, READ | WRITE, BLK_PERM_ALL);
    BlockBackend *b = file_test_user(bs, READ | WRITE | RESIZE, BLK_PERM_ALL);
    /* Came later and is about to find out that it conflicts. */
    FileTestLocker *l = file_test_lock_elsewhere(path, UNSHARED(0xf));

    g_assert_true(blk_set_perm(b, READ | WRITE, BLK_PERM_ALL, &error_abort));
    g_assert_cmphex(file_test_locks(path) & 0xff, ==, READ | WRITE);
    blk_unref(b);
    blk_unref(a);
    g_assert_cmphex(file_test_locks(path) & 0xff, ==, 0);
    g_assert_cmpuint(bs->relax_errors, ==, 0);
    file_test_unlock_elsewhere(l);
    bdrv_unref(bs);
}

static void test_locking_off(void)
{
    g_autofree char *path = file_test_make("off", 4096);
    FileTestLocker *l = file_test_lock_elsewhere(path, 0xf0f);
    BlockBackend *blk = file_test_blk(
        BDRV_O_RDWR,
        "{'driver': 'file', 'filename': '%s', 'locking': 'off'}", path);

    file_test_unlock_elsewhere(l);
    g_assert_cmphex(file_test_locks(path), ==, 0);
    blk_unref(blk);

    blk = file_test_blk(
        BDRV_O_RDWR,
        "{'driver': 'file', 'filename': '%s', 'locking': 'on'}", path);
    g_assert_cmphex(file_test_locks(path), ==, BLK_PERM_ALL);
    blk_unref(blk);
}

/* The descriptor follows the writers, and no name is needed for that. */
static void test_auto_read_only(void)
{
    g_autofree char *path = file_test_make("auto", 4096);
    g_autofree char *moved = g_strconcat(path, "-moved", NULL);
    BlockDriverState *bs = file_test_open(BDRV_O_RDWR, &error_abort, AUTO_JSON,
                                          path);
    BlockBackend *blk;

    g_assert_cmpint(access_mode(bs), ==, O_RDONLY);
    blk = file_test_user(bs, READ | WRITE, READ);
    g_assert_cmpint(access_mode(bs), ==, O_RDWR);
    g_assert_cmphex(file_test_locks(path), ==,
                    READ | WRITE | UNSHARED(0xf & ~READ));

    g_assert_cmpint(g_rename(path, moved), ==, 0);
    blk_unref(blk);
    g_assert_cmpint(access_mode(bs), ==, O_RDONLY);
    g_assert_cmphex(file_test_locks(moved), ==, 0);
    g_assert_cmpuint(bs->relax_errors, ==, 0);

    /* And back again: to the same file, not to a new one of its name. */
    g_free(file_test_make("auto", 4096));
    blk = file_test_user(bs, READ | WRITE | RESIZE, BLK_PERM_ALL);
    g_assert_cmpint(access_mode(bs), ==, O_RDWR);
    g_assert_cmpint(file_test_fill(blk, 0, 512, 0x5a), ==, 0);
    blk_unref(blk);
    g_assert_true(file_test_bytes_are(moved, 0, 512, 0x5a));
    g_assert_true(file_test_bytes_are(path, 0, 512, 0));
    bdrv_unref(bs);
}

static bool set_read_only(BlockDriverState *bs, bool ro, Error **errp)
{
    return bdrv_reopen_set_read_only(bs, ro, errp) == 0;
}

/* Read-only and back after the name is gone. */
static void test_reopen_unlinked(void)
{
    g_autofree char *path = file_test_make("unlinked", 4096);
    BlockDriverState *bs = file_test_open(BDRV_O_RDWR, &error_abort, FILE_JSON,
                                          path);
    BlockBackend *blk;

    g_assert_cmpint(access_mode(bs), ==, O_RDWR);
    g_assert_cmpint(g_unlink(path), ==, 0);
    g_assert_true(set_read_only(bs, true, &error_abort));
    g_assert_cmpint(access_mode(bs), ==, O_RDONLY);
    g_assert_true(set_read_only(bs, false, &error_abort));
    g_assert_cmpint(access_mode(bs), ==, O_RDWR);
    blk = file_test_user(bs, READ | WRITE, BLK_PERM_ALL);
    g_assert_cmpint(file_test_fill(blk, 0, 4096, 0x33), ==, 0);
    g_assert_true(file_test_reads(blk, 0, 4096, 0x33));
    blk_unref(blk);
    bdrv_unref(bs);
}

static QDict *read_only(bool ro)
{
    QDict *options = qdict_new();

    qdict_put_str(options, "read-only", ro ? "on" : "off");
    return options;
}

/* Under a format: parent and file in one go, locks follow. */
static void test_reopen_under_raw(void)
{
    g_autofree char *path = file_test_make("underraw", 4096);
    BlockDriverState *bs = file_test_open(
        BDRV_O_RDWR, &error_abort,
        "{'driver': 'raw', 'file': " FILE_JSON "}", path);
    BlockBackend *blk = file_test_user(bs, READ | WRITE, READ);
    BlockReopenQueue *queue;
    Error *err = NULL;

    g_assert_false(set_read_only(bs, true, &err));
    error_free_or_abort(&err);
    g_assert_cmpint(access_mode(bs->file->bs), ==, O_RDWR);
    g_assert_cmphex(file_test_locks(path), ==, 0xe03);

    g_assert_true(blk_set_perm(blk, READ, BLK_PERM_ALL, &error_abort));
    g_assert_true(set_read_only(bs, true, &error_abort));
    g_assert_cmpint(access_mode(bs->file->bs), ==, O_RDONLY);
    g_assert_cmphex(file_test_locks(path), ==, READ);
    queue = bdrv_reopen_queue(NULL, bs->file->bs, read_only(false), true);
    queue = bdrv_reopen_queue(queue, bs, read_only(false), true);
    g_assert_cmpint(bdrv_reopen_multiple(queue, &error_abort), ==, 0);
    g_assert_true(blk_set_perm(blk, READ | WRITE, BLK_PERM_ALL,
                               &error_abort));
    g_assert_cmpint(access_mode(bs->file->bs), ==, O_RDWR);
    g_assert_cmphex(file_test_locks(path), ==, READ | WRITE);
    blk_unref(blk);
    bdrv_unref(bs);
}

/* A reopen that cannot get its lock leaves everything as it was. */
static void test_reopen_conflict(void)
{
    g_autofree char *path = file_test_make("reconflict", 4096);
    BlockDriverState *bs = file_test_open(
        0, &error_abort,
        "{'driver': 'raw', 'node-name': 'fmt', 'read-only': true,"
        " 'file': {'driver': 'blkdebug', 'take-child-perms': ['write'],"
        "  'read-only': false, 'image': {'driver': 'file',"
        "   'read-only': false, 'auto-read-only': true,"
        "   'filename': '%s'}}}", path);
    BlockDriverState *file = bs->file->bs->file->bs;
    FileTestLocker *l;
    Error *err = NULL;

    g_assert_cmphex(file_test_locks(path), ==, WRITE);
    l = file_test_lock_elsewhere(path, RESIZE);
    g_assert_null(blk_new_with_bs(bs, READ, BLK_PERM_ALL & ~RESIZE, &err));
    file_test_error(err, "Failed to get shared \"resize\" lock");
    g_assert_cmphex(file_test_locks(path), ==, WRITE | RESIZE);
    file_test_unlock_elsewhere(l);
    g_assert_cmphex(file_test_locks(path), ==, WRITE);
    g_assert_cmpint(access_mode(file), ==, O_RDWR);
    bdrv_unref(bs);
}

static int relax_fails(BlockDriverState *bs)
{
    return -EIO;
}

/* Not being able to give up is counted, visible, and tried again. */
static void test_relax_failure(void)
{
    g_autofree char *path = file_test_make("relax", 4096);
    BlockDriverState *bs = file_test_open(BDRV_O_RDWR, &error_abort, FILE_JSON,
                                          path);
    BlockBackend *blk = file_test_user(bs, READ | WRITE, BLK_PERM_ALL);

    file_relax_hook = relax_fails;
    blk_unref(blk);
    g_assert_cmphex(file_test_locks(path), ==, READ | WRITE);
    g_assert_true(bs->relax_pending);
    g_assert_cmpuint(bs->relax_errors, ==, 1);
    file_relax_hook = NULL;
    bdrv_retry_relax();
    g_assert_cmphex(file_test_locks(path), ==, 0);
    g_assert_false(bs->relax_pending);
    bdrv_unref(bs);
}

/* Without a descriptor for it read-only access must wait, the locks not. */
static void test_relax_without_fd(void)
{
    g_autofree char *path = file_test_make("nofd", 4096);
    BlockDriverState *bs = file_test_open(BDRV_O_RDWR, &error_abort, AUTO_JSON,
                                          path);
    BlockBackend *blk = file_test_user(bs, READ | WRITE, BLK_PERM_ALL);
    int probe = open(path, O_RDONLY | O_CLOEXEC);
    struct rlimit old, none;

    g_assert_cmpint(getrlimit(RLIMIT_NOFILE, &old), ==, 0);
    none = old;
    none.rlim_cur = 0;
    g_assert_cmpint(setrlimit(RLIMIT_NOFILE, &none), ==, 0);
    blk_unref(blk);
    g_assert_cmpint(qemu_lock_fd_test(probe, 100, 1, true), ==, 0);
    g_assert_cmpint(qemu_lock_fd_test(probe, 101, 1, true), ==, 0);
    g_assert_cmpint(setrlimit(RLIMIT_NOFILE, &old), ==, 0);

    g_assert_cmpint(access_mode(bs), ==, O_RDWR);
    g_assert_cmpuint(bs->relax_errors, ==, 1);
    bdrv_retry_relax();
    g_assert_cmpint(access_mode(bs), ==, O_RDONLY);
    g_assert_false(bs->relax_pending);
    close(probe);
    bdrv_unref(bs);
}

/* A process that looks all the time never finds the file unlocked. */
static void test_never_unlocked(void)
{
    g_autofree char *path = file_test_make("never", 4096);
    BlockDriverState *bs = file_test_open(BDRV_O_RDWR, &error_abort, AUTO_JSON,
                                          path);
    BlockBackend *reader = file_test_user(bs, READ, BLK_PERM_ALL);
    int ready[2], stop[2], status;
    char c = 0;
    pid_t pid;

    g_assert_cmpint(pipe(ready), ==, 0);
    g_assert_cmpint(pipe2(stop, O_NONBLOCK), ==, 0);
    pid = fork();
    if (!pid) {
        int fd = open(path, O_RDONLY);

        if (write(ready[1], &c, 1) != 1) {
            _exit(2);
        }
        while (read(stop[0], &c, 1) < 0) {
            if (qemu_lock_fd_test(fd, 100, 1, true) != -EAGAIN) {
                _exit(1);
            }
        }
        _exit(0);
    }
    g_assert_cmpint(read(ready[0], &c, 1), ==, 1);
    for (int i = 0; i < 500; i++) {
        BlockBackend *writer = file_test_user(bs, READ | WRITE, BLK_PERM_ALL);

        g_assert_cmpint(access_mode(bs), ==, O_RDWR);
        blk_unref(writer);
        g_assert_cmpint(access_mode(bs), ==, O_RDONLY);
    }
    g_assert_cmpint(write(stop[1], &c, 1), ==, 1);
    g_assert_cmpint(waitpid(pid, &status, 0), ==, pid);
    g_assert_cmpint(status, ==, 0);
    for (int i = 0; i < 2; i++) {
        close(ready[i]);
        close(stop[i]);
    }
    blk_unref(reader);
    bdrv_unref(bs);
}

/* O_DIRECT comes and goes with the locks held. */
static void test_reopen_direct(void)
{
    g_autofree char *path = file_test_make("direct", 65536);
    BlockDriverState *bs = file_test_open(BDRV_O_RDWR, &error_abort, FILE_JSON,
                                          path);
    BlockBackend *blk = file_test_user(bs, READ | WRITE, READ);

    for (int i = 0; i < 4; i++) {
        BDRVFileState *s = bs->opaque;
        QDict *options = qdict_new();
        Error *err = NULL;

        qdict_put_str(options, "cache.direct", i % 2 ? "off" : "on");
        if (bdrv_reopen(bs, options, true, &err) < 0) {
            g_test_skip(error_get_pretty(err));
            error_free(err);
            break;
        }
        g_assert_cmpint(!!(fcntl(s->fd, F_GETFL) & O_DIRECT), ==, !(i % 2));
        g_assert_cmphex(file_test_locks(path), ==, 0xe03);
        g_assert_cmpint(file_test_fill(blk, 1000 * i + 3, 1000, i + 1), ==, 0);
        g_assert_true(file_test_reads(blk, 1000 * i + 3, 1000, i + 1));
    }
    blk_unref(blk);
    bdrv_unref(bs);
}

static void test_reopen_filename(void)
{
    g_autofree char *path = file_test_make("name", 4096);
    BlockDriverState *bs = file_test_open(BDRV_O_RDWR, &error_abort, FILE_JSON,
                                          path);
    QDict *options = qdict_new();
    Error *err = NULL;

    qdict_put_str(options, "filename", "other");
    g_assert_cmpint(bdrv_reopen(bs, options, true, &err), <, 0);
    file_test_error(err, "Cannot change the option 'filename'");
    bdrv_unref(bs);
}

int main(int argc, char **argv)
{
    file_test_init(&argc, &argv);
    g_test_add_func("/file-locks/bytes", test_bytes);
    g_test_add_func("/file-locks/bytes-raw", test_bytes_raw);
    g_test_add_func("/file-locks/conflicts", test_conflicts);
    g_test_add_func("/file-locks/byte-taken", test_byte_taken);
    g_test_add_func("/file-locks/drop-with-conflict", test_drop_with_conflict);
    g_test_add_func("/file-locks/locking-off", test_locking_off);
    g_test_add_func("/file-locks/auto-read-only", test_auto_read_only);
    g_test_add_func("/file-locks/reopen-unlinked", test_reopen_unlinked);
    g_test_add_func("/file-locks/reopen-under-raw", test_reopen_under_raw);
    g_test_add_func("/file-locks/reopen-conflict", test_reopen_conflict);
    g_test_add_func("/file-locks/relax-failure", test_relax_failure);
    g_test_add_func("/file-locks/relax-without-fd", test_relax_without_fd);
    g_test_add_func("/file-locks/never-unlocked", test_never_unlocked);
    g_test_add_func("/file-locks/reopen-direct", test_reopen_direct);
    g_test_add_func("/file-locks/reopen-filename", test_reopen_filename);
    return file_test_run();
}
