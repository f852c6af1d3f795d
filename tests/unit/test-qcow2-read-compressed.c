/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Reading many compressed clusters: which of them go together, that any request
 * into any memory gets what was written, and that damage stays where it is.
 */
#include "util/osdep.h"
#include "block/qcow2/compressed.h"
#include "qcow2-fixture.h"

#define CLUSTER 4096
#define CLUSTERS 64
#define DISK (CLUSTERS * CLUSTER - 1024)

static const TestGeometry geometry = { 3, 12, 4, DISK, false };

/* An L2 entry for @sectors sectors, the first of them at most in part. */
static uint64_t entry(const BDRVQcow2State *s, uint64_t host, int sectors)
{
    return QCOW_OFLAG_COMPRESSED | host |
           (uint64_t)(sectors - 1) << s->csize_shift;
}

static void test_what_goes_together(void)
{
    RamDisk *disk = ram_disk_new(1 << 20);
    Qcow2CompressedRun run;
    BlockBackend *blk;
    BDRVQcow2State *s;
    unsigned i;

    ram_disk_format(disk, &geometry);
    blk = ram_disk_open(disk, 0, NULL, NULL);
    s = blk_bs(blk)->opaque;

    /* 612 bytes to the end of the second sector. */
    qcow2_compressed_run_start(s, &run, entry(s, 0x10000 + 412, 2), 100,
                               CLUSTER - 100);
    g_assert_cmpuint(run.host_end, ==, 0x10000 + 1024);
    /* Before it, behind a gap. */
    g_assert_false(qcow2_compressed_run_add(s, &run, entry(s, 0x10000, 1),
                                            CLUSTER));
    g_assert_false(qcow2_compressed_run_add(s, &run, entry(s, 0x10401, 1),
                                            CLUSTER));
    g_assert_cmpuint(run.nr, ==, 1);
    /* In its last sector, right behind it. */
    g_assert_true(qcow2_compressed_run_add(s, &run, entry(s, 0x103f0, 1),
                                           CLUSTER));
    g_assert_cmpuint(run.clusters[1].start, ==, 0x3f0 - 412);
    g_assert_cmpuint(run.clusters[1].size, ==, 16);
    g_assert_cmpuint(run.host_end, ==, 0x10400);
    g_assert_true(qcow2_compressed_run_add(s, &run, entry(s, 0x10400, 4), 7));
    g_assert_cmpuint(run.host_end, ==, 0x10c00);
    g_assert_cmpuint(run.bytes, ==, 2 * CLUSTER - 100 + 7);
    /* One inside what is there makes it no shorter. */
    g_assert_true(qcow2_compressed_run_add(s, &run, entry(s, 0x10400, 1),
                                           CLUSTER));
    g_assert_cmpuint(run.host_end, ==, 0x10c00);
    for (i = run.nr; i < QCOW2_COMPRESSED_RUN_MAX; i++) {
        g_assert_true(qcow2_compressed_run_add(s, &run,
                                               entry(s, run.host_end, 1),
                                               CLUSTER));
    }
    g_assert_false(qcow2_compressed_run_add(s, &run,
                                            entry(s, run.host_end, 1),
                                            CLUSTER));
    blk_unref(blk);
    ram_disk_free(disk);
}

/* Small requests into one buffer, or a vector of odd elements. */
static void assert_read(BlockBackend *blk, const uint8_t *expect,
                        int64_t offset, int64_t bytes)
{
    g_autofree uint8_t *buf = g_malloc(bytes);
    QEMUIOVector qiov;
    int64_t done = 0;

    memset(buf, 0xee, bytes);
    qemu_iovec_init(&qiov, 4);
    if (g_test_rand_bit()) {
        qemu_iovec_add(&qiov, buf, bytes);
        done = bytes;
    }
    while (done < bytes) {
        int64_t n = g_test_rand_int_range(1, 3 * CLUSTER);

        n = MIN(n, bytes - done);
        qemu_iovec_add(&qiov, buf + done, n);
        done += n;
    }
    g_assert_cmpint(blk_preadv(blk, offset, bytes, &qiov, 0), ==, 0);
    g_assert_cmpmem(buf, bytes, expect + offset, bytes);
    qemu_iovec_destroy(&qiov);
}

/* Something that packs, and differs from its neighbours. */
static void fill_cluster(uint8_t *p, size_t bytes)
{
    size_t noise = g_test_rand_int_range(1, 800), i;

    memset(p, g_test_rand_int(), bytes);
    for (i = 0; i < noise; i++) {
        p[g_test_rand_int_range(0, bytes)] = g_test_rand_int();
    }
}

static void write_cluster(BlockBackend *blk, uint8_t *model, int index)
{
    int64_t offset = (int64_t)index * CLUSTER;
    int64_t bytes = MIN(CLUSTER, DISK - offset);
    int kind = g_test_rand_int_range(0, 8);

    if (kind == 0) {
        memset(model + offset, 0, bytes);
        g_assert_cmpint(blk_pwrite_zeroes(blk, offset, bytes, 0), ==, 0);
        return;
    }
    fill_cluster(model + offset, bytes);
    if (kind == 1) {
        g_assert_cmpint(blk_pwrite(blk, offset, bytes, model + offset, 0), ==,
                        0);
    } else {
        g_assert_cmpint(blk_pwrite_compressed(blk, offset, bytes,
                                              model + offset), ==, 0);
    }
}

static void test_any_request(void)
{
    for (int round = 0; round < (g_test_slow() ? 100 : 10); round++) {
        RamDisk *disk = ram_disk_new(4 << 20);
        g_autofree uint8_t *model = g_malloc0(DISK);
        BlockBackend *blk;
        int i;

        ram_disk_format(disk, &geometry);
        blk = ram_disk_open(disk, BDRV_O_RDWR, NULL, NULL);
        for (i = 0; i < CLUSTERS; i++) {
            write_cluster(blk, model, i);
        }
        /* Some move elsewhere, out of the order they are in. */
        for (i = 0; i < round; i++) {
            write_cluster(blk, model, g_test_rand_int_range(0, CLUSTERS));
        }
        disk->delays = true;
        for (i = 0; i < 100; i++) {
            int64_t offset = g_test_rand_int_range(0, DISK);

            assert_read(blk, model, offset,
                        g_test_rand_int_range(1, DISK - offset + 1));
        }
        assert_read(blk, model, 0, DISK);
        blk_unref(blk);
        ram_disk_free(disk);
    }
}

/* Large ones take fewer requests to the file than they have clusters. */
static void test_few_requests(void)
{
    RamDisk *disk = ram_disk_new(4 << 20);
    g_autofree uint8_t *model = g_malloc(DISK);
    BlockBackend *blk;
    int before;

    ram_disk_format(disk, &geometry);
    blk = ram_disk_open(disk, BDRV_O_RDWR, NULL, NULL);
    for (int64_t offset = 0; offset < DISK; offset += CLUSTER) {
        int64_t bytes = MIN(CLUSTER, DISK - offset);

        fill_cluster(model + offset, bytes);
        g_assert_cmpint(blk_pwrite_compressed(blk, offset, bytes,
                                              model + offset), ==, 0);
    }
    assert_read(blk, model, 0, CLUSTER);
    before = disk->reads;
    assert_read(blk, model, 0, DISK);
    g_assert_cmpint(disk->reads - before, <=, CLUSTERS / 8);
    blk_unref(blk);
    ram_disk_free(disk);
}

/* Where guest cluster 3 is stored. */
static uint64_t victim;

static void coroutine_fn find_victim(BlockDriverState *bs)
{
    uint64_t n = 1, host, l2_entry;
    QCow2ClusterType type;
    int size;

    g_assert_cmpint(qcow2_get_host_offset(bs, 3 * CLUSTER, &n, &host, &type,
                                          &l2_entry), ==, 0);
    g_assert_cmpint(type, ==, QCOW2_CLUSTER_COMPRESSED);
    qcow2_parse_compressed_l2_entry(bs->opaque, l2_entry, &victim, &size);
}

static void test_damage(void)
{
    RamDisk *disk = ram_disk_new(4 << 20);
    g_autofree uint8_t *model = g_malloc(DISK);
    g_autofree uint8_t *buf = g_malloc(DISK);
    BlockBackend *blk;
    int i;

    ram_disk_format(disk, &geometry);
    blk = ram_disk_open(disk, BDRV_O_RDWR, NULL, NULL);
    for (i = 0; i < 8; i++) {
        fill_cluster(model + i * CLUSTER, CLUSTER);
        g_assert_cmpint(blk_pwrite_compressed(blk, i * CLUSTER, CLUSTER,
                                              model + i * CLUSTER), ==, 0);
    }
    run_locked(blk, find_victim);
    /* A block type that does not exist, in the first byte of its stream. */
    disk->data[victim] |= 6;
    g_assert_cmpint(blk_pread(blk, 0, 8 * CLUSTER, buf, 0), ==, -EIO);
    g_assert_cmpint(blk_pread(blk, 3 * CLUSTER, 1, buf, 0), ==, -EIO);
    assert_read(blk, model, 0, 3 * CLUSTER);
    assert_read(blk, model, 4 * CLUSTER, 4 * CLUSTER);
    blk_unref(blk);

    /* The file cannot be read. */
    blk = ram_disk_open(disk, BDRV_O_RDWR, NULL, NULL);
    g_assert_cmpint(blk_pread(blk, 0, 1, buf, 0), ==, 0);
    disk->fail_after = 0;
    disk->fail_reads = true;
    g_assert_cmpint(blk_pread(blk, 0, 3 * CLUSTER, buf, 0), ==, -EIO);
    disk->fail_after = -1;
    assert_read(blk, model, 0, 3 * CLUSTER);
    blk_unref(blk);
    ram_disk_free(disk);
}

int main(int argc, char **argv)
{
    qcow2_test_init(&argc, &argv);
    g_test_add_func("/qcow2/read-compressed/together",
                    test_what_goes_together);
    g_test_add_func("/qcow2/read-compressed/any-request", test_any_request);
    g_test_add_func("/qcow2/read-compressed/few-requests", test_few_requests);
    g_test_add_func("/qcow2/read-compressed/damage", test_damage);
    return g_test_run();
}
