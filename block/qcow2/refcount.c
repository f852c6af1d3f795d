/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Refcounts: one number of 1 to 64 bits for every host cluster.
 *
 * The refcount table (whole in memory) points to refcount blocks (cached);
 * clusters that no block covers have refcount 0. New blocks are made by
 * reftable.c.
 */
#include "util/osdep.h"
#include "util/bswap.h"
#include "block/qcow2/qcow2.h"

uint64_t qcow2_refcount_block_get(const BDRVQcow2State *s, const void *block,
                                  uint64_t index)
{
    switch (s->refcount_order) {
    case 0:
        return ((const uint8_t *)block)[index / 8] >> (index % 8) & 1;
    case 1:
        return ((const uint8_t *)block)[index / 4] >> (2 * (index % 4)) & 3;
    case 2:
        return ((const uint8_t *)block)[index / 2] >> (4 * (index % 2)) & 15;
    case 3:
        return ((const uint8_t *)block)[index];
    case 4:
        return be16_to_cpu(((const uint16_t *)block)[index]);
    case 5:
        return be32_to_cpu(((const uint32_t *)block)[index]);
    case 6:
        return be64_to_cpu(((const uint64_t *)block)[index]);
    default:
        g_assert_not_reached();
    }
}

/* Replaces @bits bits (a power of two below 8) at position @index. */
static void set_bits(uint8_t *block, uint64_t index, unsigned bits,
                     uint8_t value)
{
    unsigned per_byte = 8 / bits;
    unsigned shift = bits * (index % per_byte);
    uint8_t mask = ((1u << bits) - 1) << shift;
    uint8_t *p = &block[index / per_byte];

    *p = (*p & ~mask) | (value << shift);
}

void qcow2_refcount_block_set(const BDRVQcow2State *s, void *block,
                              uint64_t index, uint64_t value)
{
    assert(value <= s->refcount_max);
    switch (s->refcount_order) {
    case 0:
    case 1:
    case 2:
        set_bits(block, index, s->refcount_bits, value);
        break;
    case 3:
        ((uint8_t *)block)[index] = value;
        break;
    case 4:
        ((uint16_t *)block)[index] = cpu_to_be16(value);
        break;
    case 5:
        ((uint32_t *)block)[index] = cpu_to_be32(value);
        break;
    case 6:
        ((uint64_t *)block)[index] = cpu_to_be64(value);
        break;
    default:
        g_assert_not_reached();
    }
}

int coroutine_fn qcow2_refcount_init(BlockDriverState *bs, uint64_t offset,
                                     uint32_t clusters, Error **errp)
{
    BDRVQcow2State *s = bs->opaque;
    uint32_t entries = (uint64_t)clusters * s->cluster_size /
                       REFTABLE_ENTRY_SIZE;
    int64_t length = bdrv_co_getlength(bs->file->bs);
    Qcow2Table t;
    int ret;

    if (length < 0) {
        error_setg_errno(errp, -length, "Could not get the size of the file");
        return length;
    }
    ret = qcow2_table_init(&t, entries, offset);
    if (ret < 0) {
        error_setg(errp, "Could not allocate memory for the refcount table");
        return ret;
    }
    BLKDBG_EVENT(bs->file, BLKDBG_REFTABLE_LOAD);
    ret = qcow2_table_read(bs, &t);
    if (ret < 0) {
        qcow2_table_free(&t);
        error_setg_errno(errp, -ret, "Could not read the refcount table");
        return ret;
    }

    qcow2_table_free(&s->reftable);
    s->reftable = t;
    s->max_refcount_table_index = 0;
    for (uint32_t i = 0; i < t.size; i++) {
        if (t.entries[i] & REFT_OFFSET_MASK) {
            s->max_refcount_table_index = i;
        }
    }
    s->free_cluster_index = 0;
    s->free_run_index = 0;
    s->free_byte_offset = 0;
    s->virgin_offset = MAX(s->virgin_offset,
                           ROUND_UP((uint64_t)length,
                                    (uint64_t)s->cluster_size));
    return 0;
}

void qcow2_refcount_close(BDRVQcow2State *s)
{
    qcow2_table_free(&s->reftable);
}

/* Pins the block at @block_offset, an entry of the refcount table. */
static int coroutine_fn load_block(BlockDriverState *bs, uint64_t block_offset,
                                   void **block)
{
    BDRVQcow2State *s = bs->opaque;

    if (offset_into_cluster(s, block_offset)) {
        qcow2_signal_corruption(bs, true, -1, -1,
                                "Refblock offset %#" PRIx64 " unaligned",
                                block_offset);
        return -EIO;
    }
    return qcow2_cache_get(bs, s->refcount_block_cache, block_offset, block);
}

/* Host offset of the block for a cluster; 0: there is none. */
static uint64_t block_offset_of(const BDRVQcow2State *s,
                                uint64_t cluster_index)
{
    uint64_t i = cluster_index >> s->refcount_block_bits;

    return i < s->reftable.size ? s->reftable.entries[i] & REFT_OFFSET_MASK
                                : 0;
}

int coroutine_fn qcow2_get_refcount(BlockDriverState *bs,
                                    uint64_t cluster_index,
                                    uint64_t *refcount)
{
    BDRVQcow2State *s = bs->opaque;
    uint64_t block_offset = block_offset_of(s, cluster_index);
    void *block;
    int ret;

    if (!block_offset) {
        *refcount = 0;
        return 0;
    }
    ret = load_block(bs, block_offset, &block);
    if (ret < 0) {
        return ret;
    }
    *refcount = qcow2_refcount_block_get(
        s, block, cluster_index & (s->refcount_block_size - 1));
    qcow2_cache_put(s->refcount_block_cache, &block);
    return 0;
}

int coroutine_fn qcow2_set_refcount(BlockDriverState *bs,
                                    uint64_t cluster_index, uint64_t value)
{
    BDRVQcow2State *s = bs->opaque;
    uint64_t block_offset = block_offset_of(s, cluster_index);
    void *block;
    int ret;

    if (!block_offset) {
        return value ? -ENOENT : 0;
    }
    if (value > s->refcount_max) {
        return -EINVAL;
    }
    ret = load_block(bs, block_offset, &block);
    if (ret < 0) {
        return ret;
    }
    qcow2_refcount_block_set(s, block,
                             cluster_index & (s->refcount_block_size - 1),
                             value);
    qcow2_cache_entry_mark_dirty(s->refcount_block_cache, block);
    qcow2_cache_put(s->refcount_block_cache, &block);
    if (!value) {
        s->free_cluster_index = MIN(s->free_cluster_index, cluster_index);
        s->free_run_index = MIN(s->free_run_index, cluster_index);
    }
    return 0;
}

/* --- changing a range --- */

typedef struct RefcountUpdate {
    BlockDriverState *bs;
    uint64_t addend;
    bool decrease;
    Qcow2DiscardType type;
    /* Clusters that became free: a run that still grows. */
    uint64_t freed_first;
    uint64_t freed_count;
} RefcountUpdate;

/* The run of free clusters is complete: nothing may remember them. */
static void coroutine_fn finish_freed_run(RefcountUpdate *u)
{
    BlockDriverState *bs = u->bs;
    BDRVQcow2State *s = bs->opaque;
    uint64_t offset = u->freed_first << s->cluster_bits;
    uint64_t bytes = u->freed_count << s->cluster_bits;

    if (!u->freed_count) {
        return;
    }
    if (qcow2_is_stopped(s)) {
        /* Something else may be there. */
        u->freed_count = 0;
        return;
    }
    s->free_cluster_index = MIN(s->free_cluster_index, u->freed_first);
    s->free_run_index = MIN(s->free_run_index, u->freed_first);
    if (s->free_byte_offset >= offset && s->free_byte_offset < offset + bytes) {
        s->free_byte_offset = 0;
    }
    qcow2_cache_discard_range(s->l2_table_cache, offset, bytes);
    qcow2_cache_discard_range(s->refcount_block_cache, offset, bytes);
    if (s->discard_passthrough[u->type]) {
        /* Under the lock, so that nobody reuses the space meanwhile. */
        bdrv_co_pdiscard(bs->file, offset, bytes);
    }
    u->freed_count = 0;
}

static void coroutine_fn note_freed(RefcountUpdate *u, uint64_t cluster)
{
    if (u->freed_count && u->freed_first + u->freed_count != cluster) {
        finish_freed_run(u);
    }
    if (!u->freed_count) {
        u->freed_first = cluster;
    }
    u->freed_count++;
}

/* The new value, or false if it cannot be represented. */
static bool add_refcount(const BDRVQcow2State *s, const RefcountUpdate *u,
                         uint64_t *refcount)
{
    if (u->decrease) {
        if (*refcount < u->addend) {
            return false;
        }
        *refcount -= u->addend;
        return true;
    }
    if (u->addend > s->refcount_max || *refcount > s->refcount_max - u->addend) {
        return false;
    }
    *refcount += u->addend;
    return true;
}

/* Changes clusters [@first, @end) of one block; sets how many were done. */
static int coroutine_fn update_in_block(RefcountUpdate *u, uint64_t first,
                                        uint64_t end, uint64_t *done)
{
    BlockDriverState *bs = u->bs;
    BDRVQcow2State *s = bs->opaque;
    uint64_t block_offset = block_offset_of(s, first);
    uint64_t cluster;
    void *block;
    int ret;

    *done = 0;
    if (!block_offset) {
        return -EINVAL;
    }
    ret = load_block(bs, block_offset, &block);
    if (ret < 0) {
        return ret;
    }
    for (cluster = first; cluster < end; cluster++) {
        uint64_t i = cluster & (s->refcount_block_size - 1);
        uint64_t refcount = qcow2_refcount_block_get(s, block, i);

        if (!add_refcount(s, u, &refcount)) {
            ret = -EINVAL;
            break;
        }
        qcow2_refcount_block_set(s, block, i, refcount);
        ++*done;
    }
    if (*done) {
        qcow2_cache_entry_mark_dirty(s->refcount_block_cache, block);
    }
    qcow2_cache_put(s->refcount_block_cache, &block);
    return ret;
}

/* After a decrease of [@first, @first + @n): those that are 0 are free. */
static int coroutine_fn collect_freed(RefcountUpdate *u, uint64_t first,
                                      uint64_t n)
{
    for (uint64_t cluster = first; cluster < first + n; cluster++) {
        uint64_t refcount;
        int ret = qcow2_get_refcount(u->bs, cluster, &refcount);

        if (ret < 0) {
            return ret;
        }
        if (refcount == 0) {
            note_freed(u, cluster);
        }
    }
    return 0;
}

static void coroutine_fn undo_update(const RefcountUpdate *u, uint64_t first,
                                     uint64_t end)
{
    RefcountUpdate undo = {
        .bs = u->bs,
        .addend = u->addend,
        .decrease = !u->decrease,
    };
    const BDRVQcow2State *s = u->bs->opaque;

    while (first < end) {
        uint64_t block_end = ROUND_UP(first + 1,
                                      (uint64_t)s->refcount_block_size);
        uint64_t done;

        /* What fails leaks. */
        update_in_block(&undo, first, MIN(end, block_end), &done);
        first = MIN(end, block_end);
    }
}

int coroutine_fn qcow2_update_refcount(BlockDriverState *bs, uint64_t offset,
                                       uint64_t bytes, uint64_t addend,
                                       bool decrease, Qcow2DiscardType type)
{
    BDRVQcow2State *s = bs->opaque;
    RefcountUpdate u = {
        .bs = bs, .addend = addend, .decrease = decrease, .type = type,
    };
    uint64_t first = offset >> s->cluster_bits;
    uint64_t cluster = first;
    uint64_t end;
    int ret = 0;

    if (!bytes) {
        return 0;
    }
    if (offset >= QCOW_MAX_HOST_OFFSET ||
        bytes > QCOW_MAX_HOST_OFFSET - offset) {
        return -EFBIG;
    }
    end = ((offset + bytes - 1) >> s->cluster_bits) + 1;

    if (!decrease) {
        ret = qcow2_alloc_refcount_blocks(bs, first, end - first);
        if (ret < 0) {
            return ret;
        }
    }
    while (cluster < end) {
        uint64_t block_end = ROUND_UP(cluster + 1,
                                      (uint64_t)s->refcount_block_size);
        uint64_t done;

        ret = update_in_block(&u, cluster, MIN(end, block_end), &done);
        cluster += done;
        if (ret < 0) {
            undo_update(&u, first, cluster);
            return ret;
        }
    }
    if (!decrease) {
        s->virgin_offset = MAX(s->virgin_offset, end << s->cluster_bits);
    } else {
        ret = collect_freed(&u, first, end - first);
        finish_freed_run(&u);
    }
    return ret;
}
