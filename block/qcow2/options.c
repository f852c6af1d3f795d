/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Runtime options: from BlockdevOptionsQcow2 into the state, at open, reopen
 * and after a resize.
 */
#include "util/osdep.h"
#include "util/error.h"
#include "block/qcow2/qcow2.h"

#define DEFAULT_L2_CACHE_MAX (32 * 1024 * 1024ULL)
#define MIN_L2_CACHE_TABLES 2
#define MIN_REFCOUNT_CACHE_TABLES 4
#define DEFAULT_L2_ENTRY_SIZE 4096
#define DEFAULT_CLEAN_INTERVAL 600

struct Qcow2ReopenState {
    Qcow2Cache *l2_table_cache;
    Qcow2Cache *refcount_block_cache;
    int l2_slice_size;
    bool discard_passthrough[QCOW2_DISCARD_MAX];
    bool discard_no_unref;
    bool use_lazy_refcounts;
    int overlap_check;
    uint64_t cache_clean_interval;
};

/* --- cache sizes --- */

/* Divides a total between the caches, as far as nothing else is said. */
static bool split_total(const BlockdevOptionsQcow2 *o, uint64_t max_l2,
                        uint64_t min_refcount, uint64_t *l2,
                        uint64_t *refcount, Error **errp)
{
    uint64_t total = o->cache_size;

    if (o->has_l2_cache_size && o->has_refcount_cache_size) {
        error_setg(errp, "cache-size, l2-cache-size and refcount-cache-size "
                   "may not be set at the same time");
        return false;
    }
    if (o->has_l2_cache_size && o->l2_cache_size > total) {
        error_setg(errp, "l2-cache-size may not exceed cache-size");
        return false;
    }
    if (o->has_refcount_cache_size && o->refcount_cache_size > total) {
        error_setg(errp, "refcount-cache-size may not exceed cache-size");
        return false;
    }
    if (o->has_l2_cache_size) {
        *refcount = total - *l2;
    } else if (o->has_refcount_cache_size) {
        *l2 = total - *refcount;
    } else if (total >= max_l2 + min_refcount) {
        *l2 = max_l2;
        *refcount = total - max_l2;
    } else {
        *refcount = MIN(total, min_refcount);
        *l2 = total - *refcount;
    }
    return true;
}

bool qcow2_cache_sizes(const BDRVQcow2State *s, const BlockdevOptionsQcow2 *o,
                       uint64_t disk_size, uint64_t *l2_cache_size,
                       uint64_t *l2_entry_size, uint64_t *refcount_cache_size,
                       Error **errp)
{
    uint64_t max_l2 = ROUND_UP(size_to_clusters(s, disk_size) *
                               qcow2_l2_entry_size(s),
                               (uint64_t)s->cluster_size);
    uint64_t min_refcount = MIN_REFCOUNT_CACHE_TABLES *
                            (uint64_t)s->cluster_size;
    uint64_t l2 = o->has_l2_cache_size ? o->l2_cache_size
                                       : MIN(max_l2, DEFAULT_L2_CACHE_MAX);
    uint64_t refcount = o->has_refcount_cache_size ? o->refcount_cache_size
                                                   : min_refcount;
    uint64_t entry = s->cluster_size;

    if (o->has_cache_size &&
        !split_total(o, max_l2, min_refcount, &l2, &refcount, errp)) {
        return false;
    }
    if (o->has_l2_cache_entry_size) {
        entry = o->l2_cache_entry_size;
    } else if (l2 < max_l2) {
        /* It cannot hold everything: hold what is used, more finely. */
        entry = MIN(entry, DEFAULT_L2_ENTRY_SIZE);
    }
    if (entry < 1 << MIN_CLUSTER_BITS || entry > (uint64_t)s->cluster_size ||
        (entry & (entry - 1))) {
        error_setg(errp, "L2 cache entry size must be a power of two between "
                   "%d and the cluster size (%d)", 1 << MIN_CLUSTER_BITS,
                   s->cluster_size);
        return false;
    }
    /* A cache bigger than what it caches is no use. */
    l2 = MIN(l2, MAX(max_l2, MIN_L2_CACHE_TABLES * entry));
    if (l2 / entry > INT_MAX) {
        error_setg(errp, "L2 cache size too big");
        return false;
    }
    if (refcount / s->cluster_size > INT_MAX) {
        error_setg(errp, "Refcount cache size too big");
        return false;
    }
    *l2_cache_size = MAX(l2, MIN_L2_CACHE_TABLES * entry);
    *l2_entry_size = entry;
    *refcount_cache_size = MAX(refcount, min_refcount);
    return true;
}

/* --- overlap checks --- */

static int overlap_of_mode(Qcow2OverlapCheckMode mode)
{
    switch (mode) {
    case QCOW2_OVERLAP_CHECK_MODE_NONE:
        return QCOW2_OL_NONE;
    case QCOW2_OVERLAP_CHECK_MODE_CONSTANT:
        return QCOW2_OL_CONSTANT;
    case QCOW2_OVERLAP_CHECK_MODE_CACHED:
        return QCOW2_OL_CACHED;
    case QCOW2_OVERLAP_CHECK_MODE_ALL:
        return QCOW2_OL_ALL;
    default:
        g_assert_not_reached();
    }
}

static int overlap_of_flags(const Qcow2OverlapCheckFlags *f)
{
    int bits = f->has_template ? overlap_of_mode(f->template)
                               : QCOW2_OL_CACHED;
    const struct {
        bool has, on;
        int bit;
    } members[] = {
        { f->has_main_header, f->main_header, QCOW2_OL_MAIN_HEADER },
        { f->has_active_l1, f->active_l1, QCOW2_OL_ACTIVE_L1 },
        { f->has_active_l2, f->active_l2, QCOW2_OL_ACTIVE_L2 },
        { f->has_refcount_table, f->refcount_table, QCOW2_OL_REFCOUNT_TABLE },
        { f->has_refcount_block, f->refcount_block, QCOW2_OL_REFCOUNT_BLOCK },
        { f->has_snapshot_table, f->snapshot_table, QCOW2_OL_SNAPSHOT_TABLE },
        { f->has_inactive_l1, f->inactive_l1, QCOW2_OL_INACTIVE_L1 },
        { f->has_inactive_l2, f->inactive_l2, QCOW2_OL_INACTIVE_L2 },
        { f->has_bitmap_directory, f->bitmap_directory,
          QCOW2_OL_BITMAP_DIRECTORY },
    };

    for (int i = 0; i < ARRAY_SIZE(members); i++) {
        if (members[i].has) {
            bits = members[i].on ? bits | members[i].bit
                                 : bits & ~members[i].bit;
        }
    }
    return bits;
}

static int overlap_of_options(const BlockdevOptionsQcow2 *o)
{
    if (!o->overlap_check) {
        return QCOW2_OL_CACHED;
    }
    return o->overlap_check->type == QTYPE_QDICT
               ? overlap_of_flags(&o->overlap_check->u.flags)
               : overlap_of_mode(o->overlap_check->u.mode);
}

/* --- all of them --- */

static bool parse_options(BlockDriverState *bs, Qcow2ReopenState *r,
                          const BlockdevOptionsQcow2 *o, int flags,
                          Error **errp)
{
    BDRVQcow2State *s = bs->opaque;
    bool lazy_bit = s->compatible_features & QCOW2_COMPAT_LAZY_REFCOUNTS;

    r->use_lazy_refcounts = o->has_lazy_refcounts ? o->lazy_refcounts
                                                  : lazy_bit;
    if (r->use_lazy_refcounts && s->qcow_version < 3) {
        error_setg(errp, "Lazy refcounts require a qcow2 image with at least "
                   "qemu 1.1 compatibility level");
        return false;
    }
    r->discard_no_unref = o->has_discard_no_unref && o->discard_no_unref;
    if (r->discard_no_unref && s->qcow_version < 3) {
        error_setg(errp, "discard-no-unref is only supported since qcow2 "
                   "version 3");
        return false;
    }
    r->discard_passthrough[QCOW2_DISCARD_NEVER] = false;
    r->discard_passthrough[QCOW2_DISCARD_ALWAYS] = true;
    r->discard_passthrough[QCOW2_DISCARD_REQUEST] =
        o->has_pass_discard_request ? o->pass_discard_request
                                    : !!(flags & BDRV_O_UNMAP);
    r->discard_passthrough[QCOW2_DISCARD_SNAPSHOT] =
        o->has_pass_discard_snapshot ? o->pass_discard_snapshot : true;
    r->discard_passthrough[QCOW2_DISCARD_OTHER] =
        o->has_pass_discard_other && o->pass_discard_other;
    r->overlap_check = overlap_of_options(o);
    r->cache_clean_interval = o->has_cache_clean_interval
                                  ? o->cache_clean_interval
                                  : DEFAULT_CLEAN_INTERVAL;
    if (r->cache_clean_interval > UINT_MAX) {
        error_setg(errp, "Cache clean interval too big");
        return false;
    }
    return true;
}

/* @slice: entries of a cached piece of an L2 table; 0: what suits the size. */
static bool make_caches(BlockDriverState *bs, Qcow2ReopenState *r,
                        const BlockdevOptionsQcow2 *o, int slice, Error **errp)
{
    BDRVQcow2State *s = bs->opaque;
    uint64_t l2, entry, refcount;

    if (!qcow2_cache_sizes(s, o, s->disk_size, &l2, &entry, &refcount, errp)) {
        return false;
    }
    if (slice) {
        entry = (uint64_t)slice * qcow2_l2_entry_size(s);
        l2 = CLAMP(l2, MIN_L2_CACHE_TABLES * entry, INT_MAX * entry);
    }
    r->l2_slice_size = entry / qcow2_l2_entry_size(s);
    r->l2_table_cache = qcow2_cache_create(bs, l2 / entry, entry,
                                           QCOW2_OL_ACTIVE_L2);
    r->refcount_block_cache = qcow2_cache_create(bs, refcount >>
                                                     s->cluster_bits,
                                                 s->cluster_size,
                                                 QCOW2_OL_REFCOUNT_BLOCK);
    if (!r->l2_table_cache || !r->refcount_block_cache) {
        error_setg(errp, "Could not allocate metadata caches");
        return false;
    }
    return true;
}

/* What the caches hold now is on disk afterwards. */
static int coroutine_fn write_caches(BlockDriverState *bs, bool lazy)
{
    BDRVQcow2State *s = bs->opaque;
    int ret;

    if (!s->l2_table_cache || !s->writable) {
        return 0;
    }
    ret = qcow2_flush_all_metadata(bs);
    if (ret == 0 && s->use_lazy_refcounts && !lazy) {
        ret = qcow2_mark_clean(bs);
    }
    return ret;
}

Qcow2ReopenState *coroutine_fn qcow2_options_prepare(
    BlockDriverState *bs, const BlockdevOptionsQcow2 *options, int flags,
    Error **errp)
{
    Qcow2ReopenState *r = g_new0(Qcow2ReopenState, 1);
    int ret;

    if (!parse_options(bs, r, options, flags, errp) ||
        !make_caches(bs, r, options, 0, errp)) {
        qcow2_options_abort(r);
        return NULL;
    }
    ret = write_caches(bs, r->use_lazy_refcounts);
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Failed to flush the metadata caches");
        qcow2_options_abort(r);
        return NULL;
    }
    return r;
}

static void replace_caches(BDRVQcow2State *s, const Qcow2ReopenState *r)
{
    assert(!s->l2_table_cache ||
           (!qcow2_cache_is_dirty(s->l2_table_cache) &&
            !qcow2_cache_is_dirty(s->refcount_block_cache)));
    qcow2_cache_destroy(s->l2_table_cache);
    qcow2_cache_destroy(s->refcount_block_cache);
    s->l2_table_cache = r->l2_table_cache;
    s->refcount_block_cache = r->refcount_block_cache;
}

void qcow2_options_commit(BlockDriverState *bs, Qcow2ReopenState *r)
{
    BDRVQcow2State *s = bs->opaque;

    replace_caches(s, r);
    s->l2_slice_size = r->l2_slice_size;
    memcpy(s->discard_passthrough, r->discard_passthrough,
           sizeof(s->discard_passthrough));
    s->discard_no_unref = r->discard_no_unref;
    s->use_lazy_refcounts = r->use_lazy_refcounts;
    s->overlap_check = r->overlap_check;
    s->cache_clean_interval = r->cache_clean_interval;
    g_free(r);
}

void qcow2_options_abort(Qcow2ReopenState *r)
{
    if (r) {
        qcow2_cache_destroy(r->l2_table_cache);
        qcow2_cache_destroy(r->refcount_block_cache);
        g_free(r);
    }
}

void coroutine_fn qcow2_resize_caches(BlockDriverState *bs)
{
    BDRVQcow2State *s = bs->opaque;
    Qcow2ReopenState *r = g_new0(Qcow2ReopenState, 1);

    if (make_caches(bs, r, &bs->options->u.qcow2, s->l2_slice_size, NULL) &&
        write_caches(bs, s->use_lazy_refcounts) == 0) {
        replace_caches(s, r);
        g_free(r);
    } else {
        qcow2_options_abort(r);
    }
}
