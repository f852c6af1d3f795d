/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Stored bitmaps that cannot be used are given up, or made to say that
 * everything is dirty, which is always true and costs a full backup.
 *
 * It happens by a new directory, as all other changes (bitmap-save.c), and
 * after the check has seen to it that nothing in use looks free.
 */
#include "util/osdep.h"
#include "block/qcow2/bitmap.h"

/* Its name and granularity make sense; it has nothing that we do not know. */
static bool can_be_dirty(const Qcow2Bitmap *b)
{
    return b->framed && b->name && !b->unknown &&
           b->granularity_bits >= QCOW2_BME_MIN_GRANULARITY_BITS &&
           b->granularity_bits <= QCOW2_BME_MAX_GRANULARITY_BITS;
}

/* Whether the bits can be read, and so the bitmap be used. */
static bool coroutine_fn is_usable(BlockDriverState *bs, const Qcow2Bitmap *b)
{
    return qcow2_bitmap_is_good(bs->opaque, b) &&
           qcow2_bitmap_count_dirty(bs, b) >= 0;
}

static int coroutine_fn make_dirty(BlockDriverState *bs, Qcow2Bitmap *b)
{
    BDRVQcow2State *s = bs->opaque;
    int ret = qcow2_bitmap_store_ones(bs, b, s->disk_size);

    if (ret == 0) {
        qcow2_bitmap_set_flags(b, b->flags & QCOW2_BME_FLAGS_KNOWN &
                                  ~QCOW2_BME_FLAG_IN_USE);
    }
    return ret;
}

/* The new directory; *@fixed: how many entries are not as they were. */
static int coroutine_fn build_list(BlockDriverState *bs, bool dirty,
                                   GPtrArray *list, int64_t *fixed)
{
    BDRVQcow2State *s = bs->opaque;

    for (guint i = 0; i < s->bitmaps->len; i++) {
        const Qcow2Bitmap *old = s->bitmaps->pdata[i];
        bool usable = is_usable(bs, old);
        Qcow2Bitmap *b;
        int ret;

        if (!usable && !dirty) {
            ++*fixed;
            continue;
        }
        b = qcow2_bitmap_clone(old);
        g_ptr_array_add(list, b);
        if (!usable && can_be_dirty(old)) {
            ret = make_dirty(bs, b);
            if (ret < 0) {
                return ret;
            }
            ++*fixed;
        }
    }
    if (s->bitmaps_fault && !dirty) {
        *fixed = MAX(1, s->nb_bitmaps);
    }
    return 0;
}

int coroutine_fn qcow2_bitmaps_repair(BlockDriverState *bs, bool dirty,
                                      int64_t *fixed)
{
    BDRVQcow2State *s = bs->opaque;
    GPtrArray *list;
    int ret;

    *fixed = 0;
    if (s->bitmaps_kept || !s->writable) {
        return 0;
    }
    list = qcow2_bitmap_list_new();
    ret = build_list(bs, dirty, list, fixed);
    if (ret == 0 && *fixed) {
        ret = qcow2_bitmaps_switch_directory(bs, list);
        if (ret == 0) {
            return 0;
        }
    }
    if (ret < 0 && !qcow2_is_stopped(s)) {
        qcow2_bitmaps_drop_new_tables(bs, list);
    }
    g_ptr_array_unref(list);
    return ret;
}
