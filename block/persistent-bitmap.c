/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Bitmaps that an image keeps: what is common to all drivers. */
#include "util/osdep.h"
#include "block/activate.h"
#include "block/block_int.h"
#include "block/persistent-bitmap.h"

bool bdrv_supports_persistent_dirty_bitmap(BlockDriverState *bs)
{
    return bs->drv && bs->drv->bdrv_can_store_bitmap;
}

bool bdrv_can_store_new_dirty_bitmap(BlockDriverState *bs, const char *name,
                                     uint32_t granularity, Error **errp)
{
    if (!bs->drv) {
        error_setg_errno(errp, ENOMEDIUM, "Can't store persistent bitmaps to "
                         "%s", bdrv_get_device_or_node_name(bs));
        return false;
    }
    if (!bs->drv->bdrv_can_store_bitmap) {
        error_setg_errno(errp, ENOTSUP, "Can't store persistent bitmaps to "
                         "%s", bdrv_get_device_or_node_name(bs));
        return false;
    }
    return bdrv_check_active(bs, errp) &&
           bs->drv->bdrv_can_store_bitmap(bs, name, granularity, errp);
}

int bdrv_save_persistent_dirty_bitmaps(BlockDriverState *bs,
                                       const char *const *remove,
                                       unsigned flags, Error **errp)
{
    int ret;

    if (!bs->drv || !bs->drv->bdrv_save_bitmaps) {
        error_setg_errno(errp, ENOTSUP, "Can't store persistent bitmaps to "
                         "%s", bdrv_get_device_or_node_name(bs));
        return -ENOTSUP;
    }
    if (!bdrv_check_active(bs, errp)) {
        return -EPERM;
    }
    if (!(bs->open_flags & BDRV_O_RDWR)) {
        error_setg(errp, "Node '%s' is read only",
                   bdrv_get_device_or_node_name(bs));
        return -EROFS;
    }
    bdrv_drained_begin(bs);
    ret = bs->drv->bdrv_save_bitmaps(bs, remove, flags, errp);
    bdrv_drained_end(bs);
    return ret;
}

int bdrv_remove_persistent_dirty_bitmap(BlockDriverState *bs,
                                        const char *name, Error **errp)
{
    const char *const remove[] = { name, NULL };

    return bdrv_save_persistent_dirty_bitmaps(
        bs, remove, BDRV_SAVE_BITMAPS_REMOVE_ONLY, errp);
}

/* --- parts of a transaction --- */

typedef struct BitmapChange {
    BdrvDirtyBitmap *bitmap;
    HBitmap *backup;
    bool was_enabled;
    bool was_changed;
} BitmapChange;

/* What it is like before a change. */
static BitmapChange *change_begin(BdrvDirtyBitmap *bitmap)
{
    BitmapChange *c = g_new0(BitmapChange, 1);

    c->bitmap = bitmap;
    c->was_enabled = bdrv_dirty_bitmap_enabled(bitmap);
    c->was_changed = bdrv_dirty_bitmap_changed(bitmap);
    return c;
}

/* It is as before again, so what was saved before is right. */
static void change_undone(BitmapChange *c)
{
    if (!c->was_changed) {
        bdrv_dirty_bitmap_set_saved(c->bitmap);
    }
}

static BdrvDirtyBitmap *find_bitmap(BlockDriverState *bs, const char *name,
                                    uint32_t check, Error **errp)
{
    BdrvDirtyBitmap *bitmap = bdrv_find_dirty_bitmap(bs, name);

    if (!bitmap) {
        error_setg(errp, "Dirty bitmap '%s' not found", name);
        return NULL;
    }
    return bdrv_dirty_bitmap_check(bitmap, check, errp) ? bitmap : NULL;
}

static void release_added(void *opaque)
{
    BitmapChange *c = opaque;

    bdrv_release_dirty_bitmap(c->bitmap);
}

static const TransactionActionDrv add_actions = {
    .abort = release_added,
    .clean = g_free,
};

BdrvDirtyBitmap *bdrv_dirty_bitmap_add_tran(BlockDriverState *bs,
                                            const char *name,
                                            uint32_t granularity,
                                            bool persistent, bool disabled,
                                            Transaction *tran, Error **errp)
{
    BdrvDirtyBitmap *bitmap;

    if (!*name) {
        error_setg(errp, "Bitmap name cannot be empty");
        return NULL;
    }
    if (granularity == 0) {
        granularity = bdrv_get_default_bitmap_granularity(bs);
    } else if (granularity < BDRV_SECTOR_SIZE ||
               granularity & (granularity - 1)) {
        error_setg(errp, "Granularity must be power of 2 and at least 512");
        return NULL;
    }
    if (persistent &&
        !bdrv_can_store_new_dirty_bitmap(bs, name, granularity, errp)) {
        return NULL;
    }
    bitmap = bdrv_create_dirty_bitmap(bs, granularity, name, errp);
    if (!bitmap) {
        return NULL;
    }
    if (disabled) {
        bdrv_disable_dirty_bitmap(bitmap);
    }
    if (persistent) {
        bdrv_dirty_bitmap_set_persistence(bitmap, true);
    }
    tran_add(tran, &add_actions, change_begin(bitmap));
    return bitmap;
}

static void unhide(void *opaque)
{
    BitmapChange *c = opaque;

    bdrv_dirty_bitmap_set_hidden(c->bitmap, false);
    change_undone(c);
}

static const TransactionActionDrv remove_actions = {
    .abort = unhide,
    .commit = release_added,
    .clean = g_free,
};

bool bdrv_dirty_bitmap_remove_tran(BlockDriverState *bs, const char *name,
                                   Transaction *tran, Error **errp)
{
    BdrvDirtyBitmap *bitmap = find_bitmap(bs, name,
                                          BDRV_BITMAP_BUSY | BDRV_BITMAP_RO,
                                          errp);

    if (!bitmap) {
        return false;
    }
    tran_add(tran, &remove_actions, change_begin(bitmap));
    bdrv_dirty_bitmap_set_hidden(bitmap, true);
    return true;
}

static void restore_bits(void *opaque)
{
    BitmapChange *c = opaque;

    bdrv_restore_dirty_bitmap(c->bitmap, c->backup);
    change_undone(c);
}

static void free_bits(void *opaque)
{
    BitmapChange *c = opaque;

    hbitmap_free(c->backup);
}

static const TransactionActionDrv bits_actions = {
    .abort = restore_bits,
    .commit = free_bits,
    .clean = g_free,
};

bool bdrv_dirty_bitmap_clear_tran(BlockDriverState *bs, const char *name,
                                  Transaction *tran, Error **errp)
{
    BdrvDirtyBitmap *bitmap = find_bitmap(bs, name, BDRV_BITMAP_DEFAULT,
                                          errp);
    BitmapChange *c;

    if (!bitmap) {
        return false;
    }
    c = change_begin(bitmap);
    bdrv_clear_dirty_bitmap(bitmap, &c->backup);
    tran_add(tran, &bits_actions, c);
    return true;
}

bool bdrv_dirty_bitmap_merge_tran(BlockDriverState *bs, const char *name,
                                  BdrvDirtyBitmap *src, Transaction *tran,
                                  Error **errp)
{
    BdrvDirtyBitmap *bitmap = find_bitmap(bs, name, BDRV_BITMAP_DEFAULT,
                                          errp);
    BitmapChange *c;

    if (!bitmap) {
        return false;
    }
    c = change_begin(bitmap);
    if (!bdrv_merge_dirty_bitmap(bitmap, src, &c->backup, errp)) {
        g_free(c);
        return false;
    }
    tran_add(tran, &bits_actions, c);
    return true;
}

static void set_enabled(BdrvDirtyBitmap *bitmap, bool enabled)
{
    if (enabled) {
        bdrv_enable_dirty_bitmap(bitmap);
    } else {
        bdrv_disable_dirty_bitmap(bitmap);
    }
}

static void restore_enabled(void *opaque)
{
    BitmapChange *c = opaque;

    set_enabled(c->bitmap, c->was_enabled);
    change_undone(c);
}

static const TransactionActionDrv enable_actions = {
    .abort = restore_enabled,
    .clean = g_free,
};

bool bdrv_dirty_bitmap_enable_tran(BlockDriverState *bs, const char *name,
                                   bool enable, Transaction *tran,
                                   Error **errp)
{
    BdrvDirtyBitmap *bitmap = find_bitmap(bs, name, BDRV_BITMAP_ALLOW_RO,
                                          errp);

    if (!bitmap) {
        return false;
    }
    tran_add(tran, &enable_actions, change_begin(bitmap));
    if (bdrv_dirty_bitmap_enabled(bitmap) != enable) {
        set_enabled(bitmap, enable);
    }
    return true;
}
