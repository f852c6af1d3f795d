/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See verify.h. */
#include "util/osdep.h"
#include "block/filters/verify.h"

size_t verify_difference(const uint8_t *a, const uint8_t *b, size_t bytes)
{
    size_t i = 0;

    while (i < bytes && a[i] == b[i]) {
        i++;
    }
    return i;
}

void verify_fail(const char *fmt, ...)
{
    va_list ap;

    fflush(stdout);
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fputc('\n', stderr);
    /* Other threads are at work: nothing is torn down under them. */
    _exit(1);
}
