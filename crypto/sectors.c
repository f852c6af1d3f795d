/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Encrypted sectors. */
#include "util/osdep.h"
#include "crypto/sectors.h"
#include "util/bswap.h"

struct CryptoSectors {
    CryptoCipher *cipher;
    CryptoCipher *essiv;    /* NULL: the number is the IV */
    bool narrow;            /* only 32 bits of it */
};

/* The cipher of @like's kind whose key is as long as a hash. */
static bool essiv_cipher(QCryptoCipherAlgo like, size_t key_len,
                         QCryptoCipherAlgo *alg, Error **errp)
{
    const char *name = QCryptoCipherAlgo_str(like);
    size_t kind = strcspn(name, "-");

    for (int i = 0; i < QCRYPTO_CIPHER_ALGO__MAX; i++) {
        if (!strncmp(QCryptoCipherAlgo_str(i), name, kind + 1) &&
            crypto_cipher_key_len(i, QCRYPTO_CIPHER_MODE_ECB) == key_len) {
            *alg = i;
            return true;
        }
    }
    error_setg(errp, "No %.*s cipher with key size %zu available", (int)kind,
               name, key_len);
    return false;
}

static CryptoCipher *new_essiv(const CryptoSectorsConfig *c,
                               const uint8_t *key, Error **errp)
{
    uint8_t salt[CRYPTO_HASH_MAX];
    size_t len = crypto_hash_len(c->ivgen_hash);
    CryptoCipher *cipher = NULL;
    QCryptoCipherAlgo alg;

    if (!essiv_cipher(c->cipher, len, &alg, errp)) {
        return NULL;
    }
    if (crypto_hash(c->ivgen_hash, key, crypto_cipher_key_len(c->cipher,
                                                              c->mode),
                    salt) < 0) {
        error_setg(errp, "Hash '%s' is not available",
                   QCryptoHashAlgo_str(c->ivgen_hash));
    } else {
        cipher = crypto_cipher_new(alg, QCRYPTO_CIPHER_MODE_ECB, salt, len,
                                   errp);
    }
    crypto_wipe(salt, sizeof(salt));
    return cipher;
}

CryptoSectors *crypto_sectors_new(const CryptoSectorsConfig *c,
                                  const uint8_t *key, Error **errp)
{
    g_autoptr(CryptoSectors) s = g_new0(CryptoSectors, 1);

    if (!crypto_available(errp)) {
        return NULL;
    }
    s->narrow = c->ivgen == QCRYPTO_IV_GEN_ALGO_PLAIN;
    s->cipher = crypto_cipher_new(c->cipher, c->mode, key,
                                  crypto_cipher_key_len(c->cipher, c->mode),
                                  errp);
    if (!s->cipher) {
        return NULL;
    }
    if (c->ivgen == QCRYPTO_IV_GEN_ALGO_ESSIV &&
        !(s->essiv = new_essiv(c, key, errp))) {
        return NULL;
    }
    return g_steal_pointer(&s);
}

void crypto_sectors_free(CryptoSectors *s)
{
    if (s) {
        crypto_cipher_free(s->cipher);
        crypto_cipher_free(s->essiv);
        g_free(s);
    }
}

typedef int CryptFn(CryptoCipherOp *op, const uint8_t *iv, void *data,
                    size_t len);

static int each_sector(CryptoSectors *s, CryptoCipherOp *op,
                       CryptoCipherOp *essiv, uint64_t sector, uint8_t *data,
                       size_t len, CryptFn *fn)
{
    for (; len; len -= CRYPTO_SECTOR_SIZE, data += CRYPTO_SECTOR_SIZE) {
        uint8_t iv[CRYPTO_BLOCK_SIZE] = { 0 };
        int ret = 0;

        stq_le_p(iv, s->narrow ? (uint32_t)sector : sector);
        sector++;
        if (essiv) {
            ret = crypto_cipher_encrypt(essiv, NULL, iv, sizeof(iv));
        }
        if (ret == 0) {
            ret = fn(op, iv, data, CRYPTO_SECTOR_SIZE);
        }
        if (ret < 0) {
            return ret;
        }
    }
    return 0;
}

static int crypt_sectors(CryptoSectors *s, uint64_t sector, void *data,
                         size_t len, CryptFn *fn)
{
    CryptoCipherOp *op = crypto_cipher_get(s->cipher);
    CryptoCipherOp *essiv = s->essiv ? crypto_cipher_get(s->essiv) : NULL;
    int ret = -ENOMEM;

    assert(len % CRYPTO_SECTOR_SIZE == 0);
    if (op && !essiv == !s->essiv) {
        ret = each_sector(s, op, essiv, sector, data, len, fn);
    }
    if (op) {
        crypto_cipher_put(s->cipher, op);
    }
    if (essiv) {
        crypto_cipher_put(s->essiv, essiv);
    }
    return ret;
}

int crypto_sectors_encrypt(CryptoSectors *s, uint64_t sector, void *data,
                           size_t len)
{
    return crypt_sectors(s, sector, data, len, crypto_cipher_encrypt);
}

int crypto_sectors_decrypt(CryptoSectors *s, uint64_t sector, void *data,
                           size_t len)
{
    return crypt_sectors(s, sector, data, len, crypto_cipher_decrypt);
}
