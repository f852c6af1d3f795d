/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Claims protect edges of the graph for whoever relies on them.
 *
 * Permissions are about the node below an edge; a claim is about the edge
 * itself. Anybody may hold one, not only the edge's parent:
 *
 *   FREEZE  the edge must stay as it is; any number of owners
 *   CHANGE  the owner will change the edge later; nobody else holds anything
 *
 * An edge counts both kinds for each owner. A change of an edge presents an
 * owner token (or NULL): it is allowed when the edge has no claim at all, or
 * when the only claim on it is that owner's CHANGE. FREEZE becomes CHANGE only
 * by bdrv_claim_upgrade().
 *
 * A claim keeps references to the node below and, if the parent is a node, to
 * the parent: a claimed edge cannot vanish by a node being closed. Where the
 * parent is not a node (backend, export, job), the parent may go away at any
 * time and takes its edge and the claims on it with it.
 *
 * All functions: main thread, outside coroutines.
 */
#ifndef BLOCK_CLAIM_H
#define BLOCK_CLAIM_H

#include "block/block-common.h"

typedef enum {
    BDRV_CLAIM_FREEZE,
    BDRV_CLAIM_CHANGE,
} BdrvClaimType;

/*
 * Makes an owner. @fmt describes it for error messages, for instance
 * "commit job 'job0'". Never fails.
 */
BdrvClaimOwner *bdrv_claim_owner_new(const char *fmt, ...) G_GNUC_PRINTF(1, 2);

/* Releases every claim that @owner still holds, then frees it. NULL is fine. */
void bdrv_claim_owner_free(BdrvClaimOwner *owner);

const char *bdrv_claim_owner_name(const BdrvClaimOwner *owner);

/* Number of claims (edges times counts) that @owner holds. */
unsigned bdrv_claim_owner_count(const BdrvClaimOwner *owner);

/*
 * Takes one claim on @child. Fails, taking nothing and naming the other
 * owner, if another owner's claim is incompatible. CHANGE also fails when
 * @owner itself only holds FREEZE there: that is an upgrade.
 * Claims of one owner on one edge add up and are released one by one.
 */
bool bdrv_claim(BdrvClaimOwner *owner, BdrvChild *child, BdrvClaimType type,
                Error **errp);

/* Gives back one claim of @type that @owner holds on @child (asserted). */
void bdrv_claim_release(BdrvClaimOwner *owner, BdrvChild *child,
                        BdrvClaimType type);

/*
 * Turns every FREEZE that @owner holds on @child into CHANGE. Fails without
 * effect when another owner holds any claim on @child.
 */
bool bdrv_claim_upgrade(BdrvClaimOwner *owner, BdrvChild *child, Error **errp);

/*
 * Claims every edge of the chain from @top down to @base (the edge into @base
 * included), following backing and filtered children; all of them or none.
 * @base NULL means the whole chain. Fails too if @base is not below @top.
 */
bool bdrv_chain_claim(BdrvClaimOwner *owner, BlockDriverState *top,
                      BlockDriverState *base, BdrvClaimType type,
                      Error **errp);

/* Releases what a bdrv_chain_claim() with the same arguments took. */
void bdrv_chain_release(BdrvClaimOwner *owner, BlockDriverState *top,
                        BlockDriverState *base, BdrvClaimType type);

/*
 * For a node of the owner's own (its filter): takes CHANGE on every edge that
 * leads to @bs, and on every edge attached to or redirected to it later, until
 * bdrv_claim_incoming_release(). All or none. One owner per node.
 */
bool bdrv_claim_incoming(BdrvClaimOwner *owner, BlockDriverState *bs,
                         Error **errp);
void bdrv_claim_incoming_release(BdrvClaimOwner *owner, BlockDriverState *bs);

/* Whether @owner (may be NULL) may change @child; the error names the holder. */
bool bdrv_claim_may_change(BdrvChild *child, BdrvClaimOwner *owner,
                           Error **errp);

/* Claims of @owner on @child of this type; 0 if none. */
unsigned bdrv_claim_count(BdrvChild *child, BdrvClaimOwner *owner,
                          BdrvClaimType type);

/* The claims on @child as QAPI list, for query-block-graph. Caller frees. */
BlockGraphClaimList *bdrv_claim_query(BdrvChild *child);

/*
 * For the graph code only. The edge is about to point to @new_bs (references
 * follow); or it is about to be freed (claims on it are dropped).
 */
void bdrv_claim_edge_redirected(BdrvChild *child, BlockDriverState *new_bs);
void bdrv_claim_edge_gone(BdrvChild *child);
/*
 * @child has come to lead to / is about to leave a node with an
 * incoming_owner: that owner's claim is added / taken back.
 */
void bdrv_claim_edge_arrived(BdrvChild *child);
void bdrv_claim_edge_leaves(BdrvChild *child);
/* Claims of anybody on any edge below @bs; closing asserts there are none. */
bool bdrv_claim_any_below(BlockDriverState *bs);

#endif
