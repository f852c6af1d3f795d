/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Nodes and edges: references, names, attaching, replacing, walking chains.
 *
 * Context of all functions: main thread, outside coroutines, unless marked
 * GRAPH_RDLOCK (then also any coroutine that holds the graph read lock).
 *
 * Every change is a transaction: the *_tran functions alter the graph at once,
 * record how to undo it in @tran, and leave permissions stale. Once all
 * changes are made, bdrv_refresh_perms_tran() decides whether the new graph is
 * allowed; then tran_commit() or tran_abort() — neither can fail. The caller
 * of *_tran functions holds the graph write lock from the first change until
 * after commit or abort, and has drained the nodes concerned. The functions
 * without _tran do all of that themselves.
 *
 * @owner is the claim token under which an edge is changed (block/claim.h);
 * NULL for a change without any.
 */
#ifndef BLOCK_GRAPH_H
#define BLOCK_GRAPH_H

#include "block/block-common.h"
#include "util/transactions.h"

/* --- references and names --- */

/* One more reference; returns @bs. */
BlockDriverState *bdrv_ref(BlockDriverState *bs);
/* Drops one; the last closes the node (flushes, detaches children). NULL ok. */
void bdrv_unref(BlockDriverState *bs);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(BlockDriverState, bdrv_unref)

/*
 * The user of @bs has told that writing to it failed: closing it, and the nodes
 * that store it, says no more about what got lost. Main thread.
 */
void bdrv_abandon(BlockDriverState *bs);
/* Of how many nodes it was reported that something could not be stored, when no
 * result of a call could tell: closing, above all. Any thread. */
unsigned bdrv_reported_losses(void);

/* A node by its name, no reference; NULL if there is none. */
BlockDriverState *bdrv_find_node(const char *node_name);
/* The same with the error "Failed to find node with node-name='X'". */
BlockDriverState *bdrv_lookup_node(const char *node_name, Error **errp);
const char *bdrv_get_node_name(const BlockDriverState *bs);
/* Iterates all nodes, oldest first; NULL starts and ends. */
BlockDriverState *bdrv_next_node(BlockDriverState *bs);
/* Node name if it has an explicit one, else file name: for messages. */
const char *bdrv_get_device_or_node_name(const BlockDriverState *bs);
const char *bdrv_get_format_name(BlockDriverState *bs);
bool bdrv_is_root_node(BlockDriverState *bs);

/* --- edges --- */

/*
 * Adds an edge @name from node @parent to @child with the permissions that
 * the parent's driver wants for @role. Takes over the caller's reference to
 * @child, also on failure (then NULL, graph as before).
 */
BdrvChild *bdrv_attach_child(BlockDriverState *parent, BlockDriverState *child,
                             const char *name, BdrvChildRole role,
                             Error **errp);
BdrvChild *bdrv_attach_child_tran(BlockDriverState *parent,
                                  BlockDriverState *child, const char *name,
                                  BdrvChildRole role, Transaction *tran,
                                  Error **errp);

/*
 * The same for a parent that is not a node. @perm and @shared are as wanted;
 * @opaque is the parent for @klass.
 */
BdrvChild *bdrv_root_attach_child(BlockDriverState *child, const char *name,
                                  const BdrvChildClass *klass,
                                  BdrvChildRole role, uint64_t perm,
                                  uint64_t shared, void *opaque, Error **errp);

/*
 * The parent itself goes away: never refused; drops the claims on the edge.
 * Only for edges whose parent is not a node. NULL ok.
 */
void bdrv_root_unref_child(BdrvChild *child);

/*
 * Detaches @child from node @parent and drops its reference. Fails if @owner
 * may not change the edge. bdrv_unref_child_tran() keeps the edge alive until
 * commit.
 */
bool bdrv_unref_child(BlockDriverState *parent, BdrvChild *child,
                      BdrvClaimOwner *owner, Error **errp);
bool bdrv_unref_child_tran(BdrvChild *child, BdrvClaimOwner *owner,
                           Transaction *tran, Error **errp);

/*
 * A user adds @child as a child to @parent, or takes the edge @child away. Only
 * drivers with children that may come and go can; the others refuse.
 */
bool bdrv_add_child(BlockDriverState *parent, BlockDriverState *child,
                    Error **errp);
bool bdrv_del_child(BlockDriverState *parent, BdrvChild *child, Error **errp);
/* The child of @bs that is called @name, or NULL. */
BdrvChild *bdrv_find_child(BlockDriverState *bs, const char *name);

/* Lets the edge @child lead to @new_bs. Refuses cycles, claims, permissions. */
bool bdrv_replace_child_bs(BdrvChild *child, BlockDriverState *new_bs,
                           BdrvClaimOwner *owner, Error **errp);
bool bdrv_replace_child_tran(BdrvChild *child, BlockDriverState *new_bs,
                             BdrvClaimOwner *owner, Transaction *tran,
                             Error **errp);

/*
 * Redirects every edge into @from to @to, except those whose parent is @to or
 * a node below it (an overlay or filter put on top keeps its own edge).
 * Edges that @owner may not change make it fail.
 */
bool bdrv_replace_node(BlockDriverState *from, BlockDriverState *to,
                       BdrvClaimOwner *owner, Error **errp);
bool bdrv_replace_node_tran(BlockDriverState *from, BlockDriverState *to,
                            BdrvClaimOwner *owner, Transaction *tran,
                            Error **errp);

/* Sets, replaces or (NULL) drops the backing child; updates header fields of
 * @bs in memory only. */
bool bdrv_set_backing_hd(BlockDriverState *bs, BlockDriverState *backing,
                         BdrvClaimOwner *owner, Error **errp);
bool bdrv_set_backing_hd_tran(BlockDriverState *bs, BlockDriverState *backing,
                              BdrvClaimOwner *owner, Transaction *tran,
                              Error **errp);

/*
 * Puts @overlay on top of @bs: its backing becomes @bs, and every edge into
 * @bs leads to @overlay.
 */
bool bdrv_append(BlockDriverState *overlay, BlockDriverState *bs,
                 BdrvClaimOwner *owner, Error **errp);

/*
 * Several of these in this order, all of them or none, with all nodes concerned
 * at rest and flushed from before the first until after the last.
 */
typedef struct BdrvAppend {
    BlockDriverState *overlay;
    BlockDriverState *bs;
} BdrvAppend;
bool bdrv_append_multiple(const BdrvAppend *appends, unsigned n,
                          BdrvClaimOwner *owner, Error **errp);

/*
 * Puts the filter described by @options above @bs: opens it with its child
 * already being @bs and redirects the edges into @bs. Returns the filter with
 * a reference for the caller.
 */
BlockDriverState *bdrv_insert_node(BlockDriverState *bs, QDict *options,
                                   int flags, BdrvClaimOwner *owner,
                                   Error **errp);
/* The reverse: edges into @filter lead to its filtered child again. */
bool bdrv_drop_filter(BlockDriverState *filter, BdrvClaimOwner *owner,
                      Error **errp);

/*
 * Takes the nodes from @top down to above @base out of the chain: whatever
 * leads to @top leads to @base afterwards (as stream's and commit's end do).
 * With @backing_file_str non-NULL the name is also written into the overlays'
 * headers.
 */
bool bdrv_drop_intermediate(BlockDriverState *top, BlockDriverState *base,
                            const char *backing_file_str,
                            BdrvClaimOwner *owner, Error **errp);
/* The same with a format of the caller's choice for the headers. */
bool bdrv_drop_intermediate_as(BlockDriverState *top, BlockDriverState *base,
                               const char *file, const char *format,
                               BdrvClaimOwner *owner, Error **errp);

/* --- permissions --- */

/* Changes what the (non-node) parent of @child wants of it. */
bool bdrv_child_try_set_perm(BdrvChild *child, uint64_t perm, uint64_t shared,
                             Error **errp);

/* Asks the driver of @bs again what it wants from its children. */
bool bdrv_child_refresh_perms(BlockDriverState *bs, Error **errp);

/*
 * Recomputes permissions of @nodes (GSList of BlockDriverState) and all below
 * them for the graph as it is, takes what is missing at the drivers, and fails
 * if the graph is not allowed. Relaxes on commit, restores on abort.
 */
bool bdrv_refresh_perms_tran(GSList *nodes, BlockReopenQueue *queue,
                             Transaction *tran, Error **errp);

/* Union of what parents want, intersection of what they share. */
void bdrv_get_cumulative_perm(BlockDriverState *bs, uint64_t *perm,
                              uint64_t *shared);

/* "consistent read, write"; caller frees. */
char *bdrv_perm_names(uint64_t perm);

/* Tries again to relax what a driver could not relax before; all nodes. */
void bdrv_retry_relax(void);

/* --- walking (GRAPH_RDLOCK) --- */

BlockDriverState *bdrv_skip_filters(BlockDriverState *bs);
/* The first non-filter below the COW edge of the first non-filter. */
BlockDriverState *bdrv_backing_chain_next(BlockDriverState *bs);
/* @base reachable from @top through filter and COW edges (or equal). */
bool bdrv_chain_contains(BlockDriverState *top, BlockDriverState *base);
/* The node above @base in the chain of @active. */
BlockDriverState *bdrv_find_overlay(BlockDriverState *active,
                                    BlockDriverState *base);
BlockDriverState *bdrv_find_base(BlockDriverState *bs);
/*
 * The image below @bs that @name means: as the header of the image above it has
 * it, or as a path from here or from there. NULL if there is none. Main thread.
 */
BlockDriverState *bdrv_find_backing_image(BlockDriverState *bs,
                                          const char *name);
/* Any path from @from to @to. */
bool bdrv_reaches(BlockDriverState *from, BlockDriverState *to);

/* Graph with permissions and claims; caller frees. */
BlockGraph *bdrv_query_block_graph(void);
XDbgBlockGraph *bdrv_get_xdbg_block_graph(Error **errp);

#endif
