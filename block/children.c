/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Children by name; those that a user adds to a node, or takes away from it. */
#include "util/osdep.h"
#include "block/block_int.h"
#include "block/graph-internal.h"

BdrvChild *bdrv_find_child(BlockDriverState *bs, const char *name)
{
    BdrvChild *child;

    QTAILQ_FOREACH(child, &bs->children, next) {
        if (!strcmp(child->name, name)) {
            return child;
        }
    }
    return NULL;
}

static bool check_add(BlockDriverState *parent, BlockDriverState *child,
                      Error **errp)
{
    if (!parent->drv || !parent->drv->bdrv_add_child) {
        error_setg(errp, "The node %s does not support adding a child",
                   bdrv_get_device_or_node_name(parent));
        return false;
    }
    if (!QLIST_EMPTY(&child->parents)) {
        error_setg(errp, "The node %s already has a parent",
                   bdrv_get_node_name(child));
        return false;
    }
    return true;
}

/* From the first change to its end; @child is drained with the parent. */
static void change_begin(GraphChange *change, BlockDriverState *parent,
                         BlockDriverState *child)
{
    graph_change_init(change);
    graph_change_add_node(change, parent);
    graph_change_add_node(change, child);
    graph_change_lock(change);
}

/* @ok: the driver has done its part. Returns whether all is done. */
static bool change_end(GraphChange *change, BlockDriverState *parent,
                       BlockDriverState *child, bool ok, Error **errp)
{
    ok = ok && graph_change_settle(change, parent, child, errp);
    ok = graph_change_end(change, ok);
    bdrv_refresh_filename(parent);
    return ok;
}

bool bdrv_add_child(BlockDriverState *parent, BlockDriverState *child,
                    Error **errp)
{
    GraphChange change;
    bool ok;

    if (!check_add(parent, child, errp)) {
        return false;
    }
    change_begin(&change, parent, child);
    ok = parent->drv->bdrv_add_child(parent, child, change.tran, errp);
    return change_end(&change, parent, child, ok, errp);
}

bool bdrv_del_child(BlockDriverState *parent, BdrvChild *child, Error **errp)
{
    BlockDriverState *below = child->bs;
    GraphChange change;
    bool ok;

    assert(child->opaque == parent);
    if (!parent->drv || !parent->drv->bdrv_del_child) {
        error_setg(errp, "The node %s does not support removing a child",
                   bdrv_get_device_or_node_name(parent));
        return false;
    }
    change_begin(&change, parent, below);
    ok = parent->drv->bdrv_del_child(parent, child, change.tran, errp);
    return change_end(&change, parent, below, ok, errp);
}
