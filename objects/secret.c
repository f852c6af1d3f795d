/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Secrets. What a user gives is taken apart in this order: base64, if so said;
 * then, if another secret is named as the key, AES-256 in CBC mode with PKCS 7
 * padding. Memory that held any of it is wiped.
 */
#include "util/osdep.h"
#include <sys/syscall.h>
#include "crypto/cipher.h"
#include "objects/secret.h"
#include "util/base64.h"

#define KEY_LEN 32
/* Bytes; of a file, or a key of the kernel. */
#define MAX_SECRET (1024 * 1024)

/* keyctl(2) has no wrapper in the C library. */
#define KEYCTL_READ 11

void secret_copy_clear(SecretCopy *s)
{
    crypto_wipe_free(s->data, s->len);
    s->data = NULL;
    s->len = 0;
}

/* Takes over @data, of @len bytes in memory for one more. */
static void set_copy(SecretCopy *s, uint8_t *data, size_t len)
{
    secret_copy_clear(s);
    data[len] = 0;
    s->data = data;
    s->len = len;
}

/* --- taking it apart --- */

/* In place. */
static bool decode_base64(SecretCopy *s, Error **errp)
{
    size_t len;
    uint8_t *bytes = qbase64_decode((char *)s->data, s->len, &len, errp);

    if (!bytes) {
        return false;
    }
    crypto_wipe(bytes + len, s->len - len);
    set_copy(s, bytes, len);
    return true;
}

static bool remove_padding(SecretCopy *s, Error **errp)
{
    uint8_t pad = s->len ? s->data[s->len - 1] : 0;

    if (!pad || pad > CRYPTO_BLOCK_SIZE || pad > s->len) {
        error_setg(errp, "Incorrect number of padding bytes (%d) found on "
                   "decrypted data", pad);
        return false;
    }
    s->len -= pad;
    s->data[s->len] = 0;
    return true;
}

/* Decrypts @s in place. */
static bool decrypt_with(CryptoCipher *cipher, const SecretCopy *iv,
                         SecretCopy *s, Error **errp)
{
    CryptoCipherOp *op = crypto_cipher_get(cipher);
    int ret = op ? crypto_cipher_decrypt(op, iv->data, s->data, s->len)
                 : -ENOMEM;

    if (op) {
        crypto_cipher_put(cipher, op);
    }
    if (ret < 0) {
        error_setg(errp, "Could not decrypt the secret");
        return false;
    }
    return remove_padding(s, errp);
}

static bool decrypt(SecretCopy *s, const char *keyid, const char *iv_text,
                    Error **errp)
{
    g_auto(SecretCopy) key = { 0 };
    g_auto(SecretCopy) iv = { 0 };
    g_autoptr(CryptoCipher) cipher = NULL;

    if (!secret_lookup(keyid, &key, errp)) {
        return false;
    }
    if (key.len != KEY_LEN) {
        error_setg(errp, "Key should be %d bytes in length", KEY_LEN);
        return false;
    }
    if (!iv_text) {
        error_setg(errp, "IV is required to decrypt secret");
        return false;
    }
    iv.len = strlen(iv_text);
    iv.data = (uint8_t *)g_strdup(iv_text);
    if (!decode_base64(&iv, errp)) {
        return false;
    }
    if (iv.len != CRYPTO_BLOCK_SIZE) {
        error_setg(errp, "IV should be %d bytes in length not %zu",
                   CRYPTO_BLOCK_SIZE, iv.len);
        return false;
    }
    if (s->len % CRYPTO_BLOCK_SIZE) {
        error_setg(errp, "Length %zu must be a multiple of block size %d",
                   s->len, CRYPTO_BLOCK_SIZE);
        return false;
    }
    cipher = crypto_cipher_new(QCRYPTO_CIPHER_ALGO_AES_256,
                               QCRYPTO_CIPHER_MODE_CBC, key.data, key.len,
                               errp);
    return cipher && decrypt_with(cipher, &iv, s, errp);
}

/* What the user gave becomes the secret; NULL with @errp. */
static SecretCopy *finish(SecretCopy *raw, const SecretCommonProperties *p,
                          Error **errp)
{
    SecretCopy *s;

    if (p->has_format && p->format == QCRYPTO_SECRET_FORMAT_BASE64 &&
        !decode_base64(raw, errp)) {
        return NULL;
    }
    if (p->keyid && !decrypt(raw, p->keyid, p->iv, errp)) {
        return NULL;
    }
    s = g_new(SecretCopy, 1);
    *s = *raw;
    *raw = (SecretCopy) { 0 };
    return s;
}

static void secret_destroy(void *data)
{
    secret_copy_clear(data);
    g_free(data);
}

/* --- where it comes from --- */

static bool read_file(const char *name, SecretCopy *s, Error **errp)
{
    g_autoptr(GError) gerr = NULL;
    char *content;
    gsize len;

    if (!g_file_get_contents(name, &content, &len, &gerr)) {
        error_setg(errp, "Unable to read %s: %s", name, gerr->message);
        return false;
    }
    s->data = (uint8_t *)content;
    s->len = len;
    if (len > MAX_SECRET) {
        error_setg(errp, "Secret in %s is larger than %d bytes", name,
                   MAX_SECRET);
        return false;
    }
    return true;
}

static void *secret_create(const ObjectOptions *options, Error **errp)
{
    const SecretProperties *p = &options->u.secret;
    g_auto(SecretCopy) raw = { 0 };

    if (p->data && p->file) {
        error_setg(errp, "'file' and 'data' are mutually exclusive");
        return NULL;
    }
    if (!p->data && !p->file) {
        error_setg(errp, "Either 'file' or 'data' must be provided");
        return NULL;
    }
    if (p->data) {
        raw.len = strlen(p->data);
        raw.data = (uint8_t *)g_strdup(p->data);
    } else if (!read_file(p->file, &raw, errp)) {
        return NULL;
    }
    return finish(&raw, qapi_SecretProperties_base(p), errp);
}

static void *keyring_create(const ObjectOptions *options, Error **errp)
{
    const SecretKeyringProperties *p = &options->u.secret_keyring;
    g_auto(SecretCopy) raw = { 0 };
    uint8_t *data = g_malloc(MAX_SECRET + 1);
    long len = syscall(__NR_keyctl, KEYCTL_READ, p->serial, data, MAX_SECRET);

    if (len < 0 || len > MAX_SECRET) {
        error_setg_errno(errp, len < 0 ? errno : EFBIG,
                         "Unable to read serial key %08x", p->serial);
        g_free(data);
        return NULL;
    }
    set_copy(&raw, data, len);
    return finish(&raw, qapi_SecretKeyringProperties_base(p), errp);
}

/* --- types --- */

static const QomProperty common_properties[] = {
    { "format", "QCryptoSecretFormat", user_object_get_option,
      .initial = "\"raw\"" },
    { "keyid", "string", user_object_get_option },
    { "iv", "string", user_object_get_option },
    { }
};

static const QomType common_type = {
    .name = "secret_common",
    .parent = &qom_type_object,
    .abstract = true,
    .user_creatable = true,
    .properties = common_properties,
    .members = qapi_SecretCommonProperties_members,
};

static const QomProperty secret_properties[] = {
    { "data", "string", NULL },     /* nobody gets it back */
    { "file", "string", user_object_get_option },
    { }
};

static const QomProperty keyring_properties[] = {
    { "serial", "int32_t", user_object_get_option },
    { }
};

const UserObjectClass secret_class = {
    .type = OBJECT_TYPE_SECRET,
    .qom = {
        .name = "secret",
        .parent = &common_type,
        .properties = secret_properties,
        .members = qapi_SecretProperties_members,
    },
    .create = secret_create,
    .destroy = secret_destroy,
};

const UserObjectClass secret_keyring_class = {
    .type = OBJECT_TYPE_SECRET_KEYRING,
    .qom = {
        .name = "secret_keyring",
        .parent = &common_type,
        .properties = keyring_properties,
        .members = qapi_SecretKeyringProperties_members,
    },
    .create = keyring_create,
    .destroy = secret_destroy,
};

/* --- looking it up --- */

bool secret_lookup(const char *id, SecretCopy *s, Error **errp)
{
    ObjectType type = OBJECT_TYPE__MAX;
    const SecretCopy *found = user_object_find_data(id, &type);

    if (!found) {
        error_setg(errp, "No secret with id '%s'", id);
        return false;
    }
    if (type != OBJECT_TYPE_SECRET && type != OBJECT_TYPE_SECRET_KEYRING) {
        error_setg(errp, "Object with id '%s' is not a secret", id);
        return false;
    }
    s->len = found->len;
    s->data = g_malloc(found->len + 1);
    memcpy(s->data, found->data, found->len + 1);
    return true;
}

bool secret_lookup_text(const char *id, SecretCopy *s, Error **errp)
{
    if (!secret_lookup(id, s, errp)) {
        return false;
    }
    if (!g_utf8_validate((char *)s->data, s->len, NULL)) {
        error_setg(errp, "Data from secret %s is not valid UTF-8", id);
        secret_copy_clear(s);
        return false;
    }
    return true;
}
