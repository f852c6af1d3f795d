#include "util/osdep.h"
#include "block/block_int.h"
#include "block/driver-table.h"
BlockDriver bdrv_blkdebug = { .format_name = "blkdebug" };
BlockDriver bdrv_concat = { .format_name = "concat" };
