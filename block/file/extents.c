/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which parts of a file are data and which are holes, read as ranges.
 *
 * One question to the file system gives the whole range around an offset, or,
 * by FIEMAP (fiemap.c), many ranges; the last few are kept. The rules for keeping are with FileExtents.
 *
 * A range found while somebody else changes the file must not be kept as a
 * hole: finders note the generation before they ask, writers count it up
 * before they report success. The finder publishes have_holes before it looks
 * at the generation again, and the writer counts before it reads have_holes,
 * both sequentially consistent: one of them sees the other.
 */
#include "util/osdep.h"
#include "block/file/file-int.h"
#include "util/lockable.h"

/* Extents that FIEMAP is asked for at once. */
#define MAP_EXTENTS 512
/* Answers in a row after which mode auto thinks of FIEMAP. */
#define MANY_IN_ORDER 64

void file_extents_init(FileExtents *x, BlockdevFileExtents mode)
{
    memset(x, 0, sizeof(*x));
    qemu_mutex_init(&x->lock);
    x->mode = mode;
}

void file_extents_destroy(FileExtents *x)
{
    qemu_mutex_destroy(&x->lock);
    g_free(x->map);
}

static void slots_clear(FileExtent *slots)
{
    memset(slots, 0, sizeof(*slots) * FILE_EXTENT_SLOTS);
}

/*
 * Takes [start, end) out of every slot. Where it splits one, the part in front
 * of it is kept.
 */
static void slots_cut(FileExtent *slots, int64_t start, int64_t end)
{
    for (int i = 0; i < FILE_EXTENT_SLOTS; i++) {
        FileExtent *e = &slots[i];

        if (end <= e->start || e->end <= start) {
            continue;
        }
        if (e->start < start) {
            e->end = start;
        } else if (end < e->end) {
            e->start = end;
        } else {
            e->start = e->end = 0;
        }
    }
}

static const FileExtent *slots_find(const FileExtent *slots, int64_t offset)
{
    for (int i = 0; i < FILE_EXTENT_SLOTS; i++) {
        if (slots[i].start <= offset && offset < slots[i].end) {
            return &slots[i];
        }
    }
    return NULL;
}

static void slots_add(FileExtent *slots, unsigned *next, int64_t start,
                      int64_t end)
{
    /* A range that grew on both sides since would otherwise be there twice. */
    slots_cut(slots, start, end);
    slots[*next] = (FileExtent) { .start = start, .end = end };
    *next = (*next + 1) % FILE_EXTENT_SLOTS;
}

static int64_t range_end(int64_t offset, int64_t bytes)
{
    return bytes > INT64_MAX - offset ? INT64_MAX : offset + bytes;
}

static void holes_clear_locked(FileExtents *x)
{
    slots_clear(x->hole);
    x->map_start = x->map_end = 0;
    qatomic_set(&x->have_holes, false);
}

void file_extents_keep_holes(FileExtents *x, bool keep)
{
    QEMU_LOCK_GUARD(&x->lock);
    qatomic_set(&x->keep_holes, keep);
    if (!keep) {
        holes_clear_locked(x);
    }
}

void file_extents_written(FileExtents *x, int64_t offset, int64_t bytes)
{
    qatomic_inc(&x->gen);
    if (qatomic_load_seq_cst(&x->have_holes)) {
        QEMU_LOCK_GUARD(&x->lock);
        slots_cut(x->hole, offset, range_end(offset, bytes));
        x->map_start = x->map_end = 0;
    }
}

void file_extents_freed(FileExtents *x, int64_t offset, int64_t bytes)
{
    qatomic_inc(&x->gen);
    QEMU_LOCK_GUARD(&x->lock);
    slots_cut(x->data, offset, range_end(offset, bytes));
    /* Zeroing may have allocated what it zeroed. */
    slots_cut(x->hole, offset, range_end(offset, bytes));
    x->map_start = x->map_end = 0;
}

void file_extents_forget(FileExtents *x)
{
    qatomic_inc(&x->gen);
    QEMU_LOCK_GUARD(&x->lock);
    slots_clear(x->data);
    holes_clear_locked(x);
}

static bool lookup(FileExtents *x, int64_t offset, bool *hole, int64_t *end)
{
    const FileExtent *e;

    QEMU_LOCK_GUARD(&x->lock);
    e = slots_find(x->data, offset);
    if (e) {
        *hole = false;
        *end = e->end;
        return true;
    }
    e = slots_find(x->hole, offset);
    if (e) {
        *hole = true;
        *end = e->end;
        return true;
    }
    return false;
}

static void remember(FileExtents *x, unsigned gen, bool hole, int64_t start,
                     int64_t end)
{
    if (hole && !qatomic_read(&x->keep_holes)) {
        return;
    }
    QEMU_LOCK_GUARD(&x->lock);
    if (!hole) {
        if (qatomic_read(&x->gen) == gen) {
            slots_add(x->data, &x->next_data, start, end);
        }
        return;
    }
    /* Under the lock again: it may have been forbidden meanwhile. */
    if (!qatomic_read(&x->keep_holes)) {
        return;
    }
    (void)qatomic_xchg(&x->have_holes, true);
    if (qatomic_load_seq_cst(&x->gen) == gen) {
        slots_add(x->hole, &x->next_hole, start, end);
    }
}

/* Asks the file system; false if it cannot tell. */
static bool seek_extent(int fd, int64_t offset, bool *hole, int64_t *end)
{
    off_t data, next;

    data = lseek(fd, offset, SEEK_DATA);
    if (data < 0) {
        if (errno != ENXIO) {
            return false;
        }
        /* Nothing but a hole from here to the end, or beyond the end. */
        *hole = true;
        *end = INT64_MAX;
        return true;
    }
    if (data > offset) {
        *hole = true;
        *end = data;
        return true;
    }
    if (data < offset) {
        return false;
    }
    next = lseek(fd, offset, SEEK_HOLE);
    if (next <= offset) {
        /* An error, nonsense, or it became a hole between the two calls. */
        return false;
    }
    *hole = false;
    *end = next;
    return true;
}

/* --- FIEMAP --- */

/* What the map of @n ranges up to @known_end says of @offset. */
static void look_in_map(const FileExtent *map, unsigned n, int64_t known_end,
                        int64_t offset, bool *hole, int64_t *end)
{
    unsigned low = 0, high = n;

    while (low < high) {
        unsigned mid = low + (high - low) / 2;

        if (map[mid].end <= offset) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    *hole = low == n || offset < map[low].start;
    *end = low == n ? known_end : *hole ? map[low].start : map[low].end;
}

static bool lookup_map(FileExtents *x, int64_t offset, bool *hole,
                       int64_t *end)
{
    QEMU_LOCK_GUARD(&x->lock);
    if (offset < x->map_start || offset >= x->map_end) {
        return false;
    }
    look_in_map(x->map, x->map_n, x->map_end, offset, hole, end);
    return true;
}

/* The same rules as for a hole. Takes @map over if it is kept. */
static void remember_map(FileExtents *x, unsigned gen, FileExtent **map,
                         unsigned n, int64_t start, int64_t end)
{
    QEMU_LOCK_GUARD(&x->lock);
    if (!qatomic_read(&x->keep_holes)) {
        return;
    }
    (void)qatomic_xchg(&x->have_holes, true);
    if (qatomic_load_seq_cst(&x->gen) == gen) {
        g_free(x->map);
        x->map = g_steal_pointer(map);
        x->map_n = n;
        x->map_start = start;
        x->map_end = end;
    }
}

/* Many extents one after the other, of a file that cannot be written: then
 * FIEMAP is cheaper, and has little to write back. */
static bool is_worth_mapping(FileExtents *x, int fd)
{
    int flags;

    if (x->mode != BLOCKDEV_FILE_EXTENTS_AUTO) {
        return x->mode == BLOCKDEV_FILE_EXTENTS_FIEMAP;
    }
    if (!qatomic_read(&x->keep_holes) ||
        qatomic_read(&x->in_order) < MANY_IN_ORDER) {
        return false;
    }
    flags = fcntl(fd, F_GETFL);
    return flags >= 0 && (flags & O_ACCMODE) == O_RDONLY;
}

static bool map_extent(FileExtents *x, int fd, int64_t offset, int64_t limit,
                       bool *hole, int64_t *end)
{
    /* Without a cache only the first answer is of use. */
    unsigned max = qatomic_read(&x->keep_holes) ? MAP_EXTENTS : 2;
    g_autofree FileExtent *map = NULL;
    int64_t known_end;
    unsigned gen, n;

    if (qatomic_read(&x->no_fiemap) || !is_worth_mapping(x, fd)) {
        return false;
    }
    if (lookup_map(x, offset, hole, end)) {
        return true;
    }
    map = g_new(FileExtent, max);
    gen = qatomic_load_seq_cst(&x->gen);
    if (file_map_extents(fd, offset, MAX(limit, offset + 1), map, max, &n,
                         &known_end) < 0) {
        qatomic_set(&x->no_fiemap, true);
        return false;
    }
    look_in_map(map, n, known_end, offset, hole, end);
    remember_map(x, gen, &map, n, offset, known_end);
    return true;
}

/* --- finding --- */

static void count_order(FileExtents *x, int64_t offset, int64_t end)
{
    QEMU_LOCK_GUARD(&x->lock);
    qatomic_set(&x->in_order, offset == x->next_offset ? x->in_order + 1 : 0);
    x->next_offset = end;
}

void file_extents_find(FileExtents *x, int fd, int64_t offset, int64_t limit,
                       bool *hole, int64_t *end)
{
    unsigned gen;

    if (x->mode != BLOCKDEV_FILE_EXTENTS_OFF && lookup(x, offset, hole, end)) {
        return;
    }
    if (x->mode != BLOCKDEV_FILE_EXTENTS_OFF &&
        map_extent(x, fd, offset, limit, hole, end)) {
        return;
    }
    gen = qatomic_load_seq_cst(&x->gen);
    if (x->mode == BLOCKDEV_FILE_EXTENTS_OFF ||
        !seek_extent(fd, offset, hole, end)) {
        *hole = false;
        *end = INT64_MAX;
        return;
    }
    remember(x, gen, *hole, offset, *end);
    count_order(x, offset, *end);
}

int coroutine_fn file_co_block_status(BlockDriverState *bs, bool want_zero,
                                      int64_t offset, int64_t bytes,
                                      int64_t *pnum, int64_t *map,
                                      BlockDriverState **file)
{
    BDRVFileState *s = bs->opaque;
    int64_t align = bs->bl.request_alignment;
    int64_t end, limit = offset + bytes;
    bool hole;

    assert(QEMU_IS_ALIGNED(offset | bytes, align));
    *map = offset;
    *file = bs;
    if (!want_zero || s->is_device) {
        *pnum = bytes;
        return BDRV_BLOCK_DATA | BDRV_BLOCK_OFFSET_VALID;
    }

    file_extents_find(&s->extents, s->fd, offset, limit, &hole, &end);
    end = MIN(end, limit);
    if (hole && !QEMU_IS_ALIGNED(end, align)) {
        /* The unit in which data begins is data. */
        end = QEMU_ALIGN_DOWN(end, align);
        if (end == offset) {
            hole = false;
            end = offset + align;
        }
    } else if (!hole) {
        /* Data may end anywhere in a unit, at the end of the file for one. */
        end = MIN(QEMU_ALIGN_UP(end, align), limit);
    }
    *pnum = end - offset;
    return BDRV_BLOCK_OFFSET_VALID | (hole ? BDRV_BLOCK_ZERO : BDRV_BLOCK_DATA);
}
