/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Races that have a name: a few operations on a disk of two clusters, under
 * many interleavings. Each must fail with a driver that does not keep the
 * order between requests; the tests try that, too.
 */
#ifndef TESTS_MODEL_CASES_H
#define TESTS_MODEL_CASES_H

#include "util/osdep.h"

#define CASE_MAX_OPS 5

typedef struct NamedCase {
    const char *name;
    const char *state;              /* of small-disk.h */
    const char *ops[CASE_MAX_OPS];  /* of small-disk.h; the rest is NULL */
} NamedCase;

extern const NamedCase named_cases[];
extern const unsigned nr_named_cases;

/*
 * The driver's requests do not wait for each other, as if
 * block/qcow2/inflight.c did nothing.
 */
extern bool order_is_broken;

/*
 * Tries interleavings, the same ones every time. Returns if all come out well;
 * ends the process otherwise. Needs trial_init_block().
 */
void named_case_run(const NamedCase *c, bool verbose);

#endif
