/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A repair that is planned, or that can be undone (check-plan.c). */
#ifndef IMG_CHECK_H
#define IMG_CHECK_H

#include "block/record.h"
#include "img/img.h"

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
