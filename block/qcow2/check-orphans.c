/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Leaked clusters that may be guest data whose L2 table has lost its L1 entry,
 * or whose L2 table has lost its entries.
 *
 * An L2 table does not say where in the disk it belongs, and a qcow2 image
 * inside the guest's data has tables that look the same. So:
 *  1. A leaked cluster that can be read as an L2 table, and that names leaked
 *     clusters, is an orphan if some L1 entry has room for it. Neither it nor
 *     what it names is freed.
 *  2. An orphan is put back if nothing else explains what is there: exactly
 *     one entry has room, that entry holds nothing, the stored refcounts are
 *     what they have to be with the table in its place, no other leak is left
 *     then, and no table that could refer to the clusters is damaged. Other
 *     clusters that look like a table are guest data if the orphan names them
 *     and they do not name the orphan.
 *  3. All leaks stay where an active L2 table is empty, or names mostly
 *     clusters that others use: they may be what it named.
 */
#include "util/osdep.h"
#include "util/memalign.h"
#include "block/qcow2/check.h"

#define MAX_LISTED 64
/* L1 entries named in a message. */
#define MAX_SLOTS 8

/* --- finding them ------------------------------------------------------ */

typedef struct Candidate {
    Qcow2CheckRead read;
    int64_t index;          /* in the L1 tables of snapshots; -1: unknown */
} Candidate;

static bool refcount_is_known(const Qcow2Check *c, uint64_t cluster)
{
    uint64_t block = cluster >> c->s->refcount_block_bits;

    return block < c->nb_blocks &&
           c->block_state[block] == QCOW2_CHECK_BLOCK_GOOD;
}

/* More references are stored than were found, or may be. */
static bool may_be_leaked(Qcow2Check *c, uint64_t cluster)
{
    return refcount_is_known(c, cluster)
           ? qcow2_check_is_leaked(c, cluster)
           : qcow2_check_counts_get(c->refs, cluster) == 0;
}

static void add_candidate(Qcow2Check *c, GArray *list, uint64_t cluster,
                          int64_t index)
{
    Candidate candidate = {
        .read = {
            .offset = cluster << c->s->cluster_bits,
            .bytes = c->s->cluster_size,
        },
        .index = index,
    };

    if (cluster && qcow2_check_in_file(c, candidate.read.offset)) {
        g_array_append_val(list, candidate);
    }
}

/* Clusters that nothing refers to, though they are in use. */
static void add_unreferenced(Qcow2Check *c, GArray *list)
{
    g_autoptr(GArray) leaked = qcow2_check_leaked(c, UINT_MAX);
    guint i;

    for (i = 0; i < leaked->len; i++) {
        uint64_t cluster = g_array_index(leaked, uint64_t, i);

        if (!qcow2_check_counts_get(c->refs, cluster) &&
            refcount_is_known(c, cluster)) {
            add_candidate(c, list, cluster, -1);
        }
    }
}

/* Where a refcount block is lost everything may be in use. */
static void add_unknown(Qcow2Check *c, GArray *list)
{
    uint64_t per_block = c->s->refcount_block_size;
    uint64_t block, cluster, end;

    for (block = 0; block < c->nb_blocks; block++) {
        if (c->block_state[block] == QCOW2_CHECK_BLOCK_GOOD) {
            continue;
        }
        cluster = block * per_block;
        end = MIN(cluster + per_block, size_to_clusters(c->s, c->file_size));
        for (; cluster < end; cluster++) {
            if (!qcow2_check_counts_get(c->refs, cluster)) {
                add_candidate(c, list, cluster, -1);
            }
        }
    }
}

/* Tables that only snapshots name, with a reference too many. */
static void add_shared(Qcow2Check *c, GArray *list)
{
    guint i;

    for (i = 0; i < c->l2_tables->len; i++) {
        const Qcow2CheckL2 *t = &g_array_index(c->l2_tables, Qcow2CheckL2, i);
        uint64_t cluster = t->read.offset >> c->s->cluster_bits;

        if (!t->active && !offset_into_cluster(c->s, t->read.offset) &&
            refcount_is_known(c, cluster) && may_be_leaked(c, cluster)) {
            add_candidate(c, list, cluster, t->one_index ? t->index : -1);
        }
    }
}

static int compare_candidate(const void *a, const void *b)
{
    const Candidate *x = a;
    const Candidate *y = b;

    return x->read.offset < y->read.offset ? -1
           : x->read.offset > y->read.offset;
}

static int compare_number(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a;
    uint64_t y = *(const uint64_t *)b;

    return x < y ? -1 : x > y;
}

static bool add_range(Qcow2Check *c, GArray *clusters, uint64_t offset,
                      uint64_t bytes)
{
    uint64_t cluster = offset >> c->s->cluster_bits;
    uint64_t last = (offset + bytes - 1) >> c->s->cluster_bits;

    if (!cluster || !qcow2_check_in_file(c, last << c->s->cluster_bits)) {
        return false;
    }
    for (; cluster <= last; cluster++) {
        g_array_append_val(clusters, cluster);
    }
    return true;
}

/* An entry that names no cluster, and is not empty. */
static bool zeroes_are_plausible(const Qcow2Check *c, uint64_t entry,
                                 uint64_t bitmap)
{
    return c->s->extended_l2 ? !entry && bitmap >> 32
                             : entry == QCOW_OFLAG_ZERO;
}

/* Whether @entry can be an L2 entry; adds the clusters that it names. */
static bool entry_is_plausible(Qcow2Check *c, uint64_t entry, uint64_t bitmap,
                               GArray *clusters)
{
    uint64_t offset = entry & L2E_OFFSET_MASK;
    int size;

    if (entry & QCOW_OFLAG_COMPRESSED) {
        qcow2_parse_compressed_l2_entry(c->s, entry, &offset, &size);
        return !(entry & QCOW_OFLAG_COPIED) &&
               add_range(c, clusters, offset, size);
    }
    if (entry & L2E_STD_RESERVED_MASK || offset_into_cluster(c->s, offset) ||
        (entry & QCOW_OFLAG_ZERO && (c->s->qcow_version < 3 ||
                                     c->s->extended_l2))) {
        return false;
    }
    return offset ? add_range(c, clusters, offset, 1)
                  : zeroes_are_plausible(c, entry, bitmap);
}

/*
 * The same for entry @i of an image with a data file. Nothing is named in the
 * image then, but data lie where the guest has them: that tells the L1 index.
 */
static bool data_file_entry_is_plausible(Qcow2Check *c, uint64_t entry,
                                         uint64_t bitmap, int i,
                                         int64_t *l1_index)
{
    uint64_t offset = entry & L2E_OFFSET_MASK;
    uint64_t cluster = offset >> c->s->cluster_bits;
    int64_t index = cluster >> c->s->l2_bits;

    if (entry & QCOW_OFLAG_COMPRESSED || entry & L2E_STD_RESERVED_MASK ||
        offset_into_cluster(c->s, offset)) {
        return false;
    }
    if (!offset && !(entry & QCOW_OFLAG_COPIED)) {
        return zeroes_are_plausible(c, entry, bitmap);
    }
    if ((cluster & (c->s->l2_size - 1)) != i ||
        (*l1_index >= 0 && *l1_index != index)) {
        return false;
    }
    *l1_index = index;
    return true;
}

static bool is_plausible(Qcow2Check *c, Qcow2CheckOrphan *o,
                         const uint64_t *l2, int i, GArray *clusters)
{
    uint64_t entry = get_l2_entry(c->s, l2, i);
    uint64_t bitmap = get_l2_bitmap(c->s, l2, i);

    if (!qcow2_bitmap_is_valid(c->s, entry, bitmap)) {
        return false;
    }
    return c->s->has_data_file
           ? data_file_entry_is_plausible(c, entry, bitmap, i, &o->index)
           : entry_is_plausible(c, entry, bitmap, clusters);
}

/*
 * A bitmap's table looks like an L2 table, but for the flag that every cluster
 * with one reference has there.
 */
static bool flag_agrees(Qcow2Check *c, uint64_t entry)
{
    uint64_t offset = entry & L2E_OFFSET_MASK;

    if (entry & QCOW_OFLAG_COMPRESSED || !offset || c->s->has_data_file) {
        return true;
    }
    return !!(entry & QCOW_OFLAG_COPIED) ==
           (qcow2_check_counts_get(c->disk, offset >> c->s->cluster_bits) == 1);
}

/* Compares refcounts with what they are with the table in use. */
static void weigh(Qcow2Check *c, Qcow2CheckOrphan *o, uint64_t cluster,
                  uint64_t own)
{
    uint64_t stored = qcow2_check_counts_get(c->disk, cluster);
    uint64_t refs = qcow2_check_counts_get(c->refs, cluster);

    o->lost += may_be_leaked(c, cluster);
    if (!refcount_is_known(c, cluster)) {
        o->exact = o->fits = false;
    } else {
        o->exact = o->exact && stored == refs + own;
        o->fits = o->fits && stored >= refs + own;
    }
}

static void weigh_all(Qcow2Check *c, Qcow2CheckOrphan *o)
{
    guint i, end;

    g_array_sort(o->clusters, compare_number);
    for (i = 0; i < o->clusters->len; i = end) {
        uint64_t cluster = g_array_index(o->clusters, uint64_t, i);

        end = i + 1;
        while (end < o->clusters->len &&
               g_array_index(o->clusters, uint64_t, end) == cluster) {
            end++;
        }
        weigh(c, o, cluster, end - i);
    }
}

static void coroutine_fn judge_candidate(Qcow2Check *c, void *element,
                                         void *buf, int ret)
{
    const Candidate *candidate = element;
    g_autoptr(GArray) clusters = g_array_new(FALSE, FALSE, sizeof(uint64_t));
    Qcow2CheckOrphan o = {
        .offset = candidate->read.offset, .index = candidate->index,
        .home = candidate->index,
        .last = -1, .exact = true, .fits = true, .flags_agree = true,
    };
    const uint64_t *l2 = buf;
    int i;

    if (ret < 0) {
        qcow2_check_io_error(c, ret, "Could not read cluster at offset 0x%"
                             PRIx64, o.offset);
        return;
    }
    for (i = 0; i < c->s->l2_size; i++) {
        if (!qcow2_l2_entry_is_empty(c->s, l2, i)) {
            o.last = i;
            if (!is_plausible(c, &o, l2, i, clusters)) {
                return;
            }
            o.flags_agree = o.flags_agree &&
                            flag_agrees(c, get_l2_entry(c->s, l2, i));
        }
    }
    if (o.last < 0) {
        return;
    }
    g_array_append_val(c->lost_tables, o.offset);
    o.clusters = clusters;
    weigh_all(c, &o);
    o.zeroes_only = c->s->has_data_file ? o.index < 0 : clusters->len == 0;
    /* What has no data matters only where a backing file would show. */
    if (o.lost || (c->s->has_data_file && !o.zeroes_only) ||
        (o.zeroes_only && c->s->image_backing_file)) {
        weigh(c, &o, o.offset >> c->s->cluster_bits, 1);
        g_array_append_val(c->orphans, o);
        g_steal_pointer(&clusters);
    } else if (clusters->len) {
        /* Only its own cluster is lost: others have as many references. */
        g_array_append_val(c->homeless, o);
        g_steal_pointer(&clusters);
    }
}

/* --- where they may go ------------------------------------------------- */

/* What an active L1 entry says of itself. */
typedef enum {
    SLOT_USED,
    SLOT_FREE,      /* names nothing that is there */
    SLOT_SUSPECT,   /* may be wrong: what it names is somebody else's, too */
} Slot;

static const Qcow2CheckL2 *find_l2(Qcow2Check *c, uint64_t offset)
{
    Qcow2CheckL2 key = { .read.offset = offset };

    return bsearch(&key, c->l2_tables->data, c->l2_tables->len,
                   sizeof(key), qcow2_check_compare_l2);
}

static Slot slot_state(Qcow2Check *c, uint32_t i)
{
    uint64_t entry = c->s->l1.entries[i];
    uint64_t offset = entry & L1E_OFFSET_MASK;
    uint64_t cluster = offset >> c->s->cluster_bits;
    const Qcow2CheckL2 *table;

    if (qcow2_check_l1_entry_is_void(c, entry)) {
        return SLOT_FREE;
    }
    table = find_l2(c, offset);
    if (!table || entry & L1E_RESERVED_MASK || table->active > 1 ||
        !qcow2_check_l2_is_proven(c, offset, table->refs)) {
        return SLOT_SUSPECT;
    }
    return table->refs > 1 && refcount_is_known(c, cluster) &&
           qcow2_check_counts_get(c->disk, cluster) < table->refs
           ? SLOT_SUSPECT : SLOT_USED;
}

/* All that the table maps is inside the disk there. */
static bool slot_has_room(const Qcow2Check *c, const Qcow2CheckOrphan *o,
                          uint32_t i)
{
    const BDRVQcow2State *s = c->s;
    uint64_t clusters = size_to_clusters(s, s->disk_size);

    if (o->index >= 0 && o->index != i) {
        return false;
    }
    return i >= size_to_l1(s, s->disk_size) ||
           ((uint64_t)i << s->l2_bits) + o->last < clusters;
}

/* States of all L1 entries; the caller frees. */
static uint8_t *slot_states(Qcow2Check *c)
{
    uint8_t *slots = g_malloc0(MAX(1, c->s->l1.size));
    uint32_t i;

    for (i = 0; i < c->s->l1.size; i++) {
        slots[i] = slot_state(c, i);
    }
    return slots;
}

static void find_slots(Qcow2Check *c, Qcow2CheckOrphan *o,
                       const uint8_t *slots)
{
    uint32_t i;

    /* Whether there are two or more makes no difference. */
    for (i = 0; i < c->s->l1.size && o->nb_free + o->nb_suspect < 2; i++) {
        if (slots[i] == SLOT_USED || !slot_has_room(c, o, i)) {
            continue;
        }
        if (slots[i] == SLOT_FREE) {
            o->nb_free++;
        } else {
            o->nb_suspect++;
        }
        o->slot = i;
    }
}

/* --- what to do -------------------------------------------------------- */

bool qcow2_check_l1_is_proven(Qcow2Check *c)
{
    BDRVQcow2State *s = c->s;
    uint64_t bytes = (uint64_t)s->l1.size * L1E_SIZE;
    uint64_t cluster = s->l1.offset >> s->cluster_bits;
    uint64_t end = (s->l1.offset + bytes + s->cluster_size - 1) >>
                   s->cluster_bits;

    for (; cluster < end; cluster++) {
        if (qcow2_check_found(c, cluster) != 1) {
            return false;
        }
    }
    return true;
}

static bool names(const Qcow2CheckOrphan *o, uint64_t cluster)
{
    return o->clusters->len &&
           bsearch(&cluster, o->clusters->data, o->clusters->len,
                   sizeof(cluster), compare_number);
}

/* Whether every other one is data of @o, and none has @o for its data. */
static bool is_only_root(Qcow2Check *c, const Qcow2CheckOrphan *o)
{
    guint i;

    for (i = 0; i < c->orphans->len; i++) {
        const Qcow2CheckOrphan *other = &g_array_index(c->orphans,
                                                       Qcow2CheckOrphan, i);

        if (other != o &&
            (!names(o, other->offset >> c->s->cluster_bits) ||
             names(other, o->offset >> c->s->cluster_bits))) {
            return false;
        }
    }
    return true;
}

/* --- snapshots that may have named them ----------------------------------- */

/* With more of them it is not looked for their places. */
#define MAX_HOMES 8

typedef struct Home {
    Qcow2CheckOrphan *orphan;
    uint64_t *entries;
} Home;

typedef struct Homes {
    Home homes[MAX_HOMES];
    guint n;
} Homes;

static void coroutine_fn compare_homes(Qcow2Check *c,
                                       const Qcow2CheckL2 *table,
                                       const uint64_t *l2, void *opaque)
{
    Homes *h = opaque;
    guint i;

    for (i = 0; i < h->n; i++) {
        Qcow2CheckOrphan *o = h->homes[i].orphan;

        if (qcow2_check_l2_share(c, h->homes[i].entries, l2)) {
            o->home = o->home == -1 || o->home == table->index
                      ? table->index : -2;
        }
    }
}

/* The part of the disk that an orphan belongs to, by the data of snapshots. */
static void coroutine_fn find_homes(Qcow2Check *c)
{
    Homes h = { .n = 0 };
    guint i;

    if (!c->s->nb_snapshots || c->orphans->len > MAX_HOMES ||
        c->s->has_data_file) {
        return;
    }
    for (i = 0; i < c->orphans->len; i++) {
        Home *home = &h.homes[h.n];

        home->orphan = &g_array_index(c->orphans, Qcow2CheckOrphan, i);
        home->entries = qemu_try_blockalign(c->bs->file->bs,
                                            c->s->cluster_size);
        if (home->entries &&
            qcow2_check_pread(c, home->orphan->offset, c->s->cluster_size,
                              home->entries) == 0) {
            h.n++;
        } else {
            qemu_vfree(home->entries);
        }
    }
    qcow2_check_each_l2(c, qcow2_check_l2_has_index, compare_homes, &h);
    for (i = 0; i < h.n; i++) {
        qemu_vfree(h.homes[i].entries);
    }
}

/* Whether the entry of a snapshot, too, may have lost the table. */
static bool may_be_snapshots(Qcow2Check *c, const Qcow2CheckOrphan *o)
{
    if (!c->s->nb_snapshots) {
        return false;
    }
    if (o->home >= 0) {
        return o->home != o->slot || qcow2_check_any_short(c) ||
               qcow2_check_counts_get(c->snapshot_voids, o->home);
    }
    return !qcow2_check_counts_is_empty(c->snapshot_voids) ||
           qcow2_check_any_short(c);
}

/* Why @o is not put back; NULL: it is. */
static const char *objection(Qcow2Check *c, const Qcow2CheckOrphan *o)
{
    if (c->s->has_data_file) {
        return "the data file does not tell whether its data are in use";
    }
    if (o->nb_free + o->nb_suspect != 1) {
        return "more than one L1 entry has room for it";
    }
    if (o->nb_suspect) {
        return "the L1 entry that has room for it may be right";
    }
    if (c->s->incompatible_features & QCOW2_INCOMPAT_DIRTY) {
        return "the refcounts of a dirty image prove nothing";
    }
    if (c->unread || c->bad_references != c->void_faults || c->rebuild ||
        !qcow2_check_l1_is_proven(c)) {
        return "other tables are damaged, too";
    }
    if (!o->exact) {
        return "refcounts do not agree with its entries";
    }
    if (!o->flags_agree) {
        return "its entries have not the flags of a table in use";
    }
    if (!is_only_root(c, o)) {
        return "other clusters look like an L2 table, too";
    }
    /* A deleted snapshot leaves such tables, but never alone. */
    if (o->lost != c->res->leaks) {
        return "other clusters are leaked, too";
    }
    if (may_be_snapshots(c, o)) {
        return "a snapshot may have had it";
    }
    if (o->zeroes_only) {
        return "it has no data and would hide the backing file";
    }
    return NULL;
}

static void put_back(Qcow2Check *c, Qcow2CheckOrphan *o, uint32_t slot)
{
    uint64_t cluster = o->offset >> c->s->cluster_bits;
    bool alone = qcow2_check_counts_get(c->disk, cluster) == 1;
    uint64_t entry = o->offset | (alone ? QCOW_OFLAG_COPIED : 0);

    qcow2_check_say(c, "Repairing L1 entry %u: L2 table at offset 0x%" PRIx64
                    " with %u clusters", slot, o->offset, o->clusters->len);
    qcow2_l1_update(c->bs, slot, 1, &entry);
}

/* "L1 entries with room for it: 3, 5, …"; the caller frees. */
static char *slot_list(Qcow2Check *c, const Qcow2CheckOrphan *o,
                       const uint8_t *slots)
{
    GString *text = g_string_new(NULL);
    uint32_t i, n = 0;

    for (i = 0; i < c->s->l1.size && n <= MAX_SLOTS; i++) {
        if (slots[i] == SLOT_USED || !slot_has_room(c, o, i)) {
            continue;
        }
        if (n++ < MAX_SLOTS) {
            g_string_append_printf(text, "%s%u%s", n > 1 ? ", " : "", i,
                                   slots[i] == SLOT_SUSPECT ? "?" : "");
        } else {
            g_string_append(text, ", ...");
        }
    }
    return g_string_free(text, FALSE);
}

static void tell(Qcow2Check *c, const Qcow2CheckOrphan *o,
                 const uint8_t *slots, const char *why, bool is_free)
{
    g_autofree char *list = slot_list(c, o, slots);

    qcow2_check_say(c, "Orphaned L2 table at offset 0x%" PRIx64 ": maps %u "
                    "clusters, %u of them leaked; L1 entries with room for "
                    "it: %s", o->offset, o->clusters->len,
                    (unsigned)(o->lost - 1), list);
    if (!why) {
        if (!(c->fix & BDRV_FIX_ERRORS)) {
            qcow2_check_say(c, "Repairing all errors puts it back into L1 "
                            "entry %u", o->slot);
        }
    } else if (!is_free) {
        qcow2_check_say(c, qcow2_check_may_rescue(c)
                        ? "It is not put back, but saved: %s"
                        : "It is neither put back nor freed: %s", why);
    }
}

/* Nothing that @o could need is freed. */
static void keep(Qcow2Check *c, const Qcow2CheckOrphan *o)
{
    guint i;

    qcow2_check_counts_set(c->kept, o->offset >> c->s->cluster_bits, 1);
    for (i = 0; i < o->clusters->len; i++) {
        qcow2_check_counts_set(c->kept,
                               g_array_index(o->clusters, uint64_t, i), 1);
    }
}

/* --- active tables that may have lost their entries --------------------- */

static uint32_t l1_index_of(const Qcow2Check *c, uint64_t offset)
{
    uint32_t i = 0;

    while (i + 1 < c->s->l1.size &&
           (c->s->l1.entries[i] & L1E_OFFSET_MASK) != offset) {
        i++;
    }
    return i;
}

static void keep_all(Qcow2Check *c, const Qcow2CheckL2 *table, const char *how)
{
    if (!c->keep_all) {
        qcow2_check_say(c, "The L2 table of L1 entry %u %s: the leaked "
                        "clusters may be what it named, and are not freed",
                        l1_index_of(c, table->read.offset), how);
    }
    c->keep_all = true;
}

/* Counts entries for clusters that are referred to more often than stored. */
static void coroutine_fn look_for_overlap(Qcow2Check *c, void *element,
                                          void *buf, int ret)
{
    const Qcow2CheckL2 *table = element;
    const uint64_t *l2 = buf;
    uint32_t named = 0, doubled = 0;
    int i;

    for (i = 0; ret == 0 && i < c->s->l2_size; i++) {
        uint64_t entry = get_l2_entry(c->s, l2, i);
        uint64_t cluster = (entry & L2E_OFFSET_MASK) >> c->s->cluster_bits;

        if (entry & QCOW_OFLAG_COMPRESSED || !cluster) {
            continue;
        }
        named++;
        doubled += refcount_is_known(c, cluster) &&
                   qcow2_check_counts_get(c->refs, cluster) >
                   qcow2_check_counts_get(c->disk, cluster) &&
                   qcow2_check_counts_get(c->disk, cluster) > 0;
    }
    /* A few may be single entries that went wrong. */
    if (doubled && doubled > named / 4 * 3) {
        keep_all(c, table, "names clusters that others use");
    }
}

static void coroutine_fn find_lost_entries(Qcow2Check *c)
{
    g_autoptr(GArray) active = g_array_new(FALSE, FALSE, sizeof(Qcow2CheckL2));
    guint i;

    for (i = 0; i < c->l2_tables->len; i++) {
        const Qcow2CheckL2 *t = &g_array_index(c->l2_tables, Qcow2CheckL2, i);

        if (t->active && t->empty) {
            keep_all(c, t, "is empty");
        } else if (t->active) {
            g_array_append_val(active, *t);
        }
    }
    if (!c->keep_all && c->res->corruptions) {
        qcow2_check_read_many(c, active->data, active->len,
                              sizeof(Qcow2CheckL2), look_for_overlap);
    }
}

/* --- what the check calls ----------------------------------------------- */

void qcow2_check_orphan_clear(void *opaque)
{
    Qcow2CheckOrphan *o = opaque;

    g_clear_pointer(&o->clusters, g_array_unref);
}

static void coroutine_fn find_orphans(Qcow2Check *c)
{
    g_autoptr(GArray) list = g_array_new(FALSE, FALSE, sizeof(Candidate));

    add_unreferenced(c, list);
    add_unknown(c, list);
    add_shared(c, list);
    g_array_sort(list, compare_candidate);
    qcow2_check_read_many(c, list->data, list->len, sizeof(Candidate),
                          judge_candidate);
}

/* Sorts out those that no entry has room for: the disk misses none of them. */
static void drop_homeless(Qcow2Check *c, const uint8_t *slots)
{
    guint i = 0;

    while (i < c->orphans->len) {
        Qcow2CheckOrphan *o = &g_array_index(c->orphans, Qcow2CheckOrphan, i);

        find_slots(c, o, slots);
        if (o->nb_free || o->nb_suspect) {
            i++;
        } else {
            g_array_append_vals(c->homeless, o, 1);
            g_array_index(c->orphans, Qcow2CheckOrphan, i).clusters = NULL;
            g_array_remove_index(c->orphans, i);
        }
    }
}

static Qcow2CheckOrphan *find_orphan(Qcow2Check *c, uint64_t offset)
{
    guint i;

    for (i = 0; i < c->orphans->len; i++) {
        Qcow2CheckOrphan *o = &g_array_index(c->orphans, Qcow2CheckOrphan, i);

        if (o->offset == offset) {
            return o;
        }
    }
    return NULL;
}

/* Why the user's wish cannot be done; NULL: it can. */
static const char *refuse_place(Qcow2Check *c, const BdrvCheckPlace *p,
                                const Qcow2CheckOrphan *o,
                                const uint8_t *slots)
{
    if (p->index >= c->s->l1.size) {
        return "there is no such L1 entry";
    }
    if (!o) {
        return "there is no orphaned L2 table";
    }
    if (slots[p->index] == SLOT_USED || !slot_has_room(c, o, p->index)) {
        return "the L1 entry has no room for it";
    }
    if (!o->fits) {
        return "some of its clusters are in use elsewhere";
    }
    return qcow2_check_l1_is_proven(c) ? NULL
           : "the L1 table overlaps something else";
}

/* Two wishes that cannot both be had. */
static bool places_conflict(const BdrvCheckOptions *opts)
{
    size_t i, j;

    for (i = 0; i < opts->nb_places; i++) {
        for (j = 0; j < i; j++) {
            if (opts->places[i].index == opts->places[j].index ||
                opts->places[i].offset == opts->places[j].offset) {
                return true;
            }
        }
    }
    return false;
}

/* One more reference in @placed; false if the stored refcount is too low. */
static bool count_placed(Qcow2Check *c, Qcow2CheckCounts *placed,
                         uint64_t cluster)
{
    qcow2_check_counts_add(placed, cluster, 1, UINT64_MAX);
    return qcow2_check_counts_get(placed, cluster) +
           qcow2_check_counts_get(c->refs, cluster) <=
           qcow2_check_counts_get(c->disk, cluster);
}

/* The same for all that the table refers to, and for itself. */
static bool count_placed_table(Qcow2Check *c, Qcow2CheckCounts *placed,
                               const Qcow2CheckOrphan *o)
{
    guint i;

    for (i = 0; i < o->clusters->len; i++) {
        if (!count_placed(c, placed, g_array_index(o->clusters, uint64_t,
                                                   i))) {
            return false;
        }
    }
    return count_placed(c, placed, o->offset >> c->s->cluster_bits);
}

int qcow2_check_place(Qcow2Check *c, const BdrvCheckOptions *opts)
{
    g_autoptr(Qcow2CheckCounts) placed = qcow2_check_counts_new();
    g_autofree uint8_t *slots = slot_states(c);
    size_t i;

    if (places_conflict(opts)) {
        qcow2_check_say(c, "ERROR: an L1 entry or an L2 table is placed twice");
        return -EINVAL;
    }
    for (i = 0; i < opts->nb_places; i++) {
        const BdrvCheckPlace *p = &opts->places[i];
        const Qcow2CheckOrphan *o = find_orphan(c, p->offset);
        const char *why = refuse_place(c, p, o, slots);

        if (!why && !count_placed_table(c, placed, o)) {
            why = "another table that is placed has its clusters";
        }
        if (why) {
            qcow2_check_say(c, "ERROR: cannot place 0x%" PRIx64 " in L1 entry "
                            "%u: %s", p->offset, p->index, why);
            return -EINVAL;
        }
    }
    for (i = 0; i < opts->nb_places; i++) {
        put_back(c, find_orphan(c, opts->places[i].offset),
                 opts->places[i].index);
    }
    return 0;
}

void coroutine_fn qcow2_check_find_orphans(Qcow2Check *c, bool is_free)
{
    g_autofree uint8_t *slots = NULL;
    guint i;

    if (!c->res->leaks && !c->unknown_refcounts && !c->rebuild) {
        return;
    }
    find_orphans(c);
    slots = slot_states(c);
    drop_homeless(c, slots);
    find_homes(c);
    for (i = 0; i < c->orphans->len; i++) {
        Qcow2CheckOrphan *o = &g_array_index(c->orphans, Qcow2CheckOrphan, i);
        const char *why = objection(c, o);

        o->can_return = !why;
        if (i < MAX_LISTED) {
            tell(c, o, slots, why, is_free);
        } else if (i == MAX_LISTED) {
            qcow2_check_say(c, "%u more orphaned L2 tables",
                            c->orphans->len - i);
        }
        if (!is_free) {
            keep(c, o);
        }
    }
    c->res->orphans = c->orphans->len;
    /* What a table in use has named is not here if there is a data file. */
    if (!is_free && !c->s->has_data_file) {
        find_lost_entries(c);
    }
}

int64_t qcow2_check_return_orphans(Qcow2Check *c)
{
    int64_t n = 0;
    guint i;

    for (i = 0; i < c->orphans->len; i++) {
        Qcow2CheckOrphan *o = &g_array_index(c->orphans, Qcow2CheckOrphan, i);

        if (o->can_return) {
            put_back(c, o, o->slot);
            n++;
        }
    }
    return n;
}

bool qcow2_check_is_kept(Qcow2Check *c, uint64_t cluster)
{
    return c->keep_all || qcow2_check_counts_get(c->kept, cluster);
}

int64_t qcow2_check_count_kept(Qcow2Check *c)
{
    g_auto(Qcow2CheckWalk) walk = qcow2_check_walk(c->disk, c->kept,
                                                   c->nb_clusters, false);
    int64_t leaks = 0;
    uint64_t cluster;

    while (qcow2_check_walk_next(&walk, &cluster)) {
        if (may_be_leaked(c, cluster) && qcow2_check_is_kept(c, cluster)) {
            uint64_t stored = qcow2_check_counts_get(c->disk, cluster);

            leaks += refcount_is_known(c, cluster);
            qcow2_check_counts_set(c->refs, cluster, MAX(stored, 1));
        }
    }
    return leaks;
}
