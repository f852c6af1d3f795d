/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One entry of an L2 table: descriptor and, with extended L2 entries, the
 * bitmap that follows it. Only qcow2.h includes this.
 *
 * A cluster has 32 subclusters then. The bitmap has two bits for each: bit x
 * that it is data, bit 32 + x that it reads as zeroes; without either the
 * backing file shows. What is data needs a host cluster; the other two may have
 * one. A compressed cluster has no subclusters, and no bits.
 *
 * An image without extended L2 entries is treated as if each cluster were one
 * subcluster.
 */
#ifndef BLOCK_QCOW2_L2_ENTRY_H
#define BLOCK_QCOW2_L2_ENTRY_H

#define QCOW2_SUBCLUSTERS 32

#define QCOW2_BITMAP_ALL_DATA 0x00000000ffffffffULL
#define QCOW2_BITMAP_ALL_ZERO 0xffffffff00000000ULL

/* --- in tables and slices, whose entries are in memory as on disk --- */

/* Bytes. */
static inline unsigned qcow2_l2_entry_size(const BDRVQcow2State *s)
{
    return L2E_SIZE_NORMAL << s->extended_l2;
}

static inline uint64_t get_l2_entry(const BDRVQcow2State *s,
                                    const uint64_t *l2_slice, int idx)
{
    return GUINT64_FROM_BE(l2_slice[idx << s->extended_l2]);
}

static inline void set_l2_entry(const BDRVQcow2State *s, uint64_t *l2_slice,
                                int idx, uint64_t entry)
{
    l2_slice[idx << s->extended_l2] = GUINT64_TO_BE(entry);
}

/* 0 if entries have no bitmap. */
static inline uint64_t get_l2_bitmap(const BDRVQcow2State *s,
                                     const uint64_t *l2_slice, int idx)
{
    return s->extended_l2 ? GUINT64_FROM_BE(l2_slice[2 * idx + 1]) : 0;
}

/* Nothing if entries have no bitmap. */
static inline void set_l2_bitmap(const BDRVQcow2State *s, uint64_t *l2_slice,
                                 int idx, uint64_t bitmap)
{
    if (s->extended_l2) {
        l2_slice[2 * idx + 1] = GUINT64_TO_BE(bitmap);
    }
}

/* Whether it says nothing at all. */
static inline bool qcow2_l2_entry_is_empty(const BDRVQcow2State *s,
                                           const uint64_t *l2_slice, int idx)
{
    return !get_l2_entry(s, l2_slice, idx) && !get_l2_bitmap(s, l2_slice, idx);
}

/* --- of a whole cluster --- */

/*
 * With extended L2 entries the descriptor only tells whether there is a host
 * cluster: QCOW2_CLUSTER_NORMAL if so, else QCOW2_CLUSTER_UNALLOCATED, whatever
 * its subclusters are.
 */
static inline QCow2ClusterType qcow2_get_cluster_type(const BDRVQcow2State *s,
                                                      uint64_t l2_entry)
{
    if (l2_entry & QCOW_OFLAG_COMPRESSED) {
        return QCOW2_CLUSTER_COMPRESSED;
    }
    if ((l2_entry & QCOW_OFLAG_ZERO) && s->qcow_version >= 3 &&
        !s->extended_l2) {
        return l2_entry & L2E_OFFSET_MASK ? QCOW2_CLUSTER_ZERO_ALLOC
                                          : QCOW2_CLUSTER_ZERO_PLAIN;
    }
    if (l2_entry & L2E_OFFSET_MASK) {
        return QCOW2_CLUSTER_NORMAL;
    }
    /* The first cluster of a data file lies at 0. */
    return (l2_entry & QCOW_OFLAG_COPIED) && s->has_data_file
               ? QCOW2_CLUSTER_NORMAL : QCOW2_CLUSTER_UNALLOCATED;
}

/* Whether the entry has a host cluster that holds guest data as they are. */
static inline bool qcow2_has_host(const BDRVQcow2State *s, uint64_t l2_entry)
{
    QCow2ClusterType type = qcow2_get_cluster_type(s, l2_entry);

    return type == QCOW2_CLUSTER_NORMAL || type == QCOW2_CLUSTER_ZERO_ALLOC;
}

/* The same, and it is ours to write. */
static inline bool qcow2_owns_host(const BDRVQcow2State *s, uint64_t l2_entry)
{
    return (l2_entry & QCOW_OFLAG_COPIED) && qcow2_has_host(s, l2_entry);
}

/* Whether descriptor and bitmap can be together. */
static inline bool qcow2_bitmap_is_valid(const BDRVQcow2State *s,
                                         uint64_t l2_entry, uint64_t bitmap)
{
    if (!s->extended_l2 || !bitmap) {
        return true;
    }
    switch (qcow2_get_cluster_type(s, l2_entry)) {
    case QCOW2_CLUSTER_COMPRESSED:
        return false;
    case QCOW2_CLUSTER_UNALLOCATED:
        return !(bitmap & QCOW2_BITMAP_ALL_DATA);
    default:
        return !(bitmap & bitmap >> 32);
    }
}

/* --- of subclusters --- */

/* Data bits of subclusters [@from, @to) of a cluster; << 32: zero bits. */
static inline uint64_t qcow2_subcluster_mask(unsigned from, unsigned to)
{
    return ((1ULL << to) - 1) & ~((1ULL << from) - 1);
}

/* What subcluster @sc is. If @bitmap is not valid data goes before zeroes. */
static inline QCow2ClusterType
qcow2_get_subcluster_type(const BDRVQcow2State *s, uint64_t l2_entry,
                          uint64_t bitmap, unsigned sc)
{
    QCow2ClusterType type = qcow2_get_cluster_type(s, l2_entry);
    bool zero = bitmap >> 32 >> sc & 1;

    if (!s->extended_l2 || type == QCOW2_CLUSTER_COMPRESSED) {
        return type;
    }
    if (type == QCOW2_CLUSTER_UNALLOCATED) {
        return zero ? QCOW2_CLUSTER_ZERO_PLAIN : QCOW2_CLUSTER_UNALLOCATED;
    }
    return bitmap >> sc & 1 ? QCOW2_CLUSTER_NORMAL
           : zero ? QCOW2_CLUSTER_ZERO_ALLOC : QCOW2_CLUSTER_UNALLOCATED_ALLOC;
}

/* How many subclusters from @sc to the end of the cluster are what @sc is. */
static inline unsigned qcow2_subcluster_run(const BDRVQcow2State *s,
                                            uint64_t bitmap, unsigned sc)
{
    uint64_t data = bitmap & QCOW2_BITMAP_ALL_DATA, zero = bitmap >> 32;
    uint64_t other;

    if (!s->extended_l2) {
        return 1;
    }
    /* Bits are set where one of the two differs, and behind the end. */
    other = (data ^ (data >> sc & 1 ? QCOW2_BITMAP_ALL_DATA : 0)) |
            (zero ^ (zero >> sc & 1 ? QCOW2_BITMAP_ALL_DATA : 0)) |
            1ULL << QCOW2_SUBCLUSTERS;
    return __builtin_ctzll(other >> sc);
}

/* The bitmap when subclusters of @mask have become data. */
static inline uint64_t qcow2_bitmap_set_data(uint64_t bitmap, uint64_t mask)
{
    return (bitmap | mask) & ~(mask << 32);
}

/* The same when they read as zeroes. */
static inline uint64_t qcow2_bitmap_set_zero(uint64_t bitmap, uint64_t mask)
{
    return (bitmap | mask << 32) & ~mask;
}

/*
 * The subclusters [*@first, *@end) of the cluster hold all its data; false if it
 * has none.
 */
static inline bool qcow2_data_span(const BDRVQcow2State *s, uint64_t l2_entry,
                                   uint64_t bitmap, unsigned *first,
                                   unsigned *end)
{
    uint64_t data = bitmap & QCOW2_BITMAP_ALL_DATA;

    *first = 0;
    *end = s->subclusters_per_cluster;
    switch (qcow2_get_cluster_type(s, l2_entry)) {
    case QCOW2_CLUSTER_COMPRESSED:
        return true;
    case QCOW2_CLUSTER_NORMAL:
        if (s->extended_l2 && data) {
            *first = __builtin_ctzll(data);
            *end = 64 - __builtin_clzll(data);
        }
        return !s->extended_l2 || data;
    default:
        return false;
    }
}

/* Where compressed data lies; the last of its sectors may be short. */
static inline void qcow2_parse_compressed_l2_entry(const BDRVQcow2State *s,
                                                   uint64_t l2_entry,
                                                   uint64_t *coffset,
                                                   int *csize)
{
    int nb_csectors;

    *coffset = l2_entry & s->cluster_offset_mask;
    nb_csectors = ((l2_entry >> s->csize_shift) & s->csize_mask) + 1;
    *csize = nb_csectors * QCOW2_COMPRESSED_SECTOR_SIZE -
             (*coffset & (QCOW2_COMPRESSED_SECTOR_SIZE - 1));
}

#endif
