/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Commands about jobs. */
#include "util/osdep.h"
#include "block/amend.h"
#include "block/blockjob.h"
#include "block/create.h"
#include "blockdev/blockdev.h"
#include "qapi/qapi-commands.h"

static Job *find_job(const char *id, Error **errp)
{
    Job *job = job_find(id);

    if (!job) {
        error_setg(errp, "Job not found");
    }
    return job;
}

static Job *find_block_job(const char *id, Error **errp)
{
    BlockJob *job = block_job_find(id, errp);

    return job ? &job->job : NULL;
}

/* --- any job --- */

void qmp_job_pause(const char *id, Error **errp)
{
    Job *job = find_job(id, errp);

    if (job) {
        job_user_pause(job, errp);
    }
}

void qmp_job_resume(const char *id, Error **errp)
{
    Job *job = find_job(id, errp);

    if (job) {
        job_user_resume(job, errp);
    }
}

void qmp_job_cancel(const char *id, Error **errp)
{
    Job *job = find_job(id, errp);

    if (job) {
        job_user_cancel(job, true, errp);
    }
}

void qmp_job_complete(const char *id, Error **errp)
{
    Job *job = find_job(id, errp);

    if (job) {
        job_complete(job, errp);
    }
}

void qmp_job_finalize(const char *id, Error **errp)
{
    Job *job = find_job(id, errp);

    if (job) {
        job_finalize(job, errp);
    }
}

void qmp_job_dismiss(const char *id, Error **errp)
{
    Job *job = find_job(id, errp);

    if (job) {
        job_dismiss(job, errp);
    }
}

JobInfoList *qmp_query_jobs(Error **errp)
{
    JobInfoList *list = NULL, **tail = &list;

    for (Job *job = job_next(NULL); job; job = job_next(job)) {
        JobInfo *info = job_query(job);

        if (info) {
            QAPI_LIST_APPEND(tail, info);
        }
    }
    return list;
}

FailedJobList *qmp_query_failed_jobs(Error **errp)
{
    return job_query_failures();
}

/* --- jobs on nodes --- */

void qmp_block_job_set_speed(const char *device, int64_t speed, Error **errp)
{
    BlockJob *job = block_job_find(device, errp);

    if (job) {
        block_job_set_speed(job, speed, errp);
    }
}

void qmp_block_job_cancel(const char *device, bool has_force, bool force,
                          Error **errp)
{
    Job *job = find_block_job(device, errp);

    if (!job) {
        return;
    }
    force = has_force && force;
    if (job->user_paused && !force) {
        error_setg(errp, "The block job for device '%s' is currently paused",
                   device);
        return;
    }
    job_user_cancel(job, force, errp);
}

void qmp_block_job_pause(const char *device, Error **errp)
{
    Job *job = find_block_job(device, errp);

    if (job) {
        job_user_pause(job, errp);
    }
}

void qmp_block_job_resume(const char *device, Error **errp)
{
    Job *job = find_block_job(device, errp);

    if (job) {
        job_user_resume(job, errp);
    }
}

void qmp_block_job_complete(const char *device, Error **errp)
{
    Job *job = find_block_job(device, errp);

    if (job) {
        job_complete(job, errp);
    }
}

void qmp_block_job_finalize(const char *id, Error **errp)
{
    Job *job = find_block_job(id, errp);

    if (job) {
        job_finalize(job, errp);
    }
}

void qmp_block_job_dismiss(const char *id, Error **errp)
{
    Job *job = find_block_job(id, errp);

    if (job) {
        job_dismiss(job, errp);
    }
}

void qmp_block_job_change(BlockJobChangeOptions *options, Error **errp)
{
    Job *job = find_block_job(options->id, errp);

    if (job) {
        job_change(job, options, errp);
    }
}

BlockJobInfoList *qmp_query_block_jobs(Error **errp)
{
    BlockJobInfoList *list = NULL, **tail = &list;

    for (BlockJob *job = block_job_next(NULL); job;
         job = block_job_next(job)) {
        QAPI_LIST_APPEND(tail, block_job_query(job));
    }
    return list;
}

/* --- making jobs --- */

void qmp_blockdev_create(const char *job_id, BlockdevCreateOptions *options,
                         Error **errp)
{
    bdrv_create_job_start(job_id, options, errp);
}

void qmp_x_blockdev_amend(const char *job_id, const char *node_name,
                          BlockdevAmendOptions *options, bool has_force,
                          bool force, Error **errp)
{
    BlockDriverState *bs = blockdev_lookup(NULL, node_name, errp);

    if (bs) {
        bdrv_amend_job_start(job_id, bs, options, has_force && force, errp);
    }
}
