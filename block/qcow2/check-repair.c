/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Repairs after the comparison, in an order that leaves no worse image behind
 * wherever it is interrupted:
 *
 *   1. refcounts that are too low go up (nothing in use may look free);
 *   2. refcounts that are too high go down, if it is proven that nobody refers
 *      to the clusters;
 *   3. COPIED flags are made to agree.
 *
 * A refcount block is rewritten in place only if its cluster is used for
 * nothing else; otherwise, or if a block is missing, there will be a whole new
 * structure (check-rebuild.c), which needs proof too. What cannot be proven
 * stays reported and as it was.
 */
#include "util/osdep.h"
#include "block/qcow2/check.h"

/* The refcount block being changed. */
typedef struct OpenBlock {
    Qcow2Check *c;
    void *buf;
    uint64_t index;         /* UINT64_MAX: none */
    uint64_t offset;
    GArray *changes;        /* clusters, uint64_t */
    bool raise;
} OpenBlock;

static int coroutine_fn write_block(OpenBlock *b)
{
    Qcow2Check *c = b->c;
    guint n = b->changes->len;
    guint i;
    int ret;

    if (b->index == UINT64_MAX || n == 0) {
        return 0;
    }
    ret = bdrv_co_pwrite(c->bs->file, b->offset, c->s->cluster_size, b->buf,
                         0);
    if (ret < 0) {
        qcow2_check_io_error(c, ret, "Could not write refcount block %"
                             PRIu64, b->index);
        return ret;
    }
    for (i = 0; i < n; i++) {
        uint64_t cluster = g_array_index(b->changes, uint64_t, i);

        qcow2_check_counts_set(c->disk, cluster,
                               qcow2_check_counts_get(c->refs, cluster));
    }
    if (b->raise) {
        c->res->corruptions -= n;
        c->res->corruptions_fixed += n;
    } else {
        c->res->leaks -= n;
        c->res->leaks_fixed += n;
    }
    g_array_set_size(b->changes, 0);
    return 0;
}

/* Makes @index the open block. */
static int coroutine_fn switch_block(OpenBlock *b, uint64_t index)
{
    Qcow2Check *c = b->c;
    int ret;

    if (b->index == index) {
        return 0;
    }
    ret = write_block(b);
    if (ret < 0) {
        return ret;
    }
    b->index = UINT64_MAX;
    b->offset = c->s->reftable.entries[index] & REFT_OFFSET_MASK;
    ret = qcow2_check_pread(c, b->offset, c->s->cluster_size, b->buf);
    if (ret < 0) {
        qcow2_check_io_error(c, ret, "Could not read refcount block %"
                             PRIu64, index);
        return ret;
    }
    b->index = index;
    return 0;
}

/* A block that may be written: it is there and nothing else is in it. */
static bool block_is_usable(const Qcow2Check *c, uint64_t index)
{
    uint64_t offset;

    if (index >= c->nb_blocks ||
        c->block_state[index] != QCOW2_CHECK_BLOCK_GOOD) {
        return false;
    }
    offset = c->s->reftable.entries[index] & REFT_OFFSET_MASK;
    return qcow2_check_in_file(c, offset) &&
           qcow2_check_found(c, offset >> c->s->cluster_bits) == 1;
}

static int coroutine_fn fix_cluster(OpenBlock *b, uint64_t cluster)
{
    Qcow2Check *c = b->c;
    uint64_t stored = qcow2_check_counts_get(c->disk, cluster);
    uint64_t found = qcow2_check_counts_get(c->refs, cluster);
    uint64_t index = cluster >> c->s->refcount_block_bits;
    int ret;

    if (b->raise ? stored >= found
                 : stored <= found || qcow2_check_is_kept(c, cluster)) {
        return 0;
    }
    if (!block_is_usable(c, index)) {
        return 0;
    }
    ret = switch_block(b, index);
    if (ret < 0) {
        return ret;
    }
    qcow2_check_say(c, "Repairing cluster %" PRIu64 " refcount=%" PRIu64
                    " reference=%" PRIu64, cluster, stored, found);
    qcow2_refcount_block_set(c->s, b->buf,
                             cluster & (c->s->refcount_block_size - 1), found);
    g_array_append_val(b->changes, cluster);
    return 0;
}

/* Raises all refcounts that are too low, or lowers those too high. */
static int coroutine_fn fix_refcounts(Qcow2Check *c, bool raise)
{
    g_auto(Qcow2CheckWalk) walk = qcow2_check_walk(c->refs, c->disk,
                                                   c->nb_clusters, true);
    g_autoptr(GArray) changes = g_array_new(FALSE, FALSE, sizeof(uint64_t));
    OpenBlock b = {
        .c = c, .index = UINT64_MAX, .changes = changes, .raise = raise,
    };
    uint64_t cluster;
    int ret = 0;

    b.buf = qemu_try_blockalign(c->bs->file->bs, c->s->cluster_size);
    if (!b.buf) {
        return -ENOMEM;
    }
    while (ret == 0 && qcow2_check_walk_next(&walk, &cluster)) {
        ret = fix_cluster(&b, cluster);
    }
    if (ret == 0) {
        ret = write_block(&b);
    }
    if (ret == 0) {
        ret = bdrv_co_flush(c->bs->file->bs);
    }
    qemu_vfree(b.buf);
    return ret;
}

/* A refcount has to go up for which there is no block. */
static bool lacks_block(const Qcow2Check *c, uint64_t cluster)
{
    return qcow2_check_counts_get(c->refs, cluster) &&
           !block_is_usable(c, cluster >> c->s->refcount_block_bits);
}

bool qcow2_check_may_raise(Qcow2Check *c)
{
    return !c->rebuild &&
           !qcow2_check_any_cluster(c, c->refs, NULL, lacks_block);
}

int coroutine_fn qcow2_check_raise(Qcow2Check *c, Qcow2Check *voice,
                                   int64_t *nb)
{
    const BdrvCheckOptions *opts = c->opts;
    int64_t before = c->res->corruptions;
    int ret;

    c->opts = voice->opts;
    ret = fix_refcounts(c, true);
    c->opts = opts;
    *nb = before - c->res->corruptions;
    return ret;
}

static int coroutine_fn rebuild(Qcow2Check *c)
{
    int64_t leaks = c->res->leaks - qcow2_check_count_kept(c);
    int64_t corruptions = c->res->corruptions;
    int ret;

    qcow2_check_say(c, "Rebuilding refcount structure");
    ret = qcow2_check_rebuild(c);
    if (ret < 0) {
        return ret;
    }
    /* With all references proven, every problem so far was in refcounts. */
    c->res->leaks -= leaks;
    c->res->leaks_fixed += leaks;
    c->res->corruptions -= corruptions;
    c->res->corruptions_fixed += corruptions;
    c->res->check_errors -= c->unknown_refcounts;
    return 0;
}

/* Sets *@refcounts to what is stored afterwards. */
static int coroutine_fn repair_refcounts(Qcow2Check *c,
                                         Qcow2CheckCounts **refcounts)
{
    bool proven = qcow2_check_is_proven(c);
    int ret = 0;

    *refcounts = c->disk;
    if (c->fix & BDRV_FIX_ERRORS) {
        if (!qcow2_check_may_raise(c)) {
            if (proven) {
                *refcounts = c->refs;
                return rebuild(c);
            }
            qcow2_check_say(c, "The refcount structure cannot be rebuilt while "
                            "other tables are damaged");
        }
        ret = fix_refcounts(c, true);
    }
    if (ret == 0 && c->fix & BDRV_FIX_LEAKS && proven && !c->rebuild) {
        ret = fix_refcounts(c, false);
    }
    return ret;
}

/* --- single entries --------------------------------------------------- */

static int coroutine_fn apply_fixup(Qcow2Check *c, const Qcow2CheckFixup *f)
{
    BDRVQcow2State *s = c->s;
    unsigned size = qcow2_l2_entry_size(s);
    uint64_t place = f->l2_offset + (uint64_t)f->index * size;
    uint64_t entry, raw[2];
    int ret;

    ret = bdrv_co_pread(c->bs->file, place, size, raw, 0);
    if (ret < 0) {
        return ret;
    }
    entry = get_l2_entry(s, raw, 0);
    switch (f->fix) {
    case QCOW2_CHECK_FIX_OFFSET:
        qcow2_check_say(c, "Repairing offset=%" PRIx64 ": Preallocated cluster "
                        "is not properly aligned; L2 entry corrupted.",
                        (uint64_t)(entry & L2E_OFFSET_MASK));
        /* What the bitmap says of subclusters remains true. */
        entry = s->extended_l2 ? 0 : QCOW_OFLAG_ZERO;
        break;
    case QCOW2_CHECK_FIX_COPIED:
        qcow2_check_say(c, "Repairing OFLAG_COPIED compressed cluster: "
                        "l2_entry=%" PRIx64, entry);
        entry &= ~QCOW_OFLAG_COPIED;
        break;
    case QCOW2_CHECK_FIX_BITMAP:
        qcow2_check_say(c, "Repairing compressed cluster %" PRIu32 " with "
                        "non-zero subcluster allocation bitmap, "
                        "entry=0x%" PRIx64, f->index, entry);
        set_l2_bitmap(s, raw, 0, 0);
        break;
    }
    set_l2_entry(s, raw, 0, entry);
    return bdrv_co_pwrite(c->bs->file, place, size, raw, 0);
}

int coroutine_fn qcow2_check_apply_fixups(Qcow2Check *c, int64_t *nb_fixed)
{
    int ret = 0;
    guint i;

    for (i = 0; i < c->fixups->len; i++) {
        const Qcow2CheckFixup *f = &g_array_index(c->fixups, Qcow2CheckFixup,
                                                  i);

        if (!qcow2_check_l2_is_proven(c, f->l2_offset, f->refs) ||
            (f->fix == QCOW2_CHECK_FIX_OFFSET && c->res->leaks)) {
            continue;   /* what is leaked may be what it named */
        }
        ret = apply_fixup(c, f);
        if (ret < 0) {
            qcow2_check_io_error(c, ret, "Could not repair L2 table at offset "
                                 "0x%" PRIx64, f->l2_offset);
            break;
        }
        *nb_fixed += f->refs;
    }
    if (*nb_fixed) {
        qcow2_cache_empty(c->s->l2_table_cache);
        if (ret == 0) {
            ret = bdrv_co_flush(c->bs->file->bs);
        }
    }
    return ret;
}

int coroutine_fn qcow2_check_write_l1(Qcow2Check *c, int64_t nb)
{
    int ret = qcow2_l1_write(c->bs);

    if (ret == 0) {
        ret = bdrv_co_flush(c->bs->file->bs);
    }
    if (ret < 0) {
        qcow2_check_io_error(c, ret, "Could not write L1 table");
        return ret;
    }
    qcow2_cache_empty(c->s->l2_table_cache);
    c->res->tables_restored += nb;
    return 0;
}

int coroutine_fn qcow2_check_repair(Qcow2Check *c)
{
    Qcow2CheckCounts *refcounts;
    int ret;

    ret = repair_refcounts(c, &refcounts);
    if (ret == 0) {
        ret = qcow2_check_copied(c, refcounts);
    }
    if (ret == 0) {
        ret = bdrv_co_flush(c->bs->file->bs);
    }
    /* What is in memory may be from before the repair. */
    qcow2_cache_empty(c->s->refcount_block_cache);
    qcow2_cache_empty(c->s->l2_table_cache);
    c->s->free_cluster_index = 0;
    c->s->free_byte_offset = 0;
    return ret;
}
