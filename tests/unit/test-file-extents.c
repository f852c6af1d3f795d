/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Data and holes of files. The one rule that matters: what holds data is never
 * told to be a hole, whoever wrote it and whatever is remembered.
 */
#include "util/osdep.h"
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include "file-fixture.h"
#include "block/file/file-int.h"
#include "util/fd.h"

#define READ BLK_PERM_CONSISTENT_READ
#define FILE_JSON \
    "{'driver': 'file', 'filename': '%s', 'discard': 'unmap'}"
#define BLOCK 65536

/* Flags of the byte at @offset, and in *@end where they end. */
static int status(BlockDriverState *bs, int64_t offset, int64_t *end)
{
    int64_t pnum, map, length = bdrv_getlength(bs);
    BlockDriverState *file;
    int ret = bdrv_block_status(bs, offset, length - offset, &pnum, &map,
                                &file);

    g_assert_cmpint(ret, >=, 0);
    g_assert_cmpint(pnum, >, 0);
    g_assert_true(ret & BDRV_BLOCK_OFFSET_VALID);
    g_assert_cmpint(map, ==, offset);
    g_assert_true(file == bs);
    *end = offset + pnum;
    return ret & (BDRV_BLOCK_DATA | BDRV_BLOCK_ZERO);
}

static void assert_status(BlockDriverState *bs, int64_t offset, int flags,
                          int64_t end)
{
    int64_t found_end;

    g_assert_cmphex(status(bs, offset, &found_end), ==, flags);
    g_assert_cmpint(found_end, ==, end);
}

static void write_outside(const char *path, int64_t offset, size_t bytes,
                          uint8_t value)
{
    g_autofree uint8_t *buf = g_malloc(bytes);
    int fd = open(path, O_WRONLY | O_CLOEXEC);

    memset(buf, value, bytes);
    g_assert_cmpint(qemu_pwrite_full(fd, buf, bytes, offset), ==, bytes);
    close(fd);
}

/* Whether the file system tells holes of BLOCK bytes from data. */
static bool holes_work(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    off_t hole;

    write_outside(path, BLOCK, BLOCK, 1);
    hole = lseek(fd, BLOCK, SEEK_HOLE);
    close(fd);
    if (hole != 2 * BLOCK) {
        g_test_skip("the file system does not report holes");
        return false;
    }
    return true;
}

static void test_ranges(void)
{
    g_autofree char *path = file_test_make("ranges", 8 * BLOCK);
    BlockDriverState *bs;

    if (!holes_work(path)) {
        return;
    }
    bs = file_test_open(0, &error_abort, FILE_JSON, path);
    assert_status(bs, 0, BDRV_BLOCK_ZERO, BLOCK);
    assert_status(bs, 100, BDRV_BLOCK_ZERO, BLOCK);
    assert_status(bs, BLOCK, BDRV_BLOCK_DATA, 2 * BLOCK);
    assert_status(bs, 2 * BLOCK - 1, BDRV_BLOCK_DATA, 2 * BLOCK);
    assert_status(bs, 2 * BLOCK, BDRV_BLOCK_ZERO, 8 * BLOCK);
    bdrv_unref(bs);
}

/* The length need not be a multiple of anything. */
static void test_odd_end(void)
{
    g_autofree char *path = file_test_make("odd", 4 * BLOCK + 1000);
    BlockDriverState *bs;

    if (!holes_work(path)) {
        return;
    }
    write_outside(path, 4 * BLOCK, 1000, 7);
    bs = file_test_open(0, &error_abort, FILE_JSON, path);
    assert_status(bs, 3 * BLOCK, BDRV_BLOCK_ZERO, 4 * BLOCK);
    assert_status(bs, 4 * BLOCK + 999, BDRV_BLOCK_DATA, 4 * BLOCK + 1000);
    bdrv_unref(bs);

    bs = file_test_open(BDRV_O_NOCACHE, NULL, FILE_JSON, path);
    if (bs) {
        assert_status(bs, 3 * BLOCK, BDRV_BLOCK_ZERO, 4 * BLOCK);
        assert_status(bs, 4 * BLOCK + 999, BDRV_BLOCK_DATA, 4 * BLOCK + 1000);
        bdrv_unref(bs);
    }
}

static void test_empty(void)
{
    g_autofree char *path = file_test_make("empty", 0);
    BlockDriverState *bs = file_test_open(0, &error_abort, FILE_JSON, path);
    int64_t pnum;

    g_assert_cmpint(bdrv_block_status(bs, 0, 0, &pnum, NULL, NULL), >=, 0);
    g_assert_cmpint(pnum, ==, 0);
    bdrv_unref(bs);
}

/* While others may write, a hole must be looked for each time. */
static void test_hole_shared(void)
{
    g_autofree char *path = file_test_make("shared", 8 * BLOCK);
    BlockDriverState *bs;
    BlockBackend *blk;

    if (!holes_work(path)) {
        return;
    }
    bs = file_test_open(0, &error_abort, FILE_JSON, path);
    blk = file_test_user(bs, READ, BLK_PERM_ALL);
    assert_status(bs, 4 * BLOCK, BDRV_BLOCK_ZERO, 8 * BLOCK);
    write_outside(path, 4 * BLOCK, BLOCK, 1);
    assert_status(bs, 4 * BLOCK, BDRV_BLOCK_DATA, 5 * BLOCK);
    blk_unref(blk);
    bdrv_unref(bs);
}

/* Locked out, others do not count; the answer ends with the lock. */
static void test_hole_remembered(void)
{
    g_autofree char *path = file_test_make("remembered", 8 * BLOCK);
    BlockDriverState *bs;
    BlockBackend *blk;

    if (!holes_work(path)) {
        return;
    }
    bs = file_test_open(0, &error_abort, FILE_JSON, path);
    blk = file_test_user(bs, READ, READ);
    assert_status(bs, 4 * BLOCK, BDRV_BLOCK_ZERO, 8 * BLOCK);
    /* Against the rules, to see that nobody asks the file system. */
    write_outside(path, 4 * BLOCK, BLOCK, 1);
    assert_status(bs, 4 * BLOCK, BDRV_BLOCK_ZERO, 8 * BLOCK);
    g_assert_true(blk_set_perm(blk, READ, BLK_PERM_ALL, &error_abort));
    assert_status(bs, 4 * BLOCK, BDRV_BLOCK_DATA, 5 * BLOCK);
    blk_unref(blk);
    bdrv_unref(bs);

    /* Without lock bytes nobody is locked out. */
    bs = file_test_open(0, &error_abort, "{'driver': 'file', 'filename': '%s',"
                        " 'locking': 'off'}", path);
    blk = file_test_user(bs, READ, READ);
    assert_status(bs, 6 * BLOCK, BDRV_BLOCK_ZERO, 8 * BLOCK);
    write_outside(path, 6 * BLOCK, BLOCK, 1);
    assert_status(bs, 6 * BLOCK, BDRV_BLOCK_DATA, 7 * BLOCK);
    blk_unref(blk);
    bdrv_unref(bs);
}

/* Each of our own ways to put data into a remembered hole. */
static void test_own_changes(void)
{
    g_autofree char *path = file_test_make("own", 8 * BLOCK);
    BlockDriverState *bs;
    BlockBackend *blk;

    if (!holes_work(path)) {
        return;
    }
    bs = file_test_open(BDRV_O_RDWR, &error_abort, FILE_JSON, path);
    blk = file_test_user(bs, BLK_PERM_ALL, READ);
    assert_status(bs, 2 * BLOCK, BDRV_BLOCK_ZERO, 8 * BLOCK);
    g_assert_cmpint(file_test_fill(blk, 4 * BLOCK, BLOCK, 9), ==, 0);
    assert_status(bs, 2 * BLOCK, BDRV_BLOCK_ZERO, 4 * BLOCK);
    assert_status(bs, 4 * BLOCK, BDRV_BLOCK_DATA, 5 * BLOCK);

    g_assert_cmpint(blk_pwrite_zeroes(blk, 4 * BLOCK, BLOCK,
                                      BDRV_REQ_MAY_UNMAP), ==, 0);
    assert_status(bs, 4 * BLOCK, BDRV_BLOCK_ZERO, 8 * BLOCK);
    g_assert_cmpint(file_test_fill(blk, 4 * BLOCK, 2 * BLOCK, 9), ==, 0);
    assert_status(bs, 4 * BLOCK, BDRV_BLOCK_DATA, 6 * BLOCK);
    g_assert_cmpint(blk_pdiscard(blk, 5 * BLOCK, BLOCK), ==, 0);
    assert_status(bs, 4 * BLOCK, BDRV_BLOCK_DATA, 5 * BLOCK);
    assert_status(bs, 5 * BLOCK, BDRV_BLOCK_ZERO, 8 * BLOCK);

    g_assert_cmpint(blk_truncate(blk, BLOCK / 2, true, PREALLOC_MODE_OFF, 0,
                                 &error_abort), ==, 0);
    g_assert_cmpint(blk_truncate(blk, 8 * BLOCK, true, PREALLOC_MODE_OFF, 0,
                                 &error_abort), ==, 0);
    assert_status(bs, BLOCK, BDRV_BLOCK_ZERO, 8 * BLOCK);
    blk_unref(blk);
    bdrv_unref(bs);
}

/* What cannot seek is data, all of it. */
static void test_no_seek(void)
{
    FileExtents x;
    int fds[2];
    bool hole = true;
    int64_t end = 0;

    g_assert_cmpint(pipe(fds), ==, 0);
    file_extents_init(&x, BLOCKDEV_FILE_EXTENTS_SEEK);
    file_extents_find(&x, fds[0], 12345, INT64_MAX, &hole, &end);
    g_assert_false(hole);
    g_assert_cmpint(end, ==, INT64_MAX);
    file_extents_destroy(&x);
    close(fds[0]);
    close(fds[1]);
}

/* Only whether the answer is allowed is remembered here, not by whom. */
static void test_cut_ranges(void)
{
    g_autofree char *path = file_test_make("cut", 64 * BLOCK);
    FileExtents x;
    bool hole;
    int64_t end;
    int fd = open(path, O_RDWR | O_CLOEXEC);

    file_extents_init(&x, BLOCKDEV_FILE_EXTENTS_SEEK);
    file_extents_keep_holes(&x, true);
    file_extents_find(&x, fd, 0, INT64_MAX, &hole, &end);
    g_assert_true(hole);
    g_assert_cmpint(end, ==, INT64_MAX);
    /* In front of the write the answer holds, behind it nothing is known. */
    write_outside(path, 10 * BLOCK, BLOCK, 1);
    file_extents_written(&x, 10 * BLOCK, BLOCK);
    file_extents_find(&x, fd, 5 * BLOCK, INT64_MAX, &hole, &end);
    g_assert_true(hole);
    g_assert_cmpint(end, ==, 10 * BLOCK);
    file_extents_find(&x, fd, 10 * BLOCK, INT64_MAX, &hole, &end);
    g_assert_false(hole);
    file_extents_destroy(&x);
    close(fd);
}

typedef struct RaceFinder {
    FileExtents *x;
    int fd;
    bool stop;
} RaceFinder;

static void *race_finder(void *opaque)
{
    RaceFinder *r = opaque;
    bool hole;
    int64_t end;

    while (!qatomic_read(&r->stop)) {
        for (int64_t block = 0; block < 256; block++) {
            file_extents_find(r->x, r->fd, block * BLOCK, INT64_MAX, &hole,
                              &end);
        }
    }
    return NULL;
}

/* --- the ways of asking --- */

#define SMALL 4096
#define SMALL_BLOCKS 400

/* A file whose blocks are data where @data says so, not yet on any disk. */
static int make_pattern(const char *path, const bool *data)
{
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    uint8_t buf[SMALL];

    memset(buf, 1, sizeof(buf));
    g_assert_cmpint(fd, >=, 0);
    g_assert_cmpint(ftruncate(fd, 0), ==, 0);
    g_assert_cmpint(ftruncate(fd, SMALL_BLOCKS * SMALL), ==, 0);
    for (int i = 0; i < SMALL_BLOCKS; i++) {
        if (data[i]) {
            g_assert_cmpint(pwrite(fd, buf, SMALL, i * SMALL), ==, SMALL);
        }
    }
    return fd;
}

/* Data is never told to be a hole; the answers go from one end to the other. */
static void assert_pattern(FileExtents *x, int fd, const bool *data,
                           unsigned *holes)
{
    int64_t pos = 0, end, length = SMALL_BLOCKS * SMALL;
    bool hole;

    *holes = 0;
    while (pos < length) {
        file_extents_find(x, fd, pos, length, &hole, &end);
        g_assert_cmpint(end, >, pos);
        end = MIN(end, length);
        for (int64_t i = pos / SMALL; hole && i * SMALL < end; i++) {
            g_assert_false(data[i]);
            (*holes)++;
        }
        pos = end;
    }
}

static void check_modes(const char *path)
{
    unsigned holes[BLOCKDEV_FILE_EXTENTS__MAX];
    bool data[SMALL_BLOCKS];

    for (int mode = 0; mode < BLOCKDEV_FILE_EXTENTS__MAX; mode++) {
        for (int keep = 0; keep < 2; keep++) {
            FileExtents x;
            int fd;

            for (int i = 0; i < SMALL_BLOCKS; i++) {
                data[i] = g_test_rand_bit();
            }
            fd = make_pattern(path, data);
            file_extents_init(&x, mode);
            file_extents_keep_holes(&x, keep);
            assert_pattern(&x, fd, data, &holes[mode]);
            /* Once more, out of the cache, after a change. */
            data[7] = data[200] = true;
            g_assert_cmpint(pwrite(fd, "x", 1, 7 * SMALL), ==, 1);
            file_extents_written(&x, 7 * SMALL, 1);
            g_assert_cmpint(pwrite(fd, "x", 1, 200 * SMALL), ==, 1);
            file_extents_written(&x, 200 * SMALL, 1);
            assert_pattern(&x, fd, data, &holes[mode]);
            file_extents_destroy(&x);
            close(fd);
        }
    }
    g_assert_cmpuint(holes[BLOCKDEV_FILE_EXTENTS_OFF], ==, 0);
    if (holes[BLOCKDEV_FILE_EXTENTS_SEEK]) {
        g_assert_cmpuint(holes[BLOCKDEV_FILE_EXTENTS_FIEMAP], >, 0);
    }
}

static void test_modes(void)
{
    g_autofree char *path = file_test_make("modes", 0);

    check_modes(path);
}

/* tmpfs has no FIEMAP. */
static void test_modes_tmpfs(void)
{
    g_autofree char *path = g_strdup_printf("/dev/shm/extents-%d", getpid());

    check_modes(path);
    unlink(path);
}

/* Many extents in a row, in a file that nobody writes. */
static void test_auto(void)
{
    g_autofree char *path = file_test_make("auto", 0);
    bool data[SMALL_BLOCKS];
    FileExtents x;
    unsigned holes;
    int fd;

    for (int i = 0; i < SMALL_BLOCKS; i++) {
        data[i] = i % 2;
    }
    close(make_pattern(path, data));
    fd = open(path, O_RDONLY | O_CLOEXEC);
    file_extents_init(&x, BLOCKDEV_FILE_EXTENTS_AUTO);
    file_extents_keep_holes(&x, true);
    assert_pattern(&x, fd, data, &holes);
    g_assert_true(holes == 0 || x.map || x.no_fiemap);
    file_extents_destroy(&x);
    /* Not if others may write, for nothing could be kept. */
    file_extents_init(&x, BLOCKDEV_FILE_EXTENTS_AUTO);
    assert_pattern(&x, fd, data, &holes);
    g_assert_null(x.map);
    file_extents_destroy(&x);
    close(fd);
}

/* --- how much it takes --- */

static unsigned nb_seeks, nb_maps;

/* In the place of the C library's: tells what the driver asks for. */
off_t lseek(int fd, off_t offset, int whence)
{
    qatomic_inc(&nb_seeks);
    return syscall(SYS_lseek, fd, offset, whence);
}

int ioctl(int fd, unsigned long request, ...)
{
    va_list ap;
    void *arg;

    va_start(ap, request);
    arg = va_arg(ap, void *);
    va_end(ap);
    if (request == FS_IOC_FIEMAP) {
        qatomic_inc(&nb_maps);
    }
    return syscall(SYS_ioctl, fd, request, arg);
}

#define MANY 1000

/* Goes twice through a file of MANY extents; the extents of data seen. */
static unsigned walk_twice(const char *path, BlockdevFileExtents mode)
{
    g_autofree uint8_t *block = g_malloc0(SMALL);
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    unsigned seen = 0;
    FileExtents x;

    g_assert_cmpint(ftruncate(fd, 2 * MANY * SMALL), ==, 0);
    for (int i = 0; i < MANY; i++) {
        g_assert_cmpint(pwrite(fd, block, SMALL, (2 * i + 1) * SMALL), ==,
                        SMALL);
    }
    close(fd);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    file_extents_init(&x, mode);
    file_extents_keep_holes(&x, true);
    nb_seeks = nb_maps = 0;
    for (int pass = 0; pass < 2; pass++) {
        int64_t pos = 0, end;
        bool hole;

        while (pos < 2 * MANY * SMALL) {
            file_extents_find(&x, fd, pos, 2 * MANY * SMALL, &hole, &end);
            seen += !hole;
            pos = MIN(end, 2 * MANY * SMALL);
        }
    }
    file_extents_destroy(&x);
    close(fd);
    return seen;
}

/* What takes three calls an extent and pass, takes far fewer with a map. */
static void test_calls(void)
{
    g_autofree char *path = file_test_make("calls", 0);

    if (walk_twice(path, BLOCKDEV_FILE_EXTENTS_SEEK) != 2 * MANY) {
        g_test_skip("the file system does not report holes");
        return;
    }
    g_assert_cmpuint(nb_maps, ==, 0);
    g_assert_cmpuint(nb_seeks, <=, 6 * MANY + 4);

    g_assert_cmpuint(walk_twice(path, BLOCKDEV_FILE_EXTENTS_FIEMAP), ==,
                     2 * MANY);
    if (nb_seeks == 0) {
        g_assert_cmpuint(nb_maps, <=, MANY / 50);
    }
    g_assert_cmpuint(walk_twice(path, BLOCKDEV_FILE_EXTENTS_AUTO), ==,
                     2 * MANY);
    if (nb_maps) {
        g_assert_cmpuint(nb_seeks + nb_maps, <=, MANY / 10);
    }

    walk_twice(path, BLOCKDEV_FILE_EXTENTS_OFF);
    g_assert_cmpuint(nb_seeks + nb_maps, ==, 0);
}

/* The map is what the kernel says of the range that was asked for. */
static void test_map(void)
{
    g_autofree char *path = file_test_make("map", 0);
    bool data[SMALL_BLOCKS] = { [1] = true, [2] = true, [5] = true };
    int fd = make_pattern(path, data);
    FileExtent map[8];
    int64_t end;
    unsigned n;

    if (file_map_extents(fd, 0, SMALL, map, 8, &n, &end) < 0 ||
        lseek(fd, 0, SEEK_DATA) != SMALL) {
        g_test_skip("no FIEMAP here, or larger blocks");
        close(fd);
        return;
    }
    g_assert_cmpuint(n, ==, 0);
    g_assert_cmpint(end, ==, SMALL);
    g_assert_cmpint(file_map_extents(fd, 2 * SMALL, 5 * SMALL, map, 8, &n,
                                     &end), ==, 0);
    g_assert_cmpuint(n, ==, 1);
    g_assert_cmpint(map[0].start, ==, 2 * SMALL);
    g_assert_cmpint(map[0].end, ==, 3 * SMALL);
    g_assert_cmpint(end, ==, 5 * SMALL);
    /* No more room than for the first: it ends where that does. */
    g_assert_cmpint(file_map_extents(fd, 0, SMALL_BLOCKS * SMALL, map, 1, &n,
                                     &end), ==, 0);
    g_assert_cmpuint(n, ==, 1);
    g_assert_cmpint(end, ==, map[0].end);
    /* Preallocated blocks read as zeroes. */
    if (fallocate(fd, 0, 50 * SMALL, 4 * SMALL) == 0) {
        g_assert_cmpint(file_map_extents(fd, 50 * SMALL, 54 * SMALL, map, 8, &n,
                                         &end), ==, 0);
        g_assert_cmpuint(n, ==, 0);
    }
    close(fd);
}

/* Somebody looks for holes all the time while they are filled. */
static void check_race(BlockdevFileExtents mode)
{
    g_autofree char *path = file_test_make("race", 256 * BLOCK);
    FileExtents x;
    RaceFinder r = { .x = &x, .fd = open(path, O_RDWR | O_CLOEXEC) };
    g_autofree uint8_t *buf = g_malloc0(4096);
    QemuThread thread;

    file_extents_init(&x, mode);
    file_extents_keep_holes(&x, true);
    qemu_thread_create(&thread, "finder", race_finder, &r,
                       QEMU_THREAD_JOINABLE);
    for (int round = 0; round < 20; round++) {
        g_assert_cmpint(ftruncate(r.fd, 0), ==, 0);
        g_assert_cmpint(ftruncate(r.fd, 256 * BLOCK), ==, 0);
        file_extents_forget(&x);
        for (int i = 0; i < 256; i++) {
            int64_t offset = (int64_t)g_test_rand_int_range(0, 256) * BLOCK;
            bool hole;
            int64_t end;

            g_assert_cmpint(pwrite(r.fd, buf, 4096, offset), ==, 4096);
            file_extents_written(&x, offset, 4096);
            file_extents_find(&x, r.fd, offset, INT64_MAX, &hole, &end);
            g_assert_false(hole);
        }
    }
    qatomic_set(&r.stop, true);
    qemu_thread_join(&thread);
    file_extents_destroy(&x);
    close(r.fd);
}

/* --- anything in any order, against a model --- */

#define MODEL_BLOCKS 64

typedef struct Model {
    uint8_t value[MODEL_BLOCKS];    /* 0: reads as zeroes */
    int blocks;
} Model;

static void model_step(Model *m, BlockBackend *blk)
{
    int start = g_test_rand_int_range(0, m->blocks);
    int n = g_test_rand_int_range(1, m->blocks - start + 1);
    int64_t offset = (int64_t)start * BLOCK, bytes = (int64_t)n * BLOCK;
    uint8_t value = g_test_rand_int_range(1, 256);

    switch (g_test_rand_int_range(0, 5)) {
    case 0:
        g_assert_cmpint(file_test_fill(blk, offset, bytes, value), ==, 0);
        memset(m->value + start, value, n);
        break;
    case 1:
        g_assert_cmpint(blk_pwrite_zeroes(blk, offset, bytes, 0), ==, 0);
        memset(m->value + start, 0, n);
        break;
    case 2:
        g_assert_cmpint(blk_pwrite_zeroes(blk, offset, bytes,
                                          BDRV_REQ_MAY_UNMAP), ==, 0);
        memset(m->value + start, 0, n);
        break;
    case 3:
        g_assert_cmpint(blk_pdiscard(blk, offset, bytes), ==, 0);
        /* Punched on the file systems that tests run on; else old data. */
        for (int i = start; i < start + n; i++) {
            if (m->value[i] && file_test_reads(blk, (int64_t)i * BLOCK, 1,
                                               0)) {
                m->value[i] = 0;
            }
        }
        break;
    default:
        m->blocks = g_test_rand_int_range(1, MODEL_BLOCKS + 1);
        g_assert_cmpint(blk_truncate(blk, (int64_t)m->blocks * BLOCK, true,
                                     PREALLOC_MODE_OFF, 0, &error_abort),
                        ==, 0);
        memset(m->value + m->blocks, 0, MODEL_BLOCKS - m->blocks);
        break;
    }
}

static void model_compare(Model *m, BlockDriverState *bs)
{
    int64_t offset = 0, end, length = (int64_t)m->blocks * BLOCK;

    g_assert_cmpint(bdrv_getlength(bs), ==, length);
    while (offset < length) {
        int flags = status(bs, offset, &end);

        for (int64_t i = offset / BLOCK; i * BLOCK < end; i++) {
            if (m->value[i]) {
                g_assert_cmphex(flags, ==, BDRV_BLOCK_DATA);
            }
        }
        offset = end;
    }
}

static void test_random(void)
{
    g_autofree char *path = file_test_make("random", MODEL_BLOCKS * BLOCK);
    BlockDriverState *bs = file_test_open(BDRV_O_RDWR, &error_abort, FILE_JSON,
                                          path);
    Model m = { .blocks = MODEL_BLOCKS };
    BlockBackend *blk = NULL;

    for (int i = 0; i < 1000; i++) {
        if (i % 50 == 0) {
            blk_unref(blk);
            blk = file_test_user(bs, BLK_PERM_ALL,
                                 i % 100 ? BLK_PERM_ALL : READ);
        }
        model_step(&m, blk);
        model_compare(&m, bs);
    }
    for (int i = 0; i < m.blocks; i++) {
        g_assert_true(file_test_reads(blk, (int64_t)i * BLOCK, BLOCK,
                                      m.value[i]));
    }
    blk_unref(blk);
    bdrv_unref(bs);
}

static void test_race(void)
{
    check_race(BLOCKDEV_FILE_EXTENTS_SEEK);
}

static void test_race_fiemap(void)
{
    check_race(BLOCKDEV_FILE_EXTENTS_FIEMAP);
}

int main(int argc, char **argv)
{
    file_test_init(&argc, &argv);
    g_test_add_func("/file-extents/ranges", test_ranges);
    g_test_add_func("/file-extents/odd-end", test_odd_end);
    g_test_add_func("/file-extents/empty", test_empty);
    g_test_add_func("/file-extents/hole-shared", test_hole_shared);
    g_test_add_func("/file-extents/hole-remembered", test_hole_remembered);
    g_test_add_func("/file-extents/own-changes", test_own_changes);
    g_test_add_func("/file-extents/no-seek", test_no_seek);
    g_test_add_func("/file-extents/cut-ranges", test_cut_ranges);
    g_test_add_func("/file-extents/race", test_race);
    g_test_add_func("/file-extents/race-fiemap", test_race_fiemap);
    g_test_add_func("/file-extents/modes", test_modes);
    g_test_add_func("/file-extents/modes-tmpfs", test_modes_tmpfs);
    g_test_add_func("/file-extents/auto", test_auto);
    g_test_add_func("/file-extents/calls", test_calls);
    g_test_add_func("/file-extents/map", test_map);
    g_test_add_func("/file-extents/random", test_random);
    return file_test_run();
}
