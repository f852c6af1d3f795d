/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Flushing a node: its driver's caches go to the children, what the driver
 * itself stores becomes durable, and then the children are flushed.
 *
 * 1. bs->write_gen counts the changes that have reached the driver. A flush
 *    notes the count when it starts: everything up to it has completed and is
 *    durable when the flush succeeds (bs->flushed_gen).
 * 2. One flush at a time runs on a node; the others wait for it. One that
 *    finds its count covered then leaves out the expensive step, so that any
 *    number of concurrent flushes costs two.
 * 3. Only that step can be left out: the driver's caches and the children also
 *    see changes that nobody counted here, such as metadata.
 */
#include "util/osdep.h"
#include "block/block_int.h"
#include "util/atomic.h"
#include "util/coroutine.h"
#include "util/lockable.h"

/* Waits until no other flush runs on @bs, and keeps others out. */
static void coroutine_fn flush_enter(BlockDriverState *bs)
{
    QEMU_LOCK_GUARD(&bs->reqs_lock);
    while (bs->active_flush_req) {
        qemu_co_queue_wait(&bs->flush_queue, &bs->reqs_lock);
    }
    bs->active_flush_req = true;
}

static void coroutine_fn flush_leave(BlockDriverState *bs)
{
    QEMU_LOCK_GUARD(&bs->reqs_lock);
    bs->active_flush_req = false;
    qemu_co_queue_next(&bs->flush_queue);
}

/* The expensive step. @needed: changes up to this count must be durable. */
static int coroutine_fn flush_own_storage(BlockDriverState *bs,
                                          uint64_t needed)
{
    uint64_t covered = qatomic_load_acquire(&bs->write_gen);
    int ret;

    /* flushed_gen is written by the active flush only, which this is. */
    if (!bs->drv->bdrv_co_flush_to_disk || bs->flushed_gen >= needed) {
        return 0;
    }
    bdrv_co_debug_event(bs, BLKDBG_FLUSH_TO_DISK);
    ret = bs->drv->bdrv_co_flush_to_disk(bs);
    if (ret >= 0) {
        bs->flushed_gen = covered;
    }
    return MIN(ret, 0);
}

static int coroutine_fn flush_children(BlockDriverState *bs)
{
    BdrvChild *child;
    int ret = 0;

    /* Every one of them, also after an error: each is somebody's data. */
    QTAILQ_FOREACH(child, &bs->children, next) {
        if (child->perm & (BLK_PERM_WRITE | BLK_PERM_WRITE_UNCHANGED)) {
            int this_ret = bdrv_co_flush(child->bs);

            ret = ret < 0 ? ret : this_ret;
        }
    }
    return ret;
}

static int coroutine_fn flush_active(BlockDriverState *bs, uint64_t needed)
{
    int ret = 0;

    if (bs->drv->bdrv_co_flush_to_os) {
        bdrv_co_debug_event(bs, BLKDBG_FLUSH_TO_OS);
        ret = bs->drv->bdrv_co_flush_to_os(bs);
        if (ret < 0) {
            return ret;
        }
    }
    /* cache.no-flush of this node does not speak for its children. */
    if (!(bs->open_flags & BDRV_O_NO_FLUSH)) {
        ret = flush_own_storage(bs, needed);
        if (ret < 0) {
            return ret;
        }
    }
    if (bs->drv->bdrv_co_flush_children) {
        return bs->drv->bdrv_co_flush_children(bs);
    }
    return flush_children(bs);
}

int coroutine_fn bdrv_co_flush(BlockDriverState *bs)
{
    uint64_t needed;
    int ret;

    if (!bs->drv) {
        return -ENOMEDIUM;
    }
    /* What an inactive node had is flushed, and the file is not its any more. */
    if (!(bs->open_flags & BDRV_O_RDWR) || qatomic_read(&bs->inactive)) {
        return 0;
    }
    bdrv_inc_in_flight(bs);
    needed = qatomic_load_acquire(&bs->write_gen);
    flush_enter(bs);
    ret = flush_active(bs, needed);
    flush_leave(bs);
    bdrv_dec_in_flight(bs);
    return ret;
}
