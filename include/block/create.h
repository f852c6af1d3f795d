/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Making image files. Main thread, outside coroutines. */
#ifndef BLOCK_CREATE_H
#define BLOCK_CREATE_H

#include "block/block-common.h"
#include "qapi/util.h"

/*
 * Creates an image with format driver @drv. @options: keyval-style strings of
 * the driver's create-options struct ("size" included), the protocol's own
 * (nocow, extent_size_hint) are handed on. Not taken over. A file that
 * existed is replaced; on failure a file that this call made is removed.
 */
int bdrv_create(BlockDriver *drv, const char *filename, QDict *options,
                Error **errp);

/* Creates the protocol-level file; for format drivers. */
int bdrv_create_file(const char *filename, QDict *options, Error **errp);

/*
 * Starts the job @id that makes the image @options, which are copied. False if
 * there is no such job then; whether it succeeds, the job tells.
 */
bool bdrv_create_job_start(const char *id, const BlockdevCreateOptions *options,
                           Error **errp);

/*
 * What `qemu-img create` does: looks at the backing file for the size and
 * format, checks the options, prints "Formatting …" to stdout unless @quiet.
 * @options: -o list, NULL if none. @img_size: bytes or -1.
 */
int bdrv_img_create(const char *filename, const char *fmt,
                    const char *base_filename, const char *base_fmt,
                    const char *options, int64_t img_size, int flags,
                    bool quiet, Error **errp);

/* `-o help`: the options of @drv (and its protocol) on stdout. */
void bdrv_print_create_options(BlockDriver *drv, const char *filename);

#endif
