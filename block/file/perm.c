/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Permissions of the node as a whole: lock bytes and the access mode of the
 * descriptor follow them.
 *
 * check adds to what is held and can fail; set gives up the rest. A set that
 * fails keeps as little as it can: lock bytes are released even if there is no
 * read-only descriptor to be had.
 */
#include "util/osdep.h"
#include "block/file/file-int.h"
#include "util/fd.h"

int (*file_relax_hook)(BlockDriverState *bs);

/* Holes may be remembered while lock bytes keep all other writers out. */
static void update_keep_holes(BDRVFileState *s)
{
    file_extents_keep_holes(&s->extents,
                            s->locks.enabled &&
                            (s->locks.unshared & BLK_PERM_WRITE));
}

static bool is_rw(int fd_flags)
{
    return (fd_flags & O_ACCMODE) == O_RDWR;
}

/* A descriptor with @fd_flags and exactly the locks @locks, or -errno. */
static int open_locked(BDRVFileState *s, int fd_flags, const FileLocks *locks,
                       Error **errp)
{
    int fd = file_open_again(s, fd_flags, errp);
    int ret;

    if (fd < 0) {
        return fd;
    }
    ret = file_locks_copy(locks, fd, errp);
    if (ret < 0) {
        qemu_close(fd);
        return ret;
    }
    return fd;
}

int file_check_perm(BlockDriverState *bs, uint64_t perm, uint64_t shared,
                    Error **errp)
{
    BDRVFileState *s = bs->opaque;
    FileLocks old = s->locks;
    int ret;

    ret = file_locks_take(&s->locks, s->fd, perm, ~shared & BLK_PERM_ALL,
                          s->filename, errp);
    if (ret < 0) {
        return ret;
    }
    if ((perm & FILE_PERM_WRITERS) && !is_rw(s->fd_flags)) {
        int fd_flags = (s->fd_flags & ~O_ACCMODE) | O_RDWR;

        ret = open_locked(s, fd_flags, &s->locks, errp);
        if (ret < 0) {
            file_locks_give(&s->locks, s->fd, old.perm, old.unshared, NULL);
            return ret;
        }
        file_install_fd(s, ret, fd_flags);
    }
    update_keep_holes(s);
    return 0;
}

int file_set_perm(BlockDriverState *bs, uint64_t perm, uint64_t shared,
                  Error **errp)
{
    BDRVFileState *s = bs->opaque;
    uint64_t unshared = ~shared & BLK_PERM_ALL;
    int fd = 0;
    int ret;

    if (file_relax_hook) {
        ret = file_relax_hook(bs);
        if (ret < 0) {
            error_setg_errno(errp, -ret, "Could not give up permissions on "
                             "'%s'", s->filename);
            return ret;
        }
    }
    /* Before somebody else can write. */
    if (shared & BLK_PERM_WRITE) {
        file_extents_keep_holes(&s->extents, false);
    }
    if (is_rw(s->fd_flags) && !is_rw(file_fd_flags(bs->open_flags, perm))) {
        FileLocks locks = {
            .enabled = s->locks.enabled,
            .perm = s->locks.perm & perm,
            .unshared = s->locks.unshared & unshared,
        };
        int fd_flags = (s->fd_flags & ~O_ACCMODE) | O_RDONLY;

        fd = open_locked(s, fd_flags, &locks, s->in_set ? NULL : errp);
        if (fd >= 0) {
            file_install_fd(s, fd, fd_flags);
            s->locks = locks;
            update_keep_holes(s);
            return 0;
        }
        if (s->in_set) {
            fd = 0;     /* what was passed for writing only is good enough */
        }
    }
    ret = file_locks_give(&s->locks, s->fd, perm, unshared,
                          fd < 0 ? NULL : errp);
    update_keep_holes(s);
    return fd < 0 ? fd : ret;
}
