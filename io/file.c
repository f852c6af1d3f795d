/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Opening the file that the commands of qemu-io work on. */
#include "util/osdep.h"
#include "block/block.h"
#include "io/io.h"

bool io_open_option(IoOpen *how, int c, const char *arg)
{
    switch (c) {
    case 's':
        how->snapshot = true;
        break;
    case 'n':
        how->flags |= BDRV_O_NOCACHE;
        how->writethrough = false;
        break;
    case 'C':
        how->copy_on_read = true;
        break;
    case 'k':
        how->flags = (how->flags & ~BDRV_O_AIO_MASK) | BDRV_O_NATIVE_AIO;
        break;
    case 'i':
        if (!bdrv_parse_aio(arg, &how->flags)) {
            error_report("Invalid aio option: %s", arg);
            return false;
        }
        break;
    case 't':
        if (!bdrv_parse_cache_mode(arg, &how->flags, &how->writethrough)) {
            error_report("Invalid cache option: %s", arg);
            return false;
        }
        break;
    case 'd':
        if (!bdrv_parse_discard_flags(arg, &how->flags)) {
            error_report("Invalid discard option: %s", arg);
            return false;
        }
        break;
    case 'U':
        how->force_share = true;
        break;
    default:
        g_assert_not_reached();
    }
    return true;
}

static bool put_force_share(QDict *options)
{
    const char *given = qdict_get_try_str(options, "force-share");

    if (given && strcmp(given, "on")) {
        error_report("-U conflicts with image options");
        return false;
    }
    qdict_put_str(options, "force-share", "on");
    return true;
}

/*
 * Creates the file for a temporary overlay. The name is good until
 * the file is opened, when it goes away.
 */
static char *create_temporary(int64_t size, Error **errp)
{
    g_autoptr(QDict) options = qdict_new();
    g_autofree char *text = g_strdup_printf("%" PRId64, size);
    g_autofree char *name = NULL;
    const char *dir = g_getenv("TMPDIR") ?: "/var/tmp";
    int fd;

    name = g_build_filename(dir, "qemu-io.XXXXXX", NULL);
    fd = g_mkstemp(name);
    if (fd < 0) {
        error_setg_errno(errp, errno, "Could not get a temporary file in '%s'",
                         dir);
        return NULL;
    }
    close(fd);
    qdict_put_str(options, "size", text);
    if (bdrv_create(bdrv_find_format("qcow2"), name, options, errp) < 0) {
        unlink(name);
        return NULL;
    }
    return g_steal_pointer(&name);
}

/* A backend for a temporary overlay on top of the node of @blk. */
static BlockBackend *open_snapshot(BlockBackend *blk, int flags, Error **errp)
{
    g_autofree char *name = NULL;
    int64_t size = blk_getlength(blk);
    BlockBackend *overlay;
    QDict *options;

    if (size < 0) {
        error_setg_errno(errp, -size, "Could not get the size of the image");
        return NULL;
    }
    name = create_temporary(size, errp);
    if (!name) {
        return NULL;
    }
    options = qdict_new();
    qdict_put_str(options, "driver", "qcow2");
    qdict_put_str(options, "file.driver", "file");
    qdict_put_str(options, "file.filename", name);
    qdict_put_str(options, "backing", bdrv_get_node_name(blk_bs(blk)));
    overlay = blk_new_open(NULL, NULL, options, flags | BDRV_O_RDWR, errp);
    unlink(name);
    return overlay;
}

static BlockBackend *open_backend(const char *filename, QDict *options,
                                  const IoOpen *how, Error **errp)
{
    g_autoptr(BlockBackend) below = NULL;

    if (!how->snapshot) {
        return blk_new_open(filename, NULL, options, how->flags, errp);
    }
    below = blk_new_open(filename, NULL, options, how->flags & ~BDRV_O_RDWR,
                         errp);
    return below ? open_snapshot(below, how->flags, errp) : NULL;
}

int io_open_file(Io *io, const char *filename, QDict *options,
                 const IoOpen *how)
{
    Error *err = NULL;

    if (io->blk) {
        error_report("file open already, try 'help close'");
        qdict_unref(options);
        return -EBUSY;
    }
    if (how->force_share && !put_force_share(options)) {
        qdict_unref(options);
        return -EINVAL;
    }
    if (how->copy_on_read && !(how->flags & BDRV_O_RDWR)) {
        error_report("Can't use copy-on-read on read-only device");
        qdict_unref(options);
        return -EINVAL;
    }
    io->blk = open_backend(filename, options, how, &err);
    if (!io->blk) {
        error_reportf_err(err, "can't open%s%s: ", filename ? " device " : "",
                          filename ?: "");
        return -EINVAL;
    }
    blk_set_enable_write_cache(io->blk, !how->writethrough);
    io->copy_on_read = how->copy_on_read;
    return 0;
}

BdrvRequestFlags io_read_flags(Io *io)
{
    uint64_t perm, shared;

    /* Nothing is copied while the file is read-only after a reopen. */
    blk_get_perm(io->blk, &perm, &shared);
    return io->copy_on_read && (perm & BLK_PERM_WRITE) ? BDRV_REQ_COPY_ON_READ
                                                       : 0;
}
