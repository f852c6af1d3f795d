/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Output visitor that makes QObjects:
 *
 *     QObject *obj;
 *     Visitor *v = qobject_output_visitor_new(&obj);
 *     visit_type_ImageInfo(v, NULL, &info, &error_abort);
 *     visit_complete(v, &obj);
 *     visit_free(v);
 *
 * The caller owns the object.  NULL strings are written as "".
 */
#ifndef QAPI_QOBJECT_OUTPUT_VISITOR_H
#define QAPI_QOBJECT_OUTPUT_VISITOR_H

#include "qapi/visitor.h"

/* *@result is set to NULL here and to the object by visit_complete(). */
Visitor *qobject_output_visitor_new(QObject **result);

#endif /* QAPI_QOBJECT_OUTPUT_VISITOR_H */
