/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * LUKS version 1: a header with up to eight passphrases, each of which opens the
 * one key that the data is encrypted with.
 *
 * The header lies wherever the caller's functions read and write it, offsets
 * count from its start. Main thread, outside coroutines. Functions return 0 or
 * -errno with @errp set.
 */
#ifndef CRYPTO_LUKS_H
#define CRYPTO_LUKS_H

#include "crypto/sectors.h"

#define LUKS_SLOTS 8
/* What a probe looks for. */
#define LUKS_MAGIC "LUKS\xba\xbe"
#define LUKS_MAGIC_LEN 6

typedef struct LuksIo {
    void *opaque;
    /* All of it, or an error. */
    int (*read)(void *opaque, uint64_t offset, void *buf, size_t len);
    /* Durable when it returns. */
    int (*write)(void *opaque, uint64_t offset, const void *buf, size_t len);
} LuksIo;

typedef struct LuksPass {
    const uint8_t *data;
    size_t len;
} LuksPass;

/* What a new header gets; see luks_options_init(). */
typedef struct LuksOptions {
    CryptoSectorsConfig sectors;
    QCryptoHashAlgo hash;
    uint64_t iter_time_ms;      /* to spend on a passphrase */
} LuksOptions;

/* aes-256, xts, plain64, sha256, 2 s. */
void luks_options_init(LuksOptions *o);
/* Bytes that the header takes with its key slots. */
uint64_t luks_header_size(const LuksOptions *o);

typedef struct LuksHeader LuksHeader;

/* Makes a header with one passphrase; NULL with @errp. */
LuksHeader *luks_create(const LuksOptions *o, const LuksPass *pass,
                        const LuksIo *io, Error **errp);
/* Reads and judges one; no passphrase is needed. */
LuksHeader *luks_open(const LuksIo *io, Error **errp);
/* Wipes it; NULL is fine. */
void luks_free(LuksHeader *h);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(LuksHeader, luks_free)

/* "Invalid password, cannot unlock any keyslot". */
int luks_unlock(LuksHeader *h, const LuksPass *pass, const LuksIo *io,
                Error **errp);
/*
 * Reads key slots again, which others may have changed. -EINVAL, and nothing is
 * changed, if data is encrypted in another way, or with another key, than before.
 */
int luks_reload(LuksHeader *h, const LuksIo *io, Error **errp);
/* For the data; the header must have been unlocked or just been made. */
CryptoSectors *luks_sectors(const LuksHeader *h, Error **errp);

/* Where data begins. */
uint64_t luks_payload_offset(const LuksHeader *h);
QCryptoBlockInfoLUKS *luks_info(const LuksHeader *h);

/* How to change key slots. */
typedef struct LuksAmend {
    QCryptoBlockLUKSKeyslotState state;
    const LuksPass *new_pass;   /* NULL: not given; so on */
    const LuksPass *old_pass;
    bool has_keyslot;
    int64_t keyslot;
    bool has_iter_time;
    uint64_t iter_time_ms;
    bool force;                 /* also what makes the data unreadable */
} LuksAmend;

/* The header must be unlocked to activate. A refusal changes nothing. */
int luks_amend(LuksHeader *h, const LuksAmend *a, const LuksIo *io,
               Error **errp);

#endif
