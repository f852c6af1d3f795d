/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * vhost-read SOCKET REQUESTS DEPTH: reads of 4 KiB from a vhost-user-blk
 * device, DEPTH under way, as the driver of a guest makes them: one ring, event
 * index, one kick for all that became possible at a time. Blocks are taken in
 * strides that visit each one before any is visited again.
 *
 * The guest's memory is one file: the ring, then for each request its header,
 * its status and a page for its data. User addresses are guest addresses.
 */
#include "util/osdep.h"
#include "block/export/vhost-user-wire.h"
#include "util/cutils.h"
#include <err.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>

#define BLOCK 4096
#define STRIDE 7919             /* blocks; a prime */
#define MAX_DEPTH 256
#define RING_BYTES (128 << 10)
/* On the socket the payload follows at once; in the struct it is aligned. */
#define HEADER_BYTES 12
#define PAYLOAD_BYTES (sizeof(VhostUserMessage) - PAYLOAD_AT)
#define PAYLOAD_AT offsetof(VhostUserMessage, u64)

/* What the device reads and writes for one request besides its data. */
typedef struct Slot {
    struct virtio_blk_outhdr header;
    uint8_t status;
} Slot;

typedef struct FrontEnd {
    int sock;
    int memfd, kick, call;
    uint8_t *memory;
    size_t memory_size;
    struct vring ring;
    unsigned depth;
    uint64_t blocks;            /* of the device */
    uint64_t next;              /* request to be made */
    uint16_t seen;              /* of the used ring */
} FrontEnd;

/* ------------------------------------------------------------- messages */

/* Sends @msg with @fd unless it is -1. */
static void send_message(FrontEnd *f, VhostUserMessage *msg, unsigned request,
                         uint32_t size, int fd)
{
    union {
        struct cmsghdr head;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control = { 0 };
    struct iovec iov[] = { { msg, HEADER_BYTES }, { &msg->u64, size } };
    struct msghdr hdr = { .msg_iov = iov, .msg_iovlen = 2 };

    msg->request = request;
    msg->flags = 1;
    msg->size = size;
    if (fd >= 0) {
        hdr.msg_control = &control;
        hdr.msg_controllen = sizeof(control);
        control.head.cmsg_len = CMSG_LEN(sizeof(int));
        control.head.cmsg_level = SOL_SOCKET;
        control.head.cmsg_type = SCM_RIGHTS;
        memcpy(CMSG_DATA(&control.head), &fd, sizeof(fd));
    }
    if (sendmsg(f->sock, &hdr, 0) != HEADER_BYTES + (ssize_t)size) {
        err(1, "sending request %u", request);
    }
}

static void receive_reply(FrontEnd *f, VhostUserMessage *msg)
{
    if (recv(f->sock, msg, HEADER_BYTES, MSG_WAITALL) != HEADER_BYTES ||
        msg->size > PAYLOAD_BYTES ||
        recv(f->sock, &msg->u64, msg->size, MSG_WAITALL) != msg->size) {
        errx(1, "no answer to request %u", msg->request);
    }
}

static void send_u64(FrontEnd *f, unsigned request, uint64_t value, int fd)
{
    VhostUserMessage msg = { .u64 = value };

    send_message(f, &msg, request, sizeof(msg.u64), fd);
}

static uint64_t ask_u64(FrontEnd *f, unsigned request)
{
    VhostUserMessage msg = { 0 };

    send_message(f, &msg, request, 0, -1);
    receive_reply(f, &msg);
    return msg.u64;
}

static void send_state(FrontEnd *f, unsigned request, uint32_t num)
{
    VhostUserMessage msg = { .state.num = num };

    send_message(f, &msg, request, sizeof(msg.state), -1);
}

/* ---------------------------------------------------------------- start */

static void negotiate(FrontEnd *f)
{
    const uint64_t wanted = 1ULL << VHOST_USER_F_PROTOCOL_FEATURES |
                            1ULL << VIRTIO_F_VERSION_1 |
                            1ULL << VIRTIO_RING_F_EVENT_IDX;
    uint64_t offered;

    send_message(f, &(VhostUserMessage) { 0 }, VHOST_USER_SET_OWNER, 0, -1);
    offered = ask_u64(f, VHOST_USER_GET_FEATURES);
    if (wanted & ~offered) {
        errx(1, "features %#" PRIx64 " are not offered", wanted & ~offered);
    }
    ask_u64(f, VHOST_USER_GET_PROTOCOL_FEATURES);
    send_u64(f, VHOST_USER_SET_PROTOCOL_FEATURES,
             1ULL << VHOST_USER_PROTOCOL_F_CONFIG, -1);
    send_u64(f, VHOST_USER_SET_FEATURES, wanted, -1);
}

static uint64_t ask_blocks(FrontEnd *f)
{
    VhostUserMessage msg = { .config.size = 60 };
    uint64_t sectors;

    send_message(f, &msg, VHOST_USER_GET_CONFIG,
                 offsetof(VhostUserMessage, config.bytes) - PAYLOAD_AT + 60,
                 -1);
    receive_reply(f, &msg);
    memcpy(&sectors, msg.config.bytes, sizeof(sectors));
    return sectors * 512 / BLOCK;
}

static void give_memory(FrontEnd *f)
{
    VhostUserMessage msg = {
        .memory.count = 1,
        .memory.regions[0].size = f->memory_size,
    };

    f->memory_size = RING_BYTES + f->depth * 2 * BLOCK;
    msg.memory.regions[0].size = f->memory_size;
    f->memfd = memfd_create("guest", MFD_CLOEXEC);
    if (f->memfd < 0 || ftruncate(f->memfd, f->memory_size) < 0) {
        err(1, "memory");
    }
    f->memory = mmap(NULL, f->memory_size, PROT_READ | PROT_WRITE, MAP_SHARED,
                     f->memfd, 0);
    if (f->memory == MAP_FAILED) {
        err(1, "memory");
    }
    send_message(f, &msg, VHOST_USER_SET_MEM_TABLE,
                 offsetof(VhostUserMessage, memory.regions[1]) - PAYLOAD_AT,
                 f->memfd);
}

static void start_ring(FrontEnd *f)
{
    struct vring *r = &f->ring;
    VhostUserMessage msg = { 0 };
    unsigned num = pow2ceil(f->depth * 3);

    vring_init(r, num, f->memory, BLOCK);
    f->kick = eventfd(0, EFD_CLOEXEC);
    f->call = eventfd(0, EFD_CLOEXEC);
    send_state(f, VHOST_USER_SET_VRING_NUM, num);
    send_state(f, VHOST_USER_SET_VRING_BASE, 0);
    msg.addr.desc = (uint8_t *)r->desc - f->memory;
    msg.addr.avail = (uint8_t *)r->avail - f->memory;
    msg.addr.used = (uint8_t *)r->used - f->memory;
    send_message(f, &msg, VHOST_USER_SET_VRING_ADDR, sizeof(msg.addr), -1);
    send_u64(f, VHOST_USER_SET_VRING_CALL, 0, f->call);
    send_u64(f, VHOST_USER_SET_VRING_KICK, 0, f->kick);
    send_state(f, VHOST_USER_SET_VRING_ENABLE, 1);
}

static void connect_to(FrontEnd *f, const char *path)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };

    g_strlcpy(address.sun_path, path, sizeof(address.sun_path));
    f->sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (f->sock < 0 ||
        connect(f->sock, (struct sockaddr *)&address, sizeof(address)) < 0) {
        err(1, "%s", path);
    }
}

/* ------------------------------------------------------------- requests */

static Slot *slot_of(FrontEnd *f, unsigned i)
{
    return (Slot *)(f->memory + RING_BYTES + i * 2 * BLOCK);
}

static void put_desc(FrontEnd *f, unsigned i, void *at, uint32_t length,
                     uint16_t flags)
{
    f->ring.desc[i] = (struct vring_desc) {
        .addr = (uint8_t *)at - f->memory,
        .len = length,
        .flags = flags,
        .next = i + 1,
    };
}

/* The descriptors of a slot stay as they are. */
static void prepare_slot(FrontEnd *f, unsigned i)
{
    Slot *slot = slot_of(f, i);

    slot->header.type = VIRTIO_BLK_T_IN;
    put_desc(f, 3 * i, &slot->header, sizeof(slot->header), VRING_DESC_F_NEXT);
    put_desc(f, 3 * i + 1, (uint8_t *)slot + BLOCK, BLOCK,
             VRING_DESC_F_NEXT | VRING_DESC_F_WRITE);
    put_desc(f, 3 * i + 2, &slot->status, 1, VRING_DESC_F_WRITE);
}

/* Makes the next request of slot @i available as the @n-th since @from. */
static void submit(FrontEnd *f, unsigned i, uint16_t at)
{
    Slot *slot = slot_of(f, i);

    slot->header.sector = f->next++ * STRIDE % f->blocks * (BLOCK / 512);
    slot->status = 0xff;
    f->ring.avail->ring[at % f->ring.num] = 3 * i;
}

/* Tells the device of @n new ones, if it wants to know. */
static void publish(FrontEnd *f, unsigned n)
{
    uint16_t old = f->ring.avail->idx, now = old + n;

    __atomic_store_n(&f->ring.avail->idx, now, __ATOMIC_RELEASE);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    if (vring_need_event(vring_avail_event(&f->ring), now, old) &&
        eventfd_write(f->kick, 1) < 0) {
        err(1, "kick");
    }
}

/* True if there is something in the used ring without waiting. */
static bool has_used(FrontEnd *f)
{
    return __atomic_load_n(&f->ring.used->idx, __ATOMIC_ACQUIRE) != f->seen;
}

/* The device may have made its end, which is ours too, non-blocking. */
static void wait_used(FrontEnd *f)
{
    struct pollfd fd = { f->call, POLLIN, 0 };
    eventfd_t ignored;

    while (!has_used(f)) {
        vring_used_event(&f->ring) = f->seen;
        __atomic_thread_fence(__ATOMIC_SEQ_CST);
        if (has_used(f)) {
            break;
        }
        if (poll(&fd, 1, 10000) != 1 || eventfd_read(f->call, &ignored) < 0) {
            err(1, "call");
        }
    }
}

/* Takes one out of the used ring: its slot, now free. */
static unsigned take_used(FrontEnd *f)
{
    unsigned i = f->ring.used->ring[f->seen++ % f->ring.num].id / 3;

    if (i >= f->depth || slot_of(f, i)->status != VIRTIO_BLK_S_OK) {
        errx(1, "a request failed");
    }
    return i;
}

static void run(FrontEnd *f, uint64_t requests)
{
    uint64_t done = 0;

    for (unsigned i = 0; i < f->depth; i++) {
        prepare_slot(f, i);
        submit(f, i, i);
    }
    publish(f, f->depth);
    while (done < requests) {
        unsigned more = 0;

        for (wait_used(f); has_used(f); done++) {
            unsigned i = take_used(f);

            if (f->next < requests) {
                submit(f, i, f->ring.avail->idx + more++);
            }
        }
        publish(f, more);
    }
}

int main(int argc, char **argv)
{
    FrontEnd f = { 0 };
    uint64_t requests;
    int64_t start;

    if (argc != 4) {
        errx(1, "vhost-read SOCKET REQUESTS DEPTH");
    }
    requests = strtoull(argv[2], NULL, 10);
    f.depth = atoi(argv[3]);
    if (f.depth < 1 || f.depth > MAX_DEPTH || requests < f.depth) {
        errx(1, "1 to %d, and no less requests, can be under way", MAX_DEPTH);
    }
    connect_to(&f, argv[1]);
    negotiate(&f);
    f.blocks = ask_blocks(&f);
    give_memory(&f);
    start_ring(&f);
    start = g_get_monotonic_time();
    run(&f, requests);
    printf("Run completed in %.3f seconds.\n",
           (g_get_monotonic_time() - start) / 1e6);
    return 0;
}
