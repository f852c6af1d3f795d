/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Nodes: creation, names, references, closing.
 *
 * Closing may cascade along a chain of any length, so it is done from a
 * queue, not by recursion. While the graph is being changed (write lock held)
 * nothing is closed at all: closing does I/O, and the change may still abort.
 */
#include "util/osdep.h"
#include "block/block_int.h"
#include "block/damage.h"
#include "block/dirty-bitmap.h"
#include "block/graph-internal.h"
#include "block/home.h"
#include "util/cutils.h"
#include "util/id.h"

/* All nodes, oldest first. Main thread. */
static QTAILQ_HEAD(, BlockDriverState) all_nodes =
    QTAILQ_HEAD_INITIALIZER(all_nodes);

/* Nodes without references that still have to be closed. Main thread. */
static GQueue unref_queue = G_QUEUE_INIT;
static bool unref_running;

static bool node_assign_name(BlockDriverState *bs, const char *node_name,
                             Error **errp)
{
    static unsigned generated;

    if (!node_name) {
        /* '#' keeps generated names apart from all a user can give. */
        snprintf(bs->node_name, sizeof(bs->node_name), "#block%03u",
                 generated++);
        return true;
    }
    if (!id_wellformed(node_name)) {
        error_setg(errp, "Invalid node-name: '%s'", node_name);
        return false;
    }
    if (strlen(node_name) > BDRV_NODE_NAME_MAX) {
        error_setg(errp, "Node name too long");
        return false;
    }
    if (bdrv_find_node(node_name)) {
        error_setg(errp, "Duplicate nodes with node-name='%s'", node_name);
        return false;
    }
    pstrcpy(bs->node_name, sizeof(bs->node_name), node_name);
    return true;
}

BlockDriverState *bdrv_new_node(const char *node_name, Error **errp)
{
    BlockDriverState *bs = g_new0(BlockDriverState, 1);

    if (!node_assign_name(bs, node_name, errp)) {
        g_free(bs);
        return NULL;
    }
    QTAILQ_INIT(&bs->children);
    QLIST_INIT(&bs->parents);
    QLIST_INIT(&bs->tracked_requests);
    QLIST_INIT(&bs->dirty_bitmaps);
    qemu_mutex_init(&bs->reqs_lock);
    qemu_mutex_init(&bs->dirty_bitmap_mutex);
    qemu_co_queue_init(&bs->flush_queue);
    bs->refcnt = 1;
    bs->taken_shared = BLK_PERM_ALL;
    bs->bl.request_alignment = 1;
    bs->detect_zeroes = BLOCKDEV_DETECT_ZEROES_OPTIONS_OFF;
    QTAILQ_INSERT_TAIL(&all_nodes, bs, node_list);
    return bs;
}

BlockDriverState *bdrv_ref(BlockDriverState *bs)
{
    assert(bs->refcnt > 0);
    bs->refcnt++;
    return bs;
}

static void node_detach_children(BlockDriverState *bs)
{
    Transaction *tran = tran_new();
    g_autoptr(GPtrArray) below = g_ptr_array_new();
    BdrvChild *child, *next;

    bdrv_graph_wrlock();
    QTAILQ_FOREACH_SAFE(child, &bs->children, next, next) {
        /* Keeps the node until its permissions have been relaxed. */
        g_ptr_array_add(below, bdrv_ref(child->bs));
        bdrv_edge_remove_tran(child, tran);
    }
    tran_commit(tran);
    for (guint i = 0; i < below->len; i++) {
        bdrv_relax_perms(below->pdata[i]);
    }
    bdrv_graph_wrunlock();
    for (guint i = 0; i < below->len; i++) {
        bdrv_unref(below->pdata[i]);
    }
}

/* --- what gets lost --- */

static unsigned reported_losses;    /* atomic */

unsigned bdrv_reported_losses(void)
{
    return qatomic_read(&reported_losses);
}

void bdrv_abandon(BlockDriverState *bs)
{
    g_autoptr(GPtrArray) nodes = g_ptr_array_new();

    g_ptr_array_add(nodes, bs);
    for (guint i = 0; i < nodes->len; i++) {
        BdrvChild *c;

        bs = nodes->pdata[i];
        qatomic_set(&bs->loss_reported, true);
        QTAILQ_FOREACH(c, &bs->children, next) {
            if (!(c->role & BDRV_CHILD_COW) &&
                !qatomic_read(&c->bs->loss_reported)) {
                g_ptr_array_add(nodes, c->bs);
            }
        }
    }
}

void bdrv_report_loss(BlockDriverState *bs, const char *fmt, ...)
{
    va_list ap;

    if (qatomic_xchg(&bs->loss_reported, true)) {
        return;
    }
    qatomic_inc(&reported_losses);
    va_start(ap, fmt);
    error_vreport(fmt, ap);
    va_end(ap);
}

static void flush_before_close(BlockDriverState *bs)
{
    int ret = bdrv_flush(bs);

    /* A later flush may succeed without what this one has lost. */
    if (ret < 0 && ret != -ENOMEDIUM) {
        bdrv_report_loss(bs, "Failed to flush node '%s' when closing it: %s",
                         bdrv_get_device_or_node_name(bs), strerror(-ret));
    }
}

static void node_close(BlockDriverState *bs)
{
    assert(!bs->refcnt);
    assert(QLIST_EMPTY(&bs->parents));
    /* A claim holds references to both ends of its edge. */
    assert(!bdrv_claim_any_below(bs));

    bs->closing = true;
    bdrv_drained_begin(bs);
    if (bs->drv) {
        flush_before_close(bs);
        if (bs->drv->bdrv_close) {
            bs->drv->bdrv_close(bs);
        }
    }
    node_detach_children(bs);
    bdrv_drained_end(bs);
    bdrv_release_named_dirty_bitmaps(bs);
    assert(QLIST_EMPTY(&bs->dirty_bitmaps));
    assert(QLIST_EMPTY(&bs->tracked_requests));

    QTAILQ_REMOVE(&all_nodes, bs, node_list);
    qemu_mutex_destroy(&bs->reqs_lock);
    qemu_mutex_destroy(&bs->dirty_bitmap_mutex);
    user_object_unuse(bs->home);
    qapi_free_BlockdevOptions(bs->options);
    qobject_unref(bs->explicit_options);
    g_free(bs->relax_error);
    g_free(bs->header_backing_file);
    bdrv_damage_log_free(bs->damage);
    g_free(bs->opaque);
    g_free(bs);
}

void bdrv_process_unrefs(void)
{
    BlockDriverState *bs;

    if (unref_running || bdrv_graph_is_write_locked()) {
        return;
    }
    unref_running = true;
    while ((bs = g_queue_pop_head(&unref_queue))) {
        node_close(bs);
    }
    unref_running = false;
}

void bdrv_unref(BlockDriverState *bs)
{
    if (!bs) {
        return;
    }
    assert(bs->refcnt > 0);
    if (--bs->refcnt == 0) {
        g_queue_push_tail(&unref_queue, bs);
    }
    bdrv_process_unrefs();
}

BlockDriverState *bdrv_find_node(const char *node_name)
{
    BlockDriverState *bs;

    QTAILQ_FOREACH(bs, &all_nodes, node_list) {
        if (bs->refcnt && !strcmp(bs->node_name, node_name)) {
            return bs;
        }
    }
    return NULL;
}

BlockDriverState *bdrv_lookup_node(const char *node_name, Error **errp)
{
    BlockDriverState *bs = bdrv_find_node(node_name);

    if (!bs) {
        error_setg(errp, "Failed to find node with node-name='%s'", node_name);
    }
    return bs;
}

BlockDriverState *bdrv_next_node_or_closing(BlockDriverState *bs)
{
    return bs ? QTAILQ_NEXT(bs, node_list) : QTAILQ_FIRST(&all_nodes);
}

BlockDriverState *bdrv_next_node(BlockDriverState *bs)
{
    do {
        bs = bdrv_next_node_or_closing(bs);
    } while (bs && !bs->refcnt);
    return bs;
}

const char *bdrv_get_node_name(const BlockDriverState *bs)
{
    return bs->node_name;
}

const char *bdrv_get_device_or_node_name(const BlockDriverState *bs)
{
    return bs->node_name[0] == '#' && bs->filename[0] ? bs->filename
                                                      : bs->node_name;
}

const char *bdrv_get_format_name(BlockDriverState *bs)
{
    return bs->drv ? bs->drv->format_name : NULL;
}

bool bdrv_is_root_node(BlockDriverState *bs)
{
    BdrvChild *c;

    QLIST_FOREACH(c, &bs->parents, next_parent) {
        if (c->klass->parent_is_bds) {
            return false;
        }
    }
    return true;
}

void bdrv_close_all(void)
{
    BlockDriverState *bs = bdrv_next_node(NULL);

    while (bs) {
        BlockDriverState *next = bdrv_next_node(bs);

        if (bs->monitor_owned) {
            bs->monitor_owned = false;
            bdrv_unref(bs);
            /* Closing one may have closed others. */
            next = bdrv_next_node(NULL);
        }
        bs = next;
    }
    assert(QTAILQ_EMPTY(&all_nodes));
}
