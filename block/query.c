/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The graph as data: query-block-graph (ours: with claims and relax errors)
 * and QEMU's x-debug-query-block-graph.
 */
#include "util/osdep.h"
#include "block/block_int.h"

static BlockPermissionList *permission_list(uint64_t perm)
{
    static const struct {
        uint64_t bit;
        BlockPermission qapi;
    } map[] = {
        { BLK_PERM_RESIZE, BLOCK_PERMISSION_RESIZE },
        { BLK_PERM_WRITE_UNCHANGED, BLOCK_PERMISSION_WRITE_UNCHANGED },
        { BLK_PERM_WRITE, BLOCK_PERMISSION_WRITE },
        { BLK_PERM_CONSISTENT_READ, BLOCK_PERMISSION_CONSISTENT_READ },
    };
    BlockPermissionList *list = NULL;

    for (int i = 0; i < ARRAY_SIZE(map); i++) {
        if (perm & map[i].bit) {
            QAPI_LIST_PREPEND(list, map[i].qapi);
        }
    }
    return list;
}

static char *parent_name(BdrvChild *c)
{
    if (c->klass->parent_is_bds) {
        BlockDriverState *parent = c->opaque;
        return g_strdup(bdrv_get_node_name(parent));
    }
    return c->klass->get_parent_desc(c);
}

static BlockGraphEdge *query_edge(BdrvChild *c)
{
    BlockGraphEdge *edge = g_new0(BlockGraphEdge, 1);

    edge->parent = parent_name(c);
    edge->child = g_strdup(bdrv_get_node_name(c->bs));
    edge->name = g_strdup(c->name);
    edge->perm = permission_list(c->perm);
    edge->shared_perm = permission_list(c->shared_perm);
    edge->claims = bdrv_claim_query(c);
    return edge;
}

BlockGraph *bdrv_query_block_graph(void)
{
    BlockGraph *graph = g_new0(BlockGraph, 1);

    for (BlockDriverState *bs = bdrv_next_node(NULL); bs;
         bs = bdrv_next_node(bs)) {
        BlockGraphNode *node = g_new0(BlockGraphNode, 1);
        BdrvChild *c;

        node->name = g_strdup(bdrv_get_node_name(bs));
        node->driver = g_strdup(bs->drv ? bs->drv->format_name : "");
        node->relax_errors = bs->relax_errors;
        node->relax_pending = bs->relax_pending;
        node->relax_error = g_strdup(bs->relax_error);
        QAPI_LIST_PREPEND(graph->nodes, node);
        QLIST_FOREACH(c, &bs->parents, next_parent) {
            BlockGraphEdge *edge = query_edge(c);
            QAPI_LIST_PREPEND(graph->edges, edge);
        }
    }
    return graph;
}

/* --- x-debug-query-block-graph: numbered nodes --- */

typedef struct Numbering {
    XDbgBlockGraph *graph;
    GHashTable *ids;            /* object -> number */
    uint64_t next;
} Numbering;

static uint64_t number_of(Numbering *n, void *object,
                          XDbgBlockGraphNodeType type, const char *name)
{
    uint64_t *id = g_hash_table_lookup(n->ids, object);
    XDbgBlockGraphNode *node;

    if (id) {
        return *id;
    }
    id = g_new(uint64_t, 1);
    *id = ++n->next;
    g_hash_table_insert(n->ids, object, id);

    node = g_new0(XDbgBlockGraphNode, 1);
    node->id = *id;
    node->type = type;
    node->name = g_strdup(name);
    QAPI_LIST_PREPEND(n->graph->nodes, node);
    return *id;
}

static void number_edge(Numbering *n, BdrvChild *c)
{
    XDbgBlockGraphEdge *edge = g_new0(XDbgBlockGraphEdge, 1);
    g_autofree char *parent = parent_name(c);

    edge->parent = number_of(n, c->opaque,
                             c->klass->parent_is_bds
                                 ? X_DBG_BLOCK_GRAPH_NODE_TYPE_BLOCK_DRIVER
                                 : X_DBG_BLOCK_GRAPH_NODE_TYPE_BLOCK_BACKEND,
                             parent);
    edge->child = number_of(n, c->bs,
                            X_DBG_BLOCK_GRAPH_NODE_TYPE_BLOCK_DRIVER,
                            bdrv_get_node_name(c->bs));
    edge->name = g_strdup(c->name);
    edge->perm = permission_list(c->perm);
    edge->shared_perm = permission_list(c->shared_perm);
    QAPI_LIST_PREPEND(n->graph->edges, edge);
}

XDbgBlockGraph *bdrv_get_xdbg_block_graph(Error **errp)
{
    Numbering n = {
        .graph = g_new0(XDbgBlockGraph, 1),
        .ids = g_hash_table_new_full(NULL, NULL, NULL, g_free),
    };

    for (BlockDriverState *bs = bdrv_next_node(NULL); bs;
         bs = bdrv_next_node(bs)) {
        BdrvChild *c;

        number_of(&n, bs, X_DBG_BLOCK_GRAPH_NODE_TYPE_BLOCK_DRIVER,
                  bdrv_get_node_name(bs));
        QLIST_FOREACH(c, &bs->parents, next_parent) {
            number_edge(&n, c);
        }
    }
    g_hash_table_unref(n.ids);
    return n.graph;
}
