/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Descriptors of a file that is open already: which access mode it needs, and
 * how to come by another one.
 *
 * A new descriptor is made from the one in use through /proc/self/fd, so that
 * it is the same file wherever its name has gone meanwhile. Only where there
 * is no /proc the name is used, and then the file found must be the same one.
 * So must what a set of descriptors has for the name of one.
 */
#include "util/osdep.h"
#include <linux/fs.h>
#include <sys/ioctl.h>
#include "block/file/file-int.h"
#include "util/fd.h"
#include "util/fdset.h"

int file_fd_flags(int bdrv_flags, uint64_t perm)
{
    bool rw = bdrv_flags & BDRV_O_RDWR;

    if (bdrv_flags & BDRV_O_AUTO_RDONLY) {
        rw = false;
    }
    if (perm & FILE_PERM_WRITERS) {
        rw = true;
    }
    return (rw ? O_RDWR : O_RDONLY) |
           (bdrv_flags & BDRV_O_NOCACHE ? O_DIRECT : 0);
}

int file_check_writable(int fd, int fd_flags, Error **errp)
{
    int ro;

    /* Fails for anything but block devices. */
    if ((fd_flags & O_ACCMODE) == O_RDWR && ioctl(fd, BLKROGET, &ro) == 0 &&
        ro) {
        error_setg(errp, "The device is not writable");
        return -EACCES;
    }
    return 0;
}

static bool is_same_file(BDRVFileState *s, int fd)
{
    struct stat st;

    return fstat(fd, &st) == 0 && st.st_dev == s->dev && st.st_ino == s->ino &&
           st.st_rdev == s->rdev;
}

static int open_by_name_again(BDRVFileState *s, int fd_flags)
{
    int fd = RETRY_ON_EINTR(open(s->filename, fd_flags | O_CLOEXEC |
                                              O_NONBLOCK));
    int ret = fd < 0 ? -errno : fd;

    if (fd >= 0 && fcntl(fd, F_SETFL, fd_flags & O_DIRECT) < 0) {
        ret = -errno;
        close(fd);
    }
    return ret;
}

int file_open_again(BDRVFileState *s, int fd_flags, Error **errp)
{
    int fd = s->in_set ? fdset_open(s->set, fd_flags)
                       : qemu_open_again(s->fd, fd_flags);
    int ret;

    if (!s->in_set && (fd == -ENOENT || fd == -ENOTDIR)) {
        fd = open_by_name_again(s, fd_flags);
    }
    if (fd >= 0 && !is_same_file(s, fd)) {
        qemu_close(fd);
        error_setg(errp, "Could not open '%s' again: another file has this "
                   "name", s->filename);
        return -ESTALE;
    }
    if (fd == -EINVAL && (fd_flags & O_DIRECT)) {
        error_setg(errp, "Could not open '%s': filesystem does not support "
                   "O_DIRECT", s->filename);
    } else if (fd < 0) {
        error_setg_file_open(errp, -fd, s->filename);
    } else {
        ret = file_check_writable(fd, fd_flags, errp);
        if (ret < 0) {
            qemu_close(fd);
            return ret;
        }
    }
    /* To a user it is all the same why the file cannot be written. */
    return fd == -EROFS ? -EACCES : fd;
}

void file_install_fd(BDRVFileState *s, int fd, int fd_flags)
{
    int old_fd = s->fd;

    s->fd = fd;
    s->fd_flags = fd_flags;
    /* Gives up the locks of the old description, all of which @fd holds. */
    qemu_close(old_fd);
}
