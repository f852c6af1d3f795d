/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the files of the job module share; see block/job.h. */
#ifndef BLOCK_JOBS_JOB_INT_H
#define BLOCK_JOBS_JOB_INT_H

#include "block/job.h"

struct JobTxn {
    unsigned refcnt;
    bool aborting;
    QLIST_HEAD(, Job) jobs;
};

/* job-state.c: moves along the table, which is asserted, and tells the user. */
void job_set_status(Job *job, JobStatus status);

/* job-txn.c: the coroutine is done; outside coroutines, as main work. */
void job_completed(Job *job);
/* One job of it has failed: so do the others. */
void job_txn_abort(JobTxn *txn);
void job_txn_add(JobTxn *txn, Job *job);
void job_txn_del(Job *job);

/* job-failures.c: @job has failed, and nothing else will tell. */
void job_note_failure(const Job *job);

/* job.c: asks without looking at the state. */
void job_cancel_async(Job *job, bool force);
/* Takes it off the list of jobs. */
void job_do_dismiss(Job *job);

#endif
