/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Nodes as users of QMP and of --blockdev have them: the commands' shared parts.
 * Main thread, outside coroutines.
 */
#ifndef BLOCKDEV_BLOCKDEV_H
#define BLOCKDEV_BLOCKDEV_H

#include "block/block.h"
#include "block/job.h"

/*
 * Opens a node that belongs to the user until blockdev-del. @options is
 * borrowed. NULL with @errp; the node is borrowed.
 */
BlockDriverState *blockdev_add(BlockdevOptions *options, Error **errp);
/* From an argument of --blockdev. */
bool blockdev_add_from_option(const char *text, Error **errp);

/*
 * The node that @device or @node_name (NULL: not given) means; both are looked
 * for among node names. Borrowed; the error names both.
 */
BlockDriverState *blockdev_lookup(const char *device, const char *node_name,
                                  Error **errp);

/* Events of nodes are sent from now on. */
void blockdev_init(void);

/*
 * An action of a transaction. All prepare, in order; then the overlays that
 * they asked for are put in place together; then all commit or all abort.
 */
typedef struct BlockdevTransaction BlockdevTransaction;

/* @overlay goes on top of @bs if everything prepares; takes references. */
void blockdev_transaction_append(BlockdevTransaction *tran,
                                 BlockDriverState *overlay,
                                 BlockDriverState *bs);
/* For what else there is to undo or to finish. */
Transaction *blockdev_transaction_tran(BlockdevTransaction *tran);

/*
 * For an action that starts a job: what the job is to belong to (NULL: nothing); and
 * a job that was made and is to be started or discarded with the transaction.
 */
JobTxn *blockdev_transaction_jobs(BlockdevTransaction *tran);
void blockdev_transaction_add_job(BlockdevTransaction *tran, Job *job);

/* Prepare functions; false with @errp. Arguments are borrowed. */
bool blockdev_snapshot_prepare(const BlockdevSnapshot *args,
                               BlockdevTransaction *tran, Error **errp);
bool blockdev_snapshot_internal_prepare(const BlockdevSnapshotInternal *args,
                                        BlockdevTransaction *tran,
                                        Error **errp);
bool blockdev_snapshot_sync_prepare(const BlockdevSnapshotSync *args,
                                    BlockdevTransaction *tran, Error **errp);

/* Runs @actions as the command "transaction" does without properties. */
bool blockdev_transaction_run(TransactionActionList *actions, Error **errp);

/* The job of block-commit, not started; NULL with @errp. @txn may be NULL. */
Job *blockdev_commit_new(const BlockCommit *args, JobTxn *txn, Error **errp);

#endif
