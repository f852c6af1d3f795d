/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Objects that hold no others: null, bool, string. */
#include "util/osdep.h"
#include "qobject/qbool.h"
#include "qobject/qnull.h"
#include "qobject/qstring.h"
#include "qobject-internal.h"

QNull *qnull(void)
{
    QNull *q = g_new0(QNull, 1);

    qobject_init(q, QTYPE_QNULL);
    return q;
}

void qnull_destroy(QNull *q)
{
    g_free(q);
}

void qnull_unref(QNull *q)
{
    qobject_unref(q);
}

QBool *qbool_from_bool(bool value)
{
    QBool *qb = g_new0(QBool, 1);

    qobject_init(qb, QTYPE_QBOOL);
    qb->value = value;
    return qb;
}

bool qbool_get_bool(const QBool *qb)
{
    return qb->value;
}

void qbool_destroy(QBool *q)
{
    g_free(q);
}

void qbool_unref(QBool *q)
{
    qobject_unref(q);
}

QString *qstring_adopt(char *text)
{
    QString *qs = g_new0(QString, 1);

    qobject_init(qs, QTYPE_QSTRING);
    qs->string = text;
    return qs;
}

QString *qstring_new(void)
{
    return qstring_from_str("");
}

QString *qstring_from_str(const char *str)
{
    return qstring_adopt(g_strdup(str));
}

QString *qstring_from_substr(const char *str, size_t len)
{
    return qstring_adopt(g_strndup(str, len));
}

QString *qstring_from_printf(const char *fmt, ...)
{
    QString *qs;
    va_list ap;

    va_start(ap, fmt);
    qs = qstring_adopt(g_strdup_vprintf(fmt, ap));
    va_end(ap);
    return qs;
}

QString *qstring_from_gstring(GString *gstr)
{
    return qstring_adopt(g_string_free(gstr, FALSE));
}

const char *qstring_get_str(const QString *qstring)
{
    return qstring->string;
}

void qstring_destroy(QString *q)
{
    g_free(q->string);
    g_free(q);
}

void qstring_unref(QString *q)
{
    qobject_unref(q);
}
