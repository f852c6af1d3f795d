/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "util/osdep.h"
#include "run.h"
#include "threads.h"

/* One seed that takes longer hangs. */
#define RUN_SECONDS 120

static uint64_t current_seed;

static void say_which(void)
{
    fprintf(stderr, "with threads, seed %" PRIu64 "\n", current_seed);
}

static uint64_t one_seed(uint64_t seed, unsigned nr_ops, IOThread **threads,
                         unsigned nr_threads, const char *dir)
{
    Run run = { .threads = threads, .nr_threads = nr_threads };
    g_autofree Op *ops = NULL;
    Config cfg;

    current_seed = seed;
    alarm(RUN_SECONDS);
    config_random(&cfg, seed);
    ops = ops_random(seed, &cfg, nr_ops);
    run_begin(&run, &cfg, dir);
    run_ops_threads(&run, ops, nr_ops);
    run_end(&run);
    alarm(0);
    return run.done;
}

uint64_t threads_run(uint64_t first, uint64_t n, unsigned nr_ops,
                     unsigned nr_threads, const char *dir)
{
    g_autofree IOThread **threads = g_new(IOThread *, nr_threads);
    uint64_t done = 0;

    for (unsigned i = 0; i < nr_threads; i++) {
        threads[i] = iothread_new("model", &error_abort);
    }
    run_at_failure = say_which;
    for (uint64_t i = 0; i < n; i++) {
        done += one_seed(first + i, nr_ops, threads, nr_threads, dir);
    }
    run_at_failure = NULL;
    for (unsigned i = 0; i < nr_threads; i++) {
        iothread_free(threads[i]);
    }
    return done;
}
