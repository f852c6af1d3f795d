/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Block status: where the content of a range comes from, for one node and for
 * chains of nodes.
 *
 * 1. A driver answers for itself, in blocks of bl.request_alignment, or refers
 *    to a node below (RAW). ask_driver() cuts the answer to the range and
 *    decides ALLOCATED and EOF.
 * 2. References are followed in a loop, as are chains: their length is up to
 *    the user.
 * 3. A range beyond the end of a backing file reads as zeroes there and counts
 *    as allocated there: what lies further down does not show through.
 */
#include "util/osdep.h"
#include "block/block_int.h"
#include "block/io-internal.h"
#include "util/atomic.h"

/* One answer. */
typedef struct Status {
    int flags;              /* BDRV_BLOCK_* */
    int64_t bytes;          /* for which they hold; 0 beyond the end */
    int64_t map;            /* with OFFSET_VALID or RAW: where in @file */
    BlockDriverState *file;
} Status;

/* ------------------------------------------------------------- one node */

/* What a driver without a callback would say of an aligned range. */
static int default_answer(BlockDriverState *bs, int64_t offset, int64_t bytes,
                          Status *st)
{
    BlockDriverState *below = bdrv_filter_bs(bs);

    st->bytes = bytes;
    st->map = offset;
    if (bs->drv->is_filter && below) {
        st->file = below;
        return BDRV_BLOCK_RAW | BDRV_BLOCK_OFFSET_VALID;
    }
    if (bs->drv->protocol_name) {
        st->file = bs;
        return BDRV_BLOCK_DATA | BDRV_BLOCK_OFFSET_VALID;
    }
    st->file = NULL;
    return BDRV_BLOCK_DATA;
}

int coroutine_fn bdrv_co_filter_block_status(BlockDriverState *bs,
                                             bool want_zero, int64_t offset,
                                             int64_t bytes, int64_t *pnum,
                                             int64_t *map,
                                             BlockDriverState **file)
{
    *pnum = bytes;
    *map = offset;
    *file = bdrv_filter_bs(bs);
    assert(*file);
    return BDRV_BLOCK_RAW | BDRV_BLOCK_OFFSET_VALID;
}

/* Calls the driver for the blocks around the range, cuts what it answers. */
static int coroutine_fn ask_blocks(BlockDriverState *bs, bool want_zero,
                                   int64_t offset, int64_t bytes, Status *st)
{
    int64_t align = bs->bl.request_alignment;
    int64_t start = offset & -align;
    int64_t head = offset - start;
    int64_t len = ROUND_UP(offset + bytes, align) - start;
    int ret;

    *st = (Status) {};
    if (bs->drv->bdrv_co_block_status) {
        ret = bs->drv->bdrv_co_block_status(bs, want_zero, start, len,
                                            &st->bytes, &st->map, &st->file);
    } else {
        ret = default_answer(bs, start, len, st);
    }
    if (ret < 0) {
        return ret;
    }
    /*
     * No progress, or none beyond the block in front of the range, would keep
     * callers asking for ever. It is the driver's bug.
     */
    assert(st->bytes > head);
    assert(QEMU_IS_ALIGNED(st->bytes, align) ||
           start + st->bytes >= qatomic_read(&bs->total_bytes));
    st->bytes = MIN(st->bytes - head, bytes);
    if (ret & (BDRV_BLOCK_RAW | BDRV_BLOCK_OFFSET_VALID)) {
        st->map += head;
        assert(st->file);
    }
    st->flags = ret;
    return 0;
}

/* Whether an unallocated range reads as zeroes without looking below. */
static bool coroutine_fn unallocated_is_zero(BlockDriverState *bs,
                                             bool want_zero, int64_t offset)
{
    BlockDriverState *cow = bdrv_cow_bs(bs);
    int64_t length;

    if (!bs->drv->supports_backing) {
        return false;
    }
    if (!cow) {
        return true;
    }
    if (!want_zero) {
        return false;
    }
    length = bdrv_co_getlength(cow);
    return length >= 0 && offset >= length;
}

/*
 * The driver knows bytes, a disk has sectors: what the last one lacks reads as
 * zeroes. @offset lies there (st->bytes is 0), or the answer ends there.
 */
static void fill_last_sector(BlockDriverState *bs, int64_t offset,
                             int64_t bytes, int64_t end, Status *st)
{
    if (st->bytes == 0) {
        *st = (Status) {
            .flags = BDRV_BLOCK_ZERO | BDRV_BLOCK_ALLOCATED |
                     BDRV_BLOCK_OFFSET_VALID,
            .map = offset,
            .file = bs,
        };
    }
    if (st->flags & BDRV_BLOCK_ZERO) {
        st->bytes = MIN(bytes, end - offset);
    }
}

/*
 * The node's own answer; RAW is not followed. Beyond the end st->bytes is 0.
 */
static int coroutine_fn ask_driver(BlockDriverState *bs, bool want_zero,
                                   int64_t offset, int64_t bytes, Status *st)
{
    int64_t length, end;
    int ret = 0;

    *st = (Status) {};
    if (!bs->drv) {
        return -ENOMEDIUM;
    }
    length = bdrv_co_exact_length(bs);
    if (length < 0) {
        return length;
    }
    end = ROUND_UP(length, (int64_t)BDRV_SECTOR_SIZE);
    if (offset >= end) {
        st->flags = BDRV_BLOCK_EOF;
        return 0;
    }
    if (bytes == 0) {
        return 0;
    }

    bdrv_inc_in_flight(bs);
    if (offset < length) {
        ret = ask_blocks(bs, want_zero, offset, MIN(bytes, length - offset),
                         st);
    }
    st->flags &= ~BDRV_BLOCK_EOF;
    if (ret >= 0 && !(st->flags & BDRV_BLOCK_RAW)) {
        if (st->flags & (BDRV_BLOCK_DATA | BDRV_BLOCK_ZERO)) {
            st->flags |= BDRV_BLOCK_ALLOCATED;
        } else if (unallocated_is_zero(bs, want_zero, offset)) {
            st->flags |= BDRV_BLOCK_ZERO;
        }
    }
    if (ret >= 0 && length < end && offset + st->bytes >= length) {
        fill_last_sector(bs, offset, bytes, end, st);
    }
    if (ret >= 0 && offset + st->bytes == end) {
        st->flags |= BDRV_BLOCK_EOF;
    }
    bdrv_dec_in_flight(bs);
    return ret;
}

/*
 * A node was asked for @wanted bytes and has ended before them, while
 * the node above goes on: it reads as zeroes there.
 */
static void go_beyond_end(int64_t wanted, Status *st)
{
    if (st->flags & BDRV_BLOCK_ZERO) {
        /* Zeroes to the end: more of the same. */
        st->bytes = wanted;
    } else if (st->bytes == 0) {
        st->flags = BDRV_BLOCK_ZERO | BDRV_BLOCK_ALLOCATED;
        st->bytes = wanted;
    }
}

/*
 * The same with RAW followed. *@owner (may be NULL) is the node whose driver
 * gave the answer in the end.
 */
static int coroutine_fn ask_through(BlockDriverState *bs, bool want_zero,
                                    int64_t offset, int64_t bytes, Status *st,
                                    BlockDriverState **owner)
{
    int ret = ask_driver(bs, want_zero, offset, bytes, st);
    int64_t total = st->bytes;
    int eof = st->flags & BDRV_BLOCK_EOF;

    while (ret >= 0 && (st->flags & BDRV_BLOCK_RAW) && st->bytes > 0) {
        int64_t map = st->map;

        bs = st->file;
        ret = ask_driver(bs, want_zero, map, total, st);
        if (ret >= 0 && (st->flags & BDRV_BLOCK_EOF)) {
            go_beyond_end(total, st);
        }
        /* The end of the node that was asked first is what counts. */
        st->flags &= ~BDRV_BLOCK_EOF;
        eof = st->bytes == total ? eof : 0;
        total = st->bytes;
    }
    st->flags |= eof;
    if (owner) {
        *owner = bs;
    }
    return ret;
}

/*
 * Stored data may be known to be zeroes further down, such as a hole in the
 * file that a format preallocated. Shortens the answer at the first change.
 */
static void coroutine_fn refine_zeroes(BlockDriverState *owner, Status *st)
{
    Status below = *st;

    while ((below.flags & BDRV_BLOCK_RECURSE) &&
           (below.flags & BDRV_BLOCK_DATA) &&
           (below.flags & BDRV_BLOCK_OFFSET_VALID) && below.file &&
           below.file != owner) {
        int64_t bytes = below.bytes;
        BlockDriverState *file = below.file;

        /* An error does not make the answer at hand wrong. */
        if (ask_through(file, true, below.map, bytes, &below, &owner) < 0) {
            return;
        }
        if ((below.flags & BDRV_BLOCK_EOF) &&
            (below.bytes == 0 || (below.flags & BDRV_BLOCK_ZERO))) {
            /* Zeroes to the end of the file, and behind it. */
            below.bytes = bytes;
            below.flags |= BDRV_BLOCK_ZERO;
        }
        if (below.bytes < st->bytes) {
            st->bytes = below.bytes;
            st->flags &= ~BDRV_BLOCK_EOF;
        }
        if (below.flags & BDRV_BLOCK_ZERO) {
            st->flags |= BDRV_BLOCK_ZERO;
            return;
        }
    }
}

/* The full answer of one node. */
static int coroutine_fn ask_node(BlockDriverState *bs, bool want_zero,
                                 int64_t offset, int64_t bytes, Status *st)
{
    BlockDriverState *owner;
    int ret = ask_through(bs, want_zero, offset, bytes, st, &owner);

    if (ret >= 0 && want_zero && !(st->flags & BDRV_BLOCK_ZERO)) {
        refine_zeroes(owner, st);
    }
    return ret;
}

/* --------------------------------------------------------------- chains */

/*
 * Where a walk down a chain is. Filters show the node below them and make no
 * layer of their own.
 */
typedef struct Walk {
    BlockDriverState *bs;       /* the layer asked next, NULL: no more */
    BlockDriverState *base;
    bool include_base;
    int depth;                  /* layers asked */
} Walk;

static void walk_next(Walk *w)
{
    if (w->bs == w->base) {
        w->bs = NULL;
        return;
    }
    w->bs = bdrv_filter_or_cow_bs(w->bs);
    if (w->bs == w->base && !w->include_base) {
        w->bs = NULL;
    }
}

/*
 * The next layer is one that answers itself. A filter that has a say in block
 * status is asked; what it passes on is up to the walk. Sets *@answered if its
 * own word is final.
 */
static int coroutine_fn walk_skip_filters(Walk *w, bool want_zero,
                                          int64_t offset, int64_t *bytes,
                                          Status *st, bool *answered)
{
    *answered = false;
    while (w->bs && w->bs != w->base && w->bs->drv &&
           w->bs->drv->is_filter && bdrv_filter_bs(w->bs)) {
        BlockDriver *drv = w->bs->drv;

        if (drv->bdrv_co_block_status &&
            drv->bdrv_co_block_status != bdrv_co_filter_block_status) {
            int ret = ask_driver(w->bs, want_zero, offset, *bytes, st);

            if (ret < 0) {
                return ret;
            }
            if (!(st->flags & BDRV_BLOCK_RAW) || st->bytes == 0 ||
                st->file != bdrv_filter_bs(w->bs) || st->map != offset) {
                *answered = true;
                return 0;
            }
            *bytes = st->bytes;
        }
        walk_next(w);
    }
    return 0;
}

/* Asks layer after layer until one of them decides about the range. */
static int coroutine_fn walk_chain(Walk *w, bool want_zero, int64_t offset,
                                   int64_t bytes, Status *st, bool *decided)
{
    bool answered;
    int ret;

    *st = (Status) { .bytes = bytes };
    *decided = false;
    for (; w->bs; walk_next(w)) {
        ret = walk_skip_filters(w, want_zero, offset, &bytes, st, &answered);
        if (ret < 0) {
            return ret;
        }
        if (!w->bs) {
            /* Filters down to the base, which does not belong here. */
            st->flags = 0;
            st->bytes = bytes;
            return 0;
        }
        w->depth++;
        if (!answered || (st->flags & BDRV_BLOCK_RAW)) {
            ret = ask_node(w->bs, want_zero, offset, bytes, st);
            if (ret < 0) {
                return ret;
            }
        }
        if (st->bytes == 0) {
            /* This layer is too short, and so hides what is below it. */
            st->flags = BDRV_BLOCK_ZERO | BDRV_BLOCK_ALLOCATED;
            st->bytes = bytes;
            st->file = w->bs;
        }
        if (st->flags & BDRV_BLOCK_ALLOCATED) {
            *decided = true;
            return 0;
        }
        bytes = st->bytes;
    }
    return 0;
}

int coroutine_fn bdrv_co_block_status_above(BlockDriverState *bs,
                                            BlockDriverState *base,
                                            bool include_base, bool want_zero,
                                            int64_t offset, int64_t bytes,
                                            int64_t *pnum, int64_t *map,
                                            BlockDriverState **file,
                                            int *depth)
{
    Walk w = { .bs = bs, .base = base, .include_base = include_base };
    Status st = {};
    bool decided = false;
    int64_t length;
    int ret = bdrv_check_request(offset, bytes);

    if (ret < 0) {
        return ret;
    }
    assert(!include_base || base);
    length = bdrv_co_getlength(bs);
    if (length < 0) {
        return length;
    }
    if (!include_base && bs == base) {
        w.bs = NULL;
    }
    st.bytes = MAX(0, MIN(bytes, length - offset));
    if (st.bytes > 0) {
        ret = walk_chain(&w, want_zero, offset, st.bytes, &st, &decided);
        if (ret < 0) {
            return ret;
        }
    }
    st.flags &= ~BDRV_BLOCK_EOF;
    if (offset + st.bytes >= length) {
        st.flags |= BDRV_BLOCK_EOF;
    }
    if (pnum) {
        *pnum = st.bytes;
    }
    if (map) {
        *map = st.map;
    }
    if (file) {
        *file = st.file;
    }
    if (depth) {
        *depth = decided ? w.depth : 0;
    }
    return st.flags;
}

int coroutine_fn bdrv_co_block_status(BlockDriverState *bs, int64_t offset,
                                      int64_t bytes, int64_t *pnum,
                                      int64_t *map, BlockDriverState **file)
{
    Status st;
    int ret = bdrv_check_request(offset, bytes);

    if (ret >= 0) {
        ret = ask_node(bs, true, offset, bytes, &st);
    }
    if (ret < 0) {
        return ret;
    }
    if (pnum) {
        *pnum = st.bytes;
    }
    if (map) {
        *map = st.map;
    }
    if (file) {
        *file = st.file;
    }
    return st.flags;
}

int coroutine_fn bdrv_co_is_allocated_above(BlockDriverState *top,
                                            BlockDriverState *base,
                                            bool include_base, int64_t offset,
                                            int64_t bytes, int64_t *pnum)
{
    int depth;
    int ret = bdrv_co_block_status_above(top, base, include_base, false,
                                         offset, bytes, pnum, NULL, NULL,
                                         &depth);

    return ret < 0 ? ret : depth;
}

int coroutine_fn bdrv_co_is_allocated(BlockDriverState *bs, int64_t offset,
                                      int64_t bytes, int64_t *pnum)
{
    Status st;
    int ret = bdrv_check_request(offset, bytes);

    if (ret >= 0) {
        ret = ask_node(bs, false, offset, bytes, &st);
    }
    if (ret < 0) {
        return ret;
    }
    if (pnum) {
        *pnum = st.bytes;
    }
    return !!(st.flags & BDRV_BLOCK_ALLOCATED);
}

int coroutine_fn bdrv_co_is_zero_fast(BlockDriverState *bs, int64_t offset,
                                      int64_t bytes)
{
    int64_t pnum;
    int ret;

    if (bytes == 0) {
        return 1;
    }
    ret = bdrv_co_block_status_above(bs, NULL, false, false, offset, bytes,
                                     &pnum, NULL, NULL, NULL);
    if (ret < 0) {
        return ret;
    }
    return pnum == bytes && (ret & BDRV_BLOCK_ZERO);
}
