/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Tables of 64-bit entries that lie contiguously on disk and whole in memory:
 * the active L1 table and the refcount table.
 *
 * Changes happen in memory and are remembered for each 512-byte sector. Until
 * qcow2_table_write() has written a sector it stays marked, so a failed write
 * is simply tried again at the next flush.
 */
#include "util/osdep.h"
#include "util/bswap.h"
#include "util/memalign.h"
#include "block/qcow2/salvage.h"

#define ENTRIES_PER_SECTOR ((uint32_t)(BDRV_SECTOR_SIZE / sizeof(uint64_t)))
#define BITS_PER_WORD (8 * (uint32_t)sizeof(unsigned long))
/* Largest single write of consecutive sectors. */
#define MAX_WRITE_SECTORS 2048

static uint32_t table_sectors(const Qcow2Table *t)
{
    return DIV_ROUND_UP(t->size, ENTRIES_PER_SECTOR);
}

static bool sector_is_dirty(const Qcow2Table *t, uint32_t sector)
{
    return t->dirty[sector / BITS_PER_WORD] >> (sector % BITS_PER_WORD) & 1;
}

static void sector_set_dirty(Qcow2Table *t, uint32_t sector, bool dirty)
{
    unsigned long bit = 1UL << (sector % BITS_PER_WORD);

    if (dirty) {
        t->dirty[sector / BITS_PER_WORD] |= bit;
    } else {
        t->dirty[sector / BITS_PER_WORD] &= ~bit;
    }
}

int qcow2_table_init(Qcow2Table *t, uint32_t size, uint64_t offset)
{
    uint32_t sectors;

    *t = (Qcow2Table) { .size = size, .offset = offset };
    sectors = MAX(1, table_sectors(t));
    t->entries = g_try_new0(uint64_t, (size_t)sectors * ENTRIES_PER_SECTOR);
    t->dirty = g_try_new0(unsigned long,
                          DIV_ROUND_UP(sectors, BITS_PER_WORD));
    if (!t->entries || !t->dirty) {
        qcow2_table_free(t);
        return -ENOMEM;
    }
    return 0;
}

int coroutine_fn qcow2_table_read(BlockDriverState *bs, Qcow2Table *t)
{
    BDRVQcow2State *s = bs->opaque;
    size_t bytes = t->size * sizeof(uint64_t);
    int ret = 0;

    if (!t->size) {
        return 0;
    }
    if (s->salvage) {
        qcow2_salvage_read(bs, t->offset, bytes, t->entries);
    } else {
        ret = bdrv_co_pread(bs->file, t->offset, bytes, t->entries, 0);
    }
    if (ret < 0) {
        return ret;
    }
    for (uint32_t i = 0; i < t->size; i++) {
        t->entries[i] = be64_to_cpu(t->entries[i]);
    }
    return 0;
}

void qcow2_table_set(Qcow2Table *t, uint32_t index, uint64_t value)
{
    assert(index < t->size);
    if (t->entries[index] == value) {
        return;
    }
    t->entries[index] = value;
    sector_set_dirty(t, index / ENTRIES_PER_SECTOR, true);
    t->any_dirty = true;
}

bool qcow2_table_sector_is_dirty(const Qcow2Table *t, uint32_t sector)
{
    return sector_is_dirty(t, sector);
}

void qcow2_table_mark_clean(Qcow2Table *t)
{
    uint32_t words = DIV_ROUND_UP(MAX(1, table_sectors(t)), BITS_PER_WORD);

    memset(t->dirty, 0, words * sizeof(*t->dirty));
    t->any_dirty = false;
}

void qcow2_table_mark_all(Qcow2Table *t)
{
    for (uint32_t i = 0; i < table_sectors(t); i++) {
        sector_set_dirty(t, i, true);
    }
    t->any_dirty = t->size > 0;
}

/* Writes @n sectors from @first, but nothing beyond the end of the table. */
static int coroutine_fn write_sectors(BlockDriverState *bs, Qcow2Table *t,
                                      int ol, uint32_t first, uint32_t n)
{
    uint64_t offset = t->offset + (uint64_t)first * BDRV_SECTOR_SIZE;
    size_t done = (size_t)first * BDRV_SECTOR_SIZE;
    size_t bytes = MIN((size_t)n * BDRV_SECTOR_SIZE,
                       t->size * sizeof(uint64_t) - done);
    const uint64_t *src = t->entries + (size_t)first * ENTRIES_PER_SECTOR;
    QEMU_AUTO_VFREE uint64_t *buf = NULL;
    int ret;

    ret = qcow2_pre_write_overlap_check(bs, ol, offset, bytes);
    if (ret < 0) {
        return ret;
    }
    buf = qemu_try_blockalign(bs->file->bs, bytes);
    if (!buf) {
        return -ENOMEM;
    }
    for (size_t i = 0; i < bytes / sizeof(uint64_t); i++) {
        buf[i] = cpu_to_be64(src[i]);
    }
    ret = bdrv_co_pwrite(bs->file, offset, bytes, buf, 0);
    if (ret < 0) {
        return ret;
    }
    for (uint32_t i = first; i < first + n; i++) {
        sector_set_dirty(t, i, false);
    }
    return 0;
}

int coroutine_fn qcow2_table_write(BlockDriverState *bs, Qcow2Table *t, int ol)
{
    uint32_t sectors = table_sectors(t);
    uint32_t i = 0;

    if (!t->any_dirty) {
        return 0;
    }
    while (i < sectors) {
        uint32_t n = 0;
        int ret;

        while (i + n < sectors && n < MAX_WRITE_SECTORS &&
               sector_is_dirty(t, i + n)) {
            n++;
        }
        if (!n) {
            i++;
            continue;
        }
        ret = write_sectors(bs, t, ol, i, n);
        if (ret < 0) {
            return ret;
        }
        i += n;
    }
    t->any_dirty = false;
    return 0;
}

void qcow2_table_free(Qcow2Table *t)
{
    g_free(t->entries);
    g_free(t->dirty);
    *t = (Qcow2Table) { 0 };
}
