/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Ciphers, IVs, key derivation and the splitter, against known answers. */
#include "util/osdep.h"
#include "crypto/af.h"
#include "crypto/luks.h"
#include "crypto/sectors.h"
#include "util/bswap.h"

#define SECTOR 0x123456789aULL

static void assert_hex(const uint8_t *data, size_t len, const char *hex)
{
    g_autoptr(GString) text = g_string_new(NULL);

    for (size_t i = 0; i < len; i++) {
        g_string_append_printf(text, "%02x", data[i]);
    }
    g_assert_cmpstr(text->str, ==, hex);
}

static void assert_sha256(const uint8_t *data, size_t len, const char *hex)
{
    uint8_t digest[CRYPTO_HASH_MAX];

    g_assert_cmpint(crypto_hash(QCRYPTO_HASH_ALGO_SHA256, data, len, digest),
                    ==, 0);
    assert_hex(digest, 32, hex);
}

/* IEEE 1619-2007, vector 2. */
static void test_xts_ieee(void)
{
    uint8_t key[32], data[32], iv[CRYPTO_BLOCK_SIZE] = { 0 };
    g_autoptr(CryptoCipher) c = NULL;
    CryptoCipherOp *op;

    memset(key, 0x11, 16);
    memset(key + 16, 0x22, 16);
    memset(data, 0x44, sizeof(data));
    stq_le_p(iv, 0x3333333333);
    c = crypto_cipher_new(QCRYPTO_CIPHER_ALGO_AES_128, QCRYPTO_CIPHER_MODE_XTS,
                          key, sizeof(key), &error_abort);
    op = crypto_cipher_get(c);
    g_assert_cmpint(crypto_cipher_encrypt(op, iv, data, sizeof(data)), ==, 0);
    assert_hex(data, sizeof(data), "c454185e6a16936e39334038acef838b"
                                   "fb186fff7480adc4289382ecd6d394f0");
    g_assert_cmpint(crypto_cipher_decrypt(op, iv, data, sizeof(data)), ==, 0);
    g_assert_cmpint(data[0], ==, 0x44);
    g_assert_cmpint(data[31], ==, 0x44);
    crypto_cipher_put(c, op);
}

typedef struct SectorCase {
    CryptoSectorsConfig config;
    const char *sha256;     /* of the encrypted sector */
} SectorCase;

/* Made with OpenSSL's AES; see the pattern and the keys below. */
static const SectorCase sector_cases[] = {
    { { QCRYPTO_CIPHER_ALGO_AES_256, QCRYPTO_CIPHER_MODE_XTS,
        QCRYPTO_IV_GEN_ALGO_PLAIN64, 0 },
      "2d376858c7f1a69dc977eb54b3d7ba6087e530043b4136e16ecfb9b88bdd7e47" },
    { { QCRYPTO_CIPHER_ALGO_AES_192, QCRYPTO_CIPHER_MODE_XTS,
        QCRYPTO_IV_GEN_ALGO_PLAIN64, 0 },
      "964ccd202636f056c828026371457d76030d59c45b0dc043239d16ca303abe78" },
    { { QCRYPTO_CIPHER_ALGO_AES_256, QCRYPTO_CIPHER_MODE_CBC,
        QCRYPTO_IV_GEN_ALGO_ESSIV, QCRYPTO_HASH_ALGO_SHA256 },
      "fdd73a5bfeb2864fb89b90b638a58298d9e3eb1497a163fe9b40a7001acf320c" },
    { { QCRYPTO_CIPHER_ALGO_AES_256, QCRYPTO_CIPHER_MODE_CBC,
        QCRYPTO_IV_GEN_ALGO_PLAIN, 0 },
      "af5126e6368f9740b02ce8260dee9265aba3bd92a1e935e52bd3d4dd23aa58ee" },
    { { QCRYPTO_CIPHER_ALGO_AES_256, QCRYPTO_CIPHER_MODE_CBC,
        QCRYPTO_IV_GEN_ALGO_PLAIN64, 0 },
      "5c19383ffca6d99f57a5be1ad451c68f94da848ef91f2a3d0cc17b57af206bc0" },
};

static void test_sectors(gconstpointer opaque)
{
    const SectorCase *t = opaque;
    uint8_t key[64], data[3 * CRYPTO_SECTOR_SIZE], plain[sizeof(data)];
    g_autoptr(CryptoSectors) s = NULL;

    for (size_t i = 0; i < sizeof(key); i++) {
        key[i] = i;
    }
    for (size_t i = 0; i < sizeof(data); i++) {
        size_t at = i % CRYPTO_SECTOR_SIZE;

        plain[i] = data[i] = at * 7 + (at >> 8);
    }
    s = crypto_sectors_new(&t->config, key, &error_abort);
    g_assert_cmpint(crypto_sectors_encrypt(s, SECTOR - 1, data, sizeof(data)),
                    ==, 0);
    /* Neighbours of the same content look different. */
    assert_sha256(data + CRYPTO_SECTOR_SIZE, CRYPTO_SECTOR_SIZE, t->sha256);
    g_assert_cmpint(memcmp(data, data + CRYPTO_SECTOR_SIZE,
                           CRYPTO_SECTOR_SIZE), !=, 0);
    g_assert_cmpint(crypto_sectors_decrypt(s, SECTOR - 1, data, sizeof(data)),
                    ==, 0);
    g_assert_cmpmem(data, sizeof(data), plain, sizeof(plain));
}

static void test_essiv_key_length(void)
{
    const CryptoSectorsConfig config = {
        QCRYPTO_CIPHER_ALGO_AES_256, QCRYPTO_CIPHER_MODE_CBC,
        QCRYPTO_IV_GEN_ALGO_ESSIV, QCRYPTO_HASH_ALGO_SHA1,
    };
    const uint8_t key[32] = { 1 };
    g_autoptr(Error) err = NULL;

    g_assert_null(crypto_sectors_new(&config, key, &err));
    g_assert_nonnull(strstr(error_get_pretty(err), "key size 20"));
}

static void test_key_length(void)
{
    const uint8_t key[31] = { 1 };
    g_autoptr(Error) err = NULL;

    g_assert_null(crypto_cipher_new(QCRYPTO_CIPHER_ALGO_AES_256,
                                    QCRYPTO_CIPHER_MODE_CBC, key, sizeof(key),
                                    &err));
    g_assert_cmpstr(error_get_pretty(err), ==,
                    "Cipher key length 31 should be 32");
}

/* RFC 6070. */
static void test_pbkdf2(void)
{
    uint8_t out[20];

    g_assert_cmpint(crypto_pbkdf2(QCRYPTO_HASH_ALGO_SHA1, "password", 8,
                                  (const uint8_t *)"salt", 4, 4096, out,
                                  sizeof(out)), ==, 0);
    assert_hex(out, sizeof(out), "4b007901b765489abead49d926f721d065a429c1");
    g_assert_cmpint(crypto_pbkdf2_rate(QCRYPTO_HASH_ALGO_SHA256, 32, 64, 1000),
                    >, 1000);
}

typedef struct AfCase {
    QCryptoHashAlgo hash;
    size_t len;
    const char *sha256;     /* of what five stripes of bytes 11 * i merge to */
} AfCase;

/* Made with Python's hashlib. Keys are longer than a hash, as long, shorter. */
static const AfCase af_cases[] = {
    { QCRYPTO_HASH_ALGO_SHA1, 48,
      "8e026789463a4b247f0c1644bec5d9d4671b7074fb8d1d4e7c673488b59d5739" },
    { QCRYPTO_HASH_ALGO_SHA256, 64,
      "f30162f738527eb170204a5207a55e46cbca4ca7ae78b1c8c2e327d15a700348" },
    { QCRYPTO_HASH_ALGO_SHA512, 32,
      "05179fedb2bbac02dd2bb64dd5f0cff39632d28aab8705355ae90142390bde82" },
};

static void test_af(gconstpointer opaque)
{
    const AfCase *t = opaque;
    uint8_t in[5 * 64], key[64], again[64];

    for (size_t i = 0; i < sizeof(in); i++) {
        in[i] = i * 11;
    }
    g_assert_cmpint(crypto_af_merge(t->hash, t->len, 5, in, key), ==, 0);
    assert_sha256(key, t->len, t->sha256);
    g_assert_cmpint(crypto_af_split(t->hash, t->len, 5, key, in), ==, 0);
    g_assert_cmpint(crypto_af_merge(t->hash, t->len, 5, in, again), ==, 0);
    g_assert_cmpmem(again, t->len, key, t->len);
    in[0] ^= 1;
    g_assert_cmpint(crypto_af_merge(t->hash, t->len, 5, in, again), ==, 0);
    g_assert_cmpint(memcmp(again, key, t->len), !=, 0);
}

/* --- a header in memory --- */

typedef struct Store {
    uint8_t *data;
    size_t size;
    int writes_left;    /* then they fail; -1: never */
} Store;

static int store_read(void *opaque, uint64_t offset, void *buf, size_t len)
{
    const Store *s = opaque;

    if (offset > s->size || len > s->size - offset) {
        return -EIO;
    }
    memcpy(buf, s->data + offset, len);
    return 0;
}

static int store_write(void *opaque, uint64_t offset, const void *buf,
                       size_t len)
{
    Store *s = opaque;

    g_assert(offset <= s->size && len <= s->size - offset);
    if (!s->writes_left) {
        return -ENOSPC;
    }
    s->writes_left -= s->writes_left > 0;
    memcpy(s->data + offset, buf, len);
    return 0;
}

static const LuksPass one = { (const uint8_t *)"one", 3 };
static const LuksPass two = { (const uint8_t *)"two", 3 };

static bool opens(Store *store, const LuksPass *pass)
{
    const LuksIo io = { store, store_read, store_write };
    g_autoptr(LuksHeader) h = luks_open(&io, &error_abort);

    return luks_unlock(h, pass, &io, NULL) == 0;
}

/* A write that fails in the middle costs no passphrase that was there. */
static void test_luks_faults(void)
{
    LuksOptions o;
    Store store = { .writes_left = -1 };
    const LuksIo io = { &store, store_read, store_write };
    const LuksAmend add = {
        .state = QCRYPTO_BLOCK_LUKS_KEYSLOT_STATE_ACTIVE, .new_pass = &two,
        .has_iter_time = true, .iter_time_ms = 1,
    };
    const LuksAmend erase = {
        .state = QCRYPTO_BLOCK_LUKS_KEYSLOT_STATE_INACTIVE, .old_pass = &two,
    };
    g_autoptr(LuksHeader) h = NULL;
    g_autofree uint8_t *data = NULL;

    luks_options_init(&o);
    o.iter_time_ms = 1;
    store.size = luks_header_size(&o);
    data = store.data = g_malloc0(store.size);
    h = luks_create(&o, &one, &io, &error_abort);
    g_assert_cmpint(luks_payload_offset(h), ==, store.size);
    g_assert_true(opens(&store, &one));
    for (int n = 0; n < 2; n++) {
        store.writes_left = n;
        g_assert_cmpint(luks_amend(h, &add, &io, NULL), <, 0);
        g_assert_true(opens(&store, &one));
        g_assert_false(opens(&store, &two));
    }
    store.writes_left = -1;
    g_assert_cmpint(luks_amend(h, &add, &io, &error_abort), ==, 0);
    g_assert_true(opens(&store, &two));
    store.writes_left = 0;
    g_assert_cmpint(luks_amend(h, &erase, &io, NULL), <, 0);
    g_assert_true(opens(&store, &two));
    store.writes_left = -1;
    g_assert_cmpint(luks_amend(h, &erase, &io, &error_abort), ==, 0);
    g_assert_true(opens(&store, &one));
    g_assert_false(opens(&store, &two));
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    if (!crypto_available(NULL)) {
        g_test_message("no libgcrypt");
        return 77;
    }
    g_test_add_func("/crypto/xts-ieee", test_xts_ieee);
    for (int i = 0; i < ARRAY_SIZE(sector_cases); i++) {
        const CryptoSectorsConfig *c = &sector_cases[i].config;
        g_autofree char *name = g_strdup_printf(
            "/crypto/sectors/%s-%s-%s", QCryptoCipherAlgo_str(c->cipher),
            QCryptoCipherMode_str(c->mode), QCryptoIVGenAlgo_str(c->ivgen));

        g_test_add_data_func(name, &sector_cases[i], test_sectors);
    }
    g_test_add_func("/crypto/essiv-key-length", test_essiv_key_length);
    g_test_add_func("/crypto/key-length", test_key_length);
    g_test_add_func("/crypto/pbkdf2", test_pbkdf2);
    for (int i = 0; i < ARRAY_SIZE(af_cases); i++) {
        g_autofree char *name = g_strdup_printf(
            "/crypto/af/%s", QCryptoHashAlgo_str(af_cases[i].hash));

        g_test_add_data_func(name, &af_cases[i], test_af);
    }
    g_test_add_func("/crypto/luks-faults", test_luks_faults);
    return g_test_run();
}
