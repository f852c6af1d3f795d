/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The back-end of a vhost-user connection: features, the guest's memory, and
 * queues that run in threads of their own, for a device that only knows
 * requests.
 *
 * vhost_user_co_serve() runs in the main loop and speaks with the front-end. To
 * start, stop or change a queue it moves to the queue's thread and back; a
 * queue's fields belong to that thread while it runs. Memory is exchanged only
 * while all queues stand still.
 */
#ifndef BLOCK_EXPORT_VHOST_USER_H
#define BLOCK_EXPORT_VHOST_USER_H

#include "block/export/virtqueue.h"
#include "util/aio.h"

typedef struct VhostUser VhostUser;

typedef struct VhostUserOps {
    /* Bits of the device's own features. */
    uint64_t (*features)(void *opaque);
    /* Those the driver has agreed on, among others. */
    void (*set_features)(void *opaque, uint64_t bits);
    /* Fills @config (VHOST_USER_CONFIG_MAX bytes, zeroed). */
    void coroutine_fn (*co_get_config)(void *opaque, uint8_t *config);
    /* False if the guest may not write there. */
    bool (*set_config)(void *opaque, uint32_t offset, const uint8_t *bytes,
                       uint32_t size);
    /*
     * A request from a queue: returns the bytes written to elem->in, or
     * -errno if it is none, which breaks the queue. In the queue's thread.
     */
    int64_t coroutine_fn (*co_request)(void *opaque, VirtQueueElement *elem);
} VhostUserOps;

/* @ctx: a thread for each of @num_queues queues; borrowed while it lives. */
VhostUser *vhost_user_new(const VhostUserOps *ops, void *opaque,
                          AioContext **ctx, unsigned num_queues);
/* No connection is served. NULL is fine. */
void vhost_user_free(VhostUser *vu);

/*
 * Serves the non-blocking socket @sock until the other side closes it, it is
 * shut down, or something is wrong with it, which is in @errp. All requests have
 * ended then. Main loop.
 */
void coroutine_fn vhost_user_co_serve(VhostUser *vu, int sock, Error **errp);
/* Tells the front-end that the configuration has changed. Main thread. */
void vhost_user_config_changed(VhostUser *vu);

#endif
