/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A node that keeps writes in memory, to learn what somebody would write, and
 * later lets the same writes through. Main thread.
 */
#ifndef BLOCK_RECORD_H
#define BLOCK_RECORD_H

#include "block/graph.h"

/* Bytes; a multiple of 4096 each, whatever the length of the node. */
typedef struct BdrvRecordExtent {
    uint64_t offset;
    uint64_t bytes;
} BdrvRecordExtent;

/*
 * A node above @below, to which it takes a reference. It can be written to even
 * if @below is read-only. NULL if @below is in use by somebody who does not
 * share it.
 */
BlockDriverState *bdrv_record_new(BlockDriverState *below, Error **errp);
/* What was written: BdrvRecordExtent, ascending, apart from each other. The
 * caller unrefs. */
GArray *bdrv_record_extents(BlockDriverState *bs);
/* The length that the node has, or had before bdrv_record_pass(). Bytes. */
int64_t bdrv_record_length(BlockDriverState *bs);
/*
 * Forgets the data. From now on writes go to the node below if they are where
 * somebody wrote before, and fail with -EPERM if not; discards do nothing. The
 * node is drained or has no parents.
 */
void bdrv_record_pass(BlockDriverState *bs);

#endif
