/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Reopen: one transaction over several nodes, with widened permissions. */
#include "util/osdep.h"
#include "graph-fixture.h"
#include "qobject/qdict.h"

#define RW (BLK_PERM_WRITE | BLK_PERM_RESIZE)
#define READ BLK_PERM_CONSISTENT_READ

static QDict *option(const char *name, const char *value)
{
    QDict *d = qdict_new();

    qdict_put_str(d, name, value);
    return d;
}

/*
 * Three overlays change their files, flags or backing at once; the last one
 * fails to prepare. Nothing has changed: options, permissions, locks,
 * children.
 */
static void test_last_fails(void)
{
    BlockDriverState *base = test_overlay("base", NULL, 0);
    BlockDriverState *a = test_overlay("a", base, BDRV_O_RDWR);
    BlockDriverState *b = test_overlay("b", NULL, 0);
    BlockDriverState *c = test_overlay("c", NULL, BDRV_O_RDWR);
    BlockDriverState *spare = test_leaf("spare", BDRV_O_RDWR);
    BlockReopenQueue *q = NULL;
    g_autofree char *before = test_graph_dump();
    g_autofree char *after = NULL;
    BlockdevOptions *options[3] = { a->options, b->options, c->options };
    Error *err = NULL;

    test_node(c)->fail_prepare = 1;
    q = bdrv_reopen_queue(q, a, option("backing", ""), true);
    q = bdrv_reopen_queue(q, b, option("file", "spare"), true);
    q = bdrv_reopen_queue(q, c, option("read-only", "on"), true);
    g_assert_cmpint(bdrv_reopen_multiple(q, &err), ==, -EIO);
    assert_error(err, "injected: cannot reopen");

    after = test_graph_dump();
    g_assert_cmpstr(before, ==, after);
    g_assert_true(a->options == options[0] && b->options == options[1] &&
                  c->options == options[2]);
    g_assert_true(c->open_flags & BDRV_O_RDWR);
    g_assert_cmpint(test_node(a)->abort_calls, ==, 1);
    g_assert_cmpint(test_node(b)->abort_calls, ==, 1);
    g_assert_cmpint(test_node(c)->abort_calls, ==, 0);
    g_assert_cmpint(test_node(a)->commit_calls, ==, 0);

    q = bdrv_reopen_queue(NULL, a, option("backing", ""), true);
    q = bdrv_reopen_queue(q, b, option("file", "spare"), true);
    q = bdrv_reopen_queue(q, c, option("read-only", "on"), true);
    g_assert_cmpint(bdrv_reopen_multiple(q, &error_abort), ==, 0);
    g_assert_null(a->backing);
    g_assert_true(b->file->bs == spare);
    g_assert_false(c->open_flags & BDRV_O_RDWR);
    g_assert_cmphex(test_node(c->file->bs)->perm, ==, READ);

    bdrv_unref(a);
    bdrv_unref(b);
    bdrv_unref(c);
    bdrv_unref(base);
    bdrv_unref(spare);
    g_assert_null(bdrv_next_node(NULL));
}

/* Two writers, each keeping the other out of its file, swap their files. */
static void test_swap_files(void)
{
    BlockDriverState *f1 = test_leaf("f1", BDRV_O_RDWR);
    BlockDriverState *f2 = test_leaf("f2", BDRV_O_RDWR);
    BlockDriverState *a = test_format("a", f1, BDRV_O_RDWR);
    BlockDriverState *b = test_format("b", f2, BDRV_O_RDWR);
    BlockReopenQueue *q;
    Error *err = NULL;

    q = bdrv_reopen_queue(NULL, a, option("file", "f2"), true);
    q = bdrv_reopen_queue(q, b, option("file", "f1"), true);
    g_assert_cmpint(bdrv_reopen_multiple(q, &error_abort), ==, 0);
    g_assert_true(a->file->bs == f2);
    g_assert_true(b->file->bs == f1);
    g_assert_cmphex(test_node(f1)->perm, ==, READ | RW);
    g_assert_cmphex(test_node(f1)->shared, ==, READ | BLK_PERM_WRITE_UNCHANGED);
    g_assert_cmphex(a->file->perm, ==, READ | RW);

    /* Alone, it would meet the other writer. */
    g_assert_cmpint(bdrv_reopen(a, option("file", "f1"), true, &err), <, 0);
    assert_error(err, "Permission conflict on node 'f1': permissions "
                 "'write, resize' are both required by node 'a' (uses node "
                 "'f1' as 'file' child) and unshared by node 'b' (uses node "
                 "'f1' as 'file' child).");
    g_assert_true(a->file->bs == f2);
    bdrv_unref(a);
    bdrv_unref(b);
    bdrv_unref(f1);
    bdrv_unref(f2);
    g_assert_null(bdrv_next_node(NULL));
}

/* While drivers prepare, edges hold the union of before and after. */
static void test_widened_in_prepare(void)
{
    BlockDriverState *bs = test_overlay("bs", NULL, BDRV_O_RDWR);
    BlockDriverState *file = bs->file->bs;

    g_assert_cmpint(bdrv_reopen_set_read_only(bs, true, &error_abort), ==, 0);
    g_assert_cmphex(test_node(bs)->prepare_perm, ==, READ | RW);
    g_assert_cmphex(bs->file->perm, ==, READ);
    g_assert_cmphex(test_node(file)->perm, ==, READ);

    /* The other way the new permissions are there before the driver needs
     * them to clear its dirty marks. */
    g_assert_cmpint(bdrv_reopen_set_read_only(bs, false, &error_abort), ==, 0);
    g_assert_cmphex(test_node(bs)->prepare_perm, ==, READ | RW);
    g_assert_cmphex(test_node(file)->perm, ==, READ | RW);
    bdrv_unref(bs);
    g_assert_null(bdrv_next_node(NULL));
}

static BlockBackend *intruder;

/* Tries to use the file that the reopen is moving away from. */
static void intrude(BlockDriverState *bs)
{
    BlockDriverState *old = bdrv_find_node("old");
    Error *err = NULL;

    intruder = blk_new_with_bs(old, BLK_PERM_WRITE, BLK_PERM_ALL, &err);
    g_assert_null(intruder);
    assert_error(err, "Permission conflict on node 'old': permissions 'write' "
                 "are both required by an unnamed block device (uses node "
                 "'old' as 'root' child) and unshared by a reopen in progress "
                 "(uses node 'old' as 'guard' child).");
}

/* Until the reopen commits, nobody gets what it would need to go back. */
static void test_guard(void)
{
    BlockDriverState *old = test_leaf("old", BDRV_O_RDWR);
    BlockDriverState *new_file = test_leaf("new", BDRV_O_RDWR);
    BlockDriverState *bs = test_format("bs", old, BDRV_O_RDWR);
    g_autofree char *before = test_graph_dump();
    g_autofree char *after = NULL;
    Error *err = NULL;

    test_node(bs)->in_prepare = intrude;
    test_node(bs)->fail_prepare = 1;
    g_assert_cmpint(bdrv_reopen(bs, option("file", "new"), true, &err), <, 0);
    error_free(err);
    after = test_graph_dump();
    g_assert_cmpstr(before, ==, after);

    g_assert_cmpint(bdrv_reopen(bs, option("file", "new"), true,
                                &error_abort), ==, 0);
    g_assert_cmphex(test_node(old)->perm, ==, 0);
    g_assert_cmphex(test_node(old)->shared, ==, BLK_PERM_ALL);
    intruder = blk_new_with_bs(old, BLK_PERM_WRITE, BLK_PERM_ALL,
                               &error_abort);
    blk_unref(intruder);
    bdrv_unref(bs);
    bdrv_unref(old);
    bdrv_unref(new_file);
    g_assert_null(bdrv_next_node(NULL));
}

/*
 * A file made read-only under a writing format is refused; together with the
 * format it works, in either order.
 */
static void test_child_only(void)
{
    for (int order = 0; order < 2; order++) {
        BlockDriverState *file = test_leaf("pf", BDRV_O_RDWR);
        BlockDriverState *bs = test_format("fmt", file, BDRV_O_RDWR);
        BlockDriverState *nodes[2] = { order ? bs : file, order ? file : bs };
        BlockReopenQueue *q = NULL;
        Error *err = NULL;

        g_assert_cmpint(bdrv_reopen_set_read_only(file, true, &err), <, 0);
        assert_error(err, "Read-only block node 'pf' cannot support "
                     "read-write users");
        g_assert_true(file->open_flags & BDRV_O_RDWR);

        for (int i = 0; i < 2; i++) {
            q = bdrv_reopen_queue(q, nodes[i], option("read-only", "on"),
                                  true);
        }
        g_assert_cmpint(bdrv_reopen_multiple(q, &error_abort), ==, 0);
        g_assert_false(file->open_flags & BDRV_O_RDWR);
        g_assert_cmphex(test_node(file)->perm, ==, READ);
        bdrv_unref(bs);
        bdrv_unref(file);
        g_assert_null(bdrv_next_node(NULL));
    }
}

/* Going read-only succeeds even if the driver cannot drop its lock. */
static void test_relax_failure_is_no_failure(void)
{
    BlockDriverState *bs = test_overlay("bs", NULL, BDRV_O_RDWR);
    BlockDriverState *file = bs->file->bs;

    test_node(file)->fail_set = 1;
    g_assert_cmpint(bdrv_reopen_set_read_only(bs, true, &error_abort), ==, 0);
    g_assert_cmphex(test_node(file)->perm, ==, READ | RW);
    g_assert_cmpint(file->relax_errors, ==, 1);
    g_assert_true(file->relax_pending);
    g_assert_cmphex(bs->file->perm, ==, READ);

    bdrv_retry_relax();
    g_assert_cmphex(test_node(file)->perm, ==, READ);
    bdrv_unref(bs);
    g_assert_null(bdrv_next_node(NULL));
}

/* Taking more than another process allows fails cleanly. */
static void test_take_fails(void)
{
    BlockDriverState *bs = test_overlay("bs", NULL, 0);
    g_autofree char *before = NULL;
    g_autofree char *after = NULL;
    Error *err = NULL;

    bs->file->bs->open_flags |= BDRV_O_RDWR;
    before = test_graph_dump();
    test_node(bs->file->bs)->fail_check = 1;
    g_assert_cmpint(bdrv_reopen_set_read_only(bs, false, &err), <, 0);
    assert_error(err, "injected: cannot take");
    g_assert_cmpint(test_node(bs)->prepare_calls, ==, 0);
    after = test_graph_dump();
    g_assert_cmpstr(before, ==, after);
    g_assert_false(bs->open_flags & BDRV_O_RDWR);
    bdrv_unref(bs);
    g_assert_null(bdrv_next_node(NULL));
}

static void test_backing(void)
{
    BlockDriverState *one = test_overlay("one", NULL, 0);
    BlockDriverState *two = test_overlay("two", NULL, 0);
    BlockDriverState *bs = test_overlay("bs", one, BDRV_O_RDWR);
    BlockDriverState *over = test_overlay("over", bs, 0);
    Error *err = NULL;

    /* To an unrelated node: the offline copy of a backing file. */
    g_assert_cmpint(bdrv_reopen(bs, option("backing", "two"), true,
                                &error_abort), ==, 0);
    g_assert_true(bs->backing->bs == two);

    g_assert_cmpint(bdrv_reopen(bs, option("backing", "over"), true, &err),
                    <, 0);
    assert_error(err, "Making 'over' a backing child of 'bs' would create a "
                 "cycle");
    err = NULL;
    g_assert_cmpint(bdrv_reopen(bs, option("backing", "nobody"), true, &err),
                    <, 0);
    assert_error(err, "Cannot find device='' nor node-name='nobody'");
    err = NULL;
    g_assert_cmpint(bdrv_reopen(bs, option("file", "bs-file"), false, &err),
                    <, 0);
    assert_error(err, "backing is missing for 'bs'");
    g_assert_true(bs->backing->bs == two);
    bdrv_unref(over);
    bdrv_unref(bs);
    bdrv_unref(one);
    bdrv_unref(two);
    g_assert_null(bdrv_next_node(NULL));
}

static void test_wrong_options(void)
{
    BlockDriverState *bs = test_overlay("bs", NULL, BDRV_O_RDWR);
    static const struct {
        const char *name, *value, *text;
    } bad[] = {
        { "driver", "raw", "Cannot change the option 'driver'" },
        { "node-name", "x", "Cannot change the option 'node-name'" },
        { "force-share", "on", "Cannot change the option 'force-share'" },
        { "lazy-refcounts", "on",
          "Cannot change the option 'lazy-refcounts'" },
        { "nonsense", "on", "Cannot change the option 'nonsense'" },
        { "detect-zeroes", "maybe",
          "Parameter 'detect-zeroes' does not accept value 'maybe'" },
        { "cache.direct", "2",
          "Parameter 'cache.direct' expects 'on' or 'off'" },
    };

    for (int i = 0; i < ARRAY_SIZE(bad); i++) {
        Error *err = NULL;

        g_assert_cmpint(bdrv_reopen(bs, option(bad[i].name, bad[i].value),
                                    true, &err), <, 0);
        assert_error(err, bad[i].text);
    }
    bdrv_unref(bs);
    g_assert_null(bdrv_next_node(NULL));
}

int main(int argc, char **argv)
{
    test_graph_init(&argc, &argv);
    g_test_add_func("/reopen/last-fails", test_last_fails);
    g_test_add_func("/reopen/swap-files", test_swap_files);
    g_test_add_func("/reopen/widened-in-prepare", test_widened_in_prepare);
    g_test_add_func("/reopen/guard", test_guard);
    g_test_add_func("/reopen/child-only", test_child_only);
    g_test_add_func("/reopen/relax-failure-is-no-failure",
                    test_relax_failure_is_no_failure);
    g_test_add_func("/reopen/take-fails", test_take_fails);
    g_test_add_func("/reopen/backing", test_backing);
    g_test_add_func("/reopen/wrong-options", test_wrong_options);
    return g_test_run();
}
