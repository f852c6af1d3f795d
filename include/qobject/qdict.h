/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * QDict: named members, kept in order of insertion, looked up in constant time.
 * Storing under a key that exists replaces the value and keeps its place.
 * Rules of qobject/qobject.h apply.
 */
#ifndef QOBJECT_QDICT_H
#define QOBJECT_QDICT_H

#include <stdint.h>
#include "qobject/qobject.h"
#include "util/error.h"

typedef struct QDictEntry QDictEntry;

/* Only for the functions below to look into. */
struct QDict {
    struct QObjectBase_ base;
    GHashTable *table;          /* borrowed key -> entry */
    QDictEntry *first, *last;
};

/* An empty dictionary that the caller owns. */
QDict *qdict_new(void);

/* --- walking: borrowed entries in order, NULL at the end --- */

const QDictEntry *qdict_first(const QDict *qdict);
const QDictEntry *qdict_next(const QDict *qdict, const QDictEntry *entry);
const char *qdict_entry_key(const QDictEntry *entry);
QObject *qdict_entry_value(const QDictEntry *entry);

/*
 * The entries in the order in which QEMU's tools print the members of a JSON
 * object (it depends on the keys, only for colliding keys on insertion).
 * The caller frees the array, not the entries.
 */
GPtrArray *qdict_entries_in_print_order(const QDict *qdict);

/* --- storing --- */

/* Store @obj, a pointer to any object type, and take the reference.  @key is
 * copied. */
#define qdict_put(qdict, key, obj) qdict_put_obj(qdict, key, QOBJECT(obj))
void qdict_put_obj(QDict *qdict, const char *key, QObject *value);

/* Store a new object with this value; the text is copied. */
void qdict_put_bool(QDict *qdict, const char *key, bool value);
void qdict_put_int(QDict *qdict, const char *key, int64_t value);
void qdict_put_null(QDict *qdict, const char *key);
void qdict_put_str(QDict *qdict, const char *key, const char *value);

/* Store @value unless @key exists. */
void qdict_set_default_str(QDict *qdict, const char *key, const char *value);

/* If @src has @key and @dst has not, share the value with @dst. */
void qdict_copy_default(QDict *dst, const QDict *src, const char *key);

/* Remove @key and drop its value; nothing happens if it is absent. */
void qdict_del(QDict *qdict, const char *key);

/* --- looking up; objects and text are borrowed --- */

size_t qdict_size(const QDict *qdict);
bool qdict_haskey(const QDict *qdict, const char *key);

/* The value or NULL. */
QObject *qdict_get(const QDict *qdict, const char *key);

/* The value if it exists and has that type, else NULL. */
QDict *qdict_get_qdict(const QDict *qdict, const char *key);
QList *qdict_get_qlist(const QDict *qdict, const char *key);
const char *qdict_get_try_str(const QDict *qdict, const char *key);

/* The value if it exists and has that type, else @def_value. */
bool qdict_get_try_bool(const QDict *qdict, const char *key, bool def_value);
int64_t qdict_get_try_int(const QDict *qdict, const char *key,
                          int64_t def_value);

/* Abort unless the key exists with that type: for data the caller made. */
bool qdict_get_bool(const QDict *qdict, const char *key);
int64_t qdict_get_int(const QDict *qdict, const char *key);
double qdict_get_double(const QDict *qdict, const char *key);
const char *qdict_get_str(const QDict *qdict, const char *key);

/* --- whole dictionaries --- */

/* A dictionary of the caller's own with the same values (references). */
QDict *qdict_clone_shallow(const QDict *src);

/*
 * Move the members of @src whose key is not in @dest over to @dest; with
 * @overwrite, all of them.  What was not moved stays in @src.
 */
void qdict_join(QDict *dest, QDict *src, bool overwrite);

/*
 * Move every member of @src whose key starts with @start into a new dictionary
 * *@dst, without that prefix.  @dst may be NULL: then they are dropped.
 */
void qdict_extract_subqdict(QDict *src, QDict **dst, const char *start);

typedef struct QDictRenames {
    const char *from;
    const char *to;
} QDictRenames;

/*
 * Rename keys by the table @renames, ended by from == NULL.  An old and a new
 * name given together is an error naming both; renames before it are kept.
 */
bool qdict_rename_keys(QDict *qdict, const QDictRenames *renames,
                       Error **errp);

/* --- nesting and dotted keys --- */

/*
 * Replace every non-empty dictionary or list below @qdict by members of @qdict
 * itself with dotted keys: {"a": {"b": [1]}} becomes {"a.b.0": 1}.
 */
void qdict_flatten(QDict *qdict);

/*
 * The inverse, as a new object for the caller: {"a.b.0": 1} becomes
 * {"a": {"b": [1]}}.  ".." stands for one dot inside a name.  A dictionary
 * whose keys are 0..n-1 becomes a list; where all top-level keys are such numbers
 * the result is a QList.  @src must hold no dictionary or list (empty ones are
 * fine) and stays as it is.
 * Errors (NULL is returned): a name used both as scalar and as parent, list
 * indices mixed with names or with gaps, more than 1024 levels.
 */
QObject *qdict_crumple(const QDict *src, Error **errp);

void qdict_unref(QDict *q);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(QDict, qdict_unref)

#endif /* QOBJECT_QDICT_H */
