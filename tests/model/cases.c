/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "util/osdep.h"
#include "block/qcow2/qcow2.h"
#include "cases.h"
#include "scheduler.h"
#include "small-disk.h"

/* Interleavings of each case. */
#define TRIES 3000

const NamedCase named_cases[] = {
    /*
     * The write goes in place into the cluster below the zeroes; the discard
     * takes that cluster away; somebody else gets it. QEMU leaves a cluster
     * that two guest offsets refer to (tests/interop/zero-cluster-race.py).
     */
    { "write/discard race on a zero cluster that keeps its allocation",
      "zero-alloc-one", { "full0", "discard0", "full1", "read" } },
    { "write/unmap race on a zero cluster that keeps its allocation",
      "zero-alloc-one", { "part0", "unmap0", "full1", "read" } },
    { "write/discard race on a data cluster",
      "data-one", { "part0", "discard0", "flush", "full1", "read" } },
    { "a cluster goes to somebody else while it is read",
      "data-one", { "read", "discard0", "flush", "full1" } },
    { "a compressed cluster goes to somebody else while it is read",
      "compressed-one", { "read", "discard0", "flush", "full1" } },
    { "two writes allocate one cluster",
      "unallocated", { "part0", "both", "read" } },
};
const unsigned nr_named_cases = ARRAY_SIZE(named_cases);

/* -------------------------------------------------------- a broken driver */

bool order_is_broken;

void coroutine_fn __real_qcow2_request_begin(Qcow2Inflight *in,
                                             Qcow2Request *req,
                                             uint64_t offset, uint64_t bytes,
                                             bool exclusive);
bool __real_qcow2_request_try_upgrade(Qcow2Inflight *in, Qcow2Request *req,
                                      uint64_t offset, uint64_t bytes);
void coroutine_fn __wrap_qcow2_request_begin(Qcow2Inflight *in,
                                             Qcow2Request *req,
                                             uint64_t offset, uint64_t bytes,
                                             bool exclusive);
bool __wrap_qcow2_request_try_upgrade(Qcow2Inflight *in, Qcow2Request *req,
                                      uint64_t offset, uint64_t bytes);

void coroutine_fn __wrap_qcow2_request_begin(Qcow2Inflight *in,
                                             Qcow2Request *req,
                                             uint64_t offset, uint64_t bytes,
                                             bool exclusive)
{
    /* Shared ones are in nobody's way. */
    __real_qcow2_request_begin(in, req, offset, bytes,
                               exclusive && !order_is_broken);
}

bool __wrap_qcow2_request_try_upgrade(Qcow2Inflight *in, Qcow2Request *req,
                                      uint64_t offset, uint64_t bytes)
{
    return order_is_broken ||
           __real_qcow2_request_try_upgrade(in, req, offset, bytes);
}

/* ----------------------------------------------------------------- choices */

#define MAX_KNOWN 64
/* The coroutine whose turn it is steps back at about one choice in so many. */
#define STEP_BACK 12

/*
 * Coroutines in an order of their own that changes seldom: one runs as far as
 * it gets while another stands still for long. Choices that are independent of
 * each other nearly never do that.
 */
typedef struct Ranked {
    Rng rng;
    Coroutine *known[MAX_KNOWN];
    uint64_t rank[MAX_KNOWN];
    unsigned n;
} Ranked;

static uint64_t *rank_of(Ranked *r, Coroutine *co)
{
    for (unsigned i = 0; i < r->n; i++) {
        if (r->known[i] == co) {
            return &r->rank[i];
        }
    }
    assert(r->n < MAX_KNOWN);
    r->known[r->n] = co;
    r->rank[r->n] = rng_next(&r->rng);
    return &r->rank[r->n++];
}

static unsigned pick_ranked(void *opaque, unsigned n)
{
    Ranked *r = opaque;
    unsigned best = 0;

    for (unsigned i = 1; i < n; i++) {
        if (*rank_of(r, sched_runnable(i)) >
            *rank_of(r, sched_runnable(best))) {
            best = i;
        }
    }
    if (rng_below(&r->rng, STEP_BACK) == 0) {
        *rank_of(r, sched_runnable(best)) = rng_next(&r->rng);
    }
    return best;
}

/* ------------------------------------------------------------------- cases */

static const NamedCase *current;
static unsigned current_try;

static void say_which(void)
{
    fprintf(stderr, "in interleaving %u of: %s\n", current_try, current->name);
}

static void one_try(const NamedCase *c, Run *run, const SmallState *s)
{
    uint64_t seed = rng_mix(current_try + 1);
    SchedRandom random = { .rng = seed };
    Ranked ranked = { .rng = { seed } };

    if (current_try & 2) {
        sched_start(sched_pick_random, &random);
    } else {
        sched_start(pick_ranked, &ranked);
    }
    small_disk_begin(run, s, current_try & 1);
    for (unsigned i = 0; i < CASE_MAX_OPS && c->ops[i]; i++) {
        const SmallOp *op = small_op_by_name(c->ops[i], strlen(c->ops[i]));

        assert(op);
        small_disk_start(run, op, i);
    }
    run_quiesce(run);
    small_disk_end(run, s, true);
    sched_stop();
}

void named_case_run(const NamedCase *c, bool verbose)
{
    SmallState *s = small_state_by_name(c->state, strlen(c->state));
    Run run = { .verbose = verbose };

    assert(s);
    current = c;
    run_at_failure = say_which;
    small_disk_prepare();
    for (current_try = 0; current_try < TRIES; current_try++) {
        one_try(c, &run, s);
    }
    run_at_failure = NULL;
    oracle_free(run.oracle);
}
