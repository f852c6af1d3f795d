/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The active L1 table: in memory from open to close.
 *
 * qcow2_l1_update() is the only function that changes its entries, and
 * qcow2_l1_write() the only one that writes them in place. Growing, and
 * whatever snapshots do (snapshot-switch.c), never write in place: the new
 * table is complete and durable before the header names it; then
 * qcow2_l1_replace() puts it into the state.
 */
#include "util/osdep.h"
#include "block/qcow2/qcow2.h"

int coroutine_fn qcow2_l1_read(BlockDriverState *bs, uint64_t offset,
                               uint32_t size, Error **errp)
{
    BDRVQcow2State *s = bs->opaque;
    Qcow2Table t;
    int ret;

    ret = qcow2_table_init(&t, size, offset);
    if (ret < 0) {
        error_setg(errp, "Could not allocate L1 table");
        return ret;
    }
    ret = qcow2_table_read(bs, &t);
    if (ret < 0) {
        qcow2_table_free(&t);
        error_setg_errno(errp, -ret, "Could not read L1 table");
        return ret;
    }
    qcow2_table_free(&s->l1);
    s->l1 = t;
    return 0;
}

void qcow2_l1_update(BlockDriverState *bs, uint32_t first, uint32_t n,
                     const uint64_t *entries)
{
    BDRVQcow2State *s = bs->opaque;

    for (uint32_t i = 0; i < n; i++) {
        qcow2_table_set(&s->l1, first + i, entries[i]);
    }
}

int coroutine_fn qcow2_l1_write(BlockDriverState *bs)
{
    BDRVQcow2State *s = bs->opaque;
    int ret;

    BLKDBG_EVENT(bs->file, BLKDBG_L1_UPDATE);
    if (s->guard.state == QCOW2_GUARD_ON) {
        return qcow2_guard_write_l1(bs);
    }
    ret = qcow2_table_write(bs, &s->l1, QCOW2_OL_ACTIVE_L1);
    s->unflushed = true;
    return ret;
}

void qcow2_l1_replace(BlockDriverState *bs, Qcow2Table *t)
{
    BDRVQcow2State *s = bs->opaque;
    Qcow2Table old = s->l1;

    s->l1 = *t;
    *t = old;
}

/* A guard for the new table @t; the old one stays. */
static int coroutine_fn move_guard(BlockDriverState *bs, Qcow2GuardMove *move,
                                   const Qcow2Table *t)
{
    BDRVQcow2State *s = bs->opaque;
    int64_t cluster;
    int ret;

    if (s->guard.state != QCOW2_GUARD_ON) {
        return 0;
    }
    cluster = qcow2_find_free_clusters(bs, qcow2_guard_clusters(s, t->size));
    if (cluster < 0) {
        return cluster;
    }
    ret = qcow2_guard_move_begin(bs, move, cluster << s->cluster_bits, t,
                                 s->disk_size);
    if (ret < 0) {
        return ret;
    }
    /* Lazy ones, too: nobody may find its place in use. */
    ret = qcow2_write_refcounts(bs);
    if (ret < 0) {
        qcow2_guard_move_abort(bs, move);
    }
    return ret;
}

/* Writes @t at its new place and makes the header name it. */
static int coroutine_fn switch_l1(BlockDriverState *bs, Qcow2Table *t)
{
    Qcow2GuardMove move = { 0 };
    int ret;

    /* What the entries point to, and the refcounts of the new place. */
    ret = qcow2_flush_metadata(bs);
    if (ret < 0) {
        return ret;
    }
    qcow2_table_mark_all(t);
    BLKDBG_EVENT(bs->file, BLKDBG_L1_GROW_WRITE_TABLE);
    ret = qcow2_table_write(bs, t, 0);
    if (ret == 0) {
        ret = move_guard(bs, &move, t);
    }
    if (ret < 0) {
        return ret;
    }
    ret = qcow2_flush_before_switch(bs);
    if (ret == 0) {
        BLKDBG_EVENT(bs->file, BLKDBG_L1_GROW_ACTIVATE_TABLE);
        ret = qcow2_header_write_l1(bs, t->offset, t->size,
                                    move.to.place.offset);
    }
    if (ret < 0) {
        qcow2_guard_move_abort(bs, &move);
        return ret;
    }
    qcow2_guard_move_commit(bs, &move);
    return 0;
}

int coroutine_fn qcow2_grow_l1_table(BlockDriverState *bs, uint64_t min_size,
                                     bool exact)
{
    BDRVQcow2State *s = bs->opaque;
    uint64_t new_size = min_size;
    int64_t offset;
    Qcow2Table t;
    int ret;

    if (min_size <= s->l1.size) {
        return 0;
    }
    if (min_size > QCOW_MAX_L1_SIZE / L1E_SIZE) {
        return -EFBIG;
    }
    if (!exact) {
        new_size = MAX(new_size, (uint64_t)s->l1.size * 3 / 2);
        new_size = MIN(new_size, QCOW_MAX_L1_SIZE / L1E_SIZE);
    }

    BLKDBG_EVENT(bs->file, BLKDBG_L1_GROW_ALLOC_TABLE);
    offset = qcow2_alloc_clusters(bs, new_size * L1E_SIZE);
    if (offset < 0) {
        return offset;
    }
    ret = qcow2_table_init(&t, new_size, offset);
    if (ret == 0) {
        memcpy(t.entries, s->l1.entries, s->l1.size * L1E_SIZE);
        ret = switch_l1(bs, &t);
    }
    if (ret < 0) {
        qcow2_table_free(&t);
        qcow2_unalloc_clusters(bs, offset, new_size * L1E_SIZE);
        return ret;
    }

    qcow2_l1_replace(bs, &t);
    if (t.offset && t.size) {
        qcow2_free_clusters(bs, t.offset, t.size * L1E_SIZE,
                            QCOW2_DISCARD_OTHER);
    }
    qcow2_table_free(&t);
    return 0;
}

int coroutine_fn qcow2_shrink_l1_table(BlockDriverState *bs, uint64_t size)
{
    BDRVQcow2State *s = bs->opaque;
    const uint64_t none = 0;

    for (uint64_t i = size; i < s->l1.size; i++) {
        uint64_t l2_offset = s->l1.entries[i] & L1E_OFFSET_MASK;

        qcow2_l1_update(bs, i, 1, &none);
        if (l2_offset && !offset_into_cluster(s, l2_offset)) {
            qcow2_free_clusters(bs, l2_offset, s->cluster_size,
                                QCOW2_DISCARD_ALWAYS);
        }
    }
    return qcow2_flush_metadata(bs);
}
