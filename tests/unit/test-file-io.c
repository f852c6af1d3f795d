/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Requests on files with every engine, through the page cache and around it;
 * changing the length; flushes that fail.
 */
#include "util/osdep.h"
#include <sys/resource.h>
#include <sys/syscall.h>
#include "file-fixture.h"
#include "block/create.h"
#include "block/driver-table.h"
#include "block/file/file-int.h"
#include "util/aio.h"

#define KiB 1024
#define MiB (1024 * KiB)

/* Instead of libc's: the disk may be told to fail. */
static int fail_fdatasync;

int fdatasync(int fd)
{
    if (fail_fdatasync) {
        fail_fdatasync--;
        errno = EIO;
        return -1;
    }
    return syscall(SYS_fdatasync, fd);
}

typedef struct Setup {
    const char *name;
    const char *aio;
    int flags;
} Setup;

static const Setup setups[] = {
    { "threads", "threads", 0 },
    { "io_uring", "io_uring", 0 },
    { "threads-direct", "threads", BDRV_O_NOCACHE },
    { "io_uring-direct", "io_uring", BDRV_O_NOCACHE },
#ifdef CONFIG_LINUX_AIO
    { "native-direct", "native", BDRV_O_NOCACHE },
#endif
};

/* A backend for a new file; NULL (skipped) if this setup cannot be had. */
static BlockBackend *open_setup(const Setup *su, const char *path)
{
    Error *err = NULL;
    BlockDriverState *bs;
    BlockBackend *blk;

    bs = file_test_open(BDRV_O_RDWR | su->flags, &err,
                        "{'driver': 'file', 'filename': '%s', 'aio': '%s',"
                        " 'discard': 'unmap'}", path, su->aio);
    if (!bs) {
        g_test_skip(error_get_pretty(err));
        error_free(err);
        return NULL;
    }
    blk = file_test_user(bs, BLK_PERM_ALL, BLK_PERM_ALL);
    blk_set_allow_write_beyond_eof(blk, true);
    bdrv_unref(bs);
    return blk;
}

enum { RANDOM_SIZE = 2 * MiB };

/* Any offsets and lengths, against a copy in memory. Consumes @blk. */
static void random_requests(BlockBackend *blk)
{
    enum { SIZE = RANDOM_SIZE };
    g_autofree uint8_t *model = g_malloc0(SIZE);
    g_autofree uint8_t *buf = g_malloc(SIZE);

    if (!blk) {
        return;
    }
    for (int i = 0; i < 300; i++) {
        int64_t offset = g_test_rand_int_range(0, SIZE);
        int64_t bytes = MIN(SIZE - offset, g_test_rand_int_range(
                                1, i % 10 ? 20000 : SIZE));
        BdrvRequestFlags flags = i % 7 ? 0 : BDRV_REQ_FUA;

        switch (g_test_rand_int_range(0, 5)) {
        case 0:
            g_assert_cmpint(blk_pread(blk, offset, bytes, buf, 0), ==, 0);
            g_assert_cmpmem(buf, bytes, model + offset, bytes);
            break;
        case 1:
            g_assert_cmpint(blk_pwrite_zeroes(blk, offset, bytes,
                                              i % 2 ? BDRV_REQ_MAY_UNMAP : 0),
                            ==, 0);
            memset(model + offset, 0, bytes);
            break;
        default:
            memset(buf, i + 1, bytes);
            g_assert_cmpint(blk_pwrite(blk, offset, bytes, buf, flags), ==, 0);
            memcpy(model + offset, buf, bytes);
            break;
        }
    }
    g_assert_cmpint(blk_flush(blk), ==, 0);
    g_assert_cmpint(blk_pread(blk, 0, SIZE, buf, 0), ==, 0);
    g_assert_cmpmem(buf, SIZE, model, SIZE);
    blk_unref(blk);
}

static void test_random(const void *opaque)
{
    g_autofree char *path = file_test_make("random", RANDOM_SIZE);

    random_requests(open_setup(opaque, path));
}

/* A file in memory has a shortcut for small requests. */
static void test_random_in_memory(void)
{
    static const Setup setup = { "memory", "io_uring", 0 };
    const char *path = "/dev/shm/test-file-io";
    g_autofree char *name = g_strdup_printf("%s-%d", path, getpid());
    int fd = open(name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

    if (fd < 0) {
        g_test_skip("no file can be made in /dev/shm");
        return;
    }
    g_assert_cmpint(ftruncate(fd, RANDOM_SIZE), ==, 0);
    close(fd);
    random_requests(open_setup(&setup, name));
    unlink(name);
}

/* Linux AIO is asynchronous with O_DIRECT only, so it is refused otherwise. */
static void test_native_without_direct(void)
{
    g_autofree char *path = file_test_make("native", 4096);
    Error *err = NULL;

    g_assert_null(file_test_open(BDRV_O_RDWR, &err,
                                 "{'driver': 'file', 'filename': '%s',"
                                 " 'aio': 'native'}", path));
    file_test_error(err, "aio=native was specified, but it requires "
                         "cache.direct=on, which was not specified.");
}

/* Many pieces in one request, none of them aligned. */
static void test_vector(const void *opaque)
{
    enum { PIECES = 1000, PIECE = 37 };
    g_autofree char *path = file_test_make("vector", 64 * KiB);
    BlockBackend *blk = open_setup(opaque, path);
    g_autofree uint8_t *buf = g_malloc(2 * PIECES * PIECE);
    QEMUIOVector qiov;

    if (!blk) {
        return;
    }
    qemu_iovec_init(&qiov, PIECES);
    for (int i = 0; i < PIECES; i++) {
        memset(buf + 2 * i * PIECE, i, PIECE);
        qemu_iovec_add(&qiov, buf + 2 * i * PIECE, PIECE);
    }
    g_assert_cmpint(blk_pwritev(blk, 5, PIECES * PIECE, &qiov, 0), ==, 0);
    for (int i = 0; i < PIECES; i++) {
        g_assert_true(file_test_reads(blk, 5 + i * PIECE, PIECE, i));
    }
    memset(buf, 0xff, 2 * PIECES * PIECE);
    g_assert_cmpint(blk_preadv(blk, 5, PIECES * PIECE, &qiov, 0), ==, 0);
    for (int i = 0; i < PIECES; i++) {
        g_assert_cmpint(buf[2 * i * PIECE + PIECE - 1], ==, (uint8_t)i);
        g_assert_cmpint(buf[2 * i * PIECE + PIECE], ==, 0xff);
    }
    qemu_iovec_destroy(&qiov);
    blk_unref(blk);
}

/* A file that ends anywhere reads as zeroes up to the next block. */
static void test_end_of_file(const void *opaque)
{
    g_autofree char *path = file_test_make("end", 0);
    BlockBackend *blk = open_setup(opaque, path);
    g_autofree uint8_t *buf = g_malloc(8192);
    BlockDriverState *bs;

    if (!blk) {
        return;
    }
    g_assert_cmpint(file_test_fill(blk, 0, 4096, 0x77), ==, 0);
    g_assert_cmpint(blk_truncate(blk, 5000, true, PREALLOC_MODE_OFF, 0,
                                 &error_abort), ==, 0);
    bs = blk_bs(blk);
    memset(buf, 0xff, 8192);
    g_assert_cmpint(bdrv_pread(blk_root(blk), 0, 8192, buf, 0), ==, 0);
    for (int i = 0; i < 8192; i++) {
        g_assert_cmpint(buf[i], ==, i < 4096 ? 0x77 : 0);
    }
    g_assert_cmpint(bdrv_getlength(bs), ==, 5120);
    g_assert_cmpint(qatomic_read(&bs->total_bytes), ==, 5000);
    blk_unref(blk);
}

/* Writes and zeroes beyond the end make the file longer, never shorter. */
static void test_grow(const void *opaque)
{
    g_autofree char *path = file_test_make("grow", 0);
    BlockBackend *blk = open_setup(opaque, path);

    if (!blk) {
        return;
    }
    g_assert_cmpint(file_test_fill(blk, 64 * KiB, 4 * KiB, 1), ==, 0);
    g_assert_cmpint(blk_getlength(blk), ==, 68 * KiB);
    g_assert_cmpint(blk_pwrite_zeroes(blk, MiB, MiB, BDRV_REQ_MAY_UNMAP), ==,
                    0);
    g_assert_cmpint(blk_getlength(blk), ==, 2 * MiB);
    g_assert_cmpint(bdrv_get_allocated_file_size(blk_bs(blk)), <, MiB);
    g_assert_cmpint(blk_pwrite_zeroes(blk, 3 * MiB, MiB, 0), ==, 0);
    g_assert_cmpint(blk_getlength(blk), ==, 4 * MiB);
    g_assert_cmpint(bdrv_get_allocated_file_size(blk_bs(blk)), >=, MiB);
    g_assert_cmpint(blk_pwrite_zeroes(blk, 0, 4 * KiB, 0), ==, 0);
    g_assert_cmpint(blk_pwrite_zeroes(blk, 0, 4 * KiB, BDRV_REQ_MAY_UNMAP), ==,
                    0);
    g_assert_true(file_test_reads(blk, 0, 64 * KiB, 0));
    g_assert_true(file_test_reads(blk, 64 * KiB, 4 * KiB, 1));
    g_assert_true(file_test_reads(blk, 68 * KiB, 4 * MiB - 68 * KiB, 0));
    blk_unref(blk);
}

/* The file may not grow any more in the middle of a write. */
static void test_short_write(const void *opaque)
{
    g_autofree char *path = file_test_make("short", 0);
    BlockBackend *blk = open_setup(opaque, path);
    struct rlimit old, small;

    if (!blk) {
        return;
    }
    signal(SIGXFSZ, SIG_IGN);
    g_assert_cmpint(getrlimit(RLIMIT_FSIZE, &old), ==, 0);
    small = old;
    small.rlim_cur = 64 * KiB;
    g_assert_cmpint(setrlimit(RLIMIT_FSIZE, &small), ==, 0);
    g_assert_cmpint(file_test_fill(blk, 32 * KiB, 64 * KiB, 3), ==, -EFBIG);
    g_assert_cmpint(setrlimit(RLIMIT_FSIZE, &old), ==, 0);
    g_assert_true(file_test_bytes_are(path, 32 * KiB, 32 * KiB, 3));
    /* Nothing is broken. */
    g_assert_cmpint(file_test_fill(blk, 32 * KiB, 64 * KiB, 4), ==, 0);
    g_assert_true(file_test_reads(blk, 32 * KiB, 64 * KiB, 4));
    blk_unref(blk);
}

/* --- length --- */

static int64_t allocated(BlockBackend *blk)
{
    return bdrv_get_allocated_file_size(blk_bs(blk));
}

static void test_truncate(const void *opaque)
{
    g_autofree char *path = file_test_make("truncate", 1000);
    BlockBackend *blk = open_setup(opaque, path);
    struct rlimit old, small;
    Error *err = NULL;

    if (!blk) {
        return;
    }
    g_assert_cmpint(blk_truncate(blk, MiB, true, PREALLOC_MODE_FALLOC, 0,
                                 &error_abort), ==, 0);
    g_assert_cmpint(blk_getlength(blk), ==, MiB);
    g_assert_cmpint(allocated(blk), >=, MiB - 4096);
    g_assert_cmpint(blk_truncate(blk, 2 * MiB + 777, true, PREALLOC_MODE_FULL,
                                 0, &error_abort), ==, 0);
    g_assert_cmpint(blk_getlength(blk), ==, 2 * MiB + 1024);
    g_assert_cmpint(allocated(blk), >=, 2 * MiB - 4096);
    g_assert_true(file_test_reads(blk, 0, 2 * MiB + 777, 0));

    g_assert_cmpint(blk_truncate(blk, MiB, true, PREALLOC_MODE_FULL, 0, &err),
                    ==, -EINVAL);
    file_test_error(err, "Preallocation can't be used for shrinking files");
    err = NULL;
    g_assert_cmpint(blk_truncate(blk, 4 * MiB, true, PREALLOC_MODE_METADATA, 0,
                                 &err), ==, -ENOTSUP);
    file_test_error(err, "Unsupported preallocation mode: metadata");
    g_assert_cmpint(blk_getlength(blk), ==, 2 * MiB + 1024);

    /* No room in the middle of it: the old length comes back. */
    signal(SIGXFSZ, SIG_IGN);
    g_assert_cmpint(getrlimit(RLIMIT_FSIZE, &old), ==, 0);
    small = old;
    small.rlim_cur = 3 * MiB;
    g_assert_cmpint(setrlimit(RLIMIT_FSIZE, &small), ==, 0);
    err = NULL;
    g_assert_cmpint(blk_truncate(blk, 4 * MiB, true, PREALLOC_MODE_FULL, 0,
                                 &err), ==, -EFBIG);
    file_test_error(err, "Could not write zeros for preallocation: "
                         "File too large");
    err = NULL;
    g_assert_cmpint(blk_truncate(blk, 4 * MiB, true, PREALLOC_MODE_FALLOC, 0,
                                 &err), ==, -EFBIG);
    file_test_error(err, "Could not preallocate data for the new file: "
                         "File too large");
    g_assert_cmpint(setrlimit(RLIMIT_FSIZE, &old), ==, 0);
    g_assert_cmpint(blk_getlength(blk), ==, 2 * MiB + 1024);
    g_assert_cmpint(file_fd_length(((BDRVFileState *)
                                    blk_bs(blk)->opaque)->fd),
                    ==, 2 * MiB + 777);
    g_assert_cmpint(blk_truncate(blk, 500, true, PREALLOC_MODE_OFF, 0,
                                 &error_abort), ==, 0);
    g_assert_cmpint(blk_getlength(blk), ==, 512);
    g_assert_cmpint(qatomic_read(&blk_bs(blk)->total_bytes), ==, 500);
    blk_unref(blk);
}

static void test_discard(const void *opaque)
{
    g_autofree char *path = file_test_make("discard", 0);
    BlockBackend *blk = open_setup(opaque, path);
    int64_t full;

    if (!blk) {
        return;
    }
    g_assert_cmpint(file_test_fill(blk, 0, MiB, 5), ==, 0);
    g_assert_cmpint(blk_flush(blk), ==, 0);
    full = allocated(blk);
    g_assert_cmpint(blk_pdiscard(blk, 64 * KiB, 512 * KiB), ==, 0);
    g_assert_cmpint(blk_getlength(blk), ==, MiB);
    g_assert_cmpint(allocated(blk), <=, full - 512 * KiB);
    g_assert_true(file_test_reads(blk, 0, 64 * KiB, 5));
    blk_unref(blk);

    /* Without discard=unmap nothing happens. */
    blk = file_test_blk(BDRV_O_RDWR, "{'driver': 'file', 'filename': '%s',"
                        " 'discard': 'ignore'}", path);
    full = allocated(blk);
    g_assert_cmpint(blk_pdiscard(blk, 0, MiB), ==, 0);
    g_assert_cmpint(blk_pwrite_zeroes(blk, 0, 64 * KiB, BDRV_REQ_MAY_UNMAP),
                    ==, 0);
    g_assert_cmpint(allocated(blk), ==, full);
    blk_unref(blk);
}

/* --- copying in the kernel --- */

typedef struct CopyArgs {
    BlockBackend *in, *out;
    int64_t from, to, bytes;
} CopyArgs;

static int coroutine_fn copy_entry(void *opaque)
{
    CopyArgs *a = opaque;

    return bdrv_co_copy_range(blk_root(a->in), a->from, blk_root(a->out),
                              a->to, a->bytes, 0, 0);
}

static void test_copy_range(const void *opaque)
{
    g_autofree char *path = file_test_make("copyin", MiB + 4096);
    g_autofree char *path2 = file_test_make("copyout", MiB);
    BlockBackend *in = open_setup(opaque, path);
    BlockBackend *out = in ? open_setup(opaque, path2) : NULL;
    CopyArgs a = { in, out, 64 * KiB, 128 * KiB, 512 * KiB };

    if (!out) {
        blk_unref(in);
        return;
    }
    g_assert_cmpint(file_test_fill(in, 64 * KiB, 512 * KiB, 0x61), ==, 0);
    g_assert_cmpint(file_test_fill(out, 0, MiB, 0x62), ==, 0);
    if (bdrv_run_co(copy_entry, &a) == -ENOTSUP) {
        g_test_skip("the file system cannot copy ranges");
    } else {
        g_assert_true(file_test_reads(out, 0, 128 * KiB, 0x62));
        g_assert_true(file_test_reads(out, 128 * KiB, 512 * KiB, 0x61));
        g_assert_true(file_test_reads(out, 640 * KiB, 384 * KiB, 0x62));
        /* Holes are copied as what they read as. */
        a = (CopyArgs) { in, out, 640 * KiB, 0, 64 * KiB };
        g_assert_cmpint(bdrv_run_co(copy_entry, &a), ==, 0);
        g_assert_true(file_test_reads(out, 0, 64 * KiB, 0));
        /* Onto itself, overlapping, and beyond the end: by buffer. */
        a = (CopyArgs) { in, in, 0, 4096, 64 * KiB };
        g_assert_cmpint(bdrv_run_co(copy_entry, &a), ==, -ENOTSUP);
        a = (CopyArgs) { in, out, MiB, 0, 64 * KiB };
        g_assert_cmpint(bdrv_run_co(copy_entry, &a), ==, -ENOTSUP);
    }
    blk_unref(in);
    blk_unref(out);
}

/* --- flush --- */

/* Pages that could not be written are gone: no later flush may hide that. */
static void test_flush_fails(void)
{
    g_autofree char *path = file_test_make("flush", MiB);
    BlockBackend *blk = open_setup(&setups[0], path);

    g_assert_cmpint(file_test_fill(blk, 0, 4096, 1), ==, 0);
    g_assert_cmpint(blk_flush(blk), ==, 0);
    g_assert_cmpint(file_test_fill(blk, 0, 4096, 2), ==, 0);
    fail_fdatasync = 1;
    g_assert_cmpint(blk_flush(blk), ==, -EIO);
    g_assert_cmpint(fail_fdatasync, ==, 0);
    g_assert_cmpint(blk_flush(blk), ==, -EIO);
    g_assert_cmpint(file_test_fill(blk, 0, 4096, 3), ==, 0);
    g_assert_cmpint(blk_flush(blk), ==, -EIO);
    blk_unref(blk);

    blk = open_setup(&setups[0], path);
    g_assert_cmpint(file_test_fill(blk, 0, 4096, 4), ==, 0);
    g_assert_cmpint(blk_flush(blk), ==, 0);
    blk_unref(blk);
}

/* Around the page cache a failed flush loses nothing: it can be repeated. */
static void test_flush_fails_direct(void)
{
    g_autofree char *path = file_test_make("flushdirect", MiB);
    BlockBackend *blk = open_setup(&setups[2], path);

    if (!blk) {
        return;
    }
    g_assert_cmpint(file_test_fill(blk, 0, 4096, 2), ==, 0);
    fail_fdatasync = 1;
    g_assert_cmpint(blk_flush(blk), ==, -EIO);
    g_assert_cmpint(blk_flush(blk), ==, 0);
    blk_unref(blk);
}

/* --- opening --- */

static void open_fails(const char *json, const char *path, const char *text)
{
    g_autofree char *filled = g_strdup_printf(text, path);
    g_autoptr(GString) options = g_string_new(json);
    Error *err = NULL;

    g_string_replace(options, "PATH", path, 0);
    g_assert_null(file_test_open(BDRV_O_RDWR, &err, "%s", options->str));
    file_test_error(err, filled);
}

static void test_open_errors(void)
{
    g_autofree char *path = file_test_make("open", 512);

    open_fails("{'driver': 'file', 'filename': '/nonexistent/file'}", path,
               "Could not open '/nonexistent/file': No such file or "
               "directory");
    open_fails("{'driver': 'file', 'filename': ''}", path,
               "The 'file' block driver requires a file name");
    open_fails("{'driver': 'file', 'filename': '/'}", path,
               "'file' driver requires '/' to be a regular file");
    open_fails("{'driver': 'file', 'filename': '/dev/null'}", path,
               "'file' driver requires '/dev/null' to be a regular file");
    open_fails("{'driver': 'host_device', 'filename': 'PATH'}", path,
               "'host_device' driver requires '%s' to be either a character "
               "or block device");
    open_fails("{'driver': 'file', 'filename': 'PATH', 'aio-max-batch': 4}",
               path, "Parameter 'aio-max-batch' can only be 0: requests are "
               "submitted together once per turn of the event loop");
}

static void test_io_uring_missing(void)
{
    g_autofree char *path = file_test_make("nouring", 512);

    open_fails("{'driver': 'file', 'filename': 'PATH', 'aio': 'io_uring'}",
               path, "aio=io_uring was specified, but io_uring is not "
               "available");
}

/* --- creating --- */

static int create(const char *path, const char *size, const char *prealloc,
                  Error **errp)
{
    g_autoptr(QDict) options = qdict_new();

    qdict_put_str(options, "size", size);
    if (prealloc) {
        qdict_put_str(options, "preallocation", prealloc);
    }
    return bdrv_file.bdrv_create(path, options, errp);
}

static void test_create(void)
{
    g_autofree char *path = file_test_make("create", 12345);
    g_autofree char *fresh = g_strconcat(path, "-new", NULL);
    FileTestLocker *l;
    struct stat st;
    Error *err = NULL;

    /* Somebody writes it, or insists on its size: hands off. */
    l = file_test_lock_elsewhere(path, BLK_PERM_RESIZE << 8);
    g_assert_cmpint(create(path, "1M", NULL, &err), <, 0);
    file_test_error(err, "Failed to get \"resize\" lock");
    file_test_unlock_elsewhere(l);
    l = file_test_lock_elsewhere(path, BLK_PERM_RESIZE);
    err = NULL;
    g_assert_cmpint(create(path, "1M", NULL, &err), <, 0);
    file_test_error(err, "Failed to get shared \"resize\" lock");
    file_test_unlock_elsewhere(l);
    g_assert_cmpint(stat(path, &st), ==, 0);
    g_assert_cmpint(st.st_size, ==, 12345);

    g_assert_cmpint(create(path, "1000", NULL, &error_abort), ==, 0);
    g_assert_cmpint(stat(path, &st), ==, 0);
    g_assert_cmpint(st.st_size, ==, 1024);
    g_assert_cmphex(file_test_locks(path), ==, 0);

    g_assert_cmpint(create(fresh, "1M", "full", &error_abort), ==, 0);
    g_assert_cmpint(stat(fresh, &st), ==, 0);
    g_assert_cmpint(st.st_size, ==, MiB);
    g_assert_cmpint(st.st_blocks * 512, >=, MiB);
    unlink(fresh);

    /* What this call made goes again, what was there stays. */
    err = NULL;
    g_assert_cmpint(create(fresh, "1M", "metadata", &err), <, 0);
    file_test_error(err, "Unsupported preallocation mode: metadata");
    g_assert_cmpint(stat(fresh, &st), <, 0);
    err = NULL;
    g_assert_cmpint(create(path, "1M", "metadata", &err), <, 0);
    error_free_or_abort(&err);
    g_assert_cmpint(stat(path, &st), ==, 0);

    g_assert_cmpint(create("/nonexistent/x", "1M", NULL, &err), <, 0);
    file_test_error(err, "Could not create '/nonexistent/x': "
                         "No such file or directory");
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        GTestDataFunc func;
    } tests[] = {
        { "random", test_random },
        { "vector", test_vector },
        { "end-of-file", test_end_of_file },
        { "grow", test_grow },
        { "short-write", test_short_write },
        { "truncate", test_truncate },
        { "discard", test_discard },
        { "copy-range", test_copy_range },
    };
    bool has_uring;

    file_test_init(&argc, &argv);
    has_uring = aio_context_has_uring(qemu_get_aio_context());
    for (int i = 0; i < ARRAY_SIZE(setups); i++) {
        if (!has_uring && !strcmp(setups[i].aio, "io_uring")) {
            continue;
        }
        for (int j = 0; j < ARRAY_SIZE(tests); j++) {
            g_autofree char *name = g_strdup_printf("/file-io/%s/%s",
                                                    setups[i].name,
                                                    tests[j].name);
            g_test_add_data_func(name, &setups[i], tests[j].func);
        }
    }
    g_test_add_func("/file-io/flush-fails", test_flush_fails);
    g_test_add_func("/file-io/flush-fails-direct", test_flush_fails_direct);
    g_test_add_func("/file-io/open-errors", test_open_errors);
    if (!has_uring) {
        g_test_add_func("/file-io/io_uring-missing", test_io_uring_missing);
    }
#ifdef CONFIG_LINUX_AIO
    g_test_add_func("/file-io/native-without-direct",
                    test_native_without_direct);
#endif
    if (has_uring) {
        g_test_add_func("/file-io/in-memory", test_random_in_memory);
    }
    g_test_add_func("/file-io/create", test_create);
    return file_test_run();
}
