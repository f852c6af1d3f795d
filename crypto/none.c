/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What takes the place of a library in builds without one. */
#include "util/osdep.h"
#include "crypto/cipher.h"

bool crypto_available(Error **errp)
{
    error_setg(errp, "This build has no support for encryption (libgcrypt)");
    return false;
}

size_t crypto_cipher_key_len(QCryptoCipherAlgo alg, QCryptoCipherMode mode)
{
    return 0;
}

CryptoCipher *crypto_cipher_new(QCryptoCipherAlgo alg, QCryptoCipherMode mode,
                                const uint8_t *key, size_t key_len,
                                Error **errp)
{
    crypto_available(errp);
    return NULL;
}

void crypto_cipher_free(CryptoCipher *c)
{
    assert(!c);
}

CryptoCipherOp *crypto_cipher_get(CryptoCipher *c)
{
    g_assert_not_reached();
}

void crypto_cipher_put(CryptoCipher *c, CryptoCipherOp *op)
{
    g_assert_not_reached();
}

int crypto_cipher_encrypt(CryptoCipherOp *op, const uint8_t *iv, void *data,
                          size_t len)
{
    return -EIO;
}

int crypto_cipher_decrypt(CryptoCipherOp *op, const uint8_t *iv, void *data,
                          size_t len)
{
    return -EIO;
}

size_t crypto_hash_len(QCryptoHashAlgo alg)
{
    return 0;
}

int crypto_hash_prefixed(QCryptoHashAlgo alg, const void *prefix,
                         size_t prefix_len, const void *data, size_t len,
                         uint8_t *digest)
{
    return -ENOTSUP;
}

int crypto_hash(QCryptoHashAlgo alg, const void *data, size_t len,
                uint8_t *digest)
{
    return -ENOTSUP;
}

int crypto_pbkdf2(QCryptoHashAlgo alg, const void *pass, size_t pass_len,
                  const uint8_t *salt, size_t salt_len, uint32_t iterations,
                  uint8_t *out, size_t out_len)
{
    return -EIO;
}

void crypto_random(void *data, size_t len)
{
    g_assert_not_reached();
}
