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
/* As bdrv_next_node(), with those whose last reference is gone and that are being
 * closed. */
BlockDriverState *bdrv_next_node_or_closing(BlockDriverState *bs);
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

/* --- chain.c --- */

/* @bs and all nodes above it, every child before its parents; borrowed
 * pointers. The caller frees the array. */
GPtrArray *bdrv_nodes_above(BlockDriverState *bs);

/* --- graph.c --- */

/* One public change of the graph, from graph_change_init() to
 * graph_change_end(). */
typedef struct GraphChange {
    Transaction *tran;
    GPtrArray *drained;         /* kept quiet and alive */
    GPtrArray *limits;          /* borrowed: nodes whose limits may change */
} GraphChange;

void graph_change_init(GraphChange *change);
/* NULL is fine. */
void graph_change_add_node(GraphChange *change, BlockDriverState *bs);
/* Takes the write lock, after all nodes were added. */
void graph_change_lock(GraphChange *change);
/*
 * Children of @bs, or of nodes above it, are about to change: limits follow in
 * graph_change_settle(), in the order of these calls, or go back on abort.
 */
void graph_change_keep_limits(GraphChange *change, BlockDriverState *bs);
/* After the changes: permissions from @a and @b (one may be NULL) downwards,
 * and limits. */
bool graph_change_settle(GraphChange *change, BlockDriverState *a,
                         BlockDriverState *b, Error **errp);
/* Commits or aborts by @ok, which is returned, and undoes the rest. */
bool graph_change_end(GraphChange *change, bool ok);

/* --- permission.c --- */

/* Nodes reachable from @nodes, every parent before its children; borrowed
 * pointers. The caller frees the array. */
GPtrArray *bdrv_nodes_top_down(GSList *nodes);
/*
 * Gives up whatever @bs and the nodes below it can do without, for edges that
 * went away. Asks nobody and cannot fail; a driver that cannot give up
 * something is asked again at the node's next permission change.
 */
void bdrv_relax_perms(BlockDriverState *bs);

/* --- describe.c --- */

/* What is being opened, and for whom. */
typedef struct OpenRequest {
    const char *filename;       /* borrowed; may be NULL */
    QDict *options;             /* owned; nested once described */
    int flags;                  /* BDRV_O_*; options win over them */
    BlockDriverState *parent;   /* inline child of it, or NULL */
    BlockDriver *drv;           /* found by bdrv_describe() */
    bool probed;                /* it was guessed from the first bytes */
    QObject *backing;           /* taken out of options; owned; may be NULL */
    GPtrArray *helpers;         /* nodes found on the way; owned references */
    GPtrArray *adopted;         /* those of them opened for this description */
} OpenRequest;

/*
 * Completes the description in @req: driver and options of the node, drivers
 * of inline children. Whatever has to be opened for that goes to helpers. On
 * failure the caller frees what is in @req as after success.
 */
bool bdrv_describe(OpenRequest *req, Error **errp);

/*
 * Flags an inline child in @role starts from: its parent, of driver @drv (NULL:
 * some format), has @flags. BDRV_O_PROTOCOL says that it is a file, not
 * something to be probed, unless it names a driver.
 */
int bdrv_child_flags(const BlockDriver *drv, BdrvChildRole role, int flags);

/* --- filename.c --- */

/* The image's header was read or written: it says what bs->backing_file and
 * backing_format are at this moment. */
void bdrv_note_header_backing(BlockDriverState *bs);

/* --- open.c --- */

/*
 * Opens a node with all below it, for bdrv_open() and for children without
 * parent yet. As bdrv_open(); @options is taken over.
 */
BlockDriverState *bdrv_open_tree(const char *filename, const char *reference,
                                 QDict *options, int flags, Error **errp);

/* --- activate.c --- */

/* @bs and what lies below it was opened: what is to be inactive is so. */
void bdrv_settle_inactive(BlockDriverState *bs);
/* A node without driver yet whose options say that it is inactive. */
bool bdrv_can_open_inactive(BlockDriverState *bs, const BlockDriver *drv,
                            Error **errp);
/* Whether all parents of @bs, if that is inactive, can have it like this. */
bool bdrv_users_allow_inactive(BlockDriverState *bs, Error **errp);

/* --- options.c --- */

/*
 * Turns nested @dict (driver named, children named or described) into the
 * typed form; errors name the option.
 */
BlockdevOptions *bdrv_options_from_qdict(QDict *dict, Error **errp);
/*
 * @flags as the options common to all nodes in @dict (nested) change them.
 * Values that make no sense are left for bdrv_options_from_qdict() to refuse.
 */
int bdrv_options_peek_flags(QDict *dict, int flags);
/*
 * Reads the options common to all nodes into *@flags and *@detect_zeroes;
 * what is left out keeps its value there.
 */
bool bdrv_common_options(BlockdevOptions *options, int *flags,
                         BlockdevDetectZeroesOptions *detect_zeroes,
                         Error **errp);
/* Dotted keys become nested dictionaries and lists; @dict is taken over. */
QDict *bdrv_options_nest(QDict *dict, Error **errp);

#endif
