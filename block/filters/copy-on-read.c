/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The filter "copy-on-read": what is read and lies further down in the chain is
 * left in the node below, so that it is there the next time.
 *
 * With "bottom" only what that node or one above it holds is copied. The chain
 * from the child to it is claimed: nothing can come to be below the bottom that
 * was above it.
 */
#include "util/osdep.h"
#include "block/driver-table.h"
#include "block/filters/filter.h"

typedef struct BDRVCopyOnReadState {
    BlockDriverState *bottom;   /* NULL: all is copied; a reference */
    BdrvClaimOwner *owner;      /* NULL without a bottom */
    /* The child that the claims begin at; main thread. */
    BlockDriverState *top;
} BDRVCopyOnReadState;

/* --- open, close, reopen --- */

static bool claim_chain(BlockDriverState *bs, Error **errp)
{
    BDRVCopyOnReadState *s = bs->opaque;

    if (!bdrv_chain_claim(s->owner, bs->file->bs, s->bottom, BDRV_CLAIM_FREEZE,
                          errp)) {
        return false;
    }
    s->top = bs->file->bs;
    return true;
}

static bool take_bottom(BlockDriverState *bs, const char *name, Error **errp)
{
    BDRVCopyOnReadState *s = bs->opaque;
    BlockDriverState *bottom = bdrv_find_node(name);

    if (!bottom) {
        error_setg(errp, "Bottom node '%s' not found", name);
        return false;
    }
    if (bottom->drv->is_filter) {
        error_setg(errp, "Bottom node '%s' is a filter", name);
        return false;
    }
    s->owner = bdrv_claim_owner_new("copy-on-read node '%s'",
                                    bdrv_get_node_name(bs));
    s->bottom = bdrv_ref(bottom);
    return claim_chain(bs, errp);
}

static void copy_on_read_close(BlockDriverState *bs)
{
    BDRVCopyOnReadState *s = bs->opaque;

    bdrv_claim_owner_free(s->owner);
    bdrv_unref(s->bottom);
}

static int copy_on_read_open(BlockDriverState *bs, BlockdevOptions *options,
                             int flags, Error **errp)
{
    const BlockdevOptionsCor *o = &options->u.copy_on_read;

    if (!filter_open_file(bs, o->file, errp)) {
        return -EINVAL;
    }
    if (o->bottom && !take_bottom(bs, o->bottom, errp)) {
        copy_on_read_close(bs);
        return -EINVAL;
    }
    return 0;
}

/* Another child must have the bottom below it, too: claims are taken there
 * first, and those on the former one are given back at the end. */
static int copy_on_read_reopen_prepare(BDRVReopenState *state,
                                       BlockReopenQueue *queue, Error **errp)
{
    BDRVCopyOnReadState *s = state->bs->opaque;
    BlockDriverState *old = s->top;

    if (!s->bottom || old == state->bs->file->bs) {
        return 0;
    }
    if (!claim_chain(state->bs, errp)) {
        return -EINVAL;
    }
    state->opaque = old;
    return 0;
}

static void copy_on_read_reopen_commit(BDRVReopenState *state)
{
    BDRVCopyOnReadState *s = state->bs->opaque;

    if (state->opaque) {
        bdrv_chain_release(s->owner, state->opaque, s->bottom,
                           BDRV_CLAIM_FREEZE);
    }
}

static void copy_on_read_reopen_abort(BDRVReopenState *state)
{
    BDRVCopyOnReadState *s = state->bs->opaque;

    if (state->opaque) {
        bdrv_chain_release(s->owner, s->top, s->bottom, BDRV_CLAIM_FREEZE);
        s->top = state->opaque;
    }
}

static void copy_on_read_child_perm(BlockDriverState *bs, BdrvChild *child,
                                    BdrvChildRole role,
                                    BlockReopenQueue *queue,
                                    uint64_t parent_perm,
                                    uint64_t parent_shared,
                                    uint64_t *nperm, uint64_t *nshared)
{
    bdrv_default_perms(bs, child, role, queue, parent_perm, parent_shared,
                       nperm, nshared);
    *nperm |= BLK_PERM_WRITE_UNCHANGED;
}

/* --- requests --- */

static int coroutine_fn copy_on_read_co_preadv(BlockDriverState *bs,
                                               int64_t offset, int64_t bytes,
                                               QEMUIOVector *qiov,
                                               size_t qiov_offset,
                                               BdrvRequestFlags flags)
{
    BDRVCopyOnReadState *s = bs->opaque;

    if (!s->bottom) {
        return bdrv_co_preadv_part(bs->file, offset, bytes, qiov, qiov_offset,
                                   flags | BDRV_REQ_COPY_ON_READ);
    }
    while (bytes) {
        int64_t n = bytes;
        BdrvRequestFlags now = flags;
        int ret = bdrv_co_is_allocated_above(bs->file->bs, s->bottom, true,
                                             offset, bytes, &n);

        /* What cannot be told is read, which says why. Beyond the end of the
         * node there is nothing to copy. */
        n = ret < 0 || n == 0 ? bytes : n;
        if (ret > 1) {
            now |= BDRV_REQ_COPY_ON_READ;
        }
        if (!(now & BDRV_REQ_PREFETCH) || (now & BDRV_REQ_COPY_ON_READ)) {
            ret = bdrv_co_preadv_part(bs->file, offset, n, qiov, qiov_offset,
                                      now);
            if (ret < 0) {
                return ret;
            }
        }
        offset += n;
        qiov_offset += n;
        bytes -= n;
    }
    return 0;
}

BlockDriver bdrv_copy_on_read = {
    .format_name = "copy-on-read",
    .id = BLOCKDEV_DRIVER_COPY_ON_READ,
    .instance_size = sizeof(BDRVCopyOnReadState),
    .is_filter = true,
    .supports_inactive = true,
    .bdrv_open = copy_on_read_open,
    .bdrv_close = copy_on_read_close,
    .bdrv_reopen_prepare = copy_on_read_reopen_prepare,
    .bdrv_reopen_commit = copy_on_read_reopen_commit,
    .bdrv_reopen_abort = copy_on_read_reopen_abort,
    .bdrv_child_perm = copy_on_read_child_perm,
    .bdrv_refresh_limits = filter_refresh_limits,
    .bdrv_co_preadv = copy_on_read_co_preadv,
    .bdrv_co_pwritev = filter_co_pwritev,
    .bdrv_co_pwrite_zeroes = filter_co_pwrite_zeroes,
    .bdrv_co_pdiscard = filter_co_pdiscard,
    .bdrv_co_block_status = bdrv_co_filter_block_status,
};
