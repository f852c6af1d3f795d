/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * L1 entries, of snapshots too, that may be damaged, and what they may have
 * been: each value that differs in one bit, a table that is leaked, or nothing.
 *
 * A leaked table does not say where it belongs. One that snapshots share is
 * named at its index by others; one that only a snapshot has names the same data
 * as the tables of that part of the disk do. Entries of snapshots that name
 * nothing are suspect only where such a table belongs, and the disk itself has
 * another; those of the active table are left to check-orphans.c.
 */
#include "util/osdep.h"
#include "util/bswap.h"
#include "util/memalign.h"
#include "block/qcow2/check.h"

/* With more of them it was no single entry. */
#define MAX_TABLES 8
#define MAX_SUSPECTS 16
/* Entries read at a time. */
#define PIECE 8192
/* Entries that are read in all. */
#define MAX_ENTRIES (4 * 1024 * 1024)

/* A table with fewer references than are stored. */
typedef struct Lost {
    uint64_t offset;
    int64_t index;          /* -1: unknown, -2: contradictions */
    uint64_t *entries;      /* of @offset, as stored; NULL: not needed */
} Lost;

typedef struct Finder {
    Qcow2Check *c;
    GArray *lost;           /* Lost */
    GArray *changes;
} Finder;

static void lost_clear(void *opaque)
{
    qemu_vfree(((Lost *)opaque)->entries);
}

/* --- tables that are missing -------------------------------------------------- */

static bool is_lost(Qcow2Check *c, uint64_t offset)
{
    return !offset_into_cluster(c->s, offset) &&
           qcow2_check_is_leaked(c, offset >> c->s->cluster_bits);
}

/* Tables that others name, too. */
static void add_shared(Finder *f)
{
    guint i;

    for (i = 0; i < f->c->l2_tables->len && f->lost->len <= MAX_TABLES; i++) {
        const Qcow2CheckL2 *t = &g_array_index(f->c->l2_tables, Qcow2CheckL2,
                                               i);
        Lost lost = {
            .offset = t->read.offset, .index = t->one_index ? t->index : -2,
        };

        if (is_lost(f->c, lost.offset)) {
            g_array_append_val(f->lost, lost);
        }
    }
}

static void coroutine_fn add_unnamed(Finder *f)
{
    Qcow2Check *c = f->c;
    guint i;

    for (i = 0; i < c->lost_tables->len && f->lost->len <= MAX_TABLES; i++) {
        Lost lost = {
            .offset = g_array_index(c->lost_tables, uint64_t, i), .index = -1,
        };

        if (qcow2_check_counts_get(c->refs, lost.offset >>
                                            c->s->cluster_bits)) {
            continue;   /* shared: is there already */
        }
        if (c->s->nb_snapshots) {
            lost.entries = qemu_try_blockalign(c->bs->file->bs,
                                               c->s->cluster_size);
            if (lost.entries &&
                qcow2_check_pread(c, lost.offset, c->s->cluster_size,
                                  lost.entries) < 0) {
                g_clear_pointer(&lost.entries, qemu_vfree);
            }
        }
        g_array_append_val(f->lost, lost);
    }
}

/* --- where they belong -------------------------------------------------------- */

static void coroutine_fn compare_table(Qcow2Check *c,
                                       const Qcow2CheckL2 *table,
                                       const uint64_t *l2, void *opaque)
{
    Finder *f = opaque;
    guint i;

    for (i = 0; i < f->lost->len; i++) {
        Lost *lost = &g_array_index(f->lost, Lost, i);

        if (lost->entries && qcow2_check_l2_share(c, lost->entries, l2)) {
            lost->index = lost->index == -1 || lost->index == table->index
                          ? table->index : -2;
        }
    }
}

/* --- entries ------------------------------------------------------------------ */

bool qcow2_check_l1_entry_is_sound(const Qcow2Check *c, uint64_t entry)
{
    uint64_t offset = entry & L1E_OFFSET_MASK;

    return !(entry & L1E_RESERVED_MASK) &&
           !offset_into_cluster(c->s, offset) &&
           (offset ? qcow2_check_in_file(c, offset) : !entry);
}

/* What it names may be no table, if some are missing. */
static bool names_bad_table(const Finder *f, uint64_t entry)
{
    const GArray *tables = f->c->l2_tables;
    Qcow2CheckL2 key = { .read.offset = entry & L1E_OFFSET_MASK };
    const Qcow2CheckL2 *table;

    if (!f->lost->len || !key.read.offset || !tables->len) {
        return false;
    }
    table = bsearch(&key, tables->data, tables->len, sizeof(key),
                    qcow2_check_compare_l2);
    return table && table->bad;
}

/* The active table has room there, and check-orphans.c found no proof that it
 * had the lost table: then nothing proves that a snapshot had it, either. */
static bool active_has_room(const Finder *f, size_t index)
{
    const Qcow2Table *l1 = &f->c->s->l1;

    return index < l1->size && !l1->entries[index];
}

static bool is_suspect(Finder *f, uint64_t entry, size_t index, bool active)
{
    Qcow2Check *c = f->c;
    uint64_t cluster = (entry & L1E_OFFSET_MASK) >> c->s->cluster_bits;
    guint i;

    if (!qcow2_check_l1_entry_is_sound(c, entry)) {
        return true;
    }
    for (i = 0; !entry && !active && !active_has_room(f, index) &&
                i < f->lost->len; i++) {
        if (g_array_index(f->lost, Lost, i).index == (int64_t)index) {
            return true;
        }
    }
    return entry && (qcow2_check_is_short(c, cluster) ||
                     names_bad_table(f, entry));
}

/* A table that is lost, and not known to belong elsewhere. */
static bool may_be(const Finder *f, uint64_t entry, size_t index)
{
    guint i;

    for (i = 0; i < f->lost->len; i++) {
        const Lost *lost = &g_array_index(f->lost, Lost, i);

        if (lost->offset == (entry & L1E_OFFSET_MASK)) {
            return lost->index < 0 || lost->index == (int64_t)index;
        }
    }
    return false;
}

static void add_entry(Finder *f, uint64_t place, size_t index, uint64_t old,
                      uint64_t entry)
{
    Qcow2CheckChange change = {
        .offset = place, .bytes = L1E_SIZE, .old = old, .new = entry,
        .refs = 1, .what = "L1 entry",
    };

    bool moves = entry && ((entry ^ old) & L1E_OFFSET_MASK) >>
                          f->c->s->cluster_bits;

    /* A sound entry names something: only its place can be wrong. */
    if (entry != old && qcow2_check_l1_entry_is_sound(f->c, entry) &&
        (entry || !qcow2_check_l1_entry_is_sound(f->c, old)) &&
        (!moves || may_be(f, entry, index))) {
        qcow2_check_add_change(f->changes, &change);
    }
}

static void coroutine_fn add_candidates(Finder *f, uint64_t place, size_t index,
                           uint64_t old, bool active)
{
    Qcow2Check *c = f->c;
    guint i;

    for (i = 0; i < 64; i++) {
        add_entry(f, place, index, old, old ^ 1ULL << i);
    }
    if (old && qcow2_check_l1_entry_is_sound(c, old) &&
        !names_bad_table(f, old) &&
        !qcow2_check_has_rival(c, old & L1E_OFFSET_MASK, 1)) {
        return;
    }
    for (i = 0; i < f->lost->len; i++) {
        uint64_t offset = g_array_index(f->lost, Lost, i).offset;
        bool alone = qcow2_check_counts_get(c->disk, offset >>
                                                     c->s->cluster_bits) == 1;

        add_entry(f, place, index, old,
                  offset | (!active ? old & QCOW_OFLAG_COPIED
                            : alone ? QCOW_OFLAG_COPIED : 0));
    }
    if (!qcow2_check_l1_entry_is_sound(c, old)) {
        add_entry(f, place, index, old, old & ~L1E_RESERVED_MASK);
        if (!qcow2_check_is_cut_off(c, old & L1E_OFFSET_MASK)) {
            add_entry(f, place, index, old, 0);
        }
    }
}

static void coroutine_fn look_at_table(Finder *f, uint64_t offset,
                                       uint64_t size, bool active)
{
    g_autofree uint64_t *piece = g_new(uint64_t, PIECE);
    guint before = f->changes->len;
    unsigned suspects = 0;
    uint64_t first, n, i;

    for (first = 0; first < size &&
                    f->changes->len <= QCOW2_CHECK_MAX_TRIALS; first += n) {
        n = MIN(size - first, PIECE);
        if (qcow2_check_pread(f->c, offset + first * L1E_SIZE, n * L1E_SIZE,
                              piece) < 0) {
            return;
        }
        for (i = 0; i < n; i++) {
            uint64_t entry = be64_to_cpu(piece[i]);

            if (!is_suspect(f, entry, first + i, active)) {
                continue;
            }
            if (++suspects > MAX_SUSPECTS) {
                /* This is no L1 table. */
                g_array_set_size(f->changes, before);
                return;
            }
            if (f->changes->len <= QCOW2_CHECK_MAX_TRIALS) {
                add_candidates(f, offset + (first + i) * L1E_SIZE, first + i,
                               entry, active);
            }
        }
    }
}

static void coroutine_fn look_at_all(Finder *f)
{
    BDRVQcow2State *s = f->c->s;
    uint64_t nb_entries = 0;
    uint32_t i;

    look_at_table(f, s->l1.offset, s->l1.size, true);
    for (i = 0; i < s->nb_snapshots &&
                f->changes->len <= QCOW2_CHECK_MAX_TRIALS; i++) {
        const QCowSnapshot *sn = &s->snapshots[i];

        if (!offset_into_cluster(s, sn->l1_table_offset) &&
            qcow2_check_in_file(f->c, sn->l1_table_offset) &&
            sn->l1_size <= QCOW_MAX_L1_SIZE / L1E_SIZE &&
            (nb_entries += sn->l1_size) <= MAX_ENTRIES) {
            look_at_table(f, sn->l1_table_offset, sn->l1_size, false);
        }
    }
}

void coroutine_fn qcow2_check_find_l1_entries(Qcow2Check *c, GArray *changes)
{
    g_autoptr(GArray) list = g_array_new(FALSE, FALSE, sizeof(Lost));
    Finder f = { .c = c, .lost = list, .changes = changes };

    g_array_set_clear_func(list, lost_clear);
    if (c->s->guard.state != QCOW2_GUARD_NONE) {
        return;     /* the guard knows better */
    }
    add_shared(&f);
    add_unnamed(&f);
    if (list->len <= MAX_TABLES) {
        if (c->s->nb_snapshots && list->len) {
            qcow2_check_each_l2(c, qcow2_check_l2_has_index, compare_table,
                                &f);
        }
        look_at_all(&f);
    }
}
