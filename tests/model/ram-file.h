/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A file in memory, and protocol nodes for it whose every request yields to
 * the scheduler before it takes effect, after that, or both.
 *
 * It is as mean as a real one may be: discarded bytes become rubbish, so does
 * what a zero write was allowed to unmap but did not have to zero (nothing).
 * Only what was never written, or lies behind the end, reads as zeroes.
 */
#ifndef TESTS_MODEL_RAM_FILE_H
#define TESTS_MODEL_RAM_FILE_H

#include "block/block_int.h"

typedef struct RamFile {
    uint8_t *data;
    int64_t size;               /* bytes of the file */
    int64_t allocated;          /* bytes at data; zero from size on */
    int64_t max_size;           /* -ENOSPC beyond */

    /* How nodes for it behave; set before opening one. */
    uint32_t request_alignment;
    bool zero_writes;           /* else -ENOTSUP */
    bool discards;
    bool fua;
    bool yield_before;
    bool yield_after;

    unsigned in_flight;
} RamFile;

RamFile *ram_file_new(void);
void ram_file_free(RamFile *f);
/* Makes it at least @size long, of zeroes. */
void ram_file_grow(RamFile *f, int64_t size);

/* A node called @name, with a reference for the caller. Does not own @f. */
BlockDriverState *ram_file_open(RamFile *f, const char *name, int flags,
                                Error **errp);

#endif
