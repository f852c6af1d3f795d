/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Ciphers and hashes by libgcrypt.
 *
 * A handle of the library has a key and an IV and belongs to one thread at a
 * time, so that a cipher keeps a list of handles that nobody uses. One is made
 * at once, so that a bad key is found; others when they are wanted. The
 * library wipes handles when it closes them.
 */
#include "util/osdep.h"
#include <gcrypt.h>
#include "crypto/cipher.h"
#include "util/lockable.h"
#include "util/thread.h"

/* Older ones want to be told about threads. */
#if GCRYPT_VERSION_NUMBER < 0x010800
#error "libgcrypt 1.8 or newer is needed"
#endif

struct CryptoCipherOp {
    gcry_cipher_hd_t handle;
    bool has_iv;
    CryptoCipherOp *next;
};

struct CryptoCipher {
    int algo;               /* GCRY_CIPHER_* */
    int mode;
    bool has_iv;
    uint8_t *key;
    size_t key_len;
    QemuMutex lock;         /* a leaf */
    CryptoCipherOp *idle;
};

static void init_once(void)
{
    static gsize done;

    if (g_once_init_enter(&done)) {
        /* Somebody else in the process may have done it. */
        if (!gcry_control(GCRYCTL_INITIALIZATION_FINISHED_P)) {
            gcry_check_version(NULL);
            gcry_control(GCRYCTL_DISABLE_SECMEM, 0);
            gcry_control(GCRYCTL_INITIALIZATION_FINISHED, 0);
        }
        g_once_init_leave(&done, 1);
    }
}

bool crypto_available(Error **errp)
{
    return true;
}

/* --- ciphers --- */

static const struct {
    int algo;
    uint8_t key_len;
} cipher_info[QCRYPTO_CIPHER_ALGO__MAX] = {
    [QCRYPTO_CIPHER_ALGO_AES_128] = { GCRY_CIPHER_AES128, 16 },
    [QCRYPTO_CIPHER_ALGO_AES_192] = { GCRY_CIPHER_AES192, 24 },
    [QCRYPTO_CIPHER_ALGO_AES_256] = { GCRY_CIPHER_AES256, 32 },
    [QCRYPTO_CIPHER_ALGO_SERPENT_128] = { GCRY_CIPHER_SERPENT128, 16 },
    [QCRYPTO_CIPHER_ALGO_SERPENT_192] = { GCRY_CIPHER_SERPENT192, 24 },
    [QCRYPTO_CIPHER_ALGO_SERPENT_256] = { GCRY_CIPHER_SERPENT256, 32 },
    [QCRYPTO_CIPHER_ALGO_TWOFISH_128] = { GCRY_CIPHER_TWOFISH128, 16 },
    [QCRYPTO_CIPHER_ALGO_TWOFISH_256] = { GCRY_CIPHER_TWOFISH, 32 },
};

static const int cipher_modes[QCRYPTO_CIPHER_MODE__MAX] = {
    [QCRYPTO_CIPHER_MODE_ECB] = GCRY_CIPHER_MODE_ECB,
    [QCRYPTO_CIPHER_MODE_CBC] = GCRY_CIPHER_MODE_CBC,
    [QCRYPTO_CIPHER_MODE_XTS] = GCRY_CIPHER_MODE_XTS,
};

size_t crypto_cipher_key_len(QCryptoCipherAlgo alg, QCryptoCipherMode mode)
{
    return cipher_info[alg].key_len * (mode == QCRYPTO_CIPHER_MODE_XTS ? 2 : 1);
}

static CryptoCipherOp *open_handle(const CryptoCipher *c, gcry_error_t *err)
{
    CryptoCipherOp *op = g_new0(CryptoCipherOp, 1);

    op->has_iv = c->has_iv;
    *err = gcry_cipher_open(&op->handle, c->algo, c->mode, 0);
    if (!*err) {
        *err = gcry_cipher_setkey(op->handle, c->key, c->key_len);
        /* It counts as set: data was encrypted with weak ones, too. */
        if (gcry_err_code(*err) == GPG_ERR_WEAK_KEY &&
            c->mode != GCRY_CIPHER_MODE_XTS) {
            *err = 0;
        }
    }
    if (*err) {
        gcry_cipher_close(op->handle);
        g_free(op);
        return NULL;
    }
    return op;
}

CryptoCipher *crypto_cipher_new(QCryptoCipherAlgo alg, QCryptoCipherMode mode,
                                const uint8_t *key, size_t key_len,
                                Error **errp)
{
    CryptoCipher *c;
    gcry_error_t err;

    init_once();
    if (key_len != crypto_cipher_key_len(alg, mode)) {
        error_setg(errp, "Cipher key length %zu should be %zu", key_len,
                   crypto_cipher_key_len(alg, mode));
        return NULL;
    }
    c = g_new0(CryptoCipher, 1);
    c->algo = cipher_info[alg].algo;
    c->mode = cipher_modes[mode];
    c->has_iv = mode != QCRYPTO_CIPHER_MODE_ECB;
    c->key = g_memdup2(key, key_len);
    c->key_len = key_len;
    qemu_mutex_init(&c->lock);
    c->idle = open_handle(c, &err);
    if (!c->idle) {
        error_setg(errp, "Cannot initialize cipher '%s' in mode '%s': %s",
                   QCryptoCipherAlgo_str(alg), QCryptoCipherMode_str(mode),
                   gcry_strerror(err));
        crypto_cipher_free(c);
        return NULL;
    }
    return c;
}

void crypto_cipher_free(CryptoCipher *c)
{
    CryptoCipherOp *op;

    if (!c) {
        return;
    }
    while ((op = c->idle)) {
        c->idle = op->next;
        gcry_cipher_close(op->handle);
        g_free(op);
    }
    crypto_wipe_free(c->key, c->key_len);
    qemu_mutex_destroy(&c->lock);
    g_free(c);
}

CryptoCipherOp *crypto_cipher_get(CryptoCipher *c)
{
    CryptoCipherOp *op;
    gcry_error_t err;

    qemu_mutex_lock(&c->lock);
    op = c->idle;
    if (op) {
        c->idle = op->next;
    }
    qemu_mutex_unlock(&c->lock);
    return op ?: open_handle(c, &err);
}

void crypto_cipher_put(CryptoCipher *c, CryptoCipherOp *op)
{
    QEMU_LOCK_GUARD(&c->lock);
    op->next = c->idle;
    c->idle = op;
}

int crypto_cipher_encrypt(CryptoCipherOp *op, const uint8_t *iv, void *data,
                          size_t len)
{
    if ((op->has_iv &&
         gcry_cipher_setiv(op->handle, iv, CRYPTO_BLOCK_SIZE)) ||
        gcry_cipher_encrypt(op->handle, data, len, NULL, 0)) {
        return -EIO;
    }
    return 0;
}

int crypto_cipher_decrypt(CryptoCipherOp *op, const uint8_t *iv, void *data,
                          size_t len)
{
    if ((op->has_iv &&
         gcry_cipher_setiv(op->handle, iv, CRYPTO_BLOCK_SIZE)) ||
        gcry_cipher_decrypt(op->handle, data, len, NULL, 0)) {
        return -EIO;
    }
    return 0;
}

/* --- hashes --- */

static const int hash_algos[QCRYPTO_HASH_ALGO__MAX] = {
    [QCRYPTO_HASH_ALGO_MD5] = GCRY_MD_MD5,
    [QCRYPTO_HASH_ALGO_SHA1] = GCRY_MD_SHA1,
    [QCRYPTO_HASH_ALGO_SHA224] = GCRY_MD_SHA224,
    [QCRYPTO_HASH_ALGO_SHA256] = GCRY_MD_SHA256,
    [QCRYPTO_HASH_ALGO_SHA384] = GCRY_MD_SHA384,
    [QCRYPTO_HASH_ALGO_SHA512] = GCRY_MD_SHA512,
    [QCRYPTO_HASH_ALGO_RIPEMD160] = GCRY_MD_RMD160,
};

size_t crypto_hash_len(QCryptoHashAlgo alg)
{
    init_once();
    return gcry_md_get_algo_dlen(hash_algos[alg]);
}

int crypto_hash_prefixed(QCryptoHashAlgo alg, const void *prefix,
                         size_t prefix_len, const void *data, size_t len,
                         uint8_t *digest)
{
    gcry_buffer_t parts[2] = {
        { .len = prefix_len, .data = (void *)prefix },
        { .len = len, .data = (void *)data },
    };

    init_once();
    return gcry_md_hash_buffers(hash_algos[alg], 0, digest, parts, 2)
               ? -ENOTSUP : 0;
}

int crypto_hash(QCryptoHashAlgo alg, const void *data, size_t len,
                uint8_t *digest)
{
    return crypto_hash_prefixed(alg, NULL, 0, data, len, digest);
}

int crypto_pbkdf2(QCryptoHashAlgo alg, const void *pass, size_t pass_len,
                  const uint8_t *salt, size_t salt_len, uint32_t iterations,
                  uint8_t *out, size_t out_len)
{
    init_once();
    return gcry_kdf_derive(pass, pass_len, GCRY_KDF_PBKDF2, hash_algos[alg],
                           salt, salt_len, iterations, out_len, out) ? -EIO : 0;
}

void crypto_random(void *data, size_t len)
{
    init_once();
    gcry_randomize(data, len, GCRY_STRONG_RANDOM);
}
