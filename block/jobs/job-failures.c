/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What is left of jobs that failed and are dismissed by themselves: their errors,
 * the last ones of them, and a line in the log.
 */
#include "util/osdep.h"
#include "block/jobs/job-int.h"
#include "qapi/clone-visitor.h"
#include "qapi/qapi-visit.h"

#define KEPT 64

static GQueue failures = G_QUEUE_INIT;  /* FailedJob *, newest first */

void job_note_failure(const Job *job)
{
    FailedJob *failed = g_new0(FailedJob, 1);
    int64_t now = g_get_real_time();

    failed->id = g_strdup(job->id);
    failed->type = job->driver->type;
    failed->current_progress = job->progress_current;
    failed->total_progress = job->progress_total;
    failed->error = g_strdup(error_get_pretty(job->err));
    failed->seconds = now / G_USEC_PER_SEC;
    failed->microseconds = now % G_USEC_PER_SEC;
    warn_report("%s job '%s' failed: %s", JobType_str(failed->type),
                failed->id, failed->error);
    g_queue_push_head(&failures, failed);
    if (failures.length > KEPT) {
        qapi_free_FailedJob(g_queue_pop_tail(&failures));
    }
}

FailedJobList *job_query_failures(void)
{
    FailedJobList *list = NULL, **tail = &list;

    for (GList *l = failures.head; l; l = l->next) {
        QAPI_LIST_APPEND(tail, QAPI_CLONE(FailedJob, l->data));
    }
    return list;
}
