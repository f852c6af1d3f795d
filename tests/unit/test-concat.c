/* SPDX-License-Identifier: GPL-2.0-or-later */
/* concat: one disk of several nodes, whatever their lengths. */
#include "util/osdep.h"
#include "file-fixture.h"
#include "block/driver-table.h"

#define READ BLK_PERM_CONSISTENT_READ
#define KiB 1024

static const int64_t lengths[] = { 64 * KiB, 0, 1000, 512, 3 * KiB + 1,
                                   128 * KiB };
#define NB_PARTS ARRAY_SIZE(lengths)

typedef struct Disk {
    char *paths[NB_PARTS];
    int64_t starts[NB_PARTS];
    int64_t length;
} Disk;

static void disk_make(Disk *d)
{
    d->length = 0;
    for (int i = 0; i < NB_PARTS; i++) {
        g_autofree char *name = g_strdup_printf("part%d", i);

        d->paths[i] = file_test_make(name, lengths[i]);
        d->starts[i] = d->length;
        d->length += ROUND_UP(lengths[i], 512);
    }
}

static void disk_clear(Disk *d)
{
    for (int i = 0; i < NB_PARTS; i++) {
        g_free(d->paths[i]);
    }
}

static BlockDriverState *disk_open(const Disk *d, int flags, Error **errp)
{
    g_autoptr(GString) json = g_string_new(
        "{'driver': 'concat', 'discard': 'unmap', 'files': [");

    for (int i = 0; i < NB_PARTS; i++) {
        /* Not raw, which has no lengths within a sector. */
        g_string_append_printf(json, "%s{'driver': 'file', 'filename': '%s'}",
                               i ? ", " : "", d->paths[i]);
    }
    g_string_append(json, "]}");
    return file_test_open(flags, errp, "%s", json->str);
}

/* Whether the byte at @offset is one that no file has. */
static bool is_padding(const Disk *d, int64_t offset)
{
    for (int i = NB_PARTS - 1; i >= 0; i--) {
        if (offset >= d->starts[i]) {
            return offset - d->starts[i] >= lengths[i];
        }
    }
    return false;
}

static void put_random(const Disk *d, uint8_t *buf, int64_t offset,
                       int64_t bytes)
{
    for (int64_t i = 0; i < bytes; i++) {
        buf[i] = is_padding(d, offset + i) ? 0 : g_test_rand_int();
    }
}

static void run_random(int flags)
{
    Disk d;
    BlockDriverState *bs;
    BlockBackend *blk;
    g_autofree uint8_t *model = NULL, *buf = NULL;
    Error *err = NULL;

    disk_make(&d);
    bs = disk_open(&d, BDRV_O_RDWR | flags, &err);
    if (!bs) {
        g_test_skip(error_get_pretty(err));
        error_free(err);
        disk_clear(&d);
        return;
    }
    g_assert_cmpint(bdrv_getlength(bs), ==, d.length);
    model = g_malloc0(d.length);
    buf = g_malloc(d.length);
    blk = file_test_user(bs, READ | BLK_PERM_WRITE, BLK_PERM_ALL);
    for (int i = 0; i < 1000; i++) {
        int64_t offset = g_test_rand_int_range(0, d.length);
        int64_t bytes = g_test_rand_int_range(
            1, MIN(d.length - offset, i % 3 ? 5000 : d.length) + 1);

        switch (g_test_rand_int_range(0, 4)) {
        case 0:
            put_random(&d, buf, offset, bytes);
            memcpy(model + offset, buf, bytes);
            g_assert_cmpint(blk_pwrite(blk, offset, bytes, buf,
                                       i % 5 ? 0 : BDRV_REQ_FUA), ==, 0);
            break;
        case 1:
            memset(model + offset, 0, bytes);
            g_assert_cmpint(blk_pwrite_zeroes(blk, offset, bytes,
                                              i % 2 ? BDRV_REQ_MAY_UNMAP : 0),
                            ==, 0);
            break;
        default:
            memset(buf, 0xff, bytes);
            g_assert_cmpint(blk_pread(blk, offset, bytes, buf, 0), ==, 0);
            g_assert_cmpmem(buf, bytes, model + offset, bytes);
            break;
        }
    }
    g_assert_cmpint(blk_flush(blk), ==, 0);
    for (int i = 0; i < NB_PARTS; i++) {
        g_autofree char *data = NULL;
        gsize len;

        g_assert_true(g_file_get_contents(d.paths[i], &data, &len, NULL));
        g_assert_cmpmem(data, len, model + d.starts[i], lengths[i]);
    }
    blk_unref(blk);
    bdrv_unref(bs);
    disk_clear(&d);
}

static void test_random(void)
{
    run_random(0);
}

/* What no file has a place for is refused before anything is written. */
static void test_padding(void)
{
    Disk d;
    BlockDriverState *bs;
    BlockBackend *blk;
    int64_t end_of_2;

    disk_make(&d);
    end_of_2 = d.starts[2] + lengths[2];
    bs = disk_open(&d, BDRV_O_RDWR, &error_abort);
    blk = file_test_user(bs, READ | BLK_PERM_WRITE, BLK_PERM_ALL);
    g_assert_cmpint(file_test_fill(blk, end_of_2 - 10, 10, 1), ==, 0);
    g_assert_cmpint(file_test_fill(blk, end_of_2 - 10, 11, 2), ==, -ENOSPC);
    g_assert_true(file_test_reads(blk, end_of_2 - 10, 10, 1));
    g_assert_true(file_test_reads(blk, end_of_2, 24, 0));
    g_assert_cmpint(file_test_fill(blk, end_of_2, 24, 0), ==, 0);
    g_assert_true(file_test_bytes_are(d.paths[2], lengths[2] - 10, 10, 1));
    g_assert_cmpint(file_test_fill(blk, d.length, 1, 1), ==, -EIO);
    blk_unref(blk);
    bdrv_unref(bs);
    disk_clear(&d);
}

static void test_status(void)
{
    Disk d;
    BlockDriverState *bs, *file;
    int64_t offset = 0;

    disk_make(&d);
    bs = disk_open(&d, 0, &error_abort);
    while (offset < d.length) {
        int64_t pnum, map = -1;
        int ret = bdrv_block_status(bs, offset, d.length - offset, &pnum, &map,
                                    &file);

        g_assert_cmpint(ret, >=, 0);
        g_assert_cmpint(pnum, >, 0);
        g_assert_true(ret & BDRV_BLOCK_ZERO);
        if (is_padding(&d, offset)) {
            g_assert_false(ret & BDRV_BLOCK_OFFSET_VALID);
        } else {
            int part = 0;

            while (offset - d.starts[part] >= ROUND_UP(lengths[part], 512)) {
                part++;
            }
            g_assert_true(ret & BDRV_BLOCK_OFFSET_VALID);
            g_assert_cmpint(map, ==, offset - d.starts[part]);
            g_assert_cmpstr(file->filename, ==, d.paths[part]);
            g_assert_cmpint(map + pnum, <=, lengths[part]);
        }
        offset += pnum;
    }
    g_assert_cmpint(offset, ==, d.length);
    bdrv_unref(bs);
    disk_clear(&d);
}

static void test_discard(void)
{
    Disk d;
    BlockDriverState *bs;
    BlockBackend *blk;

    disk_make(&d);
    bs = disk_open(&d, BDRV_O_RDWR, &error_abort);
    blk = file_test_user(bs, READ | BLK_PERM_WRITE, BLK_PERM_ALL);
    g_assert_cmpint(file_test_fill(blk, 0, 64 * KiB, 1), ==, 0);
    g_assert_cmpint(file_test_fill(blk, d.starts[5], 128 * KiB, 1), ==, 0);
    g_assert_cmpint(blk_pdiscard(blk, 0, d.length), ==, 0);
    g_assert_cmpint(bdrv_get_allocated_file_size(bs), <, 64 * KiB);
    blk_unref(blk);
    bdrv_unref(bs);
    disk_clear(&d);
}

/* Its parts cannot change their length behind its back, nor it theirs. */
static void test_permissions(void)
{
    Disk d;
    BlockDriverState *bs;
    BlockBackend *blk;
    Error *err = NULL;

    disk_make(&d);
    bs = disk_open(&d, BDRV_O_RDWR, &error_abort);
    blk = file_test_user(bs, BLK_PERM_ALL, BLK_PERM_ALL);
    for (int i = 0; i < NB_PARTS; i++) {
        g_assert_cmphex(file_test_locks(d.paths[i]), ==,
                        (BLK_PERM_ALL & ~BLK_PERM_RESIZE) |
                        BLK_PERM_RESIZE << 8);
    }
    g_assert_cmpint(blk_truncate(blk, d.length * 2, true, PREALLOC_MODE_OFF, 0,
                                 &err), ==, -ENOTSUP);
    error_free_or_abort(&err);
    blk_unref(blk);
    bdrv_unref(bs);
    disk_clear(&d);
}

static void test_errors(void)
{
    g_autofree char *path = file_test_make("one", 512);
    Error *err = NULL;

    g_assert_null(file_test_open(0, &err, "{'driver': 'concat',"
                                 " 'files': []}"));
    error_free_or_abort(&err);
    g_assert_null(file_test_open(
        0, &err, "{'driver': 'concat', 'files': [{'driver': 'file',"
        " 'filename': '%s'}, {'driver': 'file', 'filename': '%s-not'}]}",
        path, path));
    g_assert_true(g_str_has_prefix(error_get_pretty(err), "Could not open"));
    error_free_or_abort(&err);
    g_assert_null(file_test_open(
        0, &err, "{'driver': 'concat', 'files': [{'driver': 'null-co', 'size':"
        " 9223372035781033984}, {'driver': 'null-co', 'size': 512}]}"));
    file_test_error(err, "The files together are too large");
    g_assert_cmphex(file_test_locks(path), ==, 0);
}

/* The name of the whole opens the whole again, however it was given. */
static void test_filename(void)
{
    g_autofree char *path = file_test_make("named", 4096);
    BlockDriverState *part = file_test_open(
        BDRV_O_RDWR, &error_abort, "{'driver': 'file', 'node-name': 'named',"
        " 'filename': '%s'}", path);
    BlockDriverState *bs = file_test_open(
        BDRV_O_RDWR, &error_abort,
        "{'driver': 'concat', 'files': ['named', {'driver': 'null-co',"
        " 'size': 512}]}");
    BlockDriverState *again;

    g_assert_true(g_str_has_prefix(bs->filename, "json:"));
    again = bdrv_open(bs->filename, NULL, NULL, 0, &error_abort);
    g_assert_cmpint(bdrv_getlength(again), ==, 4096 + 512);
    g_assert_cmpstr(again->filename, ==, bs->filename);
    bdrv_unref(again);
    bdrv_unref(bs);
    bdrv_unref(part);
}

/* Read-only and back, parts by name included. */
static void test_reopen(void)
{
    g_autofree char *path = file_test_make("re", 4096);
    BlockDriverState *part = file_test_open(
        BDRV_O_RDWR, &error_abort, "{'driver': 'file', 'node-name': 'part',"
        " 'filename': '%s'}", path);
    BlockDriverState *bs = file_test_open(
        BDRV_O_RDWR, &error_abort,
        "{'driver': 'concat', 'files': ['part', {'driver': 'null-co',"
        " 'size': 512}]}");

    g_assert_cmpint(bdrv_reopen_set_read_only(bs, true, &error_abort), ==, 0);
    g_assert_true(bdrv_is_read_only(bs));
    g_assert_false(bdrv_is_read_only(part));
    g_assert_cmpint(bdrv_reopen_set_read_only(bs, false, &error_abort), ==, 0);
    g_assert_cmpint(bdrv_getlength(bs), ==, 4096 + 512);
    bdrv_unref(bs);
    bdrv_unref(part);
}

int main(int argc, char **argv)
{
    file_test_init(&argc, &argv);
    g_test_add_func("/concat/random", test_random);
    g_test_add_func("/concat/padding", test_padding);
    g_test_add_func("/concat/status", test_status);
    g_test_add_func("/concat/discard", test_discard);
    g_test_add_func("/concat/permissions", test_permissions);
    g_test_add_func("/concat/errors", test_errors);
    g_test_add_func("/concat/filename", test_filename);
    g_test_add_func("/concat/reopen", test_reopen);
    return file_test_run();
}
