/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Serving a vhost-user front-end; see the header. */
#include "util/osdep.h"
#include <sys/mman.h>
#include "block/export/vhost-user.h"
#include "block/export/vhost-user-wire.h"
#include "sockets/sockets.h"
#include "util/fd.h"

#define VIRTIO_F_VERSION_1 32

#define OFFERED_PROTOCOL_FEATURES                       \
    (1ULL << VHOST_USER_PROTOCOL_F_MQ |                 \
     1ULL << VHOST_USER_PROTOCOL_F_REPLY_ACK |          \
     1ULL << VHOST_USER_PROTOCOL_F_BACKEND_REQ |        \
     1ULL << VHOST_USER_PROTOCOL_F_CONFIG |             \
     1ULL << VHOST_USER_PROTOCOL_F_INFLIGHT_SHMFD)

typedef struct Queue {
    VhostUser *vu;
    AioContext *ctx;

    /* The front-end's wishes; changed only in between (see serve). */
    bool kicked;                /* it has given a kick descriptor */
    bool enabled;
    int kick_fd;                /* -1: none */

    /* Of ctx's thread. */
    VirtQueue vq;
    bool running;
    unsigned in_flight;
    Coroutine *idle_waiter;     /* until in_flight is 0 */
    QEMUBH *notify_bh;
} Queue;

struct VhostUser {
    const VhostUserOps *ops;
    void *opaque;
    unsigned num_queues;

    /* Of the connection. */
    uint64_t features;
    GuestMemory *mem;
    int channel;                /* to tell it of changes; -1: none */
    int reply_fd;               /* goes with the next reply; -1: none */
    void *inflight;             /* mapped record of requests, or NULL */
    size_t inflight_size;
    unsigned inflight_queue_size;
    unsigned inflight_queues;

    Queue queues[];
};

/* --- requests: in the queue's thread --- */

typedef struct Request {
    Queue *q;
    VirtQueueElement *elem;
} Request;

static void coroutine_fn request_entry(void *opaque)
{
    Request r = *(Request *)opaque;
    Queue *q = r.q;
    int64_t ret;

    g_free(opaque);
    ret = q->vu->ops->co_request(q->vu->opaque, r.elem);
    if (ret < 0) {
        virtqueue_break(&q->vq);
    } else {
        virtqueue_push(&q->vq, r.elem, ret);
        qemu_bh_schedule(q->notify_bh);
    }
    g_free(r.elem);
    if (--q->in_flight == 0 && q->idle_waiter) {
        aio_co_wake(q->idle_waiter);
    }
}

static void take_requests(Queue *q)
{
    VirtQueueElement *elem;

    while ((elem = virtqueue_pop(&q->vq))) {
        Request *r = g_new(Request, 1);

        *r = (Request){ q, elem };
        q->in_flight++;
        qemu_coroutine_enter(qemu_coroutine_create(request_entry, r));
    }
}

static void on_kick(void *opaque)
{
    Queue *q = opaque;
    uint64_t count;

    if (read(q->kick_fd, &count, sizeof(count)) == 0) {
        /* A pipe, whose other end has gone: readable for ever. */
        aio_set_fd_handler(q->ctx, q->kick_fd, NULL, NULL, NULL);
    }
    /* Even if somebody else has read it. */
    take_requests(q);
}

/* Many requests that end in one turn of the loop are one interrupt. */
static void notify(void *opaque)
{
    Queue *q = opaque;

    virtqueue_notify(&q->vq);
}

/* --- starting and stopping: the main loop's coroutine, in between --- */

static bool coroutine_fn start_queue(Queue *q, Error **errp)
{
    VhostUser *vu = q->vu;
    bool ok;

    q->vq.inflight = NULL;
    if (vu->inflight && q - vu->queues < vu->inflight_queues) {
        if (q->vq.size > vu->inflight_queue_size) {
            error_setg(errp, "Queue %d is longer than its record of requests",
                       (int)(q - vu->queues));
            return false;
        }
        q->vq.inflight = (void *)((uint8_t *)vu->inflight +
            (q - vu->queues) * virtqueue_inflight_size(
                                   vu->inflight_queue_size));
    }
    aio_co_reschedule_self(q->ctx);
    ok = virtqueue_start(&q->vq, vu->mem, vu->features, errp);
    if (ok) {
        q->running = true;
        q->notify_bh = aio_bh_new(q->ctx, notify, q);
        aio_set_fd_handler(q->ctx, q->kick_fd, on_kick, NULL, q);
        take_requests(q);
    }
    aio_co_reschedule_self(qemu_get_aio_context());
    return ok;
}

static void coroutine_fn stop_queue(Queue *q)
{
    if (!q->running) {
        return;
    }
    aio_co_reschedule_self(q->ctx);
    aio_set_fd_handler(q->ctx, q->kick_fd, NULL, NULL, NULL);
    while (q->in_flight) {
        q->idle_waiter = qemu_coroutine_self();
        qemu_coroutine_yield();
    }
    q->idle_waiter = NULL;
    qemu_bh_delete(q->notify_bh);
    virtqueue_notify(&q->vq);
    virtqueue_stop(&q->vq);
    q->running = false;
    aio_co_reschedule_self(qemu_get_aio_context());
}

static bool should_run(const Queue *q)
{
    bool has_enable = q->vu->features & 1ULL << VHOST_USER_F_PROTOCOL_FEATURES;

    return q->kicked && q->vu->mem && (q->enabled || !has_enable);
}

/* Makes the queue what the front-end wishes it to be. */
static bool coroutine_fn update_queue(Queue *q, Error **errp)
{
    if (q->running && !should_run(q)) {
        stop_queue(q);
    } else if (!q->running && should_run(q)) {
        return start_queue(q, errp);
    }
    return true;
}

static bool coroutine_fn update_all(VhostUser *vu, Error **errp)
{
    for (unsigned i = 0; i < vu->num_queues; i++) {
        if (!update_queue(&vu->queues[i], errp)) {
            return false;
        }
    }
    return true;
}

static void coroutine_fn stop_all(VhostUser *vu)
{
    for (unsigned i = 0; i < vu->num_queues; i++) {
        stop_queue(&vu->queues[i]);
    }
}

static void replace_fd(int *where, int fd)
{
    if (*where >= 0) {
        qemu_close(*where);
    }
    *where = fd;
}

/* --- the record of requests in flight --- */

static void drop_inflight(VhostUser *vu)
{
    if (vu->inflight) {
        munmap(vu->inflight, vu->inflight_size);
    }
    vu->inflight = NULL;
}

static bool inflight_is_sane(const VhostUserMessage *msg, Error **errp)
{
    if (!msg->inflight.num_queues || msg->inflight.num_queues > 256 ||
        !msg->inflight.queue_size ||
        msg->inflight.queue_size > VIRTQUEUE_MAX_SIZE) {
        error_setg(errp, "Bad number (%u) or length (%u) of queues in a record "
                   "of requests", msg->inflight.num_queues,
                   msg->inflight.queue_size);
        return false;
    }
    return true;
}

/* Makes one; the front-end keeps the descriptor, and gives it back. */
static int new_inflight_fd(VhostUserMessage *msg, Error **errp)
{
    size_t one = virtqueue_inflight_size(msg->inflight.queue_size);
    size_t size = one * msg->inflight.num_queues;
    int fd = memfd_create("vhost-user-inflight", MFD_CLOEXEC);

    if (fd < 0 || ftruncate(fd, size) < 0) {
        error_setg_errno(errp, errno, "Cannot make a record of requests");
        if (fd >= 0) {
            qemu_close(fd);
        }
        return -1;
    }
    for (unsigned i = 0; i < msg->inflight.num_queues; i++) {
        InflightQueue head = { .version = 1,
                               .desc_num = msg->inflight.queue_size };

        if (qemu_pwrite_full(fd, &head, sizeof(head), i * one) !=
            sizeof(head)) {
            error_setg_errno(errp, errno, "Cannot make a record of requests");
            qemu_close(fd);
            return -1;
        }
    }
    msg->inflight.mmap_size = size;
    msg->inflight.mmap_offset = 0;
    return fd;
}

static bool set_inflight(VhostUser *vu, VhostUserMessage *msg, Error **errp)
{
    size_t size = msg->inflight.num_queues *
                  virtqueue_inflight_size(msg->inflight.queue_size);
    struct stat st;
    void *map;

    if (!inflight_is_sane(msg, errp)) {
        return false;
    }
    if (msg->nb_fds != 1 || msg->inflight.mmap_size < size ||
        msg->inflight.mmap_offset % qemu_real_host_page_size() ||
        fstat(msg->fds[0], &st) < 0 || st.st_size < size ||
        msg->inflight.mmap_offset > st.st_size - size) {
        error_setg(errp, "The record of requests is too short");
        return false;
    }
    map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, msg->fds[0],
               msg->inflight.mmap_offset);
    if (map == MAP_FAILED) {
        error_setg_errno(errp, errno, "Cannot map the record of requests");
        return false;
    }
    drop_inflight(vu);
    vu->inflight = map;
    vu->inflight_size = size;
    vu->inflight_queue_size = msg->inflight.queue_size;
    vu->inflight_queues = msg->inflight.num_queues;
    return true;
}

/* --- messages --- */

/* NULL with @errp: there is no such queue. */
static Queue *queue_at(VhostUser *vu, uint32_t index, Error **errp)
{
    if (index >= vu->num_queues) {
        error_setg(errp, "There is no queue %u", index);
        return NULL;
    }
    return &vu->queues[index];
}

/* One that does not run, for what may not change while it does. */
static Queue *stopped_queue_at(VhostUser *vu, uint32_t index, Error **errp)
{
    Queue *q = queue_at(vu, index, errp);

    if (q && q->running) {
        error_setg(errp, "Queue %u is running", index);
        return NULL;
    }
    return q;
}

static bool coroutine_fn set_mem_table(VhostUser *vu, VhostUserMessage *msg,
                                       Error **errp)
{
    unsigned n = msg->memory.count;
    GuestMemory *mem;

    if (n > GUEST_MEMORY_MAX_REGIONS || n != msg->nb_fds ||
        msg->size < 8 + n * sizeof(GuestRegion)) {
        error_setg(errp, "A memory table of %u regions came with %d "
                   "descriptors", n, msg->nb_fds);
        return false;
    }
    mem = guest_memory_new(msg->memory.regions, msg->fds, n, errp);
    if (!mem) {
        return false;
    }
    stop_all(vu);
    guest_memory_free(vu->mem);
    vu->mem = mem;
    return update_all(vu, errp);
}

static bool set_vring_num(VhostUser *vu, VhostUserMessage *msg, Error **errp)
{
    Queue *q = stopped_queue_at(vu, msg->state.index, errp);

    if (q && !virtqueue_size_is_valid(msg->state.num)) {
        error_setg(errp, "A queue cannot have %u entries", msg->state.num);
        return false;
    }
    if (q) {
        q->vq.size = msg->state.num;
    }
    return q;
}

static bool set_vring_addr(VhostUser *vu, VhostUserMessage *msg, Error **errp)
{
    Queue *q = stopped_queue_at(vu, msg->addr.index, errp);

    if (q) {
        q->vq.desc_user = msg->addr.desc;
        q->vq.avail_user = msg->addr.avail;
        q->vq.used_user = msg->addr.used;
    }
    return q;
}

static bool set_vring_base(VhostUser *vu, VhostUserMessage *msg, Error **errp)
{
    Queue *q = stopped_queue_at(vu, msg->state.index, errp);

    if (q) {
        q->vq.last_avail = msg->state.num;
    }
    return q;
}

static bool coroutine_fn get_vring_base(VhostUser *vu, VhostUserMessage *msg,
                                        Error **errp)
{
    Queue *q = queue_at(vu, msg->state.index, errp);

    if (q) {
        q->kicked = false;
        stop_queue(q);
        replace_fd(&q->kick_fd, -1);
        msg->state.num = q->vq.last_avail;
    }
    return q;
}

/* The queue that SET_VRING_KICK, CALL or ERR is about, and its descriptor. */
static Queue *queue_and_fd(VhostUser *vu, VhostUserMessage *msg, int *fd,
                           Error **errp)
{
    Queue *q = queue_at(vu, msg->u64 & VHOST_USER_VRING_INDEX_MASK, errp);

    if (q && !(msg->u64 & VHOST_USER_VRING_NOFD) && msg->nb_fds != 1) {
        error_setg(errp, "Message %u came with %d descriptors", msg->request,
                   msg->nb_fds);
        return NULL;
    }
    *fd = q ? vhost_user_message_take_fd(msg, 0) : -1;
    return q;
}

static bool coroutine_fn set_vring_kick(VhostUser *vu, VhostUserMessage *msg,
                                        Error **errp)
{
    int fd;
    Queue *q = queue_and_fd(vu, msg, &fd, errp);

    if (!q) {
        return false;
    }
    if (fd < 0) {
        error_setg(errp, "Queues without a kick descriptor are not supported");
        return false;
    }
    if (!q->vq.size) {
        error_setg(errp, "Queue %d has no length", (int)(q - vu->queues));
        qemu_close(fd);
        return false;
    }
    q->kicked = false;
    stop_queue(q);
    replace_fd(&q->kick_fd, fd);
    socket_set_nonblock(fd, true);
    q->kicked = true;
    return update_queue(q, errp);
}

/* May come while the queue runs: whoever masks interrupts does that. */
static bool coroutine_fn set_vring_call_or_err(VhostUser *vu,
                                               VhostUserMessage *msg,
                                               Error **errp)
{
    int fd;
    Queue *q = queue_and_fd(vu, msg, &fd, errp);

    if (!q) {
        return false;
    }
    if (fd >= 0) {
        socket_set_nonblock(fd, true);
    }
    aio_co_reschedule_self(q->ctx);
    replace_fd(msg->request == VHOST_USER_SET_VRING_CALL ? &q->vq.call_fd
                                                         : &q->vq.err_fd, fd);
    aio_co_reschedule_self(qemu_get_aio_context());
    return true;
}

static bool coroutine_fn set_vring_enable(VhostUser *vu, VhostUserMessage *msg,
                                          Error **errp)
{
    Queue *q = queue_at(vu, msg->state.index, errp);

    if (!q) {
        return false;
    }
    q->enabled = msg->state.num;
    return update_queue(q, errp);
}

static uint64_t offered_features(VhostUser *vu)
{
    return vu->ops->features(vu->opaque) |
           1ULL << VIRTIO_RING_F_INDIRECT_DESC |
           1ULL << VIRTIO_RING_F_EVENT_IDX |
           1ULL << VHOST_USER_F_PROTOCOL_FEATURES |
           1ULL << VIRTIO_F_VERSION_1;
}

/* All are of @offered; the rest is named in the error. */
static bool check_bits(uint64_t bits, uint64_t offered, Error **errp)
{
    if (bits & ~offered) {
        error_setg(errp, "Features 0x%" PRIx64 " were not offered",
                   bits & ~offered);
        return false;
    }
    return true;
}

static bool config_range_is_valid(const VhostUserMessage *msg, Error **errp)
{
    if (msg->config.size > VHOST_USER_CONFIG_MAX ||
        msg->config.offset > VHOST_USER_CONFIG_MAX - msg->config.size ||
        msg->size < 12 + msg->config.size) {
        error_setg(errp, "%u bytes at %u are beyond the configuration space",
                   msg->config.size, msg->config.offset);
        return false;
    }
    return true;
}

static bool coroutine_fn get_config(VhostUser *vu, VhostUserMessage *msg,
                                    Error **errp)
{
    uint8_t config[VHOST_USER_CONFIG_MAX] = { 0 };

    if (!config_range_is_valid(msg, errp)) {
        return false;
    }
    vu->ops->co_get_config(vu->opaque, config);
    memcpy(msg->config.bytes, config + msg->config.offset, msg->config.size);
    return true;
}

static bool set_config(VhostUser *vu, VhostUserMessage *msg, Error **errp)
{
    if (!config_range_is_valid(msg, errp)) {
        return false;
    }
    if (!vu->ops->set_config(vu->opaque, msg->config.offset,
                             msg->config.bytes, msg->config.size)) {
        error_setg(errp, "The configuration at %u cannot be changed",
                   msg->config.offset);
        return false;
    }
    return true;
}

/* How a message is answered. */
typedef enum {
    ANSWER_NONE,        /* an acknowledgement, if one is asked for */
    ANSWER_MESSAGE,     /* msg, with msg->size bytes of payload */
} Answer;

typedef struct Handler {
    bool coroutine_fn (*fn)(VhostUser *vu, VhostUserMessage *msg,
                            Error **errp);
    uint32_t min_size;          /* of the payload */
    Answer answer;
} Handler;

static bool coroutine_fn get_features(VhostUser *vu, VhostUserMessage *msg,
                                      Error **errp)
{
    msg->u64 = offered_features(vu);
    msg->size = sizeof(msg->u64);
    return true;
}

static bool coroutine_fn set_features(VhostUser *vu, VhostUserMessage *msg,
                                      Error **errp)
{
    if (!check_bits(msg->u64, offered_features(vu), errp)) {
        return false;
    }
    vu->features = msg->u64;
    vu->ops->set_features(vu->opaque, msg->u64);
    return update_all(vu, errp);
}

static bool coroutine_fn get_protocol_features(VhostUser *vu,
                                               VhostUserMessage *msg,
                                               Error **errp)
{
    msg->u64 = OFFERED_PROTOCOL_FEATURES;
    msg->size = sizeof(msg->u64);
    return true;
}

static bool coroutine_fn set_protocol_features(VhostUser *vu,
                                               VhostUserMessage *msg,
                                               Error **errp)
{
    /* What they allow is recognised by the messages that come. */
    return check_bits(msg->u64, OFFERED_PROTOCOL_FEATURES, errp);
}

static bool coroutine_fn get_queue_num(VhostUser *vu, VhostUserMessage *msg,
                                       Error **errp)
{
    msg->u64 = vu->num_queues;
    msg->size = sizeof(msg->u64);
    return true;
}

static bool coroutine_fn set_backend_req_fd(VhostUser *vu,
                                            VhostUserMessage *msg,
                                            Error **errp)
{
    int fd = vhost_user_message_take_fd(msg, 0);

    if (fd < 0) {
        error_setg(errp, "There is no descriptor of the back-end's channel");
        return false;
    }
    replace_fd(&vu->channel, fd);
    return true;
}

static bool coroutine_fn set_inflight_fd(VhostUser *vu, VhostUserMessage *msg,
                                         Error **errp)
{
    stop_all(vu);
    return set_inflight(vu, msg, errp) && update_all(vu, errp);
}

static bool coroutine_fn get_inflight_fd(VhostUser *vu, VhostUserMessage *msg,
                                         Error **errp)
{
    if (!inflight_is_sane(msg, errp)) {
        return false;
    }
    vu->reply_fd = new_inflight_fd(msg, errp);
    return vu->reply_fd >= 0;
}

/* One owner, who needs no words about it. */
static bool coroutine_fn set_owner(VhostUser *vu, VhostUserMessage *msg,
                                   Error **errp)
{
    return true;
}

static const Handler handlers[] = {
    [VHOST_USER_GET_FEATURES] = { get_features, 0, ANSWER_MESSAGE },
    [VHOST_USER_SET_FEATURES] = { set_features, 8 },
    [VHOST_USER_SET_OWNER] = { set_owner, 0 },
    [VHOST_USER_RESET_OWNER] = { set_owner, 0 },
    [VHOST_USER_SET_MEM_TABLE] = { set_mem_table, 8 },
    [VHOST_USER_SET_VRING_NUM] = { set_vring_num, 8 },
    [VHOST_USER_SET_VRING_ADDR] = { set_vring_addr, 40 },
    [VHOST_USER_SET_VRING_BASE] = { set_vring_base, 8 },
    [VHOST_USER_GET_VRING_BASE] = { get_vring_base, 8, ANSWER_MESSAGE },
    [VHOST_USER_SET_VRING_KICK] = { set_vring_kick, 8 },
    [VHOST_USER_SET_VRING_CALL] = { set_vring_call_or_err, 8 },
    [VHOST_USER_SET_VRING_ERR] = { set_vring_call_or_err, 8 },
    [VHOST_USER_GET_PROTOCOL_FEATURES] = { get_protocol_features, 0,
                                           ANSWER_MESSAGE },
    [VHOST_USER_SET_PROTOCOL_FEATURES] = { set_protocol_features, 8 },
    [VHOST_USER_GET_QUEUE_NUM] = { get_queue_num, 0, ANSWER_MESSAGE },
    [VHOST_USER_SET_VRING_ENABLE] = { set_vring_enable, 8 },
    [VHOST_USER_SET_BACKEND_REQ_FD] = { set_backend_req_fd, 0 },
    [VHOST_USER_GET_CONFIG] = { get_config, 12, ANSWER_MESSAGE },
    [VHOST_USER_SET_CONFIG] = { set_config, 12 },
    [VHOST_USER_GET_INFLIGHT_FD] = { get_inflight_fd, 20, ANSWER_MESSAGE },
    [VHOST_USER_SET_INFLIGHT_FD] = { set_inflight_fd, 20 },
};

static int coroutine_fn acknowledge(VhostUser *vu, int sock,
                                    VhostUserMessage *msg, bool ok)
{
    if (!vhost_user_message_needs_ack(msg)) {
        return 0;
    }
    msg->size = sizeof(msg->u64);
    msg->u64 = !ok;
    return vhost_user_co_reply(sock, msg, -1);
}

static bool coroutine_fn handle(VhostUser *vu, int sock, VhostUserMessage *msg,
                                Error **errp)
{
    const Handler *h = msg->request < ARRAY_SIZE(handlers)
                       ? &handlers[msg->request] : NULL;
    bool ok;
    int ret;

    if (!h || !h->fn) {
        error_setg(errp, "Message %u is not supported", msg->request);
        return false;
    }
    if (msg->size < h->min_size) {
        error_setg(errp, "Message %u has a payload of only %u bytes",
                   msg->request, msg->size);
        return false;
    }
    ok = h->fn(vu, msg, errp);
    if (ok && h->answer == ANSWER_MESSAGE) {
        ret = vhost_user_co_reply(sock, msg, vu->reply_fd);
        replace_fd(&vu->reply_fd, -1);
    } else {
        ret = acknowledge(vu, sock, msg, ok);
    }
    if (ok && ret < 0) {
        error_setg_errno(errp, -ret, "Cannot send");
    }
    return ok && ret == 0;
}

/* --- life --- */

VhostUser *vhost_user_new(const VhostUserOps *ops, void *opaque,
                          AioContext **ctx, unsigned num_queues)
{
    VhostUser *vu = g_malloc0(sizeof(*vu) + num_queues * sizeof(Queue));

    vu->ops = ops;
    vu->opaque = opaque;
    vu->num_queues = num_queues;
    vu->channel = -1;
    vu->reply_fd = -1;
    for (unsigned i = 0; i < num_queues; i++) {
        vu->queues[i] = (Queue){ .vu = vu, .ctx = ctx[i], .kick_fd = -1,
                                 .vq = { .call_fd = -1, .err_fd = -1 } };
    }
    return vu;
}

void vhost_user_free(VhostUser *vu)
{
    g_free(vu);
}

/* As it was before the connection. */
static void coroutine_fn reset(VhostUser *vu)
{
    stop_all(vu);
    for (unsigned i = 0; i < vu->num_queues; i++) {
        Queue *q = &vu->queues[i];

        replace_fd(&q->kick_fd, -1);
        replace_fd(&q->vq.call_fd, -1);
        replace_fd(&q->vq.err_fd, -1);
        q->vq = (VirtQueue){ .call_fd = -1, .err_fd = -1 };
        q->kicked = q->enabled = false;
    }
    guest_memory_free(vu->mem);
    vu->mem = NULL;
    drop_inflight(vu);
    replace_fd(&vu->channel, -1);
    vu->features = 0;
}

void coroutine_fn vhost_user_co_serve(VhostUser *vu, int sock, Error **errp)
{
    VhostUserMessage msg;
    bool go_on = true;

    while (go_on) {
        go_on = vhost_user_co_recv(sock, &msg, errp) > 0 &&
                handle(vu, sock, &msg, errp);
        vhost_user_message_clear(&msg);
    }
    reset(vu);
}

void vhost_user_config_changed(VhostUser *vu)
{
    if (vu->channel >= 0) {
        vhost_user_send_config_change(vu->channel);
    }
}
