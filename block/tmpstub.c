#include "util/osdep.h"
#include "block/block_int.h"
#include "block/driver-table.h"
BlockDriver bdrv_blkdebug = { .format_name = "blkdebug" };
BlockDriver bdrv_concat = { .format_name = "concat" };
int bdrv_create_file(const char *filename, QDict *options, Error **errp) { abort(); }
#include "block/create.h"
BlockDriver bdrv_qcow2 = { .format_name = "qcow2" };
int bdrv_create(BlockDriver *drv, const char *filename, QDict *options, Error **errp) { return drv->bdrv_create(filename, options, errp); }
int bdrv_img_create(const char *filename, const char *fmt, const char *base_filename, const char *base_fmt, const char *options, int64_t img_size, int flags, bool quiet, Error **errp) { abort(); }
void bdrv_print_create_options(BlockDriver *drv, const char *filename) { abort(); }
