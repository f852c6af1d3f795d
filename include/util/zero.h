/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Looking for zeroes in buffers.
 *
 * Any thread, coroutine or not.  Buffers may be at any address and have any
 * length; nothing beyond their end is read.
 */
#ifndef UTIL_ZERO_H
#define UTIL_ZERO_H

#include <stdbool.h>
#include <stddef.h>

/* True if all @len bytes are zero; true for @len 0. */
bool buffer_is_zero(const void *buf, size_t len);

/* Offset of the first byte that is not zero, @len if there is none. */
size_t buffer_find_nonzero(const void *buf, size_t len);

/* Offset just after the last byte that is not zero, 0 if there is none. */
size_t buffer_nonzero_end(const void *buf, size_t len);

/*
 * Split a buffer in runs of zero and non-zero units (e.g. sectors): true if the
 * first @unit bytes are all zero, and in *@run_len (never 0) the bytes from the
 * start of @buf whose units are all like the first.  @len > 0, @unit > 0; a
 * shorter last unit counts as one.
 */
bool buffer_zero_run(const void *buf, size_t len, size_t unit,
                     size_t *run_len);

/*
 * For tests and benchmarks: make buffer_is_zero() use implementation number
 * @index (0 is the portable one, the highest is the default) and return its
 * name, or NULL if this CPU has no such implementation.  No other thread may
 * run meanwhile.
 */
const char *buffer_is_zero_select(unsigned int index);

#endif /* UTIL_ZERO_H */
