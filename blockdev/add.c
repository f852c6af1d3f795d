/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Opening and closing nodes for the user. */
#include "util/osdep.h"
#include "block/block_int.h"
#include "blockdev/blockdev.h"
#include "qapi/qapi-commands.h"
#include "qapi/qapi-visit.h"
#include "qapi/qobject-input-visitor.h"

BlockDriverState *blockdev_lookup(const char *device, const char *node_name,
                                  Error **errp)
{
    BlockDriverState *bs = NULL;

    if (device) {
        bs = bdrv_find_node(device);
    }
    if (!bs && node_name) {
        bs = bdrv_find_node(node_name);
    }
    if (!bs) {
        error_setg(errp, "Cannot find device='%s' nor node-name='%s'",
                   device ?: "", node_name ?: "");
    }
    return bs;
}

BlockDriverState *blockdev_add(BlockdevOptions *options, Error **errp)
{
    BlockDriverState *bs;

    if (!options->node_name) {
        error_setg(errp, "'node-name' must be specified for the root node");
        return NULL;
    }
    bs = bdrv_open(NULL, NULL, bdrv_options_to_qdict(options), BDRV_O_RDWR,
                   errp);
    if (bs) {
        bs->monitor_owned = true;
    }
    return bs;
}

bool blockdev_add_from_option(const char *text, Error **errp)
{
    Visitor *v = qobject_input_visitor_new_str(text, "driver", errp);
    g_autoptr(BlockdevOptions) options = NULL;

    if (!v) {
        return false;
    }
    visit_type_BlockdevOptions(v, NULL, &options, errp);
    visit_free(v);
    return options && blockdev_add(options, errp);
}

void qmp_blockdev_add(BlockdevOptions *options, Error **errp)
{
    blockdev_add(options, errp);
}

/* "node 'top' as 'backing'": the first of its users. */
static char *describe_user(BlockDriverState *bs)
{
    BdrvChild *c = QLIST_FIRST(&bs->parents);
    g_autofree char *parent = c->klass->get_parent_desc(c);

    return g_strdup_printf("%s as '%s'", parent, c->name);
}

void qmp_blockdev_del(const char *node_name, Error **errp)
{
    BlockDriverState *bs = bdrv_lookup_node(node_name, errp);

    if (!bs) {
        return;
    }
    if (!QLIST_EMPTY(&bs->parents)) {
        g_autofree char *user = describe_user(bs);

        error_setg(errp, "Block device %s is in use: it is used by %s",
                   node_name, user);
        return;
    }
    if (!bs->monitor_owned) {
        error_setg(errp, "Node %s is not owned by the monitor", node_name);
        return;
    }
    if (bs->refcnt > 1) {
        error_setg(errp, "Block device %s is in use", node_name);
        return;
    }
    bs->monitor_owned = false;
    bdrv_unref(bs);
}
