/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * All interleavings of a few operations on two clusters.
 *
 * Depth-first search over the scheduler's choices. Each path is executed from
 * the start, which is brought back by copying memory; where it comes to a state
 * that was seen before it is abandoned, because what follows from there is
 * explored already. Two states are the same
 * if all memory of the program is (heap, variables, the stacks of coroutines
 * that have not ended), the same coroutines can run, and the model would
 * judge what comes the same way. A hash of 64 bits stands for it.
 */
#ifndef TESTS_MODEL_EXHAUSTIVE_H
#define TESTS_MODEL_EXHAUSTIVE_H

#include "run.h"

typedef struct ExhaustiveStats {
    uint64_t scenarios;
    uint64_t interleavings;     /* that ended and were compared */
    uint64_t states;            /* different ones with more than one choice */
    uint64_t merged;            /* paths that met a known state */
    uint64_t steps;
    /* Interleavings that the states stand for: as many as a search without
     * memory would execute. */
    double covered;
} ExhaustiveStats;

typedef struct ExhaustiveOptions {
    unsigned max_ops;       /* 1..4 */
    unsigned shard, shards; /* of the scenarios, every shards-th */
    uint64_t sample;        /* only about one of so many; 1: all */
    uint64_t seed;          /* of the sample */
    double max_seconds;     /* for the whole; 0: none */
    bool merge;             /* recognise states */
    bool verbose;
    const char *only;       /* NULL, or one scenario's name */
} ExhaustiveOptions;

/* Explores; ends the process when something is wrong. */
void exhaustive_run(const ExhaustiveOptions *o, ExhaustiveStats *stats);

#endif
