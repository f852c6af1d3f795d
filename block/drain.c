/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Draining: bringing the requests to a node to rest.
 *
 * 1. bs->quiesce_counter is how many drained sections the node is in: those
 *    begun on it, and one for every edge to a quiesced node below it. When it
 *    leaves zero every parent is told to stop, when it returns to zero to go on.
 * 2. A parent that is a node is quiesced in turn, so that the stop reaches
 *    everybody above who issues requests. That is a loop over a list and not
 *    recursion: chains are as long as users make them.
 * 3. child->quiesced_parent says that the parent was told because of this
 *    edge. It is told once an edge, whatever the counter is.
 * 4. A node has settled when it and all nodes above have no request in flight
 *    and no parent reports work. Requests in flight drop to zero in any
 *    thread, with aio_wait_kick().
 */
#include "util/osdep.h"
#include "block/block_int.h"
#include "util/aio.h"
#include "util/atomic.h"

/* Sections of bdrv_drain_all_begin(): GPtrArrays of nodes, referenced. */
static GPtrArray *drain_all_sections;

/* ------------------------------------------------------ begin, end, poll */

static void quiesce_parent(BdrvChild *edge, GPtrArray *todo)
{
    assert(!edge->quiesced_parent);
    edge->quiesced_parent = true;
    if (edge->klass->parent_is_bds) {
        g_ptr_array_add(todo, edge->opaque);
    } else if (edge->klass->drained_begin) {
        edge->klass->drained_begin(edge);
    }
}

static void unquiesce_parent(BdrvChild *edge, GPtrArray *todo)
{
    assert(edge->quiesced_parent);
    edge->quiesced_parent = false;
    if (edge->klass->parent_is_bds) {
        g_ptr_array_add(todo, edge->opaque);
    } else if (edge->klass->drained_end) {
        edge->klass->drained_end(edge);
    }
}

/* One more section for every node in @todo, which is emptied. */
static void quiesce_nodes(GPtrArray *todo)
{
    while (todo->len) {
        BlockDriverState *bs = g_ptr_array_steal_index_fast(todo,
                                                            todo->len - 1);
        BdrvChild *edge;

        if (qatomic_fetch_inc(&bs->quiesce_counter) > 0) {
            continue;
        }
        if (bs->drv && bs->drv->bdrv_drained_begin) {
            bs->drv->bdrv_drained_begin(bs);
        }
        QLIST_FOREACH(edge, &bs->parents, next_parent) {
            /* Attached by whoever is in the middle of a graph change. */
            if (!edge->quiesced_parent) {
                quiesce_parent(edge, todo);
            }
        }
    }
}

static void unquiesce_nodes(GPtrArray *todo)
{
    while (todo->len) {
        BlockDriverState *bs = g_ptr_array_steal_index_fast(todo,
                                                            todo->len - 1);
        BdrvChild *edge;
        int old = qatomic_fetch_dec(&bs->quiesce_counter);

        assert(old > 0);
        if (old > 1) {
            continue;
        }
        if (bs->drv && bs->drv->bdrv_drained_end) {
            bs->drv->bdrv_drained_end(bs);
        }
        QLIST_FOREACH(edge, &bs->parents, next_parent) {
            if (edge->quiesced_parent) {
                unquiesce_parent(edge, todo);
            }
        }
    }
}

bool bdrv_drain_poll(BlockDriverState *bs)
{
    g_autoptr(GPtrArray) todo = g_ptr_array_new();
    g_autoptr(GHashTable) seen = g_hash_table_new(NULL, NULL);
    BdrvChild *edge;
    guint i;

    GLOBAL_STATE_CODE();
    g_ptr_array_add(todo, bs);
    g_hash_table_add(seen, bs);
    for (i = 0; i < todo->len; i++) {
        BlockDriverState *node = g_ptr_array_index(todo, i);

        if (qatomic_load_seq_cst(&node->in_flight)) {
            return true;
        }
        QLIST_FOREACH(edge, &node->parents, next_parent) {
            if (edge->klass->parent_is_bds) {
                if (g_hash_table_add(seen, edge->opaque)) {
                    g_ptr_array_add(todo, edge->opaque);
                }
            } else if (edge->klass->drained_poll &&
                       edge->klass->drained_poll(edge)) {
                return true;
            }
        }
    }
    return false;
}

void bdrv_drained_begin_nopoll(BlockDriverState *bs)
{
    g_autoptr(GPtrArray) todo = g_ptr_array_new();

    GLOBAL_STATE_CODE();
    g_ptr_array_add(todo, bs);
    quiesce_nodes(todo);
}

void bdrv_drained_begin(BlockDriverState *bs)
{
    assert(!qemu_in_coroutine());
    bdrv_drained_begin_nopoll(bs);
    if (!bdrv_drain_poll(bs)) {
        return;
    }
    /* Whoever holds the write lock keeps out what is waited for. */
    assert(!bdrv_graph_is_write_locked());
    bdrv_graph_wrlock_yield_begin();
    AIO_WAIT_WHILE(NULL, bdrv_drain_poll(bs));
    bdrv_graph_wrlock_yield_end();
}

void bdrv_drained_end(BlockDriverState *bs)
{
    g_autoptr(GPtrArray) todo = g_ptr_array_new();

    GLOBAL_STATE_CODE();
    g_ptr_array_add(todo, bs);
    unquiesce_nodes(todo);
}

/* -------------------------------------------------------- for graph code */

void bdrv_parent_drained_begin_single(BdrvChild *child)
{
    g_autoptr(GPtrArray) todo = g_ptr_array_new();

    GLOBAL_STATE_CODE();
    if (child->quiesced_parent || !child->bs ||
        qatomic_read(&child->bs->quiesce_counter) == 0) {
        return;
    }
    quiesce_parent(child, todo);
    quiesce_nodes(todo);
}

void bdrv_parent_drained_end_single(BdrvChild *child)
{
    g_autoptr(GPtrArray) todo = g_ptr_array_new();

    GLOBAL_STATE_CODE();
    if (!child->quiesced_parent) {
        return;
    }
    unquiesce_parent(child, todo);
    unquiesce_nodes(todo);
}

/* ------------------------------------------------------------- all nodes */

static bool drain_all_poll(GPtrArray *nodes)
{
    guint i;

    for (i = 0; i < nodes->len; i++) {
        if (bdrv_drain_poll(g_ptr_array_index(nodes, i))) {
            return true;
        }
    }
    return false;
}

static void unref_node(gpointer bs)
{
    bdrv_unref(bs);
}

void bdrv_drain_all_begin(void)
{
    GPtrArray *nodes = g_ptr_array_new_with_free_func(unref_node);
    BlockDriverState *bs = NULL;
    guint i;

    GLOBAL_STATE_CODE();
    assert(!qemu_in_coroutine());
    while ((bs = bdrv_next_node(bs))) {
        g_ptr_array_add(nodes, bdrv_ref(bs));
    }
    if (!drain_all_sections) {
        drain_all_sections = g_ptr_array_new();
    }
    g_ptr_array_add(drain_all_sections, nodes);
    for (i = 0; i < nodes->len; i++) {
        bdrv_drained_begin_nopoll(g_ptr_array_index(nodes, i));
    }
    if (!drain_all_poll(nodes)) {
        return;
    }
    assert(!bdrv_graph_is_write_locked());
    bdrv_graph_wrlock_yield_begin();
    AIO_WAIT_WHILE(NULL, drain_all_poll(nodes));
    bdrv_graph_wrlock_yield_end();
}

void bdrv_drain_all_end(void)
{
    GPtrArray *nodes;
    guint i;

    GLOBAL_STATE_CODE();
    assert(drain_all_sections && drain_all_sections->len);
    nodes = g_ptr_array_steal_index_fast(drain_all_sections,
                                         drain_all_sections->len - 1);
    for (i = 0; i < nodes->len; i++) {
        bdrv_drained_end(g_ptr_array_index(nodes, i));
    }
    g_ptr_array_unref(nodes);
    if (drain_all_sections->len == 0) {
        g_ptr_array_unref(drain_all_sections);
        drain_all_sections = NULL;
    }
}

void bdrv_drain_all(void)
{
    bdrv_drain_all_begin();
    bdrv_drain_all_end();
}
