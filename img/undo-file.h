/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Undo files: what was in an image before a repair. docs/devel/qcow2-check.md
 * has the layout. Main thread.
 */
#ifndef IMG_UNDO_FILE_H
#define IMG_UNDO_FILE_H

#include "util/osdep.h"
#include "util/error.h"

typedef struct UndoFile UndoFile;

/*
 * Makes the file @path, which must not exist, for an image that is open for
 * reading as @image and in which @extents (BdrvRecordExtent) will change, and
 * its length up to @max_length. Durable when it returns. NULL on failure; then
 * there is no file.
 */
UndoFile *undo_file_create(const char *path, int image, const GArray *extents,
                           uint64_t max_length, Error **errp);
/* The image is as it shall stay. False on failure: it can be undone still. */
bool undo_file_finish(UndoFile *undo, int image, Error **errp);

/* Opens one that exists. */
UndoFile *undo_file_open(const char *path, Error **errp);
/*
 * Gives the image, open for writing, its old content and length. Refuses, and
 * nothing was written, if anything else has changed in it. After any other
 * failure it can be tried again.
 */
bool undo_file_apply(UndoFile *undo, int image, Error **errp);

void undo_file_free(UndoFile *undo);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(UndoFile, undo_file_free)

#endif
