/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Headers and tables from hostile hands: each wrong field has its message, and
 * no image whatsoever makes the driver crash. What is unknown but allowed is
 * kept.
 */
#include "util/osdep.h"
#include "block/reopen.h"
#include "qcow2-fixture.h"
#include "util/bswap.h"

static const TestGeometry v3 = { 3, 12, 4, 1024 * 1024, false };
static const TestGeometry v2 = { 2, 12, 4, 1024 * 1024, false };

static RamDisk *formatted(const TestGeometry *g)
{
    RamDisk *disk = ram_disk_new(2 * 1024 * 1024);

    ram_disk_format(disk, g);
    return disk;
}

/* --- fields --- */

typedef struct BadField {
    const char *name;
    int pos;
    int bytes;
    uint64_t value;
    const char *message;
} BadField;

static const BadField bad_fields[] = {
    { "magic", 0, 4, 0x514649fc, "Image is not in qcow2 format" },
    { "version-1", 4, 4, 1, "Unsupported qcow2 version 1" },
    { "version-4", 4, 4, 4, "Unsupported qcow2 version 4" },
    { "backing-offset", 8, 8, 4097, "Invalid backing file offset" },
    { "cluster-bits-8", 20, 4, 8, "Unsupported cluster size: 2^8" },
    { "cluster-bits-22", 20, 4, 22, "Unsupported cluster size: 2^22" },
    { "cluster-bits-255", 20, 4, 255, "Unsupported cluster size: 2^255" },
    { "size", 24, 8, INT64_MAX, "Image is too big" },
    { "size-l1", 24, 8, 1ULL << 40, "L1 table is too small" },
#ifdef CONFIG_GCRYPT
    { "encryption-aes", 32, 4, 1,
      "Parameter 'encrypt.key-secret' is required for cipher" },
#endif
    { "encryption-3", 32, 4, 3, "Unsupported encryption method 3" },
    { "l1-size", 36, 4, 0x7fffffff, "Active L1 table too large" },
    { "l1-offset", 40, 8, 1234, "Active L1 table offset invalid" },
    { "l1-offset-high", 40, 8, 1ULL << 60, "Active L1 table offset invalid" },
    { "reftable-offset", 48, 8, 513,
      "Reference count table offset invalid" },
    { "reftable-clusters", 56, 4, 0xffffffff,
      "Reference count table too large" },
    { "reftable-none", 56, 4, 0,
      "Image does not contain a reference count table" },
    { "snapshots", 60, 4, 65537, "Snapshot table too large" },
    { "data-file", 72, 8, 4,
      "'data-file' is required for this image" },
    { "data-file-raw", 88, 8, 2, "data-file-raw requires a data file" },
    { "extended-l2", 72, 8, 16,
      "Unsupported subcluster size: 128" },
    { "incompatible", 72, 8, 1ULL << 40,
      "Unsupported qcow2 feature(s): Unknown incompatible feature: "
      "10000000000" },
    { "compression-bit", 72, 8, 8,
      "qcow2: Compression type incompatible feature bit must not be set" },
    { "compression-type", 104, 1, 1,
      "qcow2: Compression type incompatible feature bit must be set" },
    { "compression-type-9", 104, 1, 9,
      "qcow2: unknown or unsupported compression type: 9" },
    { "refcount-order", 96, 4, 7, "Reference count entry width too large; may "
      "not exceed 64 bits" },
    { "header-short", 100, 4, 96, "qcow2 header too short" },
    { "header-long", 100, 4, 4104, "qcow2 header exceeds cluster size" },
    { "extension", 112, 8, 0x12345678ffffffff, "Header extension too large" },
    { "extension-end", 112, 8, 0x00000000ffffffff,
      "Header extension too large" },
    { "backing-format", 112, 8, 0xe2792aca00000100,
      "backing format extension too large (len=256)" },
};

static void put_be(uint8_t *p, int bytes, uint64_t value)
{
    for (int i = 0; i < bytes; i++) {
        p[i] = value >> (8 * (bytes - 1 - i));
    }
}

static void test_bad_field(const void *opaque)
{
    const BadField *f = opaque;
    RamDisk *disk = formatted(&v3);
    Error *err = NULL;

    put_be(disk->data + f->pos, f->bytes, f->value);
    g_assert_null(ram_disk_open(disk, 0, NULL, &err));
    g_assert_cmpstr(error_get_pretty(err), ==, f->message);
    error_free(err);
    ram_disk_free(disk);
}

/* The corrupt bit forbids writing, not reading. */
static void test_corrupt_bit(void)
{
    RamDisk *disk = formatted(&v3);
    Error *err = NULL;

    put_be(disk->data + 72, 8, QCOW2_INCOMPAT_CORRUPT);
    g_assert_null(ram_disk_open(disk, BDRV_O_RDWR, NULL, &err));
    g_assert_cmpstr(error_get_pretty(err), ==,
                    "qcow2: Image is corrupt; cannot be opened read/write");
    error_free(err);
    blk_unref(ram_disk_open(disk, 0, NULL, NULL));
    blk_unref(ram_disk_open(disk, BDRV_O_RDWR | BDRV_O_CHECK, NULL, NULL));
    ram_disk_free(disk);
}

/* --- kept --- */

static void coroutine_fn rewrite_header(BlockDriverState *bs)
{
    g_assert_cmpint(qcow2_update_header(bs), ==, 0);
}

/* An unknown extension and unknown header fields survive a rewrite. */
static void test_unknown_kept(void)
{
    static const uint8_t ext[] = {
        0x12, 0x34, 0x56, 0x78, 0, 0, 0, 5, 'h', 'e', 'l', 'l', 'o', 0, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0,
    };
    RamDisk *disk = formatted(&v3);
    BlockBackend *blk;
    uint8_t *before = g_malloc(4096);

    /* A header of 120 bytes. */
    put_be(disk->data + 100, 4, 120);
    memset(disk->data + 112, 0, 4096 - 112);
    memset(disk->data + 112, 0xab, 8);
    memcpy(disk->data + 120, ext, sizeof(ext));
    memcpy(before, disk->data, 4096);

    blk = ram_disk_open(disk, BDRV_O_RDWR, NULL, NULL);
    run_locked(blk, rewrite_header);
    blk_unref(blk);
    g_assert_cmpmem(disk->data, 120, before, 120);
    g_assert_nonnull(memmem(disk->data, 4096, ext, 13));
    blk_unref(ram_disk_open(disk, 0, NULL, NULL));
    g_free(before);
    ram_disk_free(disk);
}

/* Reading and writing the same header gives the same bytes. */
static void test_rewrite_same(const void *opaque)
{
    RamDisk *disk = formatted(opaque);
    g_autofree uint8_t *before = g_memdup2(disk->data, 4096);
    BlockBackend *blk = ram_disk_open(disk, BDRV_O_RDWR, NULL, NULL);

    run_locked(blk, rewrite_header);
    blk_unref(blk);
    g_assert_cmpmem(disk->data, 4096, before, 4096);
    ram_disk_free(disk);
}

/* Unknown autoclear bits go when the image is opened for writing only. */
static void test_autoclear(void)
{
    RamDisk *disk = formatted(&v3);

    put_be(disk->data + 88, 8, 1ULL << 20);
    blk_unref(ram_disk_open(disk, 0, NULL, NULL));
    g_assert_cmphex(ldq_be_p(disk->data + 88), ==, 1ULL << 20);
    blk_unref(ram_disk_open(disk, BDRV_O_RDWR | BDRV_O_CHECK, NULL, NULL));
    g_assert_cmphex(ldq_be_p(disk->data + 88), ==, 1ULL << 20);
    blk_unref(ram_disk_open(disk, BDRV_O_RDWR, NULL, NULL));
    g_assert_cmphex(ldq_be_p(disk->data + 88), ==, 0);
    ram_disk_free(disk);
}

/* A bit that belongs to nothing: the first change clears it. */
static void test_no_bitmaps(void)
{
    RamDisk *disk = formatted(&v3);
    BlockBackend *blk;
    uint8_t buf[512] = { 1 };

    put_be(disk->data + 88, 8, QCOW2_AUTOCLEAR_BITMAPS);
    blk = ram_disk_open(disk, BDRV_O_RDWR, NULL, NULL);
    g_assert_cmphex(ldq_be_p(disk->data + 88), ==, QCOW2_AUTOCLEAR_BITMAPS);
    g_assert_cmpint(blk_pwrite(blk, 0, 512, buf, 0), ==, 0);
    g_assert_cmphex(ldq_be_p(disk->data + 88), ==, 0);
    blk_unref(blk);
    ram_disk_free(disk);
}

/*
 * Stored bitmaps that cannot be read become void with the first change, and
 * stay till then.
 */
static void test_bitmaps(void)
{
    RamDisk *disk = formatted(&v3);
    BlockBackend *blk;
    uint8_t *p = disk->data + 112;
    uint8_t buf[512] = { 1 };

    memset(p, 0, 4096 - 112);
    put_be(p, 4, QCOW2_EXT_MAGIC_BITMAPS);
    put_be(p + 4, 4, 24);
    put_be(p + 8, 4, 1);        /* bitmaps */
    put_be(p + 16, 8, 32);      /* directory: size, offset */
    put_be(p + 24, 8, 64 * 4096);
    put_be(disk->data + 88, 8, QCOW2_AUTOCLEAR_BITMAPS);

    blk = ram_disk_open(disk, BDRV_O_RDWR, "'overlap-check': 'none'", NULL);
    g_assert_cmpint(blk_flush(blk), ==, 0);
    g_assert_cmphex(ldq_be_p(disk->data + 88), ==, QCOW2_AUTOCLEAR_BITMAPS);
    g_assert_cmpint(blk_pwrite(blk, 0, 512, buf, 0), ==, 0);
    g_assert_cmphex(ldq_be_p(disk->data + 88), ==, 0);
    run_locked(blk, rewrite_header);
    blk_unref(blk);
    g_assert_cmphex(ldl_be_p(disk->data + 112), !=, 0);
    blk = ram_disk_open(disk, BDRV_O_RDWR, NULL, NULL);
    run_locked(blk, rewrite_header);
    blk_unref(blk);
    {
        uint8_t magic[4];

        put_be(magic, 4, QCOW2_EXT_MAGIC_BITMAPS);
        g_assert_nonnull(memmem(disk->data, 4096, magic, 4));
    }
    ram_disk_free(disk);
}

/* The dirty bit is set before the first change and gone after closing. */
static void test_dirty_bit(void)
{
    static const TestGeometry lazy = { 3, 12, 4, 1024 * 1024, true };
    RamDisk *disk = formatted(&lazy);
    BlockBackend *blk = ram_disk_open(disk, BDRV_O_RDWR, NULL, NULL);
    uint8_t buf[512] = { 1 };

    g_assert_cmphex(ldq_be_p(disk->data + 72), ==, 0);
    g_assert_cmpint(blk_pwrite(blk, 0, 512, buf, 0), ==, 0);
    g_assert_cmphex(ldq_be_p(disk->data + 72), ==, QCOW2_INCOMPAT_DIRTY);
    blk_unref(blk);
    g_assert_cmphex(ldq_be_p(disk->data + 72), ==, 0);
    ram_disk_free(disk);
}

/* Options of the wrong version. */
static void test_v2_options(void)
{
    RamDisk *disk = formatted(&v2);
    Error *err = NULL;

    g_assert_null(ram_disk_open(disk, BDRV_O_RDWR, "'lazy-refcounts': true",
                                &err));
    g_assert_cmpstr(error_get_pretty(err), ==,
                    "Lazy refcounts require a qcow2 image with at least qemu "
                    "1.1 compatibility level");
    error_free(err);
    err = NULL;
    g_assert_null(ram_disk_open(disk, BDRV_O_RDWR,
                                "'discard-no-unref': true", &err));
    g_assert_cmpstr(error_get_pretty(err), ==,
                    "discard-no-unref is only supported since qcow2 version "
                    "3");
    error_free(err);
    ram_disk_free(disk);
}

/* --- corruption found on the way --- */

/* An L2 table or cluster that is not aligned stops all writing. */
static void test_bad_entry(void)
{
    RamDisk *disk = formatted(&v3);
    BlockBackend *blk = ram_disk_open(disk, BDRV_O_RDWR, NULL, NULL);
    uint8_t buf[512] = { 1 };
    uint64_t l2;

    g_assert_cmpint(blk_pwrite(blk, 0, 512, buf, 0), ==, 0);
    blk_unref(blk);
    l2 = ldq_be_p(disk->data + 3 * 4096) & L1E_OFFSET_MASK;
    g_assert_cmphex(l2, !=, 0);
    stq_be_p(disk->data + l2, 0x12600 | QCOW_OFLAG_COPIED);

    /* Read-only it is an error of the request. */
    blk = ram_disk_open(disk, 0, NULL, NULL);
    g_assert_cmpint(blk_pread(blk, 0, 512, buf, 0), ==, -EIO);
    g_assert_cmpint(blk_pread(blk, 4096, 512, buf, 0), ==, 0);
    blk_unref(blk);

    blk = ram_disk_open(disk, BDRV_O_RDWR, NULL, NULL);
    g_assert_cmpint(blk_pread(blk, 0, 512, buf, 0), ==, -EIO);
    g_assert_cmpint(blk_pread(blk, 4096, 512, buf, 0), ==, 0);
    g_assert_cmpint(blk_pwrite(blk, 8192, 512, buf, 0), ==, -EUCLEAN);
    blk_unref(blk);
    g_assert_cmphex(ldq_be_p(disk->data + 72), ==, QCOW2_INCOMPAT_CORRUPT);
    ram_disk_free(disk);
}

/* A free cluster that metadata lies in is not handed out. */
static void test_overlap(void)
{
    RamDisk *disk = formatted(&v3);
    BlockBackend *blk;
    uint8_t buf[512] = { 1 };

    /* The L1 table has refcount 0. */
    put_be(disk->data + 2 * 4096 + 3 * 2, 2, 0);
    blk = ram_disk_open(disk, BDRV_O_RDWR, NULL, NULL);
    g_assert_cmpint(blk_pwrite(blk, 0, 512, buf, 0), <, 0);
    g_assert_cmpint(blk_pread(blk, 4096, 512, buf, 0), ==, 0);
    blk_unref(blk);
    g_assert_cmphex(ldq_be_p(disk->data + 72), ==, QCOW2_INCOMPAT_CORRUPT);
    g_assert_cmphex(ldq_be_p(disk->data + 3 * 4096), ==, 0);
    ram_disk_free(disk);
}

/* --- anything --- */

static void use_image(BlockBackend *blk)
{
    g_autofree uint8_t *buf = g_malloc0(65536);
    BdrvCheckResult res = { 0 };
    int64_t length = blk_getlength(blk), pnum;

    for (int i = 0; i < 8; i++) {
        int64_t n = MIN(length, 65536);
        int64_t offset = g_test_rand_int_range(0, 1 << 30) %
                         MAX(length - n + 1, 1);

        blk_pread(blk, offset, n, buf, 0);
        bdrv_block_status(blk_bs(blk), offset, n, &pnum, NULL, NULL);
        if (bdrv_is_writable(blk_bs(blk))) {
            blk_pwrite(blk, offset, n / 2, buf, 0);
            blk_pwrite_zeroes(blk, offset, n, BDRV_REQ_MAY_UNMAP);
            blk_pdiscard(blk, offset, n / 3);
            blk_flush(blk);
        }
    }
    bdrv_check(blk_bs(blk), &res, 0);
}

/* Whatever was met, a reopen works or leaves the node as it is. */
static void reopen_image(BlockBackend *blk)
{
    blk_set_perm(blk, BLK_PERM_CONSISTENT_READ, BLK_PERM_ALL, &error_abort);
    for (int i = 0; i < 3; i++) {
        bool read_only = g_test_rand_int_range(0, 2);
        Error *err = NULL;
        int ret = bdrv_reopen_set_read_only(blk_bs(blk), read_only, &err);

        g_assert_true((ret < 0) == (err != NULL));
        error_free(err);
        if (bdrv_is_writable(blk_bs(blk))) {
            blk_set_perm(blk, BLK_PERM_ALL, BLK_PERM_ALL, &error_abort);
        }
        use_image(blk);
        blk_set_perm(blk, BLK_PERM_CONSISTENT_READ, BLK_PERM_ALL,
                     &error_abort);
    }
}

/* A valid image, with some bytes of its metadata changed. */
static void test_mutated(void)
{
    int rounds = g_test_slow() ? 20000 : 400;
    RamDisk *good = formatted(&v3);
    BlockBackend *blk = ram_disk_open(good, BDRV_O_RDWR, NULL, NULL);
    uint8_t buf[8192] = { 1 };

    g_assert_cmpint(blk_pwrite(blk, 0, sizeof(buf), buf, 0), ==, 0);
    g_assert_cmpint(blk_pwrite_compressed(blk, 65536, 4096, buf), ==, 0);
    g_assert_cmpint(blk_pwrite_zeroes(blk, 4096, 4096, 0), ==, 0);
    blk_unref(blk);

    for (int i = 0; i < rounds; i++) {
        RamDisk *disk = ram_disk_new(good->capacity);
        int changes = g_test_rand_int_range(1, 6);
        bool rdwr = g_test_rand_int_range(0, 2);

        memcpy(disk->data, good->data, good->size);
        disk->size = good->size;
        while (changes--) {
            static const int areas[] = { 0, 0, 4096, 8192, 12288, 16384 };
            int area = areas[g_test_rand_int_range(0, ARRAY_SIZE(areas))];
            int pos = area + g_test_rand_int_range(0, 160);

            disk->data[pos] = g_test_rand_int_range(0, 2)
                                  ? g_test_rand_int_range(0, 256)
                                  : disk->data[pos] ^
                                    1 << g_test_rand_int_range(0, 8);
        }
        {
            Error *err = NULL;

            blk = ram_disk_open(disk, rdwr ? BDRV_O_RDWR : 0, NULL, &err);
            if (blk) {
                use_image(blk);
                reopen_image(blk);
                blk_unref(blk);
            }
            error_free(err);
        }
        ram_disk_free(disk);
    }
    ram_disk_free(good);
}

int main(int argc, char **argv)
{
    qcow2_test_init(&argc, &argv);
    for (int i = 0; i < ARRAY_SIZE(bad_fields); i++) {
        g_autofree char *path = g_strdup_printf("/qcow2/header/bad/%s",
                                                bad_fields[i].name);

        g_test_add_data_func(path, &bad_fields[i], test_bad_field);
    }
    g_test_add_func("/qcow2/header/corrupt-bit", test_corrupt_bit);
    g_test_add_func("/qcow2/header/unknown-kept", test_unknown_kept);
    g_test_add_data_func("/qcow2/header/rewrite-v3", &v3, test_rewrite_same);
    g_test_add_data_func("/qcow2/header/rewrite-v2", &v2, test_rewrite_same);
    g_test_add_func("/qcow2/header/autoclear", test_autoclear);
    g_test_add_func("/qcow2/header/bitmaps", test_bitmaps);
    g_test_add_func("/qcow2/header/no-bitmaps", test_no_bitmaps);
    g_test_add_func("/qcow2/header/dirty-bit", test_dirty_bit);
    g_test_add_func("/qcow2/header/v2-options", test_v2_options);
    g_test_add_func("/qcow2/corruption/bad-entry", test_bad_entry);
    g_test_add_func("/qcow2/corruption/overlap", test_overlap);
    g_test_add_func("/qcow2/corruption/mutated", test_mutated);
    return g_test_run();
}
