/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The file fails: a fixed script of requests runs again and again, and each
 * time the next request to the file, reads included or not, is the one that
 * fails, once or from then on. What the guest was told must hold: a request
 * that succeeded reads back, one that failed may have done anything to its own
 * range, and the image is never corrupt.
 */
#include "util/osdep.h"
#include "qcow2-fixture.h"

#define SECTOR 512
#define DISK (256 * 1024)
#define NB_SECTORS (DISK / SECTOR)
#define MAX_VALUES 48

typedef struct FaultTest {
    const TestGeometry *g;
    RamDisk *disk;
    BlockBackend *blk;
    bool once;
    /* What a sector may read; the last one is what it should. */
    uint8_t values[NB_SECTORS][MAX_VALUES];
    int nb_values[NB_SECTORS];
    bool last_failed[NB_SECTORS];
} FaultTest;

typedef enum { WRITE, COMPRESSED, ZERO, UNMAP, DISCARD, FLUSH } Op;

typedef struct Step {
    Op op;
    int first;      /* sectors */
    int n;
    uint8_t value;
} Step;

/* Clusters are 1 or 8 sectors. */
static const Step script[] = {
    { WRITE, 0, 24, 1 },
    { WRITE, 101, 3, 2 },
    { FLUSH },
    { COMPRESSED, 160, 8, 3 },
    { COMPRESSED, 168, 8, 4 },
    { WRITE, 162, 1, 5 },
    { ZERO, 0, 8 },
    { UNMAP, 8, 8 },
    { DISCARD, 96, 16 },
    { WRITE, 3, 2, 6 },
    { FLUSH },
    { WRITE, 200, 100, 7 },
    { WRITE, 300, 100, 8 },
    { DISCARD, 208, 64 },
    { FLUSH },
    { WRITE, 400, 60, 9 },
    { COMPRESSED, 208, 8, 10 },
    { ZERO, 160, 24 },
    { WRITE, 90, 30, 11 },
    { FLUSH },
    { WRITE, 210, 50, 12 },
    { UNMAP, 300, 200 },
    { WRITE, 310, 20, 13 },
};

static void add_value(FaultTest *t, int sector, uint8_t value, bool failed)
{
    if (t->once && !failed) {
        t->nb_values[sector] = 0;
    }
    g_assert_cmpint(t->nb_values[sector], <, MAX_VALUES);
    t->values[sector][t->nb_values[sector]++] = value;
    t->last_failed[sector] = failed;
}

/* All that was done is durable. */
static void settle_values(FaultTest *t)
{
    for (int i = 0; i < NB_SECTORS; i++) {
        if (!t->last_failed[i]) {
            t->values[i][0] = t->values[i][t->nb_values[i] - 1];
            t->nb_values[i] = 1;
        }
    }
}

static int run_step(FaultTest *t, const Step *s)
{
    int64_t offset = s->first * SECTOR, bytes = s->n * SECTOR;
    g_autofree uint8_t *buf = g_malloc(MAX(bytes, 1));

    memset(buf, s->value, bytes);
    switch (s->op) {
    case WRITE:
        return blk_pwrite(t->blk, offset, bytes, buf, 0);
    case COMPRESSED:
        return blk_pwrite_compressed(t->blk, offset, bytes, buf);
    case ZERO:
        return blk_pwrite_zeroes(t->blk, offset, bytes, 0);
    case UNMAP:
        return blk_pwrite_zeroes(t->blk, offset, bytes, BDRV_REQ_MAY_UNMAP);
    case DISCARD:
        return blk_pdiscard(t->blk, offset, bytes);
    case FLUSH:
        return blk_flush(t->blk);
    }
    g_assert_not_reached();
}

static void run_script(FaultTest *t)
{
    for (int i = 0; i < ARRAY_SIZE(script); i++) {
        const Step *s = &script[i];
        bool failed = run_step(t, s) < 0;

        if (s->op == FLUSH) {
            if (!failed) {
                settle_values(t);
            }
            continue;
        }
        for (int j = s->first; j < s->first + s->n; j++) {
            add_value(t, j, s->value, failed);
        }
    }
}

static void verify(FaultTest *t, BlockBackend *blk)
{
    g_autofree uint8_t *buf = g_malloc(DISK);

    g_assert_cmpint(blk_pread(blk, 0, DISK, buf, 0), ==, 0);
    for (int i = 0; i < DISK; i++) {
        int sector = i / SECTOR;

        if (!memchr(t->values[sector], buf[i], t->nb_values[sector])) {
            g_test_message("byte %d of sector %d is %d, not %d", i % SECTOR,
                           sector, buf[i],
                           t->values[sector][t->nb_values[sector] - 1]);
            g_test_fail();
            return;
        }
    }
}

/* True if the fault happened, i.e. the script has not ended yet. */
static bool run_with_fault(const TestGeometry *g, int fail_after, bool reads,
                           bool once)
{
    g_autofree FaultTest *t = g_new0(FaultTest, 1);
    BdrvCheckResult res;
    bool failed;

    t->g = g;
    t->once = once;
    for (int i = 0; i < NB_SECTORS; i++) {
        t->nb_values[i] = 1;
    }
    t->disk = ram_disk_new(2 * 1024 * 1024);
    ram_disk_format(t->disk, g);
    t->blk = ram_disk_open(t->disk, BDRV_O_RDWR | BDRV_O_UNMAP,
                           "'l2-cache-size': 1024, 'l2-cache-entry-size': 512,"
                           "'pass-discard-request': true", NULL);
    t->disk->fail_after = fail_after;
    t->disk->fail_reads = reads;
    t->disk->fail_once = once;
    run_script(t);
    if (once) {
        /* Nothing fails any more: what is said to be done is there. */
        t->disk->fail_after = -1;
        verify(t, t->blk);
    }
    /* If the fault hit nothing so far it may hit closing. */
    blk_unref(t->blk);
    failed = t->disk->failed;
    t->disk->fail_after = -1;

    t->blk = ram_disk_open(t->disk, g->lazy ? BDRV_O_RDWR : 0, NULL, NULL);
    assert_consistent(t->blk, &res);
    if (!failed) {
        g_assert_cmpint(res.leaks, ==, 0);
    }
    verify(t, t->blk);
    blk_unref(t->blk);
    ram_disk_free(t->disk);
    return failed;
}

static void test_fault(const void *opaque)
{
    const TestGeometry *g = opaque;

    for (int mode = 0; mode < 4; mode++) {
        int n = 0;

        while (run_with_fault(g, n, mode & 1, mode & 2)) {
            if (g_test_failed()) {
                g_test_message("mode %d, request %d", mode, n);
                return;
            }
            n++;
        }
        g_test_message("mode %d: %d requests", mode, n);
        g_assert_cmpint(n, >, 20);
    }
}

/* The file cannot grow: writes fail, nothing else. */
static void test_enospc(void)
{
    const TestGeometry g = { 3, 12, 4, DISK, false };
    g_autofree FaultTest *t = g_new0(FaultTest, 1);

    for (int i = 0; i < NB_SECTORS; i++) {
        t->nb_values[i] = 1;
    }
    t->g = &g;
    t->once = true;
    t->disk = ram_disk_new(96 * 1024);
    ram_disk_format(t->disk, &g);
    t->blk = ram_disk_open(t->disk, BDRV_O_RDWR | BDRV_O_UNMAP, NULL, NULL);
    run_script(t);
    verify(t, t->blk);
    /* Space given back can be used. */
    g_assert_cmpint(blk_pdiscard(t->blk, 0, DISK), ==, 0);
    g_assert_cmpint(blk_flush(t->blk), ==, 0);
    for (int i = 0; i < NB_SECTORS; i++) {
        add_value(t, i, 0, false);
    }
    g_assert_cmpint(run_step(t, &script[0]), ==, 0);
    for (int j = 0; j < script[0].n; j++) {
        add_value(t, j, script[0].value, false);
    }
    verify(t, t->blk);
    blk_unref(t->blk);
    t->blk = ram_disk_open(t->disk, 0, NULL, NULL);
    assert_consistent(t->blk, NULL);
    verify(t, t->blk);
    blk_unref(t->blk);
    ram_disk_free(t->disk);
}

int main(int argc, char **argv)
{
    static const TestGeometry v3 = { 3, 12, 4, DISK, false };
    static const TestGeometry v2 = { 2, 12, 4, DISK, false };
    static const TestGeometry small = { 3, 9, 6, DISK, false };
    static const TestGeometry lazy = { 3, 12, 4, DISK, true };

    qcow2_test_init(&argc, &argv);
    g_test_add_data_func("/qcow2/fault/v3", &v3, test_fault);
    g_test_add_data_func("/qcow2/fault/v2", &v2, test_fault);
    g_test_add_data_func("/qcow2/fault/small-clusters", &small, test_fault);
    g_test_add_data_func("/qcow2/fault/lazy", &lazy, test_fault);
    g_test_add_func("/qcow2/fault/enospc", test_enospc);
    return g_test_run();
}
