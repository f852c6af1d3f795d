/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Dirty bitmaps of a node, in memory: which ranges were written while the
 * bitmap recorded.
 *
 * Lock: bs->dirty_bitmap_mutex (leaf) inside; functions with suffix _locked
 * want it held. Creation, release, enable/disable, busy and flags: main
 * thread. Setting and reading bits: any thread.
 */
#ifndef BLOCK_DIRTY_BITMAP_H
#define BLOCK_DIRTY_BITMAP_H

#include "block/block-common.h"
#include "util/hbitmap.h"

#define BDRV_BITMAP_MAX_NAME_SIZE 1023

typedef struct BdrvDirtyBitmapIter BdrvDirtyBitmapIter;

typedef enum {
    BDRV_BITMAP_BUSY = 1,
    BDRV_BITMAP_RO = 2,
    BDRV_BITMAP_INCONSISTENT = 4,
    BDRV_BITMAP_DEFAULT = BDRV_BITMAP_BUSY | BDRV_BITMAP_RO |
                          BDRV_BITMAP_INCONSISTENT,
    BDRV_BITMAP_ALLOW_RO = BDRV_BITMAP_BUSY | BDRV_BITMAP_INCONSISTENT,
} BdrvBitmapCheck;

/*
 * @granularity: bytes, a power of two from 512. @name NULL: anonymous. Starts
 * enabled and clean. NULL with @errp if the name is taken or too long.
 */
BdrvDirtyBitmap *bdrv_create_dirty_bitmap(BlockDriverState *bs,
                                          uint32_t granularity,
                                          const char *name, Error **errp);
/*
 * For drivers: a persistent bitmap that was stored under @name, which is not
 * taken. Takes over @bits; counts as saved. Any context of opening.
 */
enum {
    BDRV_STORED_ENABLED = 1,
    BDRV_STORED_INCONSISTENT = 2,   /* @bits are all clear */
    BDRV_STORED_READONLY = 4,
};
BdrvDirtyBitmap *bdrv_add_stored_bitmap(BlockDriverState *bs,
                                        const char *name, HBitmap *bits,
                                        uint32_t flags);
void bdrv_release_dirty_bitmap(BdrvDirtyBitmap *bitmap);
void bdrv_release_named_dirty_bitmaps(BlockDriverState *bs);
BdrvDirtyBitmap *bdrv_find_dirty_bitmap(BlockDriverState *bs,
                                        const char *name);
BdrvDirtyBitmap *bdrv_dirty_bitmap_first(BlockDriverState *bs);
BdrvDirtyBitmap *bdrv_dirty_bitmap_next(BdrvDirtyBitmap *bitmap);

/* Refuses a bitmap in one of the states @flags with QEMU's messages. */
bool bdrv_dirty_bitmap_check(const BdrvDirtyBitmap *bitmap, uint32_t flags,
                             Error **errp);

void bdrv_enable_dirty_bitmap(BdrvDirtyBitmap *bitmap);
void bdrv_disable_dirty_bitmap(BdrvDirtyBitmap *bitmap);
bool bdrv_dirty_bitmap_enabled(BdrvDirtyBitmap *bitmap);
void bdrv_dirty_bitmap_set_busy(BdrvDirtyBitmap *bitmap, bool busy);
void bdrv_dirty_bitmap_set_readonly(BdrvDirtyBitmap *bitmap, bool value);
void bdrv_dirty_bitmap_set_persistence(BdrvDirtyBitmap *bitmap, bool value);
/* Marks it inconsistent for good; it is disabled and never recorded to. */
void bdrv_dirty_bitmap_set_inconsistent(BdrvDirtyBitmap *bitmap);
bool bdrv_dirty_bitmap_busy(const BdrvDirtyBitmap *bitmap);
bool bdrv_dirty_bitmap_readonly(const BdrvDirtyBitmap *bitmap);
bool bdrv_dirty_bitmap_inconsistent(const BdrvDirtyBitmap *bitmap);
bool bdrv_dirty_bitmap_get_persistence(const BdrvDirtyBitmap *bitmap);
const char *bdrv_dirty_bitmap_name(const BdrvDirtyBitmap *bitmap);
uint32_t bdrv_dirty_bitmap_granularity(const BdrvDirtyBitmap *bitmap);
int64_t bdrv_dirty_bitmap_size(const BdrvDirtyBitmap *bitmap);
BlockDriverState *bdrv_dirty_bitmap_bs(const BdrvDirtyBitmap *bitmap);
/* Cluster size of @bs clamped to 4k..64k; 64k without one. */
uint32_t bdrv_get_default_bitmap_granularity(BlockDriverState *bs);

/*
 * Persistent bitmaps, for drivers. A bitmap is changed when it is not as it
 * was saved: its bits, size, or whether it is enabled. Every such change but
 * the recording of a write sets bs->bitmaps_to_mark.
 */
bool bdrv_dirty_bitmap_changed(BdrvDirtyBitmap *bitmap);
void bdrv_dirty_bitmap_set_saved(BdrvDirtyBitmap *bitmap);
/* The caller frees. */
HBitmap *bdrv_dirty_bitmap_copy_bits(BdrvDirtyBitmap *bitmap);
/*
 * Whether what is stored as @name would miss a write from here on, or is not
 * what goes with the data by then. Any thread.
 */
bool bdrv_stored_bitmap_is_outdated_by_write(BlockDriverState *bs,
                                             const char *name);
/* A hidden bitmap is found by nobody but goes on recording: a transaction has
 * removed it and may bring it back. Main thread. */
void bdrv_dirty_bitmap_set_hidden(BdrvDirtyBitmap *bitmap, bool value);
bool bdrv_dirty_bitmap_hidden(const BdrvDirtyBitmap *bitmap);

/* Bytes marked dirty (granularity units times granularity). */
int64_t bdrv_get_dirty_count(BdrvDirtyBitmap *bitmap);
bool bdrv_dirty_bitmap_get(BdrvDirtyBitmap *bitmap, int64_t offset);
void bdrv_set_dirty_bitmap(BdrvDirtyBitmap *bitmap, int64_t offset,
                           int64_t bytes);
void bdrv_reset_dirty_bitmap(BdrvDirtyBitmap *bitmap, int64_t offset,
                             int64_t bytes);
/* Clears all bits; *@backup (if non-NULL) gets the old ones for restore. */
void bdrv_clear_dirty_bitmap(BdrvDirtyBitmap *bitmap, HBitmap **backup);
void bdrv_restore_dirty_bitmap(BdrvDirtyBitmap *bitmap, HBitmap *backup);
bool bdrv_merge_dirty_bitmap(BdrvDirtyBitmap *dest, BdrvDirtyBitmap *src,
                             HBitmap **backup, Error **errp);

/* First dirty / clean byte in [offset, offset+bytes), or -1. */
int64_t bdrv_dirty_bitmap_next_dirty(BdrvDirtyBitmap *bitmap, int64_t offset,
                                     int64_t bytes);
int64_t bdrv_dirty_bitmap_next_zero(BdrvDirtyBitmap *bitmap, int64_t offset,
                                    int64_t bytes);
/* First dirty run inside [start,end), at most @max_dirty_count bytes. */
bool bdrv_dirty_bitmap_next_dirty_area(BdrvDirtyBitmap *bitmap, int64_t start,
                                       int64_t end, int64_t max_dirty_count,
                                       int64_t *dirty_start,
                                       int64_t *dirty_count);
BdrvDirtyBitmapIter *bdrv_dirty_iter_new(BdrvDirtyBitmap *bitmap);
int64_t bdrv_dirty_iter_next(BdrvDirtyBitmapIter *iter);
void bdrv_dirty_iter_free(BdrvDirtyBitmapIter *iter);

/* Called by the request path for every change of guest-visible content. */
void bdrv_set_dirty(BlockDriverState *bs, int64_t offset, int64_t bytes);
/* The node has a new length; bitmaps follow. Any thread. */
void bdrv_dirty_bitmap_truncate(BlockDriverState *bs, int64_t bytes);
/* The same with the length that bs->total_bytes has by then: right also when
 * several threads change it. */
void bdrv_dirty_bitmap_follow_length(BlockDriverState *bs);
/* Nobody has recorded what happened to the node: everything is dirty, unless the
 * bitmap is inconsistent, and the bitmap can be written to. Any thread. */
void bdrv_dirty_bitmap_missed_all(BdrvDirtyBitmap *bitmap);

BlockDirtyInfoList *bdrv_query_dirty_bitmaps(BlockDriverState *bs);
/* Hex digest, caller frees. */
char *bdrv_dirty_bitmap_sha256(const BdrvDirtyBitmap *bitmap, Error **errp);

#endif
