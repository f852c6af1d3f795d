/* SPDX-License-Identifier: GPL-2.0-or-later */
/* One JSON value from one string, on top of the streaming parser. */
#include "util/osdep.h"
#include "qobject/json-parser.h"
#include "qobject/qdict.h"
#include "qobject/qjson.h"

typedef struct SingleValue {
    QObject *value;
    Error *err;
} SingleValue;

/* The first error wins, and anything behind a value is one. */
static void single_emit(void *opaque, QObject *json, Error *err)
{
    SingleValue *single = opaque;

    if (single->err) {
        qobject_unref(json);
        error_free(err);
        return;
    }
    if (!single->value) {
        single->value = json;
        single->err = err;
        return;
    }
    qobject_unref(json);
    error_free(err);
    g_clear_pointer(&single->value, qobject_unref_impl);
    error_setg(&single->err, "Expecting at most one JSON value");
}

static QObject *from_json(const char *string, va_list *ap, Error **errp)
{
    JSONMessageParser parser;
    SingleValue single = { 0 };

    json_message_parser_init(&parser, single_emit, &single, ap);
    json_message_parser_feed(&parser, string, strlen(string));
    json_message_parser_flush(&parser);
    json_message_parser_destroy(&parser);
    if (!single.value && !single.err) {
        error_setg(&single.err, "Expecting a JSON value");
    }
    error_propagate(errp, single.err);
    return single.value;
}

QObject *qobject_from_json(const char *string, Error **errp)
{
    return from_json(string, NULL, errp);
}

QObject *qobject_from_vjsonf_nofail(const char *string, va_list ap)
{
    QObject *obj;
    va_list copy;

    va_copy(copy, ap);
    obj = from_json(string, &copy, &error_abort);
    va_end(copy);
    return obj;
}

QObject *qobject_from_jsonf_nofail(const char *string, ...)
{
    QObject *obj;
    va_list ap;

    va_start(ap, string);
    obj = qobject_from_vjsonf_nofail(string, ap);
    va_end(ap);
    return obj;
}

QDict *qdict_from_jsonf_nofail(const char *string, ...)
{
    QDict *dict;
    va_list ap;

    va_start(ap, string);
    dict = qobject_to(QDict, qobject_from_vjsonf_nofail(string, ap));
    va_end(ap);
    assert(dict);
    return dict;
}
