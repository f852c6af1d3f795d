/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Opens what a power cut left, and says whether a user may be left with it:
 * the image opens for writing, a dirty one having been repaired; a check finds
 * no corruption (and no leaks either after a repair); the header names a
 * backing file that it may and has its extensions; the guest reads what it
 * may; and the image can be used on.
 */
#ifndef TESTS_CRASH_JUDGE_H
#define TESTS_CRASH_JUDGE_H

#include "workload.h"

typedef struct Judge {
    bool go_on;             /* use the image on, in a way the run decides */
    /* Seen so far. */
    uint64_t leaks;         /* states with leaks */
    uint64_t repaired;      /* states that were dirty */
    uint64_t continued;
    uint64_t valid_bitmaps; /* states whose recording bitmap may be used */
} Judge;

/*
 * Judges what is on run->disk, whose log must be off; @run->guest says what
 * is legal. Returns NULL, or what is wrong, with everything that was printed;
 * caller frees. The content of the disk is changed.
 */
char *judge_image(Judge *judge, const Run *run);

/* What is printed on stderr between the two; caller frees. */
void capture_start(void);
char *capture_end(void);

#endif
