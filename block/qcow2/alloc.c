/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Finding and taking free host clusters.
 *
 * No cluster before free_cluster_index is free. Long runs are searched from
 * free_run_index on, which also skips holes that were too short: they remain
 * for single clusters.
 *
 * Callers have no cache entry pinned: an allocation may flush, to get hold of
 * freed clusters before it makes the file longer.
 */
#include "util/osdep.h"
#include "block/qcow2/qcow2.h"

/* So much waiting to be freed is worth a flush before the file grows. */
#define RECLAIM_BYTES (1024 * 1024)

typedef struct FreeSearch {
    uint64_t wanted;
    uint64_t start;     /* of the run that grows */
    uint64_t count;
    uint64_t first_free;    /* the first free cluster seen; ~0: none */
} FreeSearch;

static void search_add_free(FreeSearch *fs, uint64_t cluster, uint64_t n)
{
    if (!fs->count) {
        fs->start = cluster;
    }
    if (fs->first_free == UINT64_MAX) {
        fs->first_free = cluster;
    }
    fs->count += n;
}

/* No refcount block: all are free that the guard does not have. */
static void search_uncounted(const BDRVQcow2State *s, FreeSearch *fs,
                             uint64_t *cluster, uint64_t end)
{
    while (*cluster < end && fs->count < fs->wanted) {
        uint64_t skip = qcow2_guard_skip(s, *cluster, end - *cluster);

        if (!skip) {
            search_add_free(fs, *cluster, end - *cluster);
            *cluster = end;
        } else if (!qcow2_guard_reserves(s, *cluster)) {
            search_add_free(fs, *cluster, 1);
            ++*cluster;
        } else {
            fs->count = 0;
            ++*cluster;
        }
    }
}

/* Looks at clusters from *@cluster to the end of their refcount block. */
static int coroutine_fn search_block(BlockDriverState *bs, FreeSearch *fs,
                                     uint64_t *cluster)
{
    BDRVQcow2State *s = bs->opaque;
    uint64_t table_index = *cluster >> s->refcount_block_bits;
    uint64_t end = (table_index + 1) << s->refcount_block_bits;
    uint64_t block_offset = 0;
    void *block;
    int ret;

    if (table_index < s->reftable.size) {
        block_offset = s->reftable.entries[table_index] & REFT_OFFSET_MASK;
    }
    if (!block_offset) {
        search_uncounted(s, fs, cluster, end);
        return 0;
    }
    if (offset_into_cluster(s, block_offset)) {
        qcow2_signal_corruption(bs, true, -1, -1,
                                "Refblock offset %#" PRIx64 " unaligned "
                                "(reftable index: %#" PRIx64 ")",
                                block_offset, table_index);
        return -EIO;
    }
    ret = qcow2_cache_get(bs, s->refcount_block_cache, block_offset, &block);
    if (ret < 0) {
        return ret;
    }
    for (; *cluster < end && fs->count < fs->wanted; ++*cluster) {
        uint64_t i = *cluster & (s->refcount_block_size - 1);

        if (qcow2_refcount_block_get(s, block, i) == 0 &&
            !qcow2_guard_reserves(s, *cluster)) {
            search_add_free(fs, *cluster, 1);
        } else {
            fs->count = 0;
        }
    }
    qcow2_cache_put(s->refcount_block_cache, &block);
    return 0;
}

/* First cluster of @wanted free ones in a row, or -errno. */
static int64_t coroutine_fn find_free_run(BlockDriverState *bs,
                                          uint64_t wanted)
{
    BDRVQcow2State *s = bs->opaque;
    FreeSearch fs = { .wanted = wanted, .first_free = UINT64_MAX };
    uint64_t cluster = s->free_cluster_index;
    bool from_first = true;

    if (wanted > 1 && s->free_run_index > cluster) {
        cluster = s->free_run_index;
        from_first = false;
    }
    /* Cluster 0 is the header, whatever its refcount says. */
    cluster = MAX(cluster, 1);

    while (fs.count < wanted) {
        int ret;

        if (cluster >= QCOW_MAX_HOST_OFFSET >> s->cluster_bits) {
            return -EFBIG;
        }
        ret = search_block(bs, &fs, &cluster);
        if (ret < 0) {
            return ret;
        }
    }
    if (fs.start + wanted > QCOW_MAX_HOST_OFFSET >> s->cluster_bits) {
        return -EFBIG;
    }
    if (from_first) {
        s->free_cluster_index = fs.first_free;
    }
    if (wanted > 1) {
        s->free_run_index = fs.start;
    }
    return fs.start;
}

int64_t coroutine_fn qcow2_find_free_clusters(BlockDriverState *bs,
                                              uint64_t nb_clusters)
{
    return find_free_run(bs, nb_clusters);
}

/* Frees what waits to be freed if otherwise the file would grow. */
static int coroutine_fn reclaim(BlockDriverState *bs, uint64_t cluster,
                                uint64_t n, bool *again)
{
    BDRVQcow2State *s = bs->opaque;
    uint64_t bytes = n << s->cluster_bits;
    int64_t length;

    *again = false;
    if (s->pending_free_bytes < MAX(bytes, RECLAIM_BYTES)) {
        return 0;
    }
    length = bdrv_co_getlength(bs->file->bs);
    if (length >= 0 &&
        (uint64_t)length >= (cluster << s->cluster_bits) + bytes) {
        return 0;
    }
    *again = true;
    return qcow2_flush_metadata(bs);
}

int64_t coroutine_fn qcow2_alloc_clusters(BlockDriverState *bs,
                                          uint64_t bytes)
{
    BDRVQcow2State *s = bs->opaque;
    uint64_t n = size_to_clusters(s, bytes);
    bool reclaimed = false;
    int ret;

    assert(n);
    BLKDBG_EVENT(bs->file, BLKDBG_CLUSTER_ALLOC);
    do {
        int64_t cluster = find_free_run(bs, n);

        if (cluster < 0) {
            return cluster;
        }
        if (!reclaimed) {
            ret = reclaim(bs, cluster, n, &reclaimed);
            if (ret < 0) {
                return ret;
            }
            if (reclaimed) {
                ret = -EAGAIN;
                continue;
            }
        }
        ret = qcow2_update_refcount(bs, cluster << s->cluster_bits,
                                    n << s->cluster_bits, 1, false,
                                    QCOW2_DISCARD_NEVER);
        if (ret == 0) {
            if ((uint64_t)cluster == s->free_cluster_index) {
                s->free_cluster_index = cluster + n;
            }
            s->free_run_index = MAX(s->free_run_index, cluster + n);
            return cluster << s->cluster_bits;
        }
    } while (ret == -EAGAIN);
    return ret;
}

int64_t coroutine_fn qcow2_alloc_clusters_at(BlockDriverState *bs,
                                             uint64_t offset,
                                             int64_t nb_clusters)
{
    BDRVQcow2State *s = bs->opaque;
    uint64_t cluster = offset >> s->cluster_bits;
    int ret;

    assert(!offset_into_cluster(s, offset));
    if (!cluster || offset >= QCOW_MAX_HOST_OFFSET) {
        return 0;
    }
    do {
        int64_t n = 0;

        while (n < nb_clusters) {
            uint64_t refcount;

            ret = qcow2_get_refcount(bs, cluster + n, &refcount);
            if (ret < 0) {
                return ret;
            }
            if (refcount || qcow2_guard_reserves(s, cluster + n)) {
                break;
            }
            n++;
        }
        if (!n) {
            return 0;
        }
        ret = qcow2_update_refcount(bs, offset, n << s->cluster_bits, 1,
                                    false, QCOW2_DISCARD_NEVER);
        if (ret == 0) {
            return n;
        }
    } while (ret == -EAGAIN);
    return ret;
}

int64_t coroutine_fn qcow2_alloc_data_clusters(BlockDriverState *bs,
                                               uint64_t offset, uint64_t hint,
                                               uint64_t *nb_clusters)
{
    BDRVQcow2State *s = bs->opaque;
    int64_t ret;

    if (s->has_data_file) {
        return offset;
    }
    if (hint) {
        ret = qcow2_alloc_clusters_at(bs, hint, *nb_clusters);
        if (ret < 0) {
            return ret;
        }
        if (ret > 0) {
            *nb_clusters = ret;
            return hint;
        }
    }
    return qcow2_alloc_clusters(bs, *nb_clusters << s->cluster_bits);
}

/* Where packed data may go on: s->free_byte_offset, or 0 if that is full. */
static int coroutine_fn packing_offset(BlockDriverState *bs, uint64_t *offset)
{
    BDRVQcow2State *s = bs->opaque;
    uint64_t refcount;
    int ret;

    *offset = s->free_byte_offset;
    if (!*offset) {
        return 0;
    }
    ret = qcow2_get_refcount(bs, *offset >> s->cluster_bits, &refcount);
    if (ret == 0 && (refcount == 0 || refcount == s->refcount_max)) {
        *offset = 0;
    }
    return ret;
}

/*
 * A piece that does not fit behind the last one gets a fresh cluster; it
 * begins in the old one all the same if the fresh one follows it.
 */
static int64_t coroutine_fn alloc_bytes_fresh(BlockDriverState *bs,
                                              uint64_t offset)
{
    BDRVQcow2State *s = bs->opaque;
    int64_t next = qcow2_alloc_clusters(bs, s->cluster_size);
    int ret;

    /* The allocation may have freed the old cluster: look again. */
    if (next < 0 || !offset || s->free_byte_offset != offset ||
        ROUND_UP(offset, (uint64_t)s->cluster_size) != (uint64_t)next) {
        return next;
    }
    ret = qcow2_update_refcount(bs, offset, 1, 1, false, QCOW2_DISCARD_NEVER);
    if (ret < 0) {
        qcow2_unalloc_clusters(bs, next, s->cluster_size);
        return ret;
    }
    return offset;
}

/* A cluster of packed data counts one for each piece that touches it. */
int64_t coroutine_fn qcow2_alloc_bytes(BlockDriverState *bs, int size)
{
    BDRVQcow2State *s = bs->opaque;
    uint64_t offset;
    int64_t ret;

    assert(size > 0 && size <= s->cluster_size);
    ret = packing_offset(bs, &offset);
    if (ret < 0) {
        return ret;
    }
    if (offset &&
        offset_into_cluster(s, offset) + size <= (uint64_t)s->cluster_size) {
        ret = qcow2_update_refcount(bs, offset, size, 1, false,
                                    QCOW2_DISCARD_NEVER);
        ret = ret < 0 ? ret : (int64_t)offset;
    } else {
        ret = alloc_bytes_fresh(bs, offset);
    }
    if (ret < 0) {
        return ret;
    }
    s->free_byte_offset = ret + size;
    if (!offset_into_cluster(s, s->free_byte_offset)) {
        s->free_byte_offset = 0;
    }
    return ret;
}
