/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Random changes of a small graph by several owners, with drivers that fail at
 * random. After each step:
 *   - what failed has changed nothing, permissions and locks included;
 *   - no two users of a node conflict, and the driver holds what they want;
 *   - claims on an edge are one owner's or all FREEZE;
 *   - nobody is left quiesced.
 * At the end everything can be let go of. The seed is GLib's (--seed).
 */
#include "util/osdep.h"
#include "graph-fixture.h"
#include "qobject/qdict.h"
#include "qobject/qnull.h"

#define STEPS 4000
#define NODES_MAX 14
#define BACKENDS_MAX 4
#define OWNERS 3

static GPtrArray *nodes;        /* one reference each */
static GPtrArray *backends;
static BdrvClaimOwner *owners[OWNERS];
static unsigned names;

static int pick(int n)
{
    return g_test_rand_int_range(0, n);
}

static BlockDriverState *any_node(void)
{
    return nodes->len ? nodes->pdata[pick(nodes->len)] : NULL;
}

static BdrvClaimOwner *any_owner(void)
{
    return owners[pick(OWNERS)];
}

/* Mostly nobody: so most changes have a chance. */
static BdrvClaimOwner *owner_or_none(void)
{
    return pick(3) ? NULL : any_owner();
}

/* An edge below or into a random node; NULL if it has none. */
static BdrvChild *any_edge(void)
{
    BlockDriverState *bs = any_node();
    BdrvChild *c, *found = NULL;
    int n = 0;

    QLIST_FOREACH(c, &bs->parents, next_parent) {
        if (!pick(++n)) {
            found = c;
        }
    }
    return found;
}

/* --- invariants --- */

static void check_parents(BlockDriverState *bs)
{
    BdrvChild *a, *b;

    QLIST_FOREACH(a, &bs->parents, next_parent) {
        g_assert_true(a->bs == bs);
        g_assert_false(a->reopening);
        g_assert_false(a->reopen_guard);
        g_assert_false(a->quiesced_parent);
        QLIST_FOREACH(b, &bs->parents, next_parent) {
            g_assert_true(a == b || !(a->perm & ~b->shared_perm));
        }
    }
}

static void check_claims(BlockDriverState *bs)
{
    BdrvChild *c;

    QLIST_FOREACH(c, &bs->parents, next_parent) {
        unsigned freezers = 0, changers = 0;

        for (int i = 0; i < OWNERS; i++) {
            freezers += bdrv_claim_count(c, owners[i], BDRV_CLAIM_FREEZE) > 0;
            changers += bdrv_claim_count(c, owners[i], BDRV_CLAIM_CHANGE) > 0;
        }
        g_assert_cmpuint(changers, <=, 1);
        g_assert_true(!changers || freezers <= 1);
        g_assert_true(!bs->incoming_owner ||
                      bdrv_claim_count(c, bs->incoming_owner,
                                       BDRV_CLAIM_CHANGE));
    }
}

static void check_node(BlockDriverState *bs)
{
    uint64_t perm, shared;

    bdrv_get_cumulative_perm(bs, &perm, &shared);
    g_assert_cmphex(bs->taken_perm, ==, perm);
    g_assert_cmphex(bs->taken_shared, ==, shared);
    if (bs->drv->bdrv_set_perm) {
        g_assert_cmphex(test_node(bs)->perm, ==, perm);
        g_assert_cmphex(test_node(bs)->shared, ==, shared);
    }
    g_assert_cmpint(bs->quiesce_counter, ==, 0);
    check_parents(bs);
    check_claims(bs);
}

static void check_graph(void)
{
    for (BlockDriverState *bs = bdrv_next_node(NULL); bs;
         bs = bdrv_next_node(bs)) {
        check_node(bs);
    }
}

/* --- steps; each returns whether it did what it wanted --- */

static bool step_new_node(Error **errp)
{
    g_autofree char *name = g_strdup_printf("n%u", names++);
    int flags = pick(3) ? BDRV_O_RDWR : 0;
    BlockDriverState *below = any_node();
    BlockDriverState *bs;

    if (nodes->len >= NODES_MAX) {
        return true;
    }
    switch (below ? pick(3) : 0) {
    case 0:
        bs = test_overlay(name, NULL, flags);
        break;
    case 1:
        bs = test_leaf(name, flags);
        break;
    default:
        bs = bdrv_new_open_driver(test_filter_driver(), name, flags,
                                  &error_abort);
        if (!bdrv_attach_child(bs, bdrv_ref(below), "file",
                               BDRV_CHILD_FILTERED | BDRV_CHILD_PRIMARY,
                               errp)) {
            bdrv_unref(bs);
            return false;
        }
    }
    g_ptr_array_add(nodes, bs);
    return true;
}

static bool step_unref(Error **errp)
{
    if (nodes->len > NODES_MAX / 2) {
        bdrv_unref(g_ptr_array_steal_index_fast(nodes, pick(nodes->len)));
    }
    return true;
}

static bool step_replace_child(Error **errp)
{
    BdrvChild *c = any_edge();

    return !c || bdrv_replace_child_bs(c, any_node(), owner_or_none(), errp);
}

static bool step_replace_node(Error **errp)
{
    BlockDriverState *from = any_node(), *to = any_node();

    return from == to || bdrv_replace_node(from, to, owner_or_none(), errp);
}

static bool step_backing(Error **errp)
{
    return bdrv_set_backing_hd(any_node(), pick(3) ? any_node() : NULL,
                               owner_or_none(), errp);
}

static bool step_append(Error **errp)
{
    BlockDriverState *overlay = any_node(), *bs = any_node();

    return overlay == bs || bdrv_append(overlay, bs, owner_or_none(), errp);
}

static bool step_drop_filter(Error **errp)
{
    BlockDriverState *bs = any_node();

    if (!bdrv_filter_child(bs)) {
        return true;
    }
    if (!bdrv_drop_filter(bs, owner_or_none(), errp)) {
        return false;
    }
    /* Without a child it is of no use to anybody. */
    if (g_ptr_array_remove(nodes, bs)) {
        bdrv_unref(bs);
    }
    return true;
}

static bool step_drop_intermediate(Error **errp)
{
    BlockDriverState *top = any_node();
    BlockDriverState *base = bdrv_filter_or_cow_bs(top);

    if (!base) {
        return true;
    }
    if (pick(2) && bdrv_filter_or_cow_bs(base)) {
        base = bdrv_filter_or_cow_bs(base);
    }
    return bdrv_drop_intermediate(top, base, pick(2) ? "name" : NULL,
                                  owner_or_none(), errp);
}

static bool step_backend_new(Error **errp)
{
    BlockBackend *blk;

    if (backends->len >= BACKENDS_MAX) {
        return true;
    }
    blk = blk_new_with_bs(any_node(), pick(BLK_PERM_ALL + 1),
                          pick(BLK_PERM_ALL + 1), errp);
    if (blk) {
        g_ptr_array_add(backends, blk);
    }
    return blk;
}

static bool step_backend_go(Error **errp)
{
    if (backends->len) {
        blk_unref(g_ptr_array_steal_index_fast(backends, pick(backends->len)));
    }
    return true;
}

static bool step_backend_perm(Error **errp)
{
    return !backends->len ||
           blk_set_perm(backends->pdata[pick(backends->len)],
                        pick(BLK_PERM_ALL + 1), pick(BLK_PERM_ALL + 1), errp);
}

static bool step_claim(Error **errp)
{
    BdrvChild *c = any_edge();

    return !c || bdrv_claim(any_owner(), c,
                            pick(2) ? BDRV_CLAIM_CHANGE : BDRV_CLAIM_FREEZE,
                            errp);
}

static bool step_chain_claim(Error **errp)
{
    return bdrv_chain_claim(any_owner(), any_node(),
                            pick(2) ? any_node() : NULL,
                            pick(2) ? BDRV_CLAIM_CHANGE : BDRV_CLAIM_FREEZE,
                            errp);
}

static bool step_upgrade(Error **errp)
{
    BdrvChild *c = any_edge();
    BdrvClaimOwner *owner = any_owner();

    return !c || !bdrv_claim_count(c, owner, BDRV_CLAIM_FREEZE) ||
           bdrv_claim_upgrade(owner, c, errp);
}

static bool step_incoming(Error **errp)
{
    return bdrv_claim_incoming(any_owner(), any_node(), errp);
}

static bool step_let_go(Error **errp)
{
    int i = pick(OWNERS);

    bdrv_claim_owner_free(owners[i]);
    owners[i] = bdrv_claim_owner_new("owner %d of step", i);
    return true;
}

static BlockReopenQueue *add_reopen(BlockReopenQueue *queue)
{
    BlockDriverState *bs = any_node();
    QDict *options = qdict_new();

    switch (pick(4)) {
    case 0:
        qdict_put_str(options, "read-only", pick(2) ? "on" : "off");
        break;
    case 1:
        qdict_put_str(options, "detect-zeroes", pick(2) ? "on" : "off");
        break;
    case 2:
        if (bs->file) {
            qdict_put_str(options, "file", bdrv_get_node_name(any_node()));
        }
        break;
    case 3:
        if (!bs->drv->supports_backing) {
            break;
        }
        if (pick(2)) {
            qdict_put_null(options, "backing");
        } else {
            qdict_put_str(options, "backing", bdrv_get_node_name(any_node()));
        }
    }
    return bdrv_reopen_queue(queue, bs, options, true);
}

static bool step_reopen(Error **errp)
{
    BlockReopenQueue *queue = NULL;
    int n = 1 + pick(3);

    for (int i = 0; i < n; i++) {
        queue = add_reopen(queue);
    }
    return bdrv_reopen_multiple(queue, errp) == 0;
}

/* --- all together --- */

static const struct {
    const char *name;
    bool (*run)(Error **errp);
} steps[] = {
    { "new node", step_new_node },
    { "new node", step_new_node },
    { "unref", step_unref },
    { "replace child", step_replace_child },
    { "replace node", step_replace_node },
    { "backing", step_backing },
    { "append", step_append },
    { "drop filter", step_drop_filter },
    { "drop intermediate", step_drop_intermediate },
    { "new backend", step_backend_new },
    { "backend goes", step_backend_go },
    { "backend's permissions", step_backend_perm },
    { "claim", step_claim },
    { "claim a chain", step_chain_claim },
    { "upgrade", step_upgrade },
    { "claim incoming", step_incoming },
    { "let go", step_let_go },
    { "let go", step_let_go },
    { "reopen", step_reopen },
    { "reopen", step_reopen },
};

/* Some driver is going to fail, perhaps. */
static void set_traps(bool on)
{
    for (BlockDriverState *bs = bdrv_next_node(NULL); bs;
         bs = bdrv_next_node(bs)) {
        TestNode *t = test_node(bs);

        t->fail_check = on && !pick(8);
        t->fail_prepare = on && !pick(8);
        t->fail_header = on && !pick(4);
    }
}

static void one_step(unsigned *done, unsigned *failed)
{
    int i = pick(ARRAY_SIZE(steps));
    g_autofree char *before = NULL;
    Error *err = NULL;

    if (!nodes->len) {
        i = 0;
    }
    set_traps(!pick(4));
    before = test_graph_dump();
    if (steps[i].run(&err)) {
        g_assert_null(err);
        done[i]++;
    } else {
        g_autofree char *after = test_graph_dump();

        g_assert_nonnull(err);
        g_test_message("%s: %s", steps[i].name, error_get_pretty(err));
        error_free(err);
        g_assert_cmpstr(before, ==, after);
        failed[i]++;
    }
    set_traps(false);
    check_graph();
}

static void test_random(void)
{
    unsigned done[ARRAY_SIZE(steps)] = { 0 };
    unsigned failed[ARRAY_SIZE(steps)] = { 0 };

    nodes = g_ptr_array_new();
    backends = g_ptr_array_new();
    for (int i = 0; i < OWNERS; i++) {
        owners[i] = bdrv_claim_owner_new("owner %d", i);
    }
    for (int i = 0; i < STEPS; i++) {
        one_step(done, failed);
    }
    for (int i = 0; i < ARRAY_SIZE(steps); i++) {
        g_test_message("%s: %u done, %u refused", steps[i].name, done[i],
                       failed[i]);
        g_assert_cmpuint(done[i], >, 0);
    }
    while (backends->len) {
        blk_unref(g_ptr_array_steal_index_fast(backends, 0));
    }
    while (nodes->len) {
        bdrv_unref(g_ptr_array_steal_index_fast(nodes, 0));
    }
    check_graph();
    for (int i = 0; i < OWNERS; i++) {
        bdrv_claim_owner_free(owners[i]);
    }
    g_assert_null(bdrv_next_node(NULL));
    g_ptr_array_free(nodes, true);
    g_ptr_array_free(backends, true);
}

int main(int argc, char **argv)
{
    test_graph_init(&argc, &argv);
    g_test_add_func("/graph/random", test_random);
    return g_test_run();
}
