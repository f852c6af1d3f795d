/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Changes of many refcounts that become true at once: refplan.c.
 *
 * A plan lives while BDRVQcow2State.lock is held, with all metadata flushed and
 * both caches clean; nothing is allocated or freed beside it. All functions
 * are [lock] and want all of this. Memory: a cluster for each refcount block
 * that changes.
 */
#ifndef BLOCK_QCOW2_REFPLAN_H
#define BLOCK_QCOW2_REFPLAN_H

#include "block/qcow2/qcow2.h"

typedef struct Qcow2RefPlan Qcow2RefPlan;

Qcow2RefPlan *qcow2_refplan_new(BlockDriverState *bs);
/* Also gives up what was not committed; NULL is fine. */
void qcow2_refplan_free(Qcow2RefPlan *p);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Qcow2RefPlan, qcow2_refplan_free)

/* The refcount that @cluster (an index) will have. */
int coroutine_fn qcow2_refplan_get(Qcow2RefPlan *p, uint64_t cluster,
                                   uint64_t *refcount);
/*
 * Adds @delta (1 or -1) for each cluster that the range touches. -EIO: one has
 * no reference to take away; -ERANGE: more than the refcount width can say.
 */
int coroutine_fn qcow2_refplan_add(Qcow2RefPlan *p, uint64_t offset,
                                   uint64_t bytes, int delta);
/* The first of @nb contiguous clusters that are free now and in the plan; an
 * index or -errno. */
int64_t coroutine_fn qcow2_refplan_find(Qcow2RefPlan *p, uint64_t nb);
/* @nb contiguous clusters, counted once; they may be written at once. Host
 * offset or -errno. */
int64_t coroutine_fn qcow2_refplan_alloc(Qcow2RefPlan *p, uint64_t nb);

/* The last step before the header: writes blocks and table, not yet durable. */
int coroutine_fn qcow2_refplan_write(Qcow2RefPlan *p);
/* Where the table is then. */
void qcow2_refplan_table(const Qcow2RefPlan *p, uint64_t *offset,
                         uint32_t *clusters);
/* The header names it: the state in memory follows. */
void qcow2_refplan_commit(Qcow2RefPlan *p);
/* After that: the file may take back what became free. */
void coroutine_fn qcow2_refplan_discard_freed(Qcow2RefPlan *p);

#endif
