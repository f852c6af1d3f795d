/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The graph lock keeps the shape of the graph (nodes, edges, permissions)
 * still while requests run through it.
 *
 * - Readers are coroutines in any thread. A request takes the lock once, at
 *   its outermost entry (BlockBackend, job, synchronous wrapper), and holds it
 *   across its yields. Functions marked GRAPH_RDLOCK require that and never
 *   take it again: a second lock by the same request would deadlock against a
 *   waiting writer.
 * - The one writer is the main thread, outside any coroutine. It waits for
 *   the readers by polling its own event loop, so their completions run.
 * - The main thread outside coroutines may read the graph without the lock:
 *   only itself could change it.
 *
 * Taking the write side nests (the outermost call locks).
 *
 * Lock order: a request takes the read side before anything that another
 * request may wait for (a tracked range, a coroutine mutex, a slot in a
 * queue): it may have to wait here until requests that run have ended.
 */
#ifndef BLOCK_GRAPH_LOCK_H
#define BLOCK_GRAPH_LOCK_H

#include "util/osdep.h"

/* Annotations for the reader; they expand to nothing. */
#ifndef GRAPH_RDLOCK
#define GRAPH_RDLOCK
#define GRAPH_WRLOCK
#define GRAPH_UNLOCKED
#endif

/* Coroutine, any thread; yields while a writer is active or waiting. */
void coroutine_fn bdrv_graph_co_rdlock(void);
/* By the same coroutine, wherever it runs by then; never yields. */
void coroutine_fn bdrv_graph_co_rdunlock(void);

/* Main thread, not in a coroutine; polls until all readers are gone. */
void bdrv_graph_wrlock(void);
void bdrv_graph_wrunlock(void);

/*
 * Around polling for requests to end, in the main thread outside coroutines
 * and without the write lock. While bdrv_graph_wrlock() waits for readers it
 * polls, and what runs then may poll in turn; readers that are needed for that
 * must not queue behind the writer. Nests. The wrappers of block/io.h and
 * draining do this themselves.
 */
void bdrv_graph_wrlock_yield_begin(void);
void bdrv_graph_wrlock_yield_end(void);

/* True while this process is inside bdrv_graph_wrlock(); for assertions. */
bool bdrv_graph_is_write_locked(void);

#endif
