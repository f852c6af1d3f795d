/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The check's repair of what cannot be proven: nothing that is alive is lost,
 * whatever write fails, and the header is restored only if nothing else is
 * possible. What becomes of many kinds of damage is looked at in tests/interop.
 */
#include "util/osdep.h"
#include "file-fixture.h"
#include "block/create.h"
#include "block/qcow2/qcow2.h"
#include "util/bswap.h"

#define CLUSTER 65536
#define DISK (2ULL << 30)
#define L1_SPAN (512ULL << 20)

#define FILE_JSON "{'driver': 'file', 'filename': '%s'}"
#define QCOW2_JSON "{'driver': 'qcow2', 'file': " FILE_JSON "}"
/* Writes that touch a sector of the file fail. */
#define BROKEN_JSON                                                          \
    "{'driver': 'qcow2', 'file': {'driver': 'blkdebug', 'image': " FILE_JSON \
    ", 'inject-error': [{'event': 'none', 'iotype': 'write', 'sector': %"    \
    PRIu64 "}]}}"

/* --- images --------------------------------------------------------------- */

/* Four L2 tables, four clusters of data under each. */
static char *make_image(const char *name, const char *refcount_bits)
{
    g_autofree char *path = file_test_make(name, 0);
    g_autoptr(QDict) options = qdict_new();
    g_autofree char *size = g_strdup_printf("%llu", DISK);
    BlockBackend *blk;
    int i;

    qdict_put_str(options, "size", size);
    qdict_put_str(options, "refcount_bits", refcount_bits);
    bdrv_create(&bdrv_qcow2, path, options, &error_abort);
    blk = file_test_blk(BDRV_O_RDWR, QCOW2_JSON, path);
    for (i = 0; i < 4; i++) {
        g_assert_cmpint(file_test_fill(blk, i * L1_SPAN, 4 * CLUSTER, 1 + i),
                        ==, 0);
    }
    blk_unref(blk);
    return g_steal_pointer(&path);
}

static uint32_t get_u32(const char *path, uint64_t offset)
{
    return file_test_u64(path, offset) >> 32;
}

static void put_u64(const char *path, uint64_t offset, uint64_t value)
{
    value = cpu_to_be64(value);
    file_test_put(path, offset, &value, 8);
}

static uint64_t l2_offset(const char *path, int i)
{
    return file_test_u64(path, file_test_u64(path, 40) + 8 * i) &
           L1E_OFFSET_MASK;
}

/* With 16 bits. */
static int get_refcount(const char *path, uint64_t cluster)
{
    uint64_t block = file_test_u64(path, file_test_u64(path, 48)) &
                     REFT_OFFSET_MASK;

    return file_test_u64(path, block + 2 * cluster) >> 48;
}

static void copy_file(const char *from, const char *to)
{
    g_autofree char *data = NULL;
    gsize size;

    g_assert_true(g_file_get_contents(from, &data, &size, NULL));
    g_assert_true(g_file_set_contents(to, data, size, NULL));
}

/* --- checks --------------------------------------------------------------- */

static int G_GNUC_PRINTF(3, 4)
check(BdrvCheckResult *res, BdrvCheckMode fix, const char *json, ...)
{
    const BdrvCheckOptions opts = {
        .fix = fix, .orphans = BDRV_CHECK_ORPHANS_SAVE, .quiet = true,
    };
    g_autofree char *text = NULL;
    BlockDriverState *bs;
    va_list ap;
    int ret;

    va_start(ap, json);
    text = g_strdup_vprintf(json, ap);
    va_end(ap);
    bs = file_test_open(BDRV_O_CHECK | (fix ? BDRV_O_RDWR : 0), &error_abort,
                        "%s", text);
    ret = bdrv_check_opts(bs, res, &opts);
    bdrv_unref(bs);
    return ret;
}

#define FIX_ALL (BDRV_FIX_LEAKS | BDRV_FIX_ERRORS)

static void assert_clean(const char *path)
{
    BdrvCheckResult res = { 0 };

    g_assert_cmpint(check(&res, 0, QCOW2_JSON, path), ==, 0);
    g_assert_cmpint(res.corruptions + res.leaks + res.check_errors, ==, 0);
}

static uint8_t first_byte(const char *path, int64_t offset)
{
    BlockBackend *blk = file_test_blk(0, QCOW2_JSON, path);
    uint8_t byte;

    g_assert_cmpint(blk_pread(blk, offset, 1, &byte, 0), >=, 0);
    blk_unref(blk);
    return byte;
}

/* --- what is leaked ------------------------------------------------------- */

/* Two entries for one cluster, and one that cannot be; returns the clusters
 * that nobody names then. */
static void damage(const char *path, uint64_t lost[2])
{
    uint64_t l2 = l2_offset(path, 1);

    lost[0] = (file_test_u64(path, l2 + 16) & L2E_OFFSET_MASK) / CLUSTER;
    put_u64(path, l2 + 16, file_test_u64(path, l2 + 24));
    l2 = l2_offset(path, 2);
    lost[1] = (file_test_u64(path, l2) & L2E_OFFSET_MASK) / CLUSTER;
    put_u64(path, l2, 0x4321ULL << 40 | QCOW_OFLAG_COPIED | 0xe00);
}

static void assert_rescued(const char *path, const uint64_t lost[2])
{
    assert_clean(path);
    g_assert_cmpint(get_refcount(path, lost[0]), ==, 1);
    g_assert_cmpint(get_refcount(path, lost[1]), ==, 1);
    g_assert_cmpuint(get_u32(path, 60), >=, 1);
    /* What could be read, and zeroes where nothing could. */
    g_assert_cmpint(first_byte(path, L1_SPAN + 2 * CLUSTER), ==, 2);
    g_assert_cmpint(first_byte(path, 2 * L1_SPAN), ==, 0);
    g_assert_cmpint(first_byte(path, 2 * L1_SPAN + CLUSTER), ==, 3);
}

static void test_save(void)
{
    g_autofree char *path = make_image("save", "16");
    BdrvCheckResult res = { 0 };
    uint64_t lost[2];

    damage(path, lost);
    g_assert_cmpint(check(&res, FIX_ALL, QCOW2_JSON, path), ==, 0);
    g_assert_cmpint(res.corruptions + res.leaks + res.check_errors, ==, 0);
    g_assert_cmpint(res.clusters_saved, ==, 2);
    g_assert_cmpint(res.entries_cleared, ==, 1);
    assert_rescued(path, lost);
    g_assert_cmpuint(get_u32(path, 60), ==, 1);

    /* Another time, beside the first. */
    put_u64(path, l2_offset(path, 3),
            file_test_u64(path, l2_offset(path, 3) + 8));
    g_assert_cmpint(check(&res, FIX_ALL, QCOW2_JSON, path), ==, 0);
    assert_clean(path);
    g_assert_cmpuint(get_u32(path, 60), ==, 2);
}

/* Every place that is written to fails once; then another repair ends clean,
 * with everything saved. */
static void test_failing_writes(void)
{
    g_autofree char *good = make_image("failing", "16");
    g_autofree char *path = g_strdup_printf("%s-copy", good);
    uint64_t block = file_test_u64(good, file_test_u64(good, 48)) &
                     REFT_OFFSET_MASK;
    g_autoptr(GArray) places = g_array_new(FALSE, FALSE, sizeof(uint64_t));
    BdrvCheckResult res = { 0 };
    uint64_t lost[2], place;
    int failed = 0;

    damage(good, lost);
    g_assert_cmpint(check(&res, 0, QCOW2_JSON, good), ==, 0);
    for (place = 0; place < 6; place++) {
        /* What is new is behind everything. */
        uint64_t sector = (res.image_end_offset + place * CLUSTER) / 512;

        g_array_append_val(places, sector);
    }
    place = 0;
    g_array_append_val(places, place);
    place = block / 512;
    g_array_append_val(places, place);
    place = l2_offset(good, 2) / 512;
    g_array_append_val(places, place);

    for (guint i = 0; i < places->len; i++) {
        copy_file(good, path);
        if (check(&res, FIX_ALL, BROKEN_JSON, path,
                  g_array_index(places, uint64_t, i)) < 0) {
            failed++;
        }
        g_assert_cmpint(get_refcount(path, lost[0]), ==, 1);
        g_assert_cmpint(get_refcount(path, lost[1]), ==, 1);
        g_assert_cmpint(check(&res, FIX_ALL, QCOW2_JSON, path), ==, 0);
        assert_rescued(path, lost);
    }
    g_assert_cmpint(failed, >=, 6);
    unlink(path);
}

/* A refcount of one bit cannot say that two have a cluster: one gets a copy. */
static void test_copies(void)
{
    g_autofree char *path = make_image("copies", "1");
    uint64_t l2 = l2_offset(path, 1);
    BdrvCheckResult res = { 0 };

    put_u64(path, l2 + 16, file_test_u64(path, l2_offset(path, 3)));
    g_assert_cmpint(check(&res, FIX_ALL, QCOW2_JSON, path), ==, 0);
    assert_clean(path);
    g_assert_cmpint(first_byte(path, L1_SPAN + 2 * CLUSTER), ==, 4);
    g_assert_cmpint(first_byte(path, 3 * L1_SPAN), ==, 4);
    g_assert_cmphex(file_test_u64(path, l2 + 16), !=,
                    file_test_u64(path, l2_offset(path, 3)));
    g_assert_cmpint(res.clusters_saved, ==, 1);
}

/* The same for a whole table; what only one of them had is saved. */
static void test_copied_table(void)
{
    g_autofree char *path = make_image("copied-table", "1");
    uint64_t l1 = file_test_u64(path, 40), entry = file_test_u64(path, l1 + 8);
    BdrvCheckResult res = { 0 };

    put_u64(path, l1 + 16, entry);
    g_assert_cmpint(check(&res, FIX_ALL, QCOW2_JSON, path), ==, 0);
    assert_clean(path);
    g_assert_cmphex(file_test_u64(path, l1 + 8), !=,
                    file_test_u64(path, l1 + 16));
    for (int i = 0; i < 4; i++) {
        g_assert_cmpint(first_byte(path, L1_SPAN + i * CLUSTER), ==, 2);
        g_assert_cmpint(first_byte(path, 2 * L1_SPAN + i * CLUSTER), ==, 2);
    }
    g_assert_cmpint(res.clusters_saved, ==, 5);
}

/* What the file has lost at its end may be found yet: its entries stay. */
static void test_cut_file(void)
{
    g_autofree char *path = make_image("cut", "16");
    uint64_t l2 = l2_offset(path, 3);
    uint64_t entry = file_test_u64(path, l2 + 24);
    BdrvCheckResult res = { 0 };

    g_assert_cmpint(truncate(path, (entry & L2E_OFFSET_MASK)), ==, 0);
    g_assert_cmpint(check(&res, FIX_ALL, QCOW2_JSON, path), ==, 0);
    g_assert_cmpint(res.corruptions, >, 0);
    g_assert_cmphex(file_test_u64(path, l2 + 24), ==, entry);
}

/* --- the header ----------------------------------------------------------- */

static int restore(const char *path)
{
    BlockDriverState *bs = file_test_open(BDRV_O_RDWR, &error_abort, FILE_JSON,
                                          path);
    g_autoptr(GString) said = g_string_new("");
    int ret = qcow2_restore_header(bs, said);

    /* It tells of what it does, and of nothing else. */
    g_assert_cmpint(said->len > 0, ==, ret != 0);
    bdrv_unref(bs);
    return ret;
}

static void test_header(void)
{
    static const struct {
        int offset;
        uint64_t value;
    } faults[] = {
        { 4, 7ULL << 32 | 0 },          /* version; no backing file */
        { 20, 0 },                      /* cluster_bits and size, high half */
        { 40, 0x30200 }, { 40, 1ULL << 50 }, { 40, 0 }, { 40, 0x10000 },
        { 48, 1ULL << 40 }, { 48, 0x20000 }, { 48, 0 },
        { 56, 0 },                      /* refcount_table_clusters */
    };
    g_autofree char *path = make_image("header", "16");

    g_assert_cmpint(restore(path), ==, 0);
    for (int i = 0; i < ARRAY_SIZE(faults); i++) {
        uint64_t old = file_test_u64(path, faults[i].offset);

        put_u64(path, faults[i].offset, faults[i].value);
        g_assert_cmpint(restore(path), ==, 1);
        g_assert_cmphex(file_test_u64(path, faults[i].offset), ==, old);
        assert_clean(path);
    }
}

/* Two fields, or what has no witness: it stays as it is. */
static void test_header_declined(void)
{
    g_autofree char *path = make_image("declined", "16");
    uint64_t l1 = file_test_u64(path, 40), reftable = file_test_u64(path, 48);

    put_u64(path, 40, 0);
    put_u64(path, 48, 0);
    g_assert_cmpint(restore(path), ==, 0);
    g_assert_cmphex(file_test_u64(path, 40), ==, 0);
    g_assert_cmphex(file_test_u64(path, 48), ==, 0);
    put_u64(path, 40, l1);
    put_u64(path, 48, reftable);

    put_u64(path, 72, 1ULL << 40);      /* an unknown feature */
    g_assert_cmpint(restore(path), ==, 0);
    g_assert_cmphex(file_test_u64(path, 72), ==, 1ULL << 40);
}

int main(int argc, char **argv)
{
    file_test_init(&argc, &argv);

    g_test_add_func("/qcow2/rescue/save", test_save);
    g_test_add_func("/qcow2/rescue/failing-writes", test_failing_writes);
    g_test_add_func("/qcow2/rescue/copies", test_copies);
    g_test_add_func("/qcow2/rescue/copied-table", test_copied_table);
    g_test_add_func("/qcow2/rescue/cut-file", test_cut_file);
    g_test_add_func("/qcow2/rescue/header", test_header);
    g_test_add_func("/qcow2/rescue/header-declined", test_header_declined);
    return file_test_run();
}
