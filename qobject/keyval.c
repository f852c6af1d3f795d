/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Strict option strings: KEY=VALUE,... with dotted keys into nested objects.
 *
 * Parsing collects a flat dictionary first, in which the last value of a key wins;
 * then every key is checked against the others while the tree is built.
 */
#include "util/osdep.h"
#include "qobject/keyval.h"
#include "qobject/qlist.h"
#include "qobject/qstring.h"

#define KEYVAL_MAX_NAME 127
#define KEYVAL_MAX_DEPTH 1024

/* Length of the name at @p: letters, digits, '-' and '_' after a first letter, or
 * digits only; 0 if there is none. */
static size_t name_length(const char *p, bool may_be_index)
{
    size_t len = 0;

    if (may_be_index && g_ascii_isdigit(*p)) {
        while (g_ascii_isdigit(p[len])) {
            len++;
        }
        return len;
    }
    if (!g_ascii_isalpha(*p)) {
        return 0;
    }
    while (g_ascii_isalnum(p[len]) || p[len] == '-' || p[len] == '_') {
        len++;
    }
    return len;
}

/* Check the key of @len bytes at @key. */
static bool key_check(const char *key, size_t len, Error **errp)
{
    const char *p = key, *end = key + len;
    unsigned depth;

    for (depth = 0; ; depth++) {
        size_t n = name_length(p, p != key);

        if (!n || (p + n < end && p[n] != '.') || p + n > end) {
            error_setg(errp, "Invalid parameter '%.*s'",
                       (int)MIN(len, INT_MAX), key);
            return false;
        }
        if (n > KEYVAL_MAX_NAME) {
            error_setg(errp, "Parameter%s '%.*s' is too long",
                       p != key || p + n < end ? " fragment" : "",
                       (int)MIN(n, INT_MAX), p);
            return false;
        }
        if (depth == KEYVAL_MAX_DEPTH) {
            error_setg(errp, "Parameter '%.40s...' is nested too deeply", key);
            return false;
        }
        p += n;
        if (p == end) {
            return true;
        }
        p++;
    }
}

/* The value at *@p up to a single comma, with ",," read as ","; *@p moves behind
 * that comma. */
static char *take_value(const char **p)
{
    GString *value = g_string_new("");
    const char *s;

    for (s = *p; *s; s++) {
        if (*s == ',') {
            if (s[1] != ',') {
                s++;
                break;
            }
            s++;
        }
        g_string_append_c(value, *s);
    }
    *p = s;
    return g_string_free(value, FALSE);
}

/* Whether the part of @len bytes at @start, without '=', asks for help; followed by
 * ",," it does not. */
static bool is_help_part(const char *start, size_t len)
{
    g_autofree char *name = g_strndup(start, len);

    return is_help_option(name) && !g_str_has_prefix(start + len, ",,");
}

/* The part of @len bytes at *@p, without '='; move behind it. */
static bool keyval_bare(QDict *flat, const char **p, size_t len,
                        const char *implied_key, bool *help, Error **errp)
{
    const char *start = *p;

    if (is_help_part(start, len)) {
        *help = true;
    } else if (implied_key && len) {
        /* there is no escape for a comma here */
        qdict_put(flat, implied_key, qstring_from_substr(start, len));
    } else {
        if (key_check(start, len, errp)) {
            error_setg(errp, "Expected '=' after parameter '%.*s'",
                       (int)MIN(len, INT_MAX), start);
        }
        return false;
    }
    *p = start + len + (start[len] == ',');
    return true;
}

/* Parse one part at *@p into @flat and move behind it. */
static bool keyval_one(QDict *flat, const char **p, const char *implied_key,
                       bool *help, Error **errp)
{
    const char *start = *p;
    size_t len = strcspn(start, "=,");
    g_autofree char *key = NULL;
    g_autofree char *value = NULL;

    if (start[len] != '=') {
        return keyval_bare(flat, p, len, implied_key, help, errp);
    }
    if (!key_check(start, len, errp)) {
        return false;
    }
    key = g_strndup(start, len);
    *p = start + len + 1;
    value = take_value(p);
    qdict_put_str(flat, key, value);
    return true;
}

/* --- from flat to nested --- */

static bool inconsistent(const char *key, size_t len, Error **errp)
{
    error_setg(errp, "Parameters '%.*s.*' used inconsistently", (int)len, key);
    return false;
}

/* Store @value at the path @key below @root; the tree so far stays as it is. */
static bool tree_insert(QDict *root, const char *key, QObject *value,
                        Error **errp)
{
    const char *p = key;
    QDict *at = root;

    while (true) {
        size_t n = strcspn(p, ".");
        g_autofree char *name = g_strndup(p, n);
        QObject *old = qdict_get(at, name);

        if (!p[n]) {
            if (old && qobject_type(old) != qobject_type(value)) {
                return inconsistent(key, p + n - key, errp);
            }
            qdict_put_obj(at, name, qobject_ref(value));
            return true;
        }
        if (!old) {
            QDict *below = qdict_new();

            qdict_put(at, name, below);
            at = below;
        } else if (qobject_type(old) == QTYPE_QDICT) {
            at = qobject_to(QDict, old);
        } else {
            return inconsistent(key, p + n - key, errp);
        }
        p += n + 1;
    }
}

typedef struct TreeNode {
    QDict *parent;              /* NULL for the root */
    char *path;
    const char *name;           /* in the parent */
    QDict *dict;
} TreeNode;

static void tree_node_clear(gpointer data)
{
    g_free(((TreeNode *)data)->path);
}

/* All dictionaries of the tree, parents first. */
static GArray *tree_nodes(QDict *root)
{
    GArray *nodes = g_array_new(FALSE, FALSE, sizeof(TreeNode));
    TreeNode node = { .dict = root, .path = g_strdup("") };
    guint i;

    g_array_set_clear_func(nodes, tree_node_clear);
    g_array_append_val(nodes, node);
    for (i = 0; i < nodes->len; i++) {
        TreeNode parent = g_array_index(nodes, TreeNode, i);
        const QDictEntry *entry;

        for (entry = qdict_first(parent.dict); entry;
             entry = qdict_next(parent.dict, entry)) {
            QDict *dict = qobject_to(QDict, qdict_entry_value(entry));

            if (dict) {
                node = (TreeNode) {
                    .parent = parent.dict, .name = qdict_entry_key(entry),
                    .path = g_strconcat(parent.path, *parent.path ? "." : "",
                                        qdict_entry_key(entry), NULL),
                    .dict = dict,
                };
                g_array_append_val(nodes, node);
            }
        }
    }
    return nodes;
}

/* Make @node a list if its keys are numbers; false on errors. */
static bool tree_listify(TreeNode *node, Error **errp)
{
    size_t numbers = 0, i;
    const QDictEntry *entry;
    g_autoptr(QList) list = NULL;

    for (entry = qdict_first(node->dict); entry;
         entry = qdict_next(node->dict, entry)) {
        numbers += g_ascii_isdigit(*qdict_entry_key(entry));
    }
    if (!numbers) {
        return true;
    }
    if (numbers != qdict_size(node->dict)) {
        return inconsistent(node->path, strlen(node->path), errp);
    }
    list = qlist_new();
    for (i = 0; i < numbers; i++) {
        g_autofree char *key = g_strdup_printf("%zu", i);
        QObject *value = qdict_get(node->dict, key);

        if (!value) {
            error_setg(errp, "Parameter '%s.%zu' missing", node->path, i);
            return false;
        }
        qlist_append_obj(list, qobject_ref(value));
    }
    qdict_put(node->parent, node->name, g_steal_pointer(&list));
    return true;
}

/* Build @qdict anew from @flat. */
static bool tree_build(QDict *qdict, const QDict *flat, Error **errp)
{
    g_autoptr(GArray) nodes = NULL;
    const QDictEntry *entry;
    guint i;

    while ((entry = qdict_first(qdict))) {
        qdict_del(qdict, qdict_entry_key(entry));
    }
    for (entry = qdict_first(flat); entry; entry = qdict_next(flat, entry)) {
        if (!tree_insert(qdict, qdict_entry_key(entry),
                         qdict_entry_value(entry), errp)) {
            return false;
        }
    }
    /* children before parents, so that a list takes over finished values */
    nodes = tree_nodes(qdict);
    for (i = nodes->len; i-- > 1; ) {
        if (!tree_listify(&g_array_index(nodes, TreeNode, i), errp)) {
            return false;
        }
    }
    return true;
}

QDict *keyval_parse_into(QDict *qdict, const char *params,
                         const char *implied_key, bool *p_help, Error **errp)
{
    g_autoptr(QDict) flat = qdict_new();
    g_autoptr(QDict) merged = NULL;
    const char *p = params;
    bool help = false;

    while (*p) {
        if (!keyval_one(flat, &p, implied_key, &help, errp)) {
            return NULL;
        }
        implied_key = NULL;
    }
    if (p_help) {
        *p_help = help;
    } else if (help) {
        error_setg(errp, "Help is not available for this option");
        return NULL;
    }

    merged = qdict_clone_shallow(qdict);
    qdict_flatten(merged);
    qdict_join(merged, flat, true);
    return tree_build(qdict, merged, errp) ? qdict : NULL;
}

QDict *keyval_parse(const char *params, const char *implied_key,
                    bool *p_help, Error **errp)
{
    QDict *qdict = qdict_new();

    if (!keyval_parse_into(qdict, params, implied_key, p_help, errp)) {
        qobject_unref(qdict);
        return NULL;
    }
    return qdict;
}

/* --- the traditional way --- */

bool is_help_option(const char *name)
{
    return !strcmp(name, "help") || !strcmp(name, "?");
}

bool has_help_option(const char *list)
{
    const char *p = list;

    while (*p) {
        g_autofree char *part = take_value(&p);

        if (is_help_option(part)) {
            return true;
        }
    }
    return false;
}

bool is_valid_option_list(const char *list)
{
    size_t len = strlen(list), commas = 0;

    if (!len || list[0] == ',') {
        return false;
    }
    while (commas < len && list[len - 1 - commas] == ',') {
        commas++;
    }
    return commas % 2 == 0;
}

QDict *keyval_parse_opts(const char *params, const char *implied_key,
                         bool *p_help)
{
    QDict *qdict = qdict_new();
    const char *p = params;

    if (p_help) {
        *p_help = false;
    }
    for (; *p; implied_key = NULL) {
        size_t len = strcspn(p, "=,");
        g_autofree char *name = NULL;
        g_autofree char *value = NULL;

        if (p[len] == '=') {
            name = g_strndup(p, len);
            p += len + 1;
            value = take_value(&p);
            qdict_put_str(qdict, name, value);
            continue;
        }
        name = take_value(&p);
        if (p_help && is_help_option(name)) {
            *p_help = true;
        } else if (implied_key) {
            qdict_put_str(qdict, implied_key, name);
        } else if (g_str_has_prefix(name, "no")) {
            qdict_put_str(qdict, name + 2, "off");
        } else {
            qdict_put_str(qdict, name, "on");
        }
    }
    return qdict;
}
