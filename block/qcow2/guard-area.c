/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Where the L1 guard lies.
 *
 * Its clusters have refcount 0: software that does not know it finds no leak,
 * and an area that is left needs no freeing. So it is this list of places
 * that keeps our own allocator away. A guard for a table at another place is
 * made in an area of its own; one write of the header's first sector makes the
 * table and the guard true.
 */
#include "util/osdep.h"
#include "util/error.h"
#include "block/qcow2/guard-io.h"

/*
 * Clusters before the area that are not allocated, either. A new refcount
 * block goes to the start of the free run for which it is made; short runs may
 * need more blocks than they have clusters.
 */
#define GAP_CLUSTERS 4

/* --- who may not have it --- */

static uint64_t skip_place(const BDRVQcow2State *s, const Qcow2GuardPlace *p,
                           uint64_t first, uint64_t n)
{
    uint64_t start = p->offset >> s->cluster_bits;
    uint64_t end = (p->offset + p->bytes) >> s->cluster_bits;

    start -= MIN(start, GAP_CLUSTERS);
    return p->bytes && first < end && start < first + n ? end : 0;
}

uint64_t qcow2_guard_skip(const BDRVQcow2State *s, uint64_t first, uint64_t n)
{
    return MAX(skip_place(s, &s->guard.place, first, n),
               skip_place(s, &s->guard.next, first, n));
}

bool qcow2_guard_reserves(const BDRVQcow2State *s, uint64_t cluster)
{
    return qcow2_guard_skip(s, cluster, 1) != 0;
}

uint64_t qcow2_guard_end(const BDRVQcow2State *s)
{
    const Qcow2Guard *g = &s->guard;
    uint64_t end = g->place.bytes ? g->place.offset + g->place.bytes : 0;

    if (g->next.bytes) {
        end = MAX(end, g->next.offset + g->next.bytes);
    }
    return end >> s->cluster_bits;
}

/* --- moving --- */

uint64_t qcow2_guard_clusters(const BDRVQcow2State *s, uint32_t l1_size)
{
    return size_to_clusters(s, qcow2_guard_area_bytes(l1_size));
}

/* Writes all of a new area. */
static int coroutine_fn write_area(BlockDriverState *bs, const Qcow2Guard *g,
                                   const Qcow2Table *l1, uint64_t disk_size)
{
    const Qcow2GuardHead h = {
        .generation = g->generation,
        .offset = g->place.offset,
        .l1_offset = l1->offset,
        .l1_size = l1->size,
        .sum = g->sum,
        .old_sum = g->sum,
        .disk_size = disk_size,
    };
    int ret = qcow2_guard_write_head(bs, &h);

    for (unsigned copy = 0; ret == 0 && copy < 2; copy++) {
        ret = qcow2_guard_write_table(
            bs, qcow2_guard_copy_offset(&g->place, l1->size, copy),
            l1->entries, l1->size, NULL, true);
    }
    return ret;
}

int coroutine_fn qcow2_guard_move_begin(BlockDriverState *bs,
                                        Qcow2GuardMove *move, uint64_t offset,
                                        const Qcow2Table *l1,
                                        uint64_t disk_size)
{
    BDRVQcow2State *s = bs->opaque;
    Qcow2Guard *g = &s->guard;
    int ret;

    assert(!g->next.bytes);
    move->to = (Qcow2Guard) {
        .state = QCOW2_GUARD_ON,
        .has_ext = true,
        .place = { offset,
                   qcow2_guard_clusters(s, l1->size) << s->cluster_bits },
        .generation = g->generation + 1,
    };
    ret = qcow2_guard_take(&move->to, l1->entries, l1->size);
    if (ret < 0) {
        return ret;
    }
    g->next = move->to.place;
    /* What is written there stays, also if it is given up. */
    s->virgin_offset = MAX(s->virgin_offset, offset + g->next.bytes);
    ret = write_area(bs, &move->to, l1, disk_size);
    s->unflushed = true;
    if (ret < 0) {
        qcow2_guard_move_abort(bs, move);
    }
    return ret;
}

void qcow2_guard_move_commit(BlockDriverState *bs, Qcow2GuardMove *move)
{
    BDRVQcow2State *s = bs->opaque;

    if (move->to.state == QCOW2_GUARD_ON) {
        qcow2_guard_clear(&s->guard);
        s->guard = move->to;
        /* The header was written after a flush. */
        s->guard.durable = true;
        move->to = (Qcow2Guard) { 0 };
    }
}

void qcow2_guard_move_abort(BlockDriverState *bs, Qcow2GuardMove *move)
{
    BDRVQcow2State *s = bs->opaque;

    s->guard.next = (Qcow2GuardPlace) { 0 };
    qcow2_guard_clear(&move->to);
}

/* --- on and off --- */

static bool fits_header(const BDRVQcow2State *s)
{
    return QCOW2_V3_HEADER_LENGTH + s->unknown_header_fields_size + 8 +
           QCOW2_GUARD_EXT_BYTES <= QCOW2_HEADER_SECTOR;
}

/* Everything on disk is as in memory; then the area. */
static int coroutine_fn prepare(BlockDriverState *bs, Qcow2GuardMove *move)
{
    BDRVQcow2State *s = bs->opaque;
    int64_t cluster;
    int ret;

    ret = qcow2_begin_change(bs);
    if (ret == 0) {
        ret = qcow2_flush_metadata(bs);
    }
    if (ret < 0) {
        return ret;
    }
    cluster = qcow2_find_free_clusters(bs, qcow2_guard_clusters(s,
                                                                s->l1.size));
    if (cluster < 0) {
        return cluster;
    }
    ret = qcow2_guard_move_begin(bs, move, cluster << s->cluster_bits, &s->l1,
                                 s->disk_size);
    if (ret < 0) {
        return ret;
    }
    /* Lazy ones, too: nobody may find the area in use. */
    ret = qcow2_write_refcounts(bs);
    if (ret == 0) {
        ret = qcow2_flush_before_switch(bs);
    }
    if (ret < 0) {
        qcow2_guard_move_abort(bs, move);
    }
    return ret;
}

int coroutine_fn qcow2_guard_enable(BlockDriverState *bs, Error **errp)
{
    BDRVQcow2State *s = bs->opaque;
    uint64_t features = s->autoclear_features;
    Qcow2GuardMove move = { 0 };
    Qcow2Guard old;
    int ret;

    if (s->guard.state == QCOW2_GUARD_ON) {
        return 0;
    }
    if (!fits_header(s)) {
        error_setg(errp, "The header is too long for an L1 guard");
        return -ENOTSUP;
    }
    ret = prepare(bs, &move);
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Could not write the L1 guard");
        return ret;
    }
    old = s->guard;
    s->guard = move.to;
    s->guard.durable = true;
    qatomic_set(&s->autoclear_features,
                s->autoclear_features | QCOW2_AUTOCLEAR_L1_GUARD);
    ret = qcow2_update_header(bs);
    if (ret < 0) {
        s->guard = old;
        qatomic_set(&s->autoclear_features, features);
        qcow2_guard_move_abort(bs, &move);
        error_setg_errno(errp, -ret, "Failed to update the image header");
        return ret;
    }
    qcow2_guard_clear(&old);
    return 0;
}

int coroutine_fn qcow2_guard_disable(BlockDriverState *bs, Error **errp)
{
    BDRVQcow2State *s = bs->opaque;
    int ret = 0;

    if (s->guard.has_ext) {
        /* The L1 table is complete in its place before nobody can tell. */
        ret = qcow2_flush_metadata(bs);
        if (ret == 0) {
            ret = qcow2_guard_drop(bs);
        }
        if (ret == 0) {
            ret = qcow2_update_header(bs);
        }
    }
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Failed to update the image header");
    }
    return ret;
}

int coroutine_fn qcow2_guard_drop(BlockDriverState *bs)
{
    BDRVQcow2State *s = bs->opaque;
    int ret = qcow2_clear_autoclear(bs, QCOW2_AUTOCLEAR_L1_GUARD);

    if (ret == 0) {
        qcow2_guard_clear(&s->guard);
    }
    return ret;
}
