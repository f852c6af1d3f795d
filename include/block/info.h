/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What can be told about an open node, as QAPI types and as text for people.
 * Main thread, outside coroutines.
 */
#ifndef BLOCK_INFO_H
#define BLOCK_INFO_H

#include "block/block-common.h"

/*
 * @bs and everything below it. @limits: with the request limits of each node.
 * The caller frees; NULL with @errp set if the length cannot be had.
 */
BlockGraphInfo *bdrv_query_block_graph_info(BlockDriverState *bs, bool limits,
                                            Error **errp);

/*
 * @bs, with the images of its backing chain (those that are open) nested in
 * backing-image. The caller frees; NULL with @errp set as above.
 */
ImageInfo *bdrv_query_image_info(BlockDriverState *bs, Error **errp);
/* The same without backing-image. */
ImageInfo *bdrv_query_one_image_info(BlockDriverState *bs, Error **errp);

/*
 * Whether somebody else, in any process, has the file that @bs leads to open
 * for writing. False also if nobody can tell (no locks there).
 */
bool bdrv_has_other_writer(BlockDriverState *bs);

/*
 * The functions below append whole lines to @out, each indented by
 * 4 * @indentation blanks.
 */

/* A node, with the headings for a protocol node or for an image. */
void bdrv_node_info_text(GString *out, BlockNodeInfo *info, int indentation,
                         bool protocol);
/* A node and, with their paths, the nodes below it. */
void bdrv_graph_info_text(GString *out, BlockGraphInfo *info);
/*
 * The driver's own information below the line "@heading:"; nothing at all if
 * there is none (@info may be NULL).
 */
void bdrv_image_info_specific_text(GString *out, ImageInfoSpecific *info,
                                   const char *heading, int indentation);
/* The table of internal snapshots with its head line. */
void bdrv_snapshots_text(GString *out, SnapshotInfoList *list,
                         int indentation);

#endif
