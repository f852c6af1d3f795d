/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Making an end of requests that wait. */
#include "util/osdep.h"
#include "block/block_int.h"
#include "block/graph-internal.h"
#include "util/aio.h"

static void hurry(BlockDriverState *bs)
{
    if (bs->drv && bs->drv->bdrv_hurry) {
        bs->drv->bdrv_hurry(bs);
    }
}

void bdrv_hurry(BlockDriverState *bs)
{
    /* Chains are long, and branches may meet again. */
    g_autoptr(GHashTable) seen = g_hash_table_new(NULL, NULL);
    g_autoptr(GPtrArray) todo = g_ptr_array_new();

    GLOBAL_STATE_CODE();
    g_ptr_array_add(todo, bs);
    while (todo->len) {
        BlockDriverState *node = g_ptr_array_steal_index_fast(todo,
                                                              todo->len - 1);
        BdrvChild *edge;

        if (!g_hash_table_add(seen, node)) {
            continue;
        }
        hurry(node);
        QTAILQ_FOREACH(edge, &node->children, next) {
            g_ptr_array_add(todo, edge->bs);
        }
    }
}

void bdrv_hurry_all(void)
{
    BlockDriverState *bs;

    GLOBAL_STATE_CODE();
    for (bs = bdrv_next_node_or_closing(NULL); bs;
         bs = bdrv_next_node_or_closing(bs)) {
        hurry(bs);
    }
}
