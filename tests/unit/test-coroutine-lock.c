/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Locks of coroutines, in one thread (where the order of everything is known)
 * and between threads (where only the result is).
 */
#include "util/osdep.h"
#include "util/aio.h"
#include "util/error.h"
#include "util/iothread.h"
#include "util/lockable.h"
#include "util/ratelimit.h"

static AioContext *ctx;
static IOThread *iothread[2];

/* What happened, a letter each, in one thread. */
static GString *events;

static void say(char c)
{
    g_string_append_c(events, c);
}

static void coroutine_fn pause_co(int turns)
{
    while (turns-- > 0) {
        qemu_co_yield_to_loop();
    }
}

typedef struct Actor {
    CoroutineEntry *entry;
    void *lock;
    int name;
    unsigned *running; /* atomic */
    AioContext *ctx;
    unsigned rounds;
} Actor;

static void coroutine_fn actor_main(void *opaque)
{
    Actor *a = opaque;

    a->entry(a);
    qatomic_dec(a->running);
    aio_wait_kick();
}

/* Starts the actors in their order, and returns when all have ended. */
static void play(Actor *actors, int n)
{
    unsigned running = n;

    g_string_truncate(events, 0);
    for (int i = 0; i < n; i++) {
        actors[i].running = &running;
        aio_co_enter(actors[i].ctx ? actors[i].ctx : ctx,
                     qemu_coroutine_create(actor_main, &actors[i]));
    }
    AIO_WAIT_WHILE(NULL, qatomic_load_acquire(&running));
}

/* n actors that differ by their names, 'a' to ... */
static void play_same(CoroutineEntry *entry, void *lock, int n)
{
    Actor actors[26];

    for (int i = 0; i < n; i++) {
        actors[i] = (Actor){ entry, lock, i };
    }
    play(actors, n);
}

/* The same in both IOThreads and the main thread. */
static void play_threads(CoroutineEntry *entry, void *lock, int n,
                         unsigned rounds)
{
    Actor actors[30];
    AioContext *where[] = { iothread_get_aio_context(iothread[0]),
                            iothread_get_aio_context(iothread[1]), ctx };

    for (int i = 0; i < n; i++) {
        actors[i] = (Actor){ entry, lock, i, NULL, where[i % 3], rounds };
    }
    play(actors, n);
}

/* ------------------------------------------------------------------- mutex */

static void coroutine_fn mutex_actor(void *opaque)
{
    Actor *a = opaque;

    for (int i = 0; i < 3; i++) {
        qemu_co_mutex_lock(a->lock);
        qemu_co_mutex_assert_locked(a->lock);
        say('a' + a->name);
        pause_co(2);
        say('A' + a->name);
        qemu_co_mutex_unlock(a->lock);
    }
}

/* Nobody inside with another, and turns go round. */
static void test_mutex_fifo(void)
{
    CoMutex mutex;

    qemu_co_mutex_init(&mutex);
    play_same(mutex_actor, &mutex, 3);
    g_assert_cmpstr(events->str, ==, "aAbBcCaAbBcCaAbBcC");
}

static void coroutine_fn trylock_actor(void *opaque)
{
    Actor *a = opaque;

    if (qemu_co_mutex_trylock(a->lock)) {
        say('+');
        pause_co(3);
        qemu_co_mutex_unlock(a->lock);
    } else {
        say('-');
    }
}

static void test_mutex_trylock(void)
{
    CoMutex mutex;

    qemu_co_mutex_init(&mutex);
    play_same(trylock_actor, &mutex, 3);
    g_assert_cmpstr(events->str, ==, "+--");
    play_same(trylock_actor, &mutex, 1);
    g_assert_cmpstr(events->str, ==, "+");
}

/* Plain variables, so that a hole in the lock is a race for TSan too. */
typedef struct Shared {
    CoMutex mutex;
    unsigned counter;
    bool inside;
} Shared;

static void coroutine_fn contend_actor(void *opaque)
{
    Actor *a = opaque;
    Shared *s = a->lock;

    for (unsigned i = 0; i < a->rounds; i++) {
        QEMU_LOCK_GUARD(&s->mutex);
        g_assert_false(s->inside);
        s->inside = true;
        s->counter++;
        if (i % 64 == (unsigned)a->name % 64) {
            qemu_co_yield_to_loop();
        }
        s->inside = false;
    }
}

static void test_mutex_threads(void)
{
    Shared s = { .counter = 0 };
    int64_t start = get_clock();

    qemu_co_mutex_init(&s.mutex);
    play_threads(contend_actor, &s, 3, 20000);
    play_threads(contend_actor, &s, 30, 2000);
    g_assert_cmpuint(s.counter, ==, 3 * 20000 + 30 * 2000);
    g_test_message("contended lock: %.0f ns",
                   (get_clock() - start) / (double)s.counter);
}

static void coroutine_fn uncontended_actor(void *opaque)
{
    Actor *a = opaque;
    int64_t start = get_clock();

    for (unsigned i = 0; i < 1000000; i++) {
        qemu_co_mutex_lock(a->lock);
        qemu_co_mutex_unlock(a->lock);
    }
    g_test_message("free mutex, lock and unlock: %.1f ns",
                   (get_clock() - start) / 1e6);
}

static void test_mutex_cost(void)
{
    CoMutex mutex;

    qemu_co_mutex_init(&mutex);
    play_same(uncontended_actor, &mutex, 1);
}

/* ------------------------------------------------------------------ rwlock */

static void coroutine_fn reader(void *opaque)
{
    Actor *a = opaque;

    qemu_co_rwlock_rdlock(a->lock);
    say('r');
    pause_co(3);
    say('R');
    qemu_co_rwlock_unlock(a->lock);
}

static void coroutine_fn writer(void *opaque)
{
    Actor *a = opaque;

    qemu_co_rwlock_wrlock(a->lock);
    say('w');
    pause_co(3);
    say('W');
    qemu_co_rwlock_unlock(a->lock);
}

/* Comes when an upgrader waits or has the lock. */
static void coroutine_fn late_writer(void *opaque)
{
    pause_co(2);
    writer(opaque);
}

static void coroutine_fn upgrader(void *opaque)
{
    Actor *a = opaque;

    qemu_co_rwlock_rdlock(a->lock);
    say('r');
    pause_co(1);
    qemu_co_rwlock_upgrade(a->lock);
    say('u');
    pause_co(3);
    say('U');
    qemu_co_rwlock_unlock(a->lock);
}

static void coroutine_fn downgrader(void *opaque)
{
    Actor *a = opaque;

    qemu_co_rwlock_wrlock(a->lock);
    say('w');
    pause_co(3);
    qemu_co_rwlock_downgrade(a->lock);
    say('d');
    pause_co(3);
    say('D');
    qemu_co_rwlock_unlock(a->lock);
}

static void check_rw(const char *expected, CoroutineEntry *e0,
                     CoroutineEntry *e1, CoroutineEntry *e2,
                     CoroutineEntry *e3)
{
    CoRwlock lock;
    Actor actors[] = { { e0, &lock }, { e1, &lock }, { e2, &lock },
                       { e3, &lock } };

    qemu_co_rwlock_init(&lock);
    play(actors, e3 ? 4 : e2 ? 3 : 2);
    g_assert_cmpstr(events->str, ==, expected);
    qemu_co_rwlock_destroy(&lock);
}

static void test_rwlock_order(void)
{
    check_rw("rrRR", reader, reader, NULL, NULL);
    check_rw("wWwW", writer, writer, NULL, NULL);
    /* A reader does not overtake a waiting writer, nor a writer readers. */
    check_rw("rRwWrR", reader, writer, reader, NULL);
    check_rw("wWrrRRwW", writer, reader, reader, writer);
    check_rw("rrRRwWrR", reader, reader, writer, reader);
}

static void test_rwlock_upgrade(void)
{
    /* After the other readers; those that come later wait. */
    check_rw("rrRuU", upgrader, reader, NULL, NULL);
    check_rw("rrRuUwW", upgrader, reader, late_writer, NULL);
    /* Behind a writer that waits; two upgrades one after the other. */
    check_rw("rwWuU", upgrader, writer, NULL, NULL);
    check_rw("rruUuU", upgrader, upgrader, NULL, NULL);
    check_rw("ruUwW", upgrader, late_writer, NULL, NULL);
}

static void test_rwlock_downgrade(void)
{
    /* Readers at the head come in, those behind a writer do not. */
    check_rw("wdrDR", downgrader, reader, NULL, NULL);
    check_rw("wdDwW", downgrader, writer, NULL, NULL);
    check_rw("wdrDRwW", downgrader, reader, writer, NULL);
}

typedef struct SharedRw {
    CoRwlock lock;
    unsigned counter; /* plain */
    unsigned readers; /* atomic */
} SharedRw;

static void coroutine_fn rw_contend_actor(void *opaque)
{
    Actor *a = opaque;
    SharedRw *s = a->lock;

    for (unsigned i = 0; i < a->rounds; i++) {
        unsigned seen;

        if ((i + a->name) % 4 == 0) {
            qemu_co_rwlock_wrlock(&s->lock);
            g_assert_cmpuint(qatomic_read(&s->readers), ==, 0);
            s->counter++;
            if (i % 128 == 0) {
                qemu_co_yield_to_loop();
                qemu_co_rwlock_downgrade(&s->lock);
            }
            qemu_co_rwlock_unlock(&s->lock);
            continue;
        }
        qemu_co_rwlock_rdlock(&s->lock);
        qatomic_inc(&s->readers);
        seen = s->counter;
        if (i % 32 == 1) {
            qemu_co_yield_to_loop();
        }
        g_assert_cmpuint(s->counter, ==, seen);
        qatomic_dec(&s->readers);
        if (i % 256 == 1) {
            qemu_co_rwlock_upgrade(&s->lock);
            s->counter += 0;
        }
        qemu_co_rwlock_unlock(&s->lock);
    }
}

static void test_rwlock_threads(void)
{
    SharedRw s = { .counter = 0 };

    qemu_co_rwlock_init(&s.lock);
    play_threads(rw_contend_actor, &s, 3, 20000);
    play_threads(rw_contend_actor, &s, 24, 2000);
    g_assert_cmpuint(s.counter, ==, (3 * 20000 + 24 * 2000) / 4);
    qemu_co_rwlock_destroy(&s.lock);
}

/* ------------------------------------------------------------------- queue */

typedef struct Condition {
    QemuMutex mutex;
    CoMutex co_mutex;
    CoQueue queue;
    int tokens;
} Condition;

static void coroutine_fn cond_consumer(void *opaque)
{
    Actor *a = opaque;
    Condition *c = a->lock;

    qemu_co_mutex_lock(&c->co_mutex);
    while (c->tokens == 0) {
        qemu_co_queue_wait(&c->queue, &c->co_mutex);
    }
    c->tokens--;
    say('a' + a->name);
    qemu_co_mutex_unlock(&c->co_mutex);
}

static void coroutine_fn cond_producer(void *opaque)
{
    Actor *a = opaque;
    Condition *c = a->lock;

    for (int i = 0; i < 3; i++) {
        pause_co(3);
        qemu_co_mutex_lock(&c->co_mutex);
        c->tokens++;
        say('+');
        g_assert_true(qemu_co_queue_next(&c->queue));
        qemu_co_mutex_unlock(&c->co_mutex);
    }
}

static void test_queue(void)
{
    Condition c = { .tokens = 0 };
    Actor actors[] = { { cond_consumer, &c, 0 }, { cond_consumer, &c, 1 },
                       { cond_consumer, &c, 2 }, { cond_producer, &c, 3 } };

    qemu_co_mutex_init(&c.co_mutex);
    qemu_co_queue_init(&c.queue);
    g_assert_true(qemu_co_queue_empty(&c.queue));
    g_assert_false(qemu_co_queue_next(&c.queue));
    play(actors, 4);
    g_assert_cmpstr(events->str, ==, "+a+b+c");
    g_assert_true(qemu_co_queue_empty(&c.queue));
}

static void coroutine_fn waiter_in_front(void *opaque)
{
    Actor *a = opaque;
    Condition *c = a->lock;

    qemu_co_queue_wait_flags(&c->queue, NULL,
                             a->name == 2 ? CO_QUEUE_WAIT_FRONT : 0);
    say('a' + a->name);
}

static void coroutine_fn restart_all(void *opaque)
{
    Actor *a = opaque;
    Condition *c = a->lock;

    say('!');
    qemu_co_queue_restart_all(&c->queue);
    say('.');
}

static void test_queue_all(void)
{
    Condition c = { .tokens = 0 };
    Actor actors[] = { { waiter_in_front, &c, 0 }, { waiter_in_front, &c, 1 },
                       { waiter_in_front, &c, 2 }, { restart_all, &c, 3 } };

    qemu_co_queue_init(&c.queue);
    play(actors, 4);
    g_assert_cmpstr(events->str, ==, "!.cab");
}

/* A bounded buffer between threads, under a QemuMutex. */
static void coroutine_fn buffer_actor(void *opaque)
{
    Actor *a = opaque;
    Condition *c = a->lock;
    bool produce = a->name % 2;

    for (unsigned i = 0; i < a->rounds; i++) {
        WITH_QEMU_LOCK_GUARD(&c->mutex) {
            while (produce ? c->tokens == 4 : c->tokens == 0) {
                qemu_co_queue_wait(&c->queue, &c->mutex);
            }
            c->tokens += produce ? 1 : -1;
            qemu_co_queue_restart_all(&c->queue);
        }
    }
}

static void test_queue_threads(void)
{
    Condition c = { .tokens = 0 };

    qemu_mutex_init(&c.mutex);
    qemu_co_queue_init(&c.queue);
    play_threads(buffer_actor, &c, 6, 3000);
    g_assert_cmpint(c.tokens, ==, 0);
    g_assert_true(qemu_co_queue_empty(&c.queue));
    qemu_mutex_destroy(&c.mutex);
}

/* --------------------------------------------------------------- semaphore */

static const int amounts[] = { 6, 6, 2, 10, 1 };

static void coroutine_fn shres_actor(void *opaque)
{
    Actor *a = opaque;

    co_get_from_shres(a->lock, amounts[a->name]);
    say('a' + a->name);
    pause_co(2);
    say('A' + a->name);
    co_put_to_shres(a->lock, amounts[a->name]);
}

/* Ten units: the second 6 waits, and the 2 behind it does not overtake. */
static void test_shres_order(void)
{
    SharedResource *s = shres_create(10);

    g_assert_true(co_try_get_from_shres(s, 10));
    g_assert_false(co_try_get_from_shres(s, 1));
    g_assert_true(co_try_get_from_shres(s, 0));
    co_put_to_shres(s, 10);
    play_same(shres_actor, s, 5);
    g_assert_cmpstr(events->str, ==, "aAbcBCdDeE");
    shres_destroy(s);
}

typedef struct SharedSem {
    CoSemaphore sem;
    unsigned used; /* atomic */
} SharedSem;

static void coroutine_fn sem_actor(void *opaque)
{
    Actor *a = opaque;
    SharedSem *s = a->lock;

    for (unsigned i = 0; i < a->rounds; i++) {
        unsigned n = 1 + (i + a->name) % 5;

        qemu_co_sem_acquire(&s->sem, n);
        g_assert_cmpuint(qatomic_add_fetch(&s->used, n), <=, 8);
        if (i % 16 == 0) {
            qemu_co_yield_to_loop();
        }
        qatomic_sub(&s->used, n);
        qemu_co_sem_release(&s->sem, n);
    }
}

static void test_semaphore_threads(void)
{
    SharedSem s = { .used = 0 };

    qemu_co_sem_init(&s.sem, 8);
    play_threads(sem_actor, &s, 12, 2000);
    g_assert_true(qemu_co_sem_try_acquire(&s.sem, 8));
    qemu_co_sem_release(&s.sem, 8);
    qemu_co_sem_destroy(&s.sem);
}

/* -------------------------------------------------------------- wait group */

typedef struct Group {
    CoWaitGroup wg;
    unsigned done; /* atomic */
} Group;

static void coroutine_fn group_child(void *opaque)
{
    Group *g = opaque;

    pause_co(1);
    qatomic_inc(&g->done);
    qemu_co_wait_group_done(&g->wg);
}

static void coroutine_fn group_actor(void *opaque)
{
    Actor *a = opaque;
    AioContext *where[] = { iothread_get_aio_context(iothread[0]),
                            iothread_get_aio_context(iothread[1]), ctx };

    for (unsigned i = 0; i < a->rounds; i++) {
        Group *g = g_new0(Group, 1);

        qemu_co_wait_group_init(&g->wg);
        qemu_co_wait_group_wait(&g->wg);
        qemu_co_wait_group_add(&g->wg, 3);
        for (int j = 0; j < 3; j++) {
            aio_co_enter(where[j], qemu_coroutine_create(group_child, g));
        }
        qemu_co_wait_group_wait(&g->wg);
        g_assert_cmpuint(qatomic_read(&g->done), ==, 3);
        qemu_co_wait_group_destroy(&g->wg);
        g_free(g);
    }
}

static void test_wait_group(void)
{
    play_threads(group_actor, NULL, 3, 300);
}

int main(int argc, char **argv)
{
    int ret;

    g_test_init(&argc, &argv, NULL);
    qemu_init_main_loop(&error_abort);
    ctx = qemu_get_aio_context();
    iothread[0] = iothread_new("lock-0", &error_abort);
    iothread[1] = iothread_new("lock-1", &error_abort);
    events = g_string_new("");

    g_test_add_func("/lock/mutex/fifo", test_mutex_fifo);
    g_test_add_func("/lock/mutex/trylock", test_mutex_trylock);
    g_test_add_func("/lock/mutex/threads", test_mutex_threads);
    g_test_add_func("/lock/mutex/cost", test_mutex_cost);
    g_test_add_func("/lock/rwlock/order", test_rwlock_order);
    g_test_add_func("/lock/rwlock/upgrade", test_rwlock_upgrade);
    g_test_add_func("/lock/rwlock/downgrade", test_rwlock_downgrade);
    g_test_add_func("/lock/rwlock/threads", test_rwlock_threads);
    g_test_add_func("/lock/queue/order", test_queue);
    g_test_add_func("/lock/queue/all", test_queue_all);
    g_test_add_func("/lock/queue/threads", test_queue_threads);
    g_test_add_func("/lock/shres/order", test_shres_order);
    g_test_add_func("/lock/semaphore/threads", test_semaphore_threads);
    g_test_add_func("/lock/wait-group", test_wait_group);
    ret = g_test_run();

    g_string_free(events, true);
    iothread_free(iothread[0]);
    iothread_free(iothread[1]);
    aio_context_unref(ctx);
    return ret;
}
