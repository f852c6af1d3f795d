/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Reads QObjects.  `frames` is the stack of containers being read, outermost
 * first; each dictionary frame knows which members have been asked for, so that
 * the others can be refused when it ends.
 *
 * Scalars may be of JSON's types, text as on a command line, or either.
 */
#include "util/osdep.h"
#include <math.h>
#include "util/error.h"
#include "qapi/qobject-input-visitor.h"
#include "qapi/visitor-impl.h"
#include "qobject/keyval.h"
#include "qobject/qbool.h"
#include "qobject/qdict.h"
#include "qobject/qjson.h"
#include "qobject/qlist.h"
#include "qobject/qnull.h"
#include "qobject/qnum.h"
#include "qobject/qstring.h"
#include "util/cutils.h"

#define INPUT_MAX_DEPTH 1024

typedef enum {
    SCALARS_JSON,
    SCALARS_TEXT,
    SCALARS_EITHER,
} Scalars;

typedef struct Frame {
    const char *name;           /* in the container around it; borrowed */
    QObject *obj;               /* borrowed from the root */
    GHashTable *asked;          /* of a dictionary: members read so far */
    const QListEntry *entry;    /* of a list: element being read, or NULL */
    size_t index;               /* of @entry */
} Frame;

typedef struct InputVisitor {
    Visitor visitor;
    Scalars scalars;
    QObject *root;
    GArray *frames;
} InputVisitor;

static InputVisitor *to_iv(Visitor *v)
{
    return container_of(v, InputVisitor, visitor);
}

static Frame *top_frame(InputVisitor *iv)
{
    return iv->frames->len
           ? &g_array_index(iv->frames, Frame, iv->frames->len - 1) : NULL;
}

/* --- names for messages --- */

static void append_name(GString *path, const char *name)
{
    if (path->len) {
        g_string_append_c(path, '.');
    }
    g_string_append(path, name ? name : "<anonymous>");
}

static char *input_full_name(Visitor *v, const char *name)
{
    InputVisitor *iv = to_iv(v);
    GString *path = g_string_new("");
    guint i;

    for (i = 0; i < iv->frames->len; i++) {
        Frame *frame = &g_array_index(iv->frames, Frame, i);
        bool last = i + 1 == iv->frames->len;
        const char *below = last ? name : frame[1].name;

        if (i == 0 && frame->name) {
            append_name(path, frame->name);
        }
        if (qobject_type(frame->obj) == QTYPE_QDICT) {
            append_name(path, below);
        } else if (iv->scalars == SCALARS_JSON) {
            g_string_append_printf(path, "[%zu]", frame->index);
        } else {
            g_string_append_printf(path, "%s%zu", path->len ? "." : "",
                                   frame->index);
        }
    }
    if (!iv->frames->len) {
        append_name(path, name);
    }
    return g_string_free(path, FALSE);
}

static bool expects_error(Visitor *v, const char *name, const char *what,
                          Error **errp)
{
    g_autofree char *path = input_full_name(v, name);

    error_setg(errp, "Parameter '%s' expects %s", path, what);
    return false;
}

/* --- getting at values --- */

/* The value of member @name, NULL if absent; borrowed. */
static QObject *input_peek(InputVisitor *iv, const char *name)
{
    Frame *frame = top_frame(iv);

    if (!frame) {
        return iv->root;
    }
    if (qobject_type(frame->obj) == QTYPE_QDICT) {
        return qdict_get(qobject_to(QDict, frame->obj), name);
    }
    return qlist_entry_obj(frame->entry);
}

/* The same; marks it as read, and makes absence an error. */
static QObject *input_get(InputVisitor *iv, const char *name, Error **errp)
{
    Frame *frame = top_frame(iv);
    QObject *obj = input_peek(iv, name);

    if (!obj) {
        g_autofree char *path = input_full_name(&iv->visitor, name);

        error_setg(errp, "Parameter '%s' is missing", path);
        return NULL;
    }
    if (frame && frame->asked) {
        g_hash_table_add(frame->asked, (gpointer)name);
    }
    return obj;
}

/* The text of a scalar if it is to be read as text, else NULL. */
static const char *input_text(InputVisitor *iv, QObject *obj)
{
    QString *qs = qobject_to(QString, obj);

    return qs && iv->scalars != SCALARS_JSON ? qstring_get_str(qs) : NULL;
}

/* --- containers --- */

static bool input_push(InputVisitor *iv, const char *name, QObject *obj,
                       Error **errp)
{
    Frame frame = { .name = name, .obj = obj };

    if (iv->frames->len == INPUT_MAX_DEPTH) {
        error_setg(errp, "Parameters are nested too deeply");
        return false;
    }
    if (qobject_type(obj) == QTYPE_QDICT) {
        frame.asked = g_hash_table_new(g_str_hash, g_str_equal);
    } else {
        frame.entry = qlist_first(qobject_to(QList, obj));
    }
    g_array_append_val(iv->frames, frame);
    return true;
}

static void input_pop(InputVisitor *iv)
{
    Frame *frame = top_frame(iv);

    assert(frame);
    if (frame->asked) {
        g_hash_table_destroy(frame->asked);
    }
    g_array_set_size(iv->frames, iv->frames->len - 1);
}

static bool input_start_struct(Visitor *v, const char *name, void **obj,
                               size_t size, Error **errp)
{
    InputVisitor *iv = to_iv(v);
    QObject *value;

    if (obj) {
        *obj = NULL;
    }
    value = input_get(iv, name, errp);
    if (!value) {
        return false;
    }
    if (qobject_type(value) != QTYPE_QDICT) {
        visit_error_type(v, name, "object", errp);
        return false;
    }
    if (!input_push(iv, name, value, errp)) {
        return false;
    }
    if (obj) {
        *obj = g_malloc0(size);
    }
    return true;
}

static bool input_check_struct(Visitor *v, Error **errp)
{
    Frame *frame = top_frame(to_iv(v));
    QDict *dict = qobject_to(QDict, frame->obj);
    const QDictEntry *entry;

    for (entry = qdict_first(dict); entry; entry = qdict_next(dict, entry)) {
        const char *key = qdict_entry_key(entry);

        if (!g_hash_table_contains(frame->asked, key)) {
            g_autofree char *path = input_full_name(v, key);

            error_setg(errp, "Parameter '%s' is unexpected", path);
            return false;
        }
    }
    return true;
}

static void input_end_struct(Visitor *v, void **obj)
{
    input_pop(to_iv(v));
}

static bool input_start_list(Visitor *v, const char *name,
                             GenericList **list, size_t size, Error **errp)
{
    InputVisitor *iv = to_iv(v);
    QObject *value;

    *list = NULL;
    value = input_get(iv, name, errp);
    if (!value) {
        return false;
    }
    if (qobject_type(value) != QTYPE_QLIST) {
        visit_error_type(v, name, "array", errp);
        return false;
    }
    if (!input_push(iv, name, value, errp)) {
        return false;
    }
    if (top_frame(iv)->entry) {
        *list = g_malloc0(size);
    }
    return true;
}

static GenericList *input_next_list(Visitor *v, GenericList *tail,
                                    size_t size)
{
    Frame *frame = top_frame(to_iv(v));

    frame->entry = qlist_next(frame->entry);
    frame->index++;
    tail->next = frame->entry ? g_malloc0(size) : NULL;
    return tail->next;
}

static void input_end_list(Visitor *v, void **list)
{
    input_pop(to_iv(v));
}

static bool input_start_alternate(Visitor *v, const char *name,
                                  GenericAlternate **obj, size_t size,
                                  Error **errp)
{
    QObject *value;

    *obj = NULL;
    value = input_get(to_iv(v), name, errp);
    if (!value) {
        return false;
    }
    *obj = g_malloc0(size);
    (*obj)->type = qobject_type(value);
    return true;
}

static void input_optional(Visitor *v, const char *name, bool *present)
{
    *present = input_peek(to_iv(v), name) != NULL;
}

/* --- scalars --- */

static bool input_type_int64(Visitor *v, const char *name, int64_t *obj,
                             Error **errp)
{
    InputVisitor *iv = to_iv(v);
    QObject *value = input_get(iv, name, errp);
    const char *text;
    QNum *qn;

    if (!value) {
        return false;
    }
    text = input_text(iv, value);
    if (text) {
        return !qemu_strtoi64(text, NULL, 0, obj) ||
               expects_error(v, name, "integer", errp);
    }
    qn = qobject_to(QNum, value);
    if (iv->scalars != SCALARS_TEXT && qn && qnum_get_try_int(qn, obj)) {
        return true;
    }
    visit_error_type(v, name, "integer", errp);
    return false;
}

static bool input_type_uint64(Visitor *v, const char *name, uint64_t *obj,
                              Error **errp)
{
    InputVisitor *iv = to_iv(v);
    QObject *value = input_get(iv, name, errp);
    const char *text;
    QNum *qn;

    if (!value) {
        return false;
    }
    text = input_text(iv, value);
    if (text) {
        return !parse_uint_full(text, 0, obj) ||
               expects_error(v, name, "integer", errp);
    }
    qn = qobject_to(QNum, value);
    if (iv->scalars != SCALARS_TEXT && qn && qnum_get_try_uint(qn, obj)) {
        return true;
    }
    if (iv->scalars != SCALARS_TEXT && qn && qn->kind == QNUM_I64) {
        return expects_error(v, name, "a non-negative integer", errp);
    }
    visit_error_type(v, name, "integer", errp);
    return false;
}

static bool input_type_size(Visitor *v, const char *name, uint64_t *obj,
                            Error **errp)
{
    InputVisitor *iv = to_iv(v);
    QObject *value = input_peek(iv, name);
    const char *text = value ? input_text(iv, value) : NULL;

    if (!text) {
        return input_type_uint64(v, name, obj, errp);
    }
    input_get(iv, name, &error_abort);
    if (!qemu_strtosz(text, NULL, obj)) {
        return true;
    }
    ERRP_GUARD();
    expects_error(v, name, "a non-negative number below 2^64", errp);
    error_append_hint(errp, "Optional suffix k, M, G, T, P or E means kilo-, "
                      "mega-, giga-, tera-, peta-\nand exabytes, "
                      "respectively.\n");
    return false;
}

static bool input_type_bool(Visitor *v, const char *name, bool *obj,
                            Error **errp)
{
    InputVisitor *iv = to_iv(v);
    QObject *value = input_get(iv, name, errp);
    const char *text;
    QBool *qb;

    if (!value) {
        return false;
    }
    text = input_text(iv, value);
    if (text) {
        return qapi_bool_parse(name, text, obj, NULL) ||
               expects_error(v, name, "'on' or 'off'", errp);
    }
    qb = qobject_to(QBool, value);
    if (iv->scalars != SCALARS_TEXT && qb) {
        *obj = qbool_get_bool(qb);
        return true;
    }
    visit_error_type(v, name, "boolean", errp);
    return false;
}

static bool input_type_str(Visitor *v, const char *name, char **obj,
                           Error **errp)
{
    QObject *value;
    QString *qs;

    *obj = NULL;
    value = input_get(to_iv(v), name, errp);
    if (!value) {
        return false;
    }
    qs = qobject_to(QString, value);
    if (!qs) {
        visit_error_type(v, name, "string", errp);
        return false;
    }
    *obj = g_strdup(qstring_get_str(qs));
    return true;
}

/* A finite number that is all of @text. */
static bool text_to_double(const char *text, double *val)
{
    char *end;

    *val = g_ascii_strtod(text, &end);
    return end != text && !*end && isfinite(*val);
}

static bool input_type_number(Visitor *v, const char *name, double *obj,
                              Error **errp)
{
    InputVisitor *iv = to_iv(v);
    QObject *value = input_get(iv, name, errp);
    const char *text;
    QNum *qn;

    if (!value) {
        return false;
    }
    text = input_text(iv, value);
    if (text) {
        return text_to_double(text, obj) ||
               expects_error(v, name, "number", errp);
    }
    qn = qobject_to(QNum, value);
    if (iv->scalars != SCALARS_TEXT && qn) {
        *obj = qnum_get_double(qn);
        return true;
    }
    visit_error_type(v, name, "number", errp);
    return false;
}

/* The whole subtree is the value: none of it can be unexpected. */
static bool input_type_any(Visitor *v, const char *name, QObject **obj,
                           Error **errp)
{
    QObject *value;

    *obj = NULL;
    value = input_get(to_iv(v), name, errp);
    *obj = qobject_ref(value);
    return value != NULL;
}

static bool input_type_null(Visitor *v, const char *name, QNull **obj,
                            Error **errp)
{
    QObject *value;

    *obj = NULL;
    value = input_get(to_iv(v), name, errp);
    if (!value) {
        return false;
    }
    if (qobject_type(value) != QTYPE_QNULL) {
        visit_error_type(v, name, "null", errp);
        return false;
    }
    *obj = qnull();
    return true;
}

/* --- life --- */

static void input_free(Visitor *v)
{
    InputVisitor *iv = to_iv(v);

    while (iv->frames->len) {
        input_pop(iv);
    }
    g_array_free(iv->frames, TRUE);
    qobject_unref(iv->root);
    g_free(iv);
}

static Visitor *input_new(QObject *obj, Scalars scalars)
{
    InputVisitor *iv = g_new0(InputVisitor, 1);

    assert(obj);
    iv->visitor = (Visitor) {
        .type = VISITOR_INPUT,
        .start_struct = input_start_struct,
        .check_struct = input_check_struct,
        .end_struct = input_end_struct,
        .start_list = input_start_list,
        .next_list = input_next_list,
        .end_list = input_end_list,
        .start_alternate = input_start_alternate,
        .type_int64 = input_type_int64,
        .type_uint64 = input_type_uint64,
        .type_size = input_type_size,
        .type_bool = input_type_bool,
        .type_str = input_type_str,
        .type_number = input_type_number,
        .type_any = input_type_any,
        .type_null = input_type_null,
        .optional = input_optional,
        .full_name = input_full_name,
        .free = input_free,
    };
    iv->scalars = scalars;
    iv->root = qobject_ref(obj);
    iv->frames = g_array_new(FALSE, FALSE, sizeof(Frame));
    return &iv->visitor;
}

Visitor *qobject_input_visitor_new(QObject *obj)
{
    return input_new(obj, SCALARS_JSON);
}

Visitor *qobject_input_visitor_new_keyval(QObject *obj)
{
    return input_new(obj, SCALARS_TEXT);
}

Visitor *qobject_input_visitor_new_flat_confused(QDict *qdict, Error **errp)
{
    g_autoptr(QObject) nested = qdict_crumple(qdict, errp);

    return nested ? input_new(nested, SCALARS_EITHER) : NULL;
}

Visitor *qobject_input_visitor_new_str(const char *str,
                                       const char *implied_key,
                                       Error **errp)
{
    g_autoptr(QObject) obj = NULL;

    if (str[0] != '{') {
        obj = QOBJECT(keyval_parse(str, implied_key, NULL, errp));
        return obj ? input_new(obj, SCALARS_TEXT) : NULL;
    }
    obj = qobject_from_json(str, errp);
    return obj ? input_new(obj, SCALARS_JSON) : NULL;
}
