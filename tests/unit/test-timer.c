/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Clocks, timers, sleeps and the rate limit, mostly on the virtual clock. */
#include "util/osdep.h"
#include <sched.h>
#include "util/aio.h"
#include "util/error.h"
#include "util/iothread.h"
#include "util/ratelimit.h"
#include "util/timer.h"

#define MS ((int64_t)SCALE_MS)

static AioContext *ctx;
static GString *events;

static int64_t now(void)
{
    return qemu_clock_get_ns(QEMU_CLOCK_VIRTUAL);
}

static void run_loop(void)
{
    while (aio_poll(ctx, false)) {
        continue;
    }
}

typedef struct Tick {
    QEMUTimer *timer;
    char name;
    int64_t fired_at;
    int64_t again_ns; /* sets itself again so much later */
    int left;
} Tick;

static void tick(void *opaque)
{
    Tick *t = opaque;

    g_string_append_c(events, t->name);
    t->fired_at = now();
    if (t->left > 0) {
        t->left--;
        timer_mod_ns(t->timer, now() + t->again_ns);
    }
}

static Tick new_tick(char name)
{
    return (Tick){ .name = name };
}

static void start_tick(Tick *t)
{
    t->timer = aio_timer_new(ctx, QEMU_CLOCK_VIRTUAL, SCALE_MS, tick, t);
}

static void test_states(void)
{
    Tick t = new_tick('t');
    int64_t start = now();

    start_tick(&t);
    g_assert_false(timer_pending(t.timer));
    g_assert_cmpint(timer_expire_time_ns(t.timer), ==, -1);
    timer_mod_ns(t.timer, start + 10);
    g_assert_true(timer_pending(t.timer));
    g_assert_cmpint(timer_expire_time_ns(t.timer), ==, start + 10);
    g_assert_false(timer_expired(t.timer, start + 9));
    g_assert_true(timer_expired(t.timer, start + 10));
    timer_mod_anticipate_ns(t.timer, start + 20);
    g_assert_cmpint(timer_expire_time_ns(t.timer), ==, start + 10);
    timer_mod_anticipate_ns(t.timer, start + 5);
    g_assert_cmpint(timer_expire_time_ns(t.timer), ==, start + 5);
    timer_mod(t.timer, start / MS + 7);
    g_assert_cmpint(timer_expire_time_ns(t.timer), ==, (start / MS + 7) * MS);
    timer_del(t.timer);
    g_assert_false(timer_pending(t.timer));
    timer_del(t.timer);
    qemu_clock_virtual_step(20 * MS);
    run_loop();
    g_assert_cmpint(t.fired_at, ==, 0);
    timer_free(t.timer);
    timer_free(NULL);
}

static void test_order(void)
{
    Tick t[5];
    int64_t start = now();
    static const int64_t at[] = { 30, 10, 20, 10, 40 };

    g_string_truncate(events, 0);
    for (int i = 0; i < 5; i++) {
        t[i] = new_tick('a' + i);
        start_tick(&t[i]);
        timer_mod_ns(t[i].timer, start + at[i]);
    }
    qemu_clock_virtual_step(9);
    g_assert_cmpstr(events->str, ==, "");
    /* Equal times in the order they were set, each at its own time. */
    qemu_clock_virtual_step(30);
    g_assert_cmpstr(events->str, ==, "bdca");
    for (int i = 0; i < 4; i++) {
        g_assert_cmpint(t[i].fired_at, ==, start + at[i]);
    }
    qemu_clock_virtual_step(1);
    g_assert_cmpstr(events->str, ==, "bdcae");
    for (int i = 0; i < 5; i++) {
        timer_free(t[i].timer);
    }
}

static void test_periodic(void)
{
    Tick t = new_tick('p');
    int64_t start = now();

    start_tick(&t);
    t.again_ns = 10;
    t.left = 99;
    timer_mod_ns(t.timer, start + 10);
    g_string_truncate(events, 0);
    qemu_clock_virtual_step(500);
    g_assert_cmpuint(events->len, ==, 50);
    qemu_clock_virtual_step(5000);
    g_assert_cmpuint(events->len, ==, 100);
    g_assert_cmpint(t.fired_at, ==, start + 1000);
    timer_free(t.timer);
}

/* One that wants to fire in the past for ever lets others have their turn. */
static void test_past(void)
{
    Tick greedy = new_tick('g'), other = new_tick('o');

    start_tick(&greedy);
    start_tick(&other);
    greedy.again_ns = -1000;
    greedy.left = 1000;
    g_string_truncate(events, 0);
    timer_mod_ns(greedy.timer, 0);
    timer_mod_ns(other.timer, now());
    for (int i = 0; i < 10; i++) {
        aio_poll(ctx, false);
    }
    g_assert_nonnull(strchr(events->str, 'o'));
    g_assert_cmpuint(events->len, <, 100);
    timer_free(greedy.timer);
    timer_free(other.timer);
}

/* Against a plain model: the earliest of an array. */
static void test_random(void)
{
    enum { N = 200 };
    g_autofree Tick *t = g_new0(Tick, N);
    int64_t at[N];
    int64_t start = now();

    for (int i = 0; i < N; i++) {
        start_tick(&t[i]);
        at[i] = -1;
    }
    for (int i = 0; i < 20000; i++) {
        int k = g_test_rand_int_range(0, N);

        if (g_test_rand_int_range(0, 4) == 0) {
            timer_del(t[k].timer);
            at[k] = -1;
        } else {
            at[k] = start + g_test_rand_int_range(1, 1000000);
            timer_mod_ns(t[k].timer, at[k]);
        }
    }
    for (int64_t step = 0; step < 1000; step++) {
        qemu_clock_virtual_step(1000);
        for (int i = 0; i < N; i++) {
            bool due = at[i] >= 0 && at[i] <= now();

            g_assert_cmpint(t[i].fired_at, ==, due ? at[i] : 0);
            g_assert_cmpint(timer_pending(t[i].timer), ==,
                            at[i] >= 0 && !due);
        }
    }
    for (int i = 0; i < N; i++) {
        timer_free(t[i].timer);
    }
}

static void test_realtime(void)
{
    Tick t = new_tick('r');
    QEMUTimer *timer =
        aio_timer_new(ctx, QEMU_CLOCK_REALTIME, SCALE_MS, tick, &t);
    int64_t start = get_clock();

    g_string_truncate(events, 0);
    timer_mod(timer, qemu_clock_get_ms(QEMU_CLOCK_REALTIME) + 20);
    while (!events->len) {
        aio_poll(ctx, true);
    }
    g_assert_cmpint(get_clock() - start, >=, 19 * MS);
    g_assert_cmpint(get_clock() - start, <, 10000 * MS);

    timer_free(timer);
    timer = aio_timer_new(ctx, QEMU_CLOCK_HOST, SCALE_NS, tick, &t);
    timer_mod_ns(timer, qemu_clock_get_ns(QEMU_CLOCK_HOST) + MS);
    while (events->len < 2) {
        aio_poll(ctx, true);
    }
    timer_free(timer);
}

/* Another thread sets and cancels a timer of a loop that sleeps. */
static void *set_from_thread(void *opaque)
{
    Tick *t = opaque;

    for (int i = 0; i < 1000; i++) {
        timer_mod_ns(t->timer, get_clock() + 3600 * NANOSECONDS_PER_SECOND);
        timer_del(t->timer);
    }
    timer_mod_ns(t->timer, get_clock() + MS);
    return NULL;
}

static void test_other_thread(void)
{
    Tick t = new_tick('x');
    QemuThread thread;

    g_string_truncate(events, 0);
    t.timer = aio_timer_new(ctx, QEMU_CLOCK_REALTIME, SCALE_NS, tick, &t);
    timer_mod_ns(t.timer, get_clock() + 3600 * NANOSECONDS_PER_SECOND);
    qemu_thread_create(&thread, "timer", set_from_thread, &t,
                       QEMU_THREAD_JOINABLE);
    while (!events->len) {
        aio_poll(ctx, true);
    }
    qemu_thread_join(&thread);
    timer_free(t.timer);
}

/* ------------------------------------------------------------------ sleeps */

typedef struct Sleeper {
    QemuCoSleep w;
    int64_t ns;
    int64_t woke_at;
    unsigned *left; /* atomic */
} Sleeper;

static void coroutine_fn sleeper(void *opaque)
{
    Sleeper *s = opaque;

    if (s->ns < 0) {
        qemu_co_sleep(&s->w);
    } else {
        qemu_co_sleep_ns_wakeable(&s->w, QEMU_CLOCK_VIRTUAL, s->ns);
    }
    s->woke_at = now();
    if (s->left) {
        qatomic_dec(s->left);
        aio_wait_kick();
    }
}

static void test_sleep(void)
{
    Sleeper s[3] = { { .ns = 100 }, { .ns = 1000 }, { .ns = -1 } };
    int64_t start = now();

    for (int i = 0; i < 3; i++) {
        qemu_co_sleep_wake(&s[i].w); /* nobody there: not remembered */
        qemu_coroutine_enter(qemu_coroutine_create(sleeper, &s[i]));
    }
    qemu_clock_virtual_step(99);
    run_loop();
    g_assert_cmpint(s[0].woke_at, ==, 0);
    qemu_clock_virtual_step(1);
    run_loop();
    g_assert_cmpint(s[0].woke_at, ==, start + 100);
    for (int i = 1; i < 3; i++) {
        g_assert_cmpint(s[i].woke_at, ==, 0);
        qemu_co_sleep_wake(&s[i].w);
        qemu_co_sleep_wake(&s[i].w);
        run_loop();
        g_assert_cmpint(s[i].woke_at, ==, start + 100);
    }
    qemu_clock_virtual_step(2000);
    run_loop();
}

static void coroutine_fn real_sleeper(void *opaque)
{
    int64_t start = get_clock();

    qemu_co_sleep_ns(QEMU_CLOCK_REALTIME, 0);
    qemu_co_sleep_ns(QEMU_CLOCK_REALTIME, 5 * MS);
    g_assert_cmpint(get_clock() - start, >=, 5 * MS);
    *(bool *)opaque = true;
}

static void test_sleep_realtime(void)
{
    bool done = false;

    qemu_coroutine_enter(qemu_coroutine_create(real_sleeper, &done));
    AIO_WAIT_WHILE(NULL, !done);
}

/* The clock of the tests moves sleepers of other threads as well. */
static void test_sleep_iothread(void)
{
    g_autoptr(IOThread) t = iothread_new("sleep", &error_abort);
    unsigned left = 50;
    Sleeper s[50];

    for (int i = 0; i < 50; i++) {
        s[i] = (Sleeper){ .ns = 1000 * (i + 1), .left = &left };
        aio_co_schedule(iothread_get_aio_context(t),
                        qemu_coroutine_create(sleeper, &s[i]));
    }
    while (qatomic_load_acquire(&left) > 0) {
        qemu_clock_virtual_step(10000);
        sched_yield();
    }
}

/* Timer and a thread race to end a sleep: one of them does, once. */
typedef struct Race {
    QemuCoSleep w;
    bool done; /* atomic */
} Race;

static void *wake_from_thread(void *opaque)
{
    Race *r = opaque;

    while (!qatomic_load_acquire(&r->done)) {
        qemu_co_sleep_wake(&r->w);
    }
    return NULL;
}

static void coroutine_fn race_co(void *opaque)
{
    Race *r = opaque;

    for (int i = 0; i < 2000; i++) {
        qemu_co_sleep_ns_wakeable(&r->w, QEMU_CLOCK_REALTIME, 1 + i % 20);
    }
    qatomic_store_release(&r->done, true);
}

static void test_sleep_race(void)
{
    Race r = { .done = false };
    QemuThread thread;

    qemu_thread_create(&thread, "wake", wake_from_thread, &r,
                       QEMU_THREAD_JOINABLE);
    qemu_coroutine_enter(qemu_coroutine_create(race_co, &r));
    AIO_WAIT_WHILE(NULL, !qatomic_load_acquire(&r.done));
    qemu_thread_join(&thread);
}

/* -------------------------------------------------------------- rate limit */

/* Asks until there is a delay; then waits for it. Returns the units done. */
static uint64_t run_limited(RateLimit *rl, uint64_t unit, int64_t ns)
{
    int64_t end = now() + ns;
    uint64_t done = 0;

    while (now() < end) {
        int64_t delay = ratelimit_calculate_delay(rl, unit);

        done += unit;
        g_assert_cmpint(delay, >=, 0);
        qemu_clock_virtual_step(MAX(delay, 1000));
    }
    return done;
}

static void test_ratelimit(void)
{
    RateLimit rl;
    const int64_t s = NANOSECONDS_PER_SECOND;

    ratelimit_init_clock(&rl, QEMU_CLOCK_VIRTUAL);
    for (int i = 0; i < 10; i++) {
        g_assert_cmpint(ratelimit_calculate_delay(&rl, UINT64_MAX), ==, 0);
    }
    /* Units smaller and larger than a slice's quota of 100 KB. */
    ratelimit_set_speed(&rl, 1000000);
    for (uint64_t unit = 1000; unit <= 1000000; unit *= 10) {
        uint64_t done = run_limited(&rl, unit, 20 * s);

        g_assert_cmpuint(done, >=, 19 * 1000000);
        g_assert_cmpuint(done, <=, 21 * 1000000 + unit);
        qemu_clock_virtual_step(5 * s);
    }
    /* Slower than one unit a slice. */
    ratelimit_set_speed(&rl, 1);
    g_assert_cmpint(ratelimit_calculate_delay(&rl, 1), >, 0);
    qemu_clock_virtual_step(5 * s);
    g_assert_cmpint(ratelimit_calculate_delay(&rl, UINT64_MAX), >, 0);
    g_assert_cmpint(ratelimit_calculate_delay(&rl, UINT64_MAX), >, 0);
    ratelimit_destroy(&rl);
}

int main(int argc, char **argv)
{
    int ret;

    g_test_init(&argc, &argv, NULL);
    qemu_init_main_loop(&error_abort);
    ctx = qemu_get_aio_context();
    events = g_string_new("");

    g_assert_cmpint(now(), ==, 0);
    qemu_clock_virtual_step(5 * MS);
    g_assert_cmpint(now(), ==, 5 * MS);
    g_test_add_func("/timer/states", test_states);
    g_test_add_func("/timer/order", test_order);
    g_test_add_func("/timer/periodic", test_periodic);
    g_test_add_func("/timer/past", test_past);
    g_test_add_func("/timer/random", test_random);
    g_test_add_func("/timer/realtime", test_realtime);
    g_test_add_func("/timer/other-thread", test_other_thread);
    g_test_add_func("/timer/sleep/virtual", test_sleep);
    g_test_add_func("/timer/sleep/realtime", test_sleep_realtime);
    g_test_add_func("/timer/sleep/iothread", test_sleep_iothread);
    g_test_add_func("/timer/sleep/race", test_sleep_race);
    g_test_add_func("/timer/ratelimit", test_ratelimit);
    ret = g_test_run();
    g_string_free(events, true);
    aio_context_unref(ctx);
    return ret;
}
