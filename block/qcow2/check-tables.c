/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The check's walk over L1 and L2 tables.
 *
 * L1 tables are turned into a list of the L2 tables they name, with how often
 * each is named. The list is then read in offset order, each table once, and
 * what it refers to is counted as often as it is named.
 *
 * Contiguity (the fragmentation figure) is judged inside one L2 table only:
 * between tables lies metadata anyway.
 */
#include "util/osdep.h"
#include "block/qcow2/check.h"

/* Sorting the list and merging equal elements when it grew by this factor
 * keeps it in proportion to the number of different tables. */
#define MIN_TABLES_TO_COMPACT 4096

int qcow2_check_compare_l2(const void *a, const void *b)
{
    const Qcow2CheckL2 *x = a;
    const Qcow2CheckL2 *y = b;

    return x->read.offset < y->read.offset ? -1
           : x->read.offset > y->read.offset;
}

uint64_t qcow2_check_guest_of(const Qcow2Check *c, const Qcow2CheckL2 *table,
                              int index)
{
    return table->one_index
           ? (((uint64_t)table->index << c->s->l2_bits) + index)
             << c->s->cluster_bits
           : UINT64_MAX;
}

bool qcow2_check_l2_share(const Qcow2Check *c, const uint64_t *a,
                          const uint64_t *b)
{
    int i;

    for (i = 0; i < c->s->l2_size; i++) {
        uint64_t x = get_l2_entry(c->s, a, i) & ~QCOW_OFLAG_COPIED;

        if (x & L2E_OFFSET_MASK &&
            x == (get_l2_entry(c->s, b, i) & ~QCOW_OFLAG_COPIED)) {
            return true;
        }
    }
    return false;
}

static uint32_t add_saturated(Qcow2Check *c, uint32_t a, uint32_t b)
{
    if (a > UINT32_MAX - b) {
        /* far beyond any refcount; from here on nothing is proven */
        c->bad_references++;
        return UINT32_MAX;
    }
    return a + b;
}

/* Sorts by offset and makes one element of equal ones. */
static void compact_l2(Qcow2Check *c)
{
    GArray *list = c->l2_tables;
    guint in, out = 0;

    g_array_sort(list, qcow2_check_compare_l2);
    for (in = 0; in < list->len; in++) {
        Qcow2CheckL2 *from = &g_array_index(list, Qcow2CheckL2, in);
        Qcow2CheckL2 *to;

        if (out > 0) {
            to = &g_array_index(list, Qcow2CheckL2, out - 1);
            if (to->read.offset == from->read.offset) {
                to->refs = add_saturated(c, to->refs, from->refs);
                to->active = add_saturated(c, to->active, from->active);
                to->one_index = to->one_index && from->one_index &&
                                to->index == from->index;
                continue;
            }
        }
        g_array_index(list, Qcow2CheckL2, out) = *from;
        out++;
    }
    g_array_set_size(list, out);
    c->l2_sorted = out;
}

static void note_l2(Qcow2Check *c, uint64_t offset, size_t index, bool active)
{
    Qcow2CheckL2 table = {
        .read = { .offset = offset, .bytes = c->s->cluster_size },
        .refs = 1, .active = active, .index = index, .one_index = true,
    };

    g_array_append_val(c->l2_tables, table);
    if (c->l2_tables->len >= MIN_TABLES_TO_COMPACT &&
        c->l2_tables->len / 2 >= c->l2_sorted) {
        compact_l2(c);
    }
}

/* Asked for entries that were reported already: not many. */
bool coroutine_fn qcow2_check_refcount_beyond(Qcow2Check *c, uint64_t cluster,
                                              uint64_t *refcount)
{
    BDRVQcow2State *s = c->s;
    uint64_t block = cluster >> s->refcount_block_bits;
    uint64_t index = cluster & (s->refcount_block_size - 1);
    unsigned per_word = 64 / s->refcount_bits;
    uint64_t offset, word;

    *refcount = 0;
    if (block >= s->reftable.size) {
        return true;
    }
    offset = s->reftable.entries[block] & REFT_OFFSET_MASK;
    if (!offset) {
        return true;
    }
    if (offset_into_cluster(s, offset) ||
        qcow2_check_pread(c, offset + index / per_word * sizeof(word),
                          sizeof(word), &word) < 0) {
        return false;
    }
    *refcount = qcow2_refcount_block_get(s, &word, index % per_word);
    return true;
}

/* The refcount if it is stored and readable. */
static bool coroutine_fn stored_refcount(Qcow2Check *c, uint64_t offset,
                                         Qcow2CheckCounts *refcounts,
                                         uint64_t *refcount)
{
    uint64_t cluster = offset >> c->s->cluster_bits;
    uint64_t block = cluster >> c->s->refcount_block_bits;

    if (refcounts == c->disk) {
        if (cluster >= c->nb_clusters) {
            return qcow2_check_refcount_beyond(c, cluster, refcount);
        }
        if (block < c->nb_blocks &&
            c->block_state[block] == QCOW2_CHECK_BLOCK_BAD) {
            return false;
        }
    }
    *refcount = qcow2_check_counts_get(refcounts, cluster);
    return true;
}

/* True if the COPIED flag of @entry, which names @offset, is wrong. */
static bool coroutine_fn copied_is_wrong(Qcow2Check *c, uint64_t entry,
                                         uint64_t offset,
                                         Qcow2CheckCounts *refcounts,
                                         uint64_t *refcount)
{
    return stored_refcount(c, offset, refcounts, refcount) &&
           (*refcount == 1) != !!(entry & QCOW_OFLAG_COPIED);
}

static const char l1_copied_fmt[] =
    "%s OFLAG_COPIED L2 cluster: l1_index=%zu l1_entry=%" PRIx64
    " refcount=%" PRIu64;
static const char l2_copied_fmt[] =
    "%s OFLAG_COPIED data cluster: l2_entry=%" PRIx64 " refcount=%" PRIu64;

static void coroutine_fn l1_entry(Qcow2Check *c, uint64_t entry, size_t i,
                                  bool active)
{
    uint64_t offset = entry & L1E_OFFSET_MASK;
    uint64_t refcount;

    if (entry & L1E_RESERVED_MASK) {
        qcow2_check_bad_reference(
            c, 1, "ERROR found L1 entry with reserved bits set: %" PRIx64,
            entry);
    }
    if (!offset) {
        if (entry & QCOW_OFLAG_COPIED) {
            qcow2_check_bad_reference(
                c, 1, "ERROR L1 entry with COPIED flag but without L2 table: %"
                PRIx64, entry);
        }
        return;
    }
    qcow2_check_count(c, offset, c->s->cluster_size, 1);
    if (offset_into_cluster(c->s, offset)) {
        qcow2_check_bad_reference(
            c, 1, "ERROR l2_offset=%" PRIx64 ": Table is not cluster "
            "aligned; L1 entry corrupted", offset);
    }
    if (qcow2_check_in_file(c, offset)) {
        note_l2(c, offset, i, active);
    }
    if (active && !c->fix &&
        copied_is_wrong(c, entry, offset, c->disk, &refcount)) {
        qcow2_check_corruption(c, 1, l1_copied_fmt, "ERROR", i, entry,
                               refcount);
    }
}

void coroutine_fn qcow2_check_l1_entries(Qcow2Check *c,
                                         const uint64_t *entries, size_t first,
                                         size_t n, bool active)
{
    size_t i;

    for (i = 0; i < n; i++) {
        int64_t faults = c->bad_references;

        if (!active && qcow2_check_l1_entry_is_void(c, entries[i])) {
            qcow2_check_counts_add(c->snapshot_voids, first + i, 1,
                                   UINT64_MAX);
        }
        if (!entries[i]) {
            continue;
        }
        if (qcow2_check_is_decided(c)) {
            break;
        }
        l1_entry(c, entries[i], first + i, active);
        if (active && qcow2_check_l1_entry_is_void(c, entries[i])) {
            c->void_faults += c->bad_references - faults;
        }
    }
}

/* --- L2 --------------------------------------------------------------- */

static void note_fixup(Qcow2Check *c, const Qcow2CheckL2 *table,
                       uint32_t index, Qcow2CheckFix fix)
{
    Qcow2CheckFixup f = {
        .l2_offset = table->read.offset, .index = index, .refs = table->refs,
        .fix = fix,
    };

    if (c->fix & BDRV_FIX_ERRORS &&
        c->fixups->len < QCOW2_CHECK_MAX_FIXUPS) {
        g_array_append_val(c->fixups, f);
    }
}

/*
 * The COPIED flag of an entry with data at @offset. A data file has no
 * refcounts: what is in it has one owner.
 */
static bool coroutine_fn data_copied_is_wrong(Qcow2Check *c, uint64_t entry,
                                              uint64_t offset,
                                              Qcow2CheckCounts *refcounts,
                                              uint64_t *refcount)
{
    if (c->s->has_data_file) {
        *refcount = 1;
        return !(entry & QCOW_OFLAG_COPIED);
    }
    return copied_is_wrong(c, entry, offset, refcounts, refcount);
}

/* Whether the data of the entry are where a data file has them. */
static void check_data_file_entry(Qcow2Check *c, const Qcow2CheckL2 *table,
                                  uint32_t index, uint64_t offset)
{
    uint64_t guest = (((uint64_t)table->index << c->s->l2_bits) + index)
                     << c->s->cluster_bits;

    if (!table->active || offset_into_cluster(c->s, offset)) {
        return;
    }
    if (offset != guest) {
        qcow2_check_corruption(c, table->active, "ERROR offset=%" PRIx64
                               ": Data cluster is not at guest offset %"
                               PRIx64 " of the data file", offset, guest);
    } else if (offset >= c->data_size) {
        qcow2_check_corruption(c, table->active, "ERROR offset=%" PRIx64
                               ": Data cluster is beyond the end of the data "
                               "file", offset);
    }
}

static void compressed_entry(Qcow2Check *c, const Qcow2CheckL2 *table,
                             uint32_t index, uint64_t entry, uint64_t bitmap)
{
    /* Both are signs of a cluster that is not compressed: nothing is changed. */
    bool doubtful = entry & QCOW_OFLAG_COPIED && bitmap;
    uint64_t offset;
    int size;

    if (c->s->has_data_file) {
        qcow2_check_bad_reference(
            c, table->refs, "ERROR compressed cluster %" PRIu32 " with data "
            "file, entry=0x%" PRIx64, index, entry);
        return;
    }
    qcow2_parse_compressed_l2_entry(c->s, entry, &offset, &size);
    if (entry & QCOW_OFLAG_COPIED) {
        qcow2_check_bad_reference(
            c, table->refs, "ERROR: coffset=0x%" PRIx64 ": copied flag must "
            "never be set for compressed clusters", offset);
        if (!doubtful) {
            note_fixup(c, table, index, QCOW2_CHECK_FIX_COPIED);
        }
    }
    if (bitmap) {
        qcow2_check_bad_reference(
            c, table->refs, "ERROR compressed cluster %" PRIu32 " with "
            "non-zero subcluster allocation bitmap, entry=0x%" PRIx64, index,
            entry);
        if (!doubtful) {
            note_fixup(c, table, index, QCOW2_CHECK_FIX_BITMAP);
        }
    }
    c->res->bfi.allocated_clusters += table->active;
    c->res->bfi.compressed_clusters += table->active;
    /* Compressed clusters share host clusters: each counts as a fragment. */
    c->res->bfi.fragmented_clusters += table->active;
    qcow2_check_count(c, offset, size, table->refs);
}

static void coroutine_fn uncompressed_entry(Qcow2Check *c,
                                            const Qcow2CheckL2 *table,
                                            uint32_t index, uint64_t entry,
                                            bool has_data,
                                            uint64_t *next_contiguous)
{
    uint64_t offset = entry & L2E_OFFSET_MASK;
    uint64_t refcount;

    if (offset_into_cluster(c->s, offset)) {
        if (!has_data) {
            qcow2_check_bad_reference(
                c, table->refs, "ERROR offset=%" PRIx64 ": Preallocated "
                "cluster is not properly aligned; L2 entry corrupted.",
                offset);
            note_fixup(c, table, index, QCOW2_CHECK_FIX_OFFSET);
        } else {
            qcow2_check_bad_reference(
                c, table->refs, "ERROR offset=%" PRIx64 ": Data cluster is "
                "not properly aligned; L2 entry corrupted.", offset);
        }
    }
    c->res->bfi.allocated_clusters += table->active;
    if (*next_contiguous && offset != *next_contiguous) {
        c->res->bfi.fragmented_clusters += table->active;
    }
    *next_contiguous = offset + c->s->cluster_size;

    if (c->s->has_data_file) {
        check_data_file_entry(c, table, index, offset);
    } else {
        qcow2_check_count(c, offset, c->s->cluster_size, table->refs);
    }
    if (table->active && !c->fix &&
        data_copied_is_wrong(c, entry, offset, c->disk, &refcount)) {
        qcow2_check_corruption(c, table->active, l2_copied_fmt, "ERROR",
                               entry, refcount);
    }
}

/*
 * Entries from @i on that are plain data clusters behind each other, all of
 * them marked COPIED and in the file: how many, at least one for @entry; 0 if
 * it is no such entry itself.
 */
static int plain_run(Qcow2Check *c, const uint64_t *l2, int i, uint64_t entry)
{
    uint64_t step = c->s->cluster_size;
    uint64_t host = entry & L2E_OFFSET_MASK;
    int max = c->s->l2_size - i;
    int n = 1;

    if (entry != (host | QCOW_OFLAG_COPIED) || !host || c->s->has_data_file ||
        offset_into_cluster(c->s, host) || host + step > c->file_size ||
        !qcow2_bitmap_is_valid(c->s, entry, get_l2_bitmap(c->s, l2, i))) {
        return 0;
    }
    max = MIN((uint64_t)max, (c->file_size - host) / step);
    while (n < max && get_l2_entry(c->s, l2, i + n) == entry + n * step &&
           qcow2_bitmap_is_valid(c->s, entry,
                                 get_l2_bitmap(c->s, l2, i + n))) {
        n++;
    }
    return n;
}

/*
 * Counts those of the @n plain entries in front that nobody has counted yet
 * and that, if this matters, are stored with refcount 1, as COPIED says.
 * Returns how many.
 */
static int count_plain(Qcow2Check *c, const Qcow2CheckL2 *table,
                       uint64_t entry, int n, uint64_t *next_contiguous)
{
    uint64_t host = entry & L2E_OFFSET_MASK;
    uint64_t cluster = host >> c->s->cluster_bits;

    if (table->refs != 1) {
        return 0;
    }
    n = qcow2_check_counts_run(c->refs, cluster, n, 0);
    if (table->active && !c->fix) {
        n = qcow2_check_counts_run(c->disk, cluster, n, 1);
    }
    if (n == 0) {
        return 0;
    }
    qcow2_check_counts_fill(c->refs, cluster, n);
    if (table->active) {
        c->res->bfi.allocated_clusters += n;
        c->res->bfi.fragmented_clusters +=
            *next_contiguous && host != *next_contiguous;
    }
    *next_contiguous = host + (uint64_t)n * c->s->cluster_size;
    return n;
}

/* Bits that say what no cluster can be; of compressed ones see there. */
static void check_bitmap(Qcow2Check *c, const Qcow2CheckL2 *table,
                         uint64_t entry, uint64_t bitmap)
{
    if (qcow2_bitmap_is_valid(c->s, entry, bitmap)) {
        return;
    }
    if (qcow2_has_host(c->s, entry)) {
        /* All that it refers to is known. */
        c->contradictions++;
        qcow2_check_corruption(
            c, table->refs, "ERROR offset=%" PRIx64 ": Allocated cluster has "
            "corrupted subcluster allocation bitmap",
            (uint64_t)(entry & L2E_OFFSET_MASK));
    } else {
        qcow2_check_bad_reference(
            c, table->refs, "ERROR: Unallocated cluster has non-zero "
            "subcluster allocation map");
    }
}

static void coroutine_fn one_entry(Qcow2Check *c, const Qcow2CheckL2 *table,
                                   uint32_t index, uint64_t entry,
                                   uint64_t bitmap, uint64_t *next_contiguous)
{
    QCow2ClusterType type = qcow2_get_cluster_type(c->s, entry);
    unsigned first, end;

    if (type != QCOW2_CLUSTER_COMPRESSED && entry & L2E_STD_RESERVED_MASK) {
        qcow2_check_bad_reference(
            c, table->refs, "ERROR found l2 entry with reserved bits "
            "set: %" PRIx64, entry);
    }
    switch (type) {
    case QCOW2_CLUSTER_COMPRESSED:
        compressed_entry(c, table, index, entry, bitmap);
        break;
    case QCOW2_CLUSTER_ZERO_ALLOC:
    case QCOW2_CLUSTER_NORMAL:
        check_bitmap(c, table, entry, bitmap);
        uncompressed_entry(c, table, index, entry,
                           qcow2_data_span(c->s, entry, bitmap, &first, &end),
                           next_contiguous);
        break;
    default:
        check_bitmap(c, table, entry, bitmap);
        break;
    }
}

static void coroutine_fn walk_table(Qcow2Check *c, void *element, void *buf,
                                    int ret)
{
    Qcow2CheckL2 *table = element;
    const uint64_t *l2 = buf;
    int64_t bad_references = c->bad_references;
    uint64_t next_contiguous = 0;
    int i = 0;

    if (qcow2_check_is_decided(c)) {
        return;
    }
    if (ret < 0) {
        qcow2_check_io_error(c, ret, "Could not read L2 table at offset 0x%"
                             PRIx64, table->read.offset);
        return;
    }
    table->empty = true;
    while (i < c->s->l2_size) {
        uint64_t entry = get_l2_entry(c->s, l2, i);
        int end = i + 1;

        if (!qcow2_l2_entry_is_empty(c->s, l2, i)) {
            int run = plain_run(c, l2, i, entry);

            table->empty = false;
            end = i + MAX(run, 1);
            i += count_plain(c, table, entry, run, &next_contiguous);
        }
        /* What is left of the run, so that nothing is looked at for long. */
        for (; i < end; i++) {
            if (!qcow2_l2_entry_is_empty(c->s, l2, i)) {
                one_entry(c, table, i, get_l2_entry(c->s, l2, i),
                          get_l2_bitmap(c->s, l2, i), &next_contiguous);
            }
        }
    }
    table->bad = c->bad_references != bad_references;
}

void coroutine_fn qcow2_check_walk_l2(Qcow2Check *c)
{
    compact_l2(c);
    qcow2_check_read_many(c, c->l2_tables->data, c->l2_tables->len,
                          sizeof(Qcow2CheckL2), walk_table);
}

/* --- COPIED flags, after refcounts were repaired ---------------------- */

typedef struct CopiedRun {
    Qcow2CheckL2 table;     /* first: it is what the reader hands on */
    Qcow2CheckCounts *refcounts;
    int *ret;               /* first write error */
} CopiedRun;

bool qcow2_check_l2_is_proven(Qcow2Check *c, uint64_t offset, uint64_t refs)
{
    return !offset_into_cluster(c->s, offset) &&
           qcow2_check_found(c, offset >> c->s->cluster_bits) == refs;
}

/* Setting COPIED allows writing in place: only with everything known. */
static bool may_change_copied(Qcow2Check *c, uint64_t entry)
{
    return c->fix & BDRV_FIX_ERRORS &&
           (entry & QCOW_OFLAG_COPIED || qcow2_check_is_proven(c));
}

/* Writes the sectors of @buf that are marked. */
static int coroutine_fn write_sectors(Qcow2Check *c, uint64_t offset,
                                      const void *buf, const bool *changed,
                                      size_t nb_sectors)
{
    size_t first, end;
    int ret;

    for (first = 0; first < nb_sectors; first = end + 1) {
        end = first;
        while (end < nb_sectors && changed[end]) {
            end++;
        }
        if (end > first) {
            ret = bdrv_co_pwrite(c->bs->file,
                                 offset + first * BDRV_SECTOR_SIZE,
                                 (end - first) * BDRV_SECTOR_SIZE,
                                 (const char *)buf + first * BDRV_SECTOR_SIZE,
                                 0);
            if (ret < 0) {
                return ret;
            }
        }
    }
    return 0;
}

static void coroutine_fn copied_table(Qcow2Check *c, void *element, void *buf,
                                      int read_ret)
{
    CopiedRun *run = element;
    Qcow2CheckL2 *table = &run->table;
    bool proven = qcow2_check_l2_is_proven(c, table->read.offset,
                                           table->refs);
    size_t nb_sectors = c->s->cluster_size / BDRV_SECTOR_SIZE;
    g_autofree bool *changed = g_new0(bool, nb_sectors);
    int64_t nb_changed = 0;
    uint64_t *l2 = buf;
    int i, ret;

    if (read_ret < 0 || *run->ret < 0) {
        return;     /* reported by the walk */
    }
    for (i = 0; i < c->s->l2_size; i++) {
        uint64_t entry = get_l2_entry(c->s, l2, i);
        uint64_t refcount;

        if (!qcow2_has_host(c->s, entry) ||
            !data_copied_is_wrong(c, entry, entry & L2E_OFFSET_MASK,
                                  run->refcounts, &refcount)) {
            continue;
        }
        if (!proven || !may_change_copied(c, entry)) {
            qcow2_check_corruption(c, table->active, l2_copied_fmt, "ERROR",
                                   entry, refcount);
            continue;
        }
        qcow2_check_say(c, l2_copied_fmt, "Repairing", entry, refcount);
        set_l2_entry(c->s, l2, i, entry ^ QCOW_OFLAG_COPIED);
        changed[i * qcow2_l2_entry_size(c->s) / BDRV_SECTOR_SIZE] = true;
        nb_changed++;
    }
    if (nb_changed) {
        ret = write_sectors(c, table->read.offset, buf, changed, nb_sectors);
        if (ret < 0) {
            qcow2_check_io_error(c, ret, "Could not write L2 table at offset "
                                 "0x%" PRIx64, table->read.offset);
            c->res->corruptions += nb_changed;
            *run->ret = ret;
        } else {
            c->res->corruptions_fixed += nb_changed;
        }
    }
}

static int coroutine_fn copied_l1(Qcow2Check *c, Qcow2CheckCounts *refcounts)
{
    BDRVQcow2State *s = c->s;
    bool proven = qcow2_check_l1_is_proven(c);
    int64_t nb_changed = 0;
    uint64_t refcount;
    size_t i;
    int ret;

    for (i = 0; i < s->l1.size; i++) {
        uint64_t entry = s->l1.entries[i];
        uint64_t offset = entry & L1E_OFFSET_MASK;

        if (!offset ||
            !copied_is_wrong(c, entry, offset, refcounts, &refcount)) {
            continue;
        }
        if (!proven || !may_change_copied(c, entry)) {
            qcow2_check_corruption(c, 1, l1_copied_fmt, "ERROR", i, entry,
                                   refcount);
            continue;
        }
        qcow2_check_say(c, l1_copied_fmt, "Repairing", i, entry, refcount);
        entry ^= QCOW_OFLAG_COPIED;
        qcow2_l1_update(c->bs, i, 1, &entry);
        nb_changed++;
    }
    if (nb_changed) {
        ret = qcow2_l1_write(c->bs);
        if (ret < 0) {
            qcow2_check_io_error(c, ret, "Could not write L1 table");
            c->res->corruptions += nb_changed;
            return ret;
        }
        c->res->corruptions_fixed += nb_changed;
    }
    return 0;
}

int coroutine_fn qcow2_check_copied(Qcow2Check *c,
                                    Qcow2CheckCounts *refcounts)
{
    g_autoptr(GArray) runs = g_array_new(FALSE, FALSE, sizeof(CopiedRun));
    int ret = 0;
    guint i;

    for (i = 0; i < c->l2_tables->len; i++) {
        CopiedRun run = {
            .table = g_array_index(c->l2_tables, Qcow2CheckL2, i),
            .refcounts = refcounts, .ret = &ret,
        };

        if (run.table.active) {
            g_array_append_val(runs, run);
        }
    }
    qcow2_check_read_many(c, runs->data, runs->len, sizeof(CopiedRun),
                          copied_table);
    if (ret == 0) {
        ret = copied_l1(c, refcounts);
    }
    return ret;
}
