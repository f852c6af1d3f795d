/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Freed clusters, from the moment when the last reference is taken out of a
 * table in memory to the moment when the cluster may be used again.
 *
 * In between the old reference may still be on disk, and after a crash it is
 * what counts. So a freed cluster waits in pending_frees with its refcount
 * unchanged; when a flush has made the new tables durable,
 * qcow2_flush_metadata() calls qcow2_release_pending_frees(), which takes the
 * refcount down and tells the file. Nobody who could have seen the old mapping
 * is left then: whoever freed the cluster held its guest clusters exclusively.
 */
#include "util/osdep.h"
#include "block/qcow2/qcow2.h"

/* More than this waiting is worth a flush of its own. */
#define MAX_PENDING_BYTES (64 * 1024 * 1024)
#define MAX_PENDING_EXTENTS 4096

void coroutine_fn qcow2_unalloc_clusters(BlockDriverState *bs,
                                         uint64_t offset, uint64_t bytes)
{
    if (bytes) {
        /* An error leaves them allocated: a leak, nothing worse. */
        qcow2_update_refcount(bs, offset, bytes, 1, true,
                              QCOW2_DISCARD_NEVER);
    }
}

void coroutine_fn qcow2_unalloc_data_clusters(BlockDriverState *bs,
                                              uint64_t offset, uint64_t bytes)
{
    BDRVQcow2State *s = bs->opaque;

    if (!s->has_data_file) {
        qcow2_unalloc_clusters(bs, offset, bytes);
    }
}

void qcow2_free_clusters(BlockDriverState *bs, uint64_t offset,
                         uint64_t bytes, Qcow2DiscardType type)
{
    BDRVQcow2State *s = bs->opaque;
    Qcow2PendingFree new = { offset, bytes, type };

    s->pending_free_bytes += bytes;
    if (s->pending_frees->len) {
        Qcow2PendingFree *last = &g_array_index(s->pending_frees,
                                                Qcow2PendingFree,
                                                s->pending_frees->len - 1);

        /* Only whole clusters: a shared one is counted once for each. */
        if (last->offset + last->bytes == offset && last->type == type &&
            !offset_into_cluster(s, offset)) {
            last->bytes += bytes;
            return;
        }
    }
    g_array_append_val(s->pending_frees, new);
}

void qcow2_free_any_cluster(BlockDriverState *bs, uint64_t l2_entry,
                            Qcow2DiscardType type)
{
    BDRVQcow2State *s = bs->opaque;
    uint64_t offset = l2_entry & L2E_OFFSET_MASK;
    int csize;

    if (s->has_data_file) {
        return;
    }
    switch (qcow2_get_cluster_type(s, l2_entry)) {
    case QCOW2_CLUSTER_COMPRESSED:
        qcow2_parse_compressed_l2_entry(s, l2_entry, &offset, &csize);
        qcow2_free_clusters(bs, offset, csize, type);
        break;
    case QCOW2_CLUSTER_NORMAL:
    case QCOW2_CLUSTER_ZERO_ALLOC:
        /* A misplaced one belongs to nobody we could name: leak it. */
        if (!offset_into_cluster(s, offset)) {
            qcow2_free_clusters(bs, offset, s->cluster_size, type);
        }
        break;
    default:
        break;
    }
}

int coroutine_fn qcow2_release_pending_frees(BlockDriverState *bs)
{
    BDRVQcow2State *s = bs->opaque;
    GArray *frees = s->pending_frees;
    int result = 0;

    s->pending_frees = g_array_new(false, false, sizeof(Qcow2PendingFree));
    s->pending_free_bytes = 0;
    for (guint i = 0; i < frees->len; i++) {
        const Qcow2PendingFree *f = &g_array_index(frees, Qcow2PendingFree, i);
        int ret = qcow2_update_refcount(bs, f->offset, f->bytes, 1, true,
                                        f->type);

        if (ret == -EINVAL) {
            qcow2_signal_corruption(bs, false, f->offset, f->bytes,
                                    "Freeing clusters that are not allocated "
                                    "(offset %#" PRIx64 ")", f->offset);
        } else if (ret < 0 && result == 0) {
            /* They leak. Trying again could count them down twice. */
            result = ret;
        }
    }
    g_array_free(frees, true);
    return result;
}

int coroutine_fn qcow2_free_throttle(BlockDriverState *bs)
{
    BDRVQcow2State *s = bs->opaque;

    if (s->pending_free_bytes < MAX_PENDING_BYTES &&
        s->pending_frees->len < MAX_PENDING_EXTENTS) {
        return 0;
    }
    return qcow2_flush_metadata(bs);
}
