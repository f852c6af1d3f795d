/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A new refcount structure for an image whose old one cannot be used.
 *
 * Invariants:
 *  1. The new table and blocks lie behind everything that is in the file, so
 *     that nothing is overwritten; until the header names them they are not
 *     part of the image.
 *  2. They are durable before the header is written, in one write.
 *  3. The old table and blocks have no references afterwards: free space.
 */
#include "util/osdep.h"
#include "util/bswap.h"
#include "block/qcow2/check.h"

typedef struct Rebuild {
    Qcow2Check *c;
    Qcow2CheckCounts *refs;     /* what the new structure will say */
    GArray *blocks;             /* uint64_t: block numbers, ascending */
    uint64_t first_cluster;     /* the table starts here, blocks follow */
    uint64_t table_clusters;
} Rebuild;

/* The old structure goes out of use. */
static void uncount_old(Rebuild *r)
{
    Qcow2Check *c = r->c;
    guint i;

    for (i = 0; i < c->structure->len; i++) {
        const Qcow2CheckExtent *e = &g_array_index(c->structure,
                                                   Qcow2CheckExtent, i);
        uint64_t cluster = e->offset >> c->s->cluster_bits;
        uint64_t last = (e->offset + e->bytes - 1) >> c->s->cluster_bits;

        for (; cluster <= last; cluster++) {
            uint64_t count = qcow2_check_counts_get(r->refs, cluster);
            uint64_t excess = qcow2_check_counts_get(c->excess, cluster);

            if (excess) {
                /* The others keep what a refcount can hold. */
                qcow2_check_counts_set(c->excess, cluster, excess - 1);
            } else if (count) {
                qcow2_check_counts_set(r->refs, cluster, count - 1);
            }
        }
    }
}

static void add_block(GArray *blocks, uint64_t block)
{
    if (blocks->len == 0 ||
        g_array_index(blocks, uint64_t, blocks->len - 1) < block) {
        g_array_append_val(blocks, block);
    }
}

/* Numbers of the blocks that the clusters in use need, without new ones. */
static void find_blocks(Rebuild *r)
{
    g_auto(Qcow2CheckWalk) walk = qcow2_check_walk(r->refs, NULL, UINT64_MAX,
                                                   false);
    uint64_t cluster;

    while (qcow2_check_walk_next(&walk, &cluster)) {
        if (qcow2_check_counts_get(r->refs, cluster)) {
            add_block(r->blocks, cluster >> r->c->s->refcount_block_bits);
        }
    }
}

/*
 * Finds a table and blocks that describe themselves too: each addition may
 * need another block, but 64 and more clusters fit one. 0 or -EFBIG.
 */
static int plan(Rebuild *r)
{
    BDRVQcow2State *s = r->c->s;
    uint64_t entries, last, needed;

    find_blocks(r);
    r->first_cluster = r->c->nb_clusters;
    r->table_clusters = 1;
    for (;;) {
        last = (r->first_cluster + r->table_clusters + r->blocks->len - 1) >>
               s->refcount_block_bits;
        for (needed = r->first_cluster >> s->refcount_block_bits;
             needed <= last; needed++) {
            add_block(r->blocks, needed);
        }
        entries = g_array_index(r->blocks, uint64_t, r->blocks->len - 1) + 1;
        if (entries > QCOW_MAX_REFTABLE_SIZE / REFTABLE_ENTRY_SIZE) {
            return -EFBIG;
        }
        needed = size_to_clusters(s, entries * REFTABLE_ENTRY_SIZE);
        if (needed <= r->table_clusters &&
            (r->first_cluster + r->table_clusters + r->blocks->len - 1) >>
                s->refcount_block_bits == last) {
            return 0;
        }
        r->table_clusters = MAX(needed, r->table_clusters);
    }
}

static uint64_t block_offset(const Rebuild *r, guint i)
{
    return (r->first_cluster + r->table_clusters + i)
           << r->c->s->cluster_bits;
}

static int coroutine_fn write_blocks(Rebuild *r, void *buf)
{
    BDRVQcow2State *s = r->c->s;
    uint64_t cluster, j, refs;
    guint i;
    int ret;

    for (i = 0; i < r->blocks->len; i++) {
        cluster = g_array_index(r->blocks, uint64_t, i)
                  << s->refcount_block_bits;
        memset(buf, 0, s->cluster_size);
        for (j = 0; j < s->refcount_block_size; j++) {
            refs = qcow2_check_counts_get(r->refs, cluster + j);
            if (refs) {
                qcow2_refcount_block_set(s, buf, j, refs);
            }
        }
        ret = bdrv_co_pwrite(r->c->bs->file, block_offset(r, i),
                             s->cluster_size, buf, 0);
        if (ret < 0) {
            return ret;
        }
    }
    return 0;
}

static int coroutine_fn write_table(Rebuild *r)
{
    BDRVQcow2State *s = r->c->s;
    uint64_t bytes = r->table_clusters << s->cluster_bits;
    QEMU_AUTO_VFREE uint64_t *table = NULL;
    guint i;

    table = qemu_try_blockalign(r->c->bs->file->bs, bytes);
    if (!table) {
        return -ENOMEM;
    }
    memset(table, 0, bytes);
    for (i = 0; i < r->blocks->len; i++) {
        table[g_array_index(r->blocks, uint64_t, i)] =
            cpu_to_be64(block_offset(r, i));
    }
    return bdrv_co_pwrite(r->c->bs->file, r->first_cluster << s->cluster_bits,
                          bytes, table, 0);
}

/* The header names the new table; then the state in memory follows. */
static int coroutine_fn switch_over(Rebuild *r)
{
    BlockDriverState *bs = r->c->bs;
    BDRVQcow2State *s = r->c->s;
    uint64_t offset = r->first_cluster << s->cluster_bits;
    uint32_t size = (r->table_clusters << s->cluster_bits) /
                    REFTABLE_ENTRY_SIZE;
    Qcow2Table table, old;
    uint32_t old_max;
    guint i;
    int ret;

    ret = qcow2_table_init(&table, size, offset);
    if (ret < 0) {
        return ret;
    }
    for (i = 0; i < r->blocks->len; i++) {
        table.entries[g_array_index(r->blocks, uint64_t, i)] =
            block_offset(r, i);
    }
    /*
     * The new table first: what the old one names may be anything, the header
     * included, and would not pass the overlap check.
     */
    old = s->reftable;
    old_max = s->max_refcount_table_index;
    s->reftable = table;
    s->max_refcount_table_index =
        g_array_index(r->blocks, uint64_t, r->blocks->len - 1);
    ret = qcow2_header_write_reftable(bs, offset, r->table_clusters);
    if (ret < 0) {
        s->reftable = old;
        s->max_refcount_table_index = old_max;
        qcow2_table_free(&table);
        return ret;
    }
    qcow2_table_free(&old);
    return 0;
}

int coroutine_fn qcow2_check_rebuild(Qcow2Check *c)
{
    g_autoptr(GArray) blocks = g_array_new(FALSE, FALSE, sizeof(uint64_t));
    Rebuild r = { .c = c, .refs = c->refs, .blocks = blocks };
    uint64_t cluster, end;
    void *buf;
    int ret;

    uncount_old(&r);
    ret = plan(&r);
    if (ret < 0) {
        qcow2_check_io_error(c, ret, "Could not rebuild refcount structure");
        return ret;
    }
    end = r.first_cluster + r.table_clusters + blocks->len;
    for (cluster = r.first_cluster; cluster < end; cluster++) {
        qcow2_check_counts_set(r.refs, cluster, 1);
    }

    buf = qemu_try_blockalign(c->bs->file->bs, c->s->cluster_size);
    ret = buf ? write_blocks(&r, buf) : -ENOMEM;
    if (ret == 0) {
        ret = write_table(&r);
    }
    if (ret == 0) {
        ret = bdrv_co_flush(c->bs->file->bs);
    }
    if (ret == 0) {
        ret = switch_over(&r);
    }
    if (ret < 0) {
        qcow2_check_io_error(c, ret, "Could not rebuild refcount structure");
    }
    qemu_vfree(buf);
    return ret;
}
