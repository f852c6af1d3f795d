/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Requests: received one after the other, each carried out in a coroutine of its
 * own, answered in whatever order they end.
 *
 * A client has at most NBD_MAX_REQUESTS under way, with NBD_MAX_CLIENT_MEMORY of
 * data or a single longer one; data counts until the reply is with the kernel.
 * Beyond that nothing is read from it: one that does not fetch its replies stops
 * itself alone.
 */
#include "util/osdep.h"
#include <sys/socket.h>
#include "nbd-int.h"
#include "util/aio.h"
#include "util/bswap.h"

#define NBD_MIN_SPLICE (128 * 1024) /* below it copying is as fast */
/* Reads that follow one whose pages could not be had: most often the next one's
 * cannot, either. */
#define SPLICE_PAUSE 64

/* --- what is on the wire --- */

int nbd_parse_request(const uint8_t *p, NBDStyle style, NBDRequestHead *head)
{
    bool extended = style == NBD_STYLE_EXTENDED;

    if (ldl_be_p(p) != (extended ? NBD_EXTENDED_REQUEST_MAGIC
                                 : NBD_REQUEST_MAGIC)) {
        return -EINVAL;
    }
    head->flags = lduw_be_p(p + 4);
    head->type = lduw_be_p(p + 6);
    head->cookie = ldq_be_p(p + 8);
    head->from = ldq_be_p(p + 16);
    head->len = extended ? ldq_be_p(p + 24) : ldl_be_p(p + 24);
    head->has_payload = head->type == NBD_CMD_WRITE ||
                        (extended && head->flags & NBD_CMD_FLAG_PAYLOAD_LEN);
    if (head->has_payload && head->len > NBD_MAX_BUFFER_SIZE) {
        return -EINVAL;         /* nobody waits for that much to go by */
    }
    return 0;
}

/* Flags that go with a command; others are refused. */
static uint16_t valid_flags(uint16_t type, const NBDTarget *target)
{
    switch (type) {
    case NBD_CMD_READ:
        return NBD_CMD_FLAG_FUA |
               (target->style != NBD_STYLE_SIMPLE ? NBD_CMD_FLAG_DF : 0);
    case NBD_CMD_WRITE:
        return NBD_CMD_FLAG_FUA |
               (target->style == NBD_STYLE_EXTENDED ? NBD_CMD_FLAG_PAYLOAD_LEN
                                                    : 0);
    case NBD_CMD_WRITE_ZEROES:
        return NBD_CMD_FLAG_FUA | NBD_CMD_FLAG_NO_HOLE |
               NBD_CMD_FLAG_FAST_ZERO;
    case NBD_CMD_BLOCK_STATUS:
        return NBD_CMD_FLAG_FUA | NBD_CMD_FLAG_REQ_ONE;
    default:
        return NBD_CMD_FLAG_FUA;
    }
}

static bool is_write(uint16_t type)
{
    return type == NBD_CMD_WRITE || type == NBD_CMD_WRITE_ZEROES ||
           type == NBD_CMD_TRIM;
}

int nbd_check_request(const NBDRequestHead *head, const NBDTarget *target)
{
    if (head->type > NBD_CMD_BLOCK_STATUS ||
        head->flags & ~valid_flags(head->type, target)) {
        return -EINVAL;
    }
    if (head->type == NBD_CMD_FLUSH) {
        return head->from || head->len ? -EINVAL : 0;
    }
    if (target->read_only && is_write(head->type)) {
        return -EROFS;
    }
    if (head->from > target->length ||
        head->len > target->length - head->from) {
        return head->type == NBD_CMD_WRITE ||
               head->type == NBD_CMD_WRITE_ZEROES ? -ENOSPC : -EINVAL;
    }
    if (head->type == NBD_CMD_READ && head->len > NBD_MAX_BUFFER_SIZE) {
        return -EINVAL;
    }
    if (head->type == NBD_CMD_BLOCK_STATUS &&
        (!target->has_meta || !head->len)) {
        return -EINVAL;
    }
    return 0;
}

/* --- carrying out --- */

/* The backend takes less at once than extended headers can say. */
static int coroutine_fn in_pieces(NBDRequest *req,
                                  int (*run)(BlockBackend *blk, int64_t offset,
                                             int64_t bytes,
                                             BdrvRequestFlags flags),
                                  BdrvRequestFlags flags)
{
    BlockBackend *blk = req->client->exp->common.blk;
    const int64_t piece = 1LL << 30;
    int64_t offset = req->head.from, left = req->head.len;

    while (left) {
        int64_t n = MIN(left, piece);
        int ret = run(blk, offset, n, flags);

        if (ret < 0) {
            return ret;
        }
        offset += n;
        left -= n;
    }
    return 0;
}

static int coroutine_fn trim(BlockBackend *blk, int64_t offset, int64_t bytes,
                             BdrvRequestFlags flags)
{
    return blk_co_pdiscard(blk, offset, bytes);
}

static int coroutine_fn prefetch(BlockBackend *blk, int64_t offset,
                                 int64_t bytes, BdrvRequestFlags flags)
{
    return blk_co_preadv(blk, offset, bytes, NULL, flags);
}

static int coroutine_fn run_trim(NBDRequest *req)
{
    int ret = in_pieces(req, trim, 0);

    if (ret >= 0 && req->head.flags & NBD_CMD_FLAG_FUA) {
        ret = blk_co_flush(req->client->exp->common.blk);
    }
    return ret;
}

static int coroutine_fn run_zeroes(NBDRequest *req)
{
    uint16_t flags = req->head.flags;

    return in_pieces(req, blk_co_pwrite_zeroes,
                     (flags & NBD_CMD_FLAG_FUA ? BDRV_REQ_FUA : 0) |
                     (flags & NBD_CMD_FLAG_NO_HOLE ? 0 : BDRV_REQ_MAY_UNMAP) |
                     (flags & NBD_CMD_FLAG_FAST_ZERO ? BDRV_REQ_NO_FALLBACK
                                                     : 0));
}

/*
 * Pages go to clients on this machine alone: to a network zeroes need not be sent,
 * and only who looks at the data sees them.
 */
static bool wants_pages(const NBDClient *client)
{
    int domain = 0;
    socklen_t len = sizeof(domain);

    return !client->stream.tls &&
           getsockopt(client->stream.fd, SOL_SOCKET, SO_DOMAIN, &domain,
                      &len) == 0 && domain == AF_UNIX;
}

/* The data as pages in a pipe; false if it must be read. */
static bool coroutine_fn splice_read(NBDRequest *req)
{
    NBDClient *client = req->client;
    const NBDRequestHead *h = &req->head;

    if (!client->wants_pages || h->len < NBD_MIN_SPLICE ||
        h->len > NBD_PIPE_SIZE) {
        return false;
    }
    if (client->splice_pause) {
        client->splice_pause--;
        return false;
    }
    req->pipe = nbd_pipe_get(&client->pipes);
    if (!req->pipe) {
        return false;
    }
    if (blk_co_splice(client->exp->common.blk, h->from, h->len,
                      nbd_pipe_in(req->pipe)) < 0) {
        nbd_pipe_free(req->pipe);
        req->pipe = NULL;
        client->splice_pause = SPLICE_PAUSE;
        return false;
    }
    return true;
}

static int coroutine_fn run_read(NBDRequest *req)
{
    const NBDRequestHead *h = &req->head;

    if (!h->len || splice_read(req)) {
        return 0;
    }
    nbd_request_alloc(req, h->len);
    return blk_co_pread(req->client->exp->common.blk, h->from, h->len,
                        req->data, 0);
}

/* Bytes for the reply, in req->data or req->pipe, or -errno. */
static ssize_t coroutine_fn run(NBDRequest *req)
{
    BlockBackend *blk = req->client->exp->common.blk;
    const NBDRequestHead *h = &req->head;
    int ret;

    switch (h->type) {
    case NBD_CMD_READ:
        ret = run_read(req);
        return ret < 0 ? ret : h->len;
    case NBD_CMD_WRITE:
        return blk_co_pwrite(blk, h->from, h->len, req->data,
                             h->flags & NBD_CMD_FLAG_FUA ? BDRV_REQ_FUA : 0);
    case NBD_CMD_FLUSH:
        return blk_co_flush(blk);
    case NBD_CMD_TRIM:
        return run_trim(req);
    case NBD_CMD_CACHE:
        return in_pieces(req, prefetch,
                         BDRV_REQ_COPY_ON_READ | BDRV_REQ_PREFETCH);
    case NBD_CMD_WRITE_ZEROES:
        return run_zeroes(req);
    case NBD_CMD_BLOCK_STATUS:
        return nbd_status_chunks(req);
    default:
        g_assert_not_reached();     /* nbd_check_request() */
    }
}

static void coroutine_fn request_entry(void *opaque)
{
    NBDRequest *req = opaque;
    ssize_t bytes = run(req);

    req->ret = MIN(bytes, 0);
    nbd_reply(req, MAX(bytes, 0));
}

/* --- one client's share --- */

void nbd_client_wake(NBDClient *client)
{
    Coroutine *co = client->waiting;

    if (co) {
        client->waiting = NULL;
        aio_co_wake(co);
    }
}

static void coroutine_fn wait_for_change(NBDClient *client)
{
    client->waiting = qemu_coroutine_self();
    qemu_coroutine_yield();
}

void nbd_request_alloc(NBDRequest *req, size_t len)
{
    req->data = nbd_buffer_get(&req->client->buffers, len);
    req->data_len = len;
}

void nbd_request_free(NBDRequest *req)
{
    NBDClient *client = req->client;

    client->memory -= req->memory;
    client->nr_requests--;
    nbd_buffer_put(&client->buffers, req->data, req->data_len);
    nbd_pipe_free(req->pipe);
    nbd_pipes_trim(&client->pipes, MAX(client->nr_requests, 1));
    g_free(req);
    nbd_client_wake(client);
}

/* What its data takes at most. */
static size_t memory_for(const NBDClient *client, const NBDRequestHead *head)
{
    if (head->has_payload || head->type == NBD_CMD_READ) {
        return MIN(head->len, NBD_MAX_BUFFER_SIZE);
    }
    if (head->type == NBD_CMD_BLOCK_STATUS) {
        return MIN((size_t)client->meta.count * NBD_MAX_EXTENTS * 16,
                   NBD_MAX_CLIENT_MEMORY);
    }
    return 0;
}

/* Waits for room for the request and makes it. */
static NBDRequest *coroutine_fn request_new(NBDClient *client,
                                            const NBDRequestHead *head)
{
    size_t memory = memory_for(client, head);
    NBDRequest *req;

    while (client->nr_requests >= NBD_MAX_REQUESTS ||
           (client->memory &&
            memory + client->memory > NBD_MAX_CLIENT_MEMORY)) {
        wait_for_change(client);
    }
    req = g_new(NBDRequest, 1);
    req->client = client;
    req->head = *head;
    req->memory = memory;
    req->data = NULL;
    req->data_len = 0;
    req->pipe = NULL;
    client->memory += memory;
    client->nr_requests++;
    return req;
}

/* --- receiving --- */

static int coroutine_fn receive_payload(NBDRequest *req)
{
    NBDStream *s = &req->client->stream;

    if (req->head.type != NBD_CMD_WRITE) {
        return nbd_stream_skip(s, req->head.len);
    }
    nbd_request_alloc(req, req->head.len);
    return nbd_stream_read(s, req->data, req->head.len);
}

static void coroutine_fn start(NBDRequest *req)
{
    NBDClient *client = req->client;
    BlockBackend *blk = client->exp->common.blk;
    NBDTarget target = {
        .length = blk_co_getlength(blk),
        .read_only = !client->exp->common.writable,
        .style = client->style,
        .has_meta = client->meta.count > 0,
    };

    req->ret = target.length < 0 ? target.length
                                 : nbd_check_request(&req->head, &target);
    if (req->ret < 0) {
        nbd_reply(req, 0);
        return;
    }
    qemu_coroutine_enter(qemu_coroutine_create(request_entry, req));
}

/* False when the connection is to end. */
static bool coroutine_fn serve_one(NBDClient *client)
{
    uint8_t wire[NBD_EXTENDED_REQUEST_SIZE];
    NBDRequestHead head;
    NBDRequest *req;

    if (nbd_stream_read(&client->stream, wire,
                        client->style == NBD_STYLE_EXTENDED
                        ? NBD_EXTENDED_REQUEST_SIZE : NBD_REQUEST_SIZE) < 0 ||
        nbd_parse_request(wire, client->style, &head) < 0 ||
        head.type == NBD_CMD_DISC) {
        return false;
    }
    req = request_new(client, &head);
    if (head.has_payload && receive_payload(req) < 0) {
        nbd_request_free(req);
        return false;
    }
    start(req);
    return true;
}

void coroutine_fn nbd_serve(NBDClient *client)
{
    client->wants_pages = wants_pages(client);
    QSIMPLEQ_INIT(&client->replies);
    client->sender = qemu_coroutine_create(nbd_sender, client);
    qemu_coroutine_enter(client->sender);
    while (!client->broken && serve_one(client)) {
    }
    while (client->nr_requests) {
        wait_for_change(client);
    }
    client->closing = true;
    client->sender_idle = false;
    aio_co_wake(client->sender);
    while (client->sender) {
        wait_for_change(client);
    }
    nbd_buffers_clear(&client->buffers);
    nbd_pipes_trim(&client->pipes, 0);
}
