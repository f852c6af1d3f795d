/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Types of objects and their properties. */
#include "util/osdep.h"
#include "objects/qom.h"
#include "qobject/qstring.h"

QObject *qom_value_str(const char *text)
{
    return QOBJECT(qstring_from_str(text ?: ""));
}

/* --- the roots --- */

static QObject *get_type(const QomObject *obj, const QomProperty *p)
{
    return qom_value_str(obj->type->name);
}

static const QomProperty object_properties[] = {
    { .name = "type", .type = "string", .get = get_type },
    { }
};

const QomType qom_type_object = {
    .name = "object",
    .abstract = true,
    .properties = object_properties,
};

const QomType qom_type_container = {
    .name = "container",
    .parent = &qom_type_object,
};

static const QomType qom_type_interface = {
    .name = "interface",
    .abstract = true,
};

const QomType qom_type_user_creatable = {
    .name = "user-creatable",
    .parent = &qom_type_interface,
    .abstract = true,
};

/* --- types --- */

static bool is_or_derives_from(const QomType *type, const char *name)
{
    for (; type; type = type->parent) {
        if (!strcmp(type->name, name)) {
            return true;
        }
    }
    return false;
}

bool qom_type_is_a(const QomType *type, const char *name)
{
    if (is_or_derives_from(type, name)) {
        return true;
    }
    for (; type; type = type->parent) {
        if (type->user_creatable) {
            return is_or_derives_from(&qom_type_user_creatable, name);
        }
    }
    return false;
}

static void add_properties(GPtrArray *list, const QomType *type)
{
    if (type->parent) {
        add_properties(list, type->parent);
    }
    for (const QomProperty *p = type->properties; p && p->name; p++) {
        g_ptr_array_add(list, (gpointer)p);
    }
}

GPtrArray *qom_type_properties(const QomType *type)
{
    GPtrArray *list = g_ptr_array_new();

    add_properties(list, type);
    return list;
}

const QomProperty *qom_type_property(const QomType *type, const char *name)
{
    for (; type; type = type->parent) {
        for (const QomProperty *p = type->properties; p && p->name; p++) {
            if (!strcmp(p->name, name)) {
                return p;
            }
        }
    }
    return NULL;
}

const char *qom_type_explain(const QomType *type, const QomProperty *p)
{
    for (; type; type = type->parent) {
        const QapiMemberInfo *m =
            type->members ? qapi_member_find(type->members, p->name) : NULL;

        if (m) {
            return m->doc;
        }
    }
    return NULL;
}
