/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Draining: between begin and end no request of a parent is in flight on the
 * node and none starts. Parents hold back new requests (BlockBackends queue
 * them, jobs pause); requests that the main thread issues itself on a child
 * edge still work. begin polls the main loop until everything has settled.
 * Nests. Main thread, outside coroutines.
 */
#ifndef BLOCK_DRAIN_H
#define BLOCK_DRAIN_H

#include "block/block-common.h"

void bdrv_drained_begin(BlockDriverState *bs);
/* Without waiting; bdrv_drain_poll() tells when it has settled. */
void bdrv_drained_begin_nopoll(BlockDriverState *bs);
bool bdrv_drain_poll(BlockDriverState *bs);
void bdrv_drained_end(BlockDriverState *bs);
/* The same for every node. */
void bdrv_drain_all_begin(void);
void bdrv_drain_all_end(void);
void bdrv_drain_all(void);

/*
 * Somebody waits for requests to end who wants no more of them: those to @bs that
 * wait at it, or at a node below, for what may never come fail within seconds
 * instead (a server that is gone: as they do when a node is drained; one that does
 * not answer: see block/net/nbd-conn.c). Those that others have made of the same
 * nodes are no exception. Nothing happens to requests that do not wait yet: call it
 * again, each second. Main thread.
 */
void bdrv_hurry(BlockDriverState *bs);
/* The same for every node. */
void bdrv_hurry_all(void);

/*
 * For the graph code, under the write lock: @child was attached to, or is
 * about to leave, a node; brings the parent's quiescence in line with the
 * node's. Never polls: the caller has drained both nodes.
 */
void bdrv_parent_drained_begin_single(BdrvChild *child);
void bdrv_parent_drained_end_single(BdrvChild *child);

#endif
