/* SPDX-License-Identifier: GPL-2.0-or-later */
/* How hard a passphrase can be made to try, in a given time. */
#include "util/osdep.h"
#include <time.h>
#include "crypto/cipher.h"

/* Shorter measurements are doubled until they are this long. */
#define MEASURE_MS 40

static int64_t thread_time_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

uint64_t crypto_pbkdf2_rate(QCryptoHashAlgo alg, size_t salt_len,
                            size_t out_len, uint64_t ms)
{
    g_autofree uint8_t *salt = g_malloc0(salt_len);
    g_autofree uint8_t *out = g_malloc0(out_len);
    uint32_t iterations = 1 << 12;

    while (iterations < 1U << 31) {
        int64_t start = thread_time_ns(), spent;

        if (crypto_pbkdf2(alg, "password", 8, salt, salt_len, iterations, out,
                          out_len) < 0) {
            return 0;
        }
        spent = thread_time_ns() - start;
        if (spent > MEASURE_MS * 1000000LL) {
            return (double)iterations * ms * 1e6 / spent;
        }
        iterations *= 2;
    }
    return (uint64_t)iterations * ms / MEASURE_MS;
}
