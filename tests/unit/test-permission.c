/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Permissions: what passes down, conflicts, taking and relaxing at drivers. */
#include "util/osdep.h"
#include "graph-fixture.h"

#define RW (BLK_PERM_WRITE | BLK_PERM_RESIZE)
#define READ BLK_PERM_CONSISTENT_READ

static BlockBackend *user(BlockDriverState *bs, uint64_t perm, uint64_t shared)
{
    BlockBackend *blk = blk_new_with_bs(bs, perm, shared, &error_abort);

    g_assert_nonnull(blk);
    return blk;
}

/* A format keeps others from writing its file; writable, it writes always. */
static void test_format_perms(void)
{
    BlockDriverState *ro = test_overlay("ro", NULL, 0);
    BlockDriverState *rw = test_overlay("rw", NULL, BDRV_O_RDWR);

    g_assert_cmphex(ro->file->perm, ==, READ);
    g_assert_cmphex(ro->file->shared_perm, ==, READ | BLK_PERM_WRITE_UNCHANGED);
    g_assert_cmphex(rw->file->perm, ==, READ | RW);
    g_assert_cmphex(rw->file->shared_perm, ==, READ | BLK_PERM_WRITE_UNCHANGED);
    /* and that is what the driver below was asked to lock */
    g_assert_cmphex(test_node(rw->file->bs)->perm, ==, READ | RW);
    g_assert_cmphex(test_node(rw->file->bs)->shared, ==,
                    READ | BLK_PERM_WRITE_UNCHANGED);
    bdrv_unref(ro);
    bdrv_unref(rw);
}

/* A backing file is only read, and shared for writing only if the overlay's
 * users tolerate that. */
static void test_backing(void)
{
    BlockDriverState *base = test_overlay("base", NULL, 0);
    BlockDriverState *top = test_overlay("top", base, BDRV_O_RDWR);
    BlockBackend *blk = user(top, READ | BLK_PERM_WRITE, READ);

    g_assert_cmphex(top->backing->perm, ==, READ);
    g_assert_cmphex(top->backing->shared_perm, ==,
                    READ | BLK_PERM_WRITE_UNCHANGED);
    g_assert_true(blk_set_perm(blk, READ, BLK_PERM_ALL, &error_abort));
    g_assert_cmphex(top->backing->shared_perm, ==, BLK_PERM_ALL);
    blk_unref(blk);
    bdrv_unref(top);
    bdrv_unref(base);
}

static void test_filter_passes(void)
{
    BlockDriverState *leaf = test_leaf("leaf", BDRV_O_RDWR);
    BlockDriverState *filter = test_filter("filter", leaf, BDRV_O_RDWR);
    BlockBackend *blk = user(filter, READ | BLK_PERM_WRITE, READ);

    g_assert_cmphex(test_node(leaf)->perm, ==, READ | BLK_PERM_WRITE);
    g_assert_cmphex(test_node(leaf)->shared, ==, READ);
    blk_unref(blk);
    /* The user left: everything was given back. */
    g_assert_cmphex(test_node(leaf)->perm, ==, 0);
    g_assert_cmphex(test_node(leaf)->shared, ==, BLK_PERM_ALL);
    bdrv_unref(filter);
    bdrv_unref(leaf);
}

static void test_conflict(void)
{
    BlockDriverState *leaf = test_leaf("leaf", BDRV_O_RDWR);
    BlockBackend *a = user(leaf, READ, READ);
    BlockBackend *b = blk_new(BLK_PERM_WRITE, BLK_PERM_ALL);
    g_autofree char *before = test_graph_dump();
    g_autofree char *after = NULL;
    Error *err = NULL;

    blk_set_name(a, "a");
    blk_set_name(b, "b");
    g_assert_false(blk_insert_bs(b, leaf, &err));
    assert_error(err, "Permission conflict on node 'leaf': permissions "
                 "'write' are both required by block device 'b' (uses node "
                 "'leaf' as 'root' child) and unshared by block device 'a' "
                 "(uses node 'leaf' as 'root' child).");
    g_assert_null(blk_bs(b));
    blk_set_name(a, NULL);
    after = test_graph_dump();
    g_assert_cmpstr(before, ==, after);
    blk_unref(a);
    g_assert_true(blk_insert_bs(b, leaf, &error_abort));
    blk_unref(b);
    bdrv_unref(leaf);
}

static void test_read_only_node(void)
{
    BlockDriverState *leaf = test_leaf("leaf", 0);
    Error *err = NULL;

    g_assert_null(blk_new_with_bs(leaf, BLK_PERM_WRITE, BLK_PERM_ALL, &err));
    assert_error(err, "Block node is read-only");
    bdrv_unref(leaf);
}

/* What cannot be taken fails whole; nobody else's permissions change. */
static void test_take_fails(void)
{
    BlockDriverState *leaf = test_leaf("leaf", BDRV_O_RDWR);
    BlockDriverState *filter = test_filter("filter", leaf, BDRV_O_RDWR);
    BlockBackend *a = user(filter, READ, BLK_PERM_ALL);
    g_autofree char *before = test_graph_dump();
    g_autofree char *after = NULL;
    Error *err = NULL;

    test_node(leaf)->fail_check = 1;
    g_assert_null(blk_new_with_bs(filter, BLK_PERM_WRITE, READ, &err));
    assert_error(err, "injected: cannot take");
    after = test_graph_dump();
    g_assert_cmpstr(before, ==, after);

    test_node(leaf)->fail_check = 1;
    err = NULL;
    g_assert_false(blk_set_perm(a, READ | BLK_PERM_WRITE, READ, &err));
    assert_error(err, "injected: cannot take");
    blk_unref(a);
    bdrv_unref(filter);
    bdrv_unref(leaf);
}

static BlockGraphNode *query_node(BlockGraph *graph, const char *name)
{
    for (BlockGraphNodeList *l = graph->nodes; l; l = l->next) {
        if (!strcmp(l->value->name, name)) {
            return l->value;
        }
    }
    g_assert_not_reached();
}

/*
 * A driver that cannot drop is no reason to fail: the error is discarded,
 * visible, and dropping is tried again at the next change.
 */
static void test_relax_fails(void)
{
    BlockDriverState *leaf = test_leaf("leaf", BDRV_O_RDWR);
    BlockBackend *writer = user(leaf, READ | BLK_PERM_WRITE, READ);
    BlockBackend *reader;

    test_node(leaf)->fail_set = 1;
    blk_unref(writer);
    g_assert_cmphex(test_node(leaf)->perm, ==, READ | BLK_PERM_WRITE);
    {
        g_autoptr(BlockGraph) graph = bdrv_query_block_graph();
        BlockGraphNode *node = query_node(graph, "leaf");

        g_assert_cmpint(node->relax_errors, ==, 1);
        g_assert_true(node->relax_pending);
        g_assert_cmpstr(node->relax_error, ==, "injected: cannot drop");
    }

    /* The next user needs nothing new, yet its coming is the retry. */
    reader = user(leaf, 0, BLK_PERM_ALL);
    g_assert_cmphex(test_node(leaf)->perm, ==, 0);
    g_assert_cmphex(test_node(leaf)->shared, ==, BLK_PERM_ALL);
    g_assert_false(leaf->relax_pending);
    g_assert_cmpint(leaf->relax_errors, ==, 1);

    test_node(leaf)->fail_set = 1;
    g_assert_true(blk_set_perm(reader, READ, BLK_PERM_ALL, &error_abort));
    test_node(leaf)->fail_set = 1;
    g_assert_true(blk_set_perm(reader, 0, BLK_PERM_ALL, &error_abort));
    g_assert_true(leaf->relax_pending);
    bdrv_retry_relax();
    g_assert_false(leaf->relax_pending);
    g_assert_cmphex(test_node(leaf)->perm, ==, 0);
    blk_unref(reader);
    bdrv_unref(leaf);
}

static void test_names(void)
{
    g_autofree char *all = bdrv_perm_names(BLK_PERM_ALL);
    g_autofree char *none = bdrv_perm_names(0);

    g_assert_cmpstr(all, ==,
                    "consistent read, write, write unchanged, resize");
    g_assert_cmpstr(none, ==, "");
}

/*
 * Giving up asks nobody: neither the driver whether it confirms the rest, nor
 * whether those who stay could come today.
 */
static void test_relax_asks_nobody(void)
{
    BlockDriverState *leaf = test_leaf("leaf", BDRV_O_RDWR);
    BlockBackend *writer = user(leaf, READ | RW, BLK_PERM_ALL);
    BlockBackend *other = user(leaf, READ, READ | RW);
    Error *err = NULL;

    /* As if the image had been resized to an odd length since. */
    leaf->bl.request_alignment = 4096;
    leaf->total_bytes = 1000;
    test_node(leaf)->fail_check = 1;
    g_assert_true(blk_set_perm(writer, READ | BLK_PERM_WRITE, BLK_PERM_ALL,
                               &error_abort));
    g_assert_cmphex(test_node(leaf)->perm, ==, READ | BLK_PERM_WRITE);
    g_assert_cmphex(test_node(leaf)->shared, ==, READ | RW);
    blk_unref(other);
    g_assert_cmphex(test_node(leaf)->shared, ==, BLK_PERM_ALL);
    g_assert_cmpint(test_node(leaf)->fail_check, ==, 1);
    g_assert_cmpint(leaf->relax_errors, ==, 0);

    g_assert_null(blk_new_with_bs(leaf, READ, BLK_PERM_ALL, &err));
    assert_error(err, "Cannot get 'write' permission without 'resize': Image "
                 "size is not a multiple of request alignment");
    blk_unref(writer);
    g_assert_cmphex(test_node(leaf)->perm, ==, 0);
    bdrv_unref(leaf);
}

int main(int argc, char **argv)
{
    test_graph_init(&argc, &argv);
    g_test_add_func("/permission/format", test_format_perms);
    g_test_add_func("/permission/backing", test_backing);
    g_test_add_func("/permission/filter", test_filter_passes);
    g_test_add_func("/permission/conflict", test_conflict);
    g_test_add_func("/permission/read-only-node", test_read_only_node);
    g_test_add_func("/permission/take-fails", test_take_fails);
    g_test_add_func("/permission/relax-fails", test_relax_fails);
    g_test_add_func("/permission/names", test_names);
    g_test_add_func("/permission/relax-asks-nobody", test_relax_asks_nobody);
    return g_test_run();
}
