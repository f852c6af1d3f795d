/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The L1 guard: a sum and two copies of the active L1 table, in an area of
 * their own. docs/interop/qcow2-l1-guard.md is the format, with the argument
 * why a power cut at any time leaves a table that can be told to be right.
 *
 *   guard-format.c    the sector, the sum, the verdict on one entry; no I/O
 *   guard.c           changing entries; the state between changes
 *   guard-area.c      places of areas: turning on, moving, turning off
 *   guard-open.c      reading an area and judging the L1 table by it
 *   guard-evidence.c  what refcounts and snapshots say of different entries
 *   check-guard.c     the check
 *
 * Of the two copies one is *current*: it is the L1 table as it is, or is
 * about to be. The other one is the table before the last change. A change
 * writes the new table to the other copy, which the sector then names as the
 * current one, with the sums of both; flush; then the L1 table itself.
 */
#ifndef BLOCK_QCOW2_GUARD_H
#define BLOCK_QCOW2_GUARD_H

#include "block/block_int.h"
#include "util/coroutine.h"

typedef struct BDRVQcow2State BDRVQcow2State;
struct Qcow2Table;

#define QCOW2_GUARD_MAGIC 0x4c31204755415244ULL     /* "L1 GUARD" */
#define QCOW2_GUARD_VERSION 1
/* The sector is written whole or not at all. */
#define QCOW2_GUARD_SECTOR 512

/* The sector at the start of the area, in host order. Big-endian on disk: */
typedef struct Qcow2GuardHead {
                            /*  0: 64 bits, the magic number */
                            /*  8: 32 bits, the version */
                            /* 12: 32 bits, CRC-32 of the sector with 0 here */
    uint64_t generation;    /* 16: one more each time */
    uint64_t offset;        /* 24: its own, in the file */
    uint64_t l1_offset;     /* 32 */
    uint32_t l1_size;       /* 40: entries */
    uint32_t current;       /* 44: 0 or 1 */
    uint64_t sum;           /* 48: of the current copy */
    uint64_t old_sum;       /* 56: of the table before the change in flight;
                             * as @sum if there is none */
    uint64_t disk_size;     /* 64: bytes; another one shows that another program
                             * was here */
                            /* 72: zeroes up to 512 */
} Qcow2GuardHead;

/* --- guard-format.c: any context --- */

/* What entry @index (host order) adds to the sum. */
uint64_t qcow2_guard_mix(uint32_t index, uint64_t entry);
uint64_t qcow2_guard_sum(const uint64_t *entries, uint32_t n);
void qcow2_guard_encode(const Qcow2GuardHead *h, void *sector);
/* What is wrong with it, or NULL. */
const char *qcow2_guard_decode(const void *sector, Qcow2GuardHead *h);
/* Bytes that a copy takes, and the whole area, for a table of @l1_size. */
uint64_t qcow2_guard_copy_bytes(uint32_t l1_size);
uint64_t qcow2_guard_area_bytes(uint32_t l1_size);

/* What is known of an entry that is not as the guard has it. */
typedef struct Qcow2GuardEvidence {
    uint64_t entry;             /* in the L1 table */
    uint64_t copy;              /* in the guard */
    bool possible;              /* @entry names a place for an L2 table: whole
                                 * cluster, in the file, no other metadata, and
                                 * what is there reads as one */
    bool elsewhere;             /* the guard has that table at another index */
    bool moved;                 /* the L1 table has the table that @copy names
                                 * at another index */
    uint64_t entry_refcount;    /* of the table that @entry names */
    uint64_t entry_refs;        /* references to it that were found */
    uint64_t copy_refcount;     /* the same for @copy; 0 for no table */
    uint64_t copy_refs;
} Qcow2GuardEvidence;

typedef enum Qcow2GuardVerdict {
    QCOW2_GUARD_FOREIGN,    /* another program has changed the L1 table */
    QCOW2_GUARD_DAMAGE,     /* nobody has written that: the guard is right */
    QCOW2_GUARD_UNPROVEN,
} Qcow2GuardVerdict;

Qcow2GuardVerdict qcow2_guard_verdict(const Qcow2GuardEvidence *e);

/* --- the state --- */

typedef enum Qcow2GuardState {
    QCOW2_GUARD_NONE,       /* there is none, or nobody must look at it */
    QCOW2_GUARD_ON,         /* the L1 table is right, and kept so */
    QCOW2_GUARD_VOID,       /* it says nothing; see fault */
    QCOW2_GUARD_OUTDATED,   /* another program has changed the L1 table */
    QCOW2_GUARD_MISMATCH,   /* the L1 table may be damaged */
} Qcow2GuardState;

/* Clusters that refcounts call free, and that nobody may take. */
typedef struct Qcow2GuardPlace {
    uint64_t offset;
    uint64_t bytes;         /* whole clusters; 0: nowhere */
} Qcow2GuardPlace;

/* Under BDRVQcow2State.lock. */
typedef struct Qcow2Guard {
    Qcow2GuardState state;
    const char *fault;      /* VOID: why */
    bool has_ext;           /* the header has the extension, with @place */
    Qcow2GuardPlace place;
    Qcow2GuardPlace next;   /* of a guard that the header does not name yet */

    /* ON: */
    uint64_t generation;    /* of the last sector that was written */
    unsigned current;
    uint32_t size;          /* entries */
    uint64_t *now;          /* the L1 table that is, or (pending) is about to
                             * be, in its place on disk */
    uint64_t sum;           /* of it */
    uint8_t *behind;        /* for each 512 bytes whether the other copy may
                             * be different; and, with @pending, the L1 table */
    bool copy_bad;          /* the current copy is not @now */
    bool mixed;             /* only both copies together prove the L1 table */
    bool pending;           /* the L1 table is old, new, or some of both */
    bool durable;           /* it is @now, whatever happens */
    bool unsettled;         /* the sector may say that a change is in flight */

    /* MISMATCH: */
    uint64_t disk_size;     /* when the guard was written */
    uint64_t *want;         /* @size entries; NULL: no copy is whole */
    uint32_t differences;   /* entries; 0 if no copy is whole */
} Qcow2Guard;

/* The area may be used by nobody else. */
bool qcow2_guard_reserves(const BDRVQcow2State *s, uint64_t cluster);
/* If [@first, @first + @n) hits reserved clusters, the first one behind these;
 * else 0. */
uint64_t qcow2_guard_skip(const BDRVQcow2State *s, uint64_t first, uint64_t n);
/* One more than the last reserved cluster; 0: none. */
uint64_t qcow2_guard_end(const BDRVQcow2State *s);
/* Clusters of an area for a table of @l1_size. */
uint64_t qcow2_guard_clusters(const BDRVQcow2State *s, uint32_t l1_size);
/* Forgets everything: no guard. */
void qcow2_guard_clear(Qcow2Guard *g);
/* Forgets it; the place is free, but the extension remains. */
void qcow2_guard_void(Qcow2Guard *g, Qcow2GuardState state, const char *fault);

/* --- guard*.c ------------------------------------------------------------- */

/* Writes the L1 table in place; there is a guard. As qcow2_l1_write(). [lock] */
int coroutine_fn qcow2_guard_write_l1(BlockDriverState *bs);
/* A flush has succeeded since the last write of qcow2_guard_write_l1(). */
void qcow2_guard_flushed(BDRVQcow2State *s);
/* No change is in flight any more: says so on disk, if that is new. [lock] */
int coroutine_fn qcow2_guard_settle(BlockDriverState *bs);

/* A guard for another L1 table, which the header does not name yet. */
typedef struct Qcow2GuardMove {
    Qcow2Guard to;          /* state ON: there is one */
} Qcow2GuardMove;
/*
 * Writes a guard for the complete table @l1, of a disk that has @disk_size
 * bytes with it, to free clusters at @offset, which
 * are nobody else's from now on. The caller flushes, writes the header, and
 * commits or aborts; after a failure there is nothing to abort. [lock]
 */
int coroutine_fn qcow2_guard_move_begin(BlockDriverState *bs,
                                        Qcow2GuardMove *move, uint64_t offset,
                                        const struct Qcow2Table *l1,
                                        uint64_t disk_size);
void qcow2_guard_move_commit(BlockDriverState *bs, Qcow2GuardMove *move);
void qcow2_guard_move_abort(BlockDriverState *bs, Qcow2GuardMove *move);
/* Makes one for the table as it is; nothing to do if there is one. [lock] */
int coroutine_fn qcow2_guard_enable(BlockDriverState *bs, Error **errp);
/* Removes it from the header. drop: only makes it void, by the autoclear bit.
 * [lock] */
int coroutine_fn qcow2_guard_disable(BlockDriverState *bs, Error **errp);
int coroutine_fn qcow2_guard_drop(BlockDriverState *bs);
/*
 * Reads it and judges the L1 table, which has been read, as the refcounts and
 * the snapshots. Says what is wrong on stderr. 0 or -ENOMEM. [lock]
 */
int coroutine_fn qcow2_guard_open(BlockDriverState *bs);
/* What is due before the first change: a guard that is void goes. -EIO if the
 * L1 table may be damaged. [lock] */
int coroutine_fn qcow2_guard_make_writable(BlockDriverState *bs,
                                           Error **errp);
/* The same for an L1 table that a repair has changed; says nothing. [lock] */
int coroutine_fn qcow2_guard_judge_again(BlockDriverState *bs);
/* Writes a damaged current copy anew, durably. [lock] */
int coroutine_fn qcow2_guard_refresh(BlockDriverState *bs);
/* Whether others use its clusters; 1, 0 or -errno. [lock] */
int coroutine_fn qcow2_guard_is_taken(BlockDriverState *bs);

#endif
