/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Stored bitmaps.
 *
 *   bitmap-dir.c    the directory: reading, judging and building entries
 *   bitmap-data.c   tables and bits
 *   bitmap-save.c   a new directory with what is in memory, in one step
 *   bitmap.c        from open to close; marking before writes
 *   bitmap-repair.c what check -r does about them
 *
 * Invariants:
 *   1. A stored bitmap that is valid (extension with its autoclear bit, entry
 *      without IN_USE) covers every write to the disk since it was enabled.
 *      Before a write that it would miss it is marked IN_USE, durably.
 *   2. Tables, data and directory are never changed in place, except for
 *      setting IN_USE; a new directory takes effect with a new header.
 *   3. What cannot be understood is kept byte for byte: an entry damaged
 *      in its fields costs itself, one damaged in its sizes those up to
 *      where entries make sense again.
 *   4. Clusters are given back only if the table that names them was valid all
 *      along, and nothing in it is wrong. Otherwise they leak, for the check.
 */
#ifndef BLOCK_QCOW2_BITMAP_H
#define BLOCK_QCOW2_BITMAP_H

#include "block/dirty-bitmap.h"
#include "block/qcow2/qcow2.h"

/* One entry of the directory. */
typedef struct Qcow2Bitmap {
    uint8_t *raw;               /* all of it, as stored, with padding */
    size_t raw_size;
    uint64_t pos;               /* in the directory on disk */
    /*
     * False: @raw holds one or more entries of which not even the sizes can
     * be trusted; all that follows is 0.
     */
    bool framed;
    char *name;                 /* UTF-8; NULL: it cannot be called by one */
    uint64_t table_offset;
    uint32_t table_size;        /* entries */
    uint32_t flags;
    unsigned granularity_bits;
    bool only_padding;          /* the only @fault is that what is behind the
                                 * name is not zero */
    bool unknown;               /* it has a @fault, but is not damaged: somebody
                                 * else may know what to do with it */
    const char *fault;          /* why its bits cannot be used, besides
                                 * IN_USE; NULL: they can */
} Qcow2Bitmap;

static inline bool qcow2_bitmaps_are_valid(const BDRVQcow2State *s)
{
    return s->has_bitmaps_ext &&
           (qatomic_read(&s->autoclear_features) & QCOW2_AUTOCLEAR_BITMAPS);
}

/* Its bits may be used. */
static inline bool qcow2_bitmap_is_good(const BDRVQcow2State *s,
                                        const Qcow2Bitmap *b)
{
    return qcow2_bitmaps_are_valid(s) && !b->fault &&
           !(b->flags & QCOW2_BME_FLAG_IN_USE);
}

/* --- bitmap-dir.c --- */

void qcow2_bitmap_free(Qcow2Bitmap *b);
GPtrArray *qcow2_bitmap_list_new(void);
/*
 * Reads the directory into s->bitmaps, or sets s->bitmaps_fault. Only -ENOMEM
 * is an error. [lock]
 */
int coroutine_fn qcow2_bitmaps_read_directory(BlockDriverState *bs);
/* Whether this stands in the entry, even if another has the name, too. */
bool qcow2_bitmap_has_name(const Qcow2Bitmap *b, const char *name);
/* By name; NULL: there is none. */
Qcow2Bitmap *qcow2_bitmap_find(const BDRVQcow2State *s, const char *name);
/* A copy, and a new one without a table. */
Qcow2Bitmap *qcow2_bitmap_clone(const Qcow2Bitmap *b);
Qcow2Bitmap *qcow2_bitmap_new(const char *name, unsigned granularity_bits);
/* Change an entry, also in @raw; it must be framed. */
void qcow2_bitmap_set_flags(Qcow2Bitmap *b, uint32_t flags);
/* Only if that is its only fault: then it has none any more, and a name. */
void qcow2_bitmap_clear_padding(Qcow2Bitmap *b);
void qcow2_bitmap_set_table(Qcow2Bitmap *b, uint64_t offset, uint32_t size);
/* Bytes that the entries of @list take, and they themselves to @buf. */
uint64_t qcow2_bitmaps_directory_size(const GPtrArray *list);
void qcow2_bitmaps_build_directory(const GPtrArray *list, uint8_t *buf);
/* Entries that a directory must say it has: those that are not framed count
 * for what they count there now. */
uint32_t qcow2_bitmaps_count(const BDRVQcow2State *s, const GPtrArray *list);

/* --- bitmap-data.c --- */

/* Entries of the table of a bitmap for a disk of @size bytes; at least 1. */
uint64_t qcow2_bitmap_table_entries(const BDRVQcow2State *s, uint64_t size,
                                    unsigned granularity_bits);
bool qcow2_bitmap_table_entry_is_right(const BDRVQcow2State *s,
                                       uint64_t entry);
/*
 * The table in host order; the caller frees. NULL and *@ret -errno: -EINVAL if
 * an entry cannot be. @b must have no fault. [lock]
 */
uint64_t *coroutine_fn qcow2_bitmap_read_table(BlockDriverState *bs,
                                               const Qcow2Bitmap *b,
                                               int *ret);
/* Reads the bits into @bits, which is clear. 0 or -errno as above. [lock] */
int coroutine_fn qcow2_bitmap_load(BlockDriverState *bs, const Qcow2Bitmap *b,
                                   HBitmap *bits);
/*
 * Writes @bits (NULL: all clear) for a disk of @size bytes to new clusters and
 * names them in the entry. On failure the entry is as it was and the clusters
 * are given back. [lock]
 */
int coroutine_fn qcow2_bitmap_store(BlockDriverState *bs, Qcow2Bitmap *b,
                                    const HBitmap *bits, uint64_t size);
/* The same with every bit set, which takes a table only. [lock] */
int coroutine_fn qcow2_bitmap_store_ones(BlockDriverState *bs, Qcow2Bitmap *b,
                                         uint64_t size);

typedef struct Qcow2BitmapExtent {
    uint64_t offset;
    uint64_t bytes;
} Qcow2BitmapExtent;
/*
 * Whether these clusters look as if they had one owner, a bitmap. @ignore:
 * overlap check bits. [lock]
 */
bool coroutine_fn qcow2_bitmap_owns(BlockDriverState *bs, int ignore,
                                    uint64_t offset, uint64_t bytes);
/*
 * Appends all clusters of the bitmap to @extents, or nothing if its table is
 * not right in itself. [lock]
 */
void coroutine_fn qcow2_bitmap_clusters(BlockDriverState *bs,
                                        const Qcow2Bitmap *b,
                                        GArray *extents);

/* --- bitmap-save.c --- */

/*
 * Makes @list (whose new tables are written) the directory and s->bitmaps; its
 * entries are taken over. An empty one takes the extension away. On failure
 * the old directory stays, and @list is still the caller's. [lock]
 */
int coroutine_fn qcow2_bitmaps_switch_directory(BlockDriverState *bs,
                                                GPtrArray *list);
/* Gives back tables in @list that are not in s->bitmaps. [lock] */
void coroutine_fn qcow2_bitmaps_drop_new_tables(BlockDriverState *bs,
                                                GPtrArray *list);
/* Driver hooks: see block_int.h. Main thread. */
bool qcow2_can_store_bitmap(BlockDriverState *bs, const char *name,
                            uint32_t granularity, Error **errp);
int qcow2_save_bitmaps(BlockDriverState *bs, const char *const *remove,
                       unsigned flags, Error **errp);

/* --- bitmap-repair.c --- */

/*
 * Takes bitmaps that cannot be used away; @dirty: makes those that have a name
 * say that everything is dirty. *@fixed: how many. Not while they are in
 * memory. 0 or -errno with everything as before. [lock]
 */
int coroutine_fn qcow2_bitmaps_repair(BlockDriverState *bs, bool dirty,
                                      int64_t *fixed);

/* What is wrong with one of s->bitmaps. */
typedef enum Qcow2BitmapDamage {
    QCOW2_BITMAP_SOUND,
    QCOW2_BITMAP_PADDING,       /* what Qcow2Bitmap.only_padding says */
    QCOW2_BITMAP_DAMAGED,
} Qcow2BitmapDamage;
/*
 * Makes s->bitmaps sound; @damage: a Qcow2BitmapDamage each. What is damaged
 * gets a new entry with a name, which is in use, and so cannot be used, and an
 * empty table; nothing of the old ones is freed. 0 or -errno. Not while they
 * are in memory. [lock]
 */
int coroutine_fn qcow2_bitmaps_mark_damaged(BlockDriverState *bs,
                                            const GByteArray *damage);

/* --- bitmap.c --- */

/*
 * Reads the bits of all stored bitmaps. *@stored: for the next function, which
 * makes them dirty bitmaps of the node, or to be freed; the state must live as
 * long. Main thread, at the end of open.
 */
int qcow2_bitmaps_read_stored(BlockDriverState *bs, int flags,
                              GPtrArray **stored, Error **errp);
/* Takes @stored over. No bitmap of the node has a name of those. */
void qcow2_bitmaps_add_stored(BlockDriverState *bs, GPtrArray *stored);
/* The node is, or is no longer, writable. Main thread. */
void qcow2_bitmaps_set_readonly(BlockDriverState *bs, bool readonly);
void qcow2_bitmaps_free(BDRVQcow2State *s);
/*
 * A write is about to make stored bitmaps wrong: marks them; @all: also those
 * that the write is no concern of. Durable when it returns. [lock]
 */
int coroutine_fn qcow2_bitmaps_mark(BlockDriverState *bs, bool all);
/* The disk has another size: names those bitmaps that do not. [lock] */
void qcow2_bitmaps_report_resize(BlockDriverState *bs);
/* Bytes set in a stored bitmap, or -errno. [lock] */
int64_t coroutine_fn qcow2_bitmap_count_dirty(BlockDriverState *bs,
                                              const Qcow2Bitmap *b);

#endif
