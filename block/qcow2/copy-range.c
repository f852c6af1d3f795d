/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Letting the kernel copy from an image: each run of clusters that lie
 * together in the file is one copy. Compressed clusters cannot be copied so, nor
 * encrypted ones.
 */
#include "util/osdep.h"
#include "util/atomic.h"
#include "util/lockable.h"
#include "block/qcow2/qcow2.h"

/* What the kernel is to copy; without a target that can take it, nothing. */
typedef struct CopyTarget {
    BdrvChild *child;
    int64_t offset;
    BdrvRequestFlags read_flags;
    BdrvRequestFlags write_flags;
} CopyTarget;

static int coroutine_fn copy_zeroes(const CopyTarget *t, uint64_t bytes)
{
    return bdrv_co_pwrite_zeroes(t->child, t->offset, bytes, t->write_flags);
}

/* A backing file may be shorter than the disk: zeroes from there on. */
static int coroutine_fn copy_backing(BlockDriverState *bs, uint64_t offset,
                                     uint64_t bytes, const CopyTarget *t)
{
    int64_t length = bs->backing ? bdrv_co_getlength(bs->backing->bs) : 0;

    if (length < 0) {
        return length;
    }
    if (bs->backing_lost) {
        return -EIO;
    }
    if (offset >= (uint64_t)length) {
        return copy_zeroes(t, bytes);
    }
    if (bytes > (uint64_t)length - offset) {
        return -ENOTSUP;
    }
    return bdrv_co_copy_range_from(bs->backing, offset, t->child, t->offset,
                                   bytes, t->read_flags, t->write_flags);
}

static int coroutine_fn copy_run(BlockDriverState *bs, uint64_t offset,
                                 uint64_t bytes, uint64_t host,
                                 QCow2ClusterType type, const CopyTarget *t)
{
    BdrvChild *child = qcow2_data_child(bs);
    int64_t length;

    switch (type) {
    case QCOW2_CLUSTER_UNALLOCATED:
        return copy_backing(bs, offset, bytes, t);
    case QCOW2_CLUSTER_ZERO_PLAIN:
        return copy_zeroes(t, bytes);
    case QCOW2_CLUSTER_NORMAL:
        break;
    default:
        return -ENOTSUP;
    }
    /* The kernel would stop where the file ends; reading gives zeroes. */
    length = bdrv_co_getlength(child->bs);
    if (length < 0 || host + bytes > (uint64_t)length) {
        return length < 0 ? length : -ENOTSUP;
    }
    return bdrv_co_copy_range_from(child, host, t->child, t->offset, bytes,
                                   t->read_flags, t->write_flags);
}

static int coroutine_fn copy_runs(BlockDriverState *bs, uint64_t offset,
                                  uint64_t bytes, CopyTarget *t)
{
    BDRVQcow2State *s = bs->opaque;

    while (bytes) {
        uint64_t n = bytes, host, entry;
        QCow2ClusterType type;
        int ret;

        qemu_co_mutex_lock(&s->lock);
        ret = qcow2_get_run_to_read(bs, offset, &n, &host, &type, &entry);
        qemu_co_mutex_unlock(&s->lock);
        if (ret == 0) {
            ret = copy_run(bs, offset, n, host, type, t);
        }
        if (ret < 0) {
            return ret;
        }
        offset += n;
        t->offset += n;
        bytes -= n;
    }
    return 0;
}

int coroutine_fn qcow2_co_copy_range_from(
    BlockDriverState *bs, BdrvChild *src, int64_t src_offset, BdrvChild *dst,
    int64_t dst_offset, int64_t bytes, BdrvRequestFlags read_flags,
    BdrvRequestFlags write_flags)
{
    BDRVQcow2State *s = bs->opaque;
    CopyTarget t = { dst, dst_offset, read_flags, write_flags };
    Qcow2Request req;
    int ret;

    if (s->salvage || bs->encrypted) {
        return -ENOTSUP;
    }
    qcow2_request_begin(&s->inflight, &req, src_offset, bytes, false);
    ret = copy_runs(bs, src_offset, bytes, &t);
    qcow2_request_end(&s->inflight, &req);
    return ret;
}
