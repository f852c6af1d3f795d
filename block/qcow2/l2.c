/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * L2 tables: where guest clusters are.
 *
 * Tables are read and written in slices through the L2 cache. Entries come
 * from the image and are judged before anybody uses them: an offset that is
 * not cluster aligned or not in the file, a zero flag in a version 2 image, or
 * a bitmap of subclusters that contradicts itself or its descriptor, is
 * corruption.
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
                          l2_offset + start * qcow2_l2_entry_size(s), &table);
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
                                    uint64_t bitmap, uint64_t offset,
                                    uint64_t l2_offset)
{
    BDRVQcow2State *s = bs->opaque;
    uint64_t host = entry & L2E_OFFSET_MASK;

    if (s->salvage) {
        return qcow2_salvage_judge_data(bs, entry, bitmap, offset).lost
                   ? -EIO : 0;
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
    if (unlikely(offset_into_cluster(s, host))) {
        qcow2_signal_corruption(bs, true, -1, -1,
                                "%s offset %#" PRIx64 " unaligned "
                                "(L2 offset: %#" PRIx64 ", L2 index: %#x)",
                                entry & QCOW_OFLAG_ZERO && !s->extended_l2
                                    ? "Preallocated zero cluster"
                                    : "Cluster allocation",
                                host, l2_offset,
                                offset_to_l2_index(s, offset));
        return -EIO;
    }
    if (unlikely(!qcow2_bitmap_is_valid(s, entry, bitmap))) {
        qcow2_signal_corruption(bs, true, -1, -1,
                                "Invalid cluster entry found  (L2 offset: %#"
                                PRIx64 ", L2 index: %#x)", l2_offset,
                                offset_to_l2_index(s, offset));
        return -EIO;
    }
    return 0;
}

/*
 * Cuts a run of @n subclusters of data at guest @offset where the file ends;
 * signals if it ends before the cluster of the first.
 */
static int coroutine_fn check_in_file(BlockDriverState *bs, uint64_t entry,
                                      uint64_t offset, uint64_t l2_offset,
                                      uint64_t *n)
{
    BDRVQcow2State *s = bs->opaque;
    uint64_t before = offset_to_subcluster(s, offset);
    uint64_t per_cluster = s->subclusters_per_cluster;
    uint64_t clusters =
        qcow2_clusters_in_file(bs, entry & L2E_OFFSET_MASK,
                               DIV_ROUND_UP(before + *n, per_cluster));

    if (clusters) {
        *n = MIN(*n, clusters * per_cluster - before);
        return 0;
    }
    qcow2_signal_corruption(bs, false, -1, -1,
                            "Data cluster at %#" PRIx64 " is beyond the end "
                            "of the file (L2 offset: %#" PRIx64
                            ", L2 index: %#x)",
                            (uint64_t)(entry & L2E_OFFSET_MASK), l2_offset,
                            offset_to_l2_index(s, offset));
    return -EIO;
}

/* --- runs --- */

/*
 * Guest @offset in a slice, and how far to look from there. In the slice are
 * all of @max entries.
 */
typedef struct Place {
    const uint64_t *slice;
    int idx;
    unsigned sc;            /* subcluster of the first entry */
    int max;
} Place;

static Place place_of(const BDRVQcow2State *s, const uint64_t *slice,
                      uint64_t offset, uint64_t bytes)
{
    return (Place) {
        .slice = slice,
        .idx = offset_to_l2_slice_index(s, offset),
        .sc = offset_to_subcluster(s, offset),
        .max = size_to_clusters(s, offset_into_cluster(s, offset) + bytes),
    };
}

/* Bytes of guest @offset and what follows it in @n subclusters. */
static uint64_t subclusters_to_bytes(const BDRVQcow2State *s, uint64_t offset,
                                     uint64_t n)
{
    return (n << s->subcluster_bits) - (offset & (s->subcluster_size - 1));
}

/* For a reader it makes no difference what has a host cluster for nothing. */
static QCow2ClusterType type_to_read(QCow2ClusterType type)
{
    return type == QCOW2_CLUSTER_UNALLOCATED_ALLOC ? QCOW2_CLUSTER_UNALLOCATED
           : type == QCOW2_CLUSTER_ZERO_ALLOC ? QCOW2_CLUSTER_ZERO_PLAIN : type;
}

static bool type_has_host(QCow2ClusterType type)
{
    return type == QCOW2_CLUSTER_NORMAL || type == QCOW2_CLUSTER_ZERO_ALLOC ||
           type == QCOW2_CLUSTER_UNALLOCATED_ALLOC;
}

/*
 * Whether entry @idx starts with a subcluster of @type, and then how many follow
 * each other; 0 if not, or if the entry cannot be.
 */
static unsigned count_in_entry(const BDRVQcow2State *s, const uint64_t *slice,
                               int idx, QCow2ClusterType type, bool to_read)
{
    uint64_t entry = get_l2_entry(s, slice, idx);
    uint64_t bitmap = get_l2_bitmap(s, slice, idx);
    QCow2ClusterType found;

    if (!qcow2_bitmap_is_valid(s, entry, bitmap)) {
        return 0;
    }
    found = qcow2_get_subcluster_type(s, entry, bitmap, 0);
    if ((to_read ? type_to_read(found) : found) != type) {
        return 0;
    }
    /* Reserved in version 2: looked at when it comes first. */
    if (s->qcow_version < 3 && (entry & QCOW_OFLAG_ZERO)) {
        return 0;
    }
    return qcow2_subcluster_run(s, bitmap, 0);
}

/*
 * How many subclusters go on as the one at @p, which is of @type, or is read as
 * such. Its bitmap may be wrong.
 */
static uint64_t count_same(const BDRVQcow2State *s, Place p,
                           QCow2ClusterType type, bool to_read)
{
    uint64_t host = get_l2_entry(s, p.slice, p.idx) & L2E_OFFSET_MASK;
    bool has_host = type_has_host(type);
    uint64_t n;

    if (type == QCOW2_CLUSTER_COMPRESSED) {
        return s->subclusters_per_cluster - p.sc;
    }
    n = qcow2_subcluster_run(s, get_l2_bitmap(s, p.slice, p.idx), p.sc);
    for (int i = 1; i < p.max; i++) {
        unsigned more;

        if (p.sc + n != (uint64_t)i * s->subclusters_per_cluster) {
            break;
        }
        if (has_host && (get_l2_entry(s, p.slice, p.idx + i) &
                         L2E_OFFSET_MASK) !=
                        host + ((uint64_t)i << s->cluster_bits)) {
            break;
        }
        more = count_in_entry(s, p.slice, p.idx + i, type, to_read);
        if (!more) {
            break;
        }
        n += more;
    }
    return n;
}

/* qcow2_get_host_offset(), or qcow2_get_run_to_read(). */
static int coroutine_fn find_run(BlockDriverState *bs, uint64_t offset,
                                 uint64_t *bytes, uint64_t *host_offset,
                                 QCow2ClusterType *type, uint64_t *l2_entry,
                                 bool to_read)
{
    BDRVQcow2State *s = bs->opaque;
    uint64_t l2_offset, entry, bitmap, run, *slice = NULL;
    Place p;
    int ret;

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
    p = place_of(s, slice, offset, MIN(*bytes, bytes_to_slice_end(s, offset)));
    entry = get_l2_entry(s, slice, p.idx);
    bitmap = get_l2_bitmap(s, slice, p.idx);
    *type = qcow2_get_subcluster_type(s, entry, bitmap, p.sc);
    *type = to_read ? type_to_read(*type) : *type;
    run = count_same(s, p, *type, to_read);
    slice_put(s, &slice);

    ret = check_entry(bs, entry, bitmap, offset, l2_offset);
    if (ret == 0 && *type == QCOW2_CLUSTER_NORMAL) {
        ret = check_in_file(bs, entry, offset, l2_offset, &run);
    }
    if (ret < 0) {
        return ret;
    }
    *l2_entry = entry;
    *bytes = MIN(*bytes, subclusters_to_bytes(s, offset, run));
    if (type_has_host(*type)) {
        *host_offset = (entry & L2E_OFFSET_MASK) +
                       offset_into_cluster(s, offset);
    }
    return 0;
}

int coroutine_fn qcow2_get_host_offset(BlockDriverState *bs, uint64_t offset,
                                       uint64_t *bytes, uint64_t *host_offset,
                                       QCow2ClusterType *type,
                                       uint64_t *l2_entry)
{
    return find_run(bs, offset, bytes, host_offset, type, l2_entry, false);
}

int coroutine_fn qcow2_get_run_to_read(BlockDriverState *bs, uint64_t offset,
                                       uint64_t *bytes, uint64_t *host_offset,
                                       QCow2ClusterType *type,
                                       uint64_t *l2_entry)
{
    return find_run(bs, offset, bytes, host_offset, type, l2_entry, true);
}

/*
 * How many subclusters of entry @idx from @sc on can be written in place, or,
 * the other way round, cannot, as @inplace wants; 0 if that is not so at @sc.
 */
static unsigned count_writable(const BDRVQcow2State *s, const uint64_t *slice,
                               int idx, unsigned sc, bool inplace)
{
    uint64_t entry = get_l2_entry(s, slice, idx);
    uint64_t bitmap = get_l2_bitmap(s, slice, idx);
    uint64_t data;

    if (!(entry & QCOW_OFLAG_COPIED) ||
        qcow2_get_cluster_type(s, entry) != QCOW2_CLUSTER_NORMAL) {
        return inplace ? 0 : s->subclusters_per_cluster - sc;
    }
    if (!s->extended_l2) {
        return inplace;
    }
    /* A bit behind the end stops the search. */
    data = inplace ? ~bitmap & QCOW2_BITMAP_ALL_DATA
                   : bitmap & QCOW2_BITMAP_ALL_DATA;
    return __builtin_ctzll((data | 1ULL << QCOW2_SUBCLUSTERS) >> sc);
}

/* How many subclusters from @p on can be written in place, one behind the other
 * on the host, or cannot. */
static uint64_t writable_run(const BDRVQcow2State *s, Place p, bool inplace)
{
    uint64_t host = get_l2_entry(s, p.slice, p.idx) & L2E_OFFSET_MASK;
    uint64_t n = count_writable(s, p.slice, p.idx, p.sc, inplace);

    for (int i = 1; i < p.max; i++) {
        uint64_t entry = get_l2_entry(s, p.slice, p.idx + i);

        if (p.sc + n != (uint64_t)i * s->subclusters_per_cluster ||
            !qcow2_bitmap_is_valid(s, entry,
                                   get_l2_bitmap(s, p.slice, p.idx + i))) {
            break;
        }
        if (inplace && (entry & L2E_OFFSET_MASK) !=
                       host + ((uint64_t)i << s->cluster_bits)) {
            break;
        }
        n += count_writable(s, p.slice, p.idx + i, 0, inplace);
    }
    return n;
}

int coroutine_fn qcow2_get_inplace_run(BlockDriverState *bs, uint64_t offset,
                                       uint64_t bytes, uint64_t *run,
                                       uint64_t *host_offset, uint64_t *alloc)
{
    BDRVQcow2State *s = bs->opaque;
    uint64_t l2_offset, entry, bitmap, n, *slice = NULL;
    Place p;
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
    p = place_of(s, slice, offset, *alloc);
    entry = get_l2_entry(s, slice, p.idx);
    bitmap = get_l2_bitmap(s, slice, p.idx);
    n = writable_run(s, p, true);
    if (n) {
        *host_offset = (entry & L2E_OFFSET_MASK) +
                       offset_into_cluster(s, offset);
        *run = MIN(*alloc, subclusters_to_bytes(s, offset, n));
        *alloc = 0;
    } else {
        n = writable_run(s, p, false);
        *alloc = MIN(*alloc, subclusters_to_bytes(s, offset, n));
    }
    slice_put(s, &slice);
    ret = check_entry(bs, entry, bitmap, offset, l2_offset);
    if (ret == 0 && *run) {
        ret = check_in_file(bs, entry, offset, l2_offset, &n);
        *run = MIN(*run, subclusters_to_bytes(s, offset, n));
    }
    return ret;
}

/* Fills the new table at @to, from the one at @from if that is not 0. */
static int coroutine_fn copy_table(BlockDriverState *bs, uint64_t from,
                                   uint64_t to)
{
    BDRVQcow2State *s = bs->opaque;
    int slice_bytes = s->l2_slice_size * qcow2_l2_entry_size(s);

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
