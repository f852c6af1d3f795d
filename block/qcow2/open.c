/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Opening, closing and reopening a qcow2 node.
 *
 * What needs I/O runs in one coroutine each (bdrv_run_co), so that the rest of
 * the driver knows only coroutines.
 */
#include "util/osdep.h"
#include "util/aio.h"
#include "util/error.h"
#include "util/lockable.h"
#include "block/qcow2/bitmap.h"
#include "block/qcow2/salvage.h"
#include "block/qcow2/snapshot.h"

/* --- cleaning the caches now and then --- */

static void coroutine_fn clean_caches_entry(void *opaque)
{
    BlockDriverState *bs = opaque;
    BDRVQcow2State *s = bs->opaque;

    qemu_co_mutex_lock(&s->lock);
    qcow2_cache_clean_unused(s->l2_table_cache);
    qcow2_cache_clean_unused(s->refcount_block_cache);
    qemu_co_mutex_unlock(&s->lock);
    bdrv_dec_in_flight(bs);
}

static void arm_clean_timer(BlockDriverState *bs)
{
    BDRVQcow2State *s = bs->opaque;

    timer_mod(s->cache_clean_timer,
              qemu_clock_get_ms(QEMU_CLOCK_REALTIME) +
              (int64_t)s->cache_clean_interval * 1000);
}

static void clean_timer_cb(void *opaque)
{
    BlockDriverState *bs = opaque;

    /* Counted like a request, so that drain and close wait for it. */
    bdrv_inc_in_flight(bs);
    qemu_coroutine_enter(qemu_coroutine_create(clean_caches_entry, bs));
    arm_clean_timer(bs);
}

static void start_clean_timer(BlockDriverState *bs)
{
    BDRVQcow2State *s = bs->opaque;

    if (s->cache_clean_interval) {
        s->cache_clean_timer = timer_new_ms(QEMU_CLOCK_REALTIME,
                                            clean_timer_cb, bs);
        arm_clean_timer(bs);
    }
}

static void stop_clean_timer(BlockDriverState *bs)
{
    BDRVQcow2State *s = bs->opaque;

    timer_free(s->cache_clean_timer);
    s->cache_clean_timer = NULL;
}

/* --- open --- */

typedef struct OpenArgs {
    BlockDriverState *bs;
    BlockdevOptionsQcow2 *options;
    int flags;
    QCowHeader header;
    Error **errp;
} OpenArgs;

/* A writer who stopped halfway left the dirty bit: refcounts are unreliable. */
static int coroutine_fn repair_dirty(BlockDriverState *bs, Error **errp)
{
    BDRVQcow2State *s = bs->opaque;
    const BdrvCheckOptions opts = {
        .fix = BDRV_FIX_ERRORS | BDRV_FIX_LEAKS,
    };
    BdrvCheckResult result = { 0 };
    int ret;

    if (!(s->incompatible_features & QCOW2_INCOMPAT_DIRTY)) {
        return 0;
    }
    ret = qcow2_check_locked(bs, &result, &opts);
    if (ret == 0 && (result.check_errors || result.corruptions)) {
        ret = -EIO;
    }
    if (ret == 0) {
        ret = qcow2_mark_clean(bs);
    }
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Could not repair dirty image");
    }
    return ret;
}

/* What is due before the first write. Under the lock. */
static int coroutine_fn make_writable(BlockDriverState *bs, int flags,
                                      Error **errp)
{
    BDRVQcow2State *s = bs->opaque;
    uint64_t unknown = s->autoclear_features & ~QCOW2_AUTOCLEAR_MASK;
    int ret;

    if (flags & BDRV_O_CHECK) {
        return 0;
    }
    ret = qcow2_guard_make_writable(bs, errp);
    if (ret < 0) {
        return ret;
    }
    if (unknown) {
        ret = qcow2_clear_autoclear(bs, unknown);
        if (ret < 0) {
            error_setg_errno(errp, -ret, "Could not update qcow2 header");
            return ret;
        }
    }
    ret = repair_dirty(bs, errp);
    /* Refcounts that a repair found to be wrong can void it. */
    return ret < 0 ? ret : qcow2_guard_make_writable(bs, errp);
}

/*
 * An L1 table that is cut off would read as an empty disk, and a refcount
 * table as free space; only a check, which reports them, opens such images.
 */
static int coroutine_fn check_file_end(BlockDriverState *bs,
                                       const QCowHeader *h, int flags,
                                       Error **errp)
{
    BDRVQcow2State *s = bs->opaque;

    if ((flags & BDRV_O_CHECK) || s->salvage) {
        return 0;
    }
    if (!qcow2_table_is_in_file(bs, h->l1_table_offset,
                                (uint64_t)h->l1_size * L1E_SIZE)) {
        error_setg(errp, "L1 table exceeds the end of the file");
        return -EINVAL;
    }
    if ((flags & BDRV_O_RDWR) &&
        !qcow2_table_is_in_file(bs, h->refcount_table_offset,
                                (uint64_t)h->refcount_table_clusters
                                << s->cluster_bits)) {
        error_setg(errp, "Reference count table exceeds the end of the file");
        return -EINVAL;
    }
    return 0;
}

static int coroutine_fn read_snapshots(BlockDriverState *bs, Error **errp)
{
    BDRVQcow2State *s = bs->opaque;
    Error *err = NULL;
    int ret = qcow2_read_snapshots(bs, &err);

    if (ret < 0 && s->salvage) {
        bdrv_damage_note(bs, "%s: snapshots are left out",
                         error_get_pretty(err));
        error_free(err);
        s->nb_snapshots = 0;
        s->snapshots_offset = 0;
        return 0;
    }
    error_propagate(errp, err);
    return ret;
}

static int coroutine_fn read_header_entry(void *opaque)
{
    OpenArgs *a = opaque;
    BDRVQcow2State *s = a->bs->opaque;
    int ret;

    QEMU_LOCK_GUARD(&s->lock);
    ret = qcow2_header_read(a->bs, a->flags, &a->header, a->errp);
    return ret < 0 ? ret : check_file_end(a->bs, &a->header, a->flags,
                                          a->errp);
}

static int coroutine_fn open_entry(void *opaque)
{
    OpenArgs *a = opaque;
    BlockDriverState *bs = a->bs;
    BDRVQcow2State *s = bs->opaque;
    const QCowHeader *h = &a->header;
    Qcow2ReopenState *r;
    int ret;

    QEMU_LOCK_GUARD(&s->lock);
    s->inflight.cluster_bits = s->cluster_bits;
    r = qcow2_options_prepare(bs, a->options, a->flags, a->errp);
    if (!r) {
        return -EINVAL;
    }
    qcow2_options_commit(bs, r);

    ret = qcow2_l1_read(bs, h->l1_table_offset, h->l1_size, a->errp);
    if (ret == 0) {
        ret = qcow2_refcount_init(bs, h->refcount_table_offset,
                                  h->refcount_table_clusters, a->errp);
    }
    if (ret == 0) {
        ret = read_snapshots(bs, a->errp);
    }
    if (ret == 0) {
        ret = qcow2_bitmaps_read_directory(bs);
    }
    if (ret == 0) {
        ret = qcow2_guard_open(bs);
        if (ret < 0) {
            error_setg(a->errp, "Could not allocate memory for the L1 guard");
        }
    }
    if (ret == 0 && (a->flags & BDRV_O_RDWR)) {
        s->writable = true;
        ret = make_writable(bs, a->flags, a->errp);
    }
    return ret;
}

void qcow2_state_clear(BDRVQcow2State *s)
{
    qcow2_cache_destroy(s->l2_table_cache);
    qcow2_cache_destroy(s->refcount_block_cache);
    s->l2_table_cache = s->refcount_block_cache = NULL;
    qcow2_table_free(&s->l1);
    qcow2_guard_clear(&s->guard);
    qcow2_refcount_close(s);
    qcow2_free_snapshots(s);
    qcow2_bitmaps_free(s);
    qcow2_header_free(s);
    qcow2_crypto_close(s);
    g_array_free(s->pending_frees, true);
    qcow2_inflight_destroy(&s->inflight);
    g_clear_pointer(&s->stop_reason, g_free);
}

static int read_bitmaps(BlockDriverState *bs, int flags, GPtrArray **stored,
                        Error **errp)
{
    BDRVQcow2State *s = bs->opaque;
    Error *err = NULL;
    int ret = qcow2_bitmaps_read_stored(bs, flags, stored, &err);

    if (ret < 0 && s->salvage) {
        bdrv_damage_note(bs, "%s", error_get_pretty(err));
        error_free(err);
        *stored = g_ptr_array_new();
        return 0;
    }
    error_propagate(errp, err);
    return ret;
}

int qcow2_load(BlockDriverState *bs, BlockdevOptionsQcow2 *options, int flags,
               const BDRVQcow2State *old, GPtrArray **bitmaps, Error **errp)
{
    BDRVQcow2State *s = bs->opaque;
    OpenArgs a = {
        .bs = bs, .options = options, .flags = flags, .errp = errp,
    };
    int ret;

    s->salvage = flags & BDRV_O_SALVAGE;
    qemu_co_mutex_init(&s->lock);
    qcow2_inflight_init(&s->inflight, 0);
    QTAILQ_INIT(&s->unknown_header_ext);
    s->pending_frees = g_array_new(false, false, sizeof(Qcow2PendingFree));

    ret = bdrv_run_co(read_header_entry, &a);
    if (ret == 0 && old) {
        ret = qcow2_reload_check_same(old, s, errp);
    }
    if (ret == 0) {
        ret = old ? qcow2_keep_data_file(bs, old, flags, errp)
                  : qcow2_open_data_file(bs, options->data_file, flags, errp);
    }
    if (ret == 0) {
        ret = bdrv_run_co(open_entry, &a);
    }
    if (ret == 0) {
        ret = qcow2_crypto_open(bs, options->encrypt, flags, errp);
    }
    return ret < 0 ? ret : read_bitmaps(bs, flags, bitmaps, errp);
}

int qcow2_open(BlockDriverState *bs, BlockdevOptions *options, int flags,
               Error **errp)
{
    BDRVQcow2State *s = bs->opaque;
    GPtrArray *bitmaps = NULL;
    int ret;

    if (!bdrv_open_child(bs, options->u.qcow2.file, "file", BDRV_CHILD_IMAGE,
                         false, errp)) {
        return -EINVAL;
    }
    if (flags & BDRV_O_INACTIVE) {
        flags &= ~BDRV_O_RDWR;
    }
    ret = qcow2_load(bs, &options->u.qcow2, flags, NULL, &bitmaps, errp);
    if (ret < 0) {
        qcow2_state_clear(s);
        return ret;
    }
    qcow2_bitmaps_add_stored(bs, bitmaps);
    qatomic_set(&bs->total_bytes,
                ROUND_DOWN(s->disk_size, BDRV_SECTOR_SIZE));
    bs->supported_zero_flags = BDRV_REQ_MAY_UNMAP | BDRV_REQ_NO_FALLBACK;
    bs->supported_truncate_flags = BDRV_REQ_ZERO_WRITE;
    start_clean_timer(bs);
    return 0;
}

/* --- close --- */

/* Everything in memory goes to disk; the image says that it is clean. */
static int coroutine_fn store_all_entry(void *opaque)
{
    BlockDriverState *bs = opaque;
    BDRVQcow2State *s = bs->opaque;
    int ret;

    if (!s->writable || qcow2_is_stopped(s)) {
        return 0;
    }
    QEMU_LOCK_GUARD(&s->lock);
    ret = qcow2_flush_all_metadata(bs);
    /* Opened for a check it may be dirty from before: the check says so. */
    if (ret == 0 && s->use_lazy_refcounts &&
        !(bs->open_flags & BDRV_O_CHECK)) {
        ret = qcow2_mark_clean(bs);
    }
    if (ret == 0) {
        ret = qcow2_flush_files(bs);
    }
    if (ret == 0 && s->guard.unsettled) {
        qcow2_guard_flushed(s);
        ret = qcow2_guard_settle(bs);
        if (ret == 0) {
            ret = bdrv_co_flush(bs->file->bs);
        }
    }
    return ret;
}

void qcow2_close(BlockDriverState *bs)
{
    BDRVQcow2State *s = bs->opaque;
    Error *err = NULL;
    int ret;

    stop_clean_timer(bs);
    if (s->writable && !qcow2_is_stopped(s) &&
        qcow2_save_bitmaps(bs, NULL, 0, &err) < 0) {
        /* Those that changed are marked on disk. */
        bdrv_report_loss(bs, "Lost persistent bitmaps of node '%s': "
                                  "%s", bdrv_get_device_or_node_name(bs),
                                  error_get_pretty(err));
        error_free(err);
    }
    ret = bdrv_run_co(store_all_entry, bs);
    if (ret < 0) {
        bdrv_report_loss(bs, "Failed to flush the metadata of node "
                                  "'%s': %s", bdrv_get_device_or_node_name(bs),
                                  strerror(-ret));
    }
    qcow2_state_clear(s);
}

/* --- inactive --- */

int qcow2_prepare_inactive(BlockDriverState *bs, Error **errp)
{
    BDRVQcow2State *s = bs->opaque;
    int ret = qcow2_check_not_stopped(bs, errp);

    if (ret == 0 && !qcow2_bitmaps_are_idle(bs, errp)) {
        ret = -EBUSY;
    }
    if (ret == 0 && s->writable) {
        ret = qcow2_save_bitmaps(bs, NULL, 0, errp);
    }
    if (ret < 0) {
        return ret;
    }
    ret = bdrv_run_co(store_all_entry, bs);
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Failed to flush the metadata of node "
                         "'%s'", bdrv_get_device_or_node_name(bs));
    }
    return ret;
}

void qcow2_set_inactive(BlockDriverState *bs)
{
    BDRVQcow2State *s = bs->opaque;
    BdrvDirtyBitmap *next;

    stop_clean_timer(bs);
    s->writable = false;
    s->inactive = true;
    qcow2_cache_empty(s->l2_table_cache);
    qcow2_cache_empty(s->refcount_block_cache);
    for (BdrvDirtyBitmap *b = bdrv_dirty_bitmap_first(bs); b; b = next) {
        next = bdrv_dirty_bitmap_next(b);
        if (bdrv_dirty_bitmap_get_persistence(b)) {
            bdrv_release_dirty_bitmap(b);
        }
    }
}

/* Everything is read as a reopen of a stopped node does it. */
int qcow2_activate(BlockDriverState *bs, Error **errp)
{
    Qcow2Reload *r = qcow2_reload_prepare(bs, bs->options, bs->open_flags,
                                          errp);
    BDRVQcow2State *s;

    if (!r) {
        return -EINVAL;
    }
    qcow2_reload_commit(bs, r);
    s = bs->opaque;
    s->writable = bs->open_flags & BDRV_O_RDWR;
    qcow2_bitmaps_set_readonly(bs, !s->writable);
    start_clean_timer(bs);
    return 0;
}

/* --- reopen --- */

/* One of them. */
typedef struct ReopenPlan {
    Qcow2ReopenState *options;
    Qcow2Reload *reload;
} ReopenPlan;

typedef struct ReopenArgs {
    BDRVReopenState *state;
    ReopenPlan *plan;
    Error **errp;
} ReopenArgs;

static int coroutine_fn reopen_writable(BDRVReopenState *state, Error **errp)
{
    BDRVQcow2State *s = state->bs->opaque;
    int ret;

    if (s->shows_snapshot) {
        error_setg(errp, "A snapshot is shown: only reading is possible");
        return -EACCES;
    }
    if ((s->incompatible_features & QCOW2_INCOMPAT_CORRUPT) &&
        !(state->flags & BDRV_O_CHECK)) {
        error_setg(errp, "qcow2: Image is corrupt; cannot be opened "
                   "read/write");
        return -EACCES;
    }
    s->writable = true;
    ret = make_writable(state->bs, state->flags, errp);
    s->writable = ret == 0;
    return ret;
}

static int coroutine_fn reopen_prepare_entry(void *opaque)
{
    ReopenArgs *a = opaque;
    BDRVReopenState *state = a->state;
    BlockDriverState *bs = state->bs;
    BDRVQcow2State *s = bs->opaque;
    bool was_writable = s->writable;
    bool writable = state->flags & BDRV_O_RDWR;
    int ret = 0;

    if (was_writable && !writable) {
        ret = store_all_entry(bs);
        if (ret < 0) {
            error_setg_errno(a->errp, -ret, "Failed to flush the metadata");
            return ret;
        }
    }
    QEMU_LOCK_GUARD(&s->lock);
    if (!was_writable && writable) {
        ret = reopen_writable(state, a->errp);
        if (ret < 0) {
            return ret;
        }
    }
    a->plan->options = qcow2_options_prepare(bs, &state->options->u.qcow2,
                                             state->flags, a->errp);
    if (!a->plan->options) {
        s->writable = was_writable;
        return -EINVAL;
    }
    /* The file is read-only first if it becomes so: nothing may be left. */
    return 0;
}

static int keep_state(BDRVReopenState *state, ReopenPlan *plan, Error **errp)
{
    BDRVQcow2State *s = state->bs->opaque;
    ReopenArgs a = { state, plan, errp };
    int ret;

    if (s->writable && !(state->flags & BDRV_O_RDWR)) {
        ret = qcow2_save_bitmaps(state->bs, NULL, 0, errp);
        if (ret < 0) {
            return ret;
        }
    }
    return bdrv_run_co(reopen_prepare_entry, &a);
}

int qcow2_reopen_prepare(BDRVReopenState *state, BlockReopenQueue *queue,
                         Error **errp)
{
    ReopenPlan plan = { NULL };
    int ret;

    if (qcow2_must_reload(state->bs->opaque)) {
        plan.reload = qcow2_reload_prepare(state->bs, state->options,
                                           state->flags, errp);
        ret = plan.reload ? 0 : -EINVAL;
    } else {
        ret = keep_state(state, &plan, errp);
    }
    if (ret == 0) {
        state->opaque = g_memdup2(&plan, sizeof(plan));
    }
    return ret;
}

void qcow2_reopen_commit(BDRVReopenState *state)
{
    BlockDriverState *bs = state->bs;
    g_autofree ReopenPlan *plan = g_steal_pointer(&state->opaque);
    BDRVQcow2State *s;

    stop_clean_timer(bs);
    if (plan->reload) {
        qcow2_reload_commit(bs, plan->reload);
    } else {
        qcow2_options_commit(bs, plan->options);
    }
    s = bs->opaque;
    s->writable = state->flags & BDRV_O_RDWR;
    qcow2_bitmaps_set_readonly(bs, !s->writable);
    start_clean_timer(bs);
}

void qcow2_reopen_abort(BDRVReopenState *state)
{
    BDRVQcow2State *s = state->bs->opaque;
    g_autofree ReopenPlan *plan = g_steal_pointer(&state->opaque);

    qcow2_options_abort(plan->options);
    qcow2_reload_abort(plan->reload);
    s->writable = state->bs->open_flags & BDRV_O_RDWR;
}
