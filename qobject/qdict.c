/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Dictionaries: a hash table from key to entry, and a list through the entries
 * in order of insertion.  The table and the list hold the same entries.
 */
#include "util/osdep.h"
#include "qobject/qbool.h"
#include "qobject/qdict.h"
#include "qobject/qlist.h"
#include "qobject/qnull.h"
#include "qobject/qnum.h"
#include "qobject/qstring.h"
#include "qobject-internal.h"

struct QDictEntry {
    char *key;
    QObject *value;
    QDictEntry *prev, *next;
};

QDict *qdict_new(void)
{
    QDict *qdict = g_new0(QDict, 1);

    qobject_init(qdict, QTYPE_QDICT);
    qdict->table = g_hash_table_new(g_str_hash, g_str_equal);
    return qdict;
}

static QDictEntry *dict_find(const QDict *qdict, const char *key)
{
    return g_hash_table_lookup(qdict->table, key);
}

/* --- walking --- */

const QDictEntry *qdict_first(const QDict *qdict)
{
    return qdict->first;
}

const QDictEntry *qdict_next(const QDict *qdict, const QDictEntry *entry)
{
    return entry->next;
}

const char *qdict_entry_key(const QDictEntry *entry)
{
    return entry->key;
}

QObject *qdict_entry_value(const QDictEntry *entry)
{
    return entry->value;
}

/*
 * The slot of @key in the table of 512 that QEMU's dictionaries are seen to be
 * walked by: the string hash of Samba's TDB.  Only the printed order rests on it.
 */
static unsigned print_slot(const char *key)
{
    uint32_t len = strlen(key);
    uint32_t sum = 0x238f13afu * len;
    uint32_t i;

    for (i = 0; i < len; i++) {
        sum += (uint32_t)(unsigned char)key[i] << (i * 5 % 24);
    }
    return (1103515243u * sum + 12345u) % 512;
}

typedef struct PrintKey {
    unsigned slot;
    size_t age;         /* larger is younger; the youngest of a slot comes first */
    const QDictEntry *entry;
} PrintKey;

static int print_key_compare(const void *a, const void *b)
{
    const PrintKey *x = a, *y = b;

    if (x->slot != y->slot) {
        return x->slot < y->slot ? -1 : 1;
    }
    return x->age > y->age ? -1 : 1;
}

GPtrArray *qdict_entries_in_print_order(const QDict *qdict)
{
    size_t n = qdict_size(qdict), i = 0;
    g_autofree PrintKey *keys = g_new(PrintKey, n);
    GPtrArray *sorted = g_ptr_array_sized_new(MIN(n, UINT_MAX));
    const QDictEntry *entry;

    for (entry = qdict->first; entry; entry = entry->next, i++) {
        keys[i] = (PrintKey) {
            .slot = print_slot(entry->key), .age = i, .entry = entry,
        };
    }
    if (n) {
        qsort(keys, n, sizeof(*keys), print_key_compare);
    }
    for (i = 0; i < n; i++) {
        g_ptr_array_add(sorted, (gpointer)keys[i].entry);
    }
    return sorted;
}

/* --- storing --- */

void qdict_put_obj(QDict *qdict, const char *key, QObject *value)
{
    QDictEntry *entry = dict_find(qdict, key);

    assert(value);
    if (entry) {
        QObject *old = entry->value;

        entry->value = value;
        qobject_unref(old);
        return;
    }
    entry = g_new0(QDictEntry, 1);
    entry->key = g_strdup(key);
    entry->value = value;
    entry->prev = qdict->last;
    *(qdict->last ? &qdict->last->next : &qdict->first) = entry;
    qdict->last = entry;
    g_hash_table_insert(qdict->table, entry->key, entry);
}

void qdict_put_bool(QDict *qdict, const char *key, bool value)
{
    qdict_put(qdict, key, qbool_from_bool(value));
}

void qdict_put_int(QDict *qdict, const char *key, int64_t value)
{
    qdict_put(qdict, key, qnum_from_int(value));
}

void qdict_put_null(QDict *qdict, const char *key)
{
    qdict_put(qdict, key, qnull());
}

void qdict_put_str(QDict *qdict, const char *key, const char *value)
{
    qdict_put(qdict, key, qstring_from_str(value));
}

void qdict_set_default_str(QDict *qdict, const char *key, const char *value)
{
    if (!qdict_haskey(qdict, key)) {
        qdict_put_str(qdict, key, value);
    }
}

void qdict_copy_default(QDict *dst, const QDict *src, const char *key)
{
    QObject *value = qdict_get(src, key);

    if (value && !qdict_haskey(dst, key)) {
        qdict_put_obj(dst, key, qobject_ref(value));
    }
}

/* Unlink and free @entry; the caller gets the reference to its value. */
static QObject *dict_take(QDict *qdict, QDictEntry *entry)
{
    QObject *value = entry->value;

    g_hash_table_remove(qdict->table, entry->key);
    *(entry->prev ? &entry->prev->next : &qdict->first) = entry->next;
    *(entry->next ? &entry->next->prev : &qdict->last) = entry->prev;
    g_free(entry->key);
    g_free(entry);
    return value;
}

void qdict_del(QDict *qdict, const char *key)
{
    QDictEntry *entry = dict_find(qdict, key);

    if (entry) {
        qobject_unref(dict_take(qdict, entry));
    }
}

/* --- looking up --- */

size_t qdict_size(const QDict *qdict)
{
    return g_hash_table_size(qdict->table);
}

bool qdict_haskey(const QDict *qdict, const char *key)
{
    return dict_find(qdict, key) != NULL;
}

QObject *qdict_get(const QDict *qdict, const char *key)
{
    QDictEntry *entry = dict_find(qdict, key);

    return entry ? entry->value : NULL;
}

QDict *qdict_get_qdict(const QDict *qdict, const char *key)
{
    return qobject_to(QDict, qdict_get(qdict, key));
}

QList *qdict_get_qlist(const QDict *qdict, const char *key)
{
    return qobject_to(QList, qdict_get(qdict, key));
}

const char *qdict_get_try_str(const QDict *qdict, const char *key)
{
    QString *qs = qobject_to(QString, qdict_get(qdict, key));

    return qs ? qstring_get_str(qs) : NULL;
}

bool qdict_get_try_bool(const QDict *qdict, const char *key, bool def_value)
{
    QBool *qb = qobject_to(QBool, qdict_get(qdict, key));

    return qb ? qbool_get_bool(qb) : def_value;
}

int64_t qdict_get_try_int(const QDict *qdict, const char *key,
                          int64_t def_value)
{
    QNum *qn = qobject_to(QNum, qdict_get(qdict, key));
    int64_t val;

    return qn && qnum_get_try_int(qn, &val) ? val : def_value;
}

bool qdict_get_bool(const QDict *qdict, const char *key)
{
    QBool *qb = qobject_to(QBool, qdict_get(qdict, key));

    assert(qb);
    return qbool_get_bool(qb);
}

int64_t qdict_get_int(const QDict *qdict, const char *key)
{
    QNum *qn = qobject_to(QNum, qdict_get(qdict, key));

    assert(qn);
    return qnum_get_int(qn);
}

double qdict_get_double(const QDict *qdict, const char *key)
{
    QNum *qn = qobject_to(QNum, qdict_get(qdict, key));

    assert(qn);
    return qnum_get_double(qn);
}

const char *qdict_get_str(const QDict *qdict, const char *key)
{
    const char *str = qdict_get_try_str(qdict, key);

    assert(str);
    return str;
}

/* --- whole dictionaries --- */

QDict *qdict_clone_shallow(const QDict *src)
{
    QDict *dest = qdict_new();
    const QDictEntry *entry;

    for (entry = src->first; entry; entry = entry->next) {
        qdict_put_obj(dest, entry->key, qobject_ref(entry->value));
    }
    return dest;
}

void qdict_join(QDict *dest, QDict *src, bool overwrite)
{
    QDictEntry *entry, *next;

    for (entry = src->first; entry; entry = next) {
        next = entry->next;
        if (overwrite || !qdict_haskey(dest, entry->key)) {
            qdict_put_obj(dest, entry->key, qobject_ref(entry->value));
            qobject_unref(dict_take(src, entry));
        }
    }
}

void qdict_extract_subqdict(QDict *src, QDict **dst, const char *start)
{
    QDictEntry *entry, *next;
    size_t len = strlen(start);

    if (dst) {
        *dst = qdict_new();
    }
    for (entry = src->first; entry; entry = next) {
        next = entry->next;
        if (strncmp(entry->key, start, len)) {
            continue;
        }
        if (dst) {
            qdict_put_obj(*dst, entry->key + len, qobject_ref(entry->value));
        }
        qobject_unref(dict_take(src, entry));
    }
}

bool qdict_rename_keys(QDict *qdict, const QDictRenames *renames,
                       Error **errp)
{
    for (; renames->from; renames++) {
        QDictEntry *entry = dict_find(qdict, renames->from);

        if (!entry) {
            continue;
        }
        if (qdict_haskey(qdict, renames->to)) {
            error_setg(errp, "'%s' and its alias '%s' can't be used at the "
                       "same time", renames->to, renames->from);
            return false;
        }
        qdict_put_obj(qdict, renames->to, dict_take(qdict, entry));
    }
    return true;
}

void qdict_destroy(QDict *qdict, void (*take)(QObject *, void *), void *opaque)
{
    QDictEntry *entry, *next;

    g_hash_table_destroy(qdict->table);
    for (entry = qdict->first; entry; entry = next) {
        next = entry->next;
        take(entry->value, opaque);
        g_free(entry->key);
        g_free(entry);
    }
    g_free(qdict);
}

void qdict_unref(QDict *q)
{
    qobject_unref(q);
}
