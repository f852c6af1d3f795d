/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Writing zeroes by changing L2 entries only.
 *
 * Without MAY_UNMAP a cluster that is allocated keeps its host cluster and
 * gets the zero flag; with it the host cluster is freed. Version 2 has no zero
 * flag: a cluster can be unallocated there if nothing shows through, else the
 * generic layer writes zeroes.
 */
#include "util/osdep.h"
#include "util/lockable.h"
#include "block/qcow2/qcow2.h"

/* The @n clusters from @offset, all in one slice. [lock] */
static int coroutine_fn zero_in_slice(BlockDriverState *bs, uint64_t offset,
                                      uint64_t n, bool unmap)
{
    BDRVQcow2State *s = bs->opaque;
    uint64_t *slice;
    int idx, ret;

    ret = qcow2_l2_get_writable(bs, offset, &slice, &idx);
    if (ret < 0) {
        return ret;
    }
    for (uint64_t i = 0; i < n; i++) {
        uint64_t old = get_l2_entry(slice, idx + i);
        QCow2ClusterType type = qcow2_get_cluster_type(s, old);
        bool keep = !unmap && (type == QCOW2_CLUSTER_NORMAL ||
                               type == QCOW2_CLUSTER_ZERO_ALLOC);
        uint64_t new = keep ? old | QCOW_OFLAG_ZERO : QCOW_OFLAG_ZERO;

        if (new == old) {
            continue;
        }
        set_l2_entry(slice, idx + i, new);
        qcow2_cache_entry_mark_dirty(s->l2_table_cache, slice);
        if (!keep) {
            qcow2_free_any_cluster(bs, old, QCOW2_DISCARD_REQUEST);
        }
    }
    qcow2_cache_put(s->l2_table_cache, (void **)&slice);
    return 0;
}

/* Whole clusters; the caller holds them exclusively. */
static int coroutine_fn zero_clusters(BlockDriverState *bs, uint64_t offset,
                                      uint64_t bytes, bool unmap)
{
    BDRVQcow2State *s = bs->opaque;
    uint64_t span = (uint64_t)s->l2_slice_size << s->cluster_bits;
    uint64_t all_offset = offset, all_bytes = bytes;

    if (qcow2_data_file_is_raw(bs)) {
        return qcow2_data_file_zero(bs, offset, bytes, unmap);
    }
    if (s->qcow_version < 3) {
        return bs->backing ? -ENOTSUP
                           : qcow2_cluster_discard(bs, offset, bytes,
                                                   QCOW2_DISCARD_REQUEST,
                                                   false);
    }
    while (bytes) {
        uint64_t n = MIN(bytes, span - (offset & (span - 1)));
        int ret;

        QEMU_LOCK_GUARD(&s->lock);
        ret = qcow2_begin_change(bs);
        if (ret == 0) {
            ret = zero_in_slice(bs, offset, n >> s->cluster_bits, unmap);
        }
        if (ret == 0) {
            ret = qcow2_free_throttle(bs);
        }
        if (ret < 0) {
            return ret;
        }
        offset += n;
        bytes -= n;
    }
    if (s->has_data_file && unmap) {
        qcow2_data_file_release(bs, all_offset, all_bytes, true);
    }
    return 0;
}

/*
 * Whether the whole cluster at @offset reads as zeroes now: then a part of it
 * can be zeroed by zeroing all. 1, 0 or -errno.
 */
static int coroutine_fn cluster_is_zero(BlockDriverState *bs, uint64_t offset)
{
    BDRVQcow2State *s = bs->opaque;
    uint64_t n = s->cluster_size, host, entry;
    QCow2ClusterType type;
    int ret;

    qemu_co_mutex_lock(&s->lock);
    ret = qcow2_get_host_offset(bs, offset, &n, &host, &type, &entry);
    qemu_co_mutex_unlock(&s->lock);
    if (ret < 0) {
        return ret;
    }
    switch (type) {
    case QCOW2_CLUSTER_ZERO_PLAIN:
    case QCOW2_CLUSTER_ZERO_ALLOC:
        return 1;
    case QCOW2_CLUSTER_UNALLOCATED: {
        int64_t length;

        if (!bs->backing) {
            return 1;
        }
        length = bdrv_co_getlength(bs->backing->bs);
        if (length < 0) {
            return length;
        }
        return offset >= (uint64_t)length ||
               bdrv_co_is_zero_fast(bs->backing->bs, offset,
                                    MIN((uint64_t)s->cluster_size,
                                        length - offset)) == 1;
    }
    default:
        return 0;
    }
}

int coroutine_fn qcow2_co_pwrite_zeroes(BlockDriverState *bs, int64_t offset,
                                        int64_t bytes, BdrvRequestFlags flags)
{
    BDRVQcow2State *s = bs->opaque;
    uint64_t start = start_of_cluster(s, offset);
    uint64_t end = ROUND_UP((uint64_t)offset + bytes,
                            (uint64_t)s->cluster_size);
    Qcow2Request req;
    bool whole;
    int ret;

    if (qatomic_read(&s->unusable)) {
        return -ENOMEDIUM;
    }
    qcow2_request_begin(&s->inflight, &req, start, end - start, true);
    /* While the request lasts nobody writes behind an end that moves. */
    whole = start == (uint64_t)offset &&
            (end == (uint64_t)offset + bytes ||
             (uint64_t)offset + bytes >= qatomic_read(&s->disk_size));
    if (whole) {
        ret = 1;
    } else if (end - start > (uint64_t)s->cluster_size) {
        ret = -ENOTSUP;
    } else {
        ret = cluster_is_zero(bs, start);
    }
    if (ret == 1) {
        ret = zero_clusters(bs, start, end - start,
                            flags & BDRV_REQ_MAY_UNMAP);
    } else if (ret == 0) {
        ret = -ENOTSUP;
    }
    qcow2_request_end(&s->inflight, &req);
    return ret;
}
