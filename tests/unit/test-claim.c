/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Claims on edges: who may hold what, and which changes they refuse. */
#include "util/osdep.h"
#include "graph-fixture.h"
#include "qobject/qdict.h"

/*
 *   top -> mid -> base      by backing edges
 */
typedef struct Chain {
    BlockDriverState *top, *mid, *base;
} Chain;

static Chain chain_new(void)
{
    Chain c;

    c.base = test_overlay("base", NULL, 0);
    c.mid = test_overlay("mid", c.base, 0);
    c.top = test_overlay("top", c.mid, BDRV_O_RDWR);
    return c;
}

static void chain_free(Chain *c)
{
    bdrv_unref(c->top);
    bdrv_unref(c->mid);
    bdrv_unref(c->base);
    g_assert_null(bdrv_next_node(NULL));
}

static const char mid_frozen[] =
    "Cannot change 'backing' edge from 'mid' to 'base': "
    "frozen by commit job 'job0'";
static const char top_frozen[] =
    "Cannot change 'backing' edge from 'top' to 'mid': "
    "frozen by commit job 'job0'";

static BdrvClaimOwner *freeze_chain(Chain *c)
{
    BdrvClaimOwner *owner = bdrv_claim_owner_new("commit job '%s'", "job0");

    g_assert_true(bdrv_chain_claim(owner, c->top, c->base, BDRV_CLAIM_FREEZE,
                                   &error_abort));
    g_assert_cmpuint(bdrv_claim_owner_count(owner), ==, 2);
    return owner;
}

/* Every way of changing a frozen edge is refused, naming edge and owner. */
static void test_frozen_refuses_replace(void)
{
    Chain c = chain_new();
    BdrvClaimOwner *job = freeze_chain(&c);
    BlockDriverState *other = test_overlay("other", NULL, 0);
    Error *err = NULL;

    g_assert_false(bdrv_replace_child_bs(c.mid->backing, other, NULL, &err));
    assert_error(err, mid_frozen);
    err = NULL;
    g_assert_false(bdrv_replace_child_bs(c.top->backing, other, NULL, &err));
    assert_error(err, top_frozen);
    err = NULL;
    g_assert_false(bdrv_set_backing_hd(c.mid, other, NULL, &err));
    assert_error(err, mid_frozen);
    err = NULL;
    g_assert_false(bdrv_replace_node(c.base, other, NULL, &err));
    assert_error(err, mid_frozen);

    g_assert_true(c.mid->backing->bs == c.base);
    g_assert_true(c.top->backing->bs == c.mid);
    bdrv_claim_owner_free(job);
    bdrv_unref(other);
    chain_free(&c);
}

static void test_frozen_refuses_detach(void)
{
    Chain c = chain_new();
    BdrvClaimOwner *job = freeze_chain(&c);
    Error *err = NULL;

    g_assert_false(bdrv_unref_child(c.mid, c.mid->backing, NULL, &err));
    assert_error(err, mid_frozen);
    err = NULL;
    g_assert_false(bdrv_set_backing_hd(c.top, NULL, NULL, &err));
    assert_error(err, top_frozen);
    bdrv_claim_owner_free(job);
    chain_free(&c);
}

static void test_frozen_refuses_reopen(void)
{
    Chain c = chain_new();
    BdrvClaimOwner *job = freeze_chain(&c);
    BlockDriverState *other = test_overlay("other", NULL, 0);
    const char *values[] = { "other", "" };

    for (int i = 0; i < ARRAY_SIZE(values); i++) {
        QDict *options = qdict_new();
        Error *err = NULL;

        qdict_put_str(options, "backing", values[i]);
        g_assert_cmpint(bdrv_reopen(c.top, options, true, &err), <, 0);
        assert_error(err, top_frozen);
        g_assert_true(c.top->backing->bs == c.mid);
    }
    bdrv_claim_owner_free(job);
    bdrv_unref(other);
    chain_free(&c);
}

/* A snapshot below the top would redirect top's backing edge. */
static void test_frozen_refuses_snapshot(void)
{
    Chain c = chain_new();
    BdrvClaimOwner *job = freeze_chain(&c);
    BlockDriverState *overlay = test_overlay("overlay", NULL, 0);
    Error *err = NULL;

    g_assert_false(bdrv_append(overlay, c.mid, NULL, &err));
    assert_error(err, top_frozen);
    g_assert_null(overlay->backing);

    /* On top of the chain nothing is frozen. */
    g_assert_true(bdrv_append(overlay, c.top, NULL, &error_abort));
    bdrv_claim_owner_free(job);
    bdrv_unref(overlay);
    chain_free(&c);
}

static void test_frozen_refuses_drop(void)
{
    Chain c = chain_new();
    BdrvClaimOwner *job = freeze_chain(&c);
    Error *err = NULL;

    g_assert_false(bdrv_drop_intermediate(c.mid, c.base, NULL, NULL, &err));
    assert_error(err, mid_frozen);
    g_assert_true(c.top->backing->bs == c.mid);
    bdrv_claim_owner_free(job);

    g_assert_true(bdrv_drop_intermediate(c.mid, c.base, NULL, NULL,
                                         &error_abort));
    g_assert_true(c.top->backing->bs == c.base);
    chain_free(&c);
}

/* Freezing is no reason to keep readers away, or to hold other edges. */
static void test_no_overblocking(void)
{
    Chain c = chain_new();
    BdrvClaimOwner *job = freeze_chain(&c);
    BlockBackend *reader = blk_new_with_bs(c.base, BLK_PERM_CONSISTENT_READ,
                                           BLK_PERM_ALL, &error_abort);
    BlockDriverState *file = test_leaf("new-file", BDRV_O_RDWR);

    g_assert_nonnull(reader);
    g_assert_true(bdrv_replace_child_bs(c.top->file, file, NULL,
                                        &error_abort));
    g_assert_true(c.top->file->bs == file);
    blk_unref(reader);
    bdrv_claim_owner_free(job);
    bdrv_unref(file);
    chain_free(&c);
}

static void test_two_owners_either_order(void)
{
    for (int first = 0; first < 2; first++) {
        Chain c = chain_new();
        BdrvClaimOwner *o[2] = { freeze_chain(&c),
                                 bdrv_claim_owner_new("backup 'b'") };
        Error *err = NULL;

        g_assert_true(bdrv_chain_claim(o[1], c.top, c.base, BDRV_CLAIM_FREEZE,
                                       &error_abort));
        bdrv_chain_release(o[first], c.top, c.base, BDRV_CLAIM_FREEZE);
        g_assert_false(bdrv_set_backing_hd(c.top, NULL, NULL, &err));
        error_free(err);
        bdrv_chain_release(o[1 - first], c.top, c.base, BDRV_CLAIM_FREEZE);
        g_assert_true(bdrv_set_backing_hd(c.top, NULL, NULL, &error_abort));
        bdrv_claim_owner_free(o[0]);
        bdrv_claim_owner_free(o[1]);
        chain_free(&c);
    }
}

/* The conflict shows when the claim is taken, not when the change comes. */
static void test_change_against_freeze(void)
{
    Chain c = chain_new();
    BdrvClaimOwner *job = freeze_chain(&c);
    BdrvClaimOwner *stream = bdrv_claim_owner_new("stream job 'job1'");
    Error *err = NULL;

    g_assert_false(bdrv_claim(stream, c.mid->backing, BDRV_CLAIM_CHANGE,
                              &err));
    assert_error(err, "Cannot claim 'backing' edge from 'mid' to 'base' for "
                 "stream job 'job1': frozen by commit job 'job0'");
    g_assert_cmpuint(bdrv_claim_owner_count(stream), ==, 0);
    bdrv_claim_owner_free(job);

    g_assert_true(bdrv_claim(stream, c.mid->backing, BDRV_CLAIM_CHANGE,
                             &error_abort));
    job = bdrv_claim_owner_new("commit job 'job0'");
    err = NULL;
    g_assert_false(bdrv_claim(job, c.mid->backing, BDRV_CLAIM_FREEZE, &err));
    assert_error(err, "Cannot freeze 'backing' edge from 'mid' to 'base' for "
                 "commit job 'job0': claimed for a change by "
                 "stream job 'job1'");
    bdrv_claim_owner_free(job);
    bdrv_claim_owner_free(stream);
    chain_free(&c);
}

/* Only the owner of CHANGE changes the edge; its claim follows the edge. */
static void test_change_owner(void)
{
    Chain c = chain_new();
    BlockDriverState *other = test_overlay("other", NULL, 0);
    BdrvClaimOwner *job = bdrv_claim_owner_new("stream job 'job1'");
    BdrvClaimOwner *stranger = bdrv_claim_owner_new("stranger");
    Error *err = NULL;

    g_assert_true(bdrv_claim(job, c.mid->backing, BDRV_CLAIM_CHANGE,
                             &error_abort));
    g_assert_false(bdrv_replace_child_bs(c.mid->backing, other, stranger,
                                         &err));
    assert_error(err, "Cannot change 'backing' edge from 'mid' to 'base': "
                 "claimed for a change by stream job 'job1'");
    g_assert_true(bdrv_replace_child_bs(c.mid->backing, other, job,
                                        &error_abort));
    g_assert_true(c.mid->backing->bs == other);
    g_assert_cmpuint(bdrv_claim_count(c.mid->backing, job, BDRV_CLAIM_CHANGE),
                     ==, 1);
    /* The claim keeps the node it leads to, not the former one. */
    bdrv_unref(other);
    g_assert_nonnull(bdrv_find_node("other"));
    g_assert_true(bdrv_unref_child(c.mid, c.mid->backing, job, &error_abort));
    g_assert_null(bdrv_find_node("other"));
    g_assert_cmpuint(bdrv_claim_owner_count(job), ==, 0);
    bdrv_claim_owner_free(job);
    bdrv_claim_owner_free(stranger);
    chain_free(&c);
}

static void test_upgrade(void)
{
    Chain c = chain_new();
    BdrvClaimOwner *job = freeze_chain(&c);
    BdrvClaimOwner *other = bdrv_claim_owner_new("other");
    BdrvChild *edge = c.mid->backing;
    Error *err = NULL;

    /* A holder of FREEZE alone may not change the edge itself. */
    g_assert_false(bdrv_set_backing_hd(c.mid, NULL, job, &err));
    assert_error(err, mid_frozen);
    err = NULL;
    g_assert_false(bdrv_claim(job, edge, BDRV_CLAIM_CHANGE, &err));
    assert_error(err, "Cannot claim 'backing' edge from 'mid' to 'base' for "
                 "commit job 'job0': frozen by itself");

    g_assert_true(bdrv_claim(other, edge, BDRV_CLAIM_FREEZE, &error_abort));
    err = NULL;
    g_assert_false(bdrv_claim_upgrade(job, edge, &err));
    assert_error(err, "Cannot upgrade the claim of commit job 'job0' on "
                 "'backing' edge from 'mid' to 'base': frozen by other");
    g_assert_cmpuint(bdrv_claim_count(edge, job, BDRV_CLAIM_FREEZE), ==, 1);

    bdrv_claim_release(other, edge, BDRV_CLAIM_FREEZE);
    g_assert_true(bdrv_claim_upgrade(job, edge, &error_abort));
    g_assert_cmpuint(bdrv_claim_count(edge, job, BDRV_CLAIM_FREEZE), ==, 0);
    g_assert_cmpuint(bdrv_claim_count(edge, job, BDRV_CLAIM_CHANGE), ==, 1);
    g_assert_true(bdrv_set_backing_hd(c.mid, NULL, job, &error_abort));
    bdrv_claim_owner_free(job);
    bdrv_claim_owner_free(other);
    chain_free(&c);
}

/* Claims of one owner on one edge add up; each is given back for itself. */
static void test_counts(void)
{
    Chain c = chain_new();
    BdrvClaimOwner *job = bdrv_claim_owner_new("job 'c'");
    BdrvChild *edge = c.mid->backing;
    Error *err = NULL;

    for (int i = 0; i < 2; i++) {
        g_assert_true(bdrv_claim(job, edge, BDRV_CLAIM_FREEZE, &error_abort));
    }
    bdrv_claim_release(job, edge, BDRV_CLAIM_FREEZE);
    g_assert_false(bdrv_set_backing_hd(c.mid, NULL, NULL, &err));
    error_free(err);
    g_assert_true(bdrv_claim(job, edge, BDRV_CLAIM_FREEZE, &error_abort));
    g_assert_true(bdrv_claim_upgrade(job, edge, &error_abort));
    g_assert_cmpuint(bdrv_claim_count(edge, job, BDRV_CLAIM_CHANGE), ==, 2);

    /* Who says that an edge must stay as it is does not change it itself. */
    g_assert_true(bdrv_claim(job, edge, BDRV_CLAIM_FREEZE, &error_abort));
    err = NULL;
    g_assert_false(bdrv_set_backing_hd(c.mid, NULL, job, &err));
    assert_error(err, "Cannot change 'backing' edge from 'mid' to 'base': "
                 "frozen by job 'c'");
    bdrv_claim_release(job, edge, BDRV_CLAIM_FREEZE);
    bdrv_claim_release(job, edge, BDRV_CLAIM_CHANGE);
    err = NULL;
    g_assert_false(bdrv_set_backing_hd(c.mid, NULL, NULL, &err));
    assert_error(err, "Cannot change 'backing' edge from 'mid' to 'base': "
                 "claimed for a change by job 'c'");
    g_assert_true(bdrv_set_backing_hd(c.mid, NULL, job, &error_abort));
    bdrv_claim_owner_free(job);
    chain_free(&c);
}

/* Filters on the way: neither put above nor taken out. */
static void test_frozen_refuses_filters(void)
{
    BlockDriverState *base = test_overlay("base", NULL, 0);
    BlockDriverState *filter = test_filter("filter", base, 0);
    BlockDriverState *top = test_overlay("top", filter, 0);
    BlockDriverState *second = test_filter("second", base, 0);
    BdrvClaimOwner *job = bdrv_claim_owner_new("job 'f'");
    Error *err = NULL;

    /* The chain goes through filters. */
    g_assert_true(bdrv_chain_claim(job, top, base, BDRV_CLAIM_FREEZE,
                                   &error_abort));
    g_assert_cmpuint(bdrv_claim_owner_count(job), ==, 2);
    g_assert_false(bdrv_drop_filter(filter, NULL, &err));
    assert_error(err, "Cannot change 'backing' edge from 'top' to 'filter': "
                 "frozen by job 'f'");
    err = NULL;
    g_assert_false(bdrv_replace_node(base, second, NULL, &err));
    assert_error(err, "Cannot change 'file' edge from 'filter' to 'base': "
                 "frozen by job 'f'");
    bdrv_claim_owner_free(job);

    /* The edge below the filter counts when that is what goes. */
    job = bdrv_claim_owner_new("job 'f'");
    g_assert_true(bdrv_claim(job, filter->file, BDRV_CLAIM_FREEZE,
                             &error_abort));
    err = NULL;
    g_assert_false(bdrv_drop_filter(filter, NULL, &err));
    assert_error(err, "Cannot change 'file' edge from 'filter' to 'base': "
                 "frozen by job 'f'");
    g_assert_true(top->backing->bs == filter);
    bdrv_claim_owner_free(job);
    g_assert_true(bdrv_drop_filter(filter, NULL, &error_abort));
    g_assert_true(top->backing->bs == base);
    bdrv_unref(second);
    bdrv_unref(top);
    bdrv_unref(filter);
    bdrv_unref(base);
    g_assert_null(bdrv_next_node(NULL));
}

/* A chain is claimed whole or not at all. */
static void test_chain_all_or_none(void)
{
    Chain c = chain_new();
    BdrvClaimOwner *changer = bdrv_claim_owner_new("changer");
    BdrvClaimOwner *job = bdrv_claim_owner_new("job");
    BlockDriverState *stray = test_overlay("stray", NULL, 0);
    Error *err = NULL;

    g_assert_true(bdrv_claim(changer, c.mid->backing, BDRV_CLAIM_CHANGE,
                             &error_abort));
    g_assert_false(bdrv_chain_claim(job, c.top, c.base, BDRV_CLAIM_FREEZE,
                                    &err));
    error_free(err);
    g_assert_cmpuint(bdrv_claim_owner_count(job), ==, 0);

    err = NULL;
    g_assert_false(bdrv_chain_claim(job, c.top, stray, BDRV_CLAIM_FREEZE,
                                    &err));
    assert_error(err, "Node 'stray' is not in the backing chain of 'top'");
    bdrv_claim_owner_free(changer);
    bdrv_claim_owner_free(job);
    bdrv_unref(stray);
    chain_free(&c);
}

/* A claim keeps both ends of the edge, whoever else lets go. */
static void test_claim_keeps_nodes(void)
{
    Chain c = chain_new();
    BdrvClaimOwner *job = freeze_chain(&c);

    bdrv_unref(c.top);
    bdrv_unref(c.mid);
    bdrv_unref(c.base);
    g_assert_nonnull(bdrv_find_node("top"));
    g_assert_nonnull(bdrv_find_node("base"));
    g_assert_true(c.mid->backing->bs == c.base);
    bdrv_claim_owner_free(job);
    g_assert_null(bdrv_next_node(NULL));
}

/*
 * A backend's own edge: a claim bars redirecting it, but the backend may go
 * away and takes the claim with it.
 */
static void test_backend_goes_away(void)
{
    BlockDriverState *bs = test_overlay("node", NULL, 0);
    BlockDriverState *other = test_overlay("other", NULL, 0);
    BlockBackend *blk = blk_new_with_bs(bs, BLK_PERM_CONSISTENT_READ,
                                        BLK_PERM_ALL, &error_abort);
    BdrvClaimOwner *job = bdrv_claim_owner_new("job");
    Error *err = NULL;

    g_assert_true(bdrv_claim(job, blk_root(blk), BDRV_CLAIM_FREEZE,
                             &error_abort));
    g_assert_false(blk_replace_bs(blk, other, &err));
    error_free(err);
    g_assert_true(blk_bs(blk) == bs);

    blk_unref(blk);
    g_assert_cmpuint(bdrv_claim_owner_count(job), ==, 0);
    bdrv_claim_owner_free(job);
    bdrv_unref(bs);
    bdrv_unref(other);
    g_assert_null(bdrv_next_node(NULL));
}

/* Edges that come to lead to a job's own filter fall under its CHANGE. */
static void test_incoming(void)
{
    BlockDriverState *base = test_overlay("base", NULL, 0);
    BlockDriverState *filter = test_filter("filter", base, 0);
    BdrvClaimOwner *job = bdrv_claim_owner_new("mirror job 'm'");
    BlockDriverState *user;
    BlockBackend *blk;
    Error *err = NULL;

    g_assert_true(bdrv_claim_incoming(job, filter, &error_abort));
    blk = blk_new_with_bs(filter, BLK_PERM_CONSISTENT_READ, BLK_PERM_ALL,
                          &error_abort);
    user = test_overlay("user", filter, 0);
    g_assert_cmpuint(bdrv_claim_owner_count(job), ==, 2);

    g_assert_false(bdrv_set_backing_hd(user, base, NULL, &err));
    assert_error(err, "Cannot change 'backing' edge from 'user' to 'filter': "
                 "claimed for a change by mirror job 'm'");
    /* The job itself takes its filter out and redirects everybody. */
    g_assert_true(bdrv_drop_filter(filter, job, &error_abort));
    g_assert_true(user->backing->bs == base);
    g_assert_true(blk_bs(blk) == base);
    g_assert_cmpuint(bdrv_claim_owner_count(job), ==, 0);
    g_assert_true(bdrv_set_backing_hd(user, NULL, NULL, &error_abort));

    bdrv_claim_incoming_release(job, filter);
    bdrv_claim_owner_free(job);
    blk_unref(blk);
    bdrv_unref(user);
    bdrv_unref(filter);
    bdrv_unref(base);
    g_assert_null(bdrv_next_node(NULL));
}

/* Two users, each with a filter over its overlay, freeze down to one base. */
static void test_two_readers_of_one_chain(void)
{
    Chain c = chain_new();
    BlockDriverState *top2 = test_overlay("top2", c.mid, BDRV_O_RDWR);
    BlockDriverState *cor1 = test_filter("cor1", c.top, BDRV_O_RDWR);
    BlockDriverState *cor2 = test_filter("cor2", top2, BDRV_O_RDWR);
    BdrvClaimOwner *o1 = bdrv_claim_owner_new("copy-on-read node 'cor1'");
    BdrvClaimOwner *o2 = bdrv_claim_owner_new("copy-on-read node 'cor2'");

    g_assert_true(bdrv_chain_claim(o1, cor1, c.base, BDRV_CLAIM_FREEZE,
                                   &error_abort));
    g_assert_true(bdrv_chain_claim(o2, cor2, c.base, BDRV_CLAIM_FREEZE,
                                   &error_abort));
    bdrv_chain_release(o1, cor1, c.base, BDRV_CLAIM_FREEZE);
    bdrv_chain_release(o2, cor2, c.base, BDRV_CLAIM_FREEZE);
    bdrv_claim_owner_free(o1);
    bdrv_claim_owner_free(o2);
    bdrv_unref(cor1);
    bdrv_unref(cor2);
    bdrv_unref(top2);
    chain_free(&c);
}

static void test_query(void)
{
    Chain c = chain_new();
    BdrvClaimOwner *job = freeze_chain(&c);
    g_autoptr(BlockGraph) graph = bdrv_query_block_graph();
    int claims = 0;

    for (BlockGraphEdgeList *e = graph->edges; e; e = e->next) {
        for (BlockGraphClaimList *l = e->value->claims; l; l = l->next) {
            g_assert_cmpstr(e->value->name, ==, "backing");
            g_assert_cmpint(l->value->kind, ==, BLOCK_GRAPH_CLAIM_KIND_FREEZE);
            g_assert_cmpstr(l->value->owner, ==, "commit job 'job0'");
            g_assert_cmpint(l->value->count, ==, 1);
            claims++;
        }
    }
    g_assert_cmpint(claims, ==, 2);
    bdrv_claim_owner_free(job);
    chain_free(&c);
}

int main(int argc, char **argv)
{
    test_graph_init(&argc, &argv);
    g_test_add_func("/claim/frozen/replace", test_frozen_refuses_replace);
    g_test_add_func("/claim/frozen/detach", test_frozen_refuses_detach);
    g_test_add_func("/claim/frozen/reopen", test_frozen_refuses_reopen);
    g_test_add_func("/claim/frozen/snapshot", test_frozen_refuses_snapshot);
    g_test_add_func("/claim/frozen/drop", test_frozen_refuses_drop);
    g_test_add_func("/claim/no-overblocking", test_no_overblocking);
    g_test_add_func("/claim/two-owners", test_two_owners_either_order);
    g_test_add_func("/claim/change-against-freeze",
                    test_change_against_freeze);
    g_test_add_func("/claim/change-owner", test_change_owner);
    g_test_add_func("/claim/upgrade", test_upgrade);
    g_test_add_func("/claim/counts", test_counts);
    g_test_add_func("/claim/frozen/filters", test_frozen_refuses_filters);
    g_test_add_func("/claim/chain-all-or-none", test_chain_all_or_none);
    g_test_add_func("/claim/keeps-nodes", test_claim_keeps_nodes);
    g_test_add_func("/claim/backend-goes-away", test_backend_goes_away);
    g_test_add_func("/claim/incoming", test_incoming);
    g_test_add_func("/claim/two-readers-of-one-chain",
                    test_two_readers_of_one_chain);
    g_test_add_func("/claim/query", test_query);
    return g_test_run();
}
