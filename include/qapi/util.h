/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What generated QAPI types rest on: enum names, member tables, list helpers.
 * Functions here may be called in any thread and never yield.
 */
#ifndef QAPI_UTIL_H
#define QAPI_UTIL_H

#include <stdbool.h>
#include <stdint.h>
#include <glib.h>
#include "qobject/qobject.h"
#include "qobject/qnull.h"
#include "util/error.h"

/* The names of an enum's values, by value; a value that is not built in (a
 * condition in the schema) has no number. */
typedef struct QEnumLookup {
    const char *const *array;
    int size;
} QEnumLookup;

/* The name of @val, which must be a value of the enum. */
const char *qapi_enum_lookup(const QEnumLookup *lookup, int val);

/*
 * The value named @buf.  If @buf is NULL, @def.  If there is none: @def, and with
 * @errp an error "invalid parameter value: BUF".
 */
int qapi_enum_parse(const QEnumLookup *lookup, const char *buf,
                    int def, Error **errp);

/* "on", "yes", "true", "y" or their opposites into *@obj; otherwise false and
 * "Parameter 'NAME' expects 'on' or 'off'". */
bool qapi_bool_parse(const char *name, const char *value, bool *obj,
                     Error **errp);

/* What kind of value a member takes. */
typedef enum QapiKind {
    QAPI_KIND_STR,
    QAPI_KIND_INT,      /* any width */
    QAPI_KIND_SIZE,     /* bytes; on a command line with suffix */
    QAPI_KIND_NUMBER,
    QAPI_KIND_BOOL,
    QAPI_KIND_NULL,
    QAPI_KIND_ENUM,
    QAPI_KIND_LIST,
    QAPI_KIND_OBJECT,
    QAPI_KIND_ALTERNATE,
    QAPI_KIND_ANY,
} QapiKind;

/*
 * One member of a struct in qapi_Foo_members[]; base members come first, union
 * branches are not part of it.  Static storage.
 */
typedef struct QapiMemberInfo {
    const char *name;           /* as the user spells it; NULL ends a table */
    const char *type;           /* schema type, a list as "[ELEMENT]" */
    QapiKind kind;
    bool optional;
    const QEnumLookup *values;  /* of an enum, else NULL */
    const char *doc;            /* one line of text, or NULL */
} QapiMemberInfo;

/* The entry for @name in a table, or NULL. */
const QapiMemberInfo *qapi_member_find(const QapiMemberInfo *members,
                                       const char *name);

/*
 * Append one line for each member of @tables (NULL-terminated), sorted by name, as
 * `-o help` prints them: "  NAME=<TYPE>     - DOC".  Of members with the same name
 * the first one counts: give the table of the format before the protocol's.
 */
void qapi_members_help(const QapiMemberInfo *const *tables, GString *out);

/* Every generated FooList starts like this. */
typedef struct GenericList {
    struct GenericList *next;
    char padding[];
} GenericList;

/* Every generated alternate starts like this. */
typedef struct GenericAlternate {
    QType type;
    char padding[];
} GenericAlternate;

/* Put @element at the front of the list whose head pointer is @list. */
#define QAPI_LIST_PREPEND(list, element) do {                   \
    typeof(list) qapi_new_ = g_malloc(sizeof(*(list)));         \
    qapi_new_->value = (element);                               \
    qapi_new_->next = (list);                                   \
    (list) = qapi_new_;                                         \
} while (0)

/* Put @element at the end: @tail is a FooList **, &head at first, and is moved
 * on. */
#define QAPI_LIST_APPEND(tail, element) do {                    \
    *(tail) = g_malloc0(sizeof(**(tail)));                      \
    (*(tail))->value = (element);                               \
    (tail) = &(*(tail))->next;                                  \
} while (0)

#define QAPI_LIST_LENGTH(list)                                  \
    ({                                                          \
        size_t qapi_len_ = 0;                                   \
        typeof(list) qapi_elem_;                                \
        for (qapi_elem_ = (list); qapi_elem_;                   \
             qapi_elem_ = qapi_elem_->next) {                   \
            qapi_len_++;                                        \
        }                                                       \
        qapi_len_;                                              \
    })

#endif /* QAPI_UTIL_H */
