/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The export 'fuse': a regular file in the host that is the disk.
 *
 *   create: mounted, served --> ending: unmounted, still served
 *                           --> stopped: all answered, descriptors closed
 *
 * Whoever has the file open keeps it when it is unmounted, until the descriptors
 * are closed; from then on the kernel says ENOTCONN. Somebody else's unmounting
 * ends the export as soon as nobody has the file open. Requests hold references
 * of the export; its mere being mounted does not.
 */
#include "util/osdep.h"
#include "block/export.h"
#include "fuse-mountpoint.h"
#include "fuse-server.h"
#include "util/fd.h"
#include "util/main-work.h"
#include "util/thread-pool.h"

typedef struct FuseExport {
    BlockExport common;
    FuseDisk disk;
    FuseServer *server;
    char *path;                 /* resolved */
    uint64_t device;            /* what is mounted there */
    int *fds;                   /* one for each thread */
    unsigned nb_fds;
    QLIST_ENTRY(FuseExport) next;
} FuseExport;

/* Main thread. */
static QLIST_HEAD(, FuseExport) fuse_exports =
    QLIST_HEAD_INITIALIZER(fuse_exports);

/* --- the length --- */

typedef struct Resize {
    BlockBackend *blk;
    int64_t length;
    PreallocMode prealloc;
} Resize;

/*
 * The permission is had only meanwhile, for others who rely on the length (a
 * commit below) could not start otherwise.
 */
static int resize_in_main_thread(void *opaque)
{
    Resize *r = opaque;
    uint64_t perm, shared;
    int ret;

    blk_get_perm(r->blk, &perm, &shared);
    if (!blk_set_perm(r->blk, perm | BLK_PERM_RESIZE, shared, NULL)) {
        return -EPERM;
    }
    ret = blk_truncate(r->blk, r->length, true, r->prealloc, 0, NULL);
    blk_set_perm(r->blk, perm, shared, &error_abort);
    return ret;
}

static int coroutine_fn co_truncate(void *opaque, int64_t length,
                                    PreallocMode prealloc)
{
    FuseExport *e = opaque;
    Resize r = { e->common.blk, length, prealloc };
    AioContext *ctx = qemu_get_current_aio_context();
    int ret;

    aio_co_reschedule_self(qemu_get_aio_context());
    ret = main_work_run_co(resize_in_main_thread, &r);
    aio_co_reschedule_self(ctx);
    return ret;
}

/* --- what the server tells --- */

static void end_in_main_thread(void *opaque)
{
    FuseExport *e = opaque;

    blk_exp_request_shutdown(&e->common);
    blk_exp_unref(&e->common);
}

static void on_ended(void *opaque, int error)
{
    FuseExport *e = opaque;

    if (error) {
        error_report("fuse export '%s': %s", e->common.id, strerror(-error));
    }
    blk_exp_ref(&e->common);
    aio_bh_schedule_oneshot(qemu_get_aio_context(), end_in_main_thread, e);
}

static void on_busy(void *opaque)
{
    blk_exp_ref(&((FuseExport *)opaque)->common);
}

static void on_idle(void *opaque)
{
    blk_exp_unref(&((FuseExport *)opaque)->common);
}

static const FuseServerOps server_ops = {
    .ended = on_ended,
    .busy = on_busy,
    .idle = on_idle,
};

/* --- making --- */

static bool take_path(FuseExport *e, const char *path, Error **errp)
{
    FuseExport *other;

    e->path = fuse_mountpoint_resolve(path, errp);
    if (!e->path) {
        return false;
    }
    /* Before anything asks that file something. */
    QLIST_FOREACH(other, &fuse_exports, next) {
        if (!strcmp(other->path, e->path)) {
            error_setg(errp, "There already is a FUSE export on '%s'", path);
            return false;
        }
    }
    return fuse_mountpoint_check(path, errp);
}

static bool take_permissions(FuseExport *e, bool growable, Error **errp)
{
    uint64_t perm, shared;

    e->disk.growable = growable && e->common.writable;
    if (!e->disk.growable) {
        return true;
    }
    blk_get_perm(e->common.blk, &perm, &shared);
    return blk_set_perm(e->common.blk, perm | BLK_PERM_RESIZE, shared, errp);
}

static bool mount_it(FuseExport *e, FuseExportAllowOther allow_other,
                     Error **errp)
{
    int fd = -1;

    if (allow_other != FUSE_EXPORT_ALLOW_OTHER_OFF) {
        e->disk.allow_other = true;
        fd = fuse_mountpoint_mount(e->path, true,
                                   allow_other == FUSE_EXPORT_ALLOW_OTHER_ON
                                   ? errp : NULL);
    }
    if (fd < 0 && allow_other != FUSE_EXPORT_ALLOW_OTHER_ON) {
        e->disk.allow_other = false;
        fd = fuse_mountpoint_mount(e->path, false, errp);
    }
    if (fd < 0) {
        return false;
    }
    e->fds[e->nb_fds++] = fd;
    e->device = fuse_mountpoint_device(e->path);
    return true;
}

static bool clone_fds(FuseExport *e, Error **errp)
{
    while (e->nb_fds < e->common.threads->len) {
        int fd = fuse_mountpoint_clone(e->fds[0], errp);

        if (fd < 0) {
            return false;
        }
        e->fds[e->nb_fds++] = fd;
    }
    return true;
}

static void serve(FuseExport *e)
{
    g_autofree AioContext **ctx = g_new(AioContext *, e->nb_fds);

    for (unsigned i = 0; i < e->nb_fds; i++) {
        ctx[i] = blk_exp_thread_ctx(&e->common, i);
    }
    fuse_disk_init(&e->disk);
    QLIST_INSERT_HEAD(&fuse_exports, e, next);
    e->server = fuse_server_new(&e->disk, &server_ops, e, e->fds, ctx,
                                e->nb_fds);
}

static void close_fds(FuseExport *e)
{
    while (e->nb_fds) {
        qemu_close(e->fds[--e->nb_fds]);
    }
}

static bool fuse_export_create(BlockExport *common, BlockExportOptions *options,
                               Error **errp)
{
    FuseExport *e = container_of(common, FuseExport, common);
    const BlockExportOptionsFuse *o = &options->u.fuse;

    e->disk = (FuseDisk) {
        .blk = common->blk, .writable = common->writable, .opaque = e,
    };
    e->fds = g_new(int, MAX(common->threads->len, 1));
    if (take_path(e, o->mountpoint, errp) &&
        take_permissions(e, o->has_growable && o->growable, errp) &&
        mount_it(e, o->has_allow_other ? o->allow_other
                                       : FUSE_EXPORT_ALLOW_OTHER_AUTO, errp)) {
        if (clone_fds(e, errp)) {
            e->disk.co_truncate = e->disk.growable ? NULL : co_truncate;
            serve(e);
            return true;
        }
        close_fds(e);           /* so that the helper need not ask us */
        fuse_mountpoint_unmount(e->path, e->device);
    }
    g_free(e->fds);
    g_free(e->path);
    return false;
}

/* --- ending --- */

static int unmount(void *opaque)
{
    FuseExport *e = opaque;

    fuse_mountpoint_unmount(e->path, e->device);
    return 0;
}

static void coroutine_fn end(void *opaque)
{
    FuseExport *e = opaque;

    /* Another thread: the file is served meanwhile. */
    if (thread_pool_submit_co(unmount, e) < 0) {
        unmount(e);
    }
    fuse_server_co_stop(e->server);
    close_fds(e);
    blk_exp_unref(&e->common);
}

static void fuse_export_request_shutdown(BlockExport *common)
{
    FuseExport *e = container_of(common, FuseExport, common);

    blk_exp_ref(common);
    aio_co_enter(qemu_get_aio_context(), qemu_coroutine_create(end, e));
}

static void fuse_export_delete(BlockExport *common)
{
    FuseExport *e = container_of(common, FuseExport, common);

    QLIST_REMOVE(e, next);
    fuse_disk_destroy(&e->disk);
    g_free(e->fds);
    g_free(e->path);
}

const BlockExportDriver blk_exp_fuse = {
    .type = BLOCK_EXPORT_TYPE_FUSE,
    .instance_size = sizeof(FuseExport),
    .supports_multithread = true,
    .create = fuse_export_create,
    .request_shutdown = fuse_export_request_shutdown,
    .delete = fuse_export_delete,
};
