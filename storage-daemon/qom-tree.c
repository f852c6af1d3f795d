/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The objects of the program as a tree. */
#include "util/osdep.h"
#include "chardev/char.h"
#include "objects/object.h"
#include "qom-tree.h"

/* --- containers --- */

struct QomContainer {
    const char *name;
    /* What comes behind @child, or the first if its instance is NULL. */
    bool (*next)(QomNode *child);
};

static bool next_object(QomNode *child)
{
    UserObject *obj = user_object_next(child->object.instance);

    if (obj) {
        child->object.type = user_object_qom_type(obj);
        child->object.instance = obj;
        child->name = user_object_id(obj);
    }
    return obj;
}

static bool next_chardev(QomNode *child)
{
    Chardev *chr = chardev_next(child->object.instance);

    if (chr) {
        child->object.type = chardev_qom_type(chr);
        child->object.instance = chr;
        child->name = chardev_id(chr);
    }
    return chr;
}

static const QomContainer containers[] = {
    { "objects", next_object },
    { "chardevs", next_chardev },
};

/* --- nodes --- */

static const QomNode root = { .object.type = &qom_type_container };

static bool next_container(QomNode *child)
{
    const QomContainer *c = child->name ? child->container + 1 : containers;

    if (c == containers + ARRAY_SIZE(containers)) {
        return false;
    }
    *child = (QomNode) {
        .object.type = &qom_type_container,
        .container = c,
        .name = c->name,
    };
    return true;
}

bool qom_next_child(const QomNode *node, QomNode *child)
{
    if (node->object.instance) {
        return false;
    }
    if (!node->container) {
        return next_container(child);
    }
    child->container = node->container;
    return node->container->next(child);
}

/* The name is @name up to @len. */
static bool find_child(const QomNode *node, const char *name, size_t len,
                       QomNode *child)
{
    *child = (QomNode) { };
    while (qom_next_child(node, child)) {
        if (strlen(child->name) == len && !memcmp(child->name, name, len)) {
            return true;
        }
    }
    return false;
}

bool qom_find_child(const QomNode *node, const char *name, QomNode *child)
{
    return find_child(node, name, strlen(name), child);
}

char *qom_path(const QomNode *node)
{
    if (!node->container) {
        return g_strdup("/");
    }
    return node->object.instance
               ? g_strdup_printf("/%s/%s", node->container->name, node->name)
               : g_strdup_printf("/%s", node->name);
}

/* --- paths --- */

/* The node that @path leads to from @from; empty components do not count. */
static bool walk(const QomNode *from, const char *path, QomNode *node)
{
    QomNode at = *from, child;
    size_t len;

    for (;; path += len) {
        path += strspn(path, "/");
        len = strcspn(path, "/");
        if (!len) {
            *node = at;
            return true;
        }
        if (!find_child(&at, path, len, &child)) {
            return false;
        }
        at = child;
    }
}

/* From how many nodes, @from and those below, @path leads somewhere; the depth
 * is that of the tree. */
static unsigned walk_from_all(const QomNode *from, const char *path,
                              QomNode *node)
{
    unsigned found = walk(from, path, node);
    QomNode child = { };

    while (qom_next_child(from, &child)) {
        found += walk_from_all(&child, path, node);
    }
    return found;
}

unsigned qom_resolve(const char *path, QomNode *node)
{
    return path[0] == '/' ? walk(&root, path, node)
                          : walk_from_all(&root, path, node);
}

/* --- types --- */

static void add_type(GPtrArray *types, const QomType *type)
{
    for (; type && !g_ptr_array_find(types, type, NULL); type = type->parent) {
        g_ptr_array_add(types, (gpointer)type);
    }
}

GPtrArray *qom_types(void)
{
    GPtrArray *types = g_ptr_array_new();

    add_type(types, &qom_type_container);
    add_type(types, &qom_type_user_creatable);
    for (int i = 0; i < OBJECT_TYPE__MAX; i++) {
        add_type(types, user_object_type_info(i));
    }
    for (int i = 0; i < CHARDEV_BACKEND_KIND__MAX; i++) {
        add_type(types, chardev_kind_qom_type(i));
    }
    return types;
}
