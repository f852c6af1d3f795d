/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The driver "concat": several nodes one behind the other as one disk.
 *
 * 1. The length of each part is taken when the node is opened and fixed from
 *    then on: the node does not share the resize permission.
 * 2. A part takes up whole sectors. What its last sector has beyond its end, its
 *    padding, reads as zeroes and takes nothing else.
 * 3. Requests are split where parts meet; the pieces go one after the other. A
 *    request that fails may have been carried out for the parts before.
 */
#include "util/osdep.h"
#include "block/driver-table.h"
#include "util/atomic.h"
#include "util/iov.h"

typedef struct ConcatPart {
    BdrvChild *child;
    int64_t start;          /* offset in the node */
    int64_t length;         /* bytes of the child that are used */
    int64_t size;           /* the same, whole sectors */
} ConcatPart;

/* Fixed by open. */
typedef struct BDRVConcatState {
    ConcatPart *parts;
    unsigned nb_parts;
    int64_t length;
} BDRVConcatState;

/* --- ranges --- */

/* The part that @offset, which is inside the node, belongs to. */
static const ConcatPart *find_part(const BDRVConcatState *s, int64_t offset)
{
    unsigned low = 0, high = s->nb_parts;

    assert(offset >= 0 && offset < s->length);
    /* parts[low].start <= offset, and offset < parts[high].start */
    while (high - low > 1) {
        unsigned mid = low + (high - low) / 2;

        if (s->parts[mid].start <= offset) {
            low = mid;
        } else {
            high = mid;
        }
    }
    return &s->parts[low];
}

/* A piece of a request: inside one part, and either of its data or padding. */
typedef struct Piece {
    BdrvChild *child;
    int64_t offset;         /* in the child */
    int64_t bytes;
    bool padding;
} Piece;

static Piece first_piece(const BDRVConcatState *s, int64_t offset,
                         int64_t bytes)
{
    const ConcatPart *part = find_part(s, offset);
    Piece p = { .child = part->child, .offset = offset - part->start };
    int64_t end;

    p.padding = p.offset >= part->length;
    end = p.padding ? part->size : part->length;
    p.bytes = MIN(bytes, end - p.offset);
    assert(p.bytes > 0);
    return p;
}

static bool in_node(const BDRVConcatState *s, int64_t offset, int64_t bytes)
{
    return offset <= s->length && bytes <= s->length - offset;
}

/* --- opening --- */

/* In bytes: what the last sector lacks has no place, and stays zeroes. */
static int64_t part_length(BdrvChild *child, Error **errp)
{
    int64_t length = bdrv_getlength(child->bs);

    if (length < 0) {
        error_setg_errno(errp, -length, "Could not get the size of '%s'",
                         child->name);
        return length;
    }
    return qatomic_read(&child->bs->total_bytes);
}

static bool add_part(BlockDriverState *bs, BlockdevRef *ref, Error **errp)
{
    BDRVConcatState *s = bs->opaque;
    ConcatPart *part = &s->parts[s->nb_parts];
    g_autofree char *name = g_strdup_printf("files.%u", s->nb_parts);
    BdrvChild *child = bdrv_open_child(bs, ref, name, BDRV_CHILD_DATA, false,
                                       errp);
    int64_t length;

    if (!child) {
        return false;
    }
    length = part_length(child, errp);
    if (length < 0) {
        return false;
    }
    if (length > BDRV_MAX_LENGTH - (int64_t)BDRV_SECTOR_SIZE - s->length) {
        error_setg(errp, "The files together are too large");
        return false;
    }
    *part = (ConcatPart) {
        .child = child,
        .start = s->length,
        .length = length,
        .size = ROUND_UP(length, BDRV_SECTOR_SIZE),
    };
    s->length += part->size;
    s->nb_parts++;
    return true;
}

static int concat_open(BlockDriverState *bs, BlockdevOptions *options,
                       int flags, Error **errp)
{
    BDRVConcatState *s = bs->opaque;
    BlockdevRefList *files = options->u.concat.files;

    if (!files) {
        error_setg(errp, "Parameter 'files' must name at least one file");
        return -EINVAL;
    }
    s->parts = g_new0(ConcatPart, QAPI_LIST_LENGTH(files));
    for (; files; files = files->next) {
        if (!add_part(bs, files->value, errp)) {
            g_free(s->parts);
            return -EINVAL;
        }
    }
    /* What a part cannot do, the generic layer does for it. */
    bs->supported_write_flags = BDRV_REQ_WRITE_UNCHANGED | BDRV_REQ_FUA;
    bs->supported_zero_flags = BDRV_REQ_WRITE_UNCHANGED | BDRV_REQ_FUA |
                               BDRV_REQ_MAY_UNMAP | BDRV_REQ_NO_FALLBACK;
    return 0;
}

/* The parts lie where they lay. */
static int concat_activate(BlockDriverState *bs, Error **errp)
{
    BDRVConcatState *s = bs->opaque;

    for (unsigned i = 0; i < s->nb_parts; i++) {
        int64_t length = part_length(s->parts[i].child, errp);

        if (length < 0) {
            return length;
        }
        if (length != s->parts[i].length) {
            error_setg(errp, "'%s' has another size", s->parts[i].child->name);
            return -EINVAL;
        }
    }
    return 0;
}

static void concat_close(BlockDriverState *bs)
{
    BDRVConcatState *s = bs->opaque;

    g_free(s->parts);
}

static int concat_reopen_prepare(BDRVReopenState *state,
                                 BlockReopenQueue *queue, Error **errp)
{
    /* Access mode and caching only; they matter to the parts. */
    return 0;
}

static void concat_child_perm(BlockDriverState *bs, BdrvChild *child,
                              BdrvChildRole role, BlockReopenQueue *queue,
                              uint64_t parent_perm, uint64_t parent_shared,
                              uint64_t *nperm, uint64_t *nshared)
{
    /* No part is ever resized through this node, nor may others do it. */
    *nperm = parent_perm & ~(uint64_t)BLK_PERM_RESIZE;
    *nshared = parent_shared & ~(uint64_t)BLK_PERM_RESIZE;
}

static void concat_refresh_limits(BlockDriverState *bs, Error **errp)
{
    /*
     * Parts meet at any sector, so no alignment of a request suits all of
     * them; each part pads what it gets.
     */
    bs->bl.request_alignment = 1;
    bs->bl.pdiscard_alignment = 0;
    bs->bl.pwrite_zeroes_alignment = 0;
}

/* --- requests --- */

static int coroutine_fn concat_co_preadv(BlockDriverState *bs, int64_t offset,
                                         int64_t bytes, QEMUIOVector *qiov,
                                         size_t qiov_offset,
                                         BdrvRequestFlags flags)
{
    BDRVConcatState *s = bs->opaque;

    if (!in_node(s, offset, bytes)) {
        return -EIO;
    }
    while (bytes) {
        Piece p = first_piece(s, offset, bytes);

        if (p.padding) {
            qemu_iovec_memset(qiov, qiov_offset, 0, p.bytes);
        } else {
            int ret = bdrv_co_preadv_part(p.child, p.offset, p.bytes, qiov,
                                          qiov_offset, flags);
            if (ret < 0) {
                return ret;
            }
        }
        offset += p.bytes;
        bytes -= p.bytes;
        qiov_offset += p.bytes;
    }
    return 0;
}

/* Whether the range can be written as far as padding goes. */
static bool padding_stays_zero(const BDRVConcatState *s, int64_t offset,
                               int64_t bytes, const QEMUIOVector *qiov,
                               size_t qiov_offset)
{
    while (bytes) {
        Piece p = first_piece(s, offset, bytes);

        if (p.padding && !qemu_iovec_is_zero(qiov, qiov_offset, p.bytes)) {
            return false;
        }
        offset += p.bytes;
        bytes -= p.bytes;
        qiov_offset += p.bytes;
    }
    return true;
}

static int coroutine_fn concat_co_pwritev(BlockDriverState *bs, int64_t offset,
                                          int64_t bytes, QEMUIOVector *qiov,
                                          size_t qiov_offset,
                                          BdrvRequestFlags flags)
{
    BDRVConcatState *s = bs->opaque;

    if (!in_node(s, offset, bytes) ||
        !padding_stays_zero(s, offset, bytes, qiov, qiov_offset)) {
        return -ENOSPC;
    }
    while (bytes) {
        Piece p = first_piece(s, offset, bytes);

        if (!p.padding) {
            int ret = bdrv_co_pwritev_part(p.child, p.offset, p.bytes, qiov,
                                           qiov_offset, flags);
            if (ret < 0) {
                return ret;
            }
        }
        offset += p.bytes;
        bytes -= p.bytes;
        qiov_offset += p.bytes;
    }
    return 0;
}

static int coroutine_fn concat_co_pwrite_zeroes(BlockDriverState *bs,
                                                int64_t offset, int64_t bytes,
                                                BdrvRequestFlags flags)
{
    BDRVConcatState *s = bs->opaque;

    if (!in_node(s, offset, bytes)) {
        return -ENOSPC;
    }
    while (bytes) {
        Piece p = first_piece(s, offset, bytes);

        if (!p.padding) {
            int ret = bdrv_co_pwrite_zeroes(p.child, p.offset, p.bytes, flags);

            if (ret < 0) {
                return ret;
            }
        }
        offset += p.bytes;
        bytes -= p.bytes;
    }
    return 0;
}

static int coroutine_fn concat_co_pdiscard(BlockDriverState *bs,
                                           int64_t offset, int64_t bytes)
{
    BDRVConcatState *s = bs->opaque;

    if (!in_node(s, offset, bytes)) {
        return -EIO;
    }
    while (bytes) {
        Piece p = first_piece(s, offset, bytes);

        if (!p.padding) {
            int ret = bdrv_co_pdiscard(p.child, p.offset, p.bytes);

            if (ret < 0) {
                return ret;
            }
        }
        offset += p.bytes;
        bytes -= p.bytes;
    }
    return 0;
}

static int coroutine_fn concat_co_copy_range_from(
    BlockDriverState *bs, BdrvChild *src, int64_t src_offset, BdrvChild *dst,
    int64_t dst_offset, int64_t bytes, BdrvRequestFlags read_flags,
    BdrvRequestFlags write_flags)
{
    BDRVConcatState *s = bs->opaque;
    Piece p;

    if (!bytes || !in_node(s, src_offset, bytes)) {
        return -ENOTSUP;
    }
    p = first_piece(s, src_offset, bytes);
    if (p.padding || p.bytes < bytes) {
        return -ENOTSUP;
    }
    return bdrv_co_copy_range_from(p.child, p.offset, dst, dst_offset, bytes,
                                   read_flags, write_flags);
}

static int coroutine_fn concat_co_copy_range_to(
    BlockDriverState *bs, BdrvChild *src, int64_t src_offset, BdrvChild *dst,
    int64_t dst_offset, int64_t bytes, BdrvRequestFlags read_flags,
    BdrvRequestFlags write_flags)
{
    BDRVConcatState *s = bs->opaque;
    Piece p;

    if (!bytes || !in_node(s, dst_offset, bytes)) {
        return -ENOTSUP;
    }
    p = first_piece(s, dst_offset, bytes);
    if (p.padding || p.bytes < bytes) {
        return -ENOTSUP;
    }
    return bdrv_co_copy_range_to(src, src_offset, p.child, p.offset, bytes,
                                 read_flags, write_flags);
}

static int coroutine_fn concat_co_block_status(BlockDriverState *bs,
                                               bool want_zero, int64_t offset,
                                               int64_t bytes, int64_t *pnum,
                                               int64_t *map,
                                               BlockDriverState **file)
{
    BDRVConcatState *s = bs->opaque;
    Piece p = first_piece(s, offset, bytes);

    *pnum = p.bytes;
    if (p.padding) {
        return BDRV_BLOCK_ZERO;
    }
    *map = p.offset;
    *file = p.child->bs;
    return BDRV_BLOCK_RAW | BDRV_BLOCK_OFFSET_VALID;
}

static int64_t coroutine_fn concat_co_getlength(BlockDriverState *bs)
{
    BDRVConcatState *s = bs->opaque;

    return s->length;
}

static int64_t coroutine_fn
concat_co_get_allocated_file_size(BlockDriverState *bs)
{
    BDRVConcatState *s = bs->opaque;
    int64_t sum = 0;

    for (unsigned i = 0; i < s->nb_parts; i++) {
        int64_t n = bdrv_co_get_allocated_file_size(s->parts[i].child->bs);

        if (n < 0) {
            return n;
        }
        sum += n;
    }
    return sum;
}

/* In file names the parts appear as the children that they are. */
static const char *const concat_weak_options[] = { "files", NULL };

BlockDriver bdrv_concat = {
    .format_name = "concat",
    .id = BLOCKDEV_DRIVER_CONCAT,
    .instance_size = sizeof(BDRVConcatState),
    .bdrv_open = concat_open,
    .bdrv_close = concat_close,
    .bdrv_reopen_prepare = concat_reopen_prepare,
    .bdrv_child_perm = concat_child_perm,
    .bdrv_refresh_limits = concat_refresh_limits,
    .bdrv_co_preadv = concat_co_preadv,
    .bdrv_co_pwritev = concat_co_pwritev,
    .bdrv_co_pwrite_zeroes = concat_co_pwrite_zeroes,
    .bdrv_co_pdiscard = concat_co_pdiscard,
    .bdrv_co_copy_range_from = concat_co_copy_range_from,
    .bdrv_co_copy_range_to = concat_co_copy_range_to,
    .bdrv_co_block_status = concat_co_block_status,
    .bdrv_co_getlength = concat_co_getlength,
    .bdrv_co_get_allocated_file_size = concat_co_get_allocated_file_size,
    .weak_options = concat_weak_options,
    .supports_inactive = true,
    .bdrv_activate = concat_activate,
};
