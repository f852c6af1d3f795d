/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What is left when nothing can be proven, made consistent without destroying
 * anything that may be alive: clusters that nobody names go into a snapshot
 * (check-lost-found.c), entries that cannot be right are given up
 * (check-void-entries.c), and what several name has as many references.
 *
 * Invariants:
 *  1. Nothing is written unless with all of this no damaged reference is left.
 *  2. What is leaked is saved before an entry is given up, or a later repair
 *     would take it for free.
 *  3. What could be read still reads the same.
 */
#include "util/osdep.h"
#include "util/memalign.h"
#include "block/qcow2/bitmap.h"
#include "block/qcow2/check.h"

/* What is given up, in place for a trial. */
typedef struct Rescue {
    Qcow2Check *c;
    GArray *changes;            /* Qcow2CheckChange */
    Qcow2Patch *patches;
    Qcow2Check trial;
    BdrvCheckResult res;
    BdrvCheckOptions opts;
} Rescue;

bool qcow2_check_may_rescue(const Qcow2Check *c)
{
    return c->may_rescue && c->opts->orphans == BDRV_CHECK_ORPHANS_SAVE &&
           c->fix & BDRV_FIX_ERRORS && c->unread == c->unknown_bitmaps &&
           !c->rebuild && !c->s->bitmaps_fault &&
           !c->res->check_errors && !c->s->has_data_file &&
           c->s->crypt_method_header != QCOW_CRYPT_AES &&
           !(c->s->incompatible_features & QCOW2_INCOMPAT_DIRTY);
}

/* --- a trial with nothing in place of what cannot be right ---------------- */

static bool in_l1(const BDRVQcow2State *s, const Qcow2CheckChange *change)
{
    return change->offset >= s->l1.offset &&
           change->offset < s->l1.offset + (uint64_t)s->l1.size * L1E_SIZE;
}

/* Puts the old or the new values into the active table in memory. */
static void set_l1(const Rescue *r, bool new)
{
    BDRVQcow2State *s = r->c->s;
    guint i;

    for (i = 0; i < r->changes->len; i++) {
        const Qcow2CheckChange *change = &g_array_index(r->changes,
                                                        Qcow2CheckChange, i);

        if (in_l1(s, change)) {
            s->l1.entries[(change->offset - s->l1.offset) / L1E_SIZE] =
                new ? change->new : change->old;
        }
    }
}

static void enter(Rescue *r)
{
    guint i;

    r->patches = g_new0(Qcow2Patch, r->changes->len + 1);
    for (i = 0; i < r->changes->len; i++) {
        qcow2_check_patch_init(&r->patches[i],
                               &g_array_index(r->changes, Qcow2CheckChange,
                                              i));
        r->patches[i].next = i ? &r->patches[i - 1] : NULL;
    }
    r->c->s->patch = i ? &r->patches[i - 1] : NULL;
    set_l1(r, true);
}

static void leave(Rescue *r)
{
    r->c->s->patch = NULL;
    g_free(r->patches);
}

/* One more reference to what is doubted; false: no refcount can say so. */
static bool may_double(Rescue *r)
{
    guint i;

    for (i = 0; i < r->changes->len; i++) {
        uint64_t doubted = g_array_index(r->changes, Qcow2CheckChange,
                                         i).doubted;

        if (doubted && qcow2_check_found(&r->trial, doubted >>
                                         r->c->s->cluster_bits) >=
                       r->c->s->refcount_max) {
            return false;
        }
    }
    return true;
}

/* Whether the places of what is given up have no other use. */
static bool places_are_proven(Rescue *r)
{
    guint i;

    for (i = 0; i < r->changes->len; i++) {
        const Qcow2CheckChange *change = &g_array_index(r->changes,
                                                        Qcow2CheckChange, i);

        if (qcow2_check_found(&r->trial, change->offset >>
                              r->c->s->cluster_bits) != change->refs) {
            return false;
        }
    }
    return true;
}

/* Measures, silently; NULL: all references are known, else why not. */
static const char *coroutine_fn measure(Rescue *r)
{
    Qcow2Check *t = &r->trial;

    if (qcow2_check_measure(t) < 0 || t->unread || r->res.check_errors) {
        return "tables could not be read";
    }
    if (t->bad_references) {
        return "other tables are damaged, too";
    }
    if (t->rebuild || t->structure_faults) {
        return "the refcount structure is damaged, too";
    }
    if (!places_are_proven(r)) {
        return "damaged tables share clusters with something else";
    }
    qcow2_check_find_orphans(t, false);
    return NULL;
}

/* --- doing it ------------------------------------------------------------- */

/* Data that nobody can read any more. */
static void tell_of_loss(Qcow2Check *c, const Qcow2CheckChange *change)
{
    const BDRVQcow2State *s = c->s;
    unsigned bits = s->cluster_bits + (change->table ? 0 : s->l2_bits);
    const BdrvCheckLost lost = {
        .entry = change->offset, .offset = change->guest,
        .bytes = UINT64_C(1) << bits,
        .partly = change->doubted || change->partly,
    };

    if (change->guest == UINT64_MAX) {
        qcow2_check_say(c, "Clearing %s at offset 0x%" PRIx64 ", 0x%" PRIx64
                        ": what it stood for is lost", change->what,
                        change->offset, change->old);
    } else {
        qcow2_check_say(c, "Clearing %s at offset 0x%" PRIx64 ", 0x%" PRIx64
                        ": %s0x%" PRIx64 " bytes at 0x%" PRIx64 " of the disk "
                        "could not be read, are lost and read as zeroes now",
                        change->what, change->offset, change->old,
                        lost.partly ? "some of the " : "", lost.bytes,
                        lost.offset);
    }
    c->res->entries_cleared++;
    if (c->opts->lost) {
        c->opts->lost(c->opts->lost_opaque, &lost);
    }
}

static void tell(Qcow2Check *c, const Qcow2CheckChange *change)
{
    if (change->copied) {
        qcow2_check_say(c, "Copying the cluster at offset 0x%" PRIx64 " for "
                        "the %s at offset 0x%" PRIx64 ": others name it, too",
                        change->copied, change->what, change->offset);
    } else if (change->still_readable) {
        qcow2_check_say(c, "Repairing %s at offset 0x%" PRIx64 ": 0x%" PRIx64
                        " becomes 0x%" PRIx64 ", which reads the same",
                        change->what, change->offset, change->old,
                        change->new);
    } else {
        tell_of_loss(c, change);
    }
}

/* One half of an entry that is told of with the next. */
static bool is_first_half(const Rescue *r, guint i)
{
    const Qcow2CheckChange *change = &g_array_index(r->changes,
                                                    Qcow2CheckChange, i);

    return i + 1 < r->changes->len && change->table &&
           change->table == change[1].table && change->index == change[1].index;
}

/* Its new place, or -errno. */
static int64_t coroutine_fn copy_cluster(Rescue *r, uint64_t from, void *buf)
{
    BDRVQcow2State *s = r->c->s;
    int64_t offset;
    int ret;

    s->free_cluster_index = MAX(s->free_cluster_index, r->c->nb_clusters);
    offset = qcow2_alloc_clusters(r->c->bs, s->cluster_size);
    if (offset < 0) {
        return offset;
    }
    ret = from ? qcow2_check_pread(r->c, from, s->cluster_size, buf) : 0;
    if (ret == 0) {
        ret = bdrv_co_pwrite(r->c->bs->file, offset, s->cluster_size, buf, 0);
    }
    return ret < 0 ? ret : offset;
}

/* The same for a table and all that it names. */
static int64_t coroutine_fn copy_table(Rescue *r, uint64_t from, void *buf)
{
    BDRVQcow2State *s = r->c->s;
    BlockDriverState *file = r->c->bs->file->bs;
    QEMU_AUTO_VFREE uint64_t *l2 = qemu_try_blockalign(file, s->cluster_size);
    int ret = l2 ? qcow2_check_pread(r->c, from, s->cluster_size, l2) : -ENOMEM;
    int i;

    for (i = 0; ret == 0 && i < s->l2_size; i++) {
        uint64_t entry = get_l2_entry(s, l2, i);
        int64_t offset;

        if (!qcow2_has_host(s, entry)) {
            continue;
        }
        offset = copy_cluster(r, entry & L2E_OFFSET_MASK, buf);
        ret = MIN(offset, 0);
        set_l2_entry(s, l2, i, (entry & ~L2E_OFFSET_MASK) | offset |
                               QCOW_OFLAG_COPIED);
    }
    return ret < 0 ? ret : copy_cluster(r, 0, l2);
}

/* Makes a durable copy, and the patch name it. */
static int coroutine_fn make_copy(Rescue *r, const Qcow2CheckChange *change,
                                  Qcow2Patch *patch)
{
    BDRVQcow2State *s = r->c->s;
    BlockDriverState *bs = r->c->bs;
    QEMU_AUTO_VFREE void *buf = qemu_try_blockalign(bs->file->bs,
                                                    s->cluster_size);
    bool is_l1 = !strcmp(change->what, "L1 entry");
    Qcow2CheckChange new = *change;
    int64_t offset = !buf ? -ENOMEM
                     : is_l1 ? copy_table(r, change->copied, buf)
                     : copy_cluster(r, change->copied, buf);
    int ret = MIN(offset, 0);

    if (ret == 0) {
        ret = qcow2_write_refcounts(bs);
    }
    if (ret == 0) {
        ret = bdrv_co_flush(bs->file->bs);
    }
    new.new = (change->old & ~L2E_OFFSET_MASK) | offset |
              (change->table || is_l1 ? QCOW_OFLAG_COPIED : 0);
    qcow2_check_patch_init(patch, &new);
    if (ret == 0 && in_l1(s, change)) {
        s->l1.entries[(change->offset - s->l1.offset) / L1E_SIZE] = new.new;
    }
    return ret;
}

static int64_t nb_entries(const Rescue *r)
{
    int64_t n = 0;
    guint i;

    for (i = 0; i < r->changes->len; i++) {
        n += !is_first_half(r, i);
    }
    return n;
}

static int coroutine_fn give_up(Rescue *r)
{
    Qcow2Check *c = r->c;
    int ret = 0;
    guint i;

    for (i = 0; ret == 0 && i < r->changes->len; i++) {
        const Qcow2CheckChange *change = &g_array_index(r->changes,
                                                        Qcow2CheckChange, i);

        if (!is_first_half(r, i)) {
            tell(c, change);
        }
        if (change->copied) {
            ret = make_copy(r, change, &r->patches[i]);
        }
        if (ret == 0 && !change->only_tried) {
            ret = bdrv_co_pwrite(c->bs->file, r->patches[i].offset,
                                 r->patches[i].size, r->patches[i].bytes, 0);
        }
    }
    if (ret == 0 && i) {
        ret = bdrv_co_flush(c->bs->file->bs);
    }
    qcow2_cache_empty(c->s->l2_table_cache);
    return ret;
}

static int64_t nb_bad_bitmaps(const Qcow2Check *c)
{
    int64_t n = 0;
    guint i;

    for (i = 0; i < c->bad_bitmaps->len; i++) {
        n += c->bad_bitmaps->data[i] != QCOW2_BITMAP_SOUND;
    }
    return n;
}

/* Bitmaps that nobody can use, so that they do no harm. */
static int coroutine_fn mark_bitmaps(Qcow2Check *c)
{
    BDRVQcow2State *s = c->s;
    guint i;
    int ret;

    for (i = 0; i < c->bad_bitmaps->len; i++) {
        const Qcow2Bitmap *b = s->bitmaps->pdata[i];

        if (c->bad_bitmaps->data[i] == QCOW2_BITMAP_PADDING) {
            qcow2_check_say(c, "Clearing what is behind the name of the bitmap "
                            "at byte %" PRIu64 " of the directory", b->pos);
        } else if (c->bad_bitmaps->data[i] == QCOW2_BITMAP_DAMAGED) {
            qcow2_check_say(c, "Marking bitmap '%s' as inconsistent: it is "
                            "damaged, and cannot be used", b->name ?: "");
        }
    }
    /* No clusters but those behind everything are certainly free. */
    s->free_cluster_index = MAX(s->free_cluster_index, c->nb_clusters);
    ret = qcow2_bitmaps_mark_damaged(c->bs, c->bad_bitmaps);
    if (ret == 0) {
        ret = qcow2_write_refcounts(c->bs);
    }
    return ret < 0 ? ret : bdrv_co_flush(c->bs->file->bs);
}

static GArray *doubted_clusters(const Rescue *r)
{
    GArray *list = g_array_new(FALSE, FALSE, sizeof(uint64_t));
    guint i;

    for (i = 0; i < r->changes->len; i++) {
        uint64_t cluster = g_array_index(r->changes, Qcow2CheckChange,
                                         i).doubted >> r->c->s->cluster_bits;

        if (cluster) {
            g_array_append_val(list, cluster);
        }
    }
    return list;
}

/*
 * Refcounts of what is behind the end of the file stand for nothing: all
 * references are known. What is written now makes the file longer, so that they
 * would look like leaks to the next repair, which would save them.
 */
static int coroutine_fn clear_refcounts_behind(Rescue *r)
{
    BDRVQcow2State *s = r->c->s;
    uint64_t cluster = r->trial.nb_clusters;
    uint64_t end = ROUND_UP(cluster, (uint64_t)s->refcount_block_size);
    int ret = 0;

    for (; ret == 0 && cluster < end; cluster++) {
        uint64_t stored;

        ret = qcow2_get_refcount(r->c->bs, cluster, &stored);
        if (ret == 0 && stored) {
            ret = qcow2_update_refcount(r->c->bs, cluster << s->cluster_bits,
                                        s->cluster_size, stored, true,
                                        QCOW2_DISCARD_NEVER);
        }
    }
    return ret < 0 ? ret : qcow2_write_refcounts(r->c->bs);
}

/* The order of check-repair.c: up, then the rest. */
static int coroutine_fn write_all(Rescue *r, int64_t *nb_fixed)
{
    Qcow2Check *c = r->c;
    g_autoptr(GArray) doubted = doubted_clusters(r);
    int64_t raised, found, saved;
    int ret;

    c->s->patch = NULL;
    /* Blocks may be from before the check's own writes. */
    qcow2_cache_empty(c->s->refcount_block_cache);
    ret = qcow2_check_raise(&r->trial, c, &raised);
    if (ret == 0) {
        qcow2_cache_empty(c->s->refcount_block_cache);
        ret = clear_refcounts_behind(r);
    }
    if (ret == 0) {
        ret = qcow2_check_save_lost(&r->trial, c, doubted, &found, &saved);
    }
    if (ret == 0) {
        ret = give_up(r);
    }
    if (ret == 0 && nb_bad_bitmaps(c)) {
        ret = mark_bitmaps(c);
    }
    if (ret == 0) {
        c->res->clusters_saved += saved;
        *nb_fixed = raised + found + nb_entries(r) + nb_bad_bitmaps(c);
    }
    return ret;
}

static int coroutine_fn try_rescue(Rescue *r, int64_t *nb_fixed,
                                   const char **why)
{
    int ret;

    enter(r);
    *why = measure(r);
    if (!*why && !(qcow2_check_may_raise(&r->trial) && may_double(r))) {
        *why = "refcounts cannot be raised";
    }
    if (!*why && !qcow2_check_may_save(&r->trial)) {
        *why = "that is too much for a snapshot";
    }
    ret = *why ? 0 : write_all(r, nb_fixed);
    if (*why || ret < 0) {
        set_l1(r, false);
    }
    if (ret < 0) {
        qcow2_check_io_error(r->c, ret, "Could not save what is leaked");
    }
    leave(r);
    return ret;
}

int coroutine_fn qcow2_check_rescue(Qcow2Check *c, int64_t *nb_fixed)
{
    g_autoptr(GArray) changes = g_array_new(FALSE, TRUE,
                                            sizeof(Qcow2CheckChange));
    Rescue r = {
        .c = c, .changes = changes, .opts = { .quiet = true },
    };
    const char *why = NULL;
    int ret = 0;

    if (!qcow2_check_find_void(c, changes)) {
        why = "too much is damaged";
    } else {
        qcow2_check_init(&r.trial, c->bs, &r.res, &r.opts, c->file_size,
                         c->data_size);
        r.trial.marked_bitmaps = c->bad_bitmaps;
        ret = try_rescue(&r, nb_fixed, &why);
        qcow2_check_destroy(&r.trial);
    }
    if (why) {
        c->keep_all = true;
        qcow2_check_say(c, "Nothing is repaired, and what is leaked stays as "
                        "it is: %s", why);
    }
    return ret;
}
