/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Opening nodes.
 *
 * One node is opened in steps:
 *   1. its description is completed (describe.c);
 *   2. that is read into BlockdevOptions, so that every wrong name, type or
 *      value is refused before the node exists;
 *   3. the driver opens its children and itself.
 * Backing files follow in a loop (open_backing_chain()), not by recursion.
 */
#include "util/osdep.h"
#include "block/block_int.h"
#include "block/damage.h"
#include "block/graph-internal.h"
#include "qobject/qnull.h"
#include "qobject/qstring.h"
#include "util/cutils.h"

static void request_clear(OpenRequest *req)
{
    qobject_unref(req->options);
    qobject_unref(req->backing);
    for (guint i = 0; i < req->helpers->len; i++) {
        bdrv_unref(req->helpers->pdata[i]);
    }
    g_ptr_array_free(req->helpers, true);
    g_ptr_array_free(req->adopted, true);
}

/* --- one node --- */

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

    if (!bdrv_can_open_inactive(bs, drv, errp)) {
        return false;
    }
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
    bdrv_note_header_backing(bs);
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
        error_setg(errp, "Cannot find device='%s' nor node-name='%s'",
                   reference, reference);
        return NULL;
    }
    return bdrv_ref(bs);
}

/* Nodes that were opened before their parent become its inline children. */
static void adopt_helpers(OpenRequest *req)
{
    for (guint i = 0; i < req->adopted->len; i++) {
        BlockDriverState *bs = req->adopted->pdata[i];
        BdrvChild *c;

        QLIST_FOREACH(c, &bs->parents, next_parent) {
            if (c->klass->parent_is_bds) {
                bs->inherits_from = c->opaque;
            }
        }
    }
}

static BlockDriverState *open_described(OpenRequest *req, Error **errp)
{
    BlockDriverState *bs = create_node(req, errp);

    if (!bs) {
        return NULL;
    }
    if (!open_driver(bs, req->drv, errp)) {
        bdrv_unref(bs);
        return NULL;
    }
    if (req->backing) {
        qdict_put_obj(bs->explicit_options, "backing",
                      qobject_ref(req->backing));
    }
    /* Whether the header is followed is decided by open_backing_one(). */
    bs->auto_backing_file[0] = '\0';
    adopt_helpers(req);
    return bs;
}

/* One node without its backing file; *@backing gets the option, if any. */
static BlockDriverState *open_node(const char *filename, QDict *options,
                                   int flags, BlockDriverState *parent,
                                   QObject **backing, Error **errp)
{
    OpenRequest req = {
        .filename = filename,
        .options = options ? options : qdict_new(),
        .flags = flags,
        .parent = parent,
        .helpers = g_ptr_array_new(),
        .adopted = g_ptr_array_new(),
    };
    BlockDriverState *bs = NULL;

    *backing = NULL;
    if (bdrv_describe(&req, errp)) {
        bs = open_described(&req, errp);
    }
    if (bs) {
        *backing = g_steal_pointer(&req.backing);
    }
    request_clear(&req);
    return bs;
}

/* --- backing files --- */

/*
 * Name and format as the header of @bs has them, the latter into @dict. A name
 * that comes again and is followed by its header again would go on for ever.
 */
static char *backing_from_header(BlockDriverState *bs, QDict *dict,
                                 GHashTable *seen, Error **errp)
{
    g_autofree char *name = bdrv_get_full_backing_filename(bs, errp);

    if (!name) {
        return NULL;
    }
    if (!qdict_haskey(dict, "backing") &&
        !g_hash_table_add(seen, g_strdup(name))) {
        error_setg(errp, "Backing file '%s' creates an infinite loop", name);
        return NULL;
    }
    if (bs->backing_format[0] && !qdict_haskey(dict, "driver")) {
        qdict_put_str(dict, "driver", bs->backing_format);
    }
    return g_steal_pointer(&name);
}

/* What @option (NULL: nothing but the header) describes, on top of the
 * header. */
static BlockDriverState *open_backing_node(BlockDriverState *bs, QDict *option,
                                           GHashTable *seen,
                                           QObject **next_option, Error **errp)
{
    QDict *dict = option ? qdict_clone_shallow(option) : qdict_new();
    g_autofree char *name = NULL;

    if (!qdict_haskey(dict, "file") && !qdict_haskey(dict, "filename") &&
        bs->backing_file[0]) {
        name = backing_from_header(bs, dict, seen, errp);
        if (!name) {
            qobject_unref(dict);
            return NULL;
        }
    }
    return open_node(name, dict,
                     bdrv_child_flags(bs->drv, BDRV_CHILD_COW, bs->open_flags),
                     bs, next_option, errp);
}

/*
 * The backing node of @bs by @option, with a reference. *@opened tells whether
 * it was opened just now and so needs its own backing file.
 */
static BlockDriverState *find_backing_node(BlockDriverState *bs,
                                           QObject *option, GHashTable *seen,
                                           bool *opened, QObject **next_option,
                                           Error **errp)
{
    QString *name = option ? qobject_to(QString, option) : NULL;

    *opened = !name;
    if (name) {
        return reference_node(qstring_get_str(name), NULL, NULL, errp);
    }
    if (option && !qobject_to(QDict, option)) {
        error_setg(errp, "Invalid parameter type for 'backing', expected: "
                   "BlockdevRef");
        return NULL;
    }
    return open_backing_node(bs, option ? qobject_to(QDict, option) : NULL,
                             seen, next_option, errp);
}

/* Whether @option, or without it the header, asks for a backing node. */
static bool wants_backing(BlockDriverState *bs, QObject *option)
{
    QString *name = option ? qobject_to(QString, option) : NULL;

    if (!bs->drv->supports_backing || bs->backing) {
        return false;
    }
    if (!option) {
        return bs->backing_file[0] && !(bs->open_flags & BDRV_O_NO_BACKING);
    }
    return !qobject_to(QNull, option) && !(name && !qstring_get_str(name)[0]);
}

/* Salvaging: what the backing file holds is lost, the rest is not. */
static bool go_without(BlockDriverState *bs, Error **errp)
{
    bdrv_damage_note(bs, "%s", error_get_pretty(*errp));
    error_free(*errp);
    *errp = NULL;
    bs->backing_lost = true;
    return true;
}

/*
 * Opens the backing node of @bs. *@next gets the node if it was opened just
 * now; NULL if the chain ends here or goes on in nodes that are open already.
 */
static bool open_backing_one(BlockDriverState *bs, QObject *option,
                             GHashTable *seen, BlockDriverState **next,
                             QObject **next_option, Error **errp)
{
    ERRP_GUARD();
    g_autofree char *header_name = NULL;
    BlockDriverState *backing;
    bool opened;

    *next = NULL;
    *next_option = NULL;
    /* The node shows its plain name until here. */
    header_name = bdrv_get_full_backing_filename(bs, NULL);
    pstrcpy(bs->auto_backing_file, sizeof(bs->auto_backing_file),
            header_name ?: bs->backing_file);
    if (!wants_backing(bs, option)) {
        return true;
    }
    backing = find_backing_node(bs, option, seen, &opened, next_option, errp);
    if (!backing) {
        error_prepend(errp, "Could not open backing file: ");
        return (bs->open_flags & BDRV_O_SALVAGE) && go_without(bs, errp);
    }
    if (!bdrv_attach_child(bs, backing, "backing", BDRV_CHILD_COW, errp)) {
        return false;
    }
    if (opened) {
        *next = backing;
    }
    if (!option) {
        bdrv_refresh_filename(backing);
        pstrcpy(bs->auto_backing_file, sizeof(bs->auto_backing_file),
                backing->filename);
    }
    return true;
}

/* What is merged from children has to go up through the whole of a chain that
 * was opened downwards. */
static bool refresh_chain_limits(GPtrArray *chain, Error **errp)
{
    for (guint i = chain->len; i-- > 0; ) {
        if (!bdrv_refresh_limits(chain->pdata[i], errp)) {
            return false;
        }
    }
    return true;
}

/* @option (owned) is the "backing" option of @top. */
static bool open_backing_chain(BlockDriverState *top, QObject *option,
                               Error **errp)
{
    g_autoptr(GHashTable) seen =
        g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    g_autoptr(GPtrArray) chain = g_ptr_array_new();
    BlockDriverState *bs = top;
    bool ok = true;

    if (!option && top->filename[0]) {
        g_hash_table_add(seen, g_strdup(top->filename));
    }
    while (ok && bs && (option || !(top->open_flags & BDRV_O_NO_BACKING))) {
        BlockDriverState *next;
        QObject *next_option;

        g_ptr_array_add(chain, bs);
        ok = open_backing_one(bs, option, seen, &next, &next_option, errp);
        qobject_unref(option);
        option = next_option;
        bs = next;
    }
    qobject_unref(option);
    return ok && refresh_chain_limits(chain, errp);
}

static BlockDriverState *open_tree(const char *filename, const char *reference,
                                   QDict *options, int flags,
                                   BlockDriverState *parent, Error **errp)
{
    BlockDriverState *bs;
    QObject *backing;

    if (reference) {
        return reference_node(reference, filename, options, errp);
    }
    bs = open_node(filename, options, flags, parent, &backing, errp);
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

BlockDriverState *bdrv_open_tree(const char *filename, const char *reference,
                                 QDict *options, int flags, Error **errp)
{
    return open_tree(filename, reference, options, flags, NULL, errp);
}

BlockDriverState *bdrv_open(const char *filename, const char *reference,
                            QDict *options, int flags, Error **errp)
{
    BlockDriverState *bs = open_tree(filename, reference, options, flags,
                                     NULL, errp);

    if (bs) {
        bdrv_settle_inactive(bs);
    }
    return bs;
}

BdrvChild *bdrv_open_child(BlockDriverState *parent, BlockdevRef *ref,
                           const char *name, BdrvChildRole role,
                           bool allow_none, Error **errp)
{
    BlockDriverState *bs;

    if (!ref) {
        if (!allow_none) {
            error_setg(errp, "A block device must be specified for \"%s\"",
                       name);
        }
        return NULL;
    }
    if (ref->type == QTYPE_QSTRING) {
        bs = open_tree(NULL, ref->u.reference, NULL, 0, NULL, errp);
    } else {
        bs = open_tree(NULL, NULL, bdrv_options_to_qdict(&ref->u.definition),
                       bdrv_child_flags(parent->drv, role, parent->open_flags),
                       parent, errp);
    }
    if (!bs) {
        return NULL;
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
