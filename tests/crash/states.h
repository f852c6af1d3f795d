/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a power cut may leave of a recorded disk.
 *
 * A flush makes durable what had ended when it began. The time between the
 * ends of two flushes is an epoch: what was durable at its start is there; of
 * every other change that had started by its end, each sector may be there or
 * not, independently of all others. Several changes of one sector reach it in
 * their order, so a sector has as many values as changes, plus the durable
 * one. The size of the file is as after any one of the changes, but never cuts
 * off a sector that is there.
 *
 * Looking at the end of an epoch only is enough: earlier in it the same states
 * are possible less those of later changes, and the guest's own flushes that
 * end inside it make the legal contents fewer, never more.
 */
#ifndef TESTS_CRASH_STATES_H
#define TESTS_CRASH_STATES_H

#include "disk.h"

/* A sector that may have several contents. */
typedef struct ChangedSector {
    int64_t sector;
    uint32_t n;             /* versions beyond the durable one, at most 255 */
    uint8_t *content;       /* n + 1 sectors, the durable one first */
    uint64_t *hash;         /* of each of them */
    uint16_t *op;           /* which of ops made version i + 1 */
} ChangedSector;

typedef struct Epoch {
    unsigned index;
    CrashTime end;          /* a power cut comes right before */
    GPtrArray *ops;         /* DiskOp that are neither durable nor flushes */
    GArray *changed;        /* ChangedSector, by sector */
    GArray *sizes;          /* int64_t: the durable one, then after each op */
    uint64_t combinations;  /* capped at UINT64_MAX / 2 */
    uint64_t durable_hash;

    /* Durable content. */
    const uint8_t *base;
    int64_t base_size;
} Epoch;

/* One state: the version of each changed sector, and of the size. */
typedef struct CrashState {
    GByteArray *versions;
    uint16_t size;          /* index into sizes */
} CrashState;

typedef struct Epochs Epochs;

/* @data, @size: content of the disk before the log started; copied. The log
 * must outlive it and be complete. */
Epochs *epochs_new(const uint8_t *data, int64_t size, const GPtrArray *log,
                   CrashTime end);
void epochs_free(Epochs *e);
unsigned epochs_count(const Epochs *e);
/* The next epoch, valid until the next call; NULL after the last. */
const Epoch *epochs_next(Epochs *e);

CrashState *crash_state_new(const Epoch *epoch);
void crash_state_free(CrashState *s);
void crash_state_copy(CrashState *to, const CrashState *from);
uint64_t crash_state_hash(const Epoch *epoch, const CrashState *s);
/* Bytes of the file. */
int64_t crash_state_size(const Epoch *epoch, const CrashState *s);
/* The file as it would be: *@size bytes; caller frees. */
uint8_t *crash_state_build(const Epoch *epoch, const CrashState *s,
                           int64_t *size);

/*
 * The @n-th state to try in @epoch: all of them in turn if there are at most
 * @exhaustive (false after the last), else first each change alone, all but
 * each change, all before each change, and then random ones without end.
 */
bool crash_state_pick(const Epoch *epoch, CrashState *s, uint64_t n,
                      uint64_t exhaustive, GRand *rand);

#endif
