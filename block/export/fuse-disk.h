/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A disk as a regular file: attributes, data, space and holes, as the system calls
 * of those who opened the file ask for them.
 *
 * Coroutines, any thread, several at a time. Results are 0, or bytes, or -errno.
 */
#ifndef BLOCK_EXPORT_FUSE_DISK_H
#define BLOCK_EXPORT_FUSE_DISK_H

#include <linux/fuse.h>
#include "block/block-backend.h"
#include "util/thread.h"

/* The most that one read or write moves, in bytes. */
#define FUSE_DISK_MAX_IO (1 << 20)

typedef struct FuseDisk {
    /* Fixed before use. */
    BlockBackend *blk;
    bool writable;
    bool growable;          /* writes extend; @blk has the RESIZE permission */
    bool allow_other;       /* then mode and owners can be changed */
    /* Sets the length, permission or not; blk_co_truncate() if NULL. */
    int coroutine_fn (*co_truncate)(void *opaque, int64_t length,
                                    PreallocMode prealloc);
    void *opaque;

    QemuMutex lock;         /* protects the rest */
    uint32_t mode;
    uid_t uid;
    gid_t gid;
} FuseDisk;

/* The caller has set what is fixed. */
void fuse_disk_init(FuseDisk *disk);
void fuse_disk_destroy(FuseDisk *disk);

int coroutine_fn fuse_disk_co_getattr(FuseDisk *disk, struct fuse_attr *attr);
/* All of what @in->valid names, or, with an error, maybe all but the length. */
int coroutine_fn fuse_disk_co_setattr(FuseDisk *disk,
                                      const struct fuse_setattr_in *in);
/* Bytes read into @buf, which has FUSE_DISK_MAX_IO, fewer than @size at the end;
 * -EINVAL if @size is more. */
ssize_t coroutine_fn fuse_disk_co_read(FuseDisk *disk, uint64_t offset,
                                       uint32_t size, void *buf);
/* Bytes written; up to the end, or the disk grows. */
ssize_t coroutine_fn fuse_disk_co_write(FuseDisk *disk, uint64_t offset,
                                        uint32_t size, const void *buf);
int coroutine_fn fuse_disk_co_fallocate(FuseDisk *disk,
                                        const struct fuse_fallocate_in *in);
/* The offset found. */
int64_t coroutine_fn fuse_disk_co_lseek(FuseDisk *disk,
                                        const struct fuse_lseek_in *in);
int coroutine_fn fuse_disk_co_flush(FuseDisk *disk);

#endif
