/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Between nested dictionaries and flat ones with dotted keys.
 *
 * Both directions work with a list of what is left to do, so the depth of what
 * they are given does not matter.
 */
#include "util/osdep.h"
#include "qobject/qdict.h"
#include "qobject/qlist.h"

#define CRUMPLE_MAX_DEPTH 1024

/* --- flatten --- */

typedef struct FlattenItem {
    char *key;
    QObject *value;             /* a reference */
} FlattenItem;

static bool is_nonempty_container(QObject *obj)
{
    QDict *dict = qobject_to(QDict, obj);
    QList *list = qobject_to(QList, obj);

    return (dict && qdict_size(dict)) || (list && !qlist_empty(list));
}

static void flatten_push(GQueue *todo, char *key, QObject *value)
{
    FlattenItem *item = g_new(FlattenItem, 1);

    item->key = key;
    item->value = qobject_ref(value);
    g_queue_push_tail(todo, item);
}

/* Queue the members of @container, in front of what is queued already. */
static void flatten_members(GQueue *todo, const char *prefix,
                            QObject *container)
{
    GQueue members = G_QUEUE_INIT;
    FlattenItem *item;

    if (qobject_type(container) == QTYPE_QDICT) {
        QDict *dict = qobject_to(QDict, container);
        const QDictEntry *entry;

        for (entry = qdict_first(dict); entry;
             entry = qdict_next(dict, entry)) {
            flatten_push(&members,
                         g_strconcat(prefix, ".", qdict_entry_key(entry),
                                     NULL),
                         qdict_entry_value(entry));
        }
    } else {
        const QListEntry *entry;
        size_t i = 0;

        QLIST_FOREACH_ENTRY(qobject_to(QList, container), entry) {
            flatten_push(&members, g_strdup_printf("%s.%zu", prefix, i++),
                         entry->value);
        }
    }
    while ((item = g_queue_pop_tail(&members))) {
        g_queue_push_head(todo, item);
    }
}

void qdict_flatten(QDict *qdict)
{
    GQueue todo = G_QUEUE_INIT;
    QDict *scalars = qdict_new();
    const QDictEntry *entry;
    FlattenItem *item;

    for (entry = qdict_first(qdict); entry; entry = qdict_next(qdict, entry)) {
        flatten_push(&todo, g_strdup(qdict_entry_key(entry)),
                     qdict_entry_value(entry));
    }
    while ((item = g_queue_pop_head(&todo))) {
        if (is_nonempty_container(item->value)) {
            flatten_members(&todo, item->key, item->value);
        } else {
            qdict_put_obj(scalars, item->key, qobject_ref(item->value));
        }
        qobject_unref(item->value);
        g_free(item->key);
        g_free(item);
    }
    while ((entry = qdict_first(qdict))) {
        qdict_del(qdict, qdict_entry_key(entry));
    }
    qdict_join(qdict, scalars, true);
    qobject_unref(scalars);
}

/* --- crumple --- */

/*
 * Cut the first name off the dotted *@key and return it with ".." read as ".";
 * *@key moves behind the dot, to NULL at the end.
 */
static char *crumple_next_name(const char **key)
{
    GString *name = g_string_new("");
    const char *p;

    for (p = *key; *p; p++) {
        if (*p == '.') {
            if (p[1] != '.') {
                *key = p + 1;
                return g_string_free(name, FALSE);
            }
            p++;
        }
        g_string_append_c(name, *p);
    }
    *key = NULL;
    return g_string_free(name, FALSE);
}

/* Store @value at the end of the path @key below @root. */
static bool crumple_insert(QDict *root, const char *key, QObject *value,
                           Error **errp)
{
    const char *rest = key;
    QDict *at = root;
    unsigned depth;

    for (depth = 0; ; depth++) {
        g_autofree char *name = crumple_next_name(&rest);
        QObject *old = qdict_get(at, name);

        if (depth == CRUMPLE_MAX_DEPTH) {
            error_setg(errp, "Parameter '%.40s...' is nested too deeply", key);
            return false;
        }
        if (!rest) {
            if (old) {
                error_setg(errp, "Cannot mix scalar and non-scalar keys");
                return false;
            }
            qdict_put_obj(at, name, qobject_ref(value));
            return true;
        }
        if (!old) {
            QDict *below = qdict_new();

            qdict_put(at, name, below);
            at = below;
        } else if (qobject_type(old) == QTYPE_QDICT
                   && old->base.refcnt == 1) {
            /* ours: containers of the source are shared, so counted twice */
            at = qobject_to(QDict, old);
        } else {
            error_setg(errp, "Cannot mix scalar and non-scalar keys");
            return false;
        }
    }
}

static bool is_index(const char *name)
{
    return name[0] && strspn(name, "0123456789") == strlen(name);
}

/*
 * Whether @dict is to become a list: 1 if all keys are numbers, 0 if none is, -1
 * and an error if some are.
 */
static int crumple_is_list(const QDict *dict, Error **errp)
{
    size_t numbers = 0;
    const QDictEntry *entry;

    for (entry = qdict_first(dict); entry; entry = qdict_next(dict, entry)) {
        numbers += is_index(qdict_entry_key(entry));
    }
    if (!numbers) {
        return 0;
    }
    if (numbers != qdict_size(dict)) {
        error_setg(errp, "Cannot mix list and non-list keys");
        return -1;
    }
    return 1;
}

static QList *crumple_to_list(const QDict *dict, Error **errp)
{
    g_autoptr(QList) list = qlist_new();
    size_t i;

    for (i = 0; i < qdict_size(dict); i++) {
        g_autofree char *key = g_strdup_printf("%zu", i);
        QObject *value = qdict_get(dict, key);

        if (!value) {
            error_setg(errp, "Missing list index %zu", i);
            return NULL;
        }
        qlist_append_obj(list, qobject_ref(value));
    }
    return g_steal_pointer(&list);
}

/* A dictionary made here, and where it hangs. */
typedef struct CrumpleNode {
    QDict *parent;              /* NULL for the root */
    const char *name;
    QDict *dict;
} CrumpleNode;

/* List @root and the dictionaries below it, parents first. */
static GArray *crumple_nodes(QDict *root)
{
    GArray *nodes = g_array_new(FALSE, FALSE, sizeof(CrumpleNode));
    CrumpleNode node = { .dict = root };
    guint i;

    g_array_append_val(nodes, node);
    for (i = 0; i < nodes->len; i++) {
        QDict *dict = g_array_index(nodes, CrumpleNode, i).dict;
        const QDictEntry *entry;

        for (entry = qdict_first(dict); entry;
             entry = qdict_next(dict, entry)) {
            QObject *value = qdict_entry_value(entry);

            if (qobject_type(value) != QTYPE_QDICT
                || value->base.refcnt > 1) {
                continue;
            }
            node = (CrumpleNode) {
                .parent = dict, .name = qdict_entry_key(entry),
                .dict = qobject_to(QDict, value),
            };
            g_array_append_val(nodes, node);
        }
    }
    return nodes;
}

QObject *qdict_crumple(const QDict *src, Error **errp)
{
    g_autoptr(QDict) root = qdict_new();
    g_autoptr(GArray) nodes = NULL;
    const QDictEntry *entry;
    guint i;

    for (entry = qdict_first(src); entry; entry = qdict_next(src, entry)) {
        QObject *value = qdict_entry_value(entry);

        if (is_nonempty_container(value)) {
            error_setg(errp, "Value of '%s' is not a scalar",
                       qdict_entry_key(entry));
            return NULL;
        }
        if (!crumple_insert(root, qdict_entry_key(entry), value, errp)) {
            return NULL;
        }
    }
    /* children before parents, so that a list takes over finished values */
    nodes = crumple_nodes(root);
    for (i = nodes->len; i-- > 0; ) {
        CrumpleNode *node = &g_array_index(nodes, CrumpleNode, i);
        int is_list = crumple_is_list(node->dict, errp);
        QList *list;

        if (is_list < 0) {
            return NULL;
        }
        if (!is_list) {
            continue;
        }
        list = crumple_to_list(node->dict, errp);
        if (!list) {
            return NULL;
        }
        if (!node->parent) {
            return QOBJECT(list);
        }
        qdict_put(node->parent, node->name, list);
    }
    return QOBJECT(g_steal_pointer(&root));
}
