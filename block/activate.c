/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Deactivating and activating nodes; see block/activate.h.
 *
 * BDRV_O_INACTIVE in bs->open_flags is what permissions go by (permission.c);
 * bs->inactive makes backends refuse requests. They differ while a node is
 * opened or activated: its driver has to read then.
 *
 * Storing everything can fail and changes nothing that anybody sees, so it
 * comes first, for all nodes; giving up cannot fail.
 */
#include "util/osdep.h"
#include "block/activate.h"
#include "block/block_int.h"
#include "block/dirty-bitmap.h"
#include "block/graph-internal.h"
#include "block/io-internal.h"

bool bdrv_is_inactive(BlockDriverState *bs)
{
    return bs->open_flags & BDRV_O_INACTIVE;
}

bool bdrv_check_active(BlockDriverState *bs, Error **errp)
{
    if (bdrv_is_inactive(bs)) {
        error_setg(errp, "Node '%s' is inactive", bdrv_get_node_name(bs));
        return false;
    }
    return true;
}

/* --- what may be inactive --- */

static bool check_driver(BlockDriverState *bs, const BlockDriver *drv,
                         Error **errp)
{
    if (!drv || !drv->supports_inactive) {
        error_setg(errp, "Block driver '%s' of node '%s' does not support "
                   "inactive nodes", drv ? drv->format_name : "",
                   bdrv_get_node_name(bs));
        return false;
    }
    return true;
}

bool bdrv_can_open_inactive(BlockDriverState *bs, const BlockDriver *drv,
                            Error **errp)
{
    return !bdrv_is_inactive(bs) || check_driver(bs, drv, errp);
}

bool bdrv_users_allow_inactive(BlockDriverState *bs, Error **errp)
{
    BdrvChild *c;

    if (!bdrv_is_inactive(bs)) {
        return true;
    }
    QLIST_FOREACH(c, &bs->parents, next_parent) {
        g_autofree char *user = NULL;

        if (c->klass->parent_is_bds ? bdrv_is_inactive(c->opaque)
            : c->klass->may_be_inactive && c->klass->may_be_inactive(c)) {
            continue;
        }
        user = c->klass->get_parent_desc(c);
        if (c->klass->parent_is_bds) {
            error_setg(errp, "Inactive node '%s' can't be a '%s' child of "
                       "active %s", bdrv_get_node_name(bs), c->name, user);
        } else {
            error_setg(errp, "Node '%s' cannot be inactive while it is used "
                       "by %s", bdrv_get_node_name(bs), user);
        }
        return false;
    }
    return true;
}

static BlockDriverState *active_parent(BlockDriverState *bs)
{
    BdrvChild *c;

    QLIST_FOREACH(c, &bs->parents, next_parent) {
        if (c->klass->parent_is_bds && !bdrv_is_inactive(c->opaque)) {
            return c->opaque;
        }
    }
    return NULL;
}

static void set_flags(GPtrArray *nodes, bool inactive)
{
    for (guint i = 0; i < nodes->len; i++) {
        BlockDriverState *bs = nodes->pdata[i];

        bs->open_flags = inactive ? bs->open_flags | BDRV_O_INACTIVE
                                  : bs->open_flags & ~BDRV_O_INACTIVE;
    }
}

/*
 * Moves those of @below (parents first) to @chosen that become inactive with
 * @top (NULL: all), and marks them so, for the parents of others to be known.
 */
static bool mark_to_inactivate(BlockDriverState *top, GPtrArray *below,
                               GPtrArray *chosen, Error **errp)
{
    for (guint i = 0; i < below->len; i++) {
        BlockDriverState *bs = below->pdata[i];
        BlockDriverState *parent = active_parent(bs);

        if (bdrv_is_inactive(bs)) {
            continue;
        }
        if (parent && bs == top) {
            error_setg(errp, "Node '%s' has active parent node '%s'",
                       bdrv_get_node_name(bs), bdrv_get_node_name(parent));
            return false;
        }
        if (!parent) {
            bs->open_flags |= BDRV_O_INACTIVE;
            g_ptr_array_add(chosen, bs);
        }
    }
    for (guint i = 0; i < chosen->len; i++) {
        BlockDriverState *bs = chosen->pdata[i];

        if (!check_driver(bs, bs->drv, errp) ||
            !bdrv_users_allow_inactive(bs, errp)) {
            return false;
        }
    }
    return true;
}

/* --- deactivating --- */

static bool prepare_inactive(BlockDriverState *bs, Error **errp)
{
    int ret;

    if (bs->drv->bdrv_prepare_inactive &&
        bs->drv->bdrv_prepare_inactive(bs, errp) < 0) {
        return false;
    }
    ret = bdrv_flush(bs);
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Error flushing node '%s'",
                         bdrv_get_node_name(bs));
    }
    return ret >= 0;
}

static void become_inactive(BlockDriverState *bs)
{
    qatomic_set(&bs->inactive, true);
    if (bs->drv->bdrv_set_inactive) {
        bs->drv->bdrv_set_inactive(bs);
    }
}

/* @nodes: parents first. */
static void give_up(GPtrArray *nodes)
{
    bdrv_graph_change_begin();
    set_flags(nodes, true);
    for (guint i = 0; i < nodes->len; i++) {
        bdrv_relax_perms(nodes->pdata[i]);
    }
    bdrv_graph_change_end();
}

static bool inactivate(BlockDriverState *top, GPtrArray *below, Error **errp)
{
    g_autoptr(GPtrArray) nodes = g_ptr_array_new();
    bool ok = mark_to_inactivate(top, below, nodes, errp);

    set_flags(nodes, false);
    for (guint i = 0; ok && i < nodes->len; i++) {
        ok = prepare_inactive(nodes->pdata[i], errp);
    }
    if (!ok) {
        return false;
    }
    for (guint i = 0; i < nodes->len; i++) {
        become_inactive(nodes->pdata[i]);
    }
    give_up(nodes);
    return true;
}

void bdrv_settle_inactive(BlockDriverState *bs)
{
    GSList top = { .data = bs };
    g_autoptr(GPtrArray) below = bdrv_nodes_top_down(&top);

    for (guint i = 0; i < below->len; i++) {
        BlockDriverState *node = below->pdata[i];

        if (bdrv_is_inactive(node) && !qatomic_read(&node->inactive)) {
            become_inactive(node);
        }
    }
}

/* --- activating --- */

static bool take_perms(GPtrArray *nodes, Error **errp)
{
    g_autoptr(GSList) list = NULL;
    Transaction *tran = tran_new();
    bool ok;

    for (guint i = 0; i < nodes->len; i++) {
        list = g_slist_prepend(list, nodes->pdata[i]);
    }
    bdrv_graph_change_begin();
    set_flags(nodes, false);
    ok = bdrv_refresh_perms_tran(list, NULL, tran, errp);
    if (!ok) {
        set_flags(nodes, true);
    }
    tran_finalize(tran, ok ? 0 : -EPERM);
    bdrv_graph_change_end();
    return ok;
}

/* Persistent ones were read. */
static void dirty_bitmaps_missed_all(BlockDriverState *bs)
{
    BdrvDirtyBitmap *b;

    for (b = bdrv_dirty_bitmap_first(bs); b; b = bdrv_dirty_bitmap_next(b)) {
        if (!bdrv_dirty_bitmap_get_persistence(b)) {
            bdrv_dirty_bitmap_missed_all(b);
        }
    }
}

static bool become_active(BlockDriverState *bs, Error **errp)
{
    Error *err = NULL;
    int ret = 0;

    qatomic_set(&bs->inactive, false);
    if (bs->drv->bdrv_activate) {
        ret = bs->drv->bdrv_activate(bs, &err);
    }
    if (ret >= 0) {
        ret = bdrv_follow_length(bs);
    }
    if (ret < 0) {
        if (!err) {
            error_setg_errno(&err, -ret, "Could not get the size of node '%s'",
                             bdrv_get_node_name(bs));
        }
        error_propagate_prepend(errp, err, "Could not activate node '%s': ",
                                bdrv_get_node_name(bs));
        return false;
    }
    /* Nothing that could fail with the same children. */
    bdrv_refresh_limits(bs, NULL);
    bdrv_dirty_bitmap_follow_length(bs);
    dirty_bitmaps_missed_all(bs);
    return true;
}

/* The first @n of @nodes (children first) were tried, the last one in vain. */
static void undo_activate(GPtrArray *nodes, guint n)
{
    g_autoptr(GPtrArray) parents_first = g_ptr_array_new();

    for (guint i = nodes->len; i-- > 0; ) {
        g_ptr_array_add(parents_first, nodes->pdata[i]);
    }
    for (guint i = n; i-- > 0; ) {
        BlockDriverState *bs = nodes->pdata[i];
        Error *err = NULL;

        /* Nobody has used it: what fails here had not to be stored. */
        if (i < n - 1 && !prepare_inactive(bs, &err)) {
            error_free(err);
        }
        become_inactive(bs);
    }
    give_up(parents_first);
}

/* The option "active" has had its effect; a later reopen does not repeat it. */
static void forget_option(BlockDriverState *bs)
{
    if (bs->explicit_options) {
        qdict_del(bs->explicit_options, "active");
    }
    if (bs->options) {
        bs->options->has_active = false;
    }
}

static bool activate(GPtrArray *below, Error **errp)
{
    g_autoptr(GPtrArray) nodes = g_ptr_array_new();

    for (guint i = below->len; i-- > 0; ) {
        if (bdrv_is_inactive(below->pdata[i])) {
            g_ptr_array_add(nodes, below->pdata[i]);
        }
    }
    if (!take_perms(nodes, errp)) {
        return false;
    }
    for (guint i = 0; i < nodes->len; i++) {
        if (!become_active(nodes->pdata[i], errp)) {
            undo_activate(nodes, i + 1);
            return false;
        }
    }
    for (guint i = 0; i < nodes->len; i++) {
        forget_option(nodes->pdata[i]);
    }
    return true;
}

/* --- both --- */

/* @bs (NULL: all nodes) and all below, parents first, drained and kept. */
static GPtrArray *quiesce(BlockDriverState *bs)
{
    g_autoptr(GSList) tops = NULL;
    GPtrArray *nodes;

    if (bs) {
        tops = g_slist_prepend(tops, bs);
    } else {
        while ((bs = bdrv_next_node(bs))) {
            tops = g_slist_prepend(tops, bs);
        }
    }
    nodes = bdrv_nodes_top_down(tops);
    for (guint i = 0; i < nodes->len; i++) {
        bdrv_ref(nodes->pdata[i]);
    }
    for (guint i = 0; i < nodes->len; i++) {
        bdrv_drained_begin(nodes->pdata[i]);
    }
    return nodes;
}

static void resume(GPtrArray *nodes)
{
    for (guint i = 0; i < nodes->len; i++) {
        bdrv_drained_end(nodes->pdata[i]);
    }
    for (guint i = 0; i < nodes->len; i++) {
        bdrv_unref(nodes->pdata[i]);
    }
    g_ptr_array_free(nodes, true);
}

bool bdrv_activate(BlockDriverState *bs, Error **errp)
{
    GPtrArray *below = quiesce(bs);
    bool ok = activate(below, errp);

    resume(below);
    return ok;
}

bool bdrv_inactivate(BlockDriverState *bs, Error **errp)
{
    GPtrArray *below = quiesce(bs);
    bool ok = inactivate(bs, below, errp);

    resume(below);
    return ok;
}
