/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The device's side of a split virtqueue (Virtual I/O Device specification 1.2,
 * section 2.7), with indirect descriptors and event indices, and the record of
 * requests in flight that survives us (vhost-user specification, "Inflight I/O
 * tracking").
 *
 * What is in the rings is the guest's and may change at any time or be
 * nonsense: everything is read once and bounded; nonsense breaks the queue,
 * which then gives no more elements.
 *
 * One thread at a time uses a queue. Rings are little-endian.
 */
#ifndef BLOCK_EXPORT_VIRTQUEUE_H
#define BLOCK_EXPORT_VIRTQUEUE_H

#include "block/export/guest-memory.h"

#define VIRTQUEUE_MAX_SIZE 1024
/* Buffers of one request, in pieces of guest memory. */
#define VIRTQUEUE_MAX_IOV 1024

#define VIRTIO_RING_F_INDIRECT_DESC 28
#define VIRTIO_RING_F_EVENT_IDX 29

/* The record, as the other process keeps it. */
typedef struct InflightDesc {
    uint8_t inflight;
    uint8_t padding[5];
    uint16_t next;              /* of the last batch put back */
    uint64_t counter;           /* order of arrival */
} InflightDesc;

typedef struct InflightQueue {
    uint64_t features;
    uint16_t version;
    uint16_t desc_num;
    uint16_t last_batch_head;
    uint16_t used_idx;
    InflightDesc desc[];
} InflightQueue;

/* Bytes of the record of a queue, aligned for the next one. */
size_t virtqueue_inflight_size(unsigned queue_size);

typedef struct VirtQueue {
    /* Set by the owner before virtqueue_start(). */
    unsigned size;              /* power of two, up to VIRTQUEUE_MAX_SIZE */
    uint64_t desc_user, avail_user, used_user;  /* user addresses */
    uint16_t last_avail;        /* the next one to look at */
    int call_fd;                /* -1: none */
    int err_fd;
    InflightQueue *inflight;    /* NULL: no record */

    /* Inside. */
    const GuestMemory *mem;
    void *desc, *avail, *used;
    uint16_t used_idx;
    uint16_t signalled_used;
    bool signalled_valid;
    bool event_idx, indirect;
    bool broken;
    uint64_t counter;
    uint16_t *again;            /* heads that were in flight before, in order */
    unsigned nb_again, next_again;
} VirtQueue;

/* A request; g_free() it after virtqueue_push(). */
typedef struct VirtQueueElement {
    uint16_t head;
    unsigned nb_out, nb_in;     /* what the device reads, and writes */
    struct iovec *out, *in;
    struct iovec iov[];
} VirtQueueElement;

/* Whether a ring of @size entries may exist. */
bool virtqueue_size_is_valid(unsigned size);
/*
 * Looks the rings up in @mem, which stays until virtqueue_stop(). @features:
 * what has been negotiated. False with @errp: they are not in it.
 */
bool virtqueue_start(VirtQueue *vq, const GuestMemory *mem, uint64_t features,
                     Error **errp);
void virtqueue_stop(VirtQueue *vq);

/*
 * The next request, or NULL: there is none now, or the queue is broken. After
 * NULL the other side kicks before it expects to be seen again.
 */
VirtQueueElement *virtqueue_pop(VirtQueue *vq);
/* Gives @elem back with @written bytes in its `in` part. */
void virtqueue_push(VirtQueue *vq, const VirtQueueElement *elem,
                    uint32_t written);
/* Tells the other side of what was pushed since, if it wants to know. */
void virtqueue_notify(VirtQueue *vq);

/* A request was nonsense: no more are taken, and the other side is told. */
void virtqueue_break(VirtQueue *vq);

#endif
