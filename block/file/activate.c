/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A file that somebody else may have written to, on whatever host. */
#include "util/osdep.h"
#include "block/file/file-int.h"

static bool drops_cache(BlockDriverState *bs)
{
    const BlockdevOptionsFile *o = bs->drv->id == BLOCKDEV_DRIVER_FILE
        ? &bs->options->u.file : &bs->options->u.host_device;

    return !o->has_drop_cache || o->drop_cache;
}

int file_activate(BlockDriverState *bs, Error **errp)
{
    BDRVFileState *s = bs->opaque;
    int ret;

    file_extents_forget(&s->extents);
    if (!drops_cache(bs)) {
        return 0;
    }
    /* Pages that were read before another host wrote. None are dirty. */
    ret = posix_fadvise(s->fd, 0, 0, POSIX_FADV_DONTNEED);
    if (ret) {
        error_setg_errno(errp, ret, "Could not drop the cached pages of '%s'",
                         s->filename);
    }
    return -ret;
}
