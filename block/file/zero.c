/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the kernel does to a file without our data: zeroing, giving space
 * back, and copying between files.
 *
 * Whether a file system knows an operation is learned from the first refusal
 * and kept in the node. -ENOTSUP makes the generic layer use plain writes.
 *
 * Other writers may extend the file at the same moment: nothing here uses
 * ftruncate(), which would cut off what they wrote.
 */
#include "util/osdep.h"
#include <linux/falloc.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include "block/file/file-int.h"
#include "util/thread-pool.h"

typedef struct SpaceJob {
    BDRVFileState *s;
    int64_t offset;
    int64_t bytes;
    bool may_unmap;
    bool no_fallback;
} SpaceJob;

static int translate_errno(int err)
{
    switch (err) {
    case EOPNOTSUPP:
    case ENOSYS:
    case ENODEV:
    case ENOTTY:
        return -ENOTSUP;
    default:
        return -err;
    }
}

/* fallocate() unless *@unsupported says it is in vain. 0 or -errno. */
static int try_fallocate(BDRVFileState *s, int mode, int64_t offset,
                         int64_t bytes, bool *unsupported)
{
    int ret;

    if (qatomic_read(unsupported)) {
        return -ENOTSUP;
    }
    ret = RETRY_ON_EINTR(fallocate(s->fd, mode, offset, bytes));
    if (ret == 0) {
        return 0;
    }
    ret = translate_errno(errno);
    if (ret == -ENOTSUP) {
        qatomic_set(unsupported, true);
    } else if (ret == -EINVAL) {
        /* Some file systems mean "not this range": use other ways for it. */
        ret = -ENOTSUP;
    }
    return ret;
}

static int punch_hole(BDRVFileState *s, int64_t offset, int64_t bytes)
{
    return try_fallocate(s, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                         offset, bytes, &s->no_punch_hole);
}

/* Makes the file reach to @end at least; changes no data. */
static int extend_to(BDRVFileState *s, int64_t end)
{
    return try_fallocate(s, 0, end - 1, 1, &s->no_fallocate);
}

/* --- zeroing --- */

static int zero_regular(SpaceJob *j)
{
    BDRVFileState *s = j->s;
    int64_t end = j->offset + j->bytes;
    int64_t length = file_fd_length(s->fd);
    int ret;

    if (length < 0) {
        return length;
    }
    if (j->may_unmap) {
        ret = j->offset < length ? punch_hole(s, j->offset, j->bytes) : 0;
        if (ret == 0 && end > length) {
            ret = extend_to(s, end);
        }
        if (ret != -ENOTSUP) {
            return ret;
        }
    }
    ret = try_fallocate(s, FALLOC_FL_ZERO_RANGE, j->offset, j->bytes,
                        &s->no_zero_range);
    if (ret != -ENOTSUP) {
        return ret;
    }
    if (j->offset < length) {
        /* Take the space away and get it back without the old data. */
        if (qatomic_read(&s->no_fallocate)) {
            return -ENOTSUP;
        }
        ret = punch_hole(s, j->offset, j->bytes);
        if (ret < 0) {
            return ret;
        }
    }
    return try_fallocate(s, 0, j->offset, j->bytes, &s->no_fallocate);
}

static int zero_block_device(SpaceJob *j)
{
    BDRVFileState *s = j->s;
    uint64_t range[2] = { j->offset, j->bytes };
    int ret;

    if (j->may_unmap) {
        /* The kernel refuses this where the device would not read zeroes. */
        ret = punch_hole(s, j->offset, j->bytes);
        if (ret != -ENOTSUP) {
            return ret;
        }
    }
    /* BLKZEROOUT writes zeroes itself if the device cannot. */
    if (j->no_fallback || qatomic_read(&s->no_blkzeroout) ||
        !QEMU_IS_ALIGNED(j->offset | j->bytes, 512)) {
        return -ENOTSUP;
    }
    if (RETRY_ON_EINTR(ioctl(s->fd, BLKZEROOUT, range)) == 0) {
        return 0;
    }
    ret = translate_errno(errno);
    if (ret == -ENOTSUP) {
        qatomic_set(&s->no_blkzeroout, true);
    }
    return ret == -EINVAL ? -ENOTSUP : ret;
}

static int zero_worker(void *opaque)
{
    SpaceJob *j = opaque;

    return j->s->is_device ? zero_block_device(j) : zero_regular(j);
}

int coroutine_fn file_co_pwrite_zeroes(BlockDriverState *bs, int64_t offset,
                                       int64_t bytes, BdrvRequestFlags flags)
{
    BDRVFileState *s = bs->opaque;
    SpaceJob j = {
        .s = s,
        .offset = offset,
        .bytes = bytes,
        .may_unmap = flags & BDRV_REQ_MAY_UNMAP,
        .no_fallback = flags & BDRV_REQ_NO_FALLBACK,
    };
    int ret;

    if (s->is_device && !s->is_block_device) {
        return -ENOTSUP;
    }
    ret = thread_pool_submit_co(zero_worker, &j);
    file_extents_freed(&s->extents, offset, bytes);
    return ret;
}

/* --- discarding --- */

static int discard_worker(void *opaque)
{
    SpaceJob *j = opaque;
    BDRVFileState *s = j->s;
    uint64_t range[2] = { j->offset, j->bytes };
    int ret;

    if (!s->is_device) {
        return punch_hole(s, j->offset, j->bytes);
    }
    if (qatomic_read(&s->no_blkdiscard)) {
        return -ENOTSUP;
    }
    if (RETRY_ON_EINTR(ioctl(s->fd, BLKDISCARD, range)) == 0) {
        return 0;
    }
    ret = translate_errno(errno);
    if (ret == -ENOTSUP) {
        qatomic_set(&s->no_blkdiscard, true);
    }
    return ret == -EINVAL ? -ENOTSUP : ret;
}

int coroutine_fn file_co_pdiscard(BlockDriverState *bs, int64_t offset,
                                  int64_t bytes)
{
    BDRVFileState *s = bs->opaque;
    SpaceJob j = { .s = s, .offset = offset, .bytes = bytes };
    int ret;

    if (!(bs->open_flags & BDRV_O_UNMAP) ||
        (s->is_device && !s->is_block_device)) {
        return -ENOTSUP;
    }
    ret = thread_pool_submit_co(discard_worker, &j);
    file_extents_freed(&s->extents, offset, bytes);
    return ret;
}

/* --- copying --- */

typedef struct CopyJob {
    int in_fd, out_fd;
    int64_t in_offset, out_offset;
    int64_t bytes;
} CopyJob;

static int copy_worker(void *opaque)
{
    CopyJob *j = opaque;
    off_t in = j->in_offset, out = j->out_offset;
    int64_t left = j->bytes;
    int64_t length = file_fd_length(j->in_fd);

    if (length < 0 || j->in_offset > length - j->bytes) {
        /* Zeroes behind the end cannot be copied. */
        return -ENOTSUP;
    }
    while (left > 0) {
        ssize_t n = copy_file_range(j->in_fd, &in, j->out_fd, &out, left, 0);

        if (n > 0) {
            left -= n;
            continue;
        }
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0 && errno != EINVAL && errno != EXDEV && errno != ETXTBSY &&
            translate_errno(errno) != -ENOTSUP) {
            return -errno;
        }
        /*
         * Not between these files, or the source became shorter. What is
         * already copied does no harm: the caller copies all of it again.
         */
        return -ENOTSUP;
    }
    return 0;
}

int coroutine_fn file_co_copy_range_from(
    BlockDriverState *bs, BdrvChild *src, int64_t src_offset, BdrvChild *dst,
    int64_t dst_offset, int64_t bytes, BdrvRequestFlags read_flags,
    BdrvRequestFlags write_flags)
{
    return bdrv_co_copy_range_to(src, src_offset, dst, dst_offset, bytes,
                                 read_flags, write_flags);
}

int coroutine_fn file_co_copy_range_to(
    BlockDriverState *bs, BdrvChild *src, int64_t src_offset, BdrvChild *dst,
    int64_t dst_offset, int64_t bytes, BdrvRequestFlags read_flags,
    BdrvRequestFlags write_flags)
{
    BDRVFileState *s = bs->opaque;
    BDRVFileState *src_s;
    CopyJob j;
    int ret;

    assert(dst->bs == bs);
    if (src->bs->drv->bdrv_co_copy_range_to != file_co_copy_range_to) {
        return -ENOTSUP;
    }
    src_s = src->bs->opaque;
    if (src_s->is_device || s->is_device) {
        return -ENOTSUP;
    }
    j = (CopyJob) {
        .in_fd = src_s->fd,
        .in_offset = src_offset,
        .out_fd = s->fd,
        .out_offset = dst_offset,
        .bytes = bytes,
    };
    ret = thread_pool_submit_co(copy_worker, &j);
    /* Shared blocks bring the holes of the source with them. */
    file_extents_freed(&s->extents, dst_offset, bytes);
    return ret;
}
