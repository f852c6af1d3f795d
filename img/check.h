/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Repairs that are planned, or that can be undone, and those of headers. */
#ifndef IMG_CHECK_H
#define IMG_CHECK_H

#include "block/record.h"
#include "img/img.h"

/* --- check-header.c --- */

/*
 * The file of an image whose header may be repaired before the image is opened,
 * and in *@drv who does that; NULL if nobody can.
 */
BlockBackend *img_check_open_raw(const char *filename, const ImgOpen *how,
                                 BlockDriver **drv);
/*
 * See BlockDriver.bdrv_restore_header; a failure other than -EAGAIN has been
 * reported.
 */
int img_check_restore_header(BlockDriverState *file, BlockDriver *drv,
                             const char *filename, GString *said);

/* --- check-plan.c --- */

/*
 * A node that records what is written to the file of *@blk, which is closed and
 * then NULL. Returns a reference, or NULL after a message.
 */
BlockDriverState *img_check_record(BlockBackend **blk, const char *filename);
/* The same above a node that img_check_record() returned. NULL after a message. */
BlockBackend *img_check_open(BlockDriverState *record, const char *format,
                             const char *filename, const ImgOpen *how);
/*
 * The regular file that the node below @record is, open for reading; -1 after a
 * message.
 */
int img_check_open_file(BlockDriverState *record);

/* Messages go nowhere, until @saved, which mute returns, is given to unmute. */
int img_check_mute(void);
void img_check_unmute(int saved);

#endif
