/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Preallocation: host clusters for guest clusters that have none, mapped and
 * reading as zeroes.
 *
 * Space behind the end of the file reads as zeroes by itself once the file is
 * made long enough; space inside it is zeroed. Either happens before an L2
 * entry names the space: if there is not enough of it, or the power goes, no
 * entry refers to what lies behind the end of the file.
 */
#include "util/osdep.h"
#include "util/error.h"
#include "util/lockable.h"
#include "block/qcow2/qcow2.h"

typedef struct Prealloc {
    BlockDriverState *bs;
    uint64_t file_end;      /* length of the file at the start */
    PreallocMode mode;      /* of the file */
} Prealloc;

/* Unallocated clusters in a row from @idx. */
static uint64_t count_unallocated(const BDRVQcow2State *s,
                                  const uint64_t *slice, int idx, uint64_t max)
{
    uint64_t n = 0;

    while (n < max &&
           qcow2_get_cluster_type(s, get_l2_entry(slice, idx + n)) ==
               QCOW2_CLUSTER_UNALLOCATED) {
        n++;
    }
    return n;
}

/* The file holds @bytes zeroes at @host, allocated as far as the mode says. */
static int coroutine_fn make_space(Prealloc *p, uint64_t host, uint64_t bytes)
{
    BdrvChild *file = p->bs->file;
    int64_t length = bdrv_co_getlength(file->bs);
    uint64_t zero_end;
    int ret = 0;

    if (length < 0) {
        return length;
    }
    /* What a table that was written far behind left out is a hole. */
    zero_end = p->mode == PREALLOC_MODE_OFF ? p->file_end : (uint64_t)length;
    if (host < zero_end) {
        ret = bdrv_co_pwrite_zeroes(file, host, MIN(bytes, zero_end - host),
                                    0);
    }
    if (ret == 0 && host + bytes > (uint64_t)length) {
        ret = bdrv_co_truncate(file, host + bytes, false, p->mode, 0, NULL);
    }
    return ret;
}

/* Maps some of the @n clusters from @offset, in one slice; *@done. [lock] */
static int coroutine_fn map_some(Prealloc *p, uint64_t offset, uint64_t n,
                                 uint64_t *done)
{
    BlockDriverState *bs = p->bs;
    BDRVQcow2State *s = bs->opaque;
    uint64_t free_run, *slice;
    int64_t host;
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

    host = qcow2_alloc_data_clusters(bs, 0, &free_run);
    if (host < 0) {
        return host;
    }
    *done = free_run;
    ret = qcow2_pre_write_overlap_check(bs, 0, host,
                                        free_run << s->cluster_bits);
    if (ret < 0) {
        return ret;
    }
    ret = make_space(p, host, free_run << s->cluster_bits);
    if (ret == 0) {
        ret = qcow2_l2_get_writable(bs, offset, &slice, &idx);
    }
    if (ret < 0) {
        qcow2_unalloc_clusters(bs, host, free_run << s->cluster_bits);
        return ret;
    }
    for (uint64_t i = 0; i < free_run; i++) {
        set_l2_entry(slice, idx + i, (host + (i << s->cluster_bits)) |
                                     QCOW_OFLAG_COPIED);
    }
    qcow2_cache_entry_mark_dirty(s->l2_table_cache, slice);
    qcow2_cache_put(s->l2_table_cache, (void **)&slice);
    s->unflushed = true;
    return 0;
}

static int coroutine_fn map_range(Prealloc *p, uint64_t offset, uint64_t end)
{
    BDRVQcow2State *s = p->bs->opaque;
    uint64_t span = (uint64_t)s->l2_slice_size << s->cluster_bits;

    while (offset < end) {
        uint64_t bytes = MIN(end - offset, span - (offset & (span - 1)));
        uint64_t done = 0;
        int ret;

        QEMU_LOCK_GUARD(&s->lock);
        ret = qcow2_begin_change(p->bs);
        if (ret == 0) {
            ret = map_some(p, offset, size_to_clusters(s, bytes), &done);
        }
        if (ret < 0) {
            return ret;
        }
        offset += done << s->cluster_bits;
    }
    return 0;
}

int coroutine_fn qcow2_co_preallocate(BlockDriverState *bs, uint64_t offset,
                                      uint64_t new_length, PreallocMode mode,
                                      Error **errp)
{
    BDRVQcow2State *s = bs->opaque;
    int64_t file_end = bdrv_co_getlength(bs->file->bs);
    Prealloc p = {
        .bs = bs,
        .file_end = MAX(file_end, 0),
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
