/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Writing zeroes by changing L2 entries only.
 *
 * Without MAY_UNMAP a cluster that is allocated keeps its host cluster and
 * gets the zero flag; with it the host cluster is freed. With extended L2 entries
 * parts of a cluster get their flags, and it keeps what it has. Version 2 has no zero
 * flag: a cluster can be unallocated there if nothing shows through, else the
 * generic layer writes zeroes.
 */
#include "util/osdep.h"
#include "util/lockable.h"
#include "util/memalign.h"
#include "block/qcow2/qcow2.h"

static void zero_cluster(BlockDriverState *bs, uint64_t *slice, int idx,
                         bool unmap)
{
    BDRVQcow2State *s = bs->opaque;
    uint64_t old = get_l2_entry(s, slice, idx);
    bool keep = !unmap && qcow2_has_host(s, old);
    uint64_t flag = s->extended_l2 ? 0 : QCOW_OFLAG_ZERO;
    uint64_t bitmap = s->extended_l2 ? QCOW2_BITMAP_ALL_ZERO : 0;
    uint64_t new = (keep ? old : 0) | flag;

    if (new == old && bitmap == get_l2_bitmap(s, slice, idx)) {
        return;
    }
    set_l2_entry(s, slice, idx, new);
    set_l2_bitmap(s, slice, idx, bitmap);
    qcow2_cache_entry_mark_dirty(s->l2_table_cache, slice);
    if (!keep) {
        qcow2_free_any_cluster(bs, old, QCOW2_DISCARD_REQUEST);
    }
}

/*
 * A part of a cluster: bits of it change, and its host cluster stays as long as
 * there is something else in it. -EBADMSG if the bits cannot be; -ENOTSUP if
 * there are none.
 */
static int zero_subclusters(BlockDriverState *bs, uint64_t *slice, int idx,
                            uint64_t mask, bool unmap)
{
    BDRVQcow2State *s = bs->opaque;
    uint64_t old = get_l2_entry(s, slice, idx);
    uint64_t bitmap = get_l2_bitmap(s, slice, idx);
    uint64_t new = qcow2_bitmap_set_zero(bitmap, mask);

    if (qcow2_get_cluster_type(s, old) == QCOW2_CLUSTER_COMPRESSED) {
        return -ENOTSUP;
    }
    if (!qcow2_bitmap_is_valid(s, old, bitmap)) {
        return -EBADMSG;
    }
    if (new == QCOW2_BITMAP_ALL_ZERO && unmap) {
        zero_cluster(bs, slice, idx, true);
    } else if (new != bitmap) {
        set_l2_bitmap(s, slice, idx, new);
        qcow2_cache_entry_mark_dirty(s->l2_table_cache, slice);
    }
    return 0;
}

/* Whole subclusters, all in one slice. [lock] */
static int coroutine_fn zero_in_slice(BlockDriverState *bs, uint64_t offset,
                                      uint64_t bytes, bool unmap)
{
    BDRVQcow2State *s = bs->opaque;
    uint64_t end = offset + bytes;
    uint64_t *slice = NULL;
    int idx, ret;

    ret = qcow2_l2_get_writable(bs, offset, &slice, &idx);
    for (; ret == 0 && offset < end; idx++) {
        uint64_t next = MIN(end, start_of_cluster(s, offset) +
                                 s->cluster_size);

        if (next - offset == (uint64_t)s->cluster_size) {
            zero_cluster(bs, slice, idx, unmap);
        } else {
            ret = zero_subclusters(
                bs, slice, idx,
                qcow2_subcluster_mask(offset_to_subcluster(s, offset),
                                      offset_to_subcluster(s, next - 1) + 1),
                unmap);
        }
        offset = next;
    }
    if (slice) {
        qcow2_cache_put(s->l2_table_cache, (void **)&slice);
    }
    if (ret == -EBADMSG) {
        qcow2_signal_corruption(bs, true, -1, -1, "Invalid cluster entry found "
                                " (guest offset: %#" PRIx64 ")",
                                start_of_cluster(s, offset - 1));
        ret = -EIO;
    }
    return ret;
}

/*
 * Whole subclusters; the caller holds their clusters exclusively. -ENOTSUP: the
 * first or last cluster is compressed, and wanted in part only.
 */
static int coroutine_fn zero_range(BlockDriverState *bs, uint64_t offset,
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
            ret = zero_in_slice(bs, offset, n, unmap);
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
    /* An L2 entry that a power cut brings back would decrypt the zeroes. */
    if (s->has_data_file && unmap && !s->crypto) {
        qcow2_data_file_release(bs, all_offset, all_bytes, true);
    }
    return 0;
}

/*
 * Whether the whole subcluster at @offset reads as zeroes now: then a part of it
 * can be zeroed by zeroing all. 1, 0 or -errno.
 */
static int coroutine_fn subcluster_is_zero(BlockDriverState *bs,
                                           uint64_t offset)
{
    BDRVQcow2State *s = bs->opaque;
    uint64_t n = s->subcluster_size, host, entry;
    QCow2ClusterType type;
    int64_t length;
    int ret;

    qemu_co_mutex_lock(&s->lock);
    ret = qcow2_get_run_to_read(bs, offset, &n, &host, &type, &entry);
    qemu_co_mutex_unlock(&s->lock);
    if (ret < 0) {
        return ret;
    }
    if (type == QCOW2_CLUSTER_ZERO_PLAIN) {
        return 1;
    }
    if (type != QCOW2_CLUSTER_UNALLOCATED) {
        return 0;
    }
    if (!bs->backing) {
        return 1;
    }
    length = bdrv_co_getlength(bs->backing->bs);
    if (length < 0) {
        return length;
    }
    return offset >= (uint64_t)length ||
           bdrv_co_is_zero_fast(bs->backing->bs, offset,
                                MIN((uint64_t)s->subcluster_size,
                                    length - offset)) == 1;
}

/*
 * Zeroes [@offset, @end): whole subclusters, or one that reads as zeroes but for
 * a part.
 */
static int coroutine_fn zero_piece(BlockDriverState *bs, uint64_t offset,
                                   uint64_t end, bool unmap)
{
    BDRVQcow2State *s = bs->opaque;
    uint64_t size = s->subcluster_size;
    uint64_t from = ROUND_DOWN(offset, size), to = ROUND_UP(end, size);
    Qcow2Request req;
    bool whole;
    int ret;

    qcow2_request_begin(&s->inflight, &req, from, to - from, true);
    /* While the request lasts nobody writes behind an end that moves. */
    if (end >= qatomic_read(&s->disk_size)) {
        to = ROUND_UP(end, (uint64_t)s->cluster_size);
        end = to;
    }
    whole = from == offset && to == end;
    if (whole) {
        ret = 1;
    } else if (to - from > size) {
        ret = -ENOTSUP;
    } else {
        ret = subcluster_is_zero(bs, from);
    }
    if (ret == 1) {
        ret = zero_range(bs, from, to - from, unmap);
    } else if (ret == 0) {
        ret = -ENOTSUP;
    }
    qcow2_request_end(&s->inflight, &req);
    return ret;
}

/*
 * Of a large request only the part of a compressed cluster at its start or end
 * is written as data.
 */
static int coroutine_fn zero_edge(BlockDriverState *bs, uint64_t offset,
                                  uint64_t end, BdrvRequestFlags flags)
{
    int ret = zero_piece(bs, offset, end, flags & BDRV_REQ_MAY_UNMAP);
    uint64_t bytes = end - offset;
    QEMU_AUTO_VFREE void *buf = NULL;
    QEMUIOVector qiov;

    if (ret != -ENOTSUP || (flags & BDRV_REQ_NO_FALLBACK)) {
        return ret;
    }
    buf = qemu_try_blockalign(bs, bytes);
    if (!buf) {
        return -ENOMEM;
    }
    memset(buf, 0, bytes);
    qemu_iovec_init_buf(&qiov, buf, bytes);
    return qcow2_co_pwritev(bs, offset, bytes, &qiov, 0, 0);
}

int coroutine_fn qcow2_co_pwrite_zeroes(BlockDriverState *bs, int64_t offset,
                                        int64_t bytes, BdrvRequestFlags flags)
{
    BDRVQcow2State *s = bs->opaque;
    uint64_t end = (uint64_t)offset + bytes;
    uint64_t inner = ROUND_UP((uint64_t)offset, (uint64_t)s->cluster_size);
    uint64_t inner_end = start_of_cluster(s, end);
    int ret = 0;

    if (qcow2_is_stopped(s)) {
        return -EUCLEAN;
    }
    if (!s->extended_l2 || inner >= inner_end) {
        return zero_piece(bs, offset, end, flags & BDRV_REQ_MAY_UNMAP);
    }
    /* At the end of the disk the last cluster is whole. */
    if (end >= qatomic_read(&s->disk_size)) {
        inner_end = end;
    }
    if ((uint64_t)offset < inner) {
        ret = zero_edge(bs, offset, inner, flags);
    }
    if (ret == 0) {
        ret = zero_piece(bs, inner, inner_end, flags & BDRV_REQ_MAY_UNMAP);
    }
    if (ret == 0 && inner_end < end) {
        ret = zero_edge(bs, inner_end, end, flags);
    }
    return ret;
}
