/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The filter "preallocate": a write beyond the end of the file makes the file
 * longer than it needs to be, so that the next ones find the space reserved and
 * the length right. What the file has too much is its tail:
 *
 *      0            data_end   zero_start          file_end
 *      |  the node's data |  being written | zeroes |
 *
 * 1. The node is data_end bytes long. The tail is nobody's: while there is one,
 *    the file is shared with nobody who writes or resizes.
 * 2. The tail is cut off before anybody else could see it: when the node is
 *    drained, which every change of the graph, reopen and close begins with,
 *    and when its users give up writing or resizing.
 * 3. A write that extends the node holds tail_lock (read side) from before it
 *    looks at the tail until data_end has its end, so that a cut does not take
 *    what it wrote. One that ends while the node is drained cuts what it may have
 *    begun after the drain did.
 * 4. What reserving space fails with is nobody's error: the write goes on
 *    without. What cutting fails with is reported, and tried again.
 *
 * Lock order: tail_lock, then grow_lock, then requests of the child.
 */
#include "util/osdep.h"
#include "block/driver-table.h"
#include "block/filters/filter.h"
#include "block/graph-internal.h"
#include "util/aio.h"
#include "util/atomic.h"
#include "util/lockable.h"

#define DEFAULT_ALIGN (1LL << 20)
#define DEFAULT_SIZE (128LL << 20)

#define EXTEND_PERMS (BLK_PERM_WRITE | BLK_PERM_RESIZE)

typedef struct PreallocateOptions {
    int64_t align;              /* the file ends at a multiple of it */
    int64_t size;               /* bytes reserved beyond a write */
} PreallocateOptions;

typedef struct BDRVPreallocateState {
    PreallocateOptions options; /* changed by reopen, with the node drained */

    CoRwlock tail_lock;
    /* Writers: tail_lock held for writing, or for reading to raise it. Atomic;
     * -1 while there is no tail and the length is the child's. */
    int64_t data_end;

    CoMutex grow_lock;
    /* tail_lock for writing, or for reading and grow_lock. */
    BlockDriverState *tail_of;  /* child that has the tail; no reference */
    int64_t zero_start;         /* zeroes from here, or data_end if larger */
    int64_t file_end;
    int64_t next_attempt;       /* no reserving for writes that end before */
    bool unknown_end;           /* the file may be longer than file_end */
    bool unreserved;            /* or not yet as long: a write will do it */
} BDRVPreallocateState;

/* --- the tail --- */

static bool may_extend(BlockDriverState *bs)
{
    return (bs->open_flags & BDRV_O_RDWR) &&
           (bs->file->perm & EXTEND_PERMS) == EXTEND_PERMS;
}

/* Bytes, as the child's driver says. */
static int64_t coroutine_fn child_length(BlockDriverState *bs)
{
    int64_t length = bdrv_co_getlength(bs->file->bs);

    return length < 0 ? length : qatomic_read(&bs->file->bs->total_bytes);
}

/*
 * Whether there is a tail. A child that came in spite of one, since it could
 * not be cut, has none.
 */
static bool has_tail(BlockDriverState *bs)
{
    BDRVPreallocateState *s = bs->opaque;

    return qatomic_read(&s->data_end) >= 0 &&
           qatomic_read(&s->tail_of) == bs->file->bs;
}

static bool is_drained(BlockDriverState *bs)
{
    return qatomic_load_seq_cst(&bs->quiesce_counter) > 0;
}

/* Cuts off the tail. tail_lock held for writing. */
static int coroutine_fn cut_tail_locked(BlockDriverState *bs, Error **errp)
{
    BDRVPreallocateState *s = bs->opaque;

    if (has_tail(bs) &&
        (s->file_end > s->data_end || s->unknown_end)) {
        int ret = bdrv_co_truncate(bs->file, s->data_end, true,
                                   PREALLOC_MODE_OFF, 0, errp);

        if (ret < 0) {
            return ret;
        }
    }
    qatomic_set(&s->data_end, -1);
    return 0;
}

typedef struct CutTail {
    BlockDriverState *bs;
    Error **errp;
} CutTail;

static int coroutine_fn cut_tail_entry(void *opaque)
{
    CutTail *c = opaque;
    BDRVPreallocateState *s = c->bs->opaque;
    int ret;

    qemu_co_rwlock_wrlock(&s->tail_lock);
    ret = cut_tail_locked(c->bs, c->errp);
    qemu_co_rwlock_unlock(&s->tail_lock);
    return ret;
}

/* Main thread, outside coroutines. */
static int cut_tail(BlockDriverState *bs, Error **errp)
{
    CutTail c = { bs, errp };

    return bdrv_run_co(cut_tail_entry, &c);
}

static void coroutine_fn drained_entry(void *opaque)
{
    BlockDriverState *bs = opaque;
    CutTail c = { bs };

    bdrv_graph_co_rdlock();
    cut_tail_entry(&c);
    bdrv_graph_co_rdunlock();
    bdrv_dec_in_flight(bs);
}

/* Requests that are on their way may be making one, so that whether there is a
 * tail now does not tell. */
static void preallocate_drained_begin(BlockDriverState *bs)
{
    if (bs->file && may_extend(bs)) {
        bdrv_inc_in_flight(bs);
        aio_co_schedule(qemu_get_aio_context(),
                        qemu_coroutine_create(drained_entry, bs));
    }
}

/* --- permissions --- */

static void preallocate_child_perm(BlockDriverState *bs, BdrvChild *child,
                                   BdrvChildRole role, BlockReopenQueue *queue,
                                   uint64_t parent_perm,
                                   uint64_t parent_shared,
                                   uint64_t *nperm, uint64_t *nshared)
{
    BDRVPreallocateState *s = bs->opaque;

    bdrv_default_perms(bs, child, role, queue, parent_perm, parent_shared,
                       nperm, nshared);
    if ((*nperm & EXTEND_PERMS) == EXTEND_PERMS ||
        qatomic_read(&s->data_end) >= 0) {
        *nperm |= EXTEND_PERMS;
        *nshared &= ~(uint64_t)EXTEND_PERMS;
    }
}

/*
 * Without a user who extends the node the tail goes, and then what was held for
 * it. Nobody has a request in flight here that needs it.
 */
static int preallocate_set_perm(BlockDriverState *bs, uint64_t perm,
                                uint64_t shared, Error **errp)
{
    BDRVPreallocateState *s = bs->opaque;
    int ret;

    if ((perm & EXTEND_PERMS) == EXTEND_PERMS ||
        qatomic_read(&s->data_end) < 0) {
        return 0;
    }
    ret = cut_tail(bs, errp);
    if (ret >= 0) {
        bdrv_graph_wrlock();
        bdrv_relax_perms(bs);
        bdrv_graph_wrunlock();
    }
    return ret;
}

/* --- open, close, reopen --- */

static bool read_options(PreallocateOptions *result,
                         const BlockdevOptionsPreallocate *o, Error **errp)
{
    uint64_t align = o->has_prealloc_align ? o->prealloc_align : DEFAULT_ALIGN;
    uint64_t size = o->has_prealloc_size ? o->prealloc_size : DEFAULT_SIZE;

    if (!align || align % BDRV_SECTOR_SIZE) {
        error_setg(errp, "prealloc-align parameter of preallocate filter is "
                   "not aligned to %llu", BDRV_SECTOR_SIZE);
        return false;
    }
    if (align > BDRV_MAX_LENGTH || size > BDRV_MAX_LENGTH) {
        error_setg(errp, "%s parameter of preallocate filter is too large",
                   align > BDRV_MAX_LENGTH ? "prealloc-align"
                                           : "prealloc-size");
        return false;
    }
    *result = (PreallocateOptions) { .align = align, .size = size };
    return true;
}

static int preallocate_open(BlockDriverState *bs, BlockdevOptions *options,
                            int flags, Error **errp)
{
    BDRVPreallocateState *s = bs->opaque;
    const BlockdevOptionsPreallocate *o = &options->u.preallocate;

    s->data_end = -1;
    qemu_co_rwlock_init(&s->tail_lock);
    qemu_co_mutex_init(&s->grow_lock);
    if (!read_options(&s->options, o, errp) ||
        !filter_open_file(bs, o->file, errp)) {
        return -EINVAL;
    }
    return 0;
}

static void preallocate_close(BlockDriverState *bs)
{
    BDRVPreallocateState *s = bs->opaque;
    Error *err = NULL;

    /* Only if it could not be cut when the node was drained to be closed. */
    if (cut_tail(bs, &err) < 0) {
        error_reportf_err(err, "The file of node '%s' keeps preallocated "
                          "space: ", bdrv_get_device_or_node_name(bs));
    }
    qemu_co_rwlock_destroy(&s->tail_lock);
}

/* Draining the node has tried to cut the tail. False with @errp if it is there. */
static bool is_without_tail(BlockDriverState *bs, Error **errp)
{
    BDRVPreallocateState *s = bs->opaque;

    if (qatomic_read(&s->data_end) >= 0) {
        error_setg(errp, "Could not give back the preallocated space of node "
                   "'%s'", bdrv_get_node_name(bs));
        return false;
    }
    return true;
}

static int preallocate_prepare_inactive(BlockDriverState *bs, Error **errp)
{
    return is_without_tail(bs, errp) ? 0 : -EIO;
}

static int preallocate_reopen_prepare(BDRVReopenState *state,
                                      BlockReopenQueue *queue, Error **errp)
{
    g_autofree PreallocateOptions *options = g_new(PreallocateOptions, 1);

    if (!read_options(options, &state->options->u.preallocate, errp)) {
        return -EINVAL;
    }
    if (!is_without_tail(state->bs, errp)) {
        return -EIO;        /* the child may be another one by now */
    }
    state->opaque = g_steal_pointer(&options);
    return 0;
}

static void preallocate_reopen_commit(BDRVReopenState *state)
{
    BDRVPreallocateState *s = state->bs->opaque;

    s->options = *(PreallocateOptions *)state->opaque;
    g_free(state->opaque);
}

static void preallocate_reopen_abort(BDRVReopenState *state)
{
    g_free(state->opaque);
}

/* --- writes --- */

/* Begins a tail, of nothing yet. grow_lock. */
static bool coroutine_fn begin_tail(BlockDriverState *bs)
{
    BDRVPreallocateState *s = bs->opaque;
    int64_t length;

    if (has_tail(bs)) {
        return true;
    }
    length = child_length(bs);
    if (length < 0) {
        return false;
    }
    qatomic_set(&s->tail_of, bs->file->bs);
    s->zero_start = length;
    s->file_end = length;
    s->next_attempt = 0;
    s->unknown_end = false;
    s->unreserved = false;
    qatomic_set(&s->data_end, length);
    return true;
}

/* Where the file is to end for a write up to @end; 0: nowhere beyond. */
static int64_t reserved_end(const PreallocateOptions *o, int64_t end)
{
    int64_t rest;

    if (end > BDRV_MAX_LENGTH - o->size) {
        return 0;
    }
    end += o->size;
    rest = end % o->align;
    if (rest && end > BDRV_MAX_LENGTH - (o->align - rest)) {
        return 0;
    }
    return rest ? end + (o->align - rest) : end;
}

/* Space that was reserved in part would be missing elsewhere. */
static void coroutine_fn undo_reserve(BlockDriverState *bs)
{
    BDRVPreallocateState *s = bs->opaque;

    if (bdrv_co_truncate(bs->file, s->file_end, true, PREALLOC_MODE_OFF, 0,
                         NULL) < 0) {
        s->unknown_end = true;
    }
}

/*
 * Makes file_end at least @end; with some more if @reserve, and if that can be
 * had. grow_lock
 */
static void coroutine_fn grow_tail(BlockDriverState *bs, int64_t end,
                                   bool reserve)
{
    BDRVPreallocateState *s = bs->opaque;
    int64_t align = bs->file->bs->bl.request_alignment;
    int64_t start = ROUND_UP(s->file_end, align);
    int64_t new_end = QEMU_ALIGN_DOWN(reserved_end(&s->options, end), align);

    if (reserve && end > s->next_attempt && new_end > start && new_end >= end) {
        int ret = bdrv_co_pwrite_zeroes(bs->file, start, new_end - start,
                                        BDRV_REQ_NO_FALLBACK);

        if (ret >= 0) {
            s->file_end = new_end;
            return;
        }
        if (ret != -ENOTSUP) {
            undo_reserve(bs);
        }
        s->next_attempt = MAX(end, new_end);
    }
    s->file_end = MAX(s->file_end, ROUND_UP(end, align));
    s->unreserved = true;
}

/*
 * Before a write up to @end; tail_lock is held for reading if it returns true.
 * With *@is_zero, which says that it is of zeroes from @offset on, that becomes
 * whether they are there already.
 */
static bool coroutine_fn extend_begin(BlockDriverState *bs, int64_t offset,
                                      int64_t end, bool *is_zero)
{
    BDRVPreallocateState *s = bs->opaque;
    bool zero = *is_zero;

    *is_zero = false;
    if (likely(end <= qatomic_read(&s->data_end)) || !may_extend(bs)) {
        return false;
    }
    qemu_co_rwlock_rdlock(&s->tail_lock);
    QEMU_LOCK_GUARD(&s->grow_lock);
    if (!begin_tail(bs)) {
        qemu_co_rwlock_unlock(&s->tail_lock);
        return false;
    }
    if (end > s->file_end) {
        grow_tail(bs, end, !is_drained(bs));
    }
    if (zero && offset >= s->zero_start &&
        offset >= qatomic_read(&s->data_end) && !s->unreserved) {
        *is_zero = true;
    } else {
        s->zero_start = MAX(s->zero_start, end);
    }
    return true;
}

static void coroutine_fn extend_end(BlockDriverState *bs, int64_t end, int ret)
{
    BDRVPreallocateState *s = bs->opaque;
    int64_t old = qatomic_read(&s->data_end);

    while (ret >= 0 && old < end) {
        int64_t seen = qatomic_cmpxchg(&s->data_end, old, end);

        if (seen == old) {
            break;
        }
        old = seen;
    }
    qemu_co_rwlock_unlock(&s->tail_lock);
    if (unlikely(is_drained(bs))) {
        CutTail c = { bs };

        cut_tail_entry(&c);
    }
}

static int coroutine_fn preallocate_co_pwritev(BlockDriverState *bs,
                                               int64_t offset, int64_t bytes,
                                               QEMUIOVector *qiov,
                                               size_t qiov_offset,
                                               BdrvRequestFlags flags)
{
    bool is_zero = false;
    bool extends = extend_begin(bs, offset, offset + bytes, &is_zero);
    int ret = filter_co_pwritev(bs, offset, bytes, qiov, qiov_offset, flags);

    if (extends) {
        extend_end(bs, offset + bytes, ret);
    }
    return ret;
}

static int coroutine_fn preallocate_co_pwrite_zeroes(BlockDriverState *bs,
                                                     int64_t offset,
                                                     int64_t bytes,
                                                     BdrvRequestFlags flags)
{
    bool is_zero = true;
    bool extends = extend_begin(bs, offset, offset + bytes, &is_zero);
    int ret = 0;

    if (!is_zero) {
        ret = filter_co_pwrite_zeroes(bs, offset, bytes, flags);
    }
    if (extends) {
        extend_end(bs, offset + bytes, ret);
    }
    return ret;
}

/* --- length --- */

static int64_t coroutine_fn preallocate_co_getlength(BlockDriverState *bs)
{
    BDRVPreallocateState *s = bs->opaque;
    int64_t data_end = qatomic_read(&s->data_end);

    return data_end >= 0 && has_tail(bs) ? data_end : child_length(bs);
}

/* Into the tail the node grows without the file. tail_lock for writing. */
static bool grow_into_tail(BlockDriverState *bs, int64_t offset)
{
    BDRVPreallocateState *s = bs->opaque;

    if (!has_tail(bs) || offset < s->data_end || offset > s->file_end ||
        s->zero_start > s->data_end || s->unreserved) {
        return false;
    }
    qatomic_set(&s->data_end, offset);
    return true;
}

static int coroutine_fn preallocate_co_truncate(BlockDriverState *bs,
                                                int64_t offset, bool exact,
                                                PreallocMode prealloc,
                                                BdrvRequestFlags flags,
                                                Error **errp)
{
    BDRVPreallocateState *s = bs->opaque;
    int ret = 0;

    qemu_co_rwlock_wrlock(&s->tail_lock);
    if (prealloc != PREALLOC_MODE_OFF || !grow_into_tail(bs, offset)) {
        ret = cut_tail_locked(bs, errp);
        if (ret >= 0) {
            ret = bdrv_co_truncate(bs->file, offset, exact, prealloc, flags,
                                   errp);
        }
    }
    qemu_co_rwlock_unlock(&s->tail_lock);
    return ret;
}

static const char *const preallocate_options[] = {
    "prealloc-align", "prealloc-size", NULL
};

BlockDriver bdrv_preallocate = {
    .format_name = "preallocate",
    .id = BLOCKDEV_DRIVER_PREALLOCATE,
    .instance_size = sizeof(BDRVPreallocateState),
    .is_filter = true,
    .has_variable_length = true,
    .bdrv_open = preallocate_open,
    .bdrv_close = preallocate_close,
    .bdrv_reopen_prepare = preallocate_reopen_prepare,
    .bdrv_reopen_commit = preallocate_reopen_commit,
    .bdrv_reopen_abort = preallocate_reopen_abort,
    .reopen_options = preallocate_options,
    .weak_options = preallocate_options,
    .supports_inactive = true,
    .bdrv_prepare_inactive = preallocate_prepare_inactive,
    .bdrv_child_perm = preallocate_child_perm,
    .bdrv_set_perm = preallocate_set_perm,
    .bdrv_refresh_limits = filter_refresh_limits,
    .bdrv_drained_begin = preallocate_drained_begin,
    .bdrv_co_preadv = filter_co_preadv,
    .bdrv_co_pwritev = preallocate_co_pwritev,
    .bdrv_co_pwrite_zeroes = preallocate_co_pwrite_zeroes,
    .bdrv_co_pdiscard = filter_co_pdiscard,
    .bdrv_co_block_status = bdrv_co_filter_block_status,
    .bdrv_co_getlength = preallocate_co_getlength,
    .bdrv_co_truncate = preallocate_co_truncate,
};
