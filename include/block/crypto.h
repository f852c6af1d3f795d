/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What drivers with encrypted data share. */
#ifndef BLOCK_CRYPTO_H
#define BLOCK_CRYPTO_H

#include "block/block-common.h"
#include "crypto/luks.h"
#include "objects/secret.h"

/* Where a LUKS header may be: @size bytes at @offset. */
typedef struct BdrvLuksArea {
    BdrvChild *child;
    uint64_t offset;
    uint64_t size;
} BdrvLuksArea;

/* For crypto/luks.h; @area outlives it. Main thread, outside coroutines. */
LuksIo bdrv_luks_io(BdrvLuksArea *area);

/*
 * The passphrase in secret @id, the value of option "@prefix""key-secret"; NULL
 * if it was not given, which is an error. Main thread.
 */
bool bdrv_luks_pass(const char *prefix, const char *id, SecretCopy *pass,
                    Error **errp);

/* Options of -o; NULL and -1: not given. */
typedef struct BdrvLuksNames {
    const char *state;
    const char *new_secret;
    const char *old_secret;
    bool has_keyslot;
    int64_t keyslot;
    bool has_iter_time;
    int64_t iter_time_ms;
} BdrvLuksNames;

/* Changes key slots as these say. */
int bdrv_luks_amend(LuksHeader *h, const BdrvLuksNames *names, bool force,
                    const LuksIo *io, Error **errp);

/* Largest piece that is encrypted, or decrypted beside its reading, at once. */
#define BDRV_CRYPTO_CHUNK (1024 * 1024)

/*
 * Whole sectors at @data, in place; @pos: bytes from where the first sector is
 * counted. Much of it is done by a thread of the pool. 0 or -errno.
 */
int coroutine_fn bdrv_co_encrypt(CryptoSectors *s, uint64_t pos, void *data,
                                 size_t len);
int coroutine_fn bdrv_co_decrypt(CryptoSectors *s, uint64_t pos, void *data,
                                 size_t len);

/*
 * Reads from, or writes to, @child at @offset; the data is encrypted there. @pos
 * as above. What a guest sees never is what is encrypted.
 */
int coroutine_fn bdrv_co_preadv_decrypt(BdrvChild *child, CryptoSectors *s,
                                        uint64_t pos, uint64_t offset,
                                        uint64_t bytes, QEMUIOVector *qiov,
                                        size_t qiov_offset);
int coroutine_fn bdrv_co_pwritev_encrypt(BdrvChild *child, CryptoSectors *s,
                                         uint64_t pos, uint64_t offset,
                                         uint64_t bytes, QEMUIOVector *qiov,
                                         size_t qiov_offset,
                                         BdrvRequestFlags flags);

#endif
