/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Encrypted data in files: requests, and the header's way to the file. */
#include "util/osdep.h"
#include "block/block_int.h"
#include "block/crypto.h"
#include "util/iov.h"
#include "util/memalign.h"
#include "util/thread-pool.h"

/* Less is done at once: another thread would cost more. */
#define POOL_BYTES 32768

/* --- headers --- */

static bool in_area(const BdrvLuksArea *a, uint64_t offset, size_t len)
{
    return offset <= a->size && len <= a->size - offset;
}

static int read_area(void *opaque, uint64_t offset, void *buf, size_t len)
{
    const BdrvLuksArea *a = opaque;

    return in_area(a, offset, len)
               ? bdrv_pread(a->child, a->offset + offset, len, buf, 0)
               : -EINVAL;
}

static int write_area(void *opaque, uint64_t offset, const void *buf,
                      size_t len)
{
    const BdrvLuksArea *a = opaque;

    return in_area(a, offset, len)
               ? bdrv_pwrite_sync(a->child, a->offset + offset, len, buf, 0)
               : -EINVAL;
}

LuksIo bdrv_luks_io(BdrvLuksArea *area)
{
    return (LuksIo) { area, read_area, write_area };
}

bool bdrv_luks_pass(const char *prefix, const char *id, SecretCopy *pass,
                    Error **errp)
{
    if (!id) {
        error_setg(errp, "Parameter '%skey-secret' is required for cipher",
                   prefix);
        return false;
    }
    return secret_lookup_text(id, pass, errp);
}

static bool look_up(const char *id, SecretCopy *copy, LuksPass *pass,
                    const LuksPass **out, Error **errp)
{
    if (!id) {
        return true;
    }
    if (!secret_lookup_text(id, copy, errp)) {
        return false;
    }
    *pass = (LuksPass) { copy->data, copy->len };
    *out = pass;
    return true;
}

int bdrv_luks_amend(LuksHeader *h, const BdrvLuksNames *n, bool force,
                    const LuksIo *io, Error **errp)
{
    g_auto(SecretCopy) new_copy = { 0 };
    g_auto(SecretCopy) old_copy = { 0 };
    LuksPass new_pass, old_pass;
    LuksAmend a = {
        .has_keyslot = n->has_keyslot, .keyslot = n->keyslot,
        .has_iter_time = n->has_iter_time, .iter_time_ms = n->iter_time_ms,
        .force = force,
    };
    int state;

    if (!n->state) {
        error_setg(errp, "Parameter 'state' is missing");
        return -EINVAL;
    }
    state = qapi_enum_parse(&QCryptoBlockLUKSKeyslotState_lookup, n->state, -1,
                            NULL);
    if (state < 0) {
        error_setg(errp, "Parameter 'state' does not accept value '%s'",
                   n->state);
        return -EINVAL;
    }
    if (n->has_iter_time && n->iter_time_ms < 0) {
        error_setg(errp, "Parameter 'iter-time' must not be negative");
        return -EINVAL;
    }
    a.state = state;
    if (!look_up(n->new_secret, &new_copy, &new_pass, &a.new_pass, errp) ||
        !look_up(n->old_secret, &old_copy, &old_pass, &a.old_pass, errp)) {
        return -EINVAL;
    }
    return luks_amend(h, &a, io, errp);
}

/* --- data --- */

typedef int CryptFn(CryptoSectors *s, uint64_t sector, void *data, size_t len);

typedef struct CryptWork {
    CryptFn *fn;
    CryptoSectors *s;
    uint64_t pos;
    void *data;
    size_t len;
} CryptWork;

static int crypt_entry(void *opaque)
{
    const CryptWork *w = opaque;

    return w->fn(w->s, w->pos / CRYPTO_SECTOR_SIZE, w->data, w->len);
}

static int coroutine_fn run_crypt(CryptWork *w)
{
    assert(QEMU_IS_ALIGNED(w->pos | w->len, CRYPTO_SECTOR_SIZE));
    return w->len < POOL_BYTES ? crypt_entry(w)
                               : thread_pool_compute_co(crypt_entry, w);
}

int coroutine_fn bdrv_co_encrypt(CryptoSectors *s, uint64_t pos, void *data,
                                 size_t len)
{
    CryptWork w = { crypto_sectors_encrypt, s, pos, data, len };

    return run_crypt(&w);
}

int coroutine_fn bdrv_co_decrypt(CryptoSectors *s, uint64_t pos, void *data,
                                 size_t len)
{
    CryptWork w = { crypto_sectors_decrypt, s, pos, data, len };

    return run_crypt(&w);
}

int coroutine_fn bdrv_co_preadv_decrypt(BdrvChild *child, CryptoSectors *s,
                                        uint64_t pos, uint64_t offset,
                                        uint64_t bytes, QEMUIOVector *qiov,
                                        size_t qiov_offset)
{
    uint64_t chunk = MIN(bytes, BDRV_CRYPTO_CHUNK);
    QEMU_AUTO_VFREE uint8_t *buf = qemu_try_blockalign(child->bs, chunk);
    int ret = buf ? 0 : -ENOMEM;

    while (ret == 0 && bytes) {
        uint64_t n = MIN(bytes, chunk);

        ret = bdrv_co_pread(child, offset, n, buf, 0);
        if (ret == 0) {
            ret = bdrv_co_decrypt(s, pos, buf, n);
        }
        if (ret == 0) {
            qemu_iovec_from_buf(qiov, qiov_offset, buf, n);
        }
        pos += n;
        offset += n;
        qiov_offset += n;
        bytes -= n;
    }
    return ret;
}

int coroutine_fn bdrv_co_pwritev_encrypt(BdrvChild *child, CryptoSectors *s,
                                         uint64_t pos, uint64_t offset,
                                         uint64_t bytes, QEMUIOVector *qiov,
                                         size_t qiov_offset,
                                         BdrvRequestFlags flags)
{
    uint64_t chunk = MIN(bytes, BDRV_CRYPTO_CHUNK);
    QEMU_AUTO_VFREE uint8_t *buf = qemu_try_blockalign(child->bs, chunk);
    int ret = buf ? 0 : -ENOMEM;

    while (ret == 0 && bytes) {
        uint64_t n = MIN(bytes, chunk);

        qemu_iovec_to_buf(qiov, qiov_offset, buf, n);
        ret = bdrv_co_encrypt(s, pos, buf, n);
        if (ret == 0) {
            ret = bdrv_co_pwrite(child, offset, n, buf, flags);
        }
        pos += n;
        offset += n;
        qiov_offset += n;
        bytes -= n;
    }
    return ret;
}
