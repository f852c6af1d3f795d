/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Opening what qemu-nbd exports:
 *
 *   [raw with an offset] -> [temporary overlay] -> the image
 */
#include "util/osdep.h"
#include "nbd/nbd.h"
#include "block/block_int.h"
#include "block/create.h"
#include "img/img.h"
#include "qobject/keyval.h"

/* The node on top of @blk, with other options, takes its place. */
static BlockBackend *put_on_top(BlockBackend *blk, QDict *options, int flags,
                                Error **errp)
{
    BlockBackend *top = blk_new_open(NULL, NULL, options, flags, errp);

    blk_unref(blk);
    return top;
}

static BlockBackend *open_file(const NbdArgs *a, Error **errp)
{
    QDict *options = a->image_opts ? keyval_parse_opts(a->filename, NULL, NULL)
                                   : qdict_new();
    int flags = a->flags;

    if (a->fmt) {
        qdict_put_str(options, "driver", a->fmt);
    }
    if (a->detect_zeroes && !a->snapshot) {
        qdict_put_str(options, "detect-zeroes", a->detect_zeroes);
    }
    if (a->snapshot) {
        flags &= ~BDRV_O_RDWR;
    }
    return blk_new_open(a->image_opts ? NULL : a->filename, NULL, options,
                        flags, errp);
}

/* A qcow2 file without a name, as soon as it is open. */
static BlockBackend *add_overlay(BlockBackend *blk, const NbdArgs *a,
                                 Error **errp)
{
    const char *dir = g_getenv("TMPDIR");
    g_autofree char *path = g_strdup_printf("%s/qemu-nbd.XXXXXX",
                                            dir ? dir : "/var/tmp");
    int64_t size = blk_getlength(blk);
    QDict *options;
    int fd = mkstemp(path);

    if (fd < 0) {
        error_setg_errno(errp, errno, "Could not get temporary filename "
                         "'%s'", path);
        blk_unref(blk);
        return NULL;
    }
    close(fd);
    if (bdrv_img_create(path, "qcow2", NULL, NULL, NULL, size, 0, true,
                        errp) < 0) {
        unlink(path);
        blk_unref(blk);
        return NULL;
    }
    options = qdict_new();
    qdict_put_str(options, "driver", "qcow2");
    qdict_put_str(options, "file.driver", "file");
    qdict_put_str(options, "file.filename", path);
    qdict_put_str(options, "backing", bdrv_get_node_name(blk_bs(blk)));
    if (a->detect_zeroes) {
        qdict_put_str(options, "detect-zeroes", a->detect_zeroes);
    }
    blk = put_on_top(blk, options, a->flags, errp);
    unlink(path);
    return blk;
}

static BlockBackend *add_window(BlockBackend *blk, const NbdArgs *a,
                                Error **errp)
{
    QDict *options = qdict_new();

    qdict_put_str(options, "driver", "raw");
    qdict_put_int(options, "offset", a->offset);
    qdict_put_str(options, "file", bdrv_get_node_name(blk_bs(blk)));
    return put_on_top(blk, options, a->flags, errp);
}

BlockBackend *nbd_open_image(const NbdArgs *a)
{
    Error *err = NULL;
    BlockBackend *blk = open_file(a, &err);

    if (blk && a->load_snapshot && !img_load_snapshot(blk, a->load_snapshot)) {
        blk_unref(blk);
        return NULL;
    }
    if (blk && a->snapshot) {
        blk = add_overlay(blk, a, &err);
    }
    if (blk && a->offset) {
        blk = add_window(blk, a, &err);
    }
    if (!blk) {
        error_reportf_err(err, "Failed to blk_new_open '%s': ", a->filename);
    }
    return blk;
}
