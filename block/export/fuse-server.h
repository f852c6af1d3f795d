/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The server of a FUSE connection: reads what the kernel asks for, has it carried
 * out on a disk in a coroutine of its own, and answers in whatever order requests
 * end. <linux/fuse.h> is the protocol.
 *
 * A connection has one or more descriptors, each a queue of its own: served by one
 * thread, which answers there what it has read there. Each keeps the boundaries of
 * messages (/dev/fuse does, and so do sockets of type SOCK_SEQPACKET).
 */
#ifndef BLOCK_EXPORT_FUSE_SERVER_H
#define BLOCK_EXPORT_FUSE_SERVER_H

#include "fuse-disk.h"

/* The most requests under way on a descriptor; more stay in the kernel. */
#define FUSE_SERVER_MAX_REQUESTS 128

typedef struct FuseServer FuseServer;

typedef struct FuseServerOps {
    /*
     * The connection has ended (unmounted by somebody): nothing is read any more.
     * @error: 0, or -errno that was not expected. Once for each descriptor; in any
     * thread. May be NULL.
     */
    void (*ended)(void *opaque, int error);
    /* Around each request, answer included. Any thread. May be NULL. */
    void (*busy)(void *opaque);
    void (*idle)(void *opaque);
} FuseServerOps;

/*
 * Serves @n descriptors, each in its context, from its next turn on. They are
 * made non-blocking and stay the caller's; @disk, @ops and @opaque stay valid until
 * fuse_server_co_stop() has returned. Main thread.
 */
FuseServer *fuse_server_new(FuseDisk *disk, const FuseServerOps *ops,
                            void *opaque, const int *fds, AioContext **ctx,
                            unsigned n);
/*
 * Nothing is read any more; returns when all that has been read is answered. Then
 * frees @server. A coroutine of the main thread.
 */
void coroutine_fn fuse_server_co_stop(FuseServer *server);

#endif
