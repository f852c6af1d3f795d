/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Damage: which ranges of a disk are lost, or not to be trusted.
 *
 * A node that is opened with BDRV_O_SALVAGE has a log of the damage in its
 * metadata. Its driver fills it: at open with notes, by a survey with ranges,
 * and later with what only reading could tell. Lost ranges fail with -EIO when
 * they are read, and block status tells them with BDRV_BLOCK_LOST.
 */
#ifndef BLOCK_DAMAGE_H
#define BLOCK_DAMAGE_H

#include "block/block-common.h"
#include "util/thread.h"

/* --- lists of ranges --- */

typedef struct BdrvDamage {
    int64_t offset;         /* in the guest's disk */
    int64_t bytes;
    int64_t host;           /* where in the node's file the fault is; -1: nobody
                             * knows */
    const char *cause;      /* lives as long as the program */
} BdrvDamage;

/*
 * Ranges in ascending order, none of which overlap. Neighbours of one cause are
 * one range if they also have one host offset, or lie together there, too.
 */
typedef struct BdrvDamageList {
    GArray *ranges;         /* of BdrvDamage */
    int64_t bytes;          /* of all of them */
    bool full;              /* something was left out: there is a limit */
} BdrvDamageList;

/* More ranges than that are not kept. */
#define BDRV_DAMAGE_MAX (1 << 20)

void bdrv_damage_list_init(BdrvDamageList *list);
void bdrv_damage_list_destroy(BdrvDamageList *list);
/* What the list has already keeps its cause. @d->bytes may be 0: nothing. */
void bdrv_damage_list_add(BdrvDamageList *list, const BdrvDamage *d);
/*
 * The range that @offset is in, or NULL. *@bytes (> 0) is made shorter to where
 * this answer ends.
 */
const BdrvDamage *bdrv_damage_list_find(const BdrvDamageList *list,
                                        int64_t offset, int64_t *bytes);

/* --- the log of a node --- */

typedef struct BdrvDamageLog {
    QemuMutex lock;
    BdrvDamageList lost;
    BdrvDamageList suspect; /* can be read, but may be wrong */
    GPtrArray *notes;       /* of char *: what was derived or left out */
} BdrvDamageLog;

typedef enum {
    BDRV_DAMAGE_LOST,
    BDRV_DAMAGE_SUSPECT,
} BdrvDamageKind;

/* How often metadata is read again before it counts as unreadable. Main thread,
 * before nodes are opened; 1 at first. */
extern unsigned bdrv_salvage_retries;

/* For the block layer and drivers: @bs was opened with BDRV_O_SALVAGE. Any
 * thread. */
void bdrv_damage_add(BlockDriverState *bs, BdrvDamageKind kind, int64_t offset,
                     int64_t bytes, int64_t host, const char *cause);
/*
 * True if the first *@bytes at @offset are lost, false if they are not; *@bytes
 * is made shorter so that one of it is true.
 */
bool bdrv_damage_find_lost(BlockDriverState *bs, int64_t offset,
                           int64_t *bytes);
void bdrv_damage_note(BlockDriverState *bs, const char *fmt, ...)
    G_GNUC_PRINTF(2, 3);

/*
 * Lets the drivers of @bs and of all nodes below look at their metadata and
 * note what is wrong with it. Nodes that were not opened with BDRV_O_SALVAGE
 * are left alone. -errno if that could not be done. Main thread.
 */
int bdrv_damage_survey(BlockDriverState *bs);
/* NULL if @bs was not opened with BDRV_O_SALVAGE. Owned by the node. */
BdrvDamageLog *bdrv_damage_log(BlockDriverState *bs);

/* For node.c. */
void bdrv_damage_log_free(BdrvDamageLog *log);

#endif
