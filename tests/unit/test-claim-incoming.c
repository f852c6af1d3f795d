/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Claims that reach beyond one edge of a chain: on all edges that lead to a
 * job's own filter, on edges whose parent is no node, and against reopen.
 */
#include "util/osdep.h"
#include "graph-fixture.h"
#include "qobject/qdict.h"

#define READ BLK_PERM_CONSISTENT_READ

static void check_empty(void)
{
    g_assert_null(bdrv_next_node(NULL));
}

static unsigned changes(BdrvChild *edge, BdrvClaimOwner *owner)
{
    return bdrv_claim_count(edge, owner, BDRV_CLAIM_CHANGE);
}

/* --- a job's filter and those that lead to it --- */

/*
 *   blk ---> filter -> base        the job 'm' put the filter there
 *   user --> filter
 */
typedef struct Filter {
    BlockDriverState *base, *filter, *user;
    BlockBackend *blk;
    BdrvClaimOwner *job;
} Filter;

static Filter filter_new(void)
{
    Filter f;

    f.base = test_overlay("base", NULL, 0);
    f.filter = test_filter("filter", f.base, 0);
    f.job = bdrv_claim_owner_new("mirror job 'm'");
    f.blk = blk_new_with_bs(f.filter, READ, BLK_PERM_ALL, &error_abort);
    f.user = test_overlay("user", f.filter, 0);
    return f;
}

static void filter_free(Filter *f)
{
    bdrv_claim_owner_free(f->job);
    blk_unref(f->blk);
    bdrv_unref(f->user);
    bdrv_unref(f->filter);
    bdrv_unref(f->base);
    check_empty();
}

/* Every edge that is there, or none of them and no later one either. */
static void test_all_or_none(void)
{
    Filter f = filter_new();
    BdrvClaimOwner *backup = bdrv_claim_owner_new("backup job 'b'");
    BlockBackend *late;
    Error *err = NULL;

    for (int i = 0; i < 2; i++) {
        BdrvChild *edge = i ? blk_root(f.blk) : f.user->backing;

        bdrv_claim(backup, edge, BDRV_CLAIM_FREEZE, &error_abort);
        err = NULL;
        g_assert_false(bdrv_claim_incoming(f.job, f.filter, &err));
        g_assert_nonnull(strstr(error_get_pretty(err),
                                "frozen by backup job 'b'"));
        error_free(err);
        g_assert_cmpuint(bdrv_claim_owner_count(f.job), ==, 0);
        bdrv_claim_release(backup, edge, BDRV_CLAIM_FREEZE);
    }
    late = blk_new_with_bs(f.filter, READ, BLK_PERM_ALL, &error_abort);
    g_assert_cmpuint(changes(blk_root(late), f.job), ==, 0);
    blk_unref(late);

    g_assert_true(bdrv_claim_incoming(f.job, f.filter, &error_abort));
    g_assert_cmpuint(bdrv_claim_owner_count(f.job), ==, 2);
    err = NULL;
    g_assert_false(bdrv_claim_incoming(backup, f.filter, &err));
    assert_error(err, "Cannot claim the users of node 'filter' for "
                 "backup job 'b': claimed for a change by mirror job 'm'");
    err = NULL;
    g_assert_false(bdrv_claim(backup, f.user->backing, BDRV_CLAIM_FREEZE,
                              &err));
    error_free(err);
    bdrv_claim_owner_free(backup);
    filter_free(&f);
}

/* Edges that come later are claimed, those that go are not any more. */
static void test_come_and_go(void)
{
    Filter f = filter_new();
    BlockDriverState *other = test_overlay("other", NULL, 0);
    BlockDriverState *comer = test_overlay("comer", other, 0);
    Error *err = NULL;

    bdrv_claim_incoming(f.job, f.filter, &error_abort);
    /* by redirection */
    g_assert_true(bdrv_replace_child_bs(comer->backing, f.filter, NULL,
                                        &error_abort));
    g_assert_cmpuint(changes(comer->backing, f.job), ==, 1);
    g_assert_false(bdrv_replace_child_bs(comer->backing, other, NULL, &err));
    assert_error(err, "Cannot change 'backing' edge from 'comer' to 'filter': "
                 "claimed for a change by mirror job 'm'");
    g_assert_true(bdrv_replace_child_bs(comer->backing, other, f.job,
                                        &error_abort));
    g_assert_cmpuint(changes(comer->backing, f.job), ==, 0);
    /* what left is nobody's */
    g_assert_true(bdrv_set_backing_hd(comer, NULL, NULL, &error_abort));
    /* by attaching */
    g_assert_true(bdrv_set_backing_hd(comer, f.filter, NULL, &error_abort));
    g_assert_cmpuint(changes(comer->backing, f.job), ==, 1);
    bdrv_claim_incoming_release(f.job, f.filter);
    g_assert_cmpuint(bdrv_claim_owner_count(f.job), ==, 0);
    g_assert_true(bdrv_set_backing_hd(comer, NULL, NULL, &error_abort));
    bdrv_unref(comer);
    bdrv_unref(other);
    filter_free(&f);
}

/* Changes that are taken back leave the claims as they were. */
static void test_abort(void)
{
    Filter f = filter_new();
    BlockDriverState *other = test_overlay("other", NULL, 0);
    BlockDriverState *comer = test_overlay("comer", other, 0);
    Transaction *tran = tran_new();

    bdrv_claim_incoming(f.job, f.filter, &error_abort);
    /* One edge is claimed for itself, too. */
    bdrv_claim(f.job, f.user->backing, BDRV_CLAIM_CHANGE, &error_abort);
    bdrv_drain_all_begin();
    bdrv_graph_wrlock();
    g_assert_true(bdrv_replace_child_tran(comer->backing, f.filter, NULL, tran,
                                          &error_abort));
    g_assert_true(bdrv_replace_child_tran(f.user->backing, other, f.job, tran,
                                          &error_abort));
    g_assert_cmpuint(changes(comer->backing, f.job), ==, 1);
    g_assert_cmpuint(changes(f.user->backing, f.job), ==, 1);
    g_assert_true(bdrv_unref_child_tran(comer->backing, f.job, tran,
                                        &error_abort));
    g_assert_nonnull(bdrv_attach_child_tran(comer, f.filter, "backing",
                                            BDRV_CHILD_COW, tran,
                                            &error_abort));
    g_assert_cmpuint(changes(comer->backing, f.job), ==, 1);
    tran_abort(tran);
    bdrv_graph_wrunlock();
    bdrv_drain_all_end();

    g_assert_true(comer->backing->bs == other);
    g_assert_true(f.user->backing->bs == f.filter);
    g_assert_cmpuint(changes(comer->backing, f.job), ==, 0);
    g_assert_cmpuint(changes(f.user->backing, f.job), ==, 2);
    g_assert_cmpuint(changes(blk_root(f.blk), f.job), ==, 1);
    bdrv_unref(comer);
    bdrv_unref(other);
    filter_free(&f);
}

/* The same for an edge whose parent only the claim keeps. */
static void test_abort_of_last_user(void)
{
    Filter f = filter_new();
    BlockDriverState *other = test_overlay("other", NULL, 0);
    BdrvChild *edge = f.user->backing;
    Transaction *tran = tran_new();

    bdrv_claim_incoming(f.job, f.filter, &error_abort);
    bdrv_unref(f.user);
    f.user = NULL;
    /* Not all nodes: that would keep the user. */
    bdrv_drained_begin(f.filter);
    bdrv_drained_begin(other);
    bdrv_graph_wrlock();
    g_assert_true(bdrv_replace_child_tran(edge, other, f.job, tran,
                                          &error_abort));
    tran_abort(tran);
    bdrv_graph_wrunlock();
    bdrv_drained_end(other);
    bdrv_drained_end(f.filter);

    g_assert_nonnull(bdrv_find_node("user"));
    g_assert_true(edge->bs == f.filter);
    g_assert_cmpuint(changes(edge, f.job), ==, 1);
    bdrv_unref(other);
    filter_free(&f);
}

/* A job that claims an edge does not hand it to another job's filter. */
static void test_into_foreign_filter(void)
{
    Filter f = filter_new();
    BlockDriverState *other = test_overlay("other", NULL, 0);
    BlockDriverState *comer = test_overlay("comer", other, 0);
    BdrvClaimOwner *stream = bdrv_claim_owner_new("stream job 's'");
    Error *err = NULL;

    bdrv_claim_incoming(f.job, f.filter, &error_abort);
    bdrv_claim(stream, comer->backing, BDRV_CLAIM_CHANGE, &error_abort);
    g_assert_false(bdrv_replace_child_bs(comer->backing, f.filter, stream,
                                         &err));
    assert_error(err, "Cannot redirect 'backing' edge of stream job 's' to "
                 "'filter': claimed for a change by mirror job 'm'");
    g_assert_true(comer->backing->bs == other);
    bdrv_claim_owner_free(stream);
    bdrv_unref(comer);
    bdrv_unref(other);
    filter_free(&f);
}

/* The claims are all that keeps the users; letting go closes them one by one. */
static void test_release_closes_users(void)
{
    BlockDriverState *base = test_overlay("base", NULL, 0);
    BlockDriverState *filter = test_filter("filter", base, 0);
    BdrvClaimOwner *job = bdrv_claim_owner_new("job");

    for (int i = 0; i < 3; i++) {
        g_autofree char *name = g_strdup_printf("user%d", i);
        BlockDriverState *user = test_overlay(name, filter, 0);

        if (!i) {
            bdrv_claim_incoming(job, filter, &error_abort);
        }
        bdrv_attach_child(user, bdrv_ref(filter), "again", BDRV_CHILD_DATA,
                          &error_abort);
        bdrv_unref(user);
    }
    bdrv_unref(filter);
    bdrv_unref(base);
    g_assert_nonnull(bdrv_find_node("user0"));
    g_assert_cmpuint(bdrv_claim_owner_count(job), ==, 6);
    bdrv_claim_owner_free(job);
    check_empty();
}

/* --- parents that are no nodes --- */

typedef struct Export {
    BdrvChild *edge;
} Export;

static char *export_desc(BdrvChild *child)
{
    return g_strdup("export 'e'");
}

static const BdrvChildClass child_of_export = {
    .get_parent_desc = export_desc,
};

/*
 * An export's edge is not redirected against a claim, but the export may go; it
 * takes with it its edge and the claims of everybody on it, and those on other
 * edges stay.
 */
static void test_export_goes_away(void)
{
    BlockDriverState *base = test_overlay("base", NULL, 0);
    BlockDriverState *bs = test_overlay("bs", base, 0);
    BlockDriverState *other = test_overlay("other", NULL, 0);
    BdrvClaimOwner *one = bdrv_claim_owner_new("one");
    BdrvClaimOwner *two = bdrv_claim_owner_new("two");
    Export e;
    Error *err = NULL;

    e.edge = bdrv_root_attach_child(bdrv_ref(bs), "exported", &child_of_export,
                                    0, READ, BLK_PERM_ALL, &e, &error_abort);
    for (int i = 0; i < 2; i++) {
        bdrv_claim(one, e.edge, BDRV_CLAIM_FREEZE, &error_abort);
        bdrv_claim(two, e.edge, BDRV_CLAIM_FREEZE, &error_abort);
    }
    bdrv_claim(two, bs->backing, BDRV_CLAIM_CHANGE, &error_abort);
    g_assert_false(bdrv_replace_child_bs(e.edge, other, NULL, &err));
    g_assert_nonnull(strstr(error_get_pretty(err), "Cannot change 'exported' "
                            "edge from export 'e' to 'bs': frozen by "));
    error_free(err);
    err = NULL;
    g_assert_false(bdrv_replace_node(bs, other, one, &err));
    error_free(err);

    bdrv_root_unref_child(e.edge);
    g_assert_cmpuint(bdrv_claim_owner_count(one), ==, 0);
    g_assert_cmpuint(bdrv_claim_owner_count(two), ==, 1);
    g_assert_cmpuint(changes(bs->backing, two), ==, 1);

    /* A claim does not keep such a parent, only the node below. */
    e.edge = bdrv_root_attach_child(bdrv_ref(bs), "exported", &child_of_export,
                                    0, READ, BLK_PERM_ALL, &e, &error_abort);
    bdrv_claim(one, e.edge, BDRV_CLAIM_CHANGE, &error_abort);
    bdrv_unref(bs);
    bdrv_claim_owner_free(two);
    g_assert_nonnull(bdrv_find_node("bs"));
    bdrv_root_unref_child(e.edge);
    g_assert_null(bdrv_find_node("bs"));
    bdrv_claim_owner_free(one);
    bdrv_unref(base);
    bdrv_unref(other);
    check_empty();
}

/* --- reopen --- */

static QDict *option(const char *name, const char *value)
{
    QDict *options = qdict_new();

    qdict_put_str(options, name, value);
    return options;
}

/* Any child, by any kind of claim; but only children. */
static void test_reopen(void)
{
    BlockDriverState *base = test_overlay("base", NULL, 0);
    BlockDriverState *bs = test_overlay("bs", base, 0);
    BlockDriverState *file = test_leaf("file", 0);
    BlockDriverState *third = test_overlay("third", NULL, BDRV_O_RDWR);
    BdrvClaimOwner *job = bdrv_claim_owner_new("job 'j'");
    Error *err = NULL;

    bdrv_claim(job, bs->file, BDRV_CLAIM_FREEZE, &error_abort);
    bdrv_claim(job, bs->backing, BDRV_CLAIM_CHANGE, &error_abort);
    g_assert_cmpint(bdrv_reopen(bs, option("file", "file"), true, &err), <, 0);
    assert_error(err, "Cannot change 'file' edge from 'bs' to 'bs-file': "
                 "frozen by job 'j'");
    err = NULL;
    g_assert_cmpint(bdrv_reopen(bs, option("backing", "third"), true, &err), <,
                    0);
    assert_error(err, "Cannot change 'backing' edge from 'bs' to 'base': "
                 "claimed for a change by job 'j'");

    /* With another node that could be reopened: not that either. */
    {
        BlockReopenQueue *q = bdrv_reopen_queue(
            NULL, third, option("read-only", "on"), true);

        err = NULL;
        q = bdrv_reopen_queue(q, bs, option("file", "file"), true);
        g_assert_cmpint(bdrv_reopen_multiple(q, &err), <, 0);
        error_free(err);
        g_assert_false(bdrv_is_read_only(third));
    }

    /* The same child again is no change, and options are no children. */
    g_assert_cmpint(bdrv_reopen(bs, option("file", "bs-file"), true,
                                &error_abort), ==, 0);
    g_assert_cmpint(bdrv_reopen(bs, option("backing", "base"), true,
                                &error_abort), ==, 0);
    g_assert_cmpint(bdrv_reopen(bs, option("detect-zeroes", "on"), true,
                                &error_abort), ==, 0);
    bdrv_claim_owner_free(job);
    g_assert_cmpint(bdrv_reopen(bs, option("file", "file"), true,
                                &error_abort), ==, 0);
    bdrv_unref(third);
    bdrv_unref(bs);
    bdrv_unref(base);
    bdrv_unref(file);
    check_empty();
}

int main(int argc, char **argv)
{
    test_graph_init(&argc, &argv);
    g_test_add_func("/claim/incoming/all-or-none", test_all_or_none);
    g_test_add_func("/claim/incoming/come-and-go", test_come_and_go);
    g_test_add_func("/claim/incoming/abort", test_abort);
    g_test_add_func("/claim/incoming/abort-of-last-user",
                    test_abort_of_last_user);
    g_test_add_func("/claim/incoming/foreign-filter",
                    test_into_foreign_filter);
    g_test_add_func("/claim/incoming/release-closes-users",
                    test_release_closes_users);
    g_test_add_func("/claim/export-goes-away", test_export_goes_away);
    g_test_add_func("/claim/reopen", test_reopen);
    return g_test_run();
}
