/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Reference counts, destruction and comparison of objects.
 *
 * Values may be nested to any depth, so both walks keep a list of what is left
 * instead of recursing.
 */
#include "util/osdep.h"
#include "qobject/qbool.h"
#include "qobject/qdict.h"
#include "qobject/qlist.h"
#include "qobject/qnum.h"
#include "qobject/qstring.h"
#include "qobject-internal.h"

void qobject_ref_impl(QObject *obj)
{
    if (obj) {
        assert(obj->base.refcnt > 0 && obj->base.refcnt < SIZE_MAX);
        obj->base.refcnt++;
    }
}

/* Drop the reference; containers that become unused are left for later. */
static void drop_value(QObject *obj, void *opaque)
{
    GQueue *unused = opaque;

    assert(obj->base.refcnt > 0);
    if (--obj->base.refcnt > 0) {
        return;
    }
    switch (qobject_type(obj)) {
    case QTYPE_QNULL:
        qnull_destroy(qobject_to(QNull, obj));
        break;
    case QTYPE_QBOOL:
        qbool_destroy(qobject_to(QBool, obj));
        break;
    case QTYPE_QNUM:
        qnum_destroy(qobject_to(QNum, obj));
        break;
    case QTYPE_QSTRING:
        qstring_destroy(qobject_to(QString, obj));
        break;
    case QTYPE_QDICT:
    case QTYPE_QLIST:
        g_queue_push_tail(unused, obj);
        break;
    default:
        g_assert_not_reached();
    }
}

void qobject_unref_impl(QObject *obj)
{
    GQueue unused = G_QUEUE_INIT;

    if (!obj) {
        return;
    }
    drop_value(obj, &unused);
    while ((obj = g_queue_pop_tail(&unused))) {
        if (qobject_type(obj) == QTYPE_QDICT) {
            qdict_destroy(qobject_to(QDict, obj), drop_value, &unused);
        } else {
            qlist_destroy(qobject_to(QList, obj), drop_value, &unused);
        }
    }
}

/* Queue the pairs of values to compare; false if the shapes differ. */
static bool pair_dicts(const QDict *x, const QDict *y, GQueue *pairs)
{
    const QDictEntry *entry;

    if (qdict_size(x) != qdict_size(y)) {
        return false;
    }
    for (entry = qdict_first(x); entry; entry = qdict_next(x, entry)) {
        QObject *other = qdict_get(y, qdict_entry_key(entry));

        if (!other) {
            return false;
        }
        g_queue_push_tail(pairs, qdict_entry_value(entry));
        g_queue_push_tail(pairs, other);
    }
    return true;
}

static bool pair_lists(const QList *x, const QList *y, GQueue *pairs)
{
    const QListEntry *ex = qlist_first(x);
    const QListEntry *ey = qlist_first(y);

    if (qlist_size(x) != qlist_size(y)) {
        return false;
    }
    for (; ex; ex = qlist_next(ex), ey = qlist_next(ey)) {
        g_queue_push_tail(pairs, ex->value);
        g_queue_push_tail(pairs, ey->value);
    }
    return true;
}

static bool pair_equal(const QObject *x, const QObject *y, GQueue *pairs)
{
    if (x == y) {
        return true;
    }
    if (!x || !y || qobject_type(x) != qobject_type(y)) {
        return false;
    }
    switch (qobject_type(x)) {
    case QTYPE_QNULL:
        return true;
    case QTYPE_QBOOL:
        return qbool_get_bool(qobject_to(QBool, x)) ==
               qbool_get_bool(qobject_to(QBool, y));
    case QTYPE_QNUM:
        return qnum_is_equal(qobject_to(QNum, x), qobject_to(QNum, y));
    case QTYPE_QSTRING:
        return !strcmp(qstring_get_str(qobject_to(QString, x)),
                       qstring_get_str(qobject_to(QString, y)));
    case QTYPE_QDICT:
        return pair_dicts(qobject_to(QDict, x), qobject_to(QDict, y), pairs);
    case QTYPE_QLIST:
        return pair_lists(qobject_to(QList, x), qobject_to(QList, y), pairs);
    default:
        g_assert_not_reached();
    }
}

bool qobject_is_equal(const QObject *x, const QObject *y)
{
    GQueue pairs = G_QUEUE_INIT;
    bool equal = pair_equal(x, y, &pairs);

    while (equal && !g_queue_is_empty(&pairs)) {
        const QObject *ey = g_queue_pop_tail(&pairs);
        const QObject *ex = g_queue_pop_tail(&pairs);

        equal = pair_equal(ex, ey, &pairs);
    }
    g_queue_clear(&pairs);
    return equal;
}
