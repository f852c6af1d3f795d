/* SPDX-License-Identifier: GPL-2.0-or-later */
/* null-co and null-aio: disks without a memory. */
#include "util/osdep.h"
#include "file-fixture.h"

static const char *const drivers[] = { "null-co", "null-aio" };

static void test_reads(const void *opaque)
{
    BlockBackend *blk = file_test_blk(
        BDRV_O_RDWR, "{'driver': '%s', 'size': 100000, 'read-zeroes': true}",
        (const char *)opaque);
    uint8_t buf[512];
    int64_t pnum;
    int ret;

    g_assert_cmpint(blk_getlength(blk), ==, 100352);
    g_assert_cmpint(file_test_fill(blk, 0, 100000, 1), ==, 0);
    g_assert_cmpint(file_test_fill(blk, 100352, 1, 1), ==, -EIO);
    g_assert_true(file_test_reads(blk, 0, 100000, 0));
    g_assert_cmpint(blk_pwrite_zeroes(blk, 1, 1000, 0), ==, 0);
    g_assert_cmpint(blk_flush(blk), ==, 0);
    ret = bdrv_block_status(blk_bs(blk), 0, 100352, &pnum, NULL, NULL);
    g_assert_true(ret & BDRV_BLOCK_ZERO);
    g_assert_cmpint(pnum, ==, 100352);
    blk_unref(blk);

    /* The buffer stays as it was. */
    blk = file_test_blk(BDRV_O_RDWR, "{'driver': '%s'}",
                        (const char *)opaque);
    g_assert_cmpint(blk_getlength(blk), ==, 1 << 30);
    memset(buf, 0x42, sizeof(buf));
    g_assert_cmpint(blk_pread(blk, 0, sizeof(buf), buf, 0), ==, 0);
    g_assert_cmpint(buf[0], ==, 0x42);
    g_assert_cmpint(buf[sizeof(buf) - 1], ==, 0x42);
    ret = bdrv_block_status(blk_bs(blk), 0, 512, &pnum, NULL, NULL);
    g_assert_cmpint(ret, >=, 0);
    g_assert_false(ret & BDRV_BLOCK_ZERO);
    blk_unref(blk);
}

static void test_latency(const void *opaque)
{
    BlockBackend *blk = file_test_blk(
        BDRV_O_RDWR, "{'driver': '%s', 'latency-ns': 10000000}",
        (const char *)opaque);
    int64_t start = g_get_monotonic_time();
    QDict *options = qdict_new();
    Error *err = NULL;

    g_assert_cmpint(file_test_fill(blk, 0, 512, 1), ==, 0);
    g_assert_cmpint(blk_flush(blk), ==, 0);
    g_assert_cmpint(g_get_monotonic_time() - start, >=, 20000);

    qdict_put_str(options, "latency-ns", "0");
    g_assert_cmpint(bdrv_reopen(blk_bs(blk), options, true, &error_abort), ==,
                    0);
    start = g_get_monotonic_time();
    for (int i = 0; i < 100; i++) {
        g_assert_cmpint(file_test_fill(blk, 0, 512, 1), ==, 0);
    }
    g_assert_cmpint(g_get_monotonic_time() - start, <, 1000000);

    options = qdict_new();
    qdict_put_str(options, "size", "512");
    g_assert_cmpint(bdrv_reopen(blk_bs(blk), options, true, &err), <, 0);
    file_test_error(err, "Cannot change the option 'size'");
    blk_unref(blk);
}

static void test_options(const void *opaque)
{
    g_autofree char *name = g_strdup_printf("%s://", (const char *)opaque);
    g_autofree char *more = g_strconcat(name, "x", NULL);
    g_autofree char *text = g_strdup_printf(
        "The only allowed filename for this driver is '%s'", name);
    BlockDriverState *bs;
    Error *err = NULL;

    bs = bdrv_open(name, NULL, NULL, BDRV_O_PROTOCOL, &error_abort);
    g_assert_cmpstr(bs->filename, ==, name);
    bdrv_unref(bs);
    g_assert_null(bdrv_open(more, NULL, NULL, BDRV_O_PROTOCOL, &err));
    file_test_error(err, text);
    err = NULL;
    g_assert_null(file_test_open(0, &err, "{'driver': '%s',"
                                 " 'size': 9223372036854775807}",
                                 (const char *)opaque));
    file_test_error(err, "size is invalid");
    err = NULL;
    g_assert_null(file_test_open(0, &err, "{'driver': '%s',"
                                 " 'latency-ns': 9223372036854775808}",
                                 (const char *)opaque));
    file_test_error(err, "latency-ns is invalid");
}

int main(int argc, char **argv)
{
    file_test_init(&argc, &argv);
    for (int i = 0; i < ARRAY_SIZE(drivers); i++) {
        g_autofree char *reads = g_strdup_printf("/null/%s/reads", drivers[i]);
        g_autofree char *latency = g_strdup_printf("/null/%s/latency",
                                                   drivers[i]);
        g_autofree char *options = g_strdup_printf("/null/%s/options",
                                                   drivers[i]);

        g_test_add_data_func(reads, drivers[i], test_reads);
        g_test_add_data_func(latency, drivers[i], test_latency);
        g_test_add_data_func(options, drivers[i], test_options);
    }
    return file_test_run();
}
