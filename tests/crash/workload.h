/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a guest does to an image while it is recorded. A run is decided by its
 * workload, its geometry and its seed.
 */
#ifndef TESTS_CRASH_WORKLOAD_H
#define TESTS_CRASH_WORKLOAD_H

#include "block/block-backend.h"
#include "bitmaps.h"
#include "disk.h"
#include "guest.h"
#include "names.h"

/* How often what happens, relative to each other. */
typedef struct Mix {
    unsigned write, compressed, zero, unmap, discard, flush;
} Mix;

typedef struct Geometry {
    int version;
    int cluster_bits;
    int refcount_bits;
    bool extended_l2;
} Geometry;

typedef struct Workload {
    const char *name;
    const char *what;       /* one line for --list */
    Mix mix;
    unsigned max_clusters;  /* of one request */
    int64_t size;           /* of the disk, in clusters; 0: by geometry */
    int64_t max_bytes;      /* of the disk, 0: no limit */
    int64_t prefill;        /* clusters written before the recording */
    unsigned ops;           /* requests in a run */
    unsigned workers;       /* at most so many at a time */
    unsigned resize;        /* of 100 pauses, in how many … */
    unsigned reopen;
    unsigned bitmaps;       /* … something happens to stored bitmaps; 0: there
                             * are none */
    unsigned snapshot;      /* … something is done with snapshots */
    unsigned amend;         /* … another version or width of refcounts */
    unsigned rename;        /* another name of the backing file */
    bool grow_only;         /* resizes make it longer */
    bool preallocate;       /* some of what they add */
    bool sequential;        /* requests follow each other on the disk */
    bool backing;
    bool lazy;
    bool guard;             /* of the L1 table; amend turns it on and off */
    bool v3_only;
    bool extended_l2;       /* clusters have subclusters; then v3_only, too */
    bool repair;            /* of an image that is damaged, and nothing else */
    const char *geometries; /* "512:64,4k:16"; NULL: all */
} Workload;

extern const Workload workloads[];      /* ends with name NULL */

struct Run {
    const Workload *w;
    Geometry g;
    uint32_t seed;
    int64_t cluster;
    GRand *rand;
    bool no_unref;          /* node option discard-no-unref */
    char *options;          /* further options of the node, JSON members */

    CrashDisk *disk;        /* node "disk" */
    CrashDisk *base;        /* node "base", or NULL */
    Guest *guest;
    CrashTime clock;
    uint8_t *baseline;      /* the disk when the bitmaps began; or NULL */
    int64_t baseline_size;
    /* The file when the recording began. */
    uint8_t *start;
    int64_t start_size;
    GPtrArray *log;         /* of DiskOp: the recording, when it is over */

    BlockBackend *blk;
    uint8_t *busy;          /* one for each sector */
    GPtrArray *snapshots;   /* of RunSnapshot, in the order of their making */
    int64_t position;       /* of a sequential workload, sectors */
    unsigned ops_left;
    unsigned running;
    unsigned errors;        /* requests that failed */
    bool may_fail;          /* they may */
    bool guard_given_up;    /* with a warning, because it could not be read */

    GPtrArray *names;       /* of BackingName */
    GBytes *extension;      /* in the header of the image; NULL: none */

    GPtrArray *lost;        /* what is damaged: see repairs.c; or NULL */
    bool header_damaged;
};

/* Geometry number @index that fits the workload, counted around. */
Geometry workload_geometry(const Workload *w, unsigned index);
char *geometry_describe(const Geometry *g);

/* An image on the nodes "disk" and "base"; not open, nothing recorded. */
Run *run_new(const Workload *w, const Geometry *g, uint32_t seed);
/*
 * Records everything up to the close of the image into run->log and
 * run->guest, which stands at the beginning then. The disk is free for trying
 * states. Returns false if the image could not be opened (only with may_fail,
 * message in @errp).
 */
bool run_record(Run *run, Error **errp);
void run_free(Run *run);

/* Opens the image that is on run->disk, as run_record() does. */
BlockBackend *run_open(const Run *run, Error **errp);
/* The same with other flags than BDRV_O_RDWR | BDRV_O_UNMAP. */
BlockBackend *run_open_flags(const Run *run, int flags, Error **errp);

#endif
