/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The drivers "null-co" and "null-aio": a disk of any size that forgets what
 * is written to it. null-aio lets the event loop run before each request
 * completes, as a real device would.
 *
 * Reads leave the buffer as it is unless "read-zeroes" is on: they cost
 * nothing, for benchmarks.
 */
#include "util/osdep.h"
#include "block/driver-table.h"
#include "util/aio.h"
#include "util/iov.h"
#include "util/timer.h"

#define NULL_DEFAULT_SIZE (1LL << 30)

typedef struct BDRVNullState {
    bool asynchronous;
    int64_t length;
    /* Changed while drained. */
    int64_t latency_ns;
    bool read_zeroes;
} BDRVNullState;

static bool null_parse(const BlockdevOptionsNull *o, BDRVNullState *s,
                       Error **errp)
{
    if (o->has_size && o->size > BDRV_MAX_LENGTH) {
        error_setg(errp, "size is invalid");
        return false;
    }
    if (o->has_latency_ns && o->latency_ns > INT64_MAX) {
        error_setg(errp, "latency-ns is invalid");
        return false;
    }
    s->length = o->has_size ? (int64_t)o->size : NULL_DEFAULT_SIZE;
    s->latency_ns = o->has_latency_ns ? o->latency_ns : 0;
    s->read_zeroes = o->has_read_zeroes && o->read_zeroes;
    return true;
}

static const BlockdevOptionsNull *null_options(const BlockdevOptions *options)
{
    return options->driver == BLOCKDEV_DRIVER_NULL_AIO ? &options->u.null_aio
                                                       : &options->u.null_co;
}

static int null_open(BlockDriverState *bs, BlockdevOptions *options, int flags,
                     Error **errp)
{
    BDRVNullState *s = bs->opaque;

    s->asynchronous = options->driver == BLOCKDEV_DRIVER_NULL_AIO;
    bs->supported_write_flags = BDRV_REQ_FUA;
    return null_parse(null_options(options), s, errp) ? 0 : -EINVAL;
}

static bool null_parse_name(const char *filename, const char *prefix,
                            Error **errp)
{
    /* Nothing may follow: size and the rest are options. */
    if (strcmp(filename, prefix)) {
        error_setg(errp, "The only allowed filename for this driver is '%s'",
                   prefix);
        return false;
    }
    return true;
}

static bool null_co_parse_filename(const char *filename, QDict *options,
                                   Error **errp)
{
    return null_parse_name(filename, "null-co://", errp);
}

static bool null_aio_parse_filename(const char *filename, QDict *options,
                                    Error **errp)
{
    return null_parse_name(filename, "null-aio://", errp);
}

static int null_reopen_prepare(BDRVReopenState *state, BlockReopenQueue *queue,
                               Error **errp)
{
    BDRVNullState *s = state->bs->opaque;
    g_autofree BDRVNullState *ns = g_new0(BDRVNullState, 1);

    if (!null_parse(null_options(state->options), ns, errp)) {
        return -EINVAL;
    }
    if (ns->length != s->length) {
        error_setg(errp, "Cannot change the option 'size'");
        return -EINVAL;
    }
    state->opaque = g_steal_pointer(&ns);
    return 0;
}

static void null_reopen_commit(BDRVReopenState *state)
{
    BDRVNullState *s = state->bs->opaque;
    BDRVNullState *ns = state->opaque;

    s->latency_ns = ns->latency_ns;
    s->read_zeroes = ns->read_zeroes;
    state->opaque = NULL;
    g_free(ns);
}

static void null_reopen_abort(BDRVReopenState *state)
{
    g_free(state->opaque);
    state->opaque = NULL;
}

static int coroutine_fn null_complete(BlockDriverState *bs)
{
    BDRVNullState *s = bs->opaque;

    if (s->latency_ns) {
        qemu_co_sleep_ns(QEMU_CLOCK_REALTIME, s->latency_ns);
    } else if (s->asynchronous) {
        qemu_co_yield_to_loop();
    }
    return 0;
}

static int coroutine_fn null_co_preadv(BlockDriverState *bs, int64_t offset,
                                       int64_t bytes, QEMUIOVector *qiov,
                                       size_t qiov_offset,
                                       BdrvRequestFlags flags)
{
    BDRVNullState *s = bs->opaque;

    if (s->read_zeroes) {
        qemu_iovec_memset(qiov, qiov_offset, 0, bytes);
    }
    return null_complete(bs);
}

static int coroutine_fn null_co_pwritev(BlockDriverState *bs, int64_t offset,
                                        int64_t bytes, QEMUIOVector *qiov,
                                        size_t qiov_offset,
                                        BdrvRequestFlags flags)
{
    return null_complete(bs);
}

static int coroutine_fn null_co_flush(BlockDriverState *bs)
{
    return null_complete(bs);
}

static int coroutine_fn null_co_block_status(BlockDriverState *bs,
                                             bool want_zero, int64_t offset,
                                             int64_t bytes, int64_t *pnum,
                                             int64_t *map,
                                             BlockDriverState **file)
{
    BDRVNullState *s = bs->opaque;

    *pnum = bytes;
    *map = offset;
    *file = bs;
    return BDRV_BLOCK_OFFSET_VALID | (s->read_zeroes ? BDRV_BLOCK_ZERO : 0);
}

static int64_t coroutine_fn null_co_getlength(BlockDriverState *bs)
{
    BDRVNullState *s = bs->opaque;

    return s->length;
}

static int64_t coroutine_fn
null_co_get_allocated_file_size(BlockDriverState *bs)
{
    return 0;
}

static void null_refresh_filename(BlockDriverState *bs)
{
    BDRVNullState *s = bs->opaque;

    /* A plain name stands for the defaults. */
    bs->exact_filename[0] = '\0';
    if (s->length == NULL_DEFAULT_SIZE && !s->read_zeroes) {
        snprintf(bs->exact_filename, sizeof(bs->exact_filename), "%s://",
                 bs->drv->format_name);
    }
}

static const char *const null_reopen_options[] = {
    "latency-ns", "read-zeroes", NULL
};
static const char *const null_weak_options[] = { "latency-ns", NULL };

#define NULL_DRIVER_COMMON                                                   \
    .instance_size = sizeof(BDRVNullState),                                  \
    .supports_inactive = true,                                               \
    .bdrv_open = null_open,                                                  \
    .bdrv_reopen_prepare = null_reopen_prepare,                              \
    .bdrv_reopen_commit = null_reopen_commit,                                \
    .bdrv_reopen_abort = null_reopen_abort,                                  \
    .reopen_options = null_reopen_options,                                   \
    .bdrv_co_preadv = null_co_preadv,                                        \
    .bdrv_co_pwritev = null_co_pwritev,                                      \
    .bdrv_co_flush_to_disk = null_co_flush,                                  \
    .bdrv_co_block_status = null_co_block_status,                            \
    .bdrv_co_getlength = null_co_getlength,                                  \
    .bdrv_co_get_allocated_file_size = null_co_get_allocated_file_size,      \
    .bdrv_refresh_filename = null_refresh_filename,                          \
    .weak_options = null_weak_options

BlockDriver bdrv_null_co = {
    .format_name = "null-co",
    .id = BLOCKDEV_DRIVER_NULL_CO,
    .protocol_name = "null-co",
    .bdrv_parse_filename = null_co_parse_filename,
    NULL_DRIVER_COMMON,
};

BlockDriver bdrv_null_aio = {
    .format_name = "null-aio",
    .id = BLOCKDEV_DRIVER_NULL_AIO,
    .protocol_name = "null-aio",
    .bdrv_parse_filename = null_aio_parse_filename,
    NULL_DRIVER_COMMON,
};
