/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Intrusive lists. An element embeds an ENTRY field and owns no memory of the
 * list; a list never frees an element.
 *
 *   QSLIST    single link, head only: a stack. Atomic variants make it a
 *             stack with many producers and one consumer.
 *   QLIST     double link, head only: remove any element in O(1).
 *   QSIMPLEQ  single link, head and tail: a FIFO.
 *   QTAILQ    double link, head and tail: FIFO, reverse walk, remove any.
 *
 * A head starts as HEAD_INITIALIZER or all zero bytes for QSLIST and QLIST;
 * QSIMPLEQ and QTAILQ heads need their INIT. Lists are not thread-safe unless
 * the name says ATOMIC. FOREACH bodies must not remove the element they look
 * at; FOREACH_SAFE bodies may remove (and free) exactly that one.
 */
#ifndef UTIL_QUEUE_H
#define UTIL_QUEUE_H

#include "util/atomic.h"

/* ---------------------------------------------------------------- QSLIST */

#define QSLIST_HEAD(name, type)                                             \
    struct name {                                                           \
        struct type *slh_first;                                             \
    }
#define QSLIST_HEAD_INITIALIZER(head) { NULL }
#define QSLIST_ENTRY(type)                                                  \
    struct {                                                                \
        struct type *sle_next;                                              \
    }

#define QSLIST_INIT(head) ((void)((head)->slh_first = NULL))
#define QSLIST_EMPTY(head) ((head)->slh_first == NULL)
#define QSLIST_EMPTY_RCU(head) (qatomic_read(&(head)->slh_first) == NULL)
#define QSLIST_FIRST(head) ((head)->slh_first)
#define QSLIST_NEXT(elm, field) ((elm)->field.sle_next)

#define QSLIST_INSERT_HEAD(head, elm, field)                                \
    do {                                                                    \
        (elm)->field.sle_next = (head)->slh_first;                          \
        (head)->slh_first = (elm);                                          \
    } while (0)

#define QSLIST_INSERT_AFTER(prev, elm, field)                               \
    do {                                                                    \
        (elm)->field.sle_next = (prev)->field.sle_next;                     \
        (prev)->field.sle_next = (elm);                                     \
    } while (0)

/* Any thread. What the producer wrote before is seen by MOVE_ATOMIC's caller. */
#define QSLIST_INSERT_HEAD_ATOMIC(head, elm, field)                         \
    do {                                                                    \
        __typeof__(elm) qsl_old_ = qatomic_read(&(head)->slh_first);        \
        __typeof__(elm) qsl_seen_;                                          \
        for (;;) {                                                          \
            (elm)->field.sle_next = qsl_old_;                               \
            qsl_seen_ =                                                     \
                qatomic_cmpxchg(&(head)->slh_first, qsl_old_, (elm));       \
            if (qsl_seen_ == qsl_old_) {                                    \
                break;                                                      \
            }                                                               \
            qsl_old_ = qsl_seen_;                                           \
        }                                                                   \
    } while (0)

/* Takes everything that is in src (newest first) into dest, a private head. */
#define QSLIST_MOVE_ATOMIC(dest, src)                                       \
    ((void)((dest)->slh_first = qatomic_xchg(&(src)->slh_first, NULL)))

#define QSLIST_REMOVE_HEAD(head, field)                                     \
    do {                                                                    \
        __typeof__((head)->slh_first) qsl_elm_ = (head)->slh_first;         \
        (head)->slh_first = qsl_elm_->field.sle_next;                       \
        qsl_elm_->field.sle_next = NULL;                                    \
    } while (0)

#define QSLIST_REMOVE_AFTER(prev, field)                                    \
    ((void)((prev)->field.sle_next = (prev)->field.sle_next->field.sle_next))

/* O(n); elm must be in the list. */
#define QSLIST_REMOVE(head, elm, type, field)                               \
    do {                                                                    \
        struct type **qsl_pp_ = &(head)->slh_first;                         \
        while (*qsl_pp_ != (elm)) {                                         \
            qsl_pp_ = &(*qsl_pp_)->field.sle_next;                          \
        }                                                                   \
        *qsl_pp_ = (elm)->field.sle_next;                                   \
        (elm)->field.sle_next = NULL;                                       \
    } while (0)

#define QSLIST_FOREACH(var, head, field)                                    \
    for ((var) = (head)->slh_first; (var); (var) = (var)->field.sle_next)
#define QSLIST_FOREACH_SAFE(var, head, field, next)                         \
    for ((var) = (head)->slh_first;                                         \
         (var) && ((next) = (var)->field.sle_next, 1); (var) = (next))

/* ----------------------------------------------------------------- QLIST */

#define QLIST_HEAD(name, type)                                              \
    struct name {                                                           \
        struct type *lh_first;                                              \
    }
#define QLIST_HEAD_INITIALIZER(head) { NULL }
/* le_prev is the pointer that points at the element; NULL when unlinked. */
#define QLIST_ENTRY(type)                                                   \
    struct {                                                                \
        struct type *le_next;                                               \
        struct type **le_prev;                                              \
    }

#define QLIST_INIT(head) ((void)((head)->lh_first = NULL))
#define QLIST_EMPTY(head) ((head)->lh_first == NULL)
#define QLIST_FIRST(head) ((head)->lh_first)
#define QLIST_NEXT(elm, field) ((elm)->field.le_next)
/* True while the element is linked; needs zeroed memory at first. */
#define QLIST_IS_INSERTED(elm, field) ((elm)->field.le_prev != NULL)

#define QLIST_LINK_AT_(pp, elm, field)                                      \
    do {                                                                    \
        (elm)->field.le_next = *(pp);                                       \
        (elm)->field.le_prev = (pp);                                        \
        if (*(pp)) {                                                        \
            (*(pp))->field.le_prev = &(elm)->field.le_next;                 \
        }                                                                   \
        *(pp) = (elm);                                                      \
    } while (0)

#define QLIST_INSERT_HEAD(head, elm, field)                                 \
    QLIST_LINK_AT_(&(head)->lh_first, elm, field)
#define QLIST_INSERT_AFTER(prev, elm, field)                                \
    QLIST_LINK_AT_(&(prev)->field.le_next, elm, field)
#define QLIST_INSERT_BEFORE(next, elm, field)                               \
    do {                                                                    \
        __typeof__((next)->field.le_prev) ql_pp_ = (next)->field.le_prev;   \
        QLIST_LINK_AT_(ql_pp_, elm, field);                                 \
    } while (0)

#define QLIST_REMOVE(elm, field)                                            \
    do {                                                                    \
        __typeof__(elm) ql_elm_ = (elm);                                    \
        if (ql_elm_->field.le_next) {                                       \
            ql_elm_->field.le_next->field.le_prev = ql_elm_->field.le_prev; \
        }                                                                   \
        *ql_elm_->field.le_prev = ql_elm_->field.le_next;                   \
        ql_elm_->field.le_next = NULL;                                      \
        ql_elm_->field.le_prev = NULL;                                      \
    } while (0)

/* Like QLIST_REMOVE, and nothing if the element is not linked. */
#define QLIST_SAFE_REMOVE(elm, field)                                       \
    do {                                                                    \
        if (QLIST_IS_INSERTED(elm, field)) {                                \
            QLIST_REMOVE(elm, field);                                       \
        }                                                                   \
    } while (0)

#define QLIST_FOREACH(var, head, field)                                     \
    for ((var) = (head)->lh_first; (var); (var) = (var)->field.le_next)
#define QLIST_FOREACH_SAFE(var, head, field, next)                          \
    for ((var) = (head)->lh_first;                                          \
         (var) && ((next) = (var)->field.le_next, 1); (var) = (next))

/* -------------------------------------------------------------- QSIMPLEQ */

#define QSIMPLEQ_HEAD(name, type)                                           \
    struct name {                                                           \
        struct type *sqh_first;                                             \
        struct type **sqh_last; /* where the next element is linked in */   \
    }
#define QSIMPLEQ_HEAD_INITIALIZER(head) { NULL, &(head).sqh_first }
#define QSIMPLEQ_ENTRY(type)                                                \
    struct {                                                                \
        struct type *sqe_next;                                              \
    }

#define QSIMPLEQ_INIT(head)                                                 \
    do {                                                                    \
        (head)->sqh_first = NULL;                                           \
        (head)->sqh_last = &(head)->sqh_first;                              \
    } while (0)
#define QSIMPLEQ_EMPTY(head) ((head)->sqh_first == NULL)
#define QSIMPLEQ_FIRST(head) ((head)->sqh_first)
#define QSIMPLEQ_NEXT(elm, field) ((elm)->field.sqe_next)
#define QSIMPLEQ_LAST(head, type, field)                                    \
    (QSIMPLEQ_EMPTY(head)                                                   \
         ? NULL                                                             \
         : container_of((head)->sqh_last, struct type, field.sqe_next))

#define QSIMPLEQ_LINK_AT_(head, pp, elm, field)                             \
    do {                                                                    \
        (elm)->field.sqe_next = *(pp);                                      \
        if (!(elm)->field.sqe_next) {                                       \
            (head)->sqh_last = &(elm)->field.sqe_next;                      \
        }                                                                   \
        *(pp) = (elm);                                                      \
    } while (0)

#define QSIMPLEQ_INSERT_HEAD(head, elm, field)                              \
    QSIMPLEQ_LINK_AT_(head, &(head)->sqh_first, elm, field)
#define QSIMPLEQ_INSERT_AFTER(head, prev, elm, field)                       \
    QSIMPLEQ_LINK_AT_(head, &(prev)->field.sqe_next, elm, field)
#define QSIMPLEQ_INSERT_TAIL(head, elm, field)                              \
    do {                                                                    \
        (elm)->field.sqe_next = NULL;                                       \
        *(head)->sqh_last = (elm);                                          \
        (head)->sqh_last = &(elm)->field.sqe_next;                          \
    } while (0)

#define QSIMPLEQ_REMOVE_HEAD(head, field)                                   \
    do {                                                                    \
        __typeof__((head)->sqh_first) qsq_elm_ = (head)->sqh_first;         \
        (head)->sqh_first = qsq_elm_->field.sqe_next;                       \
        if (!(head)->sqh_first) {                                           \
            (head)->sqh_last = &(head)->sqh_first;                          \
        }                                                                   \
        qsq_elm_->field.sqe_next = NULL;                                    \
    } while (0)

/* O(n); elm must be in the queue. */
#define QSIMPLEQ_REMOVE(head, elm, type, field)                             \
    do {                                                                    \
        struct type **qsq_pp_ = &(head)->sqh_first;                         \
        while (*qsq_pp_ != (elm)) {                                         \
            qsq_pp_ = &(*qsq_pp_)->field.sqe_next;                          \
        }                                                                   \
        *qsq_pp_ = (elm)->field.sqe_next;                                   \
        if (!*qsq_pp_) {                                                    \
            (head)->sqh_last = qsq_pp_;                                     \
        }                                                                   \
        (elm)->field.sqe_next = NULL;                                       \
    } while (0)

/* Appends all of src to dest and empties src. */
#define QSIMPLEQ_CONCAT(dest, src)                                          \
    do {                                                                    \
        if (!QSIMPLEQ_EMPTY(src)) {                                         \
            *(dest)->sqh_last = (src)->sqh_first;                           \
            (dest)->sqh_last = (src)->sqh_last;                             \
            QSIMPLEQ_INIT(src);                                             \
        }                                                                   \
    } while (0)

#define QSIMPLEQ_FOREACH(var, head, field)                                  \
    for ((var) = (head)->sqh_first; (var); (var) = (var)->field.sqe_next)
#define QSIMPLEQ_FOREACH_SAFE(var, head, field, next)                       \
    for ((var) = (head)->sqh_first;                                         \
         (var) && ((next) = (var)->field.sqe_next, 1); (var) = (next))

/* ---------------------------------------------------------------- QTAILQ */

#define QTAILQ_HEAD(name, type)                                             \
    struct name {                                                           \
        struct type *tqh_first;                                             \
        struct type *tqh_last;                                              \
    }
#define QTAILQ_HEAD_INITIALIZER(head) { NULL, NULL }
#define QTAILQ_ENTRY(type)                                                  \
    struct {                                                                \
        struct type *tqe_next;                                              \
        struct type *tqe_prev;                                              \
        bool tqe_linked;                                                    \
    }

#define QTAILQ_INIT(head)                                                   \
    ((void)((head)->tqh_first = (head)->tqh_last = NULL))
#define QTAILQ_EMPTY(head) ((head)->tqh_first == NULL)
#define QTAILQ_FIRST(head) ((head)->tqh_first)
#define QTAILQ_LAST(head) ((head)->tqh_last)
#define QTAILQ_NEXT(elm, field) ((elm)->field.tqe_next)
#define QTAILQ_PREV(elm, field) ((elm)->field.tqe_prev)
/* True while the element is linked; needs zeroed memory at first. */
#define QTAILQ_IN_USE(elm, field) ((elm)->field.tqe_linked)

/* Links elm between its neighbours p and n, either of which may be NULL. */
#define QTAILQ_LINK_(head, p, n, elm, field)                                \
    do {                                                                    \
        (elm)->field.tqe_prev = (p);                                        \
        (elm)->field.tqe_next = (n);                                        \
        (elm)->field.tqe_linked = true;                                     \
        if ((elm)->field.tqe_prev) {                                        \
            (elm)->field.tqe_prev->field.tqe_next = (elm);                  \
        } else {                                                            \
            (head)->tqh_first = (elm);                                      \
        }                                                                   \
        if ((elm)->field.tqe_next) {                                        \
            (elm)->field.tqe_next->field.tqe_prev = (elm);                  \
        } else {                                                            \
            (head)->tqh_last = (elm);                                       \
        }                                                                   \
    } while (0)

#define QTAILQ_INSERT_HEAD(head, elm, field)                                \
    QTAILQ_LINK_(head, NULL, (head)->tqh_first, elm, field)
#define QTAILQ_INSERT_TAIL(head, elm, field)                                \
    QTAILQ_LINK_(head, (head)->tqh_last, NULL, elm, field)
#define QTAILQ_INSERT_AFTER(head, prev, elm, field)                         \
    QTAILQ_LINK_(head, prev, (prev)->field.tqe_next, elm, field)
/* Needs the head, unlike BSD's macro of this name: it may become the first. */
#define QTAILQ_INSERT_BEFORE(head, next, elm, field)                        \
    QTAILQ_LINK_(head, (next)->field.tqe_prev, next, elm, field)

#define QTAILQ_REMOVE(head, elm, field)                                     \
    do {                                                                    \
        if ((elm)->field.tqe_next) {                                        \
            (elm)->field.tqe_next->field.tqe_prev = (elm)->field.tqe_prev;  \
        } else {                                                            \
            (head)->tqh_last = (elm)->field.tqe_prev;                       \
        }                                                                   \
        if ((elm)->field.tqe_prev) {                                        \
            (elm)->field.tqe_prev->field.tqe_next = (elm)->field.tqe_next;  \
        } else {                                                            \
            (head)->tqh_first = (elm)->field.tqe_next;                      \
        }                                                                   \
        (elm)->field.tqe_next = NULL;                                       \
        (elm)->field.tqe_prev = NULL;                                       \
        (elm)->field.tqe_linked = false;                                    \
    } while (0)

#define QTAILQ_FOREACH(var, head, field)                                    \
    for ((var) = (head)->tqh_first; (var); (var) = (var)->field.tqe_next)
#define QTAILQ_FOREACH_SAFE(var, head, field, next)                         \
    for ((var) = (head)->tqh_first;                                         \
         (var) && ((next) = (var)->field.tqe_next, 1); (var) = (next))
#define QTAILQ_FOREACH_REVERSE(var, head, field)                            \
    for ((var) = (head)->tqh_last; (var); (var) = (var)->field.tqe_prev)
#define QTAILQ_FOREACH_REVERSE_SAFE(var, head, field, prev)                 \
    for ((var) = (head)->tqh_last;                                          \
         (var) && ((prev) = (var)->field.tqe_prev, 1); (var) = (prev))

#endif /* UTIL_QUEUE_H */
