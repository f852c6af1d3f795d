/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Requests on one connection. There is no coroutine but those of the requests, and
 * no thread that the connection belongs to. Two parts are played by one of them at
 * a time, each in its own thread:
 *
 *   sender   takes all that is queued and sends it with one call; then whoever
 *            has queued in the meantime is woken and takes over
 *   reader   reads replies, those of others as well, until its own is there; then
 *            it wakes another request that waits, which takes over
 *
 * 1. A request that is being sent is not over, even if it is answered: the sender
 *    looks at its memory.
 * 2. When the connection breaks, requests that are not answered are lost, but not
 *    before both parts are free: until then somebody may look at their memory.
 * 3. While a request is alone it is sent at once. Otherwise the sender lets the
 *    others that are ready run first.
 */
#include "util/osdep.h"
#include "block/net/nbd-client.h"
#include <sys/socket.h>
#include "util/aio.h"
#include "util/bswap.h"
#include "util/lockable.h"

/* Requests with one call. */
#define MAX_BATCH 32

/* In a hurry: silence that a server is allowed; the same while it makes things
 * durable, when it cannot show that it goes on; the same if it was silent before;
 * and the time for one request of a server that keeps talking. */
#define SILENCE_NS (10 * NANOSECONDS_PER_SECOND)
#define SILENCE_FLUSH_NS (30 * NANOSECONDS_PER_SECOND)
#define SILENCE_AGAIN_NS (2 * NANOSECONDS_PER_SECOND)
#define ONE_REQUEST_NS (60 * NANOSECONDS_PER_SECOND)
/* Who has not looked for that long begins anew. */
#define LOOK_NS (3 * NANOSECONDS_PER_SECOND)

NBDConn *nbd_conn_new(int fd)
{
    NBDConn *c = g_new0(NBDConn, 1);

    nbd_stream_init(&c->stream, fd);
    c->refs = 1;
    qemu_mutex_init(&c->lock);
    QTAILQ_INIT(&c->requests);
    QTAILQ_INIT(&c->queue);
    qemu_co_queue_init(&c->room);
    return c;
}

static size_t put_head(const NBDConn *c, const NBDClientRequest *req,
                       uint8_t *p)
{
    bool extended = c->info.style == NBD_STYLE_EXTENDED;
    uint16_t flags = req->flags;

    if (extended && req->type == NBD_CMD_WRITE) {
        flags |= NBD_CMD_FLAG_PAYLOAD_LEN;
    }
    stl_be_p(p, extended ? NBD_EXTENDED_REQUEST_MAGIC : NBD_REQUEST_MAGIC);
    stw_be_p(p + 4, flags);
    stw_be_p(p + 6, req->type);
    stq_be_p(p + 8, req->cookie);
    stq_be_p(p + 16, req->from);
    if (extended) {
        stq_be_p(p + 24, req->len);
        return NBD_EXTENDED_REQUEST_SIZE;
    }
    stl_be_p(p + 24, req->len);
    return NBD_REQUEST_SIZE;
}

void nbd_conn_free(NBDConn *c, bool polite)
{
    uint8_t head[NBD_EXTENDED_REQUEST_SIZE];
    NBDClientRequest bye = { .type = NBD_CMD_DISC };

    assert(!c->nr_requests);
    if (polite && !c->broken) {
        nbd_stream_try_write(&c->stream, head, put_head(c, &bye, head));
    }
    nbd_stream_clear(&c->stream);
    close(c->stream.fd);
    qemu_mutex_destroy(&c->lock);
    g_free(c);
}

NBDClientRequest *nbd_conn_find(NBDConn *c, uint64_t cookie)
{
    unsigned slot = (uint32_t)cookie;
    NBDClientRequest *req;

    if (slot >= NBD_CLIENT_SLOTS) {
        return NULL;
    }
    QEMU_LOCK_GUARD(&c->lock);
    req = c->slots[slot];
    return req && req->cookie == cookie && !req->done &&
           req->state != NBD_REQUEST_QUEUED ? req : NULL;
}

/* --- waking; under the lock --- */

static void wake(NBDClientRequest *req)
{
    if (req->waiting) {
        req->waiting = false;
        aio_co_wake(req->co);
    }
}

static void wake_all(NBDConn *c)
{
    NBDClientRequest *req;

    QTAILQ_FOREACH(req, &c->requests, next) {
        wake(req);
    }
    qemu_co_queue_restart_all(&c->room);
}

static void break_conn(NBDConn *c)
{
    if (!c->broken) {
        c->broken = true;
        /* The other part ends, too. */
        shutdown(c->stream.fd, SHUT_RDWR);
    }
}

/* Somebody for each part that is free and has work. The youngest of those that
 * wait for a reply will be the reader for longest. */
static void pass_on(NBDConn *c)
{
    NBDClientRequest *req;

    if (c->broken) {
        if (!c->reading && !c->sending) {
            wake_all(c);
        }
        return;
    }
    if (!c->sending && !QTAILQ_EMPTY(&c->queue)) {
        wake(QTAILQ_FIRST(&c->queue));
    }
    if (c->reading) {
        return;
    }
    QTAILQ_FOREACH_REVERSE(req, &c->requests, next) {
        if (req->state == NBD_REQUEST_SENT && !req->done) {
            wake(req);
            return;
        }
    }
}

void nbd_conn_break(NBDConn *c)
{
    QEMU_LOCK_GUARD(&c->lock);
    break_conn(c);
    pass_on(c);
}

/* --- servers that do not answer --- */

static int64_t silence_allowed(NBDConn *c, bool impatient)
{
    NBDClientRequest *req;

    if (impatient) {
        return SILENCE_AGAIN_NS;
    }
    QTAILQ_FOREACH(req, &c->requests, next) {
        if (req->type == NBD_CMD_FLUSH || (req->flags & NBD_CMD_FLAG_FUA)) {
            return SILENCE_FLUSH_NS;
        }
    }
    return SILENCE_NS;
}

bool nbd_conn_is_stuck(NBDConn *c, bool impatient)
{
    int64_t now = get_clock();
    unsigned moved = qatomic_read(&c->stream.moved);
    NBDClientRequest *oldest;
    bool anew;

    QEMU_LOCK_GUARD(&c->lock);
    oldest = QTAILQ_FIRST(&c->requests);
    anew = now - c->looked_ns > LOOK_NS;
    c->looked_ns = now;
    if (!oldest || c->broken) {
        c->oldest_ns = c->moved_ns = now;
        return false;
    }
    if (anew || oldest->cookie != c->oldest) {
        c->oldest = oldest->cookie;
        c->oldest_ns = now;
    }
    if (anew || moved != c->moved) {
        c->moved = moved;
        c->moved_ns = now;
    }
    return now - c->moved_ns >= silence_allowed(c, impatient) ||
           now - c->oldest_ns >= ONE_REQUEST_NS;
}

/* --- the sender --- */

static unsigned take_batch(NBDConn *c, NBDClientRequest **batch)
{
    unsigned n = 0;

    while (n < MAX_BATCH && !QTAILQ_EMPTY(&c->queue)) {
        NBDClientRequest *req = QTAILQ_FIRST(&c->queue);

        QTAILQ_REMOVE(&c->queue, req, next_queued);
        req->state = NBD_REQUEST_SENDING;
        batch[n++] = req;
    }
    return n;
}

static int coroutine_fn send_batch(NBDConn *c, NBDClientRequest **batch,
                                   unsigned n)
{
    uint8_t heads[MAX_BATCH][NBD_EXTENDED_REQUEST_SIZE];
    QEMUIOVector qiov;
    int ret;

    qemu_iovec_init(&qiov, 2 * n);
    for (unsigned i = 0; i < n; i++) {
        NBDClientRequest *req = batch[i];

        qemu_iovec_add(&qiov, heads[i], put_head(c, req, heads[i]));
        if (req->type == NBD_CMD_WRITE) {
            qemu_iovec_concat(&qiov, req->qiov, req->qiov_offset, req->len);
        }
    }
    ret = nbd_stream_write(&c->stream, qiov.iov, qiov.niov);
    qemu_iovec_destroy(&qiov);
    return ret;
}

/* Under the lock, which is free in between. */
static void coroutine_fn be_sender(NBDConn *c)
{
    NBDClientRequest *batch[MAX_BATCH];
    unsigned n;
    int ret;

    c->sending = true;
    if (c->nr_requests > 1) {
        qemu_mutex_unlock(&c->lock);
        qemu_co_yield_to_loop();
        qemu_mutex_lock(&c->lock);
    }
    n = take_batch(c, batch);
    qemu_mutex_unlock(&c->lock);
    ret = send_batch(c, batch, n);
    qemu_mutex_lock(&c->lock);
    c->sending = false;
    if (ret < 0) {
        break_conn(c);
    }
    for (unsigned i = 0; i < n; i++) {
        batch[i]->state = NBD_REQUEST_SENT;
        if (batch[i]->done) {
            wake(batch[i]);
        }
    }
    pass_on(c);
}

/* --- the reader --- */

static bool is_over(const NBDConn *c, const NBDClientRequest *req)
{
    if (req->done) {
        return req->state != NBD_REQUEST_SENDING;
    }
    return c->broken && !c->reading && !c->sending;
}

/* Under the lock, which is free in between. */
static void coroutine_fn be_reader(NBDConn *c, NBDClientRequest *self)
{
    c->reading = true;
    while (!self->done && !c->broken) {
        NBDClientRequest *done;
        int ret;

        qemu_mutex_unlock(&c->lock);
        ret = nbd_read_reply(c, &done);
        qemu_mutex_lock(&c->lock);
        if (ret < 0) {
            break_conn(c);
        } else if (done) {
            done->done = true;
            wake(done);
        }
    }
    c->reading = false;
    pass_on(c);
}

/* --- a request --- */

static void enlist(NBDConn *c, NBDClientRequest *req)
{
    unsigned slot = 0;

    while (c->slots[slot]) {
        slot++;
    }
    c->slots[slot] = req;
    c->nr_requests++;
    req->slot = slot;
    req->cookie = (uint64_t)c->serial++ << 32 | slot;
    req->state = NBD_REQUEST_QUEUED;
    req->done = req->waiting = false;
    req->co = qemu_coroutine_self();
    QTAILQ_INSERT_TAIL(&c->requests, req, next);
    QTAILQ_INSERT_TAIL(&c->queue, req, next_queued);
}

static void delist(NBDConn *c, NBDClientRequest *req)
{
    c->slots[req->slot] = NULL;
    c->nr_requests--;
    QTAILQ_REMOVE(&c->requests, req, next);
    if (req->state == NBD_REQUEST_QUEUED) {
        QTAILQ_REMOVE(&c->queue, req, next_queued);
    }
    qemu_co_queue_next(&c->room);
}

/* The next thing to do for @req. Under the lock, which is free in between. */
static void coroutine_fn step(NBDConn *c, NBDClientRequest *req)
{
    if (req->state == NBD_REQUEST_QUEUED && !c->sending && !c->broken) {
        be_sender(c);
    } else if (req->state == NBD_REQUEST_SENT && !req->done && !c->reading &&
               !c->broken) {
        be_reader(c, req);
    } else {
        req->waiting = true;
        qemu_mutex_unlock(&c->lock);
        qemu_coroutine_yield();
        qemu_mutex_lock(&c->lock);
    }
}

int coroutine_fn nbd_conn_request(NBDConn *c, NBDClientRequest *req)
{
    int ret;

    nbd_answer_init(req);
    qemu_mutex_lock(&c->lock);
    while (!c->broken && c->nr_requests == NBD_CLIENT_SLOTS) {
        qemu_co_queue_wait(&c->room, &c->lock);
    }
    if (c->broken) {
        qemu_mutex_unlock(&c->lock);
        return -ESHUTDOWN;
    }
    enlist(c, req);
    while (!is_over(c, req)) {
        step(c, req);
    }
    ret = req->done ? 0
          : req->state == NBD_REQUEST_QUEUED ? -ESHUTDOWN : -ECONNRESET;
    delist(c, req);
    pass_on(c);
    qemu_mutex_unlock(&c->lock);
    nbd_answer_clear(req);
    return ret;
}
