/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The order in which metadata reaches the disk.
 *
 *   refcount blocks -> flush -> refcount table -> flush -> L2 tables
 *     -> flush -> L1 table -> flush -> refcounts of freed clusters
 *
 * With an L1 guard its copy comes before the L1 table: guard.c.
 *
 * Each arrow matters only if its left side has something to write; a flush is
 * skipped if nothing was written since the last one (BDRVQcow2State.unflushed,
 * which also stands for guest data that L2 entries refer to). An error leaves
 * everything behind it as it was, dirty, for the next flush.
 *
 * With lazy refcounts, and the dirty bit set on disk, refcounts may be behind:
 * the image is repaired if it is found dirty.
 */
#include "util/osdep.h"
#include "util/lockable.h"
#include "block/qcow2/qcow2.h"

/*
 * The flushes, by what must not come before them. The meson option
 * break_ordering makes a build that leaves out one of them: for tests of the
 * tests (tests/crash), never for use.
 */
typedef enum {
    FLUSH_BEFORE_REFTABLE = 1,
    FLUSH_BEFORE_L2,
    FLUSH_BEFORE_L1,
    FLUSH_BEFORE_FREE,
    FLUSH_BEFORE_SWITCH,
    FLUSH_BEFORE_GUARDED_L1,
} FlushRule;

#ifdef QCOW2_BREAK_ORDERING
#define IS_BROKEN(rule) ((rule) == QCOW2_BREAK_ORDERING)
#else
#define IS_BROKEN(rule) false
#endif

static bool refcounts_are_lazy(const BDRVQcow2State *s)
{
    return s->use_lazy_refcounts &&
           (s->incompatible_features & QCOW2_INCOMPAT_DIRTY);
}

int coroutine_fn qcow2_flush_files(BlockDriverState *bs)
{
    BDRVQcow2State *s = bs->opaque;
    int ret = s->data_file ? bdrv_co_flush(s->data_file->bs) : 0;

    return ret < 0 ? ret : bdrv_co_flush(bs->file->bs);
}

static int coroutine_fn flush_file(BlockDriverState *bs, FlushRule rule)
{
    BDRVQcow2State *s = bs->opaque;
    int ret;

    if (!s->unflushed || IS_BROKEN(rule)) {
        return 0;
    }
    ret = qcow2_flush_files(bs);
    if (ret == 0) {
        s->unflushed = false;
        qcow2_guard_flushed(s);
    }
    return ret;
}

int coroutine_fn qcow2_write_refcounts(BlockDriverState *bs)
{
    BDRVQcow2State *s = bs->opaque;
    int ret;

    ret = qcow2_cache_write(bs, s->refcount_block_cache);
    if (ret < 0 || !s->reftable.any_dirty) {
        return ret;
    }
    ret = flush_file(bs, FLUSH_BEFORE_REFTABLE);
    if (ret < 0) {
        return ret;
    }
    ret = qcow2_table_write(bs, &s->reftable, QCOW2_OL_REFCOUNT_TABLE);
    s->unflushed = true;
    return ret;
}

/* Everything that L2 tables refer to, and after them L1, is on disk. */
static int coroutine_fn flush_before(BlockDriverState *bs, FlushRule rule)
{
    int ret;

    if (!refcounts_are_lazy(bs->opaque)) {
        ret = qcow2_write_refcounts(bs);
        if (ret < 0) {
            return ret;
        }
    }
    return flush_file(bs, rule);
}

int coroutine_fn qcow2_flush_before_l2(BlockDriverState *bs)
{
    return flush_before(bs, FLUSH_BEFORE_L2);
}

static int coroutine_fn write_l2(BlockDriverState *bs)
{
    BDRVQcow2State *s = bs->opaque;
    int ret;

    if (!qcow2_cache_is_dirty(s->l2_table_cache)) {
        return 0;
    }
    ret = qcow2_flush_before_l2(bs);
    return ret < 0 ? ret : qcow2_cache_write(bs, s->l2_table_cache);
}

static int coroutine_fn write_l1(BlockDriverState *bs)
{
    BDRVQcow2State *s = bs->opaque;
    int ret;

    if (!s->l1.any_dirty) {
        return 0;
    }
    /* The refcounts of new L2 tables are out: write_l2() saw to it, unless
     * the tables themselves were evicted before. */
    ret = flush_before(bs, FLUSH_BEFORE_L1);
    return ret < 0 ? ret : qcow2_l1_write(bs);
}

int coroutine_fn qcow2_flush_before_switch(BlockDriverState *bs)
{
    BDRVQcow2State *s = bs->opaque;

    s->unflushed = true;
    return flush_file(bs, FLUSH_BEFORE_SWITCH);
}

int coroutine_fn qcow2_flush_before_l1_in_place(BlockDriverState *bs)
{
    BDRVQcow2State *s = bs->opaque;

    s->unflushed = true;
    return flush_file(bs, FLUSH_BEFORE_GUARDED_L1);
}

int coroutine_fn qcow2_flush_metadata(BlockDriverState *bs)
{
    BDRVQcow2State *s = bs->opaque;
    int ret;

    if (qcow2_is_stopped(s)) {
        return -EUCLEAN;
    }
    ret = write_l2(bs);
    if (ret < 0) {
        return ret;
    }
    ret = write_l1(bs);
    if (ret < 0) {
        return ret;
    }
    if (s->pending_frees->len) {
        ret = flush_file(bs, FLUSH_BEFORE_FREE);
        if (ret == 0) {
            ret = qcow2_guard_settle(bs);
        }
        if (ret < 0) {
            return ret;
        }
        ret = qcow2_release_pending_frees(bs);
        if (ret < 0) {
            return ret;
        }
    }
    /* A flush before the L2 tables may have made the last change durable. */
    ret = qcow2_guard_settle(bs);
    if (ret < 0) {
        return ret;
    }
    return refcounts_are_lazy(s) ? 0 : qcow2_write_refcounts(bs);
}

int coroutine_fn qcow2_flush_all_metadata(BlockDriverState *bs)
{
    int ret = qcow2_flush_metadata(bs);

    return ret < 0 ? ret : qcow2_write_refcounts(bs);
}

int coroutine_fn qcow2_co_flush_to_os(BlockDriverState *bs)
{
    BDRVQcow2State *s = bs->opaque;

    if (qcow2_is_stopped(s)) {
        return -EUCLEAN;
    }
    if (!s->writable) {
        return 0;
    }
    QEMU_LOCK_GUARD(&s->lock);
    return qcow2_flush_metadata(bs);
}
