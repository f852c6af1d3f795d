/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Requests through a BlockBackend for callers outside coroutines.
 *
 * They queue while the node is drained, like all requests of a backend: do not
 * call them in a drained section.
 */
#include "util/osdep.h"
#include "block/block-backend.h"
#include "block/block_int.h"
#include "block/io-internal.h"
#include "util/iov.h"

typedef struct BlkSync {
    BlockBackend *blk;
    int64_t offset;
    int64_t bytes;
    QEMUIOVector *qiov;
    BdrvRequestFlags flags;
} BlkSync;

static int coroutine_fn preadv_entry(void *opaque)
{
    BlkSync *s = opaque;

    return blk_co_preadv(s->blk, s->offset, s->bytes, s->qiov, s->flags);
}

int blk_preadv(BlockBackend *blk, int64_t offset, int64_t bytes,
               QEMUIOVector *qiov, BdrvRequestFlags flags)
{
    BlkSync s = { blk, offset, bytes, qiov, flags };

    return bdrv_run_co_unlocked(preadv_entry, &s);
}

int blk_pread(BlockBackend *blk, int64_t offset, int64_t bytes, void *buf,
              BdrvRequestFlags flags)
{
    QEMUIOVector qiov = QEMU_IOVEC_INIT_BUF(qiov, buf, bytes);

    return blk_preadv(blk, offset, bytes, &qiov, flags);
}

static int coroutine_fn pwritev_entry(void *opaque)
{
    BlkSync *s = opaque;

    return blk_co_pwritev(s->blk, s->offset, s->bytes, s->qiov, s->flags);
}

int blk_pwritev(BlockBackend *blk, int64_t offset, int64_t bytes,
                QEMUIOVector *qiov, BdrvRequestFlags flags)
{
    BlkSync s = { blk, offset, bytes, qiov, flags };

    return bdrv_run_co_unlocked(pwritev_entry, &s);
}

int blk_pwrite(BlockBackend *blk, int64_t offset, int64_t bytes,
               const void *buf, BdrvRequestFlags flags)
{
    QEMUIOVector qiov = QEMU_IOVEC_INIT_BUF(qiov, buf, bytes);

    return blk_pwritev(blk, offset, bytes, &qiov, flags);
}

int blk_pwrite_compressed(BlockBackend *blk, int64_t offset, int64_t bytes,
                          const void *buf)
{
    return blk_pwrite(blk, offset, bytes, buf, BDRV_REQ_WRITE_COMPRESSED);
}

static int coroutine_fn pwrite_zeroes_entry(void *opaque)
{
    BlkSync *s = opaque;

    return blk_co_pwrite_zeroes(s->blk, s->offset, s->bytes, s->flags);
}

int blk_pwrite_zeroes(BlockBackend *blk, int64_t offset, int64_t bytes,
                      BdrvRequestFlags flags)
{
    BlkSync s = { blk, offset, bytes, NULL, flags };

    return bdrv_run_co_unlocked(pwrite_zeroes_entry, &s);
}

static int coroutine_fn pdiscard_entry(void *opaque)
{
    BlkSync *s = opaque;

    return blk_co_pdiscard(s->blk, s->offset, s->bytes);
}

int blk_pdiscard(BlockBackend *blk, int64_t offset, int64_t bytes)
{
    BlkSync s = { blk, offset, bytes, NULL, 0 };

    return bdrv_run_co_unlocked(pdiscard_entry, &s);
}

static int coroutine_fn flush_entry(void *opaque)
{
    return blk_co_flush(opaque);
}

int blk_flush(BlockBackend *blk)
{
    return bdrv_run_co_unlocked(flush_entry, blk);
}

typedef struct BlkTruncate {
    BlockBackend *blk;
    int64_t offset;
    bool exact;
    PreallocMode prealloc;
    BdrvRequestFlags flags;
    Error **errp;
} BlkTruncate;

static int coroutine_fn truncate_entry(void *opaque)
{
    BlkTruncate *t = opaque;

    return blk_co_truncate(t->blk, t->offset, t->exact, t->prealloc, t->flags,
                           t->errp);
}

int blk_truncate(BlockBackend *blk, int64_t offset, bool exact,
                 PreallocMode prealloc, BdrvRequestFlags flags, Error **errp)
{
    BlkTruncate t = { blk, offset, exact, prealloc, flags, errp };

    return bdrv_run_co_unlocked(truncate_entry, &t);
}

typedef struct BlkLength {
    BlockBackend *blk;
    int64_t result;
} BlkLength;

static int coroutine_fn getlength_entry(void *opaque)
{
    BlkLength *l = opaque;

    l->result = blk_co_getlength(l->blk);
    return 0;
}

int64_t blk_getlength(BlockBackend *blk)
{
    BlkLength l = { .blk = blk };

    bdrv_run_co_unlocked(getlength_entry, &l);
    return l.result;
}
