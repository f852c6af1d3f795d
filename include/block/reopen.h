/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Reopen: changing options, flags and children of open nodes, several in one
 * transaction.
 *
 * bdrv_reopen_multiple() goes through these steps, the first five of which can
 * fail and then restore everything:
 *   1. every node of the queue is drained and flushed;
 *   2. options are checked, children that the new options name are looked up;
 *   3. child changes are made in the graph (claims and cycles are checked);
 *   4. every edge touched gets union(perm before, after) and
 *      intersection(shared before, after); that is taken against everything
 *      outside the queue, file locks included, while two edges that both
 *      belong to the queue conflict only if they do afterwards;
 *   5. the drivers prepare, under those widened permissions;
 *   6. commit: new flags and options hold, permissions relax to the ones
 *      after. What a protocol driver says about relaxing is counted, not
 *      reported.
 *
 * Main thread, outside coroutines.
 */
#ifndef BLOCK_REOPEN_H
#define BLOCK_REOPEN_H

#include "block/block-common.h"

/*
 * Adds @bs and, for options they inherit, its inline children to @queue
 * (NULL starts a new one; returned).
 * @options: taken over. @keep_old_options: options not named keep their value
 * (qemu-io reopen); otherwise they go back to their default (blockdev-reopen).
 */
BlockReopenQueue *bdrv_reopen_queue(BlockReopenQueue *queue,
                                    BlockDriverState *bs, QDict *options,
                                    bool keep_old_options);
void bdrv_reopen_queue_free(BlockReopenQueue *queue);

/* Consumes @queue. Returns 0 or -errno with everything as before. */
int bdrv_reopen_multiple(BlockReopenQueue *queue, Error **errp);

int bdrv_reopen(BlockDriverState *bs, QDict *options, bool keep_old_options,
                Error **errp);
int bdrv_reopen_set_read_only(BlockDriverState *bs, bool read_only,
                              Error **errp);

/* Flags that @bs will have: from @queue if it is in there, else its own. */
int bdrv_reopen_flags(BlockReopenQueue *queue, BlockDriverState *bs);

#endif
