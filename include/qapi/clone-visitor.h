/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Deep copies of QAPI values.
 *
 *     BlockdevOptions *copy = QAPI_CLONE(BlockdevOptions, opts);
 *     QAPI_CLONE_MEMBERS(BlockdevOptionsFile, &dst, &src);
 *
 * Needs "qapi/qapi-visit.h" for the type.  Values of type 'any' are shared, not
 * copied.
 */
#ifndef QAPI_CLONE_VISITOR_H
#define QAPI_CLONE_VISITOR_H

#include "qapi/visitor.h"

/* A copy of @src that the caller frees with qapi_free_@type; NULL for NULL. */
#define QAPI_CLONE(type, src)                                       \
    ({                                                              \
        const type *qapi_src_ = (src);                              \
        type *qapi_dst_ = (type *)qapi_src_;                        \
        if (qapi_dst_) {                                            \
            Visitor *qapi_v_ = qapi_clone_visitor_new();            \
            visit_type_##type(qapi_v_, NULL, &qapi_dst_, &error_abort); \
            visit_free(qapi_v_);                                    \
        }                                                           \
        qapi_dst_;                                                  \
    })

/* Fill the struct *@dst, which holds nothing, with a copy of *@src. */
#define QAPI_CLONE_MEMBERS(type, dst, src)                          \
    do {                                                            \
        type *qapi_dst_ = (dst);                                    \
        Visitor *qapi_v_ = qapi_clone_visitor_new();                \
        *qapi_dst_ = *(src);                                        \
        visit_type_##type##_members(qapi_v_, qapi_dst_, &error_abort); \
        visit_free(qapi_v_);                                        \
    } while (0)

/* What the macros use: each pointer it visits is replaced by a copy of what it
 * points to. */
Visitor *qapi_clone_visitor_new(void);

#endif /* QAPI_CLONE_VISITOR_H */
