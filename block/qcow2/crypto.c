/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Encryption of guest data: method 2 has a LUKS header in clusters of its own,
 * which a header extension names, and counts sectors from the start of the file;
 * method 1, the old one, takes the passphrase for an AES key and counts them on
 * the disk. Compressed clusters and metadata are never encrypted.
 *
 * The extension is kept like an unknown one.
 */
#include "util/osdep.h"
#include "block/qcow2/qcow2.h"
#include "util/bswap.h"
#include "util/iov.h"

#define AES_KEY_LEN 16

/* --- open --- */

/* The place of the LUKS header. */
static bool find_header(BlockDriverState *bs, BdrvLuksArea *area, Error **errp)
{
    BDRVQcow2State *s = bs->opaque;
    Qcow2UnknownHeaderExtension *ext;

    QTAILQ_FOREACH(ext, &s->unknown_header_ext, next) {
        if (ext->magic == QCOW2_EXT_MAGIC_CRYPTO_HEADER) {
            break;
        }
    }
    if (!ext) {
        error_setg(errp, "CRYPTO header extension missing");
        return false;
    }
    if (ext->len != 16) {
        error_setg(errp, "CRYPTO header extension size %u, but expected size "
                   "%d", ext->len, 16);
        return false;
    }
    *area = (BdrvLuksArea) {
        .child = bs->file,
        .offset = ldq_be_p(ext->data), .size = ldq_be_p(ext->data + 8),
    };
    if (offset_into_cluster(s, area->offset) || !area->offset) {
        error_setg(errp, "Encryption header offset '%" PRIu64 "' is not a "
                   "multiple of cluster size '%d'", area->offset,
                   s->cluster_size);
        return false;
    }
    if (area->offset >= QCOW_MAX_HOST_OFFSET ||
        area->size > QCOW_MAX_HOST_OFFSET - area->offset) {
        error_setg(errp, "Encryption header is too large");
        return false;
    }
    return true;
}

static int open_luks(BlockDriverState *bs, const SecretCopy *secret,
                     Error **errp)
{
    BDRVQcow2State *s = bs->opaque;
    BdrvLuksArea area;
    LuksIo io;
    int ret;

    if (!find_header(bs, &area, errp)) {
        return -EINVAL;
    }
    io = bdrv_luks_io(&area);
    s->luks = luks_open(&io, errp);
    if (!s->luks) {
        return -EINVAL;
    }
    if (secret->data) {
        const LuksPass pass = { secret->data, secret->len };

        ret = luks_unlock(s->luks, &pass, &io, errp);
        if (ret < 0) {
            return ret;
        }
        s->crypto = luks_sectors(s->luks, errp);
    }
    return secret->data && !s->crypto ? -EINVAL : 0;
}

static int open_aes(BlockDriverState *bs, const SecretCopy *secret,
                    Error **errp)
{
    static const CryptoSectorsConfig config = {
        .cipher = QCRYPTO_CIPHER_ALGO_AES_128,
        .mode = QCRYPTO_CIPHER_MODE_CBC,
        .ivgen = QCRYPTO_IV_GEN_ALGO_PLAIN64,
    };
    BDRVQcow2State *s = bs->opaque;
    uint8_t key[AES_KEY_LEN] = { 0 };

    if (!secret->data) {
        return 0;
    }
    memcpy(key, secret->data, MIN(secret->len, sizeof(key)));
    s->crypto = crypto_sectors_new(&config, key, errp);
    crypto_wipe(key, sizeof(key));
    return s->crypto ? 0 : -EINVAL;
}

static bool check_format(const BDRVQcow2State *s,
                         const BlockdevQcow2Encryption *e, Error **errp)
{
    BlockdevQcow2EncryptionFormat format =
        s->crypt_method_header == QCOW_CRYPT_AES
            ? BLOCKDEV_QCOW2_ENCRYPTION_FORMAT_AES
            : BLOCKDEV_QCOW2_ENCRYPTION_FORMAT_LUKS;

    if (!e || !e->has_format) {
        return true;
    }
    if (s->crypt_method_header == QCOW_CRYPT_NONE) {
        error_setg(errp, "No encryption in image header, but options specified "
                   "format '%s'",
                   BlockdevQcow2EncryptionFormat_str(e->format));
        return false;
    }
    if (e->format != format) {
        error_setg(errp, "Header reported '%s' encryption format but options "
                   "specify '%s'", BlockdevQcow2EncryptionFormat_str(format),
                   BlockdevQcow2EncryptionFormat_str(e->format));
        return false;
    }
    return true;
}

int qcow2_crypto_open(BlockDriverState *bs, const BlockdevQcow2Encryption *e,
                      int flags, Error **errp)
{
    BDRVQcow2State *s = bs->opaque;
    g_auto(SecretCopy) secret = { 0 };

    if (!check_format(s, e, errp)) {
        return -EINVAL;
    }
    if (s->crypt_method_header == QCOW_CRYPT_NONE) {
        return 0;
    }
    if (!crypto_available(errp)) {
        return -ENOTSUP;
    }
    if (!(flags & BDRV_O_NO_IO) &&
        !bdrv_luks_pass("encrypt.", e ? e->key_secret : NULL, &secret, errp)) {
        return -EINVAL;
    }
    bs->encrypted = true;
    return s->crypt_method_header == QCOW_CRYPT_LUKS
               ? open_luks(bs, &secret, errp) : open_aes(bs, &secret, errp);
}

void qcow2_crypto_close(BDRVQcow2State *s)
{
    g_clear_pointer(&s->crypto, crypto_sectors_free);
    g_clear_pointer(&s->luks, luks_free);
}

/* --- requests --- */

/* Where the sectors are counted from. */
static uint64_t crypt_pos(const BDRVQcow2State *s, uint64_t offset,
                          uint64_t host)
{
    return s->crypt_method_header == QCOW_CRYPT_LUKS ? host : offset;
}

int coroutine_fn qcow2_data_read(BlockDriverState *bs, uint64_t offset,
                                 uint64_t host, uint64_t bytes,
                                 QEMUIOVector *qiov, size_t qiov_offset)
{
    BDRVQcow2State *s = bs->opaque;

    if (likely(!s->crypto)) {
        return bdrv_co_preadv_part(qcow2_data_child(bs), host, bytes, qiov,
                                   qiov_offset, 0);
    }
    return bdrv_co_preadv_decrypt(qcow2_data_child(bs), s->crypto,
                                  crypt_pos(s, offset, host), host, bytes,
                                  qiov, qiov_offset);
}

int coroutine_fn qcow2_data_write(BlockDriverState *bs, uint64_t offset,
                                  uint64_t host, uint64_t bytes,
                                  QEMUIOVector *qiov, size_t qiov_offset)
{
    BDRVQcow2State *s = bs->opaque;

    if (likely(!s->crypto)) {
        return bdrv_co_pwritev_part(qcow2_data_child(bs), host, bytes, qiov,
                                    qiov_offset, 0);
    }
    return bdrv_co_pwritev_encrypt(qcow2_data_child(bs), s->crypto,
                                   crypt_pos(s, offset, host), host, bytes,
                                   qiov, qiov_offset, 0);
}

/* --- what is told, and changed --- */

ImageInfoSpecificQCow2Encryption *qcow2_crypto_info(const BDRVQcow2State *s)
{
    ImageInfoSpecificQCow2Encryption *e;

    if (s->crypt_method_header == QCOW_CRYPT_NONE) {
        return NULL;
    }
    e = g_new0(ImageInfoSpecificQCow2Encryption, 1);
    e->format = BLOCKDEV_QCOW2_ENCRYPTION_FORMAT_AES;
    if (s->luks) {
        g_autofree QCryptoBlockInfoLUKS *info = luks_info(s->luks);

        e->format = BLOCKDEV_QCOW2_ENCRYPTION_FORMAT_LUKS;
        e->u.luks = *info;
    }
    return e;
}

bool qcow2_crypto_amend_check(const BDRVQcow2State *s, Error **errp)
{
    if (s->crypt_method_header == QCOW_CRYPT_NONE) {
        error_setg(errp, "Can't amend encryption options - encryption not "
                   "present");
        return false;
    }
    if (!s->luks) {
        error_setg(errp, "Only LUKS encryption options can be amended for "
                   "qcow2 with amend");
        return false;
    }
    return true;
}

int qcow2_crypto_amend(BlockDriverState *bs, const BdrvLuksNames *names,
                       bool force, Error **errp)
{
    BDRVQcow2State *s = bs->opaque;
    BdrvLuksArea area;
    LuksIo io;

    if (!find_header(bs, &area, errp)) {
        return -EINVAL;
    }
    io = bdrv_luks_io(&area);
    return bdrv_luks_amend(s->luks, names, force, &io, errp);
}
