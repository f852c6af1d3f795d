/* SPDX-License-Identifier: GPL-2.0-or-later */
/* LUKS headers: making, opening, changing the passphrases. */
#include "util/osdep.h"
#include "crypto/luks-int.h"
#include "qapi/util.h"

void luks_options_init(LuksOptions *o)
{
    *o = (LuksOptions) {
        .sectors = {
            .cipher = QCRYPTO_CIPHER_ALGO_AES_256,
            .mode = QCRYPTO_CIPHER_MODE_XTS,
            .ivgen = QCRYPTO_IV_GEN_ALGO_PLAIN64,
            .ivgen_hash = QCRYPTO_HASH_ALGO_SHA256,
        },
        .hash = QCRYPTO_HASH_ALGO_SHA256,
        .iter_time_ms = 2000,
    };
}

static uint64_t slot_size(const LuksOptions *o)
{
    size_t key_len = crypto_cipher_key_len(o->sectors.cipher,
                                           o->sectors.mode);

    return ROUND_UP(luks_material_size(key_len, LUKS_STRIPES), LUKS_ALIGN);
}

uint64_t luks_header_size(const LuksOptions *o)
{
    return LUKS_ALIGN + LUKS_SLOTS * slot_size(o);
}

/* --- making --- */

static bool make_key(LuksHeader *h, const LuksOptions *o, Error **errp)
{
    uint64_t iters = crypto_pbkdf2_rate(h->hash, LUKS_SALT_LEN,
                                        LUKS_DIGEST_LEN, o->iter_time_ms);

    h->key = g_malloc(h->key_len);
    crypto_random(h->key, h->key_len);
    crypto_random(h->digest_salt, LUKS_SALT_LEN);
    h->digest_iters = MIN(MAX(iters / 8, LUKS_MIN_ITERS), LUKS_MAX_ITERS);
    if (crypto_pbkdf2(h->hash, h->key, h->key_len, h->digest_salt,
                      LUKS_SALT_LEN, h->digest_iters, h->digest,
                      LUKS_DIGEST_LEN) < 0) {
        error_setg(errp, "Could not compute the digest of the master key");
        return false;
    }
    return true;
}

LuksHeader *luks_create(const LuksOptions *o, const LuksPass *pass,
                        const LuksIo *io, Error **errp)
{
    g_autoptr(LuksHeader) h = g_new0(LuksHeader, 1);
    g_autoptr(CryptoSectors) sectors = NULL;
    g_autofree char *uuid = g_uuid_string_random();

    if (!crypto_available(errp)) {
        return NULL;
    }
    h->sectors = o->sectors;
    h->hash = o->hash;
    h->key_len = crypto_cipher_key_len(o->sectors.cipher, o->sectors.mode);
    h->payload = luks_header_size(o) / CRYPTO_SECTOR_SIZE;
    g_strlcpy(h->uuid, uuid, sizeof(h->uuid));
    for (int i = 0; i < LUKS_SLOTS; i++) {
        h->slots[i].offset = (LUKS_ALIGN + i * slot_size(o)) /
                             CRYPTO_SECTOR_SIZE;
        h->slots[i].stripes = LUKS_STRIPES;
    }
    if (!make_key(h, o, errp)) {
        return NULL;
    }
    /* Whether all of it goes together is found before anything is written. */
    sectors = luks_sectors(h, errp);
    if (!sectors || luks_slot_set(h, 0, pass, o->iter_time_ms, io, errp) < 0) {
        return NULL;
    }
    return g_steal_pointer(&h);
}

/* --- opening --- */

LuksHeader *luks_open(const LuksIo *io, Error **errp)
{
    g_autoptr(LuksHeader) h = g_new0(LuksHeader, 1);
    uint8_t buf[LUKS_HEADER_BYTES];
    int ret;

    if (!crypto_available(errp)) {
        return NULL;
    }
    ret = io->read(io->opaque, 0, buf, sizeof(buf));
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Unable to read LUKS header");
        return NULL;
    }
    if (!luks_header_parse(h, buf, errp)) {
        return NULL;
    }
    return g_steal_pointer(&h);
}

void luks_free(LuksHeader *h)
{
    if (h) {
        crypto_wipe_free(h->key, h->key_len);
        g_free(h);
    }
}

static bool same_disk(const LuksHeader *a, const LuksHeader *b)
{
    return a->sectors.cipher == b->sectors.cipher &&
           a->sectors.mode == b->sectors.mode &&
           a->sectors.ivgen == b->sectors.ivgen &&
           a->sectors.ivgen_hash == b->sectors.ivgen_hash &&
           a->hash == b->hash && a->payload == b->payload &&
           a->key_len == b->key_len && a->digest_iters == b->digest_iters &&
           !memcmp(a->digest, b->digest, sizeof(a->digest)) &&
           !memcmp(a->digest_salt, b->digest_salt, sizeof(a->digest_salt));
}

int luks_reload(LuksHeader *h, const LuksIo *io, Error **errp)
{
    g_autoptr(LuksHeader) found = luks_open(io, errp);

    if (!found) {
        return -EINVAL;
    }
    if (!same_disk(h, found)) {
        error_setg(errp, "The image has another LUKS header");
        return -EINVAL;
    }
    memcpy(h->slots, found->slots, sizeof(h->slots));
    return 0;
}

int luks_unlock(LuksHeader *h, const LuksPass *pass, const LuksIo *io,
                Error **errp)
{
    uint8_t *key = g_malloc(h->key_len);

    for (int i = 0; i < LUKS_SLOTS; i++) {
        int ret = h->slots[i].active
                      ? luks_slot_try(h, i, pass, io, key, errp) : 0;

        if (ret > 0) {
            crypto_wipe_free(h->key, h->key_len);
            h->key = key;
            return 0;
        }
        if (ret < 0) {
            crypto_wipe_free(key, h->key_len);
            return ret;
        }
    }
    crypto_wipe_free(key, h->key_len);
    error_setg(errp, "Invalid password, cannot unlock any keyslot");
    return -EPERM;
}

CryptoSectors *luks_sectors(const LuksHeader *h, Error **errp)
{
    assert(h->key);
    return crypto_sectors_new(&h->sectors, h->key, errp);
}

uint64_t luks_payload_offset(const LuksHeader *h)
{
    return (uint64_t)h->payload * CRYPTO_SECTOR_SIZE;
}

QCryptoBlockInfoLUKS *luks_info(const LuksHeader *h)
{
    QCryptoBlockInfoLUKS *info = g_new0(QCryptoBlockInfoLUKS, 1);
    QCryptoBlockInfoLUKSSlotList **tail = &info->slots;

    info->cipher_alg = h->sectors.cipher;
    info->cipher_mode = h->sectors.mode;
    info->ivgen_alg = h->sectors.ivgen;
    info->has_ivgen_hash_alg = h->sectors.ivgen == QCRYPTO_IV_GEN_ALGO_ESSIV;
    info->ivgen_hash_alg = h->sectors.ivgen_hash;
    info->hash_alg = h->hash;
    info->payload_offset = luks_payload_offset(h);
    info->master_key_iters = h->digest_iters;
    info->uuid = g_strdup(h->uuid);
    for (int i = 0; i < LUKS_SLOTS; i++) {
        const LuksSlot *s = &h->slots[i];
        QCryptoBlockInfoLUKSSlot *slot = g_new0(QCryptoBlockInfoLUKSSlot, 1);

        slot->active = s->active;
        slot->has_iters = slot->has_stripes = s->active;
        slot->iters = s->iters;
        slot->stripes = s->stripes;
        slot->key_offset = (int64_t)s->offset * CRYPTO_SECTOR_SIZE;
        QAPI_LIST_APPEND(tail, slot);
    }
    return info;
}

/* --- changing the passphrases --- */

static int count_active(const LuksHeader *h)
{
    int n = 0;

    for (int i = 0; i < LUKS_SLOTS; i++) {
        n += h->slots[i].active;
    }
    return n;
}

static int activate(LuksHeader *h, const LuksAmend *a, const LuksIo *io,
                    Error **errp)
{
    int slot = a->keyslot;

    if (!a->new_pass) {
        error_setg(errp, "'new-secret' is required to activate a keyslot");
        return -EINVAL;
    }
    if (a->old_pass) {
        error_setg(errp, "'old-secret' must not be given when activating "
                   "keyslots");
        return -EINVAL;
    }
    if (a->has_keyslot && h->slots[slot].active && !a->force) {
        error_setg(errp, "Refusing to overwrite active keyslot %d - please "
                   "erase it first", slot);
        return -EINVAL;
    }
    for (slot = a->has_keyslot ? slot : 0;
         !a->has_keyslot && slot < LUKS_SLOTS && h->slots[slot].active;
         slot++) {
    }
    if (slot == LUKS_SLOTS) {
        error_setg(errp, "Can't add a keyslot - all keyslots are in use");
        return -EINVAL;
    }
    if (!h->key) {
        error_setg(errp, "The image is locked");
        return -EPERM;
    }
    return luks_slot_set(h, slot, a->new_pass,
                         a->has_iter_time ? a->iter_time_ms : 2000, io, errp);
}

/* Which active slots the passphrase opens: bits, or -errno. */
static int matching_slots(const LuksHeader *h, const LuksAmend *a,
                          const LuksIo *io, Error **errp)
{
    g_autofree uint8_t *key = g_malloc(h->key_len);
    int bits = 0, ret = 0;

    for (int i = 0; ret >= 0 && i < LUKS_SLOTS; i++) {
        if (h->slots[i].active && (!a->has_keyslot || i == a->keyslot)) {
            ret = luks_slot_try(h, i, a->old_pass, io, key, errp);
            bits |= (ret > 0) << i;
        }
    }
    crypto_wipe(key, h->key_len);
    return ret < 0 ? ret : bits;
}

/* The one slot that is named: its bit, or -errno. */
static int named_slot(const LuksHeader *h, const LuksAmend *a,
                      const LuksIo *io, Error **errp)
{
    int slot = a->keyslot;

    if (!h->slots[slot].active) {
        error_setg(errp, "Given keyslot %d is already erased (inactive)",
                   slot);
        return -EINVAL;
    }
    if (a->old_pass) {
        int bits = matching_slots(h, a, io, errp);

        if (bits <= 0) {
            if (bits == 0) {
                error_setg(errp, "Given keyslot %d doesn't contain the given "
                           "old password for erase operation", slot);
            }
            return bits ?: -EINVAL;
        }
    }
    if (count_active(h) == 1 && !a->force) {
        error_setg(errp, "Attempt to erase the only active keyslot %d which "
                   "will erase all the data in the image irreversibly - "
                   "refusing operation", slot);
        return -EINVAL;
    }
    return 1 << slot;
}

static int slots_by_password(const LuksHeader *h, const LuksAmend *a,
                             const LuksIo *io, Error **errp)
{
    int bits = matching_slots(h, a, io, errp);

    if (bits == 0) {
        error_setg(errp, "No keyslots match given (old) password for erase "
                   "operation");
        return -EINVAL;
    }
    if (bits > 0 && __builtin_popcount(bits) == count_active(h) && !a->force) {
        error_setg(errp, "All the active keyslots match the (old) password "
                   "that was given and erasing them will erase all the data "
                   "in the image irreversibly - refusing operation");
        return -EINVAL;
    }
    return bits;
}

static int deactivate(LuksHeader *h, const LuksAmend *a, const LuksIo *io,
                      Error **errp)
{
    int bits, ret = 0;

    if (a->new_pass || a->has_iter_time) {
        error_setg(errp, "'%s' must not be given when erasing keyslots",
                   a->new_pass ? "new-secret" : "iter-time");
        return -EINVAL;
    }
    if (!a->has_keyslot && !a->old_pass) {
        error_setg(errp, "To erase keyslot(s), either explicit keyslot index "
                   "or the password currently contained in them must be given");
        return -EINVAL;
    }
    bits = a->has_keyslot ? named_slot(h, a, io, errp)
                          : slots_by_password(h, a, io, errp);
    for (int i = 0; bits > 0 && ret == 0 && i < LUKS_SLOTS; i++) {
        if (bits >> i & 1) {
            ret = luks_slot_erase(h, i, io, errp);
        }
    }
    return bits < 0 ? bits : ret;
}

int luks_amend(LuksHeader *h, const LuksAmend *a, const LuksIo *io,
               Error **errp)
{
    if (a->has_keyslot && (a->keyslot < 0 || a->keyslot >= LUKS_SLOTS)) {
        error_setg(errp, "Invalid keyslot %" PRId64 " specified, must be "
                   "between 0 and %d", a->keyslot, LUKS_SLOTS - 1);
        return -EINVAL;
    }
    return a->state == QCRYPTO_BLOCK_LUKS_KEYSLOT_STATE_ACTIVE
               ? activate(h, a, io, errp) : deactivate(h, a, io, errp);
}
