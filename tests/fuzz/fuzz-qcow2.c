/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A qcow2 image of any content, opened on a file in memory, and requests on it.
 *
 * The input is the image; its last bytes (up to TRAILER) are also the requests,
 * so that any image is an input, and an input can be opened by other programs.
 * The very last byte says how the image is opened.
 */
#include "util/osdep.h"
#include "fuzz.h"
#include "memory-node.h"
#include "block/block-backend.h"
#include "block/info.h"
#include "qapi/qapi-types.h"
#include "qobject/qdict.h"
#include "util/aio.h"
#include "util/error.h"

#define TRAILER 128
/* As much as the file may grow to. */
#define MAX_FILE (16 << 20)
#define MAX_IMAGE (4 << 20)
/* Longest request, and the part of the disk that requests go to: near its
 * start, and near its end. */
#define MAX_REQUEST (256 << 10)

/* The last byte. */
enum {
    OPEN_RDWR = 1,
    OPEN_CHECK = 2,
    OPEN_BACKING = 4,
    OPEN_SMALL_CACHES = 8,
    OPEN_OVERLAP_ALL = 16,
};

static uint8_t backing_data[64 << 10];

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    qemu_init_main_loop(&error_abort);
    bdrv_init();
    memset(backing_data, 'b', sizeof(backing_data));
    return 0;
}

static QDict *describe(uint8_t how)
{
    QDict *options = qdict_new();

    qdict_put_str(options, "driver", "qcow2");
    qdict_put_str(options, "file", "file");
    /* Never the file that the image names. */
    if (how & OPEN_BACKING) {
        qdict_put_str(options, "backing", "backing");
    } else {
        qdict_put_null(options, "backing");
    }
    if (how & OPEN_SMALL_CACHES) {
        qdict_put_str(options, "l2-cache-entry-size", "512");
        qdict_put_str(options, "l2-cache-size", "1024");
        qdict_put_str(options, "refcount-cache-size", "1");
    }
    if (how & OPEN_OVERLAP_ALL) {
        qdict_put_str(options, "overlap-check", "all");
    }
    return options;
}

static void query(BlockDriverState *bs)
{
    GString *text = g_string_new(NULL);
    BlockGraphInfo *info = bdrv_query_block_graph_info(bs, true, NULL);

    if (info) {
        bdrv_graph_info_text(text, info);
        qapi_free_BlockGraphInfo(info);
    }
    g_string_free(text, TRUE);
}

static void check(BlockDriverState *bs, bool repair)
{
    BdrvCheckResult result = { 0 };

    bdrv_check(bs, &result, repair ? BDRV_FIX_LEAKS | BDRV_FIX_ERRORS : 0);
}

/* Everything up to a number of pieces. */
static void ask_status(BlockDriverState *bs, int64_t length)
{
    int64_t offset = 0;

    for (int i = 0; i < 64 && offset < length; i++) {
        int64_t pnum = 0, map;

        if (bdrv_block_status(bs, offset, length - offset, &pnum, &map,
                              NULL) < 0) {
            break;
        }
        assert(pnum > 0 && pnum <= length - offset);
        offset += pnum;
    }
}

/* Eight bytes of input: what to do, where, how much. */
typedef struct QEMU_PACKED Op {
    uint8_t kind;
    uint8_t where;
    uint16_t offset;
    uint16_t bytes;
    uint16_t spare;
} Op;

static void request(BlockBackend *blk, const Op *op, uint8_t *buf)
{
    int64_t length = blk_getlength(blk);
    int64_t offset = (int64_t)op->offset * (op->where & 1 ? 512 : 7);
    int64_t bytes = 1 + (int64_t)op->bytes * (op->where & 2 ? 64 : 1);

    bytes = MIN(bytes, MAX_REQUEST);
    if (op->where & 4) {
        offset = length - offset - bytes;
    }
    if (op->where & 8) {
        offset &= ~511LL;
        bytes = ROUND_UP(bytes, 512);
    }
    if (offset < 0 || offset > length - bytes) {
        return;
    }
    memset(buf, op->spare, bytes);
    switch (op->kind % 12) {
    case 0:
    case 1:
        blk_pwrite(blk, offset, bytes, buf, 0);
        break;
    case 2:
        blk_pread(blk, offset, bytes, buf, 0);
        break;
    case 3:
        blk_pwrite_zeroes(blk, offset, bytes, 0);
        break;
    case 4:
        blk_pwrite_zeroes(blk, offset, bytes, BDRV_REQ_MAY_UNMAP);
        break;
    case 5:
        blk_pdiscard(blk, offset, bytes);
        break;
    case 6:
        blk_pwrite_compressed(blk, offset, bytes, buf);
        break;
    case 7:
        blk_flush(blk);
        break;
    case 8:
        ask_status(blk_bs(blk), length);
        break;
    case 9:
        blk_truncate(blk, offset + bytes, false, op->spare & 3, 0, NULL);
        break;
    case 10:
        blk_pread(blk, 0, MIN(length, MAX_REQUEST), buf, 0);
        break;
    case 11:
        check(blk_bs(blk), op->spare & 1);
        break;
    }
}

static void work(BlockBackend *blk, const uint8_t *trailer, size_t size)
{
    g_autofree uint8_t *buf = g_malloc(MAX_REQUEST);
    BlockDriverState *bs = blk_bs(blk);
    int64_t length = blk_getlength(blk);
    Op op;

    query(bs);
    check(bs, false);
    ask_status(bs, length);
    blk_pread(blk, 0, MIN(length, MAX_REQUEST), buf, 0);
    for (; size >= sizeof(op); trailer += sizeof(op), size -= sizeof(op)) {
        memcpy(&op, trailer, sizeof(op));
        request(blk, &op, buf);
    }
    blk_flush(blk);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t trailer = MIN(size, TRAILER);
    uint8_t how = size ? data[size - 1] : 0;
    int flags = BDRV_O_UNMAP | (how & OPEN_RDWR ? BDRV_O_RDWR : 0) |
                (how & OPEN_CHECK ? BDRV_O_CHECK : 0);
    BlockDriverState *file, *backing;
    BlockBackend *blk;

    if (size > MAX_IMAGE) {
        return 0;
    }
    file = memory_node("file", data, size, MAX_FILE);
    backing = memory_node("backing", backing_data, sizeof(backing_data),
                          sizeof(backing_data));
    blk = blk_new_open(NULL, NULL, describe(how), flags, NULL);
    if (blk) {
        if (how & OPEN_RDWR) {
            blk_set_perm(blk, BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE |
                              BLK_PERM_RESIZE, BLK_PERM_ALL, NULL);
        }
        work(blk, data + size - trailer, trailer);
        blk_unref(blk);
    }
    bdrv_unref(backing);
    bdrv_unref(file);
    return 0;
}
