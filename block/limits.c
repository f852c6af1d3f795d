/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Limits of a node: what its requests, and the memory they use, must respect.
 */
#include "util/osdep.h"
#include "block/block_int.h"
#include "block/io-internal.h"
#include "util/iov.h"

static bool is_power_of_2(uint64_t n)
{
    return n && !(n & (n - 1));
}

/* What requests of the parent become requests of the child. */
static void merge_limits(BlockLimits *bl, const BlockLimits *child)
{
    bl->opt_transfer = MAX(bl->opt_transfer, child->opt_transfer);
    bl->max_transfer = MIN_NON_ZERO(bl->max_transfer, child->max_transfer);
    bl->opt_mem_alignment = MAX(bl->opt_mem_alignment,
                                child->opt_mem_alignment);
    bl->min_mem_alignment = MAX(bl->min_mem_alignment,
                                child->min_mem_alignment);
    bl->max_iov = MIN_NON_ZERO(bl->max_iov, child->max_iov);
}

/* Drivers take some of this from devices and servers: do not trust it. */
static bool check_limits(BlockDriverState *bs, Error **errp)
{
    BlockLimits *bl = &bs->bl;

    if (!is_power_of_2(bl->request_alignment) ||
        bl->request_alignment > BDRV_MAX_ALIGNMENT) {
        error_setg(errp, "Driver '%s' requires request alignment %" PRIu32
                   ", which is not a power of two up to %lld",
                   bs->drv->format_name, bl->request_alignment,
                   BDRV_MAX_ALIGNMENT);
        return false;
    }
    if (!is_power_of_2(bl->min_mem_alignment) ||
        !is_power_of_2(bl->opt_mem_alignment)) {
        error_setg(errp, "Driver '%s' requires memory alignment %zu, which is "
                   "not a power of two", bs->drv->format_name,
                   is_power_of_2(bl->min_mem_alignment)
                   ? bl->opt_mem_alignment : bl->min_mem_alignment);
        return false;
    }
    if (bl->max_transfer && bl->max_transfer < bl->request_alignment) {
        error_setg(errp, "Driver '%s' allows transfers of at most %" PRIu32
                   " bytes, less than its request alignment %" PRIu32,
                   bs->drv->format_name, bl->max_transfer,
                   bl->request_alignment);
        return false;
    }
    if (bl->max_iov <= 0) {
        bl->max_iov = IOV_MAX;
    }
    return true;
}

bool bdrv_refresh_limits(BlockDriverState *bs, Error **errp)
{
    ERRP_GUARD();
    BlockLimits *bl = &bs->bl;
    BdrvChild *child;

    memset(bl, 0, sizeof(*bl));
    if (!bs->drv) {
        return true;
    }
    bl->request_alignment = 1;
    bl->min_mem_alignment = 1;
    bl->opt_mem_alignment = qemu_real_host_page_size();
    bl->max_iov = IOV_MAX;
    QTAILQ_FOREACH(child, &bs->children, next) {
        if (child->role & (BDRV_CHILD_DATA | BDRV_CHILD_FILTERED |
                           BDRV_CHILD_COW)) {
            merge_limits(bl, &child->bs->bl);
        }
    }
    child = bdrv_filter_child(bs);
    if (child) {
        bl->compress_alignment = child->bs->bl.compress_alignment;
    }
    if (bs->drv->bdrv_refresh_limits) {
        bs->drv->bdrv_refresh_limits(bs, errp);
        if (*errp) {
            return false;
        }
    }
    bdrv_follow_filtered_length(bs);
    return check_limits(bs, errp);
}

size_t bdrv_opt_mem_align(BlockDriverState *bs)
{
    size_t align = bs && bs->drv ? bs->bl.opt_mem_alignment : 0;

    return MAX(align, qemu_real_host_page_size());
}

size_t bdrv_min_mem_align(BlockDriverState *bs)
{
    size_t align = bs && bs->drv ? bs->bl.min_mem_alignment : 0;

    return MAX(align, 1);
}

void *qemu_blockalign(BlockDriverState *bs, size_t size)
{
    return qemu_memalign(bdrv_opt_mem_align(bs), size);
}

void *qemu_try_blockalign(BlockDriverState *bs, size_t size)
{
    /* Some caller may ask for nothing: it still gets memory to free. */
    return qemu_try_memalign(bdrv_opt_mem_align(bs), MAX(size, 1));
}

bool bdrv_qiov_is_aligned(BlockDriverState *bs, QEMUIOVector *qiov)
{
    return qemu_iovec_is_aligned(qiov, bdrv_min_mem_align(bs),
                                 bs->bl.request_alignment);
}
