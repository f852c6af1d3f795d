/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the files of the L1 guard that do I/O offer each other. All [lock].
 */
#ifndef BLOCK_QCOW2_GUARD_IO_H
#define BLOCK_QCOW2_GUARD_IO_H

#include "block/qcow2/qcow2.h"

/* Sectors of the table that the guard has. */
uint32_t qcow2_guard_sectors(const Qcow2Guard *g);
/* Where copy 0 or 1 of a table of @size entries lies. */
uint64_t qcow2_guard_copy_offset(const Qcow2GuardPlace *place, uint32_t size,
                                 unsigned copy);
/*
 * Writes the sectors of a table that @which marks (NULL: all) to the one at
 * @offset; with zeroes up to the end of the last sector if @pad.
 */
int coroutine_fn qcow2_guard_write_table(BlockDriverState *bs, uint64_t offset,
                                         const uint64_t *entries,
                                         uint32_t size, const uint8_t *which,
                                         bool pad);
int coroutine_fn qcow2_guard_write_head(BlockDriverState *bs,
                                        const Qcow2GuardHead *h);
/* Sets size, now, sum, behind (all clear). -ENOMEM. */
int qcow2_guard_take(Qcow2Guard *g, const uint64_t *entries, uint32_t size);

/* guard-evidence.c: whether another program has made all the differences
 * between the L1 table and @want. */
bool coroutine_fn qcow2_guard_is_outdated(BlockDriverState *bs,
                                          const uint64_t *want);

#endif
