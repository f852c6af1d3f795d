/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The queue of extents between the scan of the source and the workers.
 *
 * 1. Extents in the ring are not empty, ascend, and start and end at multiples
 *    of align (the end of the copy aside).
 * 2. The open extent starts at a multiple of align, after all of the ring.
 * 3. Neighbours in the ring differ in class or do not touch.
 */
#include "util/osdep.h"
#include "block/jobs/copy-int.h"

/* One add puts at most this many extents into the ring. */
#define MAX_PUSHES 2

void copy_extents_init(CopyExtents *x, int64_t align, unsigned size,
                       int64_t start)
{
    assert(size > MAX_PUSHES && align > 0 && start % align == 0);
    *x = (CopyExtents) {
        .align = align,
        .ring = g_new(CopyExtent, size),
        .size = size,
        .open = { start, start, COPY_SKIP },
    };
}

void copy_extents_destroy(CopyExtents *x)
{
    g_free(x->ring);
    x->ring = NULL;
}

bool copy_extents_has_room(const CopyExtents *x)
{
    /* finish and take may each push one more than the adds did. */
    return x->count + MAX_PUSHES + 2 <= x->size;
}

static void push(CopyExtents *x, int64_t offset, int64_t end, CopyClass cls)
{
    CopyExtent *last;

    if (cls == COPY_SKIP || offset == end) {
        return;
    }
    x->known += end - offset;
    if (x->count) {
        last = &x->ring[(x->head + x->count - 1) % x->size];
        if (last->end == offset && last->cls == cls) {
            last->end = end;
            return;
        }
    }
    assert(x->count < x->size);
    x->ring[(x->head + x->count) % x->size] = (CopyExtent) {
        .offset = offset,
        .end = end,
        .cls = cls,
    };
    x->count++;
}

/*
 * The range @start..@end begins in the middle of the unit @unit.. in which the
 * open extent ends: that unit is data.
 */
static void add_in_unit(CopyExtents *x, int64_t unit, int64_t start,
                        int64_t end, CopyClass cls)
{
    CopyExtent *open = &x->open;
    int64_t unit_end = unit + x->align;

    if (open->cls != COPY_DATA) {
        push(x, open->offset, unit, open->cls);
        *open = (CopyExtent) { unit, start, COPY_DATA };
    }
    if (cls == COPY_DATA || end <= unit_end) {
        open->end = end;
        return;
    }
    push(x, open->offset, unit_end, COPY_DATA);
    *open = (CopyExtent) { unit_end, end, cls };
}

void copy_extents_add(CopyExtents *x, int64_t bytes, CopyClass cls)
{
    CopyExtent *open = &x->open;
    int64_t start = open->end;
    int64_t end = start + bytes;
    int64_t unit = QEMU_ALIGN_DOWN(start, x->align);

    assert(bytes > 0);
    if (open->offset == open->end) {
        *open = (CopyExtent) { start, end, cls };
    } else if (open->cls == cls) {
        open->end = end;
    } else if (unit == start) {
        push(x, open->offset, open->end, open->cls);
        *open = (CopyExtent) { start, end, cls };
    } else {
        add_in_unit(x, unit, start, end, cls);
    }
}

void copy_extents_finish(CopyExtents *x)
{
    push(x, x->open.offset, x->open.end, x->open.cls);
    x->open.offset = x->open.end;
}

/* What is settled of the open extent need not wait for its end. */
static void push_settled(CopyExtents *x)
{
    CopyExtent *open = &x->open;
    int64_t settled = QEMU_ALIGN_DOWN(open->end, x->align);

    if (settled > open->offset) {
        push(x, open->offset, settled, open->cls);
        open->offset = settled;
    }
}

bool copy_extents_take(CopyExtents *x, int64_t data_max, int64_t zero_max,
                       CopyExtent *e)
{
    CopyExtent *first;
    int64_t max;

    if (!x->count) {
        push_settled(x);
        if (!x->count) {
            return false;
        }
    }
    first = &x->ring[x->head];
    max = first->cls == COPY_DATA ? data_max : zero_max;
    *e = *first;
    e->end = MIN(first->end, QEMU_ALIGN_DOWN(first->offset, max) + max);
    first->offset = e->end;
    if (first->offset == first->end) {
        x->head = (x->head + 1) % x->size;
        x->count--;
    }
    return true;
}

int64_t copy_extents_front(const CopyExtents *x)
{
    return x->count ? x->ring[x->head].offset : x->open.offset;
}
