/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * qemu-img convert --bitmaps: the persistent bitmaps of the source appear in
 * the target, all in one step, when the data is there.
 */
#include "util/osdep.h"
#include "block/block_int.h"
#include "block/persistent-bitmap.h"
#include "img/img.h"

static bool is_wanted(BdrvDirtyBitmap *b)
{
    return bdrv_dirty_bitmap_name(b) && bdrv_dirty_bitmap_get_persistence(b) &&
           !bdrv_dirty_bitmap_inconsistent(b);
}

/* Those that cannot even be called by a name. */
static bool has_nameless(BlockDriverState *bs)
{
    g_autoptr(ImageInfoSpecific) info = NULL;
    const Qcow2BitmapInfoList *l;

    if (bs->drv->bdrv_get_specific_info) {
        info = bs->drv->bdrv_get_specific_info(bs, NULL);
    }
    if (!info || info->type != IMAGE_INFO_SPECIFIC_KIND_QCOW2) {
        return false;
    }
    for (l = info->u.qcow2.data->bitmaps; l; l = l->next) {
        if (!*l->value->name) {
            return true;
        }
    }
    return info->u.qcow2.data->bitmaps_fault;
}

static bool check_sound(BlockDriverState *src, bool skip_broken)
{
    BdrvDirtyBitmap *b;

    for (b = bdrv_dirty_bitmap_first(src); b; b = bdrv_dirty_bitmap_next(b)) {
        const char *name = bdrv_dirty_bitmap_name(b);

        if (!name || !bdrv_dirty_bitmap_inconsistent(b)) {
            continue;
        }
        if (!skip_broken) {
            error_report("Cannot copy inconsistent bitmap '%s'", name);
            error_printf("Try --skip-broken-bitmaps, or use 'qemu-img bitmap "
                         "--remove' to delete it\n");
            return false;
        }
        warn_report("Skipping inconsistent bitmap '%s'", name);
    }
    if (has_nameless(src)) {
        if (!skip_broken) {
            error_report("Cannot copy damaged bitmaps");
            error_printf("Try --skip-broken-bitmaps, or use 'qemu-img check "
                         "-r all --bitmaps=remove' to delete them\n");
            return false;
        }
        warn_report("Skipping damaged bitmaps");
    }
    return true;
}

bool img_convert_check_bitmaps(BlockDriverState *src, bool skip_broken)
{
    if (!bdrv_supports_persistent_dirty_bitmap(src)) {
        error_report("Source lacks bitmap support");
        return false;
    }
    return check_sound(src, skip_broken);
}

bool img_convert_check_target(BlockDriverState *src, BlockDriverState *dst)
{
    BdrvDirtyBitmap *b;
    Error *err = NULL;

    for (b = bdrv_dirty_bitmap_first(src); b; b = bdrv_dirty_bitmap_next(b)) {
        const char *name = bdrv_dirty_bitmap_name(b);

        if (!is_wanted(b)) {
            continue;
        }
        if (bdrv_find_dirty_bitmap(dst, name)) {
            error_setg(&err, "Bitmap already exists: %s", name);
        } else {
            bdrv_can_store_new_dirty_bitmap(
                dst, name, bdrv_dirty_bitmap_granularity(b), &err);
        }
        if (err) {
            error_reportf_err(err, "Failed to create bitmap %s: ", name);
            return false;
        }
    }
    return true;
}

static bool copy_one(BlockDriverState *dst, BdrvDirtyBitmap *b,
                     Transaction *tran)
{
    const char *name = bdrv_dirty_bitmap_name(b);
    Error *err = NULL;

    if (!bdrv_dirty_bitmap_add_tran(dst, name,
                                    bdrv_dirty_bitmap_granularity(b), true,
                                    !bdrv_dirty_bitmap_enabled(b), tran,
                                    &err)) {
        error_reportf_err(err, "Failed to create bitmap %s: ", name);
        return false;
    }
    if (!bdrv_dirty_bitmap_merge_tran(dst, name, b, tran, &err)) {
        error_reportf_err(err, "Failed to populate bitmap %s: ", name);
        return false;
    }
    return true;
}

bool img_convert_bitmaps(BlockDriverState *src, BlockDriverState *dst)
{
    g_autoptr(GPtrArray) wanted = g_ptr_array_new();
    Transaction *tran = tran_new();
    BdrvDirtyBitmap *b;
    Error *err = NULL;
    bool ok = true;

    for (b = bdrv_dirty_bitmap_first(src); b; b = bdrv_dirty_bitmap_next(b)) {
        if (is_wanted(b)) {
            g_ptr_array_add(wanted, b);
        }
    }
    /* The oldest is the last of the list. */
    for (guint i = wanted->len; ok && i-- > 0;) {
        ok = copy_one(dst, wanted->pdata[i], tran);
    }
    if (ok && bdrv_save_persistent_dirty_bitmaps(dst, NULL, 0, &err) < 0) {
        error_reportf_err(err, "Could not store the bitmaps: ");
        ok = false;
    }
    tran_finalize(tran, ok ? 0 : -1);
    return ok;
}
