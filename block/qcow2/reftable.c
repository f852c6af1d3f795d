/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Making refcount blocks, and a longer refcount table when there is no entry
 * for a new block.
 *
 * Somebody wants to allocate a run of free clusters, and some of them have no
 * block. The missing blocks are put at the start of the run, one after the
 * other; they are counted in whatever blocks cover that place, be they old or
 * new. So no further block is ever needed to account for the first ones, and
 * the rest of the run has all its blocks. The caller then looks for another
 * run (-EAGAIN).
 *
 * A new table is put behind everything that the old one can cover, together
 * with the blocks that account for the table and for themselves. The header
 * switches over in one write, after all of that is durable.
 */
#include "util/osdep.h"
#include "block/qcow2/qcow2.h"

/* A zeroed block at @offset in the cache, counting what lies at clusters
 * [@first, @end), as far as it covers them, once. */
static int coroutine_fn make_block(BlockDriverState *bs, uint64_t offset,
                                   uint64_t table_index, uint64_t first,
                                   uint64_t end)
{
    BDRVQcow2State *s = bs->opaque;
    uint64_t covered = table_index << s->refcount_block_bits;
    uint64_t covered_end = covered + s->refcount_block_size;
    void *block;
    int ret;

    ret = qcow2_cache_get_empty(bs, s->refcount_block_cache, offset, &block);
    if (ret < 0) {
        return ret;
    }
    for (uint64_t i = MAX(first, covered); i < MIN(end, covered_end); i++) {
        qcow2_refcount_block_set(s, block, i - covered, 1);
    }
    qcow2_cache_entry_mark_dirty(s->refcount_block_cache, block);
    qcow2_cache_put(s->refcount_block_cache, &block);
    return 0;
}

/* Where the new table and blocks go; all in clusters. */
typedef struct ReftableLayout {
    uint64_t start;
    uint64_t nb_blocks;     /* first, for their own range */
    uint64_t table_clusters;    /* behind them */
    uint64_t end;
} ReftableLayout;

static int plan_reftable(const BDRVQcow2State *s, uint64_t start,
                         ReftableLayout *l)
{
    uint64_t max_clusters = QCOW_MAX_REFTABLE_SIZE >> s->cluster_bits;
    bool stable = false;

    *l = (ReftableLayout) { .start = start };
    while (!stable) {
        uint64_t nb_blocks, entries, table_clusters;

        l->end = start + l->nb_blocks + l->table_clusters;
        nb_blocks = ((MAX(l->end, start + 1) - 1) >> s->refcount_block_bits) -
                    (start >> s->refcount_block_bits) + 1;
        entries = (start >> s->refcount_block_bits) + nb_blocks;
        /* Half as much again, so that growing stays rare. */
        table_clusters = size_to_clusters(s, (entries + entries / 2) *
                                             REFTABLE_ENTRY_SIZE);
        if (table_clusters > MAX(max_clusters, 1)) {
            table_clusters = size_to_clusters(s, entries *
                                                 REFTABLE_ENTRY_SIZE);
        }
        if (table_clusters > MAX(max_clusters, 1) ||
            l->end > QCOW_MAX_HOST_OFFSET >> s->cluster_bits) {
            return -EFBIG;
        }
        stable = nb_blocks == l->nb_blocks &&
                 table_clusters == l->table_clusters;
        /* Never smaller than before, so that it comes to an end. */
        l->nb_blocks = MAX(nb_blocks, l->nb_blocks);
        l->table_clusters = MAX(table_clusters, l->table_clusters);
        stable |= l->end == start + l->nb_blocks + l->table_clusters;
    }
    return 0;
}

/* Makes everything that the new table needs durable, then the header. */
static int coroutine_fn switch_reftable(BlockDriverState *bs)
{
    BDRVQcow2State *s = bs->opaque;
    int ret;

    ret = qcow2_write_refcounts(bs);
    if (ret < 0) {
        return ret;
    }
    ret = bdrv_co_flush(bs->file->bs);
    if (ret < 0) {
        return ret;
    }
    return qcow2_header_write_reftable(
        bs, s->reftable.offset,
        s->reftable.size * REFTABLE_ENTRY_SIZE >> s->cluster_bits);
}

static int coroutine_fn grow_reftable(BlockDriverState *bs, uint64_t start)
{
    BDRVQcow2State *s = bs->opaque;
    Qcow2Table old = s->reftable;
    uint32_t old_max = s->max_refcount_table_index;
    uint64_t first_block = start >> s->refcount_block_bits;
    ReftableLayout l;
    Qcow2Table t;
    int ret;

    ret = plan_reftable(s, start, &l);
    if (ret == 0 && qcow2_guard_skip(s, start, l.end - start)) {
        start = MAX(start, qcow2_guard_end(s));
        first_block = start >> s->refcount_block_bits;
        ret = plan_reftable(s, start, &l);
    }
    if (ret < 0) {
        return ret;
    }
    ret = qcow2_table_init(&t, (l.table_clusters << s->cluster_bits) /
                               REFTABLE_ENTRY_SIZE,
                           (start + l.nb_blocks) << s->cluster_bits);
    if (ret < 0) {
        return ret;
    }
    memcpy(t.entries, old.entries, old.size * REFTABLE_ENTRY_SIZE);
    for (uint64_t i = 0; i < l.nb_blocks; i++) {
        uint64_t offset = (start + i) << s->cluster_bits;

        ret = make_block(bs, offset, first_block + i, start, l.end);
        if (ret < 0) {
            goto fail;
        }
        qcow2_table_set(&t, first_block + i, offset);
    }
    qcow2_table_mark_all(&t);

    BLKDBG_EVENT(bs->file, BLKDBG_REFBLOCK_ALLOC_SWITCH_TABLE);
    s->reftable = t;
    s->max_refcount_table_index = first_block + l.nb_blocks - 1;
    ret = switch_reftable(bs);
    if (ret < 0) {
        t = s->reftable;
        s->reftable = old;
        s->max_refcount_table_index = old_max;
        goto fail;
    }

    qcow2_free_clusters(bs, old.offset, old.size * REFTABLE_ENTRY_SIZE,
                        QCOW2_DISCARD_OTHER);
    qcow2_table_free(&old);
    return 0;

fail:
    qcow2_cache_discard_range(s->refcount_block_cache,
                              start << s->cluster_bits,
                              (l.end - start) << s->cluster_bits);
    qcow2_table_free(&t);
    return ret;
}

/* Clusters of the blocks that are missing from @start on, for a run of @n
 * clusters behind those blocks. */
static uint64_t count_missing(const BDRVQcow2State *s, uint64_t start,
                              uint64_t n)
{
    uint64_t missing = 0;

    for (uint64_t i = start >> s->refcount_block_bits;
         i <= (start + n + missing - 1) >> s->refcount_block_bits; i++) {
        if (i >= s->reftable.size ||
            !(s->reftable.entries[i] & REFT_OFFSET_MASK)) {
            missing++;
        }
    }
    return missing;
}

/* Forgets blocks that were put at [@start, @start + @n). */
static void drop_blocks(BDRVQcow2State *s, uint64_t start, uint64_t n)
{
    uint64_t first = start << s->cluster_bits;
    uint64_t bytes = n << s->cluster_bits;

    for (uint32_t i = 0; i < s->reftable.size; i++) {
        uint64_t offset = s->reftable.entries[i];

        if (offset >= first && offset - first < bytes) {
            qcow2_table_set(&s->reftable, i, 0);
        }
    }
    qcow2_cache_discard_range(s->refcount_block_cache, first, bytes);
}

/* Puts blocks for the first @missing ranges without one at @start. */
static int coroutine_fn make_blocks(BlockDriverState *bs, uint64_t start,
                                    uint64_t missing)
{
    BDRVQcow2State *s = bs->opaque;
    uint64_t i = start >> s->refcount_block_bits;
    uint64_t done = 0;
    int ret = 0;

    for (; done < missing; i++) {
        uint64_t offset = (start + done) << s->cluster_bits;

        if (s->reftable.entries[i] & REFT_OFFSET_MASK) {
            continue;
        }
        ret = make_block(bs, offset, i, 0, 0);
        if (ret < 0) {
            break;
        }
        qcow2_table_set(&s->reftable, i, offset);
        s->max_refcount_table_index = MAX(s->max_refcount_table_index, i);
        done++;
    }
    if (ret == 0) {
        ret = qcow2_update_refcount(bs, start << s->cluster_bits,
                                    missing << s->cluster_bits, 1, false,
                                    QCOW2_DISCARD_NEVER);
    }
    if (ret < 0) {
        drop_blocks(s, start, done);
    }
    return ret;
}

int coroutine_fn qcow2_alloc_refcount_blocks(BlockDriverState *bs,
                                             uint64_t start, uint64_t n)
{
    BDRVQcow2State *s = bs->opaque;
    uint64_t missing = count_missing(s, start, n);
    uint64_t last = start + n + missing - 1;
    int ret;

    if (!missing) {
        return 0;
    }
    BLKDBG_EVENT(bs->file, BLKDBG_REFBLOCK_ALLOC);
    if (!start || last >= QCOW_MAX_HOST_OFFSET >> s->cluster_bits) {
        return -EFBIG;
    }
    if (last >> s->refcount_block_bits >= s->reftable.size) {
        uint64_t covered = (uint64_t)s->reftable.size
                           << s->refcount_block_bits;

        ret = grow_reftable(bs, MAX(start, covered));
        return ret < 0 ? ret : -EAGAIN;
    }
    ret = qcow2_pre_write_overlap_check(bs, 0, start << s->cluster_bits,
                                        missing << s->cluster_bits);
    if (ret == 0) {
        ret = make_blocks(bs, start, missing);
    }
    return ret < 0 ? ret : -EAGAIN;
}
