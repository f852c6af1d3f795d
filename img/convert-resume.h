/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * convert --resume: the state file beside the target, which says up to where
 * the copy is complete and durable. Main thread.
 *
 * The file is JSON and is replaced as a whole. What must not change from one
 * run to the next is in it: the disks and files of the sources, the target, and
 * what was asked for.
 */
#ifndef IMG_CONVERT_RESUME_H
#define IMG_CONVERT_RESUME_H

#include "img/convert-salvage.h"

typedef struct ImgResume ImgResume;

/*
 * For a copy of @length bytes, before there is a target. Reads the state file
 * if there is one. NULL after a message: the target has no file beside it, or
 * the state is not of this copy. @args outlives the result.
 */
ImgResume *img_resume_new(const ConvertArgs *args,
                          const ImgSalvageSource *sources, int64_t length);
/* NULL is fine. Leaves the state file as it is. */
void img_resume_free(ImgResume *r);

/* There was a state file: the target exists and is not to be made. */
bool img_resume_is_found(const ImgResume *r);
/* Where to go on; 0 for a new copy. */
int64_t img_resume_start(const ImgResume *r);
/* What img_resume_begin() was told when the copy was new. */
bool img_resume_target_is_zero(const ImgResume *r);

/*
 * The target is open. Frees what an interrupted run left in it unused, and
 * notes in @salvage (may be NULL) what is known to be lost. False after a
 * message: it is not the file that was written then, or it is damaged.
 */
bool img_resume_begin(ImgResume *r, BlockBackend *target, bool target_is_zero,
                      ImgSalvage *salvage);

/*
 * Everything below @complete is in the target. Flushes it and saves the state,
 * if the last time is long ago. 0, or -errno of the flush; that the state
 * cannot be written only costs a warning, once. Coroutine.
 */
int coroutine_fn img_resume_landed(ImgResume *r, int64_t complete);
/* The same at once, after a failure. True if a later run can go on. */
bool img_resume_save(ImgResume *r, int64_t complete);
/* The copy is done: no state file any more. */
void img_resume_finish(ImgResume *r);

#endif
