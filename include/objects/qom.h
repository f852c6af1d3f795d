/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Types of objects and their properties, as the commands qom-* show them. Types
 * are static tables, and a type has the properties of its parents. Main thread.
 */
#ifndef OBJECTS_QOM_H
#define OBJECTS_QOM_H

#include "qapi/util.h"
#include "qapi/visitor.h"

typedef struct QomType QomType;
typedef struct QomProperty QomProperty;

typedef struct QomObject {
    const QomType *type;
    void *instance;             /* what the type's properties work on */
} QomObject;

struct QomProperty {
    const char *name;
    const char *type;           /* of the value, as users see it */
    /* A new value; it cannot fail. NULL: nobody may read it. */
    QObject *(*get)(const QomObject *obj, const QomProperty *p);
    /* Reads p->name from @v and takes it over at once. False with @errp and
     * nothing changed. NULL: it cannot be changed. */
    bool (*set)(void *instance, const QomProperty *p, Visitor *v, Error **errp);
    const char *initial;        /* default in JSON; NULL: there is none */
};

struct QomType {
    const char *name;
    const QomType *parent;      /* NULL: of the two roots */
    bool abstract;
    bool user_creatable;        /* it and what is derived from it */
    const QomProperty *properties;      /* own; name NULL at the end. Or NULL */
    const QapiMemberInfo *members;      /* where they are explained, or NULL */
};

/* What all others derive from; with the property "type". */
extern const QomType qom_type_object;
/* What others lie below. */
extern const QomType qom_type_container;
/* What types implement rather than derive from. */
extern const QomType qom_type_user_creatable;

/* Whether @type is @name, derived from it, or implements it. */
bool qom_type_is_a(const QomType *type, const char *name);
/* Properties of @type, its parents' first. Caller unrefs. */
GPtrArray *qom_type_properties(const QomType *type);
/* The property of @type or a parent; NULL if there is none. */
const QomProperty *qom_type_property(const QomType *type, const char *name);
/* What the property is, NULL if nobody says; static. */
const char *qom_type_explain(const QomType *type, const QomProperty *p);

/* A string as a value; NULL is "". */
QObject *qom_value_str(const char *text);

#endif
