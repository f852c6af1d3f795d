/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The command line of the exhaustive exploration; docs/devel/model-testing.md.
 *
 * LONG=1 in the environment: every scenario, in as many processes as there are
 * processors. Else a sample, which follows from SEED.
 */
#include "util/osdep.h"
#include <getopt.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include "arena.h"
#include "exhaustive.h"
#include "trial.h"

#define MAX_JOBS 64

enum { OPT_OPS = 256, OPT_SAMPLE, OPT_SEED, OPT_SECONDS, OPT_JOBS, OPT_ONLY,
       OPT_NO_MERGE };

static const struct option long_options[] = {
    { "ops", required_argument, NULL, OPT_OPS },
    { "sample", required_argument, NULL, OPT_SAMPLE },
    { "seed", required_argument, NULL, OPT_SEED },
    { "seconds", required_argument, NULL, OPT_SECONDS },
    { "jobs", required_argument, NULL, OPT_JOBS },
    { "only", required_argument, NULL, OPT_ONLY },
    { "no-merge", no_argument, NULL, OPT_NO_MERGE },
    { "verbose", no_argument, NULL, 'v' },
    { NULL, 0, NULL, 0 },
};

/* Returns how many processes to use. */
static unsigned read_environment(ExhaustiveOptions *o)
{
    const char *text = getenv("LONG"), *seed = getenv("SEED");

    if (seed && *seed) {
        o->seed = strtoull(seed, NULL, 0);
    }
    if (!arena_available) {
        /* Nothing is recognised, so paths are very many. */
        o->max_ops = 2;
        o->sample = 4;
    }
    if (text && *text) {
        o->sample = 1;
        return MIN(g_get_num_processors(), MAX_JOBS);
    }
    return 1;
}

static unsigned parse(int argc, char **argv, ExhaustiveOptions *o)
{
    unsigned jobs = read_environment(o);
    int c;

    while ((c = getopt_long(argc, argv, "v", long_options, NULL)) >= 0) {
        switch (c) {
        case OPT_OPS:
            o->max_ops = CLAMP(atoi(optarg), 1, 4);
            break;
        case OPT_SAMPLE:
            o->sample = strtoull(optarg, NULL, 0);
            break;
        case OPT_SEED:
            o->seed = strtoull(optarg, NULL, 0);
            break;
        case OPT_SECONDS:
            o->max_seconds = g_ascii_strtod(optarg, NULL);
            break;
        case OPT_JOBS:
            jobs = CLAMP(atoi(optarg), 1, MAX_JOBS);
            break;
        case OPT_ONLY:
            o->only = optarg;
            break;
        case OPT_NO_MERGE:
            o->merge = false;
            break;
        case 'v':
            o->verbose = true;
            break;
        default:
            exit(2);
        }
    }
    return o->only ? 1 : jobs;
}

static void print_result(bool ok, unsigned max_ops, const char *which)
{
    printf("%sok 1 - all interleavings of up to %u operations%s\n",
           ok ? "" : "not ", max_ops, which);
}

int main(int argc, char **argv)
{
    ExhaustiveOptions o = { .max_ops = 4, .merge = true, .seed = 1,
                            .sample = 400 };
    unsigned jobs = parse(argc, argv, &o);
    gint64 start = g_get_monotonic_time();
    ExhaustiveStats *all = mmap(NULL, sizeof(*all) * MAX_JOBS,
                                PROT_READ | PROT_WRITE,
                                MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    ExhaustiveStats sum = { 0 };
    bool ok = true;
    int status;

    /* Small blocks of GLib would come from a cache of its own. */
    if (!getenv("G_SLICE")) {
        setenv("G_SLICE", "always-malloc", 1);
        execv("/proc/self/exe", argv);
    }
    trial_init(false);
    printf("1..1\n");
    fflush(NULL);
    for (unsigned i = 0; i < jobs; i++) {
        if (fork() == 0) {
            o.shard = i;
            o.shards = jobs;
            trial_init_block();
            exhaustive_run(&o, &all[i]);
            exit(0);
        }
    }
    while (wait(&status) > 0) {
        ok = ok && WIFEXITED(status) && WEXITSTATUS(status) == 0;
    }
    for (unsigned i = 0; i < jobs; i++) {
        sum.scenarios += all[i].scenarios;
        sum.interleavings += all[i].interleavings;
        sum.states += all[i].states;
        sum.merged += all[i].merged;
        sum.steps += all[i].steps;
        sum.covered += all[i].covered;
    }
    if (o.sample > 1) {
        g_autofree char *one_of = g_strdup_printf(
            " in one of %" PRIu64 " scenarios, seed %" PRIu64, o.sample,
            o.seed);

        print_result(ok, o.max_ops, one_of);
    } else {
        print_result(ok, o.max_ops, o.only ? " in one scenario" : "");
    }
    printf("# %" PRIu64 " scenarios, %.0f interleavings: %" PRIu64
           " executed to the end, %" PRIu64 " joined a known state, %" PRIu64
           " states, %" PRIu64 " steps, %.1f s\n", sum.scenarios, sum.covered,
           sum.interleavings, sum.merged, sum.states, sum.steps,
           (g_get_monotonic_time() - start) / 1e6);
    return !ok;
}
