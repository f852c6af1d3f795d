/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Bitmaps that an image keeps.
 *
 * A dirty bitmap with the persistent flag lives in memory like any other and
 * is stored by the driver of its node: when the node closes or becomes
 * read-only, and when somebody says so. What is stored counts until then: as
 * soon as a write makes it wrong the driver marks it as being in use, on disk,
 * before the write. So what a crash leaves of a bitmap is either right or says
 * that it is not; that one is loaded as inconsistent.
 *
 * Main thread, outside coroutines.
 */
#ifndef BLOCK_PERSISTENT_BITMAP_H
#define BLOCK_PERSISTENT_BITMAP_H

#include "block/dirty-bitmap.h"
#include "util/transactions.h"

/* Can images of this kind store bitmaps at all? */
bool bdrv_supports_persistent_dirty_bitmap(BlockDriverState *bs);

/* Can @bs store one more bitmap like this? False with the reason. */
bool bdrv_can_store_new_dirty_bitmap(BlockDriverState *bs, const char *name,
                                     uint32_t granularity, Error **errp);

enum {
    /* Only remove; of the others store no more than what has to be marked. */
    BDRV_SAVE_BITMAPS_REMOVE_ONLY = 1,
    /* Everything that is stored goes, damaged entries too, and whatever is
     * in memory by that name; persistent ones not yet stored are. */
    BDRV_SAVE_BITMAPS_REMOVE_ALL = 2,
};

/*
 * Stores all persistent bitmaps that are not stored as they are and takes away
 * those named in @remove (NULL-terminated; NULL: none), all in one step: after
 * a failure or a crash the image has either all of it or nothing. Drains the
 * node meanwhile. 0 or -errno.
 */
int bdrv_save_persistent_dirty_bitmaps(BlockDriverState *bs,
                                       const char *const *remove,
                                       unsigned flags, Error **errp);

/*
 * Takes the stored bitmap away; what is in memory stays. No error if it is not
 * stored.
 */
int bdrv_remove_persistent_dirty_bitmap(BlockDriverState *bs,
                                        const char *name, Error **errp);

/*
 * Changes of bitmaps in memory as parts of a transaction: done at once, undone
 * if it aborts. False with @errp and nothing done. Nothing writes to the node
 * (it is drained) up to the end of the transaction. In between the caller may
 * save, which then covers them all.
 */

/* @granularity 0: the default. */
BdrvDirtyBitmap *bdrv_dirty_bitmap_add_tran(BlockDriverState *bs,
                                            const char *name,
                                            uint32_t granularity,
                                            bool persistent, bool disabled,
                                            Transaction *tran, Error **errp);
/* Inconsistent ones, too. Its stored copy is the caller's: see save. */
bool bdrv_dirty_bitmap_remove_tran(BlockDriverState *bs, const char *name,
                                   Transaction *tran, Error **errp);
bool bdrv_dirty_bitmap_clear_tran(BlockDriverState *bs, const char *name,
                                  Transaction *tran, Error **errp);
bool bdrv_dirty_bitmap_enable_tran(BlockDriverState *bs, const char *name,
                                   bool enable, Transaction *tran,
                                   Error **errp);
/* ORs @src (any node, same size) into @name. */
bool bdrv_dirty_bitmap_merge_tran(BlockDriverState *bs, const char *name,
                                  BdrvDirtyBitmap *src, Transaction *tran,
                                  Error **errp);

#endif
