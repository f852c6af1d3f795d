/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * File names of nodes: what a user is shown, what opens the same tree again,
 * and backing file names relative to the image that holds them.
 */
#include "util/osdep.h"
#include "block/block_int.h"
#include "block/graph-internal.h"
#include "qobject/qjson.h"
#include "qobject/qstring.h"
#include "util/cutils.h"

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

char *bdrv_get_full_backing_filename(BlockDriverState *bs, Error **errp)
{
    bdrv_refresh_filename(bs);
    return bdrv_get_full_backing_filename_from_filename(bs->filename,
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

static bool names_a_child(BlockDriverState *bs, const char *name)
{
    BdrvChild *c;

    QTAILQ_FOREACH(c, &bs->children, next) {
        if (!strcmp(c->name, name)) {
            return true;
        }
    }
    return false;
}

/* Whether the backing file in use is another one than the header names. */
static bool backing_overridden(BlockDriverState *bs)
{
    if (!bs->backing) {
        return bs->explicit_options && bs->auto_backing_file[0] &&
               qdict_haskey(bs->explicit_options, "backing");
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
            !names_a_child(bs, qdict_entry_key(e))) {
            return true;
        }
    }
    return bs->drv->supports_backing && backing_overridden(bs);
}

/* The json: tree: significant options, children by their own trees. */
static QDict *filename_tree(BlockDriverState *bs)
{
    QDict *tree = qdict_new();
    const QDictEntry *e;
    BdrvChild *c;

    qdict_put_str(tree, "driver", bs->drv->format_name);
    for (e = bs->explicit_options ? qdict_first(bs->explicit_options) : NULL;
         e; e = qdict_next(bs->explicit_options, e)) {
        if ((!option_is_weak(bs, qdict_entry_key(e)) ||
             !strcmp(qdict_entry_key(e), "filename")) &&
            !names_a_child(bs, qdict_entry_key(e))) {
            qdict_put_obj(tree, qdict_entry_key(e),
                          qobject_ref(qdict_entry_value(e)));
        }
    }
    QTAILQ_FOREACH(c, &bs->children, next) {
        if (c == bs->backing && !backing_overridden(bs)) {
            continue;
        }
        if (c == bs->backing && c->bs->exact_filename[0]) {
            /* A chain may be long; its plain name says all of the rest. */
            QDict *backing = qdict_new();
            qdict_put_str(backing, "driver", c->bs->drv->format_name);
            qdict_put_str(backing, "file.filename", c->bs->exact_filename);
            qdict_put(tree, c->name, backing);
        } else {
            qdict_put(tree, c->name, filename_tree(c->bs));
        }
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
        g_autoptr(QDict) tree = filename_tree(bs);
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
