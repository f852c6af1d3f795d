/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Reopen of formats on real files: what happens to lock bytes, descriptors,
 * options and children; what another process may hold against it; and that
 * giving something up never fails, wherever the file's name has gone.
 */
#include "util/osdep.h"
#include <glib/gstdio.h>
#include "file-fixture.h"
#include "block/create.h"
#include "block/file/file-int.h"
#include "block/graph.h"
#include "block/open.h"
#include "block/reopen.h"
#include "qobject/qdict.h"
#include "qobject/qjson.h"

#define READ BLK_PERM_CONSISTENT_READ
#define WRITE BLK_PERM_WRITE
#define RESIZE BLK_PERM_RESIZE
#define UNSHARED(bits) ((unsigned)(bits) << 8)

/* Lock bytes 100 201 203, and 101 103 more, of a format. */
#define FORMAT_RO (READ | UNSHARED(WRITE | RESIZE))
#define FORMAT_RW (FORMAT_RO | WRITE | RESIZE)

static void check_empty(void)
{
    g_assert_null(bdrv_next_node(NULL));
}

static char *make_qcow2(const char *name)
{
    char *path = file_test_make(name, 0);
    g_autoptr(QDict) options = qdict_new();

    qdict_put_str(options, "size", "1M");
    g_assert_cmpint(bdrv_create(bdrv_find_format("qcow2"), path, options,
                                &error_abort), >=, 0);
    return path;
}

static int access_mode(BlockDriverState *bs)
{
    BDRVFileState *s = bs->opaque;

    return fcntl(s->fd, F_GETFL) & O_ACCMODE;
}

static QDict *options(const char *json)
{
    QObject *obj = qobject_from_json(json, &error_abort);

    return qobject_to(QDict, obj);
}

static int reopen(BlockDriverState *bs, const char *json, bool keep_old,
                  Error **errp)
{
    return bdrv_reopen(bs, options(json), keep_old, errp);
}

static void refused(BlockDriverState *bs, const char *json, bool keep_old,
                    const char *text)
{
    Error *err = NULL;

    g_assert_cmpint(reopen(bs, json, keep_old, &err), <, 0);
    file_test_error(err, text);
}

/* --- gaps: paths that are gone --- */

/*
 * Run 1: the path is unlinked or renamed, then the image becomes read-only,
 * and writable again.
 */
static void test_path_gone(void)
{
    static const char *const formats[] = { "raw", "qcow2" };

    for (int i = 0; i < 4; i++) {
        const char *format = formats[i % 2];
        bool by_rename = i / 2;
        g_autofree char *path = make_qcow2("gone");
        g_autofree char *moved = g_strdup_printf("%s.moved", path);
        BlockDriverState *bs = file_test_open(
            BDRV_O_RDWR, &error_abort, "{'driver': '%s',"
            " 'file.filename': '%s'}", format, path);
        BlockDriverState *file = bs->file->bs;
        BlockBackend *blk;

        g_assert_cmpint(by_rename ? g_rename(path, moved) : g_unlink(path), ==,
                        0);
        g_assert_cmpint(bdrv_reopen_set_read_only(bs, true, &error_abort), ==,
                        0);
        g_assert_cmpint(access_mode(file), ==, O_RDONLY);
        g_assert_cmpuint(file->relax_errors, ==, 0);
        if (by_rename) {
            g_assert_cmphex(file_test_locks(moved), ==, i % 2 ? FORMAT_RO : 0);
        }
        g_assert_cmpint(bdrv_reopen_set_read_only(bs, false, &error_abort), ==,
                        0);
        blk = file_test_user(bs, READ | WRITE, BLK_PERM_ALL);
        g_assert_cmpint(file_test_fill(blk, 0, 65536, 0x5a), ==, 0);
        g_assert_true(file_test_reads(blk, 0, 65536, 0x5a));
        blk_unref(blk);
        bdrv_unref(bs);
        g_unlink(moved);
        check_empty();
    }
}

/*
 * Run 2: an auto-read-only file under raw has a writer; the file is renamed;
 * the writer goes. No error, no permission, no lock byte is left.
 */
static void test_last_writer_goes(void)
{
    g_autofree char *path = file_test_make("writer", 4096);
    g_autofree char *moved = g_strdup_printf("%s.moved", path);
    BlockDriverState *bs = file_test_open(
        BDRV_O_RDWR, &error_abort, "{'driver': 'raw',"
        " 'auto-read-only': true, 'file.filename': '%s'}", path);
    BlockDriverState *file = bs->file->bs;
    BlockBackend *export;

    g_assert_cmpint(access_mode(file), ==, O_RDONLY);
    export = file_test_user(bs, READ | WRITE, BLK_PERM_ALL & ~RESIZE);
    g_assert_cmpint(access_mode(file), ==, O_RDWR);
    g_assert_cmphex(file_test_locks(path), ==,
                    READ | WRITE | UNSHARED(RESIZE));
    g_assert_cmpint(g_rename(path, moved), ==, 0);
    blk_unref(export);

    g_assert_cmphex(bs->file->perm, ==, 0);
    g_assert_cmphex(bs->file->shared_perm, ==, BLK_PERM_ALL);
    g_assert_cmphex(file_test_locks(moved), ==, 0);
    g_assert_cmpint(access_mode(file), ==, O_RDONLY);
    g_assert_cmpuint(file->relax_errors, ==, 0);
    bdrv_unref(bs);
    g_unlink(moved);
    check_empty();
}

static int relax_fails(BlockDriverState *bs)
{
    return -EIO;
}

/*
 * The same when the driver cannot let go: nobody gets an error, the edge has no
 * permission, and the node's next change of permissions tries again.
 */
static void test_relax_failure(void)
{
    g_autofree char *path = make_qcow2("relax");
    BlockDriverState *bs = file_test_open(
        BDRV_O_RDWR, &error_abort, "{'driver': 'qcow2',"
        " 'file.filename': '%s'}", path);
    BlockDriverState *file = bs->file->bs;

    file_relax_hook = relax_fails;
    g_assert_cmpint(bdrv_reopen_set_read_only(bs, true, &error_abort), ==, 0);
    g_assert_cmphex(bs->file->perm, ==, READ);
    g_assert_cmphex(file_test_locks(path), ==, FORMAT_RW);
    g_assert_true(file->relax_pending);
    g_assert_cmpuint(file->relax_errors, ==, 1);
    file_relax_hook = NULL;

    blk_unref(file_test_user(file, READ, BLK_PERM_ALL));
    g_assert_cmphex(file_test_locks(path), ==, FORMAT_RO);
    g_assert_false(file->relax_pending);
    bdrv_unref(bs);
    check_empty();
}

/* Run 3: the file alone cannot become read-only below a writable format;
 * both together can, in either order. */
static void test_child_only(void)
{
    for (int order = 0; order < 2; order++) {
        g_autofree char *path = make_qcow2("childonly");
        BlockDriverState *bs = file_test_open(
            BDRV_O_RDWR, &error_abort, "{'driver': 'qcow2',"
            " 'file': {'node-name': 'pf', 'filename': '%s'}}", path);
        BlockDriverState *file = bs->file->bs;
        BlockReopenQueue *q = NULL;

        refused(file, "{'read-only': true}", true, "Read-only block node 'pf' "
                "cannot support read-write users");
        g_assert_cmphex(file_test_locks(path), ==, FORMAT_RW);
        g_assert_cmpint(access_mode(file), ==, O_RDWR);

        for (int i = 0; i < 2; i++) {
            q = bdrv_reopen_queue(q, i == order ? file : bs,
                                  options("{'read-only': true}"), true);
        }
        g_assert_cmpint(bdrv_reopen_multiple(q, &error_abort), ==, 0);
        g_assert_cmphex(file_test_locks(path), ==, FORMAT_RO);
        g_assert_cmpint(access_mode(file), ==, O_RDONLY);
        bdrv_unref(bs);
        check_empty();
    }
}

/* --- another process --- */

typedef struct Pair {
    char *path[2];
    BlockDriverState *fmt[2], *file[2];
} Pair;

static Pair pair_open(int flags)
{
    Pair p;

    for (int i = 0; i < 2; i++) {
        g_autofree char *name = g_strdup_printf("pair%d", i);

        p.path[i] = make_qcow2(name);
        p.fmt[i] = file_test_open(
            flags, &error_abort, "{'driver': 'qcow2', 'node-name': 'fmt%d',"
            " 'file': {'node-name': 'file%d', 'filename': '%s'}}", i, i,
            p.path[i]);
        p.file[i] = p.fmt[i]->file->bs;
    }
    return p;
}

static void pair_close(Pair *p)
{
    for (int i = 0; i < 2; i++) {
        bdrv_unref(p->fmt[i]);
        g_free(p->path[i]);
    }
    check_empty();
}

static int pair_set_read_only(Pair *p, bool ro, Error **errp)
{
    BlockReopenQueue *q = NULL;

    for (int i = 0; i < 2; i++) {
        q = bdrv_reopen_queue(q, p->fmt[i],
                              options(ro ? "{'read-only': true}"
                                         : "{'read-only': false}"), true);
    }
    return bdrv_reopen_multiple(q, errp);
}

static void pair_check(Pair *p, bool rw)
{
    for (int i = 0; i < 2; i++) {
        g_assert_cmpint(access_mode(p->file[i]), ==, rw ? O_RDWR : O_RDONLY);
        g_assert_cmpint(!(p->fmt[i]->open_flags & BDRV_O_RDWR), ==, !rw);
        g_assert_cmpint(!(p->file[i]->open_flags & BDRV_O_RDWR), ==, !rw);
        g_assert_cmphex(p->fmt[i]->file->perm, ==,
                        rw ? READ | WRITE | RESIZE : READ);
    }
}

/*
 * Two images are to become writable. Somebody else does not share writing of
 * the second: nothing at all changes, in memory, in descriptors and in locks.
 */
static void test_take_conflict(void)
{
    Pair p = pair_open(0);
    FileTestLocker *l = file_test_lock_elsewhere(p.path[1], UNSHARED(WRITE));
    Error *err = NULL;

    g_assert_cmpint(pair_set_read_only(&p, false, &err), <, 0);
    file_test_error(err, "Failed to get \"write\" lock");
    pair_check(&p, false);
    g_assert_cmphex(file_test_locks(p.path[0]), ==, FORMAT_RO);
    g_assert_cmphex(file_test_locks(p.path[1]), ==, FORMAT_RO);

    file_test_unlock_elsewhere(l);
    g_assert_cmpint(pair_set_read_only(&p, false, &error_abort), ==, 0);
    pair_check(&p, true);
    g_assert_cmphex(file_test_locks(p.path[0]), ==, FORMAT_RW);
    g_assert_cmphex(file_test_locks(p.path[1]), ==, FORMAT_RW);
    pair_close(&p);
}

/*
 * Whatever others hold, and be it in conflict with what is kept, going
 * read-only and closing succeed.
 */
static void test_drop_never_fails(void)
{
    Pair p = pair_open(BDRV_O_RDWR);
    FileTestLocker *l = file_test_lock_elsewhere(
        p.path[1], READ | WRITE | RESIZE | UNSHARED(READ | WRITE | RESIZE));

    g_assert_cmpint(pair_set_read_only(&p, true, &error_abort), ==, 0);
    pair_check(&p, false);
    g_assert_cmphex(file_test_locks(p.path[0]), ==, FORMAT_RO);
    g_assert_cmpuint(p.file[1]->relax_errors, ==, 0);
    bdrv_unref(p.fmt[1]);
    p.fmt[1] = NULL;
    g_assert_null(bdrv_find_node("file1"));
    file_test_unlock_elsewhere(l);
    pair_close(&p);
}

/* A driver that fails late: locks and descriptors that were taken go back. */
static void test_prepare_fails(void)
{
    Pair p = pair_open(0);
    BlockReopenQueue *q;
    Error *err = NULL;

    q = bdrv_reopen_queue(NULL, p.fmt[0], options("{'read-only': false}"),
                          true);
    q = bdrv_reopen_queue(q, p.fmt[1],
                          options("{'read-only': false, 'cache-size': 65536,"
                                  " 'l2-cache-size': 131072}"), true);
    g_assert_cmpint(bdrv_reopen_multiple(q, &err), <, 0);
    file_test_error(err, "l2-cache-size may not exceed cache-size");
    pair_check(&p, false);
    g_assert_cmphex(file_test_locks(p.path[0]), ==, FORMAT_RO);
    g_assert_cmphex(file_test_locks(p.path[1]), ==, FORMAT_RO);
    pair_close(&p);
}

/* --- children --- */

static void swap_check(BlockBackend *blk, uint8_t byte, const char *path)
{
    g_assert_true(file_test_reads(blk, 0, 4096, byte));
    g_assert_cmphex(file_test_locks(path), ==,
                    READ | WRITE | UNSHARED(WRITE));
}

/*
 * Two writers that each keep the other out swap their files. One alone is
 * refused.
 */
static void test_swap_files(void)
{
    g_autofree char *path0 = file_test_make("swap0", 4096);
    g_autofree char *path1 = file_test_make("swap1", 4096);
    const char *paths[2] = { path0, path1 };
    BlockDriverState *bs[2];
    BlockBackend *blk[2];
    BlockReopenQueue *q = NULL;

    for (int i = 0; i < 2; i++) {
        bs[i] = file_test_open(
            BDRV_O_RDWR, &error_abort, "{'driver': 'raw', 'node-name': 'r%d',"
            " 'file': {'node-name': 'f%d', 'filename': '%s'}}", i, i,
            paths[i]);
        blk[i] = file_test_user(bs[i], READ | WRITE, BLK_PERM_ALL & ~WRITE);
        g_assert_cmpint(file_test_fill(blk[i], 0, 4096, 0x10 + i), ==, 0);
    }
    refused(bs[0], "{'file': 'f1'}", true, "Permission conflict on node 'f1': "
            "permissions 'write' are both required by node 'r0' (uses node "
            "'f1' as 'file' child) and unshared by node 'r1' (uses node 'f1' "
            "as 'file' child).");
    swap_check(blk[0], 0x10, path0);

    q = bdrv_reopen_queue(q, bs[0], options("{'file': 'f1'}"), true);
    q = bdrv_reopen_queue(q, bs[1], options("{'file': 'f0'}"), true);
    g_assert_cmpint(bdrv_reopen_multiple(q, &error_abort), ==, 0);
    swap_check(blk[0], 0x11, path1);
    swap_check(blk[1], 0x10, path0);

    for (int i = 0; i < 2; i++) {
        blk_unref(blk[i]);
        bdrv_unref(bs[i]);
    }
    check_empty();
}

/* The former file is free after the change, and as before after a failure. */
static void test_other_file(void)
{
    g_autofree char *path0 = file_test_make("other0", 8192);
    g_autofree char *path1 = file_test_make("other1", 4096);
    BlockDriverState *other = file_test_open(
        BDRV_O_RDWR, &error_abort, "{'driver': 'file', 'node-name': 'f1',"
        " 'filename': '%s'}", path1);
    BlockDriverState *bs = file_test_open(
        BDRV_O_RDWR, &error_abort, "{'driver': 'raw', 'offset': 4096,"
        " 'file': {'node-name': 'f0', 'filename': '%s'}}", path0);
    BlockBackend *blk = file_test_user(bs, READ, BLK_PERM_ALL & ~WRITE);

    g_assert_cmphex(file_test_locks(path0), ==,
                    READ | UNSHARED(WRITE | RESIZE));
    /* The window does not fit: raw finds out with the new file in place. */
    g_assert_cmpint(reopen(bs, "{'file': 'f1', 'offset': 8192}", true, NULL),
                    <, 0);
    g_assert_true(bs->file->bs == bdrv_find_node("f0"));
    g_assert_cmphex(file_test_locks(path0), ==,
                    READ | UNSHARED(WRITE | RESIZE));
    g_assert_cmphex(file_test_locks(path1), ==, 0);

    g_assert_cmpint(reopen(bs, "{'file': 'f1', 'offset': 0}", true,
                           &error_abort), ==, 0);
    g_assert_true(bs->file->bs == other);
    g_assert_null(bdrv_find_node("f0"));
    g_assert_cmphex(file_test_locks(path0), ==, 0);
    g_assert_cmphex(file_test_locks(path1) & 0xff, ==, READ);
    blk_unref(blk);
    bdrv_unref(bs);
    bdrv_unref(other);
    check_empty();
}

/*
 * While it is reopened, a node still may write what it had not written yet.
 * So it cannot become read-only and come to stand on a file that nobody may
 * write at the same time; one after the other it can.
 */
static void test_to_read_only_file(void)
{
    g_autofree char *path0 = make_qcow2("ro0");
    g_autofree char *path1 = make_qcow2("ro1");
    BlockDriverState *other = file_test_open(
        0, &error_abort, "{'driver': 'file', 'node-name': 'f1',"
        " 'filename': '%s'}", path1);
    BlockDriverState *bs = file_test_open(
        BDRV_O_RDWR, &error_abort, "{'driver': 'qcow2',"
        " 'file': {'node-name': 'f0', 'filename': '%s'}}", path0);

    refused(bs, "{'file': 'f1', 'read-only': true}", true,
            "Block node 'f1' is read-only, but its new user may write until "
            "it is reopened");
    g_assert_cmpint(access_mode(other), ==, O_RDONLY);
    g_assert_cmphex(file_test_locks(path1), ==, 0);
    g_assert_cmphex(file_test_locks(path0), ==, FORMAT_RW);

    g_assert_cmpint(reopen(bs, "{'read-only': true}", true, &error_abort), ==,
                    0);
    g_assert_cmpint(reopen(bs, "{'file': 'f1'}", true, &error_abort), ==, 0);
    g_assert_cmpint(access_mode(other), ==, O_RDONLY);
    g_assert_cmphex(file_test_locks(path1), ==, FORMAT_RO);
    g_assert_cmphex(file_test_locks(path0), ==, 0);
    bdrv_unref(bs);
    bdrv_unref(other);
    check_empty();
}

/* What was once given does not bring back a child that was exchanged since. */
static void test_former_children(void)
{
    g_autofree char *path = make_qcow2("former");
    g_autofree char *base_path = make_qcow2("former-base");
    BlockDriverState *base = file_test_open(
        0, &error_abort, "{'driver': 'qcow2', 'node-name': 'base',"
        " 'file.filename': '%s'}", base_path);
    BlockDriverState *bs = file_test_open(
        BDRV_O_RDWR, &error_abort, "{'driver': 'qcow2', 'backing': 'base',"
        " 'file': {'node-name': 'f', 'filename': '%s'}}", path);
    BlockDriverState *filter;

    g_assert_true(bdrv_set_backing_hd(bs, NULL, NULL, &error_abort));
    g_assert_cmpint(bdrv_reopen_set_read_only(bs, true, &error_abort), ==, 0);
    g_assert_null(bs->backing);

    filter = file_test_open(0, &error_abort, "{'driver': 'raw',"
                            " 'node-name': 'filter', 'file': 'f'}");
    g_assert_true(bdrv_replace_child_bs(bs->file, filter, NULL, &error_abort));
    g_assert_cmpint(reopen(bs, "{'detect-zeroes': 'on'}", true, &error_abort),
                    ==, 0);
    g_assert_true(bs->file->bs == filter);

    /* A backing child that came later is not lost either. */
    g_assert_true(bdrv_set_backing_hd(bs, base, NULL, &error_abort));
    g_assert_cmpint(reopen(bs, "{'detect-zeroes': 'off'}", true,
                           &error_abort), ==, 0);
    g_assert_true(bdrv_cow_bs(bs) == base);
    g_assert_cmpstr(bs->backing_file, ==, base_path);
    g_assert_cmpint(reopen(bs, "{'backing': null}", true, &error_abort), ==,
                    0);
    g_assert_cmpstr(bs->backing_file, ==, "");
    bdrv_unref(filter);
    bdrv_unref(bs);
    bdrv_unref(base);
    check_empty();
}

/* --- options --- */

/* Left out, an option keeps its value or goes back to its default. */
static void test_left_out(void)
{
    const int mask = BDRV_O_RDWR | BDRV_O_AUTO_RDONLY | BDRV_O_CACHE_MASK |
                     BDRV_O_UNMAP;
    g_autofree char *path = file_test_make("leftout", 8192);
    g_autofree char *all = g_strdup_printf(
        "{'driver': 'raw', 'file': {'driver': 'file', 'filename': '%s'}}",
        path);
    BlockDriverState *bs = file_test_open(
        0, &error_abort, "{'driver': 'raw', 'read-only': true,"
        " 'cache': {'no-flush': true}, 'discard': 'unmap', 'offset': 4096,"
        " 'detect-zeroes': 'unmap', 'file.filename': '%s'}", path);
    BlockDriverState *file = bs->file->bs;
    int before = bs->open_flags;

    g_assert_cmpint(reopen(bs, "{}", true, &error_abort), ==, 0);
    g_assert_cmphex(bs->open_flags, ==, before);
    g_assert_cmpint(bs->detect_zeroes, ==,
                    BLOCKDEV_DETECT_ZEROES_OPTIONS_UNMAP);
    g_assert_cmpint(bs->total_bytes, ==, 4096);

    g_assert_cmpint(reopen(bs, "{'cache.no-flush': false}", true,
                           &error_abort), ==, 0);
    g_assert_cmphex(bs->open_flags & mask, ==, BDRV_O_UNMAP);
    g_assert_cmphex(file->open_flags & mask, ==, BDRV_O_UNMAP);

    g_assert_cmpint(reopen(bs, all, false, &error_abort), ==, 0);
    g_assert_cmphex(bs->open_flags & mask, ==, BDRV_O_RDWR);
    g_assert_cmphex(file->open_flags & mask, ==, BDRV_O_RDWR | BDRV_O_UNMAP);
    g_assert_cmpint(bs->detect_zeroes, ==, BLOCKDEV_DETECT_ZEROES_OPTIONS_OFF);
    g_assert_cmpint(access_mode(file), ==, O_RDWR);
    bdrv_unref(bs);
    check_empty();
}

/* Inline children follow in what they did not say themselves, also when they
 * stand in the queue before their parent. */
static void test_inline_follow(void)
{
    g_autofree char *path = file_test_make("follow", 4096);
    BlockDriverState *bs = file_test_open(
        BDRV_O_RDWR, &error_abort, "{'driver': 'raw',"
        " 'file': {'cache': {'no-flush': true}, 'filename': '%s'}}", path);
    BlockDriverState *file = bs->file->bs;
    BlockReopenQueue *q;

    g_assert_cmpint(reopen(bs, "{'read-only': true}", true, &error_abort), ==,
                    0);
    g_assert_cmpint(access_mode(file), ==, O_RDONLY);
    g_assert_true(file->open_flags & BDRV_O_NO_FLUSH);

    q = bdrv_reopen_queue(NULL, file, options("{'drop-cache': false}"), true);
    q = bdrv_reopen_queue(q, bs, options("{'read-only': false}"), true);
    g_assert_cmpint(bdrv_reopen_multiple(q, &error_abort), ==, 0);
    g_assert_true(file->open_flags & BDRV_O_RDWR);
    g_assert_true(file->open_flags & BDRV_O_NO_FLUSH);

    /* Options for it may be given in its place. */
    g_assert_cmpint(reopen(bs, "{'file.cache.no-flush': false}", true,
                           &error_abort), ==, 0);
    g_assert_false(file->open_flags & BDRV_O_NO_FLUSH);
    bdrv_unref(bs);
    check_empty();
}

static void test_refused_options(void)
{
    g_autofree char *path = file_test_make("roptions", 4096);
    BlockDriverState *file = file_test_open(
        BDRV_O_RDWR, &error_abort, "{'driver': 'file', 'node-name': 'f',"
        " 'filename': '%s'}", path);
    BlockDriverState *bs = file_test_open(
        BDRV_O_RDWR, &error_abort, "{'driver': 'raw', 'node-name': 'r',"
        " 'file': 'f'}");
    BlockDriverState *outer = file_test_open(
        BDRV_O_RDWR, &error_abort, "{'driver': 'raw', 'node-name': 'o',"
        " 'file': {'driver': 'raw', 'node-name': 'i', 'file': 'f'}}");
    BlockReopenQueue *q;
    Error *err = NULL;

    refused(file, "{'filename': 'elsewhere'}", true,
            "Cannot change the option 'filename'");
    refused(file, "{'locking': 'off'}", true,
            "Cannot change the option 'locking'");
    refused(file, "{}", false, "Cannot change the option 'filename'");
    refused(bs, "{'file': 'nobody'}", true,
            "Cannot find device='' nor node-name='nobody'");
    refused(bs, "{'file': {'driver': 'file'}}", true,
            "Cannot change options of node 'f' through its parent 'r'");
    refused(bs, "{'file': 'r'}", true,
            "Making 'r' a file child of 'r' would create a cycle");
    refused(bs, "{'read-only': true, 'force-share': true}", true,
            "Cannot change the option 'force-share'");
    refused(bs, "{'backing': null}", true, "Parameter 'backing' is "
            "unexpected");

    q = bdrv_reopen_queue(NULL, bdrv_find_node("i"), options("{}"), true);
    q = bdrv_reopen_queue(q, outer, options("{'file.read-only': true}"), true);
    g_assert_cmpint(bdrv_reopen_multiple(q, &err), <, 0);
    file_test_error(err, "Options of node 'i' are given twice, for itself and "
                    "through its parent 'o'");
    bdrv_unref(outer);
    bdrv_unref(bs);
    bdrv_unref(file);
    check_empty();
}

/* Limits of everything above follow a file that comes to need alignment. */
static void test_limits_follow(void)
{
    g_autofree char *path = file_test_make("limits", 4096);
    BlockDriverState *bs = file_test_open(
        BDRV_O_RDWR, &error_abort, "{'driver': 'raw', 'file': {'driver': 'raw',"
        " 'file': {'driver': 'file', 'node-name': 'f', 'filename': '%s'}}}",
        path);
    BlockDriverState *direct;
    Error *err = NULL;

    direct = file_test_open(BDRV_O_RDWR, &err, "{'driver': 'file',"
                            " 'cache': {'direct': true}, 'filename': '%s'}",
                            path);
    if (!direct) {
        g_test_skip(error_get_pretty(err));
        error_free(err);
        bdrv_unref(bs);
        return;
    }
    g_assert_cmpuint(bs->bl.min_mem_alignment, <,
                     direct->bl.min_mem_alignment);
    g_assert_true(bdrv_replace_child_bs(bs->file->bs->file, direct, NULL,
                                        &error_abort));
    g_assert_cmpuint(bs->bl.min_mem_alignment, ==,
                     direct->bl.min_mem_alignment);
    g_assert_cmpint(reopen(direct, "{'cache.direct': false}", true,
                           &error_abort), ==, 0);
    g_assert_cmpuint(bs->bl.min_mem_alignment, ==,
                     direct->bl.min_mem_alignment);
    bdrv_unref(direct);
    bdrv_unref(bs);
    check_empty();
}

int main(int argc, char **argv)
{
    file_test_init(&argc, &argv);
    g_test_add_func("/reopen-file/path-gone", test_path_gone);
    g_test_add_func("/reopen-file/last-writer-goes", test_last_writer_goes);
    g_test_add_func("/reopen-file/relax-failure", test_relax_failure);
    g_test_add_func("/reopen-file/child-only", test_child_only);
    g_test_add_func("/reopen-file/take-conflict", test_take_conflict);
    g_test_add_func("/reopen-file/drop-never-fails", test_drop_never_fails);
    g_test_add_func("/reopen-file/prepare-fails", test_prepare_fails);
    g_test_add_func("/reopen-file/swap-files", test_swap_files);
    g_test_add_func("/reopen-file/other-file", test_other_file);
    g_test_add_func("/reopen-file/to-read-only-file", test_to_read_only_file);
    g_test_add_func("/reopen-file/former-children", test_former_children);
    g_test_add_func("/reopen-file/left-out", test_left_out);
    g_test_add_func("/reopen-file/inline-follow", test_inline_follow);
    g_test_add_func("/reopen-file/refused-options", test_refused_options);
    g_test_add_func("/reopen-file/limits-follow", test_limits_follow);
    return file_test_run();
}
