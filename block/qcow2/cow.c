/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Filling (sub)clusters that a write touches for the first time: guest data in
 * the middle, and around it what the guest could read there before. All of it
 * goes to the file in one request. Behind the old end of the file nothing but
 * the data is written: the file system supplies the zeroes.
 */
#include "util/osdep.h"
#include "util/memalign.h"
#include "block/qcow2/qcow2.h"

/* Head and tail are read together if so little lies between them. */
#define MERGE_READ_GAP 16384
/* More zeroes than this around the data are left to the file system. */
#define BUFFERED_ZEROES_MAX 65536

typedef struct CowPlan {
    Qcow2CowRange r;
    uint8_t *head;
    uint8_t *tail;
    uint8_t *buf;           /* holds both */
} CowPlan;

static uint64_t head_bytes(const CowPlan *p)
{
    return p->r.data - p->r.start;
}

static uint64_t tail_bytes(const CowPlan *p)
{
    return p->r.end - p->r.data_end;
}

/* Guest content, as far as the disk goes; zeroes behind. */
static int coroutine_fn read_part(BlockDriverState *bs, uint64_t offset,
                                  uint64_t bytes, uint8_t *buf)
{
    BDRVQcow2State *s = bs->opaque;
    uint64_t in_disk = offset < s->disk_size
                           ? MIN(bytes, s->disk_size - offset) : 0;
    QEMUIOVector qiov;

    memset(buf + in_disk, 0, bytes - in_disk);
    if (!in_disk) {
        return 0;
    }
    BLKDBG_EVENT(bs->file, BLKDBG_COW_READ);
    qemu_iovec_init_buf(&qiov, buf, in_disk);
    return qcow2_read_guest(bs, offset, in_disk, &qiov, 0);
}

static int coroutine_fn fill_rest(BlockDriverState *bs, CowPlan *p,
                                  bool rest_is_zero)
{
    uint64_t gap = p->r.data_end - p->r.data;
    bool merge = head_bytes(p) && tail_bytes(p) && gap <= MERGE_READ_GAP &&
                 !rest_is_zero;
    uint64_t size = head_bytes(p) + tail_bytes(p) + (merge ? gap : 0);
    int ret = 0;

    p->buf = qemu_try_blockalign(qcow2_data_child(bs)->bs, size);
    if (!p->buf) {
        return -ENOMEM;
    }
    p->head = p->buf;
    p->tail = p->buf + size - tail_bytes(p);
    if (rest_is_zero) {
        memset(p->buf, 0, size);
        return 0;
    }
    if (merge) {
        return read_part(bs, p->r.start, size, p->buf);
    }
    if (head_bytes(p)) {
        ret = read_part(bs, p->r.start, head_bytes(p), p->head);
    }
    if (ret == 0 && tail_bytes(p)) {
        ret = read_part(bs, p->r.data_end, tail_bytes(p), p->tail);
    }
    return ret;
}

static int coroutine_fn write_buf(BlockDriverState *bs, uint64_t host,
                                  uint64_t bytes, void *buf)
{
    return bytes ? bdrv_co_pwrite(qcow2_data_child(bs), host, bytes, buf, 0)
                 : 0;
}

/* One request for all, unless the vector would get too long. */
static int coroutine_fn write_merged(BlockDriverState *bs, CowPlan *p,
                                     QEMUIOVector *qiov, size_t qiov_offset)
{
    uint64_t bytes = p->r.data_end - p->r.data;
    QEMUIOVector all;
    int ret;

    BLKDBG_EVENT(bs->file, BLKDBG_COW_WRITE);
    BLKDBG_EVENT(bs->file, BLKDBG_WRITE_AIO);
    if (qemu_iovec_subvec_niov(qiov, qiov_offset, bytes) + 2 > IOV_MAX) {
        ret = write_buf(bs, p->r.host, head_bytes(p), p->head);
        if (ret == 0) {
            ret = write_buf(bs, p->r.host + (p->r.data_end - p->r.start),
                            tail_bytes(p), p->tail);
        }
        return ret < 0 ? ret
                       : bdrv_co_pwritev_part(qcow2_data_child(bs),
                                              p->r.host + head_bytes(p), bytes,
                                              qiov, qiov_offset, 0);
    }
    qemu_iovec_init_extended(&all, p->head, head_bytes(p), qiov, qiov_offset,
                             bytes, p->tail, tail_bytes(p));
    ret = bdrv_co_pwritev(qcow2_data_child(bs), p->r.host,
                          p->r.end - p->r.start, &all, 0);
    qemu_iovec_destroy(&all);
    return ret;
}

/* Big clusters, small data: let the file make the zeroes. */
static int coroutine_fn write_in_zeroes(BlockDriverState *bs, CowPlan *p,
                                        QEMUIOVector *qiov,
                                        size_t qiov_offset)
{
    int ret;

    BLKDBG_EVENT(bs->file, BLKDBG_CLUSTER_ALLOC_SPACE);
    ret = bdrv_co_pwrite_zeroes(qcow2_data_child(bs), p->r.host,
                                p->r.end - p->r.start, BDRV_REQ_NO_FALLBACK);
    if (ret < 0) {
        return ret;
    }
    BLKDBG_EVENT(bs->file, BLKDBG_WRITE_AIO);
    return bdrv_co_pwritev_part(qcow2_data_child(bs),
                                p->r.host + head_bytes(p),
                                p->r.data_end - p->r.data, qiov, qiov_offset,
                                0);
}

/* All of it is encrypted, zeroes too. */
static int coroutine_fn write_encrypted(BlockDriverState *bs, CowPlan *p,
                                        bool rest_is_zero, QEMUIOVector *qiov,
                                        size_t qiov_offset)
{
    QEMUIOVector all;
    int ret = fill_rest(bs, p, rest_is_zero);

    if (ret == 0) {
        qemu_iovec_init_extended(&all, p->head, head_bytes(p), qiov,
                                 qiov_offset, p->r.data_end - p->r.data,
                                 p->tail, tail_bytes(p));
        ret = qcow2_data_write(bs, p->r.start, p->r.host,
                               p->r.end - p->r.start, &all, 0);
        qemu_iovec_destroy(&all);
    }
    qemu_vfree(p->buf);
    return ret;
}

int coroutine_fn qcow2_cow_write(BlockDriverState *bs,
                                 const Qcow2CowRange *range,
                                 QEMUIOVector *qiov, size_t qiov_offset)
{
    BDRVQcow2State *s = bs->opaque;
    CowPlan p = { .r = *range };
    Qcow2Rest kind = range->rest;
    uint64_t rest;
    int ret;

    if (unlikely(s->has_data_file)) {
        /* It is as long as the disk, not as the last cluster. */
        p.r.end = MIN(p.r.end, MAX(p.r.data_end,
                                   ROUND_UP(s->disk_size, BDRV_SECTOR_SIZE)));
    }
    rest = head_bytes(&p) + tail_bytes(&p);
    if (s->crypto && rest) {
        BLKDBG_EVENT(bs->file, BLKDBG_WRITE_AIO);
        return write_encrypted(bs, &p, kind != QCOW2_REST_COPY, qiov,
                               qiov_offset);
    }
    if (!rest || kind == QCOW2_REST_VIRGIN) {
        BLKDBG_EVENT(bs->file, BLKDBG_WRITE_AIO);
        return qcow2_data_write(bs, p.r.data, p.r.host + head_bytes(&p),
                                p.r.data_end - p.r.data, qiov, qiov_offset);
    }
    if (kind == QCOW2_REST_ZERO && rest > BUFFERED_ZEROES_MAX) {
        ret = write_in_zeroes(bs, &p, qiov, qiov_offset);
        if (ret != -ENOTSUP) {
            return ret;
        }
    }
    ret = fill_rest(bs, &p, kind == QCOW2_REST_ZERO);
    if (ret == 0) {
        ret = write_merged(bs, &p, qiov, qiov_offset);
    }
    qemu_vfree(p.buf);
    return ret;
}
