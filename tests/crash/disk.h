/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A file in memory below a format node, as a disk with a volatile write cache
 * sees it: it keeps a log of everything that changes it and of the flushes, so
 * that states.c can work out what a power cut may leave. Requests may take
 * random turns of the event loop, and the n-th one may fail.
 *
 * Main thread only. All is decided by the seed: the same run gives the same
 * log.
 */
#ifndef TESTS_CRASH_DISK_H
#define TESTS_CRASH_DISK_H

#include "block/block_int.h"

#define CRASH_SECTOR 512

/* A moment: every start and end of a request, of guest or disk, has its own,
 * from 1 on. */
typedef unsigned CrashTime;
#define CRASH_NEVER UINT_MAX

typedef enum {
    DISK_WRITE,
    DISK_ZERO,
    DISK_DISCARD,
    DISK_TRUNCATE,      /* bytes is the new size */
    DISK_FLUSH,
} DiskOpKind;

typedef struct DiskOp {
    DiskOpKind kind;
    int64_t offset;
    int64_t bytes;
    uint8_t *data;          /* what it leaves there; NULL: zeroes */
    CrashTime started;
    CrashTime applied;      /* became visible; 0: never */
    CrashTime ended;        /* successfully; 0: not */
} DiskOp;

/* Which kinds of requests a fault hits. */
typedef enum {
    FAULT_CHANGES,      /* all but reads */
    FAULT_ALL,
    FAULT_GROWTH,       /* what makes the file longer: a full file system */
} DiskFaultKind;

typedef struct DiskFault {
    int at;             /* the how-manieth of its kind, from 1; 0: none */
    DiskFaultKind kind;
    int error;          /* positive errno */
    bool once;          /* later ones succeed */
    bool partial;       /* half of a failing write is written */
} DiskFault;

typedef struct CrashDisk {
    BlockDriverState *bs;
    uint8_t *data;          /* capacity bytes, zero behind size */
    int64_t size;
    int64_t capacity;
    uint32_t alignment;     /* of requests; takes effect at the next open */
    bool garbage;           /* discarded bytes are not zeroes afterwards */

    GRand *delays;          /* not owned; NULL: everything at once */
    CrashTime *clock;       /* with a log: counts */
    GPtrArray *log;         /* of DiskOp, in order of start; NULL: none */

    DiskFault fault;
    int seen;               /* requests that the fault could have hit */
    int failed;
    CrashTime failed_at;    /* the first that failed; 0: none */
    int failed_minor;       /* of them those that nobody need be told of:
                             * discards and cuts of free space, and single
                             * requests, which may be repeated */
} CrashDisk;

/* A node called @name; @data and everything else are set by the caller. */
CrashDisk *crash_disk_new(const char *name);
void crash_disk_free(CrashDisk *disk);
/* The content becomes a copy of @size bytes at @data. */
void crash_disk_load(CrashDisk *disk, const uint8_t *data, int64_t size);
/* Whether a qcow2 image of this content has the dirty bit. */
bool crash_disk_is_dirty(const uint8_t *data, int64_t size);
/* A new log from here on; the old one is freed. */
void crash_disk_record(CrashDisk *disk, CrashTime *clock);

/* "write 512 bytes at 4096"; caller frees. */
char *disk_op_describe(const DiskOp *op);

#endif
