/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Shared between the files of the graph core only: edge primitives, node
 * creation and the bracket around a change.
 */
#ifndef BLOCK_GRAPH_INTERNAL_H
#define BLOCK_GRAPH_INTERNAL_H

#include "block/block_int.h"

/* --- node.c --- */

/*
 * A node without driver; one reference. @node_name NULL: generated. Fails if
 * the name is malformed or taken.
 */
BlockDriverState *bdrv_new_node(const char *node_name, Error **errp);
/* Closes nodes whose last reference went away under the write lock. */
void bdrv_process_unrefs(void);

/* --- edge.c; all under the graph write lock --- */

/* Bracket of a public graph change: write lock, then deferred closing. */
void bdrv_graph_change_begin(void);
void bdrv_graph_change_end(void);

/* Makes an edge; takes a reference to @child_bs of its own. */
BdrvChild *bdrv_edge_add_tran(BlockDriverState *child_bs, const char *name,
                              const BdrvChildClass *klass, BdrvChildRole role,
                              uint64_t perm, uint64_t shared, void *opaque,
                              Transaction *tran);
/* Takes the edge out of the graph; freed on commit, put back on abort. */
void bdrv_edge_remove_tran(BdrvChild *child, Transaction *tran);
/* Lets it lead to @new_bs without any check. */
void bdrv_edge_redirect_tran(BdrvChild *child, BlockDriverState *new_bs,
                             Transaction *tran);
/*
 * In a reopen: an edge into @bs that keeps @perm and @shared from now to
 * the end of @tran.
 */
void bdrv_edge_guard_tran(BlockDriverState *bs, uint64_t perm, uint64_t shared,
                          Transaction *tran);

/* --- permission.c --- */

/*
 * As bdrv_refresh_perms_tran() but outside a transaction and never failing:
 * for edges that went away. What cannot be relaxed stays.
 */
void bdrv_relax_perms(BlockDriverState *bs);

/* --- open.c --- */

/* Bits of open_flags an inline child takes from its parent's. */
int bdrv_inherited_flags(BdrvChildRole role, int parent_flags);

/*
 * Reads the options common to all nodes into *@flags and *@detect_zeroes;
 * what is left out keeps its value there.
 */
bool bdrv_common_options(BlockdevOptions *options, int *flags,
                         BlockdevDetectZeroesOptions *detect_zeroes,
                         Error **errp);

/* --- options.c --- */

/*
 * Turns nested @dict (driver named, children named or described) into the
 * typed form; errors name the option.
 */
BlockdevOptions *bdrv_options_from_qdict(QDict *dict, Error **errp);
QDict *bdrv_options_to_qdict(BlockdevOptions *options);
/* Dotted keys become nested dictionaries and lists; @dict is taken over. */
QDict *bdrv_options_nest(QDict *dict, Error **errp);

#endif
