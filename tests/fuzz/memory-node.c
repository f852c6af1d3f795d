/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "util/osdep.h"
#include "memory-node.h"
#include "util/error.h"
#include "util/iov.h"

typedef struct MemoryFile {
    uint8_t *data;      /* max_size bytes; what is behind size is zero */
    int64_t size;
    int64_t max_size;
} MemoryFile;

/* For the node that is being made: opening has no other way to pass it. */
static MemoryFile next_file;

static MemoryFile *file_of(BlockDriverState *bs)
{
    return bs->opaque;
}

static int memory_open(BlockDriverState *bs, BlockdevOptions *options,
                       int flags, Error **errp)
{
    *file_of(bs) = next_file;
    bs->supported_zero_flags = BDRV_REQ_MAY_UNMAP | BDRV_REQ_NO_FALLBACK;
    return 0;
}

static void memory_close(BlockDriverState *bs)
{
    g_free(file_of(bs)->data);
}

static void memory_refresh_limits(BlockDriverState *bs, Error **errp)
{
    bs->bl.request_alignment = 1;
}

static int64_t coroutine_fn memory_getlength(BlockDriverState *bs)
{
    return file_of(bs)->size;
}

/* Makes room up to @end. */
static int grow(MemoryFile *f, int64_t end)
{
    if (end > f->max_size) {
        return -EFBIG;
    }
    f->size = MAX(f->size, end);
    return 0;
}

static int coroutine_fn memory_preadv(BlockDriverState *bs, int64_t offset,
                                      int64_t bytes, QEMUIOVector *qiov,
                                      size_t qiov_offset,
                                      BdrvRequestFlags flags)
{
    MemoryFile *f = file_of(bs);
    int64_t inside = CLAMP(f->size - offset, 0, bytes);

    if (inside) {
        qemu_iovec_from_buf(qiov, qiov_offset, f->data + offset, inside);
    }
    qemu_iovec_memset(qiov, qiov_offset + inside, 0, bytes - inside);
    return 0;
}

static int coroutine_fn memory_pwritev(BlockDriverState *bs, int64_t offset,
                                       int64_t bytes, QEMUIOVector *qiov,
                                       size_t qiov_offset,
                                       BdrvRequestFlags flags)
{
    MemoryFile *f = file_of(bs);
    int ret = grow(f, offset + bytes);

    if (ret == 0) {
        qemu_iovec_to_buf(qiov, qiov_offset, f->data + offset, bytes);
    }
    return ret;
}

static int coroutine_fn memory_pwrite_zeroes(BlockDriverState *bs,
                                             int64_t offset, int64_t bytes,
                                             BdrvRequestFlags flags)
{
    MemoryFile *f = file_of(bs);
    int ret = grow(f, offset + bytes);

    if (ret == 0) {
        memset(f->data + offset, 0, bytes);
    }
    return ret;
}

static int coroutine_fn memory_pdiscard(BlockDriverState *bs, int64_t offset,
                                        int64_t bytes)
{
    MemoryFile *f = file_of(bs);
    int64_t inside = CLAMP(f->size - offset, 0, bytes);

    memset(f->data + MIN(offset, f->size), 0, inside);
    return 0;
}

static int coroutine_fn memory_truncate(BlockDriverState *bs, int64_t offset,
                                        bool exact, PreallocMode prealloc,
                                        BdrvRequestFlags flags, Error **errp)
{
    MemoryFile *f = file_of(bs);
    int ret = grow(f, offset);

    if (ret < 0) {
        error_setg_errno(errp, -ret, "Cannot grow the file");
        return ret;
    }
    memset(f->data + offset, 0, f->size - offset);
    f->size = offset;
    return 0;
}

static BlockDriver memory_driver = {
    .format_name = "null-co",
    .instance_size = sizeof(MemoryFile),
    .bdrv_open = memory_open,
    .bdrv_close = memory_close,
    .bdrv_refresh_limits = memory_refresh_limits,
    .bdrv_co_getlength = memory_getlength,
    .bdrv_co_preadv = memory_preadv,
    .bdrv_co_pwritev = memory_pwritev,
    .bdrv_co_pwrite_zeroes = memory_pwrite_zeroes,
    .bdrv_co_pdiscard = memory_pdiscard,
    .bdrv_co_truncate = memory_truncate,
};

BlockDriverState *memory_node(const char *name, const void *data, size_t size,
                              size_t max_size)
{
    assert(size <= max_size);
    next_file = (MemoryFile) {
        .data = g_malloc0(max_size), .size = size, .max_size = max_size,
    };
    if (size) {
        memcpy(next_file.data, data, size);
    }
    return bdrv_new_open_driver(&memory_driver, name,
                                BDRV_O_RDWR | BDRV_O_UNMAP, &error_abort);
}
