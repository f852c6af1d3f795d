/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Reading all metadata again, in place.
 *
 * A node that was stopped (corrupt.c), or that shows an image marked as
 * corrupt, does not know what is in the file by now; nor does one that was
 * inactive. A reopen, or activating it, makes a second
 * state for it, from the file alone, while the old one goes on being the
 * node's; commit exchanges them. So a reopen that fails leaves a node that
 * reads as before.
 *
 * What the old state had in memory only is given up. It was never promised to
 * last: every flush has failed since.
 */
#include "util/osdep.h"
#include "util/error.h"
#include "block/qcow2/bitmap.h"

struct Qcow2Reload {
    BDRVQcow2State *fresh;
    GPtrArray *bitmaps;         /* what it has stored */
};

/* Of the node, and set when a header is read. */
typedef struct BackingNames {
    char file[sizeof_field(BlockDriverState, backing_file)];
    char auto_file[sizeof_field(BlockDriverState, auto_backing_file)];
    char format[sizeof_field(BlockDriverState, backing_format)];
} BackingNames;

bool qcow2_must_reload(const BDRVQcow2State *s)
{
    bool marked = s->incompatible_features & QCOW2_INCOMPAT_CORRUPT;

    return qcow2_is_stopped(s) ||
           (marked && !s->writable && !s->shows_snapshot);
}

static void names_get(BackingNames *n, const BlockDriverState *bs)
{
    memcpy(n->file, bs->backing_file, sizeof(n->file));
    memcpy(n->auto_file, bs->auto_backing_file, sizeof(n->auto_file));
    memcpy(n->format, bs->backing_format, sizeof(n->format));
}

static void names_put(const BackingNames *n, BlockDriverState *bs)
{
    memcpy(bs->backing_file, n->file, sizeof(n->file));
    memcpy(bs->auto_backing_file, n->auto_file, sizeof(n->auto_file));
    memcpy(bs->backing_format, n->format, sizeof(n->format));
}

bool qcow2_bitmaps_are_idle(BlockDriverState *bs, Error **errp)
{
    BdrvDirtyBitmap *b;

    for (b = bdrv_dirty_bitmap_first(bs); b; b = bdrv_dirty_bitmap_next(b)) {
        if (bdrv_dirty_bitmap_get_persistence(b) &&
            !bdrv_dirty_bitmap_check(b, BDRV_BITMAP_BUSY, errp)) {
            return false;
        }
    }
    return true;
}

int qcow2_reload_check_same(const BDRVQcow2State *old,
                            const BDRVQcow2State *s, Error **errp)
{
    const char *what = NULL;

    if (s->disk_size != old->disk_size && !old->inactive) {
        what = "size";
    } else if (g_strcmp0(s->image_backing_file, old->image_backing_file)) {
        what = "backing file";
    } else if (s->has_data_file != old->has_data_file ||
               g_strcmp0(s->image_data_file, old->image_data_file)) {
        what = "data file";
    } else if (s->crypt_method_header != old->crypt_method_header) {
        what = "encryption";
    }
    if (what) {
        error_setg(errp, "The image has another %s than when it was opened",
                   what);
        error_append_hint(errp, "Delete the node and add it again.\n");
        return -EINVAL;
    }
    return 0;
}

Qcow2Reload *qcow2_reload_prepare(BlockDriverState *bs,
                                  BlockdevOptions *options, int flags,
                                  Error **errp)
{
    BDRVQcow2State *old = bs->opaque;
    Qcow2Reload *r;
    BackingNames names;
    int ret;

    if (!qcow2_bitmaps_are_idle(bs, errp)) {
        return NULL;
    }
    r = g_new0(Qcow2Reload, 1);
    r->fresh = g_new0(BDRVQcow2State, 1);
    names_get(&names, bs);
    bs->opaque = r->fresh;
    ret = qcow2_load(bs, &options->u.qcow2, flags, old, &r->bitmaps, errp);
    bs->opaque = old;
    names_put(&names, bs);
    if (ret < 0) {
        qcow2_reload_abort(r);
        return NULL;
    }
    return r;
}

/*
 * Stored bitmaps are what the file says, the others record nothing that
 * happened there: they say that everything is dirty.
 */
static void exchange_bitmaps(BlockDriverState *bs, const BDRVQcow2State *old,
                             GPtrArray *stored)
{
    BdrvDirtyBitmap *b = bdrv_dirty_bitmap_first(bs);

    while (b) {
        BdrvDirtyBitmap *next = bdrv_dirty_bitmap_next(b);
        const char *name = bdrv_dirty_bitmap_name(b);

        if (bdrv_dirty_bitmap_get_persistence(b) &&
            (bdrv_dirty_bitmap_inconsistent(b) ||
             qcow2_bitmap_find(old, name) ||
             qcow2_bitmap_find(bs->opaque, name))) {
            bdrv_release_dirty_bitmap(b);
        } else {
            bdrv_dirty_bitmap_missed_all(b);
        }
        b = next;
    }
    qcow2_bitmaps_add_stored(bs, stored);
}

void qcow2_reload_commit(BlockDriverState *bs, Qcow2Reload *r)
{
    BDRVQcow2State *old = bs->opaque;

    bs->opaque = r->fresh;
    exchange_bitmaps(bs, old, r->bitmaps);
    qcow2_state_clear(old);
    g_free(old);
    g_free(r);
}

void qcow2_reload_abort(Qcow2Reload *r)
{
    if (r) {
        g_clear_pointer(&r->bitmaps, g_ptr_array_unref);
        qcow2_state_clear(r->fresh);
        g_free(r->fresh);
        g_free(r);
    }
}
