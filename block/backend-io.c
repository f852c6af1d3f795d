/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Requests through a BlockBackend.
 *
 * 1. A request is counted in blk->in_flight from its start to its end, the
 *    callback of an asynchronous one included. That count is what a drain of
 *    the node waits for.
 * 2. While the node is drained requests queue: uncounted, without the graph
 *    lock, and asleep in the AioContext where they began. One that is already
 *    beyond the queue runs to its end, and the drain waits for it.
 * 3. The graph read lock is taken once, before anything that others may wait
 *    for, and held to the end.
 * 4. Ranges beyond the end of the node are refused here.
 */
#include "util/osdep.h"
#include "block/backend-internal.h"
#include "block/io-internal.h"
#include "util/aio.h"
#include "util/atomic.h"
#include "util/iov.h"
#include "util/lockable.h"

/* ------------------------------------------------------ begin and end */

void blk_inc_in_flight(BlockBackend *blk)
{
    qatomic_inc(&blk->in_flight);
}

void blk_dec_in_flight(BlockBackend *blk)
{
    if (qatomic_fetch_dec(&blk->in_flight) == 1) {
        aio_wait_kick();
    }
}

void blk_wake_queued(BlockBackend *blk)
{
    QEMU_LOCK_GUARD(&blk->queue_lock);
    qemu_co_queue_restart_all(&blk->queue);
}

/* Waits in the queue while the node is drained; -ECANCELED if there is none. */
static QEMU_NOINLINE int coroutine_fn wait_while_drained(BlockBackend *blk)
{
    int ret = 0;

    qemu_mutex_lock(&blk->queue_lock);
    while (qatomic_read(&blk->quiesce_counter) > 0) {
        if (qatomic_read(&blk->disable_request_queuing)) {
            ret = -ECANCELED;
            break;
        }
        blk_dec_in_flight(blk);
        qemu_co_queue_wait(&blk->queue, &blk->queue_lock);
        blk_inc_in_flight(blk);
    }
    qemu_mutex_unlock(&blk->queue_lock);
    return ret;
}

/* Under the graph lock. */
static inline bool has_medium(BlockBackend *blk)
{
    return blk->root && blk->root->bs->drv;
}

/* Under the graph lock. 0, or why there is nobody to serve a request. */
static inline int check_node(BlockBackend *blk)
{
    if (unlikely(!has_medium(blk))) {
        return -ENOMEDIUM;
    }
    return unlikely(qatomic_read(&blk->root->bs->inactive)) ? -EPERM : 0;
}

/*
 * The start of every request, which is counted already: returns 0 with the
 * graph lock held and a node below, or -errno without.
 */
static inline int coroutine_fn enter(BlockBackend *blk)
{
    int ret;

    for (;;) {
        /* Pairs with the drain: it raises the counter, then looks for us. */
        if (unlikely(qatomic_load_seq_cst(&blk->quiesce_counter) > 0)) {
            ret = wait_while_drained(blk);
            if (ret < 0) {
                return ret;
            }
        }
        bdrv_graph_co_rdlock();
        if (likely(qatomic_load_acquire(&blk->quiesce_counter) == 0)) {
            break;
        }
        /* Drained while a change of the graph held us up. */
        bdrv_graph_co_rdunlock();
    }
    ret = check_node(blk);
    if (unlikely(ret < 0)) {
        bdrv_graph_co_rdunlock();
    }
    return ret;
}

static inline void coroutine_fn leave(BlockBackend *blk)
{
    bdrv_graph_co_rdunlock();
}

/* -EIO for a range that is not one, or lies beyond the end. */
static int coroutine_fn check_range(BlockBackend *blk, int64_t offset,
                                    int64_t bytes)
{
    int64_t length;
    int ret = bdrv_check_request(offset, bytes);

    if (ret < 0 || qatomic_read(&blk->allow_write_beyond_eof)) {
        return ret;
    }
    length = bdrv_co_getlength(blk->root->bs);
    if (length < 0) {
        return length;
    }
    return bytes > length || offset > length - bytes ? -EIO : 0;
}

/* -------------------------------------------- requests that are counted */

typedef struct BlkRequest {
    BlockBackend *blk;
    int64_t offset;
    int64_t bytes;
    QEMUIOVector *qiov;
    size_t qiov_offset;
    BdrvRequestFlags flags;
} BlkRequest;

typedef int coroutine_fn BlkRequestFunc(const BlkRequest *r);

static int coroutine_fn do_preadv(const BlkRequest *r)
{
    return bdrv_co_preadv_part(r->blk->root, r->offset, r->bytes, r->qiov,
                               r->qiov_offset, r->flags);
}

static BdrvRequestFlags write_flags(const BlkRequest *r)
{
    BdrvRequestFlags flags = r->flags;

    if (!qatomic_read(&r->blk->enable_write_cache)) {
        flags |= BDRV_REQ_FUA;
    }
    /* A truncate may come between the check of the range and the write. */
    if (!qatomic_read(&r->blk->allow_write_beyond_eof)) {
        flags |= BDRV_REQ_NO_EXTEND;
    }
    return flags;
}

static int coroutine_fn do_pwritev(const BlkRequest *r)
{
    return bdrv_co_pwritev_part(r->blk->root, r->offset, r->bytes, r->qiov,
                                r->qiov_offset, write_flags(r));
}

static int coroutine_fn do_pwrite_zeroes(const BlkRequest *r)
{
    return bdrv_co_pwrite_zeroes(r->blk->root, r->offset, r->bytes,
                                 write_flags(r));
}

static int coroutine_fn do_pdiscard(const BlkRequest *r)
{
    return bdrv_co_pdiscard(r->blk->root, r->offset, r->bytes);
}

static int coroutine_fn do_flush(const BlkRequest *r)
{
    return bdrv_co_flush(r->blk->root->bs);
}

/* What there is to know about a kind of request. */
typedef struct BlkRequestKind {
    BlkRequestFunc *run;
    BlockAcctType acct;
} BlkRequestKind;

static const BlkRequestKind kind_read = { do_preadv, BLOCK_ACCT_READ };
static const BlkRequestKind kind_write = { do_pwritev, BLOCK_ACCT_WRITE };
static const BlkRequestKind kind_zeroes = {
    do_pwrite_zeroes, BLOCK_ACCT_WRITE
};
static const BlkRequestKind kind_discard = { do_pdiscard, BLOCK_ACCT_UNMAP };
static const BlkRequestKind kind_flush = { do_flush, BLOCK_ACCT_FLUSH };

/* A request whose count somebody else holds. */
static inline int coroutine_fn run_counted(const BlkRequestKind *kind,
                                           const BlkRequest *r)
{
    BlockBackend *blk = r->blk;
    BlockAcctCookie cookie;
    int ret = enter(blk);

    if (unlikely(ret < 0)) {
        return ret;
    }
    ret = check_range(blk, r->offset, r->bytes);
    if (unlikely(ret < 0)) {
        leave(blk);
        block_acct_invalid(&blk->stats, kind->acct);
        return ret;
    }
    block_acct_start(&blk->stats, &cookie, r->bytes, kind->acct);
    ret = kind->run(r);
    leave(blk);
    if (likely(ret >= 0)) {
        block_acct_done(&blk->stats, &cookie);
    } else {
        block_acct_failed(&blk->stats, &cookie);
    }
    return ret;
}

static inline int coroutine_fn run(const BlkRequestKind *kind,
                                   const BlkRequest *r)
{
    int ret;

    blk_inc_in_flight(r->blk);
    ret = run_counted(kind, r);
    blk_dec_in_flight(r->blk);
    return ret;
}

/* ------------------------------------------------------- coroutine forms */

int coroutine_fn blk_co_preadv_part(BlockBackend *blk, int64_t offset,
                                    int64_t bytes, QEMUIOVector *qiov,
                                    size_t qiov_offset,
                                    BdrvRequestFlags flags)
{
    BlkRequest r = { blk, offset, bytes, qiov, qiov_offset, flags };

    return run(&kind_read, &r);
}

int coroutine_fn blk_co_preadv(BlockBackend *blk, int64_t offset,
                               int64_t bytes, QEMUIOVector *qiov,
                               BdrvRequestFlags flags)
{
    return blk_co_preadv_part(blk, offset, bytes, qiov, 0, flags);
}

int coroutine_fn blk_co_pread(BlockBackend *blk, int64_t offset, int64_t bytes,
                              void *buf, BdrvRequestFlags flags)
{
    QEMUIOVector qiov = QEMU_IOVEC_INIT_BUF(qiov, buf, bytes);

    return blk_co_preadv_part(blk, offset, bytes, &qiov, 0, flags);
}

int coroutine_fn blk_co_pwritev_part(BlockBackend *blk, int64_t offset,
                                     int64_t bytes, QEMUIOVector *qiov,
                                     size_t qiov_offset,
                                     BdrvRequestFlags flags)
{
    BlkRequest r = { blk, offset, bytes, qiov, qiov_offset, flags };

    return run(&kind_write, &r);
}

int coroutine_fn blk_co_pwritev(BlockBackend *blk, int64_t offset,
                                int64_t bytes, QEMUIOVector *qiov,
                                BdrvRequestFlags flags)
{
    return blk_co_pwritev_part(blk, offset, bytes, qiov, 0, flags);
}

int coroutine_fn blk_co_pwrite(BlockBackend *blk, int64_t offset,
                               int64_t bytes, const void *buf,
                               BdrvRequestFlags flags)
{
    QEMUIOVector qiov = QEMU_IOVEC_INIT_BUF(qiov, buf, bytes);

    return blk_co_pwritev_part(blk, offset, bytes, &qiov, 0, flags);
}

int coroutine_fn blk_co_pwrite_compressed(BlockBackend *blk, int64_t offset,
                                          int64_t bytes, const void *buf)
{
    return blk_co_pwrite(blk, offset, bytes, buf, BDRV_REQ_WRITE_COMPRESSED);
}

int coroutine_fn blk_co_pwrite_zeroes(BlockBackend *blk, int64_t offset,
                                      int64_t bytes, BdrvRequestFlags flags)
{
    BlkRequest r = { blk, offset, bytes, NULL, 0,
                     flags | BDRV_REQ_ZERO_WRITE };

    return run(&kind_zeroes, &r);
}

int coroutine_fn blk_co_pdiscard(BlockBackend *blk, int64_t offset,
                                 int64_t bytes)
{
    BlkRequest r = { .blk = blk, .offset = offset, .bytes = bytes };

    return run(&kind_discard, &r);
}

int coroutine_fn blk_co_flush(BlockBackend *blk)
{
    BlkRequest r = { .blk = blk };

    return run(&kind_flush, &r);
}

int coroutine_fn blk_co_writeback(BlockBackend *blk)
{
    int ret;

    blk_inc_in_flight(blk);
    ret = enter(blk);
    if (ret >= 0) {
        ret = bdrv_co_writeback(blk_bs(blk));
        leave(blk);
    }
    blk_dec_in_flight(blk);
    return ret;
}

int coroutine_fn blk_co_truncate(BlockBackend *blk, int64_t offset, bool exact,
                                 PreallocMode prealloc, BdrvRequestFlags flags,
                                 Error **errp)
{
    int ret;

    blk_inc_in_flight(blk);
    ret = enter(blk);
    if (ret >= 0) {
        ret = bdrv_co_truncate(blk->root, offset, exact, prealloc, flags,
                               errp);
        leave(blk);
    } else {
        error_setg_errno(errp, -ret, "Cannot resize");
    }
    blk_dec_in_flight(blk);
    return ret;
}

/*
 * enter() for two backends. A request that queues for one of them must not
 * hold up a drain of the other.
 */
static int coroutine_fn enter_both(BlockBackend *in, BlockBackend *out)
{
    int ret = 0;

    while (ret >= 0) {
        if (qatomic_load_seq_cst(&in->quiesce_counter) > 0) {
            blk_dec_in_flight(out);
            ret = wait_while_drained(in);
            blk_inc_in_flight(out);
        } else if (qatomic_load_seq_cst(&out->quiesce_counter) > 0) {
            blk_dec_in_flight(in);
            ret = wait_while_drained(out);
            blk_inc_in_flight(in);
        } else {
            bdrv_graph_co_rdlock();
            if (qatomic_load_acquire(&in->quiesce_counter) == 0 &&
                qatomic_load_acquire(&out->quiesce_counter) == 0) {
                return 0;
            }
            bdrv_graph_co_rdunlock();
        }
    }
    return ret;
}

int coroutine_fn blk_co_splice(BlockBackend *blk, int64_t offset,
                               int64_t bytes, int pipe)
{
    BlockAcctCookie cookie;
    int ret;

    blk_inc_in_flight(blk);
    ret = enter(blk);
    if (ret >= 0) {
        ret = check_range(blk, offset, bytes);
        if (ret >= 0) {
            block_acct_start(&blk->stats, &cookie, bytes, BLOCK_ACCT_READ);
            ret = bdrv_co_splice(blk->root, offset, bytes, pipe);
            if (ret >= 0) {
                block_acct_done(&blk->stats, &cookie);
            }
        }
        leave(blk);
    }
    blk_dec_in_flight(blk);
    return ret;
}

int coroutine_fn blk_co_copy_range(BlockBackend *in, int64_t off_in,
                                   BlockBackend *out, int64_t off_out,
                                   int64_t bytes, BdrvRequestFlags read_flags,
                                   BdrvRequestFlags write_flags)
{
    int ret;

    if (!blk_enable_write_cache(out)) {
        write_flags |= BDRV_REQ_FUA;
    }
    blk_inc_in_flight(in);
    blk_inc_in_flight(out);
    ret = enter_both(in, out);
    if (ret >= 0) {
        ret = check_node(in);
        ret = ret < 0 ? ret : check_node(out);
        ret = ret < 0 ? ret : check_range(in, off_in, bytes);
        ret = ret < 0 ? ret : check_range(out, off_out, bytes);
        if (ret >= 0) {
            ret = bdrv_co_copy_range(in->root, off_in, out->root, off_out,
                                     bytes, read_flags, write_flags);
        }
        bdrv_graph_co_rdunlock();
    }
    blk_dec_in_flight(out);
    blk_dec_in_flight(in);
    return ret;
}

int64_t coroutine_fn blk_co_getlength(BlockBackend *blk)
{
    int64_t ret;

    blk_inc_in_flight(blk);
    ret = enter(blk);
    if (ret >= 0) {
        ret = bdrv_co_getlength(blk->root->bs);
        leave(blk);
    }
    blk_dec_in_flight(blk);
    return ret;
}

int64_t coroutine_fn blk_co_get_allocated_file_size(BlockBackend *blk)
{
    int64_t ret;

    blk_inc_in_flight(blk);
    ret = enter(blk);
    if (ret >= 0) {
        ret = bdrv_co_get_allocated_file_size(blk->root->bs);
        leave(blk);
    }
    blk_dec_in_flight(blk);
    return ret;
}

int coroutine_fn blk_co_block_status_above(BlockBackend *blk,
                                           BlockDriverState *base,
                                           bool want_zero, int64_t offset,
                                           int64_t bytes, int64_t *pnum,
                                           int64_t *map,
                                           BlockDriverState **file,
                                           int *depth)
{
    int ret;

    blk_inc_in_flight(blk);
    ret = enter(blk);
    if (ret >= 0) {
        ret = bdrv_co_block_status_above(blk->root->bs, base, false, want_zero,
                                         offset, bytes, pnum, map, file,
                                         depth);
        leave(blk);
    }
    blk_dec_in_flight(blk);
    return ret;
}

int coroutine_fn blk_co_is_allocated_above(BlockBackend *blk,
                                           BlockDriverState *base,
                                           bool include_base, int64_t offset,
                                           int64_t bytes, int64_t *pnum)
{
    int ret;

    blk_inc_in_flight(blk);
    ret = enter(blk);
    if (ret >= 0) {
        ret = bdrv_co_is_allocated_above(blk->root->bs, base, include_base,
                                         offset, bytes, pnum);
        leave(blk);
    }
    blk_dec_in_flight(blk);
    return ret;
}

/* -------------------------------------------------------- callback forms */

typedef struct BlkAio {
    BlkRequest req;
    const BlkRequestKind *kind;
    BlockCompletionFunc *cb;
    void *opaque;
    int ret;
} BlkAio;

static void aio_complete(void *opaque)
{
    BlkAio *aio = opaque;
    BlockBackend *blk = aio->req.blk;

    /* Counted until here: a drain ends after the callback. */
    aio->cb(aio->opaque, aio->ret);
    g_free(aio);
    blk_dec_in_flight(blk);
}

static void coroutine_fn aio_entry(void *opaque)
{
    BlkAio *aio = opaque;

    aio->ret = run_counted(aio->kind, &aio->req);
    /* Callbacks run outside coroutines, and not before the call returns. */
    aio_bh_schedule_oneshot(qemu_get_current_aio_context(), aio_complete, aio);
}

static void aio_start(const BlkRequestKind *kind, const BlkRequest *req,
                      BlockCompletionFunc *cb, void *opaque)
{
    BlkAio *aio = g_new0(BlkAio, 1);

    aio->req = *req;
    aio->kind = kind;
    aio->cb = cb;
    aio->opaque = opaque;
    blk_inc_in_flight(req->blk);
    qemu_coroutine_enter(qemu_coroutine_create(aio_entry, aio));
}

void blk_aio_preadv(BlockBackend *blk, int64_t offset, QEMUIOVector *qiov,
                    BdrvRequestFlags flags, BlockCompletionFunc *cb,
                    void *opaque)
{
    BlkRequest r = { blk, offset, qiov->size, qiov, 0, flags };

    aio_start(&kind_read, &r, cb, opaque);
}

void blk_aio_pwritev(BlockBackend *blk, int64_t offset, QEMUIOVector *qiov,
                     BdrvRequestFlags flags, BlockCompletionFunc *cb,
                     void *opaque)
{
    BlkRequest r = { blk, offset, qiov->size, qiov, 0, flags };

    aio_start(&kind_write, &r, cb, opaque);
}

void blk_aio_pwrite_zeroes(BlockBackend *blk, int64_t offset, int64_t bytes,
                           BdrvRequestFlags flags, BlockCompletionFunc *cb,
                           void *opaque)
{
    BlkRequest r = { blk, offset, bytes, NULL, 0,
                     flags | BDRV_REQ_ZERO_WRITE };

    aio_start(&kind_zeroes, &r, cb, opaque);
}

void blk_aio_pdiscard(BlockBackend *blk, int64_t offset, int64_t bytes,
                      BlockCompletionFunc *cb, void *opaque)
{
    BlkRequest r = { .blk = blk, .offset = offset, .bytes = bytes };

    aio_start(&kind_discard, &r, cb, opaque);
}

void blk_aio_flush(BlockBackend *blk, BlockCompletionFunc *cb, void *opaque)
{
    BlkRequest r = { .blk = blk };

    aio_start(&kind_flush, &r, cb, opaque);
}
