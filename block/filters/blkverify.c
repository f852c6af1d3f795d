/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The driver "blkverify": what is written goes to two nodes, and what is read
 * from them is compared. A difference between the node that is tested and the
 * raw one, in data or results, ends the program with a message.
 *
 * A read that finds a difference is done again with writes kept out of its range,
 * since a write on its way reaches the two at different times.
 */
#include "util/osdep.h"
#include "block/driver-table.h"
#include "block/filters/filter.h"
#include "block/filters/verify.h"
#include "util/iov.h"

/* Longest request in bytes; a read has a buffer for each node. */
#define MAX_TRANSFER (16 << 20)

/* Fixed by open. */
typedef struct BDRVBlkverifyState {
    BdrvChild *test;
} BDRVBlkverifyState;

/* --- file name: blkverify:RAW:IMAGE --- */

/* A child that is probed, on the file @filename. */
static bool put_image(QDict *options, const char *key, const char *filename,
                      Error **errp)
{
    QDict *file, *image;

    if (qdict_haskey(options, key)) {
        error_setg(errp, "Cannot specify '%s' and a filename", key);
        return false;
    }
    file = filter_describe_file(filename, errp);
    if (!file) {
        return false;
    }
    image = qdict_new();
    qdict_put(image, "file", file);
    qdict_put(options, key, image);
    return true;
}

static bool blkverify_parse_filename(const char *filename, QDict *options,
                                     Error **errp)
{
    static const char prefix[] = "blkverify:";
    g_autofree char *raw = NULL;
    const char *colon;

    if (!g_str_has_prefix(filename, prefix)) {
        /* A plain name is the image, with raw among the options. */
        return put_image(options, "test", filename, errp);
    }
    filename += strlen(prefix);
    colon = strchr(filename, ':');
    if (!colon) {
        error_setg(errp, "blkverify requires raw copy and original image "
                   "path");
        return false;
    }
    raw = g_strndup(filename, colon - filename);
    return put_image(options, "raw", raw, errp) &&
           put_image(options, "test", colon + 1, errp);
}

static void blkverify_refresh_filename(BlockDriverState *bs)
{
    BDRVBlkverifyState *s = bs->opaque;
    const char *raw = bs->file->bs->exact_filename;
    const char *test = s->test->bs->exact_filename;
    int n;

    bs->exact_filename[0] = '\0';
    if (!raw[0] || !test[0] || strchr(raw, ':')) {
        return;
    }
    n = snprintf(bs->exact_filename, sizeof(bs->exact_filename),
                 "blkverify:%s:%s", raw, test);
    if (n >= (int)sizeof(bs->exact_filename)) {
        bs->exact_filename[0] = '\0';
    }
}

/* --- opening --- */

static int blkverify_open(BlockDriverState *bs, BlockdevOptions *options,
                          int flags, Error **errp)
{
    BDRVBlkverifyState *s = bs->opaque;
    BlockdevOptionsBlkverify *o = &options->u.blkverify;

    if (!bdrv_open_child(bs, o->raw, "raw",
                         BDRV_CHILD_DATA | BDRV_CHILD_PRIMARY, false, errp)) {
        return -EINVAL;
    }
    s->test = bdrv_open_child(bs, o->test, "test", BDRV_CHILD_DATA, false,
                              errp);
    if (!s->test) {
        return -EINVAL;
    }
    /* What a child cannot do, the generic layer does for it. */
    bs->supported_write_flags = BDRV_REQ_WRITE_UNCHANGED | BDRV_REQ_FUA;
    bs->supported_zero_flags = BDRV_REQ_WRITE_UNCHANGED | BDRV_REQ_FUA |
                               BDRV_REQ_MAY_UNMAP;
    bs->supported_truncate_flags =
        bs->file->bs->supported_truncate_flags &
        s->test->bs->supported_truncate_flags & BDRV_REQ_ZERO_WRITE;
    return 0;
}

static void blkverify_child_perm(BlockDriverState *bs, BdrvChild *child,
                                 BdrvChildRole role, BlockReopenQueue *queue,
                                 uint64_t parent_perm, uint64_t parent_shared,
                                 uint64_t *nperm, uint64_t *nshared)
{
    *nperm = parent_perm;
    /* Others would make the two differ. */
    *nshared = parent_shared & ~(uint64_t)(BLK_PERM_WRITE | BLK_PERM_RESIZE);
}

static void blkverify_refresh_limits(BlockDriverState *bs, Error **errp)
{
    /* Each child pads what it gets. */
    bs->bl.request_alignment = 1;
    bs->bl.pwrite_zeroes_alignment = 0;
    bs->bl.max_transfer = MIN_NON_ZERO(bs->bl.max_transfer,
                                       (uint32_t)MAX_TRANSFER);
}

/* --- requests: on both nodes at the same time --- */

typedef struct BlkverifyRequest BlkverifyRequest;
typedef int coroutine_fn BlkverifyRun(BlkverifyRequest *r, BdrvChild *child,
                                      QEMUIOVector *qiov);

struct BlkverifyRequest {
    BlockDriverState *bs;
    const char *what;
    BlkverifyRun *run;
    int64_t offset;
    int64_t bytes;
    size_t qiov_offset;
    BdrvRequestFlags flags;
    /* Of the one on the raw node, in a coroutine of its own. */
    QEMUIOVector *raw_qiov;
    CoWaitGroup group;
    int raw_ret;
};

static void coroutine_fn raw_entry(void *opaque)
{
    BlkverifyRequest *r = opaque;

    r->raw_ret = r->run(r, r->bs->file, r->raw_qiov);
    qemu_co_wait_group_done(&r->group);
}

/* 0 or -errno, of both. */
static int coroutine_fn run_both(BlkverifyRequest *r, QEMUIOVector *raw_qiov,
                                 QEMUIOVector *test_qiov)
{
    BDRVBlkverifyState *s = r->bs->opaque;
    int ret;

    r->raw_qiov = raw_qiov;
    qemu_co_wait_group_init(&r->group);
    qemu_co_wait_group_add(&r->group, 1);
    qemu_coroutine_enter(qemu_coroutine_create(raw_entry, r));
    ret = r->run(r, s->test, test_qiov);
    qemu_co_wait_group_wait(&r->group);
    qemu_co_wait_group_destroy(&r->group);
    if (MIN(ret, 0) != MIN(r->raw_ret, 0)) {
        verify_fail("blkverify: %s offset=%" PRId64 " bytes=%" PRId64
                    " return value mismatch %d != %d", r->what, r->offset,
                    r->bytes, ret, r->raw_ret);
    }
    return ret;
}

static int coroutine_fn run_read(BlkverifyRequest *r, BdrvChild *child,
                                 QEMUIOVector *qiov)
{
    return bdrv_co_preadv(child, r->offset, r->bytes, qiov, 0);
}

static int coroutine_fn read_and_compare(BlkverifyRequest *r, uint8_t *raw,
                                         uint8_t *test)
{
    QEMUIOVector raw_qiov = QEMU_IOVEC_INIT_BUF(raw_qiov, raw, r->bytes);
    QEMUIOVector test_qiov = QEMU_IOVEC_INIT_BUF(test_qiov, test, r->bytes);
    int ret = run_both(r, &raw_qiov, &test_qiov);
    size_t at;

    if (ret < 0 || !memcmp(raw, test, r->bytes)) {
        return ret;
    }
    bdrv_make_request_serialising(bdrv_co_get_self_request(r->bs),
                                  r->bs->bl.request_alignment);
    ret = run_both(r, &raw_qiov, &test_qiov);
    at = verify_difference(raw, test, r->bytes);
    if (ret >= 0 && at < r->bytes) {
        verify_fail("blkverify: read offset=%" PRId64 " bytes=%" PRId64
                    " contents mismatch at offset %" PRId64, r->offset,
                    r->bytes, r->offset + (int64_t)at);
    }
    return ret;
}

static int coroutine_fn blkverify_co_preadv(BlockDriverState *bs,
                                            int64_t offset, int64_t bytes,
                                            QEMUIOVector *qiov,
                                            size_t qiov_offset,
                                            BdrvRequestFlags flags)
{
    BDRVBlkverifyState *s = bs->opaque;
    BlkverifyRequest r = {
        .bs = bs, .what = "read", .run = run_read, .offset = offset,
        .bytes = bytes,
    };
    QEMU_AUTO_VFREE uint8_t *raw = qemu_try_blockalign(bs->file->bs, bytes);
    QEMU_AUTO_VFREE uint8_t *test = qemu_try_blockalign(s->test->bs, bytes);
    int ret;

    if (!raw || !test) {
        return -ENOMEM;
    }
    ret = read_and_compare(&r, raw, test);
    if (ret >= 0) {
        qemu_iovec_from_buf(qiov, qiov_offset, test, bytes);
    }
    return ret;
}

static int coroutine_fn run_write(BlkverifyRequest *r, BdrvChild *child,
                                  QEMUIOVector *qiov)
{
    return bdrv_co_pwritev_part(child, r->offset, r->bytes, qiov,
                                r->qiov_offset, r->flags);
}

static int coroutine_fn blkverify_co_pwritev(BlockDriverState *bs,
                                             int64_t offset, int64_t bytes,
                                             QEMUIOVector *qiov,
                                             size_t qiov_offset,
                                             BdrvRequestFlags flags)
{
    BlkverifyRequest r = {
        .bs = bs, .what = "write", .run = run_write, .offset = offset,
        .bytes = bytes, .qiov_offset = qiov_offset, .flags = flags,
    };

    return run_both(&r, qiov, qiov);
}

static int coroutine_fn run_write_zeroes(BlkverifyRequest *r, BdrvChild *child,
                                         QEMUIOVector *qiov)
{
    return bdrv_co_pwrite_zeroes(child, r->offset, r->bytes, r->flags);
}

static int coroutine_fn blkverify_co_pwrite_zeroes(BlockDriverState *bs,
                                                   int64_t offset,
                                                   int64_t bytes,
                                                   BdrvRequestFlags flags)
{
    BlkverifyRequest r = {
        .bs = bs, .what = "write zeroes", .run = run_write_zeroes,
        .offset = offset, .bytes = bytes, .flags = flags,
    };

    return run_both(&r, NULL, NULL);
}

/* --- length --- */

static int64_t coroutine_fn blkverify_co_getlength(BlockDriverState *bs)
{
    BDRVBlkverifyState *s = bs->opaque;

    return bdrv_co_getlength(s->test->bs);
}

static int coroutine_fn blkverify_co_truncate(BlockDriverState *bs,
                                              int64_t offset, bool exact,
                                              PreallocMode prealloc,
                                              BdrvRequestFlags flags,
                                              Error **errp)
{
    BDRVBlkverifyState *s = bs->opaque;
    int64_t old = bdrv_co_getlength(bs->file->bs);
    int ret;

    ret = bdrv_co_truncate(bs->file, offset, exact, prealloc, flags, errp);
    if (ret < 0) {
        return ret;
    }
    ret = bdrv_co_truncate(s->test, offset, exact, prealloc, flags, errp);
    if (ret < 0 && offset > old && old >= 0) {
        /* Both or none, as far as it can be undone. */
        bdrv_co_truncate(bs->file, old, exact, PREALLOC_MODE_OFF, 0, NULL);
    }
    return ret;
}

static const char *const blkverify_weak_options[] = { "test", "raw", NULL };

BlockDriver bdrv_blkverify = {
    .format_name = "blkverify",
    .id = BLOCKDEV_DRIVER_BLKVERIFY,
    .protocol_name = "blkverify",
    .instance_size = sizeof(BDRVBlkverifyState),
    .bdrv_parse_filename = blkverify_parse_filename,
    .bdrv_open = blkverify_open,
    .bdrv_reopen_prepare = filter_reopen_prepare,
    .bdrv_child_perm = blkverify_child_perm,
    .bdrv_refresh_limits = blkverify_refresh_limits,
    .bdrv_co_preadv = blkverify_co_preadv,
    .bdrv_co_pwritev = blkverify_co_pwritev,
    .bdrv_co_pwrite_zeroes = blkverify_co_pwrite_zeroes,
    .bdrv_co_getlength = blkverify_co_getlength,
    .bdrv_co_truncate = blkverify_co_truncate,
    .bdrv_refresh_filename = blkverify_refresh_filename,
    .weak_options = blkverify_weak_options,
    .supports_inactive = true,
};
