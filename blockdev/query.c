/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Commands that tell about nodes. */
#include "util/osdep.h"
#include "block/activate.h"
#include "block/block-backend.h"
#include "block/block_int.h"
#include "block/dirty-bitmap.h"
#include "block/info.h"
#include "block/write-threshold.h"
#include "blockdev/blockdev.h"
#include "qapi/qapi-commands.h"
#include "util/lockable.h"

/* --- query-named-block-nodes --- */

static BlockdevChildList *query_children(BlockDriverState *bs)
{
    BlockdevChildList *list = NULL, **tail = &list;
    BdrvChild *c;

    QTAILQ_FOREACH(c, &bs->children, next) {
        BlockdevChild *child = g_new0(BlockdevChild, 1);

        child->child = g_strdup(c->name);
        child->node_name = g_strdup(bdrv_get_node_name(c->bs));
        QAPI_LIST_APPEND(tail, child);
    }
    return list;
}

static int64_t backing_depth(BlockDriverState *bs)
{
    int64_t depth = 0;

    while ((bs = bdrv_backing_chain_next(bs))) {
        depth++;
    }
    return depth;
}

static BlockdevCacheInfo *query_cache(BlockDriverState *bs)
{
    BlockdevCacheInfo *cache = g_new0(BlockdevCacheInfo, 1);

    cache->writeback = true;
    cache->direct = bs->open_flags & BDRV_O_NOCACHE;
    cache->no_flush = bs->open_flags & BDRV_O_NO_FLUSH;
    return cache;
}

static BlockDeviceInfo *query_node(BlockDriverState *bs, bool flat,
                                   Error **errp)
{
    g_autoptr(BlockDeviceInfo) info = g_new0(BlockDeviceInfo, 1);
    BlockDriverState *backing = bdrv_backing_chain_next(bs);

    bdrv_refresh_filename(bs);
    info->image = flat ? bdrv_query_one_image_info(bs, errp)
                       : bdrv_query_image_info(bs, errp);
    if (!info->image) {
        return NULL;
    }
    info->file = g_strdup(bs->filename);
    info->node_name = g_strdup(bdrv_get_node_name(bs));
    info->ro = bdrv_is_read_only(bs);
    info->drv = g_strdup(bdrv_get_format_name(bs));
    if (backing) {
        bdrv_refresh_filename(backing);
        info->backing_file = g_strdup(backing->filename);
    }
    info->backing_file_depth = backing_depth(bs);
    info->children = query_children(bs);
    info->active = !bdrv_is_inactive(bs);
    info->encrypted = bs->encrypted;
    info->detect_zeroes = bs->detect_zeroes;
    info->cache = query_cache(bs);
    info->write_threshold = bdrv_write_threshold_get(bs);
    info->dirty_bitmaps = bdrv_query_dirty_bitmaps(bs);
    info->has_dirty_bitmaps = info->dirty_bitmaps != NULL;
    return g_steal_pointer(&info);
}

BlockDeviceInfoList *qmp_query_named_block_nodes(bool has_flat, bool flat,
                                                 Error **errp)
{
    g_autoptr(BlockDeviceInfoList) list = NULL;

    for (BlockDriverState *bs = bdrv_next_node(NULL); bs;
         bs = bdrv_next_node(bs)) {
        BlockDeviceInfo *info = query_node(bs, has_flat && flat, errp);

        if (!info) {
            return NULL;
        }
        QAPI_LIST_PREPEND(list, info);
    }
    return g_steal_pointer(&list);
}

/* Guests' devices have names; exports and jobs are none. */
BlockInfoList *qmp_query_block(bool has_flat, bool flat, Error **errp)
{
    g_autoptr(BlockInfoList) list = NULL;

    for (BlockBackend *blk = blk_next(NULL); blk; blk = blk_next(blk)) {
        BlockInfo *info;

        if (!blk_name(blk)) {
            continue;
        }
        info = g_new0(BlockInfo, 1);
        QAPI_LIST_PREPEND(list, info);
        info->device = g_strdup(blk_name(blk));
        info->type = g_strdup("unknown");
        if (blk_bs(blk)) {
            info->inserted = query_node(blk_bs(blk), has_flat && flat, errp);
            if (!info->inserted) {
                return NULL;
            }
        }
    }
    return g_steal_pointer(&list);
}

/* --- query-blockstats --- */

static BlockDeviceStats *node_counters(BlockDriverState *bs)
{
    BlockDeviceStats *stats = g_new0(BlockDeviceStats, 1);

    stats->wr_highest_offset = qatomic_read(&bs->wr_highest_offset);
    return stats;
}

static BlockDeviceStats *backend_counters(BlockBackend *blk)
{
    BlockAcctStats *acct = blk_get_stats(blk);
    BlockDeviceStats *stats = g_new0(BlockDeviceStats, 1);
    int64_t idle = block_acct_idle_time_ns(acct);
    BlockLatencyHistogramInfo *reads =
        block_acct_histogram(acct, BLOCK_ACCT_READ);
    BlockLatencyHistogramInfo *writes =
        block_acct_histogram(acct, BLOCK_ACCT_WRITE);
    BlockLatencyHistogramInfo *flushes =
        block_acct_histogram(acct, BLOCK_ACCT_FLUSH);

    QEMU_LOCK_GUARD(&acct->lock);
    *stats = (BlockDeviceStats) {
        .rd_bytes = acct->nr_bytes[BLOCK_ACCT_READ],
        .wr_bytes = acct->nr_bytes[BLOCK_ACCT_WRITE],
        .unmap_bytes = acct->nr_bytes[BLOCK_ACCT_UNMAP],
        .rd_operations = acct->nr_ops[BLOCK_ACCT_READ],
        .wr_operations = acct->nr_ops[BLOCK_ACCT_WRITE],
        .flush_operations = acct->nr_ops[BLOCK_ACCT_FLUSH],
        .unmap_operations = acct->nr_ops[BLOCK_ACCT_UNMAP],
        .rd_total_time_ns = acct->total_time_ns[BLOCK_ACCT_READ],
        .wr_total_time_ns = acct->total_time_ns[BLOCK_ACCT_WRITE],
        .flush_total_time_ns = acct->total_time_ns[BLOCK_ACCT_FLUSH],
        .unmap_total_time_ns = acct->total_time_ns[BLOCK_ACCT_UNMAP],
        .rd_merged = acct->merged[BLOCK_ACCT_READ],
        .wr_merged = acct->merged[BLOCK_ACCT_WRITE],
        .unmap_merged = acct->merged[BLOCK_ACCT_UNMAP],
        .has_idle_time_ns = true,
        .idle_time_ns = idle,
        .failed_rd_operations = acct->failed_ops[BLOCK_ACCT_READ],
        .failed_wr_operations = acct->failed_ops[BLOCK_ACCT_WRITE],
        .failed_flush_operations = acct->failed_ops[BLOCK_ACCT_FLUSH],
        .failed_unmap_operations = acct->failed_ops[BLOCK_ACCT_UNMAP],
        .invalid_rd_operations = acct->invalid_ops[BLOCK_ACCT_READ],
        .invalid_wr_operations = acct->invalid_ops[BLOCK_ACCT_WRITE],
        .invalid_flush_operations = acct->invalid_ops[BLOCK_ACCT_FLUSH],
        .invalid_unmap_operations = acct->invalid_ops[BLOCK_ACCT_UNMAP],
        .account_invalid = true,
        .account_failed = true,
        .rd_latency_histogram = reads,
        .wr_latency_histogram = writes,
        .flush_latency_histogram = flushes,
    };
    return stats;
}

/* One node, without those below it. */
static BlockStats *one_node_stats(BlockDriverState *bs)
{
    BlockStats *s = g_new0(BlockStats, 1);

    s->node_name = g_strdup(bdrv_get_node_name(bs));
    s->stats = node_counters(bs);
    if (bdrv_primary_bs(bs)) {
        /* What a user wants to know of it: how far the file is written. */
        BlockDriverState *file = bdrv_primary_bs(bs);

        s->parent = g_new0(BlockStats, 1);
        s->parent->node_name = g_strdup(bdrv_get_node_name(file));
        s->parent->stats = node_counters(file);
    }
    return s;
}

/* With its backing chain nested below. */
static BlockStats *chain_stats(BlockDriverState *bs)
{
    BlockStats *first = NULL, **next = &first;

    for (; bs; bs = bdrv_filter_or_cow_bs(bs)) {
        *next = one_node_stats(bs);
        next = &(*next)->backing;
    }
    return first;
}

BlockStatsList *qmp_query_blockstats(bool has_query_nodes, bool query_nodes,
                                     Error **errp)
{
    BlockStatsList *list = NULL, **tail = &list;

    if (has_query_nodes && query_nodes) {
        for (BlockDriverState *bs = bdrv_next_node(NULL); bs;
             bs = bdrv_next_node(bs)) {
            QAPI_LIST_APPEND(tail, one_node_stats(bs));
        }
        return list;
    }
    for (BlockBackend *blk = blk_next(NULL); blk; blk = blk_next(blk)) {
        BlockStats *s;

        if (!blk_name(blk)) {
            continue;
        }
        s = blk_bs(blk) ? chain_stats(blk_bs(blk)) : g_new0(BlockStats, 1);
        s->device = g_strdup(blk_name(blk));
        qapi_free_BlockDeviceStats(s->stats);
        s->stats = backend_counters(blk);
        QAPI_LIST_APPEND(tail, s);
    }
    return list;
}

/* --- block-latency-histogram-set --- */

/* By its own name, or by that of its node. */
static BlockBackend *find_backend(const char *id, Error **errp)
{
    BlockBackend *of_node = NULL;

    for (BlockBackend *blk = blk_next(NULL); blk; blk = blk_next(blk)) {
        if (!blk_name(blk)) {
            continue;
        }
        if (!strcmp(blk_name(blk), id)) {
            return blk;
        }
        if (!of_node && blk_bs(blk) &&
            !strcmp(bdrv_get_node_name(blk_bs(blk)), id)) {
            of_node = blk;
        }
    }
    if (!of_node) {
        error_setg(errp, "Device '%s' not found", id);
    }
    return of_node;
}

void qmp_block_latency_histogram_set(
    const char *id, bool has_boundaries, uint64List *boundaries,
    bool has_boundaries_read, uint64List *boundaries_read,
    bool has_boundaries_write, uint64List *boundaries_write,
    bool has_boundaries_flush, uint64List *boundaries_flush, Error **errp)
{
    const struct {
        BlockAcctType type;
        const char *name;
        bool has;
        uint64List *list;
    } kinds[] = {
        { BLOCK_ACCT_READ, "read", has_boundaries_read, boundaries_read },
        { BLOCK_ACCT_WRITE, "write", has_boundaries_write, boundaries_write },
        { BLOCK_ACCT_FLUSH, "flush", has_boundaries_flush, boundaries_flush },
    };
    bool none = !has_boundaries && !has_boundaries_read &&
                !has_boundaries_write && !has_boundaries_flush;
    BlockBackend *blk = find_backend(id, errp);

    for (int i = 0; blk && i < ARRAY_SIZE(kinds); i++) {
        uint64List *list = kinds[i].has ? kinds[i].list : boundaries;

        if (!none && !kinds[i].has && !has_boundaries) {
            continue;
        }
        if (!block_acct_set_histogram(blk_get_stats(blk), kinds[i].type,
                                      list)) {
            error_setg(errp, "Device '%s' set %s boundaries fail", id,
                       kinds[i].name);
            return;
        }
    }
}

/* --- graphs --- */

XDbgBlockGraph *qmp_x_debug_query_block_graph(Error **errp)
{
    return bdrv_get_xdbg_block_graph(errp);
}

BlockGraph *qmp_query_block_graph(Error **errp)
{
    return bdrv_query_block_graph();
}
