/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Requests of a virtio block device (Virtual I/O Device specification 1.2,
 * section 5.2), whatever transport brings them.
 */
#ifndef BLOCK_EXPORT_VIRTIO_BLK_H
#define BLOCK_EXPORT_VIRTIO_BLK_H

#include "block/block-backend.h"

#define VIRTIO_BLK_SECTOR_BITS 9

/* Feature bits. */
#define VIRTIO_BLK_F_SEG_MAX 2
#define VIRTIO_BLK_F_RO 5
#define VIRTIO_BLK_F_BLK_SIZE 6
#define VIRTIO_BLK_F_FLUSH 9
#define VIRTIO_BLK_F_TOPOLOGY 10
#define VIRTIO_BLK_F_CONFIG_WCE 11
#define VIRTIO_BLK_F_MQ 12
#define VIRTIO_BLK_F_DISCARD 13
#define VIRTIO_BLK_F_WRITE_ZEROES 14

/* Bytes of struct virtio_blk_config up to the fields of write zeroes. */
#define VIRTIO_BLK_CONFIG_SIZE 60
/* Where its field writeback is. */
#define VIRTIO_BLK_CONFIG_WCE 32

/* Fixed while requests run, but for what the backend says of itself. */
typedef struct VirtioBlk {
    BlockBackend *blk;
    char *serial;               /* of GET_ID */
    uint32_t logical_block_size;
    uint16_t num_queues;
    bool writable;
    bool write_cache;           /* whether guests may have one */

    /* Main thread; virtio_blk_connect() and what follows. */
    bool wants_cache;           /* as the guest's switch stands */
    bool can_flush;             /* the guest's driver */
} VirtioBlk;

/* Bits of what the device can do. */
uint64_t virtio_blk_features(const VirtioBlk *dev);
/*
 * A driver comes, which has agreed on nothing yet. It finds the write cache on only
 * if neither the export nor the guest before has it off: what could be lost with
 * it must have been asked for.
 */
void virtio_blk_connect(VirtioBlk *dev);
/* The driver has agreed on @features. One that cannot flush has no write cache
 * (section 5.2.5). */
void virtio_blk_set_features(VirtioBlk *dev, uint64_t features);
/* The guest's switch. */
void virtio_blk_set_write_cache(VirtioBlk *dev, bool on);
/* Fills the configuration space, little-endian. Coroutine, or main thread. */
void coroutine_mixed_fn virtio_blk_get_config(const VirtioBlk *dev,
                                              int64_t length,
                                              uint8_t *config);
/*
 * Carries out the request whose buffers are @out and @in, with the status in
 * the last byte of @in, and returns the bytes written to @in, status included;
 * or -EINVAL: there is no header or no place for a status. Changes the
 * vectors. Coroutine, any thread.
 */
int64_t coroutine_fn virtio_blk_co_request(VirtioBlk *dev, struct iovec *out,
                                           unsigned nb_out, struct iovec *in,
                                           unsigned nb_in);

#endif
