/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The kernel moves less than it was asked for, at every request and with every
 * engine: nothing is lost, nothing is zeroed that is in the file, and only the
 * end of the file makes zeroes.
 */
#include "util/osdep.h"
#include <sys/syscall.h>
#include "file-fixture.h"
#include "util/aio.h"
#include "util/iov.h"

enum { FILE_BYTES = 256 * 1024, MAX_IOV = 64 };

static bool shorten;
static unsigned align;      /* of what moves, for O_DIRECT */
static int nr_short;        /* requests that were cut; atomic */
static int entropy;         /* atomic: threads come here, too */

/* A copy of @iov that ends early, never empty. Returns its elements. */
static int cut(const struct iovec *iov, int niov, struct iovec *out)
{
    size_t all = iov_size(iov, niov), want;
    unsigned n = qatomic_fetch_inc(&entropy);

    g_assert_cmpint(niov, <=, MAX_IOV);
    if (!shorten || all <= align) {
        return iov_copy(out, MAX_IOV, iov, niov, 0, all);
    }
    want = align * (1 + n * 2654435761u % (all / align));
    want = MIN(want, all);
    if (want < all) {
        qatomic_inc(&nr_short);
    }
    return iov_copy(out, MAX_IOV, iov, niov, 0, want);
}

/* ------------------------------------------------------- instead of libc's */

ssize_t preadv64(int fd, const struct iovec *iov, int niov, off64_t offset)
{
    struct iovec part[MAX_IOV];

    return syscall(SYS_preadv, fd, part, cut(iov, niov, part), offset, 0);
}

ssize_t pwritev64(int fd, const struct iovec *iov, int niov, off64_t offset)
{
    struct iovec part[MAX_IOV];

    return syscall(SYS_pwritev, fd, part, cut(iov, niov, part), offset, 0);
}

ssize_t preadv64v2(int fd, const struct iovec *iov, int niov, off64_t offset,
                   int flags)
{
    struct iovec part[MAX_IOV];

    return syscall(SYS_preadv2, fd, part, cut(iov, niov, part), offset, 0,
                   flags);
}

ssize_t pwritev64v2(int fd, const struct iovec *iov, int niov, off64_t offset,
                    int flags)
{
    struct iovec part[MAX_IOV];

    return syscall(SYS_pwritev2, fd, part, cut(iov, niov, part), offset, 0,
                   flags);
}

/* ------------------------------------------- in front of the other engines */

#define WRAP_READ(name)                                                       \
    int coroutine_fn __real_##name(int fd, const struct iovec *iov, int niov, \
                                   uint64_t offset);                          \
    int coroutine_fn __wrap_##name(int fd, const struct iovec *iov, int niov, \
                                   uint64_t offset);                          \
    int coroutine_fn __wrap_##name(int fd, const struct iovec *iov, int niov, \
                                   uint64_t offset)                           \
    {                                                                         \
        struct iovec part[MAX_IOV];                                           \
                                                                              \
        return __real_##name(fd, part, cut(iov, niov, part), offset);         \
    }

#define WRAP_WRITE(name)                                                      \
    int coroutine_fn __real_##name(int fd, const struct iovec *iov, int niov, \
                                   uint64_t offset, int flags);               \
    int coroutine_fn __wrap_##name(int fd, const struct iovec *iov, int niov, \
                                   uint64_t offset, int flags);               \
    int coroutine_fn __wrap_##name(int fd, const struct iovec *iov, int niov, \
                                   uint64_t offset, int flags)                \
    {                                                                         \
        struct iovec part[MAX_IOV];                                           \
                                                                              \
        return __real_##name(fd, part, cut(iov, niov, part), offset, flags);  \
    }

WRAP_READ(aio_uring_co_readv)
WRAP_WRITE(aio_uring_co_writev)
WRAP_READ(aio_native_co_readv)
WRAP_WRITE(aio_native_co_writev)

/* -------------------------------------------------------------------- test */

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

static BlockBackend *open_setup(const Setup *su, const char *path)
{
    BlockDriverState *bs;
    BlockBackend *blk;

    bs = file_test_open(BDRV_O_RDWR | su->flags, &error_abort,
                        "{'driver': 'file', 'filename': '%s', 'aio': '%s'}",
                        path, su->aio);
    blk = file_test_user(bs, BLK_PERM_ALL, BLK_PERM_ALL);
    bdrv_unref(bs);
    return blk;
}

/* In three pieces, so that the end may fall into any of them. */
static void request(BlockBackend *blk, bool is_write, int64_t offset,
                    int64_t bytes, uint8_t *buf)
{
    int64_t a = bytes / 3, b = bytes / 2;
    struct iovec iov[3] = {
        { buf, a }, { buf + a, b - a }, { buf + b, bytes - b },
    };
    QEMUIOVector qiov;
    int ret;

    qemu_iovec_init_external(&qiov, iov, 3);
    ret = is_write ? blk_pwritev(blk, offset, bytes, &qiov, 0)
                   : blk_preadv(blk, offset, bytes, &qiov, 0);
    g_assert_cmpint(ret, ==, 0);
}

static void random_requests(BlockBackend *blk)
{
    g_autofree uint8_t *model = g_malloc0(FILE_BYTES);
    g_autofree uint8_t *buf = g_malloc(FILE_BYTES);

    for (int i = 0; i < 200; i++) {
        int64_t offset = g_test_rand_int_range(0, FILE_BYTES - 8);
        int64_t bytes = MIN(FILE_BYTES - offset, g_test_rand_int_range(
                                8, i % 8 ? 20000 : FILE_BYTES));

        if (g_test_rand_bit()) {
            for (int64_t k = 0; k < bytes; k++) {
                model[offset + k] = buf[k] = g_test_rand_int();
            }
            request(blk, true, offset, bytes, buf);
        } else {
            memset(buf, 0xee, bytes);
            request(blk, false, offset, bytes, buf);
            g_assert_cmpmem(buf, bytes, model + offset, bytes);
        }
    }
    shorten = false;
    request(blk, false, 0, FILE_BYTES, buf);
    g_assert_cmpmem(buf, FILE_BYTES, model, FILE_BYTES);
    shorten = true;
}

/* A file that ends inside a sector: behind it zeroes, before it data. */
static void at_the_end(const Setup *su)
{
    g_autofree char *path = file_test_make("end", FILE_BYTES - 100);
    BlockBackend *blk = open_setup(su, path);
    g_autofree uint8_t *buf = g_malloc(FILE_BYTES);
    uint8_t zeroes[100] = { 0 };
    int64_t bytes = ROUND_DOWN(FILE_BYTES - 100, 4096);

    g_assert_cmpint(file_test_fill(blk, 0, bytes, 0x5a), ==, 0);
    memset(buf, 0xee, FILE_BYTES);
    request(blk, false, 0, blk_getlength(blk), buf);
    for (int64_t i = 0; i < bytes; i++) {
        g_assert_cmpint(buf[i], ==, 0x5a);
    }
    g_assert_cmpmem(buf + bytes, 100, zeroes, 100);
    blk_unref(blk);
}

static void test_short(const void *opaque)
{
    const Setup *su = opaque;
    g_autofree char *path = file_test_make(su->name, FILE_BYTES);
    BlockBackend *blk = open_setup(su, path);

    align = su->flags & BDRV_O_NOCACHE ? 4096 : 1;
    nr_short = 0;
    shorten = true;
    random_requests(blk);
    blk_unref(blk);
    at_the_end(su);
    shorten = false;
    g_assert_cmpint(nr_short, >, 100);
}

int main(int argc, char **argv)
{
    bool has_uring;

    file_test_init(&argc, &argv);
    has_uring = aio_context_has_uring(qemu_get_aio_context());
    for (size_t i = 0; i < ARRAY_SIZE(setups); i++) {
        g_autofree char *path = g_strdup_printf("/file-short/%s",
                                                setups[i].name);

        if (!has_uring && !strcmp(setups[i].aio, "io_uring")) {
            continue;
        }
        g_test_add_data_func(path, &setups[i], test_short);
    }
    return file_test_run();
}
