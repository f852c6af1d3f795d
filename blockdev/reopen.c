/* SPDX-License-Identifier: GPL-2.0-or-later */
/* blockdev-reopen: several nodes in one transaction. */
#include "util/osdep.h"
#include "block/block_int.h"
#include "block/reopen.h"
#include "qapi/qapi-commands.h"

static BlockDriverState *reopen_node(const BlockdevOptions *options,
                                     GHashTable *seen, Error **errp)
{
    BlockDriverState *bs;

    if (!options->node_name) {
        error_setg(errp, "node-name not specified");
        return NULL;
    }
    bs = bdrv_lookup_node(options->node_name, errp);
    if (bs && !g_hash_table_add(seen, bs)) {
        error_setg(errp, "Node '%s' is in the list twice",
                   options->node_name);
        return NULL;
    }
    return bs;
}

void qmp_blockdev_reopen(BlockdevOptionsList *list, Error **errp)
{
    g_autoptr(GHashTable) seen = g_hash_table_new(NULL, NULL);
    BlockReopenQueue *queue = NULL;

    for (; list; list = list->next) {
        BlockDriverState *bs = reopen_node(list->value, seen, errp);

        if (!bs) {
            bdrv_reopen_queue_free(queue);
            return;
        }
        queue = bdrv_reopen_queue(queue, bs,
                                  bdrv_options_to_qdict(list->value), false);
    }
    if (queue) {
        bdrv_reopen_multiple(queue, errp);
    }
}
