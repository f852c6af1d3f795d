/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Changes of the graph: attaching, detaching, redirecting edges; and what is
 * made of them (append, insert, replace, drop).
 *
 * Each public change: drain what it touches, take the write lock, alter,
 * refresh permissions, commit or abort, unlock. Claims and cycles are checked
 * before an edge is altered.
 */
#include "util/osdep.h"
#include "block/block_int.h"
#include "block/graph-internal.h"

/* --- bracket of a change --- */

/* Nodes to keep quiet and alive from begin to end of one change. */
typedef struct GraphChange {
    Transaction *tran;
    GPtrArray *drained;
} GraphChange;

static void change_add_node(GraphChange *change, BlockDriverState *bs)
{
    if (bs) {
        g_ptr_array_add(change->drained, bdrv_ref(bs));
        bdrv_drained_begin(bs);
    }
}

static void change_init(GraphChange *change)
{
    change->drained = g_ptr_array_new();
    change->tran = tran_new();
}

static void change_lock(GraphChange *change)
{
    bdrv_graph_change_begin();
}

/* Decides by @ok; returns it. */
static bool change_end(GraphChange *change, bool ok)
{
    tran_finalize(change->tran, ok ? 0 : -EPERM);
    bdrv_graph_wrunlock();
    for (guint i = 0; i < change->drained->len; i++) {
        bdrv_drained_end(change->drained->pdata[i]);
        bdrv_unref(change->drained->pdata[i]);
    }
    g_ptr_array_free(change->drained, true);
    bdrv_process_unrefs();
    return ok;
}

static bool refresh_two(BlockDriverState *a, BlockDriverState *b,
                        Transaction *tran, Error **errp)
{
    GSList second = { .data = b };
    GSList first = { .data = a, .next = b ? &second : NULL };

    return bdrv_refresh_perms_tran(a ? &first : &second, NULL, tran, errp);
}

static void limits_abort(void *opaque)
{
    /* They were fine with the former children. */
    bdrv_refresh_limits(opaque, NULL);
}

static TransactionActionDrv limits_drv = {
    .abort = limits_abort,
};

/*
 * To be called before the children of @bs change, so that an abort comes here
 * last. After the change, bdrv_refresh_limits() brings them up to date.
 */
static void keep_limits_tran(BlockDriverState *bs, Transaction *tran)
{
    tran_add(tran, &limits_drv, bs);
}

static bool refuse_cycle(BlockDriverState *parent, BlockDriverState *child,
                         const char *name, Error **errp)
{
    if (bdrv_reaches(child, parent)) {
        error_setg(errp, "Making '%s' a %s child of '%s' would create a cycle",
                   bdrv_get_node_name(child), name,
                   bdrv_get_node_name(parent));
        return false;
    }
    return true;
}

/* --- attach --- */

BdrvChild *bdrv_attach_child_tran(BlockDriverState *parent,
                                  BlockDriverState *child, const char *name,
                                  BdrvChildRole role, Transaction *tran,
                                  Error **errp)
{
    if (!refuse_cycle(parent, child, name, errp)) {
        return NULL;
    }
    /* Asks for nothing until permissions are refreshed. */
    return bdrv_edge_add_tran(child, name, &child_of_bds, role, 0,
                              BLK_PERM_ALL, parent, tran);
}

BdrvChild *bdrv_attach_child(BlockDriverState *parent, BlockDriverState *child,
                             const char *name, BdrvChildRole role,
                             Error **errp)
{
    GraphChange change;
    BdrvChild *edge;
    bool ok;

    change_init(&change);
    change_add_node(&change, child);
    change_lock(&change);
    edge = bdrv_attach_child_tran(parent, child, name, role, change.tran,
                                  errp);
    ok = edge && refresh_two(parent, NULL, change.tran, errp);
    ok = change_end(&change, ok);
    bdrv_unref(child);
    return ok ? edge : NULL;
}

BdrvChild *bdrv_root_attach_child(BlockDriverState *child, const char *name,
                                  const BdrvChildClass *klass,
                                  BdrvChildRole role, uint64_t perm,
                                  uint64_t shared, void *opaque, Error **errp)
{
    GraphChange change;
    BdrvChild *edge;
    bool ok;

    assert(!klass->parent_is_bds);
    change_init(&change);
    change_add_node(&change, child);
    change_lock(&change);
    edge = bdrv_edge_add_tran(child, name, klass, role, perm, shared, opaque,
                              change.tran);
    ok = change_end(&change, refresh_two(child, NULL, change.tran, errp));
    bdrv_unref(child);
    return ok ? edge : NULL;
}

/* --- detach --- */

void bdrv_root_unref_child(BdrvChild *child)
{
    Transaction *tran;
    BlockDriverState *bs;

    if (!child) {
        return;
    }
    assert(!child->klass->parent_is_bds);
    bs = bdrv_ref(child->bs);
    tran = tran_new();
    bdrv_drained_begin(bs);
    bdrv_graph_change_begin();
    bdrv_edge_remove_tran(child, tran);
    tran_commit(tran);
    bdrv_relax_perms(bs);
    bdrv_graph_change_end();
    bdrv_drained_end(bs);
    bdrv_unref(bs);
}

bool bdrv_unref_child_tran(BdrvChild *child, BdrvClaimOwner *owner,
                           Transaction *tran, Error **errp)
{
    if (!bdrv_claim_may_change(child, owner, errp)) {
        return false;
    }
    bdrv_edge_remove_tran(child, tran);
    return true;
}

bool bdrv_unref_child(BlockDriverState *parent, BdrvChild *child,
                      BdrvClaimOwner *owner, Error **errp)
{
    GraphChange change;
    BlockDriverState *below = child->bs;
    bool ok;

    assert(child->opaque == parent);
    change_init(&change);
    change_add_node(&change, parent);
    change_add_node(&change, below);
    change_lock(&change);
    ok = bdrv_unref_child_tran(child, owner, change.tran, errp) &&
         refresh_two(parent, below, change.tran, errp);
    return change_end(&change, ok);
}

/* --- redirect --- */

static bool redirect_allowed(BdrvChild *child, BlockDriverState *new_bs,
                             BdrvClaimOwner *owner, Error **errp)
{
    if (!bdrv_claim_may_change(child, owner, errp)) {
        return false;
    }
    if (new_bs->incoming_owner && new_bs->incoming_owner != owner &&
        owner && bdrv_claim_count(child, owner, BDRV_CLAIM_CHANGE)) {
        error_setg(errp, "Cannot redirect '%s' edge of %s to '%s': claimed "
                   "for a change by %s", child->name,
                   bdrv_claim_owner_name(owner), bdrv_get_node_name(new_bs),
                   bdrv_claim_owner_name(new_bs->incoming_owner));
        return false;
    }
    return !child->klass->parent_is_bds ||
           refuse_cycle(child->opaque, new_bs, child->name, errp);
}

bool bdrv_replace_child_tran(BdrvChild *child, BlockDriverState *new_bs,
                             BdrvClaimOwner *owner, Transaction *tran,
                             Error **errp)
{
    if (!redirect_allowed(child, new_bs, owner, errp)) {
        return false;
    }
    bdrv_edge_redirect_tran(child, new_bs, tran);
    return true;
}

bool bdrv_replace_child_bs(BdrvChild *child, BlockDriverState *new_bs,
                           BdrvClaimOwner *owner, Error **errp)
{
    GraphChange change;
    BlockDriverState *old_bs = child->bs;
    BlockDriverState *parent = child->klass->parent_is_bds ? child->opaque
                                                           : NULL;
    bool ok;

    change_init(&change);
    change_add_node(&change, old_bs);
    change_add_node(&change, new_bs);
    change_lock(&change);
    ok = bdrv_replace_child_tran(child, new_bs, owner, change.tran, errp) &&
         refresh_two(old_bs, parent ? parent : new_bs, change.tran, errp);
    return change_end(&change, ok);
}

bool bdrv_replace_node_tran(BlockDriverState *from, BlockDriverState *to,
                            BdrvClaimOwner *owner, Transaction *tran,
                            Error **errp)
{
    BdrvChild *c, *next;

    QLIST_FOREACH_SAFE(c, &from->parents, next_parent, next) {
        /* Whatever @to stands on keeps leading to @from. */
        if (c->klass->parent_is_bds && bdrv_reaches(to, c->opaque)) {
            continue;
        }
        if (!bdrv_replace_child_tran(c, to, owner, tran, errp)) {
            return false;
        }
    }
    return true;
}

bool bdrv_replace_node(BlockDriverState *from, BlockDriverState *to,
                       BdrvClaimOwner *owner, Error **errp)
{
    GraphChange change;
    bool ok;

    change_init(&change);
    change_add_node(&change, from);
    change_add_node(&change, to);
    change_lock(&change);
    ok = bdrv_replace_node_tran(from, to, owner, change.tran, errp) &&
         refresh_two(from, to, change.tran, errp);
    return change_end(&change, ok);
}

/* --- backing --- */

typedef struct BackingNames {
    BlockDriverState *bs;
    char *backing_file;
    char backing_format[16];
} BackingNames;

static void backing_names_abort(void *opaque)
{
    BackingNames *n = opaque;

    g_strlcpy(n->bs->backing_file, n->backing_file,
              sizeof(n->bs->backing_file));
    memcpy(n->bs->backing_format, n->backing_format,
           sizeof(n->backing_format));
}

static void backing_names_clean(void *opaque)
{
    BackingNames *n = opaque;

    g_free(n->backing_file);
    g_free(n);
}

static TransactionActionDrv backing_names_drv = {
    .abort = backing_names_abort,
    .clean = backing_names_clean,
};

static void backing_names_tran(BlockDriverState *bs, BlockDriverState *backing,
                               Transaction *tran)
{
    BackingNames *n = g_new0(BackingNames, 1);

    n->bs = bs;
    n->backing_file = g_strdup(bs->backing_file);
    memcpy(n->backing_format, bs->backing_format, sizeof(n->backing_format));
    tran_add(tran, &backing_names_drv, n);

    g_strlcpy(bs->backing_file, backing ? backing->filename : "",
              sizeof(bs->backing_file));
    g_strlcpy(bs->backing_format,
              backing && backing->drv ? backing->drv->format_name : "",
              sizeof(bs->backing_format));
}

bool bdrv_set_backing_hd_tran(BlockDriverState *bs, BlockDriverState *backing,
                              BdrvClaimOwner *owner, Transaction *tran,
                              Error **errp)
{
    BdrvChild *edge = bs->backing;

    if (child_bs(edge) == backing) {
        return true;
    }
    if (backing && !bs->drv->supports_backing) {
        error_setg(errp, "Driver '%s' of node '%s' does not support backing "
                   "files", bs->drv->format_name, bdrv_get_node_name(bs));
        return false;
    }
    if (edge && backing) {
        if (!bdrv_replace_child_tran(edge, backing, owner, tran, errp)) {
            return false;
        }
    } else if (edge) {
        if (!bdrv_unref_child_tran(edge, owner, tran, errp)) {
            return false;
        }
    } else if (!bdrv_attach_child_tran(bs, backing, "backing", BDRV_CHILD_COW,
                                       tran, errp)) {
        return false;
    }
    backing_names_tran(bs, backing, tran);
    return true;
}

bool bdrv_set_backing_hd(BlockDriverState *bs, BlockDriverState *backing,
                         BdrvClaimOwner *owner, Error **errp)
{
    GraphChange change;
    BlockDriverState *old = bdrv_cow_bs(bs);
    bool ok;

    change_init(&change);
    change_add_node(&change, bs);
    change_add_node(&change, old);
    change_add_node(&change, backing);
    change_lock(&change);
    keep_limits_tran(bs, change.tran);
    ok = bdrv_set_backing_hd_tran(bs, backing, owner, change.tran, errp) &&
         refresh_two(bs, old, change.tran, errp) &&
         bdrv_refresh_limits(bs, errp);
    return change_end(&change, ok);
}

bool bdrv_append(BlockDriverState *overlay, BlockDriverState *bs,
                 BdrvClaimOwner *owner, Error **errp)
{
    GraphChange change;
    bool ok;

    if (overlay->backing) {
        error_setg(errp, "Node '%s' already has a backing file",
                   bdrv_get_node_name(overlay));
        return false;
    }
    change_init(&change);
    change_add_node(&change, overlay);
    change_add_node(&change, bs);
    change_lock(&change);
    keep_limits_tran(overlay, change.tran);
    ok = bdrv_set_backing_hd_tran(overlay, bs, owner, change.tran, errp) &&
         bdrv_replace_node_tran(bs, overlay, owner, change.tran, errp) &&
         refresh_two(overlay, bs, change.tran, errp) &&
         bdrv_refresh_limits(overlay, errp);
    return change_end(&change, ok);
}

/* --- filters --- */

BlockDriverState *bdrv_insert_node(BlockDriverState *bs, QDict *options,
                                   int flags, BdrvClaimOwner *owner,
                                   Error **errp)
{
    BlockDriverState *filter = bdrv_open(NULL, NULL, options, flags, errp);

    if (!filter) {
        return NULL;
    }
    if (!bdrv_reaches(filter, bs)) {
        error_setg(errp, "Node '%s' does not lead to '%s'",
                   bdrv_get_node_name(filter), bdrv_get_node_name(bs));
        bdrv_unref(filter);
        return NULL;
    }
    if (!bdrv_replace_node(bs, filter, owner, errp)) {
        bdrv_unref(filter);
        return NULL;
    }
    return filter;
}

bool bdrv_drop_filter(BlockDriverState *filter, BdrvClaimOwner *owner,
                      Error **errp)
{
    BdrvChild *edge = bdrv_filter_or_cow_child(filter);
    GraphChange change;
    BlockDriverState *below;
    bool ok;

    assert(edge);
    below = edge->bs;
    change_init(&change);
    change_add_node(&change, filter);
    change_add_node(&change, below);
    change_lock(&change);
    ok = bdrv_replace_node_tran(filter, below, owner, change.tran, errp) &&
         bdrv_unref_child_tran(edge, owner, change.tran, errp) &&
         refresh_two(filter, below, change.tran, errp);
    return change_end(&change, ok);
}

/* --- dropping part of a chain --- */

/* Overlays whose header has to name @base; all are tried, the first error
 * stops. */
static bool rewrite_overlay_headers(BlockDriverState *top,
                                    BlockDriverState *base, const char *name,
                                    Error **errp)
{
    BdrvChild *c;

    QLIST_FOREACH(c, &top->parents, next_parent) {
        BlockDriverState *overlay = c->opaque;
        int ret;

        if (!c->klass->parent_is_bds || !(c->role & BDRV_CHILD_COW)) {
            continue;
        }
        ret = bdrv_change_backing_file(overlay, name,
                                       base->drv->format_name);
        if (ret < 0) {
            error_setg_errno(errp, -ret, "Could not update the backing file "
                             "of '%s'", bdrv_get_node_name(overlay));
            return false;
        }
    }
    return true;
}

bool bdrv_drop_intermediate(BlockDriverState *top, BlockDriverState *base,
                            const char *backing_file_str,
                            BdrvClaimOwner *owner, Error **errp)
{
    GraphChange change;
    BdrvChild *last = NULL;
    bool ok;

    assert(top != base && bdrv_chain_contains(top, base));
    for (BlockDriverState *bs = top; bs != base; bs = last->bs) {
        last = bdrv_filter_or_cow_child(bs);
        /* The dropped part goes away with its edges: nobody else may rely on
         * them. */
        if (!bdrv_claim_may_change(last, owner, errp)) {
            return false;
        }
    }
    if (backing_file_str &&
        !rewrite_overlay_headers(top, base, backing_file_str, errp)) {
        return false;
    }
    change_init(&change);
    change_add_node(&change, top);
    change_add_node(&change, base);
    change_lock(&change);
    ok = bdrv_replace_node_tran(top, base, owner, change.tran, errp) &&
         refresh_two(top, base, change.tran, errp);
    return change_end(&change, ok);
}
