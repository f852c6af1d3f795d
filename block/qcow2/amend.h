/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Changing what an image is made of (amend*.c). */
#ifndef BLOCK_QCOW2_AMEND_H
#define BLOCK_QCOW2_AMEND_H

#include "block/qcow2/qcow2.h"

int qcow2_amend(BlockDriverState *bs, QDict *options,
                const BdrvAmendArgs *args, Error **errp);
/*
 * Refcounts of 1 << @order bits from now on: a new structure beside the old one,
 * then one write of the header. -ERANGE: the count of a cluster needs more. What
 * is in flight is the caller's care. [lock]
 */
int coroutine_fn qcow2_amend_refcounts(BlockDriverState *bs, int order,
                                       const BdrvAmendArgs *args,
                                       Error **errp);
/* Only looks whether that could be. [lock] */
int coroutine_fn qcow2_amend_refcounts_check(BlockDriverState *bs, int order,
                                             Error **errp);
/* Version 2 to 3. [lock] */
int coroutine_fn qcow2_amend_upgrade(BlockDriverState *bs, Error **errp);
/*
 * Version 3 to 2. check: whether everything can be kept, apart from the width of
 * refcounts. expand, without the lock and with the whole disk claimed by the
 * caller being the only user: no cluster has the zero flag afterwards.
 */
int coroutine_fn qcow2_amend_downgrade_check(BlockDriverState *bs,
                                             Error **errp);
int coroutine_fn qcow2_amend_expand_zeroes(BlockDriverState *bs,
                                           const BdrvAmendArgs *args,
                                           Error **errp);
int coroutine_fn qcow2_amend_downgrade(BlockDriverState *bs, Error **errp);

#endif
