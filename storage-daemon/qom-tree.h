/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The objects of the program as a tree: the root, containers, what is in them.
 * Main thread. */
#ifndef STORAGE_DAEMON_QOM_TREE_H
#define STORAGE_DAEMON_QOM_TREE_H

#include "objects/qom.h"

typedef struct QomContainer QomContainer;

/* A place in the tree. Valid until objects are made or removed. */
typedef struct QomNode {
    QomObject object;           /* instance NULL: the root or a container */
    const QomContainer *container; /* it is, or is in; NULL: the root */
    const char *name;           /* NULL: the root */
} QomNode;

/* How many nodes @path may mean; *@node is the only one if that is 1. */
unsigned qom_resolve(const char *path, QomNode *node);

/* The child behind *@child; the first one if child->name is NULL. False: no
 * more. */
bool qom_next_child(const QomNode *node, QomNode *child);
/* False: there is none of that name. */
bool qom_find_child(const QomNode *node, const char *name, QomNode *child);
/* Absolute; caller frees. */
char *qom_path(const QomNode *node);

/* All types, each once. Caller unrefs. */
GPtrArray *qom_types(void);

#endif
