/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Bytes written as base64. Any thread. */
#ifndef UTIL_BASE64_H
#define UTIL_BASE64_H

#include "util/osdep.h"
#include "util/error.h"

/*
 * The bytes that @input, a string of @in_len letters, stands for; *@out_len says
 * how many. The caller frees what is returned, which has room for @in_len + 1
 * bytes, of which those behind may hold remains of @input. NULL with @errp: there
 * is something that is no letter of base64 nor a newline. Letters at the end that
 * make no byte are left out.
 */
uint8_t *qbase64_decode(const char *input, size_t in_len, size_t *out_len,
                        Error **errp);

#endif /* UTIL_BASE64_H */
