/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "util/osdep.h"
#include "repairs.h"
#include "block/qcow2/qcow2.h"
#include "block/snapshot.h"
#include "util/bswap.h"
#include "util/error.h"

#define LOST_AND_FOUND "lost+found"
/* Damage that no repair makes good is of no use here. */
#define MAX_TRIES 30

/* A cluster of the guest that no entry leads to. */
typedef struct Lost {
    int64_t guest;          /* offset in the disk */
    uint8_t *content;
} Lost;

/* --- the time in the snapshot's entry --- */

gint64 __wrap_g_get_real_time(void);

/* The same in each run of a seed. */
gint64 __wrap_g_get_real_time(void)
{
    return G_USEC_PER_SEC;
}

/* --- damage --- */

static uint64_t get(const Run *run, uint64_t offset)
{
    g_assert(offset + 8 <= (uint64_t)run->disk->size);
    return ldq_be_p(run->disk->data + offset);
}

static void set(Run *run, uint64_t offset, uint64_t value)
{
    g_assert(offset + 8 <= (uint64_t)run->disk->size);
    stq_be_p(run->disk->data + offset, value);
}

static void add_lost(Run *run, int64_t guest, uint64_t host)
{
    Lost *lost = g_new(Lost, 1);

    *lost = (Lost) {
        .guest = guest,
        .content = g_memdup2(run->disk->data + host, run->cluster),
    };
    g_ptr_array_add(run->lost, lost);
}

/* Numbers of any size in the first refcount block. */
static void damage_refcounts(Run *run)
{
    uint64_t block = get(run, get(run, 48)) & REFT_OFFSET_MASK;
    int64_t n = run->disk->size / run->cluster * run->g.refcount_bits / 8;

    n = MIN(n, run->cluster);
    for (int64_t i = g_rand_int_range(run->rand, 0, n); i < n; i++) {
        run->disk->data[block + i] = g_rand_int_range(run->rand, 0, 6);
    }
}

/* The place of the table's first block: the structure is made anew. */
static void damage_reftable(Run *run)
{
    uint64_t table = get(run, 48);

    set(run, table, g_rand_boolean(run->rand) ? 0 : get(run, table) | 512);
}

/* What leads to the tables; found again by trial. */
static void damage_header(Run *run)
{
    static const int fields[] = { 40, 48 };
    int field = fields[g_rand_int_range(run->rand, 0, 2)];

    set(run, field, UINT64_C(1) << g_rand_int_range(run->rand, 36, 50));
}

/* An entry that cannot be right, and where clusters of the guest were. */
static void damage_entry(Run *run, uint64_t place, int64_t guest)
{
    uint64_t entry = get(run, place);
    uint64_t host = entry & L2E_OFFSET_MASK;

    if (!host || entry & QCOW_OFLAG_COMPRESSED) {
        return;
    }
    add_lost(run, guest, host);
    set(run, place, entry ^ UINT64_C(0x5a) << 40);
}

static void damage_entries(Run *run)
{
    uint64_t l2 = get(run, get(run, 40)) & L1E_OFFSET_MASK;
    int64_t nb = MIN(run->w->prefill, run->cluster / 8);
    int n = g_rand_int_range(run->rand, 1, 4);

    for (int64_t i = g_rand_int_range(run->rand, 0, nb - n); n--; i++) {
        damage_entry(run, l2 + 8 * i, i * run->cluster);
    }
}

/* All that an L2 table maps, and the table. */
static void damage_l1(Run *run)
{
    uint64_t l1 = get(run, 40);
    uint64_t entry = get(run, l1);
    uint64_t l2 = entry & L1E_OFFSET_MASK;
    int64_t nb = MIN(run->w->prefill, run->cluster / 8);

    for (int64_t i = 0; i < nb; i++) {
        uint64_t host = get(run, l2 + 8 * i) & L2E_OFFSET_MASK;

        if (host) {
            add_lost(run, i * run->cluster, host);
        }
    }
    set(run, l1, g_rand_boolean(run->rand) ? 0 : entry ^ UINT64_C(0x5a) << 40);
}

static void damage(Run *run)
{
    static void (*const kinds[])(Run *run) = {
        damage_refcounts, damage_reftable, damage_header, damage_entries,
        damage_l1, damage_entries,
    };
    unsigned kind = g_rand_int_range(run->rand, 0, ARRAY_SIZE(kinds));

    kinds[kind](run);
    run->header_damaged = kinds[kind] == damage_header;
    if (kinds[kind] == damage_entries && g_rand_boolean(run->rand)) {
        damage_refcounts(run);
    }
}

/* --- repair --- */

static int check(const Run *run, const BdrvCheckOptions *opts,
                 BdrvCheckResult *res)
{
    BlockBackend *blk = run_open_flags(run, BDRV_O_RDWR | BDRV_O_CHECK, NULL);
    int ret;

    if (!blk) {
        return -EINVAL;
    }
    ret = bdrv_check_opts(blk_bs(blk), res, opts);
    blk_unref(blk);
    return ret;
}

int repairs_run(const Run *run, bool quiet)
{
    const BdrvCheckOptions look = {
        .fix = BDRV_FIX_LEAKS | BDRV_FIX_ERRORS, .quiet = true,
        .first_fault = true,
    };
    const BdrvCheckOptions repair = {
        .fix = BDRV_FIX_LEAKS | BDRV_FIX_ERRORS,
        .orphans = BDRV_CHECK_ORPHANS_SAVE, .quiet = quiet,
    };
    g_autoptr(GString) said = g_string_new(NULL);
    BdrvCheckResult res = { 0 };
    int ret = check(run, &look, &res);

    if (ret == 0 && bdrv_check_found_nothing(&res)) {
        return 0;
    }
    /* It takes long, and finds nothing if that is not what is damaged. */
    ret = run->header_damaged ? qcow2_restore_header(run->disk->bs, said) : 0;
    if (ret >= 0) {
        ret = check(run, &repair, &res);
    }
    if (ret == 0 && !bdrv_check_found_nothing(&res)) {
        ret = -EUCLEAN;
    }
    return ret;
}

/* --- what must be somewhere --- */

/* Whether @content is a cluster of the snapshot. */
static bool snapshot_has(const Run *run, const char *name,
                         const uint8_t *content)
{
    BlockBackend *blk = run_open_flags(run, 0, &error_abort);
    g_autofree uint8_t *buf = g_malloc(run->cluster);
    bool found = false;
    int64_t size, at;

    bdrv_snapshot_load_tmp(blk_bs(blk), NULL, name, &error_abort);
    size = blk_getlength(blk);
    for (at = 0; !found && at + run->cluster <= size; at += run->cluster) {
        found = blk_pread(blk, at, run->cluster, buf, 0) >= 0 &&
                !memcmp(buf, content, run->cluster);
    }
    blk_unref(blk);
    return found;
}

static bool is_saved(const Run *run, BlockBackend *blk, const Lost *lost)
{
    g_autofree uint8_t *buf = g_malloc0(run->cluster);
    int64_t bytes = MIN(run->cluster, blk_getlength(blk) - lost->guest);
    BDRVQcow2State *s = blk_bs(blk)->opaque;
    bool found = blk_pread(blk, lost->guest, bytes, buf, 0) >= 0 &&
                 !memcmp(buf, lost->content, bytes);

    for (uint32_t i = 0; i < s->nb_snapshots && !found; i++) {
        found = g_str_has_prefix(s->snapshots[i].name, LOST_AND_FOUND) &&
                snapshot_has(run, s->snapshots[i].name, lost->content);
    }
    return found;
}

/* The first that is nowhere; NULL: none. */
static const Lost *find_missing(const Run *run)
{
    BlockBackend *blk = run_open_flags(run, 0, &error_abort);
    const Lost *missing = NULL;

    for (guint i = 0; i < run->lost->len && !missing; i++) {
        if (!is_saved(run, blk, run->lost->pdata[i])) {
            missing = run->lost->pdata[i];
        }
    }
    blk_unref(blk);
    return missing;
}

char *repairs_judge(const Run *run)
{
    const Lost *missing;
    int ret = repairs_run(run, false);

    if (ret < 0) {
        return g_strdup_printf("another repair ends with: %s", strerror(-ret));
    }
    missing = find_missing(run);
    return missing ? g_strdup_printf("what was at %" PRId64 " of the disk is "
                                     "nowhere", missing->guest) : NULL;
}

/* --- life --- */

static void lost_free(void *opaque)
{
    Lost *lost = opaque;

    g_free(lost->content);
    g_free(lost);
}

/* Without a power cut the repair is a good one. */
static bool is_repairable(const Run *run)
{
    return repairs_run(run, true) == 0 && !find_missing(run);
}

void repairs_init(Run *run)
{
    g_autofree uint8_t *whole = g_memdup2(run->disk->data, run->disk->size);
    int64_t size = run->disk->size, damaged_size;
    g_autofree uint8_t *damaged = NULL;

    run->lost = g_ptr_array_new_with_free_func(lost_free);
    for (int i = 0; i < MAX_TRIES; i++) {
        damage(run);
        damaged_size = run->disk->size;
        damaged = g_memdup2(run->disk->data, damaged_size);
        if (is_repairable(run)) {
            break;
        }
        g_clear_pointer(&damaged, g_free);
        g_ptr_array_set_size(run->lost, 0);
        crash_disk_load(run->disk, whole, size);
    }
    g_assert(damaged);
    crash_disk_load(run->disk, damaged, damaged_size);
    for (guint i = 0; i < run->lost->len; i++) {
        const Lost *lost = run->lost->pdata[i];
        int64_t first = lost->guest / CRASH_SECTOR;
        int64_t nb = MIN(run->cluster / CRASH_SECTOR, run->guest->size - first);
        GuestOp *op = guest_start(run->guest, GUEST_ZEROES, first, nb,
                                  "damaged");

        /* It may be back. */
        guest_end(run->guest, op, -EIO);
    }
}

void repairs_free(Run *run)
{
    g_clear_pointer(&run->lost, g_ptr_array_unref);
}
