/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Builds a QObject: `open` is the stack of containers being filled, each owned by
 * the one before it (the outermost by `root`).
 */
#include "util/osdep.h"
#include "qapi/qobject-output-visitor.h"
#include "qapi/visitor-impl.h"
#include "qobject/qbool.h"
#include "qobject/qdict.h"
#include "qobject/qlist.h"
#include "qobject/qnull.h"
#include "qobject/qnum.h"
#include "qobject/qstring.h"

typedef struct OutputVisitor {
    Visitor visitor;
    GPtrArray *open;
    QObject *root;
    QObject **result;
} OutputVisitor;

static OutputVisitor *to_ov(Visitor *v)
{
    return container_of(v, OutputVisitor, visitor);
}

/* Put @value where the visit is; takes the reference. */
static void output_add(OutputVisitor *ov, const char *name, QObject *value)
{
    QObject *parent;

    if (!ov->open->len) {
        assert(!ov->root);
        ov->root = value;
        return;
    }
    parent = g_ptr_array_index(ov->open, ov->open->len - 1);
    if (qobject_type(parent) == QTYPE_QDICT) {
        assert(name);
        qdict_put_obj(qobject_to(QDict, parent), name, value);
    } else {
        qlist_append_obj(qobject_to(QList, parent), value);
    }
}

static bool output_start_struct(Visitor *v, const char *name, void **obj,
                                size_t size, Error **errp)
{
    OutputVisitor *ov = to_ov(v);
    QDict *dict = qdict_new();

    output_add(ov, name, QOBJECT(dict));
    g_ptr_array_add(ov->open, dict);
    return true;
}

static bool output_start_list(Visitor *v, const char *name,
                              GenericList **list, size_t size, Error **errp)
{
    OutputVisitor *ov = to_ov(v);
    QList *qlist = qlist_new();

    output_add(ov, name, QOBJECT(qlist));
    g_ptr_array_add(ov->open, qlist);
    return true;
}

static GenericList *output_next_list(Visitor *v, GenericList *tail,
                                     size_t size)
{
    return tail->next;
}

static void output_end(Visitor *v, void **obj)
{
    OutputVisitor *ov = to_ov(v);

    assert(ov->open->len);
    g_ptr_array_set_size(ov->open, ov->open->len - 1);
}

static bool output_type_int64(Visitor *v, const char *name, int64_t *obj,
                              Error **errp)
{
    output_add(to_ov(v), name, QOBJECT(qnum_from_int(*obj)));
    return true;
}

static bool output_type_uint64(Visitor *v, const char *name, uint64_t *obj,
                               Error **errp)
{
    output_add(to_ov(v), name, QOBJECT(qnum_from_uint(*obj)));
    return true;
}

static bool output_type_bool(Visitor *v, const char *name, bool *obj,
                             Error **errp)
{
    output_add(to_ov(v), name, QOBJECT(qbool_from_bool(*obj)));
    return true;
}

static bool output_type_str(Visitor *v, const char *name, char **obj,
                            Error **errp)
{
    output_add(to_ov(v), name, QOBJECT(qstring_from_str(*obj ? *obj : "")));
    return true;
}

static bool output_type_number(Visitor *v, const char *name, double *obj,
                               Error **errp)
{
    output_add(to_ov(v), name, QOBJECT(qnum_from_double(*obj)));
    return true;
}

static bool output_type_any(Visitor *v, const char *name, QObject **obj,
                            Error **errp)
{
    output_add(to_ov(v), name, qobject_ref(*obj));
    return true;
}

static bool output_type_null(Visitor *v, const char *name, QNull **obj,
                             Error **errp)
{
    output_add(to_ov(v), name, QOBJECT(qnull()));
    return true;
}

static void output_complete(Visitor *v, void *opaque)
{
    OutputVisitor *ov = to_ov(v);

    assert(opaque == ov->result && ov->root && !ov->open->len);
    *ov->result = g_steal_pointer(&ov->root);
}

static void output_free(Visitor *v)
{
    OutputVisitor *ov = to_ov(v);

    qobject_unref(ov->root);
    g_ptr_array_free(ov->open, TRUE);
    g_free(ov);
}

Visitor *qobject_output_visitor_new(QObject **result)
{
    OutputVisitor *ov = g_new0(OutputVisitor, 1);

    ov->visitor = (Visitor) {
        .type = VISITOR_OUTPUT,
        .start_struct = output_start_struct,
        .end_struct = output_end,
        .start_list = output_start_list,
        .next_list = output_next_list,
        .end_list = output_end,
        .type_int64 = output_type_int64,
        .type_uint64 = output_type_uint64,
        .type_bool = output_type_bool,
        .type_str = output_type_str,
        .type_number = output_type_number,
        .type_any = output_type_any,
        .type_null = output_type_null,
        .complete = output_complete,
        .free = output_free,
    };
    ov->open = g_ptr_array_new();
    ov->result = result;
    *result = NULL;
    return &ov->visitor;
}
