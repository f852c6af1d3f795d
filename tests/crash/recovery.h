/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A second power cut, while the image that the first one left is opened: that
 * writes if the image is dirty and is repaired.
 */
#ifndef TESTS_CRASH_RECOVERY_H
#define TESTS_CRASH_RECOVERY_H

#include "judge.h"

/*
 * Records the opening of the image @data (@size bytes) on run->disk and judges
 * some of what may be left of it; adds to *@states how many. Returns NULL, or
 * what is wrong; caller frees.
 */
char *recovery_judge(Run *run, const uint8_t *data, int64_t size, GRand *rand,
                     uint64_t *states);

#endif
