/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Who is right where L1 table and guard differ, as far as an open can tell.
 *
 * Each L1 table, the snapshots' too, counts one reference to each L2 table
 * that it names. So the refcounts of L2 tables say whether one has lost its
 * entry, and whether one has an entry that nobody has counted. Data clusters
 * are not looked at: what is not plain here is for a check.
 */
#include "util/osdep.h"
#include "util/bswap.h"
#include "util/memalign.h"
#include "block/qcow2/guard-io.h"
#include "block/qcow2/snapshot.h"

/* Bytes of a snapshot's L1 table read at a time. */
#define PIECE_BYTES (64 * 1024)

typedef struct Evidence {
    BlockDriverState *bs;
    const uint64_t *want;
    GHashTable *refs;       /* offset of an L2 table that is of interest →
                             * references; keys and values are numbers */
    GHashTable *wanted;     /* those that the guard has → references */
    GHashTable *actual;     /* those that the L1 table has → references */
    uint64_t *buf;          /* a cluster, at least PIECE_BYTES */
} Evidence;

static gpointer key(uint64_t offset)
{
    return GSIZE_TO_POINTER(offset);
}

static uint64_t get(GHashTable *t, uint64_t offset)
{
    return GPOINTER_TO_SIZE(g_hash_table_lookup(t, key(offset)));
}

static void add(GHashTable *t, uint64_t offset)
{
    g_hash_table_insert(t, key(offset), key(get(t, offset) + 1));
}

/* --- references --- */

static void note_interest(Evidence *e)
{
    const BDRVQcow2State *s = e->bs->opaque;

    for (uint32_t i = 0; i < s->l1.size; i++) {
        uint64_t want = e->want[i] & L1E_OFFSET_MASK;
        uint64_t actual = s->l1.entries[i] & L1E_OFFSET_MASK;

        if (want) {
            add(e->wanted, want);
        }
        if (actual) {
            add(e->actual, actual);
        }
        if (e->want[i] != s->l1.entries[i]) {
            g_hash_table_insert(e->refs, key(want), NULL);
            g_hash_table_insert(e->refs, key(actual), NULL);
        }
    }
    g_hash_table_remove(e->refs, NULL);
}

static void count(Evidence *e, const uint64_t *entries, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        uint64_t offset = entries[i] & L1E_OFFSET_MASK;

        if (g_hash_table_contains(e->refs, key(offset))) {
            add(e->refs, offset);
        }
    }
}

static int coroutine_fn count_snapshot(Evidence *e, const QCowSnapshot *sn)
{
    uint64_t left = (uint64_t)sn->l1_size * L1E_SIZE;
    uint64_t offset = sn->l1_table_offset;

    if (qcow2_check_snapshot_l1(e->bs, sn, NULL) < 0) {
        return -EINVAL;
    }
    while (left) {
        uint64_t n = MIN(left, PIECE_BYTES);
        int ret = bdrv_co_pread(e->bs->file, offset, n, e->buf, 0);

        if (ret < 0) {
            return ret;
        }
        for (uint32_t i = 0; i < n / L1E_SIZE; i++) {
            be64_to_cpus(&e->buf[i]);
        }
        count(e, e->buf, n / L1E_SIZE);
        left -= n;
        offset += n;
    }
    return 0;
}

/* --- one entry --- */

/* Whether all entries of what is in @e->buf could be an L2 table's. */
static bool reads_as_l2(const Evidence *e)
{
    const BDRVQcow2State *s = e->bs->opaque;

    for (int i = 0; i < s->l2_size; i++) {
        uint64_t entry = be64_to_cpu(e->buf[i]);

        if (!(entry & QCOW_OFLAG_COMPRESSED) &&
            (entry & L2E_STD_RESERVED_MASK ||
             offset_into_cluster(s, entry & L2E_OFFSET_MASK))) {
            return false;
        }
    }
    return true;
}

static bool coroutine_fn is_possible(Evidence *e, uint64_t offset)
{
    BDRVQcow2State *s = e->bs->opaque;

    if (!offset || offset_into_cluster(s, offset) ||
        !qcow2_table_is_in_file(e->bs, offset, s->cluster_size) ||
        qcow2_overlaps_other_metadata(s, offset)) {
        return false;
    }
    return bdrv_co_pread(e->bs->file, offset, s->cluster_size, e->buf,
                         0) >= 0 && reads_as_l2(e);
}

static int coroutine_fn refcount_of(Evidence *e, uint64_t offset,
                                    uint64_t *refcount)
{
    BDRVQcow2State *s = e->bs->opaque;

    *refcount = 0;
    return offset ? qcow2_get_refcount(e->bs, offset >> s->cluster_bits,
                                       refcount)
                  : 0;
}

static bool coroutine_fn is_foreign(Evidence *e, uint32_t i)
{
    BDRVQcow2State *s = e->bs->opaque;
    Qcow2GuardEvidence v = { .entry = s->l1.entries[i], .copy = e->want[i] };
    uint64_t target = v.entry & L1E_OFFSET_MASK;
    uint64_t copy = v.copy & L1E_OFFSET_MASK;

    if (refcount_of(e, target, &v.entry_refcount) < 0 ||
        refcount_of(e, copy, &v.copy_refcount) < 0) {
        return false;
    }
    v.possible = is_possible(e, target);
    v.elsewhere = target != copy && get(e->wanted, target) > 0;
    v.moved = copy && target != copy && get(e->actual, copy) > 0;
    v.entry_refs = get(e->refs, target);
    v.copy_refs = get(e->refs, copy);
    return qcow2_guard_verdict(&v) == QCOW2_GUARD_FOREIGN;
}

static bool coroutine_fn all_foreign(Evidence *e)
{
    BDRVQcow2State *s = e->bs->opaque;

    note_interest(e);
    count(e, s->l1.entries, s->l1.size);
    for (uint32_t i = 0; i < s->nb_snapshots; i++) {
        if (count_snapshot(e, &s->snapshots[i]) < 0) {
            return false;
        }
    }
    for (uint32_t i = 0; i < s->l1.size; i++) {
        if (s->l1.entries[i] != e->want[i] && !is_foreign(e, i)) {
            return false;
        }
    }
    return true;
}

bool coroutine_fn qcow2_guard_is_outdated(BlockDriverState *bs,
                                          const uint64_t *want)
{
    BDRVQcow2State *s = bs->opaque;
    Evidence e = { .bs = bs, .want = want };
    bool result;

    /* Refcounts that are behind, or wrong, prove nothing. */
    if (s->incompatible_features & (QCOW2_INCOMPAT_DIRTY |
                                    QCOW2_INCOMPAT_CORRUPT)) {
        return false;
    }
    e.buf = qemu_try_blockalign(bs->file->bs,
                                MAX(s->cluster_size, PIECE_BYTES));
    if (!e.buf) {
        return false;
    }
    e.refs = g_hash_table_new(NULL, NULL);
    e.wanted = g_hash_table_new(NULL, NULL);
    e.actual = g_hash_table_new(NULL, NULL);
    result = all_foreign(&e);
    g_hash_table_destroy(e.actual);
    g_hash_table_destroy(e.wanted);
    g_hash_table_destroy(e.refs);
    qemu_vfree(e.buf);
    return result;
}
