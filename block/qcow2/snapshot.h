/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Internal snapshots: their table, and the commands (snapshot-table.c, snapshot.c). */
#ifndef BLOCK_QCOW2_SNAPSHOT_H
#define BLOCK_QCOW2_SNAPSHOT_H

#include "block/qcow2/qcow2.h"

/* Reads the table that the header names. Fails on a bad one. [lock] */
int coroutine_fn qcow2_read_snapshots(BlockDriverState *bs, Error **errp);
void qcow2_free_snapshots(BDRVQcow2State *s);
/* Frees what the entry owns. */
void qcow2_snapshot_clear(QCowSnapshot *sn);
/* A check goes on without the extra data, and reports it. */
static inline bool qcow2_snapshot_extra_is_bad(const QCowSnapshot *sn)
{
    return sn->extra_data_size > QCOW_MAX_SNAPSHOT_EXTRA_DATA;
}
/* One more than the largest id that is a number; the caller frees. */
char *qcow2_snapshot_new_id(const BDRVQcow2State *s);
/*
 * The table of @nb entries as it will be on disk: *@size bytes in *@buf, which
 * the caller frees (qemu_vfree). -EFBIG, -ENOMEM.
 */
int qcow2_snapshot_table_build(BlockDriverState *bs,
                               const QCowSnapshot *snapshots, uint32_t nb,
                               void **buf, uint64_t *size, Error **errp);
/* -EINVAL if the place or size of its L1 table cannot be. */
int coroutine_fn qcow2_check_snapshot_l1(BlockDriverState *bs,
                                         const QCowSnapshot *sn, Error **errp);

/* Driver hooks, see block/snapshot.h. Main thread, node drained. */
SnapshotInfoList *qcow2_snapshot_list(BlockDriverState *bs, Error **errp);
int qcow2_snapshot_create(BlockDriverState *bs, QEMUSnapshotInfo *info,
                          Error **errp);
int qcow2_snapshot_goto(BlockDriverState *bs, const char *snapshot_id,
                        Error **errp);
int qcow2_snapshot_delete(BlockDriverState *bs, const char *snapshot_id,
                          const char *name, Error **errp);
int qcow2_snapshot_load_tmp(BlockDriverState *bs, const char *snapshot_id,
                            const char *name, Error **errp);

#endif
