/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Power cuts at random moments.
 *
 * Several coroutines write, zero, discard and flush. At some of the changes
 * that reach the file, several things that a power cut might leave there are
 * made (any sectors of what no flush had covered). Each must be an image
 * without corruption, in which every sector reads as it did at the last flush
 * that had completed, or as something that was written to it since. A raw data
 * file shows the same as the image.
 */
#include "util/osdep.h"
#include "qcow2-fixture.h"
#include "util/aio.h"
#include "util/bswap.h"

#define SECTOR 512
#define WORKERS 6
#define NEVER UINT64_MAX

/* A value that a sector had, or may have had. */
typedef struct Version {
    uint32_t value;         /* repeated all over the sector; 0: zeroes */
    uint64_t done_at;       /* when the request ended */
} Version;

/* What one power cut left, and what is allowed to be there. */
typedef struct Cut {
    RamDisk *disk;
    GArray **allowed;       /* of uint32_t, one for each sector */
} Cut;

typedef struct CrashTest {
    TestGeometry g;
    RamDisk *disk;
    BlockBackend *blk;
    GRand *rand;
    int nb_sectors;
    GArray **versions;      /* of Version, oldest first */
    uint8_t *busy;
    uint32_t next_value;
    uint64_t now;
    int running;
    int ops_left;
    int until_cut;          /* changes in the file */
    GPtrArray *cuts;
    bool compressed;
    int nb_cuts;
} CrashTest;

/* --- what may be there --- */

static void add_version(CrashTest *t, int sector, uint32_t value)
{
    Version v = { value, NEVER };

    g_array_append_val(t->versions[sector], v);
}

static void finish_versions(CrashTest *t, int first, int n)
{
    for (int i = first; i < first + n; i++) {
        GArray *a = t->versions[i];

        g_array_index(a, Version, a->len - 1).done_at = t->now;
    }
}

/* A flush that began at @since has ended: what was done then is durable. */
static void forget_before(CrashTest *t, uint64_t since)
{
    for (int i = 0; i < t->nb_sectors; i++) {
        GArray *a = t->versions[i];
        guint last = 0;

        for (guint j = 0; j < a->len; j++) {
            if (g_array_index(a, Version, j).done_at <= since) {
                last = j;
            }
        }
        if (last) {
            g_array_remove_range(a, 0, last);
        }
    }
}

/* --- the power cut --- */

static void take_cut(CrashTest *t)
{
    static const int keep[] = { 0, 10, 50, 90, 100 };
    Cut *cut = g_new0(Cut, 1);

    cut->disk = ram_disk_after_crash(t->disk, t->rand,
                                     keep[g_rand_int_range(t->rand, 0, 5)]);
    cut->allowed = g_new0(GArray *, t->nb_sectors);
    for (int i = 0; i < t->nb_sectors; i++) {
        GArray *a = t->versions[i];

        cut->allowed[i] = g_array_new(false, false, sizeof(uint32_t));
        for (guint j = 0; j < a->len; j++) {
            g_array_append_val(cut->allowed[i],
                               g_array_index(a, Version, j).value);
        }
    }
    g_ptr_array_add(t->cuts, cut);
}

static void change_hook(void *opaque)
{
    CrashTest *t = opaque;

    if (--t->until_cut == 0) {
        take_cut(t);
        t->until_cut = g_rand_int_range(t->rand, 5, 60);
    }
}

static void verify_content(CrashTest *t, Cut *cut, BlockBackend *blk)
{
    g_autofree uint32_t *buf = g_malloc(t->g.size);

    g_assert_cmpint(blk_pread(blk, 0, t->g.size, buf, 0), ==, 0);
    if (t->g.data_file_raw) {
        g_assert_true(!memcmp(buf, cut->disk->data_file->data, t->g.size));
    }
    for (int i = 0; i < t->nb_sectors; i++) {
        const uint32_t *p = buf + i * (SECTOR / 4);
        bool found = false;

        for (int j = 1; j < SECTOR / 4; j++) {
            g_assert_cmphex(p[j], ==, p[0]);
        }
        for (guint j = 0; j < cut->allowed[i]->len; j++) {
            found |= g_array_index(cut->allowed[i], uint32_t, j) == p[0];
        }
        if (!found) {
            g_test_message("sector %d reads %#x", i, p[0]);
            for (guint j = 0; j < cut->allowed[i]->len; j++) {
                g_test_message("  may be %#x",
                               g_array_index(cut->allowed[i], uint32_t, j));
            }
            g_test_fail();
            return;
        }
    }
}

static void verify_cut(CrashTest *t, Cut *cut)
{
    BlockBackend *blk;
    BdrvCheckResult res;

    blk = ram_disk_open(cut->disk, t->g.lazy ? BDRV_O_RDWR : 0, NULL, NULL);
    if (t->g.lazy) {
        /* Refcounts may be behind; opening for writing repaired them. */
        assert_consistent(blk, &res);
        g_assert_cmpint(res.leaks, ==, 0);
    } else {
        assert_consistent(blk, NULL);
    }
    verify_content(t, cut, blk);
    blk_unref(blk);
    t->nb_cuts++;
}

static void verify_cuts(CrashTest *t)
{
    for (guint i = 0; i < t->cuts->len; i++) {
        Cut *cut = t->cuts->pdata[i];

        if (!g_test_failed()) {
            verify_cut(t, cut);
        }
        for (int j = 0; j < t->nb_sectors; j++) {
            g_array_free(cut->allowed[j], true);
        }
        g_free(cut->allowed);
        ram_disk_free(cut->disk);
        g_free(cut);
    }
    g_ptr_array_set_size(t->cuts, 0);
}

/* --- requests --- */

static bool pick(CrashTest *t, int align, int *first, int *n)
{
    int cluster = (1 << t->g.cluster_bits) / SECTOR;

    for (int tries = 0; tries < 10; tries++) {
        bool free = true;

        *first = g_rand_int_range(t->rand, 0, t->nb_sectors) / align * align;
        *n = g_rand_int_range(t->rand, 1, 3 * cluster + 1);
        *n = MIN(ROUND_UP(*n, align), t->nb_sectors - *first);
        for (int i = *first; i < *first + *n; i++) {
            free &= !t->busy[i];
        }
        if (free) {
            memset(t->busy + *first, 1, *n);
            return true;
        }
    }
    return false;
}

static void coroutine_fn do_write(CrashTest *t, int first, int n,
                                  bool compressed)
{
    g_autofree uint32_t *buf = g_new(uint32_t, n * (SECTOR / 4));
    int ret;

    for (int i = 0; i < n; i++) {
        uint32_t value = ++t->next_value;

        add_version(t, first + i, value);
        for (int j = 0; j < SECTOR / 4; j++) {
            buf[i * (SECTOR / 4) + j] = value;
        }
    }
    ret = compressed
              ? blk_co_pwrite_compressed(t->blk, first * SECTOR, n * SECTOR,
                                         buf)
              : blk_co_pwrite(t->blk, first * SECTOR, n * SECTOR, buf, 0);
    g_assert_cmpint(ret, ==, 0);
    t->now++;
    finish_versions(t, first, n);
}

static void coroutine_fn do_zero(CrashTest *t, int first, int n)
{
    int flags = g_rand_boolean(t->rand) ? BDRV_REQ_MAY_UNMAP : 0;

    for (int i = 0; i < n; i++) {
        add_version(t, first + i, 0);
    }
    g_assert_cmpint(blk_co_pwrite_zeroes(t->blk, first * SECTOR, n * SECTOR,
                                         flags), ==, 0);
    t->now++;
    finish_versions(t, first, n);
}

static void coroutine_fn do_discard(CrashTest *t, int first, int n)
{
    int cluster = (1 << t->g.cluster_bits) / SECTOR;
    int start = ROUND_UP(first, cluster);
    int end = (first + n) & -cluster;

    if (first + n == t->nb_sectors) {
        end = t->nb_sectors;
    }
    for (int i = start; i < end; i++) {
        add_version(t, i, 0);
    }
    g_assert_cmpint(blk_co_pdiscard(t->blk, first * SECTOR, n * SECTOR), ==,
                    0);
    t->now++;
    if (start < end) {
        finish_versions(t, start, end - start);
    }
}

static void coroutine_fn do_flush(CrashTest *t)
{
    uint64_t since = t->now;

    g_assert_cmpint(blk_co_flush(t->blk), ==, 0);
    forget_before(t, since);
}

static void coroutine_fn one_op(CrashTest *t)
{
    int cluster = (1 << t->g.cluster_bits) / SECTOR;
    int kind = g_rand_int_range(t->rand, 0, 100);
    bool compressed = t->compressed && kind < 15;
    int first, n;

    if (kind >= 92 || !pick(t, compressed ? cluster : 1, &first, &n)) {
        do_flush(t);
        return;
    }
    if (kind < 50) {
        do_write(t, first, n, compressed);
    } else if (kind < 75) {
        do_zero(t, first, n);
    } else {
        do_discard(t, first, n);
    }
    memset(t->busy + first, 0, n);
}

static void coroutine_fn worker(void *opaque)
{
    CrashTest *t = opaque;

    while (t->ops_left > 0) {
        t->ops_left--;
        one_op(t);
    }
    t->running--;
}

static void run_batch(CrashTest *t, int ops)
{
    t->ops_left = ops;
    t->running = WORKERS;
    for (int i = 0; i < WORKERS; i++) {
        qemu_coroutine_enter(qemu_coroutine_create(worker, t));
    }
    while (t->running) {
        aio_poll(qemu_get_aio_context(), true);
    }
    verify_cuts(t);
}

/* --- the test --- */

typedef struct CrashCase {
    const char *name;
    TestGeometry g;
    const char *options;
    bool compressed;
} CrashCase;

static const CrashCase cases[] = {
    { "v3-4k", { 3, 12, 4, 256 * 1024, false }, NULL, false },
    { "v3-4k-compressed", { 3, 12, 4, 256 * 1024, false }, NULL, true },
    { "v2-4k", { 2, 12, 4, 256 * 1024, false }, NULL, true },
    /* Several L2 tables, refcount blocks, and refcount tables. */
    { "v3-512", { 3, 9, 6, 256 * 1024, false },
      "'l2-cache-size': 1024, 'refcount-cache-size': 2048", true },
    { "v3-512-1bit", { 3, 9, 0, 128 * 1024, false }, NULL, true },
    { "v3-4k-slices", { 3, 12, 3, 256 * 1024, false },
      "'l2-cache-size': 1024, 'l2-cache-entry-size': 512", false },
    { "v3-4k-keep", { 3, 12, 4, 256 * 1024, false },
      "'discard-no-unref': true", true },
    { "v3-4k-lazy", { 3, 12, 4, 256 * 1024, true }, NULL, true },
    { "v3-512-lazy", { 3, 9, 4, 256 * 1024, true },
      "'l2-cache-size': 1024", false },
    { "v3-4k-data-file", { 3, 12, 4, 256 * 1024, false, true }, NULL, false },
    { "v3-512-data-file", { 3, 9, 4, 256 * 1024, true, true },
      "'l2-cache-size': 1024", false },
    { "v3-4k-data-file-keep", { 3, 12, 4, 250 * 1024, false, true },
      "'discard-no-unref': true", false },
    { "v3-4k-data-file-raw", { 3, 12, 4, 250 * 1024, false, true, true },
      NULL, false },
    { "v3-512-data-file-raw", { 3, 9, 4, 256 * 1024, false, true, true },
      "'l2-cache-size': 1024", false },
};

static void record(CrashTest *t, RamDisk *disk)
{
    disk->record = true;
    disk->delays = true;
    disk->hook = change_hook;
    disk->hook_opaque = t;
}

static void test_crash(const void *opaque)
{
    const CrashCase *c = opaque;
    int batches = g_test_slow() ? 200 : 12;
    CrashTest t = { .g = c->g, .compressed = c->compressed, .until_cut = 20 };

    t.rand = g_rand_new_with_seed(g_test_rand_int());
    t.nb_sectors = t.g.size / SECTOR;
    t.versions = g_new0(GArray *, t.nb_sectors);
    for (int i = 0; i < t.nb_sectors; i++) {
        t.versions[i] = g_array_new(false, false, sizeof(Version));
        add_version(&t, i, 0);
    }
    finish_versions(&t, 0, t.nb_sectors);
    t.busy = g_malloc0(t.nb_sectors);
    t.cuts = g_ptr_array_new();

    t.disk = ram_disk_new(2 * 1024 * 1024);
    ram_disk_format(t.disk, &t.g);
    record(&t, t.disk);
    if (t.disk->data_file) {
        record(&t, t.disk->data_file);
    }
    t.blk = ram_disk_open(t.disk, BDRV_O_RDWR | BDRV_O_UNMAP, c->options,
                          NULL);
    for (int i = 0; i < batches && !g_test_failed(); i++) {
        run_batch(&t, 60);
    }
    blk_unref(t.blk);
    verify_cuts(&t);
    g_test_message("%d power cuts", t.nb_cuts);
    g_assert_cmpint(t.nb_cuts, >, 5);

    for (int i = 0; i < t.nb_sectors; i++) {
        g_array_free(t.versions[i], true);
    }
    g_free(t.versions);
    g_free(t.busy);
    g_ptr_array_free(t.cuts, true);
    ram_disk_free(t.disk);
    g_rand_free(t.rand);
}

int main(int argc, char **argv)
{
    qcow2_test_init(&argc, &argv);
    for (int i = 0; i < ARRAY_SIZE(cases); i++) {
        g_autofree char *path = g_strdup_printf("/qcow2/crash/%s",
                                                cases[i].name);

        g_test_add_data_func(path, &cases[i], test_crash);
    }
    return g_test_run();
}
