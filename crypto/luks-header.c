/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The LUKS header as it lies on disk, big-endian:
 *
 *     0  6 magic          104  4 payload offset (sectors)
 *     6  2 version, 1     108  4 bytes of the master key
 *     8 32 cipher         112 20 its digest
 *    40 32 mode           132 32 salt of that
 *    72 32 hash           164  4 iterations of that
 *                         168 40 uuid
 *   208 48 each of 8 slots: 0 4 state, 4 4 iterations, 8 32 salt,
 *          40 4 offset of the material (sectors), 44 4 stripes
 */
#include "util/osdep.h"
#include "crypto/luks-int.h"
#include "util/bswap.h"

#define SLOT_ACTIVE 0x00ac71f3
#define SLOT_INACTIVE 0x0000dead
#define SLOTS_OFFSET 208
#define SLOT_BYTES 48
#define NAME_LEN 32
#define MAX_STRIPES 65536

uint64_t luks_material_size(uint32_t key_len, uint32_t stripes)
{
    return ROUND_UP((uint64_t)key_len * stripes, CRYPTO_SECTOR_SIZE);
}

/* --- names --- */

/* "aes" and a length: which cipher. */
static bool parse_cipher(LuksHeader *h, const char *name, Error **errp)
{
    size_t len = strlen(name);

    for (int i = 0; i < QCRYPTO_CIPHER_ALGO__MAX; i++) {
        const char *full = QCryptoCipherAlgo_str(i);

        if (!strncmp(full, name, len) && full[len] == '-' &&
            crypto_cipher_key_len(i, h->sectors.mode) == h->key_len) {
            h->sectors.cipher = i;
            return true;
        }
    }
    error_setg(errp, "Algorithm '%s' with key size %" PRIu32 " bytes not "
               "supported", name, h->key_len);
    return false;
}

/* Cut at @sep; what follows, or NULL. */
static char *cut(char *text, char sep)
{
    char *p = strchr(text, sep);

    if (p) {
        *p++ = 0;
    }
    return p;
}

/* "xts-plain64", "cbc-essiv:sha256". */
static bool parse_mode(LuksHeader *h, char *text, Error **errp)
{
    char *ivgen = cut(text, '-');
    char *hash = ivgen ? cut(ivgen, ':') : NULL;
    int mode, gen, alg;

    if (!ivgen) {
        error_setg(errp, "Unexpected cipher mode string format '%s'", text);
        return false;
    }
    mode = qapi_enum_parse(&QCryptoCipherMode_lookup, text, -1, NULL);
    if (mode < 0) {
        error_setg(errp, "Algorithm '%s' not supported", text);
        return false;
    }
    gen = qapi_enum_parse(&QCryptoIVGenAlgo_lookup, ivgen, -1, NULL);
    if (gen < 0) {
        error_setg(errp, "Algorithm '%s' not supported", ivgen);
        return false;
    }
    h->sectors.mode = mode;
    h->sectors.ivgen = gen;
    if (gen != QCRYPTO_IV_GEN_ALGO_ESSIV) {
        return true;
    }
    if (!hash) {
        error_setg(errp, "Missing IV generator hash specification");
        return false;
    }
    alg = qapi_enum_parse(&QCryptoHashAlgo_lookup, hash, -1, NULL);
    if (alg < 0) {
        error_setg(errp, "Hash algorithm '%s' not supported", hash);
        return false;
    }
    h->sectors.ivgen_hash = alg;
    return true;
}

static bool parse_names(LuksHeader *h, const uint8_t *buf, Error **errp)
{
    g_autofree char *cipher = g_strndup((const char *)buf + 8, NAME_LEN);
    g_autofree char *mode = g_strndup((const char *)buf + 40, NAME_LEN);
    g_autofree char *hash = g_strndup((const char *)buf + 72, NAME_LEN);
    int alg = qapi_enum_parse(&QCryptoHashAlgo_lookup, hash, -1, NULL);

    if (!parse_mode(h, mode, errp) || !parse_cipher(h, cipher, errp)) {
        return false;
    }
    if (alg < 0) {
        error_setg(errp, "Hash algorithm '%s' not supported", hash);
        return false;
    }
    h->hash = alg;
    return true;
}

/* --- slots --- */

static bool parse_slot(LuksHeader *h, int i, const uint8_t *p, Error **errp)
{
    LuksSlot *slot = &h->slots[i];
    uint32_t state = ldl_be_p(p);

    slot->active = state == SLOT_ACTIVE;
    slot->iters = ldl_be_p(p + 4);
    memcpy(slot->salt, p + 8, LUKS_SALT_LEN);
    slot->offset = ldl_be_p(p + 40);
    slot->stripes = ldl_be_p(p + 44);
    if (state != SLOT_ACTIVE && state != SLOT_INACTIVE) {
        error_setg(errp, "Keyslot %d state is invalid", i);
        return false;
    }
    if (!slot->stripes || slot->stripes > MAX_STRIPES) {
        error_setg(errp, "Keyslot %d is corrupted (stripes %" PRIu32 ")", i,
                   slot->stripes);
        return false;
    }
    if (slot->active && (!slot->iters || slot->iters > LUKS_MAX_ITERS)) {
        error_setg(errp, "Keyslot %d is corrupted (iterations %" PRIu32 ")", i,
                   slot->iters);
        return false;
    }
    return true;
}

/* Slots lie behind the header, before the payload, and apart. */
static bool check_places(const LuksHeader *h, Error **errp)
{
    uint64_t header = DIV_ROUND_UP(LUKS_HEADER_BYTES, CRYPTO_SECTOR_SIZE);

    for (int i = 0; i < LUKS_SLOTS; i++) {
        uint64_t start = h->slots[i].offset;
        uint64_t end = start + luks_material_size(h->key_len,
                                                  h->slots[i].stripes) /
                               CRYPTO_SECTOR_SIZE;

        if (start < header) {
            error_setg(errp, "Keyslot %d is overlapping with the LUKS header",
                       i);
            return false;
        }
        if (end > h->payload) {
            error_setg(errp, "Keyslot %d is overlapping with the encrypted "
                       "payload", i);
            return false;
        }
        for (int j = 0; j < i; j++) {
            uint64_t other = h->slots[j].offset;
            uint64_t other_end =
                other + luks_material_size(h->key_len, h->slots[j].stripes) /
                        CRYPTO_SECTOR_SIZE;

            if (start < other_end && other < end) {
                error_setg(errp, "Keyslots %d and %d are overlapping in the "
                           "header", j, i);
                return false;
            }
        }
    }
    return true;
}

/* --- all of it --- */

bool luks_header_parse(LuksHeader *h, const uint8_t *buf, Error **errp)
{
    if (memcmp(buf, LUKS_MAGIC, LUKS_MAGIC_LEN)) {
        error_setg(errp, "Volume is not in LUKS format");
        return false;
    }
    if (lduw_be_p(buf + 6) != 1) {
        error_setg(errp, "LUKS version %u is not supported",
                   (unsigned)lduw_be_p(buf + 6));
        return false;
    }
    h->payload = ldl_be_p(buf + 104);
    h->key_len = ldl_be_p(buf + 108);
    memcpy(h->digest, buf + 112, LUKS_DIGEST_LEN);
    memcpy(h->digest_salt, buf + 132, LUKS_SALT_LEN);
    h->digest_iters = ldl_be_p(buf + 164);
    memcpy(h->uuid, buf + 168, LUKS_UUID_LEN);
    if (!g_utf8_validate(h->uuid, -1, NULL)) {
        error_setg(errp, "The UUID of the LUKS header is no text");
        return false;
    }
    if (!parse_names(h, buf, errp)) {
        return false;
    }
    if (!h->digest_iters || h->digest_iters > LUKS_MAX_ITERS) {
        error_setg(errp, "The LUKS header is corrupted (iterations of the "
                   "master key %" PRIu32 ")", h->digest_iters);
        return false;
    }
    for (int i = 0; i < LUKS_SLOTS; i++) {
        if (!parse_slot(h, i, buf + SLOTS_OFFSET + i * SLOT_BYTES, errp)) {
            return false;
        }
    }
    return check_places(h, errp);
}

void luks_header_build(const LuksHeader *h, uint8_t *buf)
{
    const char *cipher = QCryptoCipherAlgo_str(h->sectors.cipher);
    g_autofree char *mode = NULL;

    memset(buf, 0, LUKS_HEADER_BYTES);
    memcpy(buf, LUKS_MAGIC, LUKS_MAGIC_LEN);
    stw_be_p(buf + 6, 1);
    memcpy(buf + 8, cipher, strcspn(cipher, "-"));
    mode = g_strdup_printf("%s-%s%s%s",
                           QCryptoCipherMode_str(h->sectors.mode),
                           QCryptoIVGenAlgo_str(h->sectors.ivgen),
                           h->sectors.ivgen == QCRYPTO_IV_GEN_ALGO_ESSIV
                               ? ":" : "",
                           h->sectors.ivgen == QCRYPTO_IV_GEN_ALGO_ESSIV
                               ? QCryptoHashAlgo_str(h->sectors.ivgen_hash)
                               : "");
    memcpy(buf + 40, mode, MIN(strlen(mode), NAME_LEN));
    memcpy(buf + 72, QCryptoHashAlgo_str(h->hash),
           strlen(QCryptoHashAlgo_str(h->hash)));
    stl_be_p(buf + 104, h->payload);
    stl_be_p(buf + 108, h->key_len);
    memcpy(buf + 112, h->digest, LUKS_DIGEST_LEN);
    memcpy(buf + 132, h->digest_salt, LUKS_SALT_LEN);
    stl_be_p(buf + 164, h->digest_iters);
    memcpy(buf + 168, h->uuid, LUKS_UUID_LEN);
    for (int i = 0; i < LUKS_SLOTS; i++) {
        uint8_t *p = buf + SLOTS_OFFSET + i * SLOT_BYTES;
        const LuksSlot *slot = &h->slots[i];

        stl_be_p(p, slot->active ? SLOT_ACTIVE : SLOT_INACTIVE);
        stl_be_p(p + 4, slot->iters);
        memcpy(p + 8, slot->salt, LUKS_SALT_LEN);
        stl_be_p(p + 40, slot->offset);
        stl_be_p(p + 44, slot->stripes);
    }
}

int luks_header_write(const LuksHeader *h, const LuksIo *io, Error **errp)
{
    uint8_t buf[LUKS_HEADER_BYTES];
    int ret;

    luks_header_build(h, buf);
    ret = io->write(io->opaque, 0, buf, sizeof(buf));
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Unable to write encryption header");
    }
    return ret;
}
