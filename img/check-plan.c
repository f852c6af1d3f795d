/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Nodes for repairs that are only planned, or that can be undone. */
#include "util/osdep.h"
#include <fcntl.h>
#include <sys/stat.h>
#include "block/block.h"
#include "block/block_int.h"
#include "img/check.h"
#include "qobject/qdict.h"

BlockBackend *img_check_open(BlockDriverState *record, const char *format,
                             const char *filename, const ImgOpen *how)
{
    ImgOpen again = *how;
    QDict *options = qdict_new();

    qdict_put_str(options, "driver", format);
    qdict_put_str(options, "file", bdrv_get_node_name(record));
    /* The check looks at one layer only. */
    qdict_put_null(options, "backing");
    again.fmt = NULL;
    again.image_opts = true;
    again.force_share = false;
    again.flags |= BDRV_O_RDWR;
    return img_open_options(filename, options, &again);
}

BlockDriverState *img_check_record(BlockBackend **blk, const char *filename)
{
    BlockDriverState *bs = blk_bs(*blk);
    g_autoptr(BlockDriverState) below = NULL;
    BlockDriverState *record;
    Error *err = NULL;

    if (!bs->file) {
        error_report("'%s' has no file to record", filename);
        return NULL;
    }
    below = bdrv_ref(bs->file->bs);
    /* Two users of the file would not share it. */
    blk_unref(*blk);
    *blk = NULL;
    record = bdrv_record_new(below, &err);
    if (!record) {
        error_reportf_err(err, "Could not open '%s': ", filename);
    }
    return record;
}

int img_check_open_file(BlockDriverState *record)
{
    BlockDriverState *bs = record;
    struct stat st;
    int fd;

    while (bs->drv->is_filter && bs->file) {
        bs = bs->file->bs;
    }
    fd = open(bs->exact_filename, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) ||
        strcmp(bdrv_get_format_name(bs), "file")) {
        error_report("--undo needs an image that is a regular file");
        if (fd >= 0) {
            close(fd);
        }
        return -1;
    }
    return fd;
}

int img_check_mute(void)
{
    int saved = dup(STDERR_FILENO);
    int null = open("/dev/null", O_WRONLY | O_CLOEXEC);

    fflush(stderr);
    if (saved >= 0 && null >= 0) {
        dup2(null, STDERR_FILENO);
    }
    if (null >= 0) {
        close(null);
    }
    return saved;
}

void img_check_unmute(int saved)
{
    fflush(stderr);
    if (saved >= 0) {
        dup2(saved, STDERR_FILENO);
        close(saved);
    }
}
