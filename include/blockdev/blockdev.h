/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Nodes as users of QMP and of --blockdev have them: the commands' shared parts.
 * Main thread, outside coroutines.
 */
#ifndef BLOCKDEV_BLOCKDEV_H
#define BLOCKDEV_BLOCKDEV_H

#include "block/block.h"

/*
 * Opens a node that belongs to the user until blockdev-del. @options is
 * borrowed. NULL with @errp; the node is borrowed.
 */
BlockDriverState *blockdev_add(BlockdevOptions *options, Error **errp);
/* From an argument of --blockdev. */
bool blockdev_add_from_option(const char *text, Error **errp);

/*
 * The node that @device or @node_name (NULL: not given) means; both are looked
 * for among node names. Borrowed; the error names both.
 */
BlockDriverState *blockdev_lookup(const char *device, const char *node_name,
                                  Error **errp);

/* Events of nodes are sent from now on. */
void blockdev_init(void);

#endif
