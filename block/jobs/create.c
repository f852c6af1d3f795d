/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The job of blockdev-create. What it makes is no node, so it is no block job. */
#include "util/osdep.h"
#include "block/block_int.h"
#include "block/create.h"
#include "block/job.h"
#include "qapi/clone-visitor.h"
#include "qapi/qapi-visit.h"

typedef struct CreateJob {
    Job job;
    BlockDriver *drv;
    BlockdevCreateOptions *options;
} CreateJob;

static int coroutine_fn create_run(Job *job, Error **errp)
{
    CreateJob *c = container_of(job, CreateJob, job);
    int ret = c->drv->bdrv_co_create(c->options, errp);

    job_progress_set(job, 1, 1);
    return ret;
}

static void create_free(Job *job)
{
    qapi_free_BlockdevCreateOptions(container_of(job, CreateJob,
                                                 job)->options);
}

static const JobDriver create_job_driver = {
    .instance_size = sizeof(CreateJob),
    .type = JOB_TYPE_CREATE,
    .run = create_run,
    .free = create_free,
};

bool bdrv_create_job_start(const char *id, const BlockdevCreateOptions *options,
                           Error **errp)
{
    BlockDriver *drv = bdrv_find_format(BlockdevDriver_str(options->driver));
    JobOptions job_options = { .id = id, .manual_dismiss = true };
    CreateJob *c;
    Job *job;

    if (!drv || !drv->bdrv_co_create) {
        error_setg(errp, "Driver does not support blockdev-create");
        return false;
    }
    job = job_create(&create_job_driver, &job_options, errp);
    if (!job) {
        return false;
    }
    c = container_of(job, CreateJob, job);
    c->drv = drv;
    c->options = QAPI_CLONE(BlockdevCreateOptions, options);
    job_start(job);
    return true;
}
