/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Forgetting secrets. */
#include "util/osdep.h"
#include "crypto/cipher.h"

void crypto_wipe(void *data, size_t len)
{
    if (data && len) {
        explicit_bzero(data, len);
    }
}

void crypto_wipe_free(void *data, size_t len)
{
    crypto_wipe(data, len);
    g_free(data);
}
