/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Jobs: their life from creation to the end of their work, pausing, cancelling.
 * What comes after the work is in job-txn.c, states in job-state.c.
 *
 * 1. A job is on the list from creation to dismissal, which holds a reference.
 * 2. The coroutine runs driver->run and then queues what comes next as main
 *    work; until that begins, with run_over, the job counts as at work.
 * 3. paused and standby say that nothing of the job is in flight. A pause is
 *    asked for by pause_count, and takes effect at a pause point of the
 *    coroutine or, where the driver works elsewhere, in job_parked().
 */
#include "util/osdep.h"
#include "block/jobs/job-int.h"
#include "util/aio.h"
#include "util/id.h"
#include "util/main-work.h"

static QTAILQ_HEAD(, Job) jobs = QTAILQ_HEAD_INITIALIZER(jobs);
static bool no_more_jobs;

/* --- life --- */

static bool check_id(const char *id, Error **errp)
{
    if (!id_wellformed(id)) {
        error_setg(errp, "Invalid job ID '%s'", id);
        return false;
    }
    if (job_find(id)) {
        error_setg(errp, "Job ID '%s' already in use", id);
        return false;
    }
    return true;
}

/* The end of a job_sleep_ns(). */
static void sleep_over(void *opaque)
{
    job_enter(opaque);
}

Job *job_create(const JobDriver *driver, const JobOptions *options,
                Error **errp)
{
    Job *job;

    GLOBAL_STATE_CODE();
    assert(driver->instance_size >= sizeof(Job));
    assert(!driver->pause == !driver->resume);
    if (options->id && !check_id(options->id, errp)) {
        return NULL;
    }
    if (no_more_jobs) {
        error_setg(errp, "The program is ending");
        return NULL;
    }
    job = g_malloc0(driver->instance_size);
    job->driver = driver;
    job->hooks = options->hooks;
    job->id = g_strdup(options->id);
    job->auto_finalize = !options->manual_finalize;
    job->auto_dismiss = !options->manual_dismiss;
    job->cb = options->cb;
    job->opaque = options->opaque;
    job->refcnt = 1;
    job->progress_total = 1;
    job->sleep_timer = timer_new_ns(QEMU_CLOCK_REALTIME, sleep_over, job);
    QTAILQ_INSERT_HEAD(&jobs, job, next);
    if (options->txn) {
        job_txn_add(options->txn, job);
    } else {
        JobTxn *txn = job_txn_new();

        job_txn_add(txn, job);
        job_txn_unref(txn);
    }
    job_set_status(job, JOB_STATUS_CREATED);
    return job;
}

void job_ref(Job *job)
{
    job->refcnt++;
}

void job_unref(Job *job)
{
    if (--job->refcnt > 0) {
        return;
    }
    assert(job->status == JOB_STATUS_NULL && !job->txn && !job->co);
    if (job->driver->free) {
        job->driver->free(job);
    }
    timer_free(job->sleep_timer);
    error_free(job->err);
    g_free(job->id);
    g_free(job);
}

void job_do_dismiss(Job *job)
{
    job_txn_del(job);
    QTAILQ_REMOVE(&jobs, job, next);
    job_set_status(job, JOB_STATUS_NULL);
    job_unref(job);
}

void job_early_fail(Job *job)
{
    assert(job->status == JOB_STATUS_CREATED);
    job_do_dismiss(job);
}

void job_discard(Job *job)
{
    if (job->driver->clean) {
        job->driver->clean(job);
    }
    job_early_fail(job);
}

void job_dismiss(Job *job, Error **errp)
{
    if (job_apply_verb(job, JOB_VERB_DISMISS, errp)) {
        job_do_dismiss(job);
    }
}

/* --- the coroutine --- */

static void run_over(void *opaque)
{
    Job *job = opaque;

    job->run_over = true;
    job_completed(job);
    job_unref(job);
}

static bool has_stopped(const Job *job)
{
    return job->status == JOB_STATUS_PAUSED ||
           job->status == JOB_STATUS_STANDBY;
}

static void unpark(Job *job)
{
    if (has_stopped(job)) {
        job_set_status(job, job->status == JOB_STATUS_STANDBY
                       ? JOB_STATUS_READY : JOB_STATUS_RUNNING);
    }
}

static void coroutine_fn job_entry(void *opaque)
{
    Job *job = opaque;

    job_pause_point(job);
    if (!job_is_cancelled(job)) {
        job->in_run = true;
        job->ret = job->driver->run(job, &job->err);
        job->in_run = false;
        /* There is no way from a pause to the states that follow. */
        unpark(job);
    }
    job->co = NULL;
    main_work_schedule(run_over, job);
}

void job_start(Job *job)
{
    GLOBAL_STATE_CODE();
    assert(job->status == JOB_STATUS_CREATED && !job->started);
    job->started = true;
    job->co = qemu_coroutine_create(job_entry, job);
    job_ref(job);
    job_set_status(job, JOB_STATUS_RUNNING);
    aio_co_enter(qemu_get_aio_context(), job->co);
}

void job_enter(Job *job)
{
    if (job->waiting) {
        job->waiting = false;
        timer_del(job->sleep_timer);
        aio_co_wake(job->co);
    }
}

static void coroutine_fn yield(Job *job)
{
    assert(qemu_coroutine_self() == job->co && !job->waiting);
    job->waiting = true;
    qemu_coroutine_yield();
}

static bool must_pause(const Job *job)
{
    return job->pause_count > 0 && !job_is_cancelled(job);
}

void coroutine_fn job_pause_point(Job *job)
{
    while (must_pause(job)) {
        job_parked(job);
        yield(job);
    }
}

void coroutine_fn job_wait(Job *job)
{
    if (!job_cancel_requested(job)) {
        yield(job);
    }
    job_pause_point(job);
}

void coroutine_fn job_sleep_ns(Job *job, int64_t ns)
{
    if (!must_pause(job) && !job_cancel_requested(job)) {
        timer_mod_ns(job->sleep_timer,
                     qemu_clock_get_ns(QEMU_CLOCK_REALTIME) + ns);
        yield(job);
    }
    job_pause_point(job);
}

void job_transition_to_ready(Job *job)
{
    job_set_status(job, JOB_STATUS_READY);
    if (job->hooks && job->hooks->ready) {
        job->hooks->ready(job);
    }
}

void job_progress_set(Job *job, int64_t current, int64_t total)
{
    job->progress_current = current;
    job->progress_total = total;
}

/* --- pausing --- */

void job_parked(Job *job)
{
    if (!must_pause(job) || has_stopped(job)) {
        return;
    }
    job_set_status(job, job->status == JOB_STATUS_READY ? JOB_STATUS_STANDBY
                                                        : JOB_STATUS_PAUSED);
}

static void go_on(Job *job)
{
    unpark(job);
    if (job->in_run && job->driver->resume) {
        job->driver->resume(job);
    }
    job_enter(job);
}

void job_pause(Job *job)
{
    if (job->pause_count++ > 0) {
        return;
    }
    if (job->in_run && job->driver->pause) {
        job->driver->pause(job);
    }
    job_enter(job);
}

void job_resume(Job *job)
{
    assert(job->pause_count > 0);
    if (--job->pause_count == 0) {
        go_on(job);
    }
}

void job_user_pause(Job *job, Error **errp)
{
    if (!job_apply_verb(job, JOB_VERB_PAUSE, errp)) {
        return;
    }
    if (job->user_paused) {
        error_setg(errp, "Job is already paused");
        return;
    }
    job->user_paused = true;
    job_pause(job);
}

static void end_user_pause(Job *job)
{
    if (job->driver->user_resume) {
        job->driver->user_resume(job);
    }
    job->user_paused = false;
    job_resume(job);
}

void job_user_resume(Job *job, Error **errp)
{
    if (!job->user_paused) {
        error_setg(errp, "Can't resume a job that was not paused");
        return;
    }
    if (job_apply_verb(job, JOB_VERB_RESUME, errp)) {
        end_user_pause(job);
    }
}

/* --- ending it --- */

bool job_is_cancelled(const Job *job)
{
    return job->force_cancelled;
}

bool job_cancel_requested(const Job *job)
{
    return job->cancelled;
}

void job_cancel_async(Job *job, bool force)
{
    if (!job->driver->cancel) {
        force = true;
    } else {
        force = job->driver->cancel(job, force) || force;
    }
    job->cancelled = true;
    job->force_cancelled |= force;
    if (job->user_paused) {
        end_user_pause(job);
    }
    if (!job->started) {
        job->run_over = true;
    } else if (!job->run_over && (job->pause_count == 0 ||
                                  job->force_cancelled)) {
        go_on(job);
    }
}

static void cancel(Job *job, bool force)
{
    bool never_started = !job->started;

    job_cancel_async(job, force);
    if (never_started) {
        job_completed(job);
    } else if (job_is_cancelled(job) &&
               (job->status == JOB_STATUS_WAITING ||
                job->status == JOB_STATUS_PENDING)) {
        job_txn_abort(job->txn);
    }
}

void job_user_cancel(Job *job, bool force, Error **errp)
{
    if (job_apply_verb(job, JOB_VERB_CANCEL, errp)) {
        cancel(job, force);
    }
}

void job_complete(Job *job, Error **errp)
{
    if (!job_apply_verb(job, JOB_VERB_COMPLETE, errp)) {
        return;
    }
    if (job_cancel_requested(job) || !job->driver->complete) {
        error_setg(errp, "The active block job '%s' cannot be completed",
                   job->id ?: "");
        return;
    }
    job->driver->complete(job, errp);
}

bool job_change(Job *job, const BlockJobChangeOptions *options, Error **errp)
{
    if (!job_apply_verb(job, JOB_VERB_CHANGE, errp)) {
        return false;
    }
    if (!job->driver->change) {
        error_setg(errp, "Job type does not support change");
        return false;
    }
    return job->driver->change(job, options, errp);
}

/* --- looking --- */

Job *job_next(Job *job)
{
    return job ? QTAILQ_NEXT(job, next) : QTAILQ_FIRST(&jobs);
}

Job *job_find(const char *id)
{
    Job *job;

    QTAILQ_FOREACH(job, &jobs, next) {
        if (job->id && !strcmp(job->id, id)) {
            return job;
        }
    }
    return NULL;
}

JobInfo *job_query(const Job *job)
{
    JobInfo *info;

    if (!job->id) {
        return NULL;
    }
    info = g_new0(JobInfo, 1);
    info->id = g_strdup(job->id);
    info->type = job->driver->type;
    info->status = job->status;
    info->current_progress = job->progress_current;
    info->total_progress = job->progress_total;
    info->error = job->err ? g_strdup(error_get_pretty(job->err)) : NULL;
    return info;
}

/* --- waiting --- */

int job_finish_sync(Job *job)
{
    int ret;

    assert(!main_work_busy());
    job_ref(job);
    AIO_WAIT_WHILE(NULL, !job_is_concluded(job));
    ret = job->ret;
    job_unref(job);
    return ret;
}

int job_cancel_sync(Job *job)
{
    int ret;

    job_ref(job);
    if (!job_is_concluded(job)) {
        cancel(job, true);
    }
    ret = job_finish_sync(job);
    job_unref(job);
    return ret;
}

void job_cancel_sync_all(void)
{
    Job *job;

    no_more_jobs = true;
    AIO_WAIT_WHILE(NULL, main_work_busy());
    while ((job = QTAILQ_FIRST(&jobs))) {
        job_ref(job);
        job_cancel_sync(job);
        if (job->status == JOB_STATUS_CONCLUDED) {
            job_do_dismiss(job);
        }
        job_unref(job);
    }
}
