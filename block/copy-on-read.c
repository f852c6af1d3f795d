/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Copy-on-read: a read that leaves what it had to fetch from below in the
 * node itself.
 *
 * The request serialises over whole clusters. Writes therefore cannot come
 * between its look at the allocation and the write of what it read, and the
 * content seen above stays the same: no bitmap is told.
 */
#include "util/osdep.h"
#include "block/block_int.h"
#include "block/io-internal.h"
#include "block/tracked-request.h"
#include "util/iov.h"

/* Longest piece that is read and stored at a time, in bytes. */
#define COR_MAX (16 << 20)

int64_t coroutine_fn bdrv_co_round_to_clusters(BlockDriverState *bs,
                                               int64_t offset, int64_t bytes,
                                               int64_t *cluster_offset,
                                               int64_t *cluster_bytes)
{
    int64_t align = bs->bl.request_alignment;
    BlockDriverInfo bdi;

    if (bdrv_co_get_info(bs, &bdi) >= 0 && bdi.subcluster_size > align &&
        QEMU_IS_ALIGNED(bdi.subcluster_size, align)) {
        align = bdi.subcluster_size;
    }
    *cluster_offset = QEMU_ALIGN_DOWN(offset, align);
    *cluster_bytes = QEMU_ALIGN_UP(offset + bytes, align) - *cluster_offset;
    return align;
}

/* A copy-on-read request. */
typedef struct CopyOnRead {
    BlockDriverState *bs;
    /* What was asked for. */
    int64_t offset;
    int64_t bytes;
    QEMUIOVector *qiov;
    size_t qiov_offset;
    bool prefetch;
    /* Memory for one piece, made when first needed. */
    uint8_t *buf;
    int64_t buf_bytes;
} CopyOnRead;

/* The part of a piece that was asked for: bytes, 0 if there is none. */
static int64_t wanted_part(const CopyOnRead *cor, int64_t offset,
                           int64_t bytes, int64_t *skip)
{
    int64_t start = MAX(offset, cor->offset);
    int64_t end = MIN(offset + bytes, cor->offset + cor->bytes);

    *skip = start - offset;
    return cor->prefetch ? 0 : MAX(end - start, 0);
}

static int coroutine_fn store_piece(CopyOnRead *cor, int64_t offset,
                                    int64_t bytes)
{
    BlockDriverState *bs = cor->bs;
    QEMUIOVector qiov = QEMU_IOVEC_INIT_BUF(qiov, cor->buf, bytes);

    bdrv_co_debug_event(bs, BLKDBG_COR_WRITE);
    if (bs->drv->bdrv_co_pwrite_zeroes &&
        qemu_iovec_is_zero(&qiov, 0, bytes)) {
        return bdrv_driver_pwrite_zeroes(bs, offset, bytes,
                                         BDRV_REQ_WRITE_UNCHANGED);
    }
    return bdrv_driver_pwritev(bs, offset, bytes, &qiov, 0,
                               BDRV_REQ_WRITE_UNCHANGED);
}

/* A piece that the node does not hold. */
static int coroutine_fn copy_piece(CopyOnRead *cor, int64_t offset,
                                   int64_t bytes)
{
    int64_t skip, wanted = wanted_part(cor, offset, bytes, &skip);
    QEMUIOVector qiov;
    int ret;

    if (!cor->buf) {
        cor->buf = qemu_try_blockalign(cor->bs, cor->buf_bytes);
        if (!cor->buf) {
            return -ENOMEM;
        }
    }
    qemu_iovec_init_buf(&qiov, cor->buf, bytes);
    ret = bdrv_co_read_aligned(cor->bs, offset, bytes, &qiov, 0, 0);
    if (ret >= 0) {
        ret = store_piece(cor, offset, bytes);
    }
    if (ret >= 0 && wanted) {
        qemu_iovec_from_buf(cor->qiov,
                            cor->qiov_offset + offset + skip - cor->offset,
                            cor->buf + skip, wanted);
    }
    return ret;
}

/* A piece that the node holds itself. */
static int coroutine_fn read_piece(CopyOnRead *cor, int64_t offset,
                                   int64_t bytes)
{
    int64_t skip, wanted = wanted_part(cor, offset, bytes, &skip);

    if (!wanted) {
        return 0;
    }
    offset += skip;
    return bdrv_co_read_aligned(cor->bs, offset, wanted, cor->qiov,
                                cor->qiov_offset + offset - cor->offset, 0);
}

static int coroutine_fn copy_range(CopyOnRead *cor, int64_t offset,
                                   int64_t bytes)
{
    int64_t align = cor->bs->bl.request_alignment;
    int64_t n;
    int ret = 0;

    while (bytes > 0 && ret >= 0) {
        int64_t max = MIN(bytes, cor->buf_bytes);

        ret = bdrv_co_is_allocated(cor->bs, offset, max, &n);
        /* After an error the read is going to say what is wrong. */
        n = ret < 0 || n == 0 ? max : MIN(QEMU_ALIGN_UP(n, align), max);
        if (ret > 0) {
            ret = read_piece(cor, offset, n);
        } else {
            ret = copy_piece(cor, offset, n);
        }
        offset += n;
        bytes -= n;
    }
    return ret;
}

int coroutine_fn bdrv_co_copy_on_readv(BdrvChild *child,
                                       BdrvTrackedRequest *req,
                                       int64_t offset, int64_t bytes,
                                       QEMUIOVector *qiov, size_t qiov_offset,
                                       BdrvRequestFlags flags)
{
    BlockDriverState *bs = child->bs;
    int64_t align = bs->bl.request_alignment;
    int64_t start, len, end, length, cluster;
    CopyOnRead cor = {
        .bs = bs,
        .offset = offset,
        .bytes = bytes,
        .qiov = qiov,
        .qiov_offset = qiov_offset,
        .prefetch = flags & BDRV_REQ_PREFETCH,
    };
    int ret;

    assert(child->perm & (BLK_PERM_WRITE_UNCHANGED | BLK_PERM_WRITE));
    if (!(bs->open_flags & BDRV_O_RDWR)) {
        return -EPERM;
    }
    cluster = bdrv_co_round_to_clusters(bs, offset, bytes, &start, &len);
    ret = tracked_request_serialise(req, cluster, flags & BDRV_REQ_NO_WAIT);
    if (ret < 0) {
        return ret;
    }
    length = bdrv_co_exact_length(bs);
    if (length < 0) {
        return length;
    }
    /* Clusters end with the node; what is asked for beyond it is zeroes. */
    end = MIN(start + len, ROUND_UP(length, align));
    if (start < end) {
        cor.buf_bytes = MIN(end - start, MAX(COR_MAX, cluster));
        ret = copy_range(&cor, start, end - start);
        qemu_vfree(cor.buf);
    }
    end = MAX(end, offset);
    if (ret >= 0 && !cor.prefetch && end < offset + bytes) {
        qemu_iovec_memset(qiov, qiov_offset + end - offset, 0,
                          offset + bytes - end);
    }
    return ret;
}
