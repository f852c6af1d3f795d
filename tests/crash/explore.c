/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The crash-state explorer: records what a workload does to the file below
 * qcow2, works out what a power cut may leave, and judges that.
 *
 * See docs/devel/crash-testing.md. Output is TAP; the exit status is 1 if a
 * bad state was found.
 */
#include "util/osdep.h"
#include <getopt.h>
#include "explorer.h"
#include "failure.h"
#include "oracle.h"
#include "util/aio.h"
#include "util/error.h"

#define QUICK_STATES 700
#define QUICK_SECONDS 40
#define LONG_STATES 21000
#define ORACLE_EVERY 150

typedef struct Options {
    uint32_t seed;
    uint64_t states;        /* distinct ones, for each workload */
    unsigned seconds;       /* for all; 0: no limit */
    const char *workload;   /* NULL: all */
    const char *replay;
    const char *save;
} Options;

static void list_workloads(void)
{
    for (const Workload *w = workloads; w->name; w++) {
        printf("%-15s %s\n", w->name, w->what);
    }
}

static void G_GNUC_NORETURN usage(int status)
{
    printf("Usage: explore [--seed N] [--states N] [--seconds N] "
           "[--workload NAME] [--save DIR]\n"
           "       explore --replay FILE\n"
           "       explore --list\n"
           "Tries what power cuts may leave of a qcow2 image: --states "
           "different things for\neach workload, but no longer than --seconds. "
           "A bad state is saved in --save (the\ncurrent directory unless "
           "given), for --replay.\n");
    exit(status);
}

static uint64_t number(const char *arg)
{
    char *end;
    uint64_t n = g_ascii_strtoull(arg, &end, 0);

    if (end == arg || *end) {
        fprintf(stderr, "explore: not a number: %s\n", arg);
        exit(2);
    }
    return n;
}

static void parse(Options *o, int argc, char **argv)
{
    static const struct option longs[] = {
        { "seed", required_argument, NULL, 's' },
        { "states", required_argument, NULL, 'n' },
        { "seconds", required_argument, NULL, 't' },
        { "workload", required_argument, NULL, 'w' },
        { "save", required_argument, NULL, 'd' },
        { "replay", required_argument, NULL, 'r' },
        { "list", no_argument, NULL, 'l' },
        { "help", no_argument, NULL, 'h' },
        { NULL },
    };
    int c;

    while ((c = getopt_long(argc, argv, "", longs, NULL)) != -1) {
        switch (c) {
        case 's':
            o->seed = number(optarg);
            break;
        case 'n':
            o->states = number(optarg);
            o->seconds = 0;
            break;
        case 't':
            o->seconds = number(optarg);
            break;
        case 'w':
            o->workload = optarg;
            break;
        case 'd':
            o->save = optarg;
            break;
        case 'r':
            o->replay = optarg;
            break;
        case 'l':
            list_workloads();
            exit(0);
        default:
            usage(c == 'h' ? 0 : 2);
        }
    }
    if (optind < argc) {
        usage(2);
    }
}

static void report(const Workload *w, const ExplorerResult *r, unsigned number,
                   double seconds)
{
    printf("%sok %u - %s\n", r->failure ? "not " : "", number, w->name);
    printf("# %" PRIu64 " states, %" PRIu64 " distinct, %" PRIu64
           " judged; %u runs, %u epochs (%u exhausted)\n", r->tried,
           r->distinct, r->judged, r->rounds, r->epochs, r->exhausted);
    printf("# %" PRIu64 " leak, %" PRIu64 " repaired, %" PRIu64
           " cut again during repair, %" PRIu64 " used on, %" PRIu64
           " second opinions; %.1f s\n", r->judge.leaks, r->judge.repaired,
           r->recoveries, r->judge.continued, r->second_opinions, seconds);
    if (w->bitmaps) {
        printf("# %" PRIu64 " with a valid recording bitmap\n",
               r->judge.valid_bitmaps);
    }
    if (r->failure) {
        tap_comment(r->failure);
    }
    fflush(stdout);
}

static bool is_chosen(const Options *o, const Workload *w)
{
    return !o->workload || !strcmp(o->workload, w->name);
}

/* Returns whether nothing bad was found. */
static bool explore_all(const Options *o, unsigned count)
{
    gint64 start = g_get_monotonic_time();
    g_autofree char *oracle = oracle_find();
    unsigned number = 0, failures = 0;
    uint64_t all = 0;

    printf("1..%u\n# seed %" PRIu32 "\n", count, o->seed);
    for (const Workload *w = workloads; w->name; w++) {
        gint64 now = g_get_monotonic_time();
        ExplorerLimits limits = {
            .seed = o->seed, .states = o->states, .save = o->save,
            .oracle = oracle, .oracle_every = ORACLE_EVERY,
        };
        ExplorerResult r;

        if (!is_chosen(o, w)) {
            continue;
        }
        if (o->seconds) {
            /* What is left, shared by those that are left. */
            gint64 left = start + o->seconds * G_USEC_PER_SEC - now;

            limits.deadline = now + MAX(left, 0) / (count - number) + 1;
        }
        explore(w, &limits, &r);
        report(w, &r, ++number, (g_get_monotonic_time() - now) / 1e6);
        failures += !!r.failure;
        all += r.distinct;
        g_free(r.failure);
    }
    printf("# seed %" PRIu32 ": %" PRIu64 " distinct states in %.0f s\n",
           o->seed, all, (g_get_monotonic_time() - start) / 1e6);
    return !failures;
}

int main(int argc, char **argv)
{
    bool full = getenv("LONG") && *getenv("LONG");
    Options o = {
        .seed = tap_seed(),
        .states = full ? LONG_STATES : QUICK_STATES,
        .seconds = full ? 0 : QUICK_SECONDS,
        .save = ".",
    };
    unsigned count = 0;
    bool good;

    parse(&o, argc, argv);
    qemu_init_main_loop(&error_fatal);
    bdrv_init();
    if (o.replay) {
        return failure_replay(o.replay);
    }
    for (const Workload *w = workloads; w->name; w++) {
        count += is_chosen(&o, w);
    }
    if (!count) {
        fprintf(stderr, "explore: there is no workload '%s'\n", o.workload);
        return 2;
    }
    good = explore_all(&o, count);
    bdrv_close_all();
    return good ? 0 : 1;
}
