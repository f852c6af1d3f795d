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

/* Written by the process that runs, read by the one that waits. */
typedef struct TrialShared {
    uint64_t seed;          /* of the run that goes on */
    uint64_t schedule;
    uint64_t runs, ops, steps;  /* ended */
    uint32_t started;       /* operations of the run that goes on */
    uint32_t nr_choices;
    char choices[TRIAL_MAX_CHOICES];
} TrialShared;
extern TrialShared *trial_shared;

/* Once, before everything else. */
void trial_init(void);
/* In this process: everything that nodes need. */
void trial_init_block(void);

/* In this process; returns if it passes. */
void trial_run(const Trial *t);
/*
 * In a process of its own, seeds @first to @first + @n - 1; false when one
 * failed: then trial_shared tells which.
 */
bool trial_run_seeds(uint64_t first, uint64_t n, unsigned nr_ops);

/* Prints how @t fails, shortened, and how to repeat it. */
void trial_report(const Trial *t);

#endif
