/* SPDX-License-Identifier: GPL-2.0-or-later */
/* File descriptors: opening, closing, whole reads and writes. */
#include "util/osdep.h"
#include "util/fd.h"
#include "util/fdset.h"

static int open_cloexec(const char *name, int flags, mode_t mode, Error **errp)
{
    int64_t set;
    int fd, err;

    if (fdset_parse_name(name, &set)) {
        fd = fdset_open(set, flags);
        errno = -fd;
    } else {
        fd = RETRY_ON_EINTR(open(name, flags | O_CLOEXEC, mode));
    }
    err = errno;
    if (fd >= 0) {
        return fd;
    }
    if (err == EINVAL && (flags & O_DIRECT)) {
        /* The one reason for EINVAL that users meet. */
        error_setg(errp, "Could not open '%s': filesystem does not support "
                   "O_DIRECT", name);
    } else if (flags & O_CREAT) {
        error_setg_errno(errp, err, "Could not create '%s'", name);
    } else {
        error_setg_file_open(errp, err, name);
    }
    errno = err;
    return -1;
}

int qemu_open(const char *name, int flags, Error **errp)
{
    assert(!(flags & O_CREAT));
    return open_cloexec(name, flags, 0, errp);
}

int qemu_create(const char *name, int flags, mode_t mode, Error **errp)
{
    return open_cloexec(name, flags | O_CREAT, mode, errp);
}

int qemu_open_again(int fd, int flags)
{
    char path[32];
    int again;

    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    again = RETRY_ON_EINTR(open(path, flags | O_CLOEXEC));
    return again < 0 ? -errno : again;
}

int qemu_close(int fd)
{
    int ret;

    if (fdset_close(fd, &ret)) {
        return ret;
    }
    /*
     * Never repeated on EINTR: Linux has released the number by then, and it
     * may already be another thread's file.
     */
    return close(fd);
}

int qemu_fdatasync(int fd)
{
    return RETRY_ON_EINTR(fdatasync(fd));
}

ssize_t qemu_write_full(int fd, const void *buf, size_t count)
{
    size_t done = 0;

    while (done < count) {
        ssize_t n = RETRY_ON_EINTR(write(fd, (const char *)buf + done,
                                         count - done));

        if (n == 0) {
            /* POSIX lets a device do this; there is nobody to ask why. */
            errno = ENOSPC;
        }
        if (n <= 0) {
            break;
        }
        done += n;
    }
    return done;
}

ssize_t qemu_read_full(int fd, void *buf, size_t count)
{
    size_t done = 0;

    while (done < count) {
        ssize_t n = RETRY_ON_EINTR(read(fd, (char *)buf + done, count - done));

        if (n < 0) {
            break;
        }
        if (n == 0) {
            errno = 0;
            break;
        }
        done += n;
    }
    return done;
}

ssize_t qemu_pwrite_full(int fd, const void *buf, size_t count, off_t offset)
{
    size_t done = 0;

    while (done < count) {
        ssize_t n = RETRY_ON_EINTR(pwrite(fd, (const char *)buf + done,
                                          count - done, offset + done));

        if (n == 0) {
            /* POSIX lets a device do this; there is nobody to ask why. */
            errno = ENOSPC;
        }
        if (n <= 0) {
            break;
        }
        done += n;
    }
    return done;
}

ssize_t qemu_pread_full(int fd, void *buf, size_t count, off_t offset)
{
    size_t done = 0;

    while (done < count) {
        ssize_t n = RETRY_ON_EINTR(pread(fd, (char *)buf + done, count - done,
                                         offset + done));

        if (n < 0) {
            break;
        }
        if (n == 0) {
            errno = 0;
            break;
        }
        done += n;
    }
    return done;
}

int qemu_fd_set_nonblock(int fd, bool nonblock)
{
    int flags = fcntl(fd, F_GETFL);

    if (flags < 0) {
        return -errno;
    }
    flags = nonblock ? flags | O_NONBLOCK : flags & ~O_NONBLOCK;
    return fcntl(fd, F_SETFL, flags) < 0 ? -errno : 0;
}
