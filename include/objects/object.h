/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Objects that users make with --object or object-add and name by id elsewhere:
 * IOThreads, throttle groups, secrets. One name space for all types.
 *
 * Whoever relies on an object holds a use of it, and object-del refuses while
 * there is one. Main thread, outside coroutines.
 */
#ifndef OBJECTS_OBJECT_H
#define OBJECTS_OBJECT_H

#include "util/osdep.h"
#include "objects/qom.h"
#include "util/error.h"
#include "util/iothread.h"
#include "qapi/qapi-types.h"

typedef struct UserObject UserObject;

/* A type; listed in objects/object.c. */
typedef struct UserObjectClass {
    ObjectType type;
    /* Named like @type. Its instance is the UserObject. */
    QomType qom;
    /* The object's own data, or NULL with @errp. @options is borrowed. */
    void *(*create)(const ObjectOptions *options, Error **errp);
    /* Nobody uses it. */
    void (*destroy)(void *data);
} UserObjectClass;

/* NULL with @errp: the id is bad or taken, or the type refuses. */
UserObject *user_object_add(const ObjectOptions *options, Error **errp);
/* From an argument of --object: JSON, or TYPE,id=ID,... */
UserObject *user_object_add_from_option(const char *text, Error **errp);
/* True if the argument is "help" or "TYPE,help", which is then on stdout. */
bool user_object_print_help(const char *text);
/* Fails if there is no such object or it is in use. */
bool user_object_del(const char *id, Error **errp);
/* At the end: newest first; nobody uses any. */
void user_object_del_all(void);

/* The one made after @obj; the first of all for NULL. NULL: no more. */
UserObject *user_object_next(const UserObject *obj);
const QomType *user_object_qom_type(const UserObject *obj);
/* NULL if there is no such type. */
const QomType *user_object_type_info(ObjectType type);

/* For QomProperty.get: what the object was made with, else what is initial. */
QObject *user_object_get_option(const QomObject *obj, const QomProperty *p);

/* What create() of object @id returned, and *@type; NULL: there is none. */
const void *user_object_find_data(const char *id, ObjectType *type);

/*
 * Takes a use of object @id of @type and returns it; the error names what is
 * wrong. Give it back with user_object_unuse().
 */
UserObject *user_object_use(const char *id, ObjectType type, Error **errp);
/* NULL is fine. */
void user_object_unuse(UserObject *obj);
/* What the type's create() returned. */
void *user_object_data(const UserObject *obj);
const char *user_object_id(const UserObject *obj);

#endif
