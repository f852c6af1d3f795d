/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The command "transaction": several actions, all or none.
 *
 *   prepare each action        may fail; makes files and nodes, notes what is
 *                              to be undone
 *   put overlays in place      one change of the graph, may fail
 *   commit or abort            cannot fail
 */
#include "util/osdep.h"
#include "block/block_int.h"
#include "blockdev/blockdev.h"
#include "qapi/qapi-commands.h"

struct BlockdevTransaction {
    Transaction *tran;
    GArray *appends;            /* BdrvAppend, with references */
};

Transaction *blockdev_transaction_tran(BlockdevTransaction *tran)
{
    return tran->tran;
}

void blockdev_transaction_append(BlockdevTransaction *tran,
                                 BlockDriverState *overlay,
                                 BlockDriverState *bs)
{
    BdrvAppend append = { bdrv_ref(overlay), bdrv_ref(bs) };

    g_array_append_val(tran->appends, append);
}

static void append_clear(void *opaque)
{
    BdrvAppend *append = opaque;

    bdrv_unref(append->overlay);
    bdrv_unref(append->bs);
}

static bool prepare_abort(const Abort *args, BlockdevTransaction *tran,
                          Error **errp)
{
    error_setg(errp, "Transaction aborted using Abort action");
    return false;
}

static bool prepare_action(TransactionAction *action,
                           BlockdevTransaction *tran, Error **errp)
{
    switch (action->type) {
    case TRANSACTION_ACTION_KIND_ABORT:
        return prepare_abort(action->u.abort.data, tran, errp);
    case TRANSACTION_ACTION_KIND_BLOCKDEV_SNAPSHOT:
        return blockdev_snapshot_prepare(action->u.blockdev_snapshot.data,
                                         tran, errp);
    case TRANSACTION_ACTION_KIND_BLOCKDEV_SNAPSHOT_INTERNAL_SYNC:
        return blockdev_snapshot_internal_prepare(
            action->u.blockdev_snapshot_internal_sync.data, tran, errp);
    case TRANSACTION_ACTION_KIND_BLOCKDEV_SNAPSHOT_SYNC:
        return blockdev_snapshot_sync_prepare(
            action->u.blockdev_snapshot_sync.data, tran, errp);
    default:
        g_assert_not_reached();
    }
}

bool blockdev_transaction_run(TransactionActionList *actions, Error **errp)
{
    BlockdevTransaction tran = {
        .tran = tran_new(),
        .appends = g_array_new(FALSE, FALSE, sizeof(BdrvAppend)),
    };
    bool ok = true;

    g_array_set_clear_func(tran.appends, append_clear);
    for (; ok && actions; actions = actions->next) {
        ok = prepare_action(actions->value, &tran, errp);
    }
    if (ok && tran.appends->len) {
        ok = bdrv_append_multiple((BdrvAppend *)tran.appends->data,
                                  tran.appends->len, NULL, errp);
    }
    /* An overlay that is taken back must not be held any more. */
    g_array_free(tran.appends, TRUE);
    tran_finalize(tran.tran, ok ? 0 : -1);
    return ok;
}

void qmp_transaction(TransactionActionList *actions,
                     TransactionProperties *properties, Error **errp)
{
    if (properties && properties->has_completion_mode &&
        properties->completion_mode == ACTION_COMPLETION_MODE_GROUPED &&
        actions) {
        error_setg(errp, "Action '%s' does not support transaction property "
                   "completion-mode = grouped",
                   TransactionActionKind_str(actions->value->type));
        return;
    }
    blockdev_transaction_run(actions, errp);
}
