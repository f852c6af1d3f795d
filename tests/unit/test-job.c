/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Jobs: every verb in every state, transactions, pausing, cancelling, and the
 * order of what a driver is asked for. The job under test waits until it is
 * told how to end.
 */
#include "util/osdep.h"
#include "block/block.h"
#include "block/job.h"
#include "util/aio.h"
#include "util/main-work.h"

typedef struct TestJob {
    Job job;
    bool finish;            /* run returns ret */
    int ret;
    bool make_ready;
    bool stubborn;          /* a cancelled run goes on until finish */
    bool soft_cancel;       /* cancel without force is an end of its own */
    int prepare_ret;
} TestJob;

static GString *all_calls;  /* of all jobs in order, with their ids */
static int frees;

static TestJob *to_test(Job *job)
{
    return container_of(job, TestJob, job);
}

static void called(Job *job, const char *what)
{
    g_string_append_printf(all_calls, "%s:%s ", job->id ?: "-", what);
}

static int coroutine_fn test_run(Job *job, Error **errp)
{
    TestJob *t = to_test(job);

    while (!t->finish && (t->stubborn || !job_is_cancelled(job))) {
        if (t->make_ready && job->status == JOB_STATUS_RUNNING) {
            job_transition_to_ready(job);
        }
        if (t->stubborn && job_cancel_requested(job)) {
            qemu_co_sleep_ns(QEMU_CLOCK_REALTIME, SCALE_MS);
            continue;
        }
        job_wait(job);
    }
    return t->ret;
}

static bool test_cancel(Job *job, bool force)
{
    TestJob *t = to_test(job);

    if (!force && t->soft_cancel && job_is_ready(job)) {
        t->finish = true;
        return false;
    }
    return true;
}

static void test_complete(Job *job, Error **errp)
{
    called(job, "complete");
    to_test(job)->finish = true;
    job_enter(job);
}

static int test_prepare(Job *job, Error **errp)
{
    called(job, "prepare");
    if (to_test(job)->prepare_ret) {
        error_setg(errp, "prepare failed");
    }
    return to_test(job)->prepare_ret;
}

static void test_commit(Job *job)
{
    called(job, "commit");
}

static void test_abort(Job *job)
{
    called(job, "abort");
}

static void test_clean(Job *job)
{
    called(job, "clean");
}

static void test_free(Job *job)
{
    frees++;
}

static const JobDriver test_driver = {
    .instance_size = sizeof(TestJob),
    .type = JOB_TYPE_COMMIT,
    .run = test_run,
    .cancel = test_cancel,
    .complete = test_complete,
    .prepare = test_prepare,
    .commit = test_commit,
    .abort = test_abort,
    .clean = test_clean,
    .free = test_free,
};

/* Runs everything that is ready. */
static void settle(void)
{
    while (aio_poll(qemu_get_aio_context(), false)) {
    }
}

static Job *new_job(const char *id, JobTxn *txn, bool manual)
{
    JobOptions options = {
        .id = id,
        .txn = txn,
        .manual_finalize = manual,
        .manual_dismiss = true,
    };

    return job_create(&test_driver, &options, &error_abort);
}

static Job *started(const char *id, JobTxn *txn, bool manual)
{
    Job *job = new_job(id, txn, manual);

    job_start(job);
    settle();
    return job;
}

static void finish(Job *job, int ret)
{
    to_test(job)->ret = ret;
    to_test(job)->finish = true;
    job_enter(job);
    while (to_test(job)->stubborn && job->co) {
        aio_poll(qemu_get_aio_context(), true);
    }
    settle();
}

static void assert_failed(Error *err, const char *text)
{
    g_assert_nonnull(err);
    g_assert_cmpstr(error_get_pretty(err), ==, text);
    error_free(err);
}

static void expect_calls(const char *text)
{
    g_assert_cmpstr(all_calls->str, ==, text);
    g_string_truncate(all_calls, 0);
}

static void no_jobs_left(void)
{
    g_assert_null(job_next(NULL));
    g_string_truncate(all_calls, 0);
}

/* --- every verb in every state --- */

/* A job in @status; *@other is a second one in its transaction, if need be. */
static Job *job_in(JobStatus status, Job **other)
{
    JobTxn *txn = job_txn_new();
    bool pair = status == JOB_STATUS_WAITING || status == JOB_STATUS_ABORTING;
    Job *job = new_job("j", txn, status == JOB_STATUS_PENDING);

    job_ref(job);
    *other = pair ? started("other", txn, false) : NULL;
    job_txn_unref(txn);
    if (*other) {
        to_test(*other)->stubborn = true;
    }
    to_test(job)->make_ready = status == JOB_STATUS_READY ||
                               status == JOB_STATUS_STANDBY;
    if (status != JOB_STATUS_CREATED) {
        job_start(job);
        settle();
    }
    if (status == JOB_STATUS_PAUSED || status == JOB_STATUS_STANDBY) {
        job_user_pause(job, &error_abort);
        settle();
    } else if (status == JOB_STATUS_ABORTING) {
        finish(job, -EIO);
    } else if (status >= JOB_STATUS_WAITING) {
        finish(job, 0);
    }
    if (status == JOB_STATUS_NULL) {
        job_dismiss(job, &error_abort);
    }
    g_assert_cmpstr(JobStatus_str(job->status), ==, JobStatus_str(status));
    return job;
}

static void verb(Job *job, JobVerb verb, Error **errp)
{
    switch (verb) {
    case JOB_VERB_CANCEL:
        job_user_cancel(job, true, errp);
        break;
    case JOB_VERB_PAUSE:
        job_user_pause(job, errp);
        break;
    case JOB_VERB_RESUME:
        job_user_resume(job, errp);
        break;
    case JOB_VERB_COMPLETE:
        job_complete(job, errp);
        break;
    case JOB_VERB_DISMISS:
        job_dismiss(job, errp);
        break;
    case JOB_VERB_FINALIZE:
        job_finalize(job, errp);
        break;
    case JOB_VERB_SET_SPEED:
        job_apply_verb(job, verb, errp);
        break;
    case JOB_VERB_CHANGE:
        job_change(job, NULL, errp);
        break;
    default:
        g_assert_not_reached();
    }
}

/* As QEMU's documentation has it; states in order, y and n. */
static const struct {
    JobVerb verb;
    /* created running paused ready standby waiting pending aborting
     * concluded null */
    const char *allowed;
} matrix[] = {
    { JOB_VERB_CANCEL,    "yyyyyyynnn" },
    { JOB_VERB_PAUSE,     "yyyyynnnnn" },
    { JOB_VERB_RESUME,    "yyyyynnnnn" },
    { JOB_VERB_SET_SPEED, "yyyyynnnnn" },
    { JOB_VERB_COMPLETE,  "nnnyynnnnn" },
    { JOB_VERB_FINALIZE,  "nnnnnnynnn" },
    { JOB_VERB_DISMISS,   "nnnnnnnnyn" },
    { JOB_VERB_CHANGE,    "yyyyynnnnn" },
};

/* What a verb says for other reasons than the state. */
static const char *other_reason(JobVerb v, JobStatus status, bool allowed)
{
    bool paused = status == JOB_STATUS_PAUSED || status == JOB_STATUS_STANDBY;

    if (v == JOB_VERB_PAUSE && paused) {
        return "Job is already paused";
    }
    if (v == JOB_VERB_RESUME && !paused) {
        return "Can't resume a job that was not paused";
    }
    if (v == JOB_VERB_CHANGE && allowed) {
        return "Job type does not support change";
    }
    return NULL;
}

static void try_verb(JobVerb v, JobStatus status, bool allowed)
{
    g_autofree char *refused = NULL;
    const char *text;
    Error *err = NULL;
    Job *other, *job = job_in(status, &other);

    refused = g_strdup_printf("Job 'j' in state '%s' cannot accept command "
                              "verb '%s'", JobStatus_str(status),
                              JobVerb_str(v));
    text = other_reason(v, status, allowed);
    if (!text && !allowed) {
        text = refused;
    }
    verb(job, v, &err);
    if (text) {
        assert_failed(err, text);
        g_assert_cmpint(job->status, ==, status);
    } else {
        g_assert_null(err);
    }
    settle();
    if (other) {
        finish(other, 0);
    }
    if (!job_is_concluded(job)) {
        g_assert_cmpint(job_cancel_sync(job), ==, -ECANCELED);
    }
    while (job_next(NULL)) {
        job_dismiss(job_next(NULL), &error_abort);
    }
    g_assert_cmpint(job->status, ==, JOB_STATUS_NULL);
    job_unref(job);
    no_jobs_left();
}

static void test_matrix(void)
{
    for (size_t i = 0; i < ARRAY_SIZE(matrix); i++) {
        for (int s = JOB_STATUS_CREATED; s <= JOB_STATUS_NULL; s++) {
            char yes = matrix[i].allowed[s - JOB_STATUS_CREATED];

            try_verb(matrix[i].verb, s, yes == 'y');
        }
    }
    g_assert_cmpint(ARRAY_SIZE(matrix), ==, JOB_VERB__MAX);
}

/* --- life --- */

static void test_ids(void)
{
    JobOptions options = { .id = "1x" };
    Error *err = NULL;
    Job *job;

    g_assert_null(job_create(&test_driver, &options, &err));
    assert_failed(err, "Invalid job ID '1x'");
    job = new_job("j", NULL, false);
    options.id = "j";
    err = NULL;
    g_assert_null(job_create(&test_driver, &options, &err));
    assert_failed(err, "Job ID 'j' already in use");
    g_assert_true(job_find("j") == job);
    frees = 0;
    job_early_fail(job);
    g_assert_cmpint(frees, ==, 1);
    g_assert_null(job_find("j"));
    expect_calls("");
}

static void test_success(void)
{
    Job *job = started("j", NULL, false);
    JobInfo *info;

    finish(job, 0);
    expect_calls("j:prepare j:commit j:clean ");
    info = job_query(job);
    g_assert_cmpint(info->status, ==, JOB_STATUS_CONCLUDED);
    g_assert_null(info->error);
    qapi_free_JobInfo(info);
    job_dismiss(job, &error_abort);
    no_jobs_left();
}

static void test_failure(void)
{
    Job *job = started("j", NULL, false);

    finish(job, -EIO);
    expect_calls("j:abort j:clean ");
    g_assert_cmpint(job->ret, ==, -EIO);
    g_assert_cmpstr(error_get_pretty(job->err), ==, g_strerror(EIO));
    job_dismiss(job, &error_abort);
    no_jobs_left();
}

static void test_failing_prepare(void)
{
    Job *job = started("j", NULL, true);

    to_test(job)->prepare_ret = -EPERM;
    finish(job, 0);
    g_assert_cmpint(job->status, ==, JOB_STATUS_PENDING);
    job_finalize(job, &error_abort);
    expect_calls("j:prepare j:abort j:clean ");
    g_assert_cmpstr(error_get_pretty(job->err), ==, "prepare failed");
    job_dismiss(job, &error_abort);
    no_jobs_left();
}

static void ended(void *opaque, int ret)
{
    *(int *)opaque = ret;
}

/* Without manual dismissal it is gone at once; internal ones have no name. */
static void test_internal(void)
{
    int ret = 1;
    JobOptions options = { .cb = ended, .opaque = &ret };
    Job *job = job_create(&test_driver, &options, &error_abort);

    frees = 0;
    g_assert_null(job_query(job));
    job_start(job);
    finish(job, 0);
    g_assert_cmpint(frees, ==, 1);
    g_assert_cmpint(ret, ==, 0);
    no_jobs_left();
}

/* --- pausing --- */

static void test_pause(void)
{
    Job *job = started("j", NULL, false);

    job_pause(job);
    job_user_pause(job, &error_abort);
    settle();
    g_assert_cmpint(job->status, ==, JOB_STATUS_PAUSED);
    to_test(job)->finish = true;
    job_enter(job);
    settle();
    g_assert_cmpint(job->status, ==, JOB_STATUS_PAUSED);
    /* Somebody else still wants it to pause. */
    job_user_resume(job, &error_abort);
    settle();
    g_assert_cmpint(job->status, ==, JOB_STATUS_PAUSED);
    job_resume(job);
    settle();
    g_assert_cmpint(job->status, ==, JOB_STATUS_CONCLUDED);
    job_dismiss(job, &error_abort);
    no_jobs_left();
}

static void test_pause_before_start(void)
{
    Job *job = new_job("j", NULL, false);

    job_user_pause(job, &error_abort);
    job_start(job);
    settle();
    g_assert_cmpint(job->status, ==, JOB_STATUS_PAUSED);
    g_assert_false(job->in_run);
    job_user_resume(job, &error_abort);
    settle();
    g_assert_true(job->in_run);
    finish(job, 0);
    job_dismiss(job, &error_abort);
    no_jobs_left();
}

/* --- cancelling --- */

static void test_cancel_paused(void)
{
    Job *job = started("j", NULL, false);

    job_user_pause(job, &error_abort);
    settle();
    job_user_cancel(job, true, &error_abort);
    settle();
    expect_calls("j:abort j:clean ");
    g_assert_cmpint(job->ret, ==, -ECANCELED);
    job_dismiss(job, &error_abort);
    no_jobs_left();
}

/* An end of its own is a success; with force it is not. */
static void test_soft_cancel(void)
{
    for (int force = 0; force < 2; force++) {
        Job *job = new_job("j", NULL, false);

        to_test(job)->soft_cancel = to_test(job)->make_ready = true;
        job_start(job);
        settle();
        g_assert_cmpint(job->status, ==, JOB_STATUS_READY);
        job_user_cancel(job, force, &error_abort);
        settle();
        g_assert_cmpint(job->ret, ==, force ? -ECANCELED : 0);
        job_dismiss(job, &error_abort);
    }
    no_jobs_left();
}

static void test_cancel_created(void)
{
    Job *job = new_job("j", NULL, false);

    frees = 0;
    job_user_cancel(job, true, &error_abort);
    g_assert_cmpint(frees, ==, 1);
    no_jobs_left();
}

/* A command that runs when the work is over, but not what comes next. */
static void command_at_the_end(void *opaque)
{
    Job *job = opaque;

    to_test(job)->finish = true;
    job_enter(job);
    while (job->co) {
        aio_poll(qemu_get_aio_context(), false);
    }
    settle();
    g_assert_cmpint(job->status, ==, JOB_STATUS_RUNNING);
    job_user_cancel(job, true, &error_abort);
    g_assert_cmpint(job->status, ==, JOB_STATUS_RUNNING);
}

static void test_cancel_at_the_end(void)
{
    Job *job = started("j", NULL, false);

    main_work_schedule(command_at_the_end, job);
    settle();
    expect_calls("j:abort j:clean ");
    g_assert_cmpint(job->ret, ==, -ECANCELED);
    job_dismiss(job, &error_abort);
    no_jobs_left();
}

/* --- transactions --- */

static void pair(Job **a, Job **b, bool manual)
{
    JobTxn *txn = job_txn_new();

    *a = started("a", txn, false);
    *b = started("b", txn, manual);
    job_txn_unref(txn);
}

static void dismiss_all(void)
{
    while (job_next(NULL)) {
        job_dismiss(job_next(NULL), &error_abort);
    }
    no_jobs_left();
}

static void test_txn_success(void)
{
    Job *a, *b;

    pair(&a, &b, false);
    finish(a, 0);
    g_assert_cmpint(a->status, ==, JOB_STATUS_WAITING);
    expect_calls("");
    finish(b, 0);
    expect_calls("b:prepare a:prepare b:commit b:clean a:commit a:clean ");
    dismiss_all();
}

static void test_txn_manual(void)
{
    Job *a, *b;

    pair(&a, &b, true);
    finish(b, 0);
    finish(a, 0);
    g_assert_cmpint(a->status, ==, JOB_STATUS_PENDING);
    g_assert_cmpint(b->status, ==, JOB_STATUS_PENDING);
    /* Either of them stands for both. */
    job_finalize(a, &error_abort);
    expect_calls("b:prepare a:prepare b:commit b:clean a:commit a:clean ");
    dismiss_all();
}

static void test_txn_failure(void)
{
    Job *a, *b;

    pair(&a, &b, false);
    finish(a, 0);
    finish(b, -EIO);
    expect_calls("b:abort b:clean a:abort a:clean ");
    g_assert_cmpint(a->ret, ==, -ECANCELED);
    g_assert_cmpint(b->ret, ==, -EIO);
    dismiss_all();
}

/* One that is still at work is waited for. */
static void test_txn_failure_waits(void)
{
    Job *a, *b;

    pair(&a, &b, false);
    to_test(a)->stubborn = true;
    finish(b, -EIO);
    g_assert_cmpint(b->status, ==, JOB_STATUS_ABORTING);
    expect_calls("");
    finish(a, 0);
    expect_calls("b:abort b:clean a:abort a:clean ");
    dismiss_all();
}

static void test_txn_prepare_fails(void)
{
    Job *a, *b;

    pair(&a, &b, false);
    to_test(a)->prepare_ret = -EPERM;
    finish(a, 0);
    finish(b, 0);
    expect_calls("b:prepare a:prepare b:abort b:clean a:abort a:clean ");
    g_assert_cmpint(b->ret, ==, -ECANCELED);
    g_assert_cmpint(a->ret, ==, -EPERM);
    dismiss_all();
}

/* What is done is no failure, though another one fails after it. */
static void test_txn_prepare_final(void)
{
    static JobDriver final_driver;
    JobTxn *txn = job_txn_new();
    JobOptions options = { .id = "b", .txn = txn, .manual_dismiss = true };
    Job *a = started("a", txn, false), *b;

    final_driver = test_driver;
    final_driver.prepare_is_final = true;
    b = job_create(&final_driver, &options, &error_abort);
    job_start(b);
    job_txn_unref(txn);
    to_test(a)->prepare_ret = -EPERM;
    finish(a, 0);
    finish(b, 0);
    expect_calls("b:prepare a:prepare b:commit b:clean a:abort a:clean ");
    g_assert_cmpint(a->ret, ==, -EPERM);
    g_assert_cmpint(b->ret, ==, 0);
    g_assert_false(job_is_cancelled(b));
    dismiss_all();
}

static void test_txn_cancel_pending(void)
{
    Job *a, *b;

    pair(&a, &b, true);
    finish(a, 0);
    finish(b, 0);
    job_user_cancel(a, true, &error_abort);
    expect_calls("b:abort b:clean a:abort a:clean ");
    dismiss_all();
}

/* One was never started: nothing of the transaction happens. */
static void test_txn_not_started(void)
{
    JobTxn *txn = job_txn_new();
    Job *a = started("a", txn, false);

    new_job("b", txn, false);
    job_txn_unref(txn);
    job_user_cancel(a, true, &error_abort);
    settle();
    expect_calls("b:abort b:clean a:abort a:clean ");
    g_assert_null(job_find("b"));
    dismiss_all();
}

/* --- main work --- */

typedef struct Nested {
    GString *log;
    char name;
    bool poll;
} Nested;

static void nested(void *opaque)
{
    Nested *n = opaque;

    g_string_append_printf(n->log, "<%c", n->name);
    if (n->poll) {
        settle();
    }
    g_string_append_printf(n->log, "%c>", n->name);
}

/* Work that polls is not interrupted by other work. */
static void test_main_work(void)
{
    g_autoptr(GString) log = g_string_new(NULL);
    Nested a = { log, 'a', true }, b = { log, 'b', true }, c = { log, 'c' };

    main_work_schedule(nested, &a);
    main_work_schedule(nested, &b);
    main_work_schedule(nested, &c);
    settle();
    g_assert_cmpstr(log->str, ==, "<aa><bb><cc>");
}

/* --- the end; after all others --- */

static void test_cancel_all(void)
{
    JobOptions options = { .id = "late" };
    Error *err = NULL;
    Job *a, *b;

    pair(&a, &b, true);
    new_job("c", NULL, false);
    finish(started("d", NULL, false), 0);
    job_user_pause(a, &error_abort);
    job_cancel_sync_all();
    no_jobs_left();
    g_assert_null(job_create(&test_driver, &options, &err));
    assert_failed(err, "The program is ending");
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    qemu_init_main_loop(&error_abort);
    bdrv_init();
    all_calls = g_string_new(NULL);
    g_test_add_func("/job/verbs-and-states", test_matrix);
    g_test_add_func("/job/ids", test_ids);
    g_test_add_func("/job/success", test_success);
    g_test_add_func("/job/failure", test_failure);
    g_test_add_func("/job/failing-prepare", test_failing_prepare);
    g_test_add_func("/job/internal", test_internal);
    g_test_add_func("/job/pause", test_pause);
    g_test_add_func("/job/pause-before-start", test_pause_before_start);
    g_test_add_func("/job/cancel/paused", test_cancel_paused);
    g_test_add_func("/job/cancel/soft", test_soft_cancel);
    g_test_add_func("/job/cancel/created", test_cancel_created);
    g_test_add_func("/job/cancel/at-the-end", test_cancel_at_the_end);
    g_test_add_func("/job/txn/success", test_txn_success);
    g_test_add_func("/job/txn/manual", test_txn_manual);
    g_test_add_func("/job/txn/failure", test_txn_failure);
    g_test_add_func("/job/txn/failure-waits", test_txn_failure_waits);
    g_test_add_func("/job/txn/prepare-fails", test_txn_prepare_fails);
    g_test_add_func("/job/txn/prepare-final", test_txn_prepare_final);
    g_test_add_func("/job/txn/cancel-pending", test_txn_cancel_pending);
    g_test_add_func("/job/txn/not-started", test_txn_not_started);
    g_test_add_func("/job/main-work", test_main_work);
    g_test_add_func("/job-end/cancel-all", test_cancel_all);
    return g_test_run();
}
