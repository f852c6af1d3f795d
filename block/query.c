/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The graph as data: query-block-graph (ours: with claims and relax errors)
 * and QEMU's x-debug-query-block-graph. Nodes and their users are numbered
 * afresh in every answer.
 */
#include "util/osdep.h"
#include "block/block_int.h"
#include "block/blockjob.h"
#include "block/home.h"

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

/* One answer being made; a node is announced when it is first numbered. */
typedef struct Numbering {
    GHashTable *ids;            /* object -> number */
    uint64_t last;
    void (*announce)(void *opaque, uint64_t id,
                     XDbgBlockGraphNodeType type, void *object,
                     const char *name);
    bool job_ids;               /* a job's name is its id */
    void (*edge)(void *opaque, BdrvChild *c, uint64_t parent, uint64_t child);
    void *opaque;
} Numbering;

static uint64_t number_of(Numbering *n, void *object,
                          XDbgBlockGraphNodeType type, const char *name)
{
    uint64_t *id = g_hash_table_lookup(n->ids, object);

    if (!id) {
        id = g_new(uint64_t, 1);
        *id = ++n->last;
        g_hash_table_insert(n->ids, object, id);
        n->announce(n->opaque, *id, type, object, name);
    }
    return *id;
}

static uint64_t number_of_node(Numbering *n, BlockDriverState *bs)
{
    return number_of(n, bs, X_DBG_BLOCK_GRAPH_NODE_TYPE_BLOCK_DRIVER,
                     bdrv_get_node_name(bs));
}

static uint64_t number_of_parent(Numbering *n, BdrvChild *c)
{
    g_autofree char *name = NULL;
    const char *job_id;

    if (c->klass->parent_is_bds) {
        return number_of_node(n, c->opaque);
    }
    name = c->klass->get_parent_desc(c);
    if (block_job_is_parent(c, &job_id)) {
        return number_of(n, c->opaque, X_DBG_BLOCK_GRAPH_NODE_TYPE_BLOCK_JOB,
                         n->job_ids ? job_id : name);
    }
    return number_of(n, c->opaque ? c->opaque : c,
                     X_DBG_BLOCK_GRAPH_NODE_TYPE_BLOCK_BACKEND, name);
}

static void number_graph(Numbering *n)
{
    n->ids = g_hash_table_new_full(NULL, NULL, NULL, g_free);
    for (BlockDriverState *bs = bdrv_next_node(NULL); bs;
         bs = bdrv_next_node(bs)) {
        uint64_t id = number_of_node(n, bs);
        BdrvChild *c;

        QLIST_FOREACH(c, &bs->parents, next_parent) {
            n->edge(n->opaque, c, number_of_parent(n, c), id);
        }
    }
    g_hash_table_unref(n->ids);
}

/* --- query-block-graph --- */

static void graph_node(void *opaque, uint64_t id, XDbgBlockGraphNodeType type,
                       void *object, const char *name)
{
    BlockGraph *graph = opaque;
    BlockGraphNode *node = g_new0(BlockGraphNode, 1);

    node->id = id;
    node->type = type;
    node->name = g_strdup(name);
    if (type == X_DBG_BLOCK_GRAPH_NODE_TYPE_BLOCK_DRIVER) {
        BlockDriverState *bs = object;

        node->relax_errors = bs->relax_errors;
        node->relax_pending = bs->relax_pending;
        node->relax_error = g_strdup(bs->relax_error);
        node->iothread = bs->home ? g_strdup(user_object_id(bs->home)) : NULL;
    }
    QAPI_LIST_PREPEND(graph->nodes, node);
}

static void graph_edge(void *opaque, BdrvChild *c, uint64_t parent,
                       uint64_t child)
{
    BlockGraph *graph = opaque;
    BlockGraphEdge *edge = g_new0(BlockGraphEdge, 1);

    edge->parent = parent;
    edge->child = child;
    edge->name = g_strdup(c->name);
    edge->perm = permission_list(c->perm);
    edge->shared_perm = permission_list(c->shared_perm);
    edge->claims = bdrv_claim_query(c);
    QAPI_LIST_PREPEND(graph->edges, edge);
}

BlockGraph *bdrv_query_block_graph(void)
{
    BlockGraph *graph = g_new0(BlockGraph, 1);
    Numbering n = {
        .announce = graph_node,
        .edge = graph_edge,
        .opaque = graph,
    };

    number_graph(&n);
    return graph;
}

/* --- x-debug-query-block-graph --- */

static void xdbg_node(void *opaque, uint64_t id, XDbgBlockGraphNodeType type,
                      void *object, const char *name)
{
    XDbgBlockGraph *graph = opaque;
    XDbgBlockGraphNode *node = g_new0(XDbgBlockGraphNode, 1);

    node->id = id;
    node->type = type;
    node->name = g_strdup(name);
    QAPI_LIST_PREPEND(graph->nodes, node);
}

static void xdbg_edge(void *opaque, BdrvChild *c, uint64_t parent,
                      uint64_t child)
{
    XDbgBlockGraph *graph = opaque;
    XDbgBlockGraphEdge *edge = g_new0(XDbgBlockGraphEdge, 1);

    edge->parent = parent;
    edge->child = child;
    edge->name = g_strdup(c->name);
    edge->perm = permission_list(c->perm);
    edge->shared_perm = permission_list(c->shared_perm);
    QAPI_LIST_PREPEND(graph->edges, edge);
}

XDbgBlockGraph *bdrv_get_xdbg_block_graph(Error **errp)
{
    XDbgBlockGraph *graph = g_new0(XDbgBlockGraph, 1);
    Numbering n = {
        .announce = xdbg_node,
        .job_ids = true,
        .edge = xdbg_edge,
        .opaque = graph,
    };

    number_graph(&n);
    return graph;
}
