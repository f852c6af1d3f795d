/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Names of a backing file, and its format, that a run writes into the header
 * of its image. They name no file: the node has its backing file by option.
 *
 * The guest knows a name by its index in run->names; number 0 is no name.
 */
#ifndef TESTS_CRASH_NAMES_H
#define TESTS_CRASH_NAMES_H

#include "block/block_int.h"

typedef struct Run Run;

typedef struct BackingName {
    char *file;         /* NULL: none */
    char *format;       /* NULL: none */
    char *text;         /* "backing file of 25 bytes, raw" */
} BackingName;

/*
 * Before the image is first opened: puts an extension that qcow2 does not know
 * into the header, or none, and begins run->names.
 */
void names_init(Run *run);
void names_free(Run *run);
/* A new one; returns its index. */
int64_t names_add(Run *run);
const BackingName *names_get(const Run *run, int64_t index);
/*
 * Whether @bs, a qcow2 node, has a name that the guest may find, and all
 * extensions. Returns NULL, or what is wrong; caller frees.
 */
char *names_judge(const Run *run, BlockDriverState *bs);

#endif
