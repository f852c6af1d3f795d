/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Every driver, for the table of them and for the file that defines it. */
#ifndef BLOCK_DRIVER_TABLE_H
#define BLOCK_DRIVER_TABLE_H

#include "block/block_int.h"

/* Protocols. */
extern BlockDriver bdrv_file;
extern BlockDriver bdrv_host_device;
extern BlockDriver bdrv_nbd;
extern BlockDriver bdrv_null_aio;
extern BlockDriver bdrv_null_co;

/* Formats. */
extern BlockDriver bdrv_luks;
extern BlockDriver bdrv_qcow2;
extern BlockDriver bdrv_raw;

/* Filters and nodes made of several others. */
extern BlockDriver bdrv_blkdebug;
extern BlockDriver bdrv_blklogwrites;
extern BlockDriver bdrv_blkverify;
extern BlockDriver bdrv_compress;
extern BlockDriver bdrv_concat;
extern BlockDriver bdrv_copy_on_read;
extern BlockDriver bdrv_preallocate;
extern BlockDriver bdrv_quorum;
extern BlockDriver bdrv_throttle;

#endif
