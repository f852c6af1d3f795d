/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a range of the disk is: block status. */
#include "util/osdep.h"
#include "util/lockable.h"
#include "block/qcow2/salvage.h"

/*
 * An image whose file is mostly holes where clusters are in use was
 * preallocated: then the file knows better which of its data is zero. A few
 * holes, as small writes into new clusters leave them, are not worth asking
 * for at every cluster, so that more than a tenth of the clusters in use (and
 * at least two) must be missing. [lock]
 */
static bool coroutine_fn is_preallocated(BlockDriverState *bs)
{
    BDRVQcow2State *s = bs->opaque;
    int64_t length = bdrv_co_getlength(bs->file->bs);
    int64_t allocated = bdrv_co_get_allocated_file_size(bs->file->bs);
    uint64_t real, threshold, used = 0;

    if (length < 0 || allocated < 0) {
        return true;
    }
    if (allocated >= length) {
        return false;
    }
    real = allocated >> s->cluster_bits;
    threshold = MAX(real * 10 / 9, real + 2);
    for (uint64_t i = 0; i < size_to_clusters(s, length); i++) {
        uint64_t refcount;

        if (qcow2_get_refcount(bs, i, &refcount) < 0) {
            return false;
        }
        used += refcount != 0;
        if (used >= threshold) {
            return true;
        }
    }
    return false;
}

/* A range that is known to be lost; *@n ends where the answer does. */
static bool is_lost(BlockDriverState *bs, int64_t offset, uint64_t *n)
{
    BDRVQcow2State *s = bs->opaque;
    int64_t bytes = *n;
    bool lost = s->salvage && bdrv_damage_find_lost(bs, offset, &bytes);

    *n = bytes;
    return lost;
}

/* Asked once for each open image; it only decides how much is asked below. */
static bool coroutine_fn ask_file(BlockDriverState *bs)
{
    BDRVQcow2State *s = bs->opaque;
    int known = qatomic_read(&s->file_holes);

    if (!known) {
        qemu_co_mutex_lock(&s->lock);
        known = is_preallocated(bs) ? 1 : -1;
        qemu_co_mutex_unlock(&s->lock);
        qatomic_set(&s->file_holes, known);
    }
    return known > 0;
}

int coroutine_fn qcow2_co_block_status(BlockDriverState *bs, bool want_zero,
                                       int64_t offset, int64_t bytes,
                                       int64_t *pnum, int64_t *map,
                                       BlockDriverState **file)
{
    BDRVQcow2State *s = bs->opaque;
    uint64_t n = bytes, host, entry;
    QCow2ClusterType type;
    int ret;

    if (is_lost(bs, offset, &n)) {
        *pnum = n;
        return BDRV_BLOCK_LOST | BDRV_BLOCK_DATA | BDRV_BLOCK_ALLOCATED;
    }
    qemu_co_mutex_lock(&s->lock);
    ret = qcow2_get_host_offset(bs, offset, &n, &host, &type, &entry);
    qemu_co_mutex_unlock(&s->lock);
    if (ret < 0) {
        return ret;
    }
    *pnum = n;
    if ((type == QCOW2_CLUSTER_UNALLOCATED ||
         type == QCOW2_CLUSTER_UNALLOCATED_ALLOC) && bs->backing_lost) {
        bdrv_damage_add(bs, BDRV_DAMAGE_LOST, offset, n, -1,
                        "backing file cannot be opened");
        return BDRV_BLOCK_LOST | BDRV_BLOCK_DATA | BDRV_BLOCK_ALLOCATED;
    }
    ret = 0;
    /* Where encrypted data lies is no use for others. */
    if (type != QCOW2_CLUSTER_UNALLOCATED &&
        type != QCOW2_CLUSTER_ZERO_PLAIN &&
        type != QCOW2_CLUSTER_COMPRESSED && !bs->encrypted) {
        *map = host;
        *file = qcow2_data_child(bs)->bs;
        ret |= BDRV_BLOCK_OFFSET_VALID;
    }
    switch (type) {
    case QCOW2_CLUSTER_UNALLOCATED:
    case QCOW2_CLUSTER_UNALLOCATED_ALLOC:
        return ret;
    case QCOW2_CLUSTER_ZERO_PLAIN:
    case QCOW2_CLUSTER_ZERO_ALLOC:
        return ret | BDRV_BLOCK_ZERO | BDRV_BLOCK_ALLOCATED;
    case QCOW2_CLUSTER_COMPRESSED:
        return ret | BDRV_BLOCK_DATA | BDRV_BLOCK_ALLOCATED |
               BDRV_BLOCK_COMPRESSED;
    case QCOW2_CLUSTER_NORMAL:
        break;
    }
    /* A raw data file has zeroes that no L2 entry knows. */
    if (want_zero && !bs->encrypted &&
        (qcow2_data_file_is_raw(bs) || (!s->refcounts_void && ask_file(bs)))) {
        ret |= BDRV_BLOCK_RECURSE;
    }
    return ret | BDRV_BLOCK_DATA | BDRV_BLOCK_ALLOCATED;
}
