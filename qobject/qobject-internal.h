/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Between the object types and qobject.c. */
#ifndef QOBJECT_INTERNAL_H
#define QOBJECT_INTERNAL_H

#include "qobject/qobject.h"

static inline void qobject_init(void *obj, QType type)
{
    struct QObjectBase_ *base = obj;

    base->type = type;
    base->refcnt = 1;
}

/* Free a container after handing the reference of each value to @take. */
void qdict_destroy(QDict *qdict, void (*take)(QObject *, void *), void *opaque);
void qlist_destroy(QList *qlist, void (*take)(QObject *, void *), void *opaque);

/* Free objects that hold no others. */
void qnull_destroy(QNull *q);
void qbool_destroy(QBool *q);
void qnum_destroy(QNum *q);
void qstring_destroy(QString *q);

#endif /* QOBJECT_INTERNAL_H */
