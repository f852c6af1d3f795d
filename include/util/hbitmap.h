/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Hierarchical bitmap: a set of ranges of a disk, e.g. of dirty bytes.
 *
 * A bitmap covers the items (bytes, in the block layer) 0 to size - 1.  One
 * bit stands for a group of 2^granularity items; the last group may be cut by
 * the size. Setting an item sets its group.  Searching, setting and clearing
 * cost the logarithm of the size, and memory is needed only where set and
 * clear groups alternate: uniform ranges of any length are free, so that every
 * size up to 2^63-1 with every granularity works.
 *
 * Unless said otherwise ranges (@start, @count) are in items and must lie
 * inside the bitmap, and an empty range is fine.
 *
 * The caller serialises access: a bitmap has no lock of its own.  Functions
 * that take a const pointer may run at the same time as each other.  Nothing
 * yields.
 */
#ifndef UTIL_HBITMAP_H
#define UTIL_HBITMAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct HBitmap HBitmap;

/* --- life --- */

/* All clear.  @size 0 to 2^63-1 items, @granularity 0 to 57. */
HBitmap *hbitmap_alloc(uint64_t size, int granularity);

/* Free; NULL is fine. */
void hbitmap_free(HBitmap *hb);

/*
 * Change the size.  Growing adds clear items, except that a set last group
 * stays set with the items that it gains; shrinking drops groups beyond the
 * end.
 */
void hbitmap_truncate(HBitmap *hb, uint64_t size);

/* --- changing --- */

/* Set all groups that the range touches. */
void hbitmap_set(HBitmap *hb, uint64_t start, uint64_t count);

/*
 * Clear all groups of the range.  @start must be a multiple of the group size,
 * and so must the end unless it is the bitmap's end: part of a group cannot be
 * cleared.
 */
void hbitmap_reset(HBitmap *hb, uint64_t start, uint64_t count);

/* Clear everything. */
void hbitmap_reset_all(HBitmap *hb);

/*
 * Set @result to the union of @a and @b.  All have one size; granularities may
 * differ (groups of the result that are set in part become set).  @result may
 * be @a or @b.
 */
void hbitmap_merge(const HBitmap *a, const HBitmap *b, HBitmap *result);

/* --- looking --- */

uint64_t hbitmap_size(const HBitmap *hb);
int hbitmap_granularity(const HBitmap *hb);

/* True if no group is set. */
bool hbitmap_empty(const HBitmap *hb);

/* Items in set groups, where a cut last group counts in full. */
uint64_t hbitmap_count(const HBitmap *hb);

/* True if the group of @item is set.  @item must be below the size. */
bool hbitmap_get(const HBitmap *hb, uint64_t item);

/*
 * The first item in the range that is set / clear, or -1.  @start may lie
 * beyond the end (-1), and @count is cut at the end: INT64_MAX means all.
 */
int64_t hbitmap_next_dirty(const HBitmap *hb, int64_t start, int64_t count);
int64_t hbitmap_next_zero(const HBitmap *hb, int64_t start, int64_t count);

/*
 * The first contiguous set area in [@start, @end): true, with *@dirty_start
 * and *@dirty_count (cut to @end, the bitmap's end and @max_dirty_count, which
 * is positive), or false if nothing is set, outputs untouched.
 */
bool hbitmap_next_dirty_area(const HBitmap *hb, int64_t start, int64_t end,
                             int64_t max_dirty_count,
                             int64_t *dirty_start, int64_t *dirty_count);

/*
 * True if @start is set, and in *@pnum the items from @start on, at most
 * @count, that are in the same state.  @count is positive, the range inside.
 */
bool hbitmap_status(const HBitmap *hb, int64_t start, int64_t count,
                    int64_t *pnum);

/*
 * Iteration over set groups, in rising order.  Looks at the bitmap as it is at
 * each step, so changing it meanwhile is fine and is seen ahead of the
 * position.
 */
typedef struct HBitmapIter {
    const HBitmap *hb;
    uint64_t pos;       /* group to look at next; beyond the last: at the end */
} HBitmapIter;

/*
 * Start at the group of item @first; at the size or beyond: nothing follows.
 */
void hbitmap_iter_init(HBitmapIter *hbi, const HBitmap *hb, uint64_t first);

/* The first item of the next set group, or -1; then always -1. */
int64_t hbitmap_iter_next(HBitmapIter *hbi);

/* --- serialising ---
 *
 * The format is that of qcow2 bitmaps and of nothing else: group n is bit n %
 * 8 of byte n / 8, padded with zeroes to 8 bytes.  A part must start at a
 * multiple of hbitmap_serialization_align() items and end at one or at the
 * bitmap's end.
 */

/* Items in 64 groups. */
uint64_t hbitmap_serialization_align(const HBitmap *hb);

/* Bytes that the part takes, a multiple of 8. */
uint64_t hbitmap_serialization_size(const HBitmap *hb,
                                    uint64_t start, uint64_t count);

/* Write the part to @buf, of hbitmap_serialization_size() bytes. */
void hbitmap_serialize_part(const HBitmap *hb, uint8_t *buf,
                            uint64_t start, uint64_t count);

/*
 * Replace the part by what @buf says, or by all clear or all set.  Bits of
 * @buf beyond the bitmap's end are ignored: @buf may be any bytes.  The bitmap
 * is valid after each call; @finish is there for symmetry with a caller's last
 * part and hbitmap_deserialize_finish() need not follow.
 */
void hbitmap_deserialize_part(HBitmap *hb, const uint8_t *buf,
                              uint64_t start, uint64_t count, bool finish);
void hbitmap_deserialize_zeroes(HBitmap *hb, uint64_t start, uint64_t count,
                                bool finish);
void hbitmap_deserialize_ones(HBitmap *hb, uint64_t start, uint64_t count,
                              bool finish);
void hbitmap_deserialize_finish(HBitmap *hb);

/*
 * Digest of the serialised whole, in lower-case hex; the caller frees it.
 * Reads every bit as bytes, so it takes time in proportion to the size.
 */
char *hbitmap_sha256(const HBitmap *hb);

#endif /* UTIL_HBITMAP_H */
