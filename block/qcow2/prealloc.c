/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Preallocation: host clusters for guest clusters that have none, mapped and
 * reading as zeroes.
 *
 * Space behind the end of the file reads as zeroes by itself once the file is
 * made long enough; space inside it is zeroed. Either happens before an L2
 * entry names the space: if there is not enough of it, or the power goes, no
 * entry refers to what lies behind the end of the file. In a data file, too:
 * where no cluster is allocated it may hold anything.
 *
 * With extended L2 entries a cluster gets its place only, and shows what it did
 * before, a backing file, too. Not so in a raw data file, which must show all.
 */
#include "util/osdep.h"
#include "util/error.h"
#include "util/lockable.h"
#include "block/qcow2/qcow2.h"

typedef struct Prealloc {
    BlockDriverState *bs;
    uint64_t file_end;      /* length of the file at the start */
    uint64_t disk_end;      /* how long the disk will be */
    PreallocMode mode;      /* of the file */
    bool zeroed;            /* the file is as it should be */
    /* Host clusters that are allocated, and have their space, but no entry
     * yet: [host, host + nb_clusters). */
    uint64_t host;
    uint64_t nb_clusters;
} Prealloc;

/*
 * Clusters in a row from @idx that are unallocated. With extended L2 entries
 * that are all without a host cluster, also those that read as zeroes.
 */
static uint64_t count_unallocated(const BDRVQcow2State *s,
                                  const uint64_t *slice, int idx, uint64_t max)
{
    uint64_t n = 0;

    while (n < max &&
           qcow2_get_cluster_type(s, get_l2_entry(s, slice, idx + n)) ==
               QCOW2_CLUSTER_UNALLOCATED) {
        n++;
    }
    return n;
}

/* The file holds @bytes zeroes at @host, allocated as far as the mode says. */
static int coroutine_fn make_space(Prealloc *p, uint64_t host, uint64_t bytes)
{
    BDRVQcow2State *s = p->bs->opaque;
    BdrvChild *file = qcow2_data_child(p->bs);
    int64_t length = bdrv_co_getlength(file->bs);
    BdrvRequestFlags flags = 0;
    uint64_t zero_end;
    int ret = 0;

    if (p->zeroed) {
        return 0;
    }
    if (length < 0) {
        return length;
    }
    if (s->has_data_file) {
        /* It is as long as the disk, and nobody wants its space but us. */
        bytes = MIN(bytes, p->disk_end - host);
        flags = p->mode == PREALLOC_MODE_OFF ? BDRV_REQ_MAY_UNMAP : 0;
    }
    /* What a table that was written far behind left out is a hole. */
    zero_end = p->mode == PREALLOC_MODE_OFF ? p->file_end : (uint64_t)length;
    if (host < zero_end) {
        ret = bdrv_co_pwrite_zeroes(file, host, MIN(bytes, zero_end - host),
                                    flags);
    }
    if (ret == 0 && host + bytes > (uint64_t)length) {
        /* Data may be written behind it at any time, without the lock. */
        ret = bdrv_co_truncate(file, host + bytes, false, p->mode,
                               BDRV_REQ_NO_SHRINK, NULL);
    }
    return ret;
}

static void coroutine_fn give_back(Prealloc *p)
{
    BDRVQcow2State *s = p->bs->opaque;

    if (p->nb_clusters) {
        qcow2_unalloc_data_clusters(p->bs, p->host,
                                    p->nb_clusters << s->cluster_bits);
        p->nb_clusters = 0;
    }
}

/*
 * Sees to it that there are host clusters for guest @offset: @n, or as many as
 * the rest of the L2 table can name (@more in all) if space costs nothing. In a
 * data file those behind @n may be in use. [lock]
 */
static int coroutine_fn reserve(Prealloc *p, uint64_t offset, uint64_t n,
                                uint64_t more)
{
    BlockDriverState *bs = p->bs;
    BDRVQcow2State *s = bs->opaque;
    uint64_t bytes;
    int64_t host;
    int ret;

    if (p->nb_clusters) {
        return 0;
    }
    /* Others wait for the lock while space is written or allocated. */
    if (p->mode == PREALLOC_MODE_OFF && !s->has_data_file) {
        n = more;
    }
    host = qcow2_alloc_data_clusters(bs, offset, 0, &n);
    if (host < 0) {
        return host;
    }
    p->host = host;
    p->nb_clusters = n;
    bytes = n << s->cluster_bits;
    ret = qcow2_data_overlap_check(bs, host, bytes);
    if (ret < 0) {
        /* These have an owner, who would lose them. */
        p->nb_clusters = 0;
        return ret;
    }
    ret = make_space(p, host, bytes);
    if (ret < 0) {
        give_back(p);
    }
    return ret;
}

/*
 * Maps some of the @n clusters from @offset, in one slice; *@done. @more: those
 * to the end of the L2 table, or of the range. [lock]
 */
static int coroutine_fn map_some(Prealloc *p, uint64_t offset, uint64_t n,
                                 uint64_t more, uint64_t *done)
{
    BlockDriverState *bs = p->bs;
    BDRVQcow2State *s = bs->opaque;
    uint64_t free_run, *slice;
    int idx, ret;

    ret = qcow2_l2_get_writable(bs, offset, &slice, &idx);
    if (ret < 0) {
        return ret;
    }
    free_run = count_unallocated(s, slice, idx, n);
    qcow2_cache_put(s->l2_table_cache, (void **)&slice);
    *done = MAX(free_run, 1);
    if (!free_run) {
        return 0;
    }

    ret = reserve(p, offset, free_run, more);
    if (ret == 0) {
        ret = qcow2_l2_get_writable(bs, offset, &slice, &idx);
    }
    if (ret < 0) {
        return ret;
    }
    *done = free_run = MIN(free_run, p->nb_clusters);
    for (uint64_t i = 0; i < free_run; i++) {
        set_l2_entry(s, slice, idx + i, (p->host + (i << s->cluster_bits)) |
                                        QCOW_OFLAG_COPIED);
        if (qcow2_data_file_is_raw(bs)) {
            set_l2_bitmap(s, slice, idx + i, QCOW2_BITMAP_ALL_DATA);
        }
    }
    qcow2_cache_entry_mark_dirty(s->l2_table_cache, slice);
    qcow2_cache_put(s->l2_table_cache, (void **)&slice);
    p->host += free_run << s->cluster_bits;
    p->nb_clusters -= free_run;
    s->unflushed = true;
    return 0;
}

/* From @offset to @end, or to a multiple of @span clusters. */
static uint64_t clusters_to(const BDRVQcow2State *s, uint64_t offset,
                            uint64_t end, uint64_t span)
{
    span <<= s->cluster_bits;
    return size_to_clusters(s, MIN(end - offset,
                                   span - (offset & (span - 1))));
}

static int coroutine_fn map_range(Prealloc *p, uint64_t offset, uint64_t end)
{
    BDRVQcow2State *s = p->bs->opaque;

    while (offset < end) {
        uint64_t done = 0;
        int ret;

        QEMU_LOCK_GUARD(&s->lock);
        ret = qcow2_begin_change(p->bs);
        if (ret == 0) {
            ret = map_some(p, offset,
                           clusters_to(s, offset, end, s->l2_slice_size),
                           clusters_to(s, offset, end, s->l2_size), &done);
        }
        offset += done << s->cluster_bits;
        if (ret < 0 || offset >= end) {
            give_back(p);
        }
        if (ret < 0) {
            return ret;
        }
    }
    return 0;
}

int coroutine_fn qcow2_co_preallocate(BlockDriverState *bs, uint64_t offset,
                                      uint64_t new_length, PreallocMode mode,
                                      bool zeroed, Error **errp)
{
    BDRVQcow2State *s = bs->opaque;
    int64_t file_end = bdrv_co_getlength(qcow2_data_child(bs)->bs);
    Prealloc p = {
        .bs = bs,
        .file_end = MAX(file_end, 0),
        .disk_end = new_length,
        .zeroed = zeroed,
        .mode = mode == PREALLOC_MODE_METADATA ? PREALLOC_MODE_OFF : mode,
    };
    Qcow2Request req;
    int ret;

    if (file_end < 0) {
        error_setg_errno(errp, -file_end, "Could not get the size of the "
                         "file");
        return file_end;
    }
    offset = start_of_cluster(s, offset);
    if (offset >= new_length) {
        return 0;
    }
    qcow2_request_begin(&s->inflight, &req, offset, new_length - offset, true);
    ret = map_range(&p, offset, new_length);
    qcow2_request_end(&s->inflight, &req);
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Could not preallocate clusters");
    }
    return ret;
}
