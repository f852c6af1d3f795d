/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A state that nobody may be left with: made as simple as it gets, told, saved
 * and replayed.
 */
#ifndef TESTS_CRASH_FAILURE_H
#define TESTS_CRASH_FAILURE_H

#include "judge.h"
#include "states.h"

/*
 * Looks for a simpler state of @epoch that is bad, too, writes it to files in
 * @dir (image, backing file, and a text that says how to replay it; none if it
 * is NULL), and returns the text; caller frees. @go_on: how it was found (judge.h).
 */
char *failure_report(Run *run, const Epoch *epoch, const CrashState *state,
                     bool go_on, const char *dir);

/* Judges a saved state again: exit status, 1 if it is bad still. */
int failure_replay(const char *path);

#endif
