/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Another width of refcounts.
 *
 * Invariants:
 *  1. The new table and blocks lie behind everything that is in the file or in
 *     use; until the header names them they are not part of the image.
 *  2. They are durable before the header changes its place of the table and
 *     the width, in one write.
 *  3. In the new structure the old one is free.
 */
#include "util/osdep.h"
#include "util/bswap.h"
#include "util/error.h"
#include "util/memalign.h"
#include "block/qcow2/amend.h"
#include "block/qcow2/qcow2.h"

typedef struct NewRefcounts {
    BlockDriverState *bs;
    const BdrvAmendArgs *args;
    BDRVQcow2State geometry;    /* of the new width; for the accessors only */
    GHashTable *old;            /* clusters of the old structure: how often */
    uint64_t end;               /* clusters in use, and in the file */
    GArray *blocks;             /* uint64_t: numbers of blocks, ascending */
    uint64_t table_clusters;    /* the table is at end, blocks behind it */
} NewRefcounts;

static void set_geometry(NewRefcounts *n, int order)
{
    const BDRVQcow2State *s = n->bs->opaque;

    n->geometry.refcount_order = order;
    n->geometry.refcount_bits = 1 << order;
    n->geometry.refcount_max = order == 6 ? UINT64_MAX
                                          : (1ULL << (1 << order)) - 1;
    n->geometry.refcount_block_bits = s->cluster_bits - (order - 3);
    n->geometry.refcount_block_size = 1 << n->geometry.refcount_block_bits;
}

static void note_old(NewRefcounts *n, uint64_t cluster)
{
    gpointer key = GSIZE_TO_POINTER(cluster);
    gsize count = GPOINTER_TO_SIZE(g_hash_table_lookup(n->old, key));

    g_hash_table_insert(n->old, key, GSIZE_TO_POINTER(count + 1));
}

static void find_old(NewRefcounts *n)
{
    const BDRVQcow2State *s = n->bs->opaque;
    uint64_t first = s->reftable.offset >> s->cluster_bits;
    uint64_t bytes = s->reftable.size * REFTABLE_ENTRY_SIZE;

    for (uint64_t i = 0; i < size_to_clusters(s, bytes); i++) {
        note_old(n, first + i);
    }
    for (uint32_t i = 0; i < s->reftable.size; i++) {
        uint64_t offset = s->reftable.entries[i] & REFT_OFFSET_MASK;

        if (offset) {
            note_old(n, offset >> s->cluster_bits);
        }
    }
}

/* What the new structure says of @cluster. */
static int coroutine_fn new_count(NewRefcounts *n, uint64_t cluster,
                                  uint64_t *count)
{
    gsize gone;
    int ret;

    if (cluster >= n->end) {
        *count = cluster < n->end + n->table_clusters + n->blocks->len;
        return 0;
    }
    ret = qcow2_get_refcount(n->bs, cluster, count);
    if (ret < 0) {
        return ret;
    }
    gone = GPOINTER_TO_SIZE(g_hash_table_lookup(n->old,
                                                GSIZE_TO_POINTER(cluster)));
    *count -= MIN(*count, gone);
    return 0;
}

/* --- planning --- */

/* Clusters that any refcount block covers; those behind are free. */
static uint64_t covered(const BDRVQcow2State *s)
{
    return (s->max_refcount_table_index + 1ULL) << s->refcount_block_bits;
}

static void add_block(GArray *blocks, uint64_t block)
{
    if (!blocks->len ||
        g_array_index(blocks, uint64_t, blocks->len - 1) < block) {
        g_array_append_val(blocks, block);
    }
}

/*
 * Looks at all counts: whether they fit, which blocks they need, where the last
 * one is.
 */
static int coroutine_fn look_at_counts(NewRefcounts *n, Error **errp)
{
    BDRVQcow2State *s = n->bs->opaque;
    uint64_t clusters = covered(s);
    int64_t length = bdrv_co_getlength(n->bs->file->bs);

    if (length < 0) {
        error_setg_errno(errp, -length, "Could not get the size of the file");
        return length;
    }
    n->end = UINT64_MAX;
    for (uint64_t i = 0, last = 0; i <= clusters; i++) {
        uint64_t count = 0;
        int ret = i < clusters ? new_count(n, i, &count) : 0;

        if (ret < 0) {
            error_setg_errno(errp, -ret, "Could not read a refcount");
            return ret;
        }
        if (count > n->geometry.refcount_max) {
            error_setg(errp, "Cannot decrease refcount entry width to %d bits: "
                       "Cluster at offset %#" PRIx64 " has a refcount of %"
                       PRIu64, n->geometry.refcount_bits,
                       i << s->cluster_bits, count);
            return -ERANGE;
        }
        if (count) {
            add_block(n->blocks, i >> n->geometry.refcount_block_bits);
            last = i;
        }
        if (i == clusters) {
            n->end = MAX(last + 1, size_to_clusters(s, length));
        }
    }
    return 0;
}

/* Table and blocks describe themselves, too; each may need another block. */
static int plan(NewRefcounts *n, Error **errp)
{
    const BDRVQcow2State *s = n->bs->opaque;
    int bits = n->geometry.refcount_block_bits;

    n->table_clusters = 1;
    for (;;) {
        uint64_t last = (n->end + n->table_clusters + n->blocks->len - 1) >>
                        bits;
        uint64_t entries, needed;

        for (uint64_t i = n->end >> bits; i <= last; i++) {
            add_block(n->blocks, i);
        }
        entries = last + 1;
        if (entries > QCOW_MAX_REFTABLE_SIZE / REFTABLE_ENTRY_SIZE) {
            error_setg(errp, "The refcount table would be too large");
            return -EFBIG;
        }
        needed = size_to_clusters(s, entries * REFTABLE_ENTRY_SIZE);
        if (needed <= n->table_clusters &&
            (n->end + n->table_clusters + n->blocks->len - 1) >> bits ==
                last) {
            return 0;
        }
        n->table_clusters = MAX(needed, n->table_clusters);
    }
}

/* --- writing --- */

static uint64_t block_offset(const NewRefcounts *n, guint i)
{
    const BDRVQcow2State *s = n->bs->opaque;

    return (n->end + n->table_clusters + i) << s->cluster_bits;
}

static int coroutine_fn write_block(NewRefcounts *n, guint i, void *buf)
{
    BDRVQcow2State *s = n->bs->opaque;
    uint64_t first = g_array_index(n->blocks, uint64_t, i)
                     << n->geometry.refcount_block_bits;

    memset(buf, 0, s->cluster_size);
    for (uint64_t j = 0; j < n->geometry.refcount_block_size; j++) {
        uint64_t count;
        int ret = new_count(n, first + j, &count);

        if (ret < 0) {
            return ret;
        }
        if (count) {
            qcow2_refcount_block_set(&n->geometry, buf, j, count);
        }
    }
    return bdrv_co_pwrite(n->bs->file, block_offset(n, i), s->cluster_size,
                          buf, 0);
}

static int coroutine_fn write_blocks(NewRefcounts *n)
{
    BDRVQcow2State *s = n->bs->opaque;
    QEMU_AUTO_VFREE void *buf = qemu_try_blockalign(n->bs->file->bs,
                                                    s->cluster_size);
    int ret = buf ? 0 : -ENOMEM;

    for (guint i = 0; ret == 0 && i < n->blocks->len; i++) {
        ret = write_block(n, i, buf);
        if (n->args && n->args->progress) {
            n->args->progress(n->args->opaque,
                              100.0 * (i + 1) / n->blocks->len);
        }
    }
    return ret;
}

/* The state in memory follows the header; cannot fail. */
static void switch_memory(NewRefcounts *n, Qcow2Table *table)
{
    BDRVQcow2State *s = n->bs->opaque;

    qcow2_table_free(&s->reftable);
    s->reftable = *table;
    s->max_refcount_table_index =
        g_array_index(n->blocks, uint64_t, n->blocks->len - 1);
    s->refcount_order = n->geometry.refcount_order;
    s->refcount_bits = n->geometry.refcount_bits;
    s->refcount_max = n->geometry.refcount_max;
    s->refcount_block_bits = n->geometry.refcount_block_bits;
    s->refcount_block_size = n->geometry.refcount_block_size;
    qcow2_cache_empty(s->refcount_block_cache);
    s->free_cluster_index = 0;
    s->free_run_index = 0;
    s->free_byte_offset = 0;
}

static int coroutine_fn write_all(NewRefcounts *n)
{
    BDRVQcow2State *s = n->bs->opaque;
    uint64_t offset = n->end << s->cluster_bits;
    Qcow2Table table;
    int ret;

    ret = qcow2_table_init(&table, (n->table_clusters << s->cluster_bits) /
                                   REFTABLE_ENTRY_SIZE, offset);
    if (ret < 0) {
        return ret;
    }
    for (guint i = 0; i < n->blocks->len; i++) {
        table.entries[g_array_index(n->blocks, uint64_t, i)] =
            block_offset(n, i);
    }
    qcow2_table_mark_all(&table);
    /* What is written there stays, also if it fails later. */
    s->virgin_offset = MAX(s->virgin_offset, block_offset(n, n->blocks->len));
    ret = write_blocks(n);
    if (ret == 0) {
        ret = qcow2_table_write(n->bs, &table, 0);
    }
    if (ret == 0) {
        ret = qcow2_flush_before_switch(n->bs);
    }
    if (ret == 0) {
        ret = qcow2_header_write_refcounts(n->bs, offset, n->table_clusters,
                                           n->geometry.refcount_order);
    }
    if (ret < 0) {
        qcow2_table_free(&table);
        return ret;
    }
    switch_memory(n, &table);
    return 0;
}

static int coroutine_fn change(NewRefcounts *n, bool check_only, Error **errp)
{
    int ret;

    find_old(n);
    ret = look_at_counts(n, errp);
    if (ret == 0) {
        ret = plan(n, errp);
    }
    if (ret < 0 || check_only) {
        return ret;
    }
    ret = write_all(n);
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Could not write the new refcounts");
    }
    return ret;
}

static int coroutine_fn run(BlockDriverState *bs, int order,
                            const BdrvAmendArgs *args, bool check_only,
                            Error **errp)
{
    g_autoptr(GHashTable) old = g_hash_table_new(NULL, NULL);
    g_autoptr(GArray) blocks = g_array_new(FALSE, FALSE, sizeof(uint64_t));
    NewRefcounts n = {
        .bs = bs, .args = args, .old = old, .blocks = blocks,
    };
    int ret;

    set_geometry(&n, order);
    ret = qcow2_flush_all_metadata(bs);
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Could not flush the metadata");
        return ret;
    }
    return change(&n, check_only, errp);
}

int coroutine_fn qcow2_amend_refcounts(BlockDriverState *bs, int order,
                                       const BdrvAmendArgs *args,
                                       Error **errp)
{
    return run(bs, order, args, false, errp);
}

int coroutine_fn qcow2_amend_refcounts_check(BlockDriverState *bs, int order,
                                             Error **errp)
{
    return run(bs, order, NULL, true, errp);
}
