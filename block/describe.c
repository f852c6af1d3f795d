/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * From what a user says about a node to a complete description of it.
 *
 * A description is a nested dictionary that BlockdevOptions can be read from:
 * it names a driver, and so does every child that is described inline. What
 * the user left out is found here:
 *
 *   file name          belongs to the node itself if that is a protocol, else
 *                      to its "file"; json: names are descriptions themselves
 *   driver of a file   by prefix of the file name, if the name stands alone; a
 *                      path given as option never has a prefix
 *   driver of a format by probing the file below, which is opened for that and
 *                      referred to by node name ("helper") from then on
 *
 * Whether a child without driver is a file or is probed depends on the parent
 * only (BDRV_O_PROTOCOL in bdrv_child_flags()): the file of a format is a file.
 */
#include "util/osdep.h"
#include "block/block_int.h"
#include "block/block-backend.h"
#include "block/graph-internal.h"
#include "qobject/qjson.h"
#include "qobject/qlist.h"
#include "qobject/qnull.h"
#include "qobject/qstring.h"
#include "util/cutils.h"

int bdrv_child_flags(const BlockDriver *drv, BdrvChildRole role, int flags)
{
    flags &= ~(BDRV_O_SNAPSHOT | BDRV_O_NO_BACKING | BDRV_O_COPY_ON_READ);
    /* The parent has filtered discards already. */
    flags |= BDRV_O_UNMAP;
    if (role & BDRV_CHILD_COW) {
        return flags & ~(BDRV_O_RDWR | BDRV_O_AUTO_RDONLY | BDRV_O_PROTOCOL);
    }
    if (!drv || drv->is_format) {
        flags |= BDRV_O_PROTOCOL;
    } else if (!drv->is_filter) {
        flags &= ~BDRV_O_PROTOCOL;
    }
    return flags;
}

/* A driver that was named decides, wherever its node stands. */
static int flags_of_driver(const BlockDriver *drv, int flags)
{
    return drv->protocol_name ? flags | BDRV_O_PROTOCOL
                              : flags & ~BDRV_O_PROTOCOL;
}

/* --- json: names --- */

static bool merge_json_name(OpenRequest *req, Error **errp)
{
    QObject *obj;
    QDict *dict;

    if (!req->filename || !g_str_has_prefix(req->filename, "json:")) {
        return true;
    }
    obj = qobject_from_json(req->filename + strlen("json:"), errp);
    if (!obj) {
        error_prepend(errp, "Could not parse the JSON options: ");
        return false;
    }
    dict = qobject_to(QDict, obj);
    if (!dict) {
        error_setg(errp, "Invalid JSON object given");
        qobject_unref(obj);
        return false;
    }
    qdict_flatten(dict);
    qdict_flatten(req->options);
    /* Options given beside the name win. */
    qdict_join(req->options, dict, false);
    qobject_unref(dict);
    req->filename = NULL;
    return true;
}

/* --- file names --- */

/* Lets protocol driver @drv turn the file name into options in @dict. */
static bool put_filename(BlockDriver *drv, const char *filename, QDict *dict,
                         Error **errp)
{
    const char *name = filename;

    if (qdict_haskey(dict, "filename")) {
        error_setg(errp, "Can't specify 'file' and 'filename' options at the "
                   "same time");
        return false;
    }
    if (drv->bdrv_parse_filename) {
        return drv->bdrv_parse_filename(filename, dict, errp);
    }
    if (strstart(name, drv->protocol_name, &name) && name[0] == ':') {
        name++;
    } else {
        name = filename;
    }
    qdict_put_str(dict, "filename", name);
    return true;
}

/* Puts driver and name of the protocol node for @filename into @dict. */
static bool describe_file(const char *filename, QDict *dict, Error **errp)
{
    const char *name = qdict_get_try_str(dict, "driver");
    BlockDriver *drv = name ? bdrv_find_format(name)
                            : bdrv_find_protocol(filename, true, errp);

    if (!drv) {
        if (name) {
            error_setg(errp, "Unknown driver '%s'", name);
        }
        return false;
    }
    if (!drv->protocol_name) {
        /* A format where a file was expected: the name is one further down,
         * where nothing names a driver. */
        QDict *below;

        if (qdict_haskey(dict, "file")) {
            error_setg(errp, "Can't specify 'file' and 'filename' options at "
                       "the same time");
            return false;
        }
        below = qdict_new();
        qdict_put(dict, "file", below);
        return describe_file(filename, below, errp);
    }
    qdict_put_str(dict, "driver", drv->format_name);
    return put_filename(drv, filename, dict, errp);
}

/*
 * The option "file" of a node that was given a file name: both together
 * describe the file. New reference; NULL on failure.
 */
static QDict *describe_named_file(OpenRequest *req, Error **errp)
{
    QObject *given = qdict_get(req->options, "file");
    QDict *dict;

    if (given && !qobject_to(QDict, given)) {
        error_setg(errp, "Cannot reference an existing block device with "
                   "additional options or a new filename");
        return NULL;
    }
    dict = given ? qdict_clone_shallow(qobject_to(QDict, given)) : qdict_new();
    if (!describe_file(req->filename, dict, errp)) {
        qobject_unref(dict);
        return NULL;
    }
    return dict;
}

/* --- probing --- */

static BlockDriver *probe_file(BlockDriverState *file, const char *filename,
                               Error **errp)
{
    uint8_t buf[BLOCK_PROBE_BUF_SIZE] = { 0 };
    BlockBackend *blk;
    BlockDriver *drv = NULL;
    int64_t len;
    int ret;

    blk = blk_new_with_bs(file, 0, BLK_PERM_ALL, errp);
    if (!blk) {
        return NULL;
    }
    len = blk_getlength(blk);
    ret = len < 0 ? len : blk_pread(blk, 0, MIN(len, (int64_t)sizeof(buf)),
                                    buf, 0);
    blk_unref(blk);
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Could not read image for determining "
                         "its format");
        return NULL;
    }
    drv = bdrv_probe_all(buf, MIN(len, (int64_t)sizeof(buf)), filename);
    if (!drv) {
        error_setg(errp, "Could not determine image format: No compatible "
                   "driver found");
    }
    return drv;
}

/* The file below a node whose driver is not known. */
static BlockDriverState *open_file_to_probe(OpenRequest *req, Error **errp)
{
    QObject *file = qdict_get(req->options, "file");
    QString *reference = file ? qobject_to(QString, file) : NULL;
    QDict *dict = file ? qobject_to(QDict, file) : NULL;
    int flags = bdrv_child_flags(NULL, BDRV_CHILD_IMAGE, req->flags);

    if (!file && !req->filename) {
        error_setg(errp, "Must specify either driver or file");
        return NULL;
    }
    if (req->filename) {
        dict = describe_named_file(req, errp);
        if (!dict) {
            return NULL;
        }
    } else if (!reference && !dict) {
        error_setg(errp, "Invalid parameter type for 'file', expected: "
                   "BlockdevRef");
        return NULL;
    } else if (dict) {
        qobject_ref(dict);
    }
    return bdrv_open_tree(NULL, reference ? qstring_get_str(reference) : NULL,
                          dict, flags, errp);
}

static bool resolve_by_probing(OpenRequest *req, Error **errp)
{
    BlockDriverState *bs = open_file_to_probe(req, errp);

    if (!bs) {
        return false;
    }
    g_ptr_array_add(req->helpers, bs);
    if (req->filename || !qobject_to(QString,
                                     qdict_get(req->options, "file"))) {
        g_ptr_array_add(req->adopted, bs);
    }
    req->drv = probe_file(bs, req->filename, errp);
    if (!req->drv) {
        return false;
    }
    req->probed = true;
    qdict_put_str(req->options, "driver", req->drv->format_name);
    qdict_put_str(req->options, "file", bdrv_get_node_name(bs));
    return true;
}

/* --- the driver of the node itself --- */

static bool resolve_protocol(OpenRequest *req, Error **errp)
{
    const char *filename = req->filename;

    if (!req->drv) {
        if (!filename) {
            filename = qdict_get_try_str(req->options, "filename");
        }
        if (!filename) {
            error_setg(errp, "Must specify either driver or file");
            return false;
        }
        req->drv = bdrv_find_protocol(filename, req->filename != NULL, errp);
        if (!req->drv) {
            return false;
        }
        qdict_put_str(req->options, "driver", req->drv->format_name);
    }
    return !req->filename ||
           put_filename(req->drv, req->filename, req->options, errp);
}

/* Options that are looked at here must be text before anything is opened. */
static bool check_text_option(QDict *options, const char *key, Error **errp)
{
    QObject *value = qdict_get(options, key);

    if (value && !qobject_to(QString, value) && !qobject_to(QNull, value)) {
        error_setg(errp, "Invalid parameter type for '%s', expected: string",
                   key);
        return false;
    }
    return true;
}

static bool resolve_driver(OpenRequest *req, Error **errp)
{
    const char *name;
    QDict *file;

    if (!check_text_option(req->options, "driver", errp) ||
        !check_text_option(req->options, "filename", errp)) {
        return false;
    }
    name = qdict_get_try_str(req->options, "driver");
    if (name) {
        req->drv = bdrv_find_format(name);
        if (!req->drv) {
            error_setg(errp, "Unknown driver '%s'", name);
            return false;
        }
        req->flags = flags_of_driver(req->drv, req->flags);
    }
    if (req->flags & BDRV_O_PROTOCOL) {
        return resolve_protocol(req, errp);
    }
    if (!req->drv) {
        return resolve_by_probing(req, errp);
    }
    if (req->filename) {
        file = describe_named_file(req, errp);
        if (!file) {
            return false;
        }
        qdict_put(req->options, "file", file);
    }
    return true;
}

/* --- the drivers of children --- */

/* A description with driver whose children are still to be looked at. */
typedef struct Described {
    QDict *dict;                /* borrowed from the request */
    BlockDriver *drv;
    int flags;
} Described;

static void described_push(GArray *todo, QDict *dict, int flags)
{
    const char *name = qdict_get_try_str(dict, "driver");
    BlockDriver *drv = name ? bdrv_find_format(name) : NULL;

    /* A driver that does not exist is refused when the options are read. */
    if (drv) {
        Described d = { dict, drv, flags_of_driver(drv, flags) };
        g_array_append_val(todo, d);
    }
}

/*
 * Whether inline child @dict cannot be described without opening it: its format
 * is to be probed, or its header has a say in what its backing file is.
 */
static bool child_needs_opening(QDict *dict, int flags)
{
    const char *name = qdict_get_try_str(dict, "driver");
    BlockDriver *drv = name ? bdrv_find_format(name) : NULL;
    QObject *backing = qdict_get(dict, "backing");

    if (!qdict_haskey(dict, "driver")) {
        return !(flags & BDRV_O_PROTOCOL);
    }
    return drv && drv->supports_backing && backing &&
           qobject_to(QDict, backing);
}

/* Member @key of @holder, a child of @parent. */
static bool complete_child(OpenRequest *req, const Described *parent,
                           QDict *holder, const char *key, GArray *todo,
                           Error **errp)
{
    QObject *value = qdict_get(holder, key);
    QDict *dict = value ? qobject_to(QDict, value) : NULL;
    const char *filename;
    BlockDriverState *bs;
    BlockDriver *drv;
    int flags;

    if (value && qobject_to(QNull, value)) {
        /* The same as saying nothing. */
        qdict_del(holder, key);
    }
    if (!dict) {
        return true;
    }
    flags = bdrv_options_peek_flags(
        dict, bdrv_child_flags(parent->drv, BDRV_CHILD_IMAGE, parent->flags));
    if (child_needs_opening(dict, flags)) {
        bs = bdrv_open_tree(NULL, NULL, qobject_ref(dict), flags, errp);
        if (!bs) {
            return false;
        }
        g_ptr_array_add(req->helpers, bs);
        g_ptr_array_add(req->adopted, bs);
        qdict_put_str(holder, key, bdrv_get_node_name(bs));
        return true;
    }
    if (!qdict_haskey(dict, "driver")) {
        filename = qdict_get_try_str(dict, "filename");
        if (!filename) {
            error_setg(errp, "Must specify either driver or file");
            return false;
        }
        drv = bdrv_find_protocol(filename, false, errp);
        if (!drv) {
            return false;
        }
        qdict_put_str(dict, "driver", drv->format_name);
    }
    described_push(todo, dict, flags);
    return true;
}

/* The members of the list @key of @parent. */
static bool complete_children_list(OpenRequest *req, const Described *parent,
                                   const char *key, GArray *todo, Error **errp)
{
    QList *list = qobject_to(QList, qdict_get(parent->dict, key));
    const QListEntry *e;
    QList *done;

    if (!list) {
        return true;
    }
    done = qlist_new();
    QLIST_FOREACH_ENTRY(list, e) {
        g_autoptr(QDict) holder = qdict_new();

        if (!qobject_to(QDict, qlist_entry_obj(e))) {
            qlist_append_obj(done, qobject_ref(qlist_entry_obj(e)));
            continue;
        }
        qdict_put_obj(holder, key, qobject_ref(qlist_entry_obj(e)));
        if (!complete_child(req, parent, holder, key, todo, errp)) {
            qobject_unref(done);
            return false;
        }
        qlist_append_obj(done, qobject_ref(qdict_get(holder, key)));
    }
    qdict_put(parent->dict, key, done);
    return true;
}

static bool complete_children(OpenRequest *req, Error **errp)
{
    static const char *const keys[] = { "file", "image", "target", "data-file",
                                        "test", "raw", "log" };
    g_autoptr(GArray) todo = g_array_new(false, false, sizeof(Described));

    described_push(todo, req->options, req->flags);
    while (todo->len) {
        Described d = g_array_index(todo, Described, todo->len - 1);

        g_array_set_size(todo, todo->len - 1);
        if (d.drv->bdrv_translate_options &&
            !d.drv->bdrv_translate_options(d.dict, errp)) {
            return false;
        }
        for (int i = 0; i < ARRAY_SIZE(keys); i++) {
            if (!complete_child(req, &d, d.dict, keys[i], todo, errp)) {
                return false;
            }
        }
        if (!complete_children_list(req, &d, "files", todo, errp) ||
            !complete_children_list(req, &d, "children", todo, errp)) {
            return false;
        }
    }
    return true;
}

/* --- the backing option, which BlockdevOptions does not get --- */

static bool take_backing_option(OpenRequest *req, Error **errp)
{
    QObject *backing = qdict_get(req->options, "backing");
    QString *name = backing ? qobject_to(QString, backing) : NULL;

    if (!backing) {
        return true;
    }
    if (req->drv->supports_backing) {
        req->backing = qobject_ref(backing);
    } else if (!qobject_to(QNull, backing) &&
               !(name && !qstring_get_str(name)[0])) {
        error_setg(errp, "Driver doesn't support backing files");
        return false;
    }
    qdict_del(req->options, "backing");
    return true;
}

bool bdrv_describe(OpenRequest *req, Error **errp)
{
    QDict *nested;

    if (!merge_json_name(req, errp)) {
        return false;
    }
    nested = bdrv_options_nest(g_steal_pointer(&req->options), errp);
    if (!nested) {
        return false;
    }
    req->options = nested;
    /* What is opened on the way follows the options, not only the flags. */
    req->flags = bdrv_options_peek_flags(req->options, req->flags);
    return resolve_driver(req, errp) && complete_children(req, errp) &&
           take_backing_option(req, errp);
}
