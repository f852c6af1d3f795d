/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The check's parts that are hard to reach from outside: its compact table,
 * tables that cannot be read, repairs that fail halfway, files of absurd
 * length. What it reports on damage is compared with the distribution's check
 * in tests/interop.
 */
#include "util/osdep.h"
#include "file-fixture.h"
#include "block/create.h"
#include "block/qcow2/check-counts.h"
#include "block/qcow2/qcow2.h"
#include "util/bswap.h"

/* --- counts ----------------------------------------------------------- */

static uint64_t model_get(GHashTable *model, uint64_t cluster)
{
    uint64_t *v = g_hash_table_lookup(model, &cluster);

    return v ? *v : 0;
}

static void model_set(GHashTable *model, uint64_t cluster, uint64_t value)
{
    uint64_t *key = g_new(uint64_t, 1);
    uint64_t *v = g_new(uint64_t, 1);

    *key = cluster;
    *v = value;
    g_hash_table_insert(model, key, v);
}

static uint64_t random_count(void)
{
    return ((uint64_t)g_test_rand_int() << 32 | (uint32_t)g_test_rand_int()) >>
           g_test_rand_int_range(0, 64);
}

/* Any sequence of changes reads back, at every width, near and far. */
static void test_counts_model(void)
{
    g_autoptr(Qcow2CheckCounts) counts = qcow2_check_counts_new();
    g_autoptr(GHashTable) model = g_hash_table_new_full(
        g_int64_hash, g_int64_equal, g_free, g_free);
    int rounds = g_test_slow() ? 1000000 : 50000;
    GHashTableIter iter;
    gpointer key, value;

    for (int i = 0; i < rounds; i++) {
        uint64_t cluster = g_test_rand_int_range(0, 3 * QCOW2_CHECK_PAGE_SIZE);
        uint64_t old, n, max, excess;

        if (g_test_rand_int_range(0, 4) == 0) {
            cluster += 1ULL << g_test_rand_int_range(20, 47);
        }
        old = model_get(model, cluster);
        g_assert_cmpuint(qcow2_check_counts_get(counts, cluster), ==, old);
        if (g_test_rand_bit()) {
            n = random_count();
            qcow2_check_counts_set(counts, cluster, n);
            model_set(model, cluster, n);
        } else {
            n = g_test_rand_int_range(1, 5);
            max = g_test_rand_bit() ? UINT64_MAX : old + 2;
            excess = qcow2_check_counts_add(counts, cluster, n, max);
            g_assert_cmpuint(excess, ==, MIN(n, max - old) == n
                                         ? 0 : n - (max - old));
            model_set(model, cluster, old + n - excess);
        }
    }
    g_hash_table_iter_init(&iter, model);
    while (g_hash_table_iter_next(&iter, &key, &value)) {
        g_assert_cmpuint(qcow2_check_counts_get(counts, *(uint64_t *)key), ==,
                         *(uint64_t *)value);
    }
}

/* Runs and fills are what the same loop over single clusters would do. */
static void test_counts_runs(void)
{
    enum { N = 4 * QCOW2_CHECK_PAGE_SIZE };
    g_autoptr(Qcow2CheckCounts) counts = qcow2_check_counts_new();
    g_autofree uint64_t *model = g_new0(uint64_t, N);
    int rounds = g_test_slow() ? 20000 : 1000;

    for (int i = 0; i < rounds; i++) {
        uint64_t first = g_test_rand_int_range(0, N);
        uint64_t n = g_test_rand_int_range(0, N - first + 1);
        unsigned value = g_test_rand_bit();
        uint64_t run = 0;

        if (g_test_rand_bit()) {
            n = MIN(n, 100);
        }
        switch (g_test_rand_int_range(0, 4)) {
        case 0:
            qcow2_check_counts_fill(counts, first, n);
            for (uint64_t j = first; j < first + n; j++) {
                model[j] = 1;
            }
            break;
        case 1:
            n = MIN(n, 40);
            for (uint64_t j = first; j < first + n; j++) {
                /* Now and then one that takes a wider page. */
                model[j] = g_test_rand_int_range(0, 50) ? i % 3 : i;
                qcow2_check_counts_set(counts, j, model[j]);
            }
            break;
        default:
            while (run < n && model[first + run] == value) {
                run++;
            }
            g_assert_cmpuint(qcow2_check_counts_run(counts, first, n, value),
                             ==, run);
            break;
        }
    }
    for (uint64_t j = 0; j < N; j++) {
        g_assert_cmpuint(qcow2_check_counts_get(counts, j), ==, model[j]);
    }
}

static void test_counts_pages(void)
{
    g_autoptr(Qcow2CheckCounts) a = qcow2_check_counts_new();
    g_autoptr(Qcow2CheckCounts) b = qcow2_check_counts_new();
    g_autoptr(GArray) pages = NULL;

    qcow2_check_counts_set(a, 5ULL << QCOW2_CHECK_PAGE_BITS, 1);
    qcow2_check_counts_set(b, 5ULL << QCOW2_CHECK_PAGE_BITS, 1);
    qcow2_check_counts_set(b, 3, 7);
    qcow2_check_counts_set(a, 1ULL << 46, 2);
    qcow2_check_counts_set(a, 77, 0);       /* nothing to remember */
    pages = qcow2_check_counts_pages(a, b);
    g_assert_cmpuint(pages->len, ==, 3);
    g_assert_cmpuint(g_array_index(pages, uint64_t, 0), ==, 0);
    g_assert_cmpuint(g_array_index(pages, uint64_t, 1), ==, 5);
    g_assert_cmpuint(g_array_index(pages, uint64_t, 2), ==,
                     1ULL << (46 - QCOW2_CHECK_PAGE_BITS));
    g_assert_true(qcow2_check_counts_same(a, b, 5));
    g_assert_false(qcow2_check_counts_same(a, b, 0));
    qcow2_check_counts_set(b, (5ULL << QCOW2_CHECK_PAGE_BITS) + 9, 1);
    g_assert_false(qcow2_check_counts_same(a, b, 5));
}

/* All clusters of the pages that may differ, up to the limit, in order. */
static void test_counts_walk(void)
{
    g_autoptr(Qcow2CheckCounts) a = qcow2_check_counts_new();
    g_autoptr(Qcow2CheckCounts) b = qcow2_check_counts_new();
    uint64_t limit = 3 * QCOW2_CHECK_PAGE_SIZE + 10;
    uint64_t cluster = 0;

    g_assert_true(qcow2_check_counts_is_empty(a));
    qcow2_check_counts_set(a, 1, 1);
    qcow2_check_counts_set(b, 1, 1);
    qcow2_check_counts_set(a, 3 * QCOW2_CHECK_PAGE_SIZE, 2);
    qcow2_check_counts_set(b, 7 * QCOW2_CHECK_PAGE_SIZE, 1);
    g_assert_false(qcow2_check_counts_is_empty(a));
    for (int unlike = 0; unlike < 2; unlike++) {
        g_auto(Qcow2CheckWalk) walk = qcow2_check_walk(a, b, limit, unlike);

        for (uint64_t i = 0; !unlike && i < QCOW2_CHECK_PAGE_SIZE; i++) {
            g_assert_true(qcow2_check_walk_next(&walk, &cluster));
            g_assert_cmpuint(cluster, ==, i);
        }
        for (int i = 0; i < 10; i++) {
            g_assert_true(qcow2_check_walk_next(&walk, &cluster));
            g_assert_cmpuint(cluster, ==, 3 * QCOW2_CHECK_PAGE_SIZE + i);
        }
        g_assert_false(qcow2_check_walk_next(&walk, &cluster));
    }
}

/* A usual image takes two bits a cluster; holes take nothing. */
static void test_counts_memory(void)
{
    g_autoptr(Qcow2CheckCounts) counts = qcow2_check_counts_new();
    uint64_t n = 1 << 20, i;

    for (i = 0; i < n; i++) {
        qcow2_check_counts_add(counts, i, 1 + i % 3, UINT64_MAX);
    }
    qcow2_check_counts_add(counts, 1ULL << 47, 1, UINT64_MAX);
    g_assert_cmpuint(qcow2_check_counts_memory(counts), <, n / 4 + n / 16);
}

/* --- images ----------------------------------------------------------- */

#define CLUSTER 65536ULL
#define DISK (2ULL << 30)

static void make_image(const char *path, const char *cluster_size)
{
    g_autoptr(QDict) options = qdict_new();
    g_autofree char *size = g_strdup_printf("%llu", DISK);

    qdict_put_str(options, "size", size);
    qdict_put_str(options, "cluster_size", cluster_size);
    bdrv_create(&bdrv_qcow2, path, options, &error_abort);
}

#define FILE_JSON "{'driver': 'file', 'filename': '%s'}"
#define QCOW2_JSON "{'driver': 'qcow2', 'file': " FILE_JSON "}"
/* Requests of one kind that touch a sector of the file fail. */
#define BROKEN_JSON                                                          \
    "{'driver': 'qcow2', 'file': {'driver': 'blkdebug', 'image': " FILE_JSON \
    ", 'inject-error': [{'event': 'none', 'iotype': '%s', 'sector': %"       \
    PRIu64 "}]}}"

/* Four L2 tables, some data under each. */
static char *make_filled_image(const char *name)
{
    g_autofree char *path = file_test_make(name, 0);
    BlockBackend *blk;
    int i;

    make_image(path, "65536");
    blk = file_test_blk(BDRV_O_RDWR, QCOW2_JSON, path);
    for (i = 0; i < 4; i++) {
        g_assert_cmpint(file_test_fill(blk, i * (512LL << 20), 4 * CLUSTER,
                                       1 + i), ==, 0);
    }
    blk_unref(blk);
    return g_steal_pointer(&path);
}

static void set_refcount(const char *path, uint64_t cluster, uint16_t value)
{
    uint64_t block = file_test_u64(path, file_test_u64(path, 48)) &
                     REFT_OFFSET_MASK;

    value = cpu_to_be16(value);
    file_test_put(path, block + 2 * cluster, &value, 2);
}

static int get_refcount(const char *path, uint64_t cluster)
{
    uint64_t block = file_test_u64(path, file_test_u64(path, 48)) &
                     REFT_OFFSET_MASK;

    return file_test_u64(path, block + 2 * cluster) >> 48;
}

static uint64_t l2_offset(const char *path, int i)
{
    return file_test_u64(path, file_test_u64(path, 40) + 8 * i) &
           L1E_OFFSET_MASK;
}

/* Opens for checking, checks, closes. */
static int G_GNUC_PRINTF(3, 4)
check_node(BdrvCheckResult *res, BdrvCheckMode fix, const char *json, ...)
{
    g_autofree char *text = NULL;
    BlockDriverState *bs;
    va_list ap;
    int ret;

    va_start(ap, json);
    text = g_strdup_vprintf(json, ap);
    va_end(ap);
    bs = file_test_open(BDRV_O_CHECK | (fix ? BDRV_O_RDWR : 0), &error_abort,
                        "%s", text);
    ret = bdrv_check(bs, res, fix);
    bdrv_unref(bs);
    return ret;
}

static void check_image(const char *path, BdrvCheckResult *res)
{
    g_assert_cmpint(check_node(res, 0, QCOW2_JSON, path), ==, 0);
}

static void test_clean(void)
{
    g_autofree char *path = make_filled_image("clean");
    BdrvCheckResult res;

    check_image(path, &res);
    g_assert_cmpint(res.corruptions, ==, 0);
    g_assert_cmpint(res.leaks, ==, 0);
    g_assert_cmpint(res.check_errors, ==, 0);
    g_assert_cmpint(res.bfi.allocated_clusters, ==, 16);
    g_assert_cmpint(res.bfi.fragmented_clusters, ==, 0);
    g_assert_cmpint(res.bfi.total_clusters, ==, DISK / CLUSTER);
}

/*
 * What an unreadable L2 table names looks like a leak. It must not be freed,
 * nor may anything else be.
 */
static void test_unreadable_l2(void)
{
    g_autofree char *path = make_filled_image("unreadable-l2");
    BdrvCheckResult res;
    uint64_t end;

    check_image(path, &res);
    end = res.image_end_offset / CLUSTER;
    g_assert_cmpint(truncate(path, (end + 2) * CLUSTER), ==, 0);
    set_refcount(path, end, 1);

    g_assert_cmpint(check_node(&res, 0, BROKEN_JSON, path, "read",
                               l2_offset(path, 2) / 512), ==, 0);
    g_assert_cmpint(res.check_errors, ==, 1);
    g_assert_cmpint(res.leaks, ==, 5);

    check_node(&res, BDRV_FIX_LEAKS | BDRV_FIX_ERRORS, BROKEN_JSON, path,
               "read", l2_offset(path, 2) / 512);
    g_assert_cmpint(res.leaks_fixed, ==, 0);
    g_assert_cmpint(get_refcount(path, end), ==, 1);

    /* With everything readable it is a leak, and the only one. */
    check_image(path, &res);
    g_assert_cmpint(res.corruptions, ==, 0);
    g_assert_cmpint(res.leaks, ==, 1);
    g_assert_cmpint(check_node(&res, BDRV_FIX_LEAKS, QCOW2_JSON, path), ==, 0);
    g_assert_cmpint(res.leaks_fixed, ==, 1);
    g_assert_cmpint(get_refcount(path, end), ==, 0);
}

/* An unreadable refcount block is replaced: the references are all known. */
static void test_unreadable_refcounts(void)
{
    g_autofree char *path = make_filled_image("unreadable-refcounts");
    uint64_t block = file_test_u64(path, file_test_u64(path, 48)) &
                     REFT_OFFSET_MASK;
    BdrvCheckResult res;

    g_assert_cmpint(check_node(&res, 0, BROKEN_JSON, path, "read",
                               block / 512), ==, 0);
    g_assert_cmpint(res.check_errors, >, 0);
    g_assert_cmpint(res.corruptions, ==, 0);

    g_assert_cmpint(check_node(&res, BDRV_FIX_LEAKS | BDRV_FIX_ERRORS,
                               BROKEN_JSON, path, "read", block / 512), ==, 0);
    g_assert_cmpint(res.check_errors, ==, 0);
    check_image(path, &res);
    g_assert_cmpint(res.corruptions + res.leaks + res.check_errors, ==, 0);
    g_assert_cmpuint(file_test_u64(path, file_test_u64(path, 48)), !=, block);
}

/*
 * Every place that a repair writes to fails once: the image is no worse than
 * before, and the next repair mends it.
 */
static void test_failing_repair(void)
{
    g_autofree char *path = make_filled_image("failing-repair");
    uint64_t block = file_test_u64(path, file_test_u64(path, 48)) &
                     REFT_OFFSET_MASK;
    uint64_t l2 = l2_offset(path, 1), l1 = file_test_u64(path, 40), entry;
    const uint64_t places[] = { 0, l1 / 512, block / 512, l2 / 512 };
    BdrvCheckResult before, res;

    for (int i = 0; i < ARRAY_SIZE(places); i++) {
        uint64_t data = file_test_u64(path, l2) & L2E_OFFSET_MASK;
        uint8_t corrupt = QCOW2_INCOMPAT_CORRUPT;

        set_refcount(path, data / CLUSTER, 0);          /* too low */
        set_refcount(path, data / CLUSTER + 1, 2);      /* a leak */
        entry = cpu_to_be64(file_test_u64(path, l2 + 16) & ~QCOW_OFLAG_COPIED);
        file_test_put(path, l2 + 16, &entry, 8);
        entry = cpu_to_be64(file_test_u64(path, l1) & ~QCOW_OFLAG_COPIED);
        file_test_put(path, l1, &entry, 8);
        file_test_put(path, 79, &corrupt, 1);
        check_image(path, &before);
        g_assert_cmpint(before.corruptions, >, 0);

        check_node(&res, BDRV_FIX_LEAKS | BDRV_FIX_ERRORS, BROKEN_JSON, path,
                   "write", places[i]);
        check_image(path, &res);
        g_assert_cmpint(res.corruptions, <=, before.corruptions);
        g_assert_cmpint(res.leaks, <=, before.leaks);

        g_assert_cmpint(check_node(&res, BDRV_FIX_LEAKS | BDRV_FIX_ERRORS,
                                   QCOW2_JSON, path), ==, 0);
        check_image(path, &res);
        g_assert_cmpint(res.corruptions + res.leaks + res.check_errors, ==,
                        0);
        g_assert_cmphex(file_test_u64(path, 72), ==, 0);
    }
}

/* A file that claims to be enormous costs neither time nor memory. */
static void test_huge_file(void)
{
    g_autofree char *path = file_test_make("huge", 0);
    BdrvCheckResult res;
    int64_t start;

    make_image(path, "512");
    /* the longest that the file system takes */
    for (int bits = 62; bits > 30 && truncate(path, 1LL << bits) < 0; bits--) {
    }
    start = g_get_monotonic_time();
    check_image(path, &res);
    g_assert_cmpint(res.corruptions + res.leaks + res.check_errors, ==, 0);
    g_assert_cmpint(g_get_monotonic_time() - start, <, 20 * G_USEC_PER_SEC);
}

/* More tables than are read at a time, in no order. */
static void test_many_tables(void)
{
    g_autofree char *path = file_test_make("many", 0);
    enum { N = 2000 };
    BlockBackend *blk;
    BdrvCheckResult res;

    make_image(path, "512");
    blk = file_test_blk(BDRV_O_RDWR, QCOW2_JSON, path);
    for (uint64_t i = 0; i < N; i++) {
        /* 7919 is prime to N: every table once */
        int64_t offset = i * 7919 % N * 32768;

        g_assert_cmpint(file_test_fill(blk, offset, 1024, i), ==, 0);
    }
    blk_unref(blk);
    check_image(path, &res);
    g_assert_cmpint(res.corruptions + res.leaks + res.check_errors, ==, 0);
    g_assert_cmpint(res.bfi.allocated_clusters, ==, 2 * N);
}

int main(int argc, char **argv)
{
    file_test_init(&argc, &argv);

    g_test_add_func("/qcow2/check/counts/model", test_counts_model);
    g_test_add_func("/qcow2/check/counts/runs", test_counts_runs);
    g_test_add_func("/qcow2/check/counts/pages", test_counts_pages);
    g_test_add_func("/qcow2/check/counts/walk", test_counts_walk);
    g_test_add_func("/qcow2/check/counts/memory", test_counts_memory);
    g_test_add_func("/qcow2/check/clean", test_clean);
    g_test_add_func("/qcow2/check/unreadable-l2", test_unreadable_l2);
    g_test_add_func("/qcow2/check/unreadable-refcounts",
                    test_unreadable_refcounts);
    g_test_add_func("/qcow2/check/failing-repair", test_failing_repair);
    g_test_add_func("/qcow2/check/huge-file", test_huge_file);
    g_test_add_func("/qcow2/check/many-tables", test_many_tables);
    return file_test_run();
}
