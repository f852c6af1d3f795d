/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * L2 tables: where guest clusters are.
 *
 * Tables are read and written in slices through the L2 cache. Entries come
 * from the image and are judged before anybody uses them: an offset that is
 * not cluster aligned or not in the file, or a zero flag in a version 2 image,
 * is corruption.
 */
#include "util/osdep.h"
#include "block/qcow2/salvage.h"

int coroutine_fn qcow2_l2_load_slice(BlockDriverState *bs, uint64_t offset,
                                     uint64_t l2_offset, uint64_t **l2_slice)
{
    BDRVQcow2State *s = bs->opaque;
    int start = offset_to_l2_index(s, offset) -
                offset_to_l2_slice_index(s, offset);
    void *table;
    int ret;

    ret = qcow2_cache_get(bs, s->l2_table_cache,
                          l2_offset + start * L2E_SIZE_NORMAL, &table);
    if (ret == 0) {
        *l2_slice = table;
    }
    return ret;
}

static void slice_put(BDRVQcow2State *s, uint64_t **l2_slice)
{
    void *table = *l2_slice;

    qcow2_cache_put(s->l2_table_cache, &table);
    *l2_slice = NULL;
}

/* Guest bytes from @offset to the end of its slice, or L2 table. */
static uint64_t bytes_to_slice_end(const BDRVQcow2State *s, uint64_t offset)
{
    uint64_t span = (uint64_t)s->l2_slice_size << s->cluster_bits;

    return span - (offset & (span - 1));
}

static uint64_t bytes_to_table_end(const BDRVQcow2State *s, uint64_t offset)
{
    uint64_t span = (uint64_t)s->l2_size << s->cluster_bits;

    return span - (offset & (span - 1));
}

/* The L2 table of guest @offset: 0 if there is none, or -EIO. */
static int coroutine_fn find_table(BlockDriverState *bs, uint64_t offset,
                                   uint64_t *l2_offset)
{
    BDRVQcow2State *s = bs->opaque;
    uint64_t i = offset_to_l1_index(s, offset);

    *l2_offset = 0;
    if (i >= s->l1.size) {
        return 0;
    }
    *l2_offset = s->l1.entries[i] & L1E_OFFSET_MASK;
    if (s->salvage) {
        return qcow2_salvage_judge_l1(s, s->l1.entries[i],
                                      qatomic_read(&bs->file->bs->total_bytes))
                   .lost ? -EIO : 0;
    }
    if (offset_into_cluster(s, *l2_offset)) {
        qcow2_signal_corruption(bs, true, -1, -1,
                                "L2 table offset %#" PRIx64
                                " unaligned (L1 index: %#" PRIx64 ")",
                                *l2_offset, i);
        return -EIO;
    }
    return 0;
}

/* In a data file everything lies where the guest has it. */
static int coroutine_fn check_data_file_entry(BlockDriverState *bs,
                                              uint64_t entry, uint64_t offset,
                                              uint64_t l2_offset)
{
    BDRVQcow2State *s = bs->opaque;
    uint64_t host = entry & L2E_OFFSET_MASK;
    int index = offset_to_l2_index(s, offset);

    if (!s->data_file) {
        return -ENOMEDIUM;
    }
    if (entry & QCOW_OFLAG_COMPRESSED) {
        qcow2_signal_corruption(bs, true, -1, -1,
                                "Compressed cluster entry found in image with "
                                "external data file (L2 offset: %#" PRIx64
                                ", L2 index: %#x)", l2_offset, index);
        return -EIO;
    }
    if (host && !offset_into_cluster(s, host) &&
        host != start_of_cluster(s, offset)) {
        qcow2_signal_corruption(bs, true, -1, -1,
                                "External data file host cluster offset "
                                "%#" PRIx64 " does not match guest cluster "
                                "offset: %#" PRIx64 ", L2 index: %#x)",
                                host, start_of_cluster(s, offset), index);
        return -EIO;
    }
    /* At 0 lies the first cluster, and no other. */
    if (!host && start_of_cluster(s, offset) &&
        qcow2_get_cluster_type(s, entry) == QCOW2_CLUSTER_NORMAL) {
        qcow2_signal_corruption(bs, true, -1, -1,
                                "External data file host cluster offset 0 "
                                "does not match guest cluster offset: "
                                "%#" PRIx64 ", L2 index: %#x)",
                                start_of_cluster(s, offset), index);
        return -EIO;
    }
    return 0;
}

/* Whether @entry can be; signals if not. */
static int coroutine_fn check_entry(BlockDriverState *bs, uint64_t entry,
                                    uint64_t offset, uint64_t l2_offset)
{
    BDRVQcow2State *s = bs->opaque;
    uint64_t host = entry & L2E_OFFSET_MASK;

    if (s->salvage) {
        return qcow2_salvage_judge_data(bs, entry, offset).lost ? -EIO : 0;
    }
    if (unlikely(s->has_data_file)) {
        int ret = check_data_file_entry(bs, entry, offset, l2_offset);

        if (ret < 0) {
            return ret;
        }
    }
    if (entry & QCOW_OFLAG_COMPRESSED) {
        return 0;
    }
    if ((entry & QCOW_OFLAG_ZERO) && s->qcow_version < 3) {
        qcow2_signal_corruption(bs, true, -1, -1,
                                "Zero cluster entry found in pre-v3 image "
                                "(L2 offset: %#" PRIx64 ", L2 index: %#x)",
                                l2_offset, offset_to_l2_index(s, offset));
        return -EIO;
    }
    if (offset_into_cluster(s, host)) {
        qcow2_signal_corruption(bs, true, -1, -1,
                                "%s offset %#" PRIx64 " unaligned "
                                "(L2 offset: %#" PRIx64 ", L2 index: %#x)",
                                entry & QCOW_OFLAG_ZERO
                                    ? "Preallocated zero cluster"
                                    : "Cluster allocation",
                                host, l2_offset,
                                offset_to_l2_index(s, offset));
        return -EIO;
    }
    return 0;
}

/* Cuts a run of @n clusters of data where the file ends; signals if it ends
 * before the first. */
static int coroutine_fn check_in_file(BlockDriverState *bs, uint64_t entry,
                                      uint64_t offset, uint64_t l2_offset,
                                      uint64_t *n)
{
    *n = qcow2_clusters_in_file(bs, entry & L2E_OFFSET_MASK, *n);
    if (*n) {
        return 0;
    }
    qcow2_signal_corruption(bs, false, -1, -1,
                            "Data cluster at %#" PRIx64 " is beyond the end "
                            "of the file (L2 offset: %#" PRIx64
                            ", L2 index: %#x)",
                            (uint64_t)(entry & L2E_OFFSET_MASK), l2_offset,
                            offset_to_l2_index(bs->opaque, offset));
    return -EIO;
}

/* How many entries from @idx, at most @max, go on as the first one says. */
static int count_same(const BDRVQcow2State *s, const uint64_t *slice, int idx,
                      int max, QCow2ClusterType type)
{
    uint64_t host = get_l2_entry(slice, idx) & L2E_OFFSET_MASK;
    bool has_host = type == QCOW2_CLUSTER_NORMAL ||
                    type == QCOW2_CLUSTER_ZERO_ALLOC;
    int n = 1;

    if (type == QCOW2_CLUSTER_COMPRESSED) {
        return 1;
    }
    for (; n < max; n++) {
        uint64_t entry = get_l2_entry(slice, idx + n);

        if (qcow2_get_cluster_type(s, entry) != type) {
            break;
        }
        if (has_host && (entry & L2E_OFFSET_MASK) !=
                        host + ((uint64_t)n << s->cluster_bits)) {
            break;
        }
        /* Reserved in version 2: looked at when it comes first. */
        if (s->qcow_version < 3 && (entry & QCOW_OFLAG_ZERO)) {
            break;
        }
    }
    return n;
}

int coroutine_fn qcow2_get_host_offset(BlockDriverState *bs, uint64_t offset,
                                       uint64_t *bytes, uint64_t *host_offset,
                                       QCow2ClusterType *type,
                                       uint64_t *l2_entry)
{
    BDRVQcow2State *s = bs->opaque;
    uint64_t in_cluster = offset_into_cluster(s, offset);
    uint64_t l2_offset, entry, run, *slice = NULL;
    int idx, ret;

    *host_offset = 0;
    *l2_entry = 0;
    ret = find_table(bs, offset, &l2_offset);
    if (ret < 0) {
        return ret;
    }
    if (!l2_offset) {
        *type = QCOW2_CLUSTER_UNALLOCATED;
        *bytes = MIN(*bytes, bytes_to_table_end(s, offset));
        return 0;
    }

    ret = qcow2_l2_load_slice(bs, offset, l2_offset, &slice);
    if (ret < 0) {
        return ret;
    }
    idx = offset_to_l2_slice_index(s, offset);
    entry = get_l2_entry(slice, idx);
    *type = qcow2_get_cluster_type(s, entry);
    run = MIN(*bytes, bytes_to_slice_end(s, offset));
    run = count_same(s, slice, idx, size_to_clusters(s, in_cluster + run),
                     *type);
    slice_put(s, &slice);

    ret = check_entry(bs, entry, offset, l2_offset);
    if (ret == 0 && *type == QCOW2_CLUSTER_NORMAL) {
        ret = check_in_file(bs, entry, offset, l2_offset, &run);
    }
    if (ret < 0) {
        return ret;
    }
    *l2_entry = entry;
    *bytes = MIN(*bytes, (run << s->cluster_bits) - in_cluster);
    if (*type == QCOW2_CLUSTER_NORMAL || *type == QCOW2_CLUSTER_ZERO_ALLOC) {
        *host_offset = (entry & L2E_OFFSET_MASK) + in_cluster;
    }
    return 0;
}

static bool is_inplace(const BDRVQcow2State *s, uint64_t entry)
{
    return (entry & QCOW_OFLAG_COPIED) &&
           qcow2_get_cluster_type(s, entry) == QCOW2_CLUSTER_NORMAL;
}

int coroutine_fn qcow2_get_inplace_run(BlockDriverState *bs, uint64_t offset,
                                       uint64_t bytes, uint64_t *run,
                                       uint64_t *host_offset, uint64_t *alloc)
{
    BDRVQcow2State *s = bs->opaque;
    uint64_t in_cluster = offset_into_cluster(s, offset);
    uint64_t l2_offset, entry, *slice = NULL;
    int idx, max, n = 1;
    int ret;

    *run = 0;
    *alloc = MIN(bytes, bytes_to_slice_end(s, offset));
    ret = find_table(bs, offset, &l2_offset);
    if (ret < 0 || !l2_offset) {
        return ret;
    }
    ret = qcow2_l2_load_slice(bs, offset, l2_offset, &slice);
    if (ret < 0) {
        return ret;
    }
    idx = offset_to_l2_slice_index(s, offset);
    max = size_to_clusters(s, in_cluster + *alloc);
    entry = get_l2_entry(slice, idx);
    if (is_inplace(s, entry)) {
        uint64_t host = entry & L2E_OFFSET_MASK;

        while (n < max) {
            uint64_t next = get_l2_entry(slice, idx + n);

            if (!is_inplace(s, next) ||
                (next & L2E_OFFSET_MASK) !=
                    host + ((uint64_t)n << s->cluster_bits)) {
                break;
            }
            n++;
        }
        *host_offset = host + in_cluster;
        *run = MIN(*alloc, ((uint64_t)n << s->cluster_bits) - in_cluster);
        *alloc = 0;
    } else {
        while (n < max && !is_inplace(s, get_l2_entry(slice, idx + n))) {
            n++;
        }
        *alloc = MIN(*alloc, ((uint64_t)n << s->cluster_bits) - in_cluster);
    }
    slice_put(s, &slice);
    ret = check_entry(bs, entry, offset, l2_offset);
    if (ret == 0 && *run) {
        uint64_t clusters = n;

        ret = check_in_file(bs, entry, offset, l2_offset, &clusters);
        *run = MIN(*run, (clusters << s->cluster_bits) - in_cluster);
    }
    return ret;
}

/* Fills the new table at @to, from the one at @from if that is not 0. */
static int coroutine_fn copy_table(BlockDriverState *bs, uint64_t from,
                                   uint64_t to)
{
    BDRVQcow2State *s = bs->opaque;
    int slice_bytes = s->l2_slice_size * L2E_SIZE_NORMAL;

    for (int pos = 0; pos < s->cluster_size; pos += slice_bytes) {
        void *old = NULL, *new;
        int ret;

        ret = qcow2_cache_get_empty(bs, s->l2_table_cache, to + pos, &new);
        if (ret < 0) {
            return ret;
        }
        if (from) {
            BLKDBG_EVENT(bs->file, BLKDBG_L2_ALLOC_COW_READ);
            ret = qcow2_cache_get(bs, s->l2_table_cache, from + pos, &old);
            if (ret == 0) {
                memcpy(new, old, slice_bytes);
                qcow2_cache_put(s->l2_table_cache, &old);
            }
        }
        if (ret == 0) {
            qcow2_cache_entry_mark_dirty(s->l2_table_cache, new);
        }
        qcow2_cache_put(s->l2_table_cache, &new);
        if (ret < 0) {
            return ret;
        }
    }
    return 0;
}

/* A table of its own for L1 entry @l1_index, whose table now is @old. */
static int coroutine_fn make_table(BlockDriverState *bs, uint64_t l1_index,
                                   uint64_t old)
{
    BDRVQcow2State *s = bs->opaque;
    uint64_t entry;
    int64_t new;
    int ret;

    BLKDBG_EVENT(bs->file, BLKDBG_L2_ALLOC_WRITE);
    new = qcow2_alloc_clusters(bs, s->cluster_size);
    if (new < 0) {
        return new;
    }
    ret = qcow2_pre_write_overlap_check(bs, 0, new, s->cluster_size);
    if (ret < 0) {
        return ret;     /* the image is corrupt: leave everything as it is */
    }
    ret = copy_table(bs, old, new);
    if (ret < 0) {
        qcow2_cache_discard_range(s->l2_table_cache, new, s->cluster_size);
        qcow2_unalloc_clusters(bs, new, s->cluster_size);
        return ret;
    }
    entry = new | QCOW_OFLAG_COPIED;
    qcow2_l1_update(bs, l1_index, 1, &entry);
    if (old) {
        qcow2_free_clusters(bs, old, s->cluster_size, QCOW2_DISCARD_OTHER);
    }
    return 0;
}

int coroutine_fn qcow2_l2_get_writable(BlockDriverState *bs, uint64_t offset,
                                       uint64_t **l2_slice, int *l2_index)
{
    BDRVQcow2State *s = bs->opaque;
    uint64_t l1_index = offset_to_l1_index(s, offset);
    uint64_t l2_offset;
    int ret;

    if (l1_index >= s->l1.size) {
        ret = qcow2_grow_l1_table(bs, l1_index + 1, false);
        if (ret < 0) {
            return ret;
        }
    }
    ret = find_table(bs, offset, &l2_offset);
    if (ret < 0) {
        return ret;
    }
    if (!l2_offset || !(s->l1.entries[l1_index] & QCOW_OFLAG_COPIED)) {
        ret = make_table(bs, l1_index, l2_offset);
        if (ret < 0) {
            return ret;
        }
        l2_offset = s->l1.entries[l1_index] & L1E_OFFSET_MASK;
    }
    *l2_index = offset_to_l2_slice_index(s, offset);
    return qcow2_l2_load_slice(bs, offset, l2_offset, l2_slice);
}
