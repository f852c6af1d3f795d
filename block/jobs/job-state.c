/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The states of a job: which follows which, and what a user may do in each.
 * They are an interface: QEMU's.
 */
#include "util/osdep.h"
#include "block/jobs/job-int.h"
#include "qapi/qapi-events.h"
#include "trace/block-jobs.h"

#define S(state) (1u << JOB_STATUS_##state)

/* The states that may come after each. */
static const unsigned next_states[JOB_STATUS__MAX] = {
    [JOB_STATUS_UNDEFINED] = S(CREATED),
    [JOB_STATUS_CREATED]   = S(RUNNING) | S(ABORTING) | S(NULL),
    [JOB_STATUS_RUNNING]   = S(PAUSED) | S(READY) | S(WAITING) | S(ABORTING),
    [JOB_STATUS_PAUSED]    = S(RUNNING),
    [JOB_STATUS_READY]     = S(STANDBY) | S(WAITING) | S(ABORTING),
    [JOB_STATUS_STANDBY]   = S(READY),
    [JOB_STATUS_WAITING]   = S(PENDING) | S(ABORTING),
    [JOB_STATUS_PENDING]   = S(ABORTING) | S(CONCLUDED),
    [JOB_STATUS_ABORTING]  = S(ABORTING) | S(CONCLUDED),
    [JOB_STATUS_CONCLUDED] = S(NULL),
    [JOB_STATUS_NULL]      = 0,
};

#define AT_WORK (S(CREATED) | S(RUNNING) | S(PAUSED) | S(READY) | S(STANDBY))

/* The states in which a verb is accepted. */
static const unsigned verb_states[JOB_VERB__MAX] = {
    [JOB_VERB_CANCEL]    = AT_WORK | S(WAITING) | S(PENDING),
    [JOB_VERB_PAUSE]     = AT_WORK,
    [JOB_VERB_RESUME]    = AT_WORK,
    [JOB_VERB_SET_SPEED] = AT_WORK,
    [JOB_VERB_COMPLETE]  = S(READY) | S(STANDBY),
    [JOB_VERB_DISMISS]   = S(CONCLUDED),
    [JOB_VERB_FINALIZE]  = S(PENDING),
    [JOB_VERB_CHANGE]    = AT_WORK,
};

void job_set_status(Job *job, JobStatus status)
{
    assert(next_states[job->status] & (1u << status));
    trace_job_set_status(job, job->id ?: "", JobStatus_str(job->status),
                         JobStatus_str(status));
    if (job->status == status) {
        return;
    }
    job->status = status;
    if (job->id) {
        qapi_event_send_job_status_change(job->id, status);
    }
}

bool job_apply_verb(Job *job, JobVerb verb, Error **errp)
{
    if (verb_states[verb] & (1u << job->status)) {
        return true;
    }
    error_setg(errp, "Job '%s' in state '%s' cannot accept command verb '%s'",
               job->id ?: "", JobStatus_str(job->status), JobVerb_str(verb));
    return false;
}

bool job_is_ready(const Job *job)
{
    return job->status == JOB_STATUS_READY ||
           job->status == JOB_STATUS_STANDBY;
}

bool job_is_concluded(const Job *job)
{
    return job->status == JOB_STATUS_CONCLUDED ||
           job->status == JOB_STATUS_NULL;
}
