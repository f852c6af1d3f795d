/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Memory whose addresses and content can be compared between two executions.
 *
 * While it is on, everything that the process allocates comes from here. Each
 * owner (the main program, each operation) has blocks of its own, and gets the
 * lowest free one of the size: so addresses depend on what that owner itself
 * did, not on how it was interleaved with others. Blocks start as zeroes.
 *
 * Not in builds with sanitizers, which have their own allocators: there
 * arena_available is false and the functions do nothing: nothing is restored.
 */
#ifndef TESTS_MODEL_ARENA_H
#define TESTS_MODEL_ARENA_H

#include "util/osdep.h"

/* Test state that is not part of the state of the program under test. */
#define OUTSIDE_STATE __attribute__((section("model_outside")))

#define ARENA_OWNERS 6

extern const bool arena_available;

/* From here on allocations are of @owner; -1: the ordinary heap. */
void arena_set_owner(int owner);
int arena_owner(void);
/* Blocks in use. */
unsigned arena_used(void);

/*
 * Keeps a copy of all blocks and of the program's variables; the one kept
 * before is dropped. restore brings them back as often as wanted: whatever was
 * opened then is open again, whatever was closed since.
 */
void arena_save(void);
void arena_restore(void);

/* A hash of all blocks in use and of the program's variables. */
uint64_t arena_hash(void);
uint64_t hash_bytes(uint64_t h, const void *data, size_t bytes);

#endif
