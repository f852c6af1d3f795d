/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What an image tells about itself.
 *
 * The list of stored bitmaps is read from its directory each time: main
 * thread, outside coroutines, nothing of it is kept.
 */
#include "util/osdep.h"
#include "util/bswap.h"
#include "util/lockable.h"
#include "block/qcow2/qcow2.h"
#include "qapi/util.h"

#define BME_FLAG_IN_USE (1U << 0)
#define BME_FLAG_AUTO   (1U << 1)

typedef struct ListBitmaps {
    BlockDriverState *bs;
    Qcow2BitmapInfoList **tail;
    Error **errp;
} ListBitmaps;

static Qcow2BitmapInfoFlagsList *bitmap_flags(uint32_t flags)
{
    Qcow2BitmapInfoFlagsList *list = NULL;
    Qcow2BitmapInfoFlagsList **tail = &list;

    if (flags & BME_FLAG_IN_USE) {
        QAPI_LIST_APPEND(tail, QCOW2_BITMAP_INFO_FLAGS_IN_USE);
    }
    if (flags & BME_FLAG_AUTO) {
        QAPI_LIST_APPEND(tail, QCOW2_BITMAP_INFO_FLAGS_AUTO);
    }
    return list;
}

/* Length of the entry at @buf, of which @left bytes are there; 0: damaged. */
static size_t bitmap_info(const char *buf, uint64_t left,
                          Qcow2BitmapInfo **info)
{
    Qcow2BitmapDirEntry e;
    uint64_t name_at, length;

    if (left < sizeof(e)) {
        return 0;
    }
    memcpy(&e, buf, sizeof(e));
    name_at = sizeof(e) + (uint64_t)be32_to_cpu(e.extra_data_size);
    length = ROUND_UP(name_at + be16_to_cpu(e.name_size), 8);
    if (length > left || e.granularity_bits > 31) {
        return 0;
    }
    *info = g_new0(Qcow2BitmapInfo, 1);
    (*info)->name = g_strndup(buf + name_at, be16_to_cpu(e.name_size));
    (*info)->granularity = 1U << e.granularity_bits;
    (*info)->flags = bitmap_flags(be32_to_cpu(e.flags));
    return length;
}

static int list_bitmaps_locked(ListBitmaps *l)
{
    BlockDriverState *bs = l->bs;
    BDRVQcow2State *s = bs->opaque;
    uint64_t at = 0, length = 0;
    g_autofree char *dir = NULL;
    uint32_t i;
    int ret;

    /* Its size was checked at open. */
    dir = g_try_malloc(s->bitmap_directory_size);
    ret = dir ? bdrv_co_pread(bs->file, s->bitmap_directory_offset,
                              s->bitmap_directory_size, dir, 0)
              : -ENOMEM;
    if (ret < 0) {
        error_setg_errno(l->errp, -ret, "Could not read the bitmap directory");
        return ret;
    }
    for (i = 0; i < s->nb_bitmaps; i++, at += length) {
        Qcow2BitmapInfo *info;

        length = bitmap_info(dir + at, s->bitmap_directory_size - at, &info);
        if (!length) {
            error_setg(l->errp, "Bitmap directory entry %" PRIu32
                       " is corrupted", i);
            return -EINVAL;
        }
        QAPI_LIST_APPEND(l->tail, info);
    }
    return 0;
}

static int coroutine_fn list_bitmaps_entry(void *opaque)
{
    ListBitmaps *l = opaque;
    BDRVQcow2State *s = l->bs->opaque;

    QEMU_LOCK_GUARD(&s->lock);
    return list_bitmaps_locked(l);
}

static bool add_bitmaps(BlockDriverState *bs, ImageInfoSpecificQCow2 *info,
                        Error **errp)
{
    BDRVQcow2State *s = bs->opaque;
    ListBitmaps l = { .bs = bs, .tail = &info->bitmaps, .errp = errp };

    if (!s->has_bitmaps_ext ||
        !(s->autoclear_features & QCOW2_AUTOCLEAR_BITMAPS)) {
        return true;
    }
    info->has_bitmaps = true;
    return bdrv_run_co(list_bitmaps_entry, &l) == 0;
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
    if (s->qcow_version >= 3) {
        info->has_lazy_refcounts = true;
        info->lazy_refcounts = s->compatible_features &
                               QCOW2_COMPAT_LAZY_REFCOUNTS;
        info->has_corrupt = true;
        info->corrupt = s->incompatible_features & QCOW2_INCOMPAT_CORRUPT;
        info->has_extended_l2 = true;
        info->extended_l2 = s->incompatible_features & QCOW2_INCOMPAT_EXTL2;
        if (!add_bitmaps(bs, info, errp)) {
            qapi_free_ImageInfoSpecific(spec);
            return NULL;
        }
    }
    return spec;
}
