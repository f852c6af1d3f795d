/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Reading an L1 guard, and judging the L1 table by it.
 *
 * Foreign software may have written the image in any way, with or without
 * clearing the autoclear bit, and may have taken clusters of the area. So the
 * guard counts only if its sector is whole and is about this table, and if
 * nobody has a reference to its clusters. Whatever does not match after that
 * is a question of evidence: guard-evidence.c, and check-guard.c.
 */
#include "util/osdep.h"
#include "util/bswap.h"
#include "util/error.h"
#include "util/memalign.h"
#include "block/qcow2/guard-io.h"

/* What is read from an area. */
typedef struct Area {
    Qcow2GuardHead head;
    uint64_t *copies[2];
    uint64_t sums[2];
} Area;

static void area_clear(Area *a)
{
    g_free(a->copies[0]);
    g_free(a->copies[1]);
}

/* As far as the file has it; the rest is zero. */
static int coroutine_fn read_some(BlockDriverState *bs, uint64_t offset,
                                  uint64_t bytes, void *buf)
{
    int64_t length = bdrv_co_getlength(bs->file->bs);

    memset(buf, 0, bytes);
    if (length < 0) {
        return length;
    }
    bytes = MIN(bytes, (uint64_t)length - MIN((uint64_t)length, offset));
    return bytes ? bdrv_co_pread(bs->file, offset, bytes, buf, 0) : 0;
}

/* Sets *@fault if the sector is not one for the L1 table of the header. */
static int coroutine_fn read_head(BlockDriverState *bs, Qcow2GuardHead *h,
                                  const char **fault)
{
    BDRVQcow2State *s = bs->opaque;
    QEMU_AUTO_VFREE void *buf = qemu_try_blockalign(bs->file->bs,
                                                    QCOW2_GUARD_SECTOR);
    int ret;

    if (!buf) {
        return -ENOMEM;
    }
    ret = read_some(bs, s->guard.place.offset, QCOW2_GUARD_SECTOR, buf);
    if (ret < 0) {
        *fault = "its sector cannot be read";
        return 0;
    }
    *fault = qcow2_guard_decode(buf, h);
    if (!*fault && h->offset != s->guard.place.offset) {
        *fault = "its sector belongs to another place";
    }
    if (!*fault &&
        (h->l1_offset != s->l1.offset || h->l1_size != s->l1.size)) {
        *fault = "it is about another L1 table";
    }
    return 0;
}

static const char *name_of(BlockDriverState *bs)
{
    return *bs->filename ? bs->filename : bdrv_get_device_or_node_name(bs);
}

/* One that cannot be read has a sum that is not its own. */
static int coroutine_fn read_copy(BlockDriverState *bs, Area *a, unsigned i)
{
    BDRVQcow2State *s = bs->opaque;
    uint32_t n = s->l1.size;
    uint64_t *entries = g_try_new0(uint64_t, MAX(n, 1));
    int ret;

    if (!entries) {
        return -ENOMEM;
    }
    a->copies[i] = entries;
    ret = read_some(bs, qcow2_guard_copy_offset(&s->guard.place, n, i),
                    n * L1E_SIZE, entries);
    for (uint32_t j = 0; j < n; j++) {
        entries[j] = be64_to_cpu(entries[j]);
    }
    a->sums[i] = qcow2_guard_sum(entries, n);
    if (ret < 0) {
        warn_report("%s: a copy in the L1 guard cannot be read: %s",
                    name_of(bs), strerror(-ret));
        a->sums[i] = ~a->head.sum;
    }
    return 0;
}

/* --- what a sound L1 table is --- */

static bool in_flight(const Area *a)
{
    return a->head.sum != a->head.old_sum;
}

static bool current_is_whole(const Area *a)
{
    return a->sums[a->head.current] == a->head.sum;
}

/* The table before the change in flight. */
static bool other_is_whole(const Area *a)
{
    return in_flight(a) && a->sums[!a->head.current] == a->head.old_sum;
}

/* Every entry is as before or as after the change in flight. */
static bool is_mixed(const BDRVQcow2State *s, const Area *a)
{
    if (!current_is_whole(a) || !other_is_whole(a)) {
        return false;
    }
    for (uint32_t i = 0; i < s->l1.size; i++) {
        uint64_t entry = s->l1.entries[i];

        if (entry != a->copies[0][i] && entry != a->copies[1][i]) {
            return false;
        }
    }
    return true;
}

/* The L1 table is right: what the guard needs before the next change. */
static int take_good(BDRVQcow2State *s, const Area *a, bool mixed)
{
    Qcow2Guard *g = &s->guard;
    size_t bytes = s->l1.size * L1E_SIZE;
    const uint8_t *other;
    int ret = qcow2_guard_take(g, s->l1.entries, s->l1.size);

    if (ret < 0) {
        return ret;
    }
    g->state = QCOW2_GUARD_ON;
    g->generation = a->head.generation;
    g->current = a->head.current;
    g->mixed = mixed;
    if (memcmp(a->copies[g->current], g->now, bytes) && !mixed &&
        !memcmp(a->copies[!g->current], g->now, bytes)) {
        /* The change did not get as far as the L1 table. */
        g->current = !g->current;
    }
    g->copy_bad = memcmp(a->copies[g->current], g->now, bytes) != 0;
    g->unsettled = in_flight(a) || a->head.disk_size != s->disk_size;
    other = (const uint8_t *)a->copies[!g->current];
    for (uint32_t i = 0; i < qcow2_guard_sectors(g); i++) {
        size_t pos = (size_t)i * QCOW2_GUARD_SECTOR;

        g->behind[i] = memcmp(other + pos, (const uint8_t *)g->now + pos,
                              MIN(bytes - pos, QCOW2_GUARD_SECTOR)) != 0;
    }
    return 0;
}

/* --- what an L1 table should be that is not sound --- */

/*
 * A whole copy. With a change in flight, of which both are there, an entry
 * that is as before it stays so.
 */
static uint64_t *wanted(const BDRVQcow2State *s, const Area *a)
{
    uint32_t n = s->l1.size;
    const uint64_t *new = a->copies[a->head.current];
    const uint64_t *old = a->copies[!a->head.current];
    uint64_t *want;

    if (!current_is_whole(a)) {
        return other_is_whole(a) ? g_memdup2(old, n * L1E_SIZE) : NULL;
    }
    want = g_memdup2(new, n * L1E_SIZE);
    for (uint32_t i = 0; other_is_whole(a) && i < n; i++) {
        if (s->l1.entries[i] == old[i]) {
            want[i] = old[i];
        }
    }
    return want;
}

static void coroutine_fn take_mismatch(BlockDriverState *bs, const Area *a)
{
    BDRVQcow2State *s = bs->opaque;
    Qcow2Guard *g = &s->guard;
    uint64_t *want = wanted(s, a);

    if (want && qcow2_guard_is_outdated(bs, want)) {
        qcow2_guard_void(g, QCOW2_GUARD_OUTDATED, NULL);
        g_free(want);
        return;
    }
    g->state = QCOW2_GUARD_MISMATCH;
    g->disk_size = a->head.disk_size;
    g->size = s->l1.size;
    g->generation = a->head.generation;
    g->want = want;
    for (uint32_t i = 0; want && i < g->size; i++) {
        g->differences += want[i] != s->l1.entries[i];
    }
}

/* --- the verdict --- */

int coroutine_fn qcow2_guard_is_taken(BlockDriverState *bs)
{
    BDRVQcow2State *s = bs->opaque;
    const Qcow2GuardPlace *p = &s->guard.place;
    uint64_t cluster = p->offset >> s->cluster_bits;
    uint64_t end = (p->offset + p->bytes) >> s->cluster_bits;

    for (; cluster < end; cluster++) {
        uint64_t refcount;
        int ret = qcow2_get_refcount(bs, cluster, &refcount);

        if (ret < 0) {
            return ret;
        }
        if (refcount) {
            return 1;
        }
    }
    return 0;
}

/* NULL, or why its clusters cannot be relied on. */
static const char *coroutine_fn clusters_fault(BlockDriverState *bs)
{
    int taken = qcow2_guard_is_taken(bs);

    return taken < 0 ? "the refcounts of its clusters cannot be read"
         : taken ? "other data use its clusters" : NULL;
}

static int coroutine_fn judge(BlockDriverState *bs, Area *a)
{
    BDRVQcow2State *s = bs->opaque;
    uint64_t sum = qcow2_guard_sum(s->l1.entries, s->l1.size);
    int ret;

    for (unsigned i = 0; i < 2; i++) {
        ret = read_copy(bs, a, i);
        if (ret < 0) {
            return ret;
        }
    }
    if (sum == a->head.sum || sum == a->head.old_sum) {
        return take_good(s, a, false);
    }
    if (is_mixed(s, a)) {
        return take_good(s, a, true);
    }
    take_mismatch(bs, a);
    return 0;
}

static int coroutine_fn open_guard(BlockDriverState *bs)
{
    BDRVQcow2State *s = bs->opaque;
    Qcow2Guard *g = &s->guard;
    const char *fault = g->fault;
    Area a = { 0 };
    int ret = 0;

    if (!g->has_ext && !fault) {
        fault = "its header extension is missing";
    }
    if (!fault) {
        ret = read_head(bs, &a.head, &fault);
    }
    if (ret == 0 && !fault) {
        g->place.bytes = qcow2_guard_clusters(s, s->l1.size)
                         << s->cluster_bits;
        fault = g->place.offset + g->place.bytes > QCOW_MAX_HOST_OFFSET
                    ? "it is outside the image" : clusters_fault(bs);
    }
    if (ret == 0 && !fault) {
        ret = judge(bs, &a);
    }
    if (ret == 0 && fault) {
        qcow2_guard_void(g, QCOW2_GUARD_VOID, fault);
    }
    area_clear(&a);
    return ret;
}

static void report(BlockDriverState *bs)
{
    BDRVQcow2State *s = bs->opaque;
    const Qcow2Guard *g = &s->guard;
    const char *name = name_of(bs);

    if (bs->open_flags & BDRV_O_QUIET) {
        return;
    }
    switch (g->state) {
    case QCOW2_GUARD_VOID:
        warn_report("%s: the L1 guard is void: %s", name, g->fault);
        break;
    case QCOW2_GUARD_OUTDATED:
        warn_report("%s: the L1 guard is out of date: another program has "
                    "changed the L1 table", name);
        break;
    case QCOW2_GUARD_MISMATCH:
        warn_report("%s: the L1 table is not what its guard says; use "
                    "'qemu-img check -r all'", name);
        break;
    default:
        break;
    }
}

int coroutine_fn qcow2_guard_open(BlockDriverState *bs)
{
    BDRVQcow2State *s = bs->opaque;
    int ret;

    /* Salvaging believes what can be read. */
    if (!(s->autoclear_features & QCOW2_AUTOCLEAR_L1_GUARD) || s->salvage) {
        return 0;
    }
    ret = open_guard(bs);
    if (ret == 0) {
        report(bs);
    }
    return ret;
}

int coroutine_fn qcow2_guard_judge_again(BlockDriverState *bs)
{
    BDRVQcow2State *s = bs->opaque;

    qcow2_guard_void(&s->guard, QCOW2_GUARD_NONE, NULL);
    return open_guard(bs);
}

int coroutine_fn qcow2_guard_make_writable(BlockDriverState *bs, Error **errp)
{
    BDRVQcow2State *s = bs->opaque;
    Qcow2Guard *g = &s->guard;
    int ret = 0;

    if (g->state == QCOW2_GUARD_MISMATCH) {
        error_setg(errp, "The L1 table is not what its guard says; use "
                   "'qemu-img check -r all'");
        return -EIO;
    }
    if (g->state == QCOW2_GUARD_ON) {
        const char *fault = clusters_fault(bs);

        if (fault) {
            qcow2_guard_void(g, QCOW2_GUARD_VOID, fault);
            report(bs);
        }
    }
    if (g->state == QCOW2_GUARD_VOID || g->state == QCOW2_GUARD_OUTDATED) {
        ret = qcow2_guard_drop(bs);
        if (ret < 0) {
            error_setg_errno(errp, -ret, "Could not update qcow2 header");
        }
    }
    return ret;
}
