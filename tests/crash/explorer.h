/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Exploring one workload: runs of it, each with another seed and geometry, and
 * of each the states that a power cut may leave, until there are enough.
 */
#ifndef TESTS_CRASH_EXPLORER_H
#define TESTS_CRASH_EXPLORER_H

#include "judge.h"

typedef struct ExplorerLimits {
    uint32_t seed;
    uint64_t states;        /* distinct ones */
    gint64 deadline;        /* monotonic time in microseconds; 0: none */
    const char *save;       /* directory for a bad state, or NULL */
    const char *oracle;     /* qemu-img for a second opinion (oracle.h), … */
    unsigned oracle_every;  /* … on one state in so many; NULL: none */
} ExplorerLimits;

typedef struct ExplorerResult {
    uint64_t tried;         /* states made */
    uint64_t distinct;      /* different images among them */
    uint64_t judged;        /* more: an image may be legal only at times */
    unsigned rounds;        /* runs of the workload */
    unsigned epochs;        /* see states.h */
    unsigned exhausted;     /* epochs of which every state was tried */
    uint64_t recoveries;    /* states of second power cuts */
    uint64_t second_opinions;
    Judge judge;
    char *failure;          /* NULL, or what is bad; caller frees */
} ExplorerResult;

/* Ends at the first bad state. The same seed gives the same states. */
void explore(const Workload *w, const ExplorerLimits *limits,
             ExplorerResult *result);

/* Prints lines of @text as comments of TAP. */
void tap_comment(const char *text);

/* SEED of the environment, or a random one; exits if it is not a number. */
uint32_t tap_seed(void);

#endif
