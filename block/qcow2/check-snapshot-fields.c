/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Fields of the snapshot table that may be damaged, and what they may have been:
 * where the L1 table of a snapshot is and how long, and the sizes from which
 * the next entry's place follows.
 *
 * Candidates are each value that differs in one bit, leaked clusters that read
 * as the L1 table, sizes that go with the disk, and short names. With any of
 * them the table has to make sense: names are text, padding is zero.
 */
#include "util/osdep.h"
#include "util/bswap.h"
#include "util/zero.h"
#include "block/qcow2/check.h"
#include "block/qcow2/snapshot.h"

/* Bytes of a name that are tried. */
#define MAX_NAME 256
/* Leaked clusters that an L1 table is looked for in, and that may be one. */
#define MAX_LEAKED 4096
#define MAX_TABLES 16
/* Every try reads the table: no large ones, and no more of its entries. */
#define MAX_SNAPSHOTS 256
#define MAX_SUSPECTS 8

/* --- the table as a whole ---------------------------------------------------- */

static bool is_text(const char *name, uint32_t size)
{
    return strlen(name) == size && g_utf8_validate(name, size, NULL);
}

static bool l1_makes_sense(const Qcow2Check *c, const QCowSnapshot *sn)
{
    uint64_t bytes = (uint64_t)sn->l1_size * L1E_SIZE;

    return !offset_into_cluster(c->s, sn->l1_table_offset) &&
           bytes <= QCOW_MAX_L1_SIZE && sn->l1_table_offset &&
           qcow2_check_in_file(c, sn->l1_table_offset) &&
           bytes <= c->file_size - sn->l1_table_offset;
}

static bool entry_makes_sense(const Qcow2Check *c, const QCowSnapshot *sn)
{
    return l1_makes_sense(c, sn) && !qcow2_snapshot_extra_is_bad(sn) &&
           sn->id_size &&
           is_text(sn->id_str, sn->id_size) &&
           is_text(sn->name, sn->name_size) &&
           (c->s->qcow_version < 3 ||
            sn->extra_data_size >= endof(QCowSnapshotExtraData, disk_size));
}

static uint64_t entry_bytes(const QCowSnapshot *sn)
{
    return sizeof(QCowSnapshotHeader) + sn->extra_data_size + sn->id_size +
           sn->name_size;
}

/* Bytes between the entry that ends at @pos and the next are zero. */
static bool coroutine_fn padding_is_zero(Qcow2Check *c, uint64_t pos)
{
    uint8_t pad[8];
    uint64_t n = ROUND_UP(pos, 8) - pos;

    return qcow2_check_pread(c, c->s->snapshots_offset + pos, n, pad) == 0 &&
           buffer_is_zero(pad, n);
}

/* How many entries in front make sense. */
static uint32_t coroutine_fn nb_sensible(Qcow2Check *c)
{
    BDRVQcow2State *s = c->s;
    uint64_t pos = 0;
    uint32_t i;

    for (i = 0; i < s->nb_snapshots; i++) {
        if (!entry_makes_sense(c, &s->snapshots[i])) {
            break;
        }
        pos = ROUND_UP(pos, 8) + entry_bytes(&s->snapshots[i]);
        if (!padding_is_zero(c, pos)) {
            break;
        }
    }
    return i;
}

static bool coroutine_fn makes_sense_with(Qcow2Check *c,
                                          const Qcow2CheckChange *change)
{
    BDRVQcow2State *s = c->s;
    QCowSnapshot *old = s->snapshots;
    uint64_t old_size = s->snapshots_size;
    Qcow2Patch patch;
    bool ok;

    qcow2_check_patch_init(&patch, change);
    s->patch = &patch;
    s->snapshots = NULL;
    ok = qcow2_read_snapshots(c->bs, NULL) == 0 &&
         nb_sensible(c) == s->nb_snapshots;
    s->patch = NULL;
    qcow2_free_snapshots(s);
    s->snapshots = old;
    s->snapshots_size = old_size;
    return ok;
}

/* --- candidates ----------------------------------------------------------------- */

typedef struct Field {
    Qcow2Check *c;
    uint64_t place;         /* in the file */
    uint32_t bytes;
    uint64_t value;
    bool alike;             /* see Qcow2CheckChange */
    GArray *changes;
} Field;

static void coroutine_fn add(const Field *f, uint64_t value)
{
    Qcow2CheckChange change = {
        .offset = f->place, .bytes = f->bytes, .old = f->value, .new = value,
        .refs = 1, .alike = f->alike, .what = "snapshot table entry",
    };

    if (value != f->value && makes_sense_with(f->c, &change)) {
        qcow2_check_add_change(f->changes, &change);
    }
}

static void coroutine_fn add_bits(const Field *f)
{
    unsigned i;

    for (i = 0; i < f->bytes * 8; i++) {
        add(f, f->value ^ 1ULL << i);
    }
}

/* The cluster begins like an L1 table of tables that lack a reference. */
static bool coroutine_fn reads_as_l1(Qcow2Check *c, uint64_t cluster,
                                     uint32_t size)
{
    uint32_t n = MIN(size, c->s->cluster_size / L1E_SIZE);
    g_autofree uint64_t *table = g_new(uint64_t, n);
    bool any = false;
    uint32_t i;

    if (!n || qcow2_check_pread(c, cluster << c->s->cluster_bits,
                                n * L1E_SIZE, table) < 0) {
        return false;
    }
    for (i = 0; i < n; i++) {
        uint64_t entry = be64_to_cpu(table[i]);
        uint64_t offset = entry & L1E_OFFSET_MASK;

        if (!entry) {
            continue;
        }
        if (entry & L1E_RESERVED_MASK || offset_into_cluster(c->s, offset) ||
            !qcow2_check_is_leaked(c, offset >> c->s->cluster_bits)) {
            return false;
        }
        any = true;
    }
    return any;
}

static void coroutine_fn add_leaked(const Field *f, uint32_t size)
{
    Qcow2Check *c = f->c;
    g_autoptr(GArray) leaked = qcow2_check_leaked(c, MAX_LEAKED);
    unsigned tables = 0;
    guint i;

    for (i = 0; i < leaked->len; i++) {
        uint64_t cluster = g_array_index(leaked, uint64_t, i);

        if (reads_as_l1(c, cluster, size) && tables++ < MAX_TABLES) {
            add(f, cluster << c->s->cluster_bits);
        }
    }
}

static void coroutine_fn add_l1(Field *f, const QCowSnapshot *sn)
{
    const BDRVQcow2State *s = f->c->s;
    /* No table is shorter than its disk wants, and the VM state behind it. */
    uint64_t wanted = size_to_l1(s, sn->disk_size) +
                      size_to_l1(s, sn->vm_state_size);
    uint64_t pos = f->place;
    uint32_t i;

    f->bytes = 8;
    f->value = sn->l1_table_offset;
    add_bits(f);
    if (!l1_makes_sense(f->c, sn) ||
        qcow2_check_has_rival(f->c, sn->l1_table_offset, 1)) {
        add_leaked(f, sn->l1_size);
    }

    f->place = pos + offsetof(QCowSnapshotHeader, l1_size);
    f->bytes = 4;
    f->value = sn->l1_size;
    f->alike = true;
    add(f, wanted);
    /* Most snapshots have tables of the same length. */
    add(f, s->l1.size);
    for (i = 0; i < s->nb_snapshots; i++) {
        add(f, s->snapshots[i].l1_size);
    }
    add_bits(f);
    f->alike = false;
    f->place = pos;
}

static void coroutine_fn add_sizes(Field *f, const QCowSnapshot *sn)
{
    uint64_t pos = f->place;
    uint32_t i;

    f->bytes = 2;
    f->place = pos + offsetof(QCowSnapshotHeader, id_str_size);
    f->value = sn->id_size;
    for (i = 1; i < MAX_NAME; i++) {
        add(f, i);
    }
    f->place = pos + offsetof(QCowSnapshotHeader, name_size);
    f->value = sn->name_size;
    for (i = 0; i < MAX_NAME; i++) {
        add(f, i);
    }
    f->bytes = 4;
    f->place = pos + offsetof(QCowSnapshotHeader, extra_data_size);
    f->value = sn->extra_data_size;
    for (i = 0; i <= QCOW_MAX_SNAPSHOT_EXTRA_DATA; i += 8) {
        add(f, i);
    }
    f->place = pos;
}

/* The place or the length of its L1 table may be wrong. */
static bool l1_is_suspect(Qcow2Check *c, const QCowSnapshot *sn)
{
    uint64_t cluster = sn->l1_table_offset >> c->s->cluster_bits;

    return !l1_makes_sense(c, sn) ||
           sn->l1_size < size_to_l1(c->s, sn->disk_size) ||
           sn->l1_size > size_to_l1(c->s, sn->disk_size) +
                         size_to_l1(c->s, sn->vm_state_size) ||
           qcow2_check_is_short(c, cluster);
}

void coroutine_fn qcow2_check_find_snapshot_fields(Qcow2Check *c,
                                                   GArray *changes)
{
    BDRVQcow2State *s = c->s;
    uint32_t sensible, i, suspects = 0;
    uint64_t pos = 0;

    if (s->nb_snapshots > MAX_SNAPSHOTS) {
        return;
    }
    sensible = nb_sensible(c);
    /* What is behind an entry that makes no sense is not where it is. */
    for (i = 0; i < s->nb_snapshots && i <= sensible &&
                changes->len <= QCOW2_CHECK_MAX_TRIALS; i++) {
        const QCowSnapshot *sn = &s->snapshots[i];
        Field f = { .c = c, .changes = changes };

        pos = ROUND_UP(pos, 8);
        f.place = s->snapshots_offset + pos;
        if (l1_is_suspect(c, sn) && ++suspects <= MAX_SUSPECTS) {
            add_l1(&f, sn);
        }
        if (sensible < s->nb_snapshots && i + 1 >= sensible) {
            add_sizes(&f, sn);
        }
        if (qcow2_snapshot_extra_is_bad(sn)) {
            break;
        }
        pos += entry_bytes(sn);
    }
}
