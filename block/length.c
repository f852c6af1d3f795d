/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The length of a node, changing it, and other facts about what it stores.
 *
 * bs->total_bytes caches the length in bytes, as the driver says. Requests that
 * extend the node and truncation keep it right; drivers whose length can change
 * behind our back (has_variable_length) are asked each time. A filter without a
 * length of its own has that of the node below, whoever changes it: the cache
 * follows, and is not relied on.
 *
 * A node is a disk of whole sectors: to all but the request path a file of 700
 * bytes is one of 1024, which can be read (as zeroes) and written.
 */
#include "util/osdep.h"
#include "block/block_int.h"
#include "block/dirty-bitmap.h"
#include "block/io-internal.h"
#include "block/tracked-request.h"
#include "util/atomic.h"

/* ---------------------------------------------------------------- length */

/* What the driver, or for filters the node below, says. Bytes or -errno. */
static int64_t coroutine_fn ask_length(BlockDriverState *bs)
{
    while (bs && bs->drv) {
        if (bs->drv->bdrv_co_getlength) {
            return bs->drv->bdrv_co_getlength(bs);
        }
        bs = bdrv_filter_bs(bs);
        if (bs && bs->drv && !bs->drv->has_variable_length) {
            return qatomic_read(&bs->total_bytes);
        }
    }
    return bs ? -ENOMEDIUM : -ENOTSUP;
}

int coroutine_fn bdrv_co_refresh_total_bytes(BlockDriverState *bs)
{
    int64_t length;

    if (!bs->drv) {
        return -ENOMEDIUM;
    }
    length = ask_length(bs);
    if (length < 0) {
        return length;
    }
    if (length > BDRV_MAX_LENGTH) {
        return -EFBIG;
    }
    qatomic_set(&bs->total_bytes, length);
    return 0;
}

static bool length_is_childs(BlockDriverState *bs)
{
    return bs->drv && bs->drv->is_filter && !bs->drv->bdrv_co_getlength;
}

int64_t coroutine_fn bdrv_co_exact_length(BlockDriverState *bs)
{
    int ret;

    while (unlikely(length_is_childs(bs))) {
        BdrvChild *below = bdrv_filter_child(bs);

        if (!below) {
            return -ENOMEDIUM;
        }
        bs = below->bs;
    }
    if (unlikely(!bs->drv)) {
        return -ENOMEDIUM;
    }
    if (unlikely(bs->drv->has_variable_length)) {
        ret = bdrv_co_refresh_total_bytes(bs);
        if (ret < 0) {
            return ret;
        }
    }
    return qatomic_read(&bs->total_bytes);
}

int64_t coroutine_fn bdrv_co_getlength(BlockDriverState *bs)
{
    int64_t length = bdrv_co_exact_length(bs);

    return length < 0 ? length : ROUND_UP(length, (int64_t)BDRV_SECTOR_SIZE);
}

bool bdrv_follow_filtered_length(BlockDriverState *bs)
{
    BdrvChild *below = length_is_childs(bs) ? bdrv_filter_child(bs) : NULL;
    int64_t length;

    if (!below) {
        return false;
    }
    length = qatomic_read(&below->bs->total_bytes);
    return qatomic_xchg(&bs->total_bytes, length) != length;
}

/* The filters among the parents of @bs follow and are added to @changed. */
static void coroutine_fn tell_parents(BlockDriverState *bs, GPtrArray **changed)
{
    BdrvChild *parent;

    bdrv_dirty_bitmap_follow_length(bs);
    QLIST_FOREACH(parent, &bs->parents, next_parent) {
        if (parent->klass->resize) {
            parent->klass->resize(parent);
        } else if (parent->klass->parent_is_bds &&
                   bdrv_follow_filtered_length(parent->opaque)) {
            if (!*changed) {
                *changed = g_ptr_array_new();
            }
            g_ptr_array_add(*changed, parent->opaque);
        }
    }
}

void coroutine_fn bdrv_co_length_changed(BlockDriverState *bs)
{
    GPtrArray *changed = NULL;

    tell_parents(bs, &changed);
    if (likely(!changed)) {
        return;
    }
    for (guint i = 0; i < changed->len; i++) {
        tell_parents(changed->pdata[i], &changed);
    }
    g_ptr_array_unref(changed);
}

static int coroutine_fn follow_length_entry(void *opaque)
{
    BlockDriverState *bs = opaque;
    int64_t old = qatomic_read(&bs->total_bytes);
    int ret = bdrv_co_refresh_total_bytes(bs);

    if (ret == 0 && qatomic_read(&bs->total_bytes) != old) {
        bdrv_co_length_changed(bs);
    }
    return ret;
}

int bdrv_follow_length(BlockDriverState *bs)
{
    return bdrv_run_co(follow_length_entry, bs);
}

/* -------------------------------------------------------------- truncate */

static bool check_truncate(BdrvChild *child, int64_t offset, Error **errp)
{
    BlockDriverState *bs = child->bs;

    if (!bs->drv) {
        error_setg(errp, "No medium inserted");
        return false;
    }
    if (offset < 0) {
        error_setg(errp, "Image size cannot be negative");
        return false;
    }
    if (offset > BDRV_MAX_LENGTH) {
        error_setg(errp, "Required too big image size, it must be not greater "
                   "than %" PRId64, (int64_t)BDRV_MAX_LENGTH);
        return false;
    }
    if (!(bs->open_flags & BDRV_O_RDWR)) {
        error_setg(errp, "Image is read-only");
        return false;
    }
    return true;
}

/*
 * Growing must not bring back what a longer backing file holds there: the new
 * part has to be written as zeroes then.
 */
static int coroutine_fn hide_backing(BlockDriverState *bs, int64_t old_length,
                                     PreallocMode prealloc,
                                     BdrvRequestFlags *flags, Error **errp)
{
    BlockDriverState *backing = bdrv_cow_bs(bs);
    int64_t length;

    /* Drivers without zeroes have no preallocation to offer, either. */
    if (!backing || (prealloc != PREALLOC_MODE_OFF &&
                     !(bs->supported_truncate_flags & BDRV_REQ_ZERO_WRITE))) {
        return 0;
    }
    length = bdrv_co_getlength(backing);
    if (length < 0) {
        error_setg_errno(errp, -length, "Could not get backing file size");
        return length;
    }
    if (length > old_length) {
        *flags |= BDRV_REQ_ZERO_WRITE;
    }
    return 0;
}

static int coroutine_fn truncate_driver(BlockDriverState *bs, int64_t offset,
                                        bool exact, PreallocMode prealloc,
                                        BdrvRequestFlags flags, Error **errp)
{
    BdrvChild *below = bdrv_filter_child(bs);

    if (bs->drv->bdrv_co_truncate) {
        if (flags & ~bs->supported_truncate_flags) {
            error_setg(errp,
                       "Block driver does not support requested flags");
            return -ENOTSUP;
        }
        return bs->drv->bdrv_co_truncate(bs, offset, exact, prealloc, flags,
                                         errp);
    }
    if (below) {
        return bdrv_co_truncate(below, offset, exact, prealloc, flags, errp);
    }
    error_setg(errp, "Image format driver does not support resize");
    return -ENOTSUP;
}

/*
 * Waits until nobody is busy where the node ends, before or after, and nobody
 * else resizes it: whatever changes the length reaches up to the largest
 * offset. Returns the length, which stays until the request ends, or -errno.
 */
static int64_t coroutine_fn serialise_truncate(BdrvTrackedRequest *req,
                                               int64_t offset)
{
    int64_t length, start;

    for (;;) {
        tracked_request_serialise(req, 1, false);
        length = bdrv_co_exact_length(req->bs);
        if (length < 0) {
            return length;
        }
        start = MIN(offset, length);
        if (start >= req->offset) {
            return length;
        }
        /* More than the new part to keep out; or it became shorter. */
        req->offset = start;
        req->bytes = INT64_MAX - start;
    }
}

static int coroutine_fn truncate_tracked(BdrvChild *child,
                                         BdrvTrackedRequest *req,
                                         int64_t offset, bool exact,
                                         PreallocMode prealloc,
                                         BdrvRequestFlags flags, Error **errp)
{
    BlockDriverState *bs = child->bs;
    int64_t old_length;
    int ret;

    old_length = serialise_truncate(req, offset);
    if (old_length < 0) {
        error_setg_errno(errp, -old_length, "Failed to get old image size");
        return old_length;
    }
    if ((flags & BDRV_REQ_NO_SHRINK) && old_length >= offset) {
        return 0;
    }
    flags &= ~BDRV_REQ_NO_SHRINK;
    ret = bdrv_co_write_prepare(child, req, 0);
    if (ret < 0) {
        error_setg_errno(errp, -ret,
                         "Failed to prepare request for truncation");
        return ret;
    }
    if (offset > old_length) {
        ret = hide_backing(bs, old_length, prealloc, &flags, errp);
        if (ret < 0) {
            return ret;
        }
    }
    ret = truncate_driver(bs, offset, exact, prealloc, flags, errp);
    bdrv_driver_changed(bs);
    if (ret < 0) {
        return ret;
    }
    ret = bdrv_co_refresh_total_bytes(bs);
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Could not refresh total sector count");
        return ret;
    }
    bdrv_co_length_changed(bs);
    return 0;
}

int coroutine_fn bdrv_co_truncate(BdrvChild *child, int64_t offset, bool exact,
                                  PreallocMode prealloc,
                                  BdrvRequestFlags flags, Error **errp)
{
    BlockDriverState *bs = child->bs;
    BdrvTrackedRequest req;
    int ret;

    if (!check_truncate(child, offset, errp)) {
        return !bs->drv ? -ENOMEDIUM
             : offset < 0 ? -EINVAL
             : offset > BDRV_MAX_LENGTH ? -EFBIG : -EACCES;
    }
    bdrv_inc_in_flight(bs);
    tracked_request_begin(&req, bs, offset, INT64_MAX - offset,
                          BDRV_TRACKED_TRUNCATE);
    ret = truncate_tracked(child, &req, offset, exact, prealloc, flags, errp);
    tracked_request_end(&req);
    bdrv_dec_in_flight(bs);
    return ret;
}

/* ----------------------------------------------------------------- facts */

static bool stores_data(const BdrvChild *child)
{
    return child->role & (BDRV_CHILD_DATA | BDRV_CHILD_METADATA |
                          BDRV_CHILD_FILTERED);
}

/* Adds to @todo what stores the data of @bs, each node once. */
static void add_storage(GPtrArray *todo, BlockDriverState *bs)
{
    BdrvChild *child;

    QTAILQ_FOREACH(child, &bs->children, next) {
        if (stores_data(child) && !g_ptr_array_find(todo, child->bs, NULL)) {
            g_ptr_array_add(todo, child->bs);
        }
    }
}

int64_t coroutine_fn bdrv_co_get_allocated_file_size(BlockDriverState *bs)
{
    g_autoptr(GPtrArray) todo = g_ptr_array_new();
    int64_t sum = 0;
    guint i;

    if (!bs->drv) {
        return -ENOMEDIUM;
    }
    g_ptr_array_add(todo, bs);
    for (i = 0; i < todo->len; i++) {
        BlockDriverState *node = g_ptr_array_index(todo, i);
        int64_t size;

        if (node->drv && node->drv->bdrv_co_get_allocated_file_size) {
            size = node->drv->bdrv_co_get_allocated_file_size(node);
        } else if (!node->drv || node->drv->protocol_name) {
            /* It stores something, and cannot tell how much. */
            size = -ENOTSUP;
        } else {
            add_storage(todo, node);
            size = 0;
        }
        if (size < 0) {
            return size;
        }
        sum = size > INT64_MAX - sum ? INT64_MAX : sum + size;
    }
    return sum;
}

int coroutine_fn bdrv_co_get_info(BlockDriverState *bs, BlockDriverInfo *bdi)
{
    int ret;

    while (bs && bs->drv && !bs->drv->bdrv_co_get_info) {
        bs = bdrv_filter_bs(bs);
    }
    if (!bs) {
        return -ENOTSUP;
    }
    if (!bs->drv) {
        return -ENOMEDIUM;
    }
    memset(bdi, 0, sizeof(*bdi));
    ret = bs->drv->bdrv_co_get_info(bs, bdi);
    if (ret >= 0 && (bdi->cluster_size < 0 ||
                     bdi->cluster_size > BDRV_MAX_ALIGNMENT)) {
        return -EINVAL;
    }
    return MIN(ret, 0);
}

static int coroutine_fn driver_check(BlockDriverState *bs,
                                     BdrvCheckResult *res,
                                     const BdrvCheckOptions *opts)
{
    if (bs->drv->bdrv_co_check_opts) {
        return bs->drv->bdrv_co_check_opts(bs, res, opts);
    }
    if (!bs->drv->bdrv_co_check || opts->nb_places) {
        return -ENOTSUP;
    }
    return bs->drv->bdrv_co_check(bs, res, opts->fix);
}

int coroutine_fn bdrv_co_check(BlockDriverState *bs, BdrvCheckResult *res,
                               const BdrvCheckOptions *opts)
{
    int ret;

    if (!bs->drv) {
        return -ENOMEDIUM;
    }
    if (!bs->drv->bdrv_co_check && !bs->drv->bdrv_co_check_opts) {
        return -ENOTSUP;
    }
    if (opts->fix && !bdrv_is_writable(bs)) {
        return -EACCES;
    }
    memset(res, 0, sizeof(*res));
    bdrv_inc_in_flight(bs);
    ret = driver_check(bs, res, opts);
    bdrv_dec_in_flight(bs);
    return ret;
}

int bdrv_has_zero_init(BlockDriverState *bs)
{
    while (bs && bs->drv && !bdrv_cow_child(bs)) {
        if (bs->drv->bdrv_has_zero_init) {
            return bs->drv->bdrv_has_zero_init(bs);
        }
        bs = bdrv_filter_bs(bs);
    }
    /* Not known, or a backing file shows through. */
    return 0;
}

bool bdrv_can_write_zeroes_with_unmap(BlockDriverState *bs)
{
    return (bs->open_flags & BDRV_O_UNMAP) &&
           (bs->supported_zero_flags & BDRV_REQ_MAY_UNMAP);
}
