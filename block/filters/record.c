/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * An internal filter: writes stay in memory, in chunks, until
 * bdrv_record_pass(); then they go down, but only to where there were some.
 *
 * Invariants:
 *  1. A chunk in memory is whole: what nobody wrote of it is the node below's.
 *  2. Requests are of one thread. Reading below may yield, so a chunk is looked
 *     for again after it.
 */
#include "util/osdep.h"
#include "util/iov.h"
#include "block/filters/filter.h"
#include "block/record.h"

#define CHUNK 4096

typedef struct Record {
    GHashTable *chunks;     /* number (int64_t) -> CHUNK bytes, or NULL data */
    int64_t length;
    bool pass;
} Record;

static void *find_chunk(Record *r, int64_t nr)
{
    return g_hash_table_lookup(r->chunks, &nr);
}

/* The chunk for writing; @whole: its old content does not matter. */
static int coroutine_fn get_chunk(BlockDriverState *bs, int64_t nr, bool whole,
                                  void **chunk)
{
    Record *r = bs->opaque;
    g_autofree void *data = NULL;
    int ret;

    *chunk = find_chunk(r, nr);
    if (*chunk) {
        return 0;
    }
    data = g_malloc0(CHUNK);
    if (!whole) {
        ret = bdrv_co_pread(bs->file, nr * CHUNK, CHUNK, data, 0);
        if (ret < 0) {
            return ret;
        }
    }
    *chunk = find_chunk(r, nr);
    if (!*chunk) {
        int64_t *key = g_new(int64_t, 1);

        *key = nr;
        *chunk = g_steal_pointer(&data);
        g_hash_table_insert(r->chunks, key, *chunk);
    }
    return 0;
}

static int coroutine_fn record_co_preadv(BlockDriverState *bs, int64_t offset,
                                         int64_t bytes, QEMUIOVector *qiov,
                                         size_t qiov_offset,
                                         BdrvRequestFlags flags)
{
    Record *r = bs->opaque;
    int64_t at = offset, end = offset + bytes;
    int ret = filter_co_preadv(bs, offset, bytes, qiov, qiov_offset, flags);

    while (ret == 0 && !r->pass && at < end) {
        int64_t n = MIN(end - at, CHUNK - at % CHUNK);
        const char *chunk = find_chunk(r, at / CHUNK);

        if (chunk) {
            qemu_iovec_from_buf(qiov, qiov_offset + (at - offset),
                                chunk + at % CHUNK, n);
        }
        at += n;
    }
    return ret;
}

static int coroutine_fn keep_write(BlockDriverState *bs, int64_t offset,
                                   int64_t bytes, QEMUIOVector *qiov,
                                   size_t qiov_offset)
{
    Record *r = bs->opaque;
    int64_t at = offset, end = offset + bytes;

    while (at < end) {
        int64_t n = MIN(end - at, CHUNK - at % CHUNK);
        void *chunk;
        int ret = get_chunk(bs, at / CHUNK, n == CHUNK, &chunk);

        if (ret < 0) {
            return ret;
        }
        qemu_iovec_to_buf(qiov, qiov_offset + (at - offset),
                          (char *)chunk + at % CHUNK, n);
        at += n;
    }
    r->length = MAX(r->length, end);
    return 0;
}

/* Everything in the range was written to before. */
static bool was_recorded(Record *r, int64_t offset, int64_t bytes)
{
    int64_t nr = offset / CHUNK;

    for (; nr * CHUNK < offset + bytes; nr++) {
        if (!g_hash_table_contains(r->chunks, &nr)) {
            return false;
        }
    }
    return true;
}

static int coroutine_fn record_co_pwritev(BlockDriverState *bs, int64_t offset,
                                          int64_t bytes, QEMUIOVector *qiov,
                                          size_t qiov_offset,
                                          BdrvRequestFlags flags)
{
    Record *r = bs->opaque;

    if (!r->pass) {
        return keep_write(bs, offset, bytes, qiov, qiov_offset);
    }
    if (!was_recorded(r, offset, bytes)) {
        return -EPERM;
    }
    return filter_co_pwritev(bs, offset, bytes, qiov, qiov_offset, flags);
}

static int coroutine_fn record_co_pdiscard(BlockDriverState *bs,
                                           int64_t offset, int64_t bytes)
{
    return -ENOTSUP;
}

static int coroutine_fn record_co_truncate(BlockDriverState *bs,
                                           int64_t offset, bool exact,
                                           PreallocMode prealloc,
                                           BdrvRequestFlags flags,
                                           Error **errp)
{
    Record *r = bs->opaque;

    if (prealloc != PREALLOC_MODE_OFF ||
        (r->pass ? offset > r->length : offset < r->length)) {
        error_setg(errp, "The length of the file cannot be changed like that");
        return -ENOTSUP;
    }
    if (r->pass) {
        return bdrv_co_truncate(bs->file, offset, exact, prealloc,
                                flags | BDRV_REQ_NO_SHRINK, errp);
    }
    r->length = offset;
    return 0;
}

static int64_t coroutine_fn record_co_getlength(BlockDriverState *bs)
{
    Record *r = bs->opaque;

    return r->pass ? bdrv_co_getlength(bs->file->bs) : r->length;
}

static int coroutine_fn record_co_block_status(BlockDriverState *bs,
                                               bool want_zero, int64_t offset,
                                               int64_t bytes, int64_t *pnum,
                                               int64_t *map,
                                               BlockDriverState **file)
{
    *pnum = bytes;
    *map = offset;
    *file = bs;
    return BDRV_BLOCK_DATA | BDRV_BLOCK_OFFSET_VALID;
}

/* Nobody else writes as long as the node is there. */
static void record_child_perm(BlockDriverState *bs, BdrvChild *child,
                              BdrvChildRole role, BlockReopenQueue *queue,
                              uint64_t parent_perm, uint64_t parent_shared,
                              uint64_t *nperm, uint64_t *nshared)
{
    *nperm = BLK_PERM_CONSISTENT_READ;
    *nshared = BLK_PERM_ALL & ~(BLK_PERM_WRITE | BLK_PERM_RESIZE);
    if (!bdrv_is_read_only(child->bs)) {
        *nperm |= BLK_PERM_WRITE | BLK_PERM_RESIZE;
    }
}

static int record_open(BlockDriverState *bs, BlockdevOptions *options,
                       int flags, Error **errp)
{
    Record *r = bs->opaque;

    r->chunks = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free,
                                      g_free);
    return 0;
}

static void record_close(BlockDriverState *bs)
{
    Record *r = bs->opaque;

    g_hash_table_destroy(r->chunks);
}

static BlockDriver bdrv_record = {
    .format_name = "record",
    .instance_size = sizeof(Record),
    .is_filter = true,
    .bdrv_open = record_open,
    .bdrv_close = record_close,
    .bdrv_child_perm = record_child_perm,
    .bdrv_co_getlength = record_co_getlength,
    .bdrv_co_preadv = record_co_preadv,
    .bdrv_co_pwritev = record_co_pwritev,
    .bdrv_co_pdiscard = record_co_pdiscard,
    .bdrv_co_truncate = record_co_truncate,
    .bdrv_co_block_status = record_co_block_status,
};

BlockDriverState *bdrv_record_new(BlockDriverState *below, Error **errp)
{
    g_autoptr(BlockDriverState) bs = NULL;
    int64_t length = bdrv_getlength(below);
    Record *r;

    if (length < 0) {
        error_setg_errno(errp, -length, "Could not get the length of the file");
        return NULL;
    }
    bs = bdrv_new_open_driver(&bdrv_record, NULL, BDRV_O_RDWR, errp);
    if (!bs) {
        return NULL;
    }
    r = bs->opaque;
    r->length = length;
    qatomic_set(&bs->total_bytes, length);
    if (!bdrv_attach_child(bs, bdrv_ref(below), "file",
                           BDRV_CHILD_FILTERED | BDRV_CHILD_PRIMARY, errp)) {
        return NULL;
    }
    return g_steal_pointer(&bs);
}

static int compare_numbers(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a;
    int64_t y = *(const int64_t *)b;

    return x < y ? -1 : x > y;
}

GArray *bdrv_record_extents(BlockDriverState *bs)
{
    Record *r = bs->opaque;
    GArray *extents = g_array_new(FALSE, FALSE, sizeof(BdrvRecordExtent));
    g_autoptr(GArray) numbers = g_array_new(FALSE, FALSE, sizeof(int64_t));
    GHashTableIter iter;
    gpointer key;
    guint i;

    g_hash_table_iter_init(&iter, r->chunks);
    while (g_hash_table_iter_next(&iter, &key, NULL)) {
        g_array_append_vals(numbers, key, 1);
    }
    g_array_sort(numbers, compare_numbers);
    for (i = 0; i < numbers->len; i++) {
        uint64_t offset = g_array_index(numbers, int64_t, i) * CHUNK;
        BdrvRecordExtent *last = extents->len
            ? &g_array_index(extents, BdrvRecordExtent, extents->len - 1)
            : NULL;

        if (last && last->offset + last->bytes == offset) {
            last->bytes += CHUNK;
        } else {
            BdrvRecordExtent e = { .offset = offset, .bytes = CHUNK };

            g_array_append_val(extents, e);
        }
    }
    return extents;
}

int64_t bdrv_record_length(BlockDriverState *bs)
{
    Record *r = bs->opaque;

    return r->length;
}

void bdrv_record_pass(BlockDriverState *bs)
{
    Record *r = bs->opaque;
    GHashTableIter iter;

    r->pass = true;
    g_hash_table_iter_init(&iter, r->chunks);
    while (g_hash_table_iter_next(&iter, NULL, NULL)) {
        g_hash_table_iter_replace(&iter, NULL);
    }
    qatomic_set(&bs->total_bytes, bdrv_getlength(bs->file->bs));
}
