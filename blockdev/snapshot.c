/* SPDX-License-Identifier: GPL-2.0-or-later */
/* External snapshots: overlays put on nodes that are in use. */
#include "util/osdep.h"
#include "block/block_int.h"
#include "block/create.h"
#include "blockdev/blockdev.h"
#include "qapi/qapi-commands.h"

/* --- blockdev-snapshot --- */

static bool check_overlay(BlockDriverState *overlay, BlockDriverState *bs,
                          Error **errp)
{
    if (overlay == bs) {
        error_setg(errp, "Node '%s' cannot be its own overlay",
                   bdrv_get_node_name(bs));
        return false;
    }
    if (!QLIST_EMPTY(&overlay->parents)) {
        error_setg(errp, "The overlay is already in use");
        return false;
    }
    if (overlay->backing) {
        error_setg(errp, "The overlay already has a backing image");
        return false;
    }
    if (!overlay->drv->supports_backing) {
        error_setg(errp, "The overlay does not support backing images");
        return false;
    }
    return true;
}

bool blockdev_snapshot_prepare(const BlockdevSnapshot *args,
                               BlockdevTransaction *tran, Error **errp)
{
    BlockDriverState *bs = blockdev_lookup(args->node, args->node, errp);
    BlockDriverState *overlay;

    if (!bs) {
        return false;
    }
    overlay = blockdev_lookup(args->overlay, args->overlay, errp);
    if (!overlay || !check_overlay(overlay, bs, errp)) {
        return false;
    }
    blockdev_transaction_append(tran, overlay, bs);
    return true;
}

/* --- blockdev-snapshot-sync --- */

/* A file that was made and a node that was opened for this transaction. */
typedef struct NewOverlay {
    char *new_file;             /* NULL: it was there before */
    BlockDriverState *bs;
} NewOverlay;

static void new_overlay_abort(void *opaque)
{
    NewOverlay *o = opaque;

    bdrv_unref(g_steal_pointer(&o->bs));
    if (o->new_file) {
        unlink(o->new_file);
    }
}

static void new_overlay_commit(void *opaque)
{
    NewOverlay *o = opaque;

    /* Without anybody above it, it is the user's. */
    if (QLIST_EMPTY(&o->bs->parents)) {
        o->bs->monitor_owned = true;
    } else {
        bdrv_unref(o->bs);
    }
}

static void new_overlay_clean(void *opaque)
{
    NewOverlay *o = opaque;

    g_free(o->new_file);
    g_free(o);
}

static const TransactionActionDrv new_overlay_drv = {
    .abort = new_overlay_abort,
    .commit = new_overlay_commit,
    .clean = new_overlay_clean,
};

static bool create_overlay(const BlockdevSnapshotSync *args,
                           const char *format, BlockDriverState *bs,
                           NewOverlay *o, Error **errp)
{
    struct stat st;
    int64_t size = bdrv_getlength(bs);
    bool is_new = lstat(args->snapshot_file, &st) < 0 && errno == ENOENT;

    if (size < 0) {
        error_setg_errno(errp, -size, "bdrv_getlength failed");
        return false;
    }
    bdrv_refresh_filename(bs);
    if (bdrv_img_create(args->snapshot_file, format, bs->filename,
                        bs->drv->format_name, NULL, size, BDRV_O_NO_BACKING,
                        true, errp) < 0) {
        return false;
    }
    if (is_new && lstat(args->snapshot_file, &st) == 0) {
        o->new_file = g_strdup(args->snapshot_file);
    }
    return true;
}

static bool open_overlay(const BlockdevSnapshotSync *args, const char *format,
                         BlockDriverState *bs, NewOverlay *o, Error **errp)
{
    QDict *options = qdict_new();
    int flags = bs->open_flags & (BDRV_O_RDWR | BDRV_O_CACHE_MASK |
                                  BDRV_O_UNMAP);

    qdict_put_str(options, "driver", format);
    if (args->snapshot_node_name) {
        qdict_put_str(options, "node-name", args->snapshot_node_name);
    }
    o->bs = bdrv_open(args->snapshot_file, NULL, options,
                      flags | BDRV_O_RDWR | BDRV_O_NO_BACKING, errp);
    return o->bs != NULL;
}

static BlockDriverState *check_sync_args(const BlockdevSnapshotSync *args,
                                         Error **errp)
{
    BlockDriverState *bs = blockdev_lookup(args->device, args->node_name,
                                           errp);

    if (!bs) {
        return NULL;
    }
    if (args->node_name && !args->snapshot_node_name) {
        error_setg(errp, "New overlay node-name missing");
        return NULL;
    }
    if (args->snapshot_node_name &&
        bdrv_find_node(args->snapshot_node_name)) {
        error_setg(errp, "New overlay node-name already in use");
        return NULL;
    }
    return bs;
}

bool blockdev_snapshot_sync_prepare(const BlockdevSnapshotSync *args,
                                    BlockdevTransaction *tran, Error **errp)
{
    const char *format = args->format ?: "qcow2";
    BlockDriverState *bs = check_sync_args(args, errp);
    BlockDriver *drv = bdrv_find_format(format);
    NewOverlay *o;

    if (!bs) {
        return false;
    }
    if (!drv) {
        error_setg(errp, "Unknown driver '%s'", format);
        return false;
    }
    if (!drv->supports_backing) {
        error_setg(errp, "The overlay does not support backing images");
        return false;
    }
    /* From here on there may be something to take back. */
    o = g_new0(NewOverlay, 1);
    tran_add(blockdev_transaction_tran(tran), &new_overlay_drv, o);
    if (!(args->has_mode && args->mode == NEW_IMAGE_MODE_EXISTING) &&
        !create_overlay(args, format, bs, o, errp)) {
        return false;
    }
    if (!open_overlay(args, format, bs, o, errp)) {
        return false;
    }
    blockdev_transaction_append(tran, o->bs, bs);
    return true;
}

/* --- commands --- */

void qmp_blockdev_snapshot(const char *node, const char *overlay,
                           Error **errp)
{
    BlockdevSnapshot args = {
        .node = (char *)node, .overlay = (char *)overlay,
    };
    BlockdevSnapshotWrapper wrapper = { .data = &args };
    TransactionAction action = {
        .type = TRANSACTION_ACTION_KIND_BLOCKDEV_SNAPSHOT,
        .u.blockdev_snapshot = wrapper,
    };
    TransactionActionList list = { .value = &action };

    blockdev_transaction_run(&list, errp);
}

void qmp_blockdev_snapshot_sync(const char *device, const char *node_name,
                                const char *snapshot_file,
                                const char *snapshot_node_name,
                                const char *format, bool has_mode,
                                NewImageMode mode, Error **errp)
{
    BlockdevSnapshotSync args = {
        .device = (char *)device,
        .node_name = (char *)node_name,
        .snapshot_file = (char *)snapshot_file,
        .snapshot_node_name = (char *)snapshot_node_name,
        .format = (char *)format,
        .has_mode = has_mode,
        .mode = mode,
    };
    TransactionAction action = {
        .type = TRANSACTION_ACTION_KIND_BLOCKDEV_SNAPSHOT_SYNC,
        .u.blockdev_snapshot_sync.data = &args,
    };
    TransactionActionList list = { .value = &action };

    blockdev_transaction_run(&list, errp);
}
