/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Changing the options of an image that exists. Main thread, outside coroutines. */
#ifndef BLOCK_AMEND_H
#define BLOCK_AMEND_H

#include "block/block-common.h"

/* How far it is, 0 to 100; may go back at the start of another step. */
typedef void BdrvAmendProgressFn(void *opaque, double percent);

/* How to amend; zero-initialise. */
typedef struct BdrvAmendArgs {
    bool force;                     /* also what may lose all data */
    BdrvAmendProgressFn *progress;  /* may be NULL */
    void *opaque;
} BdrvAmendArgs;

/*
 * @options: keyval-style strings, those of `qemu-img amend -o`; not taken over.
 * @bs is writable. What cannot be done as a whole is refused, and changes
 * nothing; an I/O error in the middle leaves an image that is valid, and that
 * some options may have changed. 0 or -errno with @errp set.
 */
int bdrv_amend_options(BlockDriverState *bs, QDict *options,
                       const BdrvAmendArgs *args, Error **errp);

/*
 * Starts the job @id that does it with the image of @bs, for QMP's @options, which
 * are copied. False if there is no such job then; whether it succeeds, the job
 * tells.
 */
bool bdrv_amend_job_start(const char *id, BlockDriverState *bs,
                          BlockdevAmendOptions *options, bool force,
                          Error **errp);

/* `-o help` on stdout. False with @errp if @drv cannot amend. */
bool bdrv_print_amend_options(BlockDriver *drv, Error **errp);

#endif
