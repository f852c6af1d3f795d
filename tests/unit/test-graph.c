/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Changes of the graph as transactions; cycles; filters; appending. */
#include "util/osdep.h"
#include "graph-fixture.h"

static void check_empty(void)
{
    g_assert_null(bdrv_next_node(NULL));
}

/*
 * Five changes of one transaction:
 *
 *   a -> x      1. a.backing leads to y        4. y.backing leads to z
 *   b -> x      2. b.backing is dropped        5. everything on f leads to g
 *   c           3. c gets a backing child x        y -> w, user -> f
 *
 * For every n the n-th one fails, by a claim or by a cycle, and the graph is
 * as before, permissions and locks included.
 */
typedef struct Five {
    BlockDriverState *a, *b, *c, *x, *y, *z, *f, *g, *w, *user;
} Five;

static bool five_change(Five *t, int i, Transaction *tran, Error **errp)
{
    switch (i) {
    case 1:
        return bdrv_replace_child_tran(t->a->backing, t->y, NULL, tran, errp);
    case 2:
        return bdrv_unref_child_tran(t->b->backing, NULL, tran, errp);
    case 3:
        return bdrv_attach_child_tran(t->c, t->x, "backing", BDRV_CHILD_COW,
                                      tran, errp) != NULL;
    case 4:
        return bdrv_set_backing_hd_tran(t->y, t->z, NULL, tran, errp);
    case 5:
        return bdrv_replace_node_tran(t->f, t->g, NULL, tran, errp);
    }
    g_assert_not_reached();
}

/* Makes change @i impossible. Returns what to undo. */
static BdrvClaimOwner *five_block(Five *t, int i, BlockDriverState **undo)
{
    BdrvClaimOwner *owner = bdrv_claim_owner_new("job 'five'");

    *undo = NULL;
    switch (i) {
    case 1:
        bdrv_claim(owner, t->a->backing, BDRV_CLAIM_FREEZE, &error_abort);
        break;
    case 2:
        bdrv_claim(owner, t->b->backing, BDRV_CLAIM_FREEZE, &error_abort);
        break;
    case 3:
        /* c below x: attaching x to c would be a cycle. */
        bdrv_set_backing_hd(t->x, t->c, NULL, &error_abort);
        *undo = t->x;
        break;
    case 4:
        bdrv_claim(owner, t->y->backing, BDRV_CLAIM_FREEZE, &error_abort);
        break;
    case 5:
        bdrv_claim(owner, t->user->backing, BDRV_CLAIM_CHANGE, &error_abort);
        break;
    }
    return owner;
}

static bool five_run(Five *t, int *failed_at, Error **errp)
{
    BlockDriverState *all[] = { t->a, t->b, t->c, t->x, t->y, t->z, t->f,
                                t->g, t->w, t->user };
    GSList *nodes = NULL;
    Transaction *tran = tran_new();
    bool ok = true;

    *failed_at = 0;
    bdrv_drain_all_begin();
    bdrv_graph_wrlock();
    for (int i = 1; ok && i <= 5; i++) {
        ok = five_change(t, i, tran, errp);
        *failed_at = ok ? 0 : i;
    }
    for (int i = 0; i < ARRAY_SIZE(all); i++) {
        nodes = g_slist_prepend(nodes, all[i]);
    }
    ok = ok && bdrv_refresh_perms_tran(nodes, NULL, tran, errp);
    tran_finalize(tran, ok ? 0 : -EPERM);
    bdrv_graph_wrunlock();
    bdrv_drain_all_end();
    g_slist_free(nodes);
    return ok;
}

static void test_five_changes(void)
{
    Five t;
    BlockBackend *reader;
    Error *err = NULL;
    int failed_at;

    t.x = test_overlay("x", NULL, 0);
    t.w = test_overlay("w", NULL, 0);
    t.y = test_overlay("y", t.w, 0);
    t.z = test_leaf("z", 0);
    t.a = test_overlay("a", t.x, BDRV_O_RDWR);
    t.b = test_overlay("b", t.x, 0);
    t.c = test_overlay("c", NULL, 0);
    t.f = test_overlay("f", NULL, 0);
    t.g = test_overlay("g", NULL, 0);
    t.user = test_overlay("user", t.f, 0);

    reader = blk_new_with_bs(t.a, BLK_PERM_CONSISTENT_READ,
                             BLK_PERM_CONSISTENT_READ, &error_abort);

    for (int n = 1; n <= 5; n++) {
        BlockDriverState *undo;
        BdrvClaimOwner *owner = five_block(&t, n, &undo);
        g_autofree char *before = test_graph_dump();
        g_autofree char *after = NULL;

        g_assert_false(five_run(&t, &failed_at, &err));
        g_assert_cmpint(failed_at, ==, n);
        error_free(err);
        err = NULL;
        after = test_graph_dump();
        g_assert_cmpstr(before, ==, after);
        bdrv_claim_owner_free(owner);
        if (undo) {
            bdrv_set_backing_hd(undo, NULL, NULL, &error_abort);
        }
    }

    /* All changes made, but a leaf refuses the permissions. */
    {
        g_autofree char *before = test_graph_dump();
        g_autofree char *after = NULL;

        test_node(t.z)->fail_check = 1;
        g_assert_false(five_run(&t, &failed_at, &err));
        after = test_graph_dump();
        g_assert_cmpstr(before, ==, after);
        assert_error(err, "injected: cannot take");
    }

    g_assert_true(five_run(&t, &failed_at, &error_abort));
    g_assert_true(t.a->backing->bs == t.y);
    g_assert_null(t.b->backing);
    g_assert_true(t.c->backing->bs == t.x);
    g_assert_true(t.y->backing->bs == t.z);
    g_assert_true(t.user->backing->bs == t.g);

    blk_unref(reader);
    bdrv_unref(t.user);
    bdrv_unref(t.f);
    bdrv_unref(t.g);
    bdrv_unref(t.a);
    bdrv_unref(t.b);
    bdrv_unref(t.c);
    bdrv_unref(t.x);
    bdrv_unref(t.y);
    bdrv_unref(t.z);
    bdrv_unref(t.w);
    check_empty();
}

static void test_cycle(void)
{
    BlockDriverState *base = test_overlay("base", NULL, 0);
    BlockDriverState *top = test_overlay("top", base, 0);
    Error *err = NULL;

    g_assert_false(bdrv_set_backing_hd(base, top, NULL, &err));
    assert_error(err, "Making 'top' a backing child of 'base' would create a "
                 "cycle");
    g_assert_null(base->backing);
    bdrv_unref(top);
    bdrv_unref(base);
    check_empty();
}

/* A chain of 3,000 nodes is closed and walked without deep recursion. */
static void test_long_chain(void)
{
    BlockDriverState *bs = test_leaf("n0", 0);

    for (int i = 1; i <= 3000; i++) {
        g_autofree char *name = g_strdup_printf("n%d", i);
        BlockDriverState *top = test_filter(name, bs, 0);

        bdrv_unref(bs);
        bs = top;
    }
    g_assert_true(bdrv_find_base(bs) == bdrv_find_node("n0"));
    bdrv_unref(bs);
    check_empty();
}

/* Users of a node come to use the overlay put on top; the overlay itself
 * keeps leading to the node. */
static void test_append(void)
{
    BlockDriverState *bs = test_overlay("bs", NULL, BDRV_O_RDWR);
    BlockDriverState *overlay = test_overlay("overlay", NULL, BDRV_O_RDWR);
    BlockBackend *blk = blk_new_with_bs(bs, BLK_PERM_WRITE, BLK_PERM_ALL,
                                        &error_abort);

    g_assert_true(bdrv_append(overlay, bs, NULL, &error_abort));
    g_assert_true(blk_bs(blk) == overlay);
    g_assert_true(overlay->backing->bs == bs);
    /* The writer moved: the former top is only read. */
    g_assert_cmphex(overlay->backing->perm, ==, 0);
    blk_unref(blk);
    bdrv_unref(bs);
    bdrv_unref(overlay);
    check_empty();
}

static void test_filter_in_and_out(void)
{
    BlockDriverState *bs = test_overlay("bs", NULL, BDRV_O_RDWR);
    BlockBackend *blk = blk_new_with_bs(bs, BLK_PERM_WRITE, BLK_PERM_ALL,
                                        &error_abort);
    BlockDriverState *filter = test_filter("filter", bs, BDRV_O_RDWR);

    g_assert_true(bdrv_replace_node(bs, filter, NULL, &error_abort));
    g_assert_true(blk_bs(blk) == filter);
    g_assert_true(bdrv_skip_filters(blk_bs(blk)) == bs);
    g_assert_cmphex(bdrv_filter_child(filter)->perm, ==, BLK_PERM_WRITE);
    g_assert_true(bdrv_drop_filter(filter, NULL, &error_abort));
    g_assert_true(blk_bs(blk) == bs);
    g_assert_true(QTAILQ_EMPTY(&filter->children));
    bdrv_unref(filter);
    blk_unref(blk);
    bdrv_unref(bs);
    check_empty();
}

/* A refused attach leaves nothing behind and takes over the reference. */
static void test_attach_refused(void)
{
    BlockDriverState *file = test_leaf("file", BDRV_O_RDWR);
    BlockDriverState *one = test_format("one", file, BDRV_O_RDWR);
    BlockDriverState *two = test_overlay("two", NULL, BDRV_O_RDWR);
    g_autofree char *before = test_graph_dump();
    g_autofree char *after = NULL;
    Error *err = NULL;

    g_assert_null(bdrv_attach_child(two, bdrv_ref(file), "data-file",
                                    BDRV_CHILD_DATA | BDRV_CHILD_METADATA,
                                    &err));
    assert_error(err, "Permission conflict on node 'file': permissions "
                 "'write, resize' are both required by node 'two' (uses node "
                 "'file' as 'data-file' child) and unshared by node 'one' "
                 "(uses node 'file' as 'file' child).");
    after = test_graph_dump();
    g_assert_cmpstr(before, ==, after);
    bdrv_unref(one);
    bdrv_unref(two);
    bdrv_unref(file);
    check_empty();
}

/*
 *   one -> mid -> base      mid is dropped; the headers of its overlays, one
 *   two -> mid              writable and one not, name base afterwards
 */
typedef struct Drop {
    BlockDriverState *one, *two, *mid, *base;
} Drop;

/* It has been given another backing file than its header names. */
static void drop_name(BlockDriverState *bs)
{
    g_strlcpy(test_node(bs)->header, "old", sizeof(test_node(bs)->header));
    bs->header_backing_file = g_strdup("old");
    g_strlcpy(bs->backing_file, "now", sizeof(bs->backing_file));
}

static Drop drop_new(void)
{
    Drop d;

    d.base = test_overlay("base", NULL, 0);
    d.mid = test_overlay("mid", d.base, 0);
    d.one = test_overlay("one", d.mid, BDRV_O_RDWR);
    d.two = test_overlay("two", d.mid, 0);
    /* Whoever makes two writable needs its file to be so. */
    d.two->file->bs->open_flags |= BDRV_O_RDWR;
    drop_name(d.one);
    drop_name(d.two);
    return d;
}

static void drop_free(Drop *d)
{
    bdrv_unref(d->one);
    bdrv_unref(d->two);
    bdrv_unref(d->mid);
    bdrv_unref(d->base);
    check_empty();
}

static void test_drop(void)
{
    Drop d = drop_new();

    g_assert_true(bdrv_drop_intermediate(d.mid, d.base, "new", NULL,
                                         &error_abort));
    g_assert_true(d.one->backing->bs == d.base);
    g_assert_true(d.two->backing->bs == d.base);
    g_assert_cmpstr(test_node(d.one)->header, ==, "new");
    g_assert_cmpstr(test_node(d.two)->header, ==, "new");
    g_assert_cmpstr(d.one->backing_file, ==, "new");
    g_assert_cmpstr(d.one->backing_format, ==, "qcow2");
    g_assert_true(bdrv_is_read_only(d.two));
    g_assert_cmphex(d.two->file->perm, ==, BLK_PERM_CONSISTENT_READ);
    drop_free(&d);
}

/* Whatever fails, graph, headers and access modes are as before. */
static void test_drop_fails(void)
{
    for (int step = 0; step < 5; step++) {
        Drop d = drop_new();
        BlockDriverState *leaf = d.base->file->bs;
        g_autofree char *before = NULL;
        g_autofree char *after = NULL;
        BdrvClaimOwner *job = bdrv_claim_owner_new("job 'drop'");
        Error *err = NULL;

        switch (step) {
        case 0:
            test_node(d.one)->fail_header = 1;
            break;
        case 1:
            test_node(d.two)->fail_header = 1;
            break;
        case 2:
            test_node(d.two)->fail_prepare = 1;
            break;
        case 3:
            bdrv_claim(job, d.two->backing, BDRV_CLAIM_FREEZE, &error_abort);
            break;
        case 4:
            test_node(d.two->file->bs)->fail_check = 1;
            break;
        }
        before = test_graph_dump();
        g_assert_false(bdrv_drop_intermediate(d.mid, d.base, "new", NULL,
                                              &err));
        g_assert_nonnull(err);
        error_free(err);
        after = test_graph_dump();
        g_assert_cmpstr(before, ==, after);
        g_assert_cmpstr(test_node(d.one)->header, ==, "old");
        g_assert_cmpstr(test_node(d.two)->header, ==, "old");
        g_assert_cmpstr(d.one->backing_file, ==, "now");
        g_assert_cmpstr(d.two->backing_file, ==, "now");
        g_assert_true(bdrv_is_read_only(d.two));
        g_assert_cmphex(test_node(leaf)->perm, ==, BLK_PERM_CONSISTENT_READ);
        bdrv_claim_owner_free(job);
        drop_free(&d);
    }
}

/* A filter is opened on a node and put above it; its users follow. */
static void test_insert(void)
{
    BlockDriverState *bs = test_overlay("bs", NULL, BDRV_O_RDWR);
    BlockDriverState *other = test_leaf("other", BDRV_O_RDWR);
    BlockBackend *blk = blk_new_with_bs(bs, BLK_PERM_WRITE, BLK_PERM_ALL,
                                        &error_abort);
    BdrvClaimOwner *job = bdrv_claim_owner_new("job");
    QDict *options = qdict_new();
    BlockDriverState *filter;
    Error *err = NULL;

    qdict_put_str(options, "driver", "raw");
    qdict_put_str(options, "file", "other");
    g_assert_null(bdrv_insert_node(bs, options, BDRV_O_RDWR, NULL, &err));
    g_assert_nonnull(strstr(error_get_pretty(err), "does not lead to 'bs'"));
    error_free(err);

    err = NULL;
    bdrv_claim(job, blk_root(blk), BDRV_CLAIM_FREEZE, &error_abort);
    options = qdict_new();
    qdict_put_str(options, "driver", "raw");
    qdict_put_str(options, "file", "bs");
    g_assert_null(bdrv_insert_node(bs, options, BDRV_O_RDWR, NULL, &err));
    assert_error(err, "Cannot change 'root' edge from an unnamed block device "
                 "to 'bs': frozen by job");
    bdrv_claim_owner_free(job);

    options = qdict_new();
    qdict_put_str(options, "driver", "raw");
    qdict_put_str(options, "file", "bs");
    filter = bdrv_insert_node(bs, options, BDRV_O_RDWR, NULL, &error_abort);
    g_assert_true(blk_bs(blk) == filter);
    g_assert_true(filter->file->bs == bs);
    g_assert_true(bdrv_replace_node(filter, bs, NULL, &error_abort));
    bdrv_unref(filter);
    g_assert_true(blk_bs(blk) == bs);
    blk_unref(blk);
    bdrv_unref(bs);
    bdrv_unref(other);
    check_empty();
}

/* An edge that was redirected asks what its parent wants of the new node. */
static void test_replace_asks_again(void)
{
    BlockDriverState *shared = test_leaf("shared", BDRV_O_FORCE_SHARE);
    BlockDriverState *plain = test_leaf("plain", 0);
    BlockDriverState *bs = test_format("bs", shared, 0);

    g_assert_cmphex(bs->file->shared_perm, ==, BLK_PERM_ALL);
    g_assert_true(bdrv_replace_node(shared, plain, NULL, &error_abort));
    g_assert_cmphex(bs->file->shared_perm, ==,
                    BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE_UNCHANGED);
    g_assert_cmphex(test_node(plain)->shared, ==,
                    BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE_UNCHANGED);
    g_assert_cmphex(test_node(shared)->perm, ==, 0);
    bdrv_unref(bs);
    bdrv_unref(shared);
    bdrv_unref(plain);
    check_empty();
}

/* What a node says of its backing file follows, and comes back on abort. */
static void test_backing_names(void)
{
    BlockDriverState *base = test_overlay("base", NULL, 0);
    BlockDriverState *other = test_overlay("other", NULL, 0);
    BlockDriverState *top = test_overlay("top", base, 0);
    Transaction *tran = tran_new();

    g_strlcpy(other->filename, "other.img", sizeof(other->filename));
    g_strlcpy(top->backing_file, "base.img", sizeof(top->backing_file));
    bdrv_drain_all_begin();
    bdrv_graph_wrlock();
    g_assert_true(bdrv_replace_node_tran(base, other, NULL, tran,
                                         &error_abort));
    g_assert_cmpstr(top->backing_file, ==, "other.img");
    g_assert_true(bdrv_set_backing_hd_tran(top, NULL, NULL, tran,
                                           &error_abort));
    g_assert_cmpstr(top->backing_file, ==, "");
    tran_abort(tran);
    bdrv_graph_wrunlock();
    bdrv_drain_all_end();
    g_assert_cmpstr(top->backing_file, ==, "base.img");
    g_assert_true(top->backing->bs == base);

    g_assert_true(bdrv_replace_node(base, other, NULL, &error_abort));
    g_assert_cmpstr(top->backing_file, ==, "other.img");
    bdrv_unref(top);
    bdrv_unref(base);
    bdrv_unref(other);
    check_empty();
}

static int times_stopped, times_resumed;

static char *counting_desc(BdrvChild *child)
{
    return g_strdup("a counting parent");
}

static void counting_begin(BdrvChild *child)
{
    times_stopped++;
}

static void counting_end(BdrvChild *child)
{
    times_resumed++;
}

static const BdrvChildClass child_of_counter = {
    .get_parent_desc = counting_desc,
    .drained_begin = counting_begin,
    .drained_end = counting_end,
};

/*
 * A parent between two quiesced nodes does not go on while its edge moves from
 * one to the other.
 */
static void test_redirect_quiesced(void)
{
    BlockDriverState *a = test_leaf("a", BDRV_O_RDWR);
    BlockDriverState *b = test_leaf("b", BDRV_O_RDWR);
    BdrvChild *edge = bdrv_root_attach_child(
        bdrv_ref(a), "root", &child_of_counter, 0, 0, BLK_PERM_ALL, a,
        &error_abort);

    times_stopped = times_resumed = 0;
    bdrv_drained_begin(a);
    bdrv_drained_begin(b);
    g_assert_true(bdrv_replace_child_bs(edge, b, NULL, &error_abort));
    g_assert_cmpint(times_stopped, ==, 1);
    g_assert_cmpint(times_resumed, ==, 0);
    bdrv_drained_end(a);
    g_assert_cmpint(times_resumed, ==, 0);
    bdrv_drained_end(b);
    g_assert_cmpint(times_stopped, ==, 1);
    g_assert_cmpint(times_resumed, ==, 1);

    /* From a quiesced node to another one that is not, it goes on. */
    bdrv_drained_begin(b);
    g_assert_true(bdrv_replace_child_bs(edge, a, NULL, &error_abort));
    g_assert_cmpint(times_resumed, ==, 2);
    bdrv_drained_end(b);
    g_assert_cmpint(times_resumed, ==, 2);
    bdrv_root_unref_child(edge);
    g_assert_cmpint(times_stopped, ==, times_resumed);
    bdrv_unref(a);
    bdrv_unref(b);
    check_empty();
}

static void test_node_names(void)
{
    BlockDriverState *bs = test_leaf("n.-_1", 0);
    Error *err = NULL;
    static const struct {
        const char *name, *text;
    } bad[] = {
        { "n.-_1", "Duplicate nodes with node-name='n.-_1'" },
        { "1abc", "Invalid node-name: '1abc'" },
        { "", "Invalid node-name: ''" },
        { "a/b", "Invalid node-name: 'a/b'" },
        { "a2345678901234567890123456789012", "Node name too long" },
    };

    for (int i = 0; i < ARRAY_SIZE(bad); i++) {
        err = NULL;
        g_assert_null(bdrv_new_open_driver(bs->drv, bad[i].name, 0, &err));
        assert_error(err, bad[i].text);
    }
    bdrv_unref(bs);
    check_empty();
}

int main(int argc, char **argv)
{
    test_graph_init(&argc, &argv);
    g_test_add_func("/graph/five-changes", test_five_changes);
    g_test_add_func("/graph/cycle", test_cycle);
    g_test_add_func("/graph/long-chain", test_long_chain);
    g_test_add_func("/graph/append", test_append);
    g_test_add_func("/graph/filter-in-and-out", test_filter_in_and_out);
    g_test_add_func("/graph/attach-refused", test_attach_refused);
    g_test_add_func("/graph/drop", test_drop);
    g_test_add_func("/graph/drop-fails", test_drop_fails);
    g_test_add_func("/graph/insert", test_insert);
    g_test_add_func("/graph/replace-asks-again", test_replace_asks_again);
    g_test_add_func("/graph/backing-names", test_backing_names);
    g_test_add_func("/graph/redirect-quiesced", test_redirect_quiesced);
    g_test_add_func("/graph/node-names", test_node_names);
    return g_test_run();
}
