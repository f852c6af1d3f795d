/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * All stripes but the last one are random; the last one is the key, XORed with
 * what comes out of them: D = 0; for each: D = diffuse(D ^ stripe). To diffuse,
 * each part of D as long as a hash becomes the hash of its number and itself.
 */
#include "util/osdep.h"
#include "crypto/af.h"
#include "util/bswap.h"

static void xor_into(uint8_t *to, const uint8_t *from, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        to[i] ^= from[i];
    }
}

static int diffuse(QCryptoHashAlgo hash, uint8_t *block, size_t len)
{
    size_t part = crypto_hash_len(hash);
    uint8_t digest[CRYPTO_HASH_MAX];
    uint32_t number = 0;
    int ret = part ? 0 : -ENOTSUP;

    for (size_t pos = 0; ret == 0 && pos < len; pos += part, number++) {
        uint32_t be = cpu_to_be32(number);
        size_t n = MIN(part, len - pos);

        ret = crypto_hash_prefixed(hash, &be, sizeof(be), block + pos, n,
                                   digest);
        if (ret == 0) {
            memcpy(block + pos, digest, n);
        }
    }
    crypto_wipe(digest, sizeof(digest));
    return ret;
}

/* What comes out of all stripes but the last one. */
static int mix(QCryptoHashAlgo hash, size_t len, uint32_t stripes,
               const uint8_t *in, uint8_t *block)
{
    int ret = 0;

    memset(block, 0, len);
    for (uint32_t i = 0; ret == 0 && i + 1 < stripes; i++) {
        xor_into(block, in + i * len, len);
        ret = diffuse(hash, block, len);
    }
    return ret;
}

int crypto_af_split(QCryptoHashAlgo hash, size_t len, uint32_t stripes,
                    const uint8_t *key, uint8_t *out)
{
    uint8_t *last = out + len * (stripes - 1);
    int ret;

    crypto_random(out, len * (stripes - 1));
    ret = mix(hash, len, stripes, out, last);
    if (ret == 0) {
        xor_into(last, key, len);
    }
    return ret;
}

int crypto_af_merge(QCryptoHashAlgo hash, size_t len, uint32_t stripes,
                    const uint8_t *in, uint8_t *key)
{
    int ret = mix(hash, len, stripes, in, key);

    if (ret == 0) {
        xor_into(key, in + len * (stripes - 1), len);
    }
    return ret;
}
