/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The flat model of a disk: an array of cells, and for each the values that a
 * read may find there while operations overlap.
 *
 * A cell behaves as one atomic register: every operation takes effect on it at
 * one moment between its begin and its end; cells are independent of each
 * other. Values are numbers of the operations that wrote them; 0 is zeroes,
 * and the bytes of any other are a pattern of number and position.
 *
 * Rules, for one cell. A value V written during [V.start, V.end]
 *  1. is legal from V.start on;
 *  2. is dead once a write W with V.end < W.start has ended;
 *  3. is dead once a read R with V.end < R.start has ended that found another;
 *  4. is still legal for a read that began before it died.
 * Weak writes (discards of parts of clusters) may or may not happen: they do
 * not kill by rule 2. A shrinking truncate kills all that ended before its own
 * end, and makes zeroes.
 *
 * Any thread: one lock inside.
 */
#ifndef TESTS_MODEL_ORACLE_H
#define TESTS_MODEL_ORACLE_H

#include "util/osdep.h"
#include "util/queue.h"
#include "util/thread.h"

typedef struct OracleOp {
    int64_t offset;
    int64_t bytes;
    uint32_t value;
    bool is_read;
    bool is_discard;
    int64_t strong_start;   /* outside [strong_start, strong_end) it is weak */
    int64_t strong_end;
    uint64_t start;         /* time */
    int64_t limit;          /* smallest size of the disk since the start */
    uint32_t index;         /* tells operations apart in a digest */
    QLIST_ENTRY(OracleOp) next;
} OracleOp;

typedef struct Oracle Oracle;

/* @cell divides 512. All zeroes; at most @capacity bytes. */
Oracle *oracle_new(unsigned cell, int64_t capacity, int64_t size);
void oracle_free(Oracle *o);
/* As new, and nothing is in flight. */
void oracle_reset(Oracle *o);

/* Puts the bytes of @value at @offset into @buf; whole cells. */
void oracle_fill(const Oracle *o, uint8_t *buf, int64_t offset, int64_t bytes,
                 uint32_t value);
/* [@offset, @offset + @bytes) holds @value, and nothing is in flight. */
void oracle_set(Oracle *o, int64_t offset, int64_t bytes, uint32_t value);

/* @op: offset, bytes, value, strong_*, is_discard, index are set. */
void oracle_write_begin(Oracle *o, OracleOp *op);
/* @done false: it failed, and must not have had any effect. */
void oracle_write_end(Oracle *o, OracleOp *op, bool done);
/* Discards in flight may come out another way: all of them are weak. */
void oracle_weaken_discards(Oracle *o);
void oracle_read_begin(Oracle *o, OracleOp *op);
/* NULL, or what is wrong with @buf; caller frees. */
char *oracle_read_end(Oracle *o, OracleOp *op, const uint8_t *buf);
/* A read that failed. */
void oracle_read_cancel(Oracle *o, OracleOp *op);
/* Whether a failure of @op is explained by a truncate that overlapped it. */
bool oracle_may_fail(Oracle *o, const OracleOp *op);

/* One truncate at a time. */
void oracle_truncate_begin(Oracle *o, int64_t size);
void oracle_truncate_end(Oracle *o);
/* Smallest possible size at this moment. */
int64_t oracle_size(Oracle *o);

/*
 * For keeping states apart: what decides about legal values from here on, in a
 * form that does not depend on how much time has passed. At most 8 operations
 * are in flight, with different numbers. Appends to @out.
 */
void oracle_digest(Oracle *o, GByteArray *out);

#endif
