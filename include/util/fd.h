/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * File descriptors: opening, closing, whole reads and writes.  See osdep.h for
 * RETRY_ON_EINTR(), qemu_write_full() and qemu_read_full(), the variants of the
 * functions at the end that use the file position.
 *
 * Any thread, but the calls may block in the kernel: not for coroutines, except
 * on descriptors that are known to be quick.
 */
#ifndef UTIL_FD_H
#define UTIL_FD_H

#include "util/osdep.h"
#include "util/error.h"

/*
 * Open the existing file @name, or one of a set of descriptors (util/fdset.h);
 * @flags as for open(2), without O_CREAT, and O_CLOEXEC is always added.  Returns
 * a descriptor for qemu_close(), or -1 with errno and @errp set.
 */
int qemu_open(const char *name, int flags, Error **errp);

/* The same with O_CREAT, and @mode for a file that does not exist. */
int qemu_create(const char *name, int flags, mode_t mode, Error **errp);

/*
 * Open the file of @fd once more, whatever its name is now: with a position and
 * locks of its own.  @flags as for open(2); O_CLOEXEC is always added.  -errno if
 * that fails, as for a user who may not open it.
 */
int qemu_open_again(int fd, int flags);

/* Close @fd.  0, or -1 with errno set; the descriptor is gone either way. */
int qemu_close(int fd);

/* Make the data and what is needed to read it durable.  0, or -1 with errno. */
int qemu_fdatasync(int fd);

/*
 * Transfer @count bytes at @offset, going on after short transfers and
 * signals.  Return the bytes transferred; less than @count means end of file
 * (reads only, errno is 0) or an error (errno is set).
 */
ssize_t qemu_pwrite_full(int fd, const void *buf, size_t count, off_t offset);
ssize_t qemu_pread_full(int fd, void *buf, size_t count, off_t offset);

#endif /* UTIL_FD_H */
