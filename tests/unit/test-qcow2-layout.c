/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Sizes of images that do not exist yet, and what writes must stay away from.
 * The numbers of measure are those of the distribution's tool.
 */
#include "util/osdep.h"
#include "file-fixture.h"
#include "block/create.h"
#include "block/qcow2/layout.h"
#include "util/bswap.h"

/* --- measure ---------------------------------------------------------- */

typedef struct MeasureCase {
    const char *size;
    const char *cluster_size;
    const char *refcount_bits;
    const char *prealloc;
    int64_t required;
    int64_t full;
} MeasureCase;

static const MeasureCase measure_cases[] = {
    { "0", "64k", "16", "off", 196608, 196608 },
    { "0", "512", "16", "off", 1536, 1536 },
    { "512", "64k", "16", "off", 327680, 393216 },
    { "512", "512", "16", "off", 2560, 3072 },
    { "512", "2M", "64", "off", 10485760, 12582912 },
    { "512", "64k", "16", "full", 393216, 393216 },
    { "512", "64k", "16", "metadata", 327680, 393216 },
    { "1M", "64k", "16", "off", 327680, 1376256 },
    { "1M", "512", "16", "off", 22528, 1071104 },
    { "1G", "64k", "16", "off", 393216, 1074135040 },
    { "1G", "512", "16", "off", 21385216, 1095127040 },
    { "1G", "2M", "64", "falloc", 1084227584, 1084227584 },
    { "1T", "64k", "16", "off", 168034304, 1099679662080 },
    { "1T", "2M", "64", "off", 16777216, 1099528404992 },
    { "1T", "64k", "16", "full", 1099679662080, 1099679662080 },
};

static void test_measure_size(void)
{
    for (int i = 0; i < ARRAY_SIZE(measure_cases); i++) {
        const MeasureCase *m = &measure_cases[i];
        g_autoptr(QDict) options = qdict_new();
        g_autoptr(BlockMeasureInfo) info = NULL;

        qdict_put_str(options, "size", m->size);
        qdict_put_str(options, "cluster_size", m->cluster_size);
        qdict_put_str(options, "refcount_bits", m->refcount_bits);
        qdict_put_str(options, "preallocation", m->prealloc);
        info = qcow2_measure(options, NULL, &error_abort);
        g_assert_cmpint(info->required, ==, m->required);
        g_assert_cmpint(info->fully_allocated, ==, m->full);
        g_assert_false(info->has_bitmaps);
    }
}

static void test_measure_errors(void)
{
    static const struct {
        const char *name, *value, *text;
    } cases[] = {
        { "cluster_size", "100",
          "Cluster size must be a power of two between 512 and 2048k" },
        { "size", "7E", "The image size is too large (try using a larger "
                        "cluster size)" },
        { "data_file_raw", "on", "data-file-raw requires data-file" },
        { "data_file", "", "Data file name is empty" },
        { "data_file", "nbd://localhost", "Data file name 'nbd://localhost' "
                                          "must not have a protocol prefix" },
        { "backing_fmt", "raw", "Backing format cannot be used without "
                                "backing file" },
    };

    for (int i = 0; i < ARRAY_SIZE(cases); i++) {
        g_autoptr(QDict) options = qdict_new();
        Error *err = NULL;

        qdict_put_str(options, cases[i].name, cases[i].value);
        g_assert_null(qcow2_measure(options, NULL, &err));
        file_test_error(err, cases[i].text);
    }
}

#define QCOW2_JSON \
    "{'driver': 'qcow2', 'file': {'driver': 'file', 'filename': '%s'}}"

static char *make_image(const char *name, const char *size)
{
    char *path = file_test_make(name, 0);
    g_autoptr(QDict) options = qdict_new();

    qdict_put_str(options, "size", size);
    bdrv_create(&bdrv_qcow2, path, options, &error_abort);
    return path;
}

/* Data in whole clusters of the target counts, zeroes do not. */
static void test_measure_image(void)
{
    g_autofree char *path = make_image("measure", "16M");
    g_autoptr(BlockMeasureInfo) info = NULL, small = NULL, over = NULL;
    g_autoptr(QDict) options = qdict_new();
    BlockBackend *blk = file_test_blk(BDRV_O_RDWR, QCOW2_JSON, path);

    g_assert_cmpint(file_test_fill(blk, 64 << 10, 448 << 10, 1), ==, 0);
    g_assert_cmpint(file_test_fill(blk, 4 << 20, 128 << 10, 1), ==, 0);
    g_assert_cmpint(file_test_fill(blk, 8 << 20, 128 << 10, 1), ==, 0);
    g_assert_cmpint(blk_pwrite_zeroes(blk, 1 << 20, 65536, 0), ==, 0);

    info = qcow2_measure(options, blk_bs(blk), &error_abort);
    g_assert_cmpint(info->required, ==, 1048576);
    g_assert_cmpint(info->fully_allocated, ==, 17104896);
    g_assert_true(info->has_bitmaps);
    g_assert_cmpint(info->bitmaps, ==, 0);

    qdict_put_str(options, "cluster_size", "4k");
    small = qcow2_measure(options, blk_bs(blk), &error_abort);
    g_assert_cmpint(small->required, ==, 778240);
    g_assert_cmpint(small->fully_allocated, ==, 16834560);

    qdict_put_str(options, "cluster_size", "64k");
    qdict_put_str(options, "backing_file", "x");
    qdict_put_str(options, "backing_fmt", "raw");
    over = qcow2_measure(options, blk_bs(blk), &error_abort);
    g_assert_cmpint(over->required, ==, 17104896);
    blk_unref(blk);
}

/* --- overlap ---------------------------------------------------------- */

typedef struct Overlap {
    BlockDriverState *bs;
    int ignore;
    uint64_t offset;
    uint64_t bytes;
} Overlap;

static int coroutine_fn overlap_entry(void *opaque)
{
    Overlap *o = opaque;

    return qcow2_check_metadata_overlap(o->bs, o->ignore, o->offset,
                                        o->bytes);
}

static int overlap(BlockDriverState *bs, int ignore, uint64_t offset,
                   uint64_t bytes)
{
    Overlap o = { bs, ignore, offset, bytes };

    return bdrv_run_co(overlap_entry, &o);
}

#define CL 65536ULL

/* Where each kind of metadata is; cluster numbers. */
static const struct {
    int bit;
    uint64_t first, last;
} regions[] = {
    { QCOW2_OL_MAIN_HEADER, 0, 0 },
    { QCOW2_OL_REFCOUNT_TABLE, 1, 1 },
    { QCOW2_OL_REFCOUNT_BLOCK, 2, 2 },
    { QCOW2_OL_ACTIVE_L1, 3, 3 },
    { QCOW2_OL_ACTIVE_L2, 20, 20 },
    { QCOW2_OL_ACTIVE_L2, 30, 30 },
    { QCOW2_OL_SNAPSHOT_TABLE, 40, 40 },
    { QCOW2_OL_INACTIVE_L1, 50, 50 },
    { QCOW2_OL_INACTIVE_L2, 60, 60 },
    { QCOW2_OL_BITMAP_DIRECTORY, 70, 71 },
};

/* An image with metadata of all kinds, most of it in memory only. */
static BlockDriverState *all_kinds(const char *path, QCowSnapshot *sn)
{
    BlockDriverState *bs;
    uint64_t entry = cpu_to_be64(60 * CL);
    BDRVQcow2State *s;
    FILE *f;

    f = fopen(path, "r+");
    g_assert_cmpint(fseek(f, 50 * CL + 8, SEEK_SET), ==, 0);
    g_assert_cmpint(fwrite(&entry, 8, 1, f), ==, 1);
    fclose(f);
    g_assert_cmpint(truncate(path, 80 * CL), ==, 0);

    bs = file_test_open(0, &error_abort, QCOW2_JSON, path);
    s = bs->opaque;
    s->l1.entries[0] = 20 * CL | QCOW_OFLAG_COPIED;
    s->l1.entries[1] = 30 * CL;
    s->snapshots_offset = 40 * CL;
    s->snapshots_size = 100;
    s->nb_snapshots = 1;
    s->snapshots = sn;
    sn->l1_table_offset = 50 * CL;
    sn->l1_size = 2;
    s->has_bitmaps_ext = true;
    s->autoclear_features |= QCOW2_AUTOCLEAR_BITMAPS;
    s->bitmap_directory_offset = 70 * CL;
    s->bitmap_directory_size = CL + 1;
    return bs;
}

/* Any range, with any sets looked at and ignored, against a plain model. */
static void test_overlap(void)
{
    g_autofree char *path = make_image("overlap", "1G");
    QCowSnapshot sn = { 0 };
    BlockDriverState *bs = all_kinds(path, &sn);
    BDRVQcow2State *s = bs->opaque;

    for (int round = 0; round < 20000; round++) {
        uint64_t offset = g_test_rand_int_range(0, 75 * CL);
        uint64_t bytes = g_test_rand_int_range(1, 1 << g_test_rand_int_range(
                                                          1, 22));
        int ignore = g_test_rand_int_range(0, QCOW2_OL_ALL + 1);
        int expected = 0;
        int ret;

        if (g_test_rand_bit()) {
            ignore &= g_test_rand_int();
        }
        s->overlap_check = g_test_rand_bit()
                           ? QCOW2_OL_ALL
                           : g_test_rand_int_range(0, QCOW2_OL_ALL + 1);
        for (int i = 0; i < ARRAY_SIZE(regions); i++) {
            if (regions[i].bit & s->overlap_check & ~ignore &&
                offset / CL <= regions[i].last &&
                (offset + bytes - 1) / CL >= regions[i].first) {
                expected |= regions[i].bit;
            }
        }
        ret = overlap(bs, ignore, offset, bytes);
        if (expected) {
            g_assert_cmpint(ret, >, 0);
            g_assert_cmpint(ret & (ret - 1), ==, 0);
            g_assert_cmpint(ret & expected, ==, ret);
        } else {
            g_assert_cmpint(ret, ==, 0);
        }
    }
    g_assert_cmpint(overlap(bs, 0, INT64_MAX - 10, 5), ==, -EINVAL);
    g_assert_cmpint(overlap(bs, 0, 0, 0), ==, 0);

    s->nb_snapshots = 0;
    s->snapshots = NULL;
    s->has_bitmaps_ext = false;
    bdrv_unref(bs);
}

int main(int argc, char **argv)
{
    file_test_init(&argc, &argv);

    g_test_add_func("/qcow2/measure/size", test_measure_size);
    g_test_add_func("/qcow2/measure/errors", test_measure_errors);
    g_test_add_func("/qcow2/measure/image", test_measure_image);
    g_test_add_func("/qcow2/overlap", test_overlap);
    return file_test_run();
}
