/* SPDX-License-Identifier: GPL-2.0-or-later */
/* QNull: JSON's null.  Rules of qobject/qobject.h apply. */
#ifndef QOBJECT_QNULL_H
#define QOBJECT_QNULL_H

#include "qobject/qobject.h"

struct QNull {
    struct QObjectBase_ base;
};

/* A new null that the caller owns. */
QNull *qnull(void);

void qnull_unref(QNull *q);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(QNull, qnull_unref)

#endif /* QOBJECT_QNULL_H */
