/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The header of an image that check -r all has found damage in. */
#include "util/osdep.h"
#include "block/block.h"
#include "block/block_int.h"
#include "img/check.h"
#include "qobject/qdict.h"

/* The driver that can repair the header of the image in @blk; NULL: none. */
static BlockDriver *header_driver(BlockBackend *blk, const char *filename,
                                  const char *format)
{
    uint8_t head[512] = { 0 };
    BlockDriver *drv;

    if (format) {
        drv = bdrv_find_format(format);
    } else if (blk_pread(blk, 0, sizeof(head), head, 0) < 0) {
        drv = NULL;
    } else {
        drv = bdrv_probe_all(head, sizeof(head), filename);
    }
    return drv && drv->bdrv_restore_header ? drv : NULL;
}

BlockBackend *img_check_open_raw(const char *filename, const ImgOpen *how,
                                 BlockDriver **drv)
{
    QDict *options = qdict_new();
    BlockBackend *blk;

    qdict_put_str(options, "driver", "raw");
    blk = blk_new_open(filename, NULL, options, how->flags, NULL);
    *drv = blk ? header_driver(blk, filename, how->fmt) : NULL;
    if (!*drv || !blk_bs(blk)->file) {
        blk_unref(blk);
        return NULL;
    }
    return blk;
}

int img_check_restore_header(BlockDriverState *file, BlockDriver *drv,
                             const char *filename, GString *said)
{
    int ret = drv->bdrv_restore_header(file, said);

    if (ret == -EAGAIN) {
        g_string_append(said, "Nothing is repaired: it is not certain which "
                              "of these is right\n");
    } else if (ret < 0) {
        error_report("Could not repair the header of '%s': %s", filename,
                     g_strerror(-ret));
    }
    return ret;
}
