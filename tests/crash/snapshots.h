/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Internal snapshots in a recorded run: taken, applied and deleted while
 * nothing else is in flight. What a snapshot keeps must not change as long as
 * it is there, whatever power cut comes.
 */
#ifndef TESTS_CRASH_SNAPSHOTS_H
#define TESTS_CRASH_SNAPSHOTS_H

#include "workload.h"

typedef struct RunSnapshot {
    char name[16];
    int64_t size;           /* sectors */
    uint32_t *values;       /* what the disk read as */
    CrashTime made_start, made_end;     /* CRASH_NEVER: not (yet) */
    CrashTime gone_start, gone_end;
    bool make_failed;       /* may be there all the same */
    bool gone_failed;
} RunSnapshot;

/* Does one of the three, as chance has it. */
void snapshots_step(Run *run);
/* The image on run->disk, which nobody has open, has the snapshots that it must
 * have at run->guest->now, unchanged. NULL, or what is wrong; caller frees. */
char *snapshots_judge(const Run *run);
void snapshots_free(Run *run);

#endif
