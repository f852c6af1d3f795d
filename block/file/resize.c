/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The length of a file, its change, and the space it takes. */
#include "util/osdep.h"
#include <linux/fs.h>
#include <sys/ioctl.h>
#include "block/file/file-int.h"
#include "util/memalign.h"
#include "util/thread-pool.h"

/* Written at once when space is preallocated by writing. */
#define FILL_CHUNK (1 * 1024 * 1024)
/* Suits every O_DIRECT descriptor. */
#define FILL_ALIGN 65536

int64_t file_fd_length(int fd)
{
    struct stat st;
    uint64_t size;
    off_t end;

    if (fstat(fd, &st) < 0) {
        return -errno;
    }
    if (S_ISREG(st.st_mode)) {
        return st.st_size;
    }
    if (S_ISBLK(st.st_mode) && ioctl(fd, BLKGETSIZE64, &size) == 0) {
        return size > INT64_MAX ? -EFBIG : (int64_t)size;
    }
    end = lseek(fd, 0, SEEK_END);
    return end < 0 ? -errno : end;
}

/* --- regular files --- */

/* Writes zeroes over [@start, @end), block by block of FILL_ALIGN. */
static int fill(int fd, int64_t start, int64_t end)
{
    QEMU_AUTO_VFREE void *buf = qemu_try_memalign(FILL_ALIGN, FILL_CHUNK);

    if (!buf) {
        return -ENOMEM;
    }
    memset(buf, 0, FILL_CHUNK);
    while (start < end) {
        size_t n = MIN(FILL_CHUNK, end - start);
        ssize_t ret = RETRY_ON_EINTR(pwrite(fd, buf, n, start));

        if (ret < 0) {
            return -errno;
        }
        if (ret == 0) {
            return -ENOSPC;
        }
        start += ret;
    }
    return 0;
}

/*
 * Allocates [@old_length, @length) by writing it. A direct descriptor takes
 * whole blocks only: those are filled from the first one that has no data yet,
 * and the length is corrected at the end.
 */
static int prealloc_full(int fd, int64_t old_length, int64_t length,
                         Error **errp)
{
    int fl = fcntl(fd, F_GETFL);
    int64_t start = old_length, end = length;
    int ret;

    if (fl >= 0 && (fl & O_DIRECT)) {
        start = QEMU_ALIGN_UP(start, FILL_ALIGN);
        end = QEMU_ALIGN_UP(end, FILL_ALIGN);
        /* The kernel does the part in front: it allocates or, where it
         * cannot, the tail of one block stays a hole of zeroes. */
        if (start > old_length) {
            (void)fallocate(fd, 0, old_length,
                            MIN(start, length) - old_length);
        }
    }
    ret = start < end ? fill(fd, start, end) : 0;
    if (ret == 0 && ftruncate(fd, length) < 0) {
        ret = -errno;
    }
    if (ret == 0 && fsync(fd) < 0) {
        ret = -errno;
    }
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Could not write zeros for preallocation");
    }
    return ret;
}

static int prealloc_falloc(int fd, int64_t old_length, int64_t length,
                           Error **errp)
{
    int ret;

    if (old_length == length) {
        return 0;
    }
    ret = RETRY_ON_EINTR(fallocate(fd, 0, old_length, length - old_length));
    if (ret == 0) {
        return 0;
    }
    if (errno == EOPNOTSUPP || errno == ENOSYS) {
        return prealloc_full(fd, old_length, length, errp);
    }
    ret = -errno;
    error_setg_errno(errp, -ret,
                     "Could not preallocate data for the new file");
    return ret;
}

int file_fd_resize(int fd, int64_t length, PreallocMode prealloc,
                   Error **errp)
{
    ERRP_GUARD();
    int64_t old_length = file_fd_length(fd);
    int ret;

    if (old_length < 0) {
        error_setg_errno(errp, -old_length, "Could not get the file size");
        return old_length;
    }
    if (length < old_length && prealloc != PREALLOC_MODE_OFF) {
        error_setg(errp, "Preallocation can't be used for shrinking files");
        return -EINVAL;
    }

    switch (prealloc) {
    case PREALLOC_MODE_OFF:
        if (RETRY_ON_EINTR(ftruncate(fd, length)) < 0) {
            ret = -errno;
            error_setg_errno(errp, -ret, "Failed to resize file");
            return ret;
        }
        return 0;
    case PREALLOC_MODE_FALLOC:
        ret = prealloc_falloc(fd, old_length, length, errp);
        break;
    case PREALLOC_MODE_FULL:
        ret = prealloc_full(fd, old_length, length, errp);
        break;
    default:
        error_setg(errp, "Unsupported preallocation mode: %s",
                   PreallocMode_str(prealloc));
        return -ENOTSUP;
    }
    if (ret < 0 && ftruncate(fd, old_length) < 0) {
        error_append_hint(errp, "The file could not be set back to its old "
                          "size of %" PRId64 " bytes: %s\n", old_length,
                          strerror(errno));
    }
    return ret;
}

/* --- the driver's hooks --- */

typedef struct ResizeJob {
    int fd;
    int64_t length;
    PreallocMode prealloc;
    Error *err;
} ResizeJob;

static int resize_worker(void *opaque)
{
    ResizeJob *j = opaque;

    return file_fd_resize(j->fd, j->length, j->prealloc, &j->err);
}

static int truncate_device(BDRVFileState *s, int64_t length, bool exact,
                           PreallocMode prealloc, Error **errp)
{
    int64_t cur;

    if (prealloc != PREALLOC_MODE_OFF) {
        error_setg(errp, "Preallocation mode '%s' unsupported for this "
                   "non-regular file", PreallocMode_str(prealloc));
        return -ENOTSUP;
    }
    cur = file_fd_length(s->fd);
    if (cur < 0) {
        error_setg_errno(errp, -cur, "Could not get the device size");
        return cur;
    }
    if (cur != length && exact) {
        error_setg(errp, "Cannot resize device files");
        return -ENOTSUP;
    }
    if (length > cur) {
        error_setg(errp, "Cannot grow device files");
        return -EINVAL;
    }
    return 0;
}

int coroutine_fn file_co_truncate(BlockDriverState *bs, int64_t offset,
                                  bool exact, PreallocMode prealloc,
                                  BdrvRequestFlags flags, Error **errp)
{
    BDRVFileState *s = bs->opaque;
    ResizeJob j = { .fd = s->fd, .length = offset, .prealloc = prealloc };
    int ret;

    if (s->is_device) {
        return truncate_device(s, offset, exact, prealloc, errp);
    }
    ret = thread_pool_submit_co(resize_worker, &j);
    file_extents_forget(&s->extents);
    if (ret < 0) {
        if (!j.err) {
            error_setg_errno(&j.err, -ret, "Failed to resize file");
        }
        error_propagate(errp, j.err);
    }
    return ret;
}

int64_t coroutine_fn file_co_getlength(BlockDriverState *bs)
{
    BDRVFileState *s = bs->opaque;

    return file_fd_length(s->fd);
}

int64_t coroutine_fn file_co_get_allocated_file_size(BlockDriverState *bs)
{
    BDRVFileState *s = bs->opaque;
    struct stat st;

    if (fstat(s->fd, &st) < 0) {
        return -errno;
    }
    return (int64_t)st.st_blocks * 512;
}
