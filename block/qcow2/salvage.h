/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Salvaging: reading an image whose metadata is damaged, opened read-only with
 * BDRV_O_SALVAGE. Each fault costs the range that it describes and nothing
 * else; all of them are in the node's damage log (block/damage.h).
 *
 * 1. Bytes of tables that cannot be had are QCOW2_SALVAGE_POISON in memory, an
 *    entry that nobody writes.
 * 2. An entry is judged by qcow2_salvage_judge_l1() and _l2() wherever it is
 *    used, and by the survey, which notes what it finds.
 */
#ifndef BLOCK_QCOW2_SALVAGE_H
#define BLOCK_QCOW2_SALVAGE_H

#include "block/damage.h"
#include "block/qcow2/qcow2.h"

#define QCOW2_SALVAGE_POISON UINT64_MAX

/* What an entry is worth. */
typedef struct Qcow2Verdict {
    const char *cause;      /* NULL: it is good */
    bool lost;              /* it leads nowhere; false: it may */
} Qcow2Verdict;

/*
 * Reads a table of big-endian entries, whose @offset and @bytes are multiples
 * of 8: in the smallest pieces that the file can be read in, if it has to be.
 */
void coroutine_fn qcow2_salvage_read(BlockDriverState *bs, uint64_t offset,
                                     uint64_t bytes, void *buf);

/*
 * Entries in host byte order; @length is the file's: for L2 entries that of the
 * file with the data.
 */
Qcow2Verdict qcow2_salvage_judge_l1(const BDRVQcow2State *s, uint64_t entry,
                                    uint64_t length);
Qcow2Verdict qcow2_salvage_judge_l2(const BDRVQcow2State *s, uint64_t entry,
                                    uint64_t bitmap, uint64_t length);
/* The L2 entry of the cluster that guest offset @guest is in. */
Qcow2Verdict qcow2_salvage_judge_data(BlockDriverState *bs, uint64_t entry,
                                      uint64_t bitmap, uint64_t guest);

/*
 * Makes the fields of @h, as read, what the rest of the driver accepts, where
 * they can be derived or are not needed, and notes what it did. Sets
 * s->refcounts_void, bs->backing_lost.
 */
void coroutine_fn qcow2_salvage_header(BlockDriverState *bs, QCowHeader *h);
/* The same for the L1 table, when the geometry is known. */
void coroutine_fn qcow2_salvage_l1_place(BlockDriverState *bs, QCowHeader *h);

/* The driver's bdrv_co_survey. */
int coroutine_fn qcow2_co_survey(BlockDriverState *bs);

#endif
