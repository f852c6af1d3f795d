/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Reopen: access mode, O_DIRECT and the engine may change, the file may not
 * (the generic layer refuses another file name).
 *
 * The new descriptor is made in prepare, with all locks of the old one, which
 * stays in use until commit. By then the generic layer has taken the
 * permissions of before and after; what only becomes less is left to
 * file_set_perm() where it cannot be done here.
 */
#include "util/osdep.h"
#include "block/file/file-int.h"
#include "util/fd.h"

typedef struct FileReopen {
    int fd;                     /* -1: the old one goes on */
    int fd_flags;
    FileEngine engine;
} FileReopen;

static const BlockdevOptionsFile *options_of(const BlockdevOptions *o)
{
    return o->driver == BLOCKDEV_DRIVER_HOST_DEVICE ? &o->u.host_device
                                                    : &o->u.file;
}

/* Opens what @rs->fd_flags asks for, if that differs from what there is. */
static int prepare_fd(BDRVFileState *s, FileReopen *rs, Error **errp)
{
    Error *err = NULL;
    bool only_less = rs->fd_flags == ((s->fd_flags & ~O_ACCMODE) | O_RDONLY);
    int ret;

    if (rs->fd_flags == s->fd_flags) {
        return 0;
    }
    rs->fd = file_open_again(s, rs->fd_flags, &err);
    if (rs->fd >= 0) {
        ret = file_locks_copy(&s->locks, rs->fd, &err);
        if (ret == 0) {
            return 0;
        }
        qemu_close(rs->fd);
        rs->fd = -1;
    } else {
        ret = rs->fd;
        rs->fd = -1;
    }
    if (only_less) {
        /* Giving up write access cannot fail; file_set_perm() tries again. */
        error_free(err);
        return 0;
    }
    error_propagate(errp, err);
    return ret;
}

int file_reopen_prepare(BDRVReopenState *state, BlockReopenQueue *queue,
                        Error **errp)
{
    BlockDriverState *bs = state->bs;
    BDRVFileState *s = bs->opaque;
    const BlockdevOptionsFile *o = options_of(state->options);
    g_autofree FileReopen *rs = g_new0(FileReopen, 1);
    int ret;

    rs->fd = -1;
    if (!file_engine_from_options(o, state->flags, &rs->engine, errp)) {
        return -EINVAL;
    }
    rs->fd_flags = file_fd_flags(state->flags, s->locks.perm);
    if (!(state->flags & BDRV_O_RDWR)) {
        /* Writers of before are drained, and there are none after it. */
        rs->fd_flags = (rs->fd_flags & ~O_ACCMODE) | O_RDONLY;
    }
    ret = prepare_fd(s, rs, errp);
    if (ret < 0) {
        return ret;
    }
    state->opaque = g_steal_pointer(&rs);
    return 0;
}

void file_reopen_commit(BDRVReopenState *state)
{
    BlockDriverState *bs = state->bs;
    BDRVFileState *s = bs->opaque;
    FileReopen *rs = state->opaque;

    if (rs->fd >= 0) {
        file_install_fd(s, rs->fd, rs->fd_flags);
    }
    s->engine = rs->engine;
    if (s->flush_error) {
        /*
         * Whoever reopens after a failed flush starts over: pages that the
         * kernel takes for clean must not hide what the disk has.
         */
        (void)posix_fadvise(s->fd, 0, 0, POSIX_FADV_DONTNEED);
        qatomic_set(&s->flush_error, 0);
    }
    state->opaque = NULL;
    g_free(rs);
}

void file_reopen_abort(BDRVReopenState *state)
{
    FileReopen *rs = state->opaque;

    if (rs && rs->fd >= 0) {
        qemu_close(rs->fd);
    }
    state->opaque = NULL;
    g_free(rs);
}
