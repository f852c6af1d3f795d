/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The write threshold of a node. It disarms by compare and swap, so that
 * exactly one of several writes that cross it reports.
 */
#include "util/osdep.h"
#include "block/block_int.h"
#include "block/write-threshold.h"
#include "util/atomic.h"

static BdrvWriteThresholdFunc *threshold_handler;

void bdrv_write_threshold_set_handler(BdrvWriteThresholdFunc *handler)
{
    threshold_handler = handler;
}

void bdrv_write_threshold_set(BlockDriverState *bs, uint64_t threshold_bytes)
{
    qatomic_xchg(&bs->write_threshold_offset, threshold_bytes);
}

uint64_t bdrv_write_threshold_get(const BlockDriverState *bs)
{
    return qatomic_read(&bs->write_threshold_offset);
}

void bdrv_write_threshold_check_write(BlockDriverState *bs, int64_t offset,
                                      int64_t bytes)
{
    uint64_t end = offset + bytes;
    uint64_t threshold = qatomic_read(&bs->write_threshold_offset);

    if (likely(threshold == 0 || end <= threshold)) {
        return;
    }
    if (qatomic_cmpxchg(&bs->write_threshold_offset, threshold, 0) ==
            threshold && threshold_handler) {
        threshold_handler(bs, end - threshold, threshold);
    }
}
