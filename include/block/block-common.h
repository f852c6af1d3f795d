/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Numbers, flags and small types that every part of the block layer shares.
 *
 * Offsets and lengths are bytes in int64_t unless a name says otherwise.
 */
#ifndef BLOCK_COMMON_H
#define BLOCK_COMMON_H

#include "util/osdep.h"
#include "util/error.h"
#include "util/iov.h"
#include "qapi/qapi-types.h"
#include "qobject/qdict.h"

typedef struct BlockDriver BlockDriver;
typedef struct BlockDriverState BlockDriverState;
typedef struct BdrvChild BdrvChild;
typedef struct BdrvChildClass BdrvChildClass;
typedef struct BdrvClaimOwner BdrvClaimOwner;
typedef struct BlockBackend BlockBackend;
typedef struct BdrvDirtyBitmap BdrvDirtyBitmap;
typedef struct BlockReopenQueue BlockReopenQueue;
typedef struct BdrvTrackedRequest BdrvTrackedRequest;

#define BDRV_SECTOR_BITS 9
#define BDRV_SECTOR_SIZE (1ULL << BDRV_SECTOR_BITS)

/* Longest single request: INT_MAX rounded down to a sector. */
#define BDRV_REQUEST_MAX_BYTES 2147483136LL
/* Longest virtual disk; leaves room to round up to any supported cluster. */
#define BDRV_MAX_ALIGNMENT (1LL << 30)
#define BDRV_MAX_LENGTH (INT64_MAX - BDRV_MAX_ALIGNMENT + 1)

/* Bytes read from the start of a file to guess its format. */
#define BLOCK_PROBE_BUF_SIZE 512

/* Node names are at most 31 bytes plus the terminator. */
#define BDRV_NODE_NAME_MAX 31

/* Flags of one request. */
typedef enum {
    /* Read: also write the data to the node on top of which it was missing. */
    BDRV_REQ_COPY_ON_READ = 0x1,
    /* Write: no data, the range must read as zeroes afterwards. */
    BDRV_REQ_ZERO_WRITE = 0x2,
    /* Zero write: the range may be deallocated if it then reads as zeroes. */
    BDRV_REQ_MAY_UNMAP = 0x4,
    /* Write: durable when the request completes. */
    BDRV_REQ_FUA = 0x10,
    /* Write: store compressed; offset must be cluster aligned. */
    BDRV_REQ_WRITE_COMPRESSED = 0x20,
    /* Write: guest-visible content of the node stays the same. */
    BDRV_REQ_WRITE_UNCHANGED = 0x40,
    /* Wait for, and keep out, every overlapping request. */
    BDRV_REQ_SERIALISING = 0x80,
    /* Zero write: -ENOTSUP rather than writing a buffer of zeroes. */
    BDRV_REQ_NO_FALLBACK = 0x100,
    /* Read: the data is not wanted, only its side effects. */
    BDRV_REQ_PREFETCH = 0x200,
    /* With SERIALISING: -EBUSY instead of waiting. */
    BDRV_REQ_NO_WAIT = 0x400,
    /* Write: -EIO rather than extend the node, whatever the edge may do. */
    BDRV_REQ_NO_EXTEND = 0x800,
    /* Truncate: a node that is longer by then stays as it is. */
    BDRV_REQ_NO_SHRINK = 0x1000,
    BDRV_REQ_MASK = 0x1fff,
} BdrvRequestFlags;

/* Flags of bdrv_open(); kept in BlockDriverState.open_flags. */
#define BDRV_O_RDWR        0x0002
#define BDRV_O_SNAPSHOT    0x0008 /* tools: put a temporary overlay on top */
#define BDRV_O_NOCACHE     0x0020 /* cache.direct=on */
#define BDRV_O_NO_BACKING  0x0100 /* do not open the backing chain */
#define BDRV_O_NO_FLUSH    0x0200 /* cache.no-flush=on */
#define BDRV_O_INACTIVE    0x0800 /* active=off, see activate.h */
#define BDRV_O_CHECK       0x1000 /* open for check: tolerate broken metadata */
#define BDRV_O_ALLOW_RDWR  0x2000 /* reopen to read-write is permitted */
#define BDRV_O_UNMAP       0x4000 /* discard=unmap */
#define BDRV_O_PROTOCOL    0x8000 /* file name belongs to a protocol driver */
#define BDRV_O_NO_IO       0x10000 /* only metadata is going to be looked at */
#define BDRV_O_AUTO_RDONLY 0x20000 /* auto-read-only=on */
#define BDRV_O_COPY_ON_READ 0x40000
#define BDRV_O_FORCE_SHARE 0x80000 /* force-share=on */
#define BDRV_O_SALVAGE     0x800000 /* read what can be read, see damage.h;
                                     * never with RDWR */
#define BDRV_O_QUIET       0x1000000 /* a trial: opening warns of nothing */

#define BDRV_O_NATIVE_AIO  0x100000 /* aio=native unless the node says else */
#define BDRV_O_IO_URING    0x200000 /* aio=io_uring unless the node says else */
#define BDRV_O_THREADS     0x400000 /* aio=threads unless the node says else */

#define BDRV_O_CACHE_MASK (BDRV_O_NOCACHE | BDRV_O_NO_FLUSH)
#define BDRV_O_AIO_MASK (BDRV_O_NATIVE_AIO | BDRV_O_IO_URING | BDRV_O_THREADS)

/*
 * Answer of block status, a set of bits:
 *   DATA          reads of the range come from stored data
 *   ZERO          the range reads as zeroes
 *   OFFSET_VALID  the range lies contiguously at *map in *file
 *   RAW           ask *file at *map for the real answer (filters, raw)
 *   ALLOCATED     the content is decided by this node, not by its backing
 *   EOF           the range reaches the end of the node
 *   RECURSE       the protocol below may know better (zeroes inside DATA)
 *   COMPRESSED    stored compressed
 *   LOST          the data is known to be lost, reads fail (damage.h)
 */
#define BDRV_BLOCK_DATA         0x01
#define BDRV_BLOCK_ZERO         0x02
#define BDRV_BLOCK_OFFSET_VALID 0x04
#define BDRV_BLOCK_RAW          0x08
#define BDRV_BLOCK_ALLOCATED    0x10
#define BDRV_BLOCK_EOF          0x20
#define BDRV_BLOCK_RECURSE      0x40
#define BDRV_BLOCK_COMPRESSED   0x80
#define BDRV_BLOCK_LOST         0x100

/*
 * Permissions: what the user of an edge does with the node below (perm) and
 * what it tolerates others doing there (shared). The bit numbers are those of
 * the file lock bytes 100+n (held) and 200+n (not shared).
 */
enum {
    BLK_PERM_CONSISTENT_READ = 0x01,
    BLK_PERM_WRITE = 0x02,
    BLK_PERM_WRITE_UNCHANGED = 0x04,
    BLK_PERM_RESIZE = 0x08,
    BLK_PERM_ALL = 0x0f,
    /* What passes through a filter unchanged. */
    DEFAULT_PERM_PASSTHROUGH = BLK_PERM_ALL,
};

/* What a child is to its parent; a set of bits. */
typedef enum {
    BDRV_CHILD_DATA = 0x01,     /* guest data */
    BDRV_CHILD_METADATA = 0x02, /* the parent's own metadata */
    BDRV_CHILD_FILTERED = 0x04, /* same content as the filter above */
    BDRV_CHILD_COW = 0x08,      /* where unallocated ranges are read from */
    BDRV_CHILD_PRIMARY = 0x10,  /* the child that stands for the node */
    BDRV_CHILD_IMAGE = BDRV_CHILD_DATA | BDRV_CHILD_METADATA |
                       BDRV_CHILD_PRIMARY,
} BdrvChildRoleBits;
typedef unsigned int BdrvChildRole;

typedef struct BlockDriverInfo {
    int cluster_size;      /* bytes, 0 if the format has none */
    int subcluster_size;   /* bytes, equals cluster_size without subclusters */
    int64_t vm_state_offset;
    bool is_dirty;         /* the dirty bit is set on disk */
} BlockDriverInfo;

typedef struct BlockFragInfo {
    uint64_t allocated_clusters;
    uint64_t total_clusters;
    uint64_t fragmented_clusters;
    uint64_t compressed_clusters;
} BlockFragInfo;

typedef enum {
    BDRV_FIX_LEAKS = 1,
    BDRV_FIX_ERRORS = 2,
    /* Stored bitmaps that cannot be used: take them away, or let them say that
     * everything is dirty. Neither: keep them. */
    BDRV_FIX_BITMAPS_REMOVE = 4,
    BDRV_FIX_BITMAPS_DIRTY = 8,
} BdrvCheckMode;

/* An L2 table (its host offset) that is to be put into an L1 entry. */
typedef struct BdrvCheckPlace {
    uint32_t index;
    uint64_t offset;
} BdrvCheckPlace;

/* Which is right if an L1 table is not what its guard says. */
typedef enum BdrvCheckL1Guard {
    BDRV_CHECK_L1_PROVEN,   /* whichever references prove; else neither */
    BDRV_CHECK_L1_TABLE,
    BDRV_CHECK_L1_COPY,     /* the copy in the guard */
} BdrvCheckL1Guard;

/* What becomes of leaks that may be the guest's data. */
typedef enum BdrvCheckOrphans {
    BDRV_CHECK_ORPHANS_KEEP,    /* they stay, and nothing else is repaired if
                                 * that would make the damage look right */
    BDRV_CHECK_ORPHANS_SAVE,    /* with BDRV_FIX_ERRORS: a snapshot gets them */
    BDRV_CHECK_ORPHANS_FREE,
} BdrvCheckOrphans;

/* What an entry stood for that a repair has given up. */
typedef struct BdrvCheckLost {
    uint64_t entry;         /* where it is in the image file */
    uint64_t offset;        /* in the disk; UINT64_MAX: unknown, of a snapshot */
    uint64_t bytes;
    bool partly;            /* some of that can still be read */
} BdrvCheckLost;

/* How to check; zero-initialise. */
typedef struct BdrvCheckOptions {
    BdrvCheckMode fix;
    BdrvCheckL1Guard l1_guard;
    BdrvCheckOrphans orphans;
    /* Say nothing on stderr. */
    bool quiet;
    /* Only whether there is anything wrong matters: then nothing is repaired.
     * With @fix an image in which nothing is found loses its marks, as after
     * any repair. */
    bool first_fault;
    /* With @fix: where lost tables belong. Bad ones fail with -EINVAL, after a
     * message on stderr and before anything is written. */
    const BdrvCheckPlace *places;
    size_t nb_places;
    /* Bytes of work done, and known so far; may be NULL. In the coroutine. */
    void (*progress)(void *opaque, int64_t done, int64_t total);
    void *progress_opaque;
    /* With @fix, told of each entry that BdrvCheckResult.entries_cleared counts;
     * may be NULL. In the coroutine. */
    void (*lost)(void *opaque, const BdrvCheckLost *lost);
    void *lost_opaque;
} BdrvCheckOptions;

typedef struct BdrvCheckResult {
    int64_t corruptions;
    int64_t leaks;
    int64_t check_errors;
    int64_t corruptions_fixed;
    int64_t leaks_fixed;
    int64_t image_end_offset;
    BlockFragInfo bfi;
    int64_t inconsistent_bitmaps;   /* stored ones that cannot be used */
    int64_t bitmaps_fixed;
    int64_t bitmap_corruptions;     /* those of @corruptions in bitmaps */
    int64_t orphans;                /* leaked tables that may be the guest's */
    int64_t tables_restored;        /* of @corruptions_fixed: those put back */
    int64_t clusters_saved;         /* leaks that a new snapshot has now */
    int64_t entries_cleared;        /* given up: what they stood for is lost */
} BdrvCheckResult;

/* Neither faults nor anything else that a repair would look at. */
static inline bool bdrv_check_found_nothing(const BdrvCheckResult *res)
{
    return !res->corruptions && !res->leaks && !res->check_errors &&
           !res->inconsistent_bitmaps;
}

/*
 * What requests on a node must respect. Zero means "no limit" for the maxima;
 * alignments are powers of two and at least 1.
 */
typedef struct BlockLimits {
    uint32_t request_alignment;    /* of every read and write */
    int64_t max_pdiscard;
    uint32_t pdiscard_alignment;
    int64_t max_pwrite_zeroes;
    uint32_t pwrite_zeroes_alignment;
    uint32_t opt_transfer;
    uint32_t max_transfer;
    size_t min_mem_alignment;      /* of buffers, for direct I/O */
    size_t opt_mem_alignment;
    int max_iov;
    /* Compressed writes are of multiples of it, in bytes; 0: there are none.
     * Filters have that of the node below. */
    uint32_t compress_alignment;
} BlockLimits;

typedef struct BlockSizes {
    uint32_t phys;
    uint32_t log;
} BlockSizes;

#endif
