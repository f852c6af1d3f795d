/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "util/osdep.h"
#include "util/base64.h"

static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuv"
                              "wxyz0123456789+/=\n";

uint8_t *qbase64_decode(const char *input, size_t in_len, size_t *out_len,
                        Error **errp)
{
    uint8_t *bytes;
    gsize len = in_len;

    if (strspn(input, letters) != in_len) {
        error_setg(errp, "Base64 data contains invalid characters");
        return NULL;
    }
    bytes = g_malloc(in_len + 1);
    memcpy(bytes, input, in_len);
    bytes[in_len] = 0;
    if (len > 1) {
        g_base64_decode_inplace((char *)bytes, &len);
    } else {
        len = 0;    /* no byte has less than two letters */
    }
    *out_len = len;
    return bytes;
}
