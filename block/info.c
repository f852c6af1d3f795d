/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Collects what is known about open nodes; the text is made in info-text.c. */
#include "util/osdep.h"
#include "block/block_int.h"
#include "block/info.h"

static BlockLimitsInfo *query_limits(const BlockLimits *bl)
{
    BlockLimitsInfo *info = g_new0(BlockLimitsInfo, 1);

    *info = (BlockLimitsInfo) {
        .request_alignment = bl->request_alignment,
        .has_max_discard = bl->max_pdiscard != 0,
        .max_discard = bl->max_pdiscard,
        .has_discard_alignment = bl->pdiscard_alignment != 0,
        .discard_alignment = bl->pdiscard_alignment,
        .has_max_write_zeroes = bl->max_pwrite_zeroes != 0,
        .max_write_zeroes = bl->max_pwrite_zeroes,
        .has_write_zeroes_alignment = bl->pwrite_zeroes_alignment != 0,
        .write_zeroes_alignment = bl->pwrite_zeroes_alignment,
        .has_opt_transfer = bl->opt_transfer != 0,
        .opt_transfer = bl->opt_transfer,
        .has_max_transfer = bl->max_transfer != 0,
        .max_transfer = bl->max_transfer,
        .max_iov = bl->max_iov,
        .min_mem_alignment = bl->min_mem_alignment,
        .opt_mem_alignment = bl->opt_mem_alignment,
    };
    return info;
}

static void fill_backing(BlockNodeInfo *info, BlockDriverState *bs)
{
    if (!bs->backing_file[0]) {
        return;
    }
    info->backing_filename = g_strdup(bs->backing_file);
    /* A name that cannot be resolved is told by its absence. */
    info->full_backing_filename = bdrv_get_full_backing_filename(bs, NULL);
    if (bs->backing_format[0]) {
        info->backing_filename_format = g_strdup(bs->backing_format);
    }
}

static bool fill_snapshots(BlockNodeInfo *info, BlockDriverState *bs,
                           Error **errp)
{
    ERRP_GUARD();

    if (!bs->drv->bdrv_snapshot_list) {
        return true;
    }
    info->snapshots = bs->drv->bdrv_snapshot_list(bs, errp);
    info->has_snapshots = info->snapshots != NULL;
    return !*errp;
}

/* On failure @info holds what was found so far; the caller frees it. */
static bool fill_node(BlockNodeInfo *info, BlockDriverState *bs, bool limits,
                      Error **errp)
{
    ERRP_GUARD();
    BlockDriverInfo bdi = { 0 };
    int64_t size;

    bdrv_refresh_filename(bs);
    info->filename = g_strdup(bs->filename);
    info->format = g_strdup(bdrv_get_format_name(bs));

    size = bdrv_getlength(bs);
    if (size < 0) {
        error_setg_errno(errp, -size, "Can't get image size '%s'",
                         bs->filename);
        return false;
    }
    info->virtual_size = size;
    size = bdrv_get_allocated_file_size(bs);
    info->has_actual_size = size >= 0;
    info->actual_size = MAX(size, 0);
    info->has_encrypted = bs->encrypted;
    info->encrypted = bs->encrypted;

    if (bdrv_get_info(bs, &bdi) >= 0) {
        info->has_cluster_size = bdi.cluster_size != 0;
        info->cluster_size = bdi.cluster_size;
        info->has_dirty_flag = true;
        info->dirty_flag = bdi.is_dirty;
    }
    if (limits) {
        info->limits = query_limits(&bs->bl);
    }
    info->format_specific = bdrv_get_specific_info(bs, errp);
    if (*errp) {
        return false;
    }
    fill_backing(info, bs);
    return fill_snapshots(info, bs, errp);
}

/* --- a node and all below it --- */

/*
 * The walk keeps its own stack, as the depth of the graph is the user's
 * choice: each entry is a child list still to be filled.
 */
typedef struct Pending {
    BlockDriverState *bs;
    BlockGraphInfo *info;
} Pending;

static void push_children(GArray *stack, BlockDriverState *bs,
                          BlockGraphInfo *info)
{
    BlockChildInfoList **tail = &info->children;
    BdrvChild *child;

    QTAILQ_FOREACH(child, &bs->children, next) {
        BlockChildInfo *entry = g_new0(BlockChildInfo, 1);
        Pending p;

        entry->name = g_strdup(child->name);
        entry->info = g_new0(BlockGraphInfo, 1);
        QAPI_LIST_APPEND(tail, entry);
        p = (Pending) { child->bs, entry->info };
        g_array_append_val(stack, p);
    }
}

BlockGraphInfo *bdrv_query_block_graph_info(BlockDriverState *bs, bool limits,
                                            Error **errp)
{
    g_autoptr(GArray) stack = g_array_new(FALSE, FALSE, sizeof(Pending));
    BlockGraphInfo *root = g_new0(BlockGraphInfo, 1);
    Pending p = { bs, root };

    g_array_append_val(stack, p);
    while (stack->len) {
        p = g_array_index(stack, Pending, stack->len - 1);
        g_array_set_size(stack, stack->len - 1);
        if (!fill_node(qapi_BlockGraphInfo_base(p.info), p.bs, limits, errp)) {
            qapi_free_BlockGraphInfo(root);
            return NULL;
        }
        push_children(stack, p.bs, p.info);
    }
    return root;
}

/* --- an image and its backing chain --- */

static ImageInfo *query_images(BlockDriverState *bs, bool only_one,
                               Error **errp)
{
    ImageInfo *first = NULL;
    ImageInfo **next = &first;

    for (; bs; bs = only_one ? NULL : bdrv_backing_chain_next(bs)) {
        *next = g_new0(ImageInfo, 1);
        if (!fill_node(qapi_ImageInfo_base(*next), bs, false, errp)) {
            qapi_free_ImageInfo(first);
            return NULL;
        }
        next = &(*next)->backing_image;
    }
    return first;
}

ImageInfo *bdrv_query_image_info(BlockDriverState *bs, Error **errp)
{
    return query_images(bs, false, errp);
}

ImageInfo *bdrv_query_one_image_info(BlockDriverState *bs, Error **errp)
{
    return query_images(bs, true, errp);
}

bool bdrv_has_other_writer(BlockDriverState *bs)
{
    while (bs && bs->drv && !bs->drv->bdrv_has_other_writer) {
        bs = bdrv_primary_bs(bs);
    }
    return bs && bs->drv && bs->drv->bdrv_has_other_writer(bs) > 0;
}
