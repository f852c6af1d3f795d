/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The command "transaction": several actions, all or none.
 *
 *   prepare each action        may fail; makes files and nodes, notes what is
 *                              to be undone
 *   put overlays in place      one change of the graph, may fail
 *   commit or abort            cannot fail; jobs that were made start, or go
 *
 * With completion-mode grouped these jobs share a JobTxn: they succeed or fail
 * together. What an action without a job does is done by then, and could not fail
 * with them: so it is refused.
 */
#include "util/osdep.h"
#include "block/block_int.h"
#include "blockdev/blockdev.h"
#include "qapi/qapi-commands.h"

struct BlockdevTransaction {
    Transaction *tran;
    GArray *appends;            /* BdrvAppend, with references */
    JobTxn *jobs;               /* NULL: each job has its own */
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

/* --- jobs --- */

JobTxn *blockdev_transaction_jobs(BlockdevTransaction *tran)
{
    return tran->jobs;
}

static void job_commit(void *job)
{
    job_start(job);
}

static void job_abort(void *job)
{
    job_discard(job);
}

static const TransactionActionDrv job_drv = {
    .commit = job_commit,
    .abort = job_abort,
};

void blockdev_transaction_add_job(BlockdevTransaction *tran, Job *job)
{
    tran_add(tran->tran, &job_drv, job);
}

static bool prepare_commit(const BlockCommit *args, BlockdevTransaction *tran,
                           Error **errp)
{
    Job *job = blockdev_commit_new(args, tran->jobs, errp);

    if (job) {
        blockdev_transaction_add_job(tran, job);
    }
    return job;
}

/* --- actions --- */

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
    case TRANSACTION_ACTION_KIND_BLOCK_COMMIT:
        return prepare_commit(action->u.block_commit.data, tran, errp);
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

static bool run(TransactionActionList *actions, JobTxn *jobs, Error **errp)
{
    BlockdevTransaction tran = {
        .tran = tran_new(),
        .appends = g_array_new(FALSE, FALSE, sizeof(BdrvAppend)),
        .jobs = jobs,
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

bool blockdev_transaction_run(TransactionActionList *actions, Error **errp)
{
    return run(actions, NULL, errp);
}

static bool can_be_grouped(TransactionActionKind kind)
{
    return kind == TRANSACTION_ACTION_KIND_ABORT ||
           kind == TRANSACTION_ACTION_KIND_BLOCK_COMMIT;
}

static void run_grouped(TransactionActionList *actions, Error **errp)
{
    JobTxn *jobs;

    for (TransactionActionList *a = actions; a; a = a->next) {
        if (!can_be_grouped(a->value->type)) {
            error_setg(errp, "Action '%s' does not support transaction "
                       "property completion-mode = grouped",
                       TransactionActionKind_str(a->value->type));
            return;
        }
    }
    jobs = job_txn_new();
    run(actions, jobs, errp);
    job_txn_unref(jobs);
}

void qmp_transaction(TransactionActionList *actions,
                     TransactionProperties *properties, Error **errp)
{
    if (properties && properties->has_completion_mode &&
        properties->completion_mode == ACTION_COMPLETION_MODE_GROUPED) {
        run_grouped(actions, errp);
    } else {
        run(actions, NULL, errp);
    }
}
