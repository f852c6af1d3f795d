/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The same operations, and the same model, with real threads and real files:
 * the interleaving is the machine's, and cannot be repeated.
 */
#ifndef TESTS_MODEL_THREADS_H
#define TESTS_MODEL_THREADS_H

#include "util/osdep.h"

/*
 * Seeds @first to @first + @n - 1 with @nr_ops operations each, in
 * @nr_threads threads; files in @dir. Returns how many operations; ends the
 * process when something is wrong. Needs trial_init_block(), scheduler off.
 */
uint64_t threads_run(uint64_t first, uint64_t n, unsigned nr_ops,
                     unsigned nr_threads, const char *dir);

#endif
