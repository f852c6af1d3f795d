/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Requests for callers outside coroutines: each runs in a coroutine of its own
 * under the graph read lock while the caller polls.
 *
 * The main thread may call them while it holds the graph write lock: it is the
 * one who could change the graph, and it is waiting. Draining does not hold
 * them up, since they do not go through a BlockBackend.
 */
#include "util/osdep.h"
#include "block/block_int.h"
#include "block/io-internal.h"
#include "util/aio.h"
#include "util/atomic.h"

typedef struct RunCo {
    BdrvCoEntry *entry;
    void *opaque;
    bool take_lock;
    int ret;
    bool done;      /* atomic */
} RunCo;

static void coroutine_fn run_co_entry(void *opaque)
{
    RunCo *run = opaque;

    if (run->take_lock) {
        bdrv_graph_co_rdlock();
    }
    run->ret = run->entry(run->opaque);
    if (run->take_lock) {
        bdrv_graph_co_rdunlock();
    }
    qatomic_store_release(&run->done, true);
    aio_wait_kick();
}

static int run_and_wait(BdrvCoEntry *entry, void *opaque, bool take_lock)
{
    RunCo run = { .entry = entry, .opaque = opaque, .take_lock = take_lock };
    bool hold_writers = qemu_in_main_thread() && !bdrv_graph_is_write_locked();

    if (hold_writers) {
        bdrv_graph_wrlock_yield_begin();
    }
    qemu_coroutine_enter(qemu_coroutine_create(run_co_entry, &run));
    AIO_WAIT_WHILE(NULL, !qatomic_load_acquire(&run.done));
    if (hold_writers) {
        bdrv_graph_wrlock_yield_end();
    }
    return run.ret;
}

int bdrv_run_co(BdrvCoEntry *entry, void *opaque)
{
    if (qemu_in_coroutine()) {
        return entry(opaque);
    }
    return run_and_wait(entry, opaque, !bdrv_graph_is_write_locked());
}

int bdrv_run_co_unlocked(BdrvCoEntry *entry, void *opaque)
{
    if (qemu_in_coroutine()) {
        return entry(opaque);
    }
    assert(!bdrv_graph_is_write_locked());
    return run_and_wait(entry, opaque, false);
}

/* ------------------------------------------------------------------ data */

typedef struct DataRequest {
    BdrvChild *child;
    int64_t offset;
    int64_t bytes;
    void *buf;
    BdrvRequestFlags flags;
} DataRequest;

static int coroutine_fn pread_entry(void *opaque)
{
    DataRequest *r = opaque;

    return bdrv_co_pread(r->child, r->offset, r->bytes, r->buf, r->flags);
}

int bdrv_pread(BdrvChild *child, int64_t offset, int64_t bytes, void *buf,
               BdrvRequestFlags flags)
{
    DataRequest r = { child, offset, bytes, buf, flags };

    return bdrv_run_co(pread_entry, &r);
}

static int coroutine_fn pwrite_entry(void *opaque)
{
    DataRequest *r = opaque;

    return bdrv_co_pwrite(r->child, r->offset, r->bytes, r->buf, r->flags);
}

int bdrv_pwrite(BdrvChild *child, int64_t offset, int64_t bytes,
                const void *buf, BdrvRequestFlags flags)
{
    DataRequest r = { child, offset, bytes, (void *)buf, flags };

    return bdrv_run_co(pwrite_entry, &r);
}

static int coroutine_fn pwrite_sync_entry(void *opaque)
{
    DataRequest *r = opaque;

    return bdrv_co_pwrite_sync(r->child, r->offset, r->bytes, r->buf,
                               r->flags);
}

int bdrv_pwrite_sync(BdrvChild *child, int64_t offset, int64_t bytes,
                     const void *buf, BdrvRequestFlags flags)
{
    DataRequest r = { child, offset, bytes, (void *)buf, flags };

    return bdrv_run_co(pwrite_sync_entry, &r);
}

static int coroutine_fn pwrite_zeroes_entry(void *opaque)
{
    DataRequest *r = opaque;

    return bdrv_co_pwrite_zeroes(r->child, r->offset, r->bytes, r->flags);
}

int bdrv_pwrite_zeroes(BdrvChild *child, int64_t offset, int64_t bytes,
                       BdrvRequestFlags flags)
{
    DataRequest r = { child, offset, bytes, NULL, flags };

    return bdrv_run_co(pwrite_zeroes_entry, &r);
}

static int coroutine_fn pdiscard_entry(void *opaque)
{
    DataRequest *r = opaque;

    return bdrv_co_pdiscard(r->child, r->offset, r->bytes);
}

int bdrv_pdiscard(BdrvChild *child, int64_t offset, int64_t bytes)
{
    DataRequest r = { child, offset, bytes, NULL, 0 };

    return bdrv_run_co(pdiscard_entry, &r);
}

typedef struct TruncateRequest {
    BdrvChild *child;
    int64_t offset;
    bool exact;
    PreallocMode prealloc;
    BdrvRequestFlags flags;
    Error **errp;
} TruncateRequest;

static int coroutine_fn truncate_entry(void *opaque)
{
    TruncateRequest *r = opaque;

    return bdrv_co_truncate(r->child, r->offset, r->exact, r->prealloc,
                            r->flags, r->errp);
}

int bdrv_truncate(BdrvChild *child, int64_t offset, bool exact,
                  PreallocMode prealloc, BdrvRequestFlags flags, Error **errp)
{
    TruncateRequest r = { child, offset, exact, prealloc, flags, errp };

    return bdrv_run_co(truncate_entry, &r);
}

/* ------------------------------------------------------------ whole node */

static int coroutine_fn flush_entry(void *opaque)
{
    return bdrv_co_flush(opaque);
}

int bdrv_flush(BlockDriverState *bs)
{
    return bdrv_run_co(flush_entry, bs);
}

static void unref_node(gpointer bs)
{
    bdrv_unref(bs);
}

int bdrv_flush_all(void)
{
    /* Flushing polls, and polling may close nodes. */
    g_autoptr(GPtrArray) nodes = g_ptr_array_new_with_free_func(unref_node);
    BlockDriverState *bs = NULL;
    int ret = 0;
    guint i;

    GLOBAL_STATE_CODE();
    while ((bs = bdrv_next_node(bs))) {
        g_ptr_array_add(nodes, bdrv_ref(bs));
    }
    for (i = 0; i < nodes->len; i++) {
        int this_ret = bdrv_flush(g_ptr_array_index(nodes, i));

        ret = ret < 0 ? ret : this_ret;
    }
    return ret;
}

/* A number that does not fit the result of a coroutine. */
typedef struct NumberRequest {
    BlockDriverState *bs;
    int64_t result;
} NumberRequest;

static int coroutine_fn getlength_entry(void *opaque)
{
    NumberRequest *r = opaque;

    r->result = bdrv_co_getlength(r->bs);
    return 0;
}

int64_t bdrv_getlength(BlockDriverState *bs)
{
    NumberRequest r = { .bs = bs };

    bdrv_run_co(getlength_entry, &r);
    return r.result;
}

static int coroutine_fn allocated_size_entry(void *opaque)
{
    NumberRequest *r = opaque;

    r->result = bdrv_co_get_allocated_file_size(r->bs);
    return 0;
}

int64_t bdrv_get_allocated_file_size(BlockDriverState *bs)
{
    NumberRequest r = { .bs = bs };

    bdrv_run_co(allocated_size_entry, &r);
    return r.result;
}

typedef struct InfoRequest {
    BlockDriverState *bs;
    BlockDriverInfo *bdi;
} InfoRequest;

static int coroutine_fn get_info_entry(void *opaque)
{
    InfoRequest *r = opaque;

    return bdrv_co_get_info(r->bs, r->bdi);
}

int bdrv_get_info(BlockDriverState *bs, BlockDriverInfo *bdi)
{
    InfoRequest r = { bs, bdi };

    return bdrv_run_co(get_info_entry, &r);
}

typedef struct CheckRequest {
    BlockDriverState *bs;
    BdrvCheckResult *res;
    const BdrvCheckOptions *opts;
} CheckRequest;

static int coroutine_fn check_entry(void *opaque)
{
    CheckRequest *r = opaque;

    return bdrv_co_check(r->bs, r->res, r->opts);
}

int bdrv_check_opts(BlockDriverState *bs, BdrvCheckResult *res,
                    const BdrvCheckOptions *opts)
{
    CheckRequest r = { bs, res, opts };

    return bdrv_run_co(check_entry, &r);
}

int bdrv_check(BlockDriverState *bs, BdrvCheckResult *res, BdrvCheckMode fix)
{
    const BdrvCheckOptions opts = { .fix = fix };

    return bdrv_check_opts(bs, res, &opts);
}

/* ---------------------------------------------------------------- status */

typedef struct StatusRequest {
    BlockDriverState *bs;
    BlockDriverState *base;
    int64_t offset;
    int64_t bytes;
    int64_t *pnum;
    int64_t *map;
    BlockDriverState **file;
    int *depth;
} StatusRequest;

static int coroutine_fn block_status_entry(void *opaque)
{
    StatusRequest *r = opaque;

    return bdrv_co_block_status(r->bs, r->offset, r->bytes, r->pnum, r->map,
                                r->file);
}

int bdrv_block_status(BlockDriverState *bs, int64_t offset, int64_t bytes,
                      int64_t *pnum, int64_t *map, BlockDriverState **file)
{
    StatusRequest r = { bs, NULL, offset, bytes, pnum, map, file, NULL };

    return bdrv_run_co(block_status_entry, &r);
}

static int coroutine_fn block_status_above_entry(void *opaque)
{
    StatusRequest *r = opaque;

    return bdrv_co_block_status_above(r->bs, r->base, false, true, r->offset,
                                      r->bytes, r->pnum, r->map, r->file,
                                      r->depth);
}

int bdrv_block_status_above(BlockDriverState *bs, BlockDriverState *base,
                            int64_t offset, int64_t bytes, int64_t *pnum,
                            int64_t *map, BlockDriverState **file, int *depth)
{
    StatusRequest r = { bs, base, offset, bytes, pnum, map, file, depth };

    return bdrv_run_co(block_status_above_entry, &r);
}

static int coroutine_fn is_allocated_entry(void *opaque)
{
    StatusRequest *r = opaque;

    return bdrv_co_is_allocated(r->bs, r->offset, r->bytes, r->pnum);
}

int bdrv_is_allocated(BlockDriverState *bs, int64_t offset, int64_t bytes,
                      int64_t *pnum)
{
    StatusRequest r = { bs, NULL, offset, bytes, pnum, NULL, NULL, NULL };

    return bdrv_run_co(is_allocated_entry, &r);
}
