/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * JSON text: parsed as one value, and as a stream in pieces. What was parsed is
 * written and parsed again, and must be the same value then.
 */
#include "util/osdep.h"
#include "fuzz.h"
#include "qobject/json-parser.h"
#include "qobject/qdict.h"
#include "qobject/qjson.h"
#include "util/error.h"

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    return 0;
}

static void write_and_parse(const QObject *obj, bool pretty)
{
    g_autoptr(GString) text = qobject_to_json_pretty(obj, pretty);
    QObject *again = qobject_from_json(text->str, &error_abort);

    assert(qobject_is_equal(obj, again));
    qobject_unref(again);
}

static void try_value(const char *text)
{
    QObject *obj = qobject_from_json(text, NULL);
    QDict *dict = qobject_to(QDict, obj);

    if (!obj) {
        return;
    }
    write_and_parse(obj, false);
    write_and_parse(obj, true);
    if (dict) {
        QObject *nested;

        qdict_flatten(dict);
        nested = qdict_crumple(dict, NULL);
        qobject_unref(nested);
    }
    qobject_unref(obj);
}

/* Exactly one of them is there. */
static void emit(void *opaque, QObject *json, Error *err)
{
    assert(!json != !err);
    qobject_unref(json);
    error_free(err);
}

static void try_stream(const uint8_t *data, size_t size)
{
    size_t piece = size ? 1 + data[0] % 16 : 1;
    JSONMessageParser parser;

    json_message_parser_init(&parser, emit, NULL, NULL);
    for (size_t at = 0; at < size; at += piece) {
        json_message_parser_feed(&parser, (const char *)data + at,
                                 MIN(piece, size - at));
    }
    json_message_parser_flush(&parser);
    json_message_parser_destroy(&parser);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autofree char *text = g_strndup((const char *)data, size);

    try_value(text);
    try_stream(data, size);
    return 0;
}
