/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Order of requests by guest cluster. */
#include "util/osdep.h"
#include "qcow2-fixture.h"
#include "util/aio.h"

#define CLUSTER_BITS 12
#define C(n) ((n) * 4096ULL)

/* A request of a script: runs until told to end. */
typedef struct Actor {
    Qcow2Inflight *in;
    uint64_t offset, bytes;
    bool exclusive;
    bool upgrade;           /* tried once it runs */
    bool granted;
    bool upgraded;
    bool ended;
    Coroutine *co;
    Qcow2Request req;
} Actor;

static void coroutine_fn actor_entry(void *opaque)
{
    Actor *a = opaque;

    qcow2_request_begin(a->in, &a->req, a->offset, a->bytes, a->exclusive);
    a->granted = true;
    a->co = qemu_coroutine_self();
    qemu_coroutine_yield();
    qcow2_request_end(a->in, &a->req);
    a->ended = true;
}

static void actor_start(Actor *a, Qcow2Inflight *in, uint64_t offset,
                        uint64_t bytes, bool exclusive)
{
    *a = (Actor) {
        .in = in, .offset = offset, .bytes = bytes, .exclusive = exclusive,
    };
    qemu_coroutine_enter(qemu_coroutine_create(actor_entry, a));
}

static void settle(void)
{
    while (aio_poll(qemu_get_aio_context(), false)) {
        /* everything that is ready */
    }
}

static void actor_end(Actor *a)
{
    g_assert_true(a->granted);
    qemu_coroutine_enter(a->co);
    g_assert_true(a->ended);
    settle();
}

/* Shared requests overlap freely; so do exclusive ones of other clusters. */
static void test_parallel(void)
{
    Qcow2Inflight in;
    Actor a[4];

    qcow2_inflight_init(&in, CLUSTER_BITS);
    actor_start(&a[0], &in, 0, C(4), false);
    actor_start(&a[1], &in, C(2), C(4), false);
    actor_start(&a[2], &in, C(6), C(1), true);
    actor_start(&a[3], &in, C(7), 512, true);
    for (int i = 0; i < 4; i++) {
        g_assert_true(a[i].granted);
    }
    for (int i = 0; i < 4; i++) {
        actor_end(&a[i]);
    }
    qcow2_inflight_destroy(&in);
}

/* Two requests that share no byte but a cluster are ordered. */
static void test_same_cluster(void)
{
    Qcow2Inflight in;
    Actor w, r;

    qcow2_inflight_init(&in, CLUSTER_BITS);
    actor_start(&w, &in, 0, 512, true);
    actor_start(&r, &in, 1024, 512, false);
    g_assert_false(r.granted);
    actor_end(&w);
    g_assert_true(r.granted);
    actor_end(&r);
    qcow2_inflight_destroy(&in);
}

/* A reader that comes after a waiting writer does not overtake it. */
static void test_fifo(void)
{
    Qcow2Inflight in;
    Actor r1, w, r2, other;

    qcow2_inflight_init(&in, CLUSTER_BITS);
    actor_start(&r1, &in, 0, C(1), false);
    actor_start(&w, &in, 0, C(3), true);
    actor_start(&r2, &in, C(2), C(1), false);
    actor_start(&other, &in, C(3), C(1), false);
    g_assert_false(w.granted);
    g_assert_false(r2.granted);
    g_assert_true(other.granted);
    actor_end(&r1);
    g_assert_true(w.granted);
    g_assert_false(r2.granted);
    actor_end(&w);
    g_assert_true(r2.granted);
    actor_end(&r2);
    actor_end(&other);
    qcow2_inflight_destroy(&in);
}

/* Alone, or with requests that still wait, a request can become exclusive. */
static void test_upgrade(void)
{
    Qcow2Inflight in;
    Actor w, r, later;

    qcow2_inflight_init(&in, CLUSTER_BITS);
    actor_start(&w, &in, 0, C(4), false);
    actor_start(&r, &in, C(3), C(1), false);
    /* The reader is in the way only where it is. */
    g_assert_false(qcow2_request_try_upgrade(&in, &w.req, 0, C(4)));
    g_assert_false(w.req.exclusive);
    actor_start(&later, &in, C(0), C(4), true);
    g_assert_false(later.granted);
    g_assert_true(qcow2_request_try_upgrade(&in, &w.req, 0, C(2)));
    g_assert_true(w.req.exclusive);
    settle();
    g_assert_false(later.granted);
    actor_end(&r);
    g_assert_false(later.granted);
    actor_end(&w);
    g_assert_true(later.granted);
    actor_end(&later);
    qcow2_inflight_destroy(&in);
}

/* Giving up a part lets those in that waited only for it. */
static void test_narrow(void)
{
    Qcow2Inflight in;
    Actor w, r1, r2;

    qcow2_inflight_init(&in, CLUSTER_BITS);
    actor_start(&w, &in, 0, C(8), true);
    actor_start(&r1, &in, C(6), C(1), false);
    actor_start(&r2, &in, C(1), C(1), false);
    qcow2_request_narrow(&in, &w.req, 0, C(2));
    settle();
    g_assert_true(r1.granted);
    g_assert_false(r2.granted);
    actor_end(&w);
    g_assert_true(r2.granted);
    actor_end(&r1);
    actor_end(&r2);
    qcow2_inflight_destroy(&in);
}

/* --- random requests: nobody ever holds what somebody holds exclusively --- */

#define STRESS_CLUSTERS 16
#define STRESS_WORKERS 40

typedef struct Stress {
    Qcow2Inflight in;
    GRand *rand;
    int shared[STRESS_CLUSTERS];
    int exclusive[STRESS_CLUSTERS];
    int running;
} Stress;

static void stress_hold(Stress *s, const Qcow2Request *req, int delta)
{
    for (uint64_t c = req->start / 4096; c < req->end / 4096; c++) {
        if (req->exclusive) {
            s->exclusive[c] += delta;
        } else {
            s->shared[c] += delta;
        }
        g_assert_cmpint(s->exclusive[c], <=, 1);
        g_assert_true(!s->exclusive[c] || !s->shared[c]);
    }
}

static void coroutine_fn stress_entry(void *opaque)
{
    Stress *s = opaque;

    for (int i = 0; i < 200; i++) {
        uint64_t first = g_rand_int_range(s->rand, 0, STRESS_CLUSTERS);
        uint64_t n = g_rand_int_range(s->rand, 1,
                                      STRESS_CLUSTERS - first + 1);
        Qcow2Request req;

        qcow2_request_begin(&s->in, &req, C(first), C(n),
                            g_rand_boolean(s->rand));
        stress_hold(s, &req, 1);
        if (g_rand_boolean(s->rand)) {
            qemu_co_yield_to_loop();
        }
        stress_hold(s, &req, -1);
        if (!req.exclusive) {
            qcow2_request_try_upgrade(&s->in, &req, C(first), C(1));
        } else if (g_rand_boolean(s->rand)) {
            qcow2_request_narrow(&s->in, &req, C(first), C((n + 1) / 2));
        }
        stress_hold(s, &req, 1);
        qemu_co_yield_to_loop();
        stress_hold(s, &req, -1);
        qcow2_request_end(&s->in, &req);
    }
    s->running--;
}

static void test_stress(void)
{
    Stress s = { .running = STRESS_WORKERS };

    s.rand = g_rand_new_with_seed(g_test_rand_int());
    qcow2_inflight_init(&s.in, CLUSTER_BITS);
    for (int i = 0; i < STRESS_WORKERS; i++) {
        qemu_coroutine_enter(qemu_coroutine_create(stress_entry, &s));
    }
    while (s.running) {
        aio_poll(qemu_get_aio_context(), true);
    }
    qcow2_inflight_destroy(&s.in);
    g_rand_free(s.rand);
}

int main(int argc, char **argv)
{
    qcow2_test_init(&argc, &argv);
    g_test_add_func("/qcow2/inflight/parallel", test_parallel);
    g_test_add_func("/qcow2/inflight/same-cluster", test_same_cluster);
    g_test_add_func("/qcow2/inflight/fifo", test_fifo);
    g_test_add_func("/qcow2/inflight/upgrade", test_upgrade);
    g_test_add_func("/qcow2/inflight/narrow", test_narrow);
    g_test_add_func("/qcow2/inflight/stress", test_stress);
    return g_test_run();
}
