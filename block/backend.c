/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * BlockBackends: who owns them, the edge to their node, their permissions.
 *
 * The edge ("root") exists while there is a node. It is set and cleared under
 * the graph write lock, because requests in other threads look at it.
 */
#include "util/osdep.h"
#include "block/backend-internal.h"
#include "util/aio.h"
#include "util/atomic.h"
#include "util/lockable.h"

static QTAILQ_HEAD(, BlockBackend) all_backends =
    QTAILQ_HEAD_INITIALIZER(all_backends);

/* -------------------------------------------------- the edge's callbacks */

static char *root_get_parent_desc(BdrvChild *child)
{
    BlockBackend *blk = child->opaque;

    if (blk->owner) {
        return g_strdup(blk->owner);
    }
    return blk->name ? g_strdup_printf("block device '%s'", blk->name)
                     : g_strdup("an unnamed block device");
}

static void root_drained_begin(BdrvChild *child)
{
    BlockBackend *blk = child->opaque;

    qatomic_inc(&blk->quiesce_counter);
}

static bool root_drained_poll(BdrvChild *child)
{
    BlockBackend *blk = child->opaque;

    return qatomic_load_seq_cst(&blk->in_flight) > 0;
}

static void root_drained_end(BdrvChild *child)
{
    BlockBackend *blk = child->opaque;

    assert(qatomic_read(&blk->quiesce_counter) > 0);
    if (qatomic_fetch_dec(&blk->quiesce_counter) == 1) {
        blk_wake_queued(blk);
    }
}

/* Whoever only reads can have errors; a writer has to say so. */
static bool root_may_be_inactive(BdrvChild *child)
{
    BlockBackend *blk = child->opaque;

    return blk->allow_inactive ||
           !(child->perm & ~(uint64_t)BLK_PERM_CONSISTENT_READ);
}

static void root_resize(BdrvChild *child)
{
    BlockBackend *blk = child->opaque;

    QEMU_LOCK_GUARD(&blk->queue_lock);
    if (blk->resize_bh) {
        qemu_bh_schedule(blk->resize_bh);
    }
}

static const BdrvChildClass child_root = {
    .get_parent_desc = root_get_parent_desc,
    .drained_begin = root_drained_begin,
    .drained_poll = root_drained_poll,
    .drained_end = root_drained_end,
    .may_be_inactive = root_may_be_inactive,
    .resize = root_resize,
};

/* ------------------------------------------------------------------ life */

BlockBackend *blk_new(uint64_t perm, uint64_t shared)
{
    BlockBackend *blk = g_new0(BlockBackend, 1);

    GLOBAL_STATE_CODE();
    blk->refcnt = 1;
    blk->perm = perm;
    blk->shared_perm = shared;
    blk->enable_write_cache = true;
    qemu_mutex_init(&blk->queue_lock);
    qemu_co_queue_init(&blk->queue);
    block_acct_init(&blk->stats);
    QTAILQ_INSERT_TAIL(&all_backends, blk, link);
    return blk;
}

BlockBackend *blk_new_with_bs(BlockDriverState *bs, uint64_t perm,
                              uint64_t shared, Error **errp)
{
    BlockBackend *blk = blk_new(perm, shared);

    if (!blk_insert_bs(blk, bs, errp)) {
        blk_unref(blk);
        return NULL;
    }
    return blk;
}

BlockBackend *blk_new_open_perm(const char *filename, const char *reference,
                                QDict *options, int flags, uint64_t perm,
                                uint64_t shared, Error **errp)
{
    g_autoptr(BlockDriverState) bs = bdrv_open(filename, reference, options,
                                               flags, errp);

    return bs ? blk_new_with_bs(bs, perm, shared, errp) : NULL;
}

/*
 * What a user wants who opens a node for itself, by @flags:
 *
 *   NO_IO           nothing
 *   else            CONSISTENT_READ
 *   and with RDWR   WRITE
 *
 * It shares everything: nobody else sees the node, and towards other processes
 * the format drivers take what their images need. Who resizes the node asks
 * for RESIZE when it does.
 */
BlockBackend *blk_new_open(const char *filename, const char *reference,
                           QDict *options, int flags, Error **errp)
{
    uint64_t perm = 0;

    if (!(flags & BDRV_O_NO_IO)) {
        perm |= BLK_PERM_CONSISTENT_READ;
        if (flags & BDRV_O_RDWR) {
            perm |= BLK_PERM_WRITE;
        }
    }
    return blk_new_open_perm(filename, reference, options, flags, perm,
                             BLK_PERM_ALL, errp);
}

void blk_ref(BlockBackend *blk)
{
    GLOBAL_STATE_CODE();
    assert(blk->refcnt > 0);
    blk->refcnt++;
}

void blk_unref(BlockBackend *blk)
{
    GLOBAL_STATE_CODE();
    if (!blk) {
        return;
    }
    assert(blk->refcnt > 0);
    if (blk->refcnt > 1) {
        blk->refcnt--;
        return;
    }
    /* Polling may run callbacks that use @blk: it is alive until after that. */
    blk_drain(blk);
    if (--blk->refcnt > 0) {
        return;
    }
    blk_remove_bs(blk);
    assert(qatomic_read(&blk->in_flight) == 0);
    assert(qemu_co_queue_empty(&blk->queue));
    QTAILQ_REMOVE(&all_backends, blk, link);
    blk_set_resize_cb(blk, NULL, NULL);
    block_acct_cleanup(&blk->stats);
    qemu_mutex_destroy(&blk->queue_lock);
    g_free(blk->name);
    g_free(blk->owner);
    g_free(blk);
}

void blk_set_resize_cb(BlockBackend *blk, void (*cb)(void *opaque),
                       void *opaque)
{
    QEMUBH *bh = cb ? aio_bh_new(qemu_get_aio_context(), cb, opaque) : NULL;

    GLOBAL_STATE_CODE();
    WITH_QEMU_LOCK_GUARD(&blk->queue_lock) {
        QEMUBH *old = blk->resize_bh;

        blk->resize_bh = bh;
        bh = old;
    }
    qemu_bh_delete(bh);
}

BlockBackend *blk_next(BlockBackend *blk)
{
    GLOBAL_STATE_CODE();
    return blk ? QTAILQ_NEXT(blk, link) : QTAILQ_FIRST(&all_backends);
}

void blk_set_name(BlockBackend *blk, const char *name)
{
    GLOBAL_STATE_CODE();
    g_free(blk->name);
    blk->name = g_strdup(name);
}

void blk_set_owner(BlockBackend *blk, const char *fmt, ...)
{
    va_list ap;

    GLOBAL_STATE_CODE();
    g_free(blk->owner);
    va_start(ap, fmt);
    blk->owner = g_strdup_vprintf(fmt, ap);
    va_end(ap);
}

const char *blk_name(const BlockBackend *blk)
{
    return blk->name;
}

/* -------------------------------------------------------------- the edge */

BlockDriverState *blk_bs(BlockBackend *blk)
{
    return blk->root ? blk->root->bs : NULL;
}

BdrvChild *blk_root(BlockBackend *blk)
{
    return blk->root;
}

static void set_root(BlockBackend *blk, BdrvChild *root)
{
    bdrv_graph_wrlock();
    blk->root = root;
    bdrv_graph_wrunlock();
}

bool blk_insert_bs(BlockBackend *blk, BlockDriverState *bs, Error **errp)
{
    BdrvChild *root;

    GLOBAL_STATE_CODE();
    assert(!blk->root);
    root = bdrv_root_attach_child(bdrv_ref(bs), "root", &child_root,
                                  BDRV_CHILD_FILTERED | BDRV_CHILD_PRIMARY,
                                  blk->perm, blk->shared_perm, blk, errp);
    if (!root) {
        return false;
    }
    set_root(blk, root);
    return true;
}

void blk_remove_bs(BlockBackend *blk)
{
    BdrvChild *root = blk->root;
    BlockDriverState *bs;

    GLOBAL_STATE_CODE();
    if (!root) {
        return;
    }
    bs = bdrv_ref(root->bs);
    bdrv_drained_begin(bs);
    /* Requests that come from here on find no medium. */
    set_root(blk, NULL);
    bdrv_root_unref_child(root);
    bdrv_drained_end(bs);
    bdrv_unref(bs);
}

bool blk_replace_bs(BlockBackend *blk, BlockDriverState *bs, Error **errp)
{
    GLOBAL_STATE_CODE();
    assert(blk->root);
    return bdrv_replace_child_bs(blk->root, bs, NULL, errp);
}

bool blk_set_perm(BlockBackend *blk, uint64_t perm, uint64_t shared,
                  Error **errp)
{
    GLOBAL_STATE_CODE();
    if (blk->root &&
        !bdrv_child_try_set_perm(blk->root, perm, shared, errp)) {
        return false;
    }
    blk->perm = perm;
    blk->shared_perm = shared;
    return true;
}

void blk_get_perm(BlockBackend *blk, uint64_t *perm, uint64_t *shared)
{
    GLOBAL_STATE_CODE();
    *perm = blk->perm;
    *shared = blk->shared_perm;
}

void blk_drain(BlockBackend *blk)
{
    BlockDriverState *bs = blk_bs(blk);

    GLOBAL_STATE_CODE();
    if (bs) {
        bdrv_ref(bs);
        bdrv_drained_begin(bs);
    }
    /* Without a node nothing queues, and requests end by themselves. */
    if (qatomic_load_seq_cst(&blk->in_flight)) {
        assert(!bdrv_graph_is_write_locked());
        bdrv_graph_wrlock_yield_begin();
        AIO_WAIT_WHILE(NULL, qatomic_load_seq_cst(&blk->in_flight) > 0);
        bdrv_graph_wrlock_yield_end();
    }
    if (bs) {
        bdrv_drained_end(bs);
        bdrv_unref(bs);
    }
}

/* ------------------------------------------------------------ properties */

void blk_set_enable_write_cache(BlockBackend *blk, bool wce)
{
    qatomic_set(&blk->enable_write_cache, wce);
}

bool blk_enable_write_cache(BlockBackend *blk)
{
    return qatomic_read(&blk->enable_write_cache);
}

void blk_set_allow_inactive(BlockBackend *blk)
{
    GLOBAL_STATE_CODE();
    blk->allow_inactive = true;
}

void blk_set_allow_write_beyond_eof(BlockBackend *blk, bool allow)
{
    qatomic_set(&blk->allow_write_beyond_eof, allow);
}

void blk_set_disable_request_queuing(BlockBackend *blk, bool disable)
{
    qatomic_set(&blk->disable_request_queuing, disable);
    if (disable) {
        /* What is queued already fails, too. */
        blk_wake_queued(blk);
    }
}

bool blk_is_available(BlockBackend *blk)
{
    BlockDriverState *bs = blk_bs(blk);

    return bs && bs->drv;
}

bool blk_is_writable(BlockBackend *blk)
{
    return blk->perm & BLK_PERM_WRITE;
}

uint32_t blk_get_request_alignment(BlockBackend *blk)
{
    BlockDriverState *bs = blk_bs(blk);

    return bs ? bs->bl.request_alignment : BDRV_SECTOR_SIZE;
}

uint32_t blk_get_max_transfer(BlockBackend *blk)
{
    BlockDriverState *bs = blk_bs(blk);
    uint32_t max = bs ? bs->bl.max_transfer : 0;

    return ROUND_DOWN(MIN_NON_ZERO(max, (uint32_t)BDRV_REQUEST_MAX_BYTES),
                      blk_get_request_alignment(blk));
}

int blk_get_max_iov(BlockBackend *blk)
{
    BlockDriverState *bs = blk_bs(blk);

    return bs && bs->bl.max_iov ? bs->bl.max_iov : IOV_MAX;
}

void *blk_blockalign(BlockBackend *blk, size_t size)
{
    return qemu_blockalign(blk_bs(blk), size);
}

BlockAcctStats *blk_get_stats(BlockBackend *blk)
{
    return &blk->stats;
}
