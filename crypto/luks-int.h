/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The inside of LUKS: luks-header.c, luks-slots.c, luks.c. */
#ifndef CRYPTO_LUKS_INT_H
#define CRYPTO_LUKS_INT_H

#include "crypto/luks.h"

#define LUKS_HEADER_BYTES 592
#define LUKS_STRIPES 4000
#define LUKS_SALT_LEN 32
#define LUKS_DIGEST_LEN 20
#define LUKS_UUID_LEN 40
#define LUKS_MIN_ITERS 1000
/* A header that asks for more wants to keep us busy. */
#define LUKS_MAX_ITERS (1U << 27)
/* Bytes; where slots and payload start. */
#define LUKS_ALIGN 4096

typedef struct LuksSlot {
    bool active;
    uint32_t iters;
    uint8_t salt[LUKS_SALT_LEN];
    uint32_t offset;        /* sectors */
    uint32_t stripes;
} LuksSlot;

struct LuksHeader {
    CryptoSectorsConfig sectors;
    QCryptoHashAlgo hash;
    uint32_t payload;       /* sectors */
    uint32_t key_len;
    uint8_t digest[LUKS_DIGEST_LEN];
    uint8_t digest_salt[LUKS_SALT_LEN];
    uint32_t digest_iters;
    char uuid[LUKS_UUID_LEN + 1];
    LuksSlot slots[LUKS_SLOTS];
    uint8_t *key;           /* the master key; NULL: locked */
};

/* --- luks-header.c --- */

/* Bytes of a slot's stripes on disk: whole sectors. */
uint64_t luks_material_size(uint32_t key_len, uint32_t stripes);
/* @buf has LUKS_HEADER_BYTES. False: it cannot be. */
bool luks_header_parse(LuksHeader *h, const uint8_t *buf, Error **errp);
void luks_header_build(const LuksHeader *h, uint8_t *buf);
int luks_header_write(const LuksHeader *h, const LuksIo *io, Error **errp);

/* --- luks-slots.c --- */

/* 1 and *@key (key_len bytes) if the passphrase opens the active slot; 0 if
 * not. */
int luks_slot_try(const LuksHeader *h, int slot, const LuksPass *pass,
                  const LuksIo *io, uint8_t *key, Error **errp);
/* Stores the master key under the passphrase: material, then header. */
int luks_slot_set(LuksHeader *h, int slot, const LuksPass *pass,
                  uint64_t iter_time_ms, const LuksIo *io, Error **errp);
/* Header first, then random bytes where the material was. */
int luks_slot_erase(LuksHeader *h, int slot, const LuksIo *io, Error **errp);

#endif
