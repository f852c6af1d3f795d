/* SPDX-License-Identifier: GPL-2.0-or-later */
/* blockdev-set-active: handing images over to another program, and back. */
#include "util/osdep.h"
#include "block/activate.h"
#include "block/block_int.h"
#include "qapi/qapi-commands.h"

void qmp_blockdev_set_active(const char *node_name, bool active, Error **errp)
{
    BlockDriverState *bs = NULL;

    if (node_name) {
        bs = bdrv_lookup_node(node_name, errp);
        if (!bs) {
            return;
        }
    }
    if (active) {
        bdrv_activate(bs, errp);
    } else {
        bdrv_inactivate(bs, errp);
    }
}
