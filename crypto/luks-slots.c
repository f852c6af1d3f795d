/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Key slots: the master key, split into stripes that are encrypted with a key
 * which a passphrase and many iterations of a hash give.
 */
#include "util/osdep.h"
#include "crypto/af.h"
#include "crypto/luks-int.h"

/* What encrypts the stripes of @slot. */
static CryptoSectors *slot_sectors(const LuksHeader *h, const LuksSlot *slot,
                                   const LuksPass *pass, Error **errp)
{
    g_autofree uint8_t *key = g_malloc(h->key_len);
    CryptoSectors *s = NULL;

    if (crypto_pbkdf2(h->hash, pass->data, pass->len, slot->salt,
                      LUKS_SALT_LEN, slot->iters, key, h->key_len) < 0) {
        error_setg(errp, "Could not derive a key from the passphrase");
    } else {
        s = crypto_sectors_new(&h->sectors, key, errp);
    }
    crypto_wipe(key, h->key_len);
    return s;
}

/* Whether it is the master key: 1, 0, -errno. */
static int check_key(const LuksHeader *h, const uint8_t *key, Error **errp)
{
    uint8_t digest[LUKS_DIGEST_LEN];

    if (crypto_pbkdf2(h->hash, key, h->key_len, h->digest_salt, LUKS_SALT_LEN,
                      h->digest_iters, digest, sizeof(digest)) < 0) {
        error_setg(errp, "Could not compute the digest of the master key");
        return -EIO;
    }
    return !memcmp(digest, h->digest, sizeof(digest));
}

static int open_material(const LuksHeader *h, const LuksSlot *slot,
                         const LuksPass *pass, uint8_t *material, size_t size,
                         uint8_t *key, Error **errp)
{
    g_autoptr(CryptoSectors) sectors = slot_sectors(h, slot, pass, errp);

    if (!sectors) {
        return -EIO;
    }
    if (crypto_sectors_decrypt(sectors, 0, material, size) < 0 ||
        crypto_af_merge(h->hash, h->key_len, slot->stripes, material,
                        key) < 0) {
        error_setg(errp, "Could not decrypt a keyslot");
        return -EIO;
    }
    return check_key(h, key, errp);
}

int luks_slot_try(const LuksHeader *h, int i, const LuksPass *pass,
                  const LuksIo *io, uint8_t *key, Error **errp)
{
    const LuksSlot *slot = &h->slots[i];
    size_t size = luks_material_size(h->key_len, slot->stripes);
    g_autofree uint8_t *material = g_malloc(size);
    int ret;

    ret = io->read(io->opaque, (uint64_t)slot->offset * CRYPTO_SECTOR_SIZE,
                   material, size);
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Failed to read key material");
        return ret;
    }
    ret = open_material(h, slot, pass, material, size, key, errp);
    crypto_wipe(material, size);
    return ret;
}

static int fill_material(const LuksHeader *h, const LuksSlot *slot,
                         const LuksPass *pass, uint8_t *material, size_t size,
                         Error **errp)
{
    g_autoptr(CryptoSectors) sectors = slot_sectors(h, slot, pass, errp);

    if (!sectors) {
        return -EIO;
    }
    if (crypto_af_split(h->hash, h->key_len, slot->stripes, h->key,
                        material) < 0 ||
        crypto_sectors_encrypt(sectors, 0, material, size) < 0) {
        error_setg(errp, "Could not encrypt a keyslot");
        return -EIO;
    }
    return 0;
}

int luks_slot_set(LuksHeader *h, int i, const LuksPass *pass,
                  uint64_t iter_time_ms, const LuksIo *io, Error **errp)
{
    LuksSlot slot = h->slots[i], old = slot;
    size_t size = luks_material_size(h->key_len, slot.stripes);
    g_autofree uint8_t *material = g_malloc0(size);
    uint64_t iters = crypto_pbkdf2_rate(h->hash, LUKS_SALT_LEN, h->key_len,
                                        iter_time_ms);
    int ret;

    /* Half of the time: it is spent twice, on the key and on its check. */
    slot.iters = MIN(MAX(iters / 2, LUKS_MIN_ITERS), LUKS_MAX_ITERS);
    slot.active = true;
    crypto_random(slot.salt, LUKS_SALT_LEN);
    ret = fill_material(h, &slot, pass, material, size, errp);
    if (ret == 0) {
        ret = io->write(io->opaque, (uint64_t)slot.offset * CRYPTO_SECTOR_SIZE,
                        material, size);
        if (ret < 0) {
            error_setg_errno(errp, -ret, "Unable to write key material");
        }
    }
    crypto_wipe(material, size);
    if (ret < 0) {
        return ret;
    }
    h->slots[i] = slot;
    ret = luks_header_write(h, io, errp);
    if (ret < 0) {
        h->slots[i] = old;
    }
    return ret;
}

int luks_slot_erase(LuksHeader *h, int i, const LuksIo *io, Error **errp)
{
    LuksSlot *slot = &h->slots[i], old = *slot;
    size_t size = luks_material_size(h->key_len, slot->stripes);
    g_autofree uint8_t *garbage = g_malloc(size);
    int ret;

    slot->active = false;
    slot->iters = 0;
    memset(slot->salt, 0, LUKS_SALT_LEN);
    ret = luks_header_write(h, io, errp);
    if (ret < 0) {
        *slot = old;
        return ret;
    }
    crypto_random(garbage, size);
    ret = io->write(io->opaque, (uint64_t)slot->offset * CRYPTO_SECTOR_SIZE,
                    garbage, size);
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Unable to erase key material");
    }
    return ret;
}
