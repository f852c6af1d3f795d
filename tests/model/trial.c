/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "util/osdep.h"
#include <sys/mman.h>
#include <sys/wait.h>
#include "block/open.h"
#include "scheduler.h"
#include "trial.h"

/* A run that takes longer hangs. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define RUN_SECONDS 300
#else
#define RUN_SECONDS 60
#endif
/* For shortening a list of operations. */
#define SHRINK_SECONDS 120

/* Seeds that one process runs. */
#define BATCH 10

TrialShared *trial_shared;
TrialTotal trial_total;

static TrialShared *shared_new(void)
{
    TrialShared *shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE,
                               MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    assert(shared != MAP_FAILED);
    return shared;
}

void trial_init(bool loop)
{
    trial_shared = shared_new();
    if (!loop) {
        /* It is only asked for leftovers: epoll does with less. */
        setenv("QEMU_AIO_NO_URING", "1", 0);
    }
}

static void deadlock(void)
{
    run_fail("deadlock: requests wait, and nothing can run");
}

void trial_init_block(void)
{
    qemu_init_main_loop(&error_abort);
    bdrv_init();
    sched_deadlock = deadlock;
    sched_record(trial_shared->choices, sizeof(trial_shared->choices),
                 &trial_shared->nr_choices);
}

/* ------------------------------------------------------------------- keep */

/* Moves the operations that @keep names to the front; how many. */
static unsigned apply_keep(Op *ops, unsigned n, const char *keep)
{
    g_auto(GStrv) parts = keep ? g_strsplit(keep, ",", -1) : NULL;
    unsigned kept = 0;

    if (!keep) {
        return n;
    }
    for (char **p = parts; *p && **p; p++) {
        char *dash = strchr(*p, '-');
        unsigned first = strtoul(*p, NULL, 10);
        unsigned last = dash ? strtoul(dash + 1, NULL, 10) : first;

        for (unsigned i = first; i <= last && i < n; i++) {
            assert(i >= kept);
            ops[kept++] = ops[i];
        }
    }
    return kept;
}

static char *keep_string(const unsigned *kept, unsigned n)
{
    GString *s = g_string_new(NULL);

    for (unsigned i = 0; i < n;) {
        unsigned end = i;

        while (end + 1 < n && kept[end + 1] == kept[end] + 1) {
            end++;
        }
        g_string_append_printf(s, end > i ? "%s%u-%u" : "%s%u",
                               i ? "," : "", kept[i], kept[end]);
        i = end + 1;
    }
    return g_string_free(s, false);
}

/* --------------------------------------------------------------- one run */

void trial_run(const Trial *t)
{
    SchedRandom pick = {
        .rng = rng_mix(t->seed ^ rng_mix(t->schedule + 11)),
        .first = t->choices,
    };
    Run run = { .verbose = t->verbose };
    g_autofree Op *ops = NULL;
    Config cfg;
    unsigned n;

    trial_shared->seed = t->seed;
    trial_shared->schedule = t->schedule;
    trial_shared->started = 0;
    alarm(RUN_SECONDS);
    config_random(&cfg, t->seed);
    ops = ops_random(t->seed, &cfg, t->nr_ops);
    n = apply_keep(ops, t->nr_ops, t->keep);
    sched_start(sched_pick_random, &pick);
    run.started = &trial_shared->started;
    run_begin(&run, &cfg, NULL);
    run_ops(&run, ops, n);
    run_end(&run);
    trial_shared->total.steps += sched_steps();
    sched_stop();
    alarm(0);
    trial_shared->total.runs++;
    trial_shared->total.ops += run.done;
}

/* --------------------------------------------------------------- processes */

/* Whether a child with @status ended well. */
static bool ended_well(int status, bool quiet)
{
    if (WIFSIGNALED(status) && !quiet) {
        fprintf(stderr, "FAILURE: %s\n",
                WTERMSIG(status) == SIGALRM ? "it takes too long"
                                            : strsignal(WTERMSIG(status)));
    }
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static pid_t spawn(void (*func)(void *opaque), void *opaque, bool quiet)
{
    pid_t pid;

    fflush(NULL);
    pid = fork();
    assert(pid >= 0);
    if (pid == 0) {
        if (quiet) {
            int null = open("/dev/null", O_WRONLY);

            dup2(null, STDERR_FILENO);
            dup2(null, STDOUT_FILENO);
        }
        trial_init_block();
        func(opaque);
        /* Not _exit(): leaks shall be found. */
        exit(0);
    }
    return pid;
}

bool trial_in_child(void (*func)(void *opaque), void *opaque, bool quiet)
{
    pid_t pid = spawn(func, opaque, quiet);
    int status;

    return waitpid(pid, &status, 0) == pid && ended_well(status, quiet);
}

typedef struct Seeds {
    uint64_t first, n;
    unsigned nr_ops;
} Seeds;

static void seeds_entry(void *opaque)
{
    const Seeds *s = opaque;

    for (uint64_t i = 0; i < s->n; i++) {
        trial_run(&(Trial) { .seed = s->first + i, .nr_ops = s->nr_ops });
    }
}

bool trial_run_seeds(uint64_t first, uint64_t n, unsigned nr_ops, bool quiet)
{
    Seeds s = { first, n, nr_ops };

    return trial_in_child(seeds_entry, &s, quiet);
}

static void trial_entry(void *opaque)
{
    trial_run(opaque);
}

/* True if it fails. */
static bool try_one(const Trial *t, bool quiet)
{
    return !trial_in_child(trial_entry, (void *)t, quiet);
}

/* ---------------------------------------------------------------- shrink */

typedef struct Shrink {
    Trial t;            /* keep and schedule: what fails */
    unsigned *kept;
    unsigned n;
    gint64 deadline;    /* monotonic, us */
} Shrink;

/* Without [@from, @from + @len) and with some other schedules. */
static bool try_without(Shrink *s, unsigned from, unsigned len)
{
    g_autofree unsigned *rest = g_new(unsigned, s->n);
    unsigned schedules = s->n > 100 ? 2 : s->n > 20 ? 8 : 60;

    memcpy(rest, s->kept, from * sizeof(*rest));
    memcpy(rest + from, s->kept + from + len,
           (s->n - from - len) * sizeof(*rest));
    for (unsigned i = 0; i < schedules; i++) {
        g_autofree char *keep = keep_string(rest, s->n - len);
        Trial t = s->t;

        t.keep = keep;
        /* The one that failed before first. */
        t.schedule = s->t.schedule + i;
        if (try_one(&t, true)) {
            memcpy(s->kept, rest, (s->n - len) * sizeof(*rest));
            s->n -= len;
            s->t.schedule = t.schedule;
            return true;
        }
        if (g_get_monotonic_time() > s->deadline) {
            break;
        }
    }
    return false;
}

static void shrink(Shrink *s)
{
    unsigned len = MAX(s->n / 2, 1);

    while (g_get_monotonic_time() < s->deadline) {
        bool shorter = false;
        unsigned from = 0;

        while (from < s->n && g_get_monotonic_time() < s->deadline) {
            if (try_without(s, from, MIN(len, s->n - from))) {
                shorter = true;
            } else {
                from += len;
            }
        }
        if (len > 1) {
            len /= 2;
        } else if (!shorter) {
            break;
        }
    }
}

/* Prints how @t fails, shortened, and how to repeat it. */
static void report(const Trial *t)
{
    g_autofree unsigned *kept = g_new(unsigned, t->nr_ops);
    g_autofree char *keep = NULL, *config = NULL;
    Shrink s = { .t = *t, .kept = kept };
    Config cfg;

    config_random(&cfg, t->seed);
    config = config_describe(&cfg);
    fprintf(stderr, "seed %" PRIu64 ": %s\n", t->seed, config);
    if (!try_one(t, true)) {
        fprintf(stderr, "it does not fail when it is repeated\n");
        return;
    }
    s.n = MIN(trial_shared->started, t->nr_ops);
    for (unsigned i = 0; i < s.n; i++) {
        kept[i] = i;
    }
    s.deadline = g_get_monotonic_time() + SHRINK_SECONDS * G_USEC_PER_SEC;
    shrink(&s);
    keep = keep_string(kept, s.n);
    s.t.keep = keep;
    s.t.verbose = true;
    fprintf(stderr, "%u operations are left:\n", s.n);
    try_one(&s.t, false);
    fprintf(stderr, "choices: %.*s%s\n",
            (int)MIN(trial_shared->nr_choices, 4000), trial_shared->choices,
            trial_shared->nr_choices > 4000 ? "…" : "");
    fprintf(stderr, "repeat: tests/model/model --seed=%" PRIu64
            " --ops=%u --schedule=%" PRIu64 " --keep=%s -v\n",
            s.t.seed, s.t.nr_ops, s.t.schedule, keep);
}

/* -------------------------------------------------------------------- jobs */

typedef struct Job {
    pid_t pid;              /* 0: idle */
    TrialShared *shared;
} Job;

static Job *job_of(Job *jobs, unsigned n, pid_t pid)
{
    for (unsigned i = 0; i < n; i++) {
        if (jobs[i].pid == pid) {
            return &jobs[i];
        }
    }
    g_assert_not_reached();
}

/* False if it failed; then trial_shared is its. */
static bool job_wait(Job *jobs, unsigned n)
{
    int status;
    pid_t pid = wait(&status);
    Job *job = job_of(jobs, n, pid);

    job->pid = 0;
    trial_total.runs += job->shared->total.runs;
    trial_total.ops += job->shared->total.ops;
    trial_total.steps += job->shared->total.steps;
    job->shared->total = (TrialTotal) { 0 };
    if (!ended_well(status, false)) {
        trial_shared = job->shared;
        return false;
    }
    return true;
}

static unsigned nr_running(const Job *jobs, unsigned n)
{
    unsigned running = 0;

    for (unsigned i = 0; i < n; i++) {
        running += jobs[i].pid != 0;
    }
    return running;
}

bool trial_run_jobs(uint64_t first, uint64_t n, unsigned nr_ops,
                    unsigned nr_jobs)
{
    g_autofree Job *jobs = g_new0(Job, nr_jobs);
    TrialShared *own = trial_shared, *failed = NULL;
    uint64_t next = first, end = first + n;

    for (unsigned i = 0; i < nr_jobs; i++) {
        jobs[i].shared = shared_new();
    }
    while ((next < end && !failed) || nr_running(jobs, nr_jobs)) {
        if (next < end && !failed && nr_running(jobs, nr_jobs) < nr_jobs) {
            Job *idle = job_of(jobs, nr_jobs, 0);
            Seeds s = { next, MIN(BATCH, end - next), nr_ops };

            trial_shared = idle->shared;
            idle->pid = spawn(seeds_entry, &s, false);
            next += s.n;
        } else if (!job_wait(jobs, nr_jobs) && !failed) {
            failed = trial_shared;
        }
    }
    trial_shared = own;
    if (failed) {
        report(&(Trial) { .seed = failed->seed, .nr_ops = nr_ops });
    }
    return !failed;
}
