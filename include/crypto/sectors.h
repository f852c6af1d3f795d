/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Encrypted sectors: a cipher, and what each sector starts from. Any thread. */
#ifndef CRYPTO_SECTORS_H
#define CRYPTO_SECTORS_H

#include "crypto/cipher.h"

#define CRYPTO_SECTOR_SIZE 512

typedef struct CryptoSectorsConfig {
    QCryptoCipherAlgo cipher;
    QCryptoCipherMode mode;
    QCryptoIVGenAlgo ivgen;
    QCryptoHashAlgo ivgen_hash;     /* essiv only */
} CryptoSectorsConfig;

typedef struct CryptoSectors CryptoSectors;

/* @key has crypto_cipher_key_len() bytes and is not kept. NULL with @errp. */
CryptoSectors *crypto_sectors_new(const CryptoSectorsConfig *c,
                                  const uint8_t *key, Error **errp);
/* Wipes it; NULL is fine. */
void crypto_sectors_free(CryptoSectors *s);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CryptoSectors, crypto_sectors_free)

/* Sectors from number @sector on, in place; @len: whole ones. 0 or -errno. */
int crypto_sectors_encrypt(CryptoSectors *s, uint64_t sector, void *data,
                           size_t len);
int crypto_sectors_decrypt(CryptoSectors *s, uint64_t sector, void *data,
                           size_t len);

#endif
