/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Fields of stored bitmaps that may be damaged, and what they may have been:
 * entries of their tables, and the directory.
 *
 * A field is suspect if it cannot be right, or names a cluster that has fewer
 * references stored than were found. It may have been each value that differs
 * in one bit, and what is leaked; the size of a table follows from the disk.
 */
#include "util/osdep.h"
#include "util/bswap.h"
#include "block/qcow2/bitmap.h"
#include "block/qcow2/check.h"

/* Entries of one table that are looked at. */
#define MAX_ENTRIES 65536
/* The same of all tables. */
#define MAX_ALL_ENTRIES (1024 * 1024)
/* Directory entries whose fields are tried; each try reads the directory. */
#define MAX_SUSPECTS 4
#define MAX_ENTRY_BYTES 256
#define MAX_DIRECTORY (64 * 1024)
/* Leaked clusters that a table may be in. */
#define MAX_LEAKED 64

/* --- leaked clusters -------------------------------------------------------- */

/* Their offsets (uint64_t); none if there are many. */
static GArray *leaked_offsets(Qcow2Check *c)
{
    GArray *list = qcow2_check_leaked(c, MAX_LEAKED + 1);
    guint i;

    if (list->len > MAX_LEAKED) {
        g_array_set_size(list, 0);
    }
    for (i = 0; i < list->len; i++) {
        g_array_index(list, uint64_t, i) <<= c->s->cluster_bits;
    }
    return list;
}

/* Fewer references stored than found in one of the clusters, or not there. */
static bool is_suspect(Qcow2Check *c, uint64_t offset, uint64_t bytes)
{
    uint64_t cluster = offset >> c->s->cluster_bits;
    uint64_t end;

    if (!bytes) {
        return false;
    }
    if (offset_into_cluster(c->s, offset) || offset >= c->file_size ||
        bytes > c->file_size) {
        return true;
    }
    end = (offset + bytes - 1) >> c->s->cluster_bits;
    for (; cluster <= end; cluster++) {
        if (qcow2_check_is_short(c, cluster)) {
            return true;
        }
    }
    return false;
}

/* --- tables ----------------------------------------------------------------- */

static bool entry_is_possible(Qcow2Check *c, const GArray *leaked,
                              uint64_t old, uint64_t entry)
{
    uint64_t offset = entry & QCOW2_BME_TABLE_ENTRY_OFFSET_MASK;
    guint i;

    if (entry == old || !qcow2_bitmap_table_entry_is_right(c->s, entry)) {
        return false;
    }
    if (!offset || offset == (old & QCOW2_BME_TABLE_ENTRY_OFFSET_MASK)) {
        return true;
    }
    for (i = 0; i < leaked->len; i++) {
        if (g_array_index(leaked, uint64_t, i) == offset) {
            return true;
        }
    }
    return false;
}

static void add_entry(Qcow2Check *c, const GArray *leaked, uint64_t place,
                      uint64_t old, uint64_t entry, bool doubtful,
                      GArray *changes)
{
    Qcow2CheckChange change = {
        .offset = place, .bytes = sizeof(entry), .old = old, .new = entry,
        .refs = 1, .doubtful = doubtful, .what = "bitmap table entry",
    };

    if (entry_is_possible(c, leaked, old, entry)) {
        qcow2_check_add_change(changes, &change);
    }
}

static void add_entries(Qcow2Check *c, const GArray *leaked, uint64_t place,
                        uint64_t old, GArray *changes)
{
    /* With its cluster to itself it may be right, and the refcount wrong. */
    bool alone = qcow2_bitmap_table_entry_is_right(c->s, old) &&
                 !qcow2_check_has_rival(
                     c, old & QCOW2_BME_TABLE_ENTRY_OFFSET_MASK, 1);
    guint i;

    for (i = 0; i < 64; i++) {
        add_entry(c, leaked, place, old, old ^ 1ULL << i, alone, changes);
    }
    if (alone) {
        return;
    }
    for (i = 0; i < leaked->len; i++) {
        add_entry(c, leaked, place, old, g_array_index(leaked, uint64_t, i),
                  false, changes);
    }
    if (!qcow2_bitmap_table_entry_is_right(c->s, old)) {
        add_entry(c, leaked, place, old, 0, false, changes);
        add_entry(c, leaked, place, old, QCOW2_BME_TABLE_ENTRY_ALL_ONES, false,
                  changes);
    }
}

static void coroutine_fn look_at_table(Qcow2Check *c, const Qcow2Bitmap *b,
                                       const GArray *leaked, GArray *changes)
{
    uint32_t n = MIN(b->table_size, MAX_ENTRIES);
    g_autofree uint64_t *table = g_try_new(uint64_t, n);
    uint32_t i;

    if (!table || qcow2_check_pread(c, b->table_offset, n * sizeof(*table),
                                    table) < 0) {
        return;
    }
    for (i = 0; i < n && changes->len <= QCOW2_CHECK_MAX_TRIALS; i++) {
        uint64_t entry = be64_to_cpu(table[i]);
        uint64_t offset = entry & QCOW2_BME_TABLE_ENTRY_OFFSET_MASK;

        if (!qcow2_bitmap_table_entry_is_right(c->s, entry) ||
            is_suspect(c, offset, offset ? c->s->cluster_size : 0)) {
            add_entries(c, leaked, b->table_offset + i * sizeof(entry), entry,
                        changes);
        }
    }
}

/* --- the directory ----------------------------------------------------------- */

/* With the change every bitmap makes sense. */
static bool coroutine_fn directory_makes_sense(Qcow2Check *c,
                                               const Qcow2CheckChange *change)
{
    BDRVQcow2State *s = c->s;
    GPtrArray *old = s->bitmaps;
    const char *fault = s->bitmaps_fault;
    Qcow2Patch patch;
    bool ok;
    guint i;

    qcow2_check_patch_init(&patch, change);
    s->patch = &patch;
    s->bitmaps_fault = NULL;
    ok = qcow2_bitmaps_read_directory(c->bs) == 0 && !s->bitmaps_fault;
    for (i = 0; ok && i < s->bitmaps->len; i++) {
        const Qcow2Bitmap *b = s->bitmaps->pdata[i];

        ok = !b->fault && b->framed &&
             qcow2_check_in_file(c, b->table_offset);
    }
    s->patch = NULL;
    s->bitmaps_fault = fault;
    g_ptr_array_unref(s->bitmaps);
    s->bitmaps = old;
    return ok;
}

static void coroutine_fn add_field(Qcow2Check *c, uint64_t place,
                                   uint32_t bytes, uint64_t old, uint64_t new,
                                   bool doubtful, GArray *changes)
{
    Qcow2CheckChange change = {
        .offset = place, .bytes = bytes, .old = old, .new = new, .refs = 1,
        .doubtful = doubtful, .what = "bitmap directory entry",
    };

    if (new != old && directory_makes_sense(c, &change)) {
        qcow2_check_add_change(changes, &change);
    }
}

/* Those of @doubtful prove nothing. */
static void coroutine_fn add_bits(Qcow2Check *c, uint64_t place,
                                  uint64_t old, uint64_t doubtful,
                                  GArray *changes)
{
    unsigned i;

    for (i = 0; i < 64; i++) {
        uint64_t bit = 1ULL << i;

        add_field(c, place, 8, old, old ^ bit, doubtful & bit, changes);
    }
}

static void coroutine_fn look_at_entry(Qcow2Check *c, const Qcow2Bitmap *b,
                                       const GArray *leaked, GArray *changes)
{
    uint64_t place = c->s->bitmap_directory_offset + b->pos;
    /* Where sizes add up, a longer name may be what the padding makes of it. */
    uint64_t name_size = b->framed ? (uint64_t)UINT16_MAX << 32 : 0;
    uint64_t offset, size;
    guint i;

    if (b->raw_size < sizeof(Qcow2BitmapDirEntry) ||
        b->raw_size > MAX_ENTRY_BYTES) {
        return;
    }
    /*
     * One bit anywhere: a size that does not go with the name may be right, and
     * the name or its padding wrong.
     */
    for (i = 0; i + 8 <= b->raw_size; i += 8) {
        add_bits(c, place + i, ldq_be_p(b->raw + i), i == 16 ? name_size : 0,
                 changes);
    }
    offset = ldq_be_p(b->raw);
    for (i = 0; i < leaked->len; i++) {
        add_field(c, place, 8, offset, g_array_index(leaked, uint64_t, i),
                  false, changes);
    }
    if (b->framed && b->granularity_bits >= QCOW2_BME_MIN_GRANULARITY_BITS &&
        b->granularity_bits <= QCOW2_BME_MAX_GRANULARITY_BITS) {
        size = qcow2_bitmap_table_entries(c->s, c->s->disk_size,
                                          b->granularity_bits);
        add_field(c, place + 8, 4, ldl_be_p(b->raw + 8), size, false, changes);
    }
}

void coroutine_fn qcow2_check_find_bitmap_fields(Qcow2Check *c,
                                                 GArray *changes)
{
    BDRVQcow2State *s = c->s;
    g_autoptr(GArray) leaked = NULL;
    unsigned suspects = 0;
    uint64_t nb_entries = 0;
    guint i;

    if (!qcow2_bitmaps_are_valid(s) || s->bitmaps_fault ||
        s->bitmap_directory_size > MAX_DIRECTORY) {
        return;
    }
    leaked = leaked_offsets(c);
    for (i = 0; i < s->bitmaps->len &&
                changes->len <= QCOW2_CHECK_MAX_TRIALS; i++) {
        const Qcow2Bitmap *b = s->bitmaps->pdata[i];
        uint64_t bytes = (uint64_t)b->table_size * sizeof(uint64_t);
        guint before = changes->len;

        if (b->framed && !b->fault &&
            qcow2_check_in_file(c, b->table_offset) &&
            (nb_entries += MIN(b->table_size, MAX_ENTRIES)) <=
            MAX_ALL_ENTRIES) {
            look_at_table(c, b, leaked, changes);
        }
        /* If something is wrong with its table it may be elsewhere. */
        if ((!b->framed || b->fault || changes->len > before ||
             is_suspect(c, b->table_offset, bytes)) &&
            ++suspects <= MAX_SUSPECTS) {
            look_at_entry(c, b, leaked, changes);
        }
    }
}
