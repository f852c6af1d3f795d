/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The driver "host_device": a block or character device of the host. What is
 * special about devices in I/O is with the functions of the driver "file".
 */
#include "util/osdep.h"
#include "block/driver-table.h"
#include "block/file/file-int.h"

static int host_device_probe(const char *filename)
{
    struct stat st;

    if (stat(filename, &st) == 0 &&
        (S_ISBLK(st.st_mode) || S_ISCHR(st.st_mode))) {
        return 100;
    }
    return 0;
}

static bool host_device_parse_filename(const char *filename, QDict *options,
                                       Error **errp)
{
    return file_parse_prefixed(filename, "host_device:", options, errp);
}

static int host_device_open(BlockDriverState *bs, BlockdevOptions *options,
                            int flags, Error **errp)
{
    return file_open_node(bs, &options->u.host_device, true, flags, errp);
}

BlockDriver bdrv_host_device = {
    .format_name = "host_device",
    .id = BLOCKDEV_DRIVER_HOST_DEVICE,
    .protocol_name = "host_device",
    .instance_size = sizeof(BDRVFileState),
    .has_variable_length = true,
    .bdrv_probe_device = host_device_probe,
    .bdrv_parse_filename = host_device_parse_filename,
    .bdrv_open = host_device_open,
    .bdrv_close = file_close,
    .bdrv_reopen_prepare = file_reopen_prepare,
    .bdrv_reopen_commit = file_reopen_commit,
    .bdrv_reopen_abort = file_reopen_abort,
    .reopen_options = file_reopen_options,
    .supports_inactive = true,
    .bdrv_activate = file_activate,
    .bdrv_check_perm = file_check_perm,
    .bdrv_set_perm = file_set_perm,
    .bdrv_has_other_writer = file_has_other_writer,
    .bdrv_refresh_limits = file_refresh_limits,
    .bdrv_co_preadv = file_co_preadv,
    .bdrv_co_pwritev = file_co_pwritev,
    .bdrv_co_pwrite_zeroes = file_co_pwrite_zeroes,
    .bdrv_co_pdiscard = file_co_pdiscard,
    .bdrv_co_flush_to_disk = file_co_flush_to_disk,
    .bdrv_co_truncate = file_co_truncate,
    .bdrv_co_getlength = file_co_getlength,
    .bdrv_co_get_allocated_file_size = file_co_get_allocated_file_size,
    .bdrv_co_get_info = file_co_get_info,
    .bdrv_create = host_device_create,
    .create_options = qapi_CreateOptionsFile_members,
    .bdrv_refresh_filename = file_refresh_filename,
    .weak_options = file_weak_options,
};
