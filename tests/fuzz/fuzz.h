/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a fuzz target is: these two functions, called by libFuzzer, or by
 * replay.c where there is none.
 */
#ifndef TESTS_FUZZ_H
#define TESTS_FUZZ_H

/* Once, before anything else. */
int LLVMFuzzerInitialize(int *argc, char ***argv);

/*
 * Tries one input. Returns 0; whatever is wrong ends the process. Nothing of
 * it may be left afterwards, and the same input does the same each time.
 */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#endif
