/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Opening nodes: from a file name, a node name, or options.
 * Main thread, outside coroutines.
 */
#ifndef BLOCK_OPEN_H
#define BLOCK_OPEN_H

#include "block/block-common.h"

/*
 * Opens a node, or takes one more reference to an existing one.
 *
 * @reference: name of an existing node; then nothing else may be given.
 * @filename: a path, a name with protocol prefix, or json:{...}; may be NULL
 *   if @options say everything.
 * @options: nested or dotted options as in BlockdevOptions, without "driver"
 *   if the format is to be guessed. The reference is taken over, always.
 * @flags: BDRV_O_*; options of the same meaning win over flags.
 *
 * Returns a node with one reference for the caller, or NULL.
 */
BlockDriverState *bdrv_open(const char *filename, const char *reference,
                            QDict *options, int flags, Error **errp);

/* @options, typed, in the nested form that bdrv_open() takes; the caller's. */
QDict *bdrv_options_to_qdict(BlockdevOptions *options);

/* "none"/"off", "writeback", … into BDRV_O_CACHE_MASK bits of *@flags and
 * *@writethrough; false if @mode is unknown. */
bool bdrv_parse_cache_mode(const char *mode, int *flags, bool *writethrough);
/* "ignore"/"off", "unmap"/"on". */
bool bdrv_parse_discard_flags(const char *mode, int *flags);
/* "threads", "native", "io_uring" into BDRV_O_AIO_MASK bits. The option "aio"
 * of a file node wins over them. */
bool bdrv_parse_aio(const char *mode, int *flags);

/* --- drivers by name --- */
BlockDriver *bdrv_find_format(const char *format_name);
/* By name prefix; a path without prefix is "file" or "host_device". */
BlockDriver *bdrv_find_protocol(const char *filename,
                                bool allow_protocol_prefix, Error **errp);
/* Best format for the first bytes; raw if nothing else matches. */
BlockDriver *bdrv_probe_all(const uint8_t *buf, int buf_size,
                            const char *filename);
/* Calls @it for every driver name, sorted. */
void bdrv_iterate_format(void (*it)(void *opaque, const char *name),
                         void *opaque, bool writable_only);

/* --- properties of open nodes --- */
bool bdrv_is_read_only(BlockDriverState *bs);
bool bdrv_is_writable(BlockDriverState *bs);
bool bdrv_is_inserted(BlockDriverState *bs);

/*
 * For an image opened without write: falls back to read-only if
 * auto-read-only allows it. Used by drivers in open.
 */
int bdrv_apply_auto_read_only(BlockDriverState *bs, const char *errmsg,
                              Error **errp);

/* --- file names --- */

/* Brings bs->filename and bs->exact_filename up to date, children first. */
void bdrv_refresh_filename(BlockDriverState *bs);
/* Absolute or openable name of @backing relative to @backed; caller frees. */
char *bdrv_get_full_backing_filename_from_filename(const char *backed,
                                                   const char *backing,
                                                   Error **errp);
char *bdrv_get_full_backing_filename(BlockDriverState *bs, Error **errp);

/* Replaces the name in the header of @bs (driver hook). */
int bdrv_change_backing_file(BlockDriverState *bs, const char *backing_file,
                             const char *backing_fmt);

ImageInfoSpecific *bdrv_get_specific_info(BlockDriverState *bs, Error **errp);

/* Once, before anything else of the block layer. */
void bdrv_init(void);
/* Closes what is left (monitor-owned nodes); asserts nothing else remains. */
void bdrv_close_all(void);

#endif
