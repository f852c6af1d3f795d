/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Replies. Each is a header inside the request and the data where it was read to;
 * a coroutine of the client sends as many as are ready with one system call.
 * Those of requests that end in the same turn of the loop go together, since the
 * sender runs after all that was woken before it.
 */
#include "util/osdep.h"
#include "nbd-int.h"
#include "util/aio.h"
#include "util/bswap.h"
#include "util/zero.h"

/* Replies sent together. */
#define SEND_BATCH 64

uint32_t nbd_errno(int ret)
{
    switch (-ret) {
    case 0:
        return NBD_SUCCESS;
    case EPERM:
    case EROFS:
        return NBD_EPERM;
    case EIO:
    case EUCLEAN:       /* the image is corrupt */
        return NBD_EIO;
    case ENOMEM:
        return NBD_ENOMEM;
    case EDQUOT:
    case EFBIG:
    case ENOSPC:
        return NBD_ENOSPC;
    case EOVERFLOW:
        return NBD_EOVERFLOW;
    case ENOTSUP:
        return NBD_ENOTSUP;
    case ESHUTDOWN:
        return NBD_ESHUTDOWN;
    case EINVAL:
    default:
        return NBD_EINVAL;
    }
}

size_t nbd_put_chunk(uint8_t *p, NBDStyle style, const NBDRequestHead *head,
                     uint16_t flags, uint16_t type, uint64_t len)
{
    bool extended = style == NBD_STYLE_EXTENDED;

    stl_be_p(p, extended ? NBD_EXTENDED_REPLY_MAGIC
                         : NBD_STRUCTURED_REPLY_MAGIC);
    stw_be_p(p + 4, flags);
    stw_be_p(p + 6, type);
    stq_be_p(p + 8, head->cookie);
    if (extended) {
        stq_be_p(p + 16, head->from);
        stq_be_p(p + 24, len);
        return NBD_EXTENDED_REPLY_SIZE;
    }
    stl_be_p(p + 16, len);
    return NBD_STRUCTURED_REPLY_SIZE;
}

/* --- layout --- */

static size_t put_error(NBDRequest *req)
{
    size_t n = nbd_put_chunk(req->reply, req->client->style, &req->head,
                             NBD_REPLY_FLAG_DONE, NBD_REPLY_TYPE_ERROR, 6);

    stl_be_p(req->reply + n, nbd_errno(req->ret));
    stw_be_p(req->reply + n + 4, 0);    /* without words */
    return n + 6;
}

/* Zeroes that nobody wants to see as data need not travel. */
static bool is_hole(const NBDRequest *req, size_t bytes)
{
    return bytes >= 4096 && !req->pipe && !(req->head.flags & NBD_CMD_FLAG_DF) &&
           buffer_is_zero(req->data, bytes);
}

static size_t put_read(NBDRequest *req, size_t *bytes)
{
    NBDStyle style = req->client->style;
    size_t n;

    if (is_hole(req, *bytes)) {
        n = nbd_put_chunk(req->reply, style, &req->head, NBD_REPLY_FLAG_DONE,
                          NBD_REPLY_TYPE_OFFSET_HOLE, 12);
        stq_be_p(req->reply + n, req->head.from);
        stl_be_p(req->reply + n + 8, *bytes);
        *bytes = 0;
        return n + 12;
    }
    n = nbd_put_chunk(req->reply, style, &req->head, NBD_REPLY_FLAG_DONE,
                      NBD_REPLY_TYPE_OFFSET_DATA, 8 + *bytes);
    stq_be_p(req->reply + n, req->head.from);
    return n + 8;
}

static size_t put_simple(NBDRequest *req)
{
    stl_be_p(req->reply, NBD_SIMPLE_REPLY_MAGIC);
    stl_be_p(req->reply + 4, nbd_errno(req->ret));
    stq_be_p(req->reply + 8, req->head.cookie);
    return NBD_SIMPLE_REPLY_SIZE;
}

/* Whether a simple reply will do where there is another choice. */
static bool goes_simple(const NBDRequest *req)
{
    return req->client->style == NBD_STYLE_SIMPLE ||
           (req->client->style == NBD_STYLE_STRUCTURED &&
            req->head.type != NBD_CMD_READ &&
            req->head.type != NBD_CMD_BLOCK_STATUS);
}

static void lay_out(NBDRequest *req, size_t bytes)
{
    size_t n;

    if (req->ret < 0) {
        bytes = 0;
    }
    if (goes_simple(req)) {
        n = put_simple(req);
    } else if (req->ret < 0) {
        n = put_error(req);
    } else if (req->head.type == NBD_CMD_READ && bytes) {
        n = put_read(req, &bytes);
    } else if (bytes) {
        n = 0;          /* the chunks are in the data */
    } else {
        n = nbd_put_chunk(req->reply, req->client->style, &req->head,
                          NBD_REPLY_FLAG_DONE, NBD_REPLY_TYPE_NONE, 0);
    }
    req->niov = 0;
    if (n) {
        req->iov[req->niov++] = (struct iovec) { req->reply, n };
    }
    if (bytes && !req->pipe) {
        req->iov[req->niov++] = (struct iovec) { req->data, bytes };
    }
}

/* --- sending --- */

static void wake_sender(NBDClient *client)
{
    if (client->sender_idle) {
        client->sender_idle = false;
        aio_co_wake(client->sender);
    }
}

void nbd_reply(NBDRequest *req, size_t bytes)
{
    NBDClient *client = req->client;

    if (client->broken) {
        nbd_request_free(req);
        return;
    }
    lay_out(req, bytes);
    QSIMPLEQ_INSERT_TAIL(&client->replies, req, next);
    wake_sender(client);
}

/* Replies that are sent, and freed, together; the last one may have a pipe. */
typedef struct SendBatch {
    struct iovec iov[2 * SEND_BATCH];
    unsigned niov;
    NBDRequest *reqs[SEND_BATCH];
    unsigned n;
} SendBatch;

/* From the queue, in order. */
static void fill_batch(NBDClient *client, SendBatch *b)
{
    NBDRequest *req;

    b->n = b->niov = 0;
    do {
        req = QSIMPLEQ_FIRST(&client->replies);
        QSIMPLEQ_REMOVE_HEAD(&client->replies, next);
        memcpy(b->iov + b->niov, req->iov, req->niov * sizeof(*req->iov));
        b->niov += req->niov;
        b->reqs[b->n++] = req;
    } while (!req->pipe && b->n < SEND_BATCH &&
             !QSIMPLEQ_EMPTY(&client->replies));
}

/* 0 or -errno. */
static int coroutine_fn send_batch(NBDClient *client, SendBatch *b)
{
    NBDRequest *last = b->reqs[b->n - 1];
    int ret = nbd_stream_write(&client->stream, b->iov, b->niov);

    if (ret >= 0 && last->pipe) {
        ret = nbd_stream_splice(&client->stream, nbd_pipe_out(last->pipe),
                                last->head.len);
    }
    if (ret >= 0 && last->pipe) {
        nbd_pipe_put(&client->pipes, last->pipe);
        last->pipe = NULL;
    }
    return ret;
}

static void coroutine_fn send_some(NBDClient *client)
{
    SendBatch b;

    fill_batch(client, &b);
    if (!client->broken && send_batch(client, &b) < 0) {
        client->broken = true;
    }
    for (unsigned i = 0; i < b.n; i++) {
        nbd_request_free(b.reqs[i]);
    }
}

void coroutine_fn nbd_sender(void *opaque)
{
    NBDClient *client = opaque;

    for (;;) {
        while (!QSIMPLEQ_EMPTY(&client->replies)) {
            send_some(client);
        }
        if (client->closing) {
            break;
        }
        client->sender_idle = true;
        qemu_coroutine_yield();
    }
    client->sender = NULL;
    nbd_client_wake(client);
}
