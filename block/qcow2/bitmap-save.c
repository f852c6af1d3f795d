/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Storing bitmaps.
 *
 * Bits, tables and a whole new directory go to new clusters; when they and
 * their refcounts are durable a header that names the new directory takes the
 * place of the old one, and only then the old clusters are given back. So
 * every change is all or nothing.
 *
 * Nothing is in flight meanwhile: a write that has not set its bit yet would
 * be missed by a bitmap that counts as valid.
 */
#include "util/osdep.h"
#include "util/error.h"
#include "util/lockable.h"
#include "util/memalign.h"
#include "block/persistent-bitmap.h"
#include "block/qcow2/bitmap.h"

/* --- switching to a new directory --- */

static bool table_is_in(const GPtrArray *list, const Qcow2Bitmap *b)
{
    for (guint i = 0; list && i < list->len; i++) {
        const Qcow2Bitmap *other = list->pdata[i];

        if (other->framed && other->table_offset == b->table_offset) {
            return true;
        }
    }
    return false;
}

/* Appends the clusters of @b, if they are certainly its own. */
static void coroutine_fn add_clusters(BlockDriverState *bs,
                                      const Qcow2Bitmap *b, GArray *extents)
{
    guint first = extents->len;
    bool own;

    qcow2_bitmap_clusters(bs, b, extents);
    own = extents->len > first;
    for (guint i = first; i < extents->len && own; i++) {
        const Qcow2BitmapExtent *e = &g_array_index(extents, Qcow2BitmapExtent,
                                                    i);

        own = qcow2_bitmap_owns(bs, 0, e->offset, e->bytes);
    }
    if (!own) {
        g_array_set_size(extents, first);
        warn_report("the clusters of bitmap '%s' of '%s' cannot be told for "
                    "sure and are leaked", b->name ?: "",
                    bdrv_get_device_or_node_name(bs));
    }
}

/* Clusters of the tables of @list that are not in @but. */
static GArray *coroutine_fn clusters_of(BlockDriverState *bs,
                                        const GPtrArray *list,
                                        const GPtrArray *but)
{
    GArray *extents = g_array_new(false, false, sizeof(Qcow2BitmapExtent));

    for (guint i = 0; list && i < list->len; i++) {
        const Qcow2Bitmap *b = list->pdata[i];

        if (b->framed && b->table_offset && !table_is_in(but, b)) {
            add_clusters(bs, b, extents);
        }
    }
    return extents;
}

void coroutine_fn qcow2_bitmaps_drop_new_tables(BlockDriverState *bs,
                                                GPtrArray *list)
{
    BDRVQcow2State *s = bs->opaque;
    g_autoptr(GArray) extents = clusters_of(bs, list, s->bitmaps);

    for (guint i = 0; i < extents->len; i++) {
        const Qcow2BitmapExtent *e = &g_array_index(extents, Qcow2BitmapExtent,
                                                    i);

        qcow2_unalloc_clusters(bs, e->offset, e->bytes);
    }
}

static int64_t coroutine_fn write_directory(BlockDriverState *bs,
                                            const GPtrArray *list,
                                            uint64_t size)
{
    QEMU_AUTO_VFREE uint8_t *buf = qemu_try_blockalign(bs->file->bs, size);
    int64_t offset;
    int ret;

    if (!buf) {
        return -ENOMEM;
    }
    qcow2_bitmaps_build_directory(list, buf);
    offset = qcow2_alloc_clusters(bs, size);
    if (offset < 0) {
        return offset;
    }
    ret = qcow2_pre_write_overlap_check(bs, 0, offset, size);
    if (ret == 0) {
        ret = bdrv_co_pwrite(bs->file, offset, size, buf, 0);
    }
    if (ret < 0) {
        qcow2_unalloc_clusters(bs, offset, size);
        return ret;
    }
    return offset;
}

/* Everything that the new header will refer to is durable. */
static int coroutine_fn make_durable(BlockDriverState *bs)
{
    int ret = qcow2_flush_all_metadata(bs);

    return ret < 0 ? ret : qcow2_flush_before_switch(bs);
}

static int coroutine_fn switch_header(BlockDriverState *bs,
                                      const GPtrArray *list)
{
    BDRVQcow2State *s = bs->opaque;
    uint64_t size = qcow2_bitmaps_directory_size(list);
    Qcow2BitmapHeaderExt ext;
    int64_t offset;
    int ret;

    if (list->len == 0) {
        ret = make_durable(bs);
        return ret < 0 ? ret : qcow2_header_write_bitmaps(bs, NULL);
    }
    offset = write_directory(bs, list, size);
    if (offset < 0) {
        return offset;
    }
    ret = make_durable(bs);
    if (ret == 0) {
        ext = (Qcow2BitmapHeaderExt) {
            .nb_bitmaps = qcow2_bitmaps_count(s, list),
            .bitmap_directory_size = size,
            .bitmap_directory_offset = offset,
        };
        ret = qcow2_header_write_bitmaps(bs, &ext);
    }
    if (ret < 0 && !qcow2_is_stopped(s)) {
        qcow2_unalloc_clusters(bs, offset, size);
    }
    return ret;
}

int coroutine_fn qcow2_bitmaps_switch_directory(BlockDriverState *bs,
                                                GPtrArray *list)
{
    BDRVQcow2State *s = bs->opaque;
    Qcow2BitmapExtent old_dir = {
        s->bitmap_directory_offset, s->bitmap_directory_size
    };
    bool valid = qcow2_bitmaps_are_valid(s) && !s->bitmaps_fault;
    g_autoptr(GArray) old = NULL;
    uint64_t pos = 0;
    int ret;

    /* Void ones may have been given to others long ago. */
    old = clusters_of(bs, valid ? s->bitmaps : NULL, list);
    if (valid && qcow2_bitmap_owns(bs, QCOW2_OL_BITMAP_DIRECTORY,
                                   old_dir.offset, old_dir.bytes)) {
        g_array_append_val(old, old_dir);
    }
    ret = switch_header(bs, list);
    if (ret < 0) {
        return ret;
    }
    for (guint i = 0; i < old->len; i++) {
        const Qcow2BitmapExtent *e = &g_array_index(old, Qcow2BitmapExtent, i);

        qcow2_free_clusters(bs, start_of_cluster(s, e->offset),
                            ROUND_UP(e->bytes, (uint64_t)s->cluster_size),
                            QCOW2_DISCARD_OTHER);
    }
    for (guint i = 0; i < list->len; i++) {
        Qcow2Bitmap *b = list->pdata[i];

        b->pos = pos;
        pos += b->raw_size;
    }
    g_ptr_array_unref(s->bitmaps);
    s->bitmaps = list;
    s->bitmaps_fault = NULL;
    return 0;
}

/* --- what goes into it --- */

typedef struct Save {
    BlockDriverState *bs;
    const char *const *remove;
    unsigned flags;
    Error **errp;
    GPtrArray *list;        /* the new directory */
    GPtrArray *saved;       /* BdrvDirtyBitmap: as in @list */
} Save;

static bool is_removed(const Save *save, const char *name)
{
    return (save->flags & BDRV_SAVE_BITMAPS_REMOVE_ALL) ||
           (name && save->remove && g_strv_contains(save->remove, name));
}

static BdrvDirtyBitmap *in_memory(BlockDriverState *bs, const char *name)
{
    BdrvDirtyBitmap *bitmap = name ? bdrv_find_dirty_bitmap(bs, name) : NULL;

    return bitmap && bdrv_dirty_bitmap_get_persistence(bitmap) ? bitmap : NULL;
}

static int coroutine_fn store_in_memory(Save *save, Qcow2Bitmap *b,
                                        BdrvDirtyBitmap *bitmap)
{
    BDRVQcow2State *s = save->bs->opaque;
    HBitmap *bits = bdrv_dirty_bitmap_copy_bits(bitmap);
    int ret = qcow2_bitmap_store(save->bs, b, bits, s->disk_size);

    hbitmap_free(bits);
    if (ret < 0) {
        error_setg_errno(save->errp, -ret, "Failed to store bitmap '%s'",
                         b->name);
    }
    return ret;
}

static void set_stored_flags(Qcow2Bitmap *b, BdrvDirtyBitmap *bitmap)
{
    qcow2_bitmap_set_flags(
        b, (b->flags & QCOW2_BME_FLAG_EXTRA_COMPATIBLE) |
               (bdrv_dirty_bitmap_enabled(bitmap) ? QCOW2_BME_FLAG_AUTO : 0));
}

/*
 * An entry of a void directory: it goes on as one that was in use, with a
 * table of its own, for whose the old one is by now nobody knows.
 */
static int coroutine_fn revive(Save *save, Qcow2Bitmap *b)
{
    BDRVQcow2State *s = save->bs->opaque;
    int ret = 0;

    if (!b->framed || b->granularity_bits < QCOW2_BME_MIN_GRANULARITY_BITS ||
        b->granularity_bits > QCOW2_BME_MAX_GRANULARITY_BITS) {
        return 0;
    }
    ret = qcow2_bitmap_store(save->bs, b, NULL, s->disk_size);
    if (ret < 0) {
        error_setg_errno(save->errp, -ret, "Failed to store bitmap '%s'",
                         b->name ?: "");
        return ret;
    }
    qcow2_bitmap_set_flags(b, b->flags | QCOW2_BME_FLAG_IN_USE);
    return 0;
}

/* The bitmap in memory that the entry is the stored form of, if it is good. */
static BdrvDirtyBitmap *good_in_memory(const Save *save, const Qcow2Bitmap *b)
{
    BdrvDirtyBitmap *bitmap = in_memory(save->bs, b->name);

    return bitmap && !b->fault && !bdrv_dirty_bitmap_inconsistent(bitmap)
               ? bitmap : NULL;
}

/* Whether its bits have to be written. */
static bool is_outdated(const Save *save, BdrvDirtyBitmap *bitmap)
{
    return bdrv_dirty_bitmap_changed(bitmap) ||
           !qcow2_bitmaps_are_valid(save->bs->opaque);
}

/* A stored one that stays; @b is its new entry. */
static int coroutine_fn keep_entry(Save *save, Qcow2Bitmap *b)
{
    BdrvDirtyBitmap *bitmap = good_in_memory(save, b);
    bool remove_only = save->flags & BDRV_SAVE_BITMAPS_REMOVE_ONLY;

    if (bitmap && !remove_only) {
        g_ptr_array_add(save->saved, bitmap);
        set_stored_flags(b, bitmap);
        return is_outdated(save, bitmap) ? store_in_memory(save, b, bitmap)
                                         : 0;
    }
    if (!qcow2_bitmaps_are_valid(save->bs->opaque)) {
        return revive(save, b);
    }
    if (bitmap && bdrv_dirty_bitmap_changed(bitmap)) {
        qcow2_bitmap_set_flags(b, b->flags | QCOW2_BME_FLAG_IN_USE);
    }
    return 0;
}

static int coroutine_fn keep_entries(Save *save)
{
    BDRVQcow2State *s = save->bs->opaque;

    for (guint i = 0; i < s->bitmaps->len; i++) {
        const Qcow2Bitmap *old = s->bitmaps->pdata[i];
        Qcow2Bitmap *b;
        int ret;

        if (is_removed(save, old->name)) {
            continue;
        }
        b = qcow2_bitmap_clone(old);
        g_ptr_array_add(save->list, b);
        ret = keep_entry(save, b);
        if (ret < 0) {
            return ret;
        }
    }
    return 0;
}

/* Whether a stored bitmap of that name stays. */
static bool has_entry(const Save *save, const char *name)
{
    return !is_removed(save, name) &&
           qcow2_bitmap_find(save->bs->opaque, name);
}

/* Bitmaps that are not stored yet, in the order in which they were made. */
static GPtrArray *find_new(const Save *save)
{
    GPtrArray *new = g_ptr_array_new();
    BdrvDirtyBitmap *bitmap;

    if (save->flags & BDRV_SAVE_BITMAPS_REMOVE_ONLY) {
        return new;
    }
    for (bitmap = bdrv_dirty_bitmap_first(save->bs); bitmap;
         bitmap = bdrv_dirty_bitmap_next(bitmap)) {
        const char *name = bdrv_dirty_bitmap_name(bitmap);

        if (name && bdrv_dirty_bitmap_get_persistence(bitmap) &&
            !bdrv_dirty_bitmap_hidden(bitmap) &&
            !bdrv_dirty_bitmap_inconsistent(bitmap) &&
            !has_entry(save, name)) {
            g_ptr_array_insert(new, 0, bitmap);
        }
    }
    return new;
}

static int coroutine_fn add_entries(Save *save, const GPtrArray *new)
{
    int ret = 0;

    for (guint i = 0; i < new->len && ret == 0; i++) {
        BdrvDirtyBitmap *bitmap = new->pdata[i];
        uint32_t granularity = bdrv_dirty_bitmap_granularity(bitmap);
        Qcow2Bitmap *b = qcow2_bitmap_new(bdrv_dirty_bitmap_name(bitmap),
                                          __builtin_ctz(granularity));

        g_ptr_array_add(save->list, b);
        g_ptr_array_add(save->saved, bitmap);
        set_stored_flags(b, bitmap);
        ret = store_in_memory(save, b, bitmap);
    }
    return ret;
}

/* Whether there is anything to do. */
static bool differs(const Save *save, const GPtrArray *new)
{
    BDRVQcow2State *s = save->bs->opaque;

    if (new->len ||
        (s->bitmaps_fault && save->flags & BDRV_SAVE_BITMAPS_REMOVE_ALL)) {
        return true;
    }
    for (guint i = 0; i < s->bitmaps->len; i++) {
        const Qcow2Bitmap *b = s->bitmaps->pdata[i];
        BdrvDirtyBitmap *bitmap = good_in_memory(save, b);

        if (is_removed(save, b->name)) {
            return true;
        }
        if (bitmap && !(save->flags & BDRV_SAVE_BITMAPS_REMOVE_ONLY) &&
            (is_outdated(save, bitmap) || b->flags & QCOW2_BME_FLAG_IN_USE)) {
            return true;
        }
    }
    return false;
}

static int coroutine_fn check_state(const Save *save)
{
    BDRVQcow2State *s = save->bs->opaque;

    int ret = qcow2_check_not_stopped(save->bs, save->errp);

    if (ret < 0) {
        return ret;
    }
    if (s->bitmaps_fault && !(save->flags & BDRV_SAVE_BITMAPS_REMOVE_ALL)) {
        error_setg(save->errp, "The stored bitmaps cannot be used: %s",
                   s->bitmaps_fault);
        error_append_hint(save->errp, "Remove all of them first.\n");
        return -EINVAL;
    }
    return 0;
}

static int coroutine_fn write_list(Save *save)
{
    BDRVQcow2State *s = save->bs->opaque;
    int ret = s->use_lazy_refcounts ? qcow2_mark_dirty(save->bs) : 0;

    if (ret == 0) {
        ret = qcow2_bitmaps_switch_directory(save->bs, save->list);
    }
    if (ret < 0) {
        error_setg_errno(save->errp, -ret, "Failed to write the bitmap "
                         "directory");
        return ret;
    }
    save->list = NULL;
    return 0;
}

static int coroutine_fn save_locked(Save *save)
{
    BDRVQcow2State *s = save->bs->opaque;
    g_autoptr(GPtrArray) new = find_new(save);
    int ret;

    if (!differs(save, new)) {
        return 0;
    }
    ret = check_state(save);
    if (ret < 0) {
        return ret;
    }
    ret = keep_entries(save);
    if (ret == 0) {
        ret = add_entries(save, new);
    }
    if (ret == 0) {
        ret = write_list(save);
    }
    if (ret < 0 && !qcow2_is_stopped(s)) {
        qcow2_bitmaps_drop_new_tables(save->bs, save->list);
    }
    return ret;
}

static int coroutine_fn save_entry(void *opaque)
{
    Save *save = opaque;
    BDRVQcow2State *s = save->bs->opaque;

    QEMU_LOCK_GUARD(&s->lock);
    return save_locked(save);
}

int qcow2_save_bitmaps(BlockDriverState *bs, const char *const *remove,
                       unsigned flags, Error **errp)
{
    ERRP_GUARD();
    BDRVQcow2State *s = bs->opaque;
    g_autoptr(GPtrArray) saved = g_ptr_array_new();
    Save save = {
        .bs = bs,
        .remove = remove,
        .flags = flags,
        .errp = errp,
        .list = qcow2_bitmap_list_new(),
        .saved = saved,
    };
    int ret = bdrv_run_co(save_entry, &save);

    if (save.list) {
        g_ptr_array_unref(save.list);
    }
    if (ret < 0) {
        return ret;
    }
    for (guint i = 0; i < saved->len; i++) {
        bdrv_dirty_bitmap_set_saved(saved->pdata[i]);
    }
    s->bitmaps_kept = qcow2_bitmaps_are_valid(s) && !s->bitmaps_fault;
    qatomic_set(&bs->bitmaps_to_mark, true);
    return 0;
}

/* --- limits --- */

static bool name_is_storable(BlockDriverState *bs, const char *name,
                             Error **errp)
{
    if (!*name || strlen(name) > BDRV_BITMAP_MAX_NAME_SIZE) {
        error_setg(errp, "Name length must be between 1 and %u",
                   BDRV_BITMAP_MAX_NAME_SIZE);
        return false;
    }
    if (!g_utf8_validate(name, -1, NULL)) {
        error_setg(errp, "The name is not UTF-8");
        return false;
    }
    return true;
}

static bool granularity_is_storable(BlockDriverState *bs,
                                    uint32_t granularity, Error **errp)
{
    BDRVQcow2State *s = bs->opaque;
    unsigned bits = __builtin_ctz(granularity);
    uint64_t unit = 8ULL << bits;

    if (bits < QCOW2_BME_MIN_GRANULARITY_BITS ||
        bits > QCOW2_BME_MAX_GRANULARITY_BITS) {
        error_setg(errp, "Granularity must be between %u and %u bytes",
                   1U << QCOW2_BME_MIN_GRANULARITY_BITS,
                   1U << QCOW2_BME_MAX_GRANULARITY_BITS);
        return false;
    }
    if (DIV_ROUND_UP(s->disk_size, unit) > QCOW2_MAX_BITMAP_DATA) {
        error_setg(errp, "Too much space will be occupied by the bitmap. Use "
                   "larger granularity");
        return false;
    }
    return true;
}

/* Bitmaps and bytes of directory, with those that are only in memory. */
static bool directory_has_room(BlockDriverState *bs, const char *name,
                               Error **errp)
{
    BDRVQcow2State *s = bs->opaque;
    uint64_t bytes = qcow2_bitmaps_directory_size(s->bitmaps);
    uint64_t nb = s->nb_bitmaps + 1;
    BdrvDirtyBitmap *b;

    bytes += ROUND_UP(sizeof(Qcow2BitmapDirEntry) + strlen(name), 8);
    for (b = bdrv_dirty_bitmap_first(bs); b; b = bdrv_dirty_bitmap_next(b)) {
        const char *other = bdrv_dirty_bitmap_name(b);

        if (other && bdrv_dirty_bitmap_get_persistence(b) &&
            !qcow2_bitmap_find(s, other)) {
            nb++;
            bytes += ROUND_UP(sizeof(Qcow2BitmapDirEntry) + strlen(other), 8);
        }
    }
    if (nb > QCOW2_MAX_BITMAPS) {
        error_setg(errp, "Maximum number of persistent bitmaps is already "
                   "reached");
        return false;
    }
    if (bytes > QCOW2_MAX_BITMAP_DIRECTORY) {
        error_setg(errp, "Not enough space in the bitmap directory");
        return false;
    }
    return true;
}

bool qcow2_can_store_bitmap(BlockDriverState *bs, const char *name,
                            uint32_t granularity, Error **errp)
{
    ERRP_GUARD();
    BDRVQcow2State *s = bs->opaque;
    bool ok = false;

    if (s->qcow_version < 3) {
        error_setg(errp, "Cannot store dirty bitmaps in qcow2 v2 files");
    } else if (s->bitmaps_fault) {
        error_setg(errp, "The stored bitmaps cannot be used: %s",
                   s->bitmaps_fault);
    } else {
        ok = name_is_storable(bs, name, errp) &&
             granularity_is_storable(bs, granularity, errp) &&
             directory_has_room(bs, name, errp);
    }
    if (!ok) {
        error_prepend(errp, "Can't make bitmap '%s' persistent in '%s': ",
                      name, bdrv_get_device_or_node_name(bs));
    }
    return ok;
}
