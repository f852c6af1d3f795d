/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Writing clusters compressed. Compression happens outside the lock; what does
 * not get smaller is written as usual. A cluster that is allocated already is
 * replaced as a whole.
 */
#include "util/osdep.h"
#include "util/lockable.h"
#include "util/memalign.h"
#include "block/qcow2/compressed.h"
#include "block/qcow2/qcow2.h"

/* Compressed bytes at @host become the content of guest cluster @offset. */
static int coroutine_fn link_compressed(BlockDriverState *bs, uint64_t offset,
                                        uint64_t host, int size)
{
    BDRVQcow2State *s = bs->opaque;
    uint64_t sectors = (host + size - 1) / QCOW2_COMPRESSED_SECTOR_SIZE -
                       host / QCOW2_COMPRESSED_SECTOR_SIZE;
    uint64_t *slice, old;
    int idx, ret;

    if (qcow2_is_stopped(s)) {
        return -EUCLEAN;
    }
    ret = qcow2_l2_get_writable(bs, offset, &slice, &idx);
    if (ret < 0) {
        return ret;
    }
    BLKDBG_EVENT(bs->file, BLKDBG_L2_UPDATE_COMPRESSED);
    old = get_l2_entry(s, slice, idx);
    set_l2_entry(s, slice, idx, host | QCOW_OFLAG_COMPRESSED |
                                (sectors << s->csize_shift));
    set_l2_bitmap(s, slice, idx, 0);
    qcow2_cache_entry_mark_dirty(s->l2_table_cache, slice);
    qcow2_cache_put(s->l2_table_cache, (void **)&slice);
    qcow2_free_any_cluster(bs, old, QCOW2_DISCARD_OTHER);
    s->unflushed = true;
    return 0;
}

/* Takes space for @size bytes and checks that an L2 entry can name it. */
static int64_t coroutine_fn alloc_compressed(BlockDriverState *bs, int size)
{
    BDRVQcow2State *s = bs->opaque;
    int64_t host;
    int ret;

    ret = qcow2_begin_change(bs);
    if (ret < 0) {
        return ret;
    }
    host = qcow2_alloc_bytes(bs, size);
    if (host < 0) {
        return host;
    }
    if ((host & s->cluster_offset_mask) != host) {
        qcow2_unalloc_clusters(bs, host, size);
        return -EFBIG;
    }
    ret = qcow2_pre_write_overlap_check(bs, 0, host, size);
    return ret < 0 ? ret : host;
}

/* The caller holds the cluster exclusively. */
static int coroutine_fn store_compressed(BlockDriverState *bs, uint64_t offset,
                                         const void *data, int size)
{
    BDRVQcow2State *s = bs->opaque;
    int64_t host;
    int ret;

    qemu_co_mutex_lock(&s->lock);
    host = alloc_compressed(bs, size);
    qemu_co_mutex_unlock(&s->lock);
    if (host < 0) {
        return host;
    }
    BLKDBG_EVENT(bs->file, BLKDBG_WRITE_COMPRESSED);
    ret = bdrv_co_pwrite(bs->file, host, size, data, 0);

    QEMU_LOCK_GUARD(&s->lock);
    if (ret == 0) {
        ret = link_compressed(bs, offset, host, size);
    }
    if (ret < 0) {
        qcow2_unalloc_clusters(bs, host, size);
        return ret;
    }
    return qcow2_free_throttle(bs);
}

/* One cluster; @bytes is less only at the end of the disk. */
static int coroutine_fn write_cluster(BlockDriverState *bs, uint64_t offset,
                                      uint64_t bytes, QEMUIOVector *qiov,
                                      size_t qiov_offset)
{
    BDRVQcow2State *s = bs->opaque;
    QEMU_AUTO_VFREE uint8_t *in = qemu_try_blockalign(bs, s->cluster_size);
    QEMU_AUTO_VFREE uint8_t *out = qemu_try_blockalign(bs, s->cluster_size);
    Qcow2Request req;
    ssize_t size;
    bool whole;
    int ret;

    if (!in || !out) {
        return -ENOMEM;
    }
    memset(in + bytes, 0, s->cluster_size - bytes);
    qemu_iovec_to_buf(qiov, qiov_offset, in, bytes);
    size = qcow2_co_compress(bs, out, s->cluster_size - 1, in,
                             s->cluster_size);
    if (size == -ENOMEM) {
        return qcow2_co_pwritev(bs, offset, bytes, qiov, qiov_offset, 0);
    }
    if (size < 0) {
        return -EINVAL;
    }
    qcow2_request_begin(&s->inflight, &req, offset, bytes, true);
    /* While the request lasts nobody writes behind an end that moves. */
    whole = bytes == s->cluster_size ||
            offset + bytes >= qatomic_read(&s->disk_size);
    ret = whole ? store_compressed(bs, offset, out, size) : 0;
    qcow2_request_end(&s->inflight, &req);
    /* The disk grew: the rest of the cluster is no longer ours to fill. */
    return whole ? ret
                 : qcow2_co_pwritev(bs, offset, bytes, qiov, qiov_offset, 0);
}

int coroutine_fn qcow2_co_pwritev_compressed(BlockDriverState *bs,
                                             int64_t offset, int64_t bytes,
                                             QEMUIOVector *qiov,
                                             size_t qiov_offset)
{
    BDRVQcow2State *s = bs->opaque;

    if (s->has_data_file) {
        return -ENOTSUP;
    }
    if (!bytes) {
        /* The end of a stream: nothing is held back here. */
        return 0;
    }
    if (offset_into_cluster(s, offset) ||
        (offset_into_cluster(s, bytes) &&
         (uint64_t)offset + bytes != qatomic_read(&s->disk_size))) {
        return -EINVAL;
    }
    if (bs->encrypted) {
        /* Compressed clusters would not be. */
        return qcow2_co_pwritev(bs, offset, bytes, qiov, qiov_offset, 0);
    }
    while (bytes) {
        uint64_t n = MIN(bytes, (int64_t)s->cluster_size);
        int ret = write_cluster(bs, offset, n, qiov, qiov_offset);

        if (ret < 0) {
            return ret;
        }
        offset += n;
        bytes -= n;
        qiov_offset += n;
    }
    return 0;
}
