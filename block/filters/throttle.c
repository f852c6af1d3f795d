/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The filter "throttle": requests wait until the limits of the node's throttle
 * group allow them. Limits belong to the object; the group of a node can change
 * by reopen. A drained node does not wait.
 */
#include "util/osdep.h"
#include "block/driver-table.h"
#include "block/filters/filter.h"
#include "objects/throttle-group.h"
#include "util/atomic.h"

typedef struct BDRVThrottleState {
    /* NULL while being opened. Changed by reopen, with the node drained. */
    ThrottleMember *member;
} BDRVThrottleState;

/* --- membership --- */

static bool is_drained(BlockDriverState *bs)
{
    return qatomic_read(&bs->quiesce_counter) > 0;
}

static ThrottleMember *join(BlockDriverState *bs, const char *id, Error **errp)
{
    ThrottleMember *member = g_new0(ThrottleMember, 1);

    if (!throttle_member_join(member, id, errp)) {
        g_free(member);
        return NULL;
    }
    if (is_drained(bs)) {
        throttle_member_unlimited_begin(member);
    }
    return member;
}

static void leave(ThrottleMember *member)
{
    throttle_member_leave(member);
    g_free(member);
}

static void throttle_drained_begin(BlockDriverState *bs)
{
    BDRVThrottleState *s = bs->opaque;

    if (s->member) {
        throttle_member_unlimited_begin(s->member);
    }
}

static void throttle_drained_end(BlockDriverState *bs)
{
    BDRVThrottleState *s = bs->opaque;

    if (s->member) {
        throttle_member_unlimited_end(s->member);
    }
}

/* --- open, close, reopen --- */

static int throttle_open(BlockDriverState *bs, BlockdevOptions *options,
                         int flags, Error **errp)
{
    BDRVThrottleState *s = bs->opaque;
    const BlockdevOptionsThrottle *o = &options->u.throttle;

    if (!filter_open_file(bs, o->file, errp)) {
        return -EINVAL;
    }
    s->member = join(bs, o->throttle_group, errp);
    return s->member ? 0 : -EINVAL;
}

static void throttle_close(BlockDriverState *bs)
{
    BDRVThrottleState *s = bs->opaque;

    leave(s->member);
    s->member = NULL;
}

static int throttle_reopen_prepare(BDRVReopenState *state,
                                   BlockReopenQueue *queue, Error **errp)
{
    BDRVThrottleState *s = state->bs->opaque;
    const char *id = state->options->u.throttle.throttle_group;

    if (strcmp(id, throttle_member_group_id(s->member))) {
        state->opaque = join(state->bs, id, errp);
        return state->opaque ? 0 : -EINVAL;
    }
    return 0;
}

static void throttle_reopen_commit(BDRVReopenState *state)
{
    BDRVThrottleState *s = state->bs->opaque;

    if (state->opaque) {
        leave(s->member);
        s->member = state->opaque;
    }
}

static void throttle_reopen_abort(BDRVReopenState *state)
{
    if (state->opaque) {
        leave(state->opaque);
    }
}

/* --- requests --- */

static void coroutine_fn wait_for(BlockDriverState *bs,
                                  ThrottleDirection direction, int64_t bytes)
{
    BDRVThrottleState *s = bs->opaque;

    throttle_member_wait(s->member, direction, bytes);
}

static int coroutine_fn throttle_co_preadv(BlockDriverState *bs,
                                           int64_t offset, int64_t bytes,
                                           QEMUIOVector *qiov,
                                           size_t qiov_offset,
                                           BdrvRequestFlags flags)
{
    wait_for(bs, THROTTLE_READ, bytes);
    return filter_co_preadv(bs, offset, bytes, qiov, qiov_offset, flags);
}

static int coroutine_fn throttle_co_pwritev(BlockDriverState *bs,
                                            int64_t offset, int64_t bytes,
                                            QEMUIOVector *qiov,
                                            size_t qiov_offset,
                                            BdrvRequestFlags flags)
{
    wait_for(bs, THROTTLE_WRITE, bytes);
    return filter_co_pwritev(bs, offset, bytes, qiov, qiov_offset, flags);
}

static int coroutine_fn throttle_co_pwrite_zeroes(BlockDriverState *bs,
                                                  int64_t offset,
                                                  int64_t bytes,
                                                  BdrvRequestFlags flags)
{
    wait_for(bs, THROTTLE_WRITE, bytes);
    return filter_co_pwrite_zeroes(bs, offset, bytes, flags);
}

static int coroutine_fn throttle_co_pdiscard(BlockDriverState *bs,
                                             int64_t offset, int64_t bytes)
{
    wait_for(bs, THROTTLE_WRITE, bytes);
    return filter_co_pdiscard(bs, offset, bytes);
}

static const char *const throttle_reopen_options[] = {
    "throttle-group", NULL
};
static const char *const throttle_weak_options[] = {
    "throttle-group", NULL
};

BlockDriver bdrv_throttle = {
    .format_name = "throttle",
    .id = BLOCKDEV_DRIVER_THROTTLE,
    .instance_size = sizeof(BDRVThrottleState),
    .is_filter = true,
    .supports_inactive = true,
    .bdrv_open = throttle_open,
    .bdrv_close = throttle_close,
    .bdrv_reopen_prepare = throttle_reopen_prepare,
    .bdrv_reopen_commit = throttle_reopen_commit,
    .bdrv_reopen_abort = throttle_reopen_abort,
    .reopen_options = throttle_reopen_options,
    .weak_options = throttle_weak_options,
    .bdrv_refresh_limits = filter_refresh_limits,
    .bdrv_drained_begin = throttle_drained_begin,
    .bdrv_drained_end = throttle_drained_end,
    .bdrv_co_preadv = throttle_co_preadv,
    .bdrv_co_pwritev = throttle_co_pwritev,
    .bdrv_co_pwrite_zeroes = throttle_co_pwrite_zeroes,
    .bdrv_co_pdiscard = throttle_co_pdiscard,
    .bdrv_co_block_status = bdrv_co_filter_block_status,
};
