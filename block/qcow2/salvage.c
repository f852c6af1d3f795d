/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Salvaging: the survey of all metadata of the disk that is shown.
 *
 * The first pass judges every L1 and L2 entry, notes those that lead nowhere,
 * and counts who refers to which host cluster. A cluster may be referred to
 * once; compressed clusters share theirs with each other only. The second pass
 * tells which guest ranges meet in a cluster, or use one that is free: both
 * sides of an overlap can be read, and either may be wrong.
 *
 * Memory follows what is allocated: two bits a host cluster, and 24 bytes for
 * each compressed cluster.
 */
#include "util/osdep.h"
#include "util/lockable.h"
#include "block/qcow2/check-counts.h"
#include "block/qcow2/salvage.h"

/* Of a table, of which more bad entries than good ones make no part of one. */
#define GROUP_BYTES 512
/* No file is longer: what an entry says beyond it is noise. */
#define FARTHEST (1ULL << 50)

typedef struct Packed {
    uint64_t host;
    uint64_t host_end;      /* of the sectors that nobody else may use */
    uint64_t guest;
} Packed;

typedef struct Survey {
    BlockDriverState *bs;
    uint64_t length;            /* of the file */
    Qcow2CheckCounts *whole;    /* references to whole clusters, up to 2 */
    Qcow2CheckCounts *shared;   /* 1: compressed clusters are there */
    GArray *packed;             /* of Packed */
    uint64_t beyond;            /* entries that lead behind the end */
    uint64_t l1_used;           /* entries of the L1 table that count */
} Survey;

/* Called for each entry that is not zero: guest offset, entry, verdict. */
typedef void coroutine_fn EntryFn(Survey *v, uint64_t guest, uint64_t entry,
                                  Qcow2Verdict verdict);

/* --- counting --- */

static void count_range(Survey *v, uint64_t offset, uint64_t bytes)
{
    BDRVQcow2State *s = v->bs->opaque;

    if (!bytes || offset >= v->length) {
        return;
    }
    bytes = MIN(bytes, v->length - offset);
    for (uint64_t i = offset >> s->cluster_bits;
         i <= (offset + bytes - 1) >> s->cluster_bits; i++) {
        qcow2_check_counts_add(v->whole, i, 1, 2);
    }
}

static void count_metadata(Survey *v)
{
    BDRVQcow2State *s = v->bs->opaque;

    count_range(v, 0, s->cluster_size);
    count_range(v, s->l1.offset, (uint64_t)s->l1.size * L1E_SIZE);
    count_range(v, s->reftable.offset,
                (uint64_t)s->reftable.size * REFTABLE_ENTRY_SIZE);
    for (uint32_t i = 0; i < s->reftable.size; i++) {
        uint64_t block = s->reftable.entries[i] & REFT_OFFSET_MASK;

        if (block && !offset_into_cluster(s, block)) {
            count_range(v, block, s->cluster_size);
        }
    }
    count_range(v, s->snapshots_offset, s->snapshots_size);
    for (uint32_t i = 0; s->snapshots && i < s->nb_snapshots; i++) {
        const QCowSnapshot *sn = &s->snapshots[i];

        if (sn->l1_table_offset != s->l1.offset &&
            sn->l1_size <= QCOW_MAX_L1_SIZE / L1E_SIZE) {
            count_range(v, sn->l1_table_offset,
                        (uint64_t)sn->l1_size * L1E_SIZE);
        }
    }
    if (s->has_bitmaps_ext) {
        count_range(v, s->bitmap_directory_offset, s->bitmap_directory_size);
    }
}

static void coroutine_fn count_packed(Survey *v, uint64_t guest,
                                      uint64_t entry)
{
    BDRVQcow2State *s = v->bs->opaque;
    Packed p = { .guest = guest };
    int size;

    qcow2_parse_compressed_l2_entry(s, entry, &p.host, &size);
    /* The last sector may be shared, and so may be the first one. */
    p.host_end = QEMU_ALIGN_DOWN(p.host + size - 1,
                                 (uint64_t)QCOW2_COMPRESSED_SECTOR_SIZE);
    p.host_end = MAX(p.host_end, p.host + 1);
    g_array_append_val(v->packed, p);
    for (uint64_t i = p.host >> s->cluster_bits;
         i <= (p.host + size - 1) >> s->cluster_bits; i++) {
        qcow2_check_counts_set(v->shared, i, 1);
    }
}

static void coroutine_fn count_entry(Survey *v, uint64_t guest, uint64_t entry,
                                     Qcow2Verdict verdict)
{
    BDRVQcow2State *s = v->bs->opaque;
    uint64_t host = entry & L2E_OFFSET_MASK;

    if (verdict.cause) {
        bdrv_damage_add(v->bs, verdict.lost ? BDRV_DAMAGE_LOST
                                            : BDRV_DAMAGE_SUSPECT,
                        guest, s->cluster_size, host, verdict.cause);
        v->beyond += !s->has_data_file && host >= v->length;
    }
    if (verdict.lost) {
        return;
    }
    if (entry & QCOW_OFLAG_COMPRESSED) {
        count_packed(v, guest, entry);
    } else if (host && !s->has_data_file) {
        count_range(v, host, s->cluster_size);
    }
}

/* --- suspicion --- */

static void suspect(Survey *v, uint64_t guest, uint64_t bytes, uint64_t host,
                    const char *cause)
{
    bdrv_damage_add(v->bs, BDRV_DAMAGE_SUSPECT, guest, bytes, host, cause);
}

/* Whether somebody else uses the @clusters at @host, which are used @packed. */
static bool overlaps(Survey *v, uint64_t host, uint64_t clusters, bool packed)
{
    BDRVQcow2State *s = v->bs->opaque;
    uint64_t first = host >> s->cluster_bits;

    for (uint64_t i = first; i < first + clusters; i++) {
        uint64_t whole = qcow2_check_counts_get(v->whole, i);

        if (packed ? whole > 0
                   : whole > 1 || qcow2_check_counts_get(v->shared, i)) {
            return true;
        }
    }
    return false;
}

/* What the refcount says of a reference that owns its cluster if @copied. */
static const char *coroutine_fn count_fault(Survey *v, uint64_t host,
                                            bool has_flag, bool copied)
{
    BDRVQcow2State *s = v->bs->opaque;
    uint64_t refcount;

    if (s->refcounts_void || (s->incompatible_features & QCOW2_INCOMPAT_DIRTY) ||
        qcow2_get_refcount(v->bs, host >> s->cluster_bits, &refcount) < 0) {
        return NULL;
    }
    if (!refcount) {
        return "its cluster is marked free";
    }
    if (refcount == s->refcount_max && s->refcount_bits > 1) {
        return NULL;    /* most likely poison */
    }
    if (has_flag && !s->shows_snapshot && copied != (refcount == 1)) {
        return "its flag and its refcount do not agree";
    }
    return NULL;
}

/* Nothing in a data file is shared or counted; it may have been cut off. */
static void suspect_data_file(Survey *v, uint64_t guest, uint64_t entry)
{
    BDRVQcow2State *s = v->bs->opaque;
    uint64_t length = qatomic_read(&qcow2_data_child(v->bs)->bs->total_bytes);
    uint64_t end = MIN(guest + s->cluster_size,
                       ROUND_DOWN(s->disk_size, BDRV_SECTOR_SIZE));

    if (qcow2_get_cluster_type(s, entry) == QCOW2_CLUSTER_NORMAL &&
        end > length) {
        suspect(v, guest, s->cluster_size, guest,
                "its cluster reaches beyond the end of the file");
    }
}

static void coroutine_fn suspect_entry(Survey *v, uint64_t guest,
                                       uint64_t entry, Qcow2Verdict verdict)
{
    BDRVQcow2State *s = v->bs->opaque;
    bool packed = entry & QCOW_OFLAG_COMPRESSED;
    uint64_t host = entry & L2E_OFFSET_MASK, clusters = 1;
    const char *cause;
    int size;

    if (verdict.lost) {
        return;
    }
    if (s->has_data_file) {
        suspect_data_file(v, guest, entry);
        return;
    }
    if (packed) {
        qcow2_parse_compressed_l2_entry(s, entry, &host, &size);
        clusters = ((host + size - 1) >> s->cluster_bits) -
                   (host >> s->cluster_bits) + 1;
    } else if (!host) {
        return;
    }
    if (overlaps(v, host, clusters, packed)) {
        suspect(v, guest, s->cluster_size, host, "its cluster is used twice");
        return;
    }
    cause = count_fault(v, host, !packed, entry & QCOW_OFLAG_COPIED);
    if (cause) {
        suspect(v, guest, s->cluster_size, host, cause);
    }
    if (v->beyond && !packed && !(entry & QCOW_OFLAG_ZERO) &&
        host + s->cluster_size > v->length) {
        /* A writer may leave the last cluster short, but not with others
         * behind it. */
        suspect(v, guest, s->cluster_size, host,
                "its cluster reaches beyond the end of the file");
    }
}

static int by_host(const void *a, const void *b)
{
    const Packed *x = a, *y = b;

    return x->host < y->host ? -1 : x->host > y->host;
}

/* Compressed clusters that overlap each other. */
static void suspect_packed(Survey *v)
{
    BDRVQcow2State *s = v->bs->opaque;
    const Packed *reach = NULL;     /* the one that goes furthest so far */

    g_array_sort(v->packed, by_host);
    for (guint i = 0; i < v->packed->len; i++) {
        const Packed *p = &g_array_index(v->packed, Packed, i);

        if (reach && p->host < reach->host_end) {
            suspect(v, p->guest, s->cluster_size, p->host,
                    "its compressed data is used twice");
            suspect(v, reach->guest, s->cluster_size, reach->host,
                    "its compressed data is used twice");
        }
        if (!reach || p->host_end > reach->host_end) {
            reach = p;
        }
    }
}

/* --- walking --- */

/* No writer makes such an entry. One behind the end of the file, but not too
 * far, may have been right before the file was cut off. */
static bool is_nonsense(const BDRVQcow2State *s, uint64_t entry,
                        uint64_t bitmap)
{
    return entry != QCOW2_SALVAGE_POISON &&
           qcow2_salvage_judge_l2(s, entry, bitmap, FARTHEST).cause != NULL;
}

/* Entries of a group. */
static int group_size(const BDRVQcow2State *s)
{
    return GROUP_BYTES / qcow2_l2_entry_size(s);
}

/* A sector of a table of which most entries make no sense is something else. */
static bool group_is_nonsense(Survey *v, const uint64_t *slice, int first,
                              uint64_t *clusters)
{
    BDRVQcow2State *s = v->bs->opaque;
    int bad = 0;

    for (int i = 0; i < group_size(s); i++) {
        bad += is_nonsense(s, get_l2_entry(s, slice, first + i),
                           get_l2_bitmap(s, slice, first + i));
    }
    *clusters = MIN(*clusters, (uint64_t)group_size(s));
    return bad >= group_size(s) / 2;
}

static void coroutine_fn walk_group(Survey *v, const uint64_t *slice,
                                    int first, uint64_t guest,
                                    uint64_t table, EntryFn *fn)
{
    BDRVQcow2State *s = v->bs->opaque;
    uint64_t n = size_to_clusters(s, s->disk_size - guest);

    if (group_is_nonsense(v, slice, first, &n)) {
        if (fn == count_entry) {
            bdrv_damage_add(v->bs, BDRV_DAMAGE_LOST, guest,
                            n << s->cluster_bits, table,
                            "L2 table makes no sense");
        }
        return;
    }
    for (uint64_t i = 0; i < n; i++) {
        uint64_t entry = get_l2_entry(s, slice, first + i);
        uint64_t bitmap = get_l2_bitmap(s, slice, first + i);
        Qcow2Verdict verdict = qcow2_salvage_judge_data(
            v->bs, entry, bitmap, guest + (i << s->cluster_bits));

        if (entry == QCOW2_SALVAGE_POISON) {
            if (fn == count_entry) {
                bdrv_damage_add(v->bs, BDRV_DAMAGE_LOST,
                                guest + (i << s->cluster_bits),
                                s->cluster_size, table, verdict.cause);
            }
        } else if (entry || bitmap) {
            fn(v, guest + (i << s->cluster_bits), entry, verdict);
        }
    }
}

/* The part of a table that is cached as one; @guest is where it begins. */
static int coroutine_fn walk_slice(Survey *v, uint64_t table, uint64_t guest,
                                   EntryFn *fn)
{
    BDRVQcow2State *s = v->bs->opaque;
    uint64_t *slice;
    void *p;
    int ret;

    ret = qcow2_l2_load_slice(v->bs, guest, table, &slice);
    if (ret < 0) {
        return ret;
    }
    for (int i = 0; i < s->l2_slice_size; i += group_size(s)) {
        uint64_t at = guest + ((uint64_t)i << s->cluster_bits);

        if (at < s->disk_size) {
            walk_group(v, slice, i, at, table, fn);
        }
    }
    p = slice;
    qcow2_cache_put(s->l2_table_cache, &p);
    return 0;
}

static int coroutine_fn walk_table(Survey *v, uint64_t table, uint64_t guest,
                                   EntryFn *fn)
{
    BDRVQcow2State *s = v->bs->opaque;
    uint64_t step = (uint64_t)s->l2_slice_size << s->cluster_bits;
    uint64_t end = MIN(guest + ((uint64_t)s->l2_size << s->cluster_bits),
                       s->disk_size);
    int ret = 0;

    for (; guest < end && ret == 0; guest += step) {
        ret = walk_slice(v, table, guest, fn);
    }
    return ret;
}

static int coroutine_fn count_table(Survey *v, uint64_t i)
{
    BDRVQcow2State *s = v->bs->opaque;
    int shift = s->cluster_bits + s->l2_bits;
    uint64_t entry = s->l1.entries[i], guest = i << shift;
    uint64_t bytes = MIN(1ULL << shift, s->disk_size - guest);
    Qcow2Verdict verdict = qcow2_salvage_judge_l1(s, entry, v->length);

    if (verdict.cause) {
        v->beyond += (entry & L1E_OFFSET_MASK) >= v->length;
        bdrv_damage_add(v->bs, verdict.lost ? BDRV_DAMAGE_LOST
                                            : BDRV_DAMAGE_SUSPECT,
                        guest, bytes, s->l1.offset, verdict.cause);
    }
    entry &= L1E_OFFSET_MASK;
    if (verdict.lost || !entry) {
        return 0;
    }
    count_range(v, entry, s->cluster_size);
    return walk_table(v, entry, guest, count_entry);
}

static int coroutine_fn suspect_table(Survey *v, uint64_t i)
{
    BDRVQcow2State *s = v->bs->opaque;
    int shift = s->cluster_bits + s->l2_bits;
    uint64_t entry = s->l1.entries[i], guest = i << shift;
    uint64_t table = entry & L1E_OFFSET_MASK;
    const char *cause = NULL;

    if (!table || qcow2_salvage_judge_l1(s, entry, v->length).lost) {
        return 0;
    }
    if (overlaps(v, table, 1, false)) {
        cause = "its L2 table is used twice";
    } else if (count_fault(v, table, true, entry & QCOW_OFLAG_COPIED)) {
        cause = "its L2 table is marked free, or has a wrong flag";
    }
    if (cause) {
        suspect(v, guest, MIN(1ULL << shift, s->disk_size - guest), table,
                cause);
    }
    return walk_table(v, table, guest, suspect_entry);
}

static int coroutine_fn survey(Survey *v)
{
    int ret = 0;

    count_metadata(v);
    for (uint64_t i = 0; i < v->l1_used && ret == 0; i++) {
        ret = count_table(v, i);
    }
    for (uint64_t i = 0; i < v->l1_used && ret == 0; i++) {
        ret = suspect_table(v, i);
    }
    if (ret == 0) {
        suspect_packed(v);
    }
    return ret;
}

int coroutine_fn qcow2_co_survey(BlockDriverState *bs)
{
    BDRVQcow2State *s = bs->opaque;
    int64_t length = bdrv_co_getlength(bs->file->bs);
    g_autoptr(Qcow2CheckCounts) whole = qcow2_check_counts_new();
    g_autoptr(Qcow2CheckCounts) shared = qcow2_check_counts_new();
    g_autoptr(GArray) packed = g_array_new(false, false, sizeof(Packed));
    Survey v = { bs, length, whole, shared, packed };

    if (length < 0) {
        return length;
    }
    QEMU_LOCK_GUARD(&s->lock);
    v.l1_used = MIN(size_to_l1(s, s->disk_size), s->l1.size);
    return survey(&v);
}
