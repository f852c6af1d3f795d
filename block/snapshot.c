/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Internal snapshots, for all drivers that have them. */
#include "util/osdep.h"
#include "block/activate.h"
#include "block/block_int.h"
#include "block/io-internal.h"
#include "block/snapshot.h"
#include "util/timer.h"

/* The node that keeps the snapshots: @bs, or what its filters lead to. */
static BlockDriverState *snapshot_node(BlockDriverState *bs)
{
    while (bs && bs->drv && !bs->drv->bdrv_snapshot_create) {
        bs = bdrv_filter_bs(bs);
    }
    return bs && bs->drv ? bs : NULL;
}

static BlockDriverState *find_node(BlockDriverState *bs, Error **errp)
{
    BlockDriverState *node = snapshot_node(bs);

    if (!node) {
        error_setg(errp, "Block format '%s' does not support snapshots",
                   bdrv_get_format_name(bs) ?: "");
    }
    return node;
}

static BlockDriverState *find_writable(BlockDriverState *bs, Error **errp)
{
    BlockDriverState *node = find_node(bs, errp);

    if (node && !bdrv_check_active(node, errp)) {
        return NULL;
    }
    if (node && !(node->open_flags & BDRV_O_RDWR)) {
        error_setg(errp, "Node '%s' is read-only", node->node_name);
        return NULL;
    }
    return node;
}

bool bdrv_can_snapshot(BlockDriverState *bs)
{
    return find_writable(bs, NULL) != NULL;
}

SnapshotInfoList *bdrv_snapshot_list(BlockDriverState *bs, Error **errp)
{
    BlockDriverState *node = snapshot_node(bs);

    return node ? node->drv->bdrv_snapshot_list(node, errp) : NULL;
}

int bdrv_snapshot_find(BlockDriverState *bs, QEMUSnapshotInfo *info,
                       const char *name)
{
    g_autoptr(Error) err = NULL;
    g_autoptr(SnapshotInfoList) list = bdrv_snapshot_list(bs, &err);

    if (err) {
        return -EIO;
    }
    for (SnapshotInfoList *l = list; l; l = l->next) {
        const SnapshotInfo *sn = l->value;

        if (strcmp(sn->name, name)) {
            continue;
        }
        *info = (QEMUSnapshotInfo) {
            .vm_state_size = sn->vm_state_size,
            .date_sec = sn->date_sec,
            .date_nsec = sn->date_nsec,
            .vm_clock_nsec = sn->vm_clock_sec * NANOSECONDS_PER_SECOND +
                             sn->vm_clock_nsec,
            .icount = sn->has_icount ? (uint64_t)sn->icount : UINT64_MAX,
        };
        g_strlcpy(info->id_str, sn->id, sizeof(info->id_str));
        g_strlcpy(info->name, sn->name, sizeof(info->name));
        return 0;
    }
    return -ENOENT;
}

int bdrv_snapshot_create(BlockDriverState *bs, QEMUSnapshotInfo *info,
                         Error **errp)
{
    BlockDriverState *node = find_writable(bs, errp);
    int ret;

    if (!node) {
        return -ENOTSUP;
    }
    bdrv_drained_begin(node);
    ret = node->drv->bdrv_snapshot_create(node, info, errp);
    bdrv_drained_end(node);
    return ret;
}

int bdrv_snapshot_goto(BlockDriverState *bs, const char *snapshot_id,
                       Error **errp)
{
    BlockDriverState *node = find_writable(bs, errp);
    int ret;

    if (!node) {
        return -ENOTSUP;
    }
    for (BlockDriverState *n = bs;; n = bdrv_filter_bs(n)) {
        if (qatomic_read(&n->dirty_bitmap_count)) {
            error_setg(errp, "Node '%s' has active dirty bitmaps",
                       n->node_name);
            return -EBUSY;
        }
        if (n == node) {
            break;
        }
    }
    bdrv_drained_begin(node);
    ret = node->drv->bdrv_snapshot_goto(node, snapshot_id, errp);
    if (ret == 0) {
        ret = bdrv_follow_length(node);
        if (ret < 0) {
            error_setg_errno(errp, -ret, "Could not get the new disk size");
        }
    }
    bdrv_drained_end(node);
    return ret;
}

int bdrv_snapshot_delete(BlockDriverState *bs, const char *snapshot_id,
                         const char *name, Error **errp)
{
    BlockDriverState *node = find_writable(bs, errp);
    int ret;

    if (!node) {
        return -ENOTSUP;
    }
    if (!snapshot_id && !name) {
        error_setg(errp, "A snapshot needs an id or a name");
        return -EINVAL;
    }
    bdrv_drained_begin(node);
    ret = node->drv->bdrv_snapshot_delete(node, snapshot_id, name, errp);
    bdrv_drained_end(node);
    return ret;
}

int bdrv_snapshot_load_tmp(BlockDriverState *bs, const char *snapshot_id,
                           const char *name, Error **errp)
{
    BlockDriverState *node = find_node(bs, errp);
    int ret;

    if (!node) {
        return -ENOTSUP;
    }
    if (!snapshot_id && !name) {
        error_setg(errp, "A snapshot needs an id or a name");
        return -EINVAL;
    }
    if (node->open_flags & BDRV_O_RDWR) {
        error_setg(errp, "Node '%s' is not read-only", node->node_name);
        return -EINVAL;
    }
    bdrv_drained_begin(node);
    ret = node->drv->bdrv_snapshot_load_tmp(node, snapshot_id, name, errp);
    if (ret == 0) {
        ret = bdrv_follow_length(node);
        if (ret < 0) {
            error_setg_errno(errp, -ret, "Could not get the snapshot's size");
        }
    }
    bdrv_drained_end(node);
    return ret;
}

int bdrv_snapshot_load_tmp_by_id_or_name(BlockDriverState *bs,
                                         const char *id_or_name, Error **errp)
{
    g_autoptr(SnapshotInfoList) list = NULL;
    Error *err = NULL;

    list = bdrv_snapshot_list(bs, &err);
    if (err) {
        error_propagate(errp, err);
        return -EIO;
    }
    for (SnapshotInfoList *l = list; l; l = l->next) {
        if (!strcmp(l->value->id, id_or_name)) {
            return bdrv_snapshot_load_tmp(bs, id_or_name, NULL, errp);
        }
    }
    return bdrv_snapshot_load_tmp(bs, NULL, id_or_name, errp);
}
