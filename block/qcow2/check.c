/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Consistency check of an image: references are counted and compared with
 * the stored refcounts.
 *
 * The stored refcounts are loaded first, so that one walk over the L2 tables
 * counts references and judges the COPIED flags. Every table is read once,
 * however many snapshots share it.
 */
#include "util/osdep.h"
#include "block/qcow2/bitmap.h"
#include "block/qcow2/check.h"

/* A repair goes on from what it has repaired, so many times in all; not with
 * more corruptions, about which no single entry would tell anything. */
#define MAX_ROUNDS 3
#define MAX_UNFINISHED 4096

bool qcow2_check_count(Qcow2Check *c, uint64_t offset, uint64_t bytes,
                       uint64_t n)
{
    BDRVQcow2State *s = c->s;
    uint64_t cluster, last, excess;

    if (bytes == 0 || n == 0) {
        return true;
    }
    if (offset > INT64_MAX - bytes ||
        (offset + bytes > c->file_size &&
         offset + bytes - c->file_size >= s->cluster_size)) {
        qcow2_check_bad_reference(
            c, n, "ERROR: counting reference for region exceeding the end of "
            "the file by one cluster or more: offset 0x%" PRIx64
            " size 0x%" PRIx64, offset, bytes);
        return false;
    }
    last = (offset + bytes - 1) >> s->cluster_bits;
    for (cluster = offset >> s->cluster_bits; cluster <= last; cluster++) {
        excess = qcow2_check_counts_add(c->refs, cluster, n, s->refcount_max);
        if (excess) {
            qcow2_check_counts_add(c->excess, cluster, excess, UINT64_MAX);
            c->overflows += excess;
            qcow2_check_bad_reference(
                c, excess, "ERROR: overflow cluster offset=0x%" PRIx64 "\n"
                "Use qemu-img amend to increase the refcount entry width or "
                "qemu-img convert to create a clean copy if the image cannot "
                "be opened for writing", cluster << s->cluster_bits);
        }
    }
    c->nb_clusters = MAX(c->nb_clusters, last + 1);
    return true;
}

/* Clusters whose refcount cannot be known count as check errors. */
static void report_bad_blocks(Qcow2Check *c)
{
    uint64_t per_block = c->s->refcount_block_size;
    uint64_t block, first, n;

    for (block = 0; block < c->nb_blocks; block++) {
        if (c->block_state[block] != QCOW2_CHECK_BLOCK_BAD) {
            continue;
        }
        first = block * per_block;
        n = MIN(per_block, c->nb_clusters - first);
        qcow2_check_bad_refcounts(c, block, first, n);
    }
}

static bool refcount_known(const Qcow2Check *c, uint64_t cluster)
{
    uint64_t block = cluster >> c->s->refcount_block_bits;

    return block >= c->nb_blocks ||
           c->block_state[block] != QCOW2_CHECK_BLOCK_BAD;
}

/* Compares one page; returns its last cluster that is in use, or -1. */
static int64_t compare_page(Qcow2Check *c, uint64_t page)
{
    uint64_t cluster = page << QCOW2_CHECK_PAGE_BITS;
    uint64_t end = MIN(cluster + QCOW2_CHECK_PAGE_SIZE, c->nb_clusters);
    bool same = qcow2_check_counts_same(c->refs, c->disk, page);
    int64_t highest = -1;
    uint64_t stored, found;

    if (same) {
        /* only the last used cluster is of interest */
        while (end > cluster) {
            end--;
            if (refcount_known(c, end) && qcow2_check_counts_get(c->refs, end)) {
                return end;
            }
        }
        return -1;
    }
    for (; cluster < end; cluster++) {
        if (!refcount_known(c, cluster)) {
            continue;
        }
        stored = qcow2_check_counts_get(c->disk, cluster);
        found = qcow2_check_counts_get(c->refs, cluster);
        if (stored || found) {
            highest = cluster;
        }
        if (stored > found) {
            qcow2_check_say(c, "Leaked cluster %" PRIu64 " refcount=%" PRIu64
                            " reference=%" PRIu64, cluster, stored, found);
            c->res->leaks++;
        } else if (stored < found) {
            qcow2_check_corruption(c, 1, "ERROR cluster %" PRIu64
                                   " refcount=%" PRIu64 " reference=%" PRIu64,
                                   cluster, stored, found);
        }
    }
    return highest;
}

static void compare(Qcow2Check *c)
{
    g_autoptr(GArray) pages = qcow2_check_counts_pages(c->refs, c->disk);
    uint64_t highest = 0;
    guint i;

    report_bad_blocks(c);
    for (i = 0; i < pages->len && !qcow2_check_is_decided(c); i++) {
        uint64_t page = g_array_index(pages, uint64_t, i);
        int64_t last;

        if (page << QCOW2_CHECK_PAGE_BITS >= c->nb_clusters) {
            break;
        }
        last = compare_page(c, page);
        highest = last < 0 ? highest : last;
    }
    /* Refcounts do not tell of the guard. */
    c->res->image_end_offset = MAX(highest + 1, qcow2_guard_end(c->s))
                               << c->s->cluster_bits;
}

bool qcow2_check_any_cluster(const Qcow2Check *c, Qcow2CheckCounts *a,
                             Qcow2CheckCounts *b,
                             bool (*test)(const Qcow2Check *c,
                                          uint64_t cluster))
{
    g_auto(Qcow2CheckWalk) walk = qcow2_check_walk(a, b, c->nb_clusters, false);
    uint64_t cluster;

    while (qcow2_check_walk_next(&walk, &cluster)) {
        if (test(c, cluster)) {
            return true;
        }
    }
    return false;
}

static bool is_known_short(const Qcow2Check *c, uint64_t cluster)
{
    return refcount_known(c, cluster) && qcow2_check_is_short(c, cluster);
}

bool qcow2_check_any_short(const Qcow2Check *c)
{
    return qcow2_check_any_cluster(c, c->refs, c->excess, is_known_short);
}

GArray *qcow2_check_leaked(const Qcow2Check *c, guint max)
{
    g_auto(Qcow2CheckWalk) walk = qcow2_check_walk(c->disk, c->refs,
                                                   c->nb_clusters, true);
    GArray *list = g_array_new(FALSE, FALSE, sizeof(uint64_t));
    uint64_t cluster;

    while (list->len < max && qcow2_check_walk_next(&walk, &cluster)) {
        if (qcow2_check_is_leaked(c, cluster)) {
            g_array_append_val(list, cluster);
        }
    }
    return list;
}

int coroutine_fn qcow2_check_measure(Qcow2Check *c)
{
    BDRVQcow2State *s = c->s;
    int ret;

    ret = qcow2_check_load_refcounts(c);
    if (ret < 0) {
        return ret;
    }
    c->res->bfi.total_clusters = size_to_clusters(s, s->disk_size);

    /* The header takes one cluster. */
    qcow2_check_count(c, 0, s->cluster_size, 1);
    qcow2_check_count(c, s->l1.offset, (uint64_t)s->l1.size * L1E_SIZE, 1);
    qcow2_check_l1_entries(c, s->l1.entries, 0, s->l1.size, true);
    if (!qcow2_check_is_decided(c)) {
        qcow2_check_count_metadata(c);
    }
    if (!qcow2_check_is_decided(c)) {
        qcow2_check_walk_l2(c);
    }
    if (qcow2_check_is_decided(c)) {
        return 0;
    }
    qcow2_check_count_structure(c);
    qcow2_check_count_void_bitmaps(c);
    compare(c);
    return 0;
}

void qcow2_check_init(Qcow2Check *c, BlockDriverState *bs,
                      BdrvCheckResult *result, const BdrvCheckOptions *opts,
                      uint64_t file_size, uint64_t data_size)
{
    BdrvCheckResult before = *result;

    memset(c, 0, sizeof(*c));
    *result = (BdrvCheckResult) {
        .tables_restored = before.tables_restored,
        .clusters_saved = before.clusters_saved,
        .entries_cleared = before.entries_cleared,
    };
    c->bs = bs;
    c->s = bs->opaque;
    c->res = result;
    c->fix = opts->fix;
    c->opts = opts;
    c->all_or_none = opts->first_fault;
    c->file_size = file_size;
    c->data_size = data_size;
    c->nb_clusters = size_to_clusters(c->s, file_size);
    c->refs = qcow2_check_counts_new();
    c->disk = qcow2_check_counts_new();
    c->excess = qcow2_check_counts_new();
    c->l2_tables = g_array_new(FALSE, FALSE, sizeof(Qcow2CheckL2));
    c->fixups = g_array_new(FALSE, FALSE, sizeof(Qcow2CheckFixup));
    c->structure = g_array_new(FALSE, FALSE, sizeof(Qcow2CheckExtent));
    c->orphans = g_array_new(FALSE, FALSE, sizeof(Qcow2CheckOrphan));
    g_array_set_clear_func(c->orphans, qcow2_check_orphan_clear);
    c->homeless = g_array_new(FALSE, FALSE, sizeof(Qcow2CheckOrphan));
    g_array_set_clear_func(c->homeless, qcow2_check_orphan_clear);
    c->lost_tables = g_array_new(FALSE, FALSE, sizeof(uint64_t));
    c->kept = qcow2_check_counts_new();
    c->snapshot_voids = qcow2_check_counts_new();
    c->bad_bitmaps = g_byte_array_new();
    c->lines = g_hash_table_new(NULL, NULL);
}

void qcow2_check_destroy(Qcow2Check *c)
{
    g_hash_table_unref(c->lines);
    g_byte_array_unref(c->bad_bitmaps);
    qcow2_check_counts_free(c->snapshot_voids);
    qcow2_check_counts_free(c->kept);
    g_array_unref(c->lost_tables);
    g_array_unref(c->homeless);
    g_array_unref(c->orphans);
    g_array_unref(c->structure);
    g_array_unref(c->fixups);
    g_array_unref(c->l2_tables);
    g_free(c->block_state);
    qcow2_check_counts_free(c->excess);
    qcow2_check_counts_free(c->disk);
    qcow2_check_counts_free(c->refs);
}

/* Sizes of the files, in bytes. */
static int coroutine_fn get_sizes(BlockDriverState *bs, int64_t *file_size,
                                  int64_t *data_size)
{
    BDRVQcow2State *s = bs->opaque;

    *data_size = 0;
    *file_size = bdrv_co_getlength(bs->file->bs);
    if (*file_size < 0) {
        return *file_size;
    }
    *data_size = s->data_file ? bdrv_co_getlength(s->data_file->bs) : 0;
    return MIN(*data_size, 0);
}

int coroutine_fn qcow2_check_trial(BlockDriverState *bs, uint64_t *entries,
                                   BdrvCheckResult *res, Qcow2Check *c)
{
    static const BdrvCheckOptions no_repair = { .quiet = true };
    BDRVQcow2State *s = bs->opaque;
    uint64_t *real = s->l1.entries;
    int64_t file_size, data_size;
    int ret = get_sizes(bs, &file_size, &data_size);

    qcow2_check_init(c, bs, res, &no_repair, MAX(file_size, 0),
                     MAX(data_size, 0));
    if (ret < 0) {
        return ret;
    }
    /* Nothing is written meanwhile, and the lock is held. */
    s->l1.entries = entries ?: real;
    ret = qcow2_check_measure(c);
    s->l1.entries = real;
    return ret;
}

void qcow2_check_end_trial(Qcow2Check *c)
{
    qcow2_check_destroy(c);
}

/*
 * Puts L2 tables back that lost their L1 entry. Sets *@nb to how many. The
 * tables and what they name are on disk, with the refcounts that they need.
 */
static int coroutine_fn put_tables_back(Qcow2Check *c, bool place, int64_t *nb)
{
    int ret;

    *nb = 0;
    if (place && c->opts->nb_places) {
        ret = qcow2_check_place(c, c->opts);
        if (ret < 0) {
            return ret;
        }
        *nb = c->opts->nb_places;
    } else if (c->fix & BDRV_FIX_ERRORS) {
        *nb = qcow2_check_return_orphans(c);
    }
    return *nb ? qcow2_check_write_l1(c, *nb) : 0;
}

/* What repairs in place leave, or must not touch. */
static bool needs_rescue(Qcow2Check *c, bool declined)
{
    return declined || !qcow2_check_is_proven(c) || c->contradictions ||
           (c->res->leaks && (c->orphans->len || c->keep_all));
}

/* Single entries first: until they are right nothing else is certain. */
static int coroutine_fn repair_rest(Qcow2Check *c, int64_t *nb_fixups)
{
    bool declined;
    int ret = qcow2_check_restore(c, nb_fixups, &declined);

    if (ret < 0 || *nb_fixups) {
        return ret;
    }
    if (!declined) {
        ret = qcow2_check_apply_fixups(c, nb_fixups);
    }
    if (ret == 0 && !*nb_fixups && qcow2_check_may_rescue(c) &&
        needs_rescue(c, declined)) {
        ret = qcow2_check_rescue(c, nb_fixups);
        /* Once: what it leaves it cannot repair. */
        c->may_rescue = false;
    }
    if (ret < 0 || declined || *nb_fixups) {
        return ret;
    }
    ret = qcow2_check_repair(c);
    if (c->res->corruptions) {
        qcow2_check_say(c, "What is damaged stays as it is%s: no single change "
                        "makes everything agree",
                        qcow2_check_is_proven(c) ? "" : ", and nothing is "
                        "freed");
    }
    return ret;
}

/*
 * One pass over the image. Sets *@again if something was repaired that hid
 * references: then nothing else was repaired, and it takes another pass to know
 * what is true. @place: tables where the user wants them.
 */
static int coroutine_fn check_pass(BlockDriverState *bs,
                                   BdrvCheckResult *result,
                                   const BdrvCheckOptions *opts, bool place,
                                   bool *may_rescue, int64_t *nb_fixups,
                                   bool *again)
{
    int64_t nb_tables = 0, file_size, data_size;
    Qcow2Check c;
    int ret;

    *nb_fixups = 0;
    *again = false;
    /* The pass before may have made the file longer. */
    ret = get_sizes(bs, &file_size, &data_size);
    if (ret < 0) {
        return ret;
    }
    qcow2_check_init(&c, bs, result, opts, file_size, data_size);
    c.may_rescue = *may_rescue;
    ret = qcow2_check_measure(&c);
    if (ret == 0) {
        qcow2_check_find_orphans(&c, opts->orphans == BDRV_CHECK_ORPHANS_FREE);
    }
    if (ret == 0 && opts->fix) {
        ret = put_tables_back(&c, place, &nb_tables);
        if (ret == 0 && !nb_tables) {
            ret = repair_rest(&c, nb_fixups);
        }
    }
    *again = nb_tables || *nb_fixups;
    *may_rescue = c.may_rescue;
    qcow2_check_destroy(&c);
    return ret;
}

/* All is well on disk: neither the dirty nor the corrupt bit is needed. */
static int coroutine_fn clear_marks(BlockDriverState *bs)
{
    int ret = qcow2_mark_clean(bs);

    return ret < 0 ? ret : qcow2_mark_consistent(bs);
}

/*
 * Refcounts that were too low may be what kept all else from agreeing. Another
 * repair would go on there, and so does this one. Not if leaks were freed: that
 * they were there was a reason against repairs, and still is.
 */
static bool is_unfinished(const BdrvCheckResult *res,
                          const BdrvCheckOptions *opts)
{
    return opts->fix & BDRV_FIX_ERRORS &&
           opts->orphans == BDRV_CHECK_ORPHANS_SAVE &&
           (res->corruptions || res->leaks) &&
           res->corruptions <= MAX_UNFINISHED && res->corruptions_fixed &&
           !res->leaks_fixed;
}

static int coroutine_fn check_all(BlockDriverState *bs,
                                  BdrvCheckResult *result,
                                  const BdrvCheckOptions *opts)
{
    BDRVQcow2State *s = bs->opaque;
    int64_t nb_fixups, fixed = 0;
    bool again, place = true, may_rescue = true;
    unsigned rounds = 0;
    int ret;

    if (s->writable) {
        /* The tables are read past the caches; lazy refcounts, too. */
        ret = qcow2_flush_all_metadata(bs);
        if (ret < 0) {
            return ret;
        }
    }
    /* Every pass but the last repairs something, each thing once. */
    *result = (BdrvCheckResult) { 0 };
    do {
        ret = check_pass(bs, result, opts, place, &may_rescue, &nb_fixups,
                         &again);
        fixed += nb_fixups;
        place = false;
        if (ret == 0 && !again && is_unfinished(result, opts) &&
            ++rounds < MAX_ROUNDS) {
            fixed += result->corruptions_fixed;
            again = may_rescue = true;
        }
    } while (ret == 0 && again);

    result->corruptions_fixed += fixed + result->tables_restored;
    if (ret == 0 && opts->fix && result->check_errors == 0 &&
        result->corruptions == 0) {
        ret = clear_marks(bs);
    }
    return ret;
}

/* Bitmaps can be changed if nothing in use looks free. */
static bool may_repair_bitmaps(const BdrvCheckResult *result,
                               BdrvCheckMode fix)
{
    return fix & (BDRV_FIX_BITMAPS_REMOVE | BDRV_FIX_BITMAPS_DIRTY) &&
           result->inconsistent_bitmaps && result->check_errors == 0 &&
           result->corruptions == result->bitmap_corruptions;
}

static int coroutine_fn check_and_bitmaps(BlockDriverState *bs,
                                          BdrvCheckResult *result,
                                          const BdrvCheckOptions *opts)
{
    int ret = check_all(bs, result, opts);

    if (ret == 0 && may_repair_bitmaps(result, opts->fix)) {
        BdrvCheckOptions rest = *opts;
        BdrvCheckResult before = *result;
        int64_t fixed;

        /* What was placed is in its place. */
        rest.nb_places = 0;
        ret = qcow2_bitmaps_repair(bs, opts->fix & BDRV_FIX_BITMAPS_DIRTY,
                                   &fixed);
        if (ret == 0 && fixed) {
            ret = check_all(bs, result, &rest);
            result->bitmaps_fixed = fixed;
            result->leaks_fixed += before.leaks_fixed;
            result->corruptions_fixed += before.corruptions_fixed;
            result->tables_restored += before.tables_restored;
            result->clusters_saved += before.clusters_saved;
            result->entries_cleared += before.entries_cleared;
        }
    }
    return ret;
}

bool qcow2_check_snapshots_make_sense(const BDRVQcow2State *s)
{
    uint32_t i;

    for (i = 0; i < s->nb_snapshots; i++) {
        if (!s->snapshots[i].id_size || !s->snapshots[i].l1_table_offset) {
            return false;
        }
    }
    return true;
}

/*
 * One pass that repairs nothing. If nothing is found no L1 entry and no refcount
 * is going to change, so that the guard needs no other look.
 */
static int coroutine_fn check_soundness(BlockDriverState *bs,
                                        BdrvCheckResult *result,
                                        const BdrvCheckOptions *opts)
{
    BDRVQcow2State *s = bs->opaque;
    const Qcow2CheckGuard guard = {
        .renew = s->autoclear_features & QCOW2_AUTOCLEAR_L1_GUARD,
    };
    BdrvCheckOptions plain = *opts;
    int ret;

    *result = (BdrvCheckResult) { 0 };
    if (!qcow2_check_guard_is_sound(s, opts->fix) ||
        !qcow2_check_snapshots_make_sense(s)) {
        result->corruptions = 1;
        return 0;
    }
    plain.fix = 0;
    ret = check_all(bs, result, &plain);
    if (ret < 0 || !opts->fix || !bdrv_check_found_nothing(result)) {
        return ret;
    }
    ret = clear_marks(bs);
    return ret < 0 ? ret : qcow2_check_guard_end(bs, opts, result, &guard);
}

int coroutine_fn qcow2_check_locked(BlockDriverState *bs,
                                    BdrvCheckResult *result,
                                    const BdrvCheckOptions *opts)
{
    BdrvCheckOptions rest = *opts;
    Qcow2CheckGuard guard;
    int ret;

    if (opts->first_fault) {
        return check_soundness(bs, result, opts);
    }
    ret = qcow2_check_guard_begin(bs, opts, &guard);
    if (ret < 0) {
        return ret;
    }
    if (guard.declined) {
        rest.fix = 0;
    }
    ret = check_and_bitmaps(bs, result, &rest);
    return ret < 0 ? ret : qcow2_check_guard_end(bs, opts, result, &guard);
}
