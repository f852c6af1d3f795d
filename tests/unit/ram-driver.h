/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Nodes that keep their data in memory, for tests of the request path. They
 * check that every request respects the limits they were made with, count what
 * they see, and can hold requests back until the test lets them go.
 */
#ifndef TESTS_RAM_DRIVER_H
#define TESTS_RAM_DRIVER_H

#include "block/block-backend.h"
#include "block/block_int.h"
#include "util/atomic.h"

/* What a node demands and can do. Zero means no limit, alignment 1. */
typedef struct RamConfig {
    int64_t length;
    BlockLimits bl;
    BdrvRequestFlags write_flags;   /* supported_write_flags */
    BdrvRequestFlags zero_flags;    /* supported_zero_flags */
    bool no_zeroes;                 /* pwrite_zeroes says -ENOTSUP */
    bool whole_zeroes;              /* … for what is not aligned to bl */
    int64_t cluster;                /* unit of allocation; 0: 64k */
} RamConfig;

typedef enum {
    RAM_READ = 1,
    RAM_WRITE = 2,
    RAM_ZERO = 4,
    RAM_DISCARD = 8,
    RAM_FLUSH = 16,
    RAM_STATUS = 32,
    RAM_TRUNCATE = 64,
} RamOp;

/* The state of a node, bs->opaque. Counters are atomic. */
typedef struct RamState {
    RamConfig cfg;
    int64_t length;
    uint8_t *data;
    uint8_t *allocated;     /* a byte for each cluster */
    int64_t capacity;

    unsigned reads, writes, zeroes, discards, flushes, statuses, truncates;
    unsigned fua_writes, unmaps;
    unsigned running;       /* calls in the driver, held ones included */

    QemuMutex lock;         /* protects the rest */
    unsigned hold;          /* RamOp bits: these wait */
    unsigned held;          /* how many wait */
    CoQueue queue;
    unsigned fail;          /* RamOp bits: the next one of them fails */
    int error;              /* with this (-errno) */
} RamState;

static inline RamState *ram_state(BlockDriverState *bs)
{
    return bs->opaque;
}

/*
 * A protocol node, or an overlay that reads unallocated clusters from its
 * backing file (given, or NULL). @cfg is copied. One reference for the caller.
 */
BlockDriverState *ram_node(const char *name, int flags, const RamConfig *cfg);
BlockDriverState *ram_overlay(const char *name, int flags,
                              const RamConfig *cfg, BlockDriverState *backing);
/* A filter; requests pass through it unchanged. */
BlockDriverState *ram_filter(const char *name, int flags,
                             BlockDriverState *below);

/* Operations of the kinds @ops wait in the driver from here on. */
void ram_hold(BlockDriverState *bs, unsigned ops);
/* Lets everything go on, and later ones too. */
void ram_release(BlockDriverState *bs);
/* Polls the main loop until @n operations wait. */
void ram_wait_held(BlockDriverState *bs, unsigned n);
/* The next operation of @ops fails with @error. */
void ram_fail(BlockDriverState *bs, unsigned ops, int error);

/* An asynchronous request of a test: started, polled for. */
typedef struct RamAio {
    int ret;
    bool done;      /* atomic */
} RamAio;
void ram_aio_cb(void *opaque, int ret);
int ram_aio_wait(RamAio *aio);

/* Runs the loop as long as it has something to do at once. */
void ram_settle(void);

/* Event loop and block layer; GLib's test arguments. */
void ram_test_init(int *argc, char ***argv);

#define RAM_PERM (BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE)
/* A backend with RAM_PERM that shares everything. */
BlockBackend *ram_backend(BlockDriverState *bs);

#endif
