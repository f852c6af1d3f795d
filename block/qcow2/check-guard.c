/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The check of an L1 guard, and of the L1 table by it.
 *
 * Where the two differ, references decide. They are counted twice, silently:
 * for the L1 table as it is, and for the one that a verdict on each entry
 * leads to. Whatever cannot be proven stays as it is, and then nothing else is
 * repaired either: what looks leaked may be what the guard has.
 *
 * The entries are written in their place. The guard does not change until they
 * are durable, so a power cut leaves less of the same damage.
 */
#include "util/osdep.h"
#include "util/error.h"
#include "block/qcow2/check.h"

/* How many differences are listed. */
#define MAX_LISTED 16

/* One way to fill the L1 table, and what a check makes of it. */
typedef struct Candidate {
    uint64_t *entries;      /* NULL: as it is */
    BdrvCheckResult res;
    Qcow2Check c;
    bool counted;
} Candidate;

static void candidate_clear(Candidate *p)
{
    if (p->counted) {
        qcow2_check_end_trial(&p->c);
    }
    g_free(p->entries);
}

static int coroutine_fn try(BlockDriverState *bs, Candidate *p)
{
    int ret = qcow2_check_trial(bs, p->entries, &p->res, &p->c);

    p->counted = true;
    return ret;
}

static bool is_spotless(const Candidate *p)
{
    return !p->res.corruptions && !p->res.leaks && !p->res.check_errors;
}

static bool is_no_worse(const Candidate *p, const Candidate *q)
{
    return p->res.corruptions <= q->res.corruptions &&
           p->res.leaks <= q->res.leaks &&
           p->res.check_errors <= q->res.check_errors;
}

/* --- entries --- */

typedef struct Tally {
    uint32_t foreign;
    uint32_t damage;
    uint32_t unproven;
} Tally;

static uint64_t count_of(Qcow2Check *c, Qcow2CheckCounts *counts,
                         uint64_t offset)
{
    return offset && qcow2_check_in_file(c, offset)
               ? qcow2_check_counts_get(counts, offset >> c->s->cluster_bits)
               : 0;
}

static GHashTable *targets_of(const uint64_t *entries, uint32_t n)
{
    GHashTable *t = g_hash_table_new(NULL, NULL);

    for (uint32_t i = 0; i < n; i++) {
        g_hash_table_add(t, GSIZE_TO_POINTER(entries[i] & L1E_OFFSET_MASK));
    }
    return t;
}

static Qcow2GuardVerdict judge_entry(Qcow2Check *c, GHashTable *wanted,
                                     GHashTable *actual, uint64_t entry,
                                     uint64_t copy)
{
    const BDRVQcow2State *s = c->s;
    uint64_t target = entry & L1E_OFFSET_MASK;
    uint64_t copy_target = copy & L1E_OFFSET_MASK;
    const Qcow2GuardEvidence e = {
        .entry = entry,
        .copy = copy,
        .possible = target && !offset_into_cluster(s, target) &&
                    qcow2_check_in_file(c, target),
        .elsewhere = target && target != copy_target &&
                     g_hash_table_contains(wanted, GSIZE_TO_POINTER(target)),
        .moved = copy_target && target != copy_target &&
                 g_hash_table_contains(actual, GSIZE_TO_POINTER(copy_target)),
        .entry_refcount = count_of(c, c->disk, target),
        .entry_refs = count_of(c, c->refs, target),
        .copy_refcount = count_of(c, c->disk, copy_target),
        .copy_refs = count_of(c, c->refs, copy_target),
    };

    return qcow2_guard_verdict(&e);
}

/* The entries that @as_is, counted, proves. NULL: no memory. */
static uint64_t *merge(const BDRVQcow2State *s, Candidate *as_is, Tally *tally)
{
    const Qcow2Guard *g = &s->guard;
    uint64_t *entries = g_try_new(uint64_t, MAX(g->size, 1));
    GHashTable *wanted = targets_of(g->want, g->size);
    GHashTable *actual = targets_of(s->l1.entries, g->size);

    for (uint32_t i = 0; entries && i < g->size; i++) {
        uint64_t entry = s->l1.entries[i];

        entries[i] = entry;
        if (entry == g->want[i]) {
            continue;
        }
        switch (judge_entry(&as_is->c, wanted, actual, entry, g->want[i])) {
        case QCOW2_GUARD_FOREIGN:
            tally->foreign++;
            break;
        case QCOW2_GUARD_DAMAGE:
            tally->damage++;
            entries[i] = g->want[i];
            break;
        default:
            tally->unproven++;
            break;
        }
    }
    g_hash_table_destroy(actual);
    g_hash_table_destroy(wanted);
    return entries;
}

/* --- which table is right --- */

typedef enum Decision {
    DECLINE,
    KEEP,           /* the L1 table as it is */
    RESTORE,        /* the entries of *@result */
} Decision;

/* The whole copy, if with it every reference is as counted. */
static int coroutine_fn try_copy(BlockDriverState *bs, Decision *decision,
                                 uint64_t **result)
{
    BDRVQcow2State *s = bs->opaque;
    const Qcow2Guard *g = &s->guard;
    Candidate copy = { .entries = g_memdup2(g->want, g->size * L1E_SIZE) };
    int ret = try(bs, &copy);

    if (ret == 0 && is_spotless(&copy)) {
        *decision = RESTORE;
        *result = g_steal_pointer(&copy.entries);
    }
    candidate_clear(&copy);
    return ret;
}

static int coroutine_fn try_merged(BlockDriverState *bs,
                                   const Candidate *as_is, uint64_t *entries,
                                   Decision *decision, uint64_t **result)
{
    Candidate merged = { .entries = entries };
    int ret = try(bs, &merged);

    if (ret == 0 && is_no_worse(&merged, as_is) &&
        qcow2_check_l1_is_proven(&merged.c)) {
        *decision = RESTORE;
        *result = g_steal_pointer(&merged.entries);
    }
    candidate_clear(&merged);
    return ret;
}

static int coroutine_fn decide_by_copy(BlockDriverState *bs, Candidate *as_is,
                                       Decision *decision, uint64_t **result)
{
    BDRVQcow2State *s = bs->opaque;
    Tally tally = { 0 };
    uint64_t *entries = merge(s, as_is, &tally);
    bool foreign;

    if (!entries) {
        return -ENOMEM;
    }
    foreign = tally.foreign || s->guard.disk_size != s->disk_size;
    if ((!tally.damage && !tally.unproven) ||
        (is_spotless(as_is) && (foreign || tally.unproven))) {
        g_free(entries);
        *decision = KEEP;
        return 0;
    }
    if (!tally.unproven) {
        return try_merged(bs, as_is, entries, decision, result);
    }
    g_free(entries);
    return try_copy(bs, decision, result);
}

/* What the user wants; false: to have it proven. */
static bool decide_by_user(const BDRVQcow2State *s, BdrvCheckL1Guard choice,
                           Decision *decision, uint64_t **result)
{
    const Qcow2Guard *g = &s->guard;

    if (choice == BDRV_CHECK_L1_TABLE) {
        *decision = KEEP;
        return true;
    }
    if (choice == BDRV_CHECK_L1_COPY && g->want) {
        *decision = RESTORE;
        *result = g_memdup2(g->want, g->size * L1E_SIZE);
        return true;
    }
    return choice == BDRV_CHECK_L1_COPY;
}

static int coroutine_fn decide(BlockDriverState *bs, BdrvCheckL1Guard choice,
                               Decision *decision, uint64_t **result)
{
    BDRVQcow2State *s = bs->opaque;
    Candidate as_is = { 0 };
    int ret;

    *decision = DECLINE;
    /* Refcounts that are behind prove nothing. */
    if (decide_by_user(s, choice, decision, result) ||
        (s->incompatible_features & QCOW2_INCOMPAT_DIRTY)) {
        return 0;
    }
    ret = try(bs, &as_is);
    if (ret == 0 && s->guard.want) {
        ret = decide_by_copy(bs, &as_is, decision, result);
    } else if (ret == 0 && is_spotless(&as_is)) {
        *decision = KEEP;
    }
    candidate_clear(&as_is);
    return ret;
}

/* --- doing --- */

static int coroutine_fn restore(BlockDriverState *bs, const uint64_t *entries,
                                int64_t *fixed)
{
    BDRVQcow2State *s = bs->opaque;
    uint32_t n = s->guard.size;
    int ret;

    for (uint32_t i = 0; i < n; i++) {
        if (s->l1.entries[i] != entries[i]) {
            error_printf("Repairing L1 entry %u: 0x%" PRIx64
                         " instead of 0x%" PRIx64 "\n", i, entries[i],
                         s->l1.entries[i]);
            ++*fixed;
        }
    }
    qcow2_l1_update(bs, 0, n, entries);
    ret = qcow2_l1_write(bs);
    if (ret == 0) {
        ret = bdrv_co_flush(bs->file->bs);
    }
    if (ret == 0) {
        qcow2_cache_empty(s->l2_table_cache);
        /* What the guard says now. */
        ret = qcow2_guard_judge_again(bs);
    }
    return ret;
}

static void list_differences(const BDRVQcow2State *s)
{
    const Qcow2Guard *g = &s->guard;
    uint32_t listed = 0;

    if (!g->want) {
        error_printf("ERROR the L1 table is not what its guard says, and no "
                     "copy in the guard is whole\n");
        return;
    }
    for (uint32_t i = 0; i < g->size && listed < MAX_LISTED; i++) {
        if (s->l1.entries[i] != g->want[i]) {
            error_printf("ERROR L1 entry %u is 0x%" PRIx64 "; its guard has "
                         "0x%" PRIx64 "\n", i, s->l1.entries[i], g->want[i]);
            listed++;
        }
    }
    if (g->differences > listed) {
        error_printf("ERROR %u more L1 entries are not as in the guard\n",
                     g->differences - listed);
    }
}

static int coroutine_fn repair_table(BlockDriverState *bs,
                                     BdrvCheckL1Guard choice, int64_t *fixed)
{
    BDRVQcow2State *s = bs->opaque;
    g_autofree uint64_t *entries = NULL;
    Decision decision;
    int ret = decide(bs, choice, &decision, &entries);

    if (ret < 0) {
        return ret;
    }
    switch (decision) {
    case KEEP:
        error_printf("%s: the guard is not used any more\n", choice
                     ? "The L1 table stays as it is"
                     : "All references agree with the L1 table");
        *fixed += MAX(s->guard.differences, 1);
        return qcow2_guard_drop(bs);
    case RESTORE:
        ret = restore(bs, entries, fixed);
        if (ret == 0 && s->guard.state != QCOW2_GUARD_ON) {
            ret = qcow2_guard_drop(bs);
        }
        return ret;
    default:
        error_printf("It is not proven which of both is right: nothing is "
                     "repaired; --l1-guard=table or --l1-guard=copy "
                     "decides\n");
        return 0;
    }
}

/* References that refcounts do not tell of, to clusters of the area. */
static bool area_is_used(Qcow2Check *c)
{
    const Qcow2GuardPlace *p = &c->s->guard.place;
    uint64_t cluster = p->offset >> c->s->cluster_bits;
    uint64_t end = (p->offset + p->bytes) >> c->s->cluster_bits;

    for (; cluster < end; cluster++) {
        if (qcow2_check_counts_get(c->refs, cluster)) {
            return true;
        }
    }
    return false;
}

/*
 * A repair may change L1 entries, and so the area, before anybody knows that
 * refcounts were too low: of a dirty image, or a damaged one. So references
 * are counted once more, before the first write.
 */
static int coroutine_fn verify_area(BlockDriverState *bs)
{
    BDRVQcow2State *s = bs->opaque;
    Candidate as_is = { 0 };
    bool used;
    int ret;

    if (s->guard.state != QCOW2_GUARD_ON) {
        return 0;
    }
    ret = try(bs, &as_is);
    used = ret == 0 && area_is_used(&as_is.c);
    candidate_clear(&as_is);
    if (used) {
        error_printf("The clusters of the L1 guard are in use: it is not "
                     "used any more\n");
        ret = qcow2_guard_drop(bs);
    }
    return ret;
}

/* Of a change in flight both copies are needed; that is no damage. */
static bool copy_is_damaged(const Qcow2Guard *g)
{
    return g->state == QCOW2_GUARD_ON && g->copy_bad && !g->mixed;
}

bool qcow2_check_guard_is_sound(const BDRVQcow2State *s, bool to_repair)
{
    switch (s->guard.state) {
    case QCOW2_GUARD_VOID:
    case QCOW2_GUARD_OUTDATED:
        return !to_repair;
    case QCOW2_GUARD_MISMATCH:
        return false;
    default:
        return !copy_is_damaged(&s->guard);
    }
}

static int coroutine_fn check_copy(BlockDriverState *bs,
                                   const BdrvCheckOptions *opts,
                                   Qcow2CheckGuard *r)
{
    BDRVQcow2State *s = bs->opaque;
    int ret;

    if (!copy_is_damaged(&s->guard)) {
        return 0;
    }
    if (!(opts->fix & BDRV_FIX_ERRORS)) {
        if (!opts->quiet) {
            error_printf("ERROR the copy of the L1 table in the guard is "
                         "damaged\n");
        }
        r->corruptions++;
        return 0;
    }
    error_printf("Repairing the copy of the L1 table in the guard\n");
    ret = qcow2_guard_refresh(bs);
    r->fixed += ret == 0;
    return ret;
}

int coroutine_fn qcow2_check_guard_begin(BlockDriverState *bs,
                                         const BdrvCheckOptions *opts,
                                         Qcow2CheckGuard *r)
{
    BDRVQcow2State *s = bs->opaque;
    int ret = 0;

    *r = (Qcow2CheckGuard) {
        .renew = s->autoclear_features & QCOW2_AUTOCLEAR_L1_GUARD,
    };
    if (s->guard.state == QCOW2_GUARD_MISMATCH) {
        if (!opts->quiet) {
            list_differences(s);
        }
        if (opts->fix & BDRV_FIX_ERRORS) {
            ret = repair_table(bs, opts->l1_guard, &r->fixed);
        }
        if (s->guard.state == QCOW2_GUARD_MISMATCH) {
            r->corruptions = MAX(s->guard.differences, 1);
            r->declined = true;
        }
    }
    if (ret == 0 && opts->fix) {
        ret = verify_area(bs);
    }
    return ret < 0 ? ret : check_copy(bs, opts, r);
}

int coroutine_fn qcow2_check_guard_end(BlockDriverState *bs,
                                       const BdrvCheckOptions *opts,
                                       BdrvCheckResult *res,
                                       const Qcow2CheckGuard *r)
{
    BDRVQcow2State *s = bs->opaque;
    Error *err = NULL;
    int ret = 0;

    res->corruptions += r->corruptions;
    res->corruptions_fixed += r->fixed;
    if (!(opts->fix & BDRV_FIX_ERRORS) || !s->writable || r->declined) {
        return 0;
    }
    if (s->guard.state == QCOW2_GUARD_VOID ||
        s->guard.state == QCOW2_GUARD_OUTDATED ||
        (s->guard.state == QCOW2_GUARD_ON && qcow2_guard_is_taken(bs) != 0)) {
        ret = qcow2_guard_drop(bs);
    }
    if (ret == 0 && r->renew && s->guard.state == QCOW2_GUARD_NONE &&
        !res->corruptions && !res->check_errors) {
        error_printf("Making the guard of the L1 table anew\n");
        ret = qcow2_guard_enable(bs, &err);
        if (err) {
            error_printf("%s\n", error_get_pretty(err));
            error_free(err);
        }
    }
    return ret;
}
