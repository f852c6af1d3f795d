/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The path of requests from an edge to a driver. The driver checks that each
 * call respects its limits (ram-driver.c); the tests check the result.
 */
#include "util/osdep.h"
#include "ram-driver.h"
#include "block/write-threshold.h"
#include "util/aio.h"
#include "util/iothread.h"
#include "util/iov.h"
#include "util/zero.h"

#define LEN (1 << 20)
#define RW (BDRV_O_RDWR | BDRV_O_UNMAP)

static void fill(uint8_t *buf, size_t len, unsigned seed)
{
    for (size_t i = 0; i < len; i++) {
        buf[i] = (i * 131 + i / 251 + seed) | 1;
    }
}

/* ------------------------------------------------- random against a model */

/*
 * Whatever the driver demands, the node behaves like an array of bytes.
 */
typedef struct Model {
    BlockBackend *blk;
    BlockDriverState *bs;
    uint8_t bytes[LEN];
    uint8_t buf[LEN];
} Model;

static int64_t random_range(int64_t *bytes)
{
    int64_t max = g_test_rand_bit() ? 700 : g_test_rand_bit() ? 9000 : 300000;
    int64_t offset = g_test_rand_int_range(0, LEN);

    *bytes = g_test_rand_int_range(1, MIN(max, LEN - offset) + 1);
    if (g_test_rand_int_range(0, 4) == 0) {
        offset &= ~4095;
        *bytes = MIN(ROUND_UP(*bytes, 4096), LEN - offset);
    }
    return offset;
}

/* The range of @buf as a vector of random pieces. */
static void random_vector(QEMUIOVector *qiov, uint8_t *buf, int64_t bytes)
{
    int pieces = g_test_rand_int_range(1, 6);

    qemu_iovec_init(qiov, pieces);
    while (pieces-- > 1 && bytes > 1) {
        int64_t n = g_test_rand_int_range(1, MIN(bytes, 5000));

        qemu_iovec_add(qiov, buf, n);
        buf += n;
        bytes -= n;
    }
    qemu_iovec_add(qiov, buf, bytes);
}

static void model_read(Model *m)
{
    QEMUIOVector qiov;
    int64_t bytes, offset = random_range(&bytes);

    memset(m->buf, 0xee, bytes);
    random_vector(&qiov, m->buf, bytes);
    g_assert_cmpint(blk_preadv(m->blk, offset, bytes, &qiov, 0), ==, 0);
    g_assert_cmpmem(m->buf, bytes, m->bytes + offset, bytes);
    qemu_iovec_destroy(&qiov);
}

static void model_write(Model *m)
{
    QEMUIOVector qiov;
    int64_t bytes, offset = random_range(&bytes);

    fill(m->buf, bytes, g_test_rand_int());
    if (g_test_rand_int_range(0, 8) == 0) {
        memset(m->buf, 0, bytes);
    }
    random_vector(&qiov, m->buf, bytes);
    g_assert_cmpint(blk_pwritev(m->blk, offset, bytes, &qiov,
                                g_test_rand_bit() ? BDRV_REQ_FUA : 0), ==, 0);
    memcpy(m->bytes + offset, m->buf, bytes);
    qemu_iovec_destroy(&qiov);
}

static void model_zero(Model *m)
{
    int64_t bytes, offset = random_range(&bytes);

    g_assert_cmpint(blk_pwrite_zeroes(m->blk, offset, bytes,
                                      g_test_rand_bit() ? BDRV_REQ_MAY_UNMAP
                                                        : 0), ==, 0);
    memset(m->bytes + offset, 0, bytes);
}

/* Discarded bytes read as before or as zeroes; the driver's are zeroes. */
static void model_discard(Model *m)
{
    int64_t bytes, offset = random_range(&bytes);

    g_assert_cmpint(blk_pdiscard(m->blk, offset, bytes), ==, 0);
    g_assert_cmpint(blk_pread(m->blk, offset, bytes, m->buf, 0), ==, 0);
    for (int64_t i = 0; i < bytes; i++) {
        g_assert_true(!m->buf[i] || m->buf[i] == m->bytes[offset + i]);
    }
    memcpy(m->bytes + offset, m->buf, bytes);
}

static void run_model(const RamConfig *cfg, BlockdevDetectZeroesOptions detect)
{
    Model *m = g_new0(Model, 1);

    m->bs = ram_node("model", RW, cfg);
    m->bs->detect_zeroes = detect;
    m->blk = ram_backend(m->bs);
    for (int i = 0; i < 600; i++) {
        switch (g_test_rand_int_range(0, 6)) {
        case 0:
        case 1:
            model_read(m);
            break;
        case 2:
        case 3:
            model_write(m);
            break;
        case 4:
            model_zero(m);
            break;
        case 5:
            model_discard(m);
            break;
        }
    }
    g_assert_cmpint(blk_pread(m->blk, 0, LEN, m->buf, 0), ==, 0);
    g_assert_cmpmem(m->buf, LEN, m->bytes, LEN);
    g_assert_cmpuint(m->bs->in_flight, ==, 0);
    g_assert_cmpuint(m->bs->serialising_in_flight, ==, 0);
    blk_unref(m->blk);
    bdrv_unref(m->bs);
    g_free(m);
}

static void test_model(void)
{
    static const RamConfig configs[] = {
        { .length = LEN },
        { .length = LEN, .bl.request_alignment = 512, .no_zeroes = true },
        { .length = LEN, .bl.request_alignment = 4096,
          .bl.max_transfer = 8192, .write_flags = BDRV_REQ_FUA,
          .zero_flags = BDRV_REQ_FUA | BDRV_REQ_MAY_UNMAP },
        { .length = LEN, .bl.request_alignment = 512,
          .bl.min_mem_alignment = 512, .bl.max_transfer = 65536,
          .bl.pwrite_zeroes_alignment = 4096, .whole_zeroes = true,
          .bl.max_pwrite_zeroes = 40960, .bl.pdiscard_alignment = 8192,
          .bl.max_pdiscard = 100000 },
        { .length = LEN, .bl.max_iov = 2, .bl.max_transfer = 5000 },
    };

    for (int i = 0; i < ARRAY_SIZE(configs); i++) {
        run_model(&configs[i], BLOCKDEV_DETECT_ZEROES_OPTIONS_OFF);
        run_model(&configs[i], BLOCKDEV_DETECT_ZEROES_OPTIONS_UNMAP);
    }
}

/* -------------------------------------------------------------- allocation */

static unsigned long allocations;

/* Linked in place of the allocators (--wrap). */
void *__real_malloc(size_t size);
void *__wrap_malloc(size_t size);
void *__real_g_malloc(gsize size);
void *__wrap_g_malloc(gsize size);
void *__real_g_malloc0(gsize size);
void *__wrap_g_malloc0(gsize size);
void *__real_qemu_try_memalign(size_t alignment, size_t size);
void *__wrap_qemu_try_memalign(size_t alignment, size_t size);

void *__wrap_malloc(size_t size)
{
    qatomic_inc(&allocations);
    return __real_malloc(size);
}

void *__wrap_g_malloc(gsize size)
{
    qatomic_inc(&allocations);
    return __real_g_malloc(size);
}

void *__wrap_g_malloc0(gsize size)
{
    qatomic_inc(&allocations);
    return __real_g_malloc0(size);
}

void *__wrap_qemu_try_memalign(size_t alignment, size_t size)
{
    qatomic_inc(&allocations);
    return __real_qemu_try_memalign(alignment, size);
}

static int coroutine_fn count_allocations(void *opaque)
{
    BdrvChild *child = opaque;
    uint8_t buf[4096];
    unsigned long before;

    g_assert_cmpint(bdrv_co_pread(child, 0, 4096, buf, 0), ==, 0);
    before = allocations;
    for (int i = 0; i < 100; i++) {
        g_assert_cmpint(bdrv_co_pread(child, i * 4096, 4096, buf, 0), ==, 0);
        g_assert_cmpint(bdrv_co_pwrite(child, i * 4096, 4096, buf, 0), ==, 0);
    }
    return allocations - before;
}

/* Aligned reads and writes allocate no memory; unaligned ones do. */
static void test_no_allocation(void)
{
    RamConfig cfg = { .length = LEN, .bl.request_alignment = 4096 };
    BlockDriverState *bs = ram_node("lean", RW, &cfg);
    BlockBackend *blk = ram_backend(bs);
    unsigned long before;

    g_assert_cmpint(bdrv_run_co(count_allocations, blk_root(blk)), ==, 0);
    before = allocations;
    g_assert_cmpint(blk_pread(blk, 1, 1, &(uint8_t){ 0 }, 0), ==, 0);
    g_assert_cmpuint(allocations, >, before);
    blk_unref(blk);
    bdrv_unref(bs);
}

/* ------------------------------------------------------------------ bounds */

static void test_bounds(void)
{
    RamConfig cfg = { .length = 4096 };
    BlockDriverState *bs = ram_node("bounds", RW, &cfg);
    BlockBackend *blk = ram_backend(bs);
    uint8_t buf[1024];

    g_assert_cmpint(blk_pread(blk, 4096, 1, buf, 0), ==, -EIO);
    g_assert_cmpint(blk_pread(blk, 4000, 97, buf, 0), ==, -EIO);
    g_assert_cmpint(blk_pread(blk, -1, 1, buf, 0), ==, -EIO);
    g_assert_cmpint(blk_pwrite(blk, 4095, 2, buf, 0), ==, -EIO);
    g_assert_cmpint(blk_pwrite(blk, INT64_MAX, 1, buf, 0), ==, -EIO);
    g_assert_cmpint(blk_pwrite_zeroes(blk, 0, INT64_MAX, 0), ==, -EIO);
    g_assert_cmpint(blk_pdiscard(blk, 4096, 1), ==, -EIO);
    g_assert_cmpint(blk_pread(blk, 4096, 0, buf, 0), ==, 0);
    g_assert_cmpint(blk_pread(blk, 4095, 1, buf, 0), ==, 0);
    /* Data that the vector does not have. */
    {
        QEMUIOVector qiov = QEMU_IOVEC_INIT_BUF(qiov, buf, 10);

        g_assert_cmpint(blk_preadv(blk, 0, 11, &qiov, 0), ==, -EIO);
    }
    /* Beyond the end with permission of the backend, but not of the edge. */
    blk_set_allow_write_beyond_eof(blk, true);
    g_assert_cmpint(blk_pwrite(blk, 4095, 2, buf, 0), ==, -EIO);
    g_assert_true(blk_set_perm(blk, RAM_PERM | BLK_PERM_RESIZE, BLK_PERM_ALL,
                               &error_abort));
    g_assert_cmpint(blk_pwrite(blk, 4095, 2, buf, 0), ==, 0);
    g_assert_cmpint(ram_state(bs)->length, ==, 4097);
    /* The last sector can be used as a whole. */
    g_assert_cmpint(blk_getlength(blk), ==, 4608);
    g_assert_cmpint(bdrv_getlength(bs), ==, 4608);
    blk_set_allow_write_beyond_eof(blk, false);
    g_assert_true(blk_set_perm(blk, RAM_PERM, BLK_PERM_ALL, &error_abort));
    g_assert_cmpint(blk_pread(blk, 4097, 511, buf, 0), ==, 0);
    g_assert_true(buffer_is_zero(buf, 511));
    g_assert_cmpint(ram_state(bs)->length, ==, 4097);
    g_assert_cmpint(blk_pread(blk, 4097, 512, buf, 0), ==, -EIO);
    memset(buf, 0x11, 511);
    g_assert_cmpint(blk_pwrite(blk, 4097, 510, buf, 0), ==, 0);
    g_assert_cmpint(ram_state(bs)->length, ==, 4607);
    g_assert_cmpint(blk_pwrite(blk, 4607, 2, buf, 0), ==, -EIO);
    blk_unref(blk);
    bdrv_unref(bs);
}

/* Reads through an edge get zeroes beyond the end, whatever the alignment. */
static void test_read_beyond_end(void)
{
    static const uint32_t aligns[] = { 1, 512, 4096 };

    for (int i = 0; i < ARRAY_SIZE(aligns); i++) {
        RamConfig cfg = { .length = 5000,
                          .bl.request_alignment = aligns[i] };
        BlockDriverState *bs = ram_node("tail", 0, &cfg);
        BlockBackend *blk = blk_new_with_bs(bs, BLK_PERM_CONSISTENT_READ,
                                            BLK_PERM_ALL, &error_abort);
        g_autofree uint8_t *buf = g_malloc(20000);

        memset(ram_state(bs)->data, 0xaa, 5000);
        memset(buf, 0xee, 20000);
        g_assert_cmpint(bdrv_pread(blk_root(blk), 4990, 10000, buf, 0), ==, 0);
        for (int j = 0; j < 10000; j++) {
            g_assert_cmphex(buf[j], ==, j < 10 ? 0xaa : 0);
        }
        g_assert_cmphex(buf[10000], ==, 0xee);
        g_assert_cmpint(bdrv_pread(blk_root(blk), 9000, 5000, buf, 0), ==, 0);
        g_assert_true(!buf[0] && !buf[4999]);
        blk_unref(blk);
        bdrv_unref(bs);
    }
}

static void test_read_only(void)
{
    RamConfig cfg = { .length = 4096 };
    BlockDriverState *bs = ram_node("ro", 0, &cfg);
    BlockBackend *blk = blk_new_with_bs(bs, BLK_PERM_CONSISTENT_READ,
                                        BLK_PERM_ALL, &error_abort);
    Error *err = NULL;
    uint8_t buf[1] = { 1 };

    g_assert_cmpint(blk_pwrite(blk, 0, 1, buf, 0), ==, -EPERM);
    g_assert_cmpint(blk_pwrite_zeroes(blk, 0, 1, 0), ==, -EPERM);
    g_assert_cmpint(blk_pdiscard(blk, 0, 1), ==, -EPERM);
    g_assert_cmpint(blk_truncate(blk, 1, false, PREALLOC_MODE_OFF, 0, &err),
                    ==, -EACCES);
    g_assert_cmpstr(error_get_pretty(err), ==, "Image is read-only");
    error_free(err);
    g_assert_cmpint(blk_flush(blk), ==, 0);
    g_assert_cmpuint(ram_state(bs)->flushes, ==, 0);
    blk_unref(blk);
    bdrv_unref(bs);
}

/* --------------------------------------------------------- FUA and flushes */

static void test_fua(void)
{
    RamConfig cfg = { .length = LEN, .bl.max_transfer = 4096 };
    BlockDriverState *bs = ram_node("fua", RW, &cfg);
    BlockBackend *blk = ram_backend(bs);
    RamState *s = ram_state(bs);
    g_autofree uint8_t *buf = g_malloc0(65536);

    /* Emulated: one flush, after all pieces. */
    g_assert_cmpint(blk_pwrite(blk, 0, 65536, buf, BDRV_REQ_FUA), ==, 0);
    g_assert_cmpuint(s->writes, ==, 16);
    g_assert_cmpuint(s->flushes, ==, 1);
    /* Also right after a flush that covered everything until then. */
    g_assert_cmpint(blk_flush(blk), ==, 0);
    g_assert_cmpuint(s->flushes, ==, 1);
    g_assert_cmpint(blk_pwrite(blk, 0, 512, buf, BDRV_REQ_FUA), ==, 0);
    g_assert_cmpuint(s->flushes, ==, 2);
    g_assert_cmpint(blk_pwrite_zeroes(blk, 0, 512, BDRV_REQ_FUA), ==, 0);
    g_assert_cmpuint(s->flushes, ==, 3);
    /* Write-through adds it. */
    blk_set_enable_write_cache(blk, false);
    g_assert_cmpint(blk_pwrite(blk, 0, 512, buf, 0), ==, 0);
    g_assert_cmpuint(s->flushes, ==, 4);
    blk_set_enable_write_cache(blk, true);
    g_assert_cmpint(blk_pwrite(blk, 0, 512, buf, 0), ==, 0);
    g_assert_cmpuint(s->flushes, ==, 4);
    /* The error of the flush is the error of the write. */
    ram_fail(bs, RAM_FLUSH, -ENOSPC);
    g_assert_cmpint(blk_pwrite(blk, 0, 512, buf, BDRV_REQ_FUA), ==, -ENOSPC);
    blk_unref(blk);
    bdrv_unref(bs);

    cfg.write_flags = BDRV_REQ_FUA;
    bs = ram_node("fua2", RW, &cfg);
    blk = ram_backend(bs);
    g_assert_cmpint(blk_pwrite(blk, 0, 8192, buf, BDRV_REQ_FUA), ==, 0);
    g_assert_cmpuint(ram_state(bs)->fua_writes, ==, 2);
    g_assert_cmpuint(ram_state(bs)->flushes, ==, 0);
    /* Zeroes: the driver's own zero write does not have it. */
    g_assert_cmpint(blk_pwrite_zeroes(blk, 0, 8192, BDRV_REQ_FUA), ==, 0);
    g_assert_cmpuint(ram_state(bs)->flushes, ==, 1);
    blk_unref(blk);
    bdrv_unref(bs);
}

/* N flushes at once cost two at most, and each covers the writes before it. */
static void test_flush_coalescing(void)
{
    RamConfig cfg = { .length = LEN };
    BlockDriverState *bs = ram_node("flush", RW, &cfg);
    BlockBackend *blk = ram_backend(bs);
    RamState *s = ram_state(bs);
    RamAio aio[10] = { 0 };
    uint8_t buf[1] = { 1 };

    /* Nothing written: nothing to do. */
    g_assert_cmpint(blk_flush(blk), ==, 0);
    g_assert_cmpuint(s->flushes, ==, 0);

    g_assert_cmpint(blk_pwrite(blk, 0, 1, buf, 0), ==, 0);
    ram_hold(bs, RAM_FLUSH);
    blk_aio_flush(blk, ram_aio_cb, &aio[0]);
    ram_wait_held(bs, 1);
    for (int i = 1; i < 10; i++) {
        g_assert_cmpint(blk_pwrite(blk, 0, 1, buf, 0), ==, 0);
        blk_aio_flush(blk, ram_aio_cb, &aio[i]);
    }
    ram_settle();
    g_assert_cmpuint(s->flushes, ==, 1);
    ram_release(bs);
    for (int i = 0; i < 10; i++) {
        g_assert_cmpint(ram_aio_wait(&aio[i]), ==, 0);
    }
    g_assert_cmpuint(s->flushes, ==, 2);

    /* A failed flush is not taken for a good one. */
    g_assert_cmpint(blk_pwrite(blk, 0, 1, buf, 0), ==, 0);
    ram_fail(bs, RAM_FLUSH, -EIO);
    g_assert_cmpint(blk_flush(blk), ==, -EIO);
    g_assert_cmpint(blk_flush(blk), ==, 0);
    g_assert_cmpuint(s->flushes, ==, 4);
    blk_unref(blk);
    bdrv_unref(bs);
}

/* cache.no-flush silences the node, not those below it. */
static void test_no_flush(void)
{
    RamConfig cfg = { .length = LEN };
    BlockDriverState *base = ram_node("base", RW, &cfg);
    BlockDriverState *top = ram_filter("top", RW | BDRV_O_NO_FLUSH, base);
    BlockDriverState *quiet = ram_node("quiet", RW | BDRV_O_NO_FLUSH, &cfg);
    BlockBackend *blk = ram_backend(top), *blk_quiet = ram_backend(quiet);
    uint8_t buf[1] = { 1 };

    g_assert_cmpint(blk_pwrite(blk, 0, 1, buf, 0), ==, 0);
    g_assert_cmpint(blk_flush(blk), ==, 0);
    g_assert_cmpuint(ram_state(base)->flushes, ==, 1);
    g_assert_cmpint(blk_pwrite(blk_quiet, 0, 1, buf, BDRV_REQ_FUA), ==, 0);
    g_assert_cmpint(blk_flush(blk_quiet), ==, 0);
    g_assert_cmpuint(ram_state(quiet)->flushes, ==, 0);
    blk_unref(blk_quiet);
    blk_unref(blk);
    bdrv_unref(quiet);
    bdrv_unref(top);
    bdrv_unref(base);
}

/* ------------------------------------------------------ zeroes and discard */

static void test_zeroes(void)
{
    RamConfig cfg = { .length = LEN, .bl.request_alignment = 512,
                      .no_zeroes = true,
                      .zero_flags = BDRV_REQ_NO_FALLBACK };
    BlockDriverState *bs = ram_node("zeroes", RW, &cfg);
    BlockBackend *blk = ram_backend(bs);

    memset(ram_state(bs)->data, 0xaa, LEN);
    g_assert_cmpint(blk_pwrite_zeroes(blk, 0, 4096, BDRV_REQ_NO_FALLBACK), ==,
                    -ENOTSUP);
    g_assert_cmpuint(ram_state(bs)->writes, ==, 0);
    g_assert_cmpint(blk_pwrite_zeroes(blk, 0, 4096, 0), ==, 0);
    g_assert_cmpuint(ram_state(bs)->writes, ==, 1);
    g_assert_cmphex(ram_state(bs)->data[4095], ==, 0);
    g_assert_cmphex(ram_state(bs)->data[4096], ==, 0xaa);
    /* Inside one block, over a boundary, and around whole blocks. */
    g_assert_cmpint(blk_pwrite_zeroes(blk, 8000, 10, 0), ==, 0);
    g_assert_cmpint(blk_pwrite_zeroes(blk, 9210, 10, 0), ==, 0);
    g_assert_cmpint(blk_pwrite_zeroes(blk, 10239, 1026, 0), ==, 0);
    for (int i = 4096; i < 16384; i++) {
        bool zero = (i >= 8000 && i < 8010) || (i >= 9210 && i < 9220) ||
                    (i >= 10239 && i < 11265);

        g_assert_cmphex(ram_state(bs)->data[i], ==, zero ? 0 : 0xaa);
    }
    blk_unref(blk);
    bdrv_unref(bs);
}

/* MAY_UNMAP reaches the driver only with discard=unmap. */
static void test_zeroes_unmap(void)
{
    RamConfig cfg = { .length = LEN, .zero_flags = BDRV_REQ_MAY_UNMAP };
    BlockDriverState *keep = ram_node("keep", BDRV_O_RDWR, &cfg);
    BlockDriverState *unmap = ram_node("unmap", RW, &cfg);
    BlockBackend *blk_keep = ram_backend(keep);
    BlockBackend *blk_unmap = ram_backend(unmap);

    g_assert_cmpint(blk_pwrite_zeroes(blk_keep, 0, 512, BDRV_REQ_MAY_UNMAP),
                    ==, 0);
    g_assert_cmpint(blk_pwrite_zeroes(blk_unmap, 0, 512, BDRV_REQ_MAY_UNMAP),
                    ==, 0);
    g_assert_cmpuint(ram_state(keep)->unmaps, ==, 0);
    g_assert_cmpuint(ram_state(unmap)->unmaps, ==, 1);
    g_assert_false(bdrv_can_write_zeroes_with_unmap(keep));
    g_assert_true(bdrv_can_write_zeroes_with_unmap(unmap));
    /* Discards do nothing without it. */
    g_assert_cmpint(blk_pdiscard(blk_keep, 0, 512), ==, 0);
    g_assert_cmpint(blk_pdiscard(blk_unmap, 0, 512), ==, 0);
    g_assert_cmpuint(ram_state(keep)->discards, ==, 0);
    g_assert_cmpuint(ram_state(unmap)->discards, ==, 1);
    blk_unref(blk_keep);
    blk_unref(blk_unmap);
    bdrv_unref(keep);
    bdrv_unref(unmap);
}

static void test_detect_zeroes(void)
{
    RamConfig cfg = { .length = LEN, .zero_flags = BDRV_REQ_MAY_UNMAP };
    BlockDriverState *bs = ram_node("detect", RW, &cfg);
    BlockBackend *blk = ram_backend(bs);
    RamState *s = ram_state(bs);
    uint8_t buf[4096] = { 0 };

    g_assert_cmpint(blk_pwrite(blk, 0, 4096, buf, 0), ==, 0);
    g_assert_cmpuint(s->zeroes, ==, 0);
    bs->detect_zeroes = BLOCKDEV_DETECT_ZEROES_OPTIONS_ON;
    g_assert_cmpint(blk_pwrite(blk, 0, 4096, buf, 0), ==, 0);
    g_assert_cmpuint(s->zeroes, ==, 1);
    g_assert_cmpuint(s->unmaps, ==, 0);
    bs->detect_zeroes = BLOCKDEV_DETECT_ZEROES_OPTIONS_UNMAP;
    g_assert_cmpint(blk_pwrite(blk, 0, 4096, buf, 0), ==, 0);
    g_assert_cmpuint(s->unmaps, ==, 1);
    buf[4095] = 1;
    g_assert_cmpint(blk_pwrite(blk, 0, 4096, buf, 0), ==, 0);
    g_assert_cmpuint(s->zeroes, ==, 2);
    g_assert_cmphex(s->data[4095], ==, 1);
    blk_unref(blk);
    bdrv_unref(bs);
}

/* Only whole blocks are discarded; the block at the end counts as whole. */
static void test_discard(void)
{
    RamConfig cfg = { .length = LEN - 100, .bl.request_alignment = 512 };
    BlockDriverState *bs = ram_node("discard", RW, &cfg);
    BlockBackend *blk = blk_new_with_bs(bs, RAM_PERM | BLK_PERM_RESIZE,
                                        BLK_PERM_ALL, &error_abort);
    RamState *s = ram_state(bs);

    memset(s->data, 0xaa, LEN);
    g_assert_cmpint(blk_pdiscard(blk, 1, 1022), ==, 0);
    g_assert_cmpuint(s->discards, ==, 0);
    g_assert_cmpint(blk_pdiscard(blk, 1, 1023), ==, 0);
    g_assert_cmpuint(s->discards, ==, 1);
    g_assert_cmphex(s->data[511], ==, 0xaa);
    g_assert_cmphex(s->data[512], ==, 0);
    g_assert_cmphex(s->data[1024], ==, 0xaa);
    g_assert_cmpint(blk_pdiscard(blk, LEN - 1024, 924), ==, 0);
    g_assert_cmphex(s->data[LEN - 101], ==, 0);
    ram_fail(bs, RAM_DISCARD, -EIO);
    g_assert_cmpint(blk_pdiscard(blk, 0, 512), ==, -EIO);
    ram_fail(bs, RAM_DISCARD, -ENOTSUP);
    g_assert_cmpint(blk_pdiscard(blk, 0, 512), ==, 0);
    blk_unref(blk);
    bdrv_unref(bs);
}

/* --------------------------------------------------------------- ordering */

/* A write into part of a block waits for another into the same block. */
static void test_rmw_serialises(void)
{
    RamConfig cfg = { .length = LEN, .bl.request_alignment = 512 };
    BlockDriverState *bs = ram_node("rmw", RW, &cfg);
    BlockBackend *blk = ram_backend(bs);
    RamState *s = ram_state(bs);
    uint8_t a[10], b[10], c[512];
    QEMUIOVector qa = QEMU_IOVEC_INIT_BUF(qa, a, 10);
    QEMUIOVector qb = QEMU_IOVEC_INIT_BUF(qb, b, 10);
    QEMUIOVector qc = QEMU_IOVEC_INIT_BUF(qc, c, 512);
    RamAio aio[4] = { 0 };

    memset(a, 0xa1, sizeof(a));
    memset(b, 0xb2, sizeof(b));
    memset(c, 0xc3, sizeof(c));
    ram_hold(bs, RAM_WRITE);
    blk_aio_pwritev(blk, 100, &qa, 0, ram_aio_cb, &aio[0]);
    ram_wait_held(bs, 1);
    blk_aio_pwritev(blk, 200, &qb, 0, ram_aio_cb, &aio[1]);
    /* Aligned, in the block and next to it. */
    blk_aio_pwritev(blk, 0, &qc, 0, ram_aio_cb, &aio[2]);
    blk_aio_pwritev(blk, 512, &qc, 0, ram_aio_cb, &aio[3]);
    ram_wait_held(bs, 2);
    ram_settle();
    g_assert_cmpuint(s->writes, ==, 2);
    g_assert_cmpuint(s->reads, ==, 1);
    g_assert_cmpuint(bs->serialising_in_flight, ==, 2);
    ram_release(bs);
    for (int i = 0; i < 4; i++) {
        g_assert_cmpint(ram_aio_wait(&aio[i]), ==, 0);
    }
    g_assert_cmpuint(s->writes, ==, 4);
    g_assert_cmpuint(bs->serialising_in_flight, ==, 0);
    /* The whole block was written before or after @b, in one piece. */
    g_assert_true(s->data[0] == 0xc3 && s->data[511] == 0xc3);
    g_assert_true(s->data[512] == 0xc3);
    blk_unref(blk);
    bdrv_unref(bs);
}

/* So does zeroing part of a block. */
static void test_zero_rmw_serialises(void)
{
    RamConfig cfg = { .length = LEN, .bl.request_alignment = 512 };
    BlockDriverState *bs = ram_node("rmw", RW, &cfg);
    BlockBackend *blk = ram_backend(bs);
    uint8_t a[512];
    QEMUIOVector qa = QEMU_IOVEC_INIT_BUF(qa, a, 512);
    RamAio aio[2] = { 0 };

    memset(a, 0xa1, sizeof(a));
    ram_hold(bs, RAM_WRITE);
    blk_aio_pwrite_zeroes(blk, 100, 10, 0, ram_aio_cb, &aio[0]);
    ram_wait_held(bs, 1);
    blk_aio_pwritev(blk, 0, &qa, 0, ram_aio_cb, &aio[1]);
    ram_settle();
    g_assert_cmpuint(ram_state(bs)->writes, ==, 1);
    ram_release(bs);
    g_assert_cmpint(ram_aio_wait(&aio[0]), ==, 0);
    g_assert_cmpint(ram_aio_wait(&aio[1]), ==, 0);
    g_assert_cmpmem(ram_state(bs)->data, 512, a, 512);
    blk_unref(blk);
    bdrv_unref(bs);
}

/* Writes that are aligned never wait for each other. */
static void test_aligned_do_not_wait(void)
{
    RamConfig cfg = { .length = LEN, .bl.request_alignment = 512 };
    BlockDriverState *bs = ram_node("free", RW, &cfg);
    BlockBackend *blk = ram_backend(bs);
    uint8_t buf[512] = { 0 };
    QEMUIOVector q = QEMU_IOVEC_INIT_BUF(q, buf, 512);
    RamAio aio[5] = { 0 };

    ram_hold(bs, RAM_WRITE);
    for (int i = 0; i < 5; i++) {
        blk_aio_pwritev(blk, 0, &q, 0, ram_aio_cb, &aio[i]);
    }
    ram_wait_held(bs, 5);
    g_assert_cmpuint(bs->serialising_in_flight, ==, 0);
    ram_release(bs);
    for (int i = 0; i < 5; i++) {
        g_assert_cmpint(ram_aio_wait(&aio[i]), ==, 0);
    }
    blk_unref(blk);
    bdrv_unref(bs);
}

static void test_serialising_flag(void)
{
    RamConfig cfg = { .length = LEN, .cluster = 4096 };
    BlockDriverState *bs = ram_node("serial", RW, &cfg);
    BlockBackend *blk = ram_backend(bs);
    uint8_t buf[512] = { 0 };
    QEMUIOVector q = QEMU_IOVEC_INIT_BUF(q, buf, 512);
    RamAio aio[3] = { 0 };

    ram_hold(bs, RAM_WRITE | RAM_READ);
    blk_aio_pwritev(blk, 0, &q, 0, ram_aio_cb, &aio[0]);
    ram_wait_held(bs, 1);
    /* Somebody is in the cluster: no waiting, no writing. */
    g_assert_cmpint(blk_pwrite(blk, 2048, 512, buf,
                               BDRV_REQ_SERIALISING | BDRV_REQ_NO_WAIT), ==,
                    -EBUSY);
    blk_aio_pwritev(blk, 2048, &q, BDRV_REQ_SERIALISING, ram_aio_cb, &aio[1]);
    /* Behind the one that waits: it does not overtake it. */
    blk_aio_preadv(blk, 1024, &q, 0, ram_aio_cb, &aio[2]);
    ram_settle();
    g_assert_cmpuint(ram_state(bs)->writes, ==, 1);
    g_assert_cmpuint(ram_state(bs)->reads, ==, 0);
    ram_release(bs);
    for (int i = 0; i < 3; i++) {
        g_assert_cmpint(ram_aio_wait(&aio[i]), ==, 0);
    }
    g_assert_cmpint(blk_pwrite(blk, 2048, 512, buf,
                               BDRV_REQ_SERIALISING | BDRV_REQ_NO_WAIT), ==,
                    0);
    blk_unref(blk);
    bdrv_unref(bs);
}

/*
 * Coroutines in several threads write one byte each of the same blocks, again
 * and again, while others write ranges over block boundaries: nobody's bytes
 * get lost, and nobody waits for ever.
 */
#define RMW_THREADS 3
#define RMW_CO 8
#define RMW_ROUNDS 60
#define RMW_BLOCKS 4

typedef struct RmwWorker {
    BlockBackend *blk;
    unsigned *running;
    int id;
} RmwWorker;

static void coroutine_fn rmw_run(void *opaque)
{
    RmwWorker *w = opaque;

    for (int i = 1; i <= RMW_ROUNDS; i++) {
        for (int block = 0; block < RMW_BLOCKS; block++) {
            uint8_t value = i;

            g_assert_cmpint(blk_co_pwrite(w->blk, block * 512 + w->id * 3, 1,
                                          &value, 0), ==, 0);
        }
        /* Reads what it wrote, whatever the others do in the same blocks. */
        for (int block = 0; block < RMW_BLOCKS; block++) {
            uint8_t value = 0;

            g_assert_cmpint(blk_co_pread(w->blk, block * 512 + w->id * 3, 1,
                                         &value, 0), ==, 0);
            g_assert_cmpint(value, ==, i);
        }
    }
    if (qatomic_fetch_dec(w->running) == 1) {
        aio_wait_kick();
    }
}

static void coroutine_fn rmw_wide_run(void *opaque)
{
    RmwWorker *w = opaque;
    g_autofree uint8_t *buf = g_malloc0(1024);

    for (int i = 0; i < RMW_ROUNDS * 2; i++) {
        /* Bytes that nobody else writes: 400..511 of all blocks but the last,
         * and the gap to the next block's first is written by nobody. */
        g_assert_cmpint(blk_co_pwrite(w->blk, (i % RMW_BLOCKS) * 512 + 400,
                                      112, buf, 0), ==, 0);
        g_assert_cmpint(blk_co_pwrite_zeroes(w->blk, (i % RMW_BLOCKS) * 512 +
                                             410, 90, 0), ==, 0);
    }
    if (qatomic_fetch_dec(w->running) == 1) {
        aio_wait_kick();
    }
}

static void test_rmw_threads(void)
{
    RamConfig cfg = { .length = LEN, .bl.request_alignment = 512,
                      .no_zeroes = true };
    BlockDriverState *bs = ram_node("threads", RW, &cfg);
    BlockBackend *blk = ram_backend(bs);
    IOThread *threads[RMW_THREADS];
    RmwWorker workers[RMW_THREADS * RMW_CO];
    unsigned running = ARRAY_SIZE(workers);

    for (int i = 0; i < RMW_THREADS; i++) {
        threads[i] = iothread_new("rmw", &error_abort);
    }
    for (int i = 0; i < ARRAY_SIZE(workers); i++) {
        workers[i] = (RmwWorker) { blk, &running, i };
        aio_co_schedule(iothread_get_aio_context(threads[i % RMW_THREADS]),
                        qemu_coroutine_create(i % RMW_CO == 0 ? rmw_wide_run
                                                              : rmw_run,
                                              &workers[i]));
    }
    AIO_WAIT_WHILE(NULL, qatomic_load_acquire(&running) > 0);
    for (int i = 0; i < RMW_THREADS; i++) {
        iothread_free(threads[i]);
    }
    for (int i = 0; i < ARRAY_SIZE(workers); i++) {
        for (int block = 0; i % RMW_CO && block < RMW_BLOCKS; block++) {
            g_assert_cmpint(ram_state(bs)->data[block * 512 + i * 3], ==,
                            RMW_ROUNDS);
        }
    }
    g_assert_cmpuint(bs->serialising_in_flight, ==, 0);
    blk_unref(blk);
    bdrv_unref(bs);
}

/* ----------------------------------------------------------- copy on read */

static void test_copy_on_read(void)
{
    RamConfig cfg = { .length = LEN, .cluster = 4096 };
    BlockDriverState *base = ram_node("base", 0, &cfg);
    BlockDriverState *top = ram_overlay("top", RW, &cfg, base);
    BlockBackend *blk = ram_backend(top);
    RamState *s = ram_state(top);
    g_autofree uint8_t *buf = g_malloc(LEN);

    fill(ram_state(base)->data, LEN, 3);
    memset(ram_state(base)->data + 65536, 0, 4096);

    /* A byte of a cluster brings the whole cluster. */
    g_assert_cmpint(blk_pread(blk, 5000, 10, buf, BDRV_REQ_COPY_ON_READ), ==,
                    0);
    g_assert_cmpmem(buf, 10, ram_state(base)->data + 5000, 10);
    g_assert_true(s->allocated[1] && !s->allocated[0] && !s->allocated[2]);
    g_assert_cmpuint(s->writes, ==, 1);
    /* Once is enough. */
    g_assert_cmpint(blk_pread(blk, 4096, 4096, buf, BDRV_REQ_COPY_ON_READ),
                    ==, 0);
    g_assert_cmpuint(s->writes, ==, 1);
    /* A range in which clusters are there and are not. */
    g_assert_cmpint(blk_pread(blk, 0, 12288, buf, BDRV_REQ_COPY_ON_READ), ==,
                    0);
    g_assert_cmpmem(buf, 12288, ram_state(base)->data, 12288);
    g_assert_cmpuint(s->writes, ==, 3);
    /* Zeroes are stored as zeroes. */
    g_assert_cmpint(blk_pread(blk, 65536, 1, buf, BDRV_REQ_COPY_ON_READ), ==,
                    0);
    g_assert_cmpuint(s->zeroes, ==, 1);
    g_assert_cmpuint(s->writes, ==, 3);
    /* Only the side effect is wanted. */
    g_assert_cmpint(blk_preadv(blk, 131072, 8192, NULL,
                               BDRV_REQ_COPY_ON_READ | BDRV_REQ_PREFETCH), ==,
                    0);
    g_assert_true(s->allocated[32] && s->allocated[33]);
    g_assert_cmpmem(s->data + 131072, 8192,
                    ram_state(base)->data + 131072, 8192);
    /* What cannot be stored is an error. */
    ram_fail(top, RAM_WRITE, -ENOSPC);
    g_assert_cmpint(blk_pread(blk, 200000, 1, buf, BDRV_REQ_COPY_ON_READ), ==,
                    -ENOSPC);
    /* A plain read stores nothing. */
    g_assert_cmpint(blk_pread(blk, 0, LEN, buf, 0), ==, 0);
    g_assert_cmpmem(buf, LEN, ram_state(base)->data, LEN);
    g_assert_false(s->allocated[200]);
    blk_unref(blk);
    bdrv_unref(top);
    bdrv_unref(base);
}

/* A write that comes while a cluster is being copied is not undone by it. */
static void test_copy_on_read_write(void)
{
    RamConfig cfg = { .length = LEN, .cluster = 4096 };
    BlockDriverState *base = ram_node("base", 0, &cfg);
    BlockDriverState *top = ram_overlay("top", RW, &cfg, base);
    BlockBackend *blk = ram_backend(top);
    uint8_t in[1], out[512];
    QEMUIOVector qin = QEMU_IOVEC_INIT_BUF(qin, in, 1);
    QEMUIOVector qout = QEMU_IOVEC_INIT_BUF(qout, out, 512);
    RamAio aio[2] = { 0 };

    memset(ram_state(base)->data, 0xaa, LEN);
    memset(out, 0x55, sizeof(out));
    ram_hold(base, RAM_READ);
    blk_aio_preadv(blk, 0, &qin, BDRV_REQ_COPY_ON_READ, ram_aio_cb, &aio[0]);
    ram_wait_held(base, 1);
    blk_aio_pwritev(blk, 512, &qout, 0, ram_aio_cb, &aio[1]);
    ram_settle();
    g_assert_cmpuint(ram_state(top)->writes, ==, 0);
    ram_release(base);
    g_assert_cmpint(ram_aio_wait(&aio[0]), ==, 0);
    g_assert_cmpint(ram_aio_wait(&aio[1]), ==, 0);
    g_assert_cmphex(in[0], ==, 0xaa);
    g_assert_cmphex(ram_state(top)->data[511], ==, 0xaa);
    g_assert_cmphex(ram_state(top)->data[512], ==, 0x55);
    g_assert_cmphex(ram_state(top)->data[1024], ==, 0xaa);
    blk_unref(blk);
    bdrv_unref(top);
    bdrv_unref(base);
}

/* --------------------------------------------------- truncate, copy range */

static unsigned resized;

static void count_resize(BdrvChild *child)
{
    resized++;
}

static char *watcher_desc(BdrvChild *child)
{
    return g_strdup("a watcher");
}

static const BdrvChildClass watcher_class = {
    .get_parent_desc = watcher_desc,
    .resize = count_resize,
};

static void test_truncate(void)
{
    RamConfig cfg = { .length = 65536, .cluster = 4096 };
    RamConfig long_cfg = { .length = 131072, .cluster = 4096 };
    BlockDriverState *base = ram_node("base", 0, &long_cfg);
    BlockDriverState *top = ram_overlay("top", RW, &cfg, base);
    BdrvChild *watcher;
    BlockBackend *blk = blk_new_with_bs(top, RAM_PERM | BLK_PERM_RESIZE,
                                        BLK_PERM_ALL, &error_abort);
    Error *err = NULL;
    uint8_t buf[4096];

    watcher = bdrv_root_attach_child(bdrv_ref(top), "watch", &watcher_class,
                                     BDRV_CHILD_FILTERED, 0, BLK_PERM_ALL,
                                     NULL, &error_abort);
    memset(ram_state(base)->data, 0xaa, 131072);
    g_assert_cmpint(blk_truncate(blk, -1, false, PREALLOC_MODE_OFF, 0, &err),
                    ==, -EINVAL);
    error_free_or_abort(&err);
    g_assert_cmpint(blk_truncate(blk, INT64_MAX, false, PREALLOC_MODE_OFF, 0,
                                 &err), ==, -EFBIG);
    error_free_or_abort(&err);
    g_assert_cmpint(blk_truncate(blk, 1LL << 40, false, PREALLOC_MODE_OFF, 0,
                                 &err), ==, -ENOSPC);
    error_free_or_abort(&err);
    g_assert_cmpint(blk_getlength(blk), ==, 65536);
    g_assert_cmpuint(resized, ==, 0);

    /* The longer backing file does not come back in the new part. */
    g_assert_cmpint(blk_truncate(blk, 131072, false, PREALLOC_MODE_OFF, 0,
                                 &error_abort), ==, 0);
    g_assert_cmpint(blk_getlength(blk), ==, 131072);
    g_assert_cmpuint(resized, ==, 1);
    g_assert_cmpint(blk_pread(blk, 65536, 4096, buf, 0), ==, 0);
    g_assert_true(buf[0] == 0 && buf[4095] == 0);
    g_assert_cmpint(blk_pread(blk, 65535, 1, buf, 0), ==, 0);
    g_assert_cmphex(buf[0], ==, 0xaa);

    g_assert_cmpint(blk_truncate(blk, 1000, true, PREALLOC_MODE_OFF, 0,
                                 &error_abort), ==, 0);
    g_assert_cmpint(ram_state(top)->length, ==, 1000);
    g_assert_cmpint(blk_pread(blk, 1023, 1, buf, 0), ==, 0);
    g_assert_cmpint(blk_pread(blk, 1023, 2, buf, 0), ==, -EIO);
    g_assert_cmpuint(resized, ==, 2);
    bdrv_root_unref_child(watcher);
    blk_unref(blk);
    bdrv_unref(top);
    bdrv_unref(base);
}

typedef struct CopyRange {
    BlockBackend *in, *out;
    int64_t off_in, off_out, bytes;
    int ret;
    bool done;
} CopyRange;

static void coroutine_fn copy_range_run(void *opaque)
{
    CopyRange *c = opaque;

    c->ret = blk_co_copy_range(c->in, c->off_in, c->out, c->off_out, c->bytes,
                               0, 0);
    c->done = true;
}

static int copy_range(BlockBackend *in, int64_t off_in, BlockBackend *out,
                      int64_t off_out, int64_t bytes)
{
    CopyRange c = { in, out, off_in, off_out, bytes, 0, false };

    qemu_coroutine_enter(qemu_coroutine_create(copy_range_run, &c));
    while (!c.done) {
        aio_poll(qemu_get_aio_context(), true);
    }
    return c.ret;
}

static void test_copy_range(void)
{
    RamConfig cfg = { .length = 65536, .bl.request_alignment = 512 };
    BlockDriverState *a = ram_node("a", 0, &cfg), *b = ram_node("b", RW, &cfg);
    BlockDriverState *f = ram_filter("f", RW, b);
    BlockBackend *in = blk_new_with_bs(a, BLK_PERM_CONSISTENT_READ,
                                       BLK_PERM_ALL, &error_abort);
    BlockBackend *out = ram_backend(b), *other = ram_backend(f);

    fill(ram_state(a)->data, 65536, 7);
    g_assert_cmpint(copy_range(in, 512, out, 1024, 4096), ==, 0);
    g_assert_cmpmem(ram_state(a)->data + 512, 4096,
                    ram_state(b)->data + 1024, 4096);
    g_assert_cmpint(copy_range(in, 0, out, 65536 - 512, 1024), ==, -EIO);
    g_assert_cmpint(copy_range(in, 65536 - 512, out, 0, 1024), ==, -EIO);
    g_assert_cmpint(copy_range(in, 100, out, 0, 512), ==, -ENOTSUP);
    g_assert_cmpint(copy_range(in, 0, other, 0, 512), ==, -ENOTSUP);
    g_assert_cmpint(copy_range(out, 0, in, 0, 512), ==, -EPERM);
    blk_unref(other);
    blk_unref(out);
    blk_unref(in);
    bdrv_unref(f);
    bdrv_unref(b);
    bdrv_unref(a);
}

/* --------------------------------------------------------- write threshold */

static uint64_t threshold_exceeded, threshold_was;
static unsigned threshold_reports;

static void on_threshold(BlockDriverState *bs, uint64_t amount_exceeded,
                         uint64_t threshold)
{
    threshold_exceeded = amount_exceeded;
    threshold_was = threshold;
    threshold_reports++;
}

static void test_write_threshold(void)
{
    RamConfig cfg = { .length = LEN };
    BlockDriverState *bs = ram_node("threshold", RW, &cfg);
    BlockBackend *blk = ram_backend(bs);
    uint8_t buf[512] = { 0 };

    bdrv_write_threshold_set_handler(on_threshold);
    bdrv_write_threshold_set(bs, 8192);
    g_assert_cmpuint(bdrv_write_threshold_get(bs), ==, 8192);
    g_assert_cmpint(blk_pwrite(blk, 8192 - 512, 512, buf, 0), ==, 0);
    g_assert_cmpint(blk_pread(blk, 16384, 512, buf, 0), ==, 0);
    g_assert_cmpuint(threshold_reports, ==, 0);
    g_assert_cmpint(blk_pwrite(blk, 8000, 512, buf, 0), ==, 0);
    g_assert_cmpuint(threshold_reports, ==, 1);
    g_assert_cmpuint(threshold_exceeded, ==, 8000 + 512 - 8192);
    g_assert_cmpuint(threshold_was, ==, 8192);
    g_assert_cmpuint(bdrv_write_threshold_get(bs), ==, 0);
    g_assert_cmpint(blk_pwrite_zeroes(blk, 100000, 512, 0), ==, 0);
    g_assert_cmpuint(threshold_reports, ==, 1);
    bdrv_write_threshold_set_handler(NULL);
    blk_unref(blk);
    bdrv_unref(bs);
}

int main(int argc, char **argv)
{
    ram_test_init(&argc, &argv);
    g_test_add_func("/block-io/model", test_model);
    g_test_add_func("/block-io/no-allocation", test_no_allocation);
    g_test_add_func("/block-io/bounds", test_bounds);
    g_test_add_func("/block-io/read-beyond-end", test_read_beyond_end);
    g_test_add_func("/block-io/read-only", test_read_only);
    g_test_add_func("/block-io/fua", test_fua);
    g_test_add_func("/block-io/flush-coalescing", test_flush_coalescing);
    g_test_add_func("/block-io/no-flush", test_no_flush);
    g_test_add_func("/block-io/zeroes", test_zeroes);
    g_test_add_func("/block-io/zeroes-unmap", test_zeroes_unmap);
    g_test_add_func("/block-io/detect-zeroes", test_detect_zeroes);
    g_test_add_func("/block-io/discard", test_discard);
    g_test_add_func("/block-io/rmw-serialises", test_rmw_serialises);
    g_test_add_func("/block-io/zero-rmw-serialises", test_zero_rmw_serialises);
    g_test_add_func("/block-io/aligned-do-not-wait", test_aligned_do_not_wait);
    g_test_add_func("/block-io/serialising-flag", test_serialising_flag);
    g_test_add_func("/block-io/rmw-threads", test_rmw_threads);
    g_test_add_func("/block-io/copy-on-read", test_copy_on_read);
    g_test_add_func("/block-io/copy-on-read-write", test_copy_on_read_write);
    g_test_add_func("/block-io/truncate", test_truncate);
    g_test_add_func("/block-io/copy-range", test_copy_range);
    g_test_add_func("/block-io/write-threshold", test_write_threshold);
    return g_test_run();
}
