/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * qemu-nbd: one image over NBD.
 *
 * It ends when the last client has left (unless it is persistent) or a signal asks
 * for it; then the export goes first, so that nobody writes any more, and the
 * image is flushed and closed.
 */
#include "util/osdep.h"
#include "nbd/nbd.h"
#include "block/block_int.h"
#include "block/export.h"
#include "block/nbd-server.h"
#include "objects/object.h"
#include "sockets/sockets.h"
#include "storage-daemon/daemon.h"
#include "util/aio.h"

static void client_gone(void *opaque)
{
    const NbdArgs *a = opaque;
    unsigned left = nbd_server_nr_clients();

    if (a->verbose) {
        info_report("a client has left, %u are there", left);
    }
    if (!left && !a->persistent) {
        daemon_request_exit();
    }
}

static bool start_server(const NbdArgs *a, Error **errp)
{
    NBDServerConfig config = {
        .addr = a->addr,
        .tls_creds = a->tls_creds,
        .tls_authz = a->tls_authz,
        .max_connections = a->shared,
        .handshake_secs = a->handshake_secs,
    };
    g_autofree char *uri = socket_uri(a->addr);

    if (!nbd_server_start(&config, errp)) {
        return false;
    }
    nbd_server_set_gone_cb(client_gone, (void *)a);
    if (a->verbose) {
        info_report("listening on %s", uri);
    }
    return true;
}

static BlockDirtyBitmapOrStrList *bitmap_refs(const strList *names)
{
    BlockDirtyBitmapOrStrList *list = NULL, **tail = &list;

    for (; names; names = names->next) {
        BlockDirtyBitmapOrStr *ref = g_new0(BlockDirtyBitmapOrStr, 1);

        ref->type = QTYPE_QSTRING;
        ref->u.local = g_strdup(names->value);
        QAPI_LIST_APPEND(tail, ref);
    }
    return list;
}

static bool start_export(const NbdArgs *a, BlockBackend *blk, Error **errp)
{
    g_autoptr(BlockExportOptions) o = g_new0(BlockExportOptions, 1);

    o->type = BLOCK_EXPORT_TYPE_NBD;
    o->id = g_strdup("qemu-nbd-export");
    o->node_name = g_strdup(bdrv_get_node_name(blk_bs(blk)));
    o->has_writable = true;
    o->writable = a->flags & BDRV_O_RDWR;
    o->has_writethrough = true;
    o->writethrough = a->writethrough;
    o->u.nbd.name = g_strdup(a->name ?: "");
    o->u.nbd.description = g_strdup(a->description);
    o->u.nbd.has_bitmaps = a->bitmaps;
    o->u.nbd.bitmaps = bitmap_refs(a->bitmaps);
    o->u.nbd.has_allocation_depth = true;
    o->u.nbd.allocation_depth = a->allocation_depth;
    return blk_exp_add(o, errp);
}

static int serve(const NbdArgs *a)
{
    BlockBackend *blk = nbd_open_image(a);
    Error *err = NULL;
    int ret = 1;

    if (!blk) {
        return 1;
    }
    if ((!a->pid_file || daemon_pidfile(a->pid_file, &err)) &&
        start_server(a, &err) && start_export(a, blk, &err)) {
        daemon_started();
        daemon_main_loop();
        ret = 0;
    }
    if (err) {
        error_report_err(err);
    }
    blk_exp_close_all();
    nbd_server_stop();
    blk_unref(blk);
    bdrv_drain_all();
    bdrv_close_all();
    user_object_del_all();
    daemon_pidfile_remove();
    return ret;
}

/* They may have threads: not before the program is in the background. */
static bool make_objects(const NbdArgs *a, Error **errp)
{
    for (unsigned i = 0; i < a->objects->len; i++) {
        if (!user_object_add_from_option(a->objects->pdata[i], errp)) {
            return false;
        }
    }
    return true;
}

static int list(const NbdArgs *a)
{
    Error *err = NULL;
    bool ok = nbd_list(a, &err);

    if (!ok) {
        error_report_err(err);
    }
    user_object_del_all();
    return ok ? 0 : 1;
}

int main(int argc, char **argv)
{
    static NbdArgs args;
    Error *err = NULL;

    error_init(argv[0]);
    nbd_parse_args(&args, argc, argv);
    if (args.fork && !args.list) {
        daemon_background();
    }
    if (qemu_init_main_loop(&err) < 0) {
        error_report_err(err);
        return 1;
    }
    if (!args.list) {
        daemon_signals();
        bdrv_init();
    }
    if (!make_objects(&args, &err)) {
        error_report_err(err);
        return 1;
    }
    if (args.list) {
        return list(&args);
    }
    return serve(&args);
}
