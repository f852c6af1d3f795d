/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a guest may find on its disk after a power cut: for every sector the
 * value that it had at the last flush, or any value written to it since.
 *
 * In words: a write may show up as soon as it starts. It may stay away until
 * it has been followed by another write to the sector that had completed when
 * a flush began which has ended. The same rule holds for the size of the disk.
 * A write that failed may show up, too, until it is followed by such a one.
 *
 * The guest first records what it does (guest_start, guest_end); then its
 * history is walked in time. A sector's value tells who wrote it: the id of
 * the request and the sector's own number.
 */
#ifndef TESTS_CRASH_GUEST_H
#define TESTS_CRASH_GUEST_H

#include "disk.h"

/* Values that no request writes. */
#define GUEST_ZERO 0
#define GUEST_BACKING 0x42414345    /* content of the backing file */

typedef enum {
    GUEST_WRITE,        /* compressed ones, too */
    GUEST_ZEROES,
    GUEST_DISCARD,      /* of sectors that will read as zeroes */
    GUEST_FLUSH,
    GUEST_CLOSE,        /* a flush, too; if it fails, all later is in doubt */
    GUEST_RESIZE,       /* first: the old size, nb: the new one */
    GUEST_APPLY,        /* the same; all sectors get other values at once, and
                         * all is durable then */
    GUEST_RENAME,       /* nb: the new name's index; durable when it ends */
} GuestOpKind;

typedef struct GuestOp {
    GuestOpKind kind;
    int64_t first;          /* sector */
    int64_t nb;
    uint32_t id;
    const char *note;       /* "compressed", …; NULL: none */
    const uint32_t *values; /* GUEST_APPLY: one for each of nb sectors */
    CrashTime started;
    CrashTime ended;        /* CRASH_NEVER: it did not */
    bool failed;
    bool fua;               /* durable by itself when it has ended */
} GuestOp;

typedef struct GuestVersion {
    uint32_t value;
    CrashTime started;
    CrashTime ended;
    bool doubtful;          /* may be there, but replaces no other one */
} GuestVersion;

/* The values that one sector may have. */
typedef struct GuestSector {
    uint32_t n, capacity;
    GuestVersion *v;
} GuestSector;

typedef struct Guest {
    CrashTime *clock;
    int64_t size;               /* sectors, as the guest sees it */
    int64_t first_size;         /* in the beginning */
    int64_t first_name;         /* index */
    bool has_backing;
    int64_t backing_sectors;
    uint32_t next_id;
    GPtrArray *ops;             /* of GuestOp, in order of start */

    /* The walk. */
    CrashTime now;              /* everything up to it is in the sectors */
    unsigned generation;        /* counts flushes that ended */
    GuestSector *sectors;
    int64_t nb_sectors;         /* the largest size there ever was */
    GuestSector sizes;          /* of the disk, value in sectors */
    GuestSector names;          /* of the backing file, value: names.h */
    GArray *several;            /* int64_t: sectors with more than one value */
    GArray *events;             /* GuestEvent, in order */
    guint next_event;
} Guest;

/* @size in sectors; ids start at @first_id. */
Guest *guest_new(CrashTime *clock, int64_t size, int64_t backing_sectors,
                 bool has_backing, uint32_t first_id);
void guest_free(Guest *g);

/* Recording. The op belongs to the guest. */
GuestOp *guest_start(Guest *g, GuestOpKind kind, int64_t first, int64_t nb,
                     const char *note);
void guest_end(Guest *g, GuestOp *op, int ret);
/* GUEST_APPLY to a disk of @size sectors; @values must outlive the guest. */
GuestOp *guest_start_apply(Guest *g, int64_t size, const uint32_t *values);

/* What @id writes to @nb sectors from @first on. */
void guest_fill(void *buf, uint32_t id, int64_t first, int64_t nb);

/* Back to the start, with everything recorded so far; then forward. */
void guest_walk_start(Guest *g);
void guest_walk_to(Guest *g, CrashTime now);
bool guest_size_legal(const Guest *g, int64_t sectors);
bool guest_name_legal(const Guest *g, int64_t index);
/*
 * Compares what the disk reads as. Returns NULL, or says what is wrong with
 * the first bad sector; caller frees.
 */
char *guest_compare(const Guest *g, const void *buf, int64_t first,
                    int64_t nb);

/* "write 3 sectors at 17"; caller frees. */
char *guest_op_describe(const GuestOp *op);

#endif
