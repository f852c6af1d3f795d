/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A disk in memory under a qcow2 node, for tests of the driver: it answers to
 * the name null-co, lets the event loop run at random, can fail a request,
 * and can tell what a power cut would leave.
 *
 * Everything runs in the main thread.
 */
#ifndef TESTS_QCOW2_FIXTURE_H
#define TESTS_QCOW2_FIXTURE_H

#include "block/block_int.h"
#include "block/block-backend.h"
#include "block/qcow2/qcow2.h"

/* A change that no flush has made durable yet. */
typedef struct RamWrite {
    int64_t offset;
    int64_t bytes;
    uint8_t *data;      /* NULL: zeroes */
    bool done;
} RamWrite;

typedef struct RamDisk RamDisk;
struct RamDisk {
    uint8_t *data;
    int64_t size;           /* bytes; grows by writes */
    int64_t capacity;       /* writes beyond it: -ENOSPC */
    bool delays;            /* requests take a random number of loop turns */
    GRand *rand;

    /* Power cuts: content that is durable, and what came after it. */
    bool record;
    uint8_t *durable;
    GQueue log;             /* RamWrite, oldest first */

    /* Called at the start of every flush, and of every request that changes
     * something. */
    void (*hook)(void *opaque);
    void *hook_opaque;

    /* Failing: the request after this many good ones; -1: none. */
    int fail_after;
    bool fail_reads;        /* reads count too */
    bool fail_once;         /* else everything fails from then on */
    int failed;

    /* Seen. */
    int reads, writes, flushes, discards, truncates;

    RamDisk *data_file;     /* of an image with one; owned; not cut shorter or
                             * made longer than the guest's disk */
};

RamDisk *ram_disk_new(int64_t capacity);
void ram_disk_free(RamDisk *disk);
/*
 * What a power cut may leave: everything durable, and of each later write any
 * of its sectors, chosen by @disk->rand. @keep: chance in percent.
 */
RamDisk *ram_disk_after_crash(const RamDisk *disk, GRand *rand, int keep);

typedef struct TestGeometry {
    int version;
    int cluster_bits;
    int refcount_order;
    uint64_t size;
    bool lazy;
    bool data_file;
    bool data_file_raw;     /* with all clusters mapped */
    bool extended_l2;
} TestGeometry;

/* An empty image on an empty disk. */
void ram_disk_format(RamDisk *disk, const TestGeometry *g);

/*
 * Opens the image on @disk. @options: more of the node's options, as JSON
 * members ("'l2-cache-size': 4096"), or NULL. Aborts on failure unless @errp.
 */
BlockBackend *ram_disk_open(RamDisk *disk, int flags, const char *options,
                            Error **errp);

/* Runs @fn(bs) in a coroutine, with the qcow2 lock held. */
typedef void coroutine_fn Qcow2TestFunc(BlockDriverState *bs);
void run_locked(BlockBackend *blk, Qcow2TestFunc *fn);

/* Checks without repair; the number of corruptions must be 0. */
void assert_consistent(BlockBackend *blk, BdrvCheckResult *result);

/* g_test_init() and everything that nodes need. */
void qcow2_test_init(int *argc, char ***argv);

#endif
