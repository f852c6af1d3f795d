/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Mount points of FUSE exports: libfuse mounts, alone or by its helper. */
#include "util/osdep.h"
#define FUSE_USE_VERSION 31
#include <fuse.h>
#include <fuse_log.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/sysmacros.h>
#ifdef CONFIG_ASAN
#include <sanitizer/lsan_interface.h>
#endif
#include "fuse-mountpoint.h"
#include "util/fd.h"

#define DEVICE "/dev/fuse"
#define IOC_CLONE _IOR(229, 0, uint32_t)        /* FUSE_DEV_IOC_CLONE */

char *fuse_mountpoint_resolve(const char *path, Error **errp)
{
    char *real = realpath(path, NULL);
    char *copy;

    if (!real) {
        error_setg_errno(errp, errno, "Failed to stat '%s'", path);
        return NULL;
    }
    copy = g_strdup(real);
    free(real);
    return copy;
}

bool fuse_mountpoint_check(const char *path, Error **errp)
{
    struct stat st;

    if (stat(path, &st) < 0) {
        int err = errno;

        error_setg_errno(errp, err, "Failed to stat '%s'", path);
        if (err == ENOTCONN) {
            error_append_hint(errp, "The server of what is mounted there is "
                              "gone: unmount it (fusermount3 -u '%s') and try "
                              "again\n", path);
        }
        return false;
    }
    if (!S_ISREG(st.st_mode)) {
        error_setg(errp, "'%s' is not a regular file", path);
        return false;
    }
    return true;
}

/* --- mounting --- */

/* Main thread. */
static GString *fuse_says;

static void G_GNUC_PRINTF(2, 0) take_message(enum fuse_log_level level,
                                             const char *fmt, va_list ap)
{
    g_string_append_vprintf(fuse_says, fmt, ap);
}

/* libfuse forgets to free its arguments, a few bytes. */
static int mount_with(const char *options, const char *path)
{
    int fd;

#ifdef CONFIG_ASAN
    __lsan_disable();
#endif
    fd = fuse_open_channel(path, options);
#ifdef CONFIG_ASAN
    __lsan_enable();
#endif
    return fd;
}

int fuse_mountpoint_mount(const char *path, bool allow_other, Error **errp)
{
    g_autoptr(GString) says = fuse_says = g_string_new(NULL);
    int fd = open(DEVICE, O_RDWR | O_CLOEXEC);

    /* The helper may be allowed what we are not. */
    if (fd < 0 && (errno != EACCES || !geteuid())) {
        error_setg_errno(errp, errno, "Cannot open '" DEVICE "'");
        error_append_hint(errp, "The kernel must have FUSE (modprobe fuse), "
                          "and a container must have the device\n");
        return -1;
    }
    if (fd >= 0) {
        qemu_close(fd);
    }
    fuse_set_log_func(take_message);
    fd = mount_with(allow_other ? "default_permissions,allow_other"
                                : "default_permissions", path);
    fuse_set_log_func(NULL);
    if (fd < 0) {
        g_strchomp(says->str);
        error_setg(errp, "Failed to mount FUSE on '%s'%s%s", path,
                   *says->str ? ": " : "", says->str);
        return -1;
    }
    fcntl(fd, F_SETFD, FD_CLOEXEC);
    return fd;
}

int fuse_mountpoint_clone(int fd, Error **errp)
{
    uint32_t source = fd;
    int clone = open(DEVICE, O_RDWR | O_CLOEXEC);

    if (clone >= 0 && ioctl(clone, IOC_CLONE, &source) < 0) {
        int err = errno;

        qemu_close(clone);
        clone = -1;
        errno = err;
    }
    if (clone < 0) {
        error_setg_errno(errp, errno, "Cannot have a FUSE connection in "
                         "several threads");
    }
    return clone;
}

/* --- unmounting --- */

uint64_t fuse_mountpoint_device(const char *path)
{
    struct statx st;

    /* What the kernel knows by itself. */
    if (statx(AT_FDCWD, path, AT_STATX_DONT_SYNC | AT_NO_AUTOMOUNT, 0,
              &st) < 0) {
        return 0;
    }
    return makedev(st.stx_dev_major, st.stx_dev_minor);
}

/* The helper may unmount what its user has mounted. */
static void run_helper(const char *path)
{
    const char *argv[] = { "fusermount3", "-u", "-q", "-z", "--", path, NULL };

    g_spawn_sync(NULL, (char **)argv, NULL,
                 G_SPAWN_SEARCH_PATH | G_SPAWN_STDOUT_TO_DEV_NULL |
                 G_SPAWN_STDERR_TO_DEV_NULL,
                 NULL, NULL, NULL, NULL, NULL, NULL);
}

void fuse_mountpoint_unmount(const char *path, uint64_t device)
{
    if (!device || fuse_mountpoint_device(path) != device) {
        return;                 /* somebody else has done it */
    }
    if (umount2(path, MNT_DETACH | UMOUNT_NOFOLLOW) < 0 && errno == EPERM) {
        run_helper(path);
    }
}
