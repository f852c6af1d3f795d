/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Commands about exports. */
#include "util/osdep.h"
#include "block/block_int.h"
#include "block/export.h"
#include "qapi/qapi-commands.h"

void qmp_block_export_add(BlockExportOptions *options, Error **errp)
{
    blk_exp_add(options, errp);
}

void qmp_block_export_del(const char *id, bool has_mode,
                          BlockExportRemoveMode mode, Error **errp)
{
    blk_exp_del(id, has_mode ? mode : BLOCK_EXPORT_REMOVE_MODE_SAFE, errp);
}

BlockExportInfoList *qmp_query_block_exports(Error **errp)
{
    BlockExportInfoList *list = NULL, **tail = &list;
    BlockExport *exp;

    for (exp = blk_exp_next(NULL); exp; exp = blk_exp_next(exp)) {
        BlockExportInfo *info = g_new0(BlockExportInfo, 1);

        info->id = g_strdup(exp->id);
        info->type = exp->drv->type;
        info->node_name = g_strdup(blk_bs(exp->blk)
                                   ? bdrv_get_node_name(blk_bs(exp->blk))
                                   : "");
        info->shutting_down = !exp->user_owned;
        QAPI_LIST_APPEND(tail, info);
    }
    return list;
}
