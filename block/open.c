/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Opening nodes.
 *
 * One node is opened in steps:
 *   1. options become one nested dictionary; json: names are merged into it;
 *   2. the driver is found: named, by protocol of the file name, or by probing
 *      the file below (which then is opened first and referred to by name);
 *   3. the dictionary is read into BlockdevOptions, so that every wrong name,
 *      type or value is refused before anything else happens;
 *   4. the driver opens its children and itself.
 * Backing files follow in a loop (open_backing_chain()), not by recursion.
 */
#include "util/osdep.h"
#include "block/block_int.h"
#include "block/block-backend.h"
#include "block/graph-internal.h"
#include "qobject/qbool.h"
#include "qobject/qjson.h"
#include "qobject/qlist.h"
#include "qobject/qnull.h"
#include "qobject/qstring.h"
#include "util/cutils.h"

/* What is being opened, and for whom. */
typedef struct OpenRequest {
    const char *filename;
    QDict *options;             /* nested; owned */
    int flags;
    BlockDriverState *parent;   /* inline child of it, or NULL */
    BdrvChildRole role;
    BlockDriver *drv;
    bool probed;
    QObject *backing;           /* taken out of options; owned; may be NULL */
    GPtrArray *helpers;         /* nodes opened on the way; owned references */
} OpenRequest;

static BlockDriverState *open_tree(const char *filename, const char *reference,
                                   QDict *options, int flags,
                                   BlockDriverState *parent,
                                   BdrvChildRole role, Error **errp);

static void request_clear(OpenRequest *req)
{
    qobject_unref(req->options);
    qobject_unref(req->backing);
    for (guint i = 0; i < req->helpers->len; i++) {
        bdrv_unref(req->helpers->pdata[i]);
    }
    g_ptr_array_free(req->helpers, true);
}

int bdrv_inherited_flags(BdrvChildRole role, int parent_flags)
{
    int flags = parent_flags & ~BDRV_O_SNAPSHOT;

    /* The parent has filtered discards already. */
    flags |= BDRV_O_UNMAP;
    if (role & BDRV_CHILD_COW) {
        flags &= ~(BDRV_O_RDWR | BDRV_O_AUTO_RDONLY | BDRV_O_COPY_ON_READ |
                   BDRV_O_PROTOCOL);
    }
    return flags & ~BDRV_O_NO_BACKING;
}

static int child_flags(BlockDriverState *parent, BdrvChildRole role)
{
    int flags = bdrv_inherited_flags(role, parent->open_flags);

    if (parent->drv->is_format && !(role & BDRV_CHILD_COW)) {
        flags |= BDRV_O_PROTOCOL;
    } else if (!parent->drv->is_filter) {
        flags &= ~BDRV_O_PROTOCOL;
    }
    return flags;
}

/* --- step 1 --- */

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

/* --- step 2 --- */

/* Lets protocol driver @drv turn the file name into options in @dict. */
static bool put_filename(BlockDriver *drv, const char *filename, QDict *dict,
                         Error **errp)
{
    const char *name = filename;

    if (drv->bdrv_parse_filename) {
        return drv->bdrv_parse_filename(filename, dict, errp);
    }
    if (drv->protocol_name && strstart(name, drv->protocol_name, &name) &&
        name[0] == ':') {
        name++;
    } else {
        name = filename;
    }
    qdict_put_str(dict, "filename", name);
    return true;
}

/* Description of the protocol node for @filename; NULL on failure. */
static QDict *describe_file(const char *filename, Error **errp)
{
    BlockDriver *drv = bdrv_find_protocol(filename, true, errp);
    QDict *dict;

    if (!drv) {
        return NULL;
    }
    dict = qdict_new();
    qdict_put_str(dict, "driver", drv->format_name);
    if (!put_filename(drv, filename, dict, errp)) {
        qobject_unref(dict);
        return NULL;
    }
    return dict;
}

static bool resolve_protocol(OpenRequest *req, Error **errp)
{
    const char *filename = req->filename;
    const char *name = qdict_get_try_str(req->options, "driver");

    if (!filename && !name) {
        filename = qdict_get_try_str(req->options, "filename");
    }
    if (!name) {
        if (!filename) {
            error_setg(errp, "Must specify either driver or file");
            return false;
        }
        /* A path given as an option never has a prefix. */
        req->drv = bdrv_find_protocol(filename, req->filename != NULL, errp);
        if (!req->drv) {
            return false;
        }
        qdict_put_str(req->options, "driver", req->drv->format_name);
    }
    return !req->filename ||
           put_filename(req->drv, req->filename, req->options, errp);
}

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

/* Finds the format from the file below, which is opened for that. */
static bool resolve_by_probing(OpenRequest *req, Error **errp)
{
    QObject *file = qdict_get(req->options, "file");
    const char *reference = file && qobject_to(QString, file)
                                ? qstring_get_str(qobject_to(QString, file))
                                : NULL;
    QDict *dict = file && qobject_to(QDict, file)
                      ? qobject_ref(qobject_to(QDict, file)) : NULL;
    BlockDriverState *bs;
    int flags = bdrv_inherited_flags(BDRV_CHILD_IMAGE, req->flags) |
                BDRV_O_PROTOCOL;

    if (!file && !req->filename) {
        error_setg(errp, "Must specify either driver or file");
        return false;
    }
    if (dict && req->filename) {
        error_setg(errp, "Cannot specify 'file' and a filename");
        qobject_unref(dict);
        return false;
    }
    bs = open_tree(reference ? NULL : req->filename, reference, dict, flags,
                   NULL, BDRV_CHILD_IMAGE, errp);
    if (!bs) {
        return false;
    }
    g_ptr_array_add(req->helpers, bs);
    req->drv = probe_file(bs, req->filename, errp);
    if (!req->drv) {
        return false;
    }
    req->probed = true;
    qdict_put_str(req->options, "driver", req->drv->format_name);
    qdict_put_str(req->options, "file", bdrv_get_node_name(bs));
    return true;
}

/*
 * Options that the file below inherits and that are needed before the whole
 * description can be read: the file is opened to find the format. Values that
 * make no sense are left to the visitor, which names them.
 */
static void apply_early_options(OpenRequest *req)
{
    static const struct {
        const char *parent, *name;
        bool inverted;
        int flag;
    } early[] = {
        { NULL, "read-only", true, BDRV_O_RDWR },
        { NULL, "auto-read-only", false, BDRV_O_AUTO_RDONLY },
        { NULL, "force-share", false, BDRV_O_FORCE_SHARE },
        { "cache", "direct", false, BDRV_O_NOCACHE },
        { "cache", "no-flush", false, BDRV_O_NO_FLUSH },
    };

    for (int i = 0; i < ARRAY_SIZE(early); i++) {
        QDict *dict = early[i].parent
            ? qobject_to(QDict, qdict_get(req->options, early[i].parent))
            : req->options;
        const char *value = dict ? qdict_get_try_str(dict, early[i].name)
                                 : NULL;
        bool on;

        if (value && qapi_bool_parse(early[i].name, value, &on, NULL)) {
            req->flags = on != early[i].inverted
                ? req->flags | early[i].flag : req->flags & ~early[i].flag;
        }
    }
}

static bool resolve_driver(OpenRequest *req, Error **errp)
{
    const char *name = qdict_get_try_str(req->options, "driver");

    if (name) {
        req->drv = bdrv_find_format(name);
        if (!req->drv) {
            error_setg(errp, "Unknown driver '%s'", name);
            return false;
        }
    }
    if ((req->flags & BDRV_O_PROTOCOL) ||
        (req->drv && req->drv->protocol_name)) {
        return resolve_protocol(req, errp);
    }
    if (!req->drv) {
        return resolve_by_probing(req, errp);
    }
    if (req->filename) {
        QDict *file;

        if (qdict_haskey(req->options, "file")) {
            error_setg(errp, "Cannot specify 'file' and a filename");
            return false;
        }
        file = describe_file(req->filename, errp);
        if (!file) {
            return false;
        }
        qdict_put(req->options, "file", file);
    }
    return true;
}

/* Child descriptions without driver, where BlockdevOptions wants one. */
static bool complete_child(OpenRequest *req, QDict *holder, const char *key,
                           Error **errp)
{
    QDict *dict = qobject_to(QDict, qdict_get(holder, key));
    bool is_file = req->drv->is_format && !strcmp(key, "file");
    const char *filename;
    BlockDriverState *bs;
    int flags;

    if (!dict || qdict_haskey(dict, "driver")) {
        return true;
    }
    filename = qdict_get_try_str(dict, "filename");
    if (is_file && filename) {
        BlockDriver *drv = bdrv_find_protocol(filename, false, errp);

        if (!drv) {
            return false;
        }
        qdict_put_str(dict, "driver", drv->format_name);
        return true;
    }
    flags = bdrv_inherited_flags(BDRV_CHILD_IMAGE, req->flags);
    if (!is_file && !(req->flags & BDRV_O_PROTOCOL)) {
        flags &= ~BDRV_O_PROTOCOL;
    }
    if (!(flags & BDRV_O_PROTOCOL) && filename) {
        /* The file name belongs to the file below the probed format. */
        QDict *inner = qdict_new();

        qdict_put_str(inner, "filename", filename);
        qdict_put_str(inner, "driver", "file");
        qdict_put(dict, "file", inner);
        qdict_del(dict, "filename");
    }
    bs = open_tree(NULL, NULL, qobject_ref(dict), flags, NULL,
                   BDRV_CHILD_IMAGE, errp);
    if (!bs) {
        return false;
    }
    g_ptr_array_add(req->helpers, bs);
    qdict_put_str(holder, key, bdrv_get_node_name(bs));
    return true;
}

static bool complete_children(OpenRequest *req, Error **errp)
{
    static const char *const keys[] = { "file", "image", "target", "data-file",
                                        "test", "raw" };
    QList *files;

    for (int i = 0; i < ARRAY_SIZE(keys); i++) {
        if (!complete_child(req, req->options, keys[i], errp)) {
            return false;
        }
    }
    files = qobject_to(QList, qdict_get(req->options, "files"));
    if (files) {
        QList *done = qlist_new();
        const QListEntry *e;

        QLIST_FOREACH_ENTRY(files, e) {
            g_autoptr(QDict) holder = qdict_new();

            qdict_put_obj(holder, "file",
                          qobject_ref(qlist_entry_obj(e)));
            if (!complete_child(req, holder, "file", errp)) {
                qobject_unref(done);
                return false;
            }
            qlist_append_obj(done, qobject_ref(qdict_get(holder, "file")));
        }
        qdict_put(req->options, "files", done);
    }
    return true;
}

/* --- steps 3 and 4 --- */

static BlockDriverState *create_node(OpenRequest *req, Error **errp)
{
    g_autoptr(BlockdevOptions) options = NULL;
    BlockdevDetectZeroesOptions detect_zeroes =
        BLOCKDEV_DETECT_ZEROES_OPTIONS_OFF;
    BlockDriverState *bs;

    options = bdrv_options_from_qdict(req->options, errp);
    if (!options ||
        !bdrv_common_options(options, &req->flags, &detect_zeroes, errp)) {
        return NULL;
    }
    bs = bdrv_new_node(options->node_name, errp);
    if (!bs) {
        return NULL;
    }
    bs->open_flags = req->flags;
    bs->detect_zeroes = detect_zeroes;
    bs->options = g_steal_pointer(&options);
    bs->explicit_options = qdict_clone_shallow(req->options);
    bs->probed = req->probed;
    bs->inherits_from = req->parent;
    if (req->filename) {
        pstrcpy(bs->filename, sizeof(bs->filename), req->filename);
    }
    return bs;
}

static void forget_driver(BlockDriverState *bs)
{
    bs->drv = NULL;
    g_free(bs->opaque);
    bs->opaque = NULL;
}

static int coroutine_fn refresh_length_entry(void *opaque)
{
    return bdrv_co_refresh_total_bytes(opaque);
}

static bool open_driver(BlockDriverState *bs, BlockDriver *drv, Error **errp)
{
    Error *err = NULL;
    int ret = 0;

    bs->drv = drv;
    bs->opaque = g_malloc0(drv->instance_size);
    if (drv->bdrv_open) {
        ret = drv->bdrv_open(bs, bs->options, bs->open_flags, &err);
    }
    if (ret < 0) {
        if (!err) {
            error_setg_errno(&err, -ret, "Could not open '%s'",
                             bs->filename[0] ? bs->filename : bs->node_name);
        }
        error_propagate(errp, err);
        /* Children that were attached go with the node. */
        forget_driver(bs);
        return false;
    }
    ret = bdrv_run_co(refresh_length_entry, bs);
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Could not refresh total sector count");
        return false;
    }
    if (!bdrv_refresh_limits(bs, errp)) {
        return false;
    }
    /* What the node wants from its children may depend on what it found. */
    return bdrv_child_refresh_perms(bs, errp);
}

BlockDriverState *bdrv_new_open_driver(BlockDriver *drv, const char *node_name,
                                       int flags, Error **errp)
{
    BlockDriverState *bs = bdrv_new_node(node_name, errp);

    if (!bs) {
        return NULL;
    }
    bs->open_flags = flags;
    bs->explicit_options = qdict_new();
    if (!open_driver(bs, drv, errp)) {
        bdrv_unref(bs);
        return NULL;
    }
    bdrv_refresh_filename(bs);
    return bs;
}

static BlockDriverState *reference_node(const char *reference,
                                        const char *filename, QDict *options,
                                        Error **errp)
{
    bool has_options = filename || (options && qdict_size(options));
    BlockDriverState *bs;

    qobject_unref(options);
    if (has_options) {
        error_setg(errp, "Cannot reference an existing block device with "
                   "additional options or a new filename");
        return NULL;
    }
    bs = bdrv_find_node(reference);
    if (!bs) {
        error_setg(errp, "Cannot find device='' nor node-name='%s'",
                   reference);
        return NULL;
    }
    return bdrv_ref(bs);
}

/* One node without its backing file; *@backing gets the option, if any. */
static BlockDriverState *open_node(const char *filename, QDict *options,
                                   int flags, BlockDriverState *parent,
                                   BdrvChildRole role, QObject **backing,
                                   Error **errp)
{
    OpenRequest req = {
        .filename = filename,
        .options = options ? options : qdict_new(),
        .flags = flags,
        .parent = parent,
        .role = role,
        .helpers = g_ptr_array_new(),
    };
    BlockDriverState *bs = NULL;
    QDict *nested;

    *backing = NULL;
    if (!merge_json_name(&req, errp)) {
        goto out;
    }
    nested = bdrv_options_nest(g_steal_pointer(&req.options), errp);
    if (!nested) {
        goto out;
    }
    req.options = nested;
    apply_early_options(&req);
    if (!resolve_driver(&req, errp) || !complete_children(&req, errp)) {
        goto out;
    }
    if (req.drv->supports_backing && qdict_haskey(req.options, "backing")) {
        req.backing = qobject_ref(qdict_get(req.options, "backing"));
        qdict_del(req.options, "backing");
    }
    bs = create_node(&req, errp);
    if (!bs) {
        goto out;
    }
    if (!open_driver(bs, req.drv, errp)) {
        bdrv_unref(bs);
        bs = NULL;
        goto out;
    }
    if (req.backing) {
        qdict_put_obj(bs->explicit_options, "backing",
                      qobject_ref(req.backing));
        *backing = g_steal_pointer(&req.backing);
    }
    bdrv_refresh_filename(bs);
out:
    request_clear(&req);
    return bs;
}

/* --- backing files --- */

static bool attach_backing(BlockDriverState *bs, BlockDriverState *backing,
                           Error **errp)
{
    return bdrv_attach_child(bs, backing, "backing", BDRV_CHILD_COW, errp) &&
           bdrv_refresh_limits(bs, errp);
}

/* From the header, with @dict (owned; may be NULL) on top. */
static BlockDriverState *open_backing_node(BlockDriverState *bs, QDict *dict,
                                           GHashTable *seen,
                                           QObject **next_backing,
                                           Error **errp)
{
    g_autofree char *name = NULL;
    int flags = child_flags(bs, BDRV_CHILD_COW);
    bool from_header;

    if (!dict) {
        dict = qdict_new();
    }
    from_header = !qdict_haskey(dict, "file") &&
                  !qdict_haskey(dict, "filename") && bs->backing_file[0];
    if (from_header) {
        Error *err = NULL;

        name = bdrv_get_full_backing_filename(bs, &err);
        if (!name) {
            error_propagate(errp, err);
            qobject_unref(dict);
            return NULL;
        }
        if (!g_hash_table_add(seen, g_strdup(name))) {
            error_setg(errp, "Backing file '%s' creates an infinite loop",
                       name);
            qobject_unref(dict);
            return NULL;
        }
        if (bs->backing_format[0] && !qdict_haskey(dict, "driver")) {
            qdict_put_str(dict, "driver", bs->backing_format);
        }
    }
    return open_node(name, dict, flags, bs, BDRV_CHILD_COW, next_backing,
                     errp);
}

/*
 * Opens the backing file of @bs. *@next gets the node if it was opened just
 * now and so needs its own backing file; NULL if the chain ends here.
 */
static bool open_backing_one(BlockDriverState *bs, QObject *option,
                             GHashTable *seen, BlockDriverState **next,
                             QObject **next_option, Error **errp)
{
    BlockDriverState *backing;
    QDict *dict = NULL;
    bool by_header = !option;

    *next = NULL;
    *next_option = NULL;
    if (!bs->drv->supports_backing || bs->backing ||
        (!option && (bs->open_flags & BDRV_O_NO_BACKING))) {
        return true;
    }
    if (!option && !bs->backing_file[0]) {
        return true;
    }
    if (option && qobject_to(QNull, option)) {
        return true;
    }
    if (option && qobject_to(QString, option)) {
        const char *ref = qstring_get_str(qobject_to(QString, option));

        if (!ref[0]) {
            return true;
        }
        backing = reference_node(ref, NULL, NULL, errp);
        if (!backing) {
            return false;
        }
        return attach_backing(bs, backing, errp);
    }
    if (option) {
        dict = qobject_to(QDict, option);
        if (!dict) {
            error_setg(errp, "Invalid parameter type for 'backing', "
                       "expected: BlockdevRef");
            return false;
        }
        qobject_ref(dict);
    }
    backing = open_backing_node(bs, dict, seen, next_option, errp);
    if (!backing) {
        error_prepend(errp, "Could not open backing file: ");
        return false;
    }
    *next = backing;
    if (!attach_backing(bs, backing, errp)) {
        *next = NULL;
        return false;
    }
    if (by_header) {
        pstrcpy(bs->auto_backing_file, sizeof(bs->auto_backing_file),
                backing->filename);
    }
    return true;
}

/* @option (owned) is the "backing" option of @top. */
static bool open_backing_chain(BlockDriverState *top, QObject *option,
                               Error **errp)
{
    g_autoptr(GHashTable) seen =
        g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    BlockDriverState *bs = top;
    bool no_backing = top->open_flags & BDRV_O_NO_BACKING;

    if (top->exact_filename[0]) {
        g_hash_table_add(seen, g_strdup(top->exact_filename));
    }
    while (bs && !(no_backing && !option)) {
        BlockDriverState *next;
        QObject *next_option;
        bool ok = open_backing_one(bs, option, seen, &next, &next_option,
                                   errp);

        qobject_unref(option);
        option = next_option;
        if (!ok) {
            qobject_unref(option);
            return false;
        }
        bs = next;
    }
    qobject_unref(option);
    return true;
}

static BlockDriverState *open_tree(const char *filename, const char *reference,
                                   QDict *options, int flags,
                                   BlockDriverState *parent,
                                   BdrvChildRole role, Error **errp)
{
    BlockDriverState *bs;
    QObject *backing;

    if (reference) {
        return reference_node(reference, filename, options, errp);
    }
    bs = open_node(filename, options, flags, parent, role, &backing, errp);
    if (!bs) {
        return NULL;
    }
    if (!open_backing_chain(bs, backing, errp)) {
        bdrv_unref(bs);
        return NULL;
    }
    bdrv_refresh_filename(bs);
    return bs;
}

BlockDriverState *bdrv_open(const char *filename, const char *reference,
                            QDict *options, int flags, Error **errp)
{
    return open_tree(filename, reference, options, flags, NULL, 0, errp);
}

BdrvChild *bdrv_open_child(BlockDriverState *parent, BlockdevRef *ref,
                           const char *name, BdrvChildRole role,
                           bool allow_none, Error **errp)
{
    BlockDriverState *bs;
    bool by_reference;

    if (!ref) {
        if (!allow_none) {
            error_setg(errp, "A block device must be specified for \"%s\"",
                       name);
        }
        return NULL;
    }
    by_reference = ref->type == QTYPE_QSTRING;
    if (by_reference) {
        bs = open_tree(NULL, ref->u.reference, NULL, 0, NULL, role, errp);
    } else {
        bs = open_tree(NULL, NULL, bdrv_options_to_qdict(&ref->u.definition),
                       child_flags(parent, role), parent, role, errp);
    }
    if (!bs) {
        return NULL;
    }
    if (by_reference && parent->probed && bs->node_name[0] == '#' &&
        QLIST_EMPTY(&bs->parents)) {
        /* Opened on the way, for probing: belongs to this parent. */
        bs->inherits_from = parent;
    }
    return bdrv_attach_child(parent, bs, name, role, errp);
}

/* --- properties --- */

bool bdrv_is_read_only(BlockDriverState *bs)
{
    return !(bs->open_flags & BDRV_O_RDWR);
}

bool bdrv_is_writable(BlockDriverState *bs)
{
    return !bdrv_is_read_only(bs);
}

bool bdrv_is_inserted(BlockDriverState *bs)
{
    return bs->drv != NULL;
}

int bdrv_apply_auto_read_only(BlockDriverState *bs, const char *errmsg,
                              Error **errp)
{
    if (!(bs->open_flags & BDRV_O_RDWR)) {
        return 0;
    }
    if (!(bs->open_flags & BDRV_O_AUTO_RDONLY)) {
        error_setg(errp, "%s", errmsg ? errmsg : "Image is read-only");
        return -EACCES;
    }
    bs->open_flags &= ~BDRV_O_RDWR;
    return 0;
}

void bdrv_init(void)
{
    for (BlockDriver *const *d = bdrv_drivers; *d; d++) {
        assert((*d)->format_name);
    }
}
