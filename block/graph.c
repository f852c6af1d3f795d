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
#include "block/dirty-bitmap.h"
#include "block/graph-internal.h"

/* --- bracket of a change --- */

void graph_change_init(GraphChange *change)
{
    change->drained = g_ptr_array_new();
    change->limits = g_ptr_array_new();
    change->tran = tran_new();
}

void graph_change_add_node(GraphChange *change, BlockDriverState *bs)
{
    if (bs) {
        g_ptr_array_add(change->drained, bdrv_ref(bs));
        bdrv_drained_begin(bs);
    }
}

void graph_change_lock(GraphChange *change)
{
    bdrv_graph_change_begin();
}

static void limits_abort(void *opaque)
{
    GPtrArray *nodes = opaque;

    /* They were fine with the former children. */
    for (guint i = 0; i < nodes->len; i++) {
        bdrv_refresh_limits(nodes->pdata[i], NULL);
    }
}

static void limits_commit(void *opaque)
{
    GPtrArray *nodes = opaque;

    /* Filters may have come to show a node of another length. */
    for (guint i = 0; i < nodes->len; i++) {
        bdrv_dirty_bitmap_follow_length(nodes->pdata[i]);
    }
}

static void limits_clean(void *opaque)
{
    g_ptr_array_free(opaque, true);
}

static TransactionActionDrv limits_drv = {
    .commit = limits_commit,
    .abort = limits_abort,
    .clean = limits_clean,
};

void graph_change_keep_limits(GraphChange *change, BlockDriverState *bs)
{
    GPtrArray *nodes = bdrv_nodes_above(bs);

    /* Before the edges change, so that an abort comes here after them. */
    tran_add(change->tran, &limits_drv, nodes);
    g_ptr_array_extend(change->limits, nodes, NULL, NULL);
}

bool graph_change_settle(GraphChange *change, BlockDriverState *a,
                         BlockDriverState *b, Error **errp)
{
    g_autoptr(GSList) nodes = NULL;

    for (guint i = 0; i < change->limits->len; i++) {
        BlockDriverState *bs = change->limits->pdata[i];

        if (!bdrv_refresh_limits(bs, errp)) {
            return false;
        }
        /* What it wants of its child depends on that child, too. */
        nodes = g_slist_prepend(nodes, bs);
    }
    if (a) {
        nodes = g_slist_prepend(nodes, a);
    }
    if (b) {
        nodes = g_slist_prepend(nodes, b);
    }
    return bdrv_refresh_perms_tran(nodes, NULL, change->tran, errp);
}

bool graph_change_end(GraphChange *change, bool ok)
{
    tran_finalize(change->tran, ok ? 0 : -EPERM);
    bdrv_graph_wrunlock();
    for (guint i = 0; i < change->drained->len; i++) {
        bdrv_drained_end(change->drained->pdata[i]);
        bdrv_unref(change->drained->pdata[i]);
    }
    g_ptr_array_free(change->drained, true);
    g_ptr_array_free(change->limits, true);
    bdrv_process_unrefs();
    return ok;
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

    graph_change_init(&change);
    graph_change_add_node(&change, child);
    graph_change_lock(&change);
    edge = bdrv_attach_child_tran(parent, child, name, role, change.tran,
                                  errp);
    ok = edge && graph_change_settle(&change, parent, NULL, errp);
    ok = graph_change_end(&change, ok);
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
    graph_change_init(&change);
    graph_change_add_node(&change, child);
    graph_change_lock(&change);
    edge = bdrv_edge_add_tran(child, name, klass, role, perm, shared, opaque,
                              change.tran);
    ok = graph_change_settle(&change, child, NULL, errp);
    ok = graph_change_end(&change, ok);
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
    graph_change_init(&change);
    graph_change_add_node(&change, parent);
    graph_change_add_node(&change, below);
    graph_change_lock(&change);
    ok = bdrv_unref_child_tran(child, owner, change.tran, errp) &&
         graph_change_settle(&change, parent, below, errp);
    return graph_change_end(&change, ok);
}

/* --- what a node says of its backing file, in memory --- */

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
    if (child->klass->parent_is_bds && (child->role & BDRV_CHILD_COW)) {
        backing_names_tran(child->opaque, new_bs, tran);
    }
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

    graph_change_init(&change);
    graph_change_add_node(&change, old_bs);
    graph_change_add_node(&change, new_bs);
    graph_change_lock(&change);
    if (parent) {
        graph_change_keep_limits(&change, parent);
    }
    ok = bdrv_replace_child_tran(child, new_bs, owner, change.tran, errp) &&
         graph_change_settle(&change, old_bs, parent ? parent : new_bs, errp);
    return graph_change_end(&change, ok);
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

    graph_change_init(&change);
    graph_change_add_node(&change, from);
    graph_change_add_node(&change, to);
    graph_change_lock(&change);
    graph_change_keep_limits(&change, from);
    ok = bdrv_replace_node_tran(from, to, owner, change.tran, errp) &&
         graph_change_settle(&change, from, to, errp);
    return graph_change_end(&change, ok);
}

/* --- backing --- */

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
        return bdrv_replace_child_tran(edge, backing, owner, tran, errp);
    }
    if (edge ? !bdrv_unref_child_tran(edge, owner, tran, errp)
             : !bdrv_attach_child_tran(bs, backing, "backing", BDRV_CHILD_COW,
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

    graph_change_init(&change);
    graph_change_add_node(&change, bs);
    graph_change_add_node(&change, old);
    graph_change_add_node(&change, backing);
    graph_change_lock(&change);
    graph_change_keep_limits(&change, bs);
    ok = bdrv_set_backing_hd_tran(bs, backing, owner, change.tran, errp) &&
         graph_change_settle(&change, bs, old, errp);
    return graph_change_end(&change, ok);
}

static bool append_tran(GraphChange *change, const BdrvAppend *append,
                        BdrvClaimOwner *owner, Error **errp)
{
    if (append->overlay->backing) {
        error_setg(errp, "Node '%s' already has a backing file",
                   bdrv_get_node_name(append->overlay));
        return false;
    }
    return bdrv_set_backing_hd_tran(append->overlay, append->bs, owner,
                                    change->tran, errp) &&
           bdrv_replace_node_tran(append->bs, append->overlay, owner,
                                  change->tran, errp);
}

static bool append_flush(const BdrvAppend *append, Error **errp)
{
    int ret = bdrv_is_read_only(append->bs) ? 0 : bdrv_flush(append->bs);

    if (ret < 0) {
        error_setg_errno(errp, -ret, "Error flushing node '%s'",
                         bdrv_get_node_name(append->bs));
    }
    return ret == 0;
}

bool bdrv_append_multiple(const BdrvAppend *appends, unsigned n,
                          BdrvClaimOwner *owner, Error **errp)
{
    GraphChange change;
    bool ok = true;
    unsigned i;

    graph_change_init(&change);
    for (i = 0; i < n; i++) {
        graph_change_add_node(&change, appends[i].overlay);
        graph_change_add_node(&change, appends[i].bs);
    }
    for (i = 0; ok && i < n; i++) {
        ok = append_flush(&appends[i], errp);
    }
    graph_change_lock(&change);
    for (i = 0; ok && i < n; i++) {
        graph_change_keep_limits(&change, appends[i].overlay);
        graph_change_keep_limits(&change, appends[i].bs);
        ok = append_tran(&change, &appends[i], owner, errp);
    }
    /* All nodes concerned are among those whose limits follow. */
    ok = ok && graph_change_settle(&change, NULL, NULL, errp);
    return graph_change_end(&change, ok);
}

bool bdrv_append(BlockDriverState *overlay, BlockDriverState *bs,
                 BdrvClaimOwner *owner, Error **errp)
{
    BdrvAppend append = { overlay, bs };

    return bdrv_append_multiple(&append, 1, owner, errp);
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

/* Of the nodes above @bs, which itself is about to lose its children. */
static void keep_limits_above(GraphChange *change, BlockDriverState *bs)
{
    BdrvChild *c;

    QLIST_FOREACH(c, &bs->parents, next_parent) {
        if (c->klass->parent_is_bds) {
            graph_change_keep_limits(change, c->opaque);
        }
    }
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
    graph_change_init(&change);
    graph_change_add_node(&change, filter);
    graph_change_add_node(&change, below);
    graph_change_lock(&change);
    keep_limits_above(&change, filter);
    ok = bdrv_replace_node_tran(filter, below, owner, change.tran, errp) &&
         bdrv_unref_child_tran(edge, owner, change.tran, errp) &&
         graph_change_settle(&change, filter, below, errp);
    return graph_change_end(&change, ok);
}
