/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What an image tells about itself.
 *
 * Main thread, outside coroutines. The dirty bytes of stored bitmaps are
 * counted each time, unless they are in memory; nothing of it is kept.
 */
#include "util/osdep.h"
#include "util/lockable.h"
#include "block/info.h"
#include "block/qcow2/bitmap.h"
#include "qapi/util.h"

typedef struct ListBitmaps {
    BlockDriverState *bs;
    Qcow2BitmapInfoList **tail;
    bool has_writer;        /* another process writes to the image */
} ListBitmaps;

static Qcow2BitmapInfoFlagsList *bitmap_flags(uint32_t flags)
{
    Qcow2BitmapInfoFlagsList *list = NULL;
    Qcow2BitmapInfoFlagsList **tail = &list;

    if (flags & QCOW2_BME_FLAG_IN_USE) {
        QAPI_LIST_APPEND(tail, QCOW2_BITMAP_INFO_FLAGS_IN_USE);
    }
    if (flags & QCOW2_BME_FLAG_AUTO) {
        QAPI_LIST_APPEND(tail, QCOW2_BITMAP_INFO_FLAGS_AUTO);
    }
    return list;
}

/* Of one without fault that counts as valid: how much is dirty. */
static void coroutine_fn fill_count(const ListBitmaps *l,
                                    const Qcow2Bitmap *b,
                                    Qcow2BitmapInfo *info)
{
    BdrvDirtyBitmap *bitmap = bdrv_find_dirty_bitmap(l->bs, b->name);
    int64_t count;

    if (bitmap && !bdrv_dirty_bitmap_inconsistent(bitmap)) {
        info->status = QCOW2_BITMAP_STATUS_CONSISTENT;
        info->has_count = true;
        info->count = bdrv_get_dirty_count(bitmap);
        return;
    }
    if (b->flags & QCOW2_BME_FLAG_IN_USE) {
        info->status = l->has_writer ? QCOW2_BITMAP_STATUS_LIVE
                                     : QCOW2_BITMAP_STATUS_INCONSISTENT;
        return;
    }
    count = qcow2_bitmap_count_dirty(l->bs, b);
    if (count < 0) {
        info->status = QCOW2_BITMAP_STATUS_DAMAGED;
        info->reason = g_strdup(count == -EINVAL ? "its table is damaged"
                                                 : "its bits cannot be read");
        return;
    }
    info->status = QCOW2_BITMAP_STATUS_CONSISTENT;
    info->has_count = true;
    info->count = count;
}

static Qcow2BitmapInfo *coroutine_fn bitmap_info(const ListBitmaps *l,
                                                 const Qcow2Bitmap *b)
{
    Qcow2BitmapInfo *info = g_new0(Qcow2BitmapInfo, 1);

    info->name = g_strdup(b->name ?: "");
    if (b->framed && b->granularity_bits < 32) {
        info->granularity = 1U << b->granularity_bits;
    }
    info->flags = bitmap_flags(b->flags);
    if (b->fault) {
        info->status = QCOW2_BITMAP_STATUS_DAMAGED;
        info->reason = g_strdup(b->fault);
    } else if (!qcow2_bitmaps_are_valid(l->bs->opaque)) {
        info->status = QCOW2_BITMAP_STATUS_VOID;
    } else {
        fill_count(l, b, info);
    }
    return info;
}

static int coroutine_fn list_bitmaps_entry(void *opaque)
{
    ListBitmaps *l = opaque;
    BDRVQcow2State *s = l->bs->opaque;

    QEMU_LOCK_GUARD(&s->lock);
    for (guint i = 0; i < s->bitmaps->len; i++) {
        QAPI_LIST_APPEND(l->tail, bitmap_info(l, s->bitmaps->pdata[i]));
    }
    return 0;
}

/* One damaged bitmap, or all of them, are no reason to tell nothing. */
static void add_bitmaps(BlockDriverState *bs, ImageInfoSpecificQCow2 *info)
{
    BDRVQcow2State *s = bs->opaque;
    ListBitmaps l = {
        .bs = bs,
        .tail = &info->bitmaps,
        .has_writer = !s->writable && bdrv_has_other_writer(bs->file->bs),
    };

    info->has_bitmaps = s->bitmaps->len > 0;
    bdrv_run_co(list_bitmaps_entry, &l);
    if (s->bitmaps_fault) {
        info->bitmaps_fault = g_strdup(s->bitmaps_fault);
    }
}

static void add_guard(const BDRVQcow2State *s, ImageInfoSpecificQCow2 *info)
{
    static const Qcow2L1GuardState states[] = {
        [QCOW2_GUARD_ON] = QCOW2_L1_GUARD_STATE_ON,
        [QCOW2_GUARD_VOID] = QCOW2_L1_GUARD_STATE_VOID,
        [QCOW2_GUARD_OUTDATED] = QCOW2_L1_GUARD_STATE_OUTDATED,
        [QCOW2_GUARD_MISMATCH] = QCOW2_L1_GUARD_STATE_MISMATCH,
    };

    info->has_l1_guard = s->guard.state != QCOW2_GUARD_NONE;
    info->l1_guard = states[s->guard.state];
}

ImageInfoSpecific *qcow2_get_specific_info(BlockDriverState *bs, Error **errp)
{
    BDRVQcow2State *s = bs->opaque;
    ImageInfoSpecificQCow2 *info = g_new0(ImageInfoSpecificQCow2, 1);
    ImageInfoSpecific *spec = g_new0(ImageInfoSpecific, 1);

    spec->type = IMAGE_INFO_SPECIFIC_KIND_QCOW2;
    spec->u.qcow2.data = info;
    info->compat = g_strdup(s->qcow_version == 2 ? "0.10" : "1.1");
    info->refcount_bits = s->refcount_bits;
    info->compression_type = s->compression_type;
    info->encrypt = qcow2_crypto_info(s);
    if (s->qcow_version >= 3) {
        info->has_lazy_refcounts = true;
        info->lazy_refcounts = s->compatible_features &
                               QCOW2_COMPAT_LAZY_REFCOUNTS;
        info->has_corrupt = true;
        info->corrupt = s->incompatible_features & QCOW2_INCOMPAT_CORRUPT;
        info->data_file = g_strdup(s->image_data_file);
        info->has_data_file_raw = s->has_data_file;
        info->data_file_raw = s->autoclear_features &
                              QCOW2_AUTOCLEAR_DATA_FILE_RAW;
        info->has_extended_l2 = true;
        info->extended_l2 = s->incompatible_features & QCOW2_INCOMPAT_EXTL2;
        add_bitmaps(bs, info);
        add_guard(s, info);
    }
    return spec;
}
