/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Numbers: int64_t, uint64_t or double, without loss between text and value. */
#include "util/osdep.h"
#include "qobject/qnum.h"
#include "qobject-internal.h"

static QNum *num_new(QNumKind kind)
{
    QNum *qn = g_new0(QNum, 1);

    qobject_init(qn, QTYPE_QNUM);
    qn->kind = kind;
    return qn;
}

QNum *qnum_from_int(int64_t value)
{
    QNum *qn = num_new(QNUM_I64);

    qn->u.i64 = value;
    return qn;
}

QNum *qnum_from_uint(uint64_t value)
{
    QNum *qn = num_new(QNUM_U64);

    qn->u.u64 = value;
    return qn;
}

QNum *qnum_from_double(double value)
{
    QNum *qn = num_new(QNUM_DOUBLE);

    qn->u.dbl = value;
    return qn;
}

bool qnum_get_try_int(const QNum *qn, int64_t *val)
{
    switch (qn->kind) {
    case QNUM_I64:
        *val = qn->u.i64;
        return true;
    case QNUM_U64:
        if (qn->u.u64 > INT64_MAX) {
            return false;
        }
        *val = qn->u.u64;
        return true;
    case QNUM_DOUBLE:
        return false;
    }
    g_assert_not_reached();
}

bool qnum_get_try_uint(const QNum *qn, uint64_t *val)
{
    switch (qn->kind) {
    case QNUM_I64:
        if (qn->u.i64 < 0) {
            return false;
        }
        *val = qn->u.i64;
        return true;
    case QNUM_U64:
        *val = qn->u.u64;
        return true;
    case QNUM_DOUBLE:
        return false;
    }
    g_assert_not_reached();
}

int64_t qnum_get_int(const QNum *qn)
{
    int64_t val = 0;
    bool ok = qnum_get_try_int(qn, &val);

    assert(ok);
    return val;
}

uint64_t qnum_get_uint(const QNum *qn)
{
    uint64_t val = 0;
    bool ok = qnum_get_try_uint(qn, &val);

    assert(ok);
    return val;
}

double qnum_get_double(const QNum *qn)
{
    switch (qn->kind) {
    case QNUM_I64:
        return qn->u.i64;
    case QNUM_U64:
        return qn->u.u64;
    case QNUM_DOUBLE:
        return qn->u.dbl;
    }
    g_assert_not_reached();
}

char *qnum_to_string(const QNum *qn)
{
    char buf[G_ASCII_DTOSTR_BUF_SIZE];

    switch (qn->kind) {
    case QNUM_I64:
        return g_strdup_printf("%" PRId64, qn->u.i64);
    case QNUM_U64:
        return g_strdup_printf("%" PRIu64, qn->u.u64);
    case QNUM_DOUBLE:
        /* 17 digits identify every double; the locale must not matter */
        return g_strdup(g_ascii_formatd(buf, sizeof(buf), "%.17g", qn->u.dbl));
    }
    g_assert_not_reached();
}

bool qnum_is_equal(const QNum *x, const QNum *y)
{
    int64_t xi, yi;

    if ((x->kind == QNUM_DOUBLE) != (y->kind == QNUM_DOUBLE)) {
        return false;
    }
    if (x->kind == QNUM_DOUBLE) {
        return x->u.dbl == y->u.dbl;
    }
    if (qnum_get_try_int(x, &xi)) {
        return qnum_get_try_int(y, &yi) && xi == yi;
    }
    return !qnum_get_try_int(y, &yi) && x->u.u64 == y->u.u64;
}

void qnum_destroy(QNum *q)
{
    g_free(q);
}

void qnum_unref(QNum *q)
{
    qobject_unref(q);
}
