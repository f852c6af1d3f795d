/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A damaged L1 table under a guard: always noticed, never written to, and
 * repaired to what the guest has written wherever a copy is whole. What is not
 * proven is left alone.
 */
#include "util/osdep.h"
#include "qcow2-fixture.h"
#include "block/amend.h"
#include "block/snapshot.h"
#include "qobject/qdict.h"
#include "util/bswap.h"
#include "util/error.h"

/* 128 L1 entries in two sectors; a table maps 32 KiB. */
#define DISK (4 * 1024 * 1024)
#define ENTRY_BYTES (32 * 1024)
#define NB_ENTRIES (DISK / ENTRY_BYTES)
#define L1_BYTES (NB_ENTRIES * 8)

static const TestGeometry geometry = { 3, 9, 4, DISK, false };

/* A sound image, and what its guest reads. */
typedef struct Image {
    uint8_t *file;
    int64_t size;
    uint8_t *disk;
    uint64_t l1;            /* where things are in the file */
    uint64_t guard;
    uint64_t newest;        /* offset of the entry that was set last */
} Image;

/* --- making it --- */

static void write_at(BlockBackend *blk, uint8_t *model, uint64_t offset,
                     uint64_t bytes, uint8_t value)
{
    memset(model + offset, value, bytes);
    g_assert_cmpint(blk_pwrite(blk, offset, bytes, model + offset, 0), ==, 0);
}

static void set_guard(BlockBackend *blk, const char *value)
{
    g_autoptr(QDict) options = qdict_new();
    BdrvAmendArgs args = { 0 };

    qdict_put_str(options, "l1_guard", value);
    g_assert_cmpint(bdrv_amend_options(blk_bs(blk), options, &args,
                                       &error_abort), ==, 0);
}

static void image_init(Image *img, unsigned first, bool snapshot)
{
    RamDisk *disk = ram_disk_new(8 * 1024 * 1024);
    QEMUSnapshotInfo info = { .icount = UINT64_MAX };
    BlockBackend *blk;

    *img = (Image) { .disk = g_malloc0(DISK) };
    ram_disk_format(disk, &geometry);
    blk = ram_disk_open(disk, BDRV_O_RDWR, NULL, NULL);
    set_guard(blk, "on");
    for (unsigned i = first; i < NB_ENTRIES; i += 3) {
        write_at(blk, img->disk, i * ENTRY_BYTES + 1024 * (i % 7), 3072,
                 i + 1);
    }
    if (snapshot) {
        g_strlcpy(info.name, "s", sizeof(info.name));
        g_assert_cmpint(bdrv_snapshot_create(blk_bs(blk), &info, &error_abort),
                        ==, 0);
        write_at(blk, img->disk, 30 * ENTRY_BYTES, 4096, 0xee);
    }
    g_assert_cmpint(blk_flush(blk), ==, 0);
    write_at(blk, img->disk, 100 * ENTRY_BYTES, 2048, 0xcc);
    blk_unref(blk);
    img->size = disk->size;
    img->file = g_memdup2(disk->data, disk->size);
    img->l1 = ldq_be_p(img->file + 40);
    img->guard = ldq_be_p(img->file + 120);
    img->newest = img->l1 + 100 * 8;
    g_assert_cmpmem(img->file + img->guard, 8, "L1 GUARD", 8);
    g_assert_cmphex(ldq_be_p(img->file + img->newest), !=, 0);
    ram_disk_free(disk);
}

static void image_clear(Image *img)
{
    g_free(img->file);
    g_free(img->disk);
}

static RamDisk *disk_of(const Image *img)
{
    RamDisk *disk = ram_disk_new(8 * 1024 * 1024);

    memcpy(disk->data, img->file, img->size);
    disk->size = img->size;
    return disk;
}

/* --- looking --- */

/* Warnings and reports are not what is tested. */
static FILE *real_stderr;

static void quiet_begin(void)
{
    real_stderr = stderr;
    stderr = fopen("/dev/null", "w");
}

static void quiet_end(void)
{
    fclose(stderr);
    stderr = real_stderr;
}

static Qcow2GuardState state_of(BlockBackend *blk)
{
    const BDRVQcow2State *s = blk_bs(blk)->opaque;

    return s->guard.state;
}

static Qcow2GuardState state_at_open(RamDisk *disk)
{
    BlockBackend *blk = ram_disk_open(disk, 0, NULL, NULL);
    Qcow2GuardState state = state_of(blk);

    blk_unref(blk);
    return state;
}

static bool opens_for_writing(RamDisk *disk)
{
    Error *err = NULL;
    BlockBackend *blk = ram_disk_open(disk, BDRV_O_RDWR, NULL, &err);

    error_free(err);
    if (!blk) {
        return false;
    }
    blk_unref(blk);
    return true;
}

static void repair_as(RamDisk *disk, BdrvCheckL1Guard choice,
                      BdrvCheckResult *res)
{
    const BdrvCheckOptions opts = {
        .fix = BDRV_FIX_ERRORS | BDRV_FIX_LEAKS, .l1_guard = choice,
    };
    BlockBackend *blk = ram_disk_open(disk, BDRV_O_RDWR | BDRV_O_CHECK, NULL,
                                      NULL);

    *res = (BdrvCheckResult) { 0 };
    g_assert_cmpint(bdrv_check_opts(blk_bs(blk), res, &opts), ==, 0);
    blk_unref(blk);
}

static void repair(RamDisk *disk, BdrvCheckResult *res)
{
    repair_as(disk, BDRV_CHECK_L1_PROVEN, res);
}

/* The guest's data, no fault, and a guard that goes on working. */
static void assert_whole(const Image *img, RamDisk *disk)
{
    g_autofree uint8_t *buf = g_malloc(DISK);
    BlockBackend *blk = ram_disk_open(disk, BDRV_O_RDWR, NULL, NULL);
    BdrvCheckResult res = { 0 };

    g_assert_cmpint(state_of(blk), ==, QCOW2_GUARD_ON);
    g_assert_cmpint(blk_pread(blk, 0, DISK, buf, 0), ==, 0);
    g_assert(!memcmp(buf, img->disk, DISK));
    assert_consistent(blk, &res);
    g_assert_cmpint(res.leaks, ==, 0);
    memset(buf, 0x77, 1024);
    g_assert_cmpint(blk_pwrite(blk, 50 * ENTRY_BYTES, 1024, buf, 0), ==, 0);
    blk_unref(blk);
    g_assert_cmpint(state_at_open(disk), ==, QCOW2_GUARD_ON);
}

/* The L1 table on @disk is damaged: all of the above. */
static void assert_recovers(const Image *img, RamDisk *disk)
{
    BdrvCheckResult res;

    quiet_begin();
    g_assert_cmpint(state_at_open(disk), ==, QCOW2_GUARD_MISMATCH);
    g_assert_false(opens_for_writing(disk));
    repair(disk, &res);
    g_assert_cmpint(res.corruptions, ==, 0);
    g_assert_cmpint(res.corruptions_fixed, >, 0);
    assert_whole(img, disk);
    quiet_end();
}

/* --- damage to the table --- */

static void test_bits(const void *opaque)
{
    bool all = g_test_slow();
    Image img;

    image_init(&img, 0, opaque != NULL);
    for (unsigned bit = 0; bit < 8 * L1_BYTES;
         bit += all ? 1 : g_test_rand_int_range(1, 80)) {
        RamDisk *disk = disk_of(&img);

        disk->data[img.l1 + bit / 8] ^= 1 << (bit % 8);
        assert_recovers(&img, disk);
        ram_disk_free(disk);
    }
    image_clear(&img);
}

static void test_zeroes(const void *opaque)
{
    Image img;
    RamDisk *disk;

    image_init(&img, 1, opaque != NULL);
    disk = disk_of(&img);
    memset(disk->data + img.l1, 0, L1_BYTES);
    assert_recovers(&img, disk);
    ram_disk_free(disk);

    /* Half of it: one sector. */
    disk = disk_of(&img);
    memset(disk->data + img.l1 + 512, 0, 512);
    assert_recovers(&img, disk);
    ram_disk_free(disk);
    image_clear(&img);
}

static void test_random(const void *opaque)
{
    Image img;

    image_init(&img, 2, opaque != NULL);
    for (int i = 0; i < (g_test_slow() ? 300 : 10); i++) {
        RamDisk *disk = disk_of(&img);

        for (unsigned j = 0; j < L1_BYTES; j++) {
            disk->data[img.l1 + j] = g_test_rand_int();
        }
        assert_recovers(&img, disk);
        ram_disk_free(disk);
    }
    image_clear(&img);
}

/* Random places in the file, cluster by cluster, with the flag. */
static void test_plausible(const void *opaque)
{
    Image img;

    image_init(&img, 2, opaque != NULL);
    for (int i = 0; i < (g_test_slow() ? 300 : 10); i++) {
        RamDisk *disk = disk_of(&img);

        for (unsigned j = 0; j < NB_ENTRIES; j++) {
            uint64_t offset = 512 * g_test_rand_int_range(1, img.size / 512);

            stq_be_p(disk->data + img.l1 + j * 8,
                     QCOW_OFLAG_COPIED | offset);
        }
        assert_recovers(&img, disk);
        ram_disk_free(disk);
    }
    image_clear(&img);
}

static void test_other_image(const void *opaque)
{
    Image img, other;
    RamDisk *disk;

    image_init(&img, 1, opaque != NULL);
    image_init(&other, 0, false);
    disk = disk_of(&img);
    memcpy(disk->data + img.l1, other.file + other.l1, L1_BYTES);
    assert_recovers(&img, disk);
    ram_disk_free(disk);
    image_clear(&other);
    image_clear(&img);
}

static void test_swaps(const void *opaque)
{
    Image img;

    image_init(&img, 0, opaque != NULL);
    for (unsigned i = 0; i < NB_ENTRIES; i++) {
        unsigned step = g_test_slow() ? 1 : g_test_rand_int_range(5, 60);

        for (unsigned j = i + 1; j < NB_ENTRIES; j += step) {
            RamDisk *disk = disk_of(&img);
            uint8_t *a = disk->data + img.l1 + i * 8;
            uint8_t *b = disk->data + img.l1 + j * 8;
            uint64_t entry = ldq_be_p(a);

            if (entry != ldq_be_p(b)) {
                stq_be_p(a, ldq_be_p(b));
                stq_be_p(b, entry);
                assert_recovers(&img, disk);
            }
            ram_disk_free(disk);
        }
    }
    image_clear(&img);
}

static void test_newest(const void *opaque)
{
    Image img;
    RamDisk *disk;

    image_init(&img, 0, opaque != NULL);
    disk = disk_of(&img);
    stq_be_p(disk->data + img.newest, 0);
    assert_recovers(&img, disk);
    ram_disk_free(disk);
    image_clear(&img);
}

/* --- damage to the guard --- */

/* The table is right: nothing is lost, and a repair makes the guard whole. */
static void test_guard_sector(void)
{
    Image img;
    BdrvCheckResult res;

    image_init(&img, 0, false);
    for (unsigned bit = 0; bit < 8 * 512; bit += g_test_slow() ? 1 : 97) {
        RamDisk *disk = disk_of(&img);

        disk->data[img.guard + bit / 8] ^= 1 << (bit % 8);
        quiet_begin();
        g_assert_cmpint(state_at_open(disk), ==, QCOW2_GUARD_VOID);
        repair(disk, &res);
        g_assert_cmpint(res.corruptions, ==, 0);
        assert_whole(&img, disk);
        quiet_end();
        ram_disk_free(disk);
    }
    image_clear(&img);
}

static uint64_t copy_of(const Image *img, unsigned i)
{
    return img->guard + 512 + i * L1_BYTES;
}

static unsigned current_copy(const Image *img)
{
    return ldl_be_p(img->file + img->guard + 44);
}

static void test_copy(void)
{
    Image img;
    RamDisk *disk;
    BdrvCheckResult res = { 0 };
    BlockBackend *blk;

    image_init(&img, 0, false);
    disk = disk_of(&img);
    disk->data[copy_of(&img, current_copy(&img)) + 6] ^= 4;
    quiet_begin();
    blk = ram_disk_open(disk, 0, NULL, NULL);
    g_assert_cmpint(state_of(blk), ==, QCOW2_GUARD_ON);
    g_assert_cmpint(bdrv_check(blk_bs(blk), &res, 0), ==, 0);
    g_assert_cmpint(res.corruptions, ==, 1);
    blk_unref(blk);
    repair(disk, &res);
    g_assert_cmpint(res.corruptions_fixed, ==, 1);
    assert_whole(&img, disk);
    quiet_end();
    ram_disk_free(disk);
    image_clear(&img);
}

/* Not found by a check, but a change writes the copy anew, and then it can
 * help. */
static void test_copy_before_change(void)
{
    Image img;
    RamDisk *disk;
    BlockBackend *blk;

    image_init(&img, 0, false);
    disk = disk_of(&img);
    memset(disk->data + copy_of(&img, 0), 0x11, L1_BYTES);
    memset(disk->data + copy_of(&img, 1), 0x22, L1_BYTES);
    blk = ram_disk_open(disk, BDRV_O_RDWR, NULL, NULL);
    write_at(blk, img.disk, 70 * ENTRY_BYTES, 1024, 0x44);
    blk_unref(blk);
    memset(disk->data + img.l1, 0, L1_BYTES);
    assert_recovers(&img, disk);
    ram_disk_free(disk);
    image_clear(&img);
}

/* Neither is whole: nothing is proven, and nothing written. */
static void test_both(void)
{
    Image img;
    RamDisk *disk;
    g_autofree uint8_t *before = NULL;
    BdrvCheckResult res;

    image_init(&img, 0, false);
    disk = disk_of(&img);
    memset(disk->data + copy_of(&img, 0), 0x11, L1_BYTES);
    memset(disk->data + copy_of(&img, 1), 0x22, L1_BYTES);
    stq_be_p(disk->data + img.newest, 0);
    before = g_memdup2(disk->data, disk->size);
    quiet_begin();
    g_assert_cmpint(state_at_open(disk), ==, QCOW2_GUARD_MISMATCH);
    g_assert_false(opens_for_writing(disk));
    repair(disk, &res);
    g_assert_cmpint(res.corruptions, >, 0);
    g_assert_cmpint(res.corruptions_fixed, ==, 0);
    g_assert_cmpmem(before, img.size, disk->data, disk->size);

    /* Nor can it be had by saying so. */
    repair_as(disk, BDRV_CHECK_L1_COPY, &res);
    g_assert_cmpmem(before, img.size, disk->data, disk->size);
    /* The table can, with what it has lost: leaks, which are kept. */
    repair_as(disk, BDRV_CHECK_L1_TABLE, &res);
    g_assert_true(opens_for_writing(disk));
    quiet_end();
    ram_disk_free(disk);
    image_clear(&img);
}

/* Refcounts of a dirty image may be behind: the user decides. */
static void test_dirty(void)
{
    Image img;
    RamDisk *disk;
    g_autofree uint8_t *before = NULL;
    BdrvCheckResult res;

    image_init(&img, 0, false);
    disk = disk_of(&img);
    memset(disk->data + img.l1, 0, L1_BYTES);
    disk->data[79] |= 1;
    before = g_memdup2(disk->data, disk->size);
    quiet_begin();
    g_assert_cmpint(state_at_open(disk), ==, QCOW2_GUARD_MISMATCH);
    g_assert_false(opens_for_writing(disk));
    repair(disk, &res);
    g_assert_cmpmem(before, img.size, disk->data, disk->size);
    repair_as(disk, BDRV_CHECK_L1_COPY, &res);
    g_assert_cmpint(res.corruptions, ==, 0);
    assert_whole(&img, disk);
    quiet_end();
    ram_disk_free(disk);
    image_clear(&img);
}

/* The same, but the references say that the table is right. */
static void test_no_copy(void)
{
    Image img;
    RamDisk *disk;
    BdrvCheckResult res;

    image_init(&img, 0, false);
    disk = disk_of(&img);
    memset(disk->data + copy_of(&img, 0), 0x11, L1_BYTES);
    memset(disk->data + copy_of(&img, 1), 0x22, L1_BYTES);
    /* Another sum, in a sector that is whole. */
    {
        uint8_t *sector = disk->data + img.guard;
        Qcow2GuardHead h;

        g_assert_null(qcow2_guard_decode(sector, &h));
        h.sum = h.old_sum = h.sum + 1;
        qcow2_guard_encode(&h, sector);
    }
    quiet_begin();
    g_assert_cmpint(state_at_open(disk), ==, QCOW2_GUARD_MISMATCH);
    repair(disk, &res);
    g_assert_cmpint(res.corruptions, ==, 0);
    assert_whole(&img, disk);
    quiet_end();
    ram_disk_free(disk);
    image_clear(&img);
}

/* Clusters of the area that others use are not ours any more. */
/* Nor are those that refcounts do not tell of, as after a crash with lazy
 * ones: the repair must not write there. */
static void test_taken_lazily(void)
{
    const uint64_t entry_offset = 7 * 8;
    Image img;
    RamDisk *disk;
    g_autofree uint8_t *buf = g_malloc(512);
    uint64_t l2, place;
    const BDRVQcow2State *s;
    BlockBackend *blk;

    image_init(&img, 0, false);
    disk = disk_of(&img);
    /* Guest cluster 7 moves into one copy; the other one wants repair. */
    l2 = ldq_be_p(disk->data + img.l1) & L1E_OFFSET_MASK;
    place = copy_of(&img, !current_copy(&img)) + 512;
    disk->data[copy_of(&img, current_copy(&img)) + 6] ^= 4;
    memset(disk->data + place, 0xdd, 512);
    stq_be_p(disk->data + l2 + entry_offset, QCOW_OFLAG_COPIED | place);
    disk->data[79] |= 1;
    quiet_begin();
    blk = ram_disk_open(disk, BDRV_O_RDWR, NULL, NULL);
    /* The repair made another one. */
    s = blk_bs(blk)->opaque;
    g_assert_cmpint(state_of(blk), ==, QCOW2_GUARD_ON);
    g_assert_cmphex(s->guard.place.offset, !=, img.guard);
    memset(buf, 0x12, 512);
    g_assert_cmpint(blk_pwrite(blk, 50 * ENTRY_BYTES, 512, buf, 0), ==, 0);
    g_assert_cmpint(blk_pread(blk, 7 * 512, 512, buf, 0), ==, 0);
    for (int i = 0; i < 512; i++) {
        g_assert_cmphex(buf[i], ==, 0xdd);
    }
    blk_unref(blk);
    quiet_end();
    ram_disk_free(disk);
    image_clear(&img);
}

static void test_taken(void)
{
    Image img;
    RamDisk *disk;
    uint64_t block, cluster;

    image_init(&img, 0, false);
    disk = disk_of(&img);
    cluster = img.guard / 512 + 2;
    block = ldq_be_p(disk->data + ldq_be_p(disk->data + 48) +
                     cluster / 256 * 8);
    stw_be_p(disk->data + block + cluster % 256 * 2, 1);
    quiet_begin();
    g_assert_cmpint(state_at_open(disk), ==, QCOW2_GUARD_VOID);
    g_assert_true(opens_for_writing(disk));
    g_assert_cmpint(state_at_open(disk), ==, QCOW2_GUARD_NONE);
    quiet_end();
    ram_disk_free(disk);
    image_clear(&img);
}

/* --- what it costs --- */

/* Flushes and writes of the file for @n new L2 tables, with a flush of the guest
 * after each @batch of them. */
static void count_requests(bool guard, unsigned n, unsigned batch,
                           int *flushes, int *writes)
{
    RamDisk *disk = ram_disk_new(8 * 1024 * 1024);
    g_autofree uint8_t *model = g_malloc0(DISK);
    BlockBackend *blk;

    ram_disk_format(disk, &geometry);
    blk = ram_disk_open(disk, BDRV_O_RDWR, NULL, NULL);
    if (guard) {
        set_guard(blk, "on");
    }
    write_at(blk, model, 0, 512, 1);
    g_assert_cmpint(blk_flush(blk), ==, 0);
    *flushes = disk->flushes;
    *writes = disk->writes;
    for (unsigned i = 1; i <= n; i++) {
        write_at(blk, model, i * 37 % NB_ENTRIES * ENTRY_BYTES, 512, i);
        if (i % batch == 0) {
            g_assert_cmpint(blk_flush(blk), ==, 0);
        }
    }
    *flushes = disk->flushes - *flushes;
    *writes = disk->writes - *writes;
    blk_unref(blk);
    ram_disk_free(disk);
}

/* However many tables are new, their change costs one flush more. */
static void test_cost(void)
{
    static const unsigned batches[] = { 1, 4, 32 };

    for (size_t i = 0; i < G_N_ELEMENTS(batches); i++) {
        unsigned changes = 96 / batches[i];
        int f0, f1, w0, w1;

        count_requests(false, 96, batches[i], &f0, &w0);
        count_requests(true, 96, batches[i], &f1, &w1);
        g_test_message("%u tables a flush: %.2f flushes and %.2f writes a "
                       "change, with a guard %.2f and %.2f", batches[i],
                       (double)f0 / changes, (double)w0 / changes,
                       (double)f1 / changes, (double)w1 / changes);
        g_assert_cmpint(f1 - f0, <=, changes);
        /* Copy and sector; the sector settled; a second sector of copy. */
        g_assert_cmpint(w1 - w0, <=, 4 * changes);
    }
}

static void add(const char *name, GTestDataFunc fn)
{
    g_autofree char *plain = g_strdup_printf("/qcow2-guard/table/%s", name);
    g_autofree char *with = g_strdup_printf("/qcow2-guard/table-snapshot/%s",
                                            name);

    g_test_add_data_func(plain, NULL, fn);
    g_test_add_data_func(with, "snapshot", fn);
}

int main(int argc, char **argv)
{
    qcow2_test_init(&argc, &argv);
    add("every-bit", test_bits);
    add("zeroes", test_zeroes);
    add("random", test_random);
    add("plausible", test_plausible);
    add("other-image", test_other_image);
    add("swaps", test_swaps);
    add("newest", test_newest);
    g_test_add_func("/qcow2-guard/guard/sector", test_guard_sector);
    g_test_add_func("/qcow2-guard/guard/copy", test_copy);
    g_test_add_func("/qcow2-guard/guard/copy-before-change",
                    test_copy_before_change);
    g_test_add_func("/qcow2-guard/guard/both", test_both);
    g_test_add_func("/qcow2-guard/guard/no-copy", test_no_copy);
    g_test_add_func("/qcow2-guard/guard/dirty", test_dirty);
    g_test_add_func("/qcow2-guard/guard/taken", test_taken);
    g_test_add_func("/qcow2-guard/guard/taken-lazily", test_taken_lazily);
    g_test_add_func("/qcow2-guard/cost", test_cost);
    return g_test_run();
}
