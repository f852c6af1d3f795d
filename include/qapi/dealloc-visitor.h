/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Visitor that frees: what qapi_free_Foo() is made of.  Use that instead. */
#ifndef QAPI_DEALLOC_VISITOR_H
#define QAPI_DEALLOC_VISITOR_H

#include "qapi/visitor.h"

/* Accepts NULL pointers and zeroed parts anywhere: half-built values. */
Visitor *qapi_dealloc_visitor_new(void);

#endif /* QAPI_DEALLOC_VISITOR_H */
