/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "util/osdep.h"
#include "util/coroutine-int.h"
#include "util/timer.h"
#include "arena.h"
#include "exhaustive.h"
#include "rng.h"
#include "scheduler.h"
#include "small-disk.h"

#define MAX_OPS 4
#define MAX_DEPTH 4096
#define MAX_COROUTINES 64

/* ----------------------------------------------------------- known states */

/* How many interleavings follow from a state; open addressing. */
typedef struct Known {
    uint64_t hash;      /* 0: free */
    double paths;
} Known;

static struct {
    Known *slots;
    size_t size, n;
} known OUTSIDE_STATE;

static Known *known_slot(uint64_t hash)
{
    size_t i = hash & (known.size - 1);

    while (known.slots[i].hash && known.slots[i].hash != hash) {
        i = (i + 1) & (known.size - 1);
    }
    return &known.slots[i];
}

static void known_grow(void)
{
    Known *old = known.slots;
    size_t old_size = known.size;

    known.size = MAX(4096, old_size * 2);
    known.slots = g_new0(Known, known.size);
    for (size_t i = 0; i < old_size; i++) {
        if (old[i].hash) {
            *known_slot(old[i].hash) = old[i];
        }
    }
    g_free(old);
}

static void known_add(uint64_t hash, double paths)
{
    Known *k;

    if (known.n * 2 >= known.size) {
        known_grow();
    }
    k = known_slot(hash);
    known.n += !k->hash;
    *k = (Known) { hash, paths };
}

static void known_clear(void)
{
    memset(known.slots, 0, known.size * sizeof(*known.slots));
    known.n = 0;
}

/* ------------------------------------------------------------ coroutines */

/* All that were made since the start of the path, and for whom. */
static struct {
    Coroutine *co;
    int owner;
} made[MAX_COROUTINES] OUTSIDE_STATE;
static unsigned nr_made OUTSIDE_STATE;

Coroutine *__real_qemu_coroutine_create(CoroutineEntry *entry, void *opaque);
Coroutine *__wrap_qemu_coroutine_create(CoroutineEntry *entry, void *opaque);
int64_t __real_qemu_clock_get_ns(QEMUClockType type);
int64_t __wrap_qemu_clock_get_ns(QEMUClockType type);

Coroutine *__wrap_qemu_coroutine_create(CoroutineEntry *entry, void *opaque)
{
    Coroutine *co = __real_qemu_coroutine_create(entry, opaque);
    unsigned i = 0;

    while (i < nr_made && made[i].co != co) {
        i++;
    }
    assert(i < MAX_COROUTINES);
    made[i].co = co;
    made[i].owner = arena_owner();
    nr_made = MAX(nr_made, i + 1);
    return co;
}

/* Statistics of time are no part of the state. */
int64_t __wrap_qemu_clock_get_ns(QEMUClockType type)
{
    return arena_owner() < 0 ? __real_qemu_clock_get_ns(type) : 0;
}

static int owner_of(const Coroutine *co)
{
    for (unsigned i = 0; i < nr_made; i++) {
        if (made[i].co == co) {
            return made[i].owner;
        }
    }
    return 0;
}

static int by_address(const void *a, const void *b)
{
    const Coroutine *x = *(Coroutine *const *)a, *y = *(Coroutine *const *)b;

    return x < y ? -1 : x > y;
}

/* The next coroutines get the same stacks whatever happened before. */
static void sort_pool(void)
{
    CoroutineThread *t = qemu_coroutine_thread();
    Coroutine *all[256], *co;
    unsigned n = 0;

    while ((co = QSLIST_FIRST(&t->pool))) {
        QSLIST_REMOVE_HEAD(&t->pool, pool_next);
        assert(n < ARRAY_SIZE(all));
        all[n++] = co;
    }
    qsort(all, n, sizeof(all[0]), by_address);
    while (n--) {
        QSLIST_INSERT_HEAD(&t->pool, all[n], pool_next);
    }
}

static bool is_pooled(const Coroutine *co)
{
    const Coroutine *other;

    QSLIST_FOREACH(other, &qemu_coroutine_thread()->pool, pool_next) {
        if (other == co) {
            return true;
        }
    }
    return false;
}

/* ------------------------------------------------------------------ state */

#ifdef COROUTINE_SWITCH_ASM
#define CAN_MERGE arena_available
static uint64_t hash_stack(uint64_t h, const Coroutine *co)
{
    return hash_bytes(h, co->sp, (char *)(co + 1) - (char *)co->sp);
}
#else
#define CAN_MERGE false
static uint64_t hash_stack(uint64_t h, const Coroutine *co)
{
    return h;
}
#endif

static uint64_t state_hash(Oracle *oracle)
{
    g_autoptr(GByteArray) digest = g_byte_array_new();
    uint64_t h = arena_hash(), set = 0;

    for (unsigned i = 0; i < nr_made; i++) {
        if (!is_pooled(made[i].co)) {
            h = hash_bytes(h, &made[i].co, sizeof(made[i].co));
            h = hash_stack(h, made[i].co);
        }
    }
    /* In whatever order they were woken. */
    for (unsigned i = 0; i < sched_nr_runnable(); i++) {
        set += rng_mix((uintptr_t)sched_runnable(i));
    }
    h = hash_bytes(h, &set, sizeof(set));
    oracle_digest(oracle, digest);
    h = hash_bytes(h, digest->data, digest->len);
    return h ?: 1;
}

/* --------------------------------------------------------------- one path */

typedef struct Scenario {
    SmallState *state;
    const SmallOp *ops[MAX_OPS];
    unsigned n;
    bool after;
} Scenario;

/* A choice on the path that is being explored. */
typedef struct Node {
    uint64_t hash;
    unsigned n, cur;
    double paths;       /* that its finished branches stand for */
} Node;

static struct {
    const ExhaustiveOptions *o;
    ExhaustiveStats *stats;
    const Scenario *sc;
    Run run;
    Run at_begin;       /* what run is when a path begins */
    Node path[MAX_DEPTH];
    unsigned depth;     /* of path */
    Coroutine *roots[MAX_OPS];
    bool entered[MAX_OPS];
    char io[MAX_OPS][RUN_IO_BYTES] __attribute__((aligned(16)));
} x OUTSIDE_STATE;

static void *io_alloc(const Op *op)
{
    return memset(x.io[op->index], 0, RUN_IO_BYTES);
}

static void io_free(void *io)
{
}

/* The same operation with a lower number has not started either. */
static bool has_elder_twin(unsigned i)
{
    for (unsigned k = 0; k < i; k++) {
        if (x.sc->ops[k] == x.sc->ops[i] && !x.entered[k]) {
            return true;
        }
    }
    return false;
}

static int root_index(const Coroutine *co)
{
    for (unsigned i = 0; i < x.sc->n; i++) {
        if (x.roots[i] == co) {
            return i;
        }
    }
    return -1;
}

/* Numbers of the coroutines that are alternatives, in an order that does not
 * depend on who was woken first. */
static unsigned candidates(unsigned *out)
{
    unsigned n = 0;

    for (unsigned i = 0; i < sched_nr_runnable(); i++) {
        Coroutine *co = sched_runnable(i);
        int root = root_index(co);
        unsigned pos = n;

        if (root >= 0 && !x.entered[root] && has_elder_twin(root)) {
            continue;
        }
        while (pos > 0 && sched_runnable(out[pos - 1]) > co) {
            out[pos] = out[pos - 1];
            pos--;
        }
        out[pos] = i;
        n++;
    }
    return n;
}

static void run_candidate(unsigned i)
{
    Coroutine *co = sched_runnable(i);
    int root = root_index(co);

    if (root >= 0) {
        x.entered[root] = true;
    }
    arena_set_owner(owner_of(co));
    sched_run(i);
    arena_set_owner(-1);
    x.stats->steps++;
}

static void disk_begin(void)
{
    sort_pool();
    arena_set_owner(0);
    small_disk_begin(&x.run, x.sc->state, x.sc->after);
    arena_set_owner(-1);
    x.at_begin = x.run;
}

/* The disk as it was when the scenario began. */
static void path_begin(void)
{
    if (arena_available) {
        arena_restore();
        x.run = x.at_begin;
        small_disk_known(&x.run, x.sc->state);
    } else {
        disk_begin();
    }
    sort_pool();
    nr_made = 0;
    for (unsigned i = 0; i < x.sc->n; i++) {
        arena_set_owner(i + 1);
        small_disk_start(&x.run, x.sc->ops[i], i);
        x.roots[i] = sched_runnable(i);
        x.entered[i] = false;
    }
    arena_set_owner(-1);
}

/* Whatever is left in any order: the stacks are used again. */
static void path_abandon(void)
{
    arena_set_owner(0);
    run_quiesce(&x.run);
    if (!arena_available) {
        small_disk_drop(&x.run);
    }
    arena_set_owner(-1);
}

static void path_end(void)
{
    if (x.run.in_flight) {
        run_fail("deadlock: requests wait, and nothing can run");
    }
    arena_set_owner(0);
    small_disk_end(&x.run, x.sc->state, false);
    arena_set_owner(-1);
    if (arena_used()) {
        run_fail("%u blocks of memory are never freed", arena_used());
    }
    x.stats->interleavings++;
}

/* How many paths follow from the state of now, 0: not known. */
static double known_paths(uint64_t *hash)
{
    *hash = x.o->merge ? state_hash(x.run.oracle) : 0;
    return *hash && known_slot(*hash)->hash ? known_slot(*hash)->paths : 0;
}

/*
 * Follows the path, then first choices. Returns how many paths that is: 1, or
 * more if it met a known state.
 */
static double path_follow(void)
{
    unsigned order[SCHED_MAX_WIDTH], at = 0, n;
    uint64_t hash;
    double paths;

    while ((n = candidates(order))) {
        unsigned choice = 0;

        if (n > 1) {
            if (at == x.depth) {
                paths = known_paths(&hash);
                if (paths) {
                    return paths;
                }
                assert(x.depth < MAX_DEPTH);
                x.path[x.depth++] = (Node) { .hash = hash, .n = n };
                x.stats->states++;
            }
            if (x.path[at].n != n) {
                run_fail("the path is not repeated: %u choices instead of %u",
                         n, x.path[at].n);
            }
            choice = x.path[at++].cur;
        }
        run_candidate(order[choice]);
    }
    /* All requests have ended: is what they left known? */
    paths = known_paths(&hash);
    if (!paths && hash) {
        known_add(hash, 1);
    }
    return paths;
}

/* ------------------------------------------------------------ one scenario */

static char *scenario_name(const Scenario *sc)
{
    GString *s = g_string_new(sc->state->name);

    g_string_append_c(s, ':');
    for (unsigned i = 0; i < sc->n; i++) {
        g_string_append_printf(s, "%s%s", i ? "," : "", sc->ops[i]->name);
    }
    if (sc->after) {
        g_string_append(s, ":after");
    }
    return g_string_free(s, false);
}

static void on_death(void)
{
    g_autofree char *name = scenario_name(x.sc);

    fprintf(stderr, "scenario %s, choices ", name);
    for (unsigned i = 0; i < x.depth; i++) {
        fputc(sched_char(x.path[i].cur), stderr);
    }
    fputc('\n', stderr);
}

static void add_paths(double paths)
{
    if (x.depth) {
        x.path[x.depth - 1].paths += paths;
    } else {
        x.stats->covered += paths;
    }
}

/* The next path; false if that was the last. */
static bool backtrack(double paths)
{
    add_paths(paths);
    while (x.depth) {
        Node *node = &x.path[x.depth - 1];

        if (++node->cur < node->n) {
            return true;
        }
        if (node->hash) {
            known_add(node->hash, node->paths);
        }
        paths = node->paths;
        x.depth--;
        add_paths(paths);
    }
    return false;
}

static void explore(const Scenario *sc)
{
    uint64_t before = x.stats->states;
    double covered = x.stats->covered, paths;

    x.sc = sc;
    x.depth = 0;
    known_clear();
    if (arena_available) {
        disk_begin();
        arena_save();
    }
    do {
        path_begin();
        paths = path_follow();
        if (paths) {
            x.stats->merged++;
            path_abandon();
        } else {
            paths = 1;
            path_end();
        }
    } while (backtrack(paths));
    if (arena_available) {
        arena_restore();
        arena_set_owner(0);
        small_disk_drop(&x.at_begin);
        arena_set_owner(-1);
    }
    x.stats->scenarios++;
    if (x.o->verbose) {
        g_autofree char *name = scenario_name(sc);

        printf("# %s: %" PRIu64 " states, %.0f interleavings\n", name,
               x.stats->states - before, x.stats->covered - covered);
    }
}

/* ----------------------------------------------------------- all scenarios */

static bool wanted(const ExhaustiveOptions *o, uint64_t number)
{
    return number % o->shards == o->shard &&
           (o->sample <= 1 ||
            rng_mix(o->seed ^ rng_mix(number)) % o->sample == 0);
}

/* The next multiset of @n of @kinds: ascending indices. */
static bool next_multiset(unsigned *set, unsigned n, unsigned kinds)
{
    int i = n - 1;

    while (i >= 0 && set[i] == kinds - 1) {
        i--;
    }
    if (i < 0) {
        return false;
    }
    set[i]++;
    for (unsigned k = i + 1; k < n; k++) {
        set[k] = set[i];
    }
    return true;
}

/* The same with the clusters exchanged. */
static unsigned mirror(unsigned op)
{
    const char *name = small_ops[op].name;
    size_t len = strlen(name);
    char last = name[len - 1];

    for (unsigned i = 0; i < nr_small_ops && g_ascii_isdigit(last); i++) {
        if (i != op && strlen(small_ops[i].name) == len &&
            !strncmp(small_ops[i].name, name, len - 1)) {
            return i;
        }
    }
    return op;
}

static int by_number(const void *a, const void *b)
{
    return *(const unsigned *)a - *(const unsigned *)b;
}

/*
 * Sets of four are many: one of each pair that differ only in which cluster is
 * which; none with a write to both, which is a part of each; and with one read
 * at most, for reads do not notice each other.
 */
static bool is_representative(const unsigned *set, unsigned n)
{
    unsigned mirrored[MAX_OPS], reads = 0;

    if (n < MAX_OPS) {
        return true;
    }
    for (unsigned i = 0; i < n; i++) {
        mirrored[i] = mirror(set[i]);
        reads += small_ops[set[i]].type == OP_READ;
        if (!strcmp(small_ops[set[i]].name, "both")) {
            return false;
        }
    }
    if (reads > 1) {
        return false;
    }
    qsort(mirrored, n, sizeof(mirrored[0]), by_number);
    for (unsigned i = 0; i < n; i++) {
        if (set[i] != mirrored[i]) {
            return set[i] < mirrored[i];
        }
    }
    return true;
}

static void explore_all(const ExhaustiveOptions *o)
{
    gint64 start = g_get_monotonic_time();
    uint64_t number = 0;

    for (unsigned n = 1; n <= o->max_ops; n++) {
        unsigned set[MAX_OPS] = { 0 };

        do {
            for (unsigned k = 0; k < nr_small_states; k++) {
                Scenario sc = { .state = &small_states[k], .n = n };

                for (unsigned i = 0; i < n; i++) {
                    sc.ops[i] = &small_ops[set[i]];
                }
                if (!sc.state->named_only && is_representative(set, n) &&
                    wanted(o, number++)) {
                    explore(&sc);
                }
            }
            if (o->max_seconds &&
                g_get_monotonic_time() - start > o->max_seconds * 1e6) {
                return;
            }
        } while (next_multiset(set, n, nr_small_ops));
    }
}

static bool parse_scenario(const char *name, Scenario *sc)
{
    const char *p = strchr(name, ':');

    *sc = (Scenario) { 0 };
    sc->state = p ? small_state_by_name(name, p - name) : NULL;
    while (sc->state && *p && strcmp(p, ":after")) {
        size_t len = strcspn(++p, ",:");

        sc->ops[sc->n] = small_op_by_name(p, len);
        if (!sc->ops[sc->n++] || sc->n > MAX_OPS) {
            return false;
        }
        p += len;
    }
    sc->after = p && *p;
    return sc->state && sc->n;
}

static void coroutine_fn nothing(void *opaque)
{
}

/* Enough stacks, so that none is mapped in the middle of a path. */
static void fill_pool(void)
{
    Coroutine *co[MAX_COROUTINES / 2];

    nr_made = 0;
    for (unsigned i = 0; i < ARRAY_SIZE(co); i++) {
        co[i] = qemu_coroutine_create(nothing, NULL);
    }
    for (unsigned i = 0; i < ARRAY_SIZE(co); i++) {
        qemu_coroutine_enter(co[i]);
    }
    nr_made = 0;
}

/* Whatever is made once in a process is made now. */
static void warm_up(void)
{
    Scenario sc = { .state = &small_states[4], .n = MAX_OPS };

    sc.ops[0] = small_op_by_name("read", 4);
    sc.ops[1] = small_op_by_name("compressed0", 11);
    sc.ops[2] = small_op_by_name("flush", 5);
    sc.ops[3] = small_op_by_name("part1", 5);
    x.sc = &sc;
    x.depth = 0;
    fill_pool();
    small_disk_begin(&x.run, sc.state, true);
    for (unsigned i = 0; i < sc.n; i++) {
        small_disk_start(&x.run, sc.ops[i], i);
        x.roots[i] = sched_runnable(i);
        x.entered[i] = false;
    }
    run_quiesce(&x.run);
    small_disk_end(&x.run, sc.state, true);
}

void exhaustive_run(const ExhaustiveOptions *options, ExhaustiveStats *stats)
{
    ExhaustiveOptions o = *options;
    SchedRandom pick = { .rng = 1 };
    Scenario one;

    o.merge = o.merge && CAN_MERGE;
    x.o = &o;
    x.stats = stats;
    x.run.io_alloc = io_alloc;
    x.run.io_free = io_free;
    known_grow();
    small_disk_prepare();
    sched_record(NULL, 0, NULL);
    sched_yield_after_work = false;
    sched_start(sched_pick_random, &pick);
    warm_up();
    *stats = (ExhaustiveStats) { 0 };
    run_at_failure = on_death;
    if (o.only) {
        if (!parse_scenario(o.only, &one)) {
            run_fail("no such scenario: %s", o.only);
        }
        explore(&one);
    } else {
        explore_all(&o);
    }
    run_at_failure = NULL;
    sched_stop();
    oracle_free(x.run.oracle);
    x.run.oracle = NULL;
    g_free(known.slots);
    known.slots = NULL;
    known.size = 0;
}
