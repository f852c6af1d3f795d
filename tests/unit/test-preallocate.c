/* SPDX-License-Identifier: GPL-2.0-or-later */
/* preallocate: the tail of its file, and when it goes. */
#include "util/osdep.h"
#include <sys/stat.h>
#include "file-fixture.h"
#include "block/drain.h"
#include "block/reopen.h"

#define KiB 1024
#define MiB (1024 * KiB)
#define WRITER (BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE | BLK_PERM_RESIZE)

/* What reserving space for @end gives, with the options of open_node(). */
#define RESERVED(end) ROUND_UP((end) + 256 * KiB, 64 * KiB)

typedef struct Node {
    char *path;
    BlockDriverState *bs;
    BlockBackend *blk;
} Node;

static BlockDriverState *open_node(const char *path, const char *below)
{
    return file_test_open(BDRV_O_RDWR, &error_abort,
                          "{'driver': 'preallocate', 'node-name': 'pre',"
                          " 'prealloc-align': 65536, 'prealloc-size': 262144,"
                          " 'file': {'driver': '%s', %s {'driver': 'file',"
                          " 'node-name': 'file', 'filename': '%s'}%s", below,
                          strcmp(below, "raw") ? "'image':" : "'file':", path,
                          "}}");
}

static void node_open(Node *n, const char *name, int64_t bytes)
{
    n->path = file_test_make(name, bytes);
    n->bs = open_node(n->path, "blkdebug");
    n->blk = file_test_user(n->bs, WRITER, BLK_PERM_ALL);
}

static void node_close(Node *n)
{
    blk_unref(n->blk);
    bdrv_unref(n->bs);
    g_free(n->path);
}

static int64_t file_length(const char *path)
{
    struct stat st;

    g_assert_cmpint(stat(path, &st), ==, 0);
    return st.st_size;
}

/* Writing beyond the end reserves; the node is only as long as what was written,
 * and so is the file in the end. */
static void test_grow(void)
{
    Node n;

    node_open(&n, "grow", MiB);
    g_assert_cmpint(file_test_fill(n.blk, MiB - 4 * KiB, 4 * KiB, 1), ==, 0);
    g_assert_cmpint(file_length(n.path), ==, MiB);
    g_assert_cmpint(blk_pwrite_zeroes(n.blk, MiB - 512, 512, 0), ==, 0);
    g_assert_cmpint(file_length(n.path), ==, MiB);

    blk_truncate(n.blk, MiB + 100 * KiB, true, PREALLOC_MODE_OFF, 0,
                 &error_abort);
    g_assert_cmpint(file_length(n.path), ==, MiB + 100 * KiB);
    node_close(&n);
}

static void extend(BdrvChild *root, int64_t offset, int64_t bytes,
                   uint8_t value)
{
    g_autofree uint8_t *buf = g_malloc(bytes);

    memset(buf, value, bytes);
    g_assert_cmpint(bdrv_pwrite(root, offset, bytes, buf, 0), ==, 0);
}

/* As a format does it: through an edge, which may extend the node. */
static void test_extend(void)
{
    Node n;
    BdrvChild *root;

    node_open(&n, "extend", MiB);
    root = blk_root(n.blk);
    extend(root, MiB, 4 * KiB, 2);
    g_assert_cmpint(bdrv_getlength(n.bs), ==, MiB + 4 * KiB);
    g_assert_cmpint(file_length(n.path), ==, RESERVED(MiB + 4 * KiB));

    /* In what is reserved; zeroes there need not be written. */
    extend(root, MiB + 8 * KiB, 512, 3);
    g_assert_cmpint(bdrv_pwrite_zeroes(root, MiB + 16 * KiB, 4 * KiB, 0), ==,
                    0);
    g_assert_cmpint(bdrv_getlength(n.bs), ==, MiB + 20 * KiB);
    g_assert_cmpint(file_length(n.path), ==, RESERVED(MiB + 4 * KiB));
    g_assert_true(file_test_reads(n.blk, MiB + 4 * KiB, 4 * KiB, 0));
    g_assert_true(file_test_reads(n.blk, MiB + 8 * KiB, 512, 3));
    g_assert_true(file_test_reads(n.blk, MiB + 9 * KiB, 11 * KiB, 0));

    /* Zeroes over data are. */
    extend(root, MiB + 20 * KiB, KiB, 4);
    g_assert_cmpint(bdrv_pwrite_zeroes(root, MiB + 20 * KiB, 2 * KiB, 0), ==,
                    0);
    g_assert_true(file_test_reads(n.blk, MiB + 20 * KiB, 2 * KiB, 0));

    extend(root, 2 * MiB, 512, 5);
    g_assert_cmpint(file_length(n.path), ==, RESERVED(2 * MiB + 512));
    blk_truncate(n.blk, 2 * MiB + 4 * KiB, true, PREALLOC_MODE_OFF, 0,
                 &error_abort);
    g_assert_cmpint(file_length(n.path), ==, RESERVED(2 * MiB + 512));
    blk_truncate(n.blk, 2 * MiB - 512, true, PREALLOC_MODE_OFF, 0,
                 &error_abort);
    g_assert_cmpint(file_length(n.path), ==, 2 * MiB - 512);
    extend(root, 2 * MiB, 100, 5);
    g_assert_true(file_test_reads(n.blk, 2 * MiB - 512, 512, 0));
    blk_unref(n.blk);
    bdrv_unref(n.bs);
    g_assert_cmpint(file_length(n.path), ==, 2 * MiB + 100);
    g_free(n.path);
}

/* Nobody else sees the tail: draining, less permissions, reopen. */
static void test_tail_goes(void)
{
    Node n;
    BdrvChild *root;
    BlockBackend *other;
    Error *err = NULL;

    node_open(&n, "goes", 0);
    root = blk_root(n.blk);
    g_assert_cmphex(file_test_locks(n.path) >> 8, ==,
                    BLK_PERM_WRITE | BLK_PERM_RESIZE);
    extend(root, 0, 1000, 1);
    g_assert_cmpint(file_length(n.path), ==, RESERVED(1000));
    bdrv_drained_begin(n.bs);
    g_assert_cmpint(file_length(n.path), ==, 1000);
    /* While it is drained there is none. */
    extend(root, 1000, 1000, 2);
    g_assert_cmpint(file_length(n.path), ==, 2000);
    g_assert_cmpint(bdrv_pwrite_zeroes(root, 2000, 1000, 0), ==, 0);
    g_assert_cmpint(file_length(n.path), ==, 3000);
    bdrv_drained_end(n.bs);

    extend(root, 3000, 1000, 3);
    g_assert_cmpint(file_length(n.path), ==, RESERVED(4000));
    blk_set_perm(n.blk, BLK_PERM_CONSISTENT_READ, BLK_PERM_ALL, &error_abort);
    g_assert_cmpint(file_length(n.path), ==, 4000);
    g_assert_cmphex(file_test_locks(n.path), ==, BLK_PERM_CONSISTENT_READ);
    other = file_test_user(bdrv_find_node("file"), WRITER, BLK_PERM_ALL);
    g_assert_false(blk_set_perm(n.blk, WRITER, BLK_PERM_ALL, &err));
    error_free_or_abort(&err);
    blk_truncate(other, 4 * KiB, true, PREALLOC_MODE_OFF, 0, &error_abort);
    blk_unref(other);
    g_assert_cmpint(bdrv_getlength(n.bs), ==, 4 * KiB);

    blk_set_perm(n.blk, WRITER, BLK_PERM_ALL, &error_abort);
    extend(root, 4 * KiB, 512, 4);
    g_assert_cmpint(file_length(n.path), ==, RESERVED(4 * KiB + 512));
    blk_set_perm(n.blk, BLK_PERM_CONSISTENT_READ, BLK_PERM_ALL, &error_abort);
    g_assert_cmpint(bdrv_reopen_set_read_only(n.bs, true, &error_abort), ==,
                    0);
    g_assert_cmpint(file_length(n.path), ==, 4 * KiB + 512);
    node_close(&n);
}

static int reopen_with(BlockDriverState *bs, const char *name,
                       const char *value, Error **errp)
{
    QDict *options = qdict_new();

    qdict_put_str(options, name, value);
    return bdrv_reopen(bs, options, true, errp);
}

/* Options change, another file comes below: each file ends where its data
 * does. */
static void test_reopen(void)
{
    g_autofree char *path = file_test_make("other", 512);
    BlockDriverState *other = file_test_open(
        BDRV_O_RDWR, &error_abort,
        "{'driver': 'file', 'node-name': 'other', 'filename': '%s'}", path);
    Node n;
    Error *err = NULL;

    node_open(&n, "reopen", 0);
    extend(blk_root(n.blk), 0, 1000, 1);
    g_assert_cmpint(reopen_with(n.bs, "prealloc-align", "1000", &err), ==,
                    -EINVAL);
    file_test_error(err, "prealloc-align parameter of preallocate filter is "
                    "not aligned to 512");
    err = NULL;
    g_assert_cmpint(reopen_with(n.bs, "prealloc-size", "1024", &error_abort),
                    ==, 0);
    g_assert_cmpint(file_length(n.path), ==, 1000);
    extend(blk_root(n.blk), 1000, 1000, 1);
    g_assert_cmpint(file_length(n.path), ==, 64 * KiB);

    g_assert_cmpint(reopen_with(n.bs, "file", "other", &error_abort), ==, 0);
    g_assert_cmpint(file_length(n.path), ==, 2000);
    g_assert_cmpint(bdrv_getlength(n.bs), ==, 512);
    extend(blk_root(n.blk), 1024, 512, 2);
    g_assert_cmpint(file_length(path), ==, 64 * KiB);
    node_close(&n);
    bdrv_unref(other);
    g_assert_cmpint(file_length(path), ==, 1536);
}

/* What cannot be reserved is not an error; nor does half of it stay. */
static void test_no_space(void)
{
    g_autofree char *path = file_test_make("full", 0);
    BlockDriverState *bs;
    BlockBackend *blk;

    bs = file_test_open(
        BDRV_O_RDWR, &error_abort,
        "{'driver': 'preallocate', 'prealloc-align': 65536, 'file': {'driver':"
        " 'blkdebug', 'image': {'driver': 'file', 'filename': '%s'},"
        " 'inject-error': [{'event': 'none', 'iotype': 'write-zeroes',"
        " 'errno': 28}]}}", path);
    blk = file_test_user(bs, WRITER, BLK_PERM_ALL);
    for (int i = 0; i < 10; i++) {
        extend(blk_root(blk), i * 1000, 1000, i);
        g_assert_cmpint(file_length(path), ==, (i + 1) * 1000);
    }
    for (int i = 0; i < 10; i++) {
        g_assert_true(file_test_reads(blk, i * 1000, 1000, i));
    }
    /* With a buffer, since they are not there. */
    g_assert_cmpint(bdrv_pwrite_zeroes(blk_root(blk), 10000, 1000, 0), ==,
                    -ENOSPC);
    blk_unref(blk);
    bdrv_unref(bs);
    g_assert_cmpint(file_length(path), ==, 10000);
}

/* Many at once, with drains in between: what was written is there. */
typedef struct Writer {
    BdrvChild *root;
    int64_t offset;
    int64_t end;
    int *running;
} Writer;

static void coroutine_fn writer_entry(void *opaque)
{
    Writer *w = opaque;
    uint8_t buf[1000];

    bdrv_graph_co_rdlock();
    for (; w->offset < w->end; w->offset += 8 * sizeof(buf)) {
        memset(buf, w->offset / sizeof(buf), sizeof(buf));
        g_assert_cmpint(bdrv_co_pwrite(w->root, w->offset, sizeof(buf), buf,
                                       0), ==, 0);
        bdrv_graph_co_rdunlock();
        qemu_co_yield_to_loop();
        bdrv_graph_co_rdlock();
    }
    bdrv_graph_co_rdunlock();
    (*w->running)--;
}

static void test_drains_in_between(void)
{
    Node n;
    Writer writers[8];
    int running = ARRAY_SIZE(writers);

    node_open(&n, "drains", 0);
    for (int i = 0; i < ARRAY_SIZE(writers); i++) {
        writers[i] = (Writer) {
            .root = blk_root(n.blk), .offset = i * 1000, .end = 1000000,
            .running = &running,
        };
        qemu_coroutine_enter(qemu_coroutine_create(writer_entry,
                                                   &writers[i]));
    }
    while (running) {
        bdrv_drained_begin(n.bs);
        g_assert_cmpint(file_length(n.path), ==,
                        qatomic_read(&n.bs->total_bytes));
        bdrv_drained_end(n.bs);
        for (int i = 0; i < 5 && running; i++) {
            aio_poll(qemu_get_aio_context(), true);
        }
    }
    for (int i = 0; i < 1000; i++) {
        g_assert_true(file_test_reads(n.blk, i * 1000, 1000, i));
    }
    blk_unref(n.blk);
    bdrv_unref(n.bs);
    g_assert_cmpint(file_length(n.path), ==, 1000000);
    g_free(n.path);
}

int main(int argc, char **argv)
{
    file_test_init(&argc, &argv);
    g_test_add_func("/preallocate/grow", test_grow);
    g_test_add_func("/preallocate/extend", test_extend);
    g_test_add_func("/preallocate/tail-goes", test_tail_goes);
    g_test_add_func("/preallocate/reopen", test_reopen);
    g_test_add_func("/preallocate/no-space", test_no_space);
    g_test_add_func("/preallocate/drains-in-between", test_drains_in_between);
    return file_test_run();
}
