/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Writing guest data.
 *
 * A write goes through its range in runs. A run that may be overwritten in
 * place needs no more than a shared request. Any other run is written to
 * clusters that nothing refers to yet, while the request holds its guest
 * clusters exclusively; only when the data is in the file does the L2 table
 * say so. If the write fails the clusters are given back.
 */
#include "util/osdep.h"
#include "util/lockable.h"
#include "block/qcow2/bitmap.h"
#include "block/qcow2/qcow2.h"

int coroutine_fn qcow2_begin_change(BlockDriverState *bs)
{
    BDRVQcow2State *s = bs->opaque;
    uint64_t void_features = s->autoclear_features;
    int ret = 0;

    if (qcow2_is_stopped(s)) {
        return -EUCLEAN;
    }
    if (s->bitmaps_kept) {
        void_features &= ~QCOW2_AUTOCLEAR_BITMAPS;
    }
    if (s->guard.state == QCOW2_GUARD_ON) {
        void_features &= ~QCOW2_AUTOCLEAR_L1_GUARD;
    }
    if (unlikely(void_features) && qcow2_data_file_is_raw(bs)) {
        void_features &= ~QCOW2_AUTOCLEAR_DATA_FILE_RAW;
    }
    /* Nobody here keeps it up to date. */
    if (void_features) {
        ret = qcow2_clear_autoclear(bs, void_features);
    }
    if (ret == 0 && s->bitmaps_kept && qatomic_read(&bs->bitmaps_to_mark)) {
        ret = qcow2_bitmaps_mark(bs, false);
    }
    if (ret == 0 && s->use_lazy_refcounts) {
        ret = qcow2_mark_dirty(bs);
    }
    return ret;
}

/* A run of guest clusters and the host clusters that they get. */
typedef struct AllocRun {
    uint64_t offset;        /* guest: first byte of the data */
    uint64_t bytes;
    uint64_t host;          /* host cluster of the first one */
    uint64_t nb_clusters;
    bool fresh;             /* newly allocated, else they have them already */
    bool virgin;            /* the host clusters read as zeroes */
    /* Guest: what is to be written, in whole subclusters. */
    uint64_t start;
    uint64_t end;
    Qcow2Rest rest;         /* what the guest reads around the data */
} AllocRun;

/* Whether subclusters [@from, @to) of a cluster read as zeroes. */
static bool reads_zero(BlockDriverState *bs, uint64_t entry, uint64_t bitmap,
                       unsigned from, unsigned to)
{
    BDRVQcow2State *s = bs->opaque;

    for (unsigned i = from; i < to;
         i += qcow2_subcluster_run(s, bitmap, i)) {
        switch (qcow2_get_subcluster_type(s, entry, bitmap, i)) {
        case QCOW2_CLUSTER_ZERO_PLAIN:
        case QCOW2_CLUSTER_ZERO_ALLOC:
            break;
        case QCOW2_CLUSTER_UNALLOCATED:
        case QCOW2_CLUSTER_UNALLOCATED_ALLOC:
            if (bs->backing) {
                return false;
            }
            break;
        default:
            return false;
        }
    }
    return true;
}

/*
 * Looks at the entries of the run in its slice: how many clusters are alike,
 * and where the first would best go (0: anywhere). None of the subclusters that
 * the run touches can be written in place.
 */
static uint64_t scan_run(BlockDriverState *bs, const uint64_t *slice, int idx,
                         AllocRun *run)
{
    BDRVQcow2State *s = bs->opaque;
    uint64_t first = get_l2_entry(s, slice, idx);
    uint64_t host = first & L2E_OFFSET_MASK;
    uint64_t max = size_to_clusters(s, offset_into_cluster(s, run->offset) +
                                       run->bytes);
    uint64_t n = 1;

    run->fresh = !qcow2_owns_host(s, first);
    for (; n < max; n++) {
        uint64_t entry = get_l2_entry(s, slice, idx + n);

        if (qcow2_owns_host(s, entry) == run->fresh ||
            (!run->fresh && (entry & L2E_OFFSET_MASK) !=
                                host + (n << s->cluster_bits))) {
            break;
        }
    }
    run->nb_clusters = n;
    if (!run->fresh) {
        run->host = host;
        return 0;
    }
    if (idx > 0) {
        uint64_t before = get_l2_entry(s, slice, idx - 1);

        if (qcow2_get_cluster_type(s, before) == QCOW2_CLUSTER_NORMAL &&
            !offset_into_cluster(s, before & L2E_OFFSET_MASK)) {
            return (before & L2E_OFFSET_MASK) + s->cluster_size;
        }
    }
    return 0;
}

/*
 * What must be written with the data of a run: the rest of its subclusters, and,
 * if the clusters are fresh, all data that the old ones hold. Sets start, end.
 */
static void set_written(const BDRVQcow2State *s, const uint64_t *slice,
                        int idx, AllocRun *run)
{
    uint64_t first = start_of_cluster(s, run->offset);
    uint64_t last = first + ((run->nb_clusters - 1) << s->cluster_bits);
    int last_idx = idx + run->nb_clusters - 1;
    unsigned from, to;

    run->start = ROUND_DOWN(run->offset, (uint64_t)s->subcluster_size);
    run->end = ROUND_UP(run->offset + run->bytes,
                        (uint64_t)s->subcluster_size);
    if (!run->fresh || !s->extended_l2) {
        return;
    }
    if (qcow2_data_span(s, get_l2_entry(s, slice, idx),
                        get_l2_bitmap(s, slice, idx), &from, &to)) {
        run->start = MIN(run->start,
                         first + ((uint64_t)from << s->subcluster_bits));
    }
    if (qcow2_data_span(s, get_l2_entry(s, slice, last_idx),
                        get_l2_bitmap(s, slice, last_idx), &from, &to)) {
        run->end = MAX(run->end, last + ((uint64_t)to << s->subcluster_bits));
    }
}

/* Subcluster, in its own cluster, behind the last one that guest […, @end)
 * touches. */
static unsigned subcluster_end(const BDRVQcow2State *s, uint64_t end)
{
    return offset_to_subcluster(s, end - 1) + 1;
}

/* Cuts the run to its clusters; what surrounds the data decides how. */
static void trim_run(BlockDriverState *bs, const uint64_t *slice, int idx,
                     AllocRun *run)
{
    BDRVQcow2State *s = bs->opaque;
    uint64_t in_cluster = offset_into_cluster(s, run->offset);
    uint64_t room = (run->nb_clusters << s->cluster_bits) - in_cluster;
    int last = idx + run->nb_clusters - 1;
    uint64_t data_end;

    run->bytes = MIN(run->bytes, room);
    data_end = run->offset + run->bytes;
    set_written(s, slice, idx, run);
    run->rest = QCOW2_REST_COPY;
    if ((run->start == run->offset ||
         reads_zero(bs, get_l2_entry(s, slice, idx),
                    get_l2_bitmap(s, slice, idx),
                    offset_to_subcluster(s, run->start),
                    subcluster_end(s, run->offset))) &&
        (run->end == data_end ||
         reads_zero(bs, get_l2_entry(s, slice, last),
                    get_l2_bitmap(s, slice, last),
                    offset_to_subcluster(s, data_end),
                    subcluster_end(s, run->end)))) {
        run->rest = run->virgin ? QCOW2_REST_VIRGIN : QCOW2_REST_ZERO;
    }
}

/* Host clusters for the start of [@run->offset, + @run->bytes). [lock] */
static int coroutine_fn allocate_run(BlockDriverState *bs, AllocRun *run)
{
    BDRVQcow2State *s = bs->opaque;
    uint64_t *slice, hint, virgin;
    int64_t host;
    int idx, ret;

    ret = qcow2_l2_get_writable(bs, run->offset, &slice, &idx);
    if (ret < 0) {
        return ret;
    }
    hint = scan_run(bs, slice, idx, run);
    if (!run->fresh) {
        trim_run(bs, slice, idx, run);
        qcow2_cache_put(s->l2_table_cache, (void **)&slice);
        return qcow2_data_overlap_check(bs, run->host, run->nb_clusters <<
                                                       s->cluster_bits);
    }
    qcow2_cache_put(s->l2_table_cache, (void **)&slice);

    /* Nothing pinned: it may flush. */
    virgin = s->virgin_offset;
    host = qcow2_alloc_data_clusters(bs, start_of_cluster(s, run->offset), hint,
                                     &run->nb_clusters);
    if (host < 0) {
        return host;
    }
    run->host = host;
    run->virgin = (uint64_t)host >= virgin && !s->has_data_file;
    ret = qcow2_data_overlap_check(bs, host, run->nb_clusters <<
                                             s->cluster_bits);
    if (ret < 0) {
        return ret;
    }
    ret = qcow2_l2_get_writable(bs, run->offset, &slice, &idx);
    if (ret < 0) {
        qcow2_unalloc_data_clusters(bs, host,
                                    run->nb_clusters << s->cluster_bits);
        return ret;
    }
    trim_run(bs, slice, idx, run);
    qcow2_cache_put(s->l2_table_cache, (void **)&slice);
    return 0;
}

/*
 * The bitmap of cluster @i of the run, once it is written, from the one that is
 * there now. Subclusters that were not written remain what they are.
 */
static uint64_t linked_bitmap(const BDRVQcow2State *s, uint64_t old,
                              uint64_t bitmap, const AllocRun *run, uint64_t i)
{
    unsigned from = i ? 0 : offset_to_subcluster(s, run->start);
    unsigned to = i + 1 < run->nb_clusters ? s->subclusters_per_cluster
                                           : subcluster_end(s, run->end);

    if (qcow2_get_cluster_type(s, old) == QCOW2_CLUSTER_COMPRESSED) {
        bitmap = 0;
    }
    return qcow2_bitmap_set_data(bitmap, qcow2_subcluster_mask(from, to));
}

/* The data is in the file: let the L2 table say so. [lock] */
static int coroutine_fn link_run(BlockDriverState *bs, const AllocRun *run)
{
    BDRVQcow2State *s = bs->opaque;
    uint64_t *slice;
    int idx, ret;

    if (qcow2_is_stopped(s)) {
        return -EUCLEAN;
    }
    ret = qcow2_l2_get_writable(bs, run->offset, &slice, &idx);
    if (ret < 0) {
        return ret;
    }
    for (uint64_t i = 0; i < run->nb_clusters; i++) {
        uint64_t old = get_l2_entry(s, slice, idx + i);
        uint64_t host = run->host + (i << s->cluster_bits);

        set_l2_entry(s, slice, idx + i, host | QCOW_OFLAG_COPIED);
        set_l2_bitmap(s, slice, idx + i,
                      linked_bitmap(s, old, get_l2_bitmap(s, slice, idx + i),
                                    run, i));
        if (run->fresh) {
            qcow2_free_any_cluster(bs, old, QCOW2_DISCARD_OTHER);
        }
    }
    qcow2_cache_entry_mark_dirty(s->l2_table_cache, slice);
    qcow2_cache_put(s->l2_table_cache, (void **)&slice);
    s->unflushed = true;
    return 0;
}

/*
 * Writes the first run of the range; the caller holds @req exclusively over
 * its clusters, and the lock, which is released meanwhile.
 */
static int coroutine_fn write_allocating(BlockDriverState *bs,
                                         Qcow2Request *req, uint64_t offset,
                                         uint64_t bytes, QEMUIOVector *qiov,
                                         size_t qiov_offset, uint64_t *done)
{
    BDRVQcow2State *s = bs->opaque;
    AllocRun run = { .offset = offset, .bytes = bytes };
    int ret;

    ret = allocate_run(bs, &run);
    if (ret < 0) {
        return ret;
    }
    qemu_co_mutex_unlock(&s->lock);
    qcow2_request_narrow(&s->inflight, req, offset, run.bytes);
    ret = qcow2_cow_write(bs, &(Qcow2CowRange) {
                              .start = run.start,
                              .data = offset,
                              .data_end = offset + run.bytes,
                              .end = run.end,
                              .host = run.host +
                                      offset_into_cluster(s, run.start),
                              .rest = run.rest,
                          }, qiov, qiov_offset);
    qemu_co_mutex_lock(&s->lock);
    if (ret == 0) {
        ret = link_run(bs, &run);
    }
    if (ret < 0) {
        if (run.fresh) {
            qcow2_unalloc_data_clusters(bs, run.host,
                                        run.nb_clusters << s->cluster_bits);
        }
        return ret;
    }
    *done = run.bytes;
    return qcow2_free_throttle(bs);
}

/*
 * Finds the first run, makes @req exclusive if it has to be allocated. *@run:
 * bytes to be written in place at *@host, or 0; *@alloc: bytes to be allocated.
 * The lock is held on success.
 */
static int coroutine_fn find_run(BlockDriverState *bs, Qcow2Request *req,
                                 uint64_t offset, uint64_t bytes,
                                 uint64_t *run, uint64_t *host,
                                 uint64_t *alloc)
{
    BDRVQcow2State *s = bs->opaque;
    int ret;

    qemu_co_mutex_lock(&s->lock);
    ret = qcow2_begin_change(bs);
    if (ret == 0) {
        ret = qcow2_get_inplace_run(bs, offset, bytes, run, host, alloc);
    }
    if (ret < 0) {
        qemu_co_mutex_unlock(&s->lock);
        return ret;
    }
    if (*run || qcow2_request_try_upgrade(&s->inflight, req, offset, *alloc)) {
        return 0;
    }

    /* Others are there: queue behind them, and look again. */
    qemu_co_mutex_unlock(&s->lock);
    qcow2_request_end(&s->inflight, req);
    qcow2_request_begin(&s->inflight, req, offset, *alloc, true);
    qemu_co_mutex_lock(&s->lock);
    ret = qcow2_begin_change(bs);
    if (ret == 0) {
        ret = qcow2_get_inplace_run(bs, offset, *alloc, run, host, alloc);
    }
    if (ret < 0) {
        qemu_co_mutex_unlock(&s->lock);
    }
    return ret;
}

/* Writes some of the range: *@done bytes. */
static int coroutine_fn write_some(BlockDriverState *bs, Qcow2Request *req,
                                   uint64_t offset, uint64_t bytes,
                                   QEMUIOVector *qiov, size_t qiov_offset,
                                   uint64_t *done)
{
    BDRVQcow2State *s = bs->opaque;
    uint64_t run, host, alloc;
    int ret;

    ret = find_run(bs, req, offset, bytes, &run, &host, &alloc);
    if (ret < 0) {
        return ret;
    }
    if (!run) {
        ret = write_allocating(bs, req, offset, alloc, qiov, qiov_offset,
                               done);
        qemu_co_mutex_unlock(&s->lock);
        return ret;
    }
    ret = qcow2_data_overlap_check(bs, host, run);
    qemu_co_mutex_unlock(&s->lock);
    if (ret < 0) {
        return ret;
    }
    BLKDBG_EVENT(bs->file, BLKDBG_WRITE_AIO);
    *done = run;
    return qcow2_data_write(bs, offset, host, run, qiov, qiov_offset);
}

int coroutine_fn qcow2_co_pwritev(BlockDriverState *bs, int64_t offset,
                                  int64_t bytes, QEMUIOVector *qiov,
                                  size_t qiov_offset, BdrvRequestFlags flags)
{
    BDRVQcow2State *s = bs->opaque;

    while (bytes) {
        Qcow2Request req;
        uint64_t done = 0;
        int ret;

        qcow2_request_begin(&s->inflight, &req, offset, bytes, false);
        ret = write_some(bs, &req, offset, bytes, qiov, qiov_offset, &done);
        qcow2_request_end(&s->inflight, &req);
        if (ret < 0) {
            return ret;
        }
        offset += done;
        bytes -= done;
        qiov_offset += done;
    }
    return 0;
}
