/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * File descriptors: opening, closing, whole reads and writes.
 *
 * Any thread, but the calls may block in the kernel: not for coroutines, except
 * on descriptors that are known to be quick.
 */
#ifndef UTIL_FD_H
#define UTIL_FD_H

#include <errno.h>
#include <stddef.h>
#include <sys/types.h>
#include "util/error.h"

/* Evaluate @expr again as long as it gives -1 with errno EINTR. */
#ifndef RETRY_ON_EINTR
#define RETRY_ON_EINTR(expr)                                    \
    (__extension__({                                            \
        __typeof__(expr) retry_ret_;                            \
        do {                                                    \
            retry_ret_ = (expr);                                \
        } while (retry_ret_ == -1 && errno == EINTR);           \
        retry_ret_;                                             \
    }))
#endif

/*
 * Open the existing file @name; @flags as for open(2), without O_CREAT, and
 * O_CLOEXEC is always added.  Returns a descriptor, or -1 with errno and @errp
 * set.
 */
int qemu_open(const char *name, int flags, Error **errp);

/* The same with O_CREAT, and @mode for a file that does not exist. */
int qemu_create(const char *name, int flags, mode_t mode, Error **errp);

/* Close @fd.  0, or -1 with errno set; the descriptor is gone either way. */
int qemu_close(int fd);

/* Make the data and what is needed to read it durable.  0, or -1 with errno. */
int qemu_fdatasync(int fd);

/*
 * Transfer @count bytes at the file position (or, for the p variants, at
 * @offset), going on after short transfers and signals.  Return the bytes
 * transferred; less than @count means end of file (reads only, errno is 0) or
 * an error (errno is set).  A non-blocking descriptor may give EAGAIN.
 */
ssize_t qemu_write_full(int fd, const void *buf, size_t count);
ssize_t qemu_read_full(int fd, void *buf, size_t count);
ssize_t qemu_pwrite_full(int fd, const void *buf, size_t count, off_t offset);
ssize_t qemu_pread_full(int fd, void *buf, size_t count, off_t offset);

#endif /* UTIL_FD_H */
