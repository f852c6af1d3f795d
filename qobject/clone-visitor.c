/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Replaces each pointer it meets by a copy of what it points to.  Scalars have
 * been copied with the memory around them.
 */
#include "util/osdep.h"
#include "qapi/clone-visitor.h"
#include "qapi/visitor-impl.h"
#include "qobject/qnull.h"

static bool clone_start_struct(Visitor *v, const char *name, void **obj,
                               size_t size, Error **errp)
{
    if (obj) {
        *obj = g_memdup2(*obj, size);
    }
    return true;
}

static bool clone_start_alternate(Visitor *v, const char *name,
                                  GenericAlternate **obj, size_t size,
                                  Error **errp)
{
    *obj = g_memdup2(*obj, size);
    return true;
}

static bool clone_start_list(Visitor *v, const char *name, GenericList **list,
                             size_t size, Error **errp)
{
    *list = g_memdup2(*list, size);
    return true;
}

static GenericList *clone_next_list(Visitor *v, GenericList *tail,
                                    size_t size)
{
    tail->next = g_memdup2(tail->next, size);
    return tail->next;
}

static bool clone_type_str(Visitor *v, const char *name, char **obj,
                           Error **errp)
{
    *obj = g_strdup(*obj);
    return true;
}

static bool clone_type_any(Visitor *v, const char *name, QObject **obj,
                           Error **errp)
{
    qobject_ref(*obj);
    return true;
}

static bool clone_type_null(Visitor *v, const char *name, QNull **obj,
                            Error **errp)
{
    qobject_ref(*obj);
    return true;
}

static void clone_free(Visitor *v)
{
    g_free(v);
}

Visitor *qapi_clone_visitor_new(void)
{
    Visitor *v = g_new0(Visitor, 1);

    v->type = VISITOR_CLONE;
    v->start_struct = clone_start_struct;
    v->start_list = clone_start_list;
    v->next_list = clone_next_list;
    v->start_alternate = clone_start_alternate;
    v->type_str = clone_type_str;
    v->type_any = clone_type_any;
    v->type_null = clone_type_null;
    v->free = clone_free;
    return v;
}
