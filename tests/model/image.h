/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The disk under test: a chain of qcow2 images, in memory or in real files,
 * below one BlockBackend.
 */
#ifndef TESTS_MODEL_IMAGE_H
#define TESTS_MODEL_IMAGE_H

#include "block/block_int.h"
#include "block/block-backend.h"
#include "ram-file.h"
#include "rng.h"

/* Of one image; what can be chosen at its creation. */
typedef struct Geometry {
    int version;
    int cluster_bits;
    int refcount_order;
    bool lazy;
    bool zstd;
    bool extended_l2;       /* clusters of 16 KiB or more */
    bool data_file;         /* then nothing can be written compressed */
    bool data_file_raw;
} Geometry;

/* Random, of small clusters mostly. */
void geometry_random(Geometry *g, Rng *rng);
/* One line; caller frees. */
char *geometry_describe(const Geometry *g);

/* Layers that a chain can have. */
#define CHAIN_MAX 4

typedef struct Layer {
    Geometry g;             /* unused for a raw base */
    bool raw;
    RamFile *ram;           /* NULL: */
    char *path;
    RamFile *data;          /* the same for the data file, if there is one */
    char *data_path;
} Layer;

typedef struct Chain {
    const char *dir;        /* for real files; NULL: memory */
    Layer layers[CHAIN_MAX];    /* base first */
    unsigned nr_layers;
    unsigned node_serial;

    /* How memory files behave. */
    uint32_t request_alignment;
    bool zero_writes, discards, fua, yield_before, yield_after;

    BlockBackend *blk;      /* NULL while closed */
} Chain;

/* The bytes of an empty image into a new file; its length. */
void image_format(RamFile *f, const Geometry *g, int64_t size);

/* A new layer on top: empty image of @size; not opened. */
Layer *chain_add_layer(Chain *c, const Geometry *g, int64_t size);
/* A raw file at the bottom, of @size bytes from @data. */
void chain_add_raw(Chain *c, const uint8_t *data, int64_t size);

/*
 * Random driver options of the kind that a reopen may change (only these) or
 * that are given at open. @flags: BDRV_O_* of the node.
 */
QDict *options_random(Rng *rng, const Geometry *g, int flags, bool reopen);

/*
 * Opens layers up to @top_index (0 is the base) with @flags and returns the
 * top node with a reference. @options (may be NULL; taken over) are those of
 * the top.
 */
BlockDriverState *chain_open_layer(Chain *c, unsigned top_index, int flags,
                                   QDict *options, Error **errp);
/* All layers, under c->blk that may write and resize. */
bool chain_open(Chain *c, int flags, QDict *options, Error **errp);
/* A snapshot: a new empty layer above the node that c->blk is on. */
bool chain_append(Chain *c, const Geometry *g, int flags, QDict *options,
                  Error **errp);
void chain_close(Chain *c);
/* Closes it and frees all files. */
void chain_destroy(Chain *c);

/* NULL if check finds nothing, else what it found; caller frees. */
char *node_check(BlockDriverState *bs);

#endif
