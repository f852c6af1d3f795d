/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * L2 entries that may be damaged, and what they may have been.
 *
 * An entry is suspect if it cannot be right, if it names a cluster that has
 * fewer references stored than were found, or if it is compressed, cannot be
 * unpacked, and ends before a leaked cluster. It may have been each value that
 * differs in one bit; a leaked cluster; or nothing, if it cannot be right. Those
 * candidates are kept that make the refcounts agree: that takes the few clusters
 * which are out of balance before. Bitmaps of subclusters are taken for right.
 */
#include "util/osdep.h"
#include "util/memalign.h"
#include "block/qcow2/check.h"
#include "block/qcow2/compressed.h"

/* With more of them it was no single entry. */
#define MAX_SUSPECTS 64
#define MAX_ODD 64
/* A compressed cluster touches three host clusters at the most. */
#define MAX_DELTAS 8
/* Compressed clusters that are unpacked to find suspects. */
#define MAX_UNPACKED 4096

/* A cluster whose refcount is not what was found. */
typedef struct Odd {
    uint64_t cluster;
    int64_t missing;        /* references */
    bool compressed;        /* a compressed cluster is in it */
} Odd;

typedef struct Suspect {
    uint64_t table;         /* offset */
    uint32_t index;
    uint32_t refs;
    bool active;
    uint64_t guest;         /* offset in the disk; UINT64_MAX: unknown */
    uint64_t entry;
    uint64_t bitmap;
} Suspect;

typedef struct Finder {
    Qcow2Check *c;
    GArray *odd;            /* Odd, sorted */
    GArray *suspects;       /* Suspect; one more than the maximum: too many */
    unsigned nb_unpacked;
    GArray *rivals;         /* Qcow2CheckChange: sound entries that share too
                             * much, without new values */
} Finder;

/* What an entry adds to the references of clusters, with its sign. */
typedef struct Deltas {
    uint64_t clusters[MAX_DELTAS];
    int64_t refs[MAX_DELTAS];
    int n;
} Deltas;

/* --- clusters out of balance ---------------------------------------------- */

static int64_t missing_refs(Qcow2Check *c, uint64_t cluster)
{
    uint64_t stored = qcow2_check_counts_get(c->disk, cluster);
    uint64_t found = qcow2_check_found(c, cluster);

    /* What is stored may be any number. */
    return stored > found ? (int64_t)MIN(stored - found, INT64_MAX)
                          : -(int64_t)(found - stored);
}

/* False if there are too many. */
static bool find_odd(Finder *f)
{
    Qcow2Check *c = f->c;
    bool unlike = qcow2_check_counts_is_empty(c->excess);
    g_auto(Qcow2CheckWalk) walk = qcow2_check_walk(c->refs, c->disk,
                                                   c->nb_clusters, unlike);
    uint64_t cluster;

    while (f->odd->len <= MAX_ODD && qcow2_check_walk_next(&walk, &cluster)) {
        Odd odd = {
            .cluster = cluster, .missing = missing_refs(c, cluster),
        };

        if (odd.missing) {
            g_array_append_val(f->odd, odd);
        }
    }
    return f->odd->len <= MAX_ODD;
}

static Odd *find_odd_cluster(const Finder *f, uint64_t cluster)
{
    guint i;

    for (i = 0; i < f->odd->len; i++) {
        Odd *odd = &g_array_index(f->odd, Odd, i);

        if (odd->cluster == cluster) {
            return odd;
        }
    }
    return NULL;
}

/* --- what an entry names -------------------------------------------------- */

/* The range that is counted for @entry; false: none. */
static bool entry_range(const Qcow2Check *c, uint64_t entry, uint64_t *offset,
                        uint64_t *bytes)
{
    int size;

    if (entry & QCOW_OFLAG_COMPRESSED) {
        qcow2_parse_compressed_l2_entry(c->s, entry, offset, &size);
        *bytes = size;
    } else {
        *offset = entry & L2E_OFFSET_MASK;
        *bytes = c->s->cluster_size;
    }
    return *offset;
}

uint64_t qcow2_check_last_host(const Qcow2Check *c, uint64_t entry)
{
    uint64_t offset, bytes;

    if (!entry_range(c, entry, &offset, &bytes)) {
        return 0;
    }
    return entry & QCOW_OFLAG_COMPRESSED ? offset + bytes - 1 : offset;
}

/* As qcow2_check_count() has it. */
static bool range_is_in_file(const Qcow2Check *c, uint64_t offset,
                             uint64_t bytes)
{
    return offset <= INT64_MAX - bytes &&
           (offset + bytes <= c->file_size ||
            offset + bytes - c->file_size < c->s->cluster_size);
}

static void add_deltas(const Qcow2Check *c, Deltas *d, uint64_t entry,
                       int64_t refs)
{
    uint64_t offset, bytes, cluster;
    int i;

    if (!entry_range(c, entry, &offset, &bytes) ||
        !range_is_in_file(c, offset, bytes)) {
        return;
    }
    for (cluster = offset >> c->s->cluster_bits;
         cluster <= (offset + bytes - 1) >> c->s->cluster_bits; cluster++) {
        for (i = 0; i < d->n && d->clusters[i] != cluster; i++) {
        }
        if (i == MAX_DELTAS) {
            return;     /* cannot be; the trial would find out */
        }
        if (i == d->n) {
            d->clusters[d->n] = cluster;
            d->refs[d->n++] = 0;
        }
        d->refs[i] += refs;
    }
}

/* All refcounts are right with @entry instead of what the suspect is. */
static bool balances(const Finder *f, const Suspect *suspect, uint64_t entry)
{
    Deltas d = { .n = 0 };
    guint odd = 0;
    int i;

    add_deltas(f->c, &d, suspect->entry, -(int64_t)suspect->refs);
    add_deltas(f->c, &d, entry, suspect->refs);
    for (i = 0; i < d.n; i++) {
        int64_t missing = missing_refs(f->c, d.clusters[i]);

        if (missing != d.refs[i]) {
            return false;
        }
        odd += missing != 0;
    }
    return odd == f->odd->len;
}

/* Whether the bytes unpack to a cluster. */
static bool coroutine_fn unpacks(Qcow2Check *c, uint64_t offset,
                                 uint64_t bytes)
{
    QEMU_AUTO_VFREE void *src = qemu_try_blockalign(c->bs->file->bs, bytes);
    QEMU_AUTO_VFREE void *dest = qemu_try_blockalign(c->bs->file->bs,
                                                     c->s->cluster_size);
    Qcow2Unpack part = { .dest = dest, .src = src, .src_size = bytes };

    return src && dest && qcow2_check_pread(c, offset, bytes, src) == 0 &&
           qcow2_co_decompress(c->bs, &part, 1) == 1;
}

bool coroutine_fn qcow2_check_entry_unpacks(Qcow2Check *c, uint64_t entry)
{
    uint64_t offset, bytes;

    return entry_range(c, entry, &offset, &bytes) &&
           range_is_in_file(c, offset, bytes) && unpacks(c, offset, bytes);
}

bool qcow2_check_l2_entry_is_sound(const Qcow2Check *c, uint64_t entry)
{
    uint64_t offset, bytes;

    if (entry & QCOW_OFLAG_COMPRESSED) {
        return !(entry & QCOW_OFLAG_COPIED) &&
               entry_range(c, entry, &offset, &bytes) &&
               range_is_in_file(c, offset, bytes);
    }
    if (entry & L2E_STD_RESERVED_MASK ||
        (entry & QCOW_OFLAG_ZERO && c->s->qcow_version < 3)) {
        return false;
    }
    return !entry_range(c, entry, &offset, &bytes) ||
           (!offset_into_cluster(c->s, offset) &&
            range_is_in_file(c, offset, bytes));
}

/* What somebody may have written there: sound, and no flag says nothing. */
static bool is_possible(const Qcow2Check *c, uint64_t entry)
{
    return qcow2_check_l2_entry_is_sound(c, entry) &&
           (!(entry & QCOW_OFLAG_COPIED) || entry & L2E_OFFSET_MASK);
}

/* --- finding suspects ------------------------------------------------------ */

/* Compressed clusters leave a mark where they are out of balance. */
static void mark_compressed(Finder *f, uint64_t offset, uint64_t bytes)
{
    Qcow2Check *c = f->c;
    uint64_t cluster = offset >> c->s->cluster_bits;

    for (; cluster <= (offset + bytes - 1) >> c->s->cluster_bits; cluster++) {
        Odd *odd = find_odd_cluster(f, cluster);

        if (odd) {
            odd->compressed = true;
        }
    }
}

static bool names_too_often(Qcow2Check *c, uint64_t offset, uint64_t bytes)
{
    uint64_t cluster = offset >> c->s->cluster_bits;

    for (; cluster <= (offset + bytes - 1) >> c->s->cluster_bits; cluster++) {
        if (missing_refs(c, cluster) < 0) {
            return true;
        }
    }
    return false;
}

/*
 * Whether others name the cluster, too, and in all one or two of them (what is
 * compressed may reach into the next) have more references than are stored:
 * then one of the others, or of these, may have been what is leaked.
 */
static bool is_rival(const Finder *f, uint64_t offset)
{
    uint64_t cluster = offset >> f->c->s->cluster_bits;
    guint i, n = 0;

    for (i = 0; i < f->odd->len; i++) {
        n += g_array_index(f->odd, Odd, i).missing < 0;
    }
    return n <= 2 && qcow2_check_counts_get(f->c->disk, cluster) &&
           qcow2_check_has_rival(f->c, offset, 1);
}

/* With too many to look at nothing is certain: then it does. */
static bool coroutine_fn suspect_unpacks(Finder *f, uint64_t entry)
{
    return ++f->nb_unpacked > MAX_UNPACKED ||
           qcow2_check_entry_unpacks(f->c, entry);
}

static bool coroutine_fn is_suspect(Finder *f, uint64_t entry, bool *rival)
{
    Qcow2Check *c = f->c;
    uint64_t offset, bytes;

    if (!entry || !qcow2_check_l2_entry_is_sound(c, entry)) {
        return entry;
    }
    if (!entry_range(c, entry, &offset, &bytes)) {
        return false;
    }
    if (names_too_often(c, offset, bytes)) {
        *rival = is_rival(f, offset);
        return !(entry & QCOW_OFLAG_COMPRESSED) || !suspect_unpacks(f, entry);
    }
    if (!(entry & QCOW_OFLAG_COMPRESSED)) {
        return false;
    }
    mark_compressed(f, offset, bytes);
    return missing_refs(c, ((offset + bytes - 1) >> c->s->cluster_bits) + 1) >
           0 && !suspect_unpacks(f, entry);
}

static bool is_aligned(const Qcow2Check *c, const Qcow2CheckL2 *table)
{
    return !offset_into_cluster(c->s, table->read.offset);
}

static void note_rival(Finder *f, const Suspect *suspect)
{
    Qcow2CheckChange rival = {
        .offset = suspect->table +
                  (uint64_t)suspect->index * qcow2_l2_entry_size(f->c->s),
        .table = suspect->table, .guest = suspect->guest,
        .old = suspect->entry,
    };

    g_array_append_val(f->rivals, rival);
}

static void coroutine_fn look_at_table(Qcow2Check *c,
                                       const Qcow2CheckL2 *table,
                                       const uint64_t *l2, void *opaque)
{
    Finder *f = opaque;
    int i;

    for (i = 0; i < c->s->l2_size && f->suspects->len <= MAX_SUSPECTS; i++) {
        Suspect suspect = {
            .table = table->read.offset, .index = i, .refs = table->refs,
            .active = table->active, .entry = get_l2_entry(c->s, l2, i),
            .bitmap = get_l2_bitmap(c->s, l2, i),
            .guest = qcow2_check_guest_of(c, table, i),
        };
        bool rival = false;

        if (is_suspect(f, suspect.entry, &rival) ||
            !qcow2_bitmap_is_valid(c->s, suspect.entry, suspect.bitmap)) {
            g_array_append_val(f->suspects, suspect);
        }
        if (rival) {
            note_rival(f, &suspect);
        }
    }
}

/* --- candidates ------------------------------------------------------------ */

/* The same compressed data, with another number of sectors behind them. */
static bool is_same_data(const Qcow2Check *c, uint64_t a, uint64_t b)
{
    uint64_t offset_a, offset_b, bytes;

    return a & b & QCOW_OFLAG_COMPRESSED &&
           entry_range(c, a, &offset_a, &bytes) &&
           entry_range(c, b, &offset_b, &bytes) && offset_a == offset_b;
}

static bool is_known(const Qcow2Check *c, const Qcow2CheckChange *change,
                     const GArray *changes)
{
    guint i;

    for (i = 0; i < changes->len; i++) {
        const Qcow2CheckChange *other = &g_array_index(changes,
                                                       Qcow2CheckChange, i);

        if (other->offset == change->offset &&
            is_same_data(c, other->new, change->new)) {
            return true;
        }
    }
    return false;
}

/* A whole cluster of data where others have compressed ones. */
static bool is_among_compressed(const Finder *f, uint64_t entry)
{
    const Odd *odd = entry & QCOW_OFLAG_COMPRESSED ? NULL
        : find_odd_cluster(f, (entry & L2E_OFFSET_MASK) >>
                              f->c->s->cluster_bits);

    return odd && odd->compressed;
}

/* What can be read as it is, compressed, and could not with @entry. */
static bool coroutine_fn hides_compressed(Finder *f, uint64_t old,
                                          uint64_t entry)
{
    return old & ~entry & QCOW_OFLAG_COMPRESSED &&
           qcow2_check_entry_unpacks(f->c, old);
}

static void coroutine_fn add_candidate(Finder *f, const Suspect *suspect,
                                       uint64_t entry, bool doubtful,
                                       GArray *changes)
{
    Qcow2CheckChange change = {
        .offset = suspect->table +
                  (uint64_t)suspect->index * qcow2_l2_entry_size(f->c->s),
        .bytes = sizeof(entry), .guest = suspect->guest,
        .old = suspect->entry, .new = entry,
        .refs = suspect->refs, .table = suspect->table,
        .index = suspect->index, .what = "L2 entry",
        .doubtful = doubtful || is_among_compressed(f, entry),
    };
    uint64_t offset, bytes;

    /* A sound entry names something: only its place can be wrong. */
    if (entry == suspect->entry || !is_possible(f->c, entry) ||
        !qcow2_bitmap_is_valid(f->c->s, entry, suspect->bitmap) ||
        (qcow2_check_l2_entry_is_sound(f->c, suspect->entry) &&
         !entry_range(f->c, entry, &offset, &bytes)) ||
        !balances(f, suspect, entry) ||
        (entry & QCOW_OFLAG_COMPRESSED &&
         !qcow2_check_entry_unpacks(f->c, entry)) ||
        is_known(f->c, &change, changes)) {
        return;
    }
    change.doubtful |= hides_compressed(f, suspect->entry, entry);
    qcow2_check_add_change(changes, &change);
}

/* A leaked cluster; in doubt if it may be one with compressed data. */
static void coroutine_fn add_leaked(Finder *f, const Suspect *suspect,
                                    const Odd *odd, GArray *changes)
{
    Qcow2Check *c = f->c;
    uint64_t offset = odd->cluster << c->s->cluster_bits;
    uint64_t entry = offset;

    if (odd->missing != suspect->refs) {
        return;
    }
    if (suspect->active && qcow2_check_counts_get(c->disk, odd->cluster) == 1) {
        entry |= QCOW_OFLAG_COPIED;
    }
    add_candidate(f, suspect, entry, unpacks(c, offset, c->s->cluster_size),
                  changes);
}

static void coroutine_fn add_candidates(Finder *f, const Suspect *suspect,
                                        GArray *changes)
{
    /* With its cluster to itself it may be right, and the refcount wrong. */
    bool alone = qcow2_check_l2_entry_is_sound(f->c, suspect->entry) &&
                 !(suspect->entry & QCOW_OFLAG_COMPRESSED) &&
                 !qcow2_check_has_rival(f->c, suspect->entry & L2E_OFFSET_MASK,
                                        suspect->refs);
    guint i;

    for (i = 0; i < 64; i++) {
        add_candidate(f, suspect, suspect->entry ^ 1ULL << i, alone, changes);
    }
    if (alone) {
        return;
    }
    for (i = 0; i < f->odd->len; i++) {
        add_leaked(f, suspect, &g_array_index(f->odd, Odd, i), changes);
    }
    if (qcow2_check_l2_entry_is_sound(f->c, suspect->entry)) {
        /* Then it may as well be the refcount that is wrong. */
        return;
    }
    if (!(suspect->entry & QCOW_OFLAG_COMPRESSED)) {
        add_candidate(f, suspect, suspect->entry & ~L2E_STD_RESERVED_MASK,
                      false, changes);
    }
    if (qcow2_check_is_cut_off(f->c, qcow2_check_last_host(f->c,
                                                           suspect->entry))) {
        return;     /* that is not nothing */
    }
    add_candidate(f, suspect, 0, false, changes);
    if (f->c->s->image_backing_file && !f->c->s->extended_l2) {
        /* The other thing that it may have been. */
        add_candidate(f, suspect, QCOW_OFLAG_ZERO, false, changes);
    }
}

/* The caller frees the arrays. False: this is no damage to a single entry. */
static bool coroutine_fn find(Finder *f, Qcow2Check *c, GArray *rivals)
{
    *f = (Finder) {
        .c = c, .rivals = rivals,
        .odd = g_array_new(FALSE, FALSE, sizeof(Odd)),
        .suspects = g_array_new(FALSE, FALSE, sizeof(Suspect)),
    };
    if (c->s->has_data_file || !find_odd(f)) {
        return false;
    }
    qcow2_check_each_l2(c, is_aligned, look_at_table, f);
    return f->suspects->len <= MAX_SUSPECTS;
}

static void finder_clear(Finder *f)
{
    g_array_unref(f->odd);
    g_array_unref(f->suspects);
}

void coroutine_fn qcow2_check_find_entries(Qcow2Check *c, GArray *changes,
                                           GArray *rivals)
{
    Finder f;
    guint i;

    if (find(&f, c, rivals)) {
        for (i = 0; i < f.suspects->len; i++) {
            add_candidates(&f, &g_array_index(f.suspects, Suspect, i),
                           changes);
        }
    }
    finder_clear(&f);
}
