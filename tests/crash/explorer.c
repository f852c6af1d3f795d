/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "util/osdep.h"
#include "explorer.h"
#include "failure.h"
#include "oracle.h"
#include "recovery.h"
#include "states.h"
#include "util/error.h"

/* In a round, tried in an epoch: all states if there are not more than this,
 * else so many random ones after the simple ones. */
#define EPOCH_EXHAUSTIVE 96
#define EPOCH_SAMPLES 48
#define GO_ON_EVERY 8
#define RECOVER_EVERY 5
/* Rounds without a state that was not seen before: there are no more. */
#define MAX_DULL_ROUNDS 20

typedef struct Explorer {
    const Workload *w;
    const ExplorerLimits *limits;
    ExplorerResult *r;
    GHashTable *seen;       /* hashes of all states of the workload */
    /* Of content and legal contents: what has been judged in this round. */
    GHashTable *judged;
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
    return x->r->failure || x->r->distinct >= x->limits->states ||
           (x->limits->deadline &&
            g_get_monotonic_time() > x->limits->deadline);
}

/* What one state in several is put through besides. */
static char *judge_further(Explorer *x, Run *run, const uint8_t *data,
                           int64_t size)
{
    ExplorerResult *r = x->r;
    bool dirty = crash_disk_is_dirty(data, size);
    GRand *rand;
    char *wrong;

    if (dirty && r->judged % RECOVER_EVERY == 0) {
        rand = g_rand_new_with_seed(run->seed + r->judged);
        wrong = recovery_judge(run, data, size, rand, &r->recoveries);
        g_rand_free(rand);
        return wrong;
    }
    if (!dirty && !run->w->repair && x->limits->oracle && r->judged % x->limits->oracle_every == 0) {
        r->second_opinions++;
        return oracle_check(x->limits->oracle, data, size);
    }
    return NULL;
}

static void try_state(Explorer *x, Run *run, const Epoch *epoch,
                      const CrashState *s)
{
    uint64_t hash = crash_state_hash(epoch, s);
    g_autofree uint8_t *data = NULL;
    g_autofree char *wrong = NULL;
    int64_t size;

    x->r->tried++;
    x->r->distinct += add_hash(x->seen, hash);
    /* The same bytes may be legal before a guest's flush and not after it. */
    if (!add_hash(x->judged, hash + run->guest->generation *
                             0x9e3779b97f4a7c15ULL)) {
        return;
    }
    x->r->judge.go_on = x->r->judged++ % GO_ON_EVERY == 0;
    data = crash_state_build(epoch, s, &size);
    crash_disk_load(run->disk, data, size);
    wrong = judge_image(&x->r->judge, run);
    if (!wrong) {
        x->r->failure = judge_further(x, run, data, size);
    } else {
        x->r->failure = failure_report(run, epoch, s, x->r->judge.go_on,
                                       x->limits->save);
    }
}

static void try_epoch(Explorer *x, Run *run, const Epoch *epoch, GRand *rand)
{
    CrashState *s = crash_state_new(epoch);
    uint64_t limit = EPOCH_EXHAUSTIVE;

    x->r->epochs++;
    if (epoch->combinations > EPOCH_EXHAUSTIVE) {
        limit = EPOCH_SAMPLES + 3 * ((uint64_t)epoch->ops->len + 1);
    } else {
        x->r->exhausted++;
    }
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
    x->r->rounds++;
    g_hash_table_unref(x->judged);
    epochs_free(epochs);
    run_free(run);
    g_rand_free(rand);
}

void explore(const Workload *w, const ExplorerLimits *limits,
             ExplorerResult *result)
{
    Explorer x = { .w = w, .limits = limits, .r = result };
    unsigned dull = 0;

    *result = (ExplorerResult) { 0 };
    x.seen = hash_set();
    for (unsigned i = 0; !finished(&x) && dull < MAX_DULL_ROUNDS; i++) {
        uint64_t before = result->distinct;
        Geometry g = workload_geometry(w, i + limits->seed % 1024);

        one_round(&x, &g, mix_seed(limits->seed, w->name, i));
        dull = result->distinct > before ? 0 : dull + 1;
    }
    g_hash_table_unref(x.seen);
}

/* --- TAP --- */

void tap_comment(const char *text)
{
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);

    for (int i = 0; lines[i]; i++) {
        printf("# %s\n", lines[i]);
    }
}

uint32_t tap_seed(void)
{
    const char *seed = getenv("SEED");
    char *end;
    uint32_t n;

    if (!seed || !*seed) {
        return g_random_int();
    }
    n = g_ascii_strtoull(seed, &end, 0);
    if (*end) {
        fprintf(stderr, "SEED is not a number: %s\n", seed);
        exit(2);
    }
    return n;
}
