/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Internal snapshots: taking one, alone or in a transaction, and deleting one. */
#include "util/osdep.h"
#include "block/activate.h"
#include "block/block_int.h"
#include "blockdev/blockdev.h"
#include "qapi/clone-visitor.h"
#include "qapi/qapi-commands.h"
#include "qapi/qapi-visit.h"

/* The first that has the @id and the @name, as far as they are given; a copy. */
static SnapshotInfo *find_snapshot(BlockDriverState *bs, const char *id,
                                   const char *name, Error **errp)
{
    g_autoptr(SnapshotInfoList) list = bdrv_snapshot_list(bs, errp);

    for (SnapshotInfoList *l = list; l; l = l->next) {
        if ((!id || !strcmp(l->value->id, id)) &&
            (!name || !strcmp(l->value->name, name))) {
            return QAPI_CLONE(SnapshotInfo, l->value);
        }
    }
    return NULL;
}

static BlockDriverState *find_node(const char *device, Error **errp)
{
    BlockDriverState *bs = blockdev_lookup(device, device, errp);

    if (!bs || !bdrv_check_active(bs, errp)) {
        return NULL;
    }
    if (bdrv_is_read_only(bs)) {
        error_setg(errp, "Device '%s' is read only", device);
        return NULL;
    }
    if (!bdrv_can_snapshot(bs)) {
        error_setg(errp, "Block format '%s' used by device '%s' does not "
                   "support internal snapshots", bs->drv->format_name,
                   device);
        return NULL;
    }
    return bs;
}

/* --- taking --- */

/* The node stays at rest until all of the transaction has been done. */
typedef struct TakenSnapshot {
    BlockDriverState *bs;       /* a reference, drained */
    QEMUSnapshotInfo info;
    bool taken;
} TakenSnapshot;

static void taken_abort(void *opaque)
{
    TakenSnapshot *t = opaque;
    Error *err = NULL;

    if (t->taken && bdrv_snapshot_delete(t->bs, t->info.id_str, t->info.name,
                                         &err) < 0) {
        error_reportf_err(err, "Snapshot '%s' of node '%s' stays: ",
                          t->info.name, bdrv_get_node_name(t->bs));
    }
}

static void taken_clean(void *opaque)
{
    TakenSnapshot *t = opaque;

    bdrv_drained_end(t->bs);
    bdrv_unref(t->bs);
    g_free(t);
}

static const TransactionActionDrv taken_drv = {
    .abort = taken_abort,
    .clean = taken_clean,
};

static bool check_name(BlockDriverState *bs,
                       const BlockdevSnapshotInternal *args,
                       const QEMUSnapshotInfo *info, Error **errp)
{
    ERRP_GUARD();
    SnapshotInfo *old;

    if (!args->name[0]) {
        error_setg(errp, "Name is empty");
        return false;
    }
    if (strlen(args->name) >= sizeof(info->name)) {
        error_setg(errp, "The name is longer than %zu bytes",
                   sizeof(info->name) - 1);
        return false;
    }
    old = find_snapshot(bs, NULL, args->name, errp);
    if (old) {
        error_setg(errp, "Snapshot with name '%s' already exists on device "
                   "'%s'", args->name, args->device);
        qapi_free_SnapshotInfo(old);
    }
    return !*errp;
}

bool blockdev_snapshot_internal_prepare(const BlockdevSnapshotInternal *args,
                                        BlockdevTransaction *tran,
                                        Error **errp)
{
    BlockDriverState *bs = find_node(args->device, errp);
    int64_t now = g_get_real_time();
    TakenSnapshot *t;

    if (!bs) {
        return false;
    }
    t = g_new0(TakenSnapshot, 1);
    t->bs = bdrv_ref(bs);
    t->info.date_sec = now / G_USEC_PER_SEC;
    t->info.date_nsec = now % G_USEC_PER_SEC * 1000;
    t->info.icount = -1ULL;
    bdrv_drained_begin(bs);
    tran_add(blockdev_transaction_tran(tran), &taken_drv, t);
    if (!check_name(bs, args, &t->info, errp)) {
        return false;
    }
    g_strlcpy(t->info.name, args->name, sizeof(t->info.name));
    if (bdrv_snapshot_create(bs, &t->info, errp) < 0) {
        return false;
    }
    t->taken = true;
    return true;
}

void qmp_blockdev_snapshot_internal_sync(const char *device, const char *name,
                                         Error **errp)
{
    BlockdevSnapshotInternal args = {
        .device = (char *)device, .name = (char *)name,
    };
    TransactionAction action = {
        .type = TRANSACTION_ACTION_KIND_BLOCKDEV_SNAPSHOT_INTERNAL_SYNC,
        .u.blockdev_snapshot_internal_sync.data = &args,
    };
    TransactionActionList list = { .value = &action };

    blockdev_transaction_run(&list, errp);
}

/* --- deleting --- */

SnapshotInfo *qmp_blockdev_snapshot_delete_internal_sync(const char *device,
                                                         const char *id,
                                                         const char *name,
                                                         Error **errp)
{
    ERRP_GUARD();
    BlockDriverState *bs = find_node(device, errp);
    SnapshotInfo *info;

    if (!bs) {
        return NULL;
    }
    if (!id && !name) {
        error_setg(errp, "Name or id must be provided");
        return NULL;
    }
    info = find_snapshot(bs, id, name, errp);
    if (!info) {
        if (!*errp) {
            error_setg(errp, "Snapshot with id '%s' and name '%s' does not "
                       "exist on device '%s'", id ?: "null", name ?: "null",
                       device);
        }
        return NULL;
    }
    if (bdrv_snapshot_delete(bs, info->id, info->name, errp) < 0) {
        qapi_free_SnapshotInfo(info);
        return NULL;
    }
    return info;
}
