/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The scheduler: decides at every yield which coroutine runs next.
 *
 * While it is on, coroutines that are woken (by any lock, queue or request)
 * do not go to the event loop but into a list here, and whoever polls the loop
 * gets one of them run. Which one is a choice. The choices come from a seeded
 * generator or from a list, and are recorded, so that the whole interleaving
 * can be repeated from its seed or from the list. Work for the thread pool is
 * done in place, between two yields. No clock and no kernel is involved.
 *
 * The programs are linked with SCHED_LINK_ARGS of meson.build, by which the
 * functions of the event loop come here. While the scheduler is off they go
 * on to the real ones.
 *
 * Main thread only.
 */
#ifndef TESTS_MODEL_SCHEDULER_H
#define TESTS_MODEL_SCHEDULER_H

#include "util/osdep.h"
#include "util/coroutine.h"

/* Alternatives at one choice; more that could run have to wait. */
#define SCHED_MAX_WIDTH 62

/* Whoever decides: 0..@n-1, @n > 1. */
typedef unsigned SchedPick(void *opaque, unsigned n);

/* On, with nothing to run and nothing recorded. */
void sched_start(SchedPick *pick, void *opaque);
/* Off. Nothing is left to run. */
void sched_stop(void);

/* Choices from a generator, after those of the string @first (may be NULL). */
typedef struct SchedRandom {
    uint64_t rng;       /* state */
    const char *first;  /* not taken over */
    size_t pos;
} SchedRandom;
SchedPick sched_pick_random;

/*
 * Where choices are recorded, one character each, and how many there were.
 * More than @size are not kept. NULL: nowhere.
 */
void sched_record(char *buf, size_t size, uint32_t *count);

/* One choice among @n alternatives, @n > 0; recorded if @n > 1. */
unsigned sched_choose(unsigned n);
/* The character that stands for a choice, and back (-1 if it is none). */
char sched_char(unsigned choice);
int sched_from_char(char c);

/* Coroutines that could run. */
unsigned sched_nr_runnable(void);
/* Runs the one with number @i, oldest first, up to its next yield. */
void sched_run(unsigned i);
/* A coroutine that was not entered yet can run. */
void sched_add(Coroutine *co);
/* Lets anything else run first. */
void coroutine_fn sched_yield_point(void);

/* Called when somebody waits and nothing can run. */
extern void (*sched_deadlock)(void);
/* Work for the thread pool yields before it, and if true (the default) after
 * it, too. It works on memory of its own, so that one yield says it all. */
extern bool sched_yield_after_work;
/* Steps since the start. */
uint64_t sched_steps(void);

/* For the state of an exploration: the coroutines that could run. */
Coroutine *sched_runnable(unsigned i);

#endif
