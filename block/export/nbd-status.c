/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Extents of metadata contexts: what the ranges of a disk are like. */
#include "util/osdep.h"
#include "nbd-int.h"
#include "util/bswap.h"

/* Neighbours are unlike each other. */
typedef struct Extents {
    unsigned max, count;
    struct {
        uint64_t bytes;
        uint32_t flags;
    } e[];
} Extents;

/* False if there is no room for it. */
static bool add_extent(Extents *x, uint64_t bytes, uint32_t flags)
{
    if (x->count && x->e[x->count - 1].flags == flags) {
        x->e[x->count - 1].bytes += bytes;
        return true;
    }
    if (x->count == x->max) {
        return false;
    }
    x->e[x->count].bytes = bytes;
    x->e[x->count].flags = flags;
    x->count++;
    return true;
}

static int coroutine_fn base_extent(BlockBackend *blk, int64_t offset,
                                    int64_t bytes, int64_t *pnum,
                                    uint32_t *flags)
{
    int ret = blk_co_block_status_above(blk, NULL, true, offset, bytes, pnum,
                                        NULL, NULL, NULL);

    *flags = (ret & BDRV_BLOCK_DATA ? 0 : NBD_STATE_HOLE) |
             (ret & BDRV_BLOCK_ZERO ? NBD_STATE_ZERO : 0);
    return ret;
}

static int coroutine_fn depth_extent(BlockBackend *blk, int64_t offset,
                                     int64_t bytes, int64_t *pnum,
                                     uint32_t *flags)
{
    int ret = blk_co_is_allocated_above(blk, NULL, false, offset, bytes, pnum);

    *flags = MAX(ret, 0);
    return ret;
}

static void bitmap_extent(BdrvDirtyBitmap *bitmap, int64_t offset,
                          int64_t bytes, int64_t *pnum, uint32_t *flags)
{
    int64_t dirty = bdrv_dirty_bitmap_next_dirty(bitmap, offset, bytes);
    int64_t clean;

    if (dirty < 0 || dirty > offset) {
        *flags = 0;
        *pnum = dirty < 0 ? bytes : dirty - offset;
        return;
    }
    clean = bdrv_dirty_bitmap_next_zero(bitmap, offset, bytes);
    *flags = NBD_STATE_DIRTY;
    *pnum = clean < 0 ? bytes : clean - offset;
}

/* What of the request context @id can tell in @x. */
static int coroutine_fn collect(NBDRequest *req, unsigned id, Extents *x)
{
    NBDExport *exp = req->client->exp;
    BlockBackend *blk = exp->common.blk;
    int64_t offset = req->head.from, left = req->head.len;

    while (left) {
        int64_t n = 0;
        uint32_t flags;
        int ret = 0;

        if (id == NBD_META_ID_BASE) {
            ret = base_extent(blk, offset, left, &n, &flags);
        } else if (id == NBD_META_ID_DEPTH) {
            ret = depth_extent(blk, offset, left, &n, &flags);
        } else {
            bitmap_extent(exp->bitmaps[id - NBD_META_ID_BITMAP], offset, left,
                          &n, &flags);
        }
        if (ret < 0) {
            return ret;
        }
        if (n <= 0) {
            return x->count ? 0 : -EIO;     /* the disk has become shorter */
        }
        if (!add_extent(x, n, flags)) {
            break;
        }
        offset += n;
        left -= n;
    }
    return 0;
}

static size_t put_extents(uint8_t *p, const NBDRequest *req, unsigned id,
                          bool last, const Extents *x)
{
    bool extended = req->client->style == NBD_STYLE_EXTENDED;
    size_t each = extended ? 16 : 8;
    uint8_t *start = p;

    p += nbd_put_chunk(p, req->client->style, &req->head,
                       last ? NBD_REPLY_FLAG_DONE : 0,
                       extended ? NBD_REPLY_TYPE_BLOCK_STATUS_EXT
                                : NBD_REPLY_TYPE_BLOCK_STATUS,
                       (extended ? 8 : 4) + x->count * each);
    stl_be_p(p, id);
    p += 4;
    if (extended) {
        stl_be_p(p, x->count);
        p += 4;
    }
    for (unsigned i = 0; i < x->count; i++) {
        if (extended) {
            stq_be_p(p, x->e[i].bytes);
            stq_be_p(p + 8, x->e[i].flags);
        } else {
            stl_be_p(p, x->e[i].bytes);
            stl_be_p(p + 4, x->e[i].flags);
        }
        p += each;
    }
    return p - start;
}

/* A chunk with its header. */
static size_t chunk_max(unsigned extents)
{
    return NBD_EXTENDED_REPLY_SIZE + 8 + 16 * (size_t)extents;
}

/* All contexts together are not longer than other replies. */
static unsigned max_extents(const NBDMeta *meta)
{
    return MAX(1, MIN(NBD_MAX_EXTENTS,
                      NBD_MAX_BUFFER_SIZE / 2 / 16 / meta->count));
}

ssize_t coroutine_fn nbd_status_chunks(NBDRequest *req)
{
    const NBDMeta *meta = &req->client->meta;
    bool one = req->head.flags & NBD_CMD_FLAG_REQ_ONE;
    unsigned max = one ? 1 : max_extents(meta);
    g_autofree Extents *x = g_malloc(sizeof(*x) + max * sizeof(x->e[0]));
    g_autoptr(GByteArray) chunks = g_byte_array_new();
    unsigned left = meta->count;

    x->max = max;
    for (unsigned id = 0; left; id++) {
        size_t old = chunks->len;
        int ret;

        if (!nbd_meta_chosen(meta, id)) {
            continue;
        }
        x->count = 0;
        ret = collect(req, id, x);
        if (ret < 0) {
            return ret;
        }
        left--;
        g_byte_array_set_size(chunks, old + chunk_max(x->count));
        g_byte_array_set_size(chunks, old + put_extents(chunks->data + old,
                                                        req, id, !left, x));
    }
    nbd_request_alloc(req, chunks->len);
    memcpy(req->data, chunks->data, chunks->len);
    return chunks->len;
}
