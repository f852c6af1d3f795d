/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * L1 and L2 entries that cannot be right: nobody can read what they stand for.
 * If nothing tells what they were they are given up, so that the rest of the
 * image can be used: they become explicit zeroes, or nothing at all.
 *
 * Entries that share a cluster which its refcount cannot count get copies.
 *
 * Nothing that can be read is lost thereby: bits that nobody looks at are
 * cleared first, and if that is enough it is all. With a backing file an entry
 * never becomes one through which it shows: that would look like the disk.
 */
#include "util/osdep.h"
#include "util/bswap.h"
#include "block/qcow2/bitmap.h"
#include "block/qcow2/check.h"

/* With more of them it was no single fault. */
#define MAX_VOID 16
/* So many in one table, and it is none. */
#define MAX_IN_TABLE 4
/* So much is copied with a table, bytes. */
#define MAX_COPIED (1ULL << 30)
/* Entries of L1 tables read at a time, and in all. */
#define PIECE 8192
#define MAX_ENTRIES (4 * 1024 * 1024)

typedef struct Finder {
    Qcow2Check *c;
    GArray *changes;        /* Qcow2CheckChange */
    GArray *no_tables;      /* uint64_t: offsets of what is no L2 table */
    GArray *table;          /* Qcow2CheckChange: those of one table */
    Qcow2CheckCounts *moved;    /* references that copies will take over */
    uint64_t copied;            /* bytes of whole tables */
    bool impossible;        /* one cannot be given up */
} Finder;

/* --- L2 ------------------------------------------------------------------- */

/* Subclusters that are both data and zeroes, or data of no cluster. */
static uint64_t valid_bitmap(const Qcow2Check *c, uint64_t entry,
                             uint64_t bitmap)
{
    uint64_t data = bitmap & QCOW2_BITMAP_ALL_DATA;

    if (entry & QCOW_OFLAG_COMPRESSED) {
        return 0;
    }
    /* Zeroes: what may be data is not shown, and stays where it is. */
    return entry & L2E_OFFSET_MASK ? bitmap & ~(data & bitmap >> 32)
                                   : (bitmap & ~data) | data << 32;
}

/* The entry without bits that readers do not look at. */
static uint64_t readable(const Qcow2Check *c, uint64_t entry)
{
    if (entry & QCOW_OFLAG_COMPRESSED) {
        return entry & ~QCOW_OFLAG_COPIED;
    }
    return entry & ~(L2E_STD_RESERVED_MASK |
                     (c->s->qcow_version < 3 ? QCOW_OFLAG_ZERO : 0));
}

bool coroutine_fn qcow2_check_is_cut_off(Qcow2Check *c, uint64_t offset)
{
    uint64_t refcount;

    return !qcow2_check_in_file(c, offset) &&
           (!qcow2_check_refcount_beyond(c, offset >> c->s->cluster_bits,
                                         &refcount) || refcount);
}

/* The subclusters that can be read though @entry cannot be right stay as they
 * are: those that are not in the cluster. */
static uint64_t shown_bitmap(const Qcow2Check *c, uint64_t entry,
                             uint64_t bitmap)
{
    if (!c->s->extended_l2) {
        return bitmap;  /* there is none */
    }
    if (entry & QCOW_OFLAG_COMPRESSED ||
        offset_into_cluster(c->s, entry & L2E_OFFSET_MASK) ||
        !qcow2_bitmap_is_valid(c->s, entry, bitmap)) {
        return QCOW2_BITMAP_ALL_ZERO;
    }
    return valid_bitmap(c, 0, bitmap);
}

/* Zeroes whose cluster is not in the file are zeroes. */
static bool reads_as_zeroes(const Qcow2Check *c, uint64_t entry)
{
    return !c->s->extended_l2 && c->s->qcow_version >= 3 &&
           !(entry & QCOW_OFLAG_COMPRESSED) && entry & QCOW_OFLAG_ZERO &&
           !offset_into_cluster(c->s, entry & L2E_OFFSET_MASK);
}

/* Both halves of an extended entry. The bitmap first: if no more than that is
 * written the entry still shows no backing file that it did not show. */
static void replace_both(Finder *f, const Qcow2CheckChange *change,
                         uint64_t old_bitmap, uint64_t bitmap)
{
    Qcow2CheckChange second = *change;

    if (bitmap != old_bitmap) {
        second.offset += second.bytes;
        second.old = old_bitmap;
        second.new = bitmap;
        g_array_append_val(f->table, second);
    }
    g_array_append_vals(f->table, change, 1);
}

/* Compressed data whose entry has bits of another kind, and that unpack. */
static bool coroutine_fn is_compressed(Finder *f, uint64_t entry)
{
    return entry & QCOW_OFLAG_COMPRESSED &&
           qcow2_check_l2_entry_is_sound(f->c, entry) &&
           qcow2_check_entry_unpacks(f->c, entry);
}

/* What becomes of an entry whose descriptor cannot be right. */
static void coroutine_fn replace_entry(Finder *f, Qcow2CheckChange *change,
                                       uint64_t bitmap)
{
    const BDRVQcow2State *s = f->c->s;
    uint64_t shown;

    change->new = readable(f->c, change->old);
    if (qcow2_check_l2_entry_is_sound(f->c, change->new) &&
        qcow2_bitmap_is_valid(s, change->new, bitmap)) {
        change->still_readable = true;
        g_array_append_vals(f->table, change, 1);
        return;
    }
    if (is_compressed(f, change->new)) {
        change->still_readable = true;
        replace_both(f, change, bitmap, 0);
        return;
    }
    if ((s->qcow_version < 3 && s->image_backing_file) ||
        qcow2_check_is_cut_off(f->c,
                               qcow2_check_last_host(f->c, change->old))) {
        f->impossible = true;
    }
    shown = shown_bitmap(f->c, change->new, bitmap);
    change->still_readable = s->extended_l2
        ? shown == bitmap && !(change->old & QCOW_OFLAG_COMPRESSED)
        : reads_as_zeroes(f->c, change->new);
    change->partly = s->extended_l2 && shown != QCOW2_BITMAP_ALL_ZERO;
    change->new = s->qcow_version < 3 || s->extended_l2 ? 0 : QCOW_OFLAG_ZERO;
    replace_both(f, change, bitmap, shown);
}

/* Whether the cluster is one that needs copies, more than there are planned. */
static bool needs_copy(const Finder *f, uint64_t entry)
{
    uint64_t cluster = (entry & L2E_OFFSET_MASK) >> f->c->s->cluster_bits;

    return qcow2_has_host(f->c->s, entry) &&
           qcow2_check_counts_get(f->c->excess, cluster) >
           qcow2_check_counts_get(f->moved, cluster);
}

/* An entry for a cluster that too many have: it will have one of its own. */
static void plan_copy(Finder *f, Qcow2CheckChange *change, uint64_t bitmap)
{
    Qcow2CheckChange subclusters = *change;
    const BDRVQcow2State *s = f->c->s;

    if (s->crypt_method_header || change->refs > 1) {
        f->impossible = true;   /* what is encrypted stays where it is */
        return;
    }
    if (bitmap) {
        /* It cannot be without a cluster, as long as there is no copy. */
        subclusters.offset += subclusters.bytes;
        subclusters.old = bitmap;
        subclusters.still_readable = subclusters.only_tried = true;
        g_array_append_val(f->table, subclusters);
    }
    change->copied = change->old & L2E_OFFSET_MASK;
    change->still_readable = true;
    qcow2_check_counts_add(f->moved, change->copied >> s->cluster_bits, 1,
                           UINT64_MAX);
    g_array_append_vals(f->table, change, 1);
}

static void coroutine_fn look_at_entry(Finder *f, const Qcow2CheckL2 *table,
                          const uint64_t *l2, int i)
{
    const BDRVQcow2State *s = f->c->s;
    uint64_t entry = get_l2_entry(s, l2, i);
    uint64_t bitmap = get_l2_bitmap(s, l2, i);
    Qcow2CheckChange change = {
        .offset = table->read.offset + (uint64_t)i * qcow2_l2_entry_size(s),
        .bytes = sizeof(entry), .old = entry, .refs = table->refs,
        .table = table->read.offset, .index = i,
        .guest = qcow2_check_guest_of(f->c, table, i), .what = "L2 entry",
    };

    if (!qcow2_check_l2_entry_is_sound(f->c, entry)) {
        replace_entry(f, &change, bitmap);
    } else if (!qcow2_bitmap_is_valid(s, entry, bitmap)) {
        change.offset += sizeof(entry);
        change.old = bitmap;
        change.new = valid_bitmap(f->c, entry, bitmap);
        change.still_readable = entry & QCOW_OFLAG_COMPRESSED;
        change.doubted = entry & QCOW_OFLAG_COMPRESSED ? 0
                         : entry & L2E_OFFSET_MASK;
        g_array_append_val(f->table, change);
    } else if (needs_copy(f, entry)) {
        plan_copy(f, &change, bitmap);
    }
}

/* Where nothing can be read is no table. */
static bool coroutine_fn is_rubbish(const Qcow2Check *c, const uint64_t *l2)
{
    int i;

    for (i = 0; i < c->s->l2_size; i++) {
        if (!qcow2_l2_entry_is_empty(c->s, l2, i) &&
            qcow2_check_l2_entry_is_sound(c, get_l2_entry(c->s, l2, i))) {
            return false;
        }
    }
    return true;
}

/*
 * A table that is named too often gets a copy as a whole, with all that it
 * names; compressed clusters are not copied.
 */
static void plan_table(Finder *f, const uint64_t *l2)
{
    const BDRVQcow2State *s = f->c->s;
    int i;

    for (i = 0; i < s->l2_size; i++) {
        uint64_t entry = get_l2_entry(s, l2, i);

        if (f->copied > MAX_COPIED) {
            f->impossible = true;
            return;
        }
        if (entry & QCOW_OFLAG_COMPRESSED ||
            !qcow2_check_l2_entry_is_sound(f->c, entry) ||
            (qcow2_has_host(s, entry) && !needs_copy(f, entry))) {
            f->impossible = true;
        } else if (qcow2_has_host(s, entry)) {
            f->copied += s->cluster_size;
            qcow2_check_counts_add(f->moved, (entry & L2E_OFFSET_MASK) >>
                                   s->cluster_bits, 1, UINT64_MAX);
        }
    }
}

static void coroutine_fn look_at_table(Qcow2Check *c,
                                       const Qcow2CheckL2 *table,
                                       const uint64_t *l2, void *opaque)
{
    Finder *f = opaque;
    uint64_t offset = table->read.offset;
    int i;

    if (f->impossible || f->changes->len > MAX_VOID) {
        return;
    }
    if (table->refs == 2 &&
        qcow2_check_counts_get(c->excess, offset >> c->s->cluster_bits) == 1) {
        plan_table(f, l2);
        return;
    }
    g_array_set_size(f->table, 0);
    for (i = 0; i < c->s->l2_size && f->table->len <= 2 * MAX_IN_TABLE; i++) {
        if (!qcow2_l2_entry_is_empty(c->s, l2, i)) {
            look_at_entry(f, table, l2, i);
        }
    }
    if (!f->table->len) {
        return;
    }
    if (qcow2_check_l2_is_proven(c, offset, table->refs) &&
        f->table->len <= 2 * MAX_IN_TABLE) {
        g_array_append_vals(f->changes, f->table->data, f->table->len);
    } else if (!qcow2_check_l2_is_proven(c, offset, table->refs) &&
               is_rubbish(c, l2)) {
        /* Somebody else has the cluster. */
        g_array_append_val(f->no_tables, offset);
    } else {
        f->impossible = true;
    }
}

static bool is_aligned(const Qcow2Check *c, const Qcow2CheckL2 *table)
{
    return !offset_into_cluster(c->s, table->read.offset);
}

/* --- L1 ------------------------------------------------------------------- */

static bool is_no_table(const Finder *f, uint64_t entry)
{
    guint i;

    for (i = 0; i < f->no_tables->len; i++) {
        if (g_array_index(f->no_tables, uint64_t, i) ==
            (entry & L1E_OFFSET_MASK)) {
            return true;
        }
    }
    return false;
}

/* Whether the table is named once too often, and this is the first entry. */
static bool needs_table(Finder *f, uint64_t entry)
{
    uint64_t cluster = (entry & L1E_OFFSET_MASK) >> f->c->s->cluster_bits;

    if (!cluster || qcow2_check_counts_get(f->c->excess, cluster) <=
                    qcow2_check_counts_get(f->moved, cluster)) {
        return false;
    }
    f->impossible = f->impossible || f->c->s->crypt_method_header;
    qcow2_check_counts_add(f->moved, cluster, 1, UINT64_MAX);
    return true;
}

static void coroutine_fn replace_l1(Finder *f, uint64_t place, uint64_t index,
                       uint64_t entry)
{
    const BDRVQcow2State *s = f->c->s;
    Qcow2CheckChange change = {
        .offset = place, .bytes = L1E_SIZE, .old = entry, .refs = 1,
        .new = entry & ~L1E_RESERVED_MASK, .index = index,
        .guest = index << (s->l2_bits + s->cluster_bits), .what = "L1 entry",
    };

    if (qcow2_check_l1_entry_is_sound(f->c, entry) && !is_no_table(f, entry)) {
        change.new = 0;
        change.copied = entry & L1E_OFFSET_MASK;
        change.still_readable = true;
    } else if (!(change.new & L1E_OFFSET_MASK)) {
        change.new = 0;
        change.still_readable = true;
    } else if (qcow2_check_l1_entry_is_sound(f->c, change.new) &&
               !is_no_table(f, entry)) {
        change.still_readable = true;
    } else {
        change.new = 0;
        f->impossible = f->impossible || s->image_backing_file ||
                        qcow2_check_is_cut_off(f->c, entry & L1E_OFFSET_MASK);
    }
    g_array_append_val(f->changes, change);
}

static void coroutine_fn look_at_l1(Finder *f, uint64_t offset, uint64_t size)
{
    g_autofree uint64_t *piece = g_new(uint64_t, PIECE);
    uint64_t first, n, i;

    for (first = 0; first < size && f->changes->len <= MAX_VOID; first += n) {
        n = MIN(size - first, PIECE);
        if (qcow2_check_pread(f->c, offset + first * L1E_SIZE, n * L1E_SIZE,
                              piece) < 0) {
            f->impossible = true;
            return;
        }
        for (i = 0; i < n; i++) {
            uint64_t entry = be64_to_cpu(piece[i]);

            if (entry && (!qcow2_check_l1_entry_is_sound(f->c, entry) ||
                          is_no_table(f, entry) || needs_table(f, entry))) {
                replace_l1(f, offset + (first + i) * L1E_SIZE, first + i,
                           entry);
            }
        }
    }
}

static void coroutine_fn look_at_all_l1(Finder *f)
{
    BDRVQcow2State *s = f->c->s;
    uint64_t nb_entries = s->l1.size;
    guint nb_l2 = f->changes->len;
    uint32_t i;

    look_at_l1(f, s->l1.offset, s->l1.size);
    /* Its guard would say that the table is not right. */
    f->impossible = f->impossible || (f->changes->len > nb_l2 &&
                                      s->guard.state != QCOW2_GUARD_NONE);
    for (i = 0; i < s->nb_snapshots && f->changes->len <= MAX_VOID; i++) {
        const QCowSnapshot *sn = &s->snapshots[i];

        nb_entries += sn->l1_size;
        if (offset_into_cluster(s, sn->l1_table_offset) ||
            !qcow2_check_in_file(f->c, sn->l1_table_offset) ||
            sn->l1_size > QCOW_MAX_L1_SIZE / L1E_SIZE ||
            nb_entries > MAX_ENTRIES) {
            f->impossible = true;
            return;
        }
        look_at_l1(f, sn->l1_table_offset, sn->l1_size);
    }
}

/* --- bitmaps -------------------------------------------------------------- */

static void coroutine_fn look_at_bitmap(Finder *f, const Qcow2Bitmap *b)
{
    g_autofree uint64_t *table = NULL;
    uint32_t i;
    int ret;

    table = qcow2_bitmap_read_table(f->c->bs, b, &ret);
    for (i = 0; table && i < b->table_size; i++) {
        Qcow2CheckChange change = {
            .offset = b->table_offset + i * sizeof(*table),
            .bytes = sizeof(*table), .old = table[i], .refs = 1,
            .copied = table[i] & QCOW2_BME_TABLE_ENTRY_OFFSET_MASK,
            .still_readable = true, .what = "bitmap table entry",
        };
        uint64_t cluster = change.copied >> f->c->s->cluster_bits;

        if (cluster && qcow2_check_counts_get(f->c->excess, cluster) >
                       qcow2_check_counts_get(f->moved, cluster)) {
            qcow2_check_counts_add(f->moved, cluster, 1, UINT64_MAX);
            g_array_append_val(f->changes, change);
        }
    }
}

/* Those that share clusters of bits, which refcounts cannot count. */
static void coroutine_fn look_at_bitmaps(Finder *f)
{
    BDRVQcow2State *s = f->c->s;
    guint i;

    for (i = 0; f->c->overflows && i < f->c->bad_bitmaps->len; i++) {
        const Qcow2Bitmap *b = s->bitmaps->pdata[i];

        if (f->c->bad_bitmaps->data[i] == QCOW2_BITMAP_SOUND && !b->fault) {
            look_at_bitmap(f, b);
        }
    }
}

bool coroutine_fn qcow2_check_find_void(Qcow2Check *c, GArray *changes)
{
    g_autoptr(GArray) no_tables = g_array_new(FALSE, FALSE, sizeof(uint64_t));
    g_autoptr(GArray) table = g_array_new(FALSE, FALSE,
                                          sizeof(Qcow2CheckChange));
    g_autoptr(Qcow2CheckCounts) moved = qcow2_check_counts_new();
    Finder f = {
        .c = c, .changes = changes, .no_tables = no_tables, .table = table,
        .moved = moved,
    };

    qcow2_check_each_l2(c, is_aligned, look_at_table, &f);
    look_at_all_l1(&f);
    look_at_bitmaps(&f);
    return !f.impossible && changes->len <= MAX_VOID;
}
