/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * JSON text from and to QObjects, in QMP's dialect: strings may also be written
 * in single quotes, integers keep the full range of int64_t and uint64_t.
 * Rules of qobject/qobject.h apply.
 */
#ifndef QOBJECT_QJSON_H
#define QOBJECT_QJSON_H

#include "qobject/qobject.h"
#include "util/error.h"

/*
 * Parse exactly one value.  The caller owns the result; NULL and an error
 * ("JSON parse error, ...") if the text is not one value within the limits of
 * qobject/json-parser.h.
 */
QObject *qobject_from_json(const char *string, Error **errp);

/*
 * The same for text that is correct by construction; aborts otherwise.  In
 * place of values it may contain %p (a QObject *, whose reference is taken), %i
 * (bool), %d (int), %ld, %lld, %u, %lu, %llu, PRId64, PRIu64, %f (double) and %s
 * (string, copied); a string literal never interpolates.
 */
QObject *qobject_from_jsonf_nofail(const char *string, ...)
    G_GNUC_PRINTF(1, 2);
QObject *qobject_from_vjsonf_nofail(const char *string, va_list ap)
    G_GNUC_PRINTF(1, 0);

/* The same for an object. */
QDict *qdict_from_jsonf_nofail(const char *string, ...) G_GNUC_PRINTF(1, 2);

/*
 * JSON text of @obj on one line, or with a line for each member, indented by
 * four blanks a level when @pretty.  ASCII only: everything else is written
 * \uXXXX, and bytes that are not UTF-8 become \uFFFD.  Members come in the
 * order of qdict_entries_in_print_order().  The caller frees the GString.
 */
GString *qobject_to_json(const QObject *obj);
GString *qobject_to_json_pretty(const QObject *obj, bool pretty);

#endif /* QOBJECT_QJSON_H */
