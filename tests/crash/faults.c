/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The n-th request to the file fails, for every n: once or from then on, with
 * EIO or for want of space, with or without half of the data written. Whatever
 * the guest was told, the image checks without corruption afterwards, reads as
 * it may, and so does what a power cut may leave; a failure is told to somebody;
 * nothing hangs.
 *
 *   faults [WORKLOAD]
 *   faults WORKLOAD GEOMETRY SEED CASE N
 *
 * Every n with LONG=1, else some; or one single run, as printed for a failing
 * one. TAP.
 */
#include "util/osdep.h"
#include "explorer.h"
#include "failure.h"
#include "states.h"
#include "util/aio.h"
#include "util/error.h"

#define HANG_SECONDS 60
#define QUICK_STRIDE 40
#define LONG_GEOMETRIES 6
/* Power cuts tried between two flushes after a fault; where every n is tried,
 * the first of them. */
#define STATES_AN_EPOCH 3

typedef struct FaultCase {
    const char *name;
    DiskFault fault;
} FaultCase;

static const FaultCase cases[] = {
    { "one write fails", { .kind = FAULT_CHANGES, .error = EIO,
                           .once = true } },
    { "one write fails halfway", { .kind = FAULT_CHANGES, .error = EIO,
                                   .once = true, .partial = true } },
    { "no writes any more", { .kind = FAULT_CHANGES, .error = EIO } },
    { "one request fails", { .kind = FAULT_ALL, .error = EIO,
                             .once = true } },
    { "the file cannot grow", { .kind = FAULT_GROWTH, .error = ENOSPC } },
    { "the file cannot grow once", { .kind = FAULT_GROWTH, .error = ENOSPC,
                                     .once = true, .partial = true } },
};

typedef struct Totals {
    unsigned runs;
    unsigned states;
    unsigned told;          /* runs in which a request of the guest failed */
} Totals;

static unsigned states_an_epoch = STATES_AN_EPOCH;

/* Printed by the alarm. */
static char current[256];

static void on_alarm(int sig)
{
    static const char text[] = "Bail out! hangs: ";

    if (write(1, text, strlen(text)) < 0 ||
        write(1, current, strlen(current)) < 0 || write(1, "\n", 1) < 0) {
        _exit(3);
    }
    _exit(2);
}

/* --- one run --- */

/* What is in the file, if no power cut comes. */
static char *judge_end(Run *run)
{
    Judge judge = { .go_on = true };

    guest_walk_to(run->guest, run->clock);
    return judge_image(&judge, run);
}

/* Before the fault everything is as without one: the explorer's work. */
static char *judge_cuts(Run *run, uint32_t seed, Totals *totals)
{
    GRand *rand = g_rand_new();
    Epochs *epochs = epochs_new(run->start, run->start_size, run->log,
                                run->clock);
    const Epoch *epoch;
    char *wrong = NULL;

    guest_walk_start(run->guest);
    while (!wrong && (epoch = epochs_next(epochs))) {
        CrashState *s;

        if (epoch->end < run->disk->failed_at) {
            continue;
        }
        s = crash_state_new(epoch);
        g_rand_set_seed(rand, seed + epoch->index);
        guest_walk_to(run->guest, epoch->end);
        for (unsigned i = 0; i < states_an_epoch && !wrong; i++) {
            Judge judge = { 0 };
            g_autofree uint8_t *data = NULL;
            int64_t size;
            uint64_t n = g_rand_int_range(rand, 0, 4 * (epoch->ops->len + 1));

            if (!crash_state_pick(epoch, s, n, 0, rand)) {
                break;
            }
            data = crash_state_build(epoch, s, &size);
            crash_disk_load(run->disk, data, size);
            wrong = judge_image(&judge, run);
            totals->states++;
            if (wrong) {
                g_free(wrong);
                wrong = failure_report(run, epoch, s, false, NULL);
            }
        }
        crash_state_free(s);
    }
    epochs_free(epochs);
    g_rand_free(rand);
    return wrong;
}

/* Returns what is wrong, or NULL. *@hit: how often the fault struck. */
static char *one_run(const Workload *w, const Geometry *g, uint32_t seed,
                     const DiskFault *fault, int *hit, Totals *totals)
{
    Run *run = run_new(w, g, seed);
    g_autofree char *printed = NULL;
    Error *err = NULL;
    char *wrong = NULL;

    run->may_fail = true;
    run->disk->fault = *fault;
    capture_start();
    run_record(run, &err);
    printed = capture_end();
    *hit = run->disk->failed;
    totals->runs++;
    totals->told += run->errors > 0;
    run->guard_given_up = strstr(printed, "the L1 guard is void: ") &&
                          strstr(printed, " cannot be read");

    if (run->disk->failed > run->disk->failed_minor && !run->errors && !err &&
        !*printed) {
        wrong = g_strdup("nobody was told of the failure");
    }
    error_free(err);
    if (!wrong) {
        wrong = judge_end(run);
    }
    if (!wrong && *hit) {
        wrong = judge_cuts(run, seed, totals);
    }
    run_free(run);
    return wrong;
}

/* --- every n --- */

/* Fault number @at of case @c in geometry number @index. */
static char *one_fault(const Workload *w, unsigned index, uint32_t seed,
                       unsigned c, int at, int *hit, Totals *totals)
{
    Geometry g = workload_geometry(w, index);
    DiskFault fault = cases[c].fault;
    g_autofree char *geometry = geometry_describe(&g);
    char *wrong;

    fault.at = at;
    snprintf(current, sizeof(current),
             "%s at %d, %s; again: faults %s %u %u %u %d", cases[c].name, at,
             geometry, w->name, index, seed, c, at);
    alarm(HANG_SECONDS);
    wrong = one_run(w, &g, seed, &fault, hit, totals);
    alarm(0);
    return wrong;
}

static char *all_faults(const Workload *w, unsigned index, uint32_t seed,
                        unsigned c, unsigned stride, Totals *totals)
{
    GRand *rand = g_rand_new_with_seed(seed);
    int at = g_rand_int_range(rand, 1, stride + 1);
    int hit = 1;
    char *wrong = NULL;

    while (hit && !wrong) {
        wrong = one_fault(w, index, seed, c, at, &hit, totals);
        at += stride == 1 ? 1 : g_rand_int_range(rand, 1, 2 * stride);
    }
    g_rand_free(rand);
    return wrong;
}

static char *all_cases(const Workload *w, uint32_t seed, bool full,
                       Totals *totals)
{
    unsigned geometries = full ? LONG_GEOMETRIES : 1;

    for (unsigned i = 0; i < geometries; i++) {
        for (unsigned j = 0; j < ARRAY_SIZE(cases); j++) {
            char *wrong = all_faults(w, i + seed % 1024, seed + i, j,
                                     full ? 1 : QUICK_STRIDE, totals);

            if (wrong) {
                return wrong;
            }
        }
    }
    return NULL;
}

int main(int argc, char **argv)
{
    bool full = getenv("LONG") && *getenv("LONG");
    uint32_t seed = tap_seed();
    unsigned number = 0, failures = 0;

    states_an_epoch = full ? 1 : STATES_AN_EPOCH;
    signal(SIGALRM, on_alarm);
    qemu_init_main_loop(&error_fatal);
    bdrv_init();
    printf("# seed %" PRIu32 "\n", seed);
    for (const Workload *w = workloads; w->name; w++) {
        Totals totals = { 0 };
        int hit;
        g_autofree char *wrong = NULL;

        if (argc > 1 && strcmp(argv[1], w->name)) {
            continue;
        }
        if (argc == 6) {
            wrong = one_fault(w, atoi(argv[2]), strtoul(argv[3], NULL, 0),
                              atoi(argv[4]) % ARRAY_SIZE(cases), atoi(argv[5]),
                              &hit, &totals);
        } else {
            wrong = all_cases(w, seed, full, &totals);
        }
        failures += !!wrong;
        printf("%sok %u - %s\n# %u runs, %u with an error for the guest; %u "
               "power cuts\n", wrong ? "not " : "", ++number, w->name,
               totals.runs, totals.told, totals.states);
        if (wrong) {
            tap_comment(current);
            tap_comment(wrong);
        }
        fflush(stdout);
    }
    printf("1..%u\n", number);
    bdrv_close_all();
    return failures || !number;
}
