/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Jobs: long operations that a user starts, watches, and can pause and cancel.
 *
 * A job's work is a coroutine (JobDriver.run); everything else about it happens
 * in the main thread, too, so there are no locks. Its end (prepare, commit or
 * abort, clean) runs outside coroutines as main work (util/main-work.h), so it
 * may change the graph and never runs inside of a command.
 *
 * States and what a user may do in them are tables in block/jobs/job-state.c;
 * docs/devel/jobs.md draws them.
 *
 * All functions: main thread; coroutine_fn: the job's own coroutine; the others
 * anywhere in that thread unless it says otherwise.
 */
#ifndef BLOCK_JOB_H
#define BLOCK_JOB_H

#include "qapi/qapi-types.h"
#include "util/coroutine.h"
#include "util/error.h"
#include "util/queue.h"
#include "util/timer.h"

typedef struct Job Job;
typedef struct JobTxn JobTxn;

/* What a kind of job does. All but run are optional. */
typedef struct JobDriver {
    size_t instance_size;       /* of the struct that begins with Job */
    JobType type;

    /*
     * The work. 0, or -errno with *@errp set or not. May be called for a job
     * that is cancelled meanwhile, whose result does not count then.
     */
    int coroutine_fn (*run)(Job *job, Error **errp);
    /*
     * For work that is not done in the job's own coroutine: stop, and call
     * job_parked() when nothing is in flight any more; go on (also when nothing
     * was stopped). Between the start and the end of run only, which has
     * job_pause_point() for the rest.
     */
    void (*pause)(Job *job);
    void (*resume)(Job *job);
    /* The user lets a job go on that was paused, by an error perhaps. */
    void (*user_resume)(Job *job);
    /*
     * The job shall end. True if that means that it fails; false (only without
     * @force) if it goes on to an end of its own. Without it: true.
     */
    bool (*cancel)(Job *job, bool force);
    /* A ready job shall complete. */
    void (*complete)(Job *job, Error **errp);
    bool (*change)(Job *job, const BlockJobChangeOptions *options,
                   Error **errp);

    /*
     * The end, outside coroutines. prepare (only after success) is the last
     * that may fail, for every job of the transaction before any commits; then
     * commit or abort (also after a prepare that succeeded), and in either case
     * clean.
     */
    int (*prepare)(Job *job, Error **errp);
    /* What prepare has done stays done: a job whose prepare succeeded is a success
     * even if another one of the transaction fails after it. */
    bool prepare_is_final;
    void (*commit)(Job *job);
    void (*abort)(Job *job);
    void (*clean)(Job *job);
    /* With the last reference. */
    void (*free)(Job *job);
} JobDriver;

/* What a family of jobs tells its users; each is optional. */
typedef struct JobHooks {
    void (*ready)(Job *job);
    void (*pending)(Job *job);              /* waits for job-finalize */
    void (*ended)(Job *job, bool cancelled);
} JobHooks;

typedef void JobEndedFunc(void *opaque, int ret);

struct Job {
    /* Fixed at creation */
    const JobDriver *driver;
    const JobHooks *hooks;
    char *id;                   /* NULL: internal, users do not see it */
    bool auto_finalize;
    bool auto_dismiss;
    JobEndedFunc *cb;
    void *opaque;

    JobStatus status;
    unsigned refcnt;
    unsigned pause_count;
    bool user_paused;           /* one of pause_count */
    bool started;
    bool in_run;                /* driver->run is being executed */
    bool run_over;              /* the work has ended, or never begins */
    bool cancelled;             /* asked to end */
    bool force_cancelled;       /* and to fail by that */
    bool settled;               /* it has succeeded, finally */
    int ret;
    Error *err;
    int64_t progress_current;
    int64_t progress_total;

    Coroutine *co;
    bool waiting;               /* co has yielded in job_wait() */
    QEMUTimer *sleep_timer;

    JobTxn *txn;
    QLIST_ENTRY(Job) txn_next;
    QTAILQ_ENTRY(Job) next;
};

/* --- making and starting --- */

typedef struct JobOptions {
    const char *id;             /* NULL: internal */
    bool manual_finalize;
    bool manual_dismiss;
    JobTxn *txn;                /* NULL: one of its own */
    const JobHooks *hooks;
    JobEndedFunc *cb;           /* called once, when the result stands */
    void *opaque;
} JobOptions;

/*
 * A job in state "created". One reference belongs to the list of jobs until it
 * is dismissed. NULL if the id is malformed or in use.
 */
Job *job_create(const JobDriver *driver, const JobOptions *options,
                Error **errp);
/* Begins its work. Outside coroutines. */
void job_start(Job *job);
/* In place of job_start(): it is gone, with what driver->free frees. */
void job_early_fail(Job *job);
/* The same after driver->clean, for one that could have been started. */
void job_discard(Job *job);
void job_ref(Job *job);
void job_unref(Job *job);

/* --- transactions: jobs that succeed or fail together --- */

JobTxn *job_txn_new(void);
/* Each job of it holds a reference as well. NULL is fine. */
void job_txn_unref(JobTxn *txn);

/* --- for drivers --- */

/* The job is to fail; its result does not count any more. */
bool job_is_cancelled(const Job *job);
/* It is to end in some way. */
bool job_cancel_requested(const Job *job);
/* Where the job may be paused. */
void coroutine_fn job_pause_point(Job *job);
/* Until job_enter(), or the time is over; a pause point. */
void coroutine_fn job_wait(Job *job);
void coroutine_fn job_sleep_ns(Job *job, int64_t ns);
/* Ends a job_wait(). */
void job_enter(Job *job);
/* After driver->pause: nothing is in flight. */
void job_parked(Job *job);
/* Running becomes ready. */
void job_transition_to_ready(Job *job);
/* Ready or standby. */
bool job_is_ready(const Job *job);
void job_progress_set(Job *job, int64_t current, int64_t total);

/* --- pausing, by anybody; nests --- */

void job_pause(Job *job);
void job_resume(Job *job);

/* --- what users do; refused in the wrong state --- */

/* "Job 'J' in state 'S' cannot accept command verb 'V'" unless it may. */
bool job_apply_verb(Job *job, JobVerb verb, Error **errp);
void job_user_pause(Job *job, Error **errp);
void job_user_resume(Job *job, Error **errp);
void job_user_cancel(Job *job, bool force, Error **errp);
void job_complete(Job *job, Error **errp);
void job_finalize(Job *job, Error **errp);
/* The caller's pointer may be gone. */
void job_dismiss(Job *job, Error **errp);
bool job_change(Job *job, const BlockJobChangeOptions *options, Error **errp);

/* --- looking --- */

/* Newest first; NULL starts and ends. */
Job *job_next(Job *job);
/* NULL if there is none. */
Job *job_find(const char *id);
bool job_is_concluded(const Job *job);
/* Caller frees; NULL for internal ones. */
JobInfo *job_query(const Job *job);
/* Those that failed and were dismissed by themselves, newest first, as far as that
 * is remembered. Caller frees. */
FailedJobList *job_query_failures(void);

/* --- waiting; not in main work --- */

/* Until it is concluded; its result. Keeps it alive meanwhile. */
int job_finish_sync(Job *job);
int job_cancel_sync(Job *job);
/* At the end of the program: no job is left, and none can be made. */
void job_cancel_sync_all(void);

#endif
