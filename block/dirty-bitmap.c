/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Dirty bitmaps of a node: their life, their state and the bits.
 *
 * 1. The list of a node and everything in its bitmaps is under
 *    bs->dirty_bitmap_mutex, a leaf lock. What only the main thread changes is
 *    read there without it.
 * 2. A bitmap records while it is enabled and not inconsistent. One that is
 *    read-only must not miss writes: the node is read-only then, and a write
 *    is a bug.
 * 3. A bitmap is as long as its node.
 */
#include "util/osdep.h"
#include "block/block_int.h"
#include "block/dirty-bitmap.h"
#include "util/atomic.h"
#include "util/lockable.h"

#define DEFAULT_GRANULARITY_MIN 4096
#define DEFAULT_GRANULARITY_MAX 65536

struct BdrvDirtyBitmap {
    /* Fixed at creation. */
    BlockDriverState *bs;
    char *name;             /* NULL: anonymous */

    /* Under bs->dirty_bitmap_mutex. */
    HBitmap *bits;
    bool enabled;
    bool changed;           /* not as it was saved, or never was */

    /* Written by the main thread under the mutex. */
    bool hidden;            /* taken away by a transaction that may abort */
    bool busy;              /* an operation owns it */
    bool readonly;
    bool persistent;
    bool inconsistent;
    QLIST_ENTRY(BdrvDirtyBitmap) list;
};

struct BdrvDirtyBitmapIter {
    BdrvDirtyBitmap *bitmap;
    HBitmapIter it;
};

/*
 * What is saved of @bitmap may not be right any more: the driver has to look
 * before the next change of the data. With the mutex.
 */
static void note_change(BdrvDirtyBitmap *bitmap)
{
    bitmap->changed = true;
    if (bitmap->persistent) {
        qatomic_set(&bitmap->bs->bitmaps_to_mark, true);
    }
}

static QemuMutex *bitmap_mutex(const BdrvDirtyBitmap *bitmap)
{
    return &bitmap->bs->dirty_bitmap_mutex;
}

/* ------------------------------------------------------------------ life */

uint32_t bdrv_get_default_bitmap_granularity(BlockDriverState *bs)
{
    BlockDriverInfo bdi;

    if (bdrv_get_info(bs, &bdi) < 0 || bdi.cluster_size <= 0) {
        return DEFAULT_GRANULARITY_MAX;
    }
    return MIN(MAX(bdi.cluster_size, DEFAULT_GRANULARITY_MIN),
               DEFAULT_GRANULARITY_MAX);
}

BdrvDirtyBitmap *bdrv_find_dirty_bitmap(BlockDriverState *bs,
                                        const char *name)
{
    BdrvDirtyBitmap *bitmap;

    assert(name);
    QEMU_LOCK_GUARD(&bs->dirty_bitmap_mutex);
    QLIST_FOREACH(bitmap, &bs->dirty_bitmaps, list) {
        if (bitmap->name && !bitmap->hidden && !strcmp(bitmap->name, name)) {
            return bitmap;
        }
    }
    return NULL;
}

BdrvDirtyBitmap *bdrv_create_dirty_bitmap(BlockDriverState *bs,
                                          uint32_t granularity,
                                          const char *name, Error **errp)
{
    BdrvDirtyBitmap *bitmap;
    int64_t length;

    assert(granularity >= BDRV_SECTOR_SIZE &&
           !(granularity & (granularity - 1)));
    if (name && bdrv_find_dirty_bitmap(bs, name)) {
        error_setg(errp, "Bitmap already exists: %s", name);
        return NULL;
    }
    if (name && strlen(name) > BDRV_BITMAP_MAX_NAME_SIZE) {
        error_setg(errp, "Bitmap name too long: %s", name);
        return NULL;
    }
    length = bdrv_getlength(bs);
    if (length < 0) {
        error_setg_errno(errp, -length, "could not get length of device");
        return NULL;
    }
    bitmap = g_new0(BdrvDirtyBitmap, 1);
    bitmap->bs = bs;
    bitmap->name = g_strdup(name);
    bitmap->bits = hbitmap_alloc(length, __builtin_ctz(granularity));
    bitmap->enabled = true;
    bitmap->changed = true;

    QEMU_LOCK_GUARD(&bs->dirty_bitmap_mutex);
    QLIST_INSERT_HEAD(&bs->dirty_bitmaps, bitmap, list);
    qatomic_inc(&bs->dirty_bitmap_count);
    return bitmap;
}

BdrvDirtyBitmap *bdrv_add_stored_bitmap(BlockDriverState *bs,
                                        const char *name, HBitmap *bits,
                                        uint32_t flags)
{
    BdrvDirtyBitmap *bitmap = g_new0(BdrvDirtyBitmap, 1);

    bitmap->bs = bs;
    bitmap->name = g_strdup(name);
    bitmap->bits = bits;
    bitmap->persistent = true;
    bitmap->inconsistent = flags & BDRV_STORED_INCONSISTENT;
    bitmap->enabled = (flags & BDRV_STORED_ENABLED) && !bitmap->inconsistent;
    bitmap->readonly = flags & BDRV_STORED_READONLY;

    QEMU_LOCK_GUARD(&bs->dirty_bitmap_mutex);
    QLIST_INSERT_HEAD(&bs->dirty_bitmaps, bitmap, list);
    qatomic_inc(&bs->dirty_bitmap_count);
    return bitmap;
}

void bdrv_release_dirty_bitmap(BdrvDirtyBitmap *bitmap)
{
    BlockDriverState *bs = bitmap->bs;

    assert(!bitmap->busy);
    WITH_QEMU_LOCK_GUARD(&bs->dirty_bitmap_mutex) {
        QLIST_REMOVE(bitmap, list);
        qatomic_dec(&bs->dirty_bitmap_count);
    }
    hbitmap_free(bitmap->bits);
    g_free(bitmap->name);
    g_free(bitmap);
}

void bdrv_release_named_dirty_bitmaps(BlockDriverState *bs)
{
    BdrvDirtyBitmap *bitmap = bdrv_dirty_bitmap_first(bs);

    while (bitmap) {
        BdrvDirtyBitmap *next = bdrv_dirty_bitmap_next(bitmap);

        if (bitmap->name) {
            bdrv_release_dirty_bitmap(bitmap);
        }
        bitmap = next;
    }
}

BdrvDirtyBitmap *bdrv_dirty_bitmap_first(BlockDriverState *bs)
{
    QEMU_LOCK_GUARD(&bs->dirty_bitmap_mutex);
    return QLIST_FIRST(&bs->dirty_bitmaps);
}

BdrvDirtyBitmap *bdrv_dirty_bitmap_next(BdrvDirtyBitmap *bitmap)
{
    QEMU_LOCK_GUARD(bitmap_mutex(bitmap));
    return QLIST_NEXT(bitmap, list);
}

/* ----------------------------------------------------------------- state */

bool bdrv_dirty_bitmap_check(const BdrvDirtyBitmap *bitmap, uint32_t flags,
                             Error **errp)
{
    ERRP_GUARD();
    const char *name = bitmap->name ? bitmap->name : "";

    if ((flags & BDRV_BITMAP_BUSY) && bitmap->busy) {
        error_setg(errp, "Bitmap '%s' is currently in use by another operation"
                   " and cannot be used", name);
        return false;
    }
    if ((flags & BDRV_BITMAP_RO) && bitmap->readonly) {
        error_setg(errp, "Bitmap '%s' is readonly and cannot be modified",
                   name);
        return false;
    }
    if ((flags & BDRV_BITMAP_INCONSISTENT) && bitmap->inconsistent) {
        error_setg(errp, "Bitmap '%s' is inconsistent and cannot be used",
                   name);
        error_append_hint(errp, "Try block-dirty-bitmap-remove to delete this "
                          "bitmap from disk\n");
        return false;
    }
    return true;
}

void bdrv_enable_dirty_bitmap(BdrvDirtyBitmap *bitmap)
{
    QEMU_LOCK_GUARD(bitmap_mutex(bitmap));
    assert(!bitmap->inconsistent);
    bitmap->enabled = true;
    note_change(bitmap);
}

void bdrv_disable_dirty_bitmap(BdrvDirtyBitmap *bitmap)
{
    QEMU_LOCK_GUARD(bitmap_mutex(bitmap));
    bitmap->enabled = false;
    note_change(bitmap);
}

bool bdrv_dirty_bitmap_enabled(BdrvDirtyBitmap *bitmap)
{
    QEMU_LOCK_GUARD(bitmap_mutex(bitmap));
    return bitmap->enabled;
}

void bdrv_dirty_bitmap_set_busy(BdrvDirtyBitmap *bitmap, bool busy)
{
    QEMU_LOCK_GUARD(bitmap_mutex(bitmap));
    assert(bitmap->busy != busy);
    bitmap->busy = busy;
}

void bdrv_dirty_bitmap_set_readonly(BdrvDirtyBitmap *bitmap, bool value)
{
    QEMU_LOCK_GUARD(bitmap_mutex(bitmap));
    bitmap->readonly = value;
}

void bdrv_dirty_bitmap_set_persistence(BdrvDirtyBitmap *bitmap, bool value)
{
    QEMU_LOCK_GUARD(bitmap_mutex(bitmap));
    bitmap->persistent = value;
    note_change(bitmap);
}

void bdrv_dirty_bitmap_set_inconsistent(BdrvDirtyBitmap *bitmap)
{
    QEMU_LOCK_GUARD(bitmap_mutex(bitmap));
    bitmap->inconsistent = true;
    bitmap->enabled = false;
}

bool bdrv_dirty_bitmap_busy(const BdrvDirtyBitmap *bitmap)
{
    return bitmap->busy;
}

bool bdrv_dirty_bitmap_readonly(const BdrvDirtyBitmap *bitmap)
{
    return bitmap->readonly;
}

bool bdrv_dirty_bitmap_inconsistent(const BdrvDirtyBitmap *bitmap)
{
    return bitmap->inconsistent;
}

bool bdrv_dirty_bitmap_get_persistence(const BdrvDirtyBitmap *bitmap)
{
    return bitmap->persistent;
}

const char *bdrv_dirty_bitmap_name(const BdrvDirtyBitmap *bitmap)
{
    return bitmap->name;
}

uint32_t bdrv_dirty_bitmap_granularity(const BdrvDirtyBitmap *bitmap)
{
    return 1U << hbitmap_granularity(bitmap->bits);
}

int64_t bdrv_dirty_bitmap_size(const BdrvDirtyBitmap *bitmap)
{
    QEMU_LOCK_GUARD(bitmap_mutex(bitmap));
    return hbitmap_size(bitmap->bits);
}

BlockDriverState *bdrv_dirty_bitmap_bs(const BdrvDirtyBitmap *bitmap)
{
    return bitmap->bs;
}

/* ---------------------------------------------------------------- saving */

void bdrv_dirty_bitmap_set_hidden(BdrvDirtyBitmap *bitmap, bool value)
{
    QEMU_LOCK_GUARD(bitmap_mutex(bitmap));
    assert(bitmap->hidden != value);
    bitmap->hidden = value;
    note_change(bitmap);
}

bool bdrv_dirty_bitmap_hidden(const BdrvDirtyBitmap *bitmap)
{
    return bitmap->hidden;
}

bool bdrv_dirty_bitmap_changed(BdrvDirtyBitmap *bitmap)
{
    QEMU_LOCK_GUARD(bitmap_mutex(bitmap));
    return bitmap->changed;
}

void bdrv_dirty_bitmap_set_saved(BdrvDirtyBitmap *bitmap)
{
    QEMU_LOCK_GUARD(bitmap_mutex(bitmap));
    bitmap->changed = false;
}

HBitmap *bdrv_dirty_bitmap_copy_bits(BdrvDirtyBitmap *bitmap)
{
    HBitmap *copy;

    QEMU_LOCK_GUARD(bitmap_mutex(bitmap));
    copy = hbitmap_alloc(hbitmap_size(bitmap->bits),
                         hbitmap_granularity(bitmap->bits));
    hbitmap_merge(copy, bitmap->bits, copy);
    return copy;
}

bool bdrv_stored_bitmap_is_outdated_by_write(BlockDriverState *bs,
                                             const char *name)
{
    BdrvDirtyBitmap *bitmap;

    QEMU_LOCK_GUARD(&bs->dirty_bitmap_mutex);
    QLIST_FOREACH(bitmap, &bs->dirty_bitmaps, list) {
        if (bitmap->persistent && bitmap->name &&
            !strcmp(bitmap->name, name)) {
            return bitmap->enabled || bitmap->changed || bitmap->hidden;
        }
    }
    /* It is not kept up to date by anybody. */
    return true;
}

BlockDirtyInfoList *bdrv_query_dirty_bitmaps(BlockDriverState *bs)
{
    BlockDirtyInfoList *list = NULL, **tail = &list;
    BdrvDirtyBitmap *bitmap;

    QEMU_LOCK_GUARD(&bs->dirty_bitmap_mutex);
    QLIST_FOREACH(bitmap, &bs->dirty_bitmaps, list) {
        BlockDirtyInfo *info;

        if (bitmap->hidden) {
            continue;
        }
        info = g_new0(BlockDirtyInfo, 1);
        info->count = hbitmap_count(bitmap->bits);
        info->granularity = 1U << hbitmap_granularity(bitmap->bits);
        info->name = g_strdup(bitmap->name);
        info->recording = bitmap->enabled && !bitmap->inconsistent;
        info->busy = bitmap->busy;
        info->persistent = bitmap->persistent;
        info->has_inconsistent = bitmap->inconsistent;
        info->inconsistent = bitmap->inconsistent;
        QAPI_LIST_APPEND(tail, info);
    }
    return list;
}

char *bdrv_dirty_bitmap_sha256(const BdrvDirtyBitmap *bitmap, Error **errp)
{
    QEMU_LOCK_GUARD(bitmap_mutex(bitmap));
    return hbitmap_sha256(bitmap->bits);
}

/* ------------------------------------------------------------------ bits */

int64_t bdrv_get_dirty_count(BdrvDirtyBitmap *bitmap)
{
    QEMU_LOCK_GUARD(bitmap_mutex(bitmap));
    return hbitmap_count(bitmap->bits);
}

bool bdrv_dirty_bitmap_get(BdrvDirtyBitmap *bitmap, int64_t offset)
{
    QEMU_LOCK_GUARD(bitmap_mutex(bitmap));
    return offset >= 0 && offset < hbitmap_size(bitmap->bits) &&
           hbitmap_get(bitmap->bits, offset);
}

/* The part of a range that lies in the bitmap; false if there is none. */
static bool clip_range(const BdrvDirtyBitmap *bitmap, int64_t offset,
                       int64_t *bytes)
{
    int64_t size = hbitmap_size(bitmap->bits);

    assert(offset >= 0 && *bytes >= 0);
    *bytes = offset < size ? MIN(*bytes, size - offset) : 0;
    return *bytes > 0;
}

void bdrv_set_dirty_bitmap(BdrvDirtyBitmap *bitmap, int64_t offset,
                           int64_t bytes)
{
    QEMU_LOCK_GUARD(bitmap_mutex(bitmap));
    assert(!bitmap->readonly);
    if (clip_range(bitmap, offset, &bytes)) {
        hbitmap_set(bitmap->bits, offset, bytes);
        note_change(bitmap);
    }
}

void bdrv_reset_dirty_bitmap(BdrvDirtyBitmap *bitmap, int64_t offset,
                             int64_t bytes)
{
    QEMU_LOCK_GUARD(bitmap_mutex(bitmap));
    assert(!bitmap->readonly);
    if (clip_range(bitmap, offset, &bytes)) {
        hbitmap_reset(bitmap->bits, offset, bytes);
        note_change(bitmap);
    }
}

void bdrv_clear_dirty_bitmap(BdrvDirtyBitmap *bitmap, HBitmap **backup)
{
    QEMU_LOCK_GUARD(bitmap_mutex(bitmap));
    assert(!bitmap->readonly);
    if (backup) {
        *backup = bitmap->bits;
        bitmap->bits = hbitmap_alloc(hbitmap_size(*backup),
                                     hbitmap_granularity(*backup));
    } else {
        hbitmap_reset_all(bitmap->bits);
    }
    note_change(bitmap);
}

void bdrv_restore_dirty_bitmap(BdrvDirtyBitmap *bitmap, HBitmap *backup)
{
    QEMU_LOCK_GUARD(bitmap_mutex(bitmap));
    assert(!bitmap->readonly);
    /* The node may have another length by now. */
    hbitmap_truncate(backup, hbitmap_size(bitmap->bits));
    hbitmap_free(bitmap->bits);
    bitmap->bits = backup;
    note_change(bitmap);
}

/* The union of @dest and @src as a bitmap like @dest's. Both locks held. */
static HBitmap *merged_bits(const BdrvDirtyBitmap *dest,
                            const BdrvDirtyBitmap *src)
{
    HBitmap *bits = hbitmap_alloc(hbitmap_size(dest->bits),
                                  hbitmap_granularity(dest->bits));

    hbitmap_merge(dest->bits, src->bits, bits);
    return bits;
}

/* Takes the mutexes of both nodes, in the order of their addresses. */
static void lock_both(BdrvDirtyBitmap *a, BdrvDirtyBitmap *b)
{
    BlockDriverState *first = MIN(a->bs, b->bs);
    BlockDriverState *second = MAX(a->bs, b->bs);

    qemu_mutex_lock(&first->dirty_bitmap_mutex);
    if (first != second) {
        qemu_mutex_lock(&second->dirty_bitmap_mutex);
    }
}

static void unlock_both(BdrvDirtyBitmap *a, BdrvDirtyBitmap *b)
{
    qemu_mutex_unlock(bitmap_mutex(a));
    if (a->bs != b->bs) {
        qemu_mutex_unlock(bitmap_mutex(b));
    }
}

bool bdrv_merge_dirty_bitmap(BdrvDirtyBitmap *dest, BdrvDirtyBitmap *src,
                             HBitmap **backup, Error **errp)
{
    HBitmap *old = NULL;
    uint64_t dest_size, src_size;

    if (!bdrv_dirty_bitmap_check(dest, BDRV_BITMAP_DEFAULT, errp) ||
        !bdrv_dirty_bitmap_check(src, BDRV_BITMAP_ALLOW_RO, errp)) {
        return false;
    }
    lock_both(dest, src);
    dest_size = hbitmap_size(dest->bits);
    src_size = hbitmap_size(src->bits);
    if (dest_size == src_size) {
        old = dest->bits;
        dest->bits = merged_bits(dest, src);
        note_change(dest);
    }
    unlock_both(dest, src);

    if (!old) {
        error_setg(errp, "Bitmaps are of different sizes (destination size is "
                   "%" PRIu64 " and source size is %" PRIu64
                   ") and can't be merged", dest_size, src_size);
        return false;
    }
    if (backup) {
        *backup = old;
    } else {
        hbitmap_free(old);
    }
    return true;
}

/* -------------------------------------------------------------- searching */

int64_t bdrv_dirty_bitmap_next_dirty(BdrvDirtyBitmap *bitmap, int64_t offset,
                                     int64_t bytes)
{
    QEMU_LOCK_GUARD(bitmap_mutex(bitmap));
    return hbitmap_next_dirty(bitmap->bits, offset, bytes);
}

int64_t bdrv_dirty_bitmap_next_zero(BdrvDirtyBitmap *bitmap, int64_t offset,
                                    int64_t bytes)
{
    QEMU_LOCK_GUARD(bitmap_mutex(bitmap));
    return hbitmap_next_zero(bitmap->bits, offset, bytes);
}

bool bdrv_dirty_bitmap_next_dirty_area(BdrvDirtyBitmap *bitmap, int64_t start,
                                       int64_t end, int64_t max_dirty_count,
                                       int64_t *dirty_start,
                                       int64_t *dirty_count)
{
    QEMU_LOCK_GUARD(bitmap_mutex(bitmap));
    return hbitmap_next_dirty_area(bitmap->bits, start, end, max_dirty_count,
                                   dirty_start, dirty_count);
}

BdrvDirtyBitmapIter *bdrv_dirty_iter_new(BdrvDirtyBitmap *bitmap)
{
    BdrvDirtyBitmapIter *iter = g_new0(BdrvDirtyBitmapIter, 1);

    iter->bitmap = bitmap;
    QEMU_LOCK_GUARD(bitmap_mutex(bitmap));
    hbitmap_iter_init(&iter->it, bitmap->bits, 0);
    return iter;
}

int64_t bdrv_dirty_iter_next(BdrvDirtyBitmapIter *iter)
{
    QEMU_LOCK_GUARD(bitmap_mutex(iter->bitmap));
    /* Clearing with a backup, restoring and merging put other bits in place. */
    iter->it.hb = iter->bitmap->bits;
    return hbitmap_iter_next(&iter->it);
}

void bdrv_dirty_iter_free(BdrvDirtyBitmapIter *iter)
{
    g_free(iter);
}

/* ---------------------------------------------------------- request path */

void bdrv_set_dirty(BlockDriverState *bs, int64_t offset, int64_t bytes)
{
    BdrvDirtyBitmap *bitmap;

    if (likely(qatomic_read(&bs->dirty_bitmap_count) == 0)) {
        return;
    }
    QEMU_LOCK_GUARD(&bs->dirty_bitmap_mutex);
    QLIST_FOREACH(bitmap, &bs->dirty_bitmaps, list) {
        int64_t n = bytes;

        if (!bitmap->enabled) {
            continue;
        }
        assert(!bitmap->readonly);
        if (clip_range(bitmap, offset, &n)) {
            /* No note: an enabled one was looked at before the write. */
            hbitmap_set(bitmap->bits, offset, n);
            bitmap->changed = true;
        }
    }
}

static void truncate_all_locked(BlockDriverState *bs, int64_t bytes)
{
    BdrvDirtyBitmap *bitmap;

    QLIST_FOREACH(bitmap, &bs->dirty_bitmaps, list) {
        if (hbitmap_size(bitmap->bits) != (uint64_t)bytes) {
            hbitmap_truncate(bitmap->bits, bytes);
            note_change(bitmap);
        }
    }
}

void bdrv_dirty_bitmap_truncate(BlockDriverState *bs, int64_t bytes)
{
    QEMU_LOCK_GUARD(&bs->dirty_bitmap_mutex);
    truncate_all_locked(bs, bytes);
}

void bdrv_dirty_bitmap_follow_length(BlockDriverState *bs)
{
    QEMU_LOCK_GUARD(&bs->dirty_bitmap_mutex);
    truncate_all_locked(bs, ROUND_UP(qatomic_read(&bs->total_bytes),
                                     (int64_t)BDRV_SECTOR_SIZE));
}

void bdrv_dirty_bitmap_missed_all(BdrvDirtyBitmap *bitmap)
{
    if (!bdrv_dirty_bitmap_inconsistent(bitmap)) {
        bdrv_dirty_bitmap_set_readonly(bitmap, false);
        bdrv_set_dirty_bitmap(bitmap, 0, bdrv_dirty_bitmap_size(bitmap));
    }
}
