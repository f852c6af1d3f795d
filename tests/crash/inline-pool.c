/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Stands in for the thread pool (linked with --wrap): work is done at once, so
 * that a run is decided by its seed alone.
 */
#include "util/osdep.h"
#include "util/thread-pool.h"

int coroutine_fn __wrap_thread_pool_submit_co(ThreadPoolFunc *func, void *arg);
int coroutine_fn __wrap_thread_pool_compute_co(ThreadPoolFunc *func, void *arg);

int coroutine_fn __wrap_thread_pool_submit_co(ThreadPoolFunc *func, void *arg)
{
    return func(arg);
}

int coroutine_fn __wrap_thread_pool_compute_co(ThreadPoolFunc *func, void *arg)
{
    return func(arg);
}
