/* SPDX-License-Identifier: GPL-2.0-or-later */
/* QList: an ordered list of objects.  Rules of qobject/qobject.h apply. */
#ifndef QOBJECT_QLIST_H
#define QOBJECT_QLIST_H

#include <stdint.h>
#include "qobject/qobject.h"

typedef struct QListEntry {
    QObject *value;
    struct QListEntry *next;
} QListEntry;

struct QList {
    struct QObjectBase_ base;
    QListEntry *first;
    QListEntry **last_next;
    size_t size;
};

/* An empty list that the caller owns. */
QList *qlist_new(void);

/* A list of the caller's own with the same values (references, not copies). */
QList *qlist_copy(const QList *src);

/* Append @obj, a pointer to any object type, and take the reference. */
#define qlist_append(qlist, obj) qlist_append_obj(qlist, QOBJECT(obj))
void qlist_append_obj(QList *qlist, QObject *obj);

/* Append a new object with this value; the text is copied. */
void qlist_append_bool(QList *qlist, bool value);
void qlist_append_int(QList *qlist, int64_t value);
void qlist_append_null(QList *qlist);
void qlist_append_str(QList *qlist, const char *value);

/* Remove the first value and hand its reference to the caller; NULL if empty. */
QObject *qlist_pop(QList *qlist);

/* The first value, borrowed; NULL if empty. */
QObject *qlist_peek(QList *qlist);

bool qlist_empty(const QList *qlist);
size_t qlist_size(const QList *qlist);

/* Walk the list: borrowed entries in order, NULL at the end. */
static inline const QListEntry *qlist_first(const QList *qlist)
{
    return qlist->first;
}

static inline const QListEntry *qlist_next(const QListEntry *entry)
{
    return entry->next;
}

static inline QObject *qlist_entry_obj(const QListEntry *entry)
{
    return entry ? entry->value : NULL;
}

#define QLIST_FOREACH_ENTRY(qlist, var) \
    for ((var) = qlist_first(qlist); (var); (var) = qlist_next(var))

void qlist_unref(QList *q);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(QList, qlist_unref)

#endif /* QOBJECT_QLIST_H */
