/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The parts of qemu-img check. */
#ifndef IMG_CHECK_H
#define IMG_CHECK_H

#include "block/record.h"
#include "img/img.h"
#include "qapi/qapi-types.h"

/* What the command line says. */
typedef struct CheckArgs {
    ImgOpen how;
    const char *filename;
    ImgOutput output;
    BdrvCheckMode fix;
    BdrvCheckMode bitmaps;  /* 0: keep */
    bool bitmaps_given;
    BdrvCheckOrphans orphans;
    bool orphans_given;
    BdrvCheckL1Guard l1_guard;
    GArray *places;         /* BdrvCheckPlace */
    bool plan;              /* write nothing */
    const char *undo;       /* undo file; NULL: none */
    ImgProgress progress;
    bool header_fixed;      /* one field of it */
    bool live;              /* somebody else writes to the image */
    bool quiet;
} CheckArgs;

/* --- check-report.c --- */

/* See BdrvCheckOptions.lost; @opaque: an array of BdrvCheckLost. */
void img_check_add_lost(void *opaque, const BdrvCheckLost *lost);
/* Of an image with the name @filename; the caller frees it. */
ImageCheck *img_check_make_report(BlockDriverState *bs, const char *filename,
                                  const BdrvCheckResult *r,
                                  const GArray *lost);
/* What was repaired according to @from, which loses it, is said by @to. */
void img_check_add_repairs(ImageCheck *to, ImageCheck *from);
/* Prints it as the user wants it. */
void img_check_print_report(const CheckArgs *a, ImageCheck *c);
/* What a repair has done, before the image is checked again; for humans. */
void img_check_print_repaired(const CheckArgs *a, const ImageCheck *c);

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
