/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The inside of the check: one run over an image.
 *
 *   check.c            the order of things, counting, the comparison
 *   check-report.c     what is told on stderr
 *   check-read.c       many metadata reads at a time, results in order
 *   check-refcounts.c  the compact table of counts
 *   check-meta.c       header, snapshots, the refcount structure
 *   check-bitmaps.c    stored bitmaps
 *   check-tables.c     L1 and L2 tables
 *   check-guard.c      the guard of the L1 table
 *   check-orphans.c    leaks that may be the guest's data
 *   check-trial.c      what would be found if some bytes were others
 *   check-entries.c    damaged L2 entries
 *   check-l1-entries.c damaged L1 entries
 *   check-bitmap-fields.c  damaged stored bitmaps
 *   check-snapshot-fields.c  damaged snapshot tables
 *   check-context.c    which one of several it cannot be
 *   check-rescue.c     what is left when nothing can be proven
 *   check-void-entries.c   entries that cannot be right, given up
 *   check-lost-found.c a snapshot of what nobody names any more
 *   check-repair.c     changes in place
 *   check-rebuild.c    a new refcount structure
 *
 * Everything runs in one thread under BDRVQcow2State.lock, with all metadata
 * flushed, and reads from bs->file past the caches. Problems are told on
 * stderr as they are found and counted in the result.
 */
#ifndef BLOCK_QCOW2_CHECK_H
#define BLOCK_QCOW2_CHECK_H

#include "block/qcow2/qcow2.h"
#include "block/qcow2/check-counts.h"

/* What is known of the refcounts that one refcount block holds. */
typedef enum Qcow2CheckBlockState {
    QCOW2_CHECK_BLOCK_NONE,     /* there is no block: all 0 */
    QCOW2_CHECK_BLOCK_GOOD,     /* its numbers are in Qcow2Check.disk */
    QCOW2_CHECK_BLOCK_BAD,      /* cannot be read: unknown */
} Qcow2CheckBlockState;

/* One read of metadata; the first part of what the readers are given. */
typedef struct Qcow2CheckRead {
    uint64_t offset;
    uint32_t bytes;
} Qcow2CheckRead;

/* An L2 table that L1 tables name. */
typedef struct Qcow2CheckL2 {
    Qcow2CheckRead read;
    uint32_t refs;          /* L1 entries that name it, in all L1 tables */
    uint32_t active;        /* of these, in the active one */
    uint32_t index;         /* in the first table that names it */
    bool one_index;         /* and in all others */
    bool empty;             /* has no entry; set by the walk */
    bool bad;               /* has one that cannot be right; the same */
} Qcow2CheckL2;

/* A leaked L2 table; see check-orphans.c. */
typedef struct Qcow2CheckOrphan {
    uint64_t offset;
    int64_t index;          /* where snapshots have it; -1: in none, or in
                             * several places */
    int64_t home;           /* where tables in use name the same data; -1:
                             * nowhere, -2: in several places */
    GArray *clusters;       /* uint64_t: what it names, sorted, each as often */
    int64_t last;           /* its last entry that is in use */
    int64_t lost;           /* leaked clusters, itself included */
    bool exact;             /* refcounts agree with its being in use */
    bool fits;              /* or are higher */
    bool flags_agree;       /* COPIED is where it is in a table in use */
    bool zeroes_only;
    bool can_return;        /* it is proven that it belongs to @slot */
    uint32_t slot;
    uint32_t nb_free;       /* L1 entries with room for it: none, one, more */
    uint32_t nb_suspect;
} Qcow2CheckOrphan;

typedef enum Qcow2CheckFix {
    QCOW2_CHECK_FIX_OFFSET,     /* no data, unaligned: forget its offset */
    QCOW2_CHECK_FIX_COPIED,     /* compressed: clear COPIED */
    QCOW2_CHECK_FIX_BITMAP,     /* compressed: clear the bitmap */
} Qcow2CheckFix;

/* An L2 entry with a fault whose repair needs no other knowledge. */
typedef struct Qcow2CheckFixup {
    uint64_t l2_offset;
    uint32_t index;
    uint32_t refs;          /* as Qcow2CheckL2.refs */
    Qcow2CheckFix fix;
} Qcow2CheckFixup;

/* A piece of the refcount structure that was counted. */
typedef struct Qcow2CheckExtent {
    uint64_t offset;
    uint64_t bytes;
} Qcow2CheckExtent;

typedef struct Qcow2Check {
    BlockDriverState *bs;
    BDRVQcow2State *s;
    BdrvCheckResult *res;
    BdrvCheckMode fix;
    const BdrvCheckOptions *opts;

    uint64_t file_size;     /* bytes */
    uint64_t data_size;     /* bytes of the data file, if there is one */
    uint64_t nb_clusters;   /* of the file, and one more if something that
                             * starts in the last partial one reaches there */

    Qcow2CheckCounts *refs; /* references that were found */
    Qcow2CheckCounts *disk; /* refcounts as stored; unknown for BAD blocks */
    Qcow2CheckCounts *excess;   /* references beyond refcount_max, not in @refs */
    uint8_t *block_state;   /* Qcow2CheckBlockState by block number */
    uint64_t nb_blocks;     /* that the file's clusters need */

    GArray *l2_tables;      /* Qcow2CheckL2; sorted by offset when complete */
    size_t l2_sorted;       /* elements in front that are sorted and unique */
    GArray *fixups;         /* Qcow2CheckFixup */
    GArray *structure;      /* Qcow2CheckExtent */
    GArray *orphans;        /* Qcow2CheckOrphan */
    GArray *homeless;       /* the same: no active L1 entry has room for them,
                             * or nothing that they name is leaked */
    Qcow2CheckCounts *snapshot_voids;   /* by L1 index: snapshots whose entry
                                         * names nothing in the file */
    GArray *lost_tables;    /* uint64_t: leaked clusters that read as L2 tables,
                             * and others that no L1 entry has room for */
    Qcow2CheckCounts *kept; /* not 0: what may not be freed */
    bool keep_all;

    /*
     * Faults in anything that refers to clusters: there may be references
     * that nobody sees, so that nothing can be proven unused.
     */
    int64_t bad_references;
    int64_t overflows;      /* the same: references beyond refcount_max */
    int64_t unread;         /* the same for tables that could not be read */
    int64_t void_faults;    /* of @bad_references: active L1 entries that name
                             * nothing in the file */
    int64_t unknown_refcounts;  /* clusters; counted in res->check_errors */
    int64_t structure_faults;   /* counted in res->corruptions */
    bool rebuild;           /* the refcount structure cannot be used */
    GByteArray *bad_bitmaps;    /* Qcow2BitmapDamage of all; of those with
                                 * something unknown, too */
    const GByteArray *marked_bitmaps;   /* the same, of what they will be freed
                                         * from; NULL: nothing */
    int64_t unknown_bitmaps;    /* of @unread */
    int64_t contradictions; /* bitmaps of extended entries that have clusters */
    bool may_rescue;        /* see qcow2_check_may_rescue() */
    bool all_or_none;       /* the first fault ends the run: only whether there
                             * is one matters */

    GHashTable *lines;      /* how many were told, by format */

    int64_t work_done;      /* bytes of metadata read, for the progress */
    int64_t work_total;
} Qcow2Check;

/* Fixups remembered in one run; the rest waits for the next one. */
#define QCOW2_CHECK_MAX_FIXUPS 65536

/* --- check-report.c --- */

/*
 * A line on stderr. After some thousand made from one @fmt (a literal: its
 * address tells kinds apart) the rest is not shown; that goes for all of these.
 */
void qcow2_check_say(Qcow2Check *c, const char *fmt, ...)
    G_GNUC_PRINTF(2, 3);
/* The same for a table that could not be read or written: counts an error. */
void qcow2_check_io_error(Qcow2Check *c, int ret, const char *fmt, ...)
    G_GNUC_PRINTF(3, 4);
/* The same for a corruption found @n times; counts it. */
void qcow2_check_corruption(Qcow2Check *c, uint64_t n, const char *fmt, ...)
    G_GNUC_PRINTF(3, 4);
/* The same, and something that refers to clusters is damaged. */
void qcow2_check_bad_reference(Qcow2Check *c, uint64_t n, const char *fmt,
                               ...) G_GNUC_PRINTF(3, 4);
/* The refcounts of @n clusters from @first, in block @block, are unknown. */
void qcow2_check_bad_refcounts(Qcow2Check *c, uint64_t block, uint64_t first,
                               uint64_t n);

/* --- check.c --- */

/* @result is set to 0. @c is to be destroyed. */
void qcow2_check_init(Qcow2Check *c, BlockDriverState *bs,
                      BdrvCheckResult *result, const BdrvCheckOptions *opts,
                      uint64_t file_size, uint64_t data_size);
void qcow2_check_destroy(Qcow2Check *c);
/* Counts all references and compares them with what is stored. 0 or -errno. */
int coroutine_fn qcow2_check_measure(Qcow2Check *c);
/* A fault was found where one is enough. */
static inline bool qcow2_check_is_decided(const Qcow2Check *c)
{
    return c->all_or_none && (c->res->corruptions || c->res->leaks);
}

/* Zeroes behind the snapshot table read as snapshots of nothing: not so. */
bool qcow2_check_snapshots_make_sense(const BDRVQcow2State *s);

/*
 * Counts @n references to every cluster that the range touches. False, having
 * reported it, if it does not lie in the file.
 */
bool qcow2_check_count(Qcow2Check *c, uint64_t offset, uint64_t bytes,
                       uint64_t n);

/* Everything that refers to clusters is known, so what has no reference is
 * not used. */
static inline bool qcow2_check_is_proven(const Qcow2Check *c)
{
    return c->bad_references == 0 && c->unread == 0;
}

static inline bool qcow2_check_in_file(const Qcow2Check *c, uint64_t offset)
{
    return offset < c->file_size;
}

/* References that were found, also those that no refcount can hold. */
static inline uint64_t qcow2_check_found(const Qcow2Check *c, uint64_t cluster)
{
    return qcow2_check_counts_get(c->refs, cluster) +
           qcow2_check_counts_get(c->excess, cluster);
}

/* More references are stored than were found. */
static inline bool qcow2_check_is_leaked(const Qcow2Check *c, uint64_t cluster)
{
    return qcow2_check_counts_get(c->disk, cluster) >
           qcow2_check_counts_get(c->refs, cluster);
}

/* Fewer references are stored than were found. */
static inline bool qcow2_check_is_short(const Qcow2Check *c, uint64_t cluster)
{
    return qcow2_check_counts_get(c->disk, cluster) <
           qcow2_check_found(c, cluster);
}

/*
 * Whether @test holds for a cluster below nb_clusters that has a number other
 * than 0 in @a or @b (may be NULL); others are asked about, too.
 */
bool qcow2_check_any_cluster(const Qcow2Check *c, Qcow2CheckCounts *a,
                             Qcow2CheckCounts *b,
                             bool (*test)(const Qcow2Check *c,
                                          uint64_t cluster));
/* Whether some cluster has fewer references stored than were found. */
bool qcow2_check_any_short(const Qcow2Check *c);
/* The first @max leaked clusters (uint64_t), in order. Caller unrefs. */
GArray *qcow2_check_leaked(const Qcow2Check *c, guint max);

/* An L1 entry that names nothing in the file. */
static inline bool qcow2_check_l1_entry_is_void(const Qcow2Check *c,
                                                uint64_t entry)
{
    uint64_t offset = entry & L1E_OFFSET_MASK;

    return !offset || !qcow2_check_in_file(c, offset);
}

/* --- check-read.c --- */

/* Reads; what is beyond the end of the file is zero. 0 or -errno. */
int coroutine_fn qcow2_check_pread(Qcow2Check *c, uint64_t offset,
                                   uint64_t bytes, void *buf);
/*
 * Reads what each element (@stride bytes, starting with a Qcow2CheckRead of
 * non-zero size up to 2 MiB) names, many at a time, and calls @func for each
 * in the order of the array. @ret: 0, or -errno and @buf is worthless. @func
 * may yield and may change @buf.
 */
typedef void coroutine_fn Qcow2CheckReadFunc(Qcow2Check *c, void *element,
                                             void *buf, int ret);
void coroutine_fn qcow2_check_read_many(Qcow2Check *c, void *elements,
                                        size_t n, size_t stride,
                                        Qcow2CheckReadFunc *func);

/*
 * Calls @func for each L2 table that was found, is @wanted and can be read, in the
 * order of l2_tables.
 */
typedef bool Qcow2CheckL2Filter(const Qcow2Check *c, const Qcow2CheckL2 *table);
typedef void coroutine_fn Qcow2CheckL2Func(Qcow2Check *c,
                                           const Qcow2CheckL2 *table,
                                           const uint64_t *l2, void *opaque);
void coroutine_fn qcow2_check_each_l2(Qcow2Check *c, Qcow2CheckL2Filter *wanted,
                                      Qcow2CheckL2Func *func, void *opaque);
/* Those that belong to one place of the disk, whoever names them. */
bool qcow2_check_l2_has_index(const Qcow2Check *c, const Qcow2CheckL2 *table);

/* --- check-meta.c --- */

/* Loads the stored refcounts. 0 or -ENOMEM. */
int coroutine_fn qcow2_check_load_refcounts(Qcow2Check *c);
/* Counts header, snapshots (with their L1 tables), bitmaps, encryption. */
void coroutine_fn qcow2_check_count_metadata(Qcow2Check *c);
/* Counts the refcount table and blocks. */
void coroutine_fn qcow2_check_count_structure(Qcow2Check *c);

/* --- check-bitmaps.c --- */

/* Counts directory, tables and data of stored bitmaps; judges them. */
void coroutine_fn qcow2_check_count_bitmaps(Qcow2Check *c);
/*
 * Bitmaps that are void have no claim to their clusters, but nobody else may
 * have one either: counts one reference to each that is in use and that nothing
 * refers to. When all others are counted.
 */
void coroutine_fn qcow2_check_count_void_bitmaps(Qcow2Check *c);

/* --- check-tables.c --- */

/* Notes the tables of @n entries (host order) of an L1 table, from @first. */
void coroutine_fn qcow2_check_l1_entries(Qcow2Check *c,
                                         const uint64_t *entries, size_t first,
                                         size_t n, bool active);
/* The offset in the disk behind an entry of the table; UINT64_MAX: unknown. */
uint64_t qcow2_check_guest_of(const Qcow2Check *c, const Qcow2CheckL2 *table,
                              int index);
/*
 * What the image says of a cluster that is not in the file; false if that
 * cannot be read.
 */
bool coroutine_fn qcow2_check_refcount_beyond(Qcow2Check *c, uint64_t cluster,
                                              uint64_t *refcount);
/* Compares two Qcow2CheckL2 by their offset, for sorting. */
int qcow2_check_compare_l2(const void *a, const void *b);
/* Walks all noted L2 tables; checks COPIED flags unless repairing. */
void coroutine_fn qcow2_check_walk_l2(Qcow2Check *c);
/*
 * COPIED flags of active tables against @refcounts; repairs what it may if
 * that is asked for. 0 or -errno.
 */
int coroutine_fn qcow2_check_copied(Qcow2Check *c,
                                    Qcow2CheckCounts *refcounts);

/*
 * Whether the L2 table at @offset may be changed: only @refs L1 entries use
 * its cluster. Else the "table" may be somebody's data.
 */
bool qcow2_check_l2_is_proven(Qcow2Check *c, uint64_t offset, uint64_t refs);

/* Whether both tables name the same data in the same place. */
bool qcow2_check_l2_share(const Qcow2Check *c, const uint64_t *a,
                          const uint64_t *b);

/* --- check-orphans.c --- */

/*
 * After the comparison: finds tables among the leaks, tells of them, and notes
 * what may not be freed; with @is_free that is nothing.
 */
void coroutine_fn qcow2_check_find_orphans(Qcow2Check *c, bool is_free);
/*
 * Put tables into the active L1 table in memory: those that the user places, all
 * or, with -EINVAL after a message, none; those that are proven, how many.
 */
int qcow2_check_place(Qcow2Check *c, const BdrvCheckOptions *opts);
int64_t qcow2_check_return_orphans(Qcow2Check *c);
/* Whether the cluster may not be freed. */
bool qcow2_check_is_kept(Qcow2Check *c, uint64_t cluster);
/*
 * Gives all that is kept the references that are stored for it, or one. Returns
 * how many of the leaks remain thereby.
 */
int64_t qcow2_check_count_kept(Qcow2Check *c);
/* The clusters of the active L1 table are used for nothing else. */
bool qcow2_check_l1_is_proven(Qcow2Check *c);
/* Of elements of Qcow2Check.orphans. */
void qcow2_check_orphan_clear(void *opaque);

/* --- check-trial.c --- */

/* A field of the metadata, and what it may have been. */
typedef struct Qcow2CheckChange {
    uint64_t offset;        /* in the file */
    uint32_t bytes;         /* 1 to 8 */
    uint64_t old;
    uint64_t new;
    uint64_t refs;          /* of the cluster that it is in, if all is well */
    uint64_t table;         /* L2 entries: offset of the table */
    uint32_t index;         /* of the entry */
    uint64_t guest;         /* what it stands for: offset in the disk, bytes;
                             * UINT64_MAX: unknown */
    bool doubtful;          /* possible, but refcounts do not prove it */
    bool still_readable;    /* of what cannot be right: reads as before */
    bool partly;            /* the same: some subclusters do */
    uint64_t doubted;       /* the same: a cluster of which some parts may be
                             * data that are not shown any more; 0: none */
    uint64_t copied;        /* the same: a cluster that others name, too, more
                             * often than its refcount can say; @new is to name
                             * a copy of it. 0: none */
    bool only_tried;        /* and not written: with a copy it is right */
    bool alike;             /* to others of this field: if several make all
                             * agree they differ in zeroes behind the end */
    char what[40];          /* "L2 entry" and the like, for messages */
} Qcow2CheckChange;

/* Candidates that are tried; with more of them nothing is certain. */
#define QCOW2_CHECK_MAX_TRIALS 512

void qcow2_check_patch_init(Qcow2Patch *patch, const Qcow2CheckChange *change);
/*
 * Whether others than the field under suspicion, with its @refs references, use
 * the cluster, or it is not there. Else the field may be right, and the
 * refcount wrong: then only a single bit in the field says otherwise.
 */
static inline bool qcow2_check_has_rival(Qcow2Check *c, uint64_t offset,
                                         uint64_t refs)
{
    uint64_t cluster = offset >> c->s->cluster_bits;

    return !qcow2_check_in_file(c, offset) ||
           qcow2_check_found(c, cluster) > refs;
}
/* Adds it unless it is there. */
void qcow2_check_add_change(GArray *changes, const Qcow2CheckChange *change);

/*
 * Restores what has one wrong value and one that makes all references,
 * refcounts and flags agree; *@nb: how many, 0 or 1. Without BDRV_FIX_ERRORS
 * nothing is written. Sets *@declined if there is more than one way to do that:
 * then any other repair could destroy data. 0 or -errno.
 */
int coroutine_fn qcow2_check_restore(Qcow2Check *c, int64_t *nb,
                                     bool *declined);

/* --- check-entries.c --- */

/*
 * Adds the candidates for L2 entries to an array of Qcow2CheckChange, and to
 * another one, without new values, sound entries that share a cluster with more
 * than its refcount allows: which one is wrong may not be known.
 */
void coroutine_fn qcow2_check_find_entries(Qcow2Check *c, GArray *changes,
                                           GArray *rivals);

/* Nothing in it is wrong by itself; of extended ones without the bitmap. */
bool qcow2_check_l2_entry_is_sound(const Qcow2Check *c, uint64_t entry);
/* Where a compressed one has its data are such that unpack. */
bool coroutine_fn qcow2_check_entry_unpacks(Qcow2Check *c, uint64_t entry);
/* An offset in the last cluster that it names; 0: none. */
uint64_t qcow2_check_last_host(const Qcow2Check *c, uint64_t entry);

/* --- check-l1-entries.c --- */

bool qcow2_check_l1_entry_is_sound(const Qcow2Check *c, uint64_t entry);

/* The same for L1 entries; after the search for orphans. */
void coroutine_fn qcow2_check_find_l1_entries(Qcow2Check *c, GArray *changes);

/* --- check-bitmap-fields.c --- */

/* The same for what stored bitmaps consist of. */
void coroutine_fn qcow2_check_find_bitmap_fields(Qcow2Check *c,
                                                 GArray *changes);

/* --- check-snapshot-fields.c --- */

/* The same for the snapshot table. */
void coroutine_fn qcow2_check_find_snapshot_fields(Qcow2Check *c,
                                                   GArray *changes);

/* --- check-context.c --- */

/*
 * Drops changes of L2 entries, of some that all make refcounts agree, with which
 * a cluster is in two places of the disk.
 */
void coroutine_fn qcow2_check_drop_misplaced(Qcow2Check *c, GArray *changes);

/* --- check-repair.c --- */

/* Writes the L1 table, durably, after @nb entries were set. 0 or -errno. */
int coroutine_fn qcow2_check_write_l1(Qcow2Check *c, int64_t nb);

/* Repairs the noted entries; sets how many. 0 or -errno. */
int coroutine_fn qcow2_check_apply_fixups(Qcow2Check *c, int64_t *nb_fixed);

/* After the comparison: repairs what can be. 0 or -errno. */
int coroutine_fn qcow2_check_repair(Qcow2Check *c);

/*
 * Raises the refcounts that are too low, as @c has found; *@nb: how many.
 * @voice tells of it. 0 or -errno.
 */
int coroutine_fn qcow2_check_raise(Qcow2Check *c, Qcow2Check *voice,
                                   int64_t *nb);
/* Whether all of them can be, in the refcount blocks there are. */
bool qcow2_check_may_raise(Qcow2Check *c);

/* --- check-void-entries.c --- */

/*
 * Adds a Qcow2CheckChange for each L1 or L2 entry that cannot be right, with
 * what it is set to if it is given up. False: there are too many of them, or
 * one cannot be given up.
 */
bool coroutine_fn qcow2_check_find_void(Qcow2Check *c, GArray *changes);
/*
 * What is at @offset is not in the file, but in use: the end of the file is
 * missing, and may be found.
 */
bool coroutine_fn qcow2_check_is_cut_off(Qcow2Check *c, uint64_t offset);

/* --- check-lost-found.c --- */

/* Whether a snapshot can have all that is leaked. */
bool qcow2_check_may_save(const Qcow2Check *c);
/*
 * Makes a snapshot of all that is leaked in @c, if it may, whose references are
 * proven and whose refcounts are nowhere too low, and of the clusters @others
 * (uint64_t), whose refcounts go up; *@nb: how many these are, *@nb_saved: how
 * many of them it has. Then no more references are stored than there are. @voice
 * tells of it. 0 or -errno, and at the most clusters are leaked.
 */
int coroutine_fn qcow2_check_save_lost(Qcow2Check *c, Qcow2Check *voice,
                                       const GArray *others, int64_t *nb,
                                       int64_t *nb_saved);

/* --- check-rescue.c --- */

/* Whether qcow2_check_rescue() may be tried. */
bool qcow2_check_may_rescue(const Qcow2Check *c);
/*
 * Saves what is leaked and gives up entries that cannot be right; *@nb_fixed:
 * problems less, 0 after a message that says why. 0 or -errno.
 */
int coroutine_fn qcow2_check_rescue(Qcow2Check *c, int64_t *nb_fixed);

/* --- check.c, for check-guard.c --- */

/*
 * Counts and compares, silently, as if the active L1 table had @entries (NULL:
 * as it is). *@c has the counts and *@res the result. 0 or -errno; in any case
 * qcow2_check_end_trial() frees *@c.
 */
int coroutine_fn qcow2_check_trial(BlockDriverState *bs, uint64_t *entries,
                                   BdrvCheckResult *res, Qcow2Check *c);
void qcow2_check_end_trial(Qcow2Check *c);

/* --- check-guard.c --- */

typedef struct Qcow2CheckGuard {
    int64_t corruptions;    /* that remain */
    int64_t fixed;
    bool declined;          /* the L1 table may be damaged: repair nothing */
    bool renew;             /* there was a guard */
} Qcow2CheckGuard;

/* A check finds nothing wrong with the guard, nor the L1 table by it; with
 * @to_repair a repair has nothing to tell of it either. */
bool qcow2_check_guard_is_sound(const BDRVQcow2State *s, bool to_repair);
/* Before everything else: which L1 table is right. Repairs it if asked to. */
int coroutine_fn qcow2_check_guard_begin(BlockDriverState *bs,
                                         const BdrvCheckOptions *opts,
                                         Qcow2CheckGuard *r);
/* After everything else: adds to *@res; makes a guard anew that was given up. */
int coroutine_fn qcow2_check_guard_end(BlockDriverState *bs,
                                       const BdrvCheckOptions *opts,
                                       BdrvCheckResult *res,
                                       const Qcow2CheckGuard *r);

/* --- check-rebuild.c --- */

/*
 * Writes a new refcount table and blocks for Qcow2Check.refs behind the end
 * of the image and switches to them; refs then is what is stored. Only if
 * proven. 0 or -errno with the old structure in place.
 */
int coroutine_fn qcow2_check_rebuild(Qcow2Check *c);

#endif
