/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * File names of nodes: what a user is shown, what opens the same tree again,
 * and backing file names relative to the image that holds them.
 */
#include "util/osdep.h"
#include "block/block_int.h"
#include "block/graph-internal.h"
#include "qobject/qjson.h"
#include "qobject/qlist.h"
#include "qobject/qstring.h"
#include "util/cutils.h"

/* A level of a json: name has more than twenty characters. */
#define TREE_DEPTH_MAX (PATH_MAX / 20)

char *bdrv_get_full_backing_filename_from_filename(const char *backed,
                                                   const char *backing,
                                                   Error **errp)
{
    if (!backing[0]) {
        return NULL;
    }
    if (path_has_protocol(backing) || backing[0] == '/') {
        return g_strdup(backing);
    }
    if (!backed[0] || g_str_has_prefix(backed, "json:")) {
        error_setg(errp, "Cannot use relative backing file names for '%s'",
                   backed);
        return NULL;
    }
    return path_combine(backed, backing);
}

/* The name of what stores @bs: of the file, for a format on a file. */
static const char *storage_filename(BlockDriverState *bs)
{
    BdrvChild *c;

    while ((c = bdrv_primary_child(bs))) {
        bs = c->bs;
    }
    bdrv_refresh_filename(bs);
    return bs->filename;
}

char *bdrv_get_full_backing_filename(BlockDriverState *bs, Error **errp)
{
    return bdrv_get_full_backing_filename_from_filename(storage_filename(bs),
                                                        bs->backing_file,
                                                        errp);
}

/* Options that say how a node is used, not what it shows. */
static bool option_is_weak(BlockDriverState *bs, const char *name)
{
    static const char *const common[] = {
        "driver", "node-name", "discard", "cache", "read-only",
        "auto-read-only", "force-share", "detect-zeroes", "active", "filename",
        NULL
    };
    const char *const *weak = bs->drv->weak_options;

    return g_strv_contains(common, name) ||
           (weak && g_strv_contains(weak, name));
}

/* Whether the backing file in use is another one than the header names. */
static bool backing_overridden(BlockDriverState *bs)
{
    if (!bs->backing) {
        /* With these flags nobody meant to say anything by leaving it out. */
        return bs->auto_backing_file[0] &&
               !(bs->open_flags & (BDRV_O_NO_IO | BDRV_O_NO_BACKING));
    }
    return strcmp(bs->backing->bs->filename, bs->auto_backing_file);
}

static bool has_significant_options(BlockDriverState *bs)
{
    const QDictEntry *e;

    if (!bs->explicit_options) {
        return false;
    }
    for (e = qdict_first(bs->explicit_options); e;
         e = qdict_next(bs->explicit_options, e)) {
        if (!option_is_weak(bs, qdict_entry_key(e)) &&
            strcmp(qdict_entry_key(e), "backing") &&
            !bdrv_find_child(bs, qdict_entry_key(e))) {
            return true;
        }
    }
    return bs->drv->supports_backing && backing_overridden(bs);
}

/* "LIST.N" becomes the next member of LIST: there may be gaps in the numbers. */
static void put_child(QDict *tree, const char *name, QDict *child)
{
    const char *dot = strchr(name, '.');
    g_autofree char *key = NULL;
    QList *list;

    if (!dot) {
        qdict_put(tree, name, child);
        return;
    }
    key = g_strndup(name, dot - name);
    list = qobject_to(QList, qdict_get(tree, key));
    if (!list) {
        list = qlist_new();
        qdict_put(tree, key, list);
    }
    qlist_append_obj(list, QOBJECT(child));
}

/*
 * The json: tree: significant options, children by their own trees. Whatever is
 * further down than @depth would be cut off with the rest of a name of that
 * length anyway.
 */
static QDict *filename_tree(BlockDriverState *bs, unsigned depth)
{
    QDict *tree = qdict_new();
    const QDictEntry *e;
    BdrvChild *c;

    qdict_put_str(tree, "driver", bs->drv->format_name);
    for (e = bs->explicit_options ? qdict_first(bs->explicit_options) : NULL;
         e; e = qdict_next(bs->explicit_options, e)) {
        const char *key = qdict_entry_key(e);

        if ((!option_is_weak(bs, key) || !strcmp(key, "filename")) &&
            strcmp(key, "backing") && !bdrv_find_child(bs, key)) {
            qdict_put_obj(tree, key, qobject_ref(qdict_entry_value(e)));
        }
    }
    QTAILQ_FOREACH(c, &bs->children, next) {
        if (depth && (c != bs->backing || backing_overridden(bs))) {
            put_child(tree, c->name, filename_tree(c->bs, depth - 1));
        }
    }
    if (!bs->backing && backing_overridden(bs)) {
        qdict_put_null(tree, "backing");
    }
    return tree;
}

static void refresh_one(BlockDriverState *bs)
{
    BdrvChild *primary = bdrv_primary_child(bs);

    bs->exact_filename[0] = '\0';
    if (bs->drv->bdrv_refresh_filename) {
        bs->drv->bdrv_refresh_filename(bs);
    } else if (primary && primary->bs->exact_filename[0] &&
               !has_significant_options(bs)) {
        pstrcpy(bs->exact_filename, sizeof(bs->exact_filename),
                primary->bs->exact_filename);
    }
    if (bs->exact_filename[0]) {
        pstrcpy(bs->filename, sizeof(bs->filename), bs->exact_filename);
    } else {
        g_autoptr(QDict) tree = filename_tree(bs, TREE_DEPTH_MAX);
        g_autoptr(GString) json = qobject_to_json(QOBJECT(tree));
        g_autofree char *name = g_strdup_printf("json:%s", json->str);

        /* Cut names end in a dot so that nobody takes them for whole. */
        if (strlen(name) >= sizeof(bs->filename)) {
            strcpy(name + sizeof(bs->filename) - 4, "...");
        }
        pstrcpy(bs->filename, sizeof(bs->filename), name);
    }
}

void bdrv_refresh_filename(BlockDriverState *bs)
{
    g_autoptr(GHashTable) seen = g_hash_table_new(NULL, NULL);
    g_autoptr(GPtrArray) stack = g_ptr_array_new();

    /* Children first; explicit stack, chains may be long. */
    g_ptr_array_add(stack, bs);
    while (stack->len) {
        BlockDriverState *top = stack->pdata[stack->len - 1];
        BdrvChild *c;

        if (!top->drv) {
            g_ptr_array_set_size(stack, stack->len - 1);
        } else if (g_hash_table_add(seen, top)) {
            QTAILQ_FOREACH(c, &top->children, next) {
                if (!g_hash_table_contains(seen, c->bs)) {
                    g_ptr_array_add(stack, c->bs);
                }
            }
        } else {
            g_ptr_array_set_size(stack, stack->len - 1);
            refresh_one(top);
        }
    }
}

void bdrv_note_header_backing(BlockDriverState *bs)
{
    g_free(bs->header_backing_file);
    bs->header_backing_file = bs->backing_file[0] ? g_strdup(bs->backing_file)
                                                  : NULL;
    pstrcpy(bs->header_backing_format, sizeof(bs->header_backing_format),
            bs->backing_format);
}

int bdrv_change_backing_file(BlockDriverState *bs, const char *backing_file,
                             const char *backing_fmt)
{
    int ret;

    if (backing_fmt && !backing_file) {
        return -EINVAL;
    }
    if (!bs->drv->bdrv_change_backing_file) {
        return -ENOTSUP;
    }
    ret = bs->drv->bdrv_change_backing_file(bs, backing_file, backing_fmt);
    if (ret == 0) {
        pstrcpy(bs->backing_file, sizeof(bs->backing_file),
                backing_file ? backing_file : "");
        pstrcpy(bs->backing_format, sizeof(bs->backing_format),
                backing_fmt ? backing_fmt : "");
        pstrcpy(bs->auto_backing_file, sizeof(bs->auto_backing_file),
                backing_file ? backing_file : "");
        bdrv_note_header_backing(bs);
    }
    return ret;
}

ImageInfoSpecific *bdrv_get_specific_info(BlockDriverState *bs, Error **errp)
{
    if (!bs->drv || !bs->drv->bdrv_get_specific_info) {
        return NULL;
    }
    return bs->drv->bdrv_get_specific_info(bs, errp);
}
