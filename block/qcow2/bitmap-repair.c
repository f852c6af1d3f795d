/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Stored bitmaps that cannot be used are given up, or made to say that
 * everything is dirty, which is always true and costs a full backup.
 *
 * It happens by a new directory, as all other changes (bitmap-save.c), and
 * after the check has seen to it that nothing in use looks free.
 */
#include "util/osdep.h"
#include "util/bswap.h"
#include "block/qcow2/bitmap.h"

/* Of what is marked in place of entries that are not known. */
#define DEFAULT_GRANULARITY_BITS 16
#define MAX_LOST 64

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

/* --- marking -------------------------------------------------------------- */

static bool name_is_used(const BDRVQcow2State *s, const GPtrArray *list,
                         const char *name)
{
    for (guint i = 0; i < list->len; i++) {
        if (!g_strcmp0(((const Qcow2Bitmap *)list->pdata[i])->name, name)) {
            return true;
        }
    }
    return qcow2_bitmap_find(s, name);
}

/* What the entry may be called by: the rest of it is text. NULL: nothing. */
static char *find_name(const BDRVQcow2State *s, const GPtrArray *list,
                       const Qcow2Bitmap *old)
{
    size_t start = sizeof(Qcow2BitmapDirEntry), end = old->raw_size;
    g_autofree char *name = NULL;

    if (old->name) {
        return g_strdup(old->name);
    }
    while (end > start && !old->raw[end - 1]) {
        end--;
    }
    if (end <= start || end - start > BDRV_BITMAP_MAX_NAME_SIZE ||
        !g_utf8_validate((const char *)old->raw + start, end - start, NULL)) {
        return NULL;
    }
    name = g_strndup((const char *)old->raw + start, end - start);
    return name_is_used(s, list, name) ? NULL : g_steal_pointer(&name);
}

static char *new_name(const BDRVQcow2State *s, const GPtrArray *list)
{
    char *name = NULL;
    unsigned n = 0;

    do {
        g_free(name);
        name = g_strdup_printf("damaged-%u", ++n);
    } while (name_is_used(s, list, name));
    return name;
}

/* An entry in use with an empty table, in place of @old. */
static int coroutine_fn add_marked(BlockDriverState *bs, GPtrArray *list,
                                   const Qcow2Bitmap *old, bool named)
{
    BDRVQcow2State *s = bs->opaque;
    g_autofree char *name = named ? find_name(s, list, old) : NULL;
    unsigned bits = old->granularity_bits;
    Qcow2Bitmap *b;

    if (!old->framed || bits < QCOW2_BME_MIN_GRANULARITY_BITS ||
        bits > QCOW2_BME_MAX_GRANULARITY_BITS) {
        bits = DEFAULT_GRANULARITY_BITS;
    }
    if (!name) {
        name = new_name(s, list);
    }
    b = qcow2_bitmap_new(name, bits);
    g_ptr_array_add(list, b);
    qcow2_bitmap_set_flags(b, QCOW2_BME_FLAG_IN_USE |
                              (old->flags & QCOW2_BME_FLAG_AUTO));
    return qcow2_bitmap_store(bs, b, NULL, s->disk_size);
}

/* Bitmaps that are in the part of the directory whose sizes are wrong. */
static uint32_t nb_lost(const BDRVQcow2State *s)
{
    uint32_t framed = 0;

    for (guint i = 0; i < s->bitmaps->len; i++) {
        framed += ((const Qcow2Bitmap *)s->bitmaps->pdata[i])->framed;
    }
    return s->nb_bitmaps > framed ? s->nb_bitmaps - framed : 1;
}

static int coroutine_fn build_marked(BlockDriverState *bs, GPtrArray *list,
                                     const GByteArray *damage)
{
    BDRVQcow2State *s = bs->opaque;
    int ret = 0;

    for (guint i = 0; ret == 0 && i < s->bitmaps->len; i++) {
        const Qcow2Bitmap *old = s->bitmaps->pdata[i];
        uint32_t n = old->framed ? 1 : nb_lost(s);

        if (damage->data[i] != QCOW2_BITMAP_DAMAGED) {
            Qcow2Bitmap *b = qcow2_bitmap_clone(old);

            g_ptr_array_add(list, b);
            if (damage->data[i] == QCOW2_BITMAP_PADDING) {
                qcow2_bitmap_clear_padding(b);
            }
            continue;
        }
        if (n > MAX_LOST) {
            return -EFBIG;
        }
        for (uint32_t k = 0; ret == 0 && k < n; k++) {
            ret = add_marked(bs, list, old, n == 1);
        }
    }
    return ret;
}

/* Their clusters may be anybody's: they are not freed with the directory. */
static void disown(BDRVQcow2State *s, const GByteArray *damage)
{
    for (guint i = 0; i < s->bitmaps->len; i++) {
        if (damage->data[i] == QCOW2_BITMAP_DAMAGED) {
            ((Qcow2Bitmap *)s->bitmaps->pdata[i])->table_offset = 0;
        }
    }
}

int coroutine_fn qcow2_bitmaps_mark_damaged(BlockDriverState *bs,
                                            const GByteArray *damage)
{
    BDRVQcow2State *s = bs->opaque;
    GPtrArray *list;
    int ret;

    assert(damage->len == s->bitmaps->len);
    if (s->bitmaps_kept || !s->writable) {
        return -EBUSY;
    }
    list = qcow2_bitmap_list_new();
    ret = build_marked(bs, list, damage);
    if (ret == 0) {
        disown(s, damage);
        ret = qcow2_bitmaps_switch_directory(bs, list);
    }
    if (ret < 0) {
        g_ptr_array_unref(list);
        return ret;
    }
    return qcow2_flush_metadata(bs);
}
