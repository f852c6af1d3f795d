/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Changing the size of the disk.
 *
 * Growing: the L1 table first, then whatever must read as zeroes, then, as the
 * step that makes it true, the size in the header. Shrinking: what lies
 * behind the new end is discarded, then the header changes, and the file loses
 * its free end.
 */
#include "util/osdep.h"
#include "util/error.h"
#include "util/lockable.h"
#include "util/memalign.h"
#include "block/qcow2/bitmap.h"
#include "block/qcow2/qcow2.h"

#define ZERO_BUFFER (1024 * 1024)

/* Writes zeroes as data; for where a flag cannot say it. */
static int coroutine_fn write_zero_buffer(BlockDriverState *bs,
                                          uint64_t offset, uint64_t end)
{
    QEMU_AUTO_VFREE void *buf = NULL;
    uint64_t size = MIN(end - offset, ZERO_BUFFER);

    if (offset >= end) {
        return 0;
    }
    buf = qemu_try_blockalign(bs, size);
    if (!buf) {
        return -ENOMEM;
    }
    memset(buf, 0, size);
    while (offset < end) {
        uint64_t n = MIN(end - offset, size);
        QEMUIOVector qiov;
        int ret;

        qemu_iovec_init_buf(&qiov, buf, n);
        ret = qcow2_co_pwritev(bs, offset, n, &qiov, 0, 0);
        if (ret < 0) {
            return ret;
        }
        offset += n;
    }
    return 0;
}

/* The rest of the cluster in which the disk ended must not show old bytes. */
static int coroutine_fn clear_last_cluster(BlockDriverState *bs,
                                           uint64_t old_size,
                                           uint64_t new_size, bool zero)
{
    BDRVQcow2State *s = bs->opaque;
    uint64_t end = MIN(ROUND_UP(old_size, (uint64_t)s->cluster_size),
                       new_size);
    uint64_t n, host, entry;
    QCow2ClusterType type;
    int ret = 0;

    for (; ret == 0 && old_size < end; old_size += n) {
        n = end - old_size;
        qemu_co_mutex_lock(&s->lock);
        ret = qcow2_get_run_to_read(bs, old_size, &n, &host, &type, &entry);
        qemu_co_mutex_unlock(&s->lock);
        if (ret == 0 &&
            (type == QCOW2_CLUSTER_NORMAL || type == QCOW2_CLUSTER_COMPRESSED ||
             (type == QCOW2_CLUSTER_UNALLOCATED && bs->backing && zero))) {
            ret = write_zero_buffer(bs, old_size, old_size + n);
        }
    }
    return ret;
}

/* The new part, from a cluster boundary on, must hide the backing file. */
static int coroutine_fn zero_new_area(BlockDriverState *bs, uint64_t offset,
                                      uint64_t end)
{
    BDRVQcow2State *s = bs->opaque;
    int ret;

    offset = ROUND_UP(offset, (uint64_t)s->cluster_size);
    if (offset >= end || !bs->backing) {
        return 0;
    }
    ret = qcow2_co_pwrite_zeroes(bs, offset,
                                 ROUND_UP(end, (uint64_t)s->cluster_size) -
                                 offset, 0);
    return ret == -ENOTSUP ? write_zero_buffer(bs, offset, end) : ret;
}

/* L1 entries behind the disk: leftovers that must not become guest data. */
static int coroutine_fn prepare_l1(BlockDriverState *bs, uint64_t old_size,
                                   uint64_t new_size)
{
    BDRVQcow2State *s = bs->opaque;
    int ret;

    QEMU_LOCK_GUARD(&s->lock);
    ret = qcow2_begin_change(bs);
    if (ret < 0) {
        return ret;
    }
    for (uint64_t i = size_to_l1(s, old_size); i < s->l1.size; i++) {
        if (s->l1.entries[i]) {
            ret = qcow2_shrink_l1_table(bs, size_to_l1(s, old_size));
            break;
        }
    }
    return ret < 0 ? ret : qcow2_grow_l1_table(bs, size_to_l1(s, new_size),
                                               true);
}

/*
 * What a raw data file has behind the old end becomes part of the disk, and
 * must read as zeroes without any L2 entry that says so.
 */
static int coroutine_fn clear_raw_tail(BlockDriverState *bs, uint64_t old_size,
                                       uint64_t new_size, Error **errp)
{
    BDRVQcow2State *s = bs->opaque;
    int64_t length = bdrv_co_getlength(s->data_file->bs);
    uint64_t end = MIN(MAX(length, 0), new_size);
    int ret = 0;

    if (length < 0) {
        ret = length;
    } else if (end > old_size) {
        ret = bdrv_co_pwrite_zeroes(s->data_file, old_size, end - old_size,
                                    BDRV_REQ_MAY_UNMAP);
    }
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Failed to clear the end of the data "
                         "file");
    }
    return ret;
}

/* The data file of a disk that grows; new clusters are mapped already. */
static int coroutine_fn grow_data_file(BlockDriverState *bs, uint64_t new_size,
                                       bool exact, Error **errp)
{
    BDRVQcow2State *s = bs->opaque;

    return s->has_data_file
               ? qcow2_data_file_resize(bs, new_size, exact, errp) : 0;
}

static int coroutine_fn grow(BlockDriverState *bs, uint64_t old_size,
                             uint64_t new_size, bool exact,
                             PreallocMode prealloc, BdrvRequestFlags flags,
                             Error **errp)
{
    BDRVQcow2State *s = bs->opaque;
    bool zero = flags & BDRV_REQ_ZERO_WRITE;
    bool maps_data;
    int ret;

    if (qcow2_data_file_is_raw(bs)) {
        ret = clear_raw_tail(bs, old_size, new_size, errp);
        if (ret < 0) {
            return ret;
        }
        prealloc = MAX(prealloc, PREALLOC_MODE_METADATA);
    }

    ret = prepare_l1(bs, old_size, new_size);
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Failed to grow the L1 table");
        return ret;
    }
    /* A cluster that is mapped hides the backing file, unless it has
     * subclusters: what the last one shows of it must be copied before. */
    maps_data = prealloc != PREALLOC_MODE_OFF && !s->extended_l2;
    ret = clear_last_cluster(bs, old_size, new_size, zero || maps_data);
    if (ret == 0 && zero && !maps_data) {
        ret = zero_new_area(bs, old_size, new_size);
    }
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Failed to zero out the new area");
        return ret;
    }
    if (prealloc != PREALLOC_MODE_OFF) {
        ret = qcow2_co_preallocate(bs, old_size, new_size, prealloc, false,
                                   errp);
    }
    return ret < 0 ? ret : grow_data_file(bs, new_size, exact, errp);
}

static int coroutine_fn shrink(BlockDriverState *bs, uint64_t old_size,
                               uint64_t new_size, PreallocMode prealloc,
                               Error **errp)
{
    BDRVQcow2State *s = bs->opaque;
    uint64_t start = ROUND_UP(new_size, (uint64_t)s->cluster_size);
    uint64_t end = ROUND_UP(old_size, (uint64_t)s->cluster_size);
    Qcow2Request req;
    int ret;

    if (prealloc != PREALLOC_MODE_OFF) {
        error_setg(errp, "Preallocation can't be used for shrinking an image");
        return -EINVAL;
    }
    qcow2_request_begin(&s->inflight, &req, start, end - start, true);
    ret = qcow2_cluster_discard(bs, start, end - start, QCOW2_DISCARD_ALWAYS,
                                true);
    qcow2_request_end(&s->inflight, &req);
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Failed to discard cropped clusters");
        return ret;
    }
    QEMU_LOCK_GUARD(&s->lock);
    ret = qcow2_shrink_l1_table(bs, size_to_l1(s, new_size));
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Failed to reduce the number of L2 "
                         "tables");
    }
    return ret;
}

/* One more than the last cluster that is in use. [lock] */
static int64_t coroutine_fn used_end(BlockDriverState *bs)
{
    BDRVQcow2State *s = bs->opaque;
    uint64_t clusters = (s->max_refcount_table_index + 1ULL)
                        << s->refcount_block_bits;

    while (clusters > 1) {
        uint64_t refcount;
        int ret = qcow2_get_refcount(bs, clusters - 1, &refcount);

        if (ret < 0) {
            return ret;
        }
        if (refcount) {
            break;
        }
        clusters--;
    }
    return MAX(clusters, qcow2_guard_end(s));
}

/*
 * Guest data is written without the lock and may make the file longer at any
 * time, so the refcounts decide where it ends, not its length.
 */
void coroutine_fn qcow2_trim_file(BlockDriverState *bs)
{
    BDRVQcow2State *s = bs->opaque;
    int64_t length, clusters;
    int ret;

    QEMU_LOCK_GUARD(&s->lock);
    ret = qcow2_flush_metadata(bs);
    if (ret == 0) {
        clusters = used_end(bs);
        length = bdrv_co_getlength(bs->file->bs);
        if (clusters > 0 && clusters << s->cluster_bits < length) {
            ret = bdrv_co_truncate(bs->file, clusters << s->cluster_bits,
                                   false, PREALLOC_MODE_OFF, 0, NULL);
        }
    }
    if (ret < 0) {
        warn_report("%s: free space at the end of the file is not given "
                    "back: %s", bdrv_get_device_or_node_name(bs),
                    strerror(-ret));
    }
}

static int coroutine_fn set_size(BlockDriverState *bs, uint64_t size,
                                 Error **errp)
{
    BDRVQcow2State *s = bs->opaque;
    int ret;

    QEMU_LOCK_GUARD(&s->lock);
    /* Stored bitmaps do not go with the new size, also those not recording. */
    ret = s->bitmaps_kept ? qcow2_bitmaps_mark(bs, true)
                          : qcow2_begin_change(bs);
    if (ret == 0) {
        ret = qcow2_flush_metadata(bs);
    }
    if (ret == 0) {
        /* Zeroes that the new size shows must not come after it. */
        ret = qcow2_flush_files(bs);
    }
    if (ret == 0) {
        ret = qcow2_header_write_size(bs, size);
    }
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Failed to update the image size");
        return ret;
    }
    qcow2_bitmaps_report_resize(bs);
    qatomic_set(&s->disk_size, size);
    s->l1_vm_state_index = size_to_l1(s, size);
    /* Its sector has the size, too: for the next time that it is written. */
    s->guard.unsettled = s->guard.state == QCOW2_GUARD_ON;
    return 0;
}

int coroutine_fn qcow2_co_truncate(BlockDriverState *bs, int64_t offset,
                                   bool exact, PreallocMode prealloc,
                                   BdrvRequestFlags flags, Error **errp)
{
    BDRVQcow2State *s = bs->opaque;
    uint64_t old_size = s->disk_size, new_size = offset;
    int ret;

    ret = qcow2_check_not_stopped(bs, errp);
    if (ret < 0) {
        return ret;
    }
    if (!QEMU_IS_ALIGNED(offset, BDRV_SECTOR_SIZE)) {
        error_setg(errp, "The new size must be a multiple of %u",
                   (unsigned)BDRV_SECTOR_SIZE);
        return -EINVAL;
    }
    if (s->nb_snapshots && s->qcow_version < 3) {
        error_setg(errp, "Can't resize a v2 image which has snapshots");
        return -ENOTSUP;
    }
    if (size_to_l1(s, new_size) > QCOW_MAX_L1_SIZE / L1E_SIZE) {
        error_setg(errp, "The image size is too large (try using a larger "
                   "cluster size)");
        return -EFBIG;
    }
    ret = new_size < old_size
              ? shrink(bs, old_size, new_size, prealloc, errp)
              : grow(bs, old_size, new_size, exact, prealloc, flags, errp);
    if (ret == 0) {
        ret = set_size(bs, new_size, errp);
    }
    if (ret < 0) {
        return ret;
    }
    if (new_size < old_size) {
        qcow2_trim_file(bs);
    }
    qemu_co_mutex_lock(&s->lock);
    qcow2_resize_caches(bs);
    qemu_co_mutex_unlock(&s->lock);
    /* Last: an image whose data file is too short could not be opened. */
    return new_size < old_size && s->has_data_file
               ? qcow2_data_file_resize(bs, new_size, false, errp) : 0;
}
