/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Reading, writing and flushing a file through one of the engines.
 *
 * An engine moves some of a vector and may stop early; the loops here go on
 * until everything has moved. Behind the end of the file there are zeroes.
 * Alignment of memory and ranges is the generic layer's care.
 */
#include "util/osdep.h"
#include "block/file/file-int.h"
#include "util/aio.h"
#include "util/iov.h"
#include "util/lockable.h"
#include "util/thread-pool.h"

/* Elements that a copied vector has room for without allocating. */
#define LOCAL_IOV 16

/*
 * Up to so many bytes it is faster to copy what is in memory here than to
 * change threads twice.
 */
#define INLINE_MAX (64 * 1024)

/* --- engines --- */

typedef struct FileTransfer {
    BDRVFileState *s;
    int fd;
    bool write;
    int rwf_flags;
    const struct iovec *iov;
    int niov;
    int64_t offset;
    int64_t bytes;
} FileTransfer;

static int transfer_worker(void *opaque)
{
    FileTransfer *t = opaque;
    ssize_t ret;

    if (!t->write) {
        ret = RETRY_ON_EINTR(preadv(t->fd, t->iov, t->niov, t->offset));
    } else if (t->rwf_flags) {
        ret = RETRY_ON_EINTR(pwritev2(t->fd, t->iov, t->niov, t->offset,
                                      t->rwf_flags));
    } else {
        ret = RETRY_ON_EINTR(pwritev(t->fd, t->iov, t->niov, t->offset));
    }
    /* The kernel moves less than 2 GiB in one call. */
    return ret < 0 ? -errno : (int)ret;
}

/*
 * The kernel lets one writer of a file in and the others spin, with a whole
 * processor each: they sleep instead.
 */
static int memory_write_worker(void *opaque)
{
    FileTransfer *t = opaque;

    QEMU_LOCK_GUARD(&t->s->memory_write);
    return transfer_worker(t);
}

/*
 * Files without a device, for every engine: io_uring would hand them all to one
 * kernel thread, and Linux AIO copies before it returns.
 */
static int coroutine_fn memory_transfer(FileTransfer *t)
{
    if (t->bytes > INLINE_MAX) {
        return thread_pool_submit_co(t->write ? memory_write_worker
                                              : transfer_worker, t);
    }
    return t->write ? aio_inline_co_writev(t->fd, t->iov, t->niov, t->offset,
                                           t->rwf_flags)
                    : aio_inline_co_readv(t->fd, t->iov, t->niov, t->offset);
}

/* Bytes moved, or -errno. */
static int coroutine_fn engine_transfer(BDRVFileState *s, FileTransfer *t)
{
    if (s->in_memory) {
        return memory_transfer(t);
    }
    if (s->engine == FILE_ENGINE_THREADS && !t->write &&
        t->bytes <= INLINE_MAX) {
        /* Looks into the page cache first. */
        return aio_threads_co_readv(t->fd, t->iov, t->niov, t->offset);
    }
    if (s->engine == FILE_ENGINE_THREADS) {
        return thread_pool_submit_co(transfer_worker, t);
    }
    if (s->engine == FILE_ENGINE_NATIVE) {
        return t->write ? aio_native_co_writev(t->fd, t->iov, t->niov,
                                               t->offset, t->rwf_flags)
                        : aio_native_co_readv(t->fd, t->iov, t->niov,
                                              t->offset);
    }
    if (t->write) {
        return aio_uring_co_writev(t->fd, t->iov, t->niov, t->offset,
                                   t->rwf_flags);
    }
    return aio_uring_co_readv(t->fd, t->iov, t->niov, t->offset);
}

static int datasync_worker(void *opaque)
{
    int fd = *(int *)opaque;

    return RETRY_ON_EINTR(fdatasync(fd)) < 0 ? -errno : 0;
}

static int coroutine_fn engine_datasync(BDRVFileState *s)
{
    if (s->engine != FILE_ENGINE_IO_URING) {
        return thread_pool_submit_co(datasync_worker, &s->fd);
    }
    return aio_uring_co_fsync(s->fd, true);
}

/* --- whole vectors --- */

/*
 * Moves all of @iov (consumed: elements are changed). Reads return how much
 * there was before the end of the file; writes @bytes; or -errno.
 */
static int64_t coroutine_fn transfer_all(BDRVFileState *s, FileTransfer *t,
                                         struct iovec *iov, unsigned niov,
                                         int64_t bytes, uint32_t align)
{
    int64_t done = 0;
    int ret;

    while (true) {
        t->iov = iov;
        t->niov = niov;
        t->bytes = bytes - done;
        ret = engine_transfer(s, t);
        if (ret < 0) {
            return ret;
        }
        if (ret == 0) {
            return t->write ? -ENOSPC : done;
        }
        done += ret;
        if (done >= bytes) {
            return bytes;
        }
        if (!t->write && !QEMU_IS_ALIGNED(done, align)) {
            /* Only the end of a file stops a direct read inside a block, and
             * reading on from there would be refused. */
            return done;
        }
        iov_discard_front(&iov, &niov, ret);
        t->offset += ret;
    }
}

/* A vector of elements that may be changed, for a range of @qiov. */
typedef struct IovCopy {
    struct iovec local[LOCAL_IOV];
    struct iovec *iov;
    unsigned niov;
} IovCopy;

static void iov_copy_init(IovCopy *c, const QEMUIOVector *qiov, size_t offset,
                          size_t bytes)
{
    unsigned n = qemu_iovec_subvec_niov(qiov, offset, bytes);

    c->iov = n <= LOCAL_IOV ? c->local : g_new(struct iovec, n);
    c->niov = iov_copy(c->iov, n, qiov->iov, qiov->niov, offset, bytes);
    assert(iov_size(c->iov, c->niov) == bytes);
}

static void iov_copy_clear(IovCopy *c)
{
    if (c->iov != c->local) {
        g_free(c->iov);
    }
}

static int64_t coroutine_fn transfer_qiov(BlockDriverState *bs,
                                          FileTransfer *t, QEMUIOVector *qiov,
                                          size_t qiov_offset, int64_t bytes)
{
    BDRVFileState *s = bs->opaque;
    IovCopy c;
    int64_t ret;

    iov_copy_init(&c, qiov, qiov_offset, bytes);
    ret = transfer_all(s, t, c.iov, c.niov, bytes, bs->bl.request_alignment);
    iov_copy_clear(&c);
    return ret;
}

int coroutine_fn file_co_preadv(BlockDriverState *bs, int64_t offset,
                                int64_t bytes, QEMUIOVector *qiov,
                                size_t qiov_offset, BdrvRequestFlags flags)
{
    BDRVFileState *s = bs->opaque;
    FileTransfer t = { .s = s, .fd = s->fd, .offset = offset };
    int64_t ret;

    ret = transfer_qiov(bs, &t, qiov, qiov_offset, bytes);
    if (ret < 0) {
        return ret;
    }
    if (ret < bytes) {
        qemu_iovec_memset(qiov, qiov_offset + ret, 0, bytes - ret);
    }
    return 0;
}

/*
 * Remembers that dirty pages may have been lost. That a request could not even
 * be made loses none, nor does anything that goes around the page cache.
 */
static void note_lost_pages(BDRVFileState *s, int ret)
{
    if (!(s->fd_flags & O_DIRECT) && ret != -ENOMEM && ret != -EAGAIN) {
        (void)qatomic_cmpxchg(&s->flush_error, 0, ret);
    }
}

int coroutine_fn file_co_pwritev(BlockDriverState *bs, int64_t offset,
                                 int64_t bytes, QEMUIOVector *qiov,
                                 size_t qiov_offset, BdrvRequestFlags flags)
{
    BDRVFileState *s = bs->opaque;
    bool fua = flags & BDRV_REQ_FUA;
    FileTransfer t = { .s = s, .fd = s->fd, .write = true, .offset = offset };
    int64_t ret;

    if (fua && !qatomic_read(&s->no_rwf_dsync)) {
        t.rwf_flags = RWF_DSYNC;
    }
    ret = transfer_qiov(bs, &t, qiov, qiov_offset, bytes);
    if (ret == -EOPNOTSUPP && t.rwf_flags) {
        qatomic_set(&s->no_rwf_dsync, true);
        t.rwf_flags = 0;
        t.offset = offset;
        ret = transfer_qiov(bs, &t, qiov, qiov_offset, bytes);
    }
    if (ret == -EIO && t.rwf_flags) {
        note_lost_pages(s, ret);
    }
    /* Some of it may be there even if the rest failed. */
    file_extents_written(&s->extents, offset, bytes);
    if (ret < 0) {
        return ret;
    }
    if (fua) {
        /* After a flush that failed, this data may be safe while older data
         * is lost, which is all that FUA says. */
        return t.rwf_flags ? 0 : file_co_flush_to_disk(bs);
    }
    return 0;
}

int coroutine_fn file_co_flush_to_disk(BlockDriverState *bs)
{
    BDRVFileState *s = bs->opaque;
    int ret = qatomic_read(&s->flush_error);

    if (ret < 0) {
        return ret;
    }
    ret = engine_datasync(s);
    if (ret == -EINVAL && s->is_device && !s->is_block_device) {
        /* Character devices without anything to flush. */
        return 0;
    }
    if (ret < 0) {
        note_lost_pages(s, ret);
    }
    return ret;
}

static int write_back(void *opaque)
{
    BDRVFileState *s = opaque;
    bool writes = (s->fd_flags & O_ACCMODE) != O_RDONLY;
    int ret = 0;

    if (writes &&
        sync_file_range(s->fd, 0, 0, SYNC_FILE_RANGE_WAIT_BEFORE |
                                     SYNC_FILE_RANGE_WRITE |
                                     SYNC_FILE_RANGE_WAIT_AFTER) < 0) {
        ret = -errno;
    }
    if (ret == -ENOSYS || ret == -EINVAL || ret == -ESPIPE) {
        ret = RETRY_ON_EINTR(fdatasync(s->fd)) < 0 ? -errno : 0;
    }
    /* Only clean pages go. */
    (void)posix_fadvise(s->fd, 0, 0, POSIX_FADV_DONTNEED);
    return ret;
}

int coroutine_fn file_co_writeback(BlockDriverState *bs)
{
    BDRVFileState *s = bs->opaque;
    int ret;

    if ((s->fd_flags & O_DIRECT) || s->in_memory ||
        (s->is_device && !s->is_block_device)) {
        return 0;
    }
    ret = thread_pool_submit_co(write_back, s);
    if (ret < 0) {
        note_lost_pages(s, ret);
    }
    return ret;
}
