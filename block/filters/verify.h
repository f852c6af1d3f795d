/* SPDX-License-Identifier: GPL-2.0-or-later */
/* For drivers that end the program when two nodes differ. Any thread. */
#ifndef BLOCK_FILTERS_VERIFY_H
#define BLOCK_FILTERS_VERIFY_H

#include "util/osdep.h"

/* Number of the first byte in which @a and @b differ; @bytes if none. */
size_t verify_difference(const uint8_t *a, const uint8_t *b, size_t bytes);

/* Says what is wrong on stderr, as one line, and ends the program: whoever runs
 * it looks for a difference, and what happens after it hides the reason. */
void verify_fail(const char *fmt, ...) G_GNUC_PRINTF(1, 2) G_GNUC_NORETURN;

#endif
