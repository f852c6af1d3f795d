/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Stored bitmaps in a run:
 *   "on"    records from the beginning, so if it is valid it covers every
 *           sector that is not as it was then;
 *   "off"   never records and is never changed, so it is valid and as it was
 *           in every state;
 *   others  come and go.
 */
#ifndef TESTS_CRASH_BITMAPS_H
#define TESTS_CRASH_BITMAPS_H

#include "block/block_int.h"

typedef struct Run Run;

/* Puts them into the image, after what the guest wrote before time begins. */
void bitmaps_init(Run *run);
void bitmaps_free(Run *run);
/* In a pause: saves, adds, removes, merges, … */
void bitmaps_act(Run *run);
/* The image was closed well: everything is valid. Aborts if not. */
void bitmaps_check_closed(Run *run);
/*
 * Whether the bitmaps of @bs go with @content, all of its disk. Returns NULL,
 * or what is wrong; caller frees. Sets *@valid if "on" is.
 */
char *bitmaps_judge(const Run *run, BlockDriverState *bs,
                    const uint8_t *content, bool *valid);

#endif
