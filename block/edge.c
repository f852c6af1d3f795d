/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Edges: the primitives that make, move and remove them inside a
 * transaction. Nothing here decides whether a change is allowed; see graph.c
 * for claims and cycles and permission.c for permissions.
 *
 * Reference rule: an edge in the graph holds one reference to the node below
 * it. A change takes the reference to the new node at once and gives back the
 * one to the old node when the transaction ends, so that an abort finds the
 * old node alive.
 */
#include "util/osdep.h"
#include "block/block_int.h"
#include "block/graph-internal.h"

void bdrv_graph_change_begin(void)
{
    bdrv_graph_wrlock();
}

void bdrv_graph_change_end(void)
{
    bdrv_graph_wrunlock();
    bdrv_process_unrefs();
}

/* --- edges whose parent is a node --- */

static char *node_parent_desc(BdrvChild *child)
{
    BlockDriverState *parent = child->opaque;

    return g_strdup_printf("node '%s'", bdrv_get_node_name(parent));
}

static void node_drained_begin(BdrvChild *child)
{
    bdrv_drained_begin_nopoll(child->opaque);
}

static bool node_drained_poll(BdrvChild *child)
{
    return bdrv_drain_poll(child->opaque);
}

static void node_drained_end(BdrvChild *child)
{
    bdrv_drained_end(child->opaque);
}

const BdrvChildClass child_of_bds = {
    .parent_is_bds = true,
    .get_parent_desc = node_parent_desc,
    .drained_begin = node_drained_begin,
    .drained_poll = node_drained_poll,
    .drained_end = node_drained_end,
};

/* The parent node learns of the edge. A primary or backing child is also
 * reachable by name. */
static void edge_enter_parent(BdrvChild *child)
{
    BlockDriverState *parent = child->opaque;

    QTAILQ_INSERT_TAIL(&parent->children, child, next);
    if (child->role & BDRV_CHILD_COW) {
        assert(!parent->backing);
        parent->backing = child;
    } else if (child->role & BDRV_CHILD_PRIMARY) {
        assert(!parent->file);
        parent->file = child;
    }
    if (parent->drv && parent->drv->bdrv_attach_child) {
        parent->drv->bdrv_attach_child(parent, child);
    }
}

static void edge_leave_parent(BdrvChild *child)
{
    BlockDriverState *parent = child->opaque;

    if (parent->drv && parent->drv->bdrv_detach_child) {
        parent->drv->bdrv_detach_child(parent, child);
    }
    QTAILQ_REMOVE(&parent->children, child, next);
    if (parent->backing == child) {
        parent->backing = NULL;
    } else if (parent->file == child) {
        parent->file = NULL;
    }
}

/* --- linking to the node below --- */

/* The parent stops and goes on with the node; if the edge leads from one
 * quiesced node to another, it must not go on in between. */
static void edge_follow_quiesce(BdrvChild *child, bool linked)
{
    if (linked && qatomic_read(&child->bs->quiesce_counter)) {
        bdrv_parent_drained_begin_single(child);
    } else {
        bdrv_parent_drained_end_single(child);
    }
}

static void edge_link(BdrvChild *child, BlockDriverState *bs)
{
    child->bs = bs;
    QLIST_INSERT_HEAD(&bs->parents, child, next_parent);
    edge_follow_quiesce(child, true);
    if (child->klass->attach) {
        child->klass->attach(child);
    }
}

/* The caller links it again or calls edge_follow_quiesce(). */
static void edge_unlink(BdrvChild *child)
{
    if (child->klass->detach) {
        child->klass->detach(child);
    }
    QLIST_REMOVE(child, next_parent);
}

static void edge_free(BdrvChild *child)
{
    bdrv_claim_edge_gone(child);
    g_free(child->name);
    g_free(child);
}

static BdrvChild *edge_new(const char *name, const BdrvChildClass *klass,
                           BdrvChildRole role, uint64_t perm, uint64_t shared,
                           void *opaque)
{
    BdrvChild *child = g_new0(BdrvChild, 1);

    child->name = g_strdup(name);
    child->klass = klass;
    child->role = role;
    child->perm = perm;
    child->shared_perm = shared;
    child->opaque = opaque;
    QLIST_INIT(&child->claims);
    return child;
}

/* --- adding --- */

static void edge_add_abort(void *opaque)
{
    BdrvChild *child = opaque;
    BlockDriverState *bs = child->bs;

    if (bs->incoming_owner) {
        bdrv_claim_edge_leaves(child);
    }
    if (child->klass->parent_is_bds) {
        edge_leave_parent(child);
    }
    edge_unlink(child);
    edge_follow_quiesce(child, false);
    edge_free(child);
    bdrv_unref(bs);
}

static TransactionActionDrv edge_add_drv = {
    .abort = edge_add_abort,
};

BdrvChild *bdrv_edge_add_tran(BlockDriverState *child_bs, const char *name,
                              const BdrvChildClass *klass, BdrvChildRole role,
                              uint64_t perm, uint64_t shared, void *opaque,
                              Transaction *tran)
{
    BdrvChild *child = edge_new(name, klass, role, perm, shared, opaque);

    assert(bdrv_graph_is_write_locked());
    bdrv_ref(child_bs);
    edge_link(child, child_bs);
    if (klass->parent_is_bds) {
        edge_enter_parent(child);
    }
    bdrv_claim_edge_arrived(child);
    tran_add(tran, &edge_add_drv, child);
    return child;
}

/* --- removing --- */

static void edge_remove_abort(void *opaque)
{
    BdrvChild *child = opaque;

    edge_link(child, child->bs);
    if (child->klass->parent_is_bds) {
        edge_enter_parent(child);
    }
}

static void edge_remove_commit(void *opaque)
{
    BdrvChild *child = opaque;
    BlockDriverState *bs = child->bs;

    if (child->klass->parent_is_bds && bs->inherits_from == child->opaque) {
        bs->inherits_from = NULL;
    }
    edge_free(child);
    bdrv_unref(bs);
}

static TransactionActionDrv edge_remove_drv = {
    .commit = edge_remove_commit,
    .abort = edge_remove_abort,
};

void bdrv_edge_remove_tran(BdrvChild *child, Transaction *tran)
{
    assert(bdrv_graph_is_write_locked());
    if (child->klass->parent_is_bds) {
        edge_leave_parent(child);
    }
    edge_unlink(child);
    edge_follow_quiesce(child, false);
    tran_add(tran, &edge_remove_drv, child);
}

/* --- redirecting --- */

typedef struct EdgeRedirect {
    BdrvChild *child;
    BlockDriverState *old_bs;   /* the edge's former reference */
    /* NULL unless it is a node. A claim that goes with the edge's leaving may
     * have the last other reference, and comes back with an abort. */
    BlockDriverState *parent;
} EdgeRedirect;

static void edge_redirect(BdrvChild *child, BlockDriverState *new_bs)
{
    bdrv_claim_edge_leaves(child);
    edge_unlink(child);
    bdrv_claim_edge_redirected(child, new_bs);
    edge_link(child, new_bs);
    bdrv_claim_edge_arrived(child);
}

static void edge_redirect_abort(void *opaque)
{
    EdgeRedirect *r = opaque;
    BlockDriverState *new_bs = r->child->bs;

    edge_redirect(r->child, r->old_bs);
    bdrv_unref(new_bs);
}

static void edge_redirect_commit(void *opaque)
{
    EdgeRedirect *r = opaque;

    if (r->child->klass->parent_is_bds &&
        r->old_bs->inherits_from == r->child->opaque) {
        r->old_bs->inherits_from = NULL;
    }
    bdrv_unref(r->old_bs);
}

static void edge_redirect_clean(void *opaque)
{
    EdgeRedirect *r = opaque;

    bdrv_unref(r->parent);
    g_free(r);
}

static TransactionActionDrv edge_redirect_drv = {
    .commit = edge_redirect_commit,
    .abort = edge_redirect_abort,
    .clean = edge_redirect_clean,
};

void bdrv_edge_redirect_tran(BdrvChild *child, BlockDriverState *new_bs,
                             Transaction *tran)
{
    EdgeRedirect *r = g_new(EdgeRedirect, 1);

    assert(bdrv_graph_is_write_locked());
    *r = (EdgeRedirect) { .child = child, .old_bs = child->bs };
    if (child->klass->parent_is_bds) {
        r->parent = bdrv_ref(child->opaque);
    }
    bdrv_ref(new_bs);
    edge_redirect(child, new_bs);
    tran_add(tran, &edge_redirect_drv, r);
}

/* --- guards --- */

static char *guard_parent_desc(BdrvChild *child)
{
    return g_strdup("a reopen in progress");
}

static const BdrvChildClass child_of_reopen = {
    .get_parent_desc = guard_parent_desc,
};

static void edge_guard_end(void *opaque)
{
    BdrvChild *guard = opaque;
    BlockDriverState *bs = guard->bs;

    edge_unlink(guard);
    edge_follow_quiesce(guard, false);
    edge_free(guard);
    bdrv_unref(bs);
}

static TransactionActionDrv edge_guard_drv = {
    .commit = edge_guard_end,
    .abort = edge_guard_end,
};

void bdrv_edge_guard_tran(BlockDriverState *bs, uint64_t perm, uint64_t shared,
                          Transaction *tran)
{
    BdrvChild *guard = edge_new("guard", &child_of_reopen, 0, perm, shared,
                                NULL);

    guard->reopening = true;
    guard->reopen_guard = true;
    bdrv_ref(bs);
    edge_link(guard, bs);
    tran_add(tran, &edge_guard_drv, guard);
}
