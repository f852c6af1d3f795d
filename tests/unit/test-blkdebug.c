/* SPDX-License-Identifier: GPL-2.0-or-later */
/* blkdebug: rules, states, breakpoints, limits, permissions, file names. */
#include "util/osdep.h"
#include "file-fixture.h"
#include "block/driver-table.h"
#include "util/aio.h"

#define READ BLK_PERM_CONSISTENT_READ
#define KiB 1024

/* A backend on blkdebug with these further options. */
static BlockBackend *open_debug(const char *options)
{
    return file_test_blk(BDRV_O_RDWR,
                         "{'driver': 'blkdebug', 'discard': 'unmap', %s"
                         " 'image': {'driver': 'null-co', 'read-zeroes': true,"
                         " 'size': 1048576}}", options);
}

static int do_read(BlockBackend *blk, int64_t offset, int64_t bytes)
{
    g_autofree uint8_t *buf = g_malloc(bytes);

    return blk_pread(blk, offset, bytes, buf, 0);
}

static int do_write(BlockBackend *blk, int64_t offset, int64_t bytes)
{
    return file_test_fill(blk, offset, bytes, 1);
}

typedef struct EventArgs {
    BlockDriverState *bs;
    BlkdebugEvent event;
} EventArgs;

static int coroutine_fn event_entry(void *opaque)
{
    EventArgs *a = opaque;

    bdrv_co_debug_event(a->bs, a->event);
    return 0;
}

static void event(BlockBackend *blk, BlkdebugEvent event)
{
    EventArgs a = { blk_bs(blk), event };

    bdrv_run_co(event_entry, &a);
}

/* "none" holds from the beginning; default errno; all kinds but status. */
static void test_always(void)
{
    BlockBackend *blk = open_debug("'inject-error': [{'event': 'none'}],");

    g_assert_cmpint(do_read(blk, 0, 512), ==, -EIO);
    g_assert_cmpint(do_read(blk, 0, 512), ==, -EIO);
    g_assert_cmpint(do_write(blk, 0, 512), ==, -EIO);
    g_assert_cmpint(blk_pwrite_zeroes(blk, 0, 512, 0), ==, -EIO);
    g_assert_cmpint(blk_pdiscard(blk, 0, 512), ==, -EIO);
    g_assert_cmpint(blk_flush(blk), ==, -EIO);
    g_assert_cmpint(bdrv_block_status(blk_bs(blk), 0, 512, &(int64_t){ 0 },
                                      NULL, NULL), >=, 0);
    blk_unref(blk);
}

static void test_iotype(void)
{
    BlockBackend *blk = open_debug(
        "'inject-error': [{'event': 'none', 'iotype': 'write', 'errno': 28,"
        " 'immediately': true},"
        " {'event': 'none', 'iotype': 'block-status', 'errno': 5}],");

    g_assert_cmpint(do_read(blk, 0, 512), ==, 0);
    g_assert_cmpint(do_write(blk, 0, 512), ==, -ENOSPC);
    g_assert_cmpint(blk_flush(blk), ==, 0);
    g_assert_cmpint(bdrv_block_status(blk_bs(blk), 0, 512, &(int64_t){ 0 },
                                      NULL, NULL), ==, -EIO);
    blk_unref(blk);
}

/* A sector is hit by every request that covers it, and by no other. */
static void test_sector(void)
{
    BlockBackend *blk = open_debug(
        "'inject-error': [{'event': 'none', 'sector': 10, 'iotype': 'read'}],");

    g_assert_cmpint(do_read(blk, 0, 5120), ==, 0);
    g_assert_cmpint(do_read(blk, 5121, 512), ==, 0);
    g_assert_cmpint(do_read(blk, 0, 5121), ==, -EIO);
    g_assert_cmpint(do_read(blk, 5120, 1), ==, -EIO);
    g_assert_cmpint(blk_flush(blk), ==, 0);
    blk_unref(blk);
}

static void test_once(void)
{
    BlockBackend *blk = open_debug(
        "'inject-error': [{'event': 'none', 'once': true, 'errno': 1},"
        " {'event': 'none', 'once': true, 'errno': 2}],");

    g_assert_cmpint(do_read(blk, 0, 1), ==, -2);
    g_assert_cmpint(do_read(blk, 0, 1), ==, -1);
    g_assert_cmpint(do_read(blk, 0, 1), ==, 0);
    blk_unref(blk);
}

/* Events arm rules, and the next armed rule replaces the one before. */
static void test_events(void)
{
    BlockBackend *blk = open_debug(
        "'inject-error': [{'event': 'l1_update', 'errno': 1},"
        " {'event': 'l2_update', 'errno': 2}],");

    g_assert_cmpint(do_read(blk, 0, 1), ==, 0);
    event(blk, BLKDBG_L1_UPDATE);
    g_assert_cmpint(do_read(blk, 0, 1), ==, -1);
    event(blk, BLKDBG_L2_LOAD);
    g_assert_cmpint(do_read(blk, 0, 1), ==, -1);
    event(blk, BLKDBG_L2_UPDATE);
    g_assert_cmpint(do_read(blk, 0, 1), ==, -2);
    blk_unref(blk);
}

/* The state changes after all rules of the event were looked at. */
static void test_states(void)
{
    BlockBackend *blk = open_debug(
        "'set-state': [{'event': 'l2_load', 'state': 1, 'new_state': 2},"
        " {'event': 'l2_load', 'state': 2, 'new_state': 3}],"
        " 'inject-error': [{'event': 'l2_load', 'state': 2, 'errno': 1,"
        " 'once': true}, {'event': 'l2_load', 'state': 3, 'errno': 2,"
        " 'once': true}],");

    event(blk, BLKDBG_L2_LOAD);
    g_assert_cmpint(do_read(blk, 0, 1), ==, 0);
    event(blk, BLKDBG_L2_LOAD);
    g_assert_cmpint(do_read(blk, 0, 1), ==, -1);
    event(blk, BLKDBG_L2_LOAD);
    g_assert_cmpint(do_read(blk, 0, 1), ==, -2);
    event(blk, BLKDBG_L2_LOAD);
    g_assert_cmpint(do_read(blk, 0, 1), ==, 0);
    blk_unref(blk);
}

/* A delay alone is no error. */
static void test_delay(void)
{
    BlockBackend *blk = open_debug(
        "'inject-error': [{'event': 'none', 'iotype': 'read', 'errno': 0,"
        " 'delay-ns': 20000000}],");
    int64_t start = g_get_monotonic_time();

    g_assert_cmpint(do_read(blk, 0, 1), ==, 0);
    g_assert_cmpint(g_get_monotonic_time() - start, >=, 20000);
    blk_unref(blk);
}

/* --- breakpoints --- */

/*
 * blkdebug tells on stdout what it suspends, where the lines of this test
 * program do not belong. Returns what restores it.
 */
static int silence_stdout(void)
{
    int saved = dup(STDOUT_FILENO);
    int null = open("/dev/null", O_WRONLY | O_CLOEXEC);

    fflush(stdout);
    g_assert_cmpint(dup2(null, STDOUT_FILENO), ==, STDOUT_FILENO);
    close(null);
    return saved;
}

static void restore_stdout(int saved)
{
    fflush(stdout);
    g_assert_cmpint(dup2(saved, STDOUT_FILENO), ==, STDOUT_FILENO);
    close(saved);
}

static void completed(void *opaque, int ret)
{
    *(int *)opaque = ret;
}

static void test_breakpoint(void)
{
    BlockBackend *blk = open_debug("");
    BlockDriverState *bs = blk_bs(blk);
    BlockDriver *drv = bs->drv;
    uint8_t buf[512] = { 0 };
    QEMUIOVector qiov = QEMU_IOVEC_INIT_BUF(qiov, buf, sizeof(buf));
    int a = 1, b = 1;
    int saved = silence_stdout();

    g_assert_cmpint(drv->bdrv_debug_breakpoint(bs, "nonsense", "A"), ==,
                    -ENOENT);
    g_assert_cmpint(drv->bdrv_debug_resume(bs, "A"), ==, -ENOENT);
    g_assert_cmpint(drv->bdrv_debug_breakpoint(bs, "pwritev", "A"), ==, 0);
    g_assert_false(drv->bdrv_debug_is_suspended(bs, "A"));

    blk_aio_pwritev(blk, 0, &qiov, 0, completed, &a);
    while (!drv->bdrv_debug_is_suspended(bs, "A")) {
        aio_poll(qemu_get_aio_context(), true);
    }
    /* It stops one request; others pass. */
    blk_aio_pwritev(blk, 4096, &qiov, 0, completed, &b);
    while (b == 1) {
        aio_poll(qemu_get_aio_context(), true);
    }
    g_assert_cmpint(b, ==, 0);
    g_assert_cmpint(a, ==, 1);
    g_assert_cmpint(drv->bdrv_debug_resume(bs, "B"), ==, -ENOENT);
    g_assert_cmpint(drv->bdrv_debug_resume(bs, "A"), ==, 0);
    while (a == 1) {
        aio_poll(qemu_get_aio_context(), true);
    }
    g_assert_cmpint(a, ==, 0);
    g_assert_false(drv->bdrv_debug_is_suspended(bs, "A"));

    /* Removing one lets go what it stopped. */
    a = 1;
    g_assert_cmpint(drv->bdrv_debug_breakpoint(bs, "pwritev", "C"), ==, 0);
    blk_aio_pwritev(blk, 0, &qiov, 0, completed, &a);
    while (!drv->bdrv_debug_is_suspended(bs, "C")) {
        aio_poll(qemu_get_aio_context(), true);
    }
    g_assert_cmpint(drv->bdrv_debug_remove_breakpoint(bs, "C"), ==, 0);
    while (a == 1) {
        aio_poll(qemu_get_aio_context(), true);
    }
    g_assert_cmpint(drv->bdrv_debug_remove_breakpoint(bs, "C"), ==, -ENOENT);
    g_assert_cmpint(drv->bdrv_debug_breakpoint(bs, "pwritev", "D"), ==, 0);
    g_assert_cmpint(drv->bdrv_debug_remove_breakpoint(bs, "D"), ==, 0);
    g_assert_cmpint(do_write(blk, 0, 512), ==, 0);
    restore_stdout(saved);
    blk_unref(blk);
}

/* --- limits and permissions --- */

static void options_fail(const char *options, const char *text)
{
    Error *err = NULL;

    g_assert_null(file_test_open(
        BDRV_O_RDWR, &err, "{'driver': 'blkdebug', %s 'image':"
        " {'driver': 'null-co'}}", options));
    file_test_error(err, text);
}

static void test_limits(void)
{
    BlockBackend *blk = open_debug(
        "'align': 4096, 'max-transfer': 8192, 'opt-write-zero': 16384,"
        " 'max-write-zero': 32768, 'opt-discard': 8192, 'max-discard': 65536,");
    BlockLimits *bl = &blk_bs(blk)->bl;

    g_assert_cmpuint(bl->request_alignment, ==, 4096);
    g_assert_cmpuint(bl->max_transfer, ==, 8192);
    g_assert_cmpuint(bl->pwrite_zeroes_alignment, ==, 16384);
    g_assert_cmpint(bl->max_pwrite_zeroes, ==, 32768);
    g_assert_cmpuint(bl->pdiscard_alignment, ==, 8192);
    g_assert_cmpint(bl->max_pdiscard, ==, 65536);

    /* The driver asserts that the generic layer respects them. */
    for (int i = 0; i < 200; i++) {
        int64_t offset = g_test_rand_int_range(0, 512 * KiB);
        int64_t bytes = g_test_rand_int_range(1, 256 * KiB);

        g_assert_cmpint(do_write(blk, offset, bytes), ==, 0);
        g_assert_cmpint(do_read(blk, offset, bytes), ==, 0);
        g_assert_cmpint(blk_pwrite_zeroes(blk, offset, bytes, 0), ==, 0);
        g_assert_cmpint(blk_pdiscard(blk, offset, bytes), ==, 0);
    }
    blk_unref(blk);

    options_fail("'align': 1000,", "Cannot meet constraints with align 1000");
    options_fail("'align': 2147483648,",
                 "Cannot meet constraints with align 2147483648");
    options_fail("'align': 4096, 'max-transfer': 512,",
                 "Cannot meet constraints with max-transfer 512");
    options_fail("'opt-write-zero': 4096, 'max-write-zero': 512,",
                 "Cannot meet constraints with max-write-zero 512");
    options_fail("'opt-discard': 4096, 'max-discard': 6144,",
                 "Cannot meet constraints with max-discard 6144");
    options_fail("'inject-error': [{'event': 'none', 'errno': -1}],",
                 "Parameter 'errno' must be between 0 and 4095");
}

static void test_permissions(void)
{
    BlockDriverState *bs = file_test_open(
        BDRV_O_RDWR, &error_abort,
        "{'driver': 'blkdebug', 'take-child-perms': ['write', 'resize'],"
        " 'unshare-child-perms': ['consistent-read'],"
        " 'image': {'driver': 'null-co'}}");
    BlockBackend *blk = file_test_user(bs, READ, BLK_PERM_ALL);

    g_assert_cmphex(bs->file->perm, ==,
                    READ | BLK_PERM_WRITE | BLK_PERM_RESIZE);
    g_assert_cmphex(bs->file->shared_perm, ==, BLK_PERM_ALL & ~READ);
    blk_unref(blk);
    bdrv_unref(bs);
}

/* --- configuration files and names --- */

static void write_file(const char *path, const char *text)
{
    g_assert_true(g_file_set_contents(path, text, -1, NULL));
}

static void config_fails(const char *path, const char *text,
                         const char *message)
{
    g_autofree char *full = g_strdup_printf(message, path);
    Error *err = NULL;

    write_file(path, text);
    g_assert_null(file_test_open(
        BDRV_O_RDWR, &err, "{'driver': 'blkdebug', 'config': '%s', 'image':"
        " {'driver': 'null-co'}}", path));
    file_test_error(err, full);
}

static void test_config(void)
{
    g_autofree char *path = file_test_make("config", 0);
    BlockBackend *blk;

    write_file(path,
               "# comment\n"
               "\n"
               "[inject-error]\n"
               "event = \"l2_load\"\n"
               "errno = \"7\"\n"
               "state=\"2\"\n"
               "once = \"on\"\n"
               "\n"
               "[set-state]\n"
               "  event = \"l1_update\"\n"
               "  new_state = \"2\"\n");
    blk = file_test_blk(BDRV_O_RDWR, "{'driver': 'blkdebug', 'config': '%s',"
                        " 'image': {'driver': 'null-co'}}", path);
    event(blk, BLKDBG_L2_LOAD);
    g_assert_cmpint(do_read(blk, 0, 1), ==, 0);
    event(blk, BLKDBG_L1_UPDATE);
    event(blk, BLKDBG_L2_LOAD);
    g_assert_cmpint(do_read(blk, 0, 1), ==, -7);
    g_assert_cmpint(do_read(blk, 0, 1), ==, 0);
    blk_unref(blk);

    config_fails(path, "a = \"b\"\n", "%s:1: no group defined");
    config_fails(path, "\n[foo]\n", "%s:2: There is no option group 'foo'");
    config_fails(path, "[inject-error]\nevent = none\n", "%s:2: parse error");
    config_fails(path, "[inject-error]\nevent = \"none\" x\n",
                 "%s:2: parse error");
    config_fails(path, "[inject-error\n", "%s:1: parse error");
    config_fails(path, "[set-state]\nevent = \"none\"\n",
                 "%s:1: Parameter 'new_state' is missing");
    config_fails(path, "[inject-error]\nevent = \"none\"\nevent = \"none\"\n",
                 "%s:3: duplicate 'event'");
}

static void test_filename(void)
{
    g_autofree char *path = file_test_make("image", 1024 * KiB);
    g_autofree char *config = file_test_make("config2", 0);
    g_autofree char *name = g_strdup_printf("blkdebug::%s", path);
    g_autofree char *name2 = g_strdup_printf("blkdebug:%s:%s", config, path);
    BlockDriverState *bs;
    Error *err = NULL;

    bs = bdrv_open(name, NULL, NULL, BDRV_O_RDWR | BDRV_O_PROTOCOL,
                   &error_abort);
    g_assert_cmpstr(bdrv_get_format_name(bs), ==, "blkdebug");
    g_assert_cmpstr(bs->filename, ==, name);
    g_assert_cmpint(bdrv_getlength(bs), ==, 1024 * KiB);
    bdrv_unref(bs);

    write_file(config, "[inject-error]\nevent = \"none\"\nerrno = \"9\"\n");
    bs = bdrv_open(name2, NULL, NULL, BDRV_O_RDWR | BDRV_O_PROTOCOL,
                   &error_abort);
    g_assert_cmpstr(bs->filename, ==, name2);
    bdrv_unref(bs);

    g_assert_null(bdrv_open("blkdebug:x", NULL, NULL, BDRV_O_PROTOCOL, &err));
    file_test_error(err, "blkdebug requires both config file and image path");
    err = NULL;
    g_assert_null(bdrv_open("blkdebug:/nonexistent/c:x", NULL, NULL,
                            BDRV_O_PROTOCOL, &err));
    file_test_error(err, "Could not read blkdebug config file: "
                         "No such file or directory");

    /* With more options than a name can say it is json. */
    bs = file_test_open(0, &error_abort, "{'driver': 'blkdebug', 'align': 512,"
                        " 'image': {'driver': 'file', 'filename': '%s'}}",
                        path);
    g_assert_true(g_str_has_prefix(bs->filename, "json:"));
    bdrv_unref(bs);
}

int main(int argc, char **argv)
{
    file_test_init(&argc, &argv);
    g_test_add_func("/blkdebug/always", test_always);
    g_test_add_func("/blkdebug/iotype", test_iotype);
    g_test_add_func("/blkdebug/sector", test_sector);
    g_test_add_func("/blkdebug/once", test_once);
    g_test_add_func("/blkdebug/events", test_events);
    g_test_add_func("/blkdebug/states", test_states);
    g_test_add_func("/blkdebug/delay", test_delay);
    g_test_add_func("/blkdebug/breakpoint", test_breakpoint);
    g_test_add_func("/blkdebug/limits", test_limits);
    g_test_add_func("/blkdebug/permissions", test_permissions);
    g_test_add_func("/blkdebug/config", test_config);
    g_test_add_func("/blkdebug/filename", test_filename);
    return file_test_run();
}
