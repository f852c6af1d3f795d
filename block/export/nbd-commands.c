/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Commands about the NBD server. */
#include "util/osdep.h"
#include "block/block_int.h"
#include "block/export.h"
#include "block/nbd.h"
#include "block/nbd-server.h"
#include "qapi/clone-visitor.h"
#include "qapi/qapi-commands.h"
#include "qapi/qapi-visit.h"
#include "sockets/sockets.h"

void qmp_nbd_server_start(NbdServerOptionsLegacy *o, Error **errp)
{
    NbdServerOptions options = {
        .has_handshake_max_seconds = o->has_handshake_max_seconds,
        .handshake_max_seconds = o->handshake_max_seconds,
        .tls_creds = o->tls_creds,
        .tls_authz = o->tls_authz,
        .has_max_connections = o->has_max_connections,
        .max_connections = o->max_connections,
        .addr = socket_address_flatten(o->addr),
    };

    nbd_server_start_options(&options, errp);
    qapi_free_SocketAddress(options.addr);
}

void qmp_nbd_server_add(NbdServerAddOptions *o, Error **errp)
{
    g_autoptr(BlockExportOptions) options = g_new0(BlockExportOptions, 1);
    BlockDriverState *bs = bdrv_find_node(o->device);
    const char *name = o->name ?: o->device;

    if (!nbd_server_is_running()) {
        error_setg(errp, "NBD server not running");
        return;
    }
    if (strlen(name) > NBD_MAX_STRING_SIZE) {
        error_setg(errp, "export name '%s' too long", name);
        return;
    }
    options->type = BLOCK_EXPORT_TYPE_NBD;
    options->id = g_strdup(name);
    options->node_name = g_strdup(o->device);
    options->has_writable = true;
    options->writable = o->has_writable && o->writable &&
                        !(bs && bdrv_is_read_only(bs));
    options->u.nbd.name = g_strdup(name);
    options->u.nbd.description = g_strdup(o->description);
    if (o->bitmap) {
        BlockDirtyBitmapOrStr *ref = g_new0(BlockDirtyBitmapOrStr, 1);

        ref->type = QTYPE_QSTRING;
        ref->u.local = g_strdup(o->bitmap);
        options->u.nbd.has_bitmaps = true;
        QAPI_LIST_PREPEND(options->u.nbd.bitmaps, ref);
    }
    blk_exp_add(options, errp);
}

void qmp_nbd_server_remove(const char *name, bool has_mode,
                           BlockExportRemoveMode mode, Error **errp)
{
    BlockExport *exp = blk_exp_find(name);

    if (exp && exp->drv->type != BLOCK_EXPORT_TYPE_NBD) {
        error_setg(errp, "Block export '%s' is not an NBD export", name);
        return;
    }
    blk_exp_del(name, has_mode ? mode : BLOCK_EXPORT_REMOVE_MODE_SAFE, errp);
}

void qmp_nbd_server_stop(Error **errp)
{
    if (!nbd_server_is_running()) {
        error_setg(errp, "NBD server not running");
        return;
    }
    nbd_server_stop();
}
