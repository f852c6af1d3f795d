/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The snapshot that keeps what nobody names any more, though it is in use.
 *
 * What is leaked may be the only copy of the guest's data. Where nothing tells
 * where it belongs it becomes a disk of its own: L2 tables that were found are
 * in its L1 table as they are, and other clusters in tables made for them, one
 * behind the other; tables are there once more, for they may be data. So no
 * cluster has fewer references than are stored for it, and nobody reuses it
 * before the user deletes the snapshot.
 *
 * All is new, at the end of the file, and durable with its refcounts, before
 * one write of the header makes it a part of the image.
 */
#include "util/osdep.h"
#include "util/bswap.h"
#include "util/memalign.h"
#include "block/qcow2/check.h"
#include "block/qcow2/snapshot.h"

#define NAME "lost+found"
/* Clusters that are saved: their tables are whole in memory. */
#define MAX_CLUSTERS (1024 * 1024)
/* References that are made for one cluster; refcounts are damaged, too. */
#define MAX_REFS 256

typedef struct LostFound {
    Qcow2Check *c;              /* what is stored and found */
    Qcow2Check *voice;          /* who tells of it */
    Qcow2CheckCounts *own;      /* not 0: what no entry may name */
    Qcow2CheckCounts *placed;   /* what the snapshot refers to */
    GArray *l1;                 /* uint64_t: entries, host order */
    GArray *loose;              /* uint64_t: clusters */
    GArray *raised;             /* uint64_t: clusters whose refcounts go up */
    char *name;
} LostFound;

/* --- what it cannot have -------------------------------------------------- */

static void add_own(LostFound *f, uint64_t offset, uint64_t bytes)
{
    BDRVQcow2State *s = f->c->s;
    uint64_t cluster = offset >> s->cluster_bits;
    uint64_t end = MIN(size_to_clusters(s, offset + bytes), f->c->nb_clusters);

    for (; cluster < end; cluster++) {
        qcow2_check_counts_set(f->own, cluster, 1);
    }
}

/*
 * Only data and L2 tables are shared. References beyond one that are stored for
 * anything else stand for nothing, and an entry that names it would be damage.
 */
static void find_own(LostFound *f)
{
    BDRVQcow2State *s = f->c->s;
    uint32_t i;
    guint k;

    add_own(f, 0, s->cluster_size);
    add_own(f, s->l1.offset, (uint64_t)s->l1.size * L1E_SIZE);
    if (s->nb_snapshots) {
        add_own(f, s->snapshots_offset, s->snapshots_size);
    }
    for (i = 0; i < s->nb_snapshots; i++) {
        add_own(f, s->snapshots[i].l1_table_offset,
                (uint64_t)s->snapshots[i].l1_size * L1E_SIZE);
    }
    for (k = 0; k < f->c->structure->len; k++) {
        const Qcow2CheckExtent *e = &g_array_index(f->c->structure,
                                                   Qcow2CheckExtent, k);

        add_own(f, e->offset, e->bytes);
    }
}

static bool is_own(const LostFound *f, uint64_t cluster)
{
    return qcow2_check_counts_get(f->own, cluster);
}

/* --- what it has ---------------------------------------------------------- */

/* References that there are, and those that the snapshot has so far. */
static uint64_t known(const LostFound *f, uint64_t cluster)
{
    return qcow2_check_found(f->c, cluster) +
           qcow2_check_counts_get(f->placed, cluster);
}

/* What is stored beyond them; it may be any number. */
static uint64_t missing(const LostFound *f, uint64_t cluster)
{
    uint64_t stored = qcow2_check_counts_get(f->c->disk, cluster);

    return stored - MIN(stored, known(f, cluster));
}

static void count(LostFound *f, uint64_t cluster, uint64_t n)
{
    qcow2_check_counts_add(f->placed, cluster, n, UINT64_MAX);
}

static uint64_t cluster_of_table(const LostFound *f, const Qcow2CheckOrphan *o,
                                 guint i)
{
    return i < o->clusters->len ? g_array_index(o->clusters, uint64_t, i)
                                : o->offset >> f->c->s->cluster_bits;
}

static void drop_table(LostFound *f, const Qcow2CheckOrphan *o,
                       guint nb_raised)
{
    guint i;

    g_array_set_size(f->raised, nb_raised);
    for (i = 0; i <= o->clusters->len; i++) {
        uint64_t cluster = cluster_of_table(f, o, i);

        qcow2_check_counts_set(f->placed, cluster,
                               qcow2_check_counts_get(f->placed, cluster) - 1);
    }
}

static bool can_be_counted(const LostFound *f, uint64_t cluster)
{
    return known(f, cluster) <= f->c->s->refcount_max;
}

/*
 * Counts the table and all that it names, if it lacks a reference itself. What
 * it names may have enough without it: another table that is named twice may have
 * compressed data in the same cluster. Then refcounts go up, if they can.
 */
static bool take_table(LostFound *f, const Qcow2CheckOrphan *o)
{
    guint nb_raised = f->raised->len;
    bool ok = missing(f, o->offset >> f->c->s->cluster_bits) > 0;
    guint i;

    for (i = 0; i <= o->clusters->len; i++) {
        uint64_t cluster = cluster_of_table(f, o, i);

        if (!missing(f, cluster)) {
            g_array_append_val(f->raised, cluster);
        }
        count(f, cluster, 1);
        ok = ok && can_be_counted(f, cluster) && !is_own(f, cluster);
    }
    if (!ok) {
        drop_table(f, o, nb_raised);
    }
    return ok;
}

static gint compare_tables(gconstpointer a, gconstpointer b)
{
    const Qcow2CheckOrphan *const *x = a;
    const Qcow2CheckOrphan *const *y = b;

    return ((*x)->clusters->len < (*y)->clusters->len) -
           ((*x)->clusters->len > (*y)->clusters->len);
}

static void add_tables(GPtrArray *list, const GArray *tables)
{
    guint i;

    for (i = 0; i < tables->len; i++) {
        g_ptr_array_add(list, &g_array_index(tables, Qcow2CheckOrphan, i));
    }
}

/* The largest first: what it names may look like a table and be its data. */
static void take_tables(LostFound *f)
{
    g_autoptr(GPtrArray) list = g_ptr_array_new();
    guint i;

    add_tables(list, f->c->orphans);
    add_tables(list, f->c->homeless);
    g_ptr_array_sort(list, compare_tables);
    for (i = 0; i < list->len; i++) {
        const Qcow2CheckOrphan *o = list->pdata[i];

        if (take_table(f, o)) {
            qcow2_check_say(f->voice, "Saving the L2 table at offset 0x%"
                            PRIx64 " and the %u clusters that it maps: at 0x%"
                            PRIx64 " of snapshot '%s'", o->offset,
                            o->clusters->len, (uint64_t)f->l1->len <<
                            (f->c->s->l2_bits + f->c->s->cluster_bits),
                            f->name);
            g_array_append_val(f->l1, o->offset);
        }
    }
}

static void take_cluster(LostFound *f, uint64_t cluster, uint64_t n)
{
    BDRVQcow2State *s = f->c->s;
    uint64_t first = (uint64_t)f->l1->len << s->l2_bits;

    qcow2_check_say(f->voice, "Saving the cluster at offset 0x%" PRIx64
                    ": at 0x%" PRIx64 " of snapshot '%s'",
                    cluster << s->cluster_bits,
                    (first + f->loose->len) << s->cluster_bits, f->name);
    count(f, cluster, n);
    while (n--) {
        g_array_append_val(f->loose, cluster);
    }
}

/* One reference more, beyond those that are stored if need be and possible. */
static void take_once_more(LostFound *f, uint64_t cluster)
{
    if (!missing(f, cluster)) {
        if (known(f, cluster) >= f->c->s->refcount_max) {
            return;
        }
        g_array_append_val(f->raised, cluster);
    }
    take_cluster(f, cluster, 1);
}

/* What reads as a table may be data all the same: once more, as a cluster. */
static void take_raw_tables(LostFound *f)
{
    guint i;

    for (i = 0; i < f->l1->len; i++) {
        take_once_more(f, g_array_index(f->l1, uint64_t, i) >>
                          f->c->s->cluster_bits);
    }
}

/* What has many references stored has a few of them, if there are too many. */
static void take_rest(LostFound *f, const GArray *leaked, const GArray *others)
{
    guint i;

    for (i = 0; i < leaked->len; i++) {
        uint64_t cluster = g_array_index(leaked, uint64_t, i);
        uint64_t max = f->loose->len < MAX_CLUSTERS ? MAX_REFS : 1;
        uint64_t n = MIN(missing(f, cluster), max);

        if (n && !is_own(f, cluster)) {
            take_cluster(f, cluster, n);
        }
    }
    for (i = 0; i < others->len; i++) {
        uint64_t cluster = g_array_index(others, uint64_t, i);

        if (!qcow2_check_counts_get(f->placed, cluster) &&
            !is_own(f, cluster)) {
            take_once_more(f, cluster);
        }
    }
}

/* --- writing it ----------------------------------------------------------- */

/* Clusters behind all that is in the file. */
static int64_t coroutine_fn allocate(LostFound *f, uint64_t bytes)
{
    BDRVQcow2State *s = f->c->s;

    s->free_cluster_index = MAX(s->free_cluster_index, f->c->nb_clusters);
    return qcow2_alloc_clusters(f->c->bs, bytes);
}

static int coroutine_fn write_new(LostFound *f, const void *buf,
                                  uint64_t bytes, uint64_t *place)
{
    int64_t offset = allocate(f, bytes);

    if (offset < 0) {
        return offset;
    }
    *place = offset;
    return bdrv_co_pwrite(f->c->bs->file, offset, bytes, buf, 0);
}

static int coroutine_fn write_l2(LostFound *f)
{
    BDRVQcow2State *s = f->c->s;
    QEMU_AUTO_VFREE uint64_t *l2 = qemu_try_blockalign(f->c->bs->file->bs,
                                                       s->cluster_size);
    guint i, k;
    int ret = l2 ? 0 : -ENOMEM;

    for (i = 0; ret == 0 && i < f->loose->len; i += k) {
        uint64_t offset;

        memset(l2, 0, s->cluster_size);
        for (k = 0; k < s->l2_size && i + k < f->loose->len; k++) {
            set_l2_entry(s, l2, k, g_array_index(f->loose, uint64_t, i + k)
                                   << s->cluster_bits);
            if (s->extended_l2) {
                set_l2_bitmap(s, l2, k, QCOW2_BITMAP_ALL_DATA);
            }
        }
        ret = write_new(f, l2, s->cluster_size, &offset);
        if (ret == 0) {
            g_array_append_val(f->l1, offset);
        }
    }
    return ret;
}

static int coroutine_fn write_l1(LostFound *f, uint64_t *offset)
{
    uint64_t bytes = f->l1->len * L1E_SIZE;
    QEMU_AUTO_VFREE uint64_t *l1 = qemu_try_blockalign(f->c->bs->file->bs,
                                                       bytes);
    guint i;

    if (!l1) {
        return -ENOMEM;
    }
    for (i = 0; i < f->l1->len; i++) {
        l1[i] = cpu_to_be64(g_array_index(f->l1, uint64_t, i));
    }
    return write_new(f, l1, bytes, offset);
}

static void set_entry(LostFound *f, uint64_t nb_tables, uint64_t l1_offset,
                      QCowSnapshot *sn)
{
    BDRVQcow2State *s = f->c->s;
    uint64_t size = ((nb_tables << s->l2_bits) + f->loose->len)
                    << s->cluster_bits;
    QCowSnapshotExtraData extra = {
        .disk_size = cpu_to_be64(size),
        .icount = cpu_to_be64(UINT64_MAX),
    };

    *sn = (QCowSnapshot) {
        .l1_table_offset = l1_offset,
        .l1_size = f->l1->len,
        .id_str = qcow2_snapshot_new_id(s),
        .name = g_strdup(f->name),
        .disk_size = size,
        .date_sec = g_get_real_time() / G_USEC_PER_SEC,
        .icount = UINT64_MAX,
        .extra_data_size = sizeof(extra),
        .extra_data = g_memdup2(&extra, sizeof(extra)),
        .name_size = strlen(f->name),
    };
    sn->id_size = strlen(sn->id_str);
}

/* All that was written becomes durable, and then a part of the image. */
static int coroutine_fn switch_table(LostFound *f, uint64_t offset,
                                     uint32_t nb)
{
    BlockDriverState *bs = f->c->bs;
    int ret = 0;
    guint i;

    for (i = 0; ret == 0 && i < f->raised->len; i++) {
        ret = qcow2_update_refcount(bs, g_array_index(f->raised, uint64_t, i)
                                        << f->c->s->cluster_bits,
                                    f->c->s->cluster_size, 1, false,
                                    QCOW2_DISCARD_NEVER);
    }
    if (ret == 0) {
        ret = qcow2_flush_all_metadata(bs);
    }
    if (ret == 0) {
        ret = qcow2_flush_before_switch(bs);
    }
    if (ret == 0) {
        ret = qcow2_header_write_snapshots(bs, offset, nb);
    }
    return ret;
}

/* The table with the new snapshot @sn, which becomes the image's. */
static int coroutine_fn add_snapshot(LostFound *f, const QCowSnapshot *sn)
{
    BlockDriverState *bs = f->c->bs;
    BDRVQcow2State *s = f->c->s;
    uint32_t nb = s->nb_snapshots + 1;
    g_autofree QCowSnapshot *list = g_new(QCowSnapshot, nb);
    QEMU_AUTO_VFREE void *buf = NULL;
    uint64_t offset, size;
    int ret;

    if (s->nb_snapshots) {
        memcpy(list, s->snapshots, s->nb_snapshots * sizeof(*list));
    }
    list[s->nb_snapshots] = *sn;
    ret = qcow2_snapshot_table_build(bs, list, nb, &buf, &size, NULL);
    if (ret == 0) {
        ret = write_new(f, buf, size, &offset);
    }
    if (ret == 0) {
        ret = switch_table(f, offset, nb);
    }
    if (ret < 0) {
        return ret;
    }
    g_free(s->snapshots);
    s->snapshots = g_steal_pointer(&list);
    s->nb_snapshots = nb;
    s->snapshots_offset = offset;
    s->snapshots_size = size;
    return 0;
}

/* The old snapshot table, if nothing else is there. Its refcounts are 1 now. */
static int coroutine_fn free_old_table(LostFound *f, uint64_t offset,
                                       uint64_t bytes)
{
    BlockDriverState *bs = f->c->bs;
    BDRVQcow2State *s = f->c->s;
    uint64_t cluster;
    int ret;

    for (cluster = offset >> s->cluster_bits;
         cluster << s->cluster_bits < offset + bytes; cluster++) {
        if (qcow2_check_found(f->c, cluster) != 1 ||
            !qcow2_check_counts_get(f->c->disk, cluster)) {
            return 0;
        }
    }
    ret = bytes ? qcow2_update_refcount(bs, offset, bytes, 1, true,
                                        QCOW2_DISCARD_NEVER) : 0;
    if (ret == 0) {
        ret = qcow2_write_refcounts(bs);
    }
    return ret < 0 ? ret : bdrv_co_flush(bs->file->bs);
}

/*
 * References that are stored beyond those which the snapshot could have stand
 * for nothing that is not saved; as leaks they would be saved again each time.
 */
static int coroutine_fn lower_refcounts(LostFound *f)
{
    g_auto(Qcow2CheckWalk) walk = qcow2_check_walk(f->c->disk, NULL,
                                                   f->c->nb_clusters, false);
    BDRVQcow2State *s = f->c->s;
    uint64_t cluster;
    int ret = 0;

    while (ret == 0 && qcow2_check_walk_next(&walk, &cluster)) {
        uint64_t excess = missing(f, cluster);

        if (excess && (is_own(f, cluster) ||
                       qcow2_check_counts_get(f->placed, cluster))) {
            ret = qcow2_update_refcount(f->c->bs, cluster << s->cluster_bits,
                                        s->cluster_size, excess, true,
                                        QCOW2_DISCARD_NEVER);
        }
    }
    if (ret == 0) {
        ret = qcow2_write_refcounts(f->c->bs);
    }
    return ret < 0 ? ret : bdrv_co_flush(f->c->bs->file->bs);
}

static int coroutine_fn write_snapshot(LostFound *f)
{
    BDRVQcow2State *s = f->c->s;
    uint64_t nb_tables = f->l1->len;
    uint64_t old_offset = s->snapshots_offset;
    uint64_t old_size = s->nb_snapshots ? s->snapshots_size : 0;
    uint64_t offset;
    QCowSnapshot sn;
    int ret = write_l2(f);

    if (ret == 0) {
        ret = write_l1(f, &offset);
    }
    if (ret < 0) {
        return ret;
    }
    set_entry(f, nb_tables, offset, &sn);
    ret = add_snapshot(f, &sn);
    if (ret < 0) {
        qcow2_snapshot_clear(&sn);
        return ret;
    }
    ret = lower_refcounts(f);
    return ret < 0 ? ret : free_old_table(f, old_offset, old_size);
}

/* --- what the check calls ------------------------------------------------- */

/* A name that no snapshot has. */
static char *new_name(const BDRVQcow2State *s)
{
    char *name = g_strdup(NAME);
    unsigned n = 1;
    uint32_t i;

    for (i = 0; i < s->nb_snapshots; i++) {
        if (!strcmp(s->snapshots[i].name, name)) {
            g_free(name);
            name = g_strdup_printf(NAME "-%u", ++n);
            i = -1;
        }
    }
    return name;
}

bool qcow2_check_may_save(const Qcow2Check *c)
{
    g_autoptr(GArray) leaked = qcow2_check_leaked(c, MAX_CLUSTERS + 1);

    return leaked->len <= MAX_CLUSTERS &&
           c->s->nb_snapshots < QCOW_MAX_SNAPSHOTS;
}

/* Those of the clusters that the snapshot has. */
static int64_t nb_placed(const LostFound *f, const GArray *clusters)
{
    int64_t n = 0;
    guint i;

    for (i = 0; i < clusters->len; i++) {
        n += qcow2_check_counts_get(f->placed, g_array_index(clusters, uint64_t,
                                                             i)) != 0;
    }
    return n;
}

int coroutine_fn qcow2_check_save_lost(Qcow2Check *c, Qcow2Check *voice,
                                       const GArray *others, int64_t *nb,
                                       int64_t *nb_saved)
{
    g_autoptr(Qcow2CheckCounts) own = qcow2_check_counts_new();
    g_autoptr(Qcow2CheckCounts) placed = qcow2_check_counts_new();
    g_autoptr(GArray) l1 = g_array_new(FALSE, FALSE, sizeof(uint64_t));
    g_autoptr(GArray) loose = g_array_new(FALSE, FALSE, sizeof(uint64_t));
    g_autoptr(GArray) raised = g_array_new(FALSE, FALSE, sizeof(uint64_t));
    g_autoptr(GArray) leaked = qcow2_check_leaked(c, MAX_CLUSTERS);
    g_autofree char *name = new_name(c->s);
    LostFound f = {
        .c = c, .voice = voice, .own = own, .placed = placed, .l1 = l1,
        .loose = loose, .raised = raised, .name = name,
    };

    *nb = leaked->len + others->len;
    *nb_saved = 0;
    if (!*nb) {
        return 0;
    }
    find_own(&f);
    take_tables(&f);
    take_rest(&f, leaked, others);
    take_raw_tables(&f);
    *nb_saved = nb_placed(&f, leaked) + nb_placed(&f, others);
    return l1->len || loose->len ? write_snapshot(&f) : lower_refcounts(&f);
}
