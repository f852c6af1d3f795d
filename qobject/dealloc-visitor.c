/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Frees each pointer after what it points to has been visited. */
#include "util/osdep.h"
#include "qapi/dealloc-visitor.h"
#include "qapi/visitor-impl.h"
#include "qobject/qnull.h"

static void dealloc_end_struct(Visitor *v, void **obj)
{
    if (obj) {
        g_free(*obj);
        *obj = NULL;
    }
}

static GenericList *dealloc_next_list(Visitor *v, GenericList *tail,
                                      size_t size)
{
    GenericList *next = tail->next;

    g_free(tail);
    return next;
}

static bool dealloc_type_str(Visitor *v, const char *name, char **obj,
                             Error **errp)
{
    g_free(*obj);
    *obj = NULL;
    return true;
}

static bool dealloc_type_any(Visitor *v, const char *name, QObject **obj,
                             Error **errp)
{
    qobject_unref(*obj);
    *obj = NULL;
    return true;
}

static bool dealloc_type_null(Visitor *v, const char *name, QNull **obj,
                              Error **errp)
{
    qobject_unref(*obj);
    *obj = NULL;
    return true;
}

/* A flag may be unset while the member behind it is NULL or zero, never the
 * other way round, so visiting what is marked present frees everything. */
static void dealloc_free(Visitor *v)
{
    g_free(v);
}

Visitor *qapi_dealloc_visitor_new(void)
{
    Visitor *v = g_new0(Visitor, 1);

    v->type = VISITOR_DEALLOC;
    v->end_struct = dealloc_end_struct;
    v->end_alternate = dealloc_end_struct;
    v->next_list = dealloc_next_list;
    v->type_str = dealloc_type_str;
    v->type_any = dealloc_type_any;
    v->type_null = dealloc_type_null;
    v->free = dealloc_free;
    return v;
}
