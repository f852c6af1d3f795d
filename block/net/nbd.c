/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The driver "nbd": a disk that an NBD server exports.
 *
 * What the export can do is fixed when the node is opened; connections that are
 * made later are to the same export or are refused (nbd-pool.c).
 */
#include "util/osdep.h"
#include "block/driver-table.h"
#include "block/block-backend.h"
#include "block/net/nbd-client.h"
#include "qapi/clone-visitor.h"
#include "qapi/qapi-visit.h"
#include "qapi/qobject-input-visitor.h"

typedef struct BDRVNBDState {
    NBDPool pool;
    BlockdevOptionsNbd *options;    /* those of the node change in a reopen */
    bool is_open;                   /* main thread */
    bool is_opening;                /* the same */
} BDRVNBDState;

static bool can(const BlockDriverState *bs, uint16_t flag)
{
    const BDRVNBDState *s = bs->opaque;

    return s->pool.info.flags & flag;
}

static bool is_extended(const BlockDriverState *bs)
{
    const BDRVNBDState *s = bs->opaque;

    return s->pool.info.style == NBD_STYLE_EXTENDED;
}

/* --- open, close, reopen --- */

static bool check_options(const BlockdevOptionsNbd *o, Error **errp)
{
    if (o->export && strlen(o->export) > NBD_MAX_STRING_SIZE) {
        error_setg(errp, "export name too long to send to server");
        return false;
    }
    if (o->x_dirty_bitmap && strlen(o->x_dirty_bitmap) > NBD_MAX_STRING_SIZE) {
        error_setg(errp, "x-dirty-bitmap query too long to send to server");
        return false;
    }
    if (o->tls_hostname && !o->tls_creds) {
        error_setg(errp, "tls-hostname is of no use without tls-creds");
        return false;
    }
    return true;
}

static void set_flags(BlockDriverState *bs)
{
    bs->supported_read_flags = can(bs, NBD_FLAG_SEND_CACHE)
                               ? BDRV_REQ_PREFETCH : 0;
    bs->supported_write_flags = can(bs, NBD_FLAG_SEND_FUA) ? BDRV_REQ_FUA : 0;
    if (can(bs, NBD_FLAG_SEND_WRITE_ZEROES)) {
        bs->supported_zero_flags = BDRV_REQ_MAY_UNMAP |
                                   bs->supported_write_flags;
    }
    if (can(bs, NBD_FLAG_SEND_FAST_ZERO)) {
        bs->supported_zero_flags |= BDRV_REQ_NO_FALLBACK;
    }
}

static int check_export(BlockDriverState *bs, Error **errp)
{
    BDRVNBDState *s = bs->opaque;

    if (s->options->x_dirty_bitmap && !s->pool.info.has_context) {
        error_setg(errp, "requested x-dirty-bitmap %s not found",
                   s->options->x_dirty_bitmap);
        return -EINVAL;
    }
    if (can(bs, NBD_FLAG_READ_ONLY)) {
        return bdrv_apply_auto_read_only(bs, "request on write denied without "
                                         "write permission", errp);
    }
    return 0;
}

static void nbd_close(BlockDriverState *bs)
{
    BDRVNBDState *s = bs->opaque;

    s->is_open = false;
    nbd_pool_close(&s->pool);
    qapi_free_BlockdevOptionsNbd(s->options);
}

static int nbd_open(BlockDriverState *bs, BlockdevOptions *options, int flags,
                    Error **errp)
{
    BDRVNBDState *s = bs->opaque;
    int ret;

    if (!check_options(&options->u.nbd, errp)) {
        return -EINVAL;
    }
    s->options = QAPI_CLONE(BlockdevOptionsNbd, &options->u.nbd);
    s->is_opening = true;
    s->is_open = nbd_pool_open(&s->pool, s->options, errp);
    s->is_opening = false;
    if (!s->is_open) {
        qapi_free_BlockdevOptionsNbd(s->options);
        return -ECONNREFUSED;
    }
    ret = check_export(bs, errp);
    if (ret < 0) {
        nbd_close(bs);
        return ret;
    }
    set_flags(bs);
    return 0;
}

static int nbd_reopen_prepare(BDRVReopenState *state, BlockReopenQueue *queue,
                              Error **errp)
{
    if ((state->flags & BDRV_O_RDWR) && can(state->bs, NBD_FLAG_READ_ONLY)) {
        error_setg(errp, "Can't reopen read-only NBD mount as read/write");
        return -EACCES;
    }
    return 0;
}

static void nbd_reopen_end(BDRVReopenState *state)
{
}

static void nbd_drained_begin(BlockDriverState *bs)
{
    BDRVNBDState *s = bs->opaque;

    if (s->is_open) {
        nbd_pool_drained_begin(&s->pool);
    }
}

static void nbd_drained_end(BlockDriverState *bs)
{
    BDRVNBDState *s = bs->opaque;

    if (s->is_open) {
        nbd_pool_drained_end(&s->pool);
    }
}

static void nbd_hurry(BlockDriverState *bs)
{
    BDRVNBDState *s = bs->opaque;

    if (s->is_open || s->is_opening) {
        nbd_pool_hurry(&s->pool);
    }
}

static void nbd_refresh_limits(BlockDriverState *bs, Error **errp)
{
    BDRVNBDState *s = bs->opaque;
    const NBDExportInfo *info = &s->pool.info;
    uint32_t max = MIN_NON_ZERO(info->max_block, NBD_MAX_BUFFER_SIZE);
    /* What fits the field of a request. */
    int64_t longest = is_extended(bs) ? BDRV_MAX_LENGTH : INT32_MAX;

    bs->bl.request_alignment = info->min_block ?:
                               info->size % BDRV_SECTOR_SIZE
                               ? 1 : BDRV_SECTOR_SIZE;
    longest = QEMU_ALIGN_DOWN(longest, bs->bl.request_alignment);
    bs->bl.max_transfer = max;
    bs->bl.max_pdiscard = longest;
    bs->bl.max_pwrite_zeroes = longest;
    if (info->opt_block > bs->bl.request_alignment) {
        bs->bl.opt_transfer = MIN(info->opt_block, max);
    }
}

/* --- requests --- */

static int coroutine_fn request(BlockDriverState *bs, NBDClientRequest *req)
{
    BDRVNBDState *s = bs->opaque;

    return nbd_pool_request(&s->pool, req);
}

static int coroutine_fn nbd_co_preadv(BlockDriverState *bs, int64_t offset,
                                      int64_t bytes, QEMUIOVector *qiov,
                                      size_t qiov_offset,
                                      BdrvRequestFlags flags)
{
    NBDClientRequest req = {
        .type = flags & BDRV_REQ_PREFETCH ? NBD_CMD_CACHE : NBD_CMD_READ,
        .from = offset,
        .len = bytes,
        .qiov = qiov,
        .qiov_offset = qiov_offset,
    };

    return bytes ? request(bs, &req) : 0;
}

static int coroutine_fn nbd_co_pwritev(BlockDriverState *bs, int64_t offset,
                                       int64_t bytes, QEMUIOVector *qiov,
                                       size_t qiov_offset,
                                       BdrvRequestFlags flags)
{
    NBDClientRequest req = {
        .type = NBD_CMD_WRITE,
        .flags = flags & BDRV_REQ_FUA ? NBD_CMD_FLAG_FUA : 0,
        .from = offset,
        .len = bytes,
        .qiov = qiov,
        .qiov_offset = qiov_offset,
    };

    return bytes ? request(bs, &req) : 0;
}

static int coroutine_fn nbd_co_pwrite_zeroes(BlockDriverState *bs,
                                             int64_t offset, int64_t bytes,
                                             BdrvRequestFlags flags)
{
    NBDClientRequest req = {
        .type = NBD_CMD_WRITE_ZEROES,
        .from = offset,
        .len = bytes,
    };

    if (!can(bs, NBD_FLAG_SEND_WRITE_ZEROES)) {
        return -ENOTSUP;
    }
    if (flags & BDRV_REQ_FUA) {
        req.flags |= NBD_CMD_FLAG_FUA;
    }
    if (!(flags & BDRV_REQ_MAY_UNMAP)) {
        req.flags |= NBD_CMD_FLAG_NO_HOLE;
    }
    if (flags & BDRV_REQ_NO_FALLBACK) {
        req.flags |= NBD_CMD_FLAG_FAST_ZERO;
    }
    return bytes ? request(bs, &req) : 0;
}

static int coroutine_fn nbd_co_pdiscard(BlockDriverState *bs, int64_t offset,
                                        int64_t bytes)
{
    NBDClientRequest req = {
        .type = NBD_CMD_TRIM,
        .from = offset,
        .len = bytes,
    };

    return bytes && can(bs, NBD_FLAG_SEND_TRIM) ? request(bs, &req) : 0;
}

static int coroutine_fn nbd_co_flush(BlockDriverState *bs)
{
    NBDClientRequest req = { .type = NBD_CMD_FLUSH };

    return can(bs, NBD_FLAG_SEND_FLUSH) ? request(bs, &req) : 0;
}

/* --- length --- */

static int64_t coroutine_fn nbd_co_getlength(BlockDriverState *bs)
{
    BDRVNBDState *s = bs->opaque;

    return s->pool.info.size;
}

static int coroutine_fn nbd_co_truncate(BlockDriverState *bs, int64_t offset,
                                        bool exact, PreallocMode prealloc,
                                        BdrvRequestFlags flags, Error **errp)
{
    BDRVNBDState *s = bs->opaque;

    if (offset > s->pool.info.size) {
        error_setg(errp, "Cannot grow NBD nodes");
        return -EINVAL;
    }
    if (exact && offset != s->pool.info.size) {
        error_setg(errp, "Cannot resize NBD nodes");
        return -ENOTSUP;
    }
    return 0;
}

/* --- block status --- */

/*
 * In blocks: what is in the middle of one says nothing about it. A hole that may
 * read as anything is data to those who copy; but flags of another context are
 * shown as they are.
 */
static int status_of(const BlockDriverState *bs, const NBDClientRequest *req,
                     int64_t bytes, int64_t *pnum)
{
    const BDRVNBDState *s = bs->opaque;
    int64_t align = bs->bl.request_alignment;
    uint64_t flags = req->extent_flags;
    int64_t len = MIN(req->extent_len, bytes);
    int status = 0;

    if (len < bytes && len % align) {
        if (len < align) {
            flags = 0;
            len = align;
        }
        len = QEMU_ALIGN_DOWN(len, align);
    }
    *pnum = len;
    if (!(flags & NBD_STATE_HOLE) ||
        (!(flags & NBD_STATE_ZERO) && !s->options->x_dirty_bitmap)) {
        status |= BDRV_BLOCK_DATA;
    }
    if (flags & NBD_STATE_ZERO) {
        status |= BDRV_BLOCK_ZERO;
    }
    return status ? status | BDRV_BLOCK_OFFSET_VALID : 0;
}

static int coroutine_fn nbd_co_block_status(BlockDriverState *bs,
                                            bool want_zero, int64_t offset,
                                            int64_t bytes, int64_t *pnum,
                                            int64_t *map,
                                            BlockDriverState **file)
{
    BDRVNBDState *s = bs->opaque;
    NBDClientRequest req = {
        .type = NBD_CMD_BLOCK_STATUS,
        .flags = NBD_CMD_FLAG_REQ_ONE,
        .from = offset,
    };
    int ret;

    *pnum = bytes = MIN(bytes, (int64_t)s->pool.info.size - offset);
    *map = offset;
    *file = bs;
    if (!s->pool.info.has_context) {
        return BDRV_BLOCK_DATA | BDRV_BLOCK_OFFSET_VALID;
    }
    req.len = is_extended(bs) ? bytes : MIN(bytes, bs->bl.max_pdiscard);
    ret = request(bs, &req);
    return ret < 0 ? ret : status_of(bs, &req, req.len, pnum);
}

/* --- making an image in an export --- */

static int start_image(BlockBackend *blk, int64_t size, Error **errp)
{
    int64_t length;
    int ret = blk_truncate(blk, size, false, PREALLOC_MODE_OFF, 0, errp);

    if (ret < 0) {
        return ret;
    }
    /* What was in there must not be taken for the format of the new image. */
    length = blk_getlength(blk);
    ret = length < 0 ? length
          : blk_pwrite_zeroes(blk, 0, MIN(length, (int64_t)BDRV_SECTOR_SIZE),
                              BDRV_REQ_MAY_UNMAP);
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Could not clear the start of the "
                         "export");
    }
    return ret;
}

static int nbd_create(const char *filename, QDict *options, Error **errp)
{
    Visitor *v = qobject_input_visitor_new_keyval(QOBJECT(options));
    CreateOptionsRaw *opts = NULL;
    g_autoptr(BlockBackend) blk = NULL;
    int64_t size;

    visit_type_CreateOptionsRaw(v, NULL, &opts, errp);
    visit_free(v);
    if (!opts) {
        return -EINVAL;
    }
    size = opts->has_size ? MIN(opts->size, BDRV_MAX_LENGTH) : 0;
    qapi_free_CreateOptionsRaw(opts);
    blk = blk_new_open_perm(filename, NULL, NULL,
                            BDRV_O_RDWR | BDRV_O_PROTOCOL,
                            BLK_PERM_WRITE | BLK_PERM_RESIZE, BLK_PERM_ALL,
                            errp);
    return blk ? start_image(blk, size, errp) : -EINVAL;
}

static const char *const nbd_aliases[] = { "nbd+tcp", "nbd+unix", NULL };
static const char *const nbd_weak_options[] = {
    "reconnect-delay", "open-timeout", NULL
};

BlockDriver bdrv_nbd = {
    .format_name = "nbd",
    .id = BLOCKDEV_DRIVER_NBD,
    .protocol_name = "nbd",
    .protocol_aliases = nbd_aliases,
    .instance_size = sizeof(BDRVNBDState),
    .supports_inactive = true,
    .bdrv_parse_filename = nbd_parse_filename,
    .bdrv_translate_options = nbd_translate_options,
    .bdrv_open = nbd_open,
    .bdrv_close = nbd_close,
    .bdrv_reopen_prepare = nbd_reopen_prepare,
    .bdrv_reopen_commit = nbd_reopen_end,
    .bdrv_reopen_abort = nbd_reopen_end,
    .bdrv_drained_begin = nbd_drained_begin,
    .bdrv_drained_end = nbd_drained_end,
    .bdrv_hurry = nbd_hurry,
    .bdrv_refresh_limits = nbd_refresh_limits,
    .bdrv_co_preadv = nbd_co_preadv,
    .bdrv_co_pwritev = nbd_co_pwritev,
    .bdrv_co_pwrite_zeroes = nbd_co_pwrite_zeroes,
    .bdrv_co_pdiscard = nbd_co_pdiscard,
    .bdrv_co_flush_to_disk = nbd_co_flush,
    .bdrv_co_block_status = nbd_co_block_status,
    .bdrv_co_getlength = nbd_co_getlength,
    .bdrv_co_truncate = nbd_co_truncate,
    .bdrv_create = nbd_create,
    .bdrv_refresh_filename = nbd_refresh_filename,
    .weak_options = nbd_weak_options,
};
