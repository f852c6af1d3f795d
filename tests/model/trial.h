/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Runs in processes of their own, so that a crash or a hang is a result like
 * any other, and the search for a short list of operations that still fails.
 */
#ifndef TESTS_MODEL_TRIAL_H
#define TESTS_MODEL_TRIAL_H

#include "run.h"

#define TRIAL_MAX_CHOICES (1 << 20)

/* What a run is made of. */
typedef struct Trial {
    uint64_t seed;
    unsigned nr_ops;        /* as generated */
    const char *keep;       /* NULL: all; else "3,7,20-25" of them */
    uint64_t schedule;      /* seed of the choices */
    const char *choices;    /* NULL, or the first ones */
    bool verbose;
} Trial;

/* Of runs that have ended. */
typedef struct TrialTotal {
    uint64_t runs, ops, steps;
} TrialTotal;

/* Written by the process that runs, read by the one that waits. */
typedef struct TrialShared {
    uint64_t seed;          /* of the run that goes on */
    uint64_t schedule;
    TrialTotal total;
    uint32_t started;       /* operations of the run that goes on */
    uint32_t nr_choices;
    char choices[TRIAL_MAX_CHOICES];
} TrialShared;
/* Of this process and its children, one at a time. */
extern TrialShared *trial_shared;

/* What the processes that have ended did. */
extern TrialTotal trial_total;

/* Once, before everything else. @loop: the event loop will work for real. */
void trial_init(bool loop);
/* In this process: everything that nodes need. */
void trial_init_block(void);

/* In this process; returns if it passes. */
void trial_run(const Trial *t);
/* In a process of its own; false when it failed. @quiet: without a word. */
bool trial_in_child(void (*func)(void *opaque), void *opaque, bool quiet);
/*
 * In a process of its own, seeds @first to @first + @n - 1; false when one
 * failed: then trial_shared tells which.
 */
bool trial_run_seeds(uint64_t first, uint64_t n, unsigned nr_ops, bool quiet);
/*
 * The same in @jobs processes at a time. The first failure is printed, with a
 * shorter list of operations and how to repeat it.
 */
bool trial_run_jobs(uint64_t first, uint64_t n, unsigned nr_ops,
                    unsigned jobs);

#endif
