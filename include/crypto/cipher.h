/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Ciphers, hashes and random bytes: a thin layer over the library that the
 * build found. Without one every function here fails and says so.
 *
 * Any thread, no I/O. Lengths are bytes.
 */
#ifndef CRYPTO_CIPHER_H
#define CRYPTO_CIPHER_H

#include "util/osdep.h"
#include "util/error.h"
#include "qapi/qapi-types.h"

/* Of all ciphers here, and of the IVs. */
#define CRYPTO_BLOCK_SIZE 16

/* False with @errp if the build has no encryption. */
bool crypto_available(Error **errp);

/* Overwrites a secret in a way that the compiler keeps. NULL is fine. */
void crypto_wipe(void *data, size_t len);
/* The same, and frees it. */
void crypto_wipe_free(void *data, size_t len);

/* --- ciphers --- */

/* A cipher with its key. */
typedef struct CryptoCipher CryptoCipher;

/* Of a key: both halves in mode xts. */
size_t crypto_cipher_key_len(QCryptoCipherAlgo alg, QCryptoCipherMode mode);

/*
 * @key is not kept. NULL with @errp: a key of the wrong length or one that the
 * library refuses (equal halves in mode xts), or an unknown algorithm.
 */
CryptoCipher *crypto_cipher_new(QCryptoCipherAlgo alg, QCryptoCipherMode mode,
                                const uint8_t *key, size_t key_len,
                                Error **errp);
/* Wipes it; NULL is fine. */
void crypto_cipher_free(CryptoCipher *c);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CryptoCipher, crypto_cipher_free)

/*
 * One operation, with state of its own: several threads use a cipher at a time
 * with one each. Put it back after use. NULL: no memory.
 */
typedef struct CryptoCipherOp CryptoCipherOp;
CryptoCipherOp *crypto_cipher_get(CryptoCipher *c);
void crypto_cipher_put(CryptoCipher *c, CryptoCipherOp *op);

/*
 * @len, whole blocks, in place; @iv has CRYPTO_BLOCK_SIZE (ignored by ecb). 0
 * or -EIO.
 */
int crypto_cipher_encrypt(CryptoCipherOp *op, const uint8_t *iv, void *data,
                          size_t len);
int crypto_cipher_decrypt(CryptoCipherOp *op, const uint8_t *iv, void *data,
                          size_t len);

/* --- hashes --- */

#define CRYPTO_HASH_MAX 64

size_t crypto_hash_len(QCryptoHashAlgo alg);
/* @digest has crypto_hash_len(). 0 or -ENOTSUP. */
int crypto_hash(QCryptoHashAlgo alg, const void *data, size_t len,
                uint8_t *digest);
/* The hash of @data behind @prefix. */
int crypto_hash_prefixed(QCryptoHashAlgo alg, const void *prefix,
                         size_t prefix_len, const void *data, size_t len,
                         uint8_t *digest);

/* A key from a passphrase. 0 or -EIO. */
int crypto_pbkdf2(QCryptoHashAlgo alg, const void *pass, size_t pass_len,
                  const uint8_t *salt, size_t salt_len, uint32_t iterations,
                  uint8_t *out, size_t out_len);
/*
 * How many iterations take @ms of processor time for @out_len: measured. 0 if
 * that fails.
 */
uint64_t crypto_pbkdf2_rate(QCryptoHashAlgo alg, size_t salt_len,
                            size_t out_len, uint64_t ms);

/* Fit for keys. */
void crypto_random(void *data, size_t len);

#endif
