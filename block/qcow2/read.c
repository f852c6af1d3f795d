/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Reading guest data.
 *
 * For each run of clusters that lie together: lock, one lookup, unlock, one
 * read. The request stays registered (inflight.c) until the data is there, so
 * no cluster that it looked up can be freed or moved meanwhile. A request that
 * turns out to be in one piece needs no memory; the pieces of others are read
 * several at a time.
 */
#include "util/osdep.h"
#include "util/lockable.h"
#include "block/qcow2/compressed.h"
#include "block/qcow2/salvage.h"

/* Pieces of one request that are read at the same time. */
#define MAX_PARALLEL_RUNS 8

/* The backing file may be shorter: zeroes from there on. */
static int coroutine_fn read_backing(BlockDriverState *bs, uint64_t offset,
                                     uint64_t bytes, QEMUIOVector *qiov,
                                     size_t qiov_offset)
{
    if (bs->backing_lost) {
        return -EIO;
    }
    if (!bs->backing) {
        qemu_iovec_memset(qiov, qiov_offset, 0, bytes);
        return 0;
    }
    BLKDBG_EVENT(bs->file, BLKDBG_READ_BACKING_AIO);
    return bdrv_co_preadv_part(bs->backing, offset, bytes, qiov, qiov_offset,
                               0);
}

/* A run of guest bytes and where they are. */
typedef struct ReadRun {
    uint64_t offset;
    uint64_t bytes;
    uint64_t host;
    uint64_t l2_entry;
    QCow2ClusterType type;
} ReadRun;

static int coroutine_fn find_run(BlockDriverState *bs, uint64_t offset,
                                 uint64_t bytes, ReadRun *run)
{
    BDRVQcow2State *s = bs->opaque;
    int ret;

    run->offset = offset;
    run->bytes = bytes;
    qemu_co_mutex_lock(&s->lock);
    ret = qcow2_get_run_to_read(bs, offset, &run->bytes, &run->host,
                                &run->type, &run->l2_entry);
    qemu_co_mutex_unlock(&s->lock);
    return ret;
}

/* Not inlined: the others need no room for a list of clusters. */
static QEMU_NOINLINE int coroutine_fn
read_one_compressed(BlockDriverState *bs, const ReadRun *run,
                    QEMUIOVector *qiov, size_t qiov_offset)
{
    Qcow2CompressedRun compressed;

    qcow2_compressed_run_start(bs->opaque, &compressed, run->l2_entry,
                               run->offset, run->bytes);
    return qcow2_co_read_compressed(bs, &compressed, qiov, qiov_offset);
}

static int coroutine_fn read_run(BlockDriverState *bs, const ReadRun *run,
                                 QEMUIOVector *qiov, size_t qiov_offset)
{
    switch (run->type) {
    case QCOW2_CLUSTER_UNALLOCATED:
        return read_backing(bs, run->offset, run->bytes, qiov, qiov_offset);
    case QCOW2_CLUSTER_ZERO_PLAIN:
        qemu_iovec_memset(qiov, qiov_offset, 0, run->bytes);
        return 0;
    case QCOW2_CLUSTER_NORMAL:
        BLKDBG_EVENT(bs->file, BLKDBG_READ_AIO);
        return qcow2_data_read(bs, run->offset, run->host, run->bytes, qiov,
                               qiov_offset);
    case QCOW2_CLUSTER_COMPRESSED:
        return read_one_compressed(bs, run, qiov, qiov_offset);
    default:
        break;
    }
    g_assert_not_reached();
}

/* --- several runs at a time --- */

/* Lives in the coroutine of the request, in whose thread all of it runs. */
typedef struct ReadBatch {
    BlockDriverState *bs;
    QEMUIOVector *qiov;
    CoSemaphore slots;
    int ret;
} ReadBatch;

typedef struct ReadTask {
    ReadBatch *batch;
    ReadRun run;
    Qcow2CompressedRun compressed;  /* instead of run, if it has clusters */
    size_t qiov_offset;
} ReadTask;

static void coroutine_fn read_task_entry(void *opaque)
{
    ReadTask *t = opaque;
    ReadBatch *b = t->batch;
    int ret = t->compressed.nr
                  ? qcow2_co_read_compressed(b->bs, &t->compressed, b->qiov,
                                             t->qiov_offset)
                  : read_run(b->bs, &t->run, b->qiov, t->qiov_offset);

    if (ret < 0 && b->ret == 0) {
        b->ret = ret;
    }
    g_free(t);
    qemu_co_sem_release(&b->slots, 1);
}

static ReadTask *coroutine_fn new_task(ReadBatch *b, const ReadRun *run,
                                       size_t qiov_offset)
{
    ReadTask *t;

    qemu_co_sem_acquire(&b->slots, 1);
    t = g_new(ReadTask, 1);
    t->batch = b;
    t->run = *run;
    t->compressed.nr = 0;
    t->qiov_offset = qiov_offset;
    return t;
}

/* NULL: nothing. */
static void coroutine_fn start_task(ReadTask *t)
{
    if (t) {
        qemu_coroutine_enter(qemu_coroutine_create(read_task_entry, t));
    }
}

/*
 * Starts reading @run, or keeps it in *@held for compressed clusters that may
 * follow.
 */
static void coroutine_fn start_or_hold(ReadBatch *b, const ReadRun *run,
                                       size_t qiov_offset, ReadTask **held)
{
    BDRVQcow2State *s = b->bs->opaque;
    bool compressed = run->type == QCOW2_CLUSTER_COMPRESSED;
    ReadTask *t;

    if (*held && compressed &&
        qcow2_compressed_run_add(s, &(*held)->compressed, run->l2_entry,
                                 run->bytes)) {
        return;
    }
    start_task(g_steal_pointer(held));
    t = new_task(b, run, qiov_offset);
    if (compressed) {
        qcow2_compressed_run_start(s, &t->compressed, run->l2_entry,
                                   run->offset, run->bytes);
        *held = t;
    } else {
        start_task(t);
    }
}

/* @run is the first one of [@offset, @offset + @bytes). */
static QEMU_NOINLINE int coroutine_fn
read_in_runs(BlockDriverState *bs, ReadRun *run, uint64_t bytes,
             QEMUIOVector *qiov, size_t qiov_offset)
{
    ReadBatch b = { .bs = bs, .qiov = qiov };
    uint64_t offset = run->offset;
    ReadTask *held = NULL;
    int ret;

    qemu_co_sem_init(&b.slots, MAX_PARALLEL_RUNS);
    do {
        start_or_hold(&b, run, qiov_offset, &held);
        offset += run->bytes;
        qiov_offset += run->bytes;
        bytes -= run->bytes;
        ret = bytes ? find_run(bs, offset, bytes, run) : 0;
    } while (bytes && ret == 0 && b.ret == 0);
    start_task(held);
    qemu_co_sem_acquire(&b.slots, MAX_PARALLEL_RUNS);
    qemu_co_sem_destroy(&b.slots);
    return b.ret < 0 ? b.ret : ret;
}

int coroutine_fn qcow2_read_guest(BlockDriverState *bs, uint64_t offset,
                                  uint64_t bytes, QEMUIOVector *qiov,
                                  size_t qiov_offset)
{
    ReadRun run;
    int ret = find_run(bs, offset, bytes, &run);

    if (ret < 0) {
        return ret;
    }
    if (likely(run.bytes == bytes)) {
        return read_run(bs, &run, qiov, qiov_offset);
    }
    return read_in_runs(bs, &run, bytes, qiov, qiov_offset);
}

/* Salvaging: what is known to be lost is not read, even if it could be. */
static bool any_lost(BlockDriverState *bs, int64_t offset, int64_t bytes)
{
    int64_t n = bytes;

    return bytes && (bdrv_damage_find_lost(bs, offset, &n) || n < bytes);
}

int coroutine_fn qcow2_co_preadv(BlockDriverState *bs, int64_t offset,
                                 int64_t bytes, QEMUIOVector *qiov,
                                 size_t qiov_offset, BdrvRequestFlags flags)
{
    BDRVQcow2State *s = bs->opaque;
    Qcow2Request req;
    int ret;

    if (unlikely(s->salvage) && any_lost(bs, offset, bytes)) {
        return -EIO;
    }
    qcow2_request_begin(&s->inflight, &req, offset, bytes, false);
    ret = qcow2_read_guest(bs, offset, bytes, qiov, qiov_offset);
    qcow2_request_end(&s->inflight, &req);
    return ret;
}
