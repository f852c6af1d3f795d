/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Emptying an image, so that its backing file shows everywhere. Internal
 * snapshots and VM state keep what they have.
 *
 * The mappings go first, then the L2 tables that held them; both are free for
 * others only when a flush has made their absence durable (free.c). A crash or
 * an error in between leaves an image that is empty in part.
 */
#include "util/osdep.h"
#include "util/lockable.h"
#include "block/qcow2/qcow2.h"

/* The tables of the guest's part of the disk, which hold nothing. [lock] */
static int coroutine_fn drop_l2_tables(BlockDriverState *bs)
{
    BDRVQcow2State *s = bs->opaque;
    uint64_t size = MIN(size_to_l1(s, s->disk_size), s->l1.size);
    const uint64_t none = 0;
    int ret;

    for (uint64_t i = 0; i < size; i++) {
        uint64_t offset = s->l1.entries[i] & L1E_OFFSET_MASK;

        if (!offset || offset_into_cluster(s, offset)) {
            continue;
        }
        qcow2_l1_update(bs, i, 1, &none);
        qcow2_free_clusters(bs, offset, s->cluster_size, QCOW2_DISCARD_ALWAYS);
        ret = qcow2_free_throttle(bs);
        if (ret < 0) {
            return ret;
        }
    }
    return qcow2_flush_metadata(bs);
}

static int coroutine_fn make_empty(BlockDriverState *bs)
{
    BDRVQcow2State *s = bs->opaque;
    uint64_t end = ROUND_UP(s->disk_size, (uint64_t)s->cluster_size);
    int ret;

    if (qcow2_data_file_is_raw(bs)) {
        /* Nothing lies below, and the L2 tables stay as they are. */
        return qcow2_data_file_zero(bs, 0, end, true);
    }
    ret = qcow2_cluster_discard(bs, 0, end, QCOW2_DISCARD_ALWAYS, true);
    if (ret < 0) {
        return ret;
    }
    QEMU_LOCK_GUARD(&s->lock);
    return drop_l2_tables(bs);
}

int coroutine_fn qcow2_co_make_empty(BlockDriverState *bs)
{
    BDRVQcow2State *s = bs->opaque;
    Qcow2Request req;
    int ret;

    if (qcow2_is_stopped(s)) {
        return -EUCLEAN;
    }
    qcow2_request_begin(&s->inflight, &req, 0, INT64_MAX, true);
    ret = make_empty(bs);
    qcow2_request_end(&s->inflight, &req);
    if (ret == 0) {
        qcow2_trim_file(bs);
    }
    return ret;
}
