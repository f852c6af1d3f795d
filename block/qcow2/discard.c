/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Discarding guest clusters.
 *
 * A discarded cluster must not show what a backing file, or its old
 * allocation, held: in version 3 it becomes a zero cluster, which with extended
 * L2 entries is one whose subclusters all read as zeroes. In version 2,
 * which has none, it becomes unallocated, and images with a backing file
 * refuse.
 *
 * The request is exclusive over its clusters until the file has been told, so
 * a write to the same cluster, also to one that keeps its allocation, comes
 * entirely before or after.
 */
#include "util/osdep.h"
#include "util/lockable.h"
#include "block/qcow2/qcow2.h"

typedef struct DiscardArgs {
    Qcow2DiscardType type;
    bool full;          /* remove the mapping, let the backing file show */
    bool keep;          /* clusters keep their allocation */
    GArray *kept;       /* Qcow2PendingFree: host ranges to tell the file */
} DiscardArgs;

static void note_kept(DiscardArgs *a, uint64_t host, uint64_t bytes)
{
    Qcow2PendingFree range = { .offset = host, .bytes = bytes };

    if (a->kept->len) {
        Qcow2PendingFree *last = &g_array_index(a->kept, Qcow2PendingFree,
                                                a->kept->len - 1);

        if (last->offset + last->bytes == host) {
            last->bytes += bytes;
            return;
        }
    }
    g_array_append_val(a->kept, range);
}

/*
 * What entry and bitmap become. *@kept: the entry goes on owning its host
 * cluster.
 */
static uint64_t discarded_entry(BlockDriverState *bs, uint64_t old,
                                uint64_t *bitmap, const DiscardArgs *a,
                                bool *kept)
{
    BDRVQcow2State *s = bs->opaque;
    QCow2ClusterType type = qcow2_get_cluster_type(s, old);
    uint64_t flag = s->extended_l2 ? 0 : QCOW_OFLAG_ZERO;

    *kept = a->keep && !a->full && qcow2_has_host(s, old);
    if (!a->full && (type == QCOW2_CLUSTER_ZERO_PLAIN ||
                     (type == QCOW2_CLUSTER_UNALLOCATED && !bs->backing &&
                      qcow2_bitmap_is_valid(s, old, *bitmap)))) {
        return old;
    }
    *bitmap = s->extended_l2 && !a->full ? QCOW2_BITMAP_ALL_ZERO : 0;
    if (*kept) {
        return old | flag;
    }
    return a->full || s->qcow_version < 3 ? 0 : flag;
}

/* The @n clusters from @offset, all in one slice. [lock] */
static int coroutine_fn discard_in_slice(BlockDriverState *bs,
                                         uint64_t offset, uint64_t n,
                                         DiscardArgs *a)
{
    BDRVQcow2State *s = bs->opaque;
    uint64_t *slice;
    int idx, ret;

    ret = qcow2_l2_get_writable(bs, offset, &slice, &idx);
    if (ret < 0) {
        return ret;
    }
    for (uint64_t i = 0; i < n; i++) {
        uint64_t old = get_l2_entry(s, slice, idx + i);
        uint64_t bitmap = get_l2_bitmap(s, slice, idx + i);
        bool kept;
        uint64_t new = discarded_entry(bs, old, &bitmap, a, &kept);

        if (s->has_data_file) {
            note_kept(a, offset + (i << s->cluster_bits), s->cluster_size);
        } else if (kept && (old & QCOW_OFLAG_COPIED)) {
            note_kept(a, old & L2E_OFFSET_MASK, s->cluster_size);
        }
        if (new == old && bitmap == get_l2_bitmap(s, slice, idx + i)) {
            continue;
        }
        set_l2_entry(s, slice, idx + i, new);
        set_l2_bitmap(s, slice, idx + i, bitmap);
        qcow2_cache_entry_mark_dirty(s->l2_table_cache, slice);
        if (!kept) {
            qcow2_free_any_cluster(bs, old, a->type);
        }
    }
    qcow2_cache_put(s->l2_table_cache, (void **)&slice);
    return 0;
}

/* Whether a discard changes anything where there is no L2 table. */
static bool table_missing(BlockDriverState *bs, uint64_t offset)
{
    BDRVQcow2State *s = bs->opaque;
    uint64_t i = offset_to_l1_index(s, offset);

    return i >= s->l1.size || !(s->l1.entries[i] & L1E_OFFSET_MASK);
}

/* The start of the range, up to the end of a slice or missing table. [lock] */
static int coroutine_fn discard_some(BlockDriverState *bs, uint64_t offset,
                                     uint64_t bytes, DiscardArgs *a,
                                     uint64_t *done)
{
    BDRVQcow2State *s = bs->opaque;
    uint64_t table_span = (uint64_t)s->l2_size << s->cluster_bits;
    uint64_t slice_span = (uint64_t)s->l2_slice_size << s->cluster_bits;
    int ret;

    if (table_missing(bs, offset) && (a->full || !bs->backing)) {
        *done = MIN(bytes, table_span - (offset & (table_span - 1)));
        return 0;
    }
    *done = MIN(bytes, slice_span - (offset & (slice_span - 1)));
    ret = qcow2_begin_change(bs);
    if (ret == 0) {
        ret = discard_in_slice(bs, offset, *done >> s->cluster_bits, a);
    }
    return ret < 0 ? ret : qcow2_free_throttle(bs);
}

/* Failures do not matter: the clusters read as zeroes anyway. */
static void coroutine_fn discard_kept(BlockDriverState *bs, GArray *kept)
{
    BDRVQcow2State *s = bs->opaque;

    for (guint i = 0; i < kept->len && !qcow2_is_stopped(s); i++) {
        const Qcow2PendingFree *r = &g_array_index(kept, Qcow2PendingFree, i);

        if (s->has_data_file) {
            qcow2_data_file_release(bs, r->offset, r->bytes, false);
        } else {
            bdrv_co_pdiscard(bs->file, r->offset, r->bytes);
        }
    }
}

/*
 * Of a data file, what is told to it must not be mapped after a power cut
 * either, if something else shows where it was, or if it would be decrypted.
 * Whether it is not.
 */
static bool coroutine_fn may_discard(BlockDriverState *bs, bool full)
{
    BDRVQcow2State *s = bs->opaque;

    if (!s->has_data_file || !(full || s->crypto)) {
        return true;
    }
    QEMU_LOCK_GUARD(&s->lock);
    return qcow2_flush_metadata(bs) == 0 && bdrv_co_flush(bs->file->bs) == 0;
}

int coroutine_fn qcow2_cluster_discard(BlockDriverState *bs, uint64_t offset,
                                       uint64_t bytes, Qcow2DiscardType type,
                                       bool full)
{
    BDRVQcow2State *s = bs->opaque;
    DiscardArgs a = {
        .type = type,
        .full = full,
        .keep = s->discard_no_unref && type == QCOW2_DISCARD_REQUEST,
        .kept = g_array_new(false, false, sizeof(Qcow2PendingFree)),
    };
    int ret = 0;

    assert(!offset_into_cluster(s, offset) && !offset_into_cluster(s, bytes));
    while (bytes && ret == 0) {
        uint64_t done = 0;

        qemu_co_mutex_lock(&s->lock);
        ret = discard_some(bs, offset, bytes, &a, &done);
        qemu_co_mutex_unlock(&s->lock);
        offset += done;
        bytes -= done;
    }
    if (s->discard_passthrough[type] && a.kept->len &&
        may_discard(bs, full)) {
        discard_kept(bs, a.kept);
    }
    g_array_free(a.kept, true);
    return ret;
}

int coroutine_fn qcow2_co_pdiscard(BlockDriverState *bs, int64_t offset,
                                   int64_t bytes)
{
    BDRVQcow2State *s = bs->opaque;
    uint64_t end = offset + bytes;
    Qcow2Request req;
    int ret = -ENOTSUP;

    if (qcow2_is_stopped(s)) {
        return -EUCLEAN;
    }
    if (s->qcow_version < 3 && bs->backing) {
        return -ENOTSUP;
    }
    qcow2_request_begin(&s->inflight, &req, offset, bytes, true);
    /*
     * The last cluster may reach beyond the end of the disk. Where that is
     * may change, but what is behind is not written while the request lasts.
     */
    if (end >= qatomic_read(&s->disk_size)) {
        end = ROUND_UP(end, (uint64_t)s->cluster_size);
    }
    if (!offset_into_cluster(s, offset) && !offset_into_cluster(s, end)) {
        ret = qcow2_data_file_is_raw(bs)
                  ? qcow2_data_file_zero(
                        bs, offset, end - offset,
                        s->discard_passthrough[QCOW2_DISCARD_REQUEST])
                  : qcow2_cluster_discard(bs, offset, end - offset,
                                          QCOW2_DISCARD_REQUEST, false);
    }
    qcow2_request_end(&s->inflight, &req);
    return ret;
}
