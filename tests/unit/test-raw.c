/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The format raw: windows, transparency, and guessed images. */
#include "util/osdep.h"
#include "file-fixture.h"
#include "block/driver-table.h"
#include "util/aio.h"

#define READ BLK_PERM_CONSISTENT_READ
#define KiB 1024
#define MiB (1024 * KiB)

static BlockDriverState *open_window(const char *path, const char *window,
                                     Error **errp)
{
    return file_test_open(BDRV_O_RDWR, errp,
                          "{'driver': 'raw', %s 'discard': 'unmap', 'file':"
                          " {'driver': 'file', 'filename': '%s'}}",
                          window, path);
}

static void window_fails(const char *path, const char *window,
                         const char *text)
{
    Error *err = NULL;

    g_assert_null(open_window(path, window, &err));
    file_test_error(err, text);
}

static void test_window_errors(void)
{
    g_autofree char *path = file_test_make("windows", MiB);

    window_fails(path, "'size': 513,", "Specified size is not multiple of 512");
    window_fails(path, "'offset': 1048577,",
                 "Offset (1048577) cannot be greater than size of the "
                 "containing file (1048576)");
    window_fails(path, "'offset': 512, 'size': 1048576,",
                 "The sum of offset (512) and size (1048576) has to be smaller "
                 "or equal to the  actual size of the containing file "
                 "(1048576)");
    window_fails(path, "'offset': 1024, 'size': 18446744073709551104,",
                 "The sum of offset (1024) and size (18446744073709551104) has "
                 "to be smaller or equal to the  actual size of the "
                 "containing file (1048576)");
}

static void test_window(void)
{
    g_autofree char *path = file_test_make("window", MiB);
    BlockDriverState *bs = open_window(path, "'offset': 65536, 'size': 65536,",
                                       &error_abort);
    BlockBackend *blk = file_test_user(bs, BLK_PERM_ALL, BLK_PERM_ALL);
    int64_t pnum, map;
    BlockDriverState *file;
    Error *err = NULL;
    int ret;

    g_assert_cmpint(blk_getlength(blk), ==, 64 * KiB);
    g_assert_cmpint(file_test_fill(blk, 0, 64 * KiB, 0x42), ==, 0);
    g_assert_cmpint(file_test_fill(blk, 64 * KiB, 1, 0x42), ==, -EIO);
    g_assert_cmpint(blk_truncate(blk, 128 * KiB, true, PREALLOC_MODE_OFF, 0,
                                 &err), ==, -ENOTSUP);
    file_test_error(err, "Cannot resize fixed-size raw disks");
    g_assert_cmpint(blk_pwrite_zeroes(blk, 4 * KiB, 4 * KiB,
                                      BDRV_REQ_MAY_UNMAP), ==, 0);
    g_assert_cmpint(blk_pdiscard(blk, 32 * KiB, 4 * KiB), ==, 0);
    g_assert_true(file_test_reads(blk, 4 * KiB, 4 * KiB, 0));

    ret = bdrv_block_status(bs, 4 * KiB, 60 * KiB, &pnum, &map, &file);
    g_assert_cmphex(ret & (BDRV_BLOCK_ZERO | BDRV_BLOCK_OFFSET_VALID), ==,
                    BDRV_BLOCK_ZERO | BDRV_BLOCK_OFFSET_VALID);
    g_assert_cmpint(pnum, ==, 4 * KiB);
    g_assert_cmpint(map, ==, 68 * KiB);
    g_assert_true(file == bs->file->bs);
    blk_unref(blk);
    bdrv_unref(bs);

    g_assert_true(file_test_bytes_are(path, 0, 64 * KiB, 0));
    g_assert_true(file_test_bytes_are(path, 64 * KiB, 4 * KiB, 0x42));
    g_assert_true(file_test_bytes_are(path, 124 * KiB, 4 * KiB, 0x42));
    g_assert_true(file_test_bytes_are(path, 128 * KiB, 64 * KiB, 0));
}

/* An offset alone leaves the end open. */
static void test_offset(void)
{
    g_autofree char *path = file_test_make("offset", MiB);
    BlockDriverState *bs = open_window(path, "'offset': 4096,", &error_abort);
    BlockBackend *blk = file_test_user(bs, BLK_PERM_ALL, BLK_PERM_ALL);
    Error *err = NULL;

    g_assert_cmpint(blk_getlength(blk), ==, MiB - 4096);
    g_assert_cmpint(blk_truncate(blk, 2 * MiB, true, PREALLOC_MODE_OFF, 0,
                                 &error_abort), ==, 0);
    g_assert_cmpint(bdrv_getlength(bs->file->bs), ==, 2 * MiB + 4096);
    g_assert_cmpint(blk_truncate(blk, BDRV_MAX_LENGTH, true,
                                 PREALLOC_MODE_OFF, 0, &err), <, 0);
    error_free_or_abort(&err);
    blk_unref(blk);
    bdrv_unref(bs);
}

/* A window keeps its file from shrinking; the whole file does not care. */
static void test_permissions(void)
{
    g_autofree char *path = file_test_make("perms", MiB);
    BlockDriverState *bs = open_window(path, "", &error_abort);
    BlockBackend *blk = file_test_user(bs, READ | BLK_PERM_WRITE,
                                       BLK_PERM_ALL);

    g_assert_cmphex(bs->file->perm, ==, READ | BLK_PERM_WRITE);
    g_assert_cmphex(bs->file->shared_perm, ==, BLK_PERM_ALL);
    blk_unref(blk);
    bdrv_unref(bs);

    bs = open_window(path, "'size': 512,", &error_abort);
    blk = file_test_user(bs, READ | BLK_PERM_WRITE, BLK_PERM_ALL);
    g_assert_cmphex(bs->file->perm, ==, READ | BLK_PERM_WRITE);
    g_assert_cmphex(bs->file->shared_perm, ==,
                    BLK_PERM_ALL & ~BLK_PERM_RESIZE);
    blk_unref(blk);
    bdrv_unref(bs);
}

static void test_reopen_window(void)
{
    g_autofree char *path = file_test_make("rewindow", MiB);
    BlockDriverState *bs = open_window(path, "", &error_abort);
    BlockBackend *blk = file_test_user(bs, READ | BLK_PERM_WRITE,
                                       BLK_PERM_ALL);
    QDict *options = qdict_new();
    Error *err = NULL;

    qdict_put_str(options, "offset", "512k");
    qdict_put_str(options, "size", "4k");
    g_assert_cmpint(bdrv_reopen(bs, options, true, &error_abort), ==, 0);
    g_assert_cmpint(blk_getlength(blk), ==, 4 * KiB);
    g_assert_cmpint(file_test_fill(blk, 0, 4 * KiB, 0x66), ==, 0);

    options = qdict_new();
    qdict_put_str(options, "offset", "2M");
    g_assert_cmpint(bdrv_reopen(bs, options, true, &err), <, 0);
    file_test_error(err, "Offset (2097152) cannot be greater than size of the "
                         "containing file (1048576)");
    g_assert_cmpint(blk_getlength(blk), ==, 4 * KiB);
    g_assert_true(file_test_reads(blk, 0, 4 * KiB, 0x66));
    blk_unref(blk);
    bdrv_unref(bs);
    g_assert_true(file_test_bytes_are(path, 512 * KiB, 4 * KiB, 0x66));
}

/* --- guessed images --- */

/* What qcow2 is guessed from. */
static const uint8_t qcow2_magic[8] = { 'Q', 'F', 'I', 0xfb, 0, 0, 0, 3 };

static BlockBackend *open_guessed(const char *path)
{
    BlockBackend *blk = blk_new_open(path, NULL, qdict_new(), BDRV_O_RDWR,
                                     &error_abort);

    g_assert_cmpstr(bdrv_get_format_name(blk_bs(blk)), ==, "raw");
    return blk;
}

static void test_guessed(void)
{
    g_autofree char *path = file_test_make("guessed", MiB);
    g_autofree uint8_t *buf = g_malloc0(8 * KiB);
    BlockBackend *blk = open_guessed(path);

    memcpy(buf, qcow2_magic, sizeof(qcow2_magic));
    /* Whole, in parts, or with more: never. */
    g_assert_cmpint(blk_pwrite(blk, 0, 512, buf, 0), ==, -EPERM);
    g_assert_cmpint(blk_pwrite(blk, 0, 8 * KiB, buf, 0), ==, -EPERM);
    g_assert_cmpint(blk_pwrite(blk, 0, 3, buf, 0), ==, 0);
    g_assert_cmpint(blk_pwrite(blk, 3, 5, buf + 3, 0), ==, -EPERM);
    g_assert_true(file_test_reads(blk, 3, 509, 0));

    /* Anything else there, and that elsewhere, is fine. */
    g_assert_cmpint(file_test_fill(blk, 0, 8 * KiB, 0x99), ==, 0);
    g_assert_true(file_test_reads(blk, 0, 8 * KiB, 0x99));
    g_assert_cmpint(blk_pwrite(blk, 512, 8 * KiB, buf, 0), ==, 0);
    g_assert_cmpint(blk_pwrite_zeroes(blk, 0, 4 * KiB, 0), ==, 0);
    blk_unref(blk);

    blk = file_test_blk(BDRV_O_RDWR, "{'driver': 'raw', 'file':"
                        " {'driver': 'file', 'filename': '%s'}}", path);
    g_assert_cmpint(blk_pwrite(blk, 0, 512, buf, 0), ==, 0);
    blk_unref(blk);
}

typedef struct CopyArgs {
    BlockBackend *blk;
    int64_t from, to;
} CopyArgs;

static int coroutine_fn copy_entry(void *opaque)
{
    CopyArgs *a = opaque;

    return bdrv_co_copy_range(blk_root(a->blk), a->from, blk_root(a->blk),
                              a->to, 512, 0, 0);
}

/* The kernel does not look at what it copies. */
static void test_guessed_copy(void)
{
    g_autofree char *path = file_test_make("guessedcopy", MiB);
    BlockBackend *blk = open_guessed(path);
    CopyArgs a = { blk, 4 * KiB, 0 };

    g_assert_cmpint(blk_pwrite(blk, 4 * KiB, sizeof(qcow2_magic), qcow2_magic,
                               0), ==, 0);
    g_assert_cmpint(bdrv_run_co(copy_entry, &a), ==, -ENOTSUP);
    g_assert_true(file_test_reads(blk, 0, 4 * KiB, 0));
    a.to = 8 * KiB;
    g_assert_cmpint(bdrv_run_co(copy_entry, &a), ==, 0);
    blk_unref(blk);
}

/* --- measuring and making --- */

static void test_measure(void)
{
    g_autofree char *path = file_test_make("measure", 1000);
    BlockDriverState *bs = open_window(path, "", &error_abort);
    QDict *options = qdict_new();
    BlockMeasureInfo *info;

    info = bdrv_raw.bdrv_measure(options, bs, &error_abort);
    g_assert_cmpint(info->required, ==, 1024);
    g_assert_cmpint(info->fully_allocated, ==, 1024);
    qapi_free_BlockMeasureInfo(info);
    bdrv_unref(bs);

    qdict_put_str(options, "size", "10M");
    info = bdrv_raw.bdrv_measure(options, NULL, &error_abort);
    g_assert_cmpint(info->required, ==, 10 * MiB);
    qapi_free_BlockMeasureInfo(info);
    qobject_unref(options);
}

int main(int argc, char **argv)
{
    file_test_init(&argc, &argv);
    g_test_add_func("/raw/window-errors", test_window_errors);
    g_test_add_func("/raw/window", test_window);
    g_test_add_func("/raw/offset", test_offset);
    g_test_add_func("/raw/permissions", test_permissions);
    g_test_add_func("/raw/reopen-window", test_reopen_window);
    g_test_add_func("/raw/guessed", test_guessed);
    g_test_add_func("/raw/guessed-copy", test_guessed_copy);
    g_test_add_func("/raw/measure", test_measure);
    return file_test_run();
}
