/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Extended L2 entries: the arithmetic of their bitmaps, compared with a bit by
 * bit reckoning; what a write costs; writes that race for one cluster.
 */
#include "util/osdep.h"
#include "qcow2-fixture.h"
#include "util/aio.h"

#define CLUSTER 65536
#define SUB (CLUSTER / 32)
#define DISK (16 * CLUSTER)
#define HOST (7ULL * CLUSTER)

/* Enough of a state for what looks at single entries. */
static const BDRVQcow2State extended = {
    .qcow_version = 3, .cluster_bits = 16, .cluster_size = CLUSTER,
    .extended_l2 = true, .subclusters_per_cluster = 32,
    .subcluster_bits = 11, .subcluster_size = SUB,
    .csize_shift = 54, .csize_mask = 255,
    .cluster_offset_mask = (1ULL << 54) - 1,
};
static const BDRVQcow2State normal = {
    .qcow_version = 3, .cluster_bits = 16, .cluster_size = CLUSTER,
    .subclusters_per_cluster = 1, .subcluster_bits = 16,
    .subcluster_size = CLUSTER,
    .csize_shift = 54, .csize_mask = 255,
    .cluster_offset_mask = (1ULL << 54) - 1,
};

/* --- arithmetic --- */

static bool bit(uint64_t bitmap, unsigned i)
{
    return bitmap & 1ULL << i;
}

/* Long runs and single bits, so that both ends of words are met. */
static uint64_t random_bitmap(void)
{
    uint64_t bitmap = 0;
    unsigned i = 0;

    while (i < 32) {
        unsigned n = g_random_boolean() ? 1 : g_random_int_range(1, 33);
        int kind = g_random_int_range(0, 3);

        for (; n && i < 32; n--, i++) {
            bitmap |= kind == 0 ? 0 : kind == 1 ? 1ULL << i : 1ULL << (32 + i);
        }
    }
    return bitmap;
}

static void test_mask(void)
{
    for (unsigned from = 0; from <= 32; from++) {
        for (unsigned to = from; to <= 32; to++) {
            uint64_t mask = qcow2_subcluster_mask(from, to);

            for (unsigned i = 0; i < 64; i++) {
                g_assert_cmpint(bit(mask, i), ==, i >= from && i < to);
            }
        }
    }
}

static void test_set(void)
{
    for (int round = 0; round < 2000; round++) {
        uint64_t old = random_bitmap();
        unsigned from = g_random_int_range(0, 32);
        unsigned to = g_random_int_range(from + 1, 33);
        uint64_t mask = qcow2_subcluster_mask(from, to);
        uint64_t data = qcow2_bitmap_set_data(old, mask);
        uint64_t zero = qcow2_bitmap_set_zero(old, mask);

        for (unsigned i = 0; i < 32; i++) {
            bool in = i >= from && i < to;

            g_assert_cmpint(bit(data, i), ==, in || bit(old, i));
            g_assert_cmpint(bit(data, 32 + i), ==, !in && bit(old, 32 + i));
            g_assert_cmpint(bit(zero, i), ==, !in && bit(old, i));
            g_assert_cmpint(bit(zero, 32 + i), ==, in || bit(old, 32 + i));
        }
        g_assert_true(qcow2_bitmap_is_valid(&extended, HOST, data));
        g_assert_true(qcow2_bitmap_is_valid(&extended, HOST, zero));
    }
}

static QCow2ClusterType reckon_type(bool host, uint64_t bitmap, unsigned i)
{
    if (bit(bitmap, i)) {
        return QCOW2_CLUSTER_NORMAL;
    }
    if (bit(bitmap, 32 + i)) {
        return host ? QCOW2_CLUSTER_ZERO_ALLOC : QCOW2_CLUSTER_ZERO_PLAIN;
    }
    return host ? QCOW2_CLUSTER_UNALLOCATED_ALLOC : QCOW2_CLUSTER_UNALLOCATED;
}

static void test_types_and_runs(void)
{
    for (int round = 0; round < 2000; round++) {
        bool host = g_random_boolean();
        uint64_t entry = host ? HOST | QCOW_OFLAG_COPIED : 0;
        uint64_t bitmap = random_bitmap();

        if (!host) {
            bitmap &= QCOW2_BITMAP_ALL_ZERO;
        }
        g_assert_true(qcow2_bitmap_is_valid(&extended, entry, bitmap));
        for (unsigned i = 0; i < 32; i++) {
            QCow2ClusterType type = reckon_type(host, bitmap, i);
            unsigned end = i + 1;

            while (end < 32 && reckon_type(host, bitmap, end) == type) {
                end++;
            }
            g_assert_cmpint(qcow2_get_subcluster_type(&extended, entry, bitmap,
                                                      i), ==, type);
            g_assert_cmpint(qcow2_subcluster_run(&extended, bitmap, i), ==,
                            end - i);
        }
    }
}

static void test_data_span(void)
{
    unsigned first, end;

    for (int round = 0; round < 2000; round++) {
        uint64_t bitmap = random_bitmap();
        unsigned lo = 32, hi = 0;

        for (unsigned i = 0; i < 32; i++) {
            if (bit(bitmap, i)) {
                lo = MIN(lo, i);
                hi = i + 1;
            }
        }
        g_assert_cmpint(qcow2_data_span(&extended, HOST, bitmap, &first, &end),
                        ==, hi > 0);
        if (hi) {
            g_assert_cmpint(first, ==, lo);
            g_assert_cmpint(end, ==, hi);
        }
    }
    g_assert_true(qcow2_data_span(&extended, QCOW_OFLAG_COMPRESSED, 0, &first,
                                  &end));
    g_assert_cmpint(end - first, ==, 32);
    g_assert_false(qcow2_data_span(&extended, 0, QCOW2_BITMAP_ALL_ZERO, &first,
                                   &end));
}

static void test_valid(void)
{
    static const struct {
        uint64_t entry, bitmap;
        bool valid;
    } cases[] = {
        { 0, 0, true },
        { 0, 1ULL << 63, true },
        { 0, 1, false },
        { 0, 1ULL << 31, false },
        { HOST, QCOW2_BITMAP_ALL_DATA, true },
        { HOST, QCOW2_BITMAP_ALL_ZERO, true },
        { HOST, 1 | 1ULL << 32, false },
        { HOST, 1ULL << 31 | 1ULL << 63, false },
        { HOST, 1ULL << 31 | 1ULL << 62, true },
        { QCOW_OFLAG_COMPRESSED | HOST, 0, true },
        { QCOW_OFLAG_COMPRESSED | HOST, 1, false },
        { QCOW_OFLAG_COMPRESSED | HOST, 1ULL << 40, false },
    };

    for (int i = 0; i < ARRAY_SIZE(cases); i++) {
        g_assert_cmpint(qcow2_bitmap_is_valid(&extended, cases[i].entry,
                                              cases[i].bitmap),
                        ==, cases[i].valid);
        /* What follows an entry there is the next one. */
        g_assert_true(qcow2_bitmap_is_valid(&normal, cases[i].entry,
                                            cases[i].bitmap));
    }
}

/* The zero flag of a descriptor means nothing if there are bitmaps. */
static void test_descriptor(void)
{
    uint64_t table[4] = { 0 };

    g_assert_cmpint(qcow2_get_cluster_type(&normal, QCOW_OFLAG_ZERO), ==,
                    QCOW2_CLUSTER_ZERO_PLAIN);
    g_assert_cmpint(qcow2_get_cluster_type(&extended, QCOW_OFLAG_ZERO), ==,
                    QCOW2_CLUSTER_UNALLOCATED);
    g_assert_cmpint(qcow2_get_cluster_type(&extended, HOST | QCOW_OFLAG_ZERO),
                    ==, QCOW2_CLUSTER_NORMAL);

    set_l2_entry(&extended, table, 1, 1);
    set_l2_bitmap(&extended, table, 1, 2);
    g_assert_cmphex(GUINT64_FROM_BE(table[2]), ==, 1);
    g_assert_cmphex(GUINT64_FROM_BE(table[3]), ==, 2);
    g_assert_cmphex(get_l2_bitmap(&extended, table, 1), ==, 2);
    g_assert_true(qcow2_l2_entry_is_empty(&extended, table, 0));
    g_assert_false(qcow2_l2_entry_is_empty(&extended, table, 1));
    set_l2_entry(&normal, table, 1, 3);
    set_l2_bitmap(&normal, table, 1, 4);
    g_assert_cmphex(GUINT64_FROM_BE(table[1]), ==, 3);
    g_assert_cmphex(get_l2_bitmap(&normal, table, 1), ==, 0);
}

/* --- images --- */

static const TestGeometry geometry = {
    .version = 3, .cluster_bits = 16, .refcount_order = 4, .size = DISK,
    .extended_l2 = true,
};

typedef struct Image {
    RamDisk *disk;
    BlockBackend *blk;
} Image;

static Image image_new(void)
{
    Image i = { .disk = ram_disk_new(64 * CLUSTER) };

    ram_disk_format(i.disk, &geometry);
    i.blk = ram_disk_open(i.disk, BDRV_O_RDWR | BDRV_O_UNMAP, NULL, NULL);
    return i;
}

static void image_end(Image *i)
{
    BdrvCheckResult res;

    blk_unref(i->blk);
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

/* Bitmap of guest cluster 0 and its entry, as the caches have them. */
static struct {
    uint64_t entry, bitmap;
} looked_up;

static void coroutine_fn look_up(BlockDriverState *bs)
{
    BDRVQcow2State *s = bs->opaque;
    uint64_t *slice;

    g_assert_cmpint(qcow2_l2_load_slice(bs, 0, s->l1.entries[0] &
                                               L1E_OFFSET_MASK, &slice),
                    ==, 0);
    looked_up.entry = get_l2_entry(s, slice, 0);
    looked_up.bitmap = get_l2_bitmap(s, slice, 0);
    qcow2_cache_put(s->l2_table_cache, (void **)&slice);
}

static uint64_t bitmap_of(Image *i)
{
    run_locked(i->blk, look_up);
    return looked_up.bitmap;
}

static void test_bits_follow_requests(void)
{
    Image i = image_new();
    uint64_t host;

    write_pattern(&i, 3 * SUB, SUB, 1);
    g_assert_cmphex(bitmap_of(&i), ==, 1 << 3);
    host = looked_up.entry;
    /* In place: the cluster has room for all of its subclusters. */
    write_pattern(&i, 5 * SUB + 512, SUB, 2);
    g_assert_cmphex(bitmap_of(&i), ==, 1 << 3 | 3 << 5);
    g_assert_cmphex(looked_up.entry, ==, host);
    g_assert_cmpint(blk_pwrite_zeroes(i.blk, 2 * SUB, 2 * SUB,
                                      BDRV_REQ_MAY_UNMAP), ==, 0);
    g_assert_cmphex(bitmap_of(&i), ==, 3 << 5 | 3ULL << 34);
    g_assert_cmphex(looked_up.entry, ==, host);
    write_pattern(&i, 2 * SUB, 512, 3);
    g_assert_cmphex(bitmap_of(&i), ==, 3 << 5 | 1 << 2 | 1ULL << 35);
    g_assert_cmphex(looked_up.entry, ==, host);
    /* Data and zeroes in pieces: with the last one nothing is left to keep. */
    g_assert_cmpint(blk_pwrite_zeroes(i.blk, 0, 31 * SUB, BDRV_REQ_MAY_UNMAP),
                    ==, 0);
    g_assert_cmphex(bitmap_of(&i), ==, 0x7fffffffULL << 32);
    g_assert_cmphex(looked_up.entry, ==, host);
    g_assert_cmpint(blk_pwrite_zeroes(i.blk, 31 * SUB, SUB,
                                      BDRV_REQ_MAY_UNMAP), ==, 0);
    g_assert_cmphex(bitmap_of(&i), ==, QCOW2_BITMAP_ALL_ZERO);
    g_assert_cmphex(looked_up.entry, ==, 0);
    write_pattern(&i, 0, SUB, 4);
    g_assert_cmphex(bitmap_of(&i), ==, 1 | 0xfffffffeULL << 32);
    host = looked_up.entry;
    /* The whole cluster. */
    g_assert_cmpint(blk_pwrite_zeroes(i.blk, 0, CLUSTER, 0), ==, 0);
    g_assert_cmphex(bitmap_of(&i), ==, QCOW2_BITMAP_ALL_ZERO);
    g_assert_cmphex(looked_up.entry, ==, host);
    g_assert_cmpint(blk_pdiscard(i.blk, 0, CLUSTER), ==, 0);
    g_assert_cmphex(bitmap_of(&i), ==, QCOW2_BITMAP_ALL_ZERO);
    g_assert_cmphex(looked_up.entry, ==, 0);
    image_end(&i);
}

/* One request to the file for adjoining subclusters of a kind. */
static void test_requests_are_merged(void)
{
    Image i = image_new();
    g_autofree uint8_t *buf = g_malloc(4 * CLUSTER);
    int before;

    write_pattern(&i, 0, 4 * CLUSTER, 1);
    before = i.disk->reads;
    g_assert_cmpint(blk_pread(i.blk, SUB, 3 * CLUSTER, buf, 0), ==, 0);
    g_assert_cmpint(i.disk->reads - before, ==, 1);
    before = i.disk->writes;
    write_pattern(&i, SUB, 3 * CLUSTER, 2);
    g_assert_cmpint(i.disk->writes - before, ==, 1);
    /* Ten holes of subclusters between data. */
    for (int sc = 0; sc < 20; sc += 2) {
        g_assert_cmpint(blk_pwrite_zeroes(i.blk, sc * SUB, SUB, 0), ==, 0);
    }
    before = i.disk->reads;
    g_assert_cmpint(blk_pread(i.blk, 0, CLUSTER, buf, 0), ==, 0);
    g_assert_cmpint(i.disk->reads - before, ==, 10);
    for (int b = 0; b < CLUSTER; b++) {
        g_assert_cmpint(buf[b], ==, b / SUB < 20 && b / SUB % 2 == 0 ? 0
                                    : b < SUB ? 1 : 2);
    }
    image_end(&i);
}

/* --- races --- */

typedef struct Writer {
    Image *i;
    unsigned sc;
    bool zero;
    int *running;
} Writer;

static void coroutine_fn writer_entry(void *opaque)
{
    Writer *w = opaque;
    uint8_t buf[SUB];
    int ret;

    memset(buf, w->sc + 1, SUB);
    ret = w->zero ? blk_co_pwrite_zeroes(w->i->blk, w->sc * SUB, SUB, 0)
                  : blk_co_pwrite(w->i->blk, w->sc * SUB, SUB, buf, 0);
    g_assert_cmpint(ret, ==, 0);
    --*w->running;
}

/*
 * All subclusters of one cluster are written at the same time: there is one host
 * cluster for them, and no bit is lost.
 */
static void race_for_cluster(bool allocated)
{
    Image i = image_new();
    Writer writers[32];
    uint8_t buf[CLUSTER];
    uint64_t expect = 0;
    int running = 32;

    i.disk->delays = true;
    if (allocated) {
        write_pattern(&i, 0, SUB, 99);
    }
    for (unsigned sc = 0; sc < 32; sc++) {
        writers[sc] = (Writer) { &i, sc, g_random_int_range(0, 4) == 0,
                                 &running };
        expect |= writers[sc].zero ? 1ULL << (32 + sc) : 1ULL << sc;
        qemu_coroutine_enter(qemu_coroutine_create(writer_entry,
                                                   &writers[sc]));
    }
    while (running) {
        aio_poll(qemu_get_aio_context(), true);
    }
    g_assert_cmphex(bitmap_of(&i), ==, expect);
    g_assert_cmpint(blk_pread(i.blk, 0, CLUSTER, buf, 0), ==, 0);
    for (int b = 0; b < CLUSTER; b++) {
        g_assert_cmpint(buf[b], ==,
                        writers[b / SUB].zero ? 0 : b / SUB + 1);
    }
    image_end(&i);
}

static void test_race(void)
{
    for (int round = 0; round < 20; round++) {
        race_for_cluster(round % 2);
    }
}

int main(int argc, char **argv)
{
    qcow2_test_init(&argc, &argv);
    g_test_add_func("/qcow2/subcluster/mask", test_mask);
    g_test_add_func("/qcow2/subcluster/set", test_set);
    g_test_add_func("/qcow2/subcluster/types", test_types_and_runs);
    g_test_add_func("/qcow2/subcluster/data-span", test_data_span);
    g_test_add_func("/qcow2/subcluster/valid", test_valid);
    g_test_add_func("/qcow2/subcluster/descriptor", test_descriptor);
    g_test_add_func("/qcow2/subcluster/bits", test_bits_follow_requests);
    g_test_add_func("/qcow2/subcluster/merged", test_requests_are_merged);
    g_test_add_func("/qcow2/subcluster/race", test_race);
    return g_test_run();
}
