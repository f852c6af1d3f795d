/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The FUSE protocol over a pair of sockets: the test is the kernel. So it needs
 * neither /dev/fuse nor a right to mount.
 */
#include "util/osdep.h"
#include <linux/falloc.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include "block/export/fuse-server.h"
#include "ram-driver.h"
#include "util/iothread.h"
#include "util/zero.h"

#define KiB 1024
#define LENGTH (256 * KiB)
#define CLUSTER (4 * KiB)
#define MAX_QUEUES 4

typedef struct Conn {
    BlockDriverState *bs;
    BlockBackend *blk;
    FuseDisk disk;
    FuseServer *server;
    int kernel[MAX_QUEUES];     /* the kernel's ends; -1: closed */
    int fds[MAX_QUEUES];
    unsigned n;
    uint64_t unique;
    bool stopped;

    /* Atomic. */
    int nb_ended;
    int error;
    int busy;
} Conn;

/* --- both ends --- */

static void on_ended(void *opaque, int error)
{
    Conn *c = opaque;

    qatomic_set(&c->error, error);
    qatomic_inc(&c->nb_ended);
    aio_notify(qemu_get_aio_context());
}

static void on_busy(void *opaque)
{
    qatomic_inc(&((Conn *)opaque)->busy);
}

static void on_idle(void *opaque)
{
    qatomic_dec(&((Conn *)opaque)->busy);
}

static const FuseServerOps ops = { on_ended, on_busy, on_idle };

typedef struct Setup {
    bool read_only;
    bool growable;
    bool private;               /* allow-other=off */
    IOThread **threads;         /* n of them; NULL: one queue in the main loop */
    unsigned n;
} Setup;

static void conn_init(Conn *c, const Setup *s)
{
    RamConfig cfg = { .length = LENGTH, .cluster = CLUSTER };
    AioContext *ctx[MAX_QUEUES] = { qemu_get_aio_context() };

    *c = (Conn) { .n = s->threads ? s->n : 1 };
    c->bs = ram_node("disk", BDRV_O_RDWR | BDRV_O_UNMAP, &cfg);
    c->blk = blk_new_with_bs(c->bs, RAM_PERM | BLK_PERM_RESIZE, BLK_PERM_ALL,
                             &error_abort);
    c->disk = (FuseDisk) {
        .blk = c->blk, .writable = !s->read_only, .growable = s->growable,
        .allow_other = !s->private,
    };
    fuse_disk_init(&c->disk);
    for (unsigned i = 0; i < c->n; i++) {
        int pair[2];

        g_assert_cmpint(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0,
                                   pair), ==, 0);
        c->kernel[i] = pair[0];
        c->fds[i] = pair[1];
        if (s->threads) {
            ctx[i] = iothread_get_aio_context(s->threads[i]);
        }
    }
    c->server = fuse_server_new(&c->disk, &ops, c, c->fds, ctx, c->n);
}

static void coroutine_fn stop_entry(void *opaque)
{
    Conn *c = opaque;

    fuse_server_co_stop(c->server);
    c->stopped = true;
}

static void conn_start_stop(Conn *c)
{
    aio_co_enter(qemu_get_aio_context(), qemu_coroutine_create(stop_entry, c));
}

static void conn_free(Conn *c)
{
    if (!c->stopped) {
        conn_start_stop(c);
    }
    AIO_WAIT_WHILE(NULL, !c->stopped);
    g_assert_cmpint(qatomic_read(&c->busy), ==, 0);
    for (unsigned i = 0; i < c->n; i++) {
        if (c->kernel[i] >= 0) {
            close(c->kernel[i]);
        }
        close(c->fds[i]);
    }
    fuse_disk_destroy(&c->disk);
    blk_unref(c->blk);
    bdrv_unref(c->bs);
}

/* --- messages --- */

static void send_on(Conn *c, unsigned queue, uint32_t opcode, uint64_t nodeid,
                    const void *body, size_t body_len, const void *data,
                    size_t data_len)
{
    struct fuse_in_header head = {
        .len = sizeof(head) + body_len + data_len, .opcode = opcode,
        .unique = ++c->unique, .nodeid = nodeid,
    };
    struct iovec iov[] = {
        { &head, sizeof(head) }, { (void *)body, body_len },
        { (void *)data, data_len },
    };

    g_assert_cmpint(writev(c->kernel[queue], iov, 3), ==, head.len);
}

static void send_op(Conn *c, uint32_t opcode, const void *body, size_t len)
{
    send_on(c, 0, opcode, FUSE_ROOT_ID, body, len, NULL, 0);
}

/* The next reply: its error or its length; who is answered if asked. */
static int receive_on(Conn *c, unsigned queue, void *out, size_t size,
                      uint64_t *unique)
{
    struct fuse_out_header head;
    struct iovec iov[] = { { &head, sizeof(head) }, { out, size } };
    struct msghdr msg = { .msg_iov = iov, .msg_iovlen = 2 };
    ssize_t n;

    while ((n = recvmsg(c->kernel[queue], &msg, MSG_DONTWAIT)) < 0 &&
           errno == EAGAIN) {
        if (!aio_poll(qemu_get_aio_context(), false)) {
            g_usleep(100);      /* another thread has to do something */
        }
    }
    g_assert_cmpint(n, >=, (int)sizeof(head));
    g_assert_cmpint(n, ==, head.len);
    g_assert_cmpint(head.error, <=, 0);
    g_assert_cmpint(head.error, >, -512);
    g_assert_true(!head.error || n == sizeof(head));
    if (unique) {
        *unique = head.unique;
    } else {
        g_assert_cmpuint(head.unique, ==, c->unique);
    }
    return head.error ?: n - (int)sizeof(head);
}

static int ask(Conn *c, uint32_t opcode, const void *body, size_t len,
               void *out, size_t size)
{
    send_op(c, opcode, body, len);
    return receive_on(c, 0, out, size, NULL);
}

static int ask_read(Conn *c, uint64_t offset, uint32_t size, void *out)
{
    struct fuse_read_in in = { .offset = offset, .size = size };

    return ask(c, FUSE_READ, &in, sizeof(in), out, size);
}

/* Bytes written. */
static int ask_write(Conn *c, uint64_t offset, uint32_t size, const void *data)
{
    struct fuse_write_in in = { .offset = offset, .size = size };
    struct fuse_write_out out;
    int ret;

    send_on(c, 0, FUSE_WRITE, FUSE_ROOT_ID, &in, sizeof(in), data, size);
    ret = receive_on(c, 0, &out, sizeof(out), NULL);
    g_assert_true(ret < 0 || ret == sizeof(out));
    return ret < 0 ? ret : out.size;
}

static int ask_fallocate(Conn *c, uint32_t mode, uint64_t offset,
                         uint64_t length)
{
    struct fuse_fallocate_in in = {
        .offset = offset, .length = length, .mode = mode,
    };

    return ask(c, FUSE_FALLOCATE, &in, sizeof(in), NULL, 0);
}

static int64_t ask_lseek(Conn *c, uint64_t offset, uint32_t whence)
{
    struct fuse_lseek_in in = { .offset = offset, .whence = whence };
    struct fuse_lseek_out out;
    int ret = ask(c, FUSE_LSEEK, &in, sizeof(in), &out, sizeof(out));

    return ret < 0 ? ret : out.offset;
}

static struct fuse_attr ask_attr(Conn *c)
{
    struct fuse_getattr_in in = { 0 };
    struct fuse_attr_out out;

    g_assert_cmpint(ask(c, FUSE_GETATTR, &in, sizeof(in), &out, sizeof(out)),
                    ==, sizeof(out));
    g_assert_cmpuint(out.attr_valid, ==, 0);
    return out.attr;
}

static int ask_setattr(Conn *c, struct fuse_setattr_in in)
{
    struct fuse_attr_out out;
    int ret = ask(c, FUSE_SETATTR, &in, sizeof(in), &out, sizeof(out));

    g_assert_true(ret < 0 || ret == sizeof(out));
    return MIN(ret, 0);
}

static void fill(uint8_t *data, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        data[i] = g_test_rand_int();
    }
}

/* --- tests --- */

static void test_init(void)
{
    struct fuse_init_in in = { .major = 7, .minor = 38, .flags = ~0u };
    struct fuse_init_out out;
    Conn c;

    conn_init(&c, &(Setup) { 0 });
    in.major = 8;
    g_assert_cmpint(ask(&c, FUSE_INIT, &in, sizeof(in), &out, sizeof(out)),
                    ==, sizeof(out));
    g_assert_cmpuint(out.major, ==, 7);
    in.major = 6;
    g_assert_cmpint(ask(&c, FUSE_INIT, &in, sizeof(in), NULL, 0), ==, -EPROTO);
    in.major = 7;
    in.minor = 27;
    g_assert_cmpint(ask(&c, FUSE_INIT, &in, sizeof(in), NULL, 0), ==, -EPROTO);
    in.minor = 38;
    in.flags2 = ~0u;
    g_assert_cmpint(ask(&c, FUSE_INIT, &in, sizeof(in), &out, sizeof(out)),
                    ==, sizeof(out));
    g_assert_cmpuint(out.max_write, ==, FUSE_DISK_MAX_IO);
    g_assert_cmpuint(out.max_pages * qemu_real_host_page_size(), ==,
                     FUSE_DISK_MAX_IO);
    g_assert_true(out.flags & FUSE_ATOMIC_O_TRUNC);
    g_assert_false(out.flags & (FUSE_WRITEBACK_CACHE | FUSE_FLOCK_LOCKS |
                                FUSE_POSIX_LOCKS | FUSE_NO_OPEN_SUPPORT));
    /* An older one says less. */
    in.minor = 31;
    in.flags = FUSE_ASYNC_READ | FUSE_POSIX_LOCKS;
    g_assert_cmpint(ask(&c, FUSE_INIT, &in, 16, &out, sizeof(out)), ==,
                    sizeof(out));
    g_assert_cmpuint(out.flags, ==, FUSE_ASYNC_READ);
    g_assert_cmpuint(out.flags2, ==, 0);
    conn_free(&c);
}

/* What is not known, not of this file, or too short, is answered, not done. */
static void test_refused(void)
{
    static const uint32_t known[] = {
        FUSE_GETATTR, FUSE_SETATTR, FUSE_OPEN, FUSE_READ, FUSE_WRITE,
        FUSE_STATFS, FUSE_RELEASE, FUSE_FSYNC, FUSE_FLUSH, FUSE_FALLOCATE,
        FUSE_LSEEK,
    };
    static const uint32_t with_body[] = {
        FUSE_SETATTR, FUSE_READ, FUSE_WRITE, FUSE_INIT, FUSE_FALLOCATE,
        FUSE_LSEEK,
    };
    static const uint32_t unknown[] = {
        0, FUSE_LOOKUP, FUSE_MKNOD, FUSE_UNLINK, FUSE_SETXATTR, FUSE_GETXATTR,
        FUSE_ACCESS, FUSE_IOCTL, FUSE_COPY_FILE_RANGE, FUSE_SETUPMAPPING, 51,
        52, 4096, UINT32_MAX,
    };
    char body[128] = "";
    Conn c;

    conn_init(&c, &(Setup) { 0 });
    for (size_t i = 0; i < ARRAY_SIZE(unknown); i++) {
        g_assert_cmpint(ask(&c, unknown[i], body, sizeof(body), NULL, 0), ==,
                        -ENOSYS);
    }
    for (size_t i = 0; i < ARRAY_SIZE(known); i++) {
        send_on(&c, 0, known[i], 2, body, sizeof(body), NULL, 0);
        g_assert_cmpint(receive_on(&c, 0, NULL, 0, NULL), ==, -ESTALE);
    }
    for (size_t i = 0; i < ARRAY_SIZE(with_body); i++) {
        for (size_t n = 0; n < 16; n++) {
            g_assert_cmpint(ask(&c, with_body[i], body, n, NULL, 0), ==,
                            -EINVAL);
        }
    }
    conn_free(&c);
}

static void test_attributes(void)
{
    struct fuse_setattr_in mode = { .valid = FATTR_MODE, .mode = 0640 };
    struct fuse_setattr_in owner = {
        .valid = FATTR_UID | FATTR_GID, .uid = 1, .gid = 2,
    };
    struct fuse_setattr_in times = { .valid = FATTR_MTIME | FATTR_ATIME };
    struct fuse_attr attr;
    Conn c;

    conn_init(&c, &(Setup) { 0 });
    attr = ask_attr(&c);
    g_assert_cmphex(attr.mode, ==, S_IFREG | 0600);
    g_assert_cmpuint(attr.size, ==, LENGTH);
    g_assert_cmpuint(attr.uid, ==, getuid());
    g_assert_cmpuint(attr.nlink, ==, 1);
    mode.mode |= S_IFDIR;
    g_assert_cmpint(ask_setattr(&c, mode), ==, 0);
    g_assert_cmpint(ask_setattr(&c, owner), ==, 0);
    g_assert_cmpint(ask_setattr(&c, times), ==, -ENOTSUP);
    attr = ask_attr(&c);
    g_assert_cmphex(attr.mode, ==, S_IFREG | 0640);
    g_assert_cmpuint(attr.uid, ==, 1);
    g_assert_cmpuint(attr.gid, ==, 2);
    conn_free(&c);

    conn_init(&c, &(Setup) { .private = true });
    g_assert_cmpint(ask_setattr(&c, mode), ==, -EPERM);
    g_assert_cmpint(ask_setattr(&c, owner), ==, -ENOTSUP);
    conn_free(&c);

    conn_init(&c, &(Setup) { .read_only = true });
    g_assert_cmphex(ask_attr(&c).mode, ==, S_IFREG | 0400);
    g_assert_cmpint(ask_setattr(&c, mode), ==, -EROFS);
    mode.mode = 0444;
    g_assert_cmpint(ask_setattr(&c, mode), ==, 0);
    g_assert_cmphex(ask_attr(&c).mode, ==, S_IFREG | 0444);
    conn_free(&c);
}

static void test_data(void)
{
    uint8_t data[64 * KiB], back[64 * KiB];
    Conn c;

    conn_init(&c, &(Setup) { 0 });
    fill(data, sizeof(data));
    g_assert_cmpint(ask_write(&c, 1, sizeof(data), data), ==, sizeof(data));
    g_assert_cmpint(ask_read(&c, 1, sizeof(back), back), ==, sizeof(back));
    g_assert_true(!memcmp(data, back, sizeof(data)));
    /* Up to the end, and no further. */
    g_assert_cmpint(ask_read(&c, LENGTH - 100, 1000, back), ==, 100);
    g_assert_cmpint(ask_read(&c, LENGTH, 1000, back), ==, 0);
    g_assert_cmpint(ask_read(&c, UINT64_MAX, 1000, back), ==, 0);
    g_assert_cmpint(ask_read(&c, 0, 0, back), ==, 0);
    g_assert_cmpint(ask_read(&c, 0, FUSE_DISK_MAX_IO + 1, back), ==, -EINVAL);
    g_assert_cmpint(ask_write(&c, LENGTH - 100, 1000, data), ==, 100);
    g_assert_cmpint(ask_write(&c, LENGTH, 1000, data), ==, -EIO);
    g_assert_cmpint(ask_write(&c, UINT64_MAX, 1000, data), ==, -EIO);
    g_assert_cmpint(ask_write(&c, LENGTH, 0, data), ==, 0);
    g_assert_cmpint(blk_getlength(c.blk), ==, LENGTH);
    g_assert_cmpint(ask(&c, FUSE_FSYNC, NULL, 0, NULL, 0), ==, 0);
    g_assert_cmpuint(ram_state(c.bs)->flushes, ==, 1);
    conn_free(&c);
}

static void test_read_only(void)
{
    struct fuse_setattr_in size = { .valid = FATTR_SIZE, .size = 4096 };
    uint8_t data[512] = "";
    Conn c;

    conn_init(&c, &(Setup) { .read_only = true, .growable = true });
    g_assert_cmpint(ask_write(&c, 0, 512, data), ==, -EACCES);
    g_assert_cmpint(ask_write(&c, LENGTH, 512, data), ==, -EACCES);
    g_assert_cmpint(ask_setattr(&c, size), ==, -EACCES);
    g_assert_cmpint(ask_fallocate(&c, 0, LENGTH, 512), ==, -EACCES);
    g_assert_cmpint(ask_fallocate(&c, FALLOC_FL_ZERO_RANGE, 0, 512), ==,
                    -EACCES);
    g_assert_cmpint(ask_read(&c, 0, 512, data), ==, 512);
    conn_free(&c);
}

static void test_growing(void)
{
    struct fuse_setattr_in size = { .valid = FATTR_SIZE };
    uint8_t data[1000], back[3000];
    Conn c;

    fill(data, sizeof(data));
    conn_init(&c, &(Setup) { .growable = true });
    g_assert_cmpint(ask_write(&c, LENGTH + 1048, 1000, data), ==, 1000);
    g_assert_cmpint(ask_attr(&c).size, ==, LENGTH + 2048);
    g_assert_cmpint(ask_read(&c, LENGTH, 3000, back), ==, 2048);
    g_assert_true(buffer_is_zero(back, 1048));
    g_assert_true(!memcmp(back + 1048, data, 1000));
    g_assert_cmpint(ask_write(&c, INT64_MAX - 10, 1000, data), ==, -EFBIG);

    size.size = 64 * KiB;
    g_assert_cmpint(ask_setattr(&c, size), ==, 0);
    g_assert_cmpint(ask_attr(&c).size, ==, 64 * KiB);
    size.size = UINT64_MAX;
    g_assert_cmpint(ask_setattr(&c, size), ==, -EFBIG);
    ram_fail(c.bs, RAM_TRUNCATE, -ENOSPC);
    g_assert_cmpint(ask_write(&c, 64 * KiB, 1000, data), ==, -ENOSPC);
    g_assert_cmpint(ask_attr(&c).size, ==, 64 * KiB);
    conn_free(&c);
}

static void test_fallocate(void)
{
    static const struct {
        uint32_t mode;
        int64_t offset, length;
        int ret;
        int64_t size;           /* afterwards */
    } cases[] = {
        { 0, 0, LENGTH, -ENOTSUP, LENGTH },
        { 0, LENGTH - 1, 2, -ENOTSUP, LENGTH },
        { FALLOC_FL_KEEP_SIZE, 0, 512, -ENOTSUP, LENGTH },
        { FALLOC_FL_COLLAPSE_RANGE, 0, 4096, -ENOTSUP, LENGTH },
        { FALLOC_FL_INSERT_RANGE, 0, 4096, -ENOTSUP, LENGTH },
        { FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 0, -EINVAL, LENGTH },
        { FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, -1, 2, -EFBIG, LENGTH },
        { FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, INT64_MAX, 1, -EFBIG,
          LENGTH },
        { FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, LENGTH, INT64_MAX / 2, 0,
          LENGTH },
        { FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 4096, INT64_MAX / 2, 0,
          LENGTH },
        { FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, LENGTH, 512, -EIO,
          LENGTH },
        { FALLOC_FL_ZERO_RANGE, LENGTH - 512, 1024, 0, LENGTH + 512 },
        { FALLOC_FL_ZERO_RANGE, 0, 4096, 0, LENGTH + 512 },
    };
    uint8_t data[LENGTH / 4], back[LENGTH / 4];
    Conn c;

    conn_init(&c, &(Setup) { 0 });
    fill(data, sizeof(data));
    g_assert_cmpint(ask_write(&c, 0, sizeof(data), data), ==, sizeof(data));
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        g_assert_cmpint(ask_fallocate(&c, cases[i].mode, cases[i].offset,
                                      cases[i].length), ==, cases[i].ret);
        g_assert_cmpint(ask_attr(&c).size, ==, cases[i].size);
    }
    g_assert_cmpint(ask_read(&c, 0, sizeof(back), back), ==, sizeof(back));
    g_assert_true(buffer_is_zero(back, sizeof(back)));
    conn_free(&c);
}

/* Every offset against a model of clusters. */
static void test_lseek(void)
{
    enum { CLUSTERS = LENGTH / CLUSTER };
    bool has_data[CLUSTERS] = { false };
    uint8_t data[CLUSTER];
    Conn c;

    conn_init(&c, &(Setup) { 0 });
    memset(data, 1, sizeof(data));
    for (int i = 0; i < CLUSTERS; i++) {
        has_data[i] = g_test_rand_bit();
        if (has_data[i]) {
            ask_write(&c, i * CLUSTER, CLUSTER, data);
        }
    }
    for (int i = 0; i < CLUSTERS; i++) {
        int64_t at = i * CLUSTER + g_test_rand_int_range(0, CLUSTER);

        for (int want_data = 0; want_data < 2; want_data++) {
            int j = i;
            int64_t expect;

            while (j < CLUSTERS && has_data[j] != want_data) {
                j++;
            }
            expect = j == i ? at : j * CLUSTER;
            if (j == CLUSTERS) {
                expect = want_data ? -ENXIO : LENGTH;
            }
            g_assert_cmpint(ask_lseek(&c, at, want_data ? SEEK_DATA
                                                        : SEEK_HOLE),
                            ==, expect);
        }
    }
    g_assert_cmpint(ask_lseek(&c, LENGTH, SEEK_HOLE), ==, LENGTH);
    g_assert_cmpint(ask_lseek(&c, LENGTH, SEEK_DATA), ==, -ENXIO);
    g_assert_cmpint(ask_lseek(&c, LENGTH + 1, SEEK_HOLE), ==, -ENXIO);
    g_assert_cmpint(ask_lseek(&c, UINT64_MAX, SEEK_DATA), ==, -ENXIO);
    g_assert_cmpint(ask_lseek(&c, 0, SEEK_END), ==, -EINVAL);
    conn_free(&c);
}

/* ENOSYS would be the last fsync that the kernel asks for. */
static void test_errors(void)
{
    static const struct {
        int error, answer;
    } cases[] = {
        { -EIO, -EIO }, { -ENOSPC, -ENOSPC }, { -ENOSYS, -EIO },
        { -1000, -EIO },
    };
    uint8_t data[512] = "";
    Conn c;

    conn_init(&c, &(Setup) { 0 });
    ask_write(&c, 0, 512, data);
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        ram_fail(c.bs, RAM_READ, cases[i].error);
        g_assert_cmpint(ask_read(&c, 0, 512, data), ==, cases[i].answer);
        ram_fail(c.bs, RAM_WRITE, cases[i].error);
        g_assert_cmpint(ask_write(&c, 0, 512, data), ==, cases[i].answer);
        g_assert_cmpint(ask_write(&c, 0, 512, data), ==, 512);
        ram_fail(c.bs, RAM_FLUSH, cases[i].error);
        g_assert_cmpint(ask(&c, FUSE_FSYNC, NULL, 0, NULL, 0), ==,
                        cases[i].answer);
    }
    conn_free(&c);
}

/* Many at once; the ones beyond the limit come when others have gone. */
static void test_parallel(void)
{
    enum { N = FUSE_SERVER_MAX_REQUESTS + 20 };
    struct fuse_read_in in = { .size = 512 };
    bool answered[N + 2] = { false };
    uint8_t data[512];
    Conn c;

    conn_init(&c, &(Setup) { 0 });
    ram_hold(c.bs, RAM_READ);
    for (int i = 0; i < N; i++) {
        in.offset = i * 512;
        send_op(&c, FUSE_READ, &in, sizeof(in));
        ram_settle();
    }
    ram_wait_held(c.bs, FUSE_SERVER_MAX_REQUESTS);
    ram_settle();
    g_assert_cmpint(c.busy, ==, FUSE_SERVER_MAX_REQUESTS);
    ram_release(c.bs);
    for (int i = 0; i < N; i++) {
        uint64_t unique;

        g_assert_cmpint(receive_on(&c, 0, data, 512, &unique), ==, 512);
        g_assert_true(unique >= 1 && unique <= N && !answered[unique]);
        answered[unique] = true;
    }
    conn_free(&c);
}

/* What has been read is answered; what comes later stays with the kernel. */
static void test_stop(void)
{
    struct fuse_read_in in = { .size = 512 };
    uint8_t data[512];
    uint64_t unique;
    Conn c;

    conn_init(&c, &(Setup) { 0 });
    ram_hold(c.bs, RAM_READ);
    send_op(&c, FUSE_READ, &in, sizeof(in));
    send_op(&c, FUSE_READ, &in, sizeof(in));
    ram_wait_held(c.bs, 2);
    conn_start_stop(&c);
    send_op(&c, FUSE_READ, &in, sizeof(in));
    ram_settle();
    g_assert_false(c.stopped);
    ram_release(c.bs);
    AIO_WAIT_WHILE(NULL, !c.stopped);
    g_assert_cmpint(receive_on(&c, 0, data, 512, &unique), ==, 512);
    g_assert_cmpint(receive_on(&c, 0, data, 512, &unique), ==, 512);
    g_assert_cmpint(recv(c.kernel[0], data, 1, MSG_DONTWAIT), ==, -1);
    conn_free(&c);
}

/* Notes are not answered, and the end of the other side is noticed. */
static void test_end(void)
{
    char body[16] = "";
    Conn c;

    conn_init(&c, &(Setup) { 0 });
    send_op(&c, FUSE_INTERRUPT, body, 8);
    send_op(&c, FUSE_FORGET, body, 8);
    send_op(&c, FUSE_BATCH_FORGET, body, 8);
    ask_attr(&c);
    close(c.kernel[0]);
    c.kernel[0] = -1;
    AIO_WAIT_WHILE(NULL, !qatomic_read(&c.nb_ended));
    g_assert_cmpint(c.error, ==, 0);
    conn_free(&c);
}

/* What is no message ends the connection, and harms nothing. */
static void test_nonsense(void)
{
    for (int i = 0; i < 500; i++) {
        g_autofree uint8_t *bytes = NULL;
        size_t n = g_test_rand_int_range(1, i % 2 ? 200 : 3000);
        struct fuse_in_header *head;
        bool is_message;
        Conn c;

        conn_init(&c, &(Setup) { .growable = i % 3 == 0 });
        bytes = g_malloc(MAX(n, sizeof(*head)));
        fill(bytes, MAX(n, sizeof(*head)));
        head = (void *)bytes;
        is_message = n >= sizeof(*head) && i % 4;
        if (is_message) {
            head->len = n;
            head->opcode = g_test_rand_int_range(0, 50);
            head->nodeid = i % 5 ? FUSE_ROOT_ID : 3;
            c.unique = head->unique;
        }
        g_assert_cmpint(send(c.kernel[0], bytes, n, 0), ==, n);
        if (!is_message) {
            AIO_WAIT_WHILE(NULL, !qatomic_read(&c.nb_ended));
            g_assert_cmpint(c.error, ==, -EPROTO);
        } else if (head->opcode != FUSE_FORGET &&
                   head->opcode != FUSE_BATCH_FORGET &&
                   head->opcode != FUSE_INTERRUPT) {
            g_autofree uint8_t *out = g_malloc(FUSE_DISK_MAX_IO);

            receive_on(&c, 0, out, FUSE_DISK_MAX_IO, NULL);
        }
        conn_free(&c);
    }
}

/* Each queue is answered where it has asked, from threads of their own. */
static void test_threads(void)
{
    enum { N = 3, ROUNDS = 200 };
    IOThread *threads[N];
    struct fuse_read_in in = { .size = 512 };
    uint8_t data[512], back[512];
    Conn c;

    for (int i = 0; i < N; i++) {
        threads[i] = iothread_new("fuse", &error_abort);
    }
    conn_init(&c, &(Setup) { .threads = threads, .n = N });
    fill(data, sizeof(data));
    g_assert_cmpint(ask_write(&c, 512, 512, data), ==, 512);
    for (int round = 0; round < ROUNDS; round++) {
        for (unsigned i = 0; i < N; i++) {
            in.offset = 512;
            send_on(&c, i, FUSE_READ, FUSE_ROOT_ID, &in, sizeof(in), NULL, 0);
        }
        for (unsigned i = 0; i < N; i++) {
            uint64_t unique;

            g_assert_cmpint(receive_on(&c, i, back, 512, &unique), ==, 512);
            g_assert_cmpuint(unique, ==, c.unique - N + 1 + i);
            g_assert_true(!memcmp(data, back, 512));
        }
    }
    conn_free(&c);
    for (int i = 0; i < N; i++) {
        iothread_free(threads[i]);
    }
}

int main(int argc, char **argv)
{
    ram_test_init(&argc, &argv);
    g_test_add_func("/fuse/init", test_init);
    g_test_add_func("/fuse/refused", test_refused);
    g_test_add_func("/fuse/attributes", test_attributes);
    g_test_add_func("/fuse/data", test_data);
    g_test_add_func("/fuse/read-only", test_read_only);
    g_test_add_func("/fuse/growing", test_growing);
    g_test_add_func("/fuse/fallocate", test_fallocate);
    g_test_add_func("/fuse/lseek", test_lseek);
    g_test_add_func("/fuse/errors", test_errors);
    g_test_add_func("/fuse/parallel", test_parallel);
    g_test_add_func("/fuse/stop", test_stop);
    g_test_add_func("/fuse/end", test_end);
    g_test_add_func("/fuse/nonsense", test_nonsense);
    g_test_add_func("/fuse/threads", test_threads);
    return g_test_run();
}
