/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * QNum: a number, kept as int64_t, uint64_t or double.
 *
 * Integers from the parser are I64 when they fit, U64 when only that fits, and
 * DOUBLE beyond.  Rules of qobject/qobject.h apply.
 */
#ifndef QOBJECT_QNUM_H
#define QOBJECT_QNUM_H

#include <stdint.h>
#include "qobject/qobject.h"

typedef enum {
    QNUM_I64,
    QNUM_U64,
    QNUM_DOUBLE,
} QNumKind;

struct QNum {
    struct QObjectBase_ base;
    QNumKind kind;
    union {
        int64_t i64;
        uint64_t u64;
        double dbl;
    } u;
};

/* New objects that the caller owns.  @value of the last one must be finite, or
 * the number has no JSON form. */
QNum *qnum_from_int(int64_t value);
QNum *qnum_from_uint(uint64_t value);
QNum *qnum_from_double(double value);

/* Store the value and return true if @qn is an integer in range of the result;
 * a DOUBLE is never an integer. */
bool qnum_get_try_int(const QNum *qn, int64_t *val);
bool qnum_get_try_uint(const QNum *qn, uint64_t *val);

/* The same where the caller knows that it fits; aborts otherwise. */
int64_t qnum_get_int(const QNum *qn);
uint64_t qnum_get_uint(const QNum *qn);

/* The value as double, rounded if need be. */
double qnum_get_double(const QNum *qn);

/* JSON text that the caller frees; a finite double reads back as the same
 * double. */
char *qnum_to_string(const QNum *qn);

bool qnum_is_equal(const QNum *x, const QNum *y);

void qnum_unref(QNum *q);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(QNum, qnum_unref)

#endif /* QOBJECT_QNUM_H */
