/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One number for each host cluster: how often it is referred to.
 *
 * Pages of clusters are made when a cluster in them gets its first non-zero
 * count, at two bits a cluster, and widened when a count does not fit. Memory
 * follows what is counted, not the length of the file: a sparse file of any
 * length costs nothing for its holes.
 *
 * One user at a time; nothing here yields or fails.
 */
#ifndef BLOCK_QCOW2_CHECK_COUNTS_H
#define BLOCK_QCOW2_CHECK_COUNTS_H

#include "util/osdep.h"

typedef struct Qcow2CheckCounts Qcow2CheckCounts;

/* Clusters in a page. */
#define QCOW2_CHECK_PAGE_BITS 13
#define QCOW2_CHECK_PAGE_SIZE (1U << QCOW2_CHECK_PAGE_BITS)

Qcow2CheckCounts *qcow2_check_counts_new(void);
void qcow2_check_counts_free(Qcow2CheckCounts *counts);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Qcow2CheckCounts, qcow2_check_counts_free)

uint64_t qcow2_check_counts_get(Qcow2CheckCounts *counts, uint64_t cluster);
void qcow2_check_counts_set(Qcow2CheckCounts *counts, uint64_t cluster,
                            uint64_t value);
/*
 * Adds @n, but not beyond @max. Returns how much did not fit.
 */
uint64_t qcow2_check_counts_add(Qcow2CheckCounts *counts, uint64_t cluster,
                                uint64_t n, uint64_t max);

/*
 * How many of the @n clusters from @cluster on, until the first that has not,
 * have exactly @value (0 or 1). Many at a time where that is so.
 */
uint64_t qcow2_check_counts_run(Qcow2CheckCounts *counts, uint64_t cluster,
                                uint64_t n, unsigned value);
/* Sets @n clusters from @cluster on to 1. */
void qcow2_check_counts_fill(Qcow2CheckCounts *counts, uint64_t cluster,
                             uint64_t n);

/*
 * Numbers of the pages that exist in @a or @b (may be NULL), ascending; what
 * is in no page is 0. uint64_t elements; the caller unrefs.
 */
GArray *qcow2_check_counts_pages(Qcow2CheckCounts *a, Qcow2CheckCounts *b);
/* Whether a page holds the same numbers in both, found without a long look;
 * false: unknown. */
bool qcow2_check_counts_same(Qcow2CheckCounts *a, Qcow2CheckCounts *b,
                             uint64_t page);

/* Whether all numbers are 0, and no other was set ever. */
bool qcow2_check_counts_is_empty(const Qcow2CheckCounts *counts);

/*
 * Clusters of pages that exist in one of two tables, ascending: all that have a
 * number other than 0, and others. The numbers may change meanwhile; those of
 * pages that did not exist before are not looked at.
 */
typedef struct Qcow2CheckWalk {
    Qcow2CheckCounts *a, *b;
    bool unlike;
    uint64_t limit;
    GArray *pages;
    guint next_page;
    uint64_t cluster, end;      /* of the current page */
} Qcow2CheckWalk;

/*
 * Over clusters below @limit, in @a or @b (may be NULL); with @unlike only where
 * both may differ.
 */
Qcow2CheckWalk qcow2_check_walk(Qcow2CheckCounts *a, Qcow2CheckCounts *b,
                                uint64_t limit, bool unlike);
/* The next one; false if there is none. */
bool qcow2_check_walk_next(Qcow2CheckWalk *walk, uint64_t *cluster);
void qcow2_check_walk_clear(Qcow2CheckWalk *walk);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Qcow2CheckWalk, qcow2_check_walk_clear)

/* Bytes in use; for tests. */
size_t qcow2_check_counts_memory(const Qcow2CheckCounts *counts);

#endif
