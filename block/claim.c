/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Claims on edges.
 *
 * Invariants:
 * 1. For one edge: either all claims are FREEZE, or exactly one owner has a
 *    claim (that owner may hold CHANGE).
 * 2. One BdrvClaim record per (edge, owner), with both counters; it exists as
 *    long as one counter is positive.
 * 3. A record holds one reference to the node below the edge and, if the
 *    parent is a node, one to the parent.
 */
#include "util/osdep.h"
#include "block/block_int.h"
#include "block/claim.h"
#include "block/graph-internal.h"

struct BdrvClaimOwner {
    char *name;
    QLIST_HEAD(, BdrvClaim) claims;
    /* Nodes whose incoming_owner is this one; borrowed pointers, each node
     * holds a reference through this list. */
    GPtrArray *incoming;
};

typedef struct BdrvClaim {
    BdrvClaimOwner *owner;
    BdrvChild *child;
    unsigned freeze;
    unsigned change;
    QLIST_ENTRY(BdrvClaim) next_of_edge;
    QLIST_ENTRY(BdrvClaim) next_of_owner;
} BdrvClaim;

BdrvClaimOwner *bdrv_claim_owner_new(const char *fmt, ...)
{
    BdrvClaimOwner *owner = g_new0(BdrvClaimOwner, 1);
    va_list ap;

    va_start(ap, fmt);
    owner->name = g_strdup_vprintf(fmt, ap);
    va_end(ap);
    QLIST_INIT(&owner->claims);
    owner->incoming = g_ptr_array_new();
    return owner;
}

const char *bdrv_claim_owner_name(const BdrvClaimOwner *owner)
{
    return owner->name;
}

unsigned bdrv_claim_owner_count(const BdrvClaimOwner *owner)
{
    unsigned n = 0;
    BdrvClaim *c;

    QLIST_FOREACH(c, &owner->claims, next_of_owner) {
        n += c->freeze + c->change;
    }
    return n;
}

static BlockDriverState *claim_parent_node(BdrvChild *child)
{
    return child->klass->parent_is_bds ? child->opaque : NULL;
}

static BdrvClaim *claim_find(BdrvChild *child, BdrvClaimOwner *owner)
{
    BdrvClaim *c;

    QLIST_FOREACH(c, &child->claims, next_of_edge) {
        if (c->owner == owner) {
            return c;
        }
    }
    return NULL;
}

static BdrvClaim *claim_find_other(BdrvChild *child, BdrvClaimOwner *owner)
{
    BdrvClaim *c;

    QLIST_FOREACH(c, &child->claims, next_of_edge) {
        if (c->owner != owner) {
            return c;
        }
    }
    return NULL;
}

static BdrvClaim *claim_new(BdrvChild *child, BdrvClaimOwner *owner)
{
    BdrvClaim *c = g_new0(BdrvClaim, 1);

    c->owner = owner;
    c->child = child;
    QLIST_INSERT_HEAD(&child->claims, c, next_of_edge);
    QLIST_INSERT_HEAD(&owner->claims, c, next_of_owner);
    bdrv_ref(child->bs);
    if (claim_parent_node(child)) {
        bdrv_ref(claim_parent_node(child));
    }
    return c;
}

static void claim_free(BdrvClaim *c)
{
    BlockDriverState *below = c->child->bs;
    BlockDriverState *parent = claim_parent_node(c->child);

    QLIST_REMOVE(c, next_of_edge);
    QLIST_REMOVE(c, next_of_owner);
    g_free(c);
    /* May close the nodes and free the edge: nothing here is used after. */
    bdrv_unref(below);
    bdrv_unref(parent);
}

/* "'backing' edge from 'mid' to 'base'"; parents that are not nodes describe
 * themselves. Caller frees. */
static char *claim_edge_desc(BdrvChild *child)
{
    BlockDriverState *parent = claim_parent_node(child);
    g_autofree char *from =
        parent ? g_strdup_printf("'%s'", bdrv_get_node_name(parent))
               : child->klass->get_parent_desc(child);

    return g_strdup_printf("'%s' edge from %s to '%s'", child->name, from,
                           bdrv_get_node_name(child->bs));
}

/* As an obstacle for @owner: its own CHANGE is none. */
static const char *claim_state(const BdrvClaim *c, BdrvClaimOwner *owner)
{
    return c->change && c->owner != owner ? "claimed for a change" : "frozen";
}

bool bdrv_claim(BdrvClaimOwner *owner, BdrvChild *child, BdrvClaimType type,
                Error **errp)
{
    BdrvClaim *own = claim_find(child, owner);
    BdrvClaim *other = claim_find_other(child, owner);

    if (other && (type == BDRV_CLAIM_CHANGE || other->change)) {
        g_autofree char *edge = claim_edge_desc(child);
        error_setg(errp, "Cannot %s %s for %s: %s by %s",
                   type == BDRV_CLAIM_CHANGE ? "claim" : "freeze", edge,
                   owner->name, claim_state(other, owner), other->owner->name);
        return false;
    }
    if (own && type == BDRV_CLAIM_CHANGE && own->freeze) {
        g_autofree char *edge = claim_edge_desc(child);
        error_setg(errp, "Cannot claim %s for %s: frozen by itself", edge,
                   owner->name);
        error_append_hint(errp, "A freeze becomes a change claim by an "
                          "explicit upgrade.\n");
        return false;
    }
    if (!own) {
        own = claim_new(child, owner);
    }
    if (type == BDRV_CLAIM_CHANGE) {
        own->change++;
    } else {
        own->freeze++;
    }
    return true;
}

void bdrv_claim_release(BdrvClaimOwner *owner, BdrvChild *child,
                        BdrvClaimType type)
{
    BdrvClaim *c = claim_find(child, owner);

    assert(c);
    if (type == BDRV_CLAIM_CHANGE) {
        assert(c->change);
        c->change--;
    } else {
        assert(c->freeze);
        c->freeze--;
    }
    if (!c->freeze && !c->change) {
        claim_free(c);
    }
}

bool bdrv_claim_upgrade(BdrvClaimOwner *owner, BdrvChild *child, Error **errp)
{
    BdrvClaim *own = claim_find(child, owner);
    BdrvClaim *other = claim_find_other(child, owner);

    assert(own);
    if (other) {
        g_autofree char *edge = claim_edge_desc(child);
        error_setg(errp, "Cannot upgrade the claim of %s on %s: %s by %s",
                   owner->name, edge, claim_state(other, owner),
                   other->owner->name);
        return false;
    }
    own->change += own->freeze;
    own->freeze = 0;
    return true;
}

/* Edges from @top down to (and into) @base; NULL if @base is not reached. */
static GPtrArray *claim_chain_edges(BlockDriverState *top,
                                    BlockDriverState *base)
{
    g_autoptr(GPtrArray) edges = g_ptr_array_new();
    BlockDriverState *bs = top;

    while (bs != base) {
        BdrvChild *child = bdrv_filter_or_cow_child(bs);

        if (!child) {
            return base ? NULL : g_steal_pointer(&edges);
        }
        g_ptr_array_add(edges, child);
        bs = child->bs;
    }
    return g_steal_pointer(&edges);
}

bool bdrv_chain_claim(BdrvClaimOwner *owner, BlockDriverState *top,
                      BlockDriverState *base, BdrvClaimType type,
                      Error **errp)
{
    g_autoptr(GPtrArray) edges = claim_chain_edges(top, base);

    if (!edges) {
        error_setg(errp, "Node '%s' is not in the backing chain of '%s'",
                   bdrv_get_node_name(base), bdrv_get_node_name(top));
        return false;
    }
    for (guint i = 0; i < edges->len; i++) {
        if (!bdrv_claim(owner, edges->pdata[i], type, errp)) {
            while (i-- > 0) {
                bdrv_claim_release(owner, edges->pdata[i], type);
            }
            return false;
        }
    }
    return true;
}

void bdrv_chain_release(BdrvClaimOwner *owner, BlockDriverState *top,
                        BlockDriverState *base, BdrvClaimType type)
{
    g_autoptr(GPtrArray) edges = claim_chain_edges(top, base);

    /* A claimed chain cannot have been cut by anybody else. */
    assert(edges);
    bdrv_ref(top);
    for (guint i = edges->len; i-- > 0; ) {
        bdrv_claim_release(owner, edges->pdata[i], type);
    }
    bdrv_unref(top);
}

bool bdrv_claim_incoming(BdrvClaimOwner *owner, BlockDriverState *bs,
                         Error **errp)
{
    g_autoptr(GPtrArray) taken = g_ptr_array_new();
    BdrvChild *c;

    if (bs->incoming_owner) {
        error_setg(errp, "Cannot claim the users of node '%s' for %s: "
                   "claimed for a change by %s", bdrv_get_node_name(bs),
                   owner->name, bs->incoming_owner->name);
        return false;
    }
    QLIST_FOREACH(c, &bs->parents, next_parent) {
        if (!bdrv_claim(owner, c, BDRV_CLAIM_CHANGE, errp)) {
            for (guint i = 0; i < taken->len; i++) {
                bdrv_claim_release(owner, taken->pdata[i], BDRV_CLAIM_CHANGE);
            }
            return false;
        }
        g_ptr_array_add(taken, c);
    }
    bs->incoming_owner = owner;
    g_ptr_array_add(owner->incoming, bdrv_ref(bs));
    return true;
}

void bdrv_claim_incoming_release(BdrvClaimOwner *owner, BlockDriverState *bs)
{
    BdrvChild *c;

    assert(bs->incoming_owner == owner);
    bs->incoming_owner = NULL;
    /* Parents that nobody else keeps are closed after the loop over them. */
    bdrv_graph_change_begin();
    QLIST_FOREACH(c, &bs->parents, next_parent) {
        bdrv_claim_release(owner, c, BDRV_CLAIM_CHANGE);
    }
    g_ptr_array_remove(owner->incoming, bs);
    bdrv_unref(bs);
    bdrv_graph_change_end();
}

void bdrv_claim_owner_free(BdrvClaimOwner *owner)
{
    BdrvClaim *c;

    if (!owner) {
        return;
    }
    while (owner->incoming->len) {
        bdrv_claim_incoming_release(owner, owner->incoming->pdata[0]);
    }
    while ((c = QLIST_FIRST(&owner->claims))) {
        claim_free(c);
    }
    g_ptr_array_free(owner->incoming, true);
    g_free(owner->name);
    g_free(owner);
}

bool bdrv_claim_may_change(BdrvChild *child, BdrvClaimOwner *owner,
                           Error **errp)
{
    BdrvClaim *own = owner ? claim_find(child, owner) : NULL;
    BdrvClaim *obstacle = claim_find_other(child, owner);

    if (!obstacle && own && own->freeze) {
        obstacle = own;
    }
    if (obstacle) {
        g_autofree char *edge = claim_edge_desc(child);
        error_setg(errp, "Cannot change %s: %s by %s", edge,
                   claim_state(obstacle, owner), obstacle->owner->name);
        return false;
    }
    return true;
}

unsigned bdrv_claim_count(BdrvChild *child, BdrvClaimOwner *owner,
                          BdrvClaimType type)
{
    BdrvClaim *c = claim_find(child, owner);

    if (!c) {
        return 0;
    }
    return type == BDRV_CLAIM_CHANGE ? c->change : c->freeze;
}

BlockGraphClaimList *bdrv_claim_query(BdrvChild *child)
{
    BlockGraphClaimList *list = NULL;
    BdrvClaim *c;

    QLIST_FOREACH(c, &child->claims, next_of_edge) {
        for (int is_change = 0; is_change <= 1; is_change++) {
            unsigned n = is_change ? c->change : c->freeze;

            if (n) {
                BlockGraphClaim *claim = g_new0(BlockGraphClaim, 1);
                claim->kind = is_change ? BLOCK_GRAPH_CLAIM_KIND_CHANGE
                                        : BLOCK_GRAPH_CLAIM_KIND_FREEZE;
                claim->owner = g_strdup(c->owner->name);
                claim->count = n;
                QAPI_LIST_PREPEND(list, claim);
            }
        }
    }
    return list;
}

void bdrv_claim_edge_redirected(BdrvChild *child, BlockDriverState *new_bs)
{
    BdrvClaim *c;

    QLIST_FOREACH(c, &child->claims, next_of_edge) {
        bdrv_ref(new_bs);
        bdrv_unref(child->bs);
    }
}

void bdrv_claim_edge_gone(BdrvChild *child)
{
    BdrvClaim *c;

    while ((c = QLIST_FIRST(&child->claims))) {
        claim_free(c);
    }
}

void bdrv_claim_edge_arrived(BdrvChild *child)
{
    BdrvClaimOwner *owner = child->bs->incoming_owner;
    BdrvClaim *c;

    if (!owner) {
        return;
    }
    c = claim_find(child, owner);
    if (!c) {
        c = claim_new(child, owner);
    }
    c->change++;
}

void bdrv_claim_edge_leaves(BdrvChild *child)
{
    BdrvClaimOwner *owner = child->bs->incoming_owner;

    if (owner) {
        bdrv_claim_release(owner, child, BDRV_CLAIM_CHANGE);
    }
}

bool bdrv_claim_any_below(BlockDriverState *bs)
{
    BdrvChild *child;

    QTAILQ_FOREACH(child, &bs->children, next) {
        if (!QLIST_EMPTY(&child->claims)) {
            return true;
        }
    }
    return false;
}
