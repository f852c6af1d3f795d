/* SPDX-License-Identifier: GPL-2.0-or-later */
/* block-commit: what its arguments mean. */
#include "util/osdep.h"
#include "block/block_int.h"
#include "block/blockjob.h"
#include "blockdev/blockdev.h"
#include "qapi/qapi-commands.h"

static bool check_exclusive(const BlockCommit *a, Error **errp)
{
    if (a->top_node && a->top) {
        error_setg(errp, "'top-node' and 'top' are mutually exclusive");
        return false;
    }
    if (a->base_node && a->base) {
        error_setg(errp, "'base-node' and 'base' are mutually exclusive");
        return false;
    }
    return true;
}

static BlockDriverState *check_in_chain(BlockDriverState *bs,
                                        BlockDriverState *found,
                                        const char *name, Error **errp)
{
    if (found && !bdrv_chain_contains(bs, found)) {
        error_setg(errp, "'%s' is not in this backing file chain", name);
        return NULL;
    }
    return found;
}

static BlockDriverState *find_top(const BlockCommit *a, BlockDriverState *bs,
                                  Error **errp)
{
    BlockDriverState *top = bs;

    if (a->top_node) {
        return check_in_chain(bs, blockdev_lookup(NULL, a->top_node, errp),
                              a->top_node, errp);
    }
    bdrv_refresh_filename(bs);
    if (a->top && strcmp(a->top, bs->filename)) {
        top = bdrv_find_backing_image(bs, a->top);
        if (!top) {
            error_setg(errp, "Top image file %s not found", a->top);
        }
    }
    return top;
}

static BlockDriverState *find_base(const BlockCommit *a,
                                   BlockDriverState *top, Error **errp)
{
    BlockDriverState *base;

    if (a->base_node) {
        return check_in_chain(top, blockdev_lookup(NULL, a->base_node, errp),
                              a->base_node, errp);
    }
    if (!a->base) {
        return bdrv_find_base(top);
    }
    base = bdrv_find_backing_image(top, a->base);
    if (!base) {
        error_setg(errp, "Can't find '%s' in the backing chain", a->base);
    }
    return base;
}

/* A guest may write what nobody uses as a backing file. */
static bool is_active(BlockDriverState *bs)
{
    BdrvChild *c;

    QLIST_FOREACH(c, &bs->parents, next_parent) {
        if (c->klass->parent_is_bds && (c->role & BDRV_CHILD_COW)) {
            return false;
        }
        if (c->klass->parent_is_bds && (c->role & BDRV_CHILD_FILTERED) &&
            !is_active(c->opaque)) {
            return false;
        }
    }
    return true;
}

static bool check_nodes(const BlockCommit *a, BlockDriverState *top,
                        BlockDriverState *base, Error **errp)
{
    if (top == base) {
        error_setg(errp, "cannot commit an image into itself");
        return false;
    }
    if (is_active(top)) {
        if (a->backing_file) {
            error_setg(errp, "'backing-file' specified, but 'top' is the "
                       "active layer");
            return false;
        }
        error_setg(errp, "Node '%s' is the active layer of its chain, and "
                   "committing that is not supported",
                   bdrv_get_node_name(top));
        return false;
    }
    return true;
}

Job *blockdev_commit_new(const BlockCommit *a, JobTxn *txn, Error **errp)
{
    BlockDriverState *bs = bdrv_find_node(a->device);
    CommitOptions o = {
        .job = {
            /* Nodes have no name that could stand in for it. */
            .id = a->job_id ?: "",
            .txn = txn,
            .speed = a->has_speed ? a->speed : 0,
            .manual_finalize = a->has_auto_finalize && !a->auto_finalize,
            .manual_dismiss = a->has_auto_dismiss && !a->auto_dismiss,
        },
        .backing_file = a->backing_file,
        .mask_protocol = a->has_backing_mask_protocol &&
                         a->backing_mask_protocol,
        .on_error = a->has_on_error ? a->on_error : BLOCKDEV_ON_ERROR_REPORT,
        .filter_node_name = a->filter_node_name,
    };

    if (!bs) {
        error_set(errp, ERROR_CLASS_DEVICE_NOT_FOUND, "Device '%s' not found",
                  a->device);
        return NULL;
    }
    if (!check_exclusive(a, errp)) {
        return NULL;
    }
    o.top = find_top(a, bs, errp);
    o.base = o.top ? find_base(a, o.top, errp) : NULL;
    if (!o.base || !check_nodes(a, o.top, o.base, errp)) {
        return NULL;
    }
    return commit_new(&o, errp);
}

void qmp_block_commit(BlockCommit *a, Error **errp)
{
    Job *job = blockdev_commit_new(a, NULL, errp);

    if (job) {
        job_start(job);
    }
}
