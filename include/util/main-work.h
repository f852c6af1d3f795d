/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Main work: operations of the main thread that poll the event loop and must
 * not run inside of each other, such as commands of users and the end of jobs.
 *
 * A bottom half runs in every nested poll, so a graph change that waits for
 * requests would see another one come in between. Work that is queued here runs
 * strictly one after the other, in the order of the queueing, each when the one
 * before has ended.
 *
 * Main thread.
 */
#ifndef UTIL_MAIN_WORK_H
#define UTIL_MAIN_WORK_H

#include "util/aio.h"

/* Calls @fn(@opaque) once, from the main loop, outside coroutines. */
void main_work_schedule(QEMUBHFunc *fn, void *opaque);
/*
 * In @fn: the work goes on after @fn has returned (in a coroutine, say), until
 * main_work_release().
 */
void main_work_hold(void);
void main_work_release(void);
/*
 * Calls @fn(@opaque) as main work and returns its result. A coroutine of the
 * main thread that is no main work itself.
 */
int coroutine_fn main_work_run_co(int (*fn)(void *opaque), void *opaque);
/* Whether some is running. */
bool main_work_busy(void);

#endif
