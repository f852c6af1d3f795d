/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A target that is a file which the source is read from. Locks see that only as
 * long as nobody has switched them off, and then not as what it is; so files
 * are compared before anything is created or opened for writing, by what they
 * are and not by what they are called.
 */
#include "util/osdep.h"
#include "block/block_int.h"
#include "img/img.h"
#include "qobject/keyval.h"
#include "qobject/qjson.h"
#include "qobject/qstring.h"
#include "util/cutils.h"

typedef struct File {
    char *name;
    dev_t dev;      /* of a device: 0 */
    ino_t ino;      /* of a device: its number */
} File;

static void file_free(gpointer opaque)
{
    File *f = opaque;

    g_free(f->name);
    g_free(f);
}

static void add_file(GPtrArray *files, const char *path)
{
    struct stat st;
    File *f;

    if (!path || stat(path, &st) < 0 ||
        !(S_ISREG(st.st_mode) || S_ISBLK(st.st_mode))) {
        return;
    }
    f = g_new0(File, 1);
    f->name = g_strdup(path);
    f->dev = S_ISBLK(st.st_mode) ? 0 : st.st_dev;
    f->ino = S_ISBLK(st.st_mode) ? st.st_rdev : st.st_ino;
    g_ptr_array_add(files, f);
}

static const char *path_of_node(BlockDriverState *bs)
{
    switch (bs->options->driver) {
    case BLOCKDEV_DRIVER_FILE:
        return bs->options->u.file.filename;
    case BLOCKDEV_DRIVER_HOST_DEVICE:
        return bs->options->u.host_device.filename;
    default:
        return NULL;
    }
}

/* The files below @blk; @written: without those below backing edges. */
static GPtrArray *files_below(BlockBackend *blk, bool written)
{
    GPtrArray *files = g_ptr_array_new_with_free_func(file_free);
    g_autoptr(GPtrArray) nodes = g_ptr_array_new();

    g_ptr_array_add(nodes, blk_bs(blk));
    for (guint i = 0; i < nodes->len; i++) {
        BlockDriverState *bs = nodes->pdata[i];
        BdrvChild *c;

        add_file(files, path_of_node(bs));
        QTAILQ_FOREACH(c, &bs->children, next) {
            if (!(written && (c->role & BDRV_CHILD_COW)) &&
                !g_ptr_array_find(nodes, c->bs, NULL)) {
                g_ptr_array_add(nodes, c->bs);
            }
        }
    }
    return files;
}

/* --- names of a target that is not open --- */

static const char *path_of_name(const char *name)
{
    const char *path = name;

    return strstart(name, "host_device:", &path) ? path : img_plain_path(name);
}

/* All file names in a description, but for those of backing files. */
static void add_described(GPtrArray *files, QDict *dict)
{
    const QDictEntry *e;

    qdict_flatten(dict);
    for (e = qdict_first(dict); e; e = qdict_next(dict, e)) {
        const char *key = qdict_entry_key(e);
        QString *value = qobject_to(QString, qdict_entry_value(e));

        if (value && g_str_has_suffix(key, "filename") &&
            !g_str_has_prefix(key, "backing.") &&
            !strstr(key, ".backing.")) {
            add_file(files, path_of_name(qstring_get_str(value)));
        }
    }
}

static GPtrArray *files_named(const char *name, bool image_opts,
                              const QDict *create_options)
{
    GPtrArray *files = g_ptr_array_new_with_free_func(file_free);
    const char *json = name;
    QDict *dict = NULL;

    if (image_opts) {
        dict = keyval_parse_opts(name, NULL, NULL);
    } else if (strstart(name, "json:", &json)) {
        QObject *obj = qobject_from_json(json, NULL);

        dict = qobject_to(QDict, obj);
        if (!dict) {
            qobject_unref(obj);
        }
    } else {
        add_file(files, path_of_name(name));
    }
    if (dict) {
        add_described(files, dict);
        qobject_unref(dict);
    }
    if (create_options) {
        const char *data = qdict_get_try_str(create_options, "data_file");

        add_file(files, data ? path_of_name(data) : NULL);
    }
    return files;
}

/* --- comparing --- */

static bool are_apart(BlockBackend *source, const char *source_name,
                      GPtrArray *target, const char *target_name)
{
    g_autoptr(GPtrArray) files = files_below(source, false);

    for (guint i = 0; i < files->len; i++) {
        const File *s = files->pdata[i];

        for (guint k = 0; k < target->len; k++) {
            const File *t = target->pdata[k];

            if (s->dev == t->dev && s->ino == t->ino) {
                error_report("'%s' is not written: it is the file '%s', which "
                             "'%s' is read from", target_name, s->name,
                             source_name);
                return false;
            }
        }
    }
    return true;
}

bool img_name_is_apart(BlockBackend *source, const char *source_name,
                       const char *target, bool image_opts,
                       const QDict *create_options)
{
    g_autoptr(GPtrArray) files = files_named(target, image_opts,
                                             create_options);

    return are_apart(source, source_name, files, target);
}

bool img_target_is_apart(BlockBackend *source, const char *source_name,
                         BlockBackend *target, const char *target_name)
{
    g_autoptr(GPtrArray) files = files_below(target, true);

    return are_apart(source, source_name, files, target_name);
}
