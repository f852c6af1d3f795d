/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The export 'vhost-user-blk': a virtio block device on a Unix socket.
 *
 * One front-end at a time is served; the next one waits until it has gone. A
 * front-end is a user of the export: it holds a reference.
 */
#include "util/osdep.h"
#include <sys/socket.h>
#include "block/export.h"
#include "block/export/vhost-user.h"
#include "block/export/virtio-blk.h"
#include "sockets/listener.h"
#include "util/fd.h"

#define DEFAULT_BLOCK_SIZE 512
#define MAX_BLOCK_SIZE 32768
/* The number in a message that gives a queue a descriptor has eight bits. */
#define MAX_QUEUES 256
/* Front-ends that wait. */
#define BACKLOG 8

typedef struct VhostUserBlkExport {
    BlockExport common;
    VirtioBlk dev;
    VhostUser *vu;

    /* Main thread. */
    SocketListener listener;
    int sock;               /* of the front-end; -1: nobody is served */
} VhostUserBlkExport;

/* --- the device --- */

static uint64_t features(void *opaque)
{
    VhostUserBlkExport *e = opaque;

    return virtio_blk_features(&e->dev);
}

static void set_features(void *opaque, uint64_t bits)
{
    VhostUserBlkExport *e = opaque;

    virtio_blk_set_features(&e->dev, bits);
}

static void coroutine_fn co_get_config(void *opaque, uint8_t *config)
{
    VhostUserBlkExport *e = opaque;
    int64_t length = blk_co_getlength(e->dev.blk);

    virtio_blk_get_config(&e->dev, MAX(length, 0), config);
}

/* Only the switch of the write cache is the guest's. */
static bool set_config(void *opaque, uint32_t offset, const uint8_t *bytes,
                       uint32_t size)
{
    VhostUserBlkExport *e = opaque;

    if (offset != VIRTIO_BLK_CONFIG_WCE || size != 1 || bytes[0] > 1) {
        return false;
    }
    virtio_blk_set_write_cache(&e->dev, bytes[0]);
    return true;
}

static int64_t coroutine_fn co_request(void *opaque, VirtQueueElement *elem)
{
    VhostUserBlkExport *e = opaque;

    return virtio_blk_co_request(&e->dev, elem->out, elem->nb_out, elem->in,
                                 elem->nb_in);
}

static const VhostUserOps vhost_user_blk_ops = {
    .features = features,
    .set_features = set_features,
    .co_get_config = co_get_config,
    .set_config = set_config,
    .co_request = co_request,
};

static void on_resize(void *opaque)
{
    VhostUserBlkExport *e = opaque;

    vhost_user_config_changed(e->vu);
}

/* --- connections --- */

static void coroutine_fn serve(void *opaque)
{
    VhostUserBlkExport *e = opaque;
    Error *err = NULL;

    vhost_user_co_serve(e->vu, e->sock, &err);
    if (err) {
        warn_reportf_err(err, "vhost-user-blk export '%s': ", e->common.id);
    }
    qemu_close(e->sock);
    e->sock = -1;
    socket_listener_switch(&e->listener, true);
    blk_exp_unref(&e->common);
}

static void on_connect(void *opaque, int fd)
{
    VhostUserBlkExport *e = opaque;

    e->sock = fd;
    socket_listener_switch(&e->listener, false);
    blk_exp_ref(&e->common);
    virtio_blk_connect(&e->dev);
    aio_co_enter(qemu_get_aio_context(), qemu_coroutine_create(serve, e));
}

/* --- the export --- */

static bool take_options(VhostUserBlkExport *e,
                         const BlockExportOptionsVhostUserBlk *o, Error **errp)
{
    uint64_t block_size = o->has_logical_block_size ? o->logical_block_size
                                                    : DEFAULT_BLOCK_SIZE;
    uint16_t num_queues = o->has_num_queues ? o->num_queues : 1;

    if (block_size < DEFAULT_BLOCK_SIZE || block_size > MAX_BLOCK_SIZE ||
        block_size & (block_size - 1)) {
        error_setg(errp, "Parameter 'logical-block-size' must be a power of 2 "
                   "between %d and %d", DEFAULT_BLOCK_SIZE, MAX_BLOCK_SIZE);
        return false;
    }
    if (!num_queues || num_queues > MAX_QUEUES) {
        error_setg(errp, "Parameter 'num-queues' must be between 1 and %d",
                   MAX_QUEUES);
        return false;
    }
    if (o->addr->type != SOCKET_ADDRESS_TYPE_UNIX &&
        o->addr->type != SOCKET_ADDRESS_TYPE_FD) {
        error_setg(errp, "Parameter 'addr' must be a Unix socket: descriptors "
                   "are sent over it");
        return false;
    }
    e->dev = (VirtioBlk){
        .blk = e->common.blk, .serial = g_strdup("vhost_user_blk"),
        .logical_block_size = block_size, .num_queues = num_queues,
        .writable = e->common.writable,
        .write_cache = blk_enable_write_cache(e->common.blk),
        .wants_cache = blk_enable_write_cache(e->common.blk),
    };
    return true;
}

static bool vhost_user_blk_create(BlockExport *exp,
                                  BlockExportOptions *options, Error **errp)
{
    VhostUserBlkExport *e = container_of(exp, VhostUserBlkExport, common);
    const BlockExportOptionsVhostUserBlk *o = &options->u.vhost_user_blk;
    g_autofree AioContext **ctx = NULL;

    e->sock = -1;
    if (!take_options(e, o, errp)) {
        return false;
    }
    if (!socket_listener_open(&e->listener, o->addr, BACKLOG, on_connect, e,
                              errp)) {
        g_free(e->dev.serial);
        return false;
    }
    ctx = g_new(AioContext *, e->dev.num_queues);
    for (unsigned i = 0; i < e->dev.num_queues; i++) {
        ctx[i] = blk_exp_thread_ctx(exp, i);
    }
    e->vu = vhost_user_new(&vhost_user_blk_ops, e, ctx, e->dev.num_queues);
    blk_set_resize_cb(exp->blk, on_resize, e);
    socket_listener_switch(&e->listener, true);
    return true;
}

static void vhost_user_blk_request_shutdown(BlockExport *exp)
{
    VhostUserBlkExport *e = container_of(exp, VhostUserBlkExport, common);

    socket_listener_close(&e->listener);
    if (e->sock >= 0) {
        shutdown(e->sock, SHUT_RDWR);
    }
}

static void vhost_user_blk_delete(BlockExport *exp)
{
    VhostUserBlkExport *e = container_of(exp, VhostUserBlkExport, common);

    assert(e->sock < 0);
    blk_set_resize_cb(exp->blk, NULL, NULL);
    vhost_user_free(e->vu);
    g_free(e->dev.serial);
}

const BlockExportDriver blk_exp_vhost_user_blk = {
    .type = BLOCK_EXPORT_TYPE_VHOST_USER_BLK,
    .instance_size = sizeof(VhostUserBlkExport),
    .supports_multithread = true,
    .create = vhost_user_blk_create,
    .request_shutdown = vhost_user_blk_request_shutdown,
    .delete = vhost_user_blk_delete,
};
