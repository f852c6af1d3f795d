/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Permissions: computing what every edge asks for, checking that the parents
 * of each node agree, and taking or relaxing it at the drivers.
 *
 * A refresh is one part of a graph transaction:
 *   prepare  compute the state after; refuse conflicts; let drivers take the
 *            union of what they hold and what comes
 *   commit   drivers relax to the state after
 *   abort    edges get their old permissions; drivers relax to the state before
 * Relaxing never fails: a driver's error is counted on the node, remembered
 * and retried (node_set_perm()).
 *
 * In a reopen the edges keep the union of wanted and the intersection of
 * shared permissions between prepare and commit, since drivers do I/O then.
 * Those edges are marked 'reopening'. Two of them conflict only if they do in
 * the state after. Against an edge outside the reopen the widened permissions
 * count; that matters only where a reopen moved an edge to another node, since
 * for an edge that stays both states are compatible with it, bit by bit.
 *
 * An inactive node asks for nothing, whatever its users hold, and shares all.
 *
 * Relaxing only ever takes away: it asks nobody and cannot fail.
 */
#include "util/osdep.h"
#include "block/activate.h"
#include "block/block_int.h"
#include "block/graph-internal.h"
#include "trace/block.h"

static const struct {
    uint64_t perm;
    const char *name;
} perm_names[] = {
    { BLK_PERM_CONSISTENT_READ, "consistent read" },
    { BLK_PERM_WRITE, "write" },
    { BLK_PERM_WRITE_UNCHANGED, "write unchanged" },
    { BLK_PERM_RESIZE, "resize" },
};

char *bdrv_perm_names(uint64_t perm)
{
    GString *s = g_string_new(NULL);

    for (int i = 0; i < ARRAY_SIZE(perm_names); i++) {
        if (perm & perm_names[i].perm) {
            g_string_append_printf(s, "%s%s", s->len ? ", " : "",
                                   perm_names[i].name);
        }
    }
    return g_string_free(s, false);
}

/* --- what a node asks of a child --- */

static void perms_for_cow(uint64_t parent_shared, uint64_t *nperm,
                          uint64_t *nshared)
{
    /* Content must not change below an overlay, unless whoever uses the
     * overlay tolerates changing content. */
    *nperm &= BLK_PERM_CONSISTENT_READ;
    *nshared = BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE_UNCHANGED;
    if (parent_shared & BLK_PERM_WRITE) {
        *nshared |= BLK_PERM_WRITE | BLK_PERM_RESIZE;
    }
}

static void perms_for_storage(BdrvChildRole role, int flags, uint64_t *nperm,
                              uint64_t *nshared)
{
    if (role & BDRV_CHILD_METADATA) {
        /* The node keeps metadata in memory: nobody else may write, and it
         * writes itself whenever it is writable at all. */
        if (flags & BDRV_O_RDWR) {
            *nperm |= BLK_PERM_WRITE | BLK_PERM_RESIZE;
        }
        if (!(flags & BDRV_O_NO_IO)) {
            *nperm |= BLK_PERM_CONSISTENT_READ;
        }
        *nshared &= ~(uint64_t)(BLK_PERM_WRITE | BLK_PERM_RESIZE);
    }
    if (role & BDRV_CHILD_DATA) {
        /* Stored data may be shared for writing by whoever understands the
         * mapping, but it must not move or vanish. */
        *nshared &= ~(uint64_t)BLK_PERM_RESIZE;
        if (*nperm & BLK_PERM_WRITE_UNCHANGED) {
            *nperm |= BLK_PERM_WRITE;
        }
        if (*nperm & BLK_PERM_WRITE) {
            *nperm |= BLK_PERM_RESIZE;
        }
    }
}

void bdrv_default_perms(BlockDriverState *bs, BdrvChild *child,
                        BdrvChildRole role, BlockReopenQueue *queue,
                        uint64_t parent_perm, uint64_t parent_shared,
                        uint64_t *nperm, uint64_t *nshared)
{
    *nperm = parent_perm & DEFAULT_PERM_PASSTHROUGH;
    *nshared = parent_shared & DEFAULT_PERM_PASSTHROUGH;

    if (role & BDRV_CHILD_FILTERED) {
        assert(!(role & (BDRV_CHILD_METADATA | BDRV_CHILD_COW)));
    } else if (role & BDRV_CHILD_COW) {
        perms_for_cow(parent_shared, nperm, nshared);
    } else {
        assert(role & (BDRV_CHILD_METADATA | BDRV_CHILD_DATA));
        perms_for_storage(role, bdrv_reopen_flags(queue, bs), nperm, nshared);
    }
}

static void node_child_perm(BlockDriverState *bs, BdrvChild *child,
                            BlockReopenQueue *queue, uint64_t parent_perm,
                            uint64_t parent_shared, uint64_t *nperm,
                            uint64_t *nshared)
{
    if (bs->open_flags & BDRV_O_INACTIVE) {
        *nperm = 0;
        *nshared = BLK_PERM_ALL;
    } else if (bs->drv->bdrv_child_perm) {
        bs->drv->bdrv_child_perm(bs, child, child->role, queue, parent_perm,
                                 parent_shared, nperm, nshared);
    } else {
        bdrv_default_perms(bs, child, child->role, queue, parent_perm,
                           parent_shared, nperm, nshared);
    }
    if (child->bs->open_flags & BDRV_O_FORCE_SHARE) {
        *nshared = BLK_PERM_ALL;
    }
}

/* --- what the parents of a node ask --- */

static void cumulative_perm(BlockDriverState *bs, bool with_guards,
                            uint64_t *perm, uint64_t *shared)
{
    BdrvChild *c;

    *perm = 0;
    *shared = BLK_PERM_ALL;
    if (bs->open_flags & BDRV_O_INACTIVE) {
        return;
    }
    QLIST_FOREACH(c, &bs->parents, next_parent) {
        if (with_guards || !c->reopen_guard) {
            *perm |= c->perm;
            *shared &= c->shared_perm;
        }
    }
}

void bdrv_get_cumulative_perm(BlockDriverState *bs, uint64_t *perm,
                              uint64_t *shared)
{
    cumulative_perm(bs, true, perm, shared);
}

static bool report_conflict(BlockDriverState *bs, BdrvChild *wants,
                            BdrvChild *refuses, Error **errp)
{
    uint64_t bits = wants->perm & ~refuses->shared_perm;
    g_autofree char *perms = bdrv_perm_names(bits);
    g_autofree char *who = wants->klass->get_parent_desc(wants);
    g_autofree char *whom = refuses->klass->get_parent_desc(refuses);
    const char *node = bdrv_get_node_name(bs);

    error_setg(errp, "Permission conflict on node '%s': permissions '%s' are "
               "both required by %s (uses node '%s' as '%s' child) and "
               "unshared by %s (uses node '%s' as '%s' child).",
               node, perms, who, node, wants->name, whom, node,
               refuses->name);
    return false;
}

/* Guards count here only against edges that are not part of the reopen. */
static bool parents_agree(BlockDriverState *bs, Error **errp)
{
    BdrvChild *a, *b;

    QLIST_FOREACH(a, &bs->parents, next_parent) {
        QLIST_FOREACH(b, &bs->parents, next_parent) {
            bool both_reopening = a->reopening && b->reopening;

            if (a == b || !(a->perm & ~b->shared_perm)) {
                continue;
            }
            if (both_reopening && (a->reopen_guard || b->reopen_guard)) {
                continue;
            }
            return report_conflict(bs, a, b, errp);
        }
    }
    return true;
}

static bool node_can_serve(BlockDriverState *bs, BlockReopenQueue *queue,
                           uint64_t perm, Error **errp)
{
    const uint64_t writing = BLK_PERM_WRITE | BLK_PERM_WRITE_UNCHANGED;
    int64_t length = qatomic_read(&bs->total_bytes);

    if ((perm & writing) && !(bdrv_reopen_flags(queue, bs) & BDRV_O_RDWR)) {
        if (bs->open_flags & BDRV_O_RDWR) {
            error_setg(errp, "Read-only block node '%s' cannot support "
                       "read-write users", bdrv_get_node_name(bs));
        } else {
            error_setg(errp, "Block node is read-only");
        }
        return false;
    }
    if ((perm & writing) && !(perm & BLK_PERM_RESIZE) &&
        ROUND_UP(length, BDRV_SECTOR_SIZE) % bs->bl.request_alignment) {
        /* The last request of the image would have to grow it. Within the last
         * sector it may not reach the end, as nobody relies on that. */
        error_setg(errp, "Cannot get 'write' permission without 'resize': "
                   "Image size is not a multiple of request alignment");
        return false;
    }
    return true;
}

/* The same for what edges hold while drivers prepare a reopen. */
static bool node_can_be_wide(BlockDriverState *bs, BlockReopenQueue *queue,
                             Error **errp)
{
    int flags = bs->open_flags | bdrv_reopen_flags(queue, bs);
    BdrvChild *a, *b;

    QLIST_FOREACH(a, &bs->parents, next_parent) {
        if (a->reopening && !a->reopen_guard && !(flags & BDRV_O_RDWR) &&
            (a->perm & (BLK_PERM_WRITE | BLK_PERM_WRITE_UNCHANGED))) {
            error_setg(errp, "Block node '%s' is read-only, but its new user "
                       "may write until it is reopened",
                       bdrv_get_node_name(bs));
            return false;
        }
        QLIST_FOREACH(b, &bs->parents, next_parent) {
            if (a->reopening != b->reopening && a->perm & ~b->shared_perm) {
                return report_conflict(bs, a, b, errp);
            }
        }
    }
    return true;
}

/* --- taking and relaxing at the driver --- */

static void node_set_perm(BlockDriverState *bs, uint64_t perm, uint64_t shared)
{
    Error *err = NULL;

    bs->taken_perm = perm;
    bs->taken_shared = shared;
    if (!bs->drv || !bs->drv->bdrv_set_perm) {
        return;
    }
    if (bs->drv->bdrv_set_perm(bs, perm, shared, &err) < 0) {
        bs->relax_pending = true;
        bs->relax_errors++;
        g_free(bs->relax_error);
        bs->relax_error = g_strdup(err ? error_get_pretty(err) : "");
        trace_bdrv_relax_failed(bs->node_name, bs->relax_error);
        error_free(err);
    } else {
        bs->relax_pending = false;
    }
}

void bdrv_retry_relax(void)
{
    for (BlockDriverState *bs = bdrv_next_node(NULL); bs;
         bs = bdrv_next_node(bs)) {
        if (bs->relax_pending) {
            node_set_perm(bs, bs->taken_perm, bs->taken_shared);
        }
    }
}

typedef struct NodeTake {
    BlockDriverState *bs;
    uint64_t old_perm, old_shared;
} NodeTake;

static void node_take_commit(void *opaque)
{
    NodeTake *t = opaque;
    uint64_t perm, shared;

    /* Edges have their final permissions by now. */
    cumulative_perm(t->bs, false, &perm, &shared);
    node_set_perm(t->bs, perm, shared);
}

static void node_take_abort(void *opaque)
{
    NodeTake *t = opaque;

    node_set_perm(t->bs, t->old_perm, t->old_shared);
}

static void node_take_clean(void *opaque)
{
    NodeTake *t = opaque;

    bdrv_unref(t->bs);
    g_free(t);
}

static TransactionActionDrv node_take_drv = {
    .commit = node_take_commit,
    .abort = node_take_abort,
    .clean = node_take_clean,
};

static bool node_take_tran(BlockDriverState *bs, BlockReopenQueue *queue,
                           Transaction *tran, Error **errp)
{
    NodeTake *t;
    uint64_t perm, shared;
    bool more;

    cumulative_perm(bs, true, &perm, &shared);
    /* In a reopen the edges are wide until commit, which relaxes them. */
    if (!queue && perm == bs->taken_perm && shared == bs->taken_shared &&
        !bs->relax_pending) {
        return true;
    }
    perm |= bs->taken_perm;
    shared &= bs->taken_shared;
    more = perm != bs->taken_perm || shared != bs->taken_shared;
    if (more && bs->drv && bs->drv->bdrv_check_perm &&
        bs->drv->bdrv_check_perm(bs, perm, shared, errp) < 0) {
        return false;
    }
    t = g_new(NodeTake, 1);
    *t = (NodeTake) {
        .bs = bdrv_ref(bs),
        .old_perm = bs->taken_perm,
        .old_shared = bs->taken_shared,
    };
    bs->taken_perm = perm;
    bs->taken_shared = shared;
    tran_add(tran, &node_take_drv, t);
    return true;
}

/* --- permissions of an edge --- */

typedef struct EdgePerm {
    BdrvChild *child;
    uint64_t old_perm, old_shared;
    uint64_t new_perm, new_shared;
    bool widened;               /* the edge holds the union of both */
} EdgePerm;

static void edge_perm_commit(void *opaque)
{
    EdgePerm *e = opaque;

    /* Otherwise the edge already has what its last refresh decided. */
    if (e->widened) {
        e->child->perm = e->new_perm;
        e->child->shared_perm = e->new_shared;
    }
    e->child->reopening = false;
}

static void edge_perm_abort(void *opaque)
{
    EdgePerm *e = opaque;

    e->child->perm = e->old_perm;
    e->child->shared_perm = e->old_shared;
    e->child->reopening = false;
}

static TransactionActionDrv edge_perm_drv = {
    .commit = edge_perm_commit,
    .abort = edge_perm_abort,
    .clean = g_free,
};

/* Sets the state after; returns the record (owned by @tran). */
static EdgePerm *edge_set_perm_tran(BdrvChild *child, uint64_t perm,
                                    uint64_t shared, Transaction *tran)
{
    EdgePerm *e = g_new(EdgePerm, 1);

    *e = (EdgePerm) {
        .child = child,
        .old_perm = child->perm,
        .old_shared = child->shared_perm,
        .new_perm = perm,
        .new_shared = shared,
    };
    child->perm = perm;
    child->shared_perm = shared;
    tran_add(tran, &edge_perm_drv, e);
    return e;
}

/* --- the refresh --- */

/* Depth-first with an explicit stack, where a node met again is finished. */
GPtrArray *bdrv_nodes_top_down(GSList *nodes)
{
    g_autoptr(GHashTable) seen = g_hash_table_new(NULL, NULL);
    g_autoptr(GHashTable) done = g_hash_table_new(NULL, NULL);
    g_autoptr(GPtrArray) stack = g_ptr_array_new();
    GPtrArray *order = g_ptr_array_new();

    for (GSList *l = nodes; l; l = l->next) {
        g_ptr_array_add(stack, l->data);
        while (stack->len) {
            BlockDriverState *bs = stack->pdata[stack->len - 1];
            BdrvChild *c;

            if (g_hash_table_add(seen, bs)) {
                QTAILQ_FOREACH(c, &bs->children, next) {
                    if (!g_hash_table_contains(seen, c->bs)) {
                        g_ptr_array_add(stack, c->bs);
                    }
                }
                continue;
            }
            g_ptr_array_set_size(stack, stack->len - 1);
            /* May have been pushed more than once: the first pop counts. */
            if (g_hash_table_add(done, bs)) {
                g_ptr_array_add(order, bs);
            }
        }
    }
    for (guint i = 0; i < order->len / 2; i++) {
        gpointer tmp = order->pdata[i];
        order->pdata[i] = order->pdata[order->len - 1 - i];
        order->pdata[order->len - 1 - i] = tmp;
    }
    return order;
}

/* In relaxing nobody is asked, so that an edge must not come to want more. */
static void only_less(BdrvChild *c, uint64_t *perm, uint64_t *shared)
{
    *perm &= c->perm;
    *shared |= c->shared_perm;
}

/* Decides the state after for the edges below @bs; records go to @edges, which
 * is NULL in relaxing. */
static bool node_compute(BlockDriverState *bs, BlockReopenQueue *queue,
                         Transaction *tran, GPtrArray *edges, Error **errp)
{
    uint64_t perm, shared;
    BdrvChild *c;

    if (edges && (!parents_agree(bs, errp) ||
                  !bdrv_users_allow_inactive(bs, errp))) {
        return false;
    }
    cumulative_perm(bs, false, &perm, &shared);
    if (!bs->drv) {
        return true;
    }
    if (edges && !node_can_serve(bs, queue, perm, errp)) {
        return false;
    }
    QTAILQ_FOREACH(c, &bs->children, next) {
        uint64_t nperm, nshared;

        node_child_perm(bs, c, queue, perm, shared, &nperm, &nshared);
        if (!edges) {
            only_less(c, &nperm, &nshared);
        }
        if (queue || nperm != c->perm || nshared != c->shared_perm) {
            EdgePerm *e = edge_set_perm_tran(c, nperm, nshared, tran);

            if (queue) {
                c->reopening = true;
                g_ptr_array_add(edges, e);
            }
        }
    }
    return true;
}

static bool widen(GPtrArray *edges, BlockReopenQueue *queue, Error **errp)
{
    for (guint i = 0; i < edges->len; i++) {
        EdgePerm *e = edges->pdata[i];

        e->widened = true;
        e->child->perm = e->old_perm | e->new_perm;
        e->child->shared_perm = e->old_shared & e->new_shared;
    }
    for (guint i = 0; i < edges->len; i++) {
        EdgePerm *e = edges->pdata[i];

        if (!node_can_be_wide(e->child->bs, queue, errp)) {
            return false;
        }
    }
    return true;
}

bool bdrv_refresh_perms_tran(GSList *nodes, BlockReopenQueue *queue,
                             Transaction *tran, Error **errp)
{
    g_autoptr(GPtrArray) order = bdrv_nodes_top_down(nodes);
    g_autoptr(GPtrArray) edges = g_ptr_array_new();

    assert(bdrv_graph_is_write_locked());
    for (guint i = 0; i < order->len; i++) {
        if (!node_compute(order->pdata[i], queue, tran, edges, errp)) {
            return false;
        }
    }
    if (!widen(edges, queue, errp)) {
        return false;
    }
    for (guint i = 0; i < order->len; i++) {
        if (!node_take_tran(order->pdata[i], queue, tran, errp)) {
            return false;
        }
    }
    return true;
}

/* Adds to @tran whatever @bs and all below it can do without. */
static void relax_tran(BlockDriverState *bs, Transaction *tran)
{
    GSList nodes = { .data = bs };
    g_autoptr(GPtrArray) order = bdrv_nodes_top_down(&nodes);

    assert(bdrv_graph_is_write_locked());
    for (guint i = 0; i < order->len; i++) {
        node_compute(order->pdata[i], NULL, tran, NULL, &error_abort);
    }
    for (guint i = 0; i < order->len; i++) {
        node_take_tran(order->pdata[i], NULL, tran, &error_abort);
    }
}

void bdrv_relax_perms(BlockDriverState *bs)
{
    Transaction *tran = tran_new();

    relax_tran(bs, tran);
    tran_commit(tran);
}

bool bdrv_child_refresh_perms(BlockDriverState *bs, Error **errp)
{
    Transaction *tran = tran_new();
    GSList nodes = { .data = bs };
    bool ok;

    bdrv_graph_change_begin();
    ok = bdrv_refresh_perms_tran(&nodes, NULL, tran, errp);
    tran_finalize(tran, ok ? 0 : -EPERM);
    bdrv_graph_change_end();
    return ok;
}

bool bdrv_child_try_set_perm(BdrvChild *child, uint64_t perm, uint64_t shared,
                             Error **errp)
{
    Transaction *tran = tran_new();
    GSList nodes = { .data = child->bs };
    bool less = !(perm & ~child->perm) && !(child->shared_perm & ~shared);
    bool ok = true;

    bdrv_graph_change_begin();
    edge_set_perm_tran(child, perm, shared, tran);
    if (less) {
        relax_tran(child->bs, tran);
    } else {
        ok = bdrv_refresh_perms_tran(&nodes, NULL, tran, errp);
    }
    tran_finalize(tran, ok ? 0 : -EPERM);
    bdrv_graph_change_end();
    return ok;
}
