/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Byte-range locks that belong to an open file description. */
#include "util/osdep.h"
#include "util/filelock.h"

static bool probe_ofd_lock(void)
{
    struct flock fl = { .l_type = F_RDLCK, .l_whence = SEEK_SET };
    bool ret;
    int fd;

    fd = RETRY_ON_EINTR(open("/dev/null", O_RDWR | O_CLOEXEC));
    if (fd < 0) {
        /* Nothing learnt: a lock on a real file gives the reason itself. */
        return true;
    }
    ret = fcntl(fd, F_OFD_GETLK, &fl) == 0 || errno != EINVAL;
    close(fd);
    return ret;
}

bool qemu_has_ofd_lock(void)
{
    static gsize probed;    /* 0: not yet, 1: no, 2: yes */

    if (g_once_init_enter(&probed)) {
        g_once_init_leave(&probed, probe_ofd_lock() ? 2 : 1);
    }
    return probed == 2;
}

static int set_lock(int fd, int64_t start, int64_t len, short type)
{
    struct flock fl = {
        .l_type = type,
        .l_whence = SEEK_SET,
        .l_start = start,
        .l_len = len,
    };

    if (!qemu_has_ofd_lock()) {
        return -ENOTSUP;
    }
    if (RETRY_ON_EINTR(fcntl(fd, F_OFD_SETLK, &fl)) < 0) {
        return errno == EACCES ? -EAGAIN : -errno;
    }
    return 0;
}

int qemu_lock_fd(int fd, int64_t start, int64_t len, bool exclusive)
{
    return set_lock(fd, start, len, exclusive ? F_WRLCK : F_RDLCK);
}

int qemu_unlock_fd(int fd, int64_t start, int64_t len)
{
    return set_lock(fd, start, len, F_UNLCK);
}

int qemu_lock_fd_test(int fd, int64_t start, int64_t len, bool exclusive)
{
    struct flock fl = {
        .l_type = exclusive ? F_WRLCK : F_RDLCK,
        .l_whence = SEEK_SET,
        .l_start = start,
        .l_len = len,
    };

    if (!qemu_has_ofd_lock()) {
        return -ENOTSUP;
    }
    if (RETRY_ON_EINTR(fcntl(fd, F_OFD_GETLK, &fl)) < 0) {
        return -errno;
    }
    return fl.l_type == F_UNLCK ? 0 : -EAGAIN;
}
