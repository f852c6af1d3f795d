/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Another name of the backing file: where the header puts it. What a power cut
 * leaves meanwhile is a matter of tests/crash (workload rename).
 */
#include "util/osdep.h"
#include "qcow2-fixture.h"
#include "util/bswap.h"

static const TestGeometry v3_64k = { 3, 16, 4, 1024 * 1024, false };
static const TestGeometry v3_1k = { 3, 10, 4, 16 * 1024, false };
static const TestGeometry v2_1k = { 2, 10, 4, 16 * 1024, false };
static const TestGeometry v3_512 = { 3, 9, 4, 16 * 1024, false };

static RamDisk *formatted(const TestGeometry *g)
{
    RamDisk *disk = ram_disk_new(2 * 1024 * 1024);

    ram_disk_format(disk, g);
    return disk;
}

static char *name_of(int bytes, char c)
{
    char *name = g_malloc0(bytes + 1);

    memset(name, c, bytes);
    return name;
}

static int rename_to(RamDisk *disk, const char *name, const char *format)
{
    BlockBackend *blk = ram_disk_open(disk, BDRV_O_RDWR | BDRV_O_NO_BACKING,
                                      NULL, NULL);
    int ret = bdrv_change_backing_file(blk_bs(blk), name, format);

    blk_unref(blk);
    return ret;
}

static void assert_name(RamDisk *disk, const char *name, const char *format)
{
    BlockBackend *blk = ram_disk_open(disk, BDRV_O_NO_BACKING, NULL, NULL);
    BDRVQcow2State *s = blk_bs(blk)->opaque;

    g_assert_cmpstr(s->image_backing_file, ==, name);
    g_assert_cmpstr(s->image_backing_format, ==, format);
    blk_unref(blk);
}

/* Whatever way a header took, it ends up in the usual form. */
static void test_usual_layout(void)
{
    static const struct {
        int bytes;
        const char *format;
    } steps[] = {
        { 20, "raw" }, { 900, "parallels" }, { 1000, NULL }, { 0, NULL },
        { 1000, "host_device" }, { 1000, "raw" }, { 1, NULL }, { 1, "qcow2" },
    };
    RamDisk *disk = formatted(&v3_64k);

    for (unsigned i = 0; i < ARRAY_SIZE(steps); i++) {
        g_autofree char *name = steps[i].bytes ? name_of(steps[i].bytes,
                                                         'a' + i) : NULL;
        const uint8_t *h = disk->data;

        g_assert_cmpint(rename_to(disk, name, steps[i].format), ==, 0);
        assert_name(disk, name, steps[i].format);
        g_assert_cmphex(ldl_be_p(h + 112), ==,
                        steps[i].format ? QCOW2_EXT_MAGIC_BACKING_FORMAT
                                        : QCOW2_EXT_MAGIC_FEATURE_TABLE);
        g_assert_nonnull(memmem(h, 1024, "lazy refcounts", 14));
    }
    ram_disk_free(disk);
}

/* Two long names do not fit into a small cluster: the old one stays. */
static void test_no_room(const void *opaque)
{
    RamDisk *disk = formatted(opaque);
    g_autofree char *old = name_of(600, 'a');
    g_autofree char *new = name_of(700, 'b');
    g_autofree uint8_t *before = NULL;

    g_assert_cmpint(rename_to(disk, old, "raw"), ==, 0);
    before = g_memdup2(disk->data, 1024);
    g_assert_cmpint(rename_to(disk, new, "raw"), ==, -ENOSPC);
    g_assert_cmpmem(disk->data, 1024, before, 1024);
    assert_name(disk, old, "raw");

    /* By way of a short one it works. */
    g_assert_cmpint(rename_to(disk, "short", "qcow2"), ==, 0);
    g_assert_cmpint(rename_to(disk, new, "raw"), ==, 0);
    assert_name(disk, new, "raw");
    ram_disk_free(disk);
}

/* One sector is written whole: anything that fits. */
static void test_one_sector(void)
{
    RamDisk *disk = formatted(&v3_512);
    g_autofree char *old = name_of(370, 'a');
    g_autofree char *new = name_of(376, 'b');
    g_autofree char *long_one = name_of(377, 'b');

    g_assert_cmpint(rename_to(disk, old, "raw"), ==, 0);
    g_assert_cmpint(rename_to(disk, new, "raw"), ==, 0);
    assert_name(disk, new, "raw");
    g_assert_cmpint(rename_to(disk, long_one, "raw"), ==, -ENOSPC);
    assert_name(disk, new, "raw");
    ram_disk_free(disk);
}

/* A power cut left extensions behind a gap: they are read, the gap goes. */
static void test_gap(void)
{
    RamDisk *disk = formatted(&v3_64k);
    const uint8_t *h = disk->data;
    Qcow2HeaderLayout layout = {
        .fields = {
            .version = 3,
            .cluster_bits = 16,
            .size = v3_64k.size,
            .l1_size = ldl_be_p(h + 36),
            .l1_table_offset = ldq_be_p(h + 40),
            .refcount_table_offset = ldq_be_p(h + 48),
            .refcount_table_clusters = 1,
            .refcount_order = 4,
        },
        .backing_file = "base",
        .backing_format = "raw",
        .extensions_offset = 3000,
    };

    g_assert_cmpint(qcow2_header_build(&layout, disk->data, 65536), >, 3000);
    g_assert_cmphex(ldl_be_p(h + 112), ==, QCOW2_EXT_MAGIC_GAP);
    assert_name(disk, "base", "raw");
    g_assert_cmpint(rename_to(disk, "other", "qcow2"), ==, 0);
    assert_name(disk, "other", "qcow2");
    g_assert_cmphex(ldl_be_p(h + 112), ==, QCOW2_EXT_MAGIC_BACKING_FORMAT);
    ram_disk_free(disk);
}

/* No name in any spelling; and nothing is written to a read-only node. */
static void test_none(void)
{
    RamDisk *disk = formatted(&v3_64k);
    BlockBackend *blk;

    g_assert_cmpint(rename_to(disk, "base", "raw"), ==, 0);
    g_assert_cmpint(rename_to(disk, "", ""), ==, 0);
    assert_name(disk, NULL, NULL);
    g_assert_cmpint(ldq_be_p(disk->data + 8), ==, 0);

    blk = ram_disk_open(disk, 0, NULL, NULL);
    g_assert_cmpint(bdrv_change_backing_file(blk_bs(blk), "base", NULL), ==,
                    -EACCES);
    blk_unref(blk);
    ram_disk_free(disk);
}

int main(int argc, char **argv)
{
    qcow2_test_init(&argc, &argv);
    g_test_add_func("/qcow2-rename/usual-layout", test_usual_layout);
    g_test_add_data_func("/qcow2-rename/no-room/v3", &v3_1k, test_no_room);
    g_test_add_data_func("/qcow2-rename/no-room/v2", &v2_1k, test_no_room);
    g_test_add_func("/qcow2-rename/one-sector", test_one_sector);
    g_test_add_func("/qcow2-rename/gap", test_gap);
    g_test_add_func("/qcow2-rename/none", test_none);
    return g_test_run();
}
