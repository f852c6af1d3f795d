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
#include "failure.h"
#include "judge.h"
#include "states.h"
#include "workload.h"
#include "util/aio.h"
#include "util/error.h"

/* In a round, tried in an epoch. */
#define EPOCH_EXHAUSTIVE 96
#define EPOCH_SAMPLES 48
#define GO_ON_EVERY 8
/* Rounds without a state that was not seen before: there are no more. */
#define MAX_DULL_ROUNDS 20
#define QUICK_STATES 400
#define QUICK_SECONDS 40
#define LONG_STATES 18000

typedef struct Options {
    uint32_t seed;
    uint64_t states;        /* distinct ones, for each workload */
    double seconds;         /* for all; 0: no limit */
    const char *workload;   /* NULL: all */
    const char *replay;
    const char *save;
} Options;

typedef struct Explorer {
    const Options *o;
    const Workload *w;
    gint64 deadline;
    Judge judge;
    GHashTable *seen;       /* hashes of all states of the workload */
    /* Of content and legal contents: what has been judged in this round. */
    GHashTable *judged;
    uint64_t tried, distinct, checked;
    unsigned rounds, epochs, exhausted;
    char *failure;
} Explorer;

static uint32_t mix_seed(uint32_t seed, const char *name, unsigned round)
{
    return (seed * 2654435761u ^ g_str_hash(name)) + round * 40503u;
}

static bool add_hash(GHashTable *set, uint64_t hash)
{
    if (g_hash_table_contains(set, &hash)) {
        return false;
    }
    return g_hash_table_add(set, g_memdup2(&hash, sizeof(hash)));
}

static GHashTable *hash_set(void)
{
    return g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, NULL);
}

static bool finished(const Explorer *x)
{
    return x->failure || x->distinct >= x->o->states ||
           (x->deadline && g_get_monotonic_time() > x->deadline);
}

static void try_state(Explorer *x, Run *run, const Epoch *epoch,
                      const CrashState *s)
{
    uint64_t hash = crash_state_hash(epoch, s);
    g_autofree uint8_t *data = NULL;
    g_autofree char *wrong = NULL;
    int64_t size;

    x->tried++;
    x->distinct += add_hash(x->seen, hash);
    /* The same bytes may be legal before a guest's flush and not after it. */
    if (!add_hash(x->judged, hash + run->guest->generation *
                             0x9e3779b97f4a7c15ULL)) {
        return;
    }
    x->judge.go_on = x->checked++ % GO_ON_EVERY == 0;
    data = crash_state_build(epoch, s, &size);
    crash_disk_load(run->disk, data, size);
    wrong = judge_image(&x->judge, run);
    if (wrong) {
        x->failure = failure_report(run, epoch, s, x->judge.go_on,
                                    x->o->save);
    }
}

static void try_epoch(Explorer *x, Run *run, const Epoch *epoch, GRand *rand)
{
    CrashState *s = crash_state_new(epoch);
    uint64_t limit = epoch->combinations <= EPOCH_EXHAUSTIVE
                         ? EPOCH_EXHAUSTIVE
                         : EPOCH_SAMPLES + 3 * ((uint64_t)epoch->ops->len + 1);

    x->epochs++;
    x->exhausted += epoch->combinations <= EPOCH_EXHAUSTIVE;
    for (uint64_t n = 0; n < limit && !finished(x); n++) {
        if (!crash_state_pick(epoch, s, n, EPOCH_EXHAUSTIVE, rand)) {
            break;
        }
        try_state(x, run, epoch, s);
    }
    crash_state_free(s);
}

static void one_round(Explorer *x, const Geometry *g, uint32_t seed)
{
    Run *run = run_new(x->w, g, seed);
    GRand *rand = g_rand_new_with_seed(seed + 1);
    Epochs *epochs;
    const Epoch *epoch;

    run_record(run, &error_abort);
    epochs = epochs_new(run->start, run->start_size, run->log, run->clock);
    x->judged = hash_set();
    while (!finished(x) && (epoch = epochs_next(epochs))) {
        guest_walk_to(run->guest, epoch->end);
        try_epoch(x, run, epoch, rand);
    }
    x->rounds++;
    g_hash_table_unref(x->judged);
    epochs_free(epochs);
    run_free(run);
    g_rand_free(rand);
}

static void explore(Explorer *x)
{
    unsigned dull = 0;

    x->seen = hash_set();
    for (unsigned i = 0; !finished(x) && dull < MAX_DULL_ROUNDS; i++) {
        uint64_t before = x->distinct;
        Geometry g = workload_geometry(x->w, i + x->o->seed % 1024);

        one_round(x, &g, mix_seed(x->o->seed, x->w->name, i));
        dull = x->distinct > before ? 0 : dull + 1;
    }
    g_hash_table_unref(x->seen);
}

/* --- command line --- */

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
           "Tries what power cuts may leave of a qcow2 image, at least "
           "--states different\nthings for each workload, until --seconds have "
           "passed. A bad state is saved in\n--save (default: the current "
           "directory).\n");
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

static void defaults(Options *o)
{
    const char *seed = getenv("SEED");
    bool full = getenv("LONG") && *getenv("LONG");

    *o = (Options) {
        .seed = seed && *seed ? number(seed) : g_random_int(),
        .states = full ? LONG_STATES : QUICK_STATES,
        .seconds = full ? 0 : QUICK_SECONDS,
        .save = ".",
    };
}

static void report(const Explorer *x, unsigned number, gint64 start)
{
    printf("%sok %u - %s\n", x->failure ? "not " : "", number, x->w->name);
    printf("# %" PRIu64 " states tried, %" PRIu64 " distinct, %" PRIu64
           " judged, in %u rounds, %u epochs (%u exhausted); %" PRIu64
           " with leaks, %" PRIu64 " repaired, %" PRIu64
           " used on; %.1f s\n", x->tried, x->distinct, x->checked, x->rounds,
           x->epochs, x->exhausted, x->judge.leaks, x->judge.repaired,
           x->judge.continued,
           (g_get_monotonic_time() - start) / 1e6);
    if (x->failure) {
        g_auto(GStrv) lines = g_strsplit(x->failure, "\n", -1);

        for (int i = 0; lines[i]; i++) {
            printf("# %s\n", lines[i]);
        }
    }
    fflush(stdout);
}

static bool is_chosen(const Options *o, const Workload *w)
{
    return !o->workload || !strcmp(o->workload, w->name);
}

int main(int argc, char **argv)
{
    Options o;
    unsigned count = 0, number = 0, failures = 0;
    uint64_t all = 0;
    gint64 start = g_get_monotonic_time();

    defaults(&o);
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
    printf("1..%u\n# seed %" PRIu32 "\n", count, o.seed);
    for (const Workload *w = workloads; w->name; w++) {
        Explorer x = { .o = &o, .w = w };
        gint64 now = g_get_monotonic_time();

        if (!is_chosen(&o, w)) {
            continue;
        }
        if (o.seconds) {
            /* What is left, shared by those that are left. */
            gint64 left = start + o.seconds * 1e6 - now;

            x.deadline = now + MAX(left, 0) / (count - number) + 1;
        }
        explore(&x);
        report(&x, ++number, now);
        failures += !!x.failure;
        all += x.distinct;
        g_free(x.failure);
    }
    printf("# seed %" PRIu32 ": %" PRIu64 " distinct states in %.0f s\n",
           o.seed, all, (g_get_monotonic_time() - start) / 1e6);
    bdrv_close_all();
    return failures > 0;
}
