/* SPDX-License-Identifier: GPL-2.0-or-later */
/* convert --salvage: collects what is lost and reports it. Main thread. */
#ifndef IMG_CONVERT_SALVAGE_H
#define IMG_CONVERT_SALVAGE_H

#include "img/img.h"
#include "qobject/qlist.h"

typedef struct ImgSalvage ImgSalvage;

/* One source of the copy, opened with BDRV_O_SALVAGE. */
typedef struct ImgSalvageSource {
    const char *filename;
    BlockBackend *blk;
    int64_t start;          /* in the copy */
    int64_t length;
} ImgSalvageSource;

ImgSalvage *img_salvage_new(void);
void img_salvage_free(ImgSalvage *sv);

/* Looks through the metadata of a source; false after a message. */
bool img_salvage_survey(BlockBackend *blk, const char *filename);
/* Bytes of the copy became zeroes because of @error (-errno). Any number of
 * times for the same bytes. */
void img_salvage_lost(ImgSalvage *sv, int64_t offset, int64_t bytes,
                      int error);
/* The block status of a range could not be had. */
void img_salvage_no_status(ImgSalvage *sv);

/*
 * What is lost below offset @end of the copy, for a later run that is given it
 * back; false if the list is none.
 */
QList *img_salvage_save(const ImgSalvage *sv, int64_t end);
bool img_salvage_load(ImgSalvage *sv, QObject *list);

/*
 * Finds the causes, prints what is lost (only the summary if @quiet) and writes
 * the file @report, unless that is NULL. False after a message. Once.
 */
bool img_salvage_finish(ImgSalvage *sv, const ImgSalvageSource *sources,
                        int nb_sources, const char *report, bool quiet);
/* After that: nothing is lost, or suspect. */
bool img_salvage_is_whole(const ImgSalvage *sv);

#endif
