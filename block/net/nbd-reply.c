/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Replies of a server.
 *
 * 1. What belongs to no request, or is of a kind that was not agreed on, ends the
 *    connection: nobody knows where the next reply begins, or what it means.
 * 2. Data goes to the memory of the request at once. Which bytes came is kept, as
 *    chunks may come in any order: each exactly once, or the reply is wrong.
 * 3. An error that the server reports is the request's alone.
 */
#include "util/osdep.h"
#include "block/net/nbd-client.h"
#include "util/bswap.h"

/* Longest words beside an error. */
#define MAX_ERROR_TEXT NBD_MAX_STRING_SIZE
/* Ranges of a read that have come, when those between are missing. */
#define MAX_RANGES 1024
/* Extents in one chunk. */
#define MAX_EXTENTS (1024 * 1024)

typedef struct NBDRange {
    uint64_t start, end;
} NBDRange;

typedef struct Chunk {
    uint16_t flags;
    uint16_t type;
    uint64_t cookie;
    uint64_t len;       /* of what follows */
} Chunk;

void nbd_answer_init(NBDClientRequest *req)
{
    req->ret = 0;
    req->filled = NULL;
    req->nr_filled = 0;
    req->has_extent = false;
}

void nbd_answer_clear(NBDClientRequest *req)
{
    g_clear_pointer(&req->filled, g_array_unref);
}

/* --- errors --- */

static int errno_of(uint32_t error)
{
    switch (error) {
    case NBD_SUCCESS:
        return 0;
    case NBD_EPERM:
        return -EPERM;
    case NBD_EIO:
        return -EIO;
    case NBD_ENOMEM:
        return -ENOMEM;
    case NBD_ENOSPC:
        return -ENOSPC;
    case NBD_EOVERFLOW:
        return -EOVERFLOW;
    case NBD_ENOTSUP:
        return -ENOTSUP;
    case NBD_ESHUTDOWN:
        return -ESHUTDOWN;
    default:
        return -EINVAL;
    }
}

static void set_error(NBDClientRequest *req, int ret)
{
    if (req->ret == 0) {
        req->ret = ret;
    }
}

/* --- which bytes of a read have come --- */

/* The first range that ends at @start or later. */
static unsigned find_range(const GArray *ranges, uint64_t start)
{
    unsigned low = 0, high = ranges->len;

    while (low < high) {
        unsigned mid = (low + high) / 2;

        if (g_array_index(ranges, NBDRange, mid).end < start) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    return low;
}

/* Adds [start, end) to those at index @i; false if some of it is there. */
static bool add_range_at(GArray *ranges, unsigned i, NBDRange new)
{
    NBDRange *r = &g_array_index(ranges, NBDRange, i);
    bool joins = i < ranges->len && r->end == new.start;
    NBDRange *next = r + joins;
    bool has_next = i + joins < ranges->len;

    if (has_next && next->start < new.end) {
        return false;
    }
    if (has_next && next->start == new.end) {
        next->start = joins ? r->start : new.start;
        if (joins) {
            g_array_remove_index(ranges, i);
        }
    } else if (joins) {
        r->end = new.end;
    } else if (ranges->len < MAX_RANGES) {
        g_array_insert_val(ranges, i, new);
    } else {
        return false;
    }
    return true;
}

/* Bytes of the disk that a chunk has; -EINVAL if it may not. */
static int claim_range(NBDClientRequest *req, uint64_t offset, uint64_t len)
{
    NBDRange new = { offset, offset + len };

    if (!len || offset < req->from || len > req->len ||
        offset - req->from > req->len - len) {
        return -EINVAL;
    }
    if (!req->filled) {
        req->filled = g_array_sized_new(false, false, sizeof(NBDRange), 1);
    }
    if (!add_range_at(req->filled, find_range(req->filled, offset), new)) {
        return -EINVAL;
    }
    req->nr_filled += len;
    return 0;
}

/* --- chunks --- */

static int coroutine_fn read_data(NBDConn *c, NBDClientRequest *req,
                                  const Chunk *chunk)
{
    uint8_t head[8];
    uint64_t offset, len;
    int ret;

    if (req->type != NBD_CMD_READ || chunk->len <= sizeof(head)) {
        return -EINVAL;
    }
    ret = nbd_stream_read(&c->stream, head, sizeof(head));
    if (ret < 0) {
        return ret;
    }
    offset = ldq_be_p(head);
    len = chunk->len - sizeof(head);
    ret = claim_range(req, offset, len);
    return ret < 0 ? ret
           : nbd_stream_read_qiov(&c->stream, req->qiov, req->qiov_offset +
                                  (offset - req->from), len);
}

static int coroutine_fn read_hole(NBDConn *c, NBDClientRequest *req,
                                  const Chunk *chunk)
{
    uint8_t data[12];
    uint64_t offset;
    uint32_t len;
    int ret;

    if (req->type != NBD_CMD_READ || chunk->len != sizeof(data)) {
        return -EINVAL;
    }
    ret = nbd_stream_read(&c->stream, data, sizeof(data));
    if (ret < 0) {
        return ret;
    }
    offset = ldq_be_p(data);
    len = ldl_be_p(data + 8);
    ret = claim_range(req, offset, len);
    if (ret == 0) {
        qemu_iovec_memset(req->qiov, req->qiov_offset + (offset - req->from),
                          0, len);
    }
    return ret;
}

/* Of the extents only the first is of use. */
static int coroutine_fn read_extents(NBDConn *c, NBDClientRequest *req,
                                     const Chunk *chunk)
{
    bool wide = chunk->type == NBD_REPLY_TYPE_BLOCK_STATUS_EXT;
    unsigned head = wide ? 8 : 4, size = wide ? 16 : 8;
    uint8_t data[8 + 16];
    int ret;

    if (req->type != NBD_CMD_BLOCK_STATUS || req->has_extent ||
        wide != (c->info.style == NBD_STYLE_EXTENDED) ||
        chunk->len < head + size || (chunk->len - head) % size ||
        (chunk->len - head) / size > MAX_EXTENTS) {
        return -EINVAL;
    }
    ret = nbd_stream_read(&c->stream, data, head + size);
    if (ret < 0) {
        return ret;
    }
    req->extent_len = wide ? ldq_be_p(data + 8) : ldl_be_p(data + 4);
    req->extent_flags = wide ? ldq_be_p(data + 16) : ldl_be_p(data + 8);
    if (ldl_be_p(data) != c->info.context_id || !req->extent_len ||
        (wide && ldl_be_p(data + 4) != (chunk->len - head) / size)) {
        return -EINVAL;
    }
    req->has_extent = true;
    return nbd_stream_skip(&c->stream, chunk->len - head - size);
}

static int coroutine_fn read_error(NBDConn *c, NBDClientRequest *req,
                                   const Chunk *chunk)
{
    uint8_t head[6];
    unsigned extra = chunk->type == NBD_REPLY_TYPE_ERROR_OFFSET ? 8 : 0;
    uint32_t error;
    int ret;

    if (chunk->len < sizeof(head) + extra ||
        chunk->len > sizeof(head) + extra + MAX_ERROR_TEXT) {
        return -EINVAL;
    }
    ret = nbd_stream_read(&c->stream, head, sizeof(head));
    if (ret < 0) {
        return ret;
    }
    error = ldl_be_p(head);
    /* Kinds of errors that are not known yet begin like this, too. */
    if (!error || lduw_be_p(head + 4) > chunk->len - sizeof(head) - extra) {
        return -EINVAL;
    }
    set_error(req, errno_of(error));
    return nbd_stream_skip(&c->stream, chunk->len - sizeof(head));
}

static int coroutine_fn read_chunk(NBDConn *c, NBDClientRequest *req,
                                   const Chunk *chunk)
{
    switch (chunk->type) {
    case NBD_REPLY_TYPE_NONE:
        return chunk->len || !(chunk->flags & NBD_REPLY_FLAG_DONE)
               ? -EINVAL : 0;
    case NBD_REPLY_TYPE_OFFSET_DATA:
        return read_data(c, req, chunk);
    case NBD_REPLY_TYPE_OFFSET_HOLE:
        return read_hole(c, req, chunk);
    case NBD_REPLY_TYPE_BLOCK_STATUS:
    case NBD_REPLY_TYPE_BLOCK_STATUS_EXT:
        return read_extents(c, req, chunk);
    default:
        return chunk->type & NBD_REPLY_TYPE_ERR_BIT
               ? read_error(c, req, chunk) : -EINVAL;
    }
}

/* --- whole replies --- */

/* Without an error the answer is whole, or the server is wrong. */
static int check_answer(const NBDClientRequest *req)
{
    if (req->ret < 0) {
        return 0;
    }
    if (req->type == NBD_CMD_READ && req->nr_filled != req->len) {
        return -EINVAL;
    }
    if (req->type == NBD_CMD_BLOCK_STATUS && !req->has_extent) {
        return -EINVAL;
    }
    return 0;
}

static int coroutine_fn finish_simple(NBDConn *c, NBDClientRequest *req,
                                      uint32_t error)
{
    int ret = 0;

    if (error) {
        set_error(req, errno_of(error));
        return 0;
    }
    if (req->type == NBD_CMD_READ) {
        if (c->info.style != NBD_STYLE_SIMPLE || req->nr_filled) {
            return -EINVAL;
        }
        ret = nbd_stream_read_qiov(&c->stream, req->qiov, req->qiov_offset,
                                   req->len);
        req->nr_filled = req->len;
    }
    return ret;
}

/* The rest of a header, of @size bytes of which 4 are there. */
static int coroutine_fn read_header(NBDConn *c, uint8_t *head, size_t size)
{
    return nbd_stream_read(&c->stream, head + 4, size - 4);
}

static int coroutine_fn read_simple(NBDConn *c, uint8_t *head,
                                    NBDClientRequest **req)
{
    int ret = read_header(c, head, NBD_SIMPLE_REPLY_SIZE);

    if (ret < 0 || c->info.style == NBD_STYLE_EXTENDED) {
        return ret < 0 ? ret : -EINVAL;
    }
    *req = nbd_conn_find(c, ldq_be_p(head + 8));
    return *req ? finish_simple(c, *req, ldl_be_p(head + 4)) : -EINVAL;
}

static int coroutine_fn read_structured(NBDConn *c, uint8_t *head,
                                        NBDClientRequest **req, bool *done)
{
    bool extended = c->info.style == NBD_STYLE_EXTENDED;
    Chunk chunk;
    int ret = read_header(c, head, extended ? NBD_EXTENDED_REPLY_SIZE
                                            : NBD_STRUCTURED_REPLY_SIZE);

    if (ret < 0) {
        return ret;
    }
    chunk.flags = lduw_be_p(head + 4);
    chunk.type = lduw_be_p(head + 6);
    chunk.cookie = ldq_be_p(head + 8);
    chunk.len = extended ? ldq_be_p(head + 24) : ldl_be_p(head + 16);
    *req = nbd_conn_find(c, chunk.cookie);
    if (!*req || (extended && ldq_be_p(head + 16) != (*req)->from)) {
        return -EINVAL;
    }
    *done = chunk.flags & NBD_REPLY_FLAG_DONE;
    return read_chunk(c, *req, &chunk);
}

int coroutine_fn nbd_read_reply(NBDConn *c, NBDClientRequest **done)
{
    uint8_t head[NBD_EXTENDED_REPLY_SIZE];
    NBDClientRequest *req = NULL;
    bool is_done = true;
    uint32_t magic;
    int ret = nbd_stream_read(&c->stream, head, 4);

    *done = NULL;
    if (ret < 0) {
        return ret;
    }
    magic = ldl_be_p(head);
    if (magic == NBD_SIMPLE_REPLY_MAGIC) {
        ret = read_simple(c, head, &req);
    } else if ((magic == NBD_STRUCTURED_REPLY_MAGIC &&
                c->info.style == NBD_STYLE_STRUCTURED) ||
               (magic == NBD_EXTENDED_REPLY_MAGIC &&
                c->info.style == NBD_STYLE_EXTENDED)) {
        ret = read_structured(c, head, &req, &is_done);
    } else {
        ret = -EINVAL;
    }
    if (ret >= 0 && is_done) {
        ret = check_answer(req);
        *done = ret < 0 ? NULL : req;
    }
    return ret;
}
