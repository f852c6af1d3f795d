/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The L1 guard as bytes and numbers.
 *
 * The sum is the sum, modulo 2^64, of one number for each entry, which is a
 * one-to-one function of the entry for each index. So one wrong entry, however
 * it is wrong, always shows; and a change costs a subtraction and an addition
 * for each entry.
 */
#include "util/osdep.h"
#include <zlib.h>
#include "util/bswap.h"
#include "block/qcow2/format.h"
#include "block/qcow2/guard.h"

/* Places in the sector. */
enum {
    POS_MAGIC = 0,
    POS_VERSION = 8,
    POS_CRC = 12,
    POS_GENERATION = 16,
    POS_OFFSET = 24,
    POS_L1_OFFSET = 32,
    POS_L1_SIZE = 40,
    POS_CURRENT = 44,
    POS_SUM = 48,
    POS_OLD_SUM = 56,
    POS_DISK_SIZE = 64,
};

/* One-to-one, and every bit of the result depends on every bit of @x: the
 * last steps of the generator SplitMix64. */
static uint64_t scramble(uint64_t x)
{
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ULL;
    x = (x ^ x >> 27) * 0x94d049bb133111ebULL;
    return x ^ x >> 31;
}

uint64_t qcow2_guard_mix(uint32_t index, uint64_t entry)
{
    return scramble(entry ^ scramble((uint64_t)index + 1));
}

uint64_t qcow2_guard_sum(const uint64_t *entries, uint32_t n)
{
    uint64_t sum = 0;

    for (uint32_t i = 0; i < n; i++) {
        sum += qcow2_guard_mix(i, entries[i]);
    }
    return sum;
}

uint64_t qcow2_guard_copy_bytes(uint32_t l1_size)
{
    return ROUND_UP((uint64_t)l1_size * L1E_SIZE, QCOW2_GUARD_SECTOR);
}

uint64_t qcow2_guard_area_bytes(uint32_t l1_size)
{
    return QCOW2_GUARD_SECTOR + 2 * qcow2_guard_copy_bytes(l1_size);
}

static uint32_t sector_crc(const void *sector)
{
    uint8_t buf[QCOW2_GUARD_SECTOR];

    memcpy(buf, sector, sizeof(buf));
    memset(buf + POS_CRC, 0, 4);
    return crc32(0, buf, sizeof(buf));
}

void qcow2_guard_encode(const Qcow2GuardHead *h, void *sector)
{
    uint8_t *p = sector;

    memset(p, 0, QCOW2_GUARD_SECTOR);
    stq_be_p(p + POS_MAGIC, QCOW2_GUARD_MAGIC);
    stl_be_p(p + POS_VERSION, QCOW2_GUARD_VERSION);
    stq_be_p(p + POS_GENERATION, h->generation);
    stq_be_p(p + POS_OFFSET, h->offset);
    stq_be_p(p + POS_L1_OFFSET, h->l1_offset);
    stl_be_p(p + POS_L1_SIZE, h->l1_size);
    stl_be_p(p + POS_CURRENT, h->current);
    stq_be_p(p + POS_SUM, h->sum);
    stq_be_p(p + POS_OLD_SUM, h->old_sum);
    stq_be_p(p + POS_DISK_SIZE, h->disk_size);
    stl_be_p(p + POS_CRC, sector_crc(p));
}

const char *qcow2_guard_decode(const void *sector, Qcow2GuardHead *h)
{
    const uint8_t *p = sector;

    if (ldq_be_p(p + POS_MAGIC) != QCOW2_GUARD_MAGIC) {
        return "its sector is not there";
    }
    if (ldl_be_p(p + POS_CRC) != sector_crc(p)) {
        return "its sector is damaged";
    }
    if (ldl_be_p(p + POS_VERSION) != QCOW2_GUARD_VERSION) {
        return "its version is unknown";
    }
    *h = (Qcow2GuardHead) {
        .generation = ldq_be_p(p + POS_GENERATION),
        .offset = ldq_be_p(p + POS_OFFSET),
        .l1_offset = ldq_be_p(p + POS_L1_OFFSET),
        .l1_size = ldl_be_p(p + POS_L1_SIZE),
        .current = ldl_be_p(p + POS_CURRENT),
        .sum = ldq_be_p(p + POS_SUM),
        .old_sum = ldq_be_p(p + POS_OLD_SUM),
        .disk_size = ldq_be_p(p + POS_DISK_SIZE),
    };
    return h->current > 1 ? "its sector is damaged" : NULL;
}

/* Somebody who means it would have written @e->entry. */
static bool entry_is_sound(const Qcow2GuardEvidence *e)
{
    bool copied = e->entry & QCOW_OFLAG_COPIED;

    if (e->entry & L1E_RESERVED_MASK) {
        return false;
    }
    if (!(e->entry & L1E_OFFSET_MASK)) {
        return !copied;
    }
    return e->possible && !e->elsewhere && e->entry_refcount > 0 &&
           e->entry_refs <= e->entry_refcount &&
           copied == (e->entry_refcount == 1);
}

/* Only flags are different, of which the refcount knows one. */
static Qcow2GuardVerdict verdict_on_flags(const Qcow2GuardEvidence *e)
{
    bool alone = e->entry_refcount == 1;

    if (e->entry & L1E_RESERVED_MASK) {
        return QCOW2_GUARD_DAMAGE;
    }
    if (!(e->entry & L1E_OFFSET_MASK)) {
        return e->entry ? QCOW2_GUARD_DAMAGE : QCOW2_GUARD_FOREIGN;
    }
    if (!e->entry_refcount) {
        return QCOW2_GUARD_UNPROVEN;
    }
    return alone == !!(e->entry & QCOW_OFLAG_COPIED) ? QCOW2_GUARD_FOREIGN
                                                     : QCOW2_GUARD_DAMAGE;
}

Qcow2GuardVerdict qcow2_guard_verdict(const Qcow2GuardEvidence *e)
{
    uint64_t target = e->entry & L1E_OFFSET_MASK;
    uint64_t copy_target = e->copy & L1E_OFFSET_MASK;
    bool lost = e->copy_refcount > e->copy_refs;

    if (target == copy_target) {
        return verdict_on_flags(e);
    }
    if (entry_is_sound(e)) {
        /* No table is in the place of one that is in use; nobody moves one. */
        if (!target && (lost || (e->moved && e->copy_refcount))) {
            return QCOW2_GUARD_DAMAGE;
        }
        return lost ? QCOW2_GUARD_UNPROVEN : QCOW2_GUARD_FOREIGN;
    }
    return lost || !copy_target || (e->elsewhere && e->copy_refcount)
               ? QCOW2_GUARD_DAMAGE : QCOW2_GUARD_UNPROVEN;
}
