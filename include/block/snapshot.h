/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Internal snapshots: states of a disk that an image keeps beside the current
 * one, with or without the state of a machine.
 *
 * A snapshot has an id, which is its own, and a name, which several may share.
 * Filters pass everything on to the node below. Main thread, outside
 * coroutines; the node is drained meanwhile. 0 or -errno with @errp set, in
 * which case nothing has changed.
 */
#ifndef BLOCK_SNAPSHOT_H
#define BLOCK_SNAPSHOT_H

#include "block/block-common.h"

typedef struct QEMUSnapshotInfo {
    char id_str[128];       /* empty at creation: the driver picks one */
    char name[256];
    uint64_t vm_state_size; /* bytes, 0: only the disk */
    uint32_t date_sec;      /* UTC since the epoch */
    uint32_t date_nsec;
    uint64_t vm_clock_nsec; /* guest time */
    uint64_t icount;        /* instructions; -1ULL: unknown */
} QEMUSnapshotInfo;

/* Whether snapshots can be taken on the node, which must be writable. */
bool bdrv_can_snapshot(BlockDriverState *bs);

/* In the order of the image; NULL if there are none, or with @errp set. */
SnapshotInfoList *bdrv_snapshot_list(BlockDriverState *bs, Error **errp);
/*
 * The first snapshot that is called @name; fills *@info with what fits. 0,
 * -ENOENT without an error text, or -errno.
 */
int bdrv_snapshot_find(BlockDriverState *bs, QEMUSnapshotInfo *info,
                       const char *name);

/* Takes one of the disk as it is. @info: what to keep with it; its id_str is
 * set. */
int bdrv_snapshot_create(BlockDriverState *bs, QEMUSnapshotInfo *info,
                         Error **errp);
/*
 * The disk becomes what the snapshot with this id, or else this name, keeps;
 * its size too. What the disk held is lost. -EBUSY while dirty bitmaps are on
 * the node, which would miss the change.
 */
int bdrv_snapshot_goto(BlockDriverState *bs, const char *snapshot_id,
                       Error **errp);
/* Deletes the one with @snapshot_id and @name; either may be NULL. */
int bdrv_snapshot_delete(BlockDriverState *bs, const char *snapshot_id,
                         const char *name, Error **errp);
/*
 * A node opened read-only shows the snapshot instead of the disk until it is
 * closed. Either argument may be NULL.
 */
int bdrv_snapshot_load_tmp(BlockDriverState *bs, const char *snapshot_id,
                           const char *name, Error **errp);
/* The same by id or else name. */
int bdrv_snapshot_load_tmp_by_id_or_name(BlockDriverState *bs,
                                         const char *id_or_name, Error **errp);

#endif
