/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The command line of the model test; see docs/devel/model-testing.md. */
#include "util/osdep.h"
#include <getopt.h>
#include "trial.h"

typedef struct Options {
    uint64_t first, seeds;
    unsigned ops;
    bool one;
    Trial t;
} Options;

enum { OPT_SEED = 256, OPT_SEEDS, OPT_FIRST, OPT_OPS, OPT_SCHEDULE, OPT_KEEP,
       OPT_CHOICES };

static const struct option long_options[] = {
    { "seed", required_argument, NULL, OPT_SEED },
    { "seeds", required_argument, NULL, OPT_SEEDS },
    { "first", required_argument, NULL, OPT_FIRST },
    { "ops", required_argument, NULL, OPT_OPS },
    { "schedule", required_argument, NULL, OPT_SCHEDULE },
    { "keep", required_argument, NULL, OPT_KEEP },
    { "choices", required_argument, NULL, OPT_CHOICES },
    { "verbose", no_argument, NULL, 'v' },
    { NULL, 0, NULL, 0 },
};

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
        case 'v':
            o->t.verbose = true;
            break;
        default:
            exit(2);
        }
    }
    o->t.nr_ops = o->ops;
}

int main(int argc, char **argv)
{
    Options o = { .first = 1, .seeds = 40, .ops = 500 };
    gint64 start = g_get_monotonic_time();
    bool ok;

    parse(argc, argv, &o);
    trial_init();
    if (o.one) {
        trial_init_block();
        trial_run(&o.t);
        return 0;
    }
    printf("1..1\n");
    ok = trial_run_seeds(o.first, o.seeds, o.ops);
    if (!ok) {
        o.t.seed = trial_shared->seed;
        trial_report(&o.t);
    }
    printf("%sok 1 - random\n", ok ? "" : "not ");
    printf("# %" PRIu64 " operations, %" PRIu64 " seeds, %" PRIu64
           " steps, %.1f s\n", trial_shared->ops, trial_shared->runs,
           trial_shared->steps, (g_get_monotonic_time() - start) / 1e6);
    return !ok;
}
