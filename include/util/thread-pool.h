/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Two pools of threads per process, one for work that blocks and one for work
 * that computes.
 *
 * Threads are started when work finds none idle, up to THREAD_POOL_MAX or to
 * the number of processors, and end after ten idle seconds. Work starts in the
 * order it was submitted to its pool.
 */
#ifndef UTIL_THREAD_POOL_H
#define UTIL_THREAD_POOL_H

#include "util/osdep.h"

#define THREAD_POOL_MAX 64

/* Runs outside coroutines in a thread without a loop. */
typedef int ThreadPoolFunc(void *opaque);

/*
 * Runs @func(@arg) in the pool and returns its result, in the same
 * AioContext. Any thread that has a context. There is no cancelling: @arg
 * stays valid until this returns. -errno of thread creation if the pool is
 * empty and cannot grow.
 */
int coroutine_fn thread_pool_submit_co(ThreadPoolFunc *func, void *arg);

/* The same for a @func that computes and waits for nothing but memory. */
int coroutine_fn thread_pool_compute_co(ThreadPoolFunc *func, void *arg);

/* Threads alive at this moment; for tests. */
unsigned thread_pool_nr_threads(void);
unsigned thread_pool_nr_compute_threads(void);

#endif /* UTIL_THREAD_POOL_H */
