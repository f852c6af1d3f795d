/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The inside of a BlockBackend, for backend.c (life, edge, permissions) and
 * backend-io.c (requests).
 */
#ifndef BLOCK_BACKEND_INTERNAL_H
#define BLOCK_BACKEND_INTERNAL_H

#include "block/block-backend.h"
#include "block/block_int.h"
#include "util/queue.h"

struct BlockBackend {
    /* Main thread. */
    unsigned refcnt;
    char *name;                     /* may be NULL */
    char *owner;                /* for messages, instead of the name */
    uint64_t perm;
    uint64_t shared_perm;
    bool allow_inactive;        /* also while it has permissions to write */
    QTAILQ_ENTRY(BlockBackend) link;

    /* Graph write lock to change; requests read it under the read lock. */
    BdrvChild *root;

    /* Atomic. */
    bool enable_write_cache;
    bool allow_write_beyond_eof;
    bool disable_request_queuing;
    /* Requests begun and not queued; callbacks of asynchronous ones included */
    unsigned in_flight;
    /* > 0: the node is drained, requests queue. Raised by the main thread. */
    int quiesce_counter;

    /* Leaf lock. */
    QemuMutex queue_lock;
    CoQueue queue;                  /* requests that wait for the drain's end */
    QEMUBH *resize_bh;              /* who wants to know of lengths, or NULL */

    BlockAcctStats stats;           /* has its own lock */
};

/* Lets queued requests go on. */
void blk_wake_queued(BlockBackend *blk);

#endif
