/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The bits of stored bitmaps: a table of clusters, each with the bits of a
 * part of the disk; parts that are all clear or all set need no cluster.
 */
#include "util/osdep.h"
#include "util/bswap.h"
#include "util/memalign.h"
#include "block/qcow2/bitmap.h"

/* Bytes of disk that one entry of the table stands for. */
static uint64_t entry_span(const BDRVQcow2State *s, unsigned granularity_bits)
{
    return (uint64_t)s->cluster_size * 8 << granularity_bits;
}

uint64_t qcow2_bitmap_table_entries(const BDRVQcow2State *s, uint64_t size,
                                    unsigned granularity_bits)
{
    uint64_t span = entry_span(s, granularity_bits);

    return MAX(1, size / span + !!(size % span));
}

/* --- reading --- */

bool qcow2_bitmap_table_entry_is_right(const BDRVQcow2State *s, uint64_t entry)
{
    uint64_t offset = entry & QCOW2_BME_TABLE_ENTRY_OFFSET_MASK;
    uint64_t rest = entry & ~QCOW2_BME_TABLE_ENTRY_OFFSET_MASK;

    return offset ? !rest && !offset_into_cluster(s, offset)
                  : !(rest & ~QCOW2_BME_TABLE_ENTRY_ALL_ONES);
}

uint64_t *coroutine_fn qcow2_bitmap_read_table(BlockDriverState *bs,
                                               const Qcow2Bitmap *b, int *ret)
{
    BDRVQcow2State *s = bs->opaque;
    uint64_t bytes = (uint64_t)b->table_size * sizeof(uint64_t);
    g_autofree uint64_t *table = NULL;

    assert(!b->fault);
    if (!qcow2_table_is_in_file(bs, b->table_offset, bytes)) {
        *ret = -EINVAL;
        return NULL;
    }
    table = g_try_malloc(bytes);
    if (!table) {
        *ret = -ENOMEM;
        return NULL;
    }
    *ret = bdrv_co_pread(bs->file, b->table_offset, bytes, table, 0);
    if (*ret < 0) {
        return NULL;
    }
    for (uint32_t i = 0; i < b->table_size; i++) {
        table[i] = be64_to_cpu(table[i]);
        if (!qcow2_bitmap_table_entry_is_right(s, table[i])) {
            *ret = -EINVAL;
            return NULL;
        }
    }
    return g_steal_pointer(&table);
}

/* One part of the disk: from @start on. */
static int coroutine_fn load_part(BlockDriverState *bs, uint64_t entry,
                                  HBitmap *bits, uint64_t start,
                                  uint64_t bytes, void *buf)
{
    uint64_t offset = entry & QCOW2_BME_TABLE_ENTRY_OFFSET_MASK;
    int ret;

    if (!offset) {
        if (entry & QCOW2_BME_TABLE_ENTRY_ALL_ONES) {
            hbitmap_deserialize_ones(bits, start, bytes, false);
        }
        return 0;
    }
    /* It would read as zeroes: a bitmap that forgot. */
    if (!qcow2_table_is_in_file(bs, offset,
                                hbitmap_serialization_size(bits, start,
                                                           bytes))) {
        return -EINVAL;
    }
    ret = bdrv_co_pread(bs->file, offset,
                        hbitmap_serialization_size(bits, start, bytes), buf,
                        0);
    if (ret == 0) {
        hbitmap_deserialize_part(bits, buf, start, bytes, false);
    }
    return ret;
}

int coroutine_fn qcow2_bitmap_load(BlockDriverState *bs, const Qcow2Bitmap *b,
                                   HBitmap *bits)
{
    BDRVQcow2State *s = bs->opaque;
    uint64_t span = entry_span(s, b->granularity_bits);
    uint64_t size = hbitmap_size(bits), start = 0;
    g_autofree uint64_t *table = NULL;
    QEMU_AUTO_VFREE void *buf = NULL;
    int ret;

    table = qcow2_bitmap_read_table(bs, b, &ret);
    if (!table) {
        return ret;
    }
    buf = qemu_try_blockalign(bs->file->bs, s->cluster_size);
    if (!buf) {
        return -ENOMEM;
    }
    for (uint32_t i = 0; i < b->table_size && start < size; i++) {
        ret = load_part(bs, table[i], bits, start, MIN(span, size - start),
                        buf);
        if (ret < 0) {
            return ret;
        }
        start += span;
    }
    hbitmap_deserialize_finish(bits);
    return 0;
}

int64_t coroutine_fn qcow2_bitmap_count_dirty(BlockDriverState *bs,
                                              const Qcow2Bitmap *b)
{
    BDRVQcow2State *s = bs->opaque;
    HBitmap *bits = hbitmap_alloc(s->disk_size, b->granularity_bits);
    int64_t ret = qcow2_bitmap_load(bs, b, bits);

    if (ret == 0) {
        ret = hbitmap_count(bits);
    }
    hbitmap_free(bits);
    return ret;
}

bool coroutine_fn qcow2_bitmap_owns(BlockDriverState *bs, int ignore,
                                    uint64_t offset, uint64_t bytes)
{
    BDRVQcow2State *s = bs->opaque;
    uint64_t end = (offset + bytes + s->cluster_size - 1) >> s->cluster_bits;

    for (uint64_t i = offset >> s->cluster_bits; i < end; i++) {
        uint64_t refcount;

        if (qcow2_get_refcount(bs, i, &refcount) < 0 || refcount != 1) {
            return false;
        }
    }
    return qcow2_check_metadata_overlap(bs, ignore, offset, bytes) == 0;
}

void coroutine_fn qcow2_bitmap_clusters(BlockDriverState *bs,
                                        const Qcow2Bitmap *b, GArray *extents)
{
    BDRVQcow2State *s = bs->opaque;
    g_autoptr(GHashTable) seen = g_hash_table_new(g_int64_hash, g_int64_equal);
    uint64_t table_bytes = ROUND_UP((uint64_t)b->table_size * sizeof(uint64_t),
                                    (uint64_t)s->cluster_size);
    Qcow2BitmapExtent e = { b->table_offset, table_bytes };
    guint first = extents->len;
    g_autofree uint64_t *table = NULL;
    int ret;

    if (b->fault) {
        return;
    }
    table = qcow2_bitmap_read_table(bs, b, &ret);
    if (!table) {
        return;
    }
    g_array_append_val(extents, e);
    for (uint32_t i = 0; i < b->table_size; i++) {
        table[i] &= QCOW2_BME_TABLE_ENTRY_OFFSET_MASK;
        if (!table[i]) {
            continue;
        }
        if (table[i] - b->table_offset < table_bytes ||
            !g_hash_table_add(seen, &table[i])) {
            g_array_set_size(extents, first);
            return;
        }
        e = (Qcow2BitmapExtent) { table[i], s->cluster_size };
        g_array_append_val(extents, e);
    }
}

/* --- writing --- */

static int coroutine_fn write_new(BlockDriverState *bs, uint64_t offset,
                                  const void *buf, uint64_t bytes)
{
    BDRVQcow2State *s = bs->opaque;
    int ret = qcow2_pre_write_overlap_check(bs, 0, offset, bytes);

    s->unflushed = true;
    return ret < 0 ? ret : bdrv_co_pwrite(bs->file, offset, bytes, buf, 0);
}

/* The entry for the part from @start on; its bits are written if need be. */
static int coroutine_fn store_part(BlockDriverState *bs, const HBitmap *bits,
                                   uint64_t start, uint64_t bytes, void *buf,
                                   uint64_t *entry)
{
    BDRVQcow2State *s = bs->opaque;
    uint64_t n = hbitmap_serialization_size(bits, start, bytes);
    int64_t offset;
    int ret;

    *entry = 0;
    if (hbitmap_next_dirty(bits, start, bytes) < 0) {
        return 0;
    }
    if (hbitmap_next_zero(bits, start, bytes) < 0) {
        *entry = QCOW2_BME_TABLE_ENTRY_ALL_ONES;
        return 0;
    }
    offset = qcow2_alloc_clusters(bs, s->cluster_size);
    if (offset < 0) {
        return offset;
    }
    hbitmap_serialize_part(bits, buf, start, bytes);
    memset((uint8_t *)buf + n, 0, s->cluster_size - n);
    ret = write_new(bs, offset, buf, s->cluster_size);
    if (ret < 0) {
        qcow2_unalloc_clusters(bs, offset, s->cluster_size);
        return ret;
    }
    *entry = offset;
    return 0;
}

static int coroutine_fn store_parts(BlockDriverState *bs, const HBitmap *bits,
                                    uint64_t span, uint64_t *table, uint64_t n)
{
    BDRVQcow2State *s = bs->opaque;
    QEMU_AUTO_VFREE void *buf = qemu_try_blockalign(bs->file->bs,
                                                    s->cluster_size);
    uint64_t size = hbitmap_size(bits), start = 0;
    int ret = buf ? 0 : -ENOMEM;

    for (uint64_t i = 0; i < n && start < size && ret == 0; i++) {
        ret = store_part(bs, bits, start, MIN(span, size - start), buf,
                         &table[i]);
        start += span;
    }
    return ret;
}

static void coroutine_fn drop_parts(BlockDriverState *bs,
                                    const uint64_t *table, uint64_t n)
{
    BDRVQcow2State *s = bs->opaque;

    for (uint64_t i = 0; i < n; i++) {
        if (table[i] & QCOW2_BME_TABLE_ENTRY_OFFSET_MASK) {
            qcow2_unalloc_clusters(bs, table[i], s->cluster_size);
        }
    }
}

/* Writes @table, in host order, to new clusters; its offset or -errno. */
static int64_t coroutine_fn store_table(BlockDriverState *bs,
                                        const uint64_t *table, uint64_t n)
{
    BDRVQcow2State *s = bs->opaque;
    uint64_t bytes = ROUND_UP(n * sizeof(uint64_t), (uint64_t)s->cluster_size);
    QEMU_AUTO_VFREE uint64_t *buf = qemu_try_blockalign(bs->file->bs, bytes);
    int64_t offset;
    int ret;

    if (!buf) {
        return -ENOMEM;
    }
    offset = qcow2_alloc_clusters(bs, bytes);
    if (offset < 0) {
        return offset;
    }
    memset(buf, 0, bytes);
    for (uint64_t i = 0; i < n; i++) {
        buf[i] = cpu_to_be64(table[i]);
    }
    ret = write_new(bs, offset, buf, bytes);
    if (ret < 0) {
        qcow2_unalloc_clusters(bs, offset, bytes);
        return ret;
    }
    return offset;
}

static int coroutine_fn store(BlockDriverState *bs, Qcow2Bitmap *b,
                              const HBitmap *bits, bool ones, uint64_t size)
{
    BDRVQcow2State *s = bs->opaque;
    uint64_t n = qcow2_bitmap_table_entries(s, size, b->granularity_bits);
    g_autofree uint64_t *table = g_try_new0(uint64_t, n);
    int64_t offset = 0;

    if (!table) {
        return -ENOMEM;
    }
    for (uint64_t i = 0; ones && i < n; i++) {
        table[i] = QCOW2_BME_TABLE_ENTRY_ALL_ONES;
    }
    if (bits) {
        offset = store_parts(bs, bits, entry_span(s, b->granularity_bits),
                             table, n);
    }
    if (offset == 0) {
        offset = store_table(bs, table, n);
    }
    if (offset < 0) {
        drop_parts(bs, table, n);
        return offset;
    }
    qcow2_bitmap_set_table(b, offset, n);
    return 0;
}

int coroutine_fn qcow2_bitmap_store(BlockDriverState *bs, Qcow2Bitmap *b,
                                    const HBitmap *bits, uint64_t size)
{
    return store(bs, b, bits, false, size);
}

int coroutine_fn qcow2_bitmap_store_ones(BlockDriverState *bs, Qcow2Bitmap *b,
                                         uint64_t size)
{
    return store(bs, b, NULL, true, size);
}
