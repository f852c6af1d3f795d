/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What can be done with a disk that looks like a file. */
#include "util/osdep.h"
#include <linux/falloc.h>
#include "fuse-disk.h"
#include "util/lockable.h"

/* Where there is nothing better to say: what programs take for a page. */
#define MIN_BLKSIZE 4096
/* The backend takes less at once than a file can be long. */
#define PIECE (1LL << 30)

void fuse_disk_init(FuseDisk *disk)
{
    qemu_mutex_init(&disk->lock);
    disk->mode = S_IFREG | S_IRUSR | (disk->writable ? S_IWUSR : 0);
    disk->uid = getuid();
    disk->gid = getgid();
}

void fuse_disk_destroy(FuseDisk *disk)
{
    qemu_mutex_destroy(&disk->lock);
}

/* --- attributes --- */

int coroutine_fn fuse_disk_co_getattr(FuseDisk *disk, struct fuse_attr *attr)
{
    int64_t length = blk_co_getlength(disk->blk);
    int64_t allocated;
    /* Others may write to the node: it has always just been changed. */
    time_t now = time(NULL);

    if (length < 0) {
        return length;
    }
    allocated = blk_co_get_allocated_file_size(disk->blk);
    *attr = (struct fuse_attr) {
        .ino = FUSE_ROOT_ID,
        .size = length,
        .blocks = DIV_ROUND_UP(allocated < 0 ? length : allocated, 512),
        .atime = now, .mtime = now, .ctime = now,
        .nlink = 1,
        .blksize = MAX(blk_get_request_alignment(disk->blk), MIN_BLKSIZE),
    };
    WITH_QEMU_LOCK_GUARD(&disk->lock) {
        attr->mode = disk->mode;
        attr->uid = disk->uid;
        attr->gid = disk->gid;
    }
    return 0;
}

static int check_setattr(const FuseDisk *disk,
                         const struct fuse_setattr_in *in)
{
    uint32_t supported = FATTR_SIZE | FATTR_FH | FATTR_LOCKOWNER |
                         FATTR_KILL_SUIDGID;

    if (disk->allow_other) {
        supported |= FATTR_MODE | FATTR_UID | FATTR_GID;
    } else if (in->valid & FATTR_MODE) {
        return -EPERM;
    }
    if (in->valid & ~supported) {
        return -ENOTSUP;
    }
    if (in->valid & FATTR_MODE && !disk->writable &&
        in->mode & (S_IWUSR | S_IWGRP | S_IWOTH)) {
        return -EROFS;
    }
    if (in->valid & FATTR_SIZE && !disk->writable) {
        return -EACCES;
    }
    return 0;
}

static int coroutine_fn set_length(FuseDisk *disk, uint64_t length,
                                   PreallocMode prealloc)
{
    if (length > INT64_MAX) {
        return -EFBIG;
    }
    if (disk->co_truncate) {
        return disk->co_truncate(disk->opaque, length, prealloc);
    }
    return blk_co_truncate(disk->blk, length, true, prealloc, 0,
                           NULL);
}

int coroutine_fn fuse_disk_co_setattr(FuseDisk *disk,
                                      const struct fuse_setattr_in *in)
{
    int ret = check_setattr(disk, in);

    if (ret < 0) {
        return ret;
    }
    WITH_QEMU_LOCK_GUARD(&disk->lock) {
        if (in->valid & FATTR_MODE) {
            disk->mode = (in->mode & 07777) | S_IFREG;
        }
        if (in->valid & FATTR_UID) {
            disk->uid = in->uid;
        }
        if (in->valid & FATTR_GID) {
            disk->gid = in->gid;
        }
    }
    return in->valid & FATTR_SIZE ? set_length(disk, in->size,
                                              PREALLOC_MODE_OFF) : 0;
}

/* --- data --- */

ssize_t coroutine_fn fuse_disk_co_read(FuseDisk *disk, uint64_t offset,
                                       uint32_t size, void *buf)
{
    int64_t length = blk_co_getlength(disk->blk);
    int ret;

    if (length < 0) {
        return length;
    }
    if (size > FUSE_DISK_MAX_IO) {
        return -EINVAL;
    }
    if (offset >= length) {
        return 0;
    }
    size = MIN(size, length - offset);
    ret = size ? blk_co_pread(disk->blk, offset, size, buf, 0) : 0;
    return ret < 0 ? ret : (ssize_t)size;
}

/* To that length, if others have not been quicker to make it longer still. */
static int coroutine_fn grow(FuseDisk *disk, int64_t length)
{
    return blk_co_truncate(disk->blk, length, true, PREALLOC_MODE_OFF,
                           BDRV_REQ_NO_SHRINK, NULL);
}

/* How many of the bytes there is a place for, made now if the disk grows. */
static ssize_t coroutine_fn room_for(FuseDisk *disk, uint64_t offset,
                                     uint32_t size)
{
    int64_t length = blk_co_getlength(disk->blk);
    int ret;

    if (length < 0) {
        return length;
    }
    if (offset <= length && size <= length - offset) {
        return size;
    }
    if (!disk->growable) {
        return offset < length ? length - offset : -EIO;
    }
    if (offset > INT64_MAX - size - BDRV_SECTOR_SIZE) {
        return -EFBIG;
    }
    ret = grow(disk, offset + size);
    if (ret == -EINVAL) {
        /* A format whose disks are whole sectors. */
        ret = grow(disk, ROUND_UP(offset + size, BDRV_SECTOR_SIZE));
    }
    return ret < 0 ? ret : (ssize_t)size;
}

ssize_t coroutine_fn fuse_disk_co_write(FuseDisk *disk, uint64_t offset,
                                        uint32_t size, const void *buf)
{
    ssize_t n;
    int ret;

    if (!disk->writable) {
        return -EACCES;
    }
    if (!size) {
        return 0;
    }
    n = room_for(disk, offset, size);
    if (n < 0) {
        return n;
    }
    ret = blk_co_pwrite(disk->blk, offset, n, buf, 0);
    return ret < 0 ? ret : n;
}

int coroutine_fn fuse_disk_co_flush(FuseDisk *disk)
{
    return disk->writable ? blk_co_flush(disk->blk) : 0;
}

/* --- space --- */

static int coroutine_fn zero(FuseDisk *disk, int64_t offset, int64_t bytes,
                             BdrvRequestFlags flags)
{
    while (bytes > 0) {
        int64_t n = MIN(bytes, PIECE);
        int ret = blk_co_pwrite_zeroes(disk->blk, offset, n, flags);

        if (ret < 0) {
            return ret;
        }
        offset += n;
        bytes -= n;
    }
    return 0;
}

/* What lies beyond the end needs no hole. */
static int coroutine_fn punch_hole(FuseDisk *disk, int64_t offset,
                                   int64_t bytes, int64_t length)
{
    return offset < length
           ? zero(disk, offset, MIN(bytes, length - offset),
                  BDRV_REQ_MAY_UNMAP) : 0;
}

static int coroutine_fn zero_range(FuseDisk *disk, int64_t offset,
                                   int64_t bytes, int64_t length,
                                   bool keep_size)
{
    int ret = 0;

    if (!keep_size && bytes > length - offset) {
        ret = set_length(disk, offset + bytes, PREALLOC_MODE_OFF);
    }
    return ret < 0 ? ret : zero(disk, offset, bytes, 0);
}

/* Space for what there is already cannot be had for sure. */
static int coroutine_fn extend(FuseDisk *disk, int64_t offset, int64_t bytes,
                               int64_t length)
{
    int ret = 0;

    if (offset < length) {
        return -ENOTSUP;
    }
    if (offset > length) {
        ret = set_length(disk, offset, PREALLOC_MODE_OFF);
    }
    return ret < 0 ? ret : set_length(disk, offset + bytes,
                                      PREALLOC_MODE_FALLOC);
}

int coroutine_fn fuse_disk_co_fallocate(FuseDisk *disk,
                                        const struct fuse_fallocate_in *in)
{
    int64_t length;

    if (!disk->writable) {
        return -EACCES;
    }
    if (!in->length) {
        return -EINVAL;
    }
    if (in->offset > INT64_MAX || in->length > INT64_MAX - in->offset) {
        return -EFBIG;
    }
    length = blk_co_getlength(disk->blk);
    if (length < 0) {
        return length;
    }
    switch (in->mode) {
    case 0:
        return extend(disk, in->offset, in->length, length);
    case FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE:
        return punch_hole(disk, in->offset, in->length, length);
    case FALLOC_FL_ZERO_RANGE:
    case FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE:
        return zero_range(disk, in->offset, in->length, length,
                          in->mode & FALLOC_FL_KEEP_SIZE);
    default:
        return -ENOTSUP;
    }
}

/* --- holes --- */

int64_t coroutine_fn fuse_disk_co_lseek(FuseDisk *disk,
                                        const struct fuse_lseek_in *in)
{
    int64_t length = blk_co_getlength(disk->blk);
    int64_t offset = in->offset;
    bool want_data = in->whence == SEEK_DATA;

    if (length < 0) {
        return length;
    }
    if (in->whence != SEEK_DATA && in->whence != SEEK_HOLE) {
        return -EINVAL;
    }
    if (in->offset > length) {
        return -ENXIO;
    }
    while (offset < length) {
        int64_t n;
        int ret = blk_co_block_status_above(disk->blk, NULL, true, offset,
                                            MIN(length - offset, PIECE), &n,
                                            NULL, NULL, NULL);

        if (ret < 0) {
            return ret;
        }
        if (!n) {
            break;              /* it has become shorter */
        }
        if (!(ret & BDRV_BLOCK_ZERO) == want_data) {
            return offset;
        }
        offset += n;
    }
    /* There is a hole behind every file. */
    return want_data ? -ENXIO : MIN(offset, length);
}
