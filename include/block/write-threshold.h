/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A node's write threshold: the first write that ends beyond it disarms it and
 * is reported once.
 */
#ifndef BLOCK_WRITE_THRESHOLD_H
#define BLOCK_WRITE_THRESHOLD_H

#include "block/block-common.h"

/* @threshold_bytes 0 disarms. Any thread. */
void bdrv_write_threshold_set(BlockDriverState *bs, uint64_t threshold_bytes);
uint64_t bdrv_write_threshold_get(const BlockDriverState *bs);
/* Request path: a write of this range is about to happen. Any thread. */
void bdrv_write_threshold_check_write(BlockDriverState *bs, int64_t offset,
                                      int64_t bytes);

/*
 * Who hears of it: set once at start. Called in the thread of the write;
 * @amount_exceeded is how far beyond the threshold the write ends.
 */
typedef void BdrvWriteThresholdFunc(BlockDriverState *bs,
                                    uint64_t amount_exceeded,
                                    uint64_t threshold);
void bdrv_write_threshold_set_handler(BdrvWriteThresholdFunc *handler);

#endif
