/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Before something is written: does it lie on metadata of another kind?
 *
 * In a sound image the answer is never yes. In a damaged one this is what
 * keeps a wrong entry from destroying the tables. The range is taken in whole
 * clusters, because a cluster has one owner.
 *
 * All sets but the inactive L2 tables are decided from memory; these take the
 * snapshots' L1 tables from disk at every write, so they are off by default.
 */
#include "util/osdep.h"
#include "util/bswap.h"
#include "block/qcow2/qcow2.h"

/* Bytes of an inactive L1 table read at a time. */
#define PIECE_BYTES (64 * 1024)

/* Clusters to be written: [start, end), never empty. */
typedef struct Range {
    uint64_t start;
    uint64_t end;
} Range;

static bool overlaps(const Range *r, uint64_t offset, uint64_t bytes)
{
    return bytes > 0 && offset < r->end &&
           (offset >= r->start || r->start - offset < bytes);
}

/*
 * Whether one of the clusters that @entries name (as @mask tells, 0 for none)
 * is in the range. Called for every write: one comparison an entry.
 */
static bool table_names_range(const BDRVQcow2State *s, const Range *r,
                              const uint64_t *entries, uint32_t n,
                              uint64_t mask)
{
    /* An offset in [first, first + span) overlaps; 0 is made to miss. */
    uint64_t first = MAX(r->start, s->cluster_size - 1) -
                     (s->cluster_size - 1);
    uint64_t span = r->end - first;
    uint64_t hits = 0;
    uint32_t i;

    for (i = 0; i < n; i++) {
        uint64_t offset = entries[i] & mask;

        hits += (offset - first < span) & (offset != 0);
    }
    return hits != 0;
}

static bool overlaps_inactive_l1(const BDRVQcow2State *s, const Range *r)
{
    uint32_t i;

    for (i = 0; i < s->nb_snapshots; i++) {
        const QCowSnapshot *sn = &s->snapshots[i];

        if (overlaps(r, sn->l1_table_offset,
                     (uint64_t)sn->l1_size * L1E_SIZE)) {
            return true;
        }
    }
    return false;
}

/* 1 if the range lies on an L2 table of @sn, 0 if not, or -errno. */
static int coroutine_fn overlaps_l2_of(BlockDriverState *bs, const Range *r,
                                       const QCowSnapshot *sn, uint64_t *piece)
{
    BDRVQcow2State *s = bs->opaque;
    uint64_t left = (uint64_t)sn->l1_size * L1E_SIZE;
    uint64_t offset = sn->l1_table_offset;
    uint64_t n, i;
    int ret;

    if (left > QCOW_MAX_L1_SIZE) {
        return -EFBIG;
    }
    for (; left; left -= n, offset += n) {
        n = MIN(left, PIECE_BYTES);
        ret = bdrv_co_pread(bs->file, offset, n, piece, 0);
        if (ret < 0) {
            return ret;
        }
        for (i = 0; i < n / L1E_SIZE; i++) {
            be64_to_cpus(&piece[i]);
        }
        if (table_names_range(s, r, piece, n / L1E_SIZE, L1E_OFFSET_MASK)) {
            return 1;
        }
    }
    return 0;
}

static int coroutine_fn overlaps_inactive_l2(BlockDriverState *bs,
                                             const Range *r)
{
    BDRVQcow2State *s = bs->opaque;
    QEMU_AUTO_VFREE uint64_t *piece = NULL;
    uint32_t i;
    int ret = 0;

    if (s->nb_snapshots == 0) {
        return 0;
    }
    piece = qemu_try_blockalign(bs->file->bs, PIECE_BYTES);
    if (!piece) {
        return -ENOMEM;
    }
    for (i = 0; i < s->nb_snapshots && ret == 0; i++) {
        ret = overlaps_l2_of(bs, r, &s->snapshots[i], piece);
    }
    return ret;
}

/* The sets that are one range or a table in memory. */
static int overlap_in_memory(const BDRVQcow2State *s, int chk,
                             const Range *r)
{
    if (chk & QCOW2_OL_MAIN_HEADER && r->start < s->cluster_size) {
        return QCOW2_OL_MAIN_HEADER;
    }
    if (chk & QCOW2_OL_ACTIVE_L1 &&
        overlaps(r, s->l1.offset, (uint64_t)s->l1.size * L1E_SIZE)) {
        return QCOW2_OL_ACTIVE_L1;
    }
    /* Its guard belongs to it. */
    if (chk & QCOW2_OL_ACTIVE_L1 &&
        (overlaps(r, s->guard.place.offset, s->guard.place.bytes) ||
         overlaps(r, s->guard.next.offset, s->guard.next.bytes))) {
        return QCOW2_OL_ACTIVE_L1;
    }
    if (chk & QCOW2_OL_ACTIVE_L2 &&
        table_names_range(s, r, s->l1.entries, s->l1.size,
                          L1E_OFFSET_MASK)) {
        return QCOW2_OL_ACTIVE_L2;
    }
    if (chk & QCOW2_OL_REFCOUNT_TABLE &&
        overlaps(r, s->reftable.offset,
                 (uint64_t)s->reftable.size * REFTABLE_ENTRY_SIZE)) {
        return QCOW2_OL_REFCOUNT_TABLE;
    }
    if (chk & QCOW2_OL_REFCOUNT_BLOCK &&
        table_names_range(s, r, s->reftable.entries,
                          MIN(s->reftable.size,
                              s->max_refcount_table_index + 1),
                          REFT_OFFSET_MASK)) {
        return QCOW2_OL_REFCOUNT_BLOCK;
    }
    if (chk & QCOW2_OL_SNAPSHOT_TABLE &&
        overlaps(r, s->snapshots_offset, s->snapshots_size)) {
        return QCOW2_OL_SNAPSHOT_TABLE;
    }
    if (chk & QCOW2_OL_INACTIVE_L1 && overlaps_inactive_l1(s, r)) {
        return QCOW2_OL_INACTIVE_L1;
    }
    if (chk & QCOW2_OL_BITMAP_DIRECTORY && s->has_bitmaps_ext &&
        s->autoclear_features & QCOW2_AUTOCLEAR_BITMAPS &&
        overlaps(r, s->bitmap_directory_offset, s->bitmap_directory_size)) {
        return QCOW2_OL_BITMAP_DIRECTORY;
    }
    return 0;
}

bool qcow2_overlaps_other_metadata(const BDRVQcow2State *s, uint64_t offset)
{
    const Range r = { offset, offset + s->cluster_size };

    return overlap_in_memory(s, QCOW2_OL_ALL & ~QCOW2_OL_ACTIVE_L2, &r) != 0;
}

int coroutine_fn qcow2_check_metadata_overlap(BlockDriverState *bs, int ignore,
                                              uint64_t offset, uint64_t bytes)
{
    BDRVQcow2State *s = bs->opaque;
    int chk = s->overlap_check & ~ignore;
    Range r;
    int ret;

    if (!chk || !bytes) {
        return 0;
    }
    if (offset > INT64_MAX - s->cluster_size - bytes) {
        return -EINVAL;
    }
    r.start = start_of_cluster(s, offset);
    r.end = ROUND_UP(offset + bytes, s->cluster_size);

    ret = overlap_in_memory(s, chk, &r);
    if (ret == 0 && chk & QCOW2_OL_INACTIVE_L2) {
        ret = overlaps_inactive_l2(bs, &r);
        if (ret > 0) {
            ret = QCOW2_OL_INACTIVE_L2;
        }
    }
    return ret;
}

static const char *overlap_name(int bit)
{
    switch (bit) {
    case QCOW2_OL_MAIN_HEADER:
        return "qcow2_header";
    case QCOW2_OL_ACTIVE_L1:
        return "active L1 table";
    case QCOW2_OL_ACTIVE_L2:
        return "active L2 table";
    case QCOW2_OL_REFCOUNT_TABLE:
        return "refcount table";
    case QCOW2_OL_REFCOUNT_BLOCK:
        return "refcount block";
    case QCOW2_OL_SNAPSHOT_TABLE:
        return "snapshot table";
    case QCOW2_OL_INACTIVE_L1:
        return "inactive L1 table";
    case QCOW2_OL_INACTIVE_L2:
        return "inactive L2 table";
    case QCOW2_OL_BITMAP_DIRECTORY:
        return "bitmap directory";
    default:
        return "metadata";
    }
}

int coroutine_fn qcow2_pre_write_overlap_check(BlockDriverState *bs,
                                               int ignore, uint64_t offset,
                                               uint64_t bytes)
{
    int ret;

    if (qcow2_is_stopped(bs->opaque)) {
        return -EUCLEAN;
    }
    ret = qcow2_check_metadata_overlap(bs, ignore, offset, bytes);
    if (ret < 0) {
        return ret;
    }
    if (ret > 0) {
        qcow2_signal_corruption(bs, true, offset, bytes, "Preventing invalid "
                                "write on metadata (overlaps with %s)",
                                overlap_name(ret));
        return -EIO;
    }
    return 0;
}
