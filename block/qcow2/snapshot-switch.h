/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A change of the active L1 table, the snapshot table and all refcounts that
 * becomes true with one write of the header: snapshot-switch.c.
 *
 * All functions are [lock], with nothing in flight on the node. Nothing
 * changes, on disk or in memory, before qcow2_switch_finish() succeeds.
 */
#ifndef BLOCK_QCOW2_SNAPSHOT_SWITCH_H
#define BLOCK_QCOW2_SNAPSHOT_SWITCH_H

#include "block/qcow2/refplan.h"

typedef struct Qcow2Switch {
    BlockDriverState *bs;
    Qcow2RefPlan *plan;
    uint64_t *l2;               /* a table as on disk; scratch */

    /* The new state, filled in by the caller. */
    Qcow2Table l1;              /* active; its references are counted. Owned;
                                 * flags and offset are set by finish */
    bool keep_l1;               /* nobody else gets the old L1 table's clusters:
                                 * they stay or are freed */
    uint64_t disk_size;         /* as it is, unless changed */
    QCowSnapshot *snapshots;    /* becomes s->snapshots if finish succeeds */
    uint32_t nb_snapshots;

    Qcow2GuardMove guard;       /* set by finish */
    uint64_t snapshots_offset;
    uint64_t snapshots_size;
} Qcow2Switch;

/* Flushes; if it fails qcow2_switch_end() must be called all the same. */
int coroutine_fn qcow2_switch_begin(BlockDriverState *bs, Qcow2Switch *sw,
                                    Error **errp);
void qcow2_switch_end(Qcow2Switch *sw);
/*
 * Counts @delta (1 or -1) for all L2 tables that @n L1 entries (host order)
 * name, and for all that these name.
 */
int coroutine_fn qcow2_switch_add_tree(Qcow2Switch *sw,
                                       const uint64_t *entries, uint32_t n,
                                       int delta, Error **errp);
/* Writes everything, makes it durable, and switches. */
int coroutine_fn qcow2_switch_finish(Qcow2Switch *sw, Error **errp);

/*
 * The L1 table of @sn in a new table with offset 0 that is long enough for the
 * disk of the snapshot. Bad places and sizes are errors.
 */
int coroutine_fn qcow2_snapshot_read_l1(BlockDriverState *bs,
                                        const QCowSnapshot *sn,
                                        Qcow2Table *l1, Error **errp);

#endif
