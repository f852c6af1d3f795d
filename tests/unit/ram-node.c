/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "util/osdep.h"
#include "ram-node.h"
#include "util/aio.h"

static int64_t new_length;
static uint32_t new_zero_align;

static RamNode *ram_of(BlockDriverState *bs)
{
    return *(RamNode **)bs->opaque;
}

/* Notes a request, lets others run, and tells whether it is to fail. */
static int coroutine_fn begin(RamNode *ram, RamKind kind, int64_t offset,
                              int64_t bytes)
{
    RamRequest r = { kind, offset, bytes };
    int turns = ram->delays ? g_rand_int_range(ram->delays, 0, 5) : 0;
    bool fail = ++ram->count[kind] == ram->fail_at[kind];

    g_array_append_val(ram->log, r);
    if (kind != RAM_STATUS) {
        ram->in_flight++;
        ram->max_in_flight = MAX(ram->max_in_flight, ram->in_flight);
    }
    while (turns--) {
        qemu_co_yield_to_loop();
    }
    if (kind == RAM_READ && offset < ram->bad_end &&
        offset + bytes > ram->bad_start) {
        fail = true;
    }
    return fail ? -(ram->fail_errno ?: EIO) : 0;
}

static int end(RamNode *ram, int ret)
{
    ram->in_flight--;
    return ret;
}

static int coroutine_fn ram_preadv(BlockDriverState *bs, int64_t offset,
                                   int64_t bytes, QEMUIOVector *qiov,
                                   size_t qiov_offset, BdrvRequestFlags flags)
{
    RamNode *ram = ram_of(bs);
    int ret = begin(ram, RAM_READ, offset, bytes);

    if (!ret) {
        qemu_iovec_from_buf(qiov, qiov_offset, ram->data + offset, bytes);
    }
    return end(ram, ret);
}

static int coroutine_fn ram_pwritev(BlockDriverState *bs, int64_t offset,
                                    int64_t bytes, QEMUIOVector *qiov,
                                    size_t qiov_offset, BdrvRequestFlags flags)
{
    RamNode *ram = ram_of(bs);
    int ret = begin(ram, RAM_WRITE, offset, bytes);

    if (!ret) {
        qemu_iovec_to_buf(qiov, qiov_offset, ram->data + offset, bytes);
    }
    return end(ram, ret);
}

static int coroutine_fn ram_pwrite_zeroes(BlockDriverState *bs, int64_t offset,
                                          int64_t bytes,
                                          BdrvRequestFlags flags)
{
    RamNode *ram = ram_of(bs);
    int ret = begin(ram, RAM_ZERO, offset, bytes);

    if (!ret) {
        memset(ram->data + offset, 0, bytes);
    }
    return end(ram, ret);
}

static int coroutine_fn ram_block_status(BlockDriverState *bs, bool want_zero,
                                         int64_t offset, int64_t bytes,
                                         int64_t *pnum, int64_t *map,
                                         BlockDriverState **file)
{
    RamNode *ram = ram_of(bs);
    int64_t sector = offset / RAM_SECTOR;
    int64_t last = (offset + bytes - 1) / RAM_SECTOR;
    int64_t n = sector;
    int ret = begin(ram, RAM_STATUS, offset, bytes);

    if (ret) {
        return ret;
    }
    while (n <= last && ram->map[n] == ram->map[sector]) {
        n++;
    }
    *pnum = MIN(n * RAM_SECTOR - offset, bytes);
    return BDRV_BLOCK_ALLOCATED |
           (ram->map[sector] == 'z' ? BDRV_BLOCK_ZERO : BDRV_BLOCK_DATA);
}

static int coroutine_fn ram_copy_range_from(
    BlockDriverState *bs, BdrvChild *src, int64_t src_offset, BdrvChild *dst,
    int64_t dst_offset, int64_t bytes, BdrvRequestFlags read_flags,
    BdrvRequestFlags write_flags)
{
    RamNode *ram = ram_of(bs);
    int ret = begin(ram, RAM_COPY_RANGE, src_offset, bytes);

    if (!ret && !ram->can_copy) {
        ret = -ENOTSUP;
    }
    if (!ret) {
        ret = bdrv_co_copy_range_to(src, src_offset, dst, dst_offset, bytes,
                                    read_flags, write_flags);
    }
    return end(ram, ret);
}

static int coroutine_fn ram_copy_range_to(
    BlockDriverState *bs, BdrvChild *src, int64_t src_offset, BdrvChild *dst,
    int64_t dst_offset, int64_t bytes, BdrvRequestFlags read_flags,
    BdrvRequestFlags write_flags)
{
    memcpy(ram_of(bs)->data + dst_offset, ram_of(src->bs)->data + src_offset,
           bytes);
    return 0;
}

static int64_t coroutine_fn ram_getlength(BlockDriverState *bs)
{
    return new_length;
}

static void ram_refresh_limits(BlockDriverState *bs, Error **errp)
{
    bs->bl.request_alignment = 1;
    bs->bl.pwrite_zeroes_alignment = new_zero_align;
}

static BlockDriver ram_driver = {
    .format_name = "null-co",
    .instance_size = sizeof(RamNode *),
    .bdrv_co_preadv = ram_preadv,
    .bdrv_co_pwritev = ram_pwritev,
    .bdrv_co_pwrite_zeroes = ram_pwrite_zeroes,
    .bdrv_co_block_status = ram_block_status,
    .bdrv_co_copy_range_from = ram_copy_range_from,
    .bdrv_co_copy_range_to = ram_copy_range_to,
    .bdrv_co_getlength = ram_getlength,
    .bdrv_refresh_limits = ram_refresh_limits,
};

RamNode *ram_node_new(const char *name, int64_t length, uint32_t zero_align)
{
    RamNode *ram = g_new0(RamNode, 1);

    new_length = length;
    new_zero_align = zero_align;
    ram->length = length;
    ram->data = g_malloc0(length);
    ram->map = g_malloc(DIV_ROUND_UP(length, RAM_SECTOR));
    memset(ram->map, 'd', DIV_ROUND_UP(length, RAM_SECTOR));
    ram->log = g_array_new(FALSE, FALSE, sizeof(RamRequest));
    ram->bs = bdrv_new_open_driver(&ram_driver, name,
                                   BDRV_O_RDWR | BDRV_O_UNMAP, &error_abort);
    *(RamNode **)ram->bs->opaque = ram;
    return ram;
}

void ram_node_free(RamNode *ram)
{
    bdrv_unref(ram->bs);
    g_array_free(ram->log, TRUE);
    if (ram->delays) {
        g_rand_free(ram->delays);
    }
    g_free(ram->data);
    g_free(ram->map);
    g_free(ram);
}

void ram_fill(RamNode *ram, int64_t offset, int64_t bytes)
{
    int64_t i;

    for (i = offset; i < offset + bytes; i++) {
        ram->data[i] = 1 + (i * 7 + i / 4096) % 255;
    }
}

void ram_set_map(RamNode *ram, int64_t offset, int64_t bytes, char status)
{
    memset(ram->map + offset / RAM_SECTOR, status,
           DIV_ROUND_UP(bytes, RAM_SECTOR));
}

void ram_clear_log(RamNode *ram)
{
    g_array_set_size(ram->log, 0);
    memset(ram->count, 0, sizeof(ram->count));
}

int ram_log_count(const RamNode *ram, RamKind kind)
{
    int n = 0;
    guint i;

    for (i = 0; i < ram->log->len; i++) {
        n += g_array_index(ram->log, RamRequest, i).kind == kind;
    }
    return n;
}
