/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Walking the graph: which child stands for a node, skipping filters, backing
 * chains, reachability.
 */
#include "util/osdep.h"
#include "block/block_int.h"
#include "block/graph-internal.h"

static BdrvChild *child_with_role(BlockDriverState *bs, BdrvChildRole role)
{
    BdrvChild *c;

    QTAILQ_FOREACH(c, &bs->children, next) {
        if (c->role & role) {
            return c;
        }
    }
    return NULL;
}

BdrvChild *bdrv_primary_child(BlockDriverState *bs)
{
    return child_with_role(bs, BDRV_CHILD_PRIMARY);
}

BdrvChild *bdrv_filter_child(BlockDriverState *bs)
{
    if (!bs || !bs->drv || !bs->drv->is_filter) {
        return NULL;
    }
    return child_with_role(bs, BDRV_CHILD_FILTERED);
}

BdrvChild *bdrv_cow_child(BlockDriverState *bs)
{
    return bs ? bs->backing : NULL;
}

BdrvChild *bdrv_filter_or_cow_child(BlockDriverState *bs)
{
    BdrvChild *filtered = bdrv_filter_child(bs);

    return filtered ? filtered : bdrv_cow_child(bs);
}

BlockDriverState *bdrv_skip_filters(BlockDriverState *bs)
{
    BdrvChild *c;

    while ((c = bdrv_filter_child(bs))) {
        bs = c->bs;
    }
    return bs;
}

BlockDriverState *bdrv_backing_chain_next(BlockDriverState *bs)
{
    return bdrv_skip_filters(bdrv_cow_bs(bdrv_skip_filters(bs)));
}

bool bdrv_chain_contains(BlockDriverState *top, BlockDriverState *base)
{
    while (top && top != base) {
        top = bdrv_filter_or_cow_bs(top);
    }
    return top != NULL;
}

BlockDriverState *bdrv_find_overlay(BlockDriverState *active,
                                    BlockDriverState *base)
{
    while (active) {
        BlockDriverState *below = bdrv_filter_or_cow_bs(active);

        if (below == base) {
            return active;
        }
        active = below;
    }
    return NULL;
}

BlockDriverState *bdrv_find_base(BlockDriverState *bs)
{
    BlockDriverState *below;

    while ((below = bdrv_filter_or_cow_bs(bs))) {
        bs = below;
    }
    return bs;
}

static bool is_same_file(const char *a, const char *b)
{
    struct stat x, y;

    return a[0] && b[0] && stat(a, &x) == 0 && stat(b, &y) == 0 &&
           x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

/* Is @below, the backing file of @overlay, called @name? */
static bool names_backing(BlockDriverState *overlay, BlockDriverState *below,
                          const char *name)
{
    g_autofree char *path = NULL;

    if (!strcmp(name, overlay->backing_file)) {
        return true;
    }
    bdrv_refresh_filename(overlay);
    if (is_same_file(below->exact_filename, name) ||
        !strcmp(below->filename, name)) {
        return true;
    }
    path = bdrv_get_full_backing_filename_from_filename(overlay->filename,
                                                        name, NULL);
    return path && is_same_file(below->exact_filename, path);
}

BlockDriverState *bdrv_find_backing_image(BlockDriverState *bs,
                                          const char *name)
{
    BlockDriverState *below;

    for (bs = bdrv_skip_filters(bs); (below = bdrv_backing_chain_next(bs));
         bs = below) {
        if (names_backing(bs, below, name)) {
            return below;
        }
    }
    return NULL;
}

bool bdrv_reaches(BlockDriverState *from, BlockDriverState *to)
{
    g_autoptr(GHashTable) seen = g_hash_table_new(NULL, NULL);
    g_autoptr(GPtrArray) todo = g_ptr_array_new();

    g_ptr_array_add(todo, from);
    while (todo->len) {
        BlockDriverState *bs = todo->pdata[todo->len - 1];
        BdrvChild *c;

        g_ptr_array_set_size(todo, todo->len - 1);
        if (bs == to) {
            return true;
        }
        if (g_hash_table_add(seen, bs)) {
            QTAILQ_FOREACH(c, &bs->children, next) {
                g_ptr_array_add(todo, c->bs);
            }
        }
    }
    return false;
}

GPtrArray *bdrv_nodes_above(BlockDriverState *bs)
{
    g_autoptr(GHashTable) seen = g_hash_table_new(NULL, NULL);
    g_autoptr(GHashTable) done = g_hash_table_new(NULL, NULL);
    g_autoptr(GPtrArray) stack = g_ptr_array_new();
    GPtrArray *order = g_ptr_array_new();

    /* Depth first: a node is finished after all above it. */
    g_ptr_array_add(stack, bs);
    while (stack->len) {
        BlockDriverState *node = stack->pdata[stack->len - 1];
        BdrvChild *c;

        if (g_hash_table_add(seen, node)) {
            QLIST_FOREACH(c, &node->parents, next_parent) {
                if (c->klass->parent_is_bds &&
                    !g_hash_table_contains(seen, c->opaque)) {
                    g_ptr_array_add(stack, c->opaque);
                }
            }
            continue;
        }
        g_ptr_array_set_size(stack, stack->len - 1);
        if (g_hash_table_add(done, node)) {
            g_ptr_array_insert(order, 0, node);
        }
    }
    return order;
}
