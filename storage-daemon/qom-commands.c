/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Commands about objects as paths, properties and types. */
#include "util/osdep.h"
#include "qapi/qapi-commands.h"
#include "qapi/qobject-input-visitor.h"
#include "qobject/qjson.h"
#include "qom-tree.h"

/* --- objects --- */

/* False with @errp: @path means none, or several. */
static bool find_any(const char *path, QomNode *node, Error **errp)
{
    unsigned found = qom_resolve(path, node);

    if (!found) {
        error_set(errp, ERROR_CLASS_DEVICE_NOT_FOUND, "Device '%s' not found",
                  path);
    } else if (found > 1) {
        error_setg(errp, "Path '%s' is ambiguous", path);
    }
    return found == 1;
}

/* The same, as the older commands tell it. */
static bool find(const char *path, QomNode *node, Error **errp)
{
    if (qom_resolve(path, node) != 1) {
        error_set(errp, ERROR_CLASS_DEVICE_NOT_FOUND, "Device '%s' not found",
                  path);
        return false;
    }
    return true;
}

static char *child_type(const QomNode *child)
{
    return g_strdup_printf("child<%s>", child->object.type->name);
}

/* NULL: it cannot be read. */
static QObject *read_property(const QomNode *node, const QomProperty *p)
{
    return p->get ? p->get(&node->object, p) : NULL;
}

static QObject *read_child(const QomNode *child)
{
    g_autofree char *path = qom_path(child);

    return qom_value_str(path);
}

static ObjectPropertyInfo *describe(const QomProperty *p)
{
    ObjectPropertyInfo *info = g_new0(ObjectPropertyInfo, 1);

    info->name = g_strdup(p->name);
    info->type = g_strdup(p->type);
    return info;
}

ObjectPropertyInfoList *qmp_qom_list(const char *path, Error **errp)
{
    ObjectPropertyInfoList *list = NULL, **tail = &list;
    g_autoptr(GPtrArray) properties = NULL;
    QomNode node, child = { };

    if (!find_any(path, &node, errp)) {
        return NULL;
    }
    properties = qom_type_properties(node.object.type);
    for (guint i = 0; i < properties->len; i++) {
        QAPI_LIST_APPEND(tail, describe(g_ptr_array_index(properties, i)));
    }
    while (qom_next_child(&node, &child)) {
        ObjectPropertyInfo *info = g_new0(ObjectPropertyInfo, 1);

        info->name = g_strdup(child.name);
        info->type = child_type(&child);
        QAPI_LIST_APPEND(tail, info);
    }
    return list;
}

/* Takes over @type and @value. */
static ObjectPropertyValue *property_value(const char *name, char *type,
                                           QObject *value)
{
    ObjectPropertyValue *v = g_new0(ObjectPropertyValue, 1);

    v->name = g_strdup(name);
    v->type = type;
    v->value = value;
    return v;
}

static ObjectPropertiesValues *all_values(const QomNode *node)
{
    ObjectPropertiesValues *values = g_new0(ObjectPropertiesValues, 1);
    ObjectPropertyValueList **tail = &values->properties;
    g_autoptr(GPtrArray) properties = qom_type_properties(node->object.type);
    QomNode child = { };

    for (guint i = 0; i < properties->len; i++) {
        const QomProperty *p = g_ptr_array_index(properties, i);

        QAPI_LIST_APPEND(tail, property_value(p->name, g_strdup(p->type),
                                              read_property(node, p)));
    }
    while (qom_next_child(node, &child)) {
        QAPI_LIST_APPEND(tail, property_value(child.name, child_type(&child),
                                              read_child(&child)));
    }
    return values;
}

ObjectPropertiesValuesList *qmp_qom_list_get(strList *paths, Error **errp)
{
    ObjectPropertiesValuesList *list = NULL, **tail = &list;

    for (; paths; paths = paths->next) {
        QomNode node;

        if (!find_any(paths->value, &node, errp)) {
            qapi_free_ObjectPropertiesValuesList(list);
            return NULL;
        }
        QAPI_LIST_APPEND(tail, all_values(&node));
    }
    return list;
}

static void cannot(const QomNode *node, const char *property, const char *what,
                   Error **errp)
{
    error_setg(errp, "Property '%s.%s' %s", node->object.type->name, property,
               what);
}

QObject *qmp_qom_get(const char *path, const char *property, Error **errp)
{
    const QomProperty *p;
    QObject *value;
    QomNode node, child;

    if (!find(path, &node, errp)) {
        return NULL;
    }
    p = qom_type_property(node.object.type, property);
    if (!p && qom_find_child(&node, property, &child)) {
        return read_child(&child);
    }
    if (!p) {
        cannot(&node, property, "not found", errp);
        return NULL;
    }
    value = read_property(&node, p);
    if (!value) {
        cannot(&node, property, "is not readable", errp);
    }
    return value;
}

void qmp_qom_set(const char *path, const char *property, QObject *value,
                 Error **errp)
{
    const QomProperty *p;
    QomNode node, child;
    Visitor *v;

    if (!find(path, &node, errp)) {
        return;
    }
    p = qom_type_property(node.object.type, property);
    if (!p && !qom_find_child(&node, property, &child)) {
        cannot(&node, property, "not found", errp);
        return;
    }
    if (!p || !p->set) {
        cannot(&node, property, "is not writable", errp);
        return;
    }
    v = qobject_input_visitor_new(value);
    p->set(node.object.instance, p, v, errp);
    visit_free(v);
}

/* --- types --- */

ObjectTypeInfoList *qmp_qom_list_types(const char *implements,
                                       bool has_abstract, bool abstract,
                                       Error **errp)
{
    g_autoptr(GPtrArray) types = qom_types();
    ObjectTypeInfoList *list = NULL, **tail = &list;

    for (guint i = 0; i < types->len; i++) {
        const QomType *type = g_ptr_array_index(types, i);
        ObjectTypeInfo *info;

        if ((type->abstract && !abstract) ||
            (implements && !qom_type_is_a(type, implements))) {
            continue;
        }
        info = g_new0(ObjectTypeInfo, 1);
        info->name = g_strdup(type->name);
        info->has_abstract = info->abstract = type->abstract;
        info->parent = type->parent ? g_strdup(type->parent->name) : NULL;
        QAPI_LIST_APPEND(tail, info);
    }
    return list;
}

/* NULL with @errp. */
static const QomType *find_type(const char *name, Error **errp)
{
    g_autoptr(GPtrArray) types = qom_types();

    for (guint i = 0; i < types->len; i++) {
        const QomType *type = g_ptr_array_index(types, i);

        if (strcmp(type->name, name)) {
            continue;
        }
        if (qom_type_is_a(type, qom_type_object.name)) {
            return type;
        }
        error_setg(errp, "Parameter 'typename' expects a QOM type");
        return NULL;
    }
    error_set(errp, ERROR_CLASS_DEVICE_NOT_FOUND, "Class '%s' not found", name);
    return NULL;
}

ObjectPropertyInfoList *qmp_qom_list_properties(const char *typename,
                                                Error **errp)
{
    ObjectPropertyInfoList *list = NULL, **tail = &list;
    const QomType *type = find_type(typename, errp);
    g_autoptr(GPtrArray) properties = NULL;

    if (!type) {
        return NULL;
    }
    properties = qom_type_properties(type);
    for (guint i = 0; i < properties->len; i++) {
        const QomProperty *p = g_ptr_array_index(properties, i);
        ObjectPropertyInfo *info = describe(p);

        info->description = g_strdup(qom_type_explain(type, p));
        if (p->initial) {
            info->default_value = qobject_from_json(p->initial, &error_abort);
        }
        QAPI_LIST_APPEND(tail, info);
    }
    return list;
}
