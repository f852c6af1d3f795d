/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The inside of the qcow2 driver: state of a node and the functions that its
 * files offer each other.
 *
 * Locks, outermost first:
 *   1. a Qcow2Request (inflight.c) covers the guest clusters of a request for
 *      as long as it works on them;
 *   2. BDRVQcow2State.lock protects all metadata, in memory and on disk. It is
 *      held across metadata I/O and never across guest data I/O;
 *   3. leaf locks inside inflight.c.
 * Nobody waits for a Qcow2Request while holding the lock.
 *
 * Functions marked [lock] want BDRVQcow2State.lock held; they are coroutine
 * functions of any thread with the graph read lock held, and may do metadata
 * I/O. Results are 0 or -errno unless they say otherwise. Host offsets are
 * bytes in the metadata file bs->file, guest offsets bytes of the disk.
 *
 * Order on disk. What may survive a crash is at most a leaked cluster:
 *   - a refcount goes up before anything refers to the cluster: refcount
 *     blocks, then their table, are written and flushed before L2 tables;
 *   - data and L2 tables are flushed before what refers to them (L2, L1);
 *   - a refcount goes down only after the flush that made the reference
 *     disappear: freed clusters wait in pending_frees (free.c), keep their
 *     refcount and cannot be reused until then.
 * qcow2_flush_metadata() is the one place that walks these steps.
 */
#ifndef BLOCK_QCOW2_H
#define BLOCK_QCOW2_H

#include "block/block_int.h"
#include "block/crypto.h"
#include "block/snapshot.h"
#include "block/qcow2/format.h"
#include "block/qcow2/guard.h"
#include "util/coroutine.h"
#include "util/timer.h"

typedef struct Qcow2Cache Qcow2Cache;

/* Why a cluster is freed: decides whether the file is told (options.c). */
typedef enum {
    QCOW2_DISCARD_NEVER,    /* keep the space in the file */
    QCOW2_DISCARD_ALWAYS,
    QCOW2_DISCARD_REQUEST,  /* the guest discarded or zeroed it */
    QCOW2_DISCARD_SNAPSHOT, /* a snapshot was deleted */
    QCOW2_DISCARD_OTHER,    /* replaced by a copy, metadata moved, … */
    QCOW2_DISCARD_MAX,
} Qcow2DiscardType;

/* Bits of BDRVQcow2State.overlap_check, in QEMU's order. */
typedef enum {
    QCOW2_OL_MAIN_HEADER = 1 << 0,
    QCOW2_OL_ACTIVE_L1 = 1 << 1,
    QCOW2_OL_ACTIVE_L2 = 1 << 2,
    QCOW2_OL_REFCOUNT_TABLE = 1 << 3,
    QCOW2_OL_REFCOUNT_BLOCK = 1 << 4,
    QCOW2_OL_SNAPSHOT_TABLE = 1 << 5,
    QCOW2_OL_INACTIVE_L1 = 1 << 6,
    QCOW2_OL_INACTIVE_L2 = 1 << 7,
    QCOW2_OL_BITMAP_DIRECTORY = 1 << 8,
    QCOW2_OL_NONE = 0,
    QCOW2_OL_CONSTANT = QCOW2_OL_MAIN_HEADER | QCOW2_OL_ACTIVE_L1 |
                        QCOW2_OL_REFCOUNT_TABLE | QCOW2_OL_SNAPSHOT_TABLE |
                        QCOW2_OL_BITMAP_DIRECTORY,
    QCOW2_OL_CACHED = QCOW2_OL_CONSTANT | QCOW2_OL_ACTIVE_L2 |
                      QCOW2_OL_REFCOUNT_BLOCK | QCOW2_OL_INACTIVE_L1,
    QCOW2_OL_ALL = QCOW2_OL_CACHED | QCOW2_OL_INACTIVE_L2,
} Qcow2MetadataOverlap;
#define QCOW2_OL_MAX_BITNR 9

/* What an L2 entry says of a cluster, or of one of its subclusters. */
typedef enum {
    QCOW2_CLUSTER_UNALLOCATED,  /* read from the backing file, or zeroes */
    QCOW2_CLUSTER_ZERO_PLAIN,   /* zeroes, no host cluster */
    QCOW2_CLUSTER_ZERO_ALLOC,   /* zeroes, but keeps its host cluster */
    QCOW2_CLUSTER_NORMAL,
    QCOW2_CLUSTER_COMPRESSED,
    QCOW2_CLUSTER_UNALLOCATED_ALLOC,    /* a subcluster that is unallocated,
                                         * but has its place on the host */
} QCow2ClusterType;

/* A header extension that we do not know; kept byte for byte, in order. */
typedef struct Qcow2UnknownHeaderExtension {
    uint32_t magic;
    uint32_t len;
    QTAILQ_ENTRY(Qcow2UnknownHeaderExtension) next;
    uint8_t data[];
} Qcow2UnknownHeaderExtension;

typedef struct QCowSnapshot {
    uint64_t l1_table_offset;
    uint32_t l1_size;           /* entries */
    char *id_str;
    char *name;
    uint64_t disk_size;
    uint64_t vm_state_size;
    uint32_t date_sec;
    uint32_t date_nsec;
    uint64_t vm_clock_nsec;
    uint64_t icount;            /* -1ULL: none */
    /* As on disk, for writing it again. */
    uint32_t vm_state_size_32;  /* what the fixed part says */
    uint32_t extra_data_size;   /* bytes, the unknown ones included */
    void *extra_data;
    uint16_t id_size;           /* of id_str and name, without terminator */
    uint16_t name_size;
} QCowSnapshot;

/*
 * A table of 64-bit entries that lies contiguously on disk and whole in
 * memory: the active L1 table and the refcount table. Changes are made in
 * memory, marked by sector, and written by qcow2_table_write().
 */
typedef struct Qcow2Table {
    uint64_t *entries;      /* host byte order */
    uint32_t size;          /* entries */
    uint64_t offset;        /* host offset; 0: not on disk */
    unsigned long *dirty;   /* one bit for each 512 bytes */
    bool any_dirty;
} Qcow2Table;

/* Host clusters that are no longer referred to, until a flush proves it. */
typedef struct Qcow2PendingFree {
    uint64_t offset;
    uint64_t bytes;
    uint8_t type;           /* Qcow2DiscardType */
} Qcow2PendingFree;

/* Requests in flight, by guest clusters. Its lock is a leaf. */
typedef struct Qcow2Inflight {
    QemuMutex lock;
    QTAILQ_HEAD(, Qcow2Request) requests;   /* in order of arrival */
    unsigned nr_exclusive;                  /* of them */
    unsigned cluster_bits;
} Qcow2Inflight;

/* Bytes that metadata are read with instead of those in the file. */
typedef struct Qcow2Patch {
    const struct Qcow2Patch *next;  /* others, elsewhere; NULL: none */
    uint64_t offset;            /* in the file */
    uint32_t size;
    uint8_t bytes[8];
} Qcow2Patch;

struct BDRVQcow2State {
    /* --- Fixed at open. --- */
    int qcow_version;
    int cluster_bits;
    int cluster_size;
    bool extended_l2;           /* L2 entries have bitmaps: see l2-entry.h */
    int subclusters_per_cluster;    /* 1 if there are no subclusters */
    int subcluster_bits;
    int subcluster_size;
    int l2_bits;                /* log2 of entries of an L2 table */
    int l2_size;
    int l1_vm_state_index;      /* first L1 entry beyond any guest disk size;
                                 * changes with the size, under lock */
    int refcount_order;
    int refcount_bits;
    uint64_t refcount_max;
    int refcount_block_bits;    /* log2 of refcounts in a block */
    int refcount_block_size;
    int csize_shift;            /* compressed entry: where the size starts */
    int csize_mask;
    uint64_t cluster_offset_mask;   /* compressed entry: host offset */
    uint32_t crypt_method_header;
    CryptoSectors *crypto;      /* NULL: not encrypted, or BDRV_O_NO_IO */
    Qcow2CompressionType compression_type;
    uint32_t header_length;     /* as found */
    uint64_t unknown_header_fields_size;
    void *unknown_header_fields;    /* between ours and header_length */
    QTAILQ_HEAD(, Qcow2UnknownHeaderExtension) unknown_header_ext;
    /* Feature table as found, or NULL; kept. */
    Qcow2Feature *feature_table;
    uint32_t nb_features;
    /* Guest data are in a file of their own: see data-file.c. */
    bool has_data_file;
    BdrvChild *data_file;       /* NULL: none, or opened without I/O */

    /* --- Set at open and reopen, while nothing is in flight. --- */
    bool writable;              /* metadata may be written */
    bool salvage;               /* opened with BDRV_O_SALVAGE: see salvage.h */
    bool refcounts_void;        /* salvaging: there are none to look at */
    bool shows_snapshot;        /* the active L1 table is not the image's: must
                                 * never become writable */
    bool discard_passthrough[QCOW2_DISCARD_MAX];
    bool discard_no_unref;
    bool use_lazy_refcounts;
    int overlap_check;          /* Qcow2MetadataOverlap bits */
    uint64_t cache_clean_interval;  /* seconds, 0: off */
    int l2_slice_size;          /* entries of a cached piece of an L2 table */

    /* --- Own locking. --- */
    Qcow2Inflight inflight;

    /* --- Atomic. --- */
    bool inactive;              /* see block/activate.h; main thread */
    bool stopped;               /* fatal corruption: see corrupt.c */
    bool signaled_corruption;   /* said once already */
    char *stop_reason;          /* set before @stopped, and not changed then */
    int file_holes;     /* the file has holes: 1 yes, -1 no, 0 not asked */

    /* --- Under lock. --- */
    CoMutex lock;
    Qcow2Table l1;              /* active; change by qcow2_l1_*() only */
    Qcow2Guard guard;           /* of it */
    Qcow2Cache *l2_table_cache; /* of slices */
    Qcow2Cache *refcount_block_cache;
    Qcow2Table reftable;
    uint32_t max_refcount_table_index;  /* last one in use */
    uint64_t free_cluster_index;    /* no free cluster before this one */
    uint64_t free_run_index;    /* where searches for long runs start */
    uint64_t virgin_offset;     /* the file reads as zeroes from here on: it was
                                 * no longer at open, and nothing behind has
                                 * been allocated since */
    uint64_t free_byte_offset;      /* where compressed data goes on, or 0 */
    GArray *pending_frees;          /* Qcow2PendingFree */
    uint64_t pending_free_bytes;
    bool unflushed;             /* something was written that L2 or L1 tables
                                 * must not overtake: flush before them */

    uint64_t disk_size;         /* bytes the guest sees */
    uint64_t incompatible_features;
    uint64_t compatible_features;
    uint64_t autoclear_features;    /* read without lock by writers: atomic */

    const Qcow2Patch *patch;    /* NULL but while a check tries something */

    uint64_t snapshots_offset;
    uint64_t snapshots_size;    /* bytes of the table on disk */
    uint32_t nb_snapshots;
    QCowSnapshot *snapshots;

    /*
     * Bitmaps extension; 0 if there is none. It counts with the autoclear bit
     * only: see bitmap.h.
     */
    bool has_bitmaps_ext;
    uint32_t nb_bitmaps;
    uint64_t bitmap_directory_size;
    uint64_t bitmap_directory_offset;
    const char *bitmaps_fault;  /* why the extension or the directory cannot
                                 * be used as a whole; NULL: it can */
    GPtrArray *bitmaps;         /* of Qcow2Bitmap, as in the directory; only
                                 * the main thread changes the array */
    bool bitmaps_kept;          /* the stored bitmaps are in memory: we keep
                                 * them right, or marked */

    /* Strings of the header; NULL for none. */
    char *image_backing_file;
    char *image_backing_format;
    char *image_data_file;

    /* --- Main thread. --- */
    LuksHeader *luks;           /* NULL: not encrypted so */
    QEMUTimer *cache_clean_timer;
};

#include "block/qcow2/l2-entry.h"

/* Fatal corruption was met: nothing may be written any more. */
static inline bool qcow2_is_stopped(const BDRVQcow2State *s)
{
    return qatomic_load_acquire(&s->stopped);
}

/* --- small conversions ---------------------------------------------------- */

static inline uint64_t start_of_cluster(const BDRVQcow2State *s,
                                        uint64_t offset)
{
    return offset & ~(uint64_t)(s->cluster_size - 1);
}

static inline uint64_t offset_into_cluster(const BDRVQcow2State *s,
                                           uint64_t offset)
{
    return offset & (s->cluster_size - 1);
}

/* Clusters that @bytes need. */
static inline uint64_t size_to_clusters(const BDRVQcow2State *s,
                                        uint64_t bytes)
{
    return (bytes >> s->cluster_bits) + !!offset_into_cluster(s, bytes);
}

/* L1 entries that a disk of @bytes needs. */
static inline uint64_t size_to_l1(const BDRVQcow2State *s, uint64_t bytes)
{
    int shift = s->cluster_bits + s->l2_bits;

    return (bytes >> shift) + !!(bytes & ((1ULL << shift) - 1));
}

static inline uint64_t offset_to_l1_index(const BDRVQcow2State *s,
                                          uint64_t offset)
{
    return offset >> (s->l2_bits + s->cluster_bits);
}

/* Index of the entry of guest @offset in its L2 table. */
static inline int offset_to_l2_index(const BDRVQcow2State *s, uint64_t offset)
{
    return (offset >> s->cluster_bits) & (s->l2_size - 1);
}

/* The same in its slice of the table. */
static inline int offset_to_l2_slice_index(const BDRVQcow2State *s,
                                           uint64_t offset)
{
    return (offset >> s->cluster_bits) & (s->l2_slice_size - 1);
}

static inline uint64_t qcow2_vm_state_offset(const BDRVQcow2State *s)
{
    return (uint64_t)s->l1_vm_state_index << (s->cluster_bits + s->l2_bits);
}

/* Subcluster of its cluster that guest @offset is in. */
static inline unsigned offset_to_subcluster(const BDRVQcow2State *s,
                                            uint64_t offset)
{
    return offset_into_cluster(s, offset) >> s->subcluster_bits;
}

/* The child with guest data. */
static inline BdrvChild *qcow2_data_child(BlockDriverState *bs)
{
    BDRVQcow2State *s = bs->opaque;

    return s->data_file ? s->data_file : bs->file;
}

/*
 * Whether the data file alone shows what the guest sees, and has to go on
 * doing so. A backing file that somebody put below makes the promise void, and
 * so does encryption.
 */
static inline bool qcow2_data_file_is_raw(BlockDriverState *bs)
{
    BDRVQcow2State *s = bs->opaque;

    return s->has_data_file && !bs->backing &&
           s->crypt_method_header == QCOW_CRYPT_NONE &&
           (qatomic_read(&s->autoclear_features) &
            QCOW2_AUTOCLEAR_DATA_FILE_RAW);
}

/* What a disk writes whole or not at all. */
#define QCOW2_HEADER_SECTOR 512

/* --- header.c ------------------------------------------------------------- */

/*
 * Reads and validates the header and all extensions from bs->file into the
 * state: the fixed part, feature bits and names. *@header: its fields in host
 * order; the places and sizes of tables in it are within bounds. Sets
 * bs->backing_file and bs->backing_format. Coroutine.
 */
int coroutine_fn qcow2_header_read(BlockDriverState *bs, int flags,
                                   QCowHeader *header, Error **errp);
void qcow2_header_free(BDRVQcow2State *s);
/*
 * Writes the whole header anew from the state: fields, extensions, feature
 * table, backing file name. Durable when it returns, and at any time before a
 * power cut leaves the old header or the new one. If it fails the old one is
 * there. -ENOSPC if there is no room for it in the first cluster, beside what
 * it must not overwrite of the old one. [lock]
 */
int coroutine_fn qcow2_update_header(BlockDriverState *bs);
/*
 * Writes @new to the first QCOW2_HEADER_SECTOR bytes, which hold @old: durable
 * when it returns. If it fails @old is there, or else the node is stopped.
 * [lock]
 */
int coroutine_fn qcow2_header_write_sector(BlockDriverState *bs,
                                           const void *old, const void *new);
/*
 * One write of the fields that move together; durable when it returns. If it
 * fails the header is as before; if even that cannot be had the node is
 * stopped. The state is neither looked at nor changed. [lock]
 */
/* @guard_offset: the area of the guard of that table; 0: there is none. */
int coroutine_fn qcow2_header_write_l1(BlockDriverState *bs, uint64_t offset,
                                       uint32_t size, uint64_t guard_offset);
int coroutine_fn qcow2_header_write_reftable(BlockDriverState *bs,
                                             uint64_t offset,
                                             uint32_t clusters);
int coroutine_fn qcow2_header_write_refcounts(BlockDriverState *bs,
                                              uint64_t offset,
                                              uint32_t clusters, int order);
/* compatible_features, on disk and in memory. */
int coroutine_fn qcow2_header_write_compatible(BlockDriverState *bs,
                                               uint64_t features);
int coroutine_fn qcow2_header_write_size(BlockDriverState *bs, uint64_t size);
/* Where the snapshot table is, on disk only. */
int coroutine_fn qcow2_header_write_snapshots(BlockDriverState *bs,
                                              uint64_t offset, uint32_t nb);
/* The same for everything that a snapshot operation changes. */
typedef struct Qcow2HeaderTables {
    uint64_t disk_size;
    uint64_t l1_offset;
    uint32_t l1_size;           /* entries */
    uint64_t guard_offset;      /* 0: no guard, or as it is */
    uint64_t reftable_offset;
    uint32_t reftable_clusters;
    uint64_t snapshots_offset;
    uint32_t nb_snapshots;
} Qcow2HeaderTables;
int coroutine_fn qcow2_header_write_tables(BlockDriverState *bs,
                                           const Qcow2HeaderTables *tables);
/*
 * Feature bits on disk and in memory; durable when they return. mark_clean
 * and mark_consistent flush all metadata before. [lock]
 */
int coroutine_fn qcow2_mark_dirty(BlockDriverState *bs);
int coroutine_fn qcow2_mark_clean(BlockDriverState *bs);
int coroutine_fn qcow2_mark_corrupt(BlockDriverState *bs);
int coroutine_fn qcow2_mark_consistent(BlockDriverState *bs);
/* Clears autoclear bits @bits (on disk first). [lock] */
int coroutine_fn qcow2_clear_autoclear(BlockDriverState *bs, uint64_t bits);
/*
 * Puts the place of a new bitmap directory (NULL: none) and the autoclear bit
 * for it into header and state; as qcow2_update_header(). [lock]
 */
int coroutine_fn qcow2_header_write_bitmaps(BlockDriverState *bs,
                                            const Qcow2BitmapHeaderExt *ext);
/* Driver hook: puts other names into the header. Main thread. */
int qcow2_change_backing_file(BlockDriverState *bs, const char *backing_file,
                              const char *backing_fmt);

/*
 * Lays out a header cluster in @buf (@buflen bytes, zeroed first): used by
 * qcow2_update_header() and by creation. Fields of @header in host order.
 */
typedef struct Qcow2HeaderLayout {
    QCowHeader fields;          /* host byte order; backing_file_* ignored */
    const void *unknown_fields;
    size_t unknown_fields_size;
    const char *backing_file;   /* NULL: none */
    const char *backing_format;
    const char *data_file;
    bool guarded;               /* there is an L1 guard, at: */
    uint64_t guard_offset;
    const Qcow2Feature *features;   /* NULL: our own names (version 3) */
    uint32_t nb_features;
    const Qcow2BitmapHeaderExt *bitmaps;    /* host byte order; NULL: none */
    const BDRVQcow2State *unknown_ext_of;   /* NULL: none */
    /* Bytes. The name and the extensions are there or behind; if the latter
     * do not follow the header an extension that means nothing goes before. */
    size_t name_offset;
    size_t extensions_offset;
    bool without_names;         /* no feature table */
} Qcow2HeaderLayout;
/* Bytes used, or -ENOSPC. Any context. */
int qcow2_header_build(const Qcow2HeaderLayout *layout, void *buf,
                       size_t buflen);

/*
 * header-replace.c: puts it on disk in place of the header that is there. Sets
 * how it is laid out. As qcow2_update_header(). [lock]
 */
int coroutine_fn qcow2_header_replace(BlockDriverState *bs,
                                      Qcow2HeaderLayout *layout);

/* extension.c: parses [@start, @end) of the header cluster in @buf. */
int qcow2_extensions_parse(BlockDriverState *bs, const uint8_t *buf,
                           uint64_t start, uint64_t end, Error **errp);
/* Appends all extensions and the end mark at @pos: new position, -ENOSPC. */
int qcow2_extensions_build(const Qcow2HeaderLayout *layout, uint8_t *buf,
                           size_t pos, size_t buflen);
/* "dirty bit, …": names for incompatible bits we do not know; caller frees. */
char *qcow2_feature_names(const BDRVQcow2State *s, Qcow2FeatureType type,
                          uint64_t bits);

/* --- table.c -------------------------------------------------------------- */

/* @size entries, all zero, clean. -ENOMEM. Any context. */
int qcow2_table_init(Qcow2Table *t, uint32_t size, uint64_t offset);
/* Fills it from disk. */
int coroutine_fn qcow2_table_read(BlockDriverState *bs, Qcow2Table *t);
/* Sets an entry in memory and marks its sector. */
void qcow2_table_set(Qcow2Table *t, uint32_t index, uint64_t value);
/*
 * Writes the marked sectors; they stay marked if it fails. @ol: the overlap
 * check bit of the table itself.
 */
int coroutine_fn qcow2_table_write(BlockDriverState *bs, Qcow2Table *t,
                                   int ol);
void qcow2_table_mark_all(Qcow2Table *t);
/* For those who write it by themselves. */
bool qcow2_table_sector_is_dirty(const Qcow2Table *t, uint32_t sector);
void qcow2_table_mark_clean(Qcow2Table *t);
void qcow2_table_free(Qcow2Table *t);

/* --- cache.c -------------------------------------------------------------- */

/*
 * A cache of @num_tables pieces of @table_size bytes of metadata.
 * @overlap_ign: the overlap-check bit of what it holds. NULL: no memory.
 */
Qcow2Cache *qcow2_cache_create(BlockDriverState *bs, int num_tables,
                               unsigned table_size, int overlap_ign);
/* [lock] Nothing is written from here on: dirty pieces stay and are read,
 * marking others dirty does nothing. */
void qcow2_cache_stop(Qcow2Cache *c);
/* Everything in it is clean or given up. */
void qcow2_cache_destroy(Qcow2Cache *c);
/*
 * Pins the piece at host @offset (a multiple of the piece size) and sets
 * *@table. Every get needs a put. -EIO: misaligned or unreadable. [lock]
 */
int coroutine_fn qcow2_cache_get(BlockDriverState *bs, Qcow2Cache *c,
                                 uint64_t offset, void **table);
/* The same without reading: a zeroed piece, not yet dirty. [lock] */
int coroutine_fn qcow2_cache_get_empty(BlockDriverState *bs, Qcow2Cache *c,
                                       uint64_t offset, void **table);
/* Unpins and sets *@table to NULL; NULL inside is fine. [lock] */
void qcow2_cache_put(Qcow2Cache *c, void **table);
/* The piece must be pinned. [lock] */
void qcow2_cache_entry_mark_dirty(Qcow2Cache *c, void *table);
bool qcow2_cache_is_dirty(Qcow2Cache *c);
/*
 * Writes all dirty pieces, in offset order. Ordering against other metadata
 * is the caller's: see qcow2_flush_metadata(). [lock]
 */
int coroutine_fn qcow2_cache_write(BlockDriverState *bs, Qcow2Cache *c);
/* Forgets pieces in the range; what was changed is lost. [lock] */
void qcow2_cache_discard_range(Qcow2Cache *c, uint64_t offset,
                               uint64_t bytes);
/* Forgets everything; all must be clean and unpinned. [lock] */
void qcow2_cache_empty(Qcow2Cache *c);
/* Gives memory of pieces unused since the last call back. [lock] */
void qcow2_cache_clean_unused(Qcow2Cache *c);
/* Host offset if it is cached, for the overlap check; no I/O. [lock] */
bool qcow2_cache_contains(Qcow2Cache *c, uint64_t offset);

/* --- flush.c -------------------------------------------------------------- */

/*
 * Writes refcount blocks, refcount table, L2 tables and L1 table, flushing
 * the file between them where the order on disk wants it, and releases
 * pending frees. On return everything is written; the last step is durable
 * only after one more flush of bs->file. [lock]
 */
int coroutine_fn qcow2_flush_metadata(BlockDriverState *bs);
/* The same, and lazy refcounts, too: the caches are clean then. [lock] */
int coroutine_fn qcow2_flush_all_metadata(BlockDriverState *bs);
/*
 * Makes refcounts durable, so that L2 tables may be written: used before an
 * L2 piece is evicted. [lock]
 */
int coroutine_fn qcow2_flush_before_l2(BlockDriverState *bs);
/* The refcount side alone: blocks, flush, table. [lock] */
int coroutine_fn qcow2_write_refcounts(BlockDriverState *bs);
/* Makes everything written durable, a guard's copy of L1 entries above all,
 * before the entries change in their place. [lock] */
int coroutine_fn qcow2_flush_before_l1_in_place(BlockDriverState *bs);
/* Makes everything written durable, before the header names it. [lock] */
int coroutine_fn qcow2_flush_before_switch(BlockDriverState *bs);
/* Makes durable what is written to the data file, if there is one, and then
 * to bs->file. */
int coroutine_fn qcow2_flush_files(BlockDriverState *bs);
int coroutine_fn qcow2_co_flush_to_os(BlockDriverState *bs);

/* --- l1.c ----------------------------------------------------------------- */

/* Reads the active table that the header names (fields checked). [lock] */
int coroutine_fn qcow2_l1_read(BlockDriverState *bs, uint64_t offset,
                               uint32_t size, Error **errp);
/*
 * The only way to change entries [@first, @first + @n) of the active table.
 * In memory at once; on disk at the next qcow2_l1_write(), which
 * qcow2_flush_metadata() calls when what they point to is durable. [lock]
 */
void qcow2_l1_update(BlockDriverState *bs, uint32_t first, uint32_t n,
                     const uint64_t *entries);
int coroutine_fn qcow2_l1_write(BlockDriverState *bs);
/*
 * The header on disk names the complete table *@t: it becomes the active one,
 * and *@t the old one, whose clusters are the caller's business. [lock]
 */
void qcow2_l1_replace(BlockDriverState *bs, Qcow2Table *t);
/*
 * Makes the table at least @min_size entries long: new clusters, copy, flush,
 * one header write. @exact: no room for more. [lock]
 */
int coroutine_fn qcow2_grow_l1_table(BlockDriverState *bs, uint64_t min_size,
                                     bool exact);
/* Cuts the table in place to @size entries; the L2 tables behind are freed.
 * [lock] */
int coroutine_fn qcow2_shrink_l1_table(BlockDriverState *bs, uint64_t size);

/* --- l2.c ----------------------------------------------------------------- */

/* The slice for guest @offset of the L2 table at @l2_offset; pinned. [lock] */
int coroutine_fn qcow2_l2_load_slice(BlockDriverState *bs, uint64_t offset,
                                     uint64_t l2_offset, uint64_t **l2_slice);
/*
 * The slice for guest @offset of a table that may be written: makes, or
 * copies, the L2 table if needed. *@l2_index: the entry in the slice. [lock]
 */
int coroutine_fn qcow2_l2_get_writable(BlockDriverState *bs, uint64_t offset,
                                       uint64_t **l2_slice, int *l2_index);
/*
 * Where guest @offset is. In: *@bytes wanted. Out: how many are in (sub)clusters
 * of one type and, if they have an offset, contiguous on the host; *@host_offset
 * of the first byte (0 if it has none; for a compressed cluster *@l2_entry tells).
 * -EIO after signalling corruption for an entry that cannot be. [lock]
 */
int coroutine_fn qcow2_get_host_offset(BlockDriverState *bs, uint64_t offset,
                                       uint64_t *bytes, uint64_t *host_offset,
                                       QCow2ClusterType *type,
                                       uint64_t *l2_entry);
/*
 * The same for a reader, to whom zeroes are zeroes and a hole is a hole: those
 * types are QCOW2_CLUSTER_ZERO_PLAIN and _UNALLOCATED, without a place. [lock]
 */
int coroutine_fn qcow2_get_run_to_read(BlockDriverState *bs, uint64_t offset,
                                       uint64_t *bytes, uint64_t *host_offset,
                                       QCow2ClusterType *type,
                                       uint64_t *l2_entry);
/*
 * How many bytes from guest @offset (at most @bytes) may be overwritten in
 * place, contiguously at *@host_offset: data in clusters with the COPIED flag.
 * 0 in *@run: none; then *@alloc is how many bytes need an allocation before
 * the next such subcluster, inside the slice. [lock]
 */
int coroutine_fn qcow2_get_inplace_run(BlockDriverState *bs, uint64_t offset,
                                       uint64_t bytes, uint64_t *run,
                                       uint64_t *host_offset,
                                       uint64_t *alloc);

/* --- refcount.c, reftable.c ------------------------------------------------ */

/* Reads the table that the header names. [lock] */
int coroutine_fn qcow2_refcount_init(BlockDriverState *bs, uint64_t offset,
                                     uint32_t clusters, Error **errp);
void qcow2_refcount_close(BDRVQcow2State *s);
/* Number @index of a block in memory, any width. */
uint64_t qcow2_refcount_block_get(const BDRVQcow2State *s, const void *block,
                                  uint64_t index);
void qcow2_refcount_block_set(const BDRVQcow2State *s, void *block,
                              uint64_t index, uint64_t value);
/* 0 for what no block covers. [lock] */
int coroutine_fn qcow2_get_refcount(BlockDriverState *bs,
                                    uint64_t cluster_index,
                                    uint64_t *refcount);
/*
 * Adds @addend (or takes it off) for every cluster that the range touches.
 * What no refcount block covers is taken as free: a new block is put there.
 * -EAGAIN: a new refcount block took one of the clusters; nothing changed,
 * look for others. -EINVAL: overflow or underflow. All or nothing, at most a
 * leak. Clusters that become free may be reused at once: see qcow2_free_*()
 * for the safe way. [lock]
 */
int coroutine_fn qcow2_update_refcount(BlockDriverState *bs, uint64_t offset,
                                       uint64_t bytes, uint64_t addend,
                                       bool decrease, Qcow2DiscardType type);
/* For repair: sets one refcount to a value. -ENOENT if no block covers it:
 * the refcount structures want rebuilding. [lock] */
int coroutine_fn qcow2_set_refcount(BlockDriverState *bs,
                                    uint64_t cluster_index, uint64_t value);
/*
 * reftable.c: makes the refcount blocks that free clusters [@start, @start +
 * @n) want and, if there are some to make, takes the start of the run for
 * them: -EAGAIN. 0 if none is missing. In clusters. [lock]
 */
int coroutine_fn qcow2_alloc_refcount_blocks(BlockDriverState *bs,
                                             uint64_t start, uint64_t n);

/* --- alloc.c -------------------------------------------------------------- */

/*
 * Contiguous clusters for @bytes, refcount 1, never below the header. Host
 * offset or -errno. The content is undefined. [lock]
 */
int64_t coroutine_fn qcow2_alloc_clusters(BlockDriverState *bs,
                                          uint64_t bytes);
/* The first one of @nb_clusters free ones in a row, or -errno. [lock] */
int64_t coroutine_fn qcow2_find_free_clusters(BlockDriverState *bs,
                                              uint64_t nb_clusters);
/* Up to @nb_clusters starting at @offset as far as free: count, -errno.
 * [lock] */
int64_t coroutine_fn qcow2_alloc_clusters_at(BlockDriverState *bs,
                                             uint64_t offset,
                                             int64_t nb_clusters);
/*
 * For guest cluster @offset and those behind it: up to *@nb_clusters contiguous
 * ones, preferably at @hint (0: none); sets how many. Host offset or -errno. In
 * a data file the place is given, and there is nothing to take. [lock]
 */
int64_t coroutine_fn qcow2_alloc_data_clusters(BlockDriverState *bs,
                                               uint64_t offset, uint64_t hint,
                                               uint64_t *nb_clusters);
/* @size bytes (at most a cluster) of packed space for compressed data. [lock] */
int64_t coroutine_fn qcow2_alloc_bytes(BlockDriverState *bs, int size);

/* --- free.c --------------------------------------------------------------- */

/*
 * Gives back clusters that nothing on disk ever referred to (a failed write):
 * the refcount goes down at once. Failure leaks. [lock]
 */
void coroutine_fn qcow2_unalloc_clusters(BlockDriverState *bs,
                                         uint64_t offset, uint64_t bytes);
/* The same for those of qcow2_alloc_data_clusters(). [lock] */
void coroutine_fn qcow2_unalloc_data_clusters(BlockDriverState *bs,
                                              uint64_t offset, uint64_t bytes);
/*
 * Gives back clusters whose reference was just removed in a cached table. They
 * are released by the next qcow2_flush_metadata(). [lock]
 */
void qcow2_free_clusters(BlockDriverState *bs, uint64_t offset,
                         uint64_t bytes, Qcow2DiscardType type);
/* What an L2 entry refers to, of any type; in a data file nothing. [lock] */
void qcow2_free_any_cluster(BlockDriverState *bs, uint64_t l2_entry,
                            Qcow2DiscardType type);
/* Releases all; the references are known to be gone durably. [lock] */
int coroutine_fn qcow2_release_pending_frees(BlockDriverState *bs);
/* Flushes and releases if much waits. [lock] */
int coroutine_fn qcow2_free_throttle(BlockDriverState *bs);

/* --- inflight.c ----------------------------------------------------------- */

/* On the coroutine's stack. */
typedef struct Qcow2Request {
    uint64_t start;             /* guest bytes, whole clusters */
    uint64_t end;
    bool exclusive;
    bool granted;               /* false: still waits for an earlier one */
    CoQueue waiters;            /* those that arrived later and conflict */
    QTAILQ_ENTRY(Qcow2Request) next;
} Qcow2Request;

void qcow2_inflight_init(Qcow2Inflight *in, unsigned cluster_bits);
void qcow2_inflight_destroy(Qcow2Inflight *in);
/*
 * Waits until no conflicting request that arrived earlier is left: exclusive
 * conflicts with everything that shares a cluster, shared with exclusive.
 * Never while holding the lock.
 */
void coroutine_fn qcow2_request_begin(Qcow2Inflight *in, Qcow2Request *req,
                                      uint64_t offset, uint64_t bytes,
                                      bool exclusive);
/*
 * Turns a shared request into an exclusive one of the (smaller) range if
 * that needs no waiting. Never yields.
 */
bool qcow2_request_try_upgrade(Qcow2Inflight *in, Qcow2Request *req,
                               uint64_t offset, uint64_t bytes);
/* Gives up the clusters outside the range. Never yields. */
void qcow2_request_narrow(Qcow2Inflight *in, Qcow2Request *req,
                          uint64_t offset, uint64_t bytes);
void coroutine_fn qcow2_request_end(Qcow2Inflight *in, Qcow2Request *req);

/* --- read.c, write.c, write-compressed.c, cow.c, zero.c, discard.c, status.c
 *     ---------------------------------------------------------------------- */

int coroutine_fn qcow2_co_preadv(BlockDriverState *bs, int64_t offset,
                                 int64_t bytes, QEMUIOVector *qiov,
                                 size_t qiov_offset, BdrvRequestFlags flags);
/* copy-range.c; -ENOTSUP also for compressed clusters. */
int coroutine_fn qcow2_co_copy_range_from(
    BlockDriverState *bs, BdrvChild *src, int64_t src_offset, BdrvChild *dst,
    int64_t dst_offset, int64_t bytes, BdrvRequestFlags read_flags,
    BdrvRequestFlags write_flags);
/* The same for a caller that holds a request over the range. */
int coroutine_fn qcow2_read_guest(BlockDriverState *bs, uint64_t offset,
                                  uint64_t bytes, QEMUIOVector *qiov,
                                  size_t qiov_offset);
int coroutine_fn qcow2_co_pwritev(BlockDriverState *bs, int64_t offset,
                                  int64_t bytes, QEMUIOVector *qiov,
                                  size_t qiov_offset, BdrvRequestFlags flags);
int coroutine_fn qcow2_co_pwritev_compressed(BlockDriverState *bs,
                                             int64_t offset, int64_t bytes,
                                             QEMUIOVector *qiov,
                                             size_t qiov_offset);
/* What the guest reads around the data in the clusters of a write. */
typedef enum {
    QCOW2_REST_COPY,        /* something: it must be read and copied */
    QCOW2_REST_ZERO,        /* zeroes */
    QCOW2_REST_VIRGIN,      /* zeroes, and the host clusters hold them already */
} Qcow2Rest;
/*
 * A write to host clusters that nobody looks at yet: guest [data, data_end), and
 * what is around it in [start, end), which begins and ends with a subcluster.
 */
typedef struct Qcow2CowRange {
    uint64_t start;
    uint64_t data;
    uint64_t data_end;
    uint64_t end;
    uint64_t host;          /* where start goes */
    Qcow2Rest rest;
} Qcow2CowRange;
/* In one request. The caller holds the clusters exclusively. */
int coroutine_fn qcow2_cow_write(BlockDriverState *bs,
                                 const Qcow2CowRange *range,
                                 QEMUIOVector *qiov, size_t qiov_offset);
int coroutine_fn qcow2_co_pwrite_zeroes(BlockDriverState *bs, int64_t offset,
                                        int64_t bytes, BdrvRequestFlags flags);
int coroutine_fn qcow2_co_pdiscard(BlockDriverState *bs, int64_t offset,
                                   int64_t bytes);
/*
 * Discards whole clusters that the caller holds exclusively; without the lock.
 * @full: remove the mapping altogether.
 */
int coroutine_fn qcow2_cluster_discard(BlockDriverState *bs, uint64_t offset,
                                       uint64_t bytes, Qcow2DiscardType type,
                                       bool full);
/* empty.c */
int coroutine_fn qcow2_co_make_empty(BlockDriverState *bs);
int coroutine_fn qcow2_co_block_status(BlockDriverState *bs, bool want_zero,
                                       int64_t offset, int64_t bytes,
                                       int64_t *pnum, int64_t *map,
                                       BlockDriverState **file);
/* Everything that changes the disk calls it first: refuses on a stopped
 * node, sets the dirty bit, clears autoclear bits. [lock] */
int coroutine_fn qcow2_begin_change(BlockDriverState *bs);

/* --- resize.c, prealloc.c --------------------------------------------------- */

int coroutine_fn qcow2_co_truncate(BlockDriverState *bs, int64_t offset,
                                   bool exact, PreallocMode prealloc,
                                   BdrvRequestFlags flags, Error **errp);
/* Cuts free clusters off the end of the file; not doing so is no harm. */
void coroutine_fn qcow2_trim_file(BlockDriverState *bs);
/* Maps guest clusters [@offset, @new_length) to fresh host clusters. @zeroed:
 * there is a data file, which is new and has its space. */
int coroutine_fn qcow2_co_preallocate(BlockDriverState *bs, uint64_t offset,
                                      uint64_t new_length, PreallocMode mode,
                                      bool zeroed, Error **errp);

/* --- data-file.c -------------------------------------------------------------- */

/*
 * Opens the data file that the header, or @ref (NULL: nobody), names and judges
 * it. Main thread, after the header was read.
 */
int qcow2_open_data_file(BlockDriverState *bs, BlockdevRef *ref, int flags,
                         Error **errp);
/* The same for one that the state @old has open. */
int qcow2_keep_data_file(BlockDriverState *bs, const BDRVQcow2State *old,
                         int flags, Error **errp);
/*
 * A raw data file gets zeroes: all that writing zeroes and discarding means
 * there. The caller holds the clusters exclusively; without the lock.
 */
int coroutine_fn qcow2_data_file_zero(BlockDriverState *bs, uint64_t offset,
                                      uint64_t bytes, bool unmap);
/*
 * Nothing refers to [@offset, @offset + @bytes) any more: gives space back, if
 * it can. @zero: to those who still have the old mapping it reads as it did or
 * as zeroes. Not locked; as above.
 */
void coroutine_fn qcow2_data_file_release(BlockDriverState *bs,
                                          uint64_t offset, uint64_t bytes,
                                          bool zero);
/* Makes the file @size bytes long, which may be a device that is longer. */
int coroutine_fn qcow2_data_file_resize(BlockDriverState *bs, uint64_t size,
                                        bool exact, Error **errp);

/* --- open.c, options.c, driver.c -------------------------------------------- */

typedef struct Qcow2ReopenState Qcow2ReopenState;

int qcow2_open(BlockDriverState *bs, BlockdevOptions *options, int flags,
               Error **errp);
void qcow2_close(BlockDriverState *bs);
/* As the driver's callbacks; block/activate.h. */
int qcow2_prepare_inactive(BlockDriverState *bs, Error **errp);
void qcow2_set_inactive(BlockDriverState *bs);
int qcow2_activate(BlockDriverState *bs, Error **errp);
/*
 * Typed options into a plan; caches are written and new ones made, nothing
 * else changes yet. commit replaces them, so nothing may be pinned or become
 * dirty in between. [lock] The timer is the main thread's: see open.c.
 */
Qcow2ReopenState *coroutine_fn qcow2_options_prepare(
    BlockDriverState *bs, const BlockdevOptionsQcow2 *options, int flags,
    Error **errp);
void qcow2_options_commit(BlockDriverState *bs, Qcow2ReopenState *r);
void qcow2_options_abort(Qcow2ReopenState *r);
/*
 * New caches for the disk's size, with slices as they are, which requests of
 * other threads go by; the old ones stay if that fails. [lock]
 */
void coroutine_fn qcow2_resize_caches(BlockDriverState *bs);
/*
 * Fills bs->opaque, which is all zeroes, from the file. @old: the state whose
 * place it is to take, with the same children; NULL: it is the first.
 * *@bitmaps: see bitmap.h. After a failure the caller clears it, too. Main
 * thread.
 */
int qcow2_load(BlockDriverState *bs, BlockdevOptionsQcow2 *options, int flags,
               const BDRVQcow2State *old, GPtrArray **bitmaps, Error **errp);
/* Frees what is in it. */
void qcow2_state_clear(BDRVQcow2State *s);
int qcow2_reopen_prepare(BDRVReopenState *state, BlockReopenQueue *queue,
                         Error **errp);
void qcow2_reopen_commit(BDRVReopenState *state);
void qcow2_reopen_abort(BDRVReopenState *state);
/* Bytes for the caches as the options say. */
bool qcow2_cache_sizes(const BDRVQcow2State *s,
                       const BlockdevOptionsQcow2 *options,
                       uint64_t disk_size, uint64_t *l2_cache_size,
                       uint64_t *l2_entry_size, uint64_t *refcount_cache_size,
                       Error **errp);

extern BlockDriver bdrv_qcow2;

/* --- reload.c ------------------------------------------------------------- */

typedef struct Qcow2Reload Qcow2Reload;

/* Whether a reopen must not go on with what is in memory. */
bool qcow2_must_reload(const BDRVQcow2State *s);
/*
 * A second state of the node from the file, as it will be with @options and
 * @flags, or NULL. Commit makes it the node's; the cache timer is the caller's.
 * Main thread, the node drained.
 */
Qcow2Reload *qcow2_reload_prepare(BlockDriverState *bs,
                                  BlockdevOptions *options, int flags,
                                  Error **errp);
void qcow2_reload_commit(BlockDriverState *bs, Qcow2Reload *r);
void qcow2_reload_abort(Qcow2Reload *r);
/* A persistent bitmap in use cannot be exchanged for the stored one. */
bool qcow2_bitmaps_are_idle(BlockDriverState *bs, Error **errp);
/* Whether @s can stand where @old was: the node's graph stays, and its length
 * unless it was inactive. */
int qcow2_reload_check_same(const BDRVQcow2State *old, const BDRVQcow2State *s,
                            Error **errp);

/* --- file-end.c ------------------------------------------------------------- */

/* Whether the file has all of [@offset, @offset + @bytes). */
bool coroutine_fn qcow2_table_is_in_file(BlockDriverState *bs, uint64_t offset,
                                         uint64_t bytes);
/* How many of the @n (not 0) clusters of data from host @offset on begin in
 * their file. */
uint64_t coroutine_fn qcow2_clusters_in_file(BlockDriverState *bs,
                                             uint64_t offset, uint64_t n);

/* --- corrupt.c -------------------------------------------------------------- */

/*
 * Metadata that cannot be: says so once, and, if @fatal and the image is
 * writable, stops the node and sets the corrupt bit. @offset, @size: what is
 * concerned, or -1. The caller returns -EIO. [lock], if @fatal
 */
void coroutine_fn qcow2_signal_corruption(BlockDriverState *bs, bool fatal,
                                          int64_t offset, int64_t size,
                                          const char *fmt, ...)
    G_GNUC_PRINTF(5, 6);
/*
 * From here on the node writes nothing, and what changes the disk returns
 * -EUCLEAN; reading goes on. [lock]
 */
void qcow2_stop(BlockDriverState *bs, const char *reason);
/* 0, or -EUCLEAN with the reason if the node is stopped. Any context. */
int qcow2_check_not_stopped(BlockDriverState *bs, Error **errp);

/* --- overlap.c -------------------------------------------------------------- */

/*
 * Bit of the metadata that [@offset, @offset + @bytes) overlaps, of those in
 * s->overlap_check without @ignore; 0 if none; -errno. [lock]
 */
int coroutine_fn qcow2_check_metadata_overlap(BlockDriverState *bs, int ignore,
                                              uint64_t offset, uint64_t bytes);
/* Whether the cluster at @offset has metadata that is no L2 table. [lock] */
bool qcow2_overlaps_other_metadata(const BDRVQcow2State *s, uint64_t offset);
/* The same as check; signals fatal corruption and returns -EIO on overlap.
 * [lock] */
int coroutine_fn qcow2_pre_write_overlap_check(BlockDriverState *bs,
                                               int ignore, uint64_t offset,
                                               uint64_t bytes);
/* The same for guest data: there is no metadata in a data file. [lock] */
static inline int coroutine_fn
qcow2_data_overlap_check(BlockDriverState *bs, uint64_t offset, uint64_t bytes)
{
    BDRVQcow2State *s = bs->opaque;

    return s->has_data_file
               ? 0 : qcow2_pre_write_overlap_check(bs, 0, offset, bytes);
}

/* --- check*.c ---------------------------------------------------------------- */

/* Puts the bytes of BDRVQcow2State.patch, and those behind it in its list, into
 * what was read from the file. */
void qcow2_patch_read(const BDRVQcow2State *s, uint64_t offset, uint64_t bytes,
                      void *buf);

/* See BlockDriver.bdrv_restore_header. */
int qcow2_restore_header(BlockDriverState *file, GString *said);

/* Counts, reports and repairs. [lock] */
int coroutine_fn qcow2_check_locked(BlockDriverState *bs,
                                    BdrvCheckResult *result,
                                    const BdrvCheckOptions *opts);

/* --- create.c, measure ------------------------------------------------------- */

extern const char *const qcow2_create_defaults[];
int qcow2_create(const char *filename, QDict *options, Error **errp);
int coroutine_fn qcow2_co_create(BlockdevCreateOptions *options, Error **errp);
BlockMeasureInfo *qcow2_measure(QDict *options, BlockDriverState *in_bs,
                                Error **errp);

/* --- crypto.c ---------------------------------------------------------------- */

/* Main thread; the header has been read. @e may be NULL. */
int qcow2_crypto_open(BlockDriverState *bs, const BlockdevQcow2Encryption *e,
                      int flags, Error **errp);
void qcow2_crypto_close(BDRVQcow2State *s);
/*
 * Guest data at guest @offset, which is at @host in the file, encrypted there if
 * the image is. Not locked.
 */
int coroutine_fn qcow2_data_read(BlockDriverState *bs, uint64_t offset,
                                 uint64_t host, uint64_t bytes,
                                 QEMUIOVector *qiov, size_t qiov_offset);
int coroutine_fn qcow2_data_write(BlockDriverState *bs, uint64_t offset,
                                  uint64_t host, uint64_t bytes,
                                  QEMUIOVector *qiov, size_t qiov_offset);
/* NULL: not encrypted. The caller frees. */
ImageInfoSpecificQCow2Encryption *qcow2_crypto_info(const BDRVQcow2State *s);
/* Key slots. Main thread. */
bool qcow2_crypto_amend_check(const BDRVQcow2State *s, Error **errp);
int qcow2_crypto_amend(BlockDriverState *bs, const BdrvLuksNames *names,
                       bool force, Error **errp);

/* --- info.c ------------------------------------------------------------------- */

ImageInfoSpecific *qcow2_get_specific_info(BlockDriverState *bs, Error **errp);

#endif
