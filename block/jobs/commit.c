/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The job block-commit for images below the active layer.
 *
 *   overlay -> filter -> top -> mid -> base        while it works
 *   overlay ---------------------------> base      at the end
 *
 * 1. Through the filter everything reads the same at every moment: a range of
 *    base changes only to what the filter shows there. So a crash or an error
 *    leaves a chain that is good, and the same commit can be run again.
 * 2. top down to above base do not: they show what base gets. Nobody may rely on
 *    their content, which is why the filter asks for no consistent read and the
 *    job lets nobody else have it.
 * 3. The job holds CHANGE on every edge from what leads to the filter down to
 *    base, so that the end cannot fail because of somebody else's claim.
 * 4. The chain is dropped after base has been flushed.
 */
#include "util/osdep.h"
#include "block/blockjob.h"
#include "block/block-backend.h"
#include "block/copy.h"
#include "block/filters/filter.h"
#include "block/reopen.h"
#include "trace/block-jobs.h"

#define WORKERS 8
#define CHUNK (1024 * 1024)
#define MIN_SPARSE 4096

typedef struct CommitJob {
    BlockJob common;
    BlockDriverState *filter;       /* a reference; NULL: not in the chain */
    BlockDriverState *base;         /* a reference */
    BlockBackend *source;           /* top */
    BlockBackend *target;           /* base */
    bool base_was_read_only;
    char *backing_file;
    bool mask_protocol;
    BlockdevOnError on_error;
    BlockCopyState *copy;
    bool copying;                   /* it runs */
    int64_t length;                 /* of the copy */
    int64_t lost_bytes;             /* given up on by on-error=ignore */
} CommitJob;

static CommitJob *to_commit(Job *job)
{
    return container_of(job, CommitJob, common.job);
}

/* --- the filter --- */

/* It shows the content, but does not depend on its staying what it is. */
static void commit_top_child_perm(BlockDriverState *bs, BdrvChild *child,
                                  BdrvChildRole role, BlockReopenQueue *queue,
                                  uint64_t parent_perm, uint64_t parent_shared,
                                  uint64_t *nperm, uint64_t *nshared)
{
    *nperm = 0;
    *nshared = BLK_PERM_ALL;
}

static void commit_top_refresh_filename(BlockDriverState *bs)
{
    if (bs->file) {
        g_strlcpy(bs->exact_filename, bs->file->bs->exact_filename,
                  sizeof(bs->exact_filename));
    }
}

/* It is made before it has a child. */
static int64_t coroutine_fn commit_top_co_getlength(BlockDriverState *bs)
{
    return bs->file ? bdrv_co_getlength(bs->file->bs) : 0;
}

static BlockDriver bdrv_commit_top = {
    .format_name = "commit_top",
    .is_filter = true,
    .has_variable_length = true,
    .bdrv_co_getlength = commit_top_co_getlength,
    .bdrv_child_perm = commit_top_child_perm,
    .bdrv_co_preadv = filter_co_preadv,
    .bdrv_co_block_status = bdrv_co_filter_block_status,
    .bdrv_refresh_filename = commit_top_refresh_filename,
};

static bool insert_filter(CommitJob *c, BlockDriverState *top,
                          const char *name, Error **errp)
{
    BdrvClaimOwner *owner = c->common.owner;
    BlockDriverState *filter = bdrv_new_open_driver(&bdrv_commit_top, name, 0,
                                                    errp);
    BdrvChild *edge;

    if (!filter) {
        return false;
    }
    edge = bdrv_attach_child(filter, bdrv_ref(top), "file",
                             BDRV_CHILD_FILTERED | BDRV_CHILD_PRIMARY, errp);
    if (!edge || !bdrv_claim(owner, edge, BDRV_CLAIM_CHANGE, errp)) {
        bdrv_unref(filter);
        return false;
    }
    if (!bdrv_replace_node(top, filter, owner, errp)) {
        bdrv_claim_release(owner, edge, BDRV_CLAIM_CHANGE);
        bdrv_unref(filter);
        return false;
    }
    c->filter = filter;
    /* What led to top had no claims, or it could not have been changed. */
    bdrv_claim_incoming(owner, filter, &error_abort);
    return true;
}

/* Takes it out without dropping anything else. */
static void remove_filter(CommitJob *c)
{
    Error *err = NULL;

    bdrv_claim_incoming_release(c->common.owner, c->filter);
    if (!bdrv_drop_filter(c->filter, c->common.owner, &err)) {
        /* It stays, and does no harm. */
        trace_commit_clean_failed(c->common.job.id, error_get_pretty(err));
        error_free(err);
    }
    bdrv_unref(g_steal_pointer(&c->filter));
}

/* --- the copy --- */

static void commit_progress(void *opaque, const BlockCopyProgress *p)
{
    CommitJob *c = opaque;

    job_progress_set(&c->common.job, p->examined - (p->known - p->done),
                     p->length);
}

static void commit_parked(void *opaque)
{
    CommitJob *c = opaque;

    job_parked(&c->common.job);
}

static int coroutine_fn commit_error(void *opaque, BlockCopyPhase phase,
                                     int64_t offset, int64_t bytes, int error)
{
    CommitJob *c = opaque;
    bool is_read = phase != BLOCK_COPY_WRITE;

    switch (block_job_error_action(&c->common, c->on_error, is_read, error)) {
    case BLOCK_ERROR_ACTION_REPORT:
        return error;
    case BLOCK_ERROR_ACTION_IGNORE:
        c->lost_bytes += bytes;
        return 1;
    default:
        /* Tried again when the job is resumed. */
        return 0;
    }
}

static bool make_copy(CommitJob *c, Error **errp)
{
    BlockDriverInfo info = { 0 };
    BlockCopyOptions options = {
        .workers = WORKERS,
        .chunk = CHUNK,
        .align = MAX(c->base->bl.request_alignment, 1),
        .length = c->length,
        .min_sparse = MIN_SPARSE,
        .target_has_backing = true,
        .target_backing_length = INT64_MAX,
        .source_base = c->base,
        .keep_target_zeroes = true,
        .in_order = true,
        .rate_limit = c->common.speed,
        .parked = commit_parked,
        .progress = commit_progress,
        .on_error = commit_error,
        .opaque = c,
    };

    /* Zeroes in less than a cluster of the base would be written as data. */
    if (bdrv_get_info(c->base, &info) >= 0) {
        options.min_sparse = MAX(options.min_sparse, info.subcluster_size);
    }
    c->copy = block_copy_new(c->source, c->target, &options, errp);
    return c->copy != NULL;
}

static const char *phase_text(BlockCopyPhase phase)
{
    switch (phase) {
    case BLOCK_COPY_STATUS:
        return "Could not get the block status of the images";
    case BLOCK_COPY_READ:
        return "Could not read the images";
    default:
        return "Could not write the base";
    }
}

static int coroutine_fn grow_base(CommitJob *c, Error **errp)
{
    int64_t length = blk_co_getlength(c->source);
    int64_t base_length = blk_co_getlength(c->target);

    if (length < 0 || base_length < 0) {
        int ret = MIN(length, base_length);

        error_setg_errno(errp, -ret, "Could not get the size of an image");
        return ret;
    }
    if (base_length >= length) {
        return 0;
    }
    /* Truncation sees to it that no longer backing file of the base shows. */
    return blk_co_truncate(c->target, length, false, PREALLOC_MODE_OFF, 0,
                           errp);
}

static int coroutine_fn commit_run(Job *job, Error **errp)
{
    CommitJob *c = to_commit(job);
    BlockCopyFailure failure;
    int ret = grow_base(c, errp);

    if (ret < 0) {
        return ret;
    }
    job_pause_point(job);
    c->copying = true;
    ret = block_copy_run(c->copy, &failure);
    c->copying = false;
    if (ret < 0) {
        error_setg_errno(errp, -ret, "%s at offset %" PRId64,
                         phase_text(failure.phase), failure.offset);
        return ret;
    }
    if (c->lost_bytes) {
        error_setg(errp, "%" PRId64 " bytes could not be committed, so the "
                   "images stay in the chain", c->lost_bytes);
        return -EIO;
    }
    job_pause_point(job);
    ret = blk_co_flush(c->target);
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Could not flush the base");
    }
    return ret;
}

/* Before and after the copy there are pause points. */
static void commit_pause(Job *job)
{
    if (to_commit(job)->copying) {
        block_copy_pause(to_commit(job)->copy);
    }
}

static void commit_resume(Job *job)
{
    block_copy_resume(to_commit(job)->copy);
}

static bool commit_cancel(Job *job, bool force)
{
    block_copy_cancel(to_commit(job)->copy);
    return true;
}

static void commit_set_speed(BlockJob *job, int64_t speed)
{
    block_copy_set_speed(to_commit(&job->job)->copy, speed);
}

/* --- how far --- */

/*
 * What an overlay shows beyond the end of a shorter top is zero, and must be so
 * in base. -errno if a length cannot be had.
 */
static int64_t needed_length(CommitJob *c, Error **errp)
{
    int64_t base_length = bdrv_getlength(c->base);
    int64_t length = bdrv_getlength(c->filter);
    BdrvChild *edge;

    QLIST_FOREACH(edge, &c->filter->parents, next_parent) {
        int64_t above = edge->klass->parent_is_bds
                        ? bdrv_getlength(edge->opaque) : 0;

        if (MIN(above, MIN(length, base_length)) < 0) {
            break;
        }
        length = MAX(length, MIN(above, base_length));
    }
    if (edge || length < 0 || base_length < 0) {
        error_setg(errp, "Could not get the size of an image");
        return -EIO;
    }
    return length;
}

/* An overlay may have been added since. */
static bool check_length(CommitJob *c, Error **errp)
{
    int64_t length = needed_length(c, errp);

    if (length > c->length) {
        error_setg(errp, "An image that is longer than %" PRId64 " bytes has "
                   "been put on node '%s'", c->length,
                   bdrv_get_node_name(c->filter));
    }
    return length >= 0 && length <= c->length;
}

/* --- the end --- */

static int commit_prepare(Job *job, Error **errp)
{
    CommitJob *c = to_commit(job);
    BlockDriverState *base = bdrv_skip_filters(c->base);
    const char *format = base->drv->format_name;

    if (!check_length(c, errp)) {
        return -EINVAL;
    }
    if (c->mask_protocol && base->drv->protocol_name) {
        format = "raw";
    }
    /* Base becomes a backing file again, which nobody writes. */
    blk_unref(g_steal_pointer(&c->source));
    blk_unref(g_steal_pointer(&c->target));
    bdrv_refresh_filename(c->base);
    if (!bdrv_drop_intermediate_as(c->filter, c->base,
                                   c->backing_file ?: c->base->filename,
                                   format, c->common.owner, errp)) {
        return -EPERM;
    }
    bdrv_claim_incoming_release(c->common.owner, c->filter);
    bdrv_unref(g_steal_pointer(&c->filter));
    return 0;
}

static void commit_clean(Job *job)
{
    CommitJob *c = to_commit(job);
    Error *err = NULL;

    blk_unref(g_steal_pointer(&c->source));
    blk_unref(g_steal_pointer(&c->target));
    if (c->filter) {
        remove_filter(c);
    }
    if (c->base_was_read_only &&
        bdrv_reopen_set_read_only(c->base, true, &err) < 0) {
        /* Base stays writable. */
        trace_commit_clean_failed(job->id, error_get_pretty(err));
        error_free(err);
    }
    c->base_was_read_only = false;
    block_job_release(&c->common);
    bdrv_unref(g_steal_pointer(&c->base));
}

static void commit_free(Job *job)
{
    CommitJob *c = to_commit(job);

    block_copy_free(c->copy);
    g_free(c->backing_file);
    block_job_free(job);
}

static const BlockJobDriver commit_job_driver = {
    .job_driver = {
        .instance_size = sizeof(CommitJob),
        .type = JOB_TYPE_COMMIT,
        .run = commit_run,
        .pause = commit_pause,
        .resume = commit_resume,
        .user_resume = block_job_user_resume,
        .cancel = commit_cancel,
        .prepare = commit_prepare,
        .prepare_is_final = true,
        .clean = commit_clean,
        .free = commit_free,
    },
    .set_speed = commit_set_speed,
};

/* --- the start --- */

static bool make_base_writable(CommitJob *c, Error **errp)
{
    if (!bdrv_is_read_only(c->base)) {
        return true;
    }
    if (bdrv_reopen_set_read_only(c->base, false, errp) < 0) {
        return false;
    }
    c->base_was_read_only = true;
    return true;
}

/* What they show beyond the end of top depends on their length. */
static bool add_overlays(CommitJob *c, Error **errp)
{
    g_autoptr(GPtrArray) overlays = g_ptr_array_new();
    BdrvChild *edge;

    QLIST_FOREACH(edge, &c->filter->parents, next_parent) {
        if (edge->klass->parent_is_bds) {
            g_ptr_array_add(overlays, edge->opaque);
        }
    }
    for (guint i = 0; i < overlays->len; i++) {
        if (!block_job_add_bdrv(&c->common, "main node", overlays->pdata[i],
                                0, BLK_PERM_ALL & ~BLK_PERM_RESIZE, errp)) {
            return false;
        }
    }
    return true;
}

static bool add_nodes(CommitJob *c, BlockDriverState *top, Error **errp)
{
    BlockJob *job = &c->common;

    for (BlockDriverState *bs = top; bs != c->base;
         bs = bdrv_filter_or_cow_bs(bs)) {
        if (!block_job_add_bdrv(job, "intermediate node", bs, 0,
                                BLK_PERM_WRITE_UNCHANGED | BLK_PERM_WRITE,
                                errp)) {
            return false;
        }
    }
    return block_job_add_bdrv(job, "base", c->base, 0, BLK_PERM_ALL, errp) &&
           add_overlays(c, errp);
}

static bool open_backends(CommitJob *c, BlockDriverState *top, Error **errp)
{
    const char *name = bdrv_claim_owner_name(c->common.owner);
    bool grows = bdrv_getlength(c->base) < bdrv_getlength(top);

    c->source = blk_new(0, BLK_PERM_ALL);
    blk_set_owner(c->source, "%s", name);
    c->target = blk_new(BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE |
                        (grows ? BLK_PERM_RESIZE : 0),
                        BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE_UNCHANGED);
    blk_set_owner(c->target, "%s", name);
    return blk_insert_bs(c->source, top, errp) &&
           blk_insert_bs(c->target, c->base, errp);
}

static bool set_up(CommitJob *c, const CommitOptions *o, Error **errp)
{
    return bdrv_chain_claim(c->common.owner, o->top, o->base,
                            BDRV_CLAIM_CHANGE, errp) &&
           make_base_writable(c, errp) &&
           insert_filter(c, o->top, o->filter_node_name, errp) &&
           add_nodes(c, o->top, errp) && open_backends(c, o->top, errp) &&
           (c->length = needed_length(c, errp)) >= 0 && make_copy(c, errp);
}

Job *commit_new(const CommitOptions *o, Error **errp)
{
    BlockJob *job = block_job_create(&commit_job_driver, &o->job, errp);
    CommitJob *c;

    if (!job) {
        return NULL;
    }
    c = to_commit(&job->job);
    c->base = bdrv_ref(o->base);
    c->backing_file = g_strdup(o->backing_file);
    c->mask_protocol = o->mask_protocol;
    c->on_error = o->on_error;
    if (!set_up(c, o, errp)) {
        job_discard(&job->job);
        return NULL;
    }
    return &job->job;
}
