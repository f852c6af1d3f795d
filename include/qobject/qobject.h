/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * QObject: a reference-counted value as JSON has them.
 *
 * A QObject is one of QNull, QNum, QString, QDict, QList, QBool; each of these
 * structs starts with a member named `base`, and QOBJECT() converts a pointer to
 * any of them.  Containers own one reference to each value in them.
 *
 * Rules for every header in this directory:
 *   - A QObject belongs to one thread at a time; the counters are not atomic.
 *   - Functions never yield and may be called in or out of coroutines.
 *   - "Takes the reference" means the caller's reference moves into the
 *     container; "borrowed" means the result is valid as long as its container.
 *   - There are no cycles.  Nesting may be of any depth: no function here
 *     recurses.
 */
#ifndef QOBJECT_QOBJECT_H
#define QOBJECT_QOBJECT_H

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>

typedef enum QType {
    QTYPE_NONE,     /* never the type of an object: "no type yet" */
    QTYPE_QNULL,
    QTYPE_QNUM,
    QTYPE_QSTRING,
    QTYPE_QDICT,
    QTYPE_QLIST,
    QTYPE_QBOOL,
    QTYPE__MAX,
} QType;

/* What all objects start with; only the code of this library touches it. */
struct QObjectBase_ {
    QType type;
    size_t refcnt;
};

typedef struct QObject {
    struct QObjectBase_ base;
} QObject;

typedef struct QNull QNull;
typedef struct QNum QNum;
typedef struct QString QString;
typedef struct QDict QDict;
typedef struct QList QList;
typedef struct QBool QBool;

/* Any object pointer as QObject pointer; NULL stays NULL. */
#define QOBJECT(obj)                                        \
    ({                                                      \
        typeof(obj) qobject_obj_ = (obj);                   \
        qobject_obj_ ? (QObject *)&qobject_obj_->base : NULL; \
    })

/* Take one more reference and return @obj itself; NULL is fine. */
#define qobject_ref(obj)                        \
    ({                                          \
        typeof(obj) qobject_ref_ = (obj);       \
        qobject_ref_impl(QOBJECT(qobject_ref_)); \
        qobject_ref_;                           \
    })

/* Drop a reference; the last one frees the object and what it owns.  NULL is
 * fine. */
#define qobject_unref(obj) qobject_unref_impl(QOBJECT(obj))

/* Convert QObject *@obj to @type * (for example QDict); NULL if @obj is NULL or
 * of another type.  The reference count stays as it is. */
#define qobject_to(type, obj) \
    ((type *)qobject_check_type((obj), QTYPE_CAST_TO_##type))

#define QTYPE_CAST_TO_QNull QTYPE_QNULL
#define QTYPE_CAST_TO_QNum QTYPE_QNUM
#define QTYPE_CAST_TO_QString QTYPE_QSTRING
#define QTYPE_CAST_TO_QDict QTYPE_QDICT
#define QTYPE_CAST_TO_QList QTYPE_QLIST
#define QTYPE_CAST_TO_QBool QTYPE_QBOOL

static inline QType qobject_type(const QObject *obj)
{
    return obj->base.type;
}

static inline QObject *qobject_check_type(const QObject *obj, QType type)
{
    return obj && obj->base.type == type ? (QObject *)obj : NULL;
}

/* What the macros above call. */
void qobject_ref_impl(QObject *obj);
void qobject_unref_impl(QObject *obj);

/*
 * Whether both are equal by value.  Numbers are equal when they denote the same
 * value and are both integers or both floating point; the order of dictionary
 * members does not matter.  Two NULL pointers are equal.
 */
bool qobject_is_equal(const QObject *x, const QObject *y);

/* Functions for g_autoptr; use qobject_unref(). */
static inline void qobject_autoptr_unref(QObject *obj)
{
    qobject_unref_impl(obj);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(QObject, qobject_autoptr_unref)

#endif /* QOBJECT_QOBJECT_H */
