/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A refcount structure that is to take the place of the one in use.
 *
 * Some changes touch refcounts and tables all over the image and are true only
 * as a whole: snapshots. They are made in a plan: every refcount block that
 * changes gets a new place, so does the refcount table, and one write of the
 * header switches over. Until then the structure in use, and everything it
 * says, stays as it is: giving a plan up costs nothing, and after a power cut
 * nothing is lost, not even space.
 *
 * Free for the plan is what both structures call free. So clusters that it
 * frees keep their content, and those that it takes are nobody else's, since
 * the lock is held from the first step to the last.
 */
#include "util/osdep.h"
#include "util/bswap.h"
#include "util/error.h"
#include "util/memalign.h"
#include "block/qcow2/refplan.h"

/* A refcount block with a change. */
typedef struct PlanBlock {
    void *data;         /* as it will be on disk */
    uint64_t offset;    /* its new place; 0: not known yet */
} PlanBlock;

struct Qcow2RefPlan {
    BlockDriverState *bs;
    PlanBlock **blocks; /* by index; NULL: as in the old structure */
    uint64_t nb_blocks;
    uint64_t scan;      /* cluster; none before it is free */
    Qcow2Table table;   /* offset 0: not placed yet */
    GArray *freed;      /* Qcow2PendingFree: what the switch frees */
};

Qcow2RefPlan *qcow2_refplan_new(BlockDriverState *bs)
{
    BDRVQcow2State *s = bs->opaque;
    Qcow2RefPlan *p = g_new0(Qcow2RefPlan, 1);

    p->bs = bs;
    p->scan = MAX(s->free_cluster_index, 1);
    p->freed = g_array_new(false, false, sizeof(Qcow2PendingFree));
    return p;
}

void qcow2_refplan_free(Qcow2RefPlan *p)
{
    if (!p) {
        return;
    }
    for (uint64_t i = 0; i < p->nb_blocks; i++) {
        if (p->blocks[i]) {
            qemu_vfree(p->blocks[i]->data);
            g_free(p->blocks[i]);
        }
    }
    g_free(p->blocks);
    g_array_unref(p->freed);
    qcow2_table_free(&p->table);
    g_free(p);
}

/* Host offset of block @i of the structure in use; 0: there is none. */
static uint64_t old_block_offset(const Qcow2RefPlan *p, uint64_t i)
{
    const BDRVQcow2State *s = p->bs->opaque;

    return i < s->reftable.size ? s->reftable.entries[i] & REFT_OFFSET_MASK
                                : 0;
}

/* Pins block @i of the structure in use; NULL if there is none. */
static int coroutine_fn get_old(Qcow2RefPlan *p, uint64_t i, void **block)
{
    BDRVQcow2State *s = p->bs->opaque;
    uint64_t offset = old_block_offset(p, i);

    *block = NULL;
    if (!offset) {
        return 0;
    }
    if (offset_into_cluster(s, offset)) {
        qcow2_signal_corruption(p->bs, true, -1, -1, "Refblock offset %#"
                                PRIx64 " unaligned", offset);
        return -EIO;
    }
    return qcow2_cache_get(p->bs, s->refcount_block_cache, offset, block);
}

static const PlanBlock *find_block(const Qcow2RefPlan *p, uint64_t i)
{
    return i < p->nb_blocks ? p->blocks[i] : NULL;
}

static int make_room(Qcow2RefPlan *p, uint64_t i)
{
    uint64_t size = MAX(MAX(64, i + 1), p->nb_blocks * 2);
    PlanBlock **blocks;

    if (i < p->nb_blocks) {
        return 0;
    }
    if (i >= QCOW_MAX_REFTABLE_SIZE / REFTABLE_ENTRY_SIZE) {
        return -EFBIG;
    }
    blocks = g_try_renew(PlanBlock *, p->blocks, size);
    if (!blocks) {
        return -ENOMEM;
    }
    memset(blocks + p->nb_blocks, 0,
           (size - p->nb_blocks) * sizeof(PlanBlock *));
    p->blocks = blocks;
    p->nb_blocks = size;
    return 0;
}

/* Block @i, which will be changed. */
static int coroutine_fn get_block(Qcow2RefPlan *p, uint64_t i,
                                  PlanBlock **block)
{
    BDRVQcow2State *s = p->bs->opaque;
    void *data, *old;
    int ret;

    ret = make_room(p, i);
    if (ret < 0 || (*block = p->blocks[i])) {
        return ret;
    }
    ret = get_old(p, i, &old);
    if (ret < 0) {
        return ret;
    }
    data = qemu_try_blockalign(p->bs->file->bs, s->cluster_size);
    if (data && old) {
        memcpy(data, old, s->cluster_size);
    } else if (data) {
        memset(data, 0, s->cluster_size);
    }
    qcow2_cache_put(s->refcount_block_cache, &old);
    if (!data) {
        return -ENOMEM;
    }
    *block = p->blocks[i] = g_new0(PlanBlock, 1);
    (*block)->data = data;
    return 0;
}

int coroutine_fn qcow2_refplan_get(Qcow2RefPlan *p, uint64_t cluster,
                                   uint64_t *refcount)
{
    BDRVQcow2State *s = p->bs->opaque;
    const PlanBlock *block = find_block(p, cluster >> s->refcount_block_bits);

    if (!block) {
        return qcow2_get_refcount(p->bs, cluster, refcount);
    }
    *refcount = qcow2_refcount_block_get(
        s, block->data, cluster & (s->refcount_block_size - 1));
    return 0;
}

int coroutine_fn qcow2_refplan_add(Qcow2RefPlan *p, uint64_t offset,
                                   uint64_t bytes, int delta)
{
    BDRVQcow2State *s = p->bs->opaque;
    uint64_t cluster = offset >> s->cluster_bits;
    uint64_t last;

    if (!bytes) {
        return 0;
    }
    if (offset >= QCOW_MAX_HOST_OFFSET ||
        bytes > QCOW_MAX_HOST_OFFSET - offset) {
        return -EFBIG;
    }
    last = (offset + bytes - 1) >> s->cluster_bits;
    for (; cluster <= last; cluster++) {
        uint64_t i = cluster & (s->refcount_block_size - 1);
        PlanBlock *block;
        uint64_t refcount;
        int ret;

        ret = get_block(p, cluster >> s->refcount_block_bits, &block);
        if (ret < 0) {
            return ret;
        }
        refcount = qcow2_refcount_block_get(s, block->data, i);
        if (delta < 0 ? refcount == 0 : refcount == s->refcount_max) {
            return delta < 0 ? -EIO : -ERANGE;
        }
        qcow2_refcount_block_set(s, block->data, i, refcount + delta);
    }
    return 0;
}

/* --- finding free clusters --- */

/* Looks for *@count free clusters in a row up to @wanted, going on from
 * *@cluster to the end of its block. */
static int coroutine_fn scan_block(Qcow2RefPlan *p, uint64_t *cluster,
                                   uint64_t *count, uint64_t wanted)
{
    BDRVQcow2State *s = p->bs->opaque;
    uint64_t i = *cluster >> s->refcount_block_bits;
    uint64_t end = (i + 1) << s->refcount_block_bits;
    const PlanBlock *block = find_block(p, i);
    void *old;
    int ret = get_old(p, i, &old);

    if (ret < 0) {
        return ret;
    }
    for (; *cluster < end && *count < wanted; ++*cluster) {
        uint64_t at = *cluster & (s->refcount_block_size - 1);
        bool used = (old && qcow2_refcount_block_get(s, old, at)) ||
                    (block && qcow2_refcount_block_get(s, block->data, at)) ||
                    qcow2_guard_reserves(s, *cluster);

        *count = used ? 0 : *count + 1;
    }
    qcow2_cache_put(s->refcount_block_cache, &old);
    return 0;
}

int64_t coroutine_fn qcow2_refplan_find(Qcow2RefPlan *p, uint64_t nb)
{
    BDRVQcow2State *s = p->bs->opaque;
    uint64_t cluster = p->scan, count = 0;
    int ret;

    while (count < nb) {
        if (cluster >= QCOW_MAX_HOST_OFFSET >> s->cluster_bits) {
            return -EFBIG;
        }
        ret = scan_block(p, &cluster, &count, nb);
        if (ret < 0) {
            return ret;
        }
    }
    return cluster - nb;
}

int64_t coroutine_fn qcow2_refplan_alloc(Qcow2RefPlan *p, uint64_t nb)
{
    BDRVQcow2State *s = p->bs->opaque;
    int64_t first = qcow2_refplan_find(p, nb);
    uint64_t cluster, offset;
    int ret;

    if (first < 0) {
        return first;
    }
    cluster = first + nb;
    if (nb == 1) {
        p->scan = cluster;
    }
    offset = (uint64_t)first << s->cluster_bits;
    ret = qcow2_pre_write_overlap_check(p->bs, 0, offset,
                                        nb << s->cluster_bits);
    if (ret == 0) {
        ret = qcow2_refplan_add(p, offset, nb << s->cluster_bits, 1);
    }
    if (ret < 0) {
        return ret;
    }
    /* What is written there stays, also if the plan is given up. */
    s->virgin_offset = MAX(s->virgin_offset, cluster << s->cluster_bits);
    return offset;
}

/* --- the places of blocks and table --- */

/* A new place for the block, which frees the old one. */
static int coroutine_fn place_block(Qcow2RefPlan *p, uint64_t i)
{
    BDRVQcow2State *s = p->bs->opaque;
    uint64_t old = old_block_offset(p, i);
    int64_t offset = qcow2_refplan_alloc(p, 1);

    if (offset < 0) {
        return offset;
    }
    p->blocks[i]->offset = offset;
    return old ? qcow2_refplan_add(p, old, s->cluster_size, -1) : 0;
}

/* Placing a block changes others: goes on until all have a place. */
static int coroutine_fn place_blocks(Qcow2RefPlan *p)
{
    bool again = true;

    while (again) {
        again = false;
        for (uint64_t i = 0; i < p->nb_blocks; i++) {
            if (p->blocks[i] && !p->blocks[i]->offset) {
                int ret = place_block(p, i);

                if (ret < 0) {
                    return ret;
                }
                again = true;
            }
        }
    }
    return 0;
}

static uint64_t entries_needed(const Qcow2RefPlan *p)
{
    const BDRVQcow2State *s = p->bs->opaque;
    uint64_t n = s->max_refcount_table_index + 1ULL;

    for (uint64_t i = n; i < p->nb_blocks; i++) {
        if (p->blocks[i]) {
            n = i + 1;
        }
    }
    return n;
}

/* The table has room for all blocks, those that count it included. */
static int coroutine_fn place_table(Qcow2RefPlan *p)
{
    BDRVQcow2State *s = p->bs->opaque;
    uint64_t per_cluster = s->cluster_size / REFTABLE_ENTRY_SIZE;
    uint64_t clusters = DIV_ROUND_UP(s->reftable.size, per_cluster);
    int ret;

    ret = qcow2_refplan_add(p, s->reftable.offset,
                            s->reftable.size * REFTABLE_ENTRY_SIZE, -1);
    if (ret < 0) {
        return ret;
    }
    for (;;) {
        int64_t offset;

        clusters = MAX(clusters, DIV_ROUND_UP(entries_needed(p), per_cluster));
        if (clusters << s->cluster_bits >
            MAX(QCOW_MAX_REFTABLE_SIZE, s->cluster_size)) {
            return -EFBIG;
        }
        offset = qcow2_refplan_alloc(p, clusters);
        if (offset < 0) {
            return offset;
        }
        ret = place_blocks(p);
        if (ret < 0) {
            return ret;
        }
        if (entries_needed(p) <= clusters * per_cluster) {
            return qcow2_table_init(&p->table, clusters * per_cluster, offset);
        }
        /* Its own blocks do not fit: a longer one. */
        ret = qcow2_refplan_add(p, offset, clusters << s->cluster_bits, -1);
        if (ret < 0) {
            return ret;
        }
    }
}

/* --- writing --- */

static void note_freed(Qcow2RefPlan *p, uint64_t cluster)
{
    BDRVQcow2State *s = p->bs->opaque;
    Qcow2PendingFree f = {
        .offset = cluster << s->cluster_bits, .bytes = s->cluster_size,
    };

    if (p->freed->len) {
        Qcow2PendingFree *last = &g_array_index(p->freed, Qcow2PendingFree,
                                                p->freed->len - 1);

        if (last->offset + last->bytes == f.offset) {
            last->bytes += f.bytes;
            return;
        }
    }
    g_array_append_val(p->freed, f);
}

/* Remembers which clusters of block @i the plan frees. */
static int coroutine_fn find_freed(Qcow2RefPlan *p, uint64_t i)
{
    BDRVQcow2State *s = p->bs->opaque;
    void *old;
    int ret = get_old(p, i, &old);

    if (ret < 0 || !old) {
        return ret;
    }
    for (int j = 0; j < s->refcount_block_size; j++) {
        if (!qcow2_refcount_block_get(s, p->blocks[i]->data, j) &&
            qcow2_refcount_block_get(s, old, j)) {
            note_freed(p, (i << s->refcount_block_bits) + j);
        }
    }
    qcow2_cache_put(s->refcount_block_cache, &old);
    return 0;
}

static int coroutine_fn write_blocks(Qcow2RefPlan *p)
{
    BDRVQcow2State *s = p->bs->opaque;

    for (uint64_t i = 0; i < p->nb_blocks; i++) {
        const PlanBlock *block = p->blocks[i];
        int ret;

        if (!block) {
            continue;
        }
        ret = find_freed(p, i);
        if (ret == 0) {
            ret = bdrv_co_pwrite(p->bs->file, block->offset, s->cluster_size,
                                 block->data, 0);
        }
        if (ret < 0) {
            return ret;
        }
    }
    return 0;
}

int coroutine_fn qcow2_refplan_write(Qcow2RefPlan *p)
{
    BDRVQcow2State *s = p->bs->opaque;
    int ret;

    ret = place_table(p);
    if (ret < 0) {
        return ret;
    }
    for (uint64_t i = 0; i < p->table.size; i++) {
        const PlanBlock *block = find_block(p, i);

        p->table.entries[i] = block ? block->offset
                              : i < s->reftable.size ? s->reftable.entries[i]
                                                     : 0;
    }
    qcow2_table_mark_all(&p->table);
    ret = write_blocks(p);
    return ret < 0 ? ret : qcow2_table_write(p->bs, &p->table, 0);
}

void qcow2_refplan_table(const Qcow2RefPlan *p, uint64_t *offset,
                         uint32_t *clusters)
{
    const BDRVQcow2State *s = p->bs->opaque;

    *offset = p->table.offset;
    *clusters = p->table.size * REFTABLE_ENTRY_SIZE >> s->cluster_bits;
}

/* --- switching --- */

void qcow2_refplan_commit(Qcow2RefPlan *p)
{
    BDRVQcow2State *s = p->bs->opaque;
    Qcow2Table old = s->reftable;

    s->reftable = p->table;
    p->table = old;
    for (uint32_t i = 0; i < s->reftable.size; i++) {
        if (s->reftable.entries[i] & REFT_OFFSET_MASK) {
            s->max_refcount_table_index = i;
        }
    }
    /* Clusters have changed hands. */
    qcow2_cache_empty(s->refcount_block_cache);
    qcow2_cache_empty(s->l2_table_cache);
    s->free_cluster_index = 0;
    s->free_run_index = 0;
    s->free_byte_offset = 0;
}

void coroutine_fn qcow2_refplan_discard_freed(Qcow2RefPlan *p)
{
    for (guint i = 0; i < p->freed->len; i++) {
        const Qcow2PendingFree *f = &g_array_index(p->freed, Qcow2PendingFree,
                                                   i);

        /* That the space is not given back is no harm. */
        bdrv_co_pdiscard(p->bs->file, f->offset, f->bytes);
    }
}
