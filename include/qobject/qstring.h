/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * QString: text, normally UTF-8, without NUL bytes.  Immutable.
 * Rules of qobject/qobject.h apply.
 */
#ifndef QOBJECT_QSTRING_H
#define QOBJECT_QSTRING_H

#include "qobject/qobject.h"

struct QString {
    struct QObjectBase_ base;
    char *string;
};

/* New objects that the caller owns, with a copy of the text: all of @str, the
 * first @len bytes of it, or printf-formatted. */
QString *qstring_new(void);
QString *qstring_from_str(const char *str);
QString *qstring_from_substr(const char *str, size_t len);
QString *qstring_from_printf(const char *fmt, ...) G_GNUC_PRINTF(1, 2);

/* The same, but the text is taken over: @gstr with its text, or g_malloc'ed
 * @text. */
QString *qstring_from_gstring(GString *gstr);
QString *qstring_adopt(char *text);

/* The text, borrowed. */
const char *qstring_get_str(const QString *qstring);

void qstring_unref(QString *q);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(QString, qstring_unref)

#endif /* QOBJECT_QSTRING_H */
