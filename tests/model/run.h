/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A run: a disk of random geometry, a list of operations, and the model that
 * knows what reads may find. Everything but the interleaving follows from one
 * number.
 */
#ifndef TESTS_MODEL_RUN_H
#define TESTS_MODEL_RUN_H

#include "util/iothread.h"
#include "image.h"
#include "oracle.h"

typedef enum OpType {
    OP_READ,
    OP_WRITE,
    OP_ZERO,
    OP_UNMAP,       /* zero write that may unmap */
    OP_DISCARD,
    OP_COMPRESSED,
    OP_FLUSH,
    OP_TRUNCATE,
    /* From here on the main thread's, outside coroutines. */
    OP_REOPEN,      /* other options while requests are in flight */
    OP_RESTART,     /* close and open again */
    OP_SNAPSHOT,    /* an overlay on top */
    OP_COMPARE,     /* quiescent: whole disk and check */
    OP_TYPES
} OpType;

typedef struct Op {
    OpType type;
    uint32_t index;         /* in the list as it was made */
    uint32_t r[4];          /* where and how, as far as not said here: */
    bool placed;
    int64_t offset, bytes;
    uint32_t value;         /* what it writes */
    bool fua;
} Op;

typedef struct Config {
    uint64_t seed;
    Geometry g;
    unsigned cell;
    int64_t size, capacity;     /* bytes of the disk, and how long it may get */
    int64_t backing;            /* bytes of a raw base, 0: none */
    unsigned depth;             /* operations in flight */
    int flags;                  /* BDRV_O_* */
    unsigned hot;               /* clusters that most operations are on */
    bool resize;
    uint32_t request_alignment;
    bool zero_writes, discards, fua, yield_before, yield_after;
} Config;

typedef struct Frozen {
    uint8_t *data;
    int64_t size;
} Frozen;

typedef struct Run {
    Config cfg;
    Chain chain;
    Oracle *oracle;
    Rng rng;                    /* for options */
    Frozen frozen[CHAIN_MAX];   /* content of layers below the top */
    unsigned in_flight;         /* atomic */
    bool truncating;            /* atomic */
    unsigned truncates;         /* begun and ended, both count; atomic */
    unsigned nr_layers;         /* atomic; of the chain that requests go to */
    bool verbose;
    uint64_t done;              /* operations; atomic */
    uint32_t *started;          /* operations, for whoever watches; or NULL */
    IOThread **threads;         /* NULL: the scheduler's coroutines */
    unsigned nr_threads;
    unsigned next_thread;
    /* Memory for a request in flight, RUN_IO_BYTES of zeroes; or NULL. */
    void *(*io_alloc)(const Op *op);
    void (*io_free)(void *io);
} Run;

#define RUN_IO_BYTES 512

/* What @seed stands for. */
void config_random(Config *cfg, uint64_t seed);
char *config_describe(const Config *cfg);
/* @n operations of @seed; caller frees. */
Op *ops_random(uint64_t seed, const Config *cfg, unsigned n);
/* One line: type and place if it has one. Caller frees. */
char *op_describe(const Op *op);

/* Makes the disk and opens it. @dir: real files there; NULL: in memory. */
void run_begin(Run *run, const Config *cfg, const char *dir);
/* Starts one operation; control operations are over on return. */
void run_start_op(Run *run, const Op *op);
/* All of them, with the scheduler choosing when each starts. */
void run_ops(Run *run, const Op *ops, unsigned n);
/* All of them, in run->threads. The scheduler is off. */
void run_ops_threads(Run *run, const Op *ops, unsigned n);
/* Lets everything in flight end. */
void run_quiesce(Run *run);
/* Quiescent: compares the whole disk and checks the image. */
void run_compare(Run *run);
/* Compares all layers, once more after opening again; frees. */
void run_end(Run *run);

/* Called by run_fail() after it has printed; or NULL. */
extern void (*run_at_failure)(void);
/* Prints what is wrong and ends the process with status 1. */
G_GNUC_PRINTF(1, 2) G_NORETURN void run_fail(const char *fmt, ...);

#endif
