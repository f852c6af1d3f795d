#include "util/osdep.h"
#include "block/block_int.h"
#include "block/driver-table.h"
BlockDriver bdrv_blkdebug = { .format_name = "blkdebug" };
BlockDriver bdrv_concat = { .format_name = "concat" };
BlockDriver bdrv_qcow2 = { .format_name = "qcow2" };
int bdrv_create_file(const char *filename, QDict *options, Error **errp) { abort(); }
