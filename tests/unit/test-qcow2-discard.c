/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Discards, zero writes, and what the clusters are afterwards; the order
 * between them and writes; resize; reopen.
 */
#include "util/osdep.h"
#include "qcow2-fixture.h"
#include "qobject/qdict.h"
#include "util/aio.h"
#include "util/bswap.h"

#define CLUSTER 4096
#define DISK (256 * 1024)

static const TestGeometry v3 = { 3, 12, 4, DISK, false };
static const TestGeometry v2 = { 2, 12, 4, DISK, false };

typedef struct Image {
    RamDisk *disk;
    BlockBackend *blk;
} Image;

static Image image_new(const TestGeometry *g, const char *options)
{
    Image i = { .disk = ram_disk_new(4 * 1024 * 1024) };

    ram_disk_format(i.disk, g);
    i.blk = ram_disk_open(i.disk, BDRV_O_RDWR | BDRV_O_UNMAP, options, NULL);
    return i;
}

/* Closes; nothing may have leaked. */
static void image_end(Image *i)
{
    BdrvCheckResult res;

    blk_unref(i->blk);
    i->disk->fail_after = -1;
    i->blk = ram_disk_open(i->disk, 0, NULL, NULL);
    assert_consistent(i->blk, &res);
    g_assert_cmpint(res.leaks, ==, 0);
    blk_unref(i->blk);
    ram_disk_free(i->disk);
}

static void write_pattern(Image *i, int64_t offset, int64_t bytes, uint8_t v)
{
    g_autofree uint8_t *buf = g_malloc(bytes);

    memset(buf, v, bytes);
    g_assert_cmpint(blk_pwrite(i->blk, offset, bytes, buf, 0), ==, 0);
}

static void assert_pattern(Image *i, int64_t offset, int64_t bytes, uint8_t v)
{
    g_autofree uint8_t *buf = g_malloc(bytes);

    g_assert_cmpint(blk_pread(i->blk, offset, bytes, buf, 0), ==, 0);
    for (int64_t n = 0; n < bytes; n++) {
        g_assert_cmpint(buf[n], ==, v);
    }
}

/* The raw L2 entry of guest cluster @index, as the caches have it. */
static struct {
    int index;
    uint64_t entry;
    uint64_t refcount;
} looked_up;

static void coroutine_fn look_up(BlockDriverState *bs)
{
    BDRVQcow2State *s = bs->opaque;
    uint64_t n = 1, host;
    QCow2ClusterType type;

    g_assert_cmpint(qcow2_get_host_offset(bs, (uint64_t)looked_up.index *
                                              CLUSTER, &n, &host, &type,
                                          &looked_up.entry), ==, 0);
    looked_up.refcount = 0;
    if (host) {
        g_assert_cmpint(qcow2_get_refcount(bs, host >> s->cluster_bits,
                                           &looked_up.refcount), ==, 0);
    }
}

static uint64_t entry_of(Image *i, int index)
{
    looked_up.index = index;
    run_locked(i->blk, look_up);
    return looked_up.entry;
}

/* --- what clusters become --- */

static void test_discard_v3(void)
{
    Image i = image_new(&v3, NULL);

    write_pattern(&i, 0, 4 * CLUSTER, 1);
    g_assert_cmpint(blk_pdiscard(i.blk, CLUSTER, CLUSTER), ==, 0);
    g_assert_cmphex(entry_of(&i, 1), ==, QCOW_OFLAG_ZERO);
    g_assert_cmphex(entry_of(&i, 0) & QCOW_OFLAG_COPIED, !=, 0);
    /* What was never there stays unallocated. */
    g_assert_cmpint(blk_pdiscard(i.blk, 8 * CLUSTER, CLUSTER), ==, 0);
    g_assert_cmphex(entry_of(&i, 8), ==, 0);
    /* Parts of clusters stay. */
    g_assert_cmpint(blk_pdiscard(i.blk, 2 * CLUSTER + 512, CLUSTER), ==, 0);
    assert_pattern(&i, 2 * CLUSTER, 2 * CLUSTER, 1);
    assert_pattern(&i, CLUSTER, CLUSTER, 0);
    image_end(&i);
}

static void test_discard_v2(void)
{
    Image i = image_new(&v2, NULL);

    write_pattern(&i, 0, 2 * CLUSTER, 1);
    g_assert_cmpint(blk_pdiscard(i.blk, 0, CLUSTER), ==, 0);
    g_assert_cmphex(entry_of(&i, 0), ==, 0);
    assert_pattern(&i, 0, CLUSTER, 0);
    assert_pattern(&i, CLUSTER, CLUSTER, 1);
    image_end(&i);
}

/* The mapping stays, the guest reads zeroes, the file is told. */
static void test_discard_no_unref(void)
{
    Image i = image_new(&v3, "'discard-no-unref': true");
    uint64_t before;
    int discards;

    write_pattern(&i, 0, 2 * CLUSTER, 1);
    before = entry_of(&i, 0);
    discards = i.disk->discards;
    g_assert_cmpint(blk_pdiscard(i.blk, 0, 2 * CLUSTER), ==, 0);
    g_assert_cmphex(entry_of(&i, 0), ==, before | QCOW_OFLAG_ZERO);
    g_assert_cmpint(looked_up.refcount, ==, 1);
    g_assert_cmpint(i.disk->discards, ==, discards + 1);
    assert_pattern(&i, 0, 2 * CLUSTER, 0);
    /* Written again, it is in its old place. */
    write_pattern(&i, 512, 512, 2);
    g_assert_cmphex(entry_of(&i, 0), ==, before);
    assert_pattern(&i, 512, 512, 2);
    assert_pattern(&i, 0, 512, 0);
    assert_pattern(&i, 1024, CLUSTER, 0);
    image_end(&i);
}

/* Which frees reach the file: only those asked for, and never early. */
static void test_pass_discard(void)
{
    static const struct {
        const char *options;
        int request, other;
    } cases[] = {
        { NULL, 1, 0 },
        { "'pass-discard-request': false", 0, 0 },
        { "'pass-discard-other': true", 1, 1 },
    };

    for (int c = 0; c < ARRAY_SIZE(cases); c++) {
        Image i = image_new(&v3, cases[c].options);
        g_autofree uint8_t *buf = g_malloc0(CLUSTER);

        write_pattern(&i, 0, CLUSTER, 1);
        g_assert_cmpint(blk_pwrite_compressed(i.blk, CLUSTER, CLUSTER, buf),
                        ==, 0);
        g_assert_cmpint(blk_pdiscard(i.blk, 0, CLUSTER), ==, 0);
        g_assert_cmpint(i.disk->discards, ==, 0);
        g_assert_cmpint(blk_flush(i.blk), ==, 0);
        g_assert_cmpint(i.disk->discards, ==, cases[c].request);
        /* A compressed cluster that is replaced. */
        write_pattern(&i, CLUSTER, CLUSTER, 2);
        g_assert_cmpint(blk_flush(i.blk), ==, 0);
        g_assert_cmpint(i.disk->discards, ==,
                        cases[c].request + cases[c].other);
        image_end(&i);
    }
}

static void test_write_zeroes(void)
{
    Image i = image_new(&v3, NULL);
    uint64_t before;

    write_pattern(&i, 0, 4 * CLUSTER, 1);
    before = entry_of(&i, 0);
    g_assert_cmpint(blk_pwrite_zeroes(i.blk, 0, CLUSTER, 0), ==, 0);
    g_assert_cmphex(entry_of(&i, 0), ==, before | QCOW_OFLAG_ZERO);
    g_assert_cmpint(blk_pwrite_zeroes(i.blk, CLUSTER, CLUSTER,
                                      BDRV_REQ_MAY_UNMAP), ==, 0);
    g_assert_cmphex(entry_of(&i, 1), ==, QCOW_OFLAG_ZERO);
    /* Half a cluster of data is written; half of a zero one is not. */
    g_assert_cmpint(blk_pwrite_zeroes(i.blk, 2 * CLUSTER, 512, 0), ==, 0);
    g_assert_cmphex(entry_of(&i, 2) & QCOW_OFLAG_ZERO, ==, 0);
    g_assert_cmpint(blk_pwrite_zeroes(i.blk, 9 * CLUSTER + 512, 512,
                                      BDRV_REQ_NO_FALLBACK), ==, 0);
    g_assert_cmphex(entry_of(&i, 9), ==, QCOW_OFLAG_ZERO);
    g_assert_cmpint(blk_pwrite_zeroes(i.blk, 3 * CLUSTER, 512,
                                      BDRV_REQ_NO_FALLBACK), ==, -ENOTSUP);
    assert_pattern(&i, 0, 2 * CLUSTER + 512, 0);
    assert_pattern(&i, 2 * CLUSTER + 512, 2 * CLUSTER - 512, 1);
    image_end(&i);
}

static void test_write_zeroes_v2(void)
{
    Image i = image_new(&v2, NULL);

    write_pattern(&i, 0, 2 * CLUSTER, 1);
    g_assert_cmpint(blk_pwrite_zeroes(i.blk, 0, CLUSTER, 0), ==, 0);
    g_assert_cmphex(entry_of(&i, 0), ==, 0);
    assert_pattern(&i, 0, CLUSTER, 0);
    assert_pattern(&i, CLUSTER, CLUSTER, 1);
    image_end(&i);
}

/* --- status --- */

static void assert_status(Image *i, int64_t offset, int64_t bytes, int bits,
                          int64_t expect_bytes)
{
    int64_t pnum, map;
    BlockDriverState *file;
    int ret = bdrv_block_status(blk_bs(i->blk), offset, bytes, &pnum, &map,
                                &file);

    g_assert_cmpint(ret, >=, 0);
    g_assert_cmphex(ret & (BDRV_BLOCK_DATA | BDRV_BLOCK_ZERO |
                           BDRV_BLOCK_ALLOCATED | BDRV_BLOCK_OFFSET_VALID |
                           BDRV_BLOCK_COMPRESSED), ==, bits);
    g_assert_cmpint(pnum, ==, expect_bytes);
}

static void test_status(void)
{
    Image i = image_new(&v3, NULL);
    g_autofree uint8_t *buf = g_malloc0(CLUSTER);

    write_pattern(&i, 0, 3 * CLUSTER, 1);
    g_assert_cmpint(blk_pwrite_zeroes(i.blk, 3 * CLUSTER, 2 * CLUSTER, 0), ==,
                    0);
    g_assert_cmpint(blk_pwrite_zeroes(i.blk, 2 * CLUSTER, CLUSTER, 0), ==, 0);
    g_assert_cmpint(blk_pwrite_compressed(i.blk, 6 * CLUSTER, CLUSTER, buf),
                    ==, 0);
    assert_status(&i, 512, DISK - 512, BDRV_BLOCK_DATA |
                  BDRV_BLOCK_ALLOCATED | BDRV_BLOCK_OFFSET_VALID,
                  2 * CLUSTER - 512);
    assert_status(&i, 2 * CLUSTER, CLUSTER, BDRV_BLOCK_ZERO |
                  BDRV_BLOCK_ALLOCATED | BDRV_BLOCK_OFFSET_VALID, CLUSTER);
    assert_status(&i, 3 * CLUSTER, DISK - 3 * CLUSTER, BDRV_BLOCK_ZERO |
                  BDRV_BLOCK_ALLOCATED, 2 * CLUSTER);
    assert_status(&i, 6 * CLUSTER, CLUSTER, BDRV_BLOCK_DATA |
                  BDRV_BLOCK_ALLOCATED | BDRV_BLOCK_COMPRESSED, CLUSTER);
    assert_status(&i, 7 * CLUSTER, DISK - 7 * CLUSTER, BDRV_BLOCK_ZERO,
                  DISK - 7 * CLUSTER);
    image_end(&i);
}

/* --- write against discard on one cluster --- */

enum { FLUSH = 1000, OTHERS, READ };

typedef struct Racer {
    Image *i;
    int op;
    uint8_t value;
    int *running;
} Racer;

static void coroutine_fn racer_entry(void *opaque)
{
    Racer *r = opaque;
    g_autofree uint8_t *others = NULL;
    uint8_t buf[512];
    int ret;

    switch (r->op) {
    case FLUSH:
        ret = blk_co_flush(r->i->blk);
        break;
    case READ:
        ret = blk_co_pread(r->i->blk, r->value % 16 * 512, 512, buf, 0);
        for (int n = 0; n < 512; n++) {
            g_assert_cmpint(buf[n], ==, buf[0]);
        }
        g_assert_cmpint(buf[0], !=, 100);
        break;
    case OTHERS:
        /* After the flush, these may get what a discard has freed. */
        ret = blk_co_flush(r->i->blk);
        g_assert_cmpint(ret, ==, 0);
        others = g_malloc(CLUSTER);
        memset(others, 100, CLUSTER);
        for (int n = 0; n < 6 && ret == 0; n++) {
            ret = blk_co_pwrite(r->i->blk, (2 + n * 5 % 6) * CLUSTER, CLUSTER,
                                others, 0);
        }
        break;
    case 0:
        ret = blk_co_pdiscard(r->i->blk, 0, 2 * CLUSTER);
        break;
    case 1:
        ret = blk_co_pwrite_zeroes(r->i->blk, 0, CLUSTER, 0);
        break;
    case 2:
        ret = blk_co_pwrite_zeroes(r->i->blk, CLUSTER, CLUSTER,
                                   BDRV_REQ_MAY_UNMAP);
        break;
    default:
        memset(buf, r->value, sizeof(buf));
        ret = blk_co_pwrite(r->i->blk, (r->op - 3) * 512, 512, buf, 0);
        break;
    }
    g_assert_cmpint(ret, ==, 0);
    --*r->running;
}

/*
 * Whatever comes first, a sector reads as one of the values that were written
 * or zero, all of it, and no request touches a cluster after another has freed
 * it: four other clusters, which may get it, keep their content.
 */
static void race(const char *options)
{
    Image i = image_new(&v3, options);
    int rounds = g_test_slow() ? 5000 : 400;

    i.disk->delays = true;
    for (int round = 0; round < rounds; round++) {
        Racer racers[14];
        int running = ARRAY_SIZE(racers);
        uint8_t buf[512];

        g_assert_cmpint(blk_pdiscard(i.blk, 2 * CLUSTER, 6 * CLUSTER), ==, 0);
        write_pattern(&i, 0, 2 * CLUSTER, 200);
        if (round % 2) {
            /* They keep an allocation that reads as zeroes. */
            g_assert_cmpint(blk_pwrite_zeroes(i.blk, 0, 2 * CLUSTER, 0), ==,
                            0);
        }
        for (int j = 0; j < ARRAY_SIZE(racers); j++) {
            bool write = g_test_rand_int_range(0, 3);
            int op = write ? g_test_rand_int_range(3, 3 + 2 * CLUSTER / 512)
                           : g_test_rand_int_range(0, 3);

            if (write && g_test_rand_int_range(0, 3) == 0) {
                op = READ;
            }
            racers[j] = (Racer) { &i, op, j + 1, &running };
            if (j == 6 || j == 10) {
                racers[j].op = j == 6 ? OTHERS : FLUSH;
            }
            qemu_coroutine_enter(qemu_coroutine_create(racer_entry,
                                                       &racers[j]));
        }
        while (running) {
            aio_poll(qemu_get_aio_context(), true);
        }
        for (int s = 0; s < 2 * CLUSTER / 512; s++) {
            g_assert_cmpint(blk_pread(i.blk, s * 512, 512, buf, 0), ==, 0);
            for (int b = 1; b < 512; b++) {
                g_assert_cmpint(buf[b], ==, buf[0]);
            }
            g_assert_cmpint(buf[0], !=, 100);
        }
        assert_pattern(&i, 2 * CLUSTER, 6 * CLUSTER, 100);
        if (round % 8 == 0) {
            g_assert_cmpint(blk_flush(i.blk), ==, 0);
            assert_consistent(i.blk, NULL);
        }
    }
    image_end(&i);
}

static void test_race(void)
{
    race("'pass-discard-request': true");
}

static void test_race_keep(void)
{
    race("'discard-no-unref': true");
}

/* --- size --- */

static void test_resize(void)
{
    Image i = image_new(&v3, NULL);
    Error *err = NULL;
    int64_t file_size;

    write_pattern(&i, 0, DISK, 1);
    file_size = i.disk->size;
    g_assert_cmpint(blk_truncate(i.blk, 5 * CLUSTER + 512, true,
                                 PREALLOC_MODE_OFF, 0, &error_abort), ==, 0);
    g_assert_cmpint(blk_getlength(i.blk), ==, 5 * CLUSTER + 512);
    g_assert_cmpint(i.disk->size, <, file_size);
    /* The end of the last cluster does not come back. */
    g_assert_cmpint(blk_truncate(i.blk, DISK, true, PREALLOC_MODE_OFF, 0,
                                 &error_abort), ==, 0);
    assert_pattern(&i, 0, 5 * CLUSTER + 512, 1);
    assert_pattern(&i, 5 * CLUSTER + 512, DISK - 5 * CLUSTER - 512, 0);
    /* More than one L1 entry: 512 clusters each. */
    g_assert_cmpint(blk_truncate(i.blk, 16 * DISK * 2, true,
                                 PREALLOC_MODE_OFF, 0, &error_abort), ==, 0);
    write_pattern(&i, 15 * DISK * 2, CLUSTER, 3);
    assert_pattern(&i, 15 * DISK * 2, CLUSTER, 3);
    g_assert_cmpint(blk_truncate(i.blk, 1000, true, PREALLOC_MODE_OFF, 0,
                                 &err), ==, -EINVAL);
    g_assert_cmpstr(error_get_pretty(err), ==,
                    "The new size must be a multiple of 512");
    error_free(err);
    image_end(&i);
}

static void test_preallocate(void)
{
    Image i = image_new(&v3, NULL);
    int64_t pnum;

    write_pattern(&i, 0, 16 * CLUSTER, 1);
    g_assert_cmpint(blk_pdiscard(i.blk, 0, 8 * CLUSTER), ==, 0);
    g_assert_cmpint(blk_flush(i.blk), ==, 0);
    g_assert_cmpint(blk_truncate(i.blk, 2 * DISK, true,
                                 PREALLOC_MODE_METADATA, 0, &error_abort), ==,
                    0);
    /* Mapped, partly to clusters that held data: all of it reads zero. */
    for (int64_t offset = DISK; offset < 2 * DISK; offset += pnum) {
        int ret = bdrv_block_status(blk_bs(i.blk), offset, 2 * DISK - offset,
                                    &pnum, NULL, NULL);

        g_assert_cmphex(ret & BDRV_BLOCK_ALLOCATED, !=, 0);
    }
    assert_pattern(&i, DISK, DISK, 0);
    image_end(&i);
}

/* --- reopen --- */

static void test_reopen_read_only(void)
{
    static const TestGeometry lazy = { 3, 12, 4, DISK, true };
    Image i = image_new(&lazy, NULL);
    BlockDriverState *bs = blk_bs(i.blk);
    int writes;

    write_pattern(&i, 0, CLUSTER, 1);
    g_assert_cmphex(ldq_be_p(i.disk->data + 72), ==, QCOW2_INCOMPAT_DIRTY);
    blk_set_perm(i.blk, BLK_PERM_CONSISTENT_READ, BLK_PERM_ALL, &error_abort);
    g_assert_cmpint(bdrv_reopen_set_read_only(bs, true, &error_abort), ==, 0);
    g_assert_cmphex(ldq_be_p(i.disk->data + 72), ==, 0);
    writes = i.disk->writes;
    assert_pattern(&i, 0, CLUSTER, 1);
    g_assert_cmpint(bdrv_reopen_set_read_only(bs, false, &error_abort), ==, 0);
    g_assert_cmpint(i.disk->writes, ==, writes);
    blk_set_perm(i.blk, BLK_PERM_ALL, BLK_PERM_ALL, &error_abort);
    write_pattern(&i, CLUSTER, CLUSTER, 2);
    assert_pattern(&i, 0, CLUSTER, 1);
    image_end(&i);
}

static void test_reopen_options(void)
{
    Image i = image_new(&v3, NULL);
    BlockDriverState *bs = blk_bs(i.blk);
    BDRVQcow2State *s = bs->opaque;
    QDict *options = qdict_new();
    Error *err = NULL;

    write_pattern(&i, 0, 8 * CLUSTER, 1);
    qdict_put_str(options, "l2-cache-size", "8192");
    qdict_put_str(options, "l2-cache-entry-size", "512");
    qdict_put_str(options, "discard-no-unref", "on");
    g_assert_cmpint(bdrv_reopen(bs, options, true, &error_abort), ==, 0);
    g_assert_cmpint(s->l2_slice_size, ==, 64);
    g_assert_true(s->discard_no_unref);
    assert_pattern(&i, 0, 8 * CLUSTER, 1);
    write_pattern(&i, 100 * 512, CLUSTER, 2);

    /* Refused as a whole: everything is as before. */
    options = qdict_new();
    qdict_put_str(options, "discard-no-unref", "off");
    qdict_put_str(options, "l2-cache-entry-size", "1000");
    g_assert_cmpint(bdrv_reopen(bs, options, true, &err), <, 0);
    g_assert_nonnull(err);
    error_free(err);
    g_assert_true(s->discard_no_unref);
    g_assert_cmpint(s->l2_slice_size, ==, 64);
    write_pattern(&i, 0, CLUSTER, 3);
    image_end(&i);
}

int main(int argc, char **argv)
{
    qcow2_test_init(&argc, &argv);
    g_test_add_func("/qcow2/discard/v3", test_discard_v3);
    g_test_add_func("/qcow2/discard/v2", test_discard_v2);
    g_test_add_func("/qcow2/discard/no-unref", test_discard_no_unref);
    g_test_add_func("/qcow2/discard/pass", test_pass_discard);
    g_test_add_func("/qcow2/zero/v3", test_write_zeroes);
    g_test_add_func("/qcow2/zero/v2", test_write_zeroes_v2);
    g_test_add_func("/qcow2/status", test_status);
    g_test_add_func("/qcow2/race/free", test_race);
    g_test_add_func("/qcow2/race/keep", test_race_keep);
    g_test_add_func("/qcow2/resize", test_resize);
    g_test_add_func("/qcow2/preallocate", test_preallocate);
    g_test_add_func("/qcow2/reopen/read-only", test_reopen_read_only);
    g_test_add_func("/qcow2/reopen/options", test_reopen_options);
    return g_test_run();
}
