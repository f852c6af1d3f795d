/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The home of a node: the IOThread in which those who show it to others run their
 * requests when nobody has told them another one. A request may run anywhere, so
 * this is about load, never about what is allowed. Main thread.
 */
#ifndef BLOCK_HOME_H
#define BLOCK_HOME_H

#include "block/block-common.h"
#include "objects/object.h"

/*
 * Makes object @id the home of @bs, which holds a use of it; NULL: the main loop, or
 * what the nodes below it say. False with @errp: there is no such IOThread.
 */
bool bdrv_set_home(BlockDriverState *bs, const char *id, Error **errp);
/* Of @bs, or else the nearest node below it that stands for its storage; borrowed.
 * NULL: the main loop. */
UserObject *bdrv_home(BlockDriverState *bs);

#endif
