/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Reading guest data.
 *
 * For each run of clusters that lie together: lock, one lookup, unlock, one
 * read. The request stays registered (inflight.c) until the data is there, so
 * no cluster that it looked up can be freed or moved meanwhile.
 */
#include "util/osdep.h"
#include "util/lockable.h"
#include "util/memalign.h"
#include "block/qcow2/qcow2.h"

/* The backing file may be shorter: zeroes from there on. */
static int coroutine_fn read_backing(BlockDriverState *bs, uint64_t offset,
                                     uint64_t bytes, QEMUIOVector *qiov,
                                     size_t qiov_offset)
{
    if (!bs->backing) {
        qemu_iovec_memset(qiov, qiov_offset, 0, bytes);
        return 0;
    }
    BLKDBG_EVENT(bs->file, BLKDBG_READ_BACKING_AIO);
    return bdrv_co_preadv_part(bs->backing, offset, bytes, qiov, qiov_offset,
                               0);
}

/* @bytes at guest @offset, inside the one cluster that @l2_entry describes. */
static int coroutine_fn read_compressed(BlockDriverState *bs,
                                        uint64_t l2_entry, uint64_t offset,
                                        uint64_t bytes, QEMUIOVector *qiov,
                                        size_t qiov_offset)
{
    BDRVQcow2State *s = bs->opaque;
    QEMU_AUTO_VFREE uint8_t *data = NULL;
    QEMU_AUTO_VFREE uint8_t *cluster = NULL;
    uint64_t coffset;
    int csize, ret;

    qcow2_parse_compressed_l2_entry(s, l2_entry, &coffset, &csize);
    data = qemu_try_blockalign(bs->file->bs, csize);
    cluster = qemu_try_blockalign(bs, s->cluster_size);
    if (!data || !cluster) {
        return -ENOMEM;
    }
    BLKDBG_EVENT(bs->file, BLKDBG_READ_COMPRESSED);
    ret = bdrv_co_pread(bs->file, coffset, csize, data, 0);
    if (ret < 0) {
        return ret;
    }
    if (qcow2_co_decompress(bs, cluster, s->cluster_size, data, csize) < 0) {
        return -EIO;
    }
    qemu_iovec_from_buf(qiov, qiov_offset,
                        cluster + offset_into_cluster(s, offset), bytes);
    return 0;
}

int coroutine_fn qcow2_read_guest(BlockDriverState *bs, uint64_t offset,
                                  uint64_t bytes, QEMUIOVector *qiov,
                                  size_t qiov_offset)
{
    BDRVQcow2State *s = bs->opaque;

    while (bytes) {
        uint64_t n = bytes, host, entry;
        QCow2ClusterType type;
        int ret;

        qemu_co_mutex_lock(&s->lock);
        ret = qcow2_get_host_offset(bs, offset, &n, &host, &type, &entry);
        qemu_co_mutex_unlock(&s->lock);
        if (ret < 0) {
            return ret;
        }

        switch (type) {
        case QCOW2_CLUSTER_UNALLOCATED:
            ret = read_backing(bs, offset, n, qiov, qiov_offset);
            break;
        case QCOW2_CLUSTER_ZERO_PLAIN:
        case QCOW2_CLUSTER_ZERO_ALLOC:
            qemu_iovec_memset(qiov, qiov_offset, 0, n);
            break;
        case QCOW2_CLUSTER_NORMAL:
            BLKDBG_EVENT(bs->file, BLKDBG_READ_AIO);
            ret = bdrv_co_preadv_part(bs->file, host, n, qiov, qiov_offset,
                                      0);
            break;
        case QCOW2_CLUSTER_COMPRESSED:
            ret = read_compressed(bs, entry, offset, n, qiov, qiov_offset);
            break;
        }
        if (ret < 0) {
            return ret;
        }
        offset += n;
        bytes -= n;
        qiov_offset += n;
    }
    return 0;
}

int coroutine_fn qcow2_co_preadv(BlockDriverState *bs, int64_t offset,
                                 int64_t bytes, QEMUIOVector *qiov,
                                 size_t qiov_offset, BdrvRequestFlags flags)
{
    BDRVQcow2State *s = bs->opaque;
    Qcow2Request req;
    int ret;

    if (unlikely(qatomic_read(&s->unusable))) {
        return -ENOMEDIUM;
    }
    qcow2_request_begin(&s->inflight, &req, offset, bytes, false);
    ret = qcow2_read_guest(bs, offset, bytes, qiov, qiov_offset);
    qcow2_request_end(&s->inflight, &req);
    return ret;
}
