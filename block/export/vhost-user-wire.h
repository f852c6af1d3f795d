/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Messages of the vhost-user protocol (its specification, "Message
 * Specification"): a header of three words, a payload, and descriptors beside
 * the first byte. Numbers are of the host's byte order. Coroutines, in the
 * thread that serves the connection.
 */
#ifndef BLOCK_EXPORT_VHOST_USER_WIRE_H
#define BLOCK_EXPORT_VHOST_USER_WIRE_H

#include "block/export/guest-memory.h"
#include "util/coroutine.h"

typedef enum VhostUserRequest {
    VHOST_USER_GET_FEATURES = 1,
    VHOST_USER_SET_FEATURES = 2,
    VHOST_USER_SET_OWNER = 3,
    VHOST_USER_RESET_OWNER = 4,
    VHOST_USER_SET_MEM_TABLE = 5,
    VHOST_USER_SET_VRING_NUM = 8,
    VHOST_USER_SET_VRING_ADDR = 9,
    VHOST_USER_SET_VRING_BASE = 10,
    VHOST_USER_GET_VRING_BASE = 11,
    VHOST_USER_SET_VRING_KICK = 12,
    VHOST_USER_SET_VRING_CALL = 13,
    VHOST_USER_SET_VRING_ERR = 14,
    VHOST_USER_GET_PROTOCOL_FEATURES = 15,
    VHOST_USER_SET_PROTOCOL_FEATURES = 16,
    VHOST_USER_GET_QUEUE_NUM = 17,
    VHOST_USER_SET_VRING_ENABLE = 18,
    VHOST_USER_SET_BACKEND_REQ_FD = 21,
    VHOST_USER_GET_CONFIG = 24,
    VHOST_USER_SET_CONFIG = 25,
    VHOST_USER_GET_INFLIGHT_FD = 31,
    VHOST_USER_SET_INFLIGHT_FD = 32,
} VhostUserRequest;

/* What we send on the back-end's channel. */
#define VHOST_USER_BACKEND_CONFIG_CHANGE_MSG 2

#define VHOST_USER_F_PROTOCOL_FEATURES 30
#define VHOST_USER_PROTOCOL_F_MQ 0
#define VHOST_USER_PROTOCOL_F_REPLY_ACK 3
#define VHOST_USER_PROTOCOL_F_BACKEND_REQ 5
#define VHOST_USER_PROTOCOL_F_CONFIG 9
#define VHOST_USER_PROTOCOL_F_INFLIGHT_SHMFD 12

#define VHOST_USER_CONFIG_MAX 256
/* In the word that SET_VRING_KICK, CALL and ERR have. */
#define VHOST_USER_VRING_INDEX_MASK 0xff
#define VHOST_USER_VRING_NOFD 0x100

typedef struct VhostUserMessage {
    uint32_t request;
    uint32_t flags;
    uint32_t size;              /* of the payload */
    union {
        uint64_t u64;
        struct {
            uint32_t index;
            uint32_t num;
        } state;
        struct {
            uint32_t index;
            uint32_t flags;
            uint64_t desc, used, avail, log;
        } addr;
        struct {
            uint32_t count;
            uint32_t padding;
            GuestRegion regions[GUEST_MEMORY_MAX_REGIONS];
        } memory;
        struct {
            uint32_t offset;
            uint32_t size;
            uint32_t flags;
            uint8_t bytes[VHOST_USER_CONFIG_MAX];
        } config;
        struct {
            uint64_t mmap_size;
            uint64_t mmap_offset;
            uint16_t num_queues;
            uint16_t queue_size;
        } inflight;
    };
    int fds[GUEST_MEMORY_MAX_REGIONS];  /* ours; -1 where taken away */
    int nb_fds;
} VhostUserMessage;

/*
 * The next message of the non-blocking socket @sock. 1; 0 if the other side has
 * closed it; -1 with @errp. Close its descriptors with
 * vhost_user_message_clear().
 */
int coroutine_fn vhost_user_co_recv(int sock, VhostUserMessage *msg,
                                    Error **errp);
void vhost_user_message_clear(VhostUserMessage *msg);
/* Takes the descriptor at @i out of it; -1 if there is none. */
int vhost_user_message_take_fd(VhostUserMessage *msg, int i);
/* Whether the other side waits for an acknowledgement. */
bool vhost_user_message_needs_ack(const VhostUserMessage *msg);

/* Sends @msg as a reply, with @fd unless it is -1. 0 or -errno. */
int coroutine_fn vhost_user_co_reply(int sock, VhostUserMessage *msg, int fd);
/*
 * Tells the other side on the channel that it gave us; if it does not listen
 * nothing happens. Any context.
 */
void vhost_user_send_config_change(int channel);

#endif
