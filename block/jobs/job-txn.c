/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The end of jobs. Every job belongs to a transaction, most to one of their own.
 *
 *   run over, success -> waiting, until that is so for all of the transaction
 *                     -> pending, until finalized: at once or by the user
 *                     -> all prepare; then all commit -> concluded
 *   run over, failure -> aborting; the others are cancelled, and when all are
 *                        over, all abort -> concluded
 *
 * 1. Nothing commits before everything that can fail has succeeded for all jobs
 *    of the transaction; but what is done cannot be called cancelled
 *    (prepare_is_final).
 * 2. A transaction that is aborting never goes back.
 * 3. All of this runs as main work or in a command, so one job at a time.
 */
#include "util/osdep.h"
#include "block/jobs/job-int.h"

/* --- membership --- */

JobTxn *job_txn_new(void)
{
    JobTxn *txn = g_new0(JobTxn, 1);

    txn->refcnt = 1;
    return txn;
}

void job_txn_unref(JobTxn *txn)
{
    if (txn && --txn->refcnt == 0) {
        assert(QLIST_EMPTY(&txn->jobs));
        g_free(txn);
    }
}

void job_txn_add(JobTxn *txn, Job *job)
{
    assert(!job->txn);
    txn->refcnt++;
    job->txn = txn;
    QLIST_INSERT_HEAD(&txn->jobs, job, txn_next);
}

void job_txn_del(Job *job)
{
    if (job->txn) {
        QLIST_REMOVE(job, txn_next);
        job_txn_unref(g_steal_pointer(&job->txn));
    }
}

typedef bool JobTest(const Job *job);

static bool any_job(JobTxn *txn, JobTest *test)
{
    Job *job;

    QLIST_FOREACH(job, &txn->jobs, txn_next) {
        if (test(job)) {
            return true;
        }
    }
    return false;
}

/* --- one job --- */

static void update_result(Job *job)
{
    if (!job->ret && job_is_cancelled(job)) {
        job->ret = -ECANCELED;
    }
    if (job->ret) {
        if (!job->err && !job_is_cancelled(job)) {
            error_setg(&job->err, "%s", g_strerror(-job->ret));
        }
        job_set_status(job, JOB_STATUS_ABORTING);
    }
}

static void end_one(Job *job)
{
    const JobDriver *drv = job->driver;

    assert(job->run_over);
    update_result(job);
    if (job->ret && drv->abort) {
        drv->abort(job);
    } else if (!job->ret && drv->commit) {
        drv->commit(job);
    }
    if (drv->clean) {
        drv->clean(job);
    }
    if (job->cb) {
        job->cb(job->opaque, job->ret);
    }
    if (job->started && job->hooks && job->hooks->ended) {
        job->hooks->ended(job, job_is_cancelled(job));
    }
    job_txn_del(job);
    job_set_status(job, JOB_STATUS_CONCLUDED);
    if (job->auto_dismiss && job->id && job->started && job->ret &&
        !job_is_cancelled(job)) {
        job_note_failure(job);
    }
    if (job->auto_dismiss || !job->started) {
        job_do_dismiss(job);
    }
}

static void end_all(JobTxn *txn)
{
    Job *job;

    txn->refcnt++;
    while ((job = QLIST_FIRST(&txn->jobs))) {
        end_one(job);
    }
    job_txn_unref(txn);
}

/* --- failure --- */

static bool run_not_over(const Job *job)
{
    return !job->run_over;
}

void job_txn_abort(JobTxn *txn)
{
    Job *job;

    if (!txn->aborting) {
        txn->aborting = true;
        QLIST_FOREACH(job, &txn->jobs, txn_next) {
            /* Whoever failed keeps its own reason. */
            if (!job->ret && !job->settled) {
                job_cancel_async(job, true);
            }
        }
    }
    if (!any_job(txn, run_not_over)) {
        end_all(txn);
    }
}

/* --- success --- */

static bool not_waiting(const Job *job)
{
    return job->status != JOB_STATUS_WAITING;
}

static bool needs_user(const Job *job)
{
    return !job->auto_finalize;
}

static void finalize_all(JobTxn *txn)
{
    Job *job;

    QLIST_FOREACH(job, &txn->jobs, txn_next) {
        if (job->driver->prepare) {
            job->ret = job->driver->prepare(job, &job->err);
            update_result(job);
        }
        if (job->ret) {
            job_txn_abort(txn);
            return;
        }
        job->settled = job->driver->prepare_is_final;
    }
    end_all(txn);
}

static void all_pending(JobTxn *txn)
{
    Job *job;

    QLIST_FOREACH(job, &txn->jobs, txn_next) {
        job_set_status(job, JOB_STATUS_PENDING);
        if (!job->auto_finalize && job->hooks && job->hooks->pending) {
            job->hooks->pending(job);
        }
    }
    if (!any_job(txn, needs_user)) {
        finalize_all(txn);
    }
}

void job_completed(Job *job)
{
    JobTxn *txn = job->txn;

    assert(job->run_over && !job_is_concluded(job));
    update_result(job);
    if (job->ret || txn->aborting) {
        job_txn_abort(txn);
        return;
    }
    job_set_status(job, JOB_STATUS_WAITING);
    if (!any_job(txn, not_waiting)) {
        all_pending(txn);
    }
}

void job_finalize(Job *job, Error **errp)
{
    if (job_apply_verb(job, JOB_VERB_FINALIZE, errp)) {
        finalize_all(job->txn);
    }
}
