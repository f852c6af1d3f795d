/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Commands that change one property of a node. */
#include "util/osdep.h"
#include "block/activate.h"
#include "block/block-backend.h"
#include "block/block_int.h"
#include "block/home.h"
#include "block/reopen.h"
#include "block/write-threshold.h"
#include "blockdev/blockdev.h"
#include "qapi/qapi-commands.h"
#include "qapi/qapi-events.h"

/* --- block_resize --- */

void qmp_block_resize(const char *device, const char *node_name, int64_t size,
                      Error **errp)
{
    BlockDriverState *bs;
    g_autoptr(BlockBackend) blk = NULL;

    if (device && node_name) {
        error_setg(errp, "Only one of 'device' and 'node-name' can be given");
        return;
    }
    bs = blockdev_lookup(device, node_name, errp);
    if (!bs) {
        return;
    }
    if (size < 0) {
        error_setg(errp, "Parameter 'size' expects a >0 size");
        return;
    }
    blk = blk_new(BLK_PERM_RESIZE, BLK_PERM_ALL);
    blk_set_owner(blk, "command 'block_resize'");
    if (!blk_insert_bs(blk, bs, errp)) {
        return;
    }
    bdrv_ref(bs);
    bdrv_drained_begin(bs);
    /* Through the edge: the backend would wait for the end of the drain. */
    bdrv_truncate(blk_root(blk), size, false, PREALLOC_MODE_OFF, 0, errp);
    bdrv_drained_end(bs);
    bdrv_unref(bs);
}

/* --- x-blockdev-set-iothread --- */

void qmp_x_blockdev_set_iothread(const char *node_name, StrOrNull *iothread,
                                 bool has_force, bool force, Error **errp)
{
    BlockDriverState *bs = bdrv_lookup_node(node_name, errp);

    if (bs) {
        bdrv_set_home(bs, iothread->type == QTYPE_QSTRING ? iothread->u.s
                                                          : NULL, errp);
    }
}

/* --- x-blockdev-change --- */

static void change_del_child(BlockDriverState *bs, const char *parent,
                             const char *name, Error **errp)
{
    BdrvChild *child = bdrv_find_child(bs, name);

    if (!child) {
        error_setg(errp, "Node '%s' does not have child '%s'", parent, name);
        return;
    }
    bdrv_del_child(bs, child, errp);
}

static void change_add_child(BlockDriverState *bs, const char *name,
                             Error **errp)
{
    BlockDriverState *child = bdrv_find_node(name);

    if (!child) {
        error_setg(errp, "Node '%s' not found", name);
        return;
    }
    bdrv_add_child(bs, child, errp);
}

void qmp_x_blockdev_change(const char *parent, const char *child,
                           const char *node, Error **errp)
{
    BlockDriverState *bs = blockdev_lookup(parent, parent, errp);

    if (!bs) {
        return;
    }
    if (!child == !node) {
        error_setg(errp, child ? "The parameters child and node are in conflict"
                               : "Either child or node must be specified");
        return;
    }
    if (child) {
        change_del_child(bs, parent, child, errp);
    } else {
        change_add_child(bs, node, errp);
    }
}

/* --- write threshold --- */

static void threshold_exceeded(BlockDriverState *bs, uint64_t exceeded,
                               uint64_t threshold)
{
    qapi_event_send_block_write_threshold(bdrv_get_node_name(bs), exceeded,
                                          threshold);
}

void qmp_block_set_write_threshold(const char *node_name, uint64_t threshold,
                                   Error **errp)
{
    BlockDriverState *bs = bdrv_find_node(node_name);

    if (!bs) {
        error_setg(errp, "Device '%s' not found", node_name);
        return;
    }
    bdrv_write_threshold_set(bs, threshold);
}

void blockdev_init(void)
{
    bdrv_write_threshold_set_handler(threshold_exceeded);
}

/* --- change-backing-file --- */

void qmp_change_backing_file(const char *device, const char *image_node_name,
                             const char *backing_file, Error **errp)
{
    BlockDriverState *bs = blockdev_lookup(device, device, errp);
    BlockDriverState *image;
    bool read_only;
    int ret;

    if (!bs) {
        return;
    }
    image = blockdev_lookup(NULL, image_node_name, errp);
    if (!image) {
        return;
    }
    if (!bdrv_chain_contains(bs, image)) {
        error_setg(errp, "'%s' and image file are not in the same chain",
                   device);
        return;
    }
    if (!backing_file[0]) {
        error_setg(errp, "The name of a backing file cannot be empty");
        return;
    }
    if (!bdrv_backing_chain_next(image)) {
        error_setg(errp, "not allowing backing file change on an image without "
                   "a backing file");
        return;
    }
    if (!bdrv_check_active(image, errp)) {
        return;
    }
    read_only = bdrv_is_read_only(image);
    if (read_only && bdrv_reopen_set_read_only(image, false, errp) < 0) {
        return;
    }
    ret = bdrv_change_backing_file(
        image, backing_file,
        bdrv_backing_chain_next(image)->drv->format_name);
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Could not change backing file to '%s'",
                         backing_file);
    }
    if (read_only) {
        Error *err = NULL;

        if (bdrv_reopen_set_read_only(image, true, &err) < 0) {
            error_reportf_err(err, "Node '%s' stays writable: ",
                              image_node_name);
        }
    }
}
