/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Lists of objects. */
#include "util/osdep.h"
#include "qobject/qbool.h"
#include "qobject/qlist.h"
#include "qobject/qnull.h"
#include "qobject/qnum.h"
#include "qobject/qstring.h"
#include "qobject-internal.h"

QList *qlist_new(void)
{
    QList *qlist = g_new0(QList, 1);

    qobject_init(qlist, QTYPE_QLIST);
    qlist->last_next = &qlist->first;
    return qlist;
}

QList *qlist_copy(const QList *src)
{
    QList *copy = qlist_new();
    const QListEntry *entry;

    QLIST_FOREACH_ENTRY(src, entry) {
        qlist_append_obj(copy, qobject_ref(entry->value));
    }
    return copy;
}

void qlist_append_obj(QList *qlist, QObject *obj)
{
    QListEntry *entry = g_new0(QListEntry, 1);

    assert(obj);
    entry->value = obj;
    *qlist->last_next = entry;
    qlist->last_next = &entry->next;
    qlist->size++;
}

void qlist_append_bool(QList *qlist, bool value)
{
    qlist_append(qlist, qbool_from_bool(value));
}

void qlist_append_int(QList *qlist, int64_t value)
{
    qlist_append(qlist, qnum_from_int(value));
}

void qlist_append_null(QList *qlist)
{
    qlist_append(qlist, qnull());
}

void qlist_append_str(QList *qlist, const char *value)
{
    qlist_append(qlist, qstring_from_str(value));
}

QObject *qlist_pop(QList *qlist)
{
    QListEntry *entry = qlist->first;
    QObject *value;

    if (!entry) {
        return NULL;
    }
    qlist->first = entry->next;
    if (!qlist->first) {
        qlist->last_next = &qlist->first;
    }
    qlist->size--;
    value = entry->value;
    g_free(entry);
    return value;
}

QObject *qlist_peek(QList *qlist)
{
    return qlist->first ? qlist->first->value : NULL;
}

bool qlist_empty(const QList *qlist)
{
    return !qlist->first;
}

size_t qlist_size(const QList *qlist)
{
    return qlist->size;
}

void qlist_destroy(QList *qlist, void (*take)(QObject *, void *), void *opaque)
{
    QListEntry *entry, *next;

    for (entry = qlist->first; entry; entry = next) {
        next = entry->next;
        take(entry->value, opaque);
        g_free(entry);
    }
    g_free(qlist);
}

void qlist_unref(QList *q)
{
    qobject_unref(q);
}
