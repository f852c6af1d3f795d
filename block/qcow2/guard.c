/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Changing L1 entries under a guard.
 *
 *   1. what the new entries name, and its refcounts, are durable (flush.c);
 *      so is the L1 table as the last change left it;
 *   2. the new table is written to the copy that is not current, and the
 *      sector that makes this copy the current one; flush;
 *   3. the L1 table is written;
 *   4. when a flush has made that durable the sector is written *settled*,
 *      without an old sum.
 *
 * Up to the flush of 2 the L1 table is old, and the sector on disk, whichever
 * it is, has the sum of that. From there on each entry is as in one of the
 * copies, both of which are durable, with sums that the sector has. A change
 * that comes before 4 starts with 1: then the last one's sum is its old sum.
 *
 * However many entries have changed in memory, they are one change.
 *
 * A failed write or flush in 2 leaves the L1 table and the current copy alone:
 * the next attempt writes the other copy again. A failed write in 3 leaves
 * something of both; the next attempt finishes it before anything else.
 */
#include "util/osdep.h"
#include "util/bswap.h"
#include "util/memalign.h"
#include "block/qcow2/guard-io.h"

#define ENTRIES_PER_SECTOR ((uint32_t)(QCOW2_GUARD_SECTOR / L1E_SIZE))
/* Largest single write. */
#define MAX_WRITE_SECTORS 2048

uint32_t qcow2_guard_sectors(const Qcow2Guard *g)
{
    return DIV_ROUND_UP(g->size, ENTRIES_PER_SECTOR);
}

/* --- writing --- */

/*
 * Writes sectors [@first, @first + @n) of the table @entries, which has @size
 * of them, to the one at @offset; zeroes behind its end if @pad.
 */
static int coroutine_fn write_run(BlockDriverState *bs, uint64_t offset,
                                  const uint64_t *entries, uint32_t size,
                                  uint32_t first, uint32_t n, bool pad)
{
    uint32_t index = first * ENTRIES_PER_SECTOR;
    uint32_t nb = MIN(n * ENTRIES_PER_SECTOR, size - index);
    size_t bytes = pad ? (size_t)n * QCOW2_GUARD_SECTOR : nb * L1E_SIZE;
    QEMU_AUTO_VFREE uint64_t *buf = NULL;
    int ret;

    offset += (uint64_t)first * QCOW2_GUARD_SECTOR;
    ret = qcow2_pre_write_overlap_check(bs, QCOW2_OL_ACTIVE_L1, offset, bytes);
    if (ret < 0) {
        return ret;
    }
    buf = qemu_try_blockalign(bs->file->bs, bytes);
    if (!buf) {
        return -ENOMEM;
    }
    memset(buf, 0, bytes);
    for (uint32_t i = 0; i < nb; i++) {
        buf[i] = cpu_to_be64(entries[index + i]);
    }
    return bdrv_co_pwrite(bs->file, offset, bytes, buf, 0);
}

int coroutine_fn qcow2_guard_write_table(BlockDriverState *bs, uint64_t offset,
                                         const uint64_t *entries,
                                         uint32_t size, const uint8_t *which,
                                         bool pad)
{
    uint32_t sectors = DIV_ROUND_UP(size, ENTRIES_PER_SECTOR);
    uint32_t i = 0;

    while (i < sectors) {
        uint32_t n = 0;
        int ret;

        while (i + n < sectors && n < MAX_WRITE_SECTORS &&
               (!which || which[i + n])) {
            n++;
        }
        if (!n) {
            i++;
            continue;
        }
        ret = write_run(bs, offset, entries, size, i, n, pad);
        if (ret < 0) {
            return ret;
        }
        i += n;
    }
    return 0;
}

uint64_t qcow2_guard_copy_offset(const Qcow2GuardPlace *place, uint32_t size,
                                 unsigned copy)
{
    return place->offset + QCOW2_GUARD_SECTOR +
           copy * qcow2_guard_copy_bytes(size);
}

int coroutine_fn qcow2_guard_write_head(BlockDriverState *bs,
                                        const Qcow2GuardHead *h)
{
    QEMU_AUTO_VFREE void *buf = NULL;
    int ret = qcow2_pre_write_overlap_check(bs, QCOW2_OL_ACTIVE_L1, h->offset,
                                            QCOW2_GUARD_SECTOR);

    if (ret < 0) {
        return ret;
    }
    buf = qemu_try_blockalign(bs->file->bs, QCOW2_GUARD_SECTOR);
    if (!buf) {
        return -ENOMEM;
    }
    qcow2_guard_encode(h, buf);
    return bdrv_co_pwrite(bs->file, h->offset, QCOW2_GUARD_SECTOR, buf, 0);
}

static int coroutine_fn write_head(BlockDriverState *bs, unsigned current,
                                   uint64_t sum, uint64_t old_sum)
{
    BDRVQcow2State *s = bs->opaque;
    Qcow2Guard *g = &s->guard;
    const Qcow2GuardHead h = {
        .generation = ++g->generation,
        .offset = g->place.offset,
        .l1_offset = s->l1.offset,
        .l1_size = g->size,
        .current = current,
        .sum = sum,
        .old_sum = old_sum,
        .disk_size = s->disk_size,
    };

    return qcow2_guard_write_head(bs, &h);
}

/* --- steps --- */

/* Step 3, also again. */
static int coroutine_fn write_l1(BlockDriverState *bs)
{
    BDRVQcow2State *s = bs->opaque;
    Qcow2Guard *g = &s->guard;
    int ret;

    g->durable = false;
    ret = qcow2_guard_write_table(bs, s->l1.offset, g->now, g->size, g->behind,
                                  false);
    s->unflushed = true;
    if (ret == 0) {
        g->pending = false;
    }
    return ret;
}

/*
 * The current copy is not the table: writes it all anew, to the other one. The
 * sector has the sum of the table before the copies change.
 */
int coroutine_fn qcow2_guard_refresh(BlockDriverState *bs)
{
    BDRVQcow2State *s = bs->opaque;
    Qcow2Guard *g = &s->guard;
    int ret = 0;

    if (!g->copy_bad) {
        return 0;
    }
    if (g->mixed) {
        ret = write_head(bs, g->current, g->sum, g->sum);
        if (ret == 0) {
            ret = qcow2_flush_before_l1_in_place(bs);
        }
    }
    if (ret == 0) {
        g->mixed = false;
        ret = qcow2_guard_write_table(
            bs, qcow2_guard_copy_offset(&g->place, g->size, !g->current),
            g->now, g->size, NULL, true);
    }
    if (ret == 0) {
        ret = qcow2_flush_before_l1_in_place(bs);
    }
    if (ret == 0) {
        ret = write_head(bs, !g->current, g->sum, g->sum);
    }
    if (ret == 0) {
        ret = qcow2_flush_before_l1_in_place(bs);
    }
    if (ret == 0) {
        g->current = !g->current;
        g->copy_bad = false;
        memset(g->behind, 1, qcow2_guard_sectors(g));
    }
    return ret;
}

/* What the entries of changed sectors add to the sum, and take off it. */
static uint64_t new_sum(const Qcow2Guard *g, const uint64_t *entries,
                        uint32_t sector)
{
    uint32_t end = MIN((sector + 1) * ENTRIES_PER_SECTOR, g->size);
    uint64_t delta = 0;

    for (uint32_t i = sector * ENTRIES_PER_SECTOR; i < end; i++) {
        if (entries[i] != g->now[i]) {
            delta += qcow2_guard_mix(i, entries[i]) -
                     qcow2_guard_mix(i, g->now[i]);
        }
    }
    return delta;
}

/* Marks sectors that are different in memory; the sum with them. */
static uint64_t find_changes(BDRVQcow2State *s, uint8_t *changed, bool *any)
{
    const Qcow2Guard *g = &s->guard;
    uint64_t sum = g->sum;

    *any = false;
    for (uint32_t i = 0; i < qcow2_guard_sectors(g); i++) {
        uint32_t first = i * ENTRIES_PER_SECTOR;
        size_t bytes = MIN(ENTRIES_PER_SECTOR, g->size - first) * L1E_SIZE;

        if (qcow2_table_sector_is_dirty(&s->l1, i) &&
            memcmp(s->l1.entries + first, g->now + first, bytes)) {
            changed[i] = true;
            *any = true;
            sum += new_sum(g, s->l1.entries, i);
        }
    }
    return sum;
}

/* Step 2. */
static int coroutine_fn write_copy(BlockDriverState *bs,
                                   const uint8_t *changed, uint64_t sum)
{
    BDRVQcow2State *s = bs->opaque;
    Qcow2Guard *g = &s->guard;
    int ret;

    for (uint32_t i = 0; i < qcow2_guard_sectors(g); i++) {
        g->behind[i] |= changed[i];
    }
    ret = qcow2_guard_write_table(
        bs, qcow2_guard_copy_offset(&g->place, g->size, !g->current),
        s->l1.entries, g->size, g->behind, true);
    if (ret < 0) {
        return ret;
    }
    g->unsettled = true;
    ret = write_head(bs, !g->current, sum, g->sum);
    return ret < 0 ? ret : qcow2_flush_before_l1_in_place(bs);
}

/* The copy that was written is the current one from here on. */
static void switch_copy(BDRVQcow2State *s, const uint8_t *changed,
                        uint64_t sum)
{
    Qcow2Guard *g = &s->guard;

    memcpy(g->now, s->l1.entries, g->size * L1E_SIZE);
    memcpy(g->behind, changed, qcow2_guard_sectors(g));
    g->sum = sum;
    g->current = !g->current;
    g->pending = true;
}

static int coroutine_fn change(BlockDriverState *bs, uint8_t *changed)
{
    BDRVQcow2State *s = bs->opaque;
    Qcow2Guard *g = &s->guard;
    uint64_t sum;
    bool any;
    int ret;

    sum = find_changes(s, changed, &any);
    if (!any) {
        return 0;
    }
    ret = g->durable ? 0 : qcow2_flush_before_l1_in_place(bs);
    if (ret == 0) {
        ret = qcow2_guard_refresh(bs);
    }
    if (ret == 0) {
        ret = write_copy(bs, changed, sum);
    }
    if (ret < 0) {
        return ret;
    }
    switch_copy(s, changed, sum);
    return write_l1(bs);
}

int coroutine_fn qcow2_guard_write_l1(BlockDriverState *bs)
{
    BDRVQcow2State *s = bs->opaque;
    Qcow2Guard *g = &s->guard;
    g_autofree uint8_t *changed = NULL;
    int ret = 0;

    assert(g->state == QCOW2_GUARD_ON && g->size == s->l1.size);
    if (g->pending) {
        ret = write_l1(bs);
    }
    if (ret == 0) {
        changed = g_try_malloc0(MAX(qcow2_guard_sectors(g), 1));
        ret = changed ? change(bs, changed) : -ENOMEM;
    }
    if (ret == 0) {
        qcow2_table_mark_clean(&s->l1);
    }
    return ret;
}

/* --- flushes --- */

void qcow2_guard_flushed(BDRVQcow2State *s)
{
    s->guard.durable = !s->guard.pending;
}

int coroutine_fn qcow2_guard_settle(BlockDriverState *bs)
{
    BDRVQcow2State *s = bs->opaque;
    Qcow2Guard *g = &s->guard;
    int ret;

    if (g->state != QCOW2_GUARD_ON || !g->unsettled || !g->durable) {
        return 0;
    }
    ret = write_head(bs, g->current, g->sum, g->sum);
    if (ret == 0) {
        g->unsettled = false;
    }
    return ret;
}

/* --- life --- */

void qcow2_guard_clear(Qcow2Guard *g)
{
    g_free(g->now);
    g_free(g->behind);
    g_free(g->want);
    *g = (Qcow2Guard) { 0 };
}

void qcow2_guard_void(Qcow2Guard *g, Qcow2GuardState state, const char *fault)
{
    Qcow2GuardPlace place = { .offset = g->place.offset };
    bool has_ext = g->has_ext;

    qcow2_guard_clear(g);
    g->state = state;
    g->fault = fault;
    g->has_ext = has_ext;
    g->place = place;
}

int qcow2_guard_take(Qcow2Guard *g, const uint64_t *entries, uint32_t size)
{
    uint32_t sectors = DIV_ROUND_UP(size, ENTRIES_PER_SECTOR);

    g->size = size;
    g->now = g_try_new0(uint64_t, MAX(size, 1));
    g->behind = g_try_malloc0(MAX(sectors, 1));
    if (!g->now || !g->behind) {
        g_clear_pointer(&g->now, g_free);
        g_clear_pointer(&g->behind, g_free);
        return -ENOMEM;
    }
    memcpy(g->now, entries, size * L1E_SIZE);
    g->sum = qcow2_guard_sum(entries, size);
    return 0;
}
