/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A single damaged field, restored by proof.
 *
 * Refcounts and COPIED flags are a second witness of what refers to clusters.
 * Candidates for the right value of a field are tried: the metadata are read
 * with the candidate in its place, and all references are counted again.
 *
 * Invariants:
 *  1. A trial writes nothing and leaves the state as it was.
 *  2. A field is restored only if with its new value everything agrees, and
 *     if no other candidate does that. One that refcounts do not prove is not
 *     taken, and is in the way of all but a proven one for the same field.
 *  3. If several do and clusters are leaked, nothing at all is repaired: any
 *     repair would make the damage look right, and the data free. The same
 *     goes if none does, and entries share what only one of them can have.
 */
#include "util/osdep.h"
#include "util/bswap.h"
#include "util/error.h"
#include "block/qcow2/bitmap.h"
#include "block/qcow2/check.h"
#include "block/qcow2/snapshot.h"

/* Candidates named in a message. */
#define MAX_LISTED 8
/*
 * Trials read no more metadata than this, unless they are few: some times what
 * the file has, and what takes no time.
 */
#define TRIAL_BYTES(file_size) MIN(8ULL << 30, (256ULL << 20) + 64 * (file_size))
#define FEW_TRIALS 16

void qcow2_patch_read(const BDRVQcow2State *s, uint64_t offset, uint64_t bytes,
                      void *buf)
{
    const Qcow2Patch *p;

    for (p = s->patch; p; p = p->next) {
        uint64_t start = MAX(offset, p->offset);
        uint64_t end = MIN(offset + bytes, p->offset + p->size);

        if (start < end) {
            memcpy((uint8_t *)buf + (start - offset),
                   p->bytes + (start - p->offset), end - start);
        }
    }
}

/* --- what is in memory ---------------------------------------------------- */

static bool touches(const Qcow2CheckChange *change, uint64_t offset,
                    uint64_t bytes)
{
    return change->offset < offset + bytes &&
           offset < change->offset + change->bytes;
}

static bool in_l1(const BDRVQcow2State *s, const Qcow2CheckChange *change)
{
    return touches(change, s->l1.offset, (uint64_t)s->l1.size * L1E_SIZE);
}

static uint32_t l1_index(const BDRVQcow2State *s,
                         const Qcow2CheckChange *change)
{
    return (change->offset - s->l1.offset) / L1E_SIZE;
}

/* One whole entry. */
static bool is_l1_entry(const Qcow2CheckChange *change)
{
    return change->bytes == L1E_SIZE && change->offset % L1E_SIZE == 0;
}

static bool in_snapshots(const BDRVQcow2State *s,
                         const Qcow2CheckChange *change)
{
    return touches(change, s->snapshots_offset, s->snapshots_size);
}

static bool in_bitmaps(const BDRVQcow2State *s, const Qcow2CheckChange *change)
{
    return touches(change, s->bitmap_directory_offset,
                   s->bitmap_directory_size);
}

/* What a trial puts aside. */
typedef struct Saved {
    QCowSnapshot *snapshots;
    uint64_t snapshots_size;
    GPtrArray *bitmaps;
    const char *bitmaps_fault;
    uint64_t l1_entry;
} Saved;

/* Reads again what was read before the check. False: it cannot be. */
static bool coroutine_fn enter(Qcow2Check *c, const Qcow2CheckChange *change,
                               Saved *saved)
{
    BDRVQcow2State *s = c->s;
    Saved now = {
        .snapshots = s->snapshots, .snapshots_size = s->snapshots_size,
        .bitmaps = s->bitmaps, .bitmaps_fault = s->bitmaps_fault,
    };
    bool ok = true;

    *saved = now;
    if (in_l1(s, change)) {
        /* Not an update: nothing is to be written. */
        saved->l1_entry = s->l1.entries[l1_index(s, change)];
        s->l1.entries[l1_index(s, change)] = change->new;
    } else if (in_snapshots(s, change)) {
        s->snapshots = NULL;
        ok = qcow2_read_snapshots(c->bs, NULL) == 0;
    } else if (in_bitmaps(s, change)) {
        s->bitmaps_fault = NULL;
        ok = qcow2_bitmaps_read_directory(c->bs) == 0;
    }
    return ok;
}

static void leave(Qcow2Check *c, const Qcow2CheckChange *change,
                  const Saved *saved)
{
    BDRVQcow2State *s = c->s;

    if (in_l1(s, change)) {
        s->l1.entries[l1_index(s, change)] = saved->l1_entry;
    }
    if (s->snapshots != saved->snapshots) {
        qcow2_free_snapshots(s);
    }
    if (s->bitmaps != saved->bitmaps) {
        g_ptr_array_unref(s->bitmaps);
    }
    s->snapshots = saved->snapshots;
    s->snapshots_size = saved->snapshots_size;
    s->bitmaps = saved->bitmaps;
    s->bitmaps_fault = saved->bitmaps_fault;
}

/* --- trials --------------------------------------------------------------- */

/* Everything agrees, and the field is in a cluster with no other use. */
static bool coroutine_fn all_agrees(Qcow2Check *c,
                                    const Qcow2CheckChange *change)
{
    const BdrvCheckOptions opts = { .quiet = true };
    BdrvCheckResult res = { 0 };
    Qcow2Check trial;
    bool ok;

    qcow2_check_init(&trial, c->bs, &res, &opts, c->file_size, c->data_size);
    trial.all_or_none = true;
    ok = qcow2_check_measure(&trial) == 0 && !res.corruptions && !res.leaks &&
         !res.check_errors && !trial.rebuild &&
         (in_bitmaps(c->s, change) ? !res.inconsistent_bitmaps
          : res.inconsistent_bitmaps <= c->res->inconsistent_bitmaps) &&
         qcow2_check_found(&trial, change->offset >> c->s->cluster_bits) ==
         change->refs;
    qcow2_check_destroy(&trial);
    return ok;
}

void qcow2_check_patch_init(Qcow2Patch *patch, const Qcow2CheckChange *change)
{
    uint8_t all[8];

    patch->next = NULL;
    patch->offset = change->offset;
    patch->size = change->bytes;
    stq_be_p(all, change->new);
    memcpy(patch->bytes, all + 8 - change->bytes, change->bytes);
}

/* Whether both make the same bytes of the file. */
static bool is_same(const Qcow2CheckChange *a, const Qcow2CheckChange *b)
{
    uint64_t start = MIN(a->offset, b->offset);
    uint64_t end = MAX(a->offset + a->bytes, b->offset + b->bytes);
    uint8_t x[16] = { 0 }, y[16] = { 0 };
    Qcow2Patch p;
    uint64_t i;

    if (end - start > sizeof(x)) {
        return false;
    }
    /* What one of them does not touch is what the other one found there. */
    for (i = 0; i < 2; i++) {
        const Qcow2CheckChange *first = i ? a : b;
        const Qcow2CheckChange *second = i ? b : a;
        Qcow2CheckChange old = *first;
        uint8_t *bytes = i ? y : x;

        old.new = old.old;
        qcow2_check_patch_init(&p, &old);
        memcpy(bytes + (p.offset - start), p.bytes, p.size);
        qcow2_check_patch_init(&p, second);
        memcpy(bytes + (p.offset - start), p.bytes, p.size);
    }
    return !memcmp(x, y, sizeof(x));
}

void qcow2_check_add_change(GArray *changes, const Qcow2CheckChange *change)
{
    guint i;

    for (i = 0; i < changes->len; i++) {
        if (is_same(&g_array_index(changes, Qcow2CheckChange, i), change)) {
            return;
        }
    }
    g_array_append_vals(changes, change, 1);
}

static bool coroutine_fn try_change(Qcow2Check *c,
                                    const Qcow2CheckChange *change)
{
    Qcow2Patch patch;
    Saved saved;
    bool ok;

    if (in_l1(c->s, change) && !is_l1_entry(change)) {
        return false;   /* another table overlaps the L1 table */
    }
    qcow2_check_patch_init(&patch, change);
    c->s->patch = &patch;
    ok = enter(c, change, &saved) && all_agrees(c, change);
    c->s->patch = NULL;
    leave(c, change, &saved);
    return ok;
}

/* Leaves those with which everything agrees. */
static void coroutine_fn try_all(Qcow2Check *c, GArray *changes)
{
    guint in, out = 0;

    for (in = 0; in < changes->len; in++) {
        Qcow2CheckChange change = g_array_index(changes, Qcow2CheckChange, in);

        if (try_change(c, &change)) {
            g_array_index(changes, Qcow2CheckChange, out++) = change;
        }
    }
    g_array_set_size(changes, out);
}

/* --- doing it ------------------------------------------------------------- */

/* What is in memory becomes what is on disk. */
static int coroutine_fn refresh(Qcow2Check *c, const Qcow2CheckChange *change)
{
    BDRVQcow2State *s = c->s;
    int ret = 0;

    if (in_l1(s, change)) {
        s->l1.entries[l1_index(s, change)] = change->new;
    } else if (in_snapshots(s, change)) {
        qcow2_free_snapshots(s);
        ret = qcow2_read_snapshots(c->bs, NULL);
    } else if (in_bitmaps(s, change)) {
        g_ptr_array_unref(s->bitmaps);
        s->bitmaps_fault = NULL;
        ret = qcow2_bitmaps_read_directory(c->bs);
    }
    qcow2_cache_empty(s->l2_table_cache);
    return ret;
}

static int coroutine_fn apply(Qcow2Check *c, const Qcow2CheckChange *change)
{
    Qcow2Patch patch;
    int ret;

    qcow2_check_say(c, "Repairing %s at offset 0x%" PRIx64 ": 0x%" PRIx64
                    " becomes 0x%" PRIx64 ", as its refcounts prove",
                    change->what, change->offset, change->old, change->new);
    qcow2_check_patch_init(&patch, change);
    ret = bdrv_co_pwrite(c->bs->file, patch.offset, patch.size, patch.bytes,
                         0);
    if (ret == 0) {
        ret = bdrv_co_flush(c->bs->file->bs);
    }
    if (ret < 0) {
        qcow2_check_io_error(c, ret, "Could not write %s at offset 0x%" PRIx64,
                             change->what, change->offset);
        return ret;
    }
    return refresh(c, change);
}

static bool gives_up(const Qcow2Check *c)
{
    return c->opts->orphans == BDRV_CHECK_ORPHANS_FREE;
}

/* " (... of the disk)", if it is known; the caller frees. */
static char *place_in_disk(const Qcow2CheckChange *change)
{
    return change->table && change->guest != UINT64_MAX
           ? g_strdup_printf(" (0x%" PRIx64 " of the disk)", change->guest)
           : g_strdup("");
}

/* No change explains what is leaked. */
static void decline_rivals(Qcow2Check *c, const GArray *rivals)
{
    guint i;

    for (i = 0; i < MIN(rivals->len, MAX_LISTED); i++) {
        const Qcow2CheckChange *rival = &g_array_index(rivals,
                                                       Qcow2CheckChange, i);
        g_autofree char *where = place_in_disk(rival);

        qcow2_check_say(c, "The L2 entry at offset 0x%" PRIx64 "%s, 0x%" PRIx64
                        ", shares a cluster with another: one of them may be "
                        "wrong", rival->offset, where, rival->old);
    }
    qcow2_check_say(c, qcow2_check_may_rescue(c)
                    ? "What is leaked may be what one of them named: it is "
                    "saved"
                    : "Nothing is repaired: what is leaked may be what one of "
                    "them named; --orphans=free gives it up");
}

/* Anything but one certain change. */
static void decline(Qcow2Check *c, const GArray *changes)
{
    guint i;

    for (i = 0; i < MIN(changes->len, MAX_LISTED); i++) {
        const Qcow2CheckChange *change = &g_array_index(changes,
                                                        Qcow2CheckChange, i);

        g_autofree char *where = place_in_disk(change);

        qcow2_check_say(c, "The %s at offset 0x%" PRIx64 "%s, 0x%" PRIx64
                        ", may have been 0x%" PRIx64, change->what,
                        change->offset, where, change->old, change->new);
    }
    if (qcow2_check_may_rescue(c)) {
        qcow2_check_say(c, "This is not certain: everything stays as it reads, "
                        "and what is leaked is saved");
    } else if (changes->len == 1) {
        qcow2_check_say(c, "Nothing is repaired: this is not certain, and data "
                        "could be lost; --orphans=free gives them up");
    } else {
        qcow2_check_say(c, "Nothing is repaired: it is not certain which of %u "
                        "changes is right, and data could be lost; "
                        "--orphans=free gives them up", changes->len);
    }
}

static bool is_proven_otherwise(const GArray *changes,
                                const Qcow2CheckChange *change)
{
    guint i;

    for (i = 0; change->doubtful && i < changes->len; i++) {
        const Qcow2CheckChange *other = &g_array_index(changes,
                                                       Qcow2CheckChange, i);

        if (!other->doubtful && other->offset == change->offset) {
            return true;
        }
    }
    return false;
}

/* The one that is proven; -1: none. */
static int proven_change(const GArray *changes)
{
    int which = -1;
    guint i;

    for (i = 0; i < changes->len; i++) {
        const Qcow2CheckChange *change = &g_array_index(changes,
                                                        Qcow2CheckChange, i);

        if (is_proven_otherwise(changes, change)) {
            continue;
        }
        if (change->doubtful) {
            return -1;
        }
        if (which < 0) {
            which = i;
            continue;
        }
        if (!change->alike || change->offset !=
            g_array_index(changes, Qcow2CheckChange, which).offset) {
            return -1;
        }
    }
    return which;
}

/* Whether refcounts prove anything, and something is wrong. */
static bool is_of_use(const Qcow2Check *c)
{
    return !(c->s->incompatible_features & QCOW2_INCOMPAT_DIRTY) &&
           !c->unread && !c->res->check_errors &&
           (c->res->corruptions || c->res->leaks);
}

static guint max_trials(const Qcow2Check *c)
{
    const BDRVQcow2State *s = c->s;
    uint64_t pass = (uint64_t)c->l2_tables->len * s->cluster_size +
                    (uint64_t)c->nb_blocks * s->cluster_size +
                    ((uint64_t)s->l1.size + s->reftable.size) * L1E_SIZE + 1;
    uint32_t i;

    for (i = 0; i < s->nb_snapshots; i++) {
        pass += MIN((uint64_t)s->snapshots[i].l1_size * L1E_SIZE,
                    c->file_size);
    }
    return CLAMP(TRIAL_BYTES(c->file_size) / pass, FEW_TRIALS, QCOW2_CHECK_MAX_TRIALS);
}

static int coroutine_fn choose(Qcow2Check *c, GArray *changes, int64_t *nb,
                               bool *declined)
{
    int which = proven_change(changes);
    int ret;

    if (which < 0) {
        /* Where nothing is leaked there are no data to be lost. */
        *declined = c->res->leaks > 0 && !gives_up(c);
        if (*declined) {
            decline(c, changes);
        }
        return 0;
    }
    if (!(c->fix & BDRV_FIX_ERRORS) && gives_up(c)) {
        return 0;
    }
    if (!(c->fix & BDRV_FIX_ERRORS)) {
        qcow2_check_say(c, "Leaked clusters are not freed: a damaged %s has "
                        "lost them, and repairing all errors gives them back",
                        g_array_index(changes, Qcow2CheckChange, which).what);
        *declined = true;
        return 0;
    }
    ret = apply(c, &g_array_index(changes, Qcow2CheckChange, which));
    *nb = ret == 0;
    return ret;
}

int coroutine_fn qcow2_check_restore(Qcow2Check *c, int64_t *nb,
                                     bool *declined)
{
    g_autoptr(GArray) changes = g_array_new(FALSE, TRUE,
                                            sizeof(Qcow2CheckChange));
    g_autoptr(GArray) rivals = g_array_new(FALSE, TRUE,
                                           sizeof(Qcow2CheckChange));

    *nb = 0;
    *declined = false;
    if (!is_of_use(c)) {
        return 0;
    }
    qcow2_check_find_l1_entries(c, changes);
    qcow2_check_find_entries(c, changes, rivals);
    qcow2_check_find_bitmap_fields(c, changes);
    qcow2_check_find_snapshot_fields(c, changes);
    if (changes->len <= max_trials(c)) {
        try_all(c, changes);
        if (changes->len > 1) {
            qcow2_check_drop_misplaced(c, changes);
        }
    } else {
        g_array_set_size(changes, 0);
    }
    if (changes->len) {
        return choose(c, changes, nb, declined);
    }
    if (rivals->len && c->res->leaks && !c->rebuild && !gives_up(c)) {
        *declined = true;
        decline_rivals(c, rivals);
    }
    return 0;
}
