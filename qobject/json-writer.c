/* SPDX-License-Identifier: GPL-2.0-or-later */
/* QObjects as JSON text.  Containers being written are kept on a stack. */
#include "util/osdep.h"
#include "qobject/qbool.h"
#include "qobject/qdict.h"
#include "qobject/qjson.h"
#include "qobject/qlist.h"
#include "qobject/qnum.h"
#include "qobject/qstring.h"
#include "json-string.h"

typedef struct WriteLevel {
    GPtrArray *members;         /* of a dictionary, in order of printing */
    guint next;                 /* index in members */
    const QListEntry *element;  /* of a list: the next one */
    bool begun;                 /* something has been written */
} WriteLevel;

typedef struct JSONWriter {
    GString *out;
    bool pretty;
    GArray *levels;
} JSONWriter;

static void write_newline(JSONWriter *writer)
{
    if (writer->pretty) {
        g_string_append_printf(writer->out, "\n%*s",
                               4 * (int)writer->levels->len, "");
    }
}

static void write_open(JSONWriter *writer, const QObject *obj)
{
    const QDict *dict = qobject_to(QDict, obj);
    WriteLevel level = { 0 };

    if (dict) {
        level.members = qdict_entries_in_print_order(dict);
    } else {
        level.element = qlist_first(qobject_to(QList, obj));
    }
    g_string_append_c(writer->out, dict ? '{' : '[');
    g_array_append_val(writer->levels, level);
}

/* Write a scalar, or begin a container. */
static void write_value(JSONWriter *writer, const QObject *obj)
{
    g_autofree char *number = NULL;

    switch (qobject_type(obj)) {
    case QTYPE_QNULL:
        g_string_append(writer->out, "null");
        break;
    case QTYPE_QBOOL:
        g_string_append(writer->out,
                        qbool_get_bool(qobject_to(QBool, obj)) ? "true"
                                                               : "false");
        break;
    case QTYPE_QNUM:
        number = qnum_to_string(qobject_to(QNum, obj));
        g_string_append(writer->out, number);
        break;
    case QTYPE_QSTRING:
        json_string_encode(writer->out,
                           qstring_get_str(qobject_to(QString, obj)));
        break;
    case QTYPE_QDICT:
    case QTYPE_QLIST:
        write_open(writer, obj);
        break;
    default:
        g_assert_not_reached();
    }
}

/* Write the next member of the innermost container, or its end. */
static void write_step(JSONWriter *writer)
{
    WriteLevel *level = &g_array_index(writer->levels, WriteLevel,
                                       writer->levels->len - 1);
    bool dict = level->members != NULL;
    const QObject *value;

    if (dict ? level->next == level->members->len : !level->element) {
        if (dict) {
            g_ptr_array_free(level->members, TRUE);
        }
        g_array_set_size(writer->levels, writer->levels->len - 1);
        write_newline(writer);
        g_string_append_c(writer->out, dict ? '}' : ']');
        return;
    }
    if (level->begun) {
        g_string_append(writer->out, writer->pretty ? "," : ", ");
    }
    level->begun = true;
    write_newline(writer);
    if (dict) {
        const QDictEntry *entry = g_ptr_array_index(level->members,
                                                    level->next++);

        json_string_encode(writer->out, qdict_entry_key(entry));
        g_string_append(writer->out, ": ");
        value = qdict_entry_value(entry);
    } else {
        value = level->element->value;
        level->element = qlist_next(level->element);
    }
    write_value(writer, value);
}

GString *qobject_to_json_pretty(const QObject *obj, bool pretty)
{
    JSONWriter writer = {
        .out = g_string_new(""), .pretty = pretty,
        .levels = g_array_new(FALSE, FALSE, sizeof(WriteLevel)),
    };

    write_value(&writer, obj);
    while (writer.levels->len) {
        write_step(&writer);
    }
    g_array_free(writer.levels, TRUE);
    return writer.out;
}

GString *qobject_to_json(const QObject *obj)
{
    return qobject_to_json_pretty(obj, false);
}
