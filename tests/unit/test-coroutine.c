/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Coroutines by themselves: entering, yielding, stacks and their pool. */
#include "util/osdep.h"
#include <sys/wait.h>
#include "util/aio.h"
#include "util/coroutine.h"
#include "util/error.h"

static void coroutine_fn set_true(void *opaque)
{
    g_assert_true(qemu_in_coroutine());
    *(bool *)opaque = true;
}

static void test_lifecycle(void)
{
    bool done = false;
    Coroutine *co = qemu_coroutine_create(set_true, &done);

    g_assert_false(qemu_in_coroutine());
    g_assert_false(done);
    qemu_coroutine_enter(co);
    g_assert_true(done);
    g_assert_false(qemu_in_coroutine());
}

static void coroutine_fn check_self(void *opaque)
{
    Coroutine **co = opaque;

    g_assert_true(qemu_coroutine_self() == *co);
    g_assert_true(qemu_coroutine_entered(*co));
    qemu_coroutine_yield();
    g_assert_true(qemu_coroutine_self() == *co);
    *co = NULL;
}

static void test_self(void)
{
    Coroutine *leader = qemu_coroutine_self();
    Coroutine *co = qemu_coroutine_create(check_self, &co);

    qemu_coroutine_enter(co);
    g_assert_true(qemu_coroutine_self() == leader);
    g_assert_false(qemu_coroutine_entered(co));
    qemu_coroutine_enter_if_inactive(co);
    g_assert_null(co);
}

/* Every yield comes back to whoever entered, and nothing is lost on it. */
typedef struct Counter {
    int steps;
    bool done;
} Counter;

static void coroutine_fn count_steps(void *opaque)
{
    Counter *c = opaque;

    for (int i = 0; i < 5; i++) {
        double d = i * 1.5;

        c->steps++;
        qemu_coroutine_yield();
        g_assert_cmpfloat(d, ==, i * 1.5);
    }
    c->done = true;
}

static void test_yield(void)
{
    Counter c = { 0 };
    Coroutine *co = qemu_coroutine_create(count_steps, &c);

    for (int i = 1; i <= 5; i++) {
        qemu_coroutine_enter(co);
        g_assert_cmpint(c.steps, ==, i);
        g_assert_false(c.done);
    }
    qemu_coroutine_enter(co);
    g_assert_true(c.done);
}

/* A chain of coroutines that enter each other, 100 deep, yielding inside. */
typedef struct Nest {
    int level;
    int max;
    int entered;
    int left;
} Nest;

static void coroutine_fn nest(void *opaque)
{
    Nest *n = opaque;
    int my_level = ++n->level;
    Coroutine *child = NULL;

    n->entered++;
    if (my_level < n->max) {
        child = qemu_coroutine_create(nest, n);
        qemu_coroutine_enter(child);
    }
    qemu_coroutine_yield();
    if (child) {
        qemu_coroutine_enter(child);
    }
    n->left++;
    g_assert_cmpint(n->left, ==, n->max - my_level + 1);
}

static void test_nesting(void)
{
    Nest n = { .max = 100 };
    Coroutine *co = qemu_coroutine_create(nest, &n);

    qemu_coroutine_enter(co);
    g_assert_cmpint(n.entered, ==, 100);
    g_assert_cmpint(n.left, ==, 0);
    qemu_coroutine_enter(co);
    g_assert_cmpint(n.left, ==, 100);
}

/* The same stacks serve any number of short lives. */
static void test_pool_reuse(void)
{
    bool done;
    unsigned before;

    done = false;
    qemu_coroutine_enter(qemu_coroutine_create(set_true, &done));
    before = qemu_coroutine_stacks_mapped();
    for (int i = 0; i < 10000; i++) {
        done = false;
        qemu_coroutine_enter(qemu_coroutine_create(set_true, &done));
        g_assert_true(done);
    }
    g_assert_cmpuint(qemu_coroutine_stacks_mapped(), ==, before);
}

static void coroutine_fn yield_once(void *opaque)
{
    qemu_coroutine_yield();
    ++*(int *)opaque;
}

static void run_many(int n)
{
    g_autofree Coroutine **co = g_new(Coroutine *, n);
    int done = 0;

    for (int i = 0; i < n; i++) {
        co[i] = qemu_coroutine_create(yield_once, &done);
        qemu_coroutine_enter(co[i]);
    }
    for (int i = 0; i < n; i++) {
        qemu_coroutine_enter(co[i]);
    }
    g_assert_cmpint(done, ==, n);
}

/* More than the pools keep: the excess is unmapped, the rest reused. */
static void test_pool_overflow(void)
{
    unsigned before;

    run_many(3000);
    before = qemu_coroutine_stacks_mapped();
    run_many(1000);
    g_assert_cmpuint(qemu_coroutine_stacks_mapped(), ==, before);
}

static void *run_many_thread(void *opaque)
{
    run_many(100);
    return NULL;
}

/* A thread that ends leaves its stacks to the others. */
static void test_pool_thread_exit(void)
{
    unsigned before;

    run_many(200);
    before = qemu_coroutine_stacks_mapped();
    for (int i = 0; i < 20; i++) {
        QemuThread t;

        qemu_thread_create(&t, "pool-exit", run_many_thread, NULL,
                           QEMU_THREAD_JOINABLE);
        qemu_thread_join(&t);
    }
    /* One thread's worth, if the pool of the process did not cover it. */
    g_assert_cmpuint(qemu_coroutine_stacks_mapped(), <=, before + 100);
}

static void coroutine_fn yield_loop(void *opaque)
{
    unsigned *left = opaque;

    while (*left > 0) {
        --*left;
        qemu_coroutine_yield();
    }
}

static void test_switches(void)
{
    unsigned left = 1000000;
    Coroutine *co = qemu_coroutine_create(yield_loop, &left);
    int64_t start = get_clock();
    int64_t ns;

    while (left > 0) {
        qemu_coroutine_enter(co);
    }
    ns = get_clock() - start;
    qemu_coroutine_enter(co);
    g_test_message("enter and yield: %.1f ns", ns / 1e6);
}

static void test_lifecycle_cost(void)
{
    bool done;
    int64_t start = get_clock();

    for (int i = 0; i < 1000000; i++) {
        qemu_coroutine_enter(qemu_coroutine_create(set_true, &done));
    }
    g_test_message("create, run, end: %.1f ns", (get_clock() - start) / 1e6);
}

/* Saved and loaded by every switch: what a callee must keep. */
static void coroutine_fn clobber(void *opaque)
{
    bool *stop = opaque;

    while (!*stop) {
        volatile unsigned long v[16];

        for (int i = 0; i < 16; i++) {
            v[i] = 0xdead0000ul + i;
        }
        qemu_coroutine_yield();
        for (int i = 0; i < 16; i++) {
            g_assert_cmphex(v[i], ==, 0xdead0000ul + i);
        }
    }
}

static void test_registers(void)
{
    bool stop = false;
    Coroutine *co = qemu_coroutine_create(clobber, &stop);
    unsigned long a = 1, b = 2, c = 3, d = 4, e = 5, f = 6, g = 7;

    for (unsigned long i = 1; i <= 1000; i++) {
        a += i, b += a, c += b, d += c, e += d, f += e, g += f;
        qemu_coroutine_enter(co);
        g_assert_cmphex((uintptr_t)__builtin_frame_address(0) % 16, ==, 0);
    }
    stop = true;
    qemu_coroutine_enter(co);
    /* Sums of sums: binomials of 1000 plus the start values' share. */
    g_assert_cmpuint(a, ==, 1 + 1000 * 1001 / 2);
    g_assert_cmpuint(b, ==, 2 + 1000 + 1000ul * 1001 * 1002 / 6);
    g_assert_true(c && d && e && f && g);
}

/* A stack that runs out ends the process by a signal, and touches no other. */
static int QEMU_NOINLINE eat_stack(int depth)
{
    volatile char frame[4096];
    int below;

    frame[0] = depth;
    below = depth > 0 ? eat_stack(depth - 1) : 0;
    /* The frame is in use until here: not a loop for the compiler. */
    __asm__ __volatile__("" : : "r"(frame) : "memory");
    return below + frame[0];
}

static void coroutine_fn eat_pages(void *opaque)
{
    eat_stack(*(int *)opaque);
}

static int run_child(int pages)
{
    pid_t pid = fork();
    int status;

    g_assert_cmpint(pid, >=, 0);
    if (pid == 0) {
        int null = open("/dev/null", O_WRONLY);
        /* Not the sanitizer's handler and report: the plain signal. */
        signal(SIGSEGV, SIG_DFL);
        signal(SIGBUS, SIG_DFL);
        dup2(null, STDERR_FILENO);
        qemu_coroutine_enter(qemu_coroutine_create(eat_pages, &pages));
        _exit(0);
    }
    g_assert_cmpint(RETRY_ON_EINTR(waitpid(pid, &status, 0)), ==, pid);
    return status;
}

static void test_guard_page(void)
{
    int pages = qemu_coroutine_stack_size() / 4096;
    int status;

    /* Frames are larger than 4 KiB, and larger still with sanitizers. */
    status = run_child(pages / 4);
    g_assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    status = run_child(pages + 1);
    g_assert_true(WIFSIGNALED(status));
    g_assert_cmpint(WTERMSIG(status), ==, SIGSEGV);
}

/* Misuse is found out, not undefined. */
static void coroutine_fn enter_itself(void *opaque)
{
    qemu_coroutine_enter(qemu_coroutine_self());
}

static void coroutine_fn end_with_lock(void *opaque)
{
    qemu_co_mutex_lock(opaque);
}

static void test_misuse(const void *which)
{
    if (g_test_subprocess()) {
        static CoMutex mutex;

        if (g_str_equal(which, "recursion")) {
            qemu_coroutine_enter(qemu_coroutine_create(enter_itself, NULL));
        } else if (g_str_equal(which, "locked")) {
            qemu_coroutine_enter(
                qemu_coroutine_create(end_with_lock, &mutex));
        } else if (g_str_equal(which, "yield")) {
            qemu_coroutine_yield();
        } else if (g_str_equal(which, "double-wake")) {
            Coroutine *co = qemu_coroutine_create(set_true, NULL);
            aio_co_schedule(aio_context_new(&error_abort), co);
            aio_co_wake(co);
        }
        return;
    }
    g_test_trap_subprocess(NULL, 0, 0);
    g_test_trap_assert_failed();
    if (g_str_equal(which, "recursion")) {
        g_test_trap_assert_stderr("*re-entered recursively*");
    } else if (g_str_equal(which, "locked")) {
        g_test_trap_assert_stderr("*holding 1 locks*");
    } else if (g_str_equal(which, "yield")) {
        g_test_trap_assert_stderr("*yield outside*");
    } else {
        g_test_trap_assert_stderr("*scheduled already*");
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/coroutine/lifecycle", test_lifecycle);
    g_test_add_func("/coroutine/self", test_self);
    g_test_add_func("/coroutine/yield", test_yield);
    g_test_add_func("/coroutine/nesting", test_nesting);
    g_test_add_func("/coroutine/registers", test_registers);
    g_test_add_func("/coroutine/pool/reuse", test_pool_reuse);
    g_test_add_func("/coroutine/pool/overflow", test_pool_overflow);
    g_test_add_func("/coroutine/pool/thread-exit", test_pool_thread_exit);
    g_test_add_func("/coroutine/guard-page", test_guard_page);
    g_test_add_data_func("/coroutine/misuse/recursion", "recursion",
                         test_misuse);
    g_test_add_data_func("/coroutine/misuse/locked", "locked", test_misuse);
    g_test_add_data_func("/coroutine/misuse/yield", "yield", test_misuse);
    g_test_add_data_func("/coroutine/misuse/double-wake", "double-wake",
                         test_misuse);
    g_test_add_func("/coroutine/cost/switch", test_switches);
    g_test_add_func("/coroutine/cost/lifecycle", test_lifecycle_cost);
    return g_test_run();
}
