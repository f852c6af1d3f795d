/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Stored bitmaps from open to close.
 *
 * Open reads the directory, and the bits of those bitmaps that are valid, into
 * dirty bitmaps of the node; the others are there as inconsistent ones. While
 * the node is written to, the copy on disk is marked; saving (bitmap-save.c)
 * ends that.
 */
#include "util/osdep.h"
#include "util/error.h"
#include "util/lockable.h"
#include "block/qcow2/bitmap.h"

void qcow2_bitmaps_free(BDRVQcow2State *s)
{
    g_clear_pointer(&s->bitmaps, g_ptr_array_unref);
}

/* --- open --- */

typedef struct Load {
    BlockDriverState *bs;
    int flags;
    GPtrArray *stored;          /* of Stored */
} Load;

/* What becomes a dirty bitmap of the node. */
typedef struct Stored {
    const char *name;           /* of the entry in BDRVQcow2State.bitmaps */
    HBitmap *bits;              /* NULL: the dirty bitmap has them */
    uint32_t flags;             /* BDRV_STORED_* */
} Stored;

static void stored_free(gpointer opaque)
{
    Stored *st = opaque;

    hbitmap_free(st->bits);
    g_free(st);
}

/* Its bits; a bitmap with an empty set of them if it is inconsistent. */
static HBitmap *coroutine_fn load_bits(BlockDriverState *bs, Qcow2Bitmap *b,
                                       bool *good)
{
    BDRVQcow2State *s = bs->opaque;
    unsigned bits = b->granularity_bits;
    HBitmap *hb;
    int ret;

    /* For show, if it is out of range. */
    bits = MAX(bits, QCOW2_BME_MIN_GRANULARITY_BITS);
    bits = MIN(bits, QCOW2_BME_MAX_GRANULARITY_BITS);
    hb = hbitmap_alloc(s->disk_size, bits);
    *good = qcow2_bitmap_is_good(s, b);
    if (!*good) {
        return hb;
    }
    ret = qcow2_bitmap_load(bs, b, hb);
    if (ret < 0) {
        b->fault = ret == -EINVAL ? "its table is damaged"
                                  : "its bits cannot be read";
        hbitmap_reset_all(hb);
        *good = false;
    }
    return hb;
}

static void warn_about_fault(BlockDriverState *bs, const Qcow2Bitmap *b)
{
    if (b->fault) {
        warn_report("bitmap '%s' of '%s' cannot be used: %s", b->name ?: "",
                    bdrv_get_device_or_node_name(bs), b->fault);
    }
}

static int coroutine_fn load_entry(void *opaque)
{
    Load *l = opaque;
    BlockDriverState *bs = l->bs;
    BDRVQcow2State *s = bs->opaque;

    QEMU_LOCK_GUARD(&s->lock);
    for (guint i = 0; i < s->bitmaps->len; i++) {
        Qcow2Bitmap *b = s->bitmaps->pdata[i];
        Stored *st;
        bool good;

        if (!b->name) {
            warn_about_fault(bs, b);
            continue;
        }
        st = g_new0(Stored, 1);
        st->name = b->name;
        st->bits = load_bits(bs, b, &good);
        st->flags = l->flags & BDRV_O_RDWR ? 0 : BDRV_STORED_READONLY;
        warn_about_fault(bs, b);
        if (!good) {
            st->flags = BDRV_STORED_INCONSISTENT;
        } else if (b->flags & QCOW2_BME_FLAG_AUTO) {
            st->flags |= BDRV_STORED_ENABLED;
        }
        g_ptr_array_add(l->stored, st);
    }
    return 0;
}

static void warn_about_void_ones(BlockDriverState *bs)
{
    BDRVQcow2State *s = bs->opaque;

    if (s->bitmaps_fault) {
        warn_report("the bitmaps of '%s' cannot be used: %s",
                    bdrv_get_device_or_node_name(bs), s->bitmaps_fault);
    } else if (s->has_bitmaps_ext && !qcow2_bitmaps_are_valid(s)) {
        warn_report("a program lacking bitmap support modified this file, so "
                    "all bitmaps are now considered inconsistent");
    }
}

int qcow2_bitmaps_read_stored(BlockDriverState *bs, int flags,
                              GPtrArray **stored, Error **errp)
{
    BDRVQcow2State *s = bs->opaque;
    g_autoptr(GPtrArray) list = g_ptr_array_new_with_free_func(stored_free);
    Load l = { bs, flags, list };
    int ret;

    if (flags & (BDRV_O_CHECK | BDRV_O_NO_IO)) {
        *stored = g_steal_pointer(&list);
        return 0;
    }
    warn_about_void_ones(bs);
    ret = bdrv_run_co(load_entry, &l);
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Could not load the bitmaps");
        return ret;
    }
    s->bitmaps_kept = !s->bitmaps_fault && qcow2_bitmaps_are_valid(s);
    *stored = g_steal_pointer(&list);
    return 0;
}

void qcow2_bitmaps_add_stored(BlockDriverState *bs, GPtrArray *stored)
{
    for (guint i = 0; i < stored->len; i++) {
        Stored *st = stored->pdata[i];

        bdrv_add_stored_bitmap(bs, st->name, g_steal_pointer(&st->bits),
                               st->flags);
    }
    g_ptr_array_unref(stored);
    qatomic_set(&bs->bitmaps_to_mark, true);
}

void qcow2_bitmaps_set_readonly(BlockDriverState *bs, bool readonly)
{
    BdrvDirtyBitmap *b;

    for (b = bdrv_dirty_bitmap_first(bs); b; b = bdrv_dirty_bitmap_next(b)) {
        if (bdrv_dirty_bitmap_get_persistence(b) &&
            !bdrv_dirty_bitmap_inconsistent(b)) {
            bdrv_dirty_bitmap_set_readonly(b, readonly);
        }
    }
}

/* --- marking --- */

static bool has_to_be_marked(BlockDriverState *bs, const Qcow2Bitmap *b,
                             bool all)
{
    if (!b->framed || (b->flags & QCOW2_BME_FLAG_IN_USE)) {
        return false;
    }
    return all || (b->flags & QCOW2_BME_FLAG_AUTO) || b->fault || !b->name ||
           bdrv_stored_bitmap_is_outdated_by_write(bs, b->name);
}

/*
 * Writes [@first, @last] of the directory, where only IN_USE flags are new:
 * each lies in one sector, so whatever of it gets there is true.
 */
static int coroutine_fn write_marked(BlockDriverState *bs, guint first,
                                     guint last)
{
    BDRVQcow2State *s = bs->opaque;
    const Qcow2Bitmap *begin = s->bitmaps->pdata[first];
    const Qcow2Bitmap *end = s->bitmaps->pdata[last];
    uint64_t bytes = end->pos + end->raw_size - begin->pos;
    uint64_t offset = s->bitmap_directory_offset + begin->pos;
    g_autofree uint8_t *buf = g_try_malloc(bytes);
    int ret;

    if (!buf) {
        return -ENOMEM;
    }
    for (guint i = first; i <= last; i++) {
        const Qcow2Bitmap *b = s->bitmaps->pdata[i];

        memcpy(buf + (b->pos - begin->pos), b->raw, b->raw_size);
    }
    ret = qcow2_pre_write_overlap_check(bs, QCOW2_OL_BITMAP_DIRECTORY, offset,
                                        bytes);
    if (ret < 0) {
        return ret;
    }
    ret = bdrv_co_pwrite(bs->file, offset, bytes, buf, 0);
    return ret < 0 ? ret : bdrv_co_flush(bs->file->bs);
}

int coroutine_fn qcow2_bitmaps_mark(BlockDriverState *bs, bool all)
{
    BDRVQcow2State *s = bs->opaque;
    g_autoptr(GPtrArray) marked = g_ptr_array_new();
    guint first = 0, last = 0;
    int ret;

    /* First: what changes from here on asks for another look. */
    qatomic_set(&bs->bitmaps_to_mark, false);
    for (guint i = 0; i < s->bitmaps->len; i++) {
        Qcow2Bitmap *b = s->bitmaps->pdata[i];

        if (has_to_be_marked(bs, b, all)) {
            qcow2_bitmap_set_flags(b, b->flags | QCOW2_BME_FLAG_IN_USE);
            first = marked->len ? first : i;
            last = i;
            g_ptr_array_add(marked, b);
        }
    }
    if (!marked->len) {
        return 0;
    }
    ret = write_marked(bs, first, last);
    if (ret < 0) {
        for (guint i = 0; i < marked->len; i++) {
            Qcow2Bitmap *b = marked->pdata[i];

            qcow2_bitmap_set_flags(b, b->flags & ~QCOW2_BME_FLAG_IN_USE);
        }
        qatomic_set(&bs->bitmaps_to_mark, true);
    }
    return ret;
}

/* --- another size --- */

/* Whether what is in memory stands for it, and so goes with the size. */
static bool is_kept(BlockDriverState *bs, const Qcow2Bitmap *b)
{
    BdrvDirtyBitmap *bitmap = b->name ? bdrv_find_dirty_bitmap(bs, b->name)
                                      : NULL;

    return bitmap && bdrv_dirty_bitmap_get_persistence(bitmap) &&
           !bdrv_dirty_bitmap_inconsistent(bitmap);
}

void qcow2_bitmaps_report_resize(BlockDriverState *bs)
{
    BDRVQcow2State *s = bs->opaque;
    const char *node = bdrv_get_device_or_node_name(bs);

    if (s->bitmaps_fault) {
        warn_report("the bitmaps of '%s' cannot be used, and are not resized: "
                    "%s", node, s->bitmaps_fault);
    }
    for (guint i = 0; i < s->bitmaps->len; i++) {
        const Qcow2Bitmap *b = s->bitmaps->pdata[i];
        const char *name = b->name ?: "";

        if (is_kept(bs, b)) {
            continue;
        }
        if (b->fault) {
            warn_report("bitmap '%s' of '%s' is not resized, and is lost if it "
                        "was right: %s", name, node, b->fault);
        } else {
            warn_report("bitmap '%s' of '%s' is %s, and is not resized", name,
                        node, qcow2_bitmaps_are_valid(s) ? "inconsistent"
                                                         : "void");
        }
    }
}
