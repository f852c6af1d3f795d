/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The format "raw": the content of the disk is that of its file, all of it or
 * the window that the options "offset" and "size" cut out.
 *
 * 1. Without a window the node is transparent: permissions and every request
 *    go through as they are.
 * 2. If raw was guessed rather than given, no write may turn the first sector
 *    into what another format would be guessed from: a guest could choose the
 *    backing file, and so read any file of the host, at the next open.
 */
#include "util/osdep.h"
#include "block/driver-table.h"
#include "qapi/qapi-visit.h"
#include "qapi/qobject-input-visitor.h"
#include "util/iov.h"
#include "util/memalign.h"

typedef struct BDRVRawState {
    /* Changed while drained. */
    int64_t offset;
    int64_t size;       /* of the window; valid if has_size */
    bool has_size;
} BDRVRawState;

static bool has_window(const BDRVRawState *s)
{
    return s->offset || s->has_size;
}

/* --- options --- */

/* Reads the window from @o and checks it against the file. 0 or -errno. */
static int raw_parse_window(BlockDriverState *bs, const BlockdevOptionsRaw *o,
                            BDRVRawState *s, Error **errp)
{
    int64_t file_size;

    s->offset = 0;
    s->has_size = false;
    s->size = 0;

    file_size = bdrv_getlength(bs->file->bs);
    if (file_size < 0) {
        error_setg_errno(errp, -file_size, "Could not get image size");
        return file_size;
    }
    if (o->has_offset && o->offset > (uint64_t)file_size) {
        error_setg(errp, "Offset (%" PRIu64 ") cannot be greater than size of "
                   "the containing file (%" PRId64 ")", o->offset, file_size);
        return -EINVAL;
    }
    s->offset = o->has_offset ? o->offset : 0;
    if (!o->has_size) {
        return 0;
    }
    if (o->size > (uint64_t)(file_size - s->offset)) {
        error_setg(errp, "The sum of offset (%" PRId64 ") and size (%" PRIu64
                   ") has to be smaller or equal to the  actual size of the "
                   "containing file (%" PRId64 ")",
                   s->offset, o->size, file_size);
        return -EINVAL;
    }
    if (o->size % BDRV_SECTOR_SIZE) {
        error_setg(errp, "Specified size is not multiple of %llu",
                   BDRV_SECTOR_SIZE);
        return -EINVAL;
    }
    s->has_size = true;
    s->size = o->size;
    return 0;
}

static void raw_refresh_flags(BlockDriverState *bs)
{
    BlockDriverState *file = bs->file->bs;

    bs->supported_read_flags = file->supported_read_flags;
    bs->supported_write_flags =
        BDRV_REQ_WRITE_UNCHANGED |
        (file->supported_write_flags & BDRV_REQ_FUA);
    bs->supported_zero_flags =
        BDRV_REQ_WRITE_UNCHANGED |
        (file->supported_zero_flags &
         (BDRV_REQ_FUA | BDRV_REQ_MAY_UNMAP | BDRV_REQ_NO_FALLBACK));
    bs->supported_truncate_flags =
        file->supported_truncate_flags & BDRV_REQ_ZERO_WRITE;
}

static int raw_open(BlockDriverState *bs, BlockdevOptions *options, int flags,
                    Error **errp)
{
    BDRVRawState *s = bs->opaque;
    const BlockdevOptionsRaw *o = &options->u.raw;
    BdrvChildRole role = BDRV_CHILD_DATA;
    int ret;

    if (!(o->has_offset && o->offset) && !o->has_size) {
        role = BDRV_CHILD_FILTERED;
    }
    if (!bdrv_open_child(bs, o->file, "file", role | BDRV_CHILD_PRIMARY,
                         false, errp)) {
        return -EINVAL;
    }
    ret = raw_parse_window(bs, o, s, errp);
    if (ret < 0) {
        return ret;
    }
    raw_refresh_flags(bs);
    if (bs->probed && (flags & BDRV_O_RDWR)) {
        bdrv_refresh_filename(bs->file->bs);
        error_printf("WARNING: Image format was not specified for '%s' and "
                     "probing guessed raw.\n"
                     "         Automatically detecting the format is dangerous "
                     "for raw images, write operations on block 0 will be "
                     "restricted.\n"
                     "         Specify the 'raw' format explicitly to remove "
                     "the restrictions.\n",
                     bs->file->bs->filename);
    }
    return 0;
}

static int raw_reopen_prepare(BDRVReopenState *state, BlockReopenQueue *queue,
                              Error **errp)
{
    g_autofree BDRVRawState *ns = g_new0(BDRVRawState, 1);
    int ret;

    ret = raw_parse_window(state->bs, &state->options->u.raw, ns, errp);
    if (ret < 0) {
        return ret;
    }
    state->opaque = g_steal_pointer(&ns);
    return 0;
}

static void raw_reopen_commit(BDRVReopenState *state)
{
    BDRVRawState *s = state->bs->opaque;
    BDRVRawState *ns = state->opaque;

    *s = *ns;
    raw_refresh_flags(state->bs);
    state->opaque = NULL;
    g_free(ns);
}

static void raw_reopen_abort(BDRVReopenState *state)
{
    g_free(state->opaque);
    state->opaque = NULL;
}

static void raw_child_perm(BlockDriverState *bs, BdrvChild *child,
                           BdrvChildRole role, BlockReopenQueue *queue,
                           uint64_t parent_perm, uint64_t parent_shared,
                           uint64_t *nperm, uint64_t *nshared)
{
    BDRVRawState *s = bs->opaque;

    *nperm = parent_perm & DEFAULT_PERM_PASSTHROUGH;
    *nshared = parent_shared & DEFAULT_PERM_PASSTHROUGH;
    if (has_window(s)) {
        /* A window must not come to lie outside of its file. */
        *nshared &= ~(uint64_t)BLK_PERM_RESIZE;
    }
}

static void raw_refresh_limits(BlockDriverState *bs, Error **errp)
{
    raw_refresh_flags(bs);
    if (bs->probed) {
        /* The check below sees whole first sectors only. */
        bs->bl.request_alignment = MAX(bs->bl.request_alignment,
                                       BLOCK_PROBE_BUF_SIZE);
    }
}

/* --- requests --- */

/* Turns an offset of the node into one of the file. 0 or -errno. */
static int raw_map(const BDRVRawState *s, int64_t *offset, int64_t bytes,
                   bool is_write)
{
    if (s->has_size &&
        (*offset > s->size || bytes > s->size - *offset)) {
        /* There is nothing to read, and nowhere to write to. */
        return is_write ? -ENOSPC : -EINVAL;
    }
    if (*offset > INT64_MAX - s->offset) {
        return -EINVAL;
    }
    *offset += s->offset;
    return 0;
}

static int coroutine_fn raw_co_preadv(BlockDriverState *bs, int64_t offset,
                                      int64_t bytes, QEMUIOVector *qiov,
                                      size_t qiov_offset,
                                      BdrvRequestFlags flags)
{
    int ret = raw_map(bs->opaque, &offset, bytes, false);

    if (ret < 0) {
        return ret;
    }
    return bdrv_co_preadv_part(bs->file, offset, bytes, qiov, qiov_offset,
                               flags);
}

/*
 * A write that touches the first sector of a guessed image. The sector goes
 * through memory of our own: a guest could change its buffer after the check.
 */
static int coroutine_fn raw_co_write_probed(BlockDriverState *bs,
                                            int64_t file_offset,
                                            int64_t bytes, QEMUIOVector *qiov,
                                            size_t qiov_offset,
                                            BdrvRequestFlags flags)
{
    QEMU_AUTO_VFREE void *buf = qemu_try_blockalign(bs->file->bs,
                                                    BLOCK_PROBE_BUF_SIZE);
    QEMUIOVector local;
    int ret;

    if (!buf) {
        return -ENOMEM;
    }
    assert(bytes >= BLOCK_PROBE_BUF_SIZE);
    qemu_iovec_to_buf(qiov, qiov_offset, buf, BLOCK_PROBE_BUF_SIZE);
    if (bdrv_probe_all(buf, BLOCK_PROBE_BUF_SIZE, NULL) != bs->drv) {
        return -EPERM;
    }
    qemu_iovec_init(&local, qiov->niov + 1);
    qemu_iovec_add(&local, buf, BLOCK_PROBE_BUF_SIZE);
    qemu_iovec_concat(&local, qiov, qiov_offset + BLOCK_PROBE_BUF_SIZE,
                      bytes - BLOCK_PROBE_BUF_SIZE);
    ret = bdrv_co_pwritev(bs->file, file_offset, bytes, &local, flags);
    qemu_iovec_destroy(&local);
    return ret;
}

static int coroutine_fn raw_co_pwritev(BlockDriverState *bs, int64_t offset,
                                       int64_t bytes, QEMUIOVector *qiov,
                                       size_t qiov_offset,
                                       BdrvRequestFlags flags)
{
    int64_t file_offset = offset;
    int ret = raw_map(bs->opaque, &file_offset, bytes, true);

    if (ret < 0) {
        return ret;
    }
    if (bs->probed && offset < BLOCK_PROBE_BUF_SIZE && bytes) {
        assert(offset == 0);
        return raw_co_write_probed(bs, file_offset, bytes, qiov, qiov_offset,
                                   flags);
    }
    return bdrv_co_pwritev_part(bs->file, file_offset, bytes, qiov,
                                qiov_offset, flags);
}

static int coroutine_fn raw_co_pwrite_zeroes(BlockDriverState *bs,
                                             int64_t offset, int64_t bytes,
                                             BdrvRequestFlags flags)
{
    int ret = raw_map(bs->opaque, &offset, bytes, true);

    return ret < 0 ? ret
                   : bdrv_co_pwrite_zeroes(bs->file, offset, bytes, flags);
}

static int coroutine_fn raw_co_pdiscard(BlockDriverState *bs, int64_t offset,
                                        int64_t bytes)
{
    int ret = raw_map(bs->opaque, &offset, bytes, true);

    return ret < 0 ? ret : bdrv_co_pdiscard(bs->file, offset, bytes);
}

static int coroutine_fn raw_co_splice(BlockDriverState *bs, int64_t offset,
                                      int64_t bytes, int pipe)
{
    int ret = raw_map(bs->opaque, &offset, bytes, false);

    return ret < 0 ? ret : bdrv_co_splice(bs->file, offset, bytes, pipe);
}

static int coroutine_fn raw_co_copy_range_from(
    BlockDriverState *bs, BdrvChild *src, int64_t src_offset, BdrvChild *dst,
    int64_t dst_offset, int64_t bytes, BdrvRequestFlags read_flags,
    BdrvRequestFlags write_flags)
{
    int ret = raw_map(bs->opaque, &src_offset, bytes, false);

    if (ret < 0) {
        return ret;
    }
    return bdrv_co_copy_range_from(bs->file, src_offset, dst, dst_offset,
                                   bytes, read_flags, write_flags);
}

static int coroutine_fn raw_co_copy_range_to(
    BlockDriverState *bs, BdrvChild *src, int64_t src_offset, BdrvChild *dst,
    int64_t dst_offset, int64_t bytes, BdrvRequestFlags read_flags,
    BdrvRequestFlags write_flags)
{
    int ret;

    if (bs->probed && dst_offset < BLOCK_PROBE_BUF_SIZE) {
        /* The data must be seen before it is written. */
        return -ENOTSUP;
    }
    ret = raw_map(bs->opaque, &dst_offset, bytes, true);
    if (ret < 0) {
        return ret;
    }
    return bdrv_co_copy_range_to(src, src_offset, bs->file, dst_offset, bytes,
                                 read_flags, write_flags);
}

static int coroutine_fn raw_co_block_status(BlockDriverState *bs,
                                            bool want_zero, int64_t offset,
                                            int64_t bytes, int64_t *pnum,
                                            int64_t *map,
                                            BlockDriverState **file)
{
    BDRVRawState *s = bs->opaque;

    *pnum = bytes;
    *file = bs->file->bs;
    *map = offset + s->offset;
    return BDRV_BLOCK_OFFSET_VALID | BDRV_BLOCK_RAW;
}

static int coroutine_fn raw_co_truncate(BlockDriverState *bs, int64_t offset,
                                        bool exact, PreallocMode prealloc,
                                        BdrvRequestFlags flags, Error **errp)
{
    BDRVRawState *s = bs->opaque;

    if (s->has_size) {
        error_setg(errp, "Cannot resize fixed-size raw disks");
        return -ENOTSUP;
    }
    if (offset > INT64_MAX - s->offset) {
        error_setg(errp, "Disk size too large for the chosen offset");
        return -EINVAL;
    }
    return bdrv_co_truncate(bs->file, offset + s->offset, exact, prealloc,
                            flags, errp);
}

static int64_t coroutine_fn raw_co_getlength(BlockDriverState *bs)
{
    BDRVRawState *s = bs->opaque;
    int64_t length;

    if (s->has_size) {
        return s->size;
    }
    length = bdrv_co_getlength(bs->file->bs);
    if (length < 0) {
        return length;
    }
    /*
     * The file may have become shorter than the offset. Disks consist of
     * sectors; what the file lacks of the last one reads as zeroes.
     */
    length = MAX(length - s->offset, 0);
    return ROUND_UP(length, (int64_t)BDRV_SECTOR_SIZE);
}

static int coroutine_fn raw_co_get_info(BlockDriverState *bs,
                                        BlockDriverInfo *bdi)
{
    return bdrv_co_get_info(bs->file->bs, bdi);
}

static int raw_has_zero_init(BlockDriverState *bs)
{
    return bdrv_has_zero_init(bs->file->bs);
}

static void coroutine_fn raw_co_debug_event(BlockDriverState *bs,
                                            BlkdebugEvent event)
{
    bdrv_co_debug_event(bs->file->bs, event);
}

/* --- images --- */

static int raw_probe(const uint8_t *buf, int buf_size, const char *filename)
{
    /* Anything is raw if it is nothing else. */
    return 1;
}

static int raw_create(const char *filename, QDict *options, Error **errp)
{
    return bdrv_create_file(filename, options, errp);
}

/* The size that the options give, or -1. As in creating, they are those of the
 * file. */
static int64_t size_in_options(QDict *options, Error **errp)
{
    Visitor *v = qobject_input_visitor_new_keyval(QOBJECT(options));
    CreateOptionsFile *o = NULL;
    int64_t size = -1;

    if (visit_type_CreateOptionsFile(v, NULL, &o, errp)) {
        if (o->has_size && o->size > BDRV_MAX_LENGTH) {
            error_setg(errp, "Image size must be less than 8 EiB!");
        } else {
            size = o->has_size ? o->size : 0;
        }
    }
    visit_free(v);
    qapi_free_CreateOptionsFile(o);
    return size;
}

static BlockMeasureInfo *raw_measure(QDict *options, BlockDriverState *in_bs,
                                     Error **errp)
{
    BlockMeasureInfo *info;
    int64_t size = size_in_options(options, errp);

    if (size < 0) {
        return NULL;
    }
    if (in_bs) {
        size = bdrv_getlength(in_bs);
        if (size < 0) {
            error_setg_errno(errp, -size, "Unable to get image size");
            return NULL;
        }
    }
    info = g_new0(BlockMeasureInfo, 1);
    info->required = ROUND_UP(size, BDRV_SECTOR_SIZE);
    info->fully_allocated = info->required;
    return info;
}

static const char *const raw_reopen_options[] = { "offset", "size", NULL };

BlockDriver bdrv_raw = {
    .format_name = "raw",
    .id = BLOCKDEV_DRIVER_RAW,
    .instance_size = sizeof(BDRVRawState),
    .is_format = true,
    .supports_inactive = true,
    .has_variable_length = true,
    .bdrv_probe = raw_probe,
    .bdrv_open = raw_open,
    .bdrv_reopen_prepare = raw_reopen_prepare,
    .bdrv_reopen_commit = raw_reopen_commit,
    .bdrv_reopen_abort = raw_reopen_abort,
    .reopen_options = raw_reopen_options,
    .bdrv_child_perm = raw_child_perm,
    .bdrv_refresh_limits = raw_refresh_limits,
    .bdrv_co_preadv = raw_co_preadv,
    .bdrv_co_pwritev = raw_co_pwritev,
    .bdrv_co_pwrite_zeroes = raw_co_pwrite_zeroes,
    .bdrv_co_pdiscard = raw_co_pdiscard,
    .bdrv_co_splice = raw_co_splice,
    .bdrv_co_copy_range_from = raw_co_copy_range_from,
    .bdrv_co_copy_range_to = raw_co_copy_range_to,
    .bdrv_co_block_status = raw_co_block_status,
    .bdrv_co_truncate = raw_co_truncate,
    .bdrv_co_getlength = raw_co_getlength,
    .bdrv_co_get_info = raw_co_get_info,
    .bdrv_has_zero_init = raw_has_zero_init,
    .bdrv_co_debug_event = raw_co_debug_event,
    .bdrv_create = raw_create,
    .create_options = qapi_CreateOptionsRaw_members,
    .bdrv_measure = raw_measure,
};
