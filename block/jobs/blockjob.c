/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Jobs on nodes: what they hold, what they tell, how they take errors. */
#include "util/osdep.h"
#include "block/block_int.h"
#include "block/blockjob.h"
#include "qapi/qapi-events.h"

static QTAILQ_HEAD(, BlockJob) block_jobs = QTAILQ_HEAD_INITIALIZER(block_jobs);

static BlockJob *to_block_job(Job *job)
{
    return container_of(job, BlockJob, job);
}

static const BlockJobDriver *driver_of(const BlockJob *job)
{
    return container_of(job->job.driver, BlockJobDriver, job_driver);
}

/* --- events --- */

static void told_ready(Job *job)
{
    qapi_event_send_block_job_ready(job->driver->type, job->id,
                                    job->progress_total,
                                    job->progress_current,
                                    to_block_job(job)->speed);
}

static void told_pending(Job *job)
{
    qapi_event_send_block_job_pending(job->driver->type, job->id);
}

static void told_ended(Job *job, bool cancelled)
{
    BlockJob *bj = to_block_job(job);

    block_job_release(bj);
    if (cancelled) {
        qapi_event_send_block_job_cancelled(job->driver->type, job->id,
                                            job->progress_total,
                                            job->progress_current, bj->speed);
        return;
    }
    qapi_event_send_block_job_completed(
        job->driver->type, job->id, job->progress_total,
        job->progress_current, bj->speed,
        job->ret ? error_get_pretty(job->err) : NULL);
}

static const JobHooks block_job_hooks = {
    .ready = told_ready,
    .pending = told_pending,
    .ended = told_ended,
};

/* --- nodes --- */

static char *job_parent_desc(BdrvChild *child)
{
    BlockJob *job = child->opaque;

    return g_strdup(bdrv_claim_owner_name(job->owner));
}

/* Requests go through backends, which a drain holds back. */
static const BdrvChildClass child_job = {
    .get_parent_desc = job_parent_desc,
};

bool block_job_is_parent(const BdrvChild *edge, const char **id)
{
    if (edge->klass != &child_job) {
        return false;
    }
    *id = ((BlockJob *)edge->opaque)->job.id;
    return true;
}

bool block_job_add_bdrv(BlockJob *job, const char *name, BlockDriverState *bs,
                        uint64_t perm, uint64_t shared, Error **errp)
{
    BdrvChild *edge = bdrv_root_attach_child(bdrv_ref(bs), name, &child_job,
                                             0, perm, shared, job, errp);

    if (!edge) {
        return false;
    }
    g_ptr_array_add(job->edges, edge);
    return true;
}

static void edge_unref(void *edge)
{
    bdrv_root_unref_child(edge);
}

void block_job_release(BlockJob *job)
{
    g_ptr_array_set_size(job->edges, 0);
    bdrv_claim_owner_free(g_steal_pointer(&job->owner));
}

/* --- life --- */

static bool check_speed(int64_t speed, Error **errp)
{
    if (speed < 0) {
        error_setg(errp, "Parameter 'speed' expects a non-negative value");
        return false;
    }
    return true;
}

BlockJob *block_job_create(const BlockJobDriver *driver,
                           const BlockJobOptions *options, Error **errp)
{
    const JobOptions job_options = {
        .id = options->id,
        .manual_finalize = options->manual_finalize,
        .manual_dismiss = options->manual_dismiss,
        .txn = options->txn,
        .hooks = &block_job_hooks,
        .cb = options->cb,
        .opaque = options->opaque,
    };
    BlockJob *job;
    Job *base;

    assert(driver->job_driver.free && driver->job_driver.user_resume);
    if (!options->id) {
        error_setg(errp, "An explicit job ID is required");
        return NULL;
    }
    if (!check_speed(options->speed, errp)) {
        return NULL;
    }
    base = job_create(&driver->job_driver, &job_options, errp);
    if (!base) {
        return NULL;
    }
    job = to_block_job(base);
    job->speed = options->speed;
    job->owner = bdrv_claim_owner_new("%s job '%s'",
                                      JobType_str(driver->job_driver.type),
                                      options->id);
    job->edges = g_ptr_array_new_with_free_func(edge_unref);
    QTAILQ_INSERT_HEAD(&block_jobs, job, next);
    return job;
}

void block_job_free(Job *job)
{
    BlockJob *bj = to_block_job(job);

    block_job_release(bj);
    g_ptr_array_free(bj->edges, TRUE);
    QTAILQ_REMOVE(&block_jobs, bj, next);
}

/* --- looking --- */

BlockJob *block_job_next(BlockJob *job)
{
    return job ? QTAILQ_NEXT(job, next) : QTAILQ_FIRST(&block_jobs);
}

BlockJob *block_job_find(const char *id, Error **errp)
{
    BlockJob *job;

    QTAILQ_FOREACH(job, &block_jobs, next) {
        if (!strcmp(job->job.id, id) &&
            job->job.status != JOB_STATUS_NULL) {
            return job;
        }
    }
    error_set(errp, ERROR_CLASS_DEVICE_NOT_ACTIVE, "Block job '%s' not found",
              id);
    return NULL;
}

BlockJobInfo *block_job_query(const BlockJob *job)
{
    const Job *j = &job->job;
    BlockJobInfo *info = g_new0(BlockJobInfo, 1);

    *info = (BlockJobInfo) {
        .type = j->driver->type,
        .device = g_strdup(j->id),
        .len = j->progress_total,
        .offset = j->progress_current,
        .busy = j->in_run && j->status != JOB_STATUS_PAUSED &&
                j->status != JOB_STATUS_STANDBY,
        .paused = j->pause_count > 0,
        .speed = job->speed,
        .io_status = job->iostatus,
        .ready = job_is_ready(j),
        .status = j->status,
        .auto_finalize = j->auto_finalize,
        .auto_dismiss = j->auto_dismiss,
        .error = j->err ? g_strdup(error_get_pretty(j->err)) : NULL,
    };
    return info;
}

/* --- speed and errors --- */

void block_job_set_speed(BlockJob *job, int64_t speed, Error **errp)
{
    if (!job_apply_verb(&job->job, JOB_VERB_SET_SPEED, errp) ||
        !check_speed(speed, errp)) {
        return;
    }
    job->speed = speed;
    if (driver_of(job)->set_speed) {
        driver_of(job)->set_speed(job, speed);
    }
}

void block_job_user_resume(Job *job)
{
    to_block_job(job)->iostatus = BLOCK_DEVICE_IO_STATUS_OK;
}

static BlockErrorAction action_for(BlockdevOnError policy, int error)
{
    switch (policy) {
    case BLOCKDEV_ON_ERROR_REPORT:
        return BLOCK_ERROR_ACTION_REPORT;
    case BLOCKDEV_ON_ERROR_IGNORE:
        return BLOCK_ERROR_ACTION_IGNORE;
    case BLOCKDEV_ON_ERROR_STOP:
        return BLOCK_ERROR_ACTION_STOP;
    case BLOCKDEV_ON_ERROR_ENOSPC:
    case BLOCKDEV_ON_ERROR_AUTO:
        return error == -ENOSPC ? BLOCK_ERROR_ACTION_STOP
                                : BLOCK_ERROR_ACTION_REPORT;
    default:
        g_assert_not_reached();
    }
}

BlockErrorAction block_job_error_action(BlockJob *job, BlockdevOnError policy,
                                        bool is_read, int error)
{
    BlockErrorAction action = action_for(policy, error);

    qapi_event_send_block_job_error(job->job.id,
                                    is_read ? IO_OPERATION_TYPE_READ
                                            : IO_OPERATION_TYPE_WRITE,
                                    action);
    if (action == BLOCK_ERROR_ACTION_STOP) {
        if (job->iostatus == BLOCK_DEVICE_IO_STATUS_OK) {
            job->iostatus = error == -ENOSPC ? BLOCK_DEVICE_IO_STATUS_NOSPACE
                                             : BLOCK_DEVICE_IO_STATUS_FAILED;
        }
        if (!job->job.user_paused && !job_is_cancelled(&job->job)) {
            job->job.user_paused = true;
            job_pause(&job->job);
        }
    }
    return action;
}
