/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The anti-forensic splitter of LUKS: a key becomes so many stripes that all of
 * them are needed to get it back, and losing one destroys it. Any thread.
 */
#ifndef CRYPTO_AF_H
#define CRYPTO_AF_H

#include "crypto/cipher.h"

/* @key of @len bytes into @stripes times as much at @out. 0 or -errno. */
int crypto_af_split(QCryptoHashAlgo hash, size_t len, uint32_t stripes,
                    const uint8_t *key, uint8_t *out);
/* And back. */
int crypto_af_merge(QCryptoHashAlgo hash, size_t len, uint32_t stripes,
                    const uint8_t *in, uint8_t *key);

#endif
