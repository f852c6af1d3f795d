/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Inactive nodes: a node that has given up its file, so that another program
 * may open and change the image, until it is activated again.
 *
 * 1. An inactive node holds no file lock and no permission on what is below it.
 *    Everything that it had is durable in the file, which is as a close would
 *    leave it; persistent bitmaps are in the file only.
 * 2. Requests of its users end with -EPERM. An export may stay, if it only
 *    reads or was added with allow-inactive; a job, or another writer, makes
 *    deactivating fail.
 * 3. The parents of an inactive node are inactive. Deactivating goes from a
 *    node downwards, through all that no active parent needs any more, parents
 *    first; activating goes upwards, children first.
 * 4. Activating takes permissions and locks, then reads all metadata again, and
 *    the length. A bitmap that is not persistent says that everything is dirty
 *    afterwards: it does not know what was written meanwhile.
 * 5. What fails leaves every node as it was.
 *
 * Main thread, outside coroutines.
 */
#ifndef BLOCK_ACTIVATE_H
#define BLOCK_ACTIVATE_H

#include "block/block-common.h"

bool bdrv_is_inactive(BlockDriverState *bs);
/* "Node 'X' is inactive", for what is not a request of a user. */
bool bdrv_check_active(BlockDriverState *bs, Error **errp);

/* @bs, or NULL: all nodes; and what is below. Polls. Nothing to do is fine. */
bool bdrv_activate(BlockDriverState *bs, Error **errp);
bool bdrv_inactivate(BlockDriverState *bs, Error **errp);

#endif
