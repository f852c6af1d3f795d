/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The command line of the model test; see docs/devel/model-testing.md.
 *
 * LONG=1 in the environment: 1,000 seeds, 2,000,000 operations, all processors.
 * SEED: the first one.
 */
#include "util/osdep.h"
#include <getopt.h>
#include <sys/wait.h>
#include "cases.h"
#include "threads.h"
#include "trial.h"

typedef struct Options {
    uint64_t first, seeds;  /* seeds 0: not said */
    unsigned ops, jobs, threads;
    bool one;
    const char *only;       /* a named case */
    Trial t;
} Options;

enum { OPT_SEED = 256, OPT_SEEDS, OPT_FIRST, OPT_OPS, OPT_SCHEDULE, OPT_KEEP,
       OPT_CHOICES, OPT_CASE, OPT_JOBS, OPT_THREADS, OPT_BREAK };

static const struct option long_options[] = {
    { "seed", required_argument, NULL, OPT_SEED },
    { "seeds", required_argument, NULL, OPT_SEEDS },
    { "first", required_argument, NULL, OPT_FIRST },
    { "ops", required_argument, NULL, OPT_OPS },
    { "schedule", required_argument, NULL, OPT_SCHEDULE },
    { "keep", required_argument, NULL, OPT_KEEP },
    { "choices", required_argument, NULL, OPT_CHOICES },
    { "case", required_argument, NULL, OPT_CASE },
    { "jobs", required_argument, NULL, OPT_JOBS },
    { "threads", required_argument, NULL, OPT_THREADS },
    { "break-order", no_argument, NULL, OPT_BREAK },
    { "verbose", no_argument, NULL, 'v' },
    { NULL, 0, NULL, 0 },
};

static bool is_long(void)
{
    const char *text = getenv("LONG");

    return text && *text;
}

static void read_environment(Options *o)
{
    const char *seed = getenv("SEED");

    if (is_long()) {
        /* A few are left out: truncates while another one goes on. */
        o->ops = 2020;
        o->jobs = g_get_num_processors();
    }
    if (seed && *seed) {
        o->first = strtoull(seed, NULL, 0);
    }
}

static void parse(int argc, char **argv, Options *o)
{
    int c;

    while ((c = getopt_long(argc, argv, "v", long_options, NULL)) >= 0) {
        switch (c) {
        case OPT_SEED:
            o->t.seed = strtoull(optarg, NULL, 0);
            o->one = true;
            break;
        case OPT_SEEDS:
            o->seeds = strtoull(optarg, NULL, 0);
            break;
        case OPT_FIRST:
            o->first = strtoull(optarg, NULL, 0);
            break;
        case OPT_OPS:
            o->ops = strtoul(optarg, NULL, 0);
            break;
        case OPT_SCHEDULE:
            o->t.schedule = strtoull(optarg, NULL, 0);
            break;
        case OPT_KEEP:
            o->t.keep = optarg;
            break;
        case OPT_CHOICES:
            o->t.choices = optarg;
            break;
        case OPT_CASE:
            o->only = optarg;
            break;
        case OPT_JOBS:
            o->jobs = MAX(1, atoi(optarg));
            break;
        case OPT_THREADS:
            o->threads = MAX(1, atoi(optarg));
            break;
        case OPT_BREAK:
            order_is_broken = true;
            break;
        case 'v':
            o->t.verbose = true;
            break;
        default:
            exit(2);
        }
    }
    o->t.nr_ops = o->ops;
    if (!o->seeds) {
        o->seeds = is_long() ? 1000 : 100;
        /* Threads come out another way every time: fewer tell as much. */
        o->seeds /= o->threads ? 10 : 1;
    }
}

/* --------------------------------------------------------------- results */

static unsigned nr_results;
static bool all_ok = true;

static void result(bool ok, const char *what)
{
    printf("%sok %u - %s\n", ok ? "" : "not ", ++nr_results, what);
    fflush(stdout);
    all_ok = all_ok && ok;
}

typedef struct CaseRun {
    const NamedCase *c;
    bool broken, verbose;
} CaseRun;

static void case_entry(void *opaque)
{
    CaseRun *r = opaque;

    order_is_broken = r->broken;
    named_case_run(r->c, r->verbose);
}

static bool run_case(const NamedCase *c, bool broken, bool verbose)
{
    CaseRun r = { c, broken, verbose };

    return trial_in_child(case_entry, &r, broken && !verbose);
}

static void run_cases(const Options *o)
{
    for (unsigned i = 0; i < nr_named_cases; i++) {
        const NamedCase *c = &named_cases[i];

        if (!o->only || !strcmp(o->only, c->name)) {
            result(run_case(c, order_is_broken, o->t.verbose), c->name);
        }
    }
}

/* A driver that does not keep the order must not pass. */
static void run_control(void)
{
    for (unsigned i = 0; i < nr_named_cases; i++) {
        g_autofree char *text = g_strdup_printf(
            "%s with the order broken is noticed", named_cases[i].name);

        result(!run_case(&named_cases[i], true, false), text);
    }
    order_is_broken = true;
    result(!trial_run_seeds(1, 20, 300, true),
           "random operations with the order broken are noticed");
    order_is_broken = false;
}

static void run_random(const Options *o)
{
    g_autofree char *text = g_strdup_printf(
        "random operations, seeds %" PRIu64 " to %" PRIu64, o->first,
        o->first + o->seeds - 1);
    gint64 start = g_get_monotonic_time();
    bool ok = trial_run_jobs(o->first, o->seeds, o->ops, o->jobs);

    result(ok, text);
    printf("# %" PRIu64 " operations, %" PRIu64 " seeds, %" PRIu64
           " steps, %.1f s\n", trial_total.ops, trial_total.runs,
           trial_total.steps, (g_get_monotonic_time() - start) / 1e6);
}

static int run_threads(const Options *o)
{
    g_autofree char *dir = g_dir_make_tmp("model-XXXXXX", NULL);
    gint64 start = g_get_monotonic_time();
    uint64_t ops;

    printf("1..1\n");
    trial_init_block();
    ops = threads_run(o->first, o->seeds, o->ops, o->threads, dir);
    rmdir(dir);
    printf("ok 1 - random operations in %u threads, seeds %" PRIu64 " to %"
           PRIu64 "\n", o->threads, o->first, o->first + o->seeds - 1);
    printf("# %" PRIu64 " operations, %" PRIu64 " seeds, %.1f s\n", ops,
           o->seeds, (g_get_monotonic_time() - start) / 1e6);
    return 0;
}

int main(int argc, char **argv)
{
    Options o = { .first = 1, .ops = 500, .jobs = 1 };

    read_environment(&o);
    parse(argc, argv, &o);
    trial_init(o.threads > 0);
    if (o.threads) {
        return run_threads(&o);
    }
    if (o.one) {
        trial_init_block();
        trial_run(&o.t);
        return 0;
    }
    run_cases(&o);
    if (!o.only) {
        run_control();
        run_random(&o);
    }
    printf("1..%u\n", nr_results);
    return !all_ok;
}
