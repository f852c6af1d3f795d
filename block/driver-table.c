/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The drivers in the build. Order decides nothing but which of two formats
 * that are equally sure of an image is taken.
 */
#include "util/osdep.h"
#include "block/driver-table.h"

BlockDriver *const bdrv_drivers[] = {
    &bdrv_blkdebug,
    &bdrv_blklogwrites,
    &bdrv_blkverify,
    &bdrv_compress,
    &bdrv_concat,
    &bdrv_copy_on_read,
    &bdrv_file,
    &bdrv_host_device,
    &bdrv_luks,
    &bdrv_nbd,
    &bdrv_null_aio,
    &bdrv_null_co,
    &bdrv_preallocate,
    &bdrv_qcow2,
    &bdrv_quorum,
    &bdrv_raw,
    &bdrv_throttle,
    NULL,
};
