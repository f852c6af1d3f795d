/* SPDX-License-Identifier: GPL-2.0-or-later */
/* NBD exports: a node under a name, with the bitmaps that clients may ask for. */
#include "util/osdep.h"
#include "nbd-int.h"
#include "block/block_int.h"
#include "block/nbd-server.h"
#include "qapi/qapi-types.h"

/* In order of creation. */
static QTAILQ_HEAD(, NBDExport) nbd_exports =
    QTAILQ_HEAD_INITIALIZER(nbd_exports);

NBDExport *nbd_export_next(NBDExport *exp)
{
    exp = exp ? QTAILQ_NEXT(exp, next) : QTAILQ_FIRST(&nbd_exports);
    while (exp && exp->common.shutting_down) {
        exp = QTAILQ_NEXT(exp, next);
    }
    return exp;
}

NBDExport *nbd_export_find(const char *name, size_t len)
{
    NBDExport *exp = NULL;

    while ((exp = nbd_export_next(exp))) {
        if (strlen(exp->name) == len && !memcmp(exp->name, name, len)) {
            return exp;
        }
    }
    return NULL;
}

/* --- bitmaps --- */

/* By name, in the node or what it is a view of. */
static BdrvDirtyBitmap *find_in_chain(BlockDriverState *bs, const char *name,
                                      Error **errp)
{
    while (bs) {
        BdrvDirtyBitmap *bitmap = bdrv_find_dirty_bitmap(bs, name);

        if (bitmap) {
            return bitmap;
        }
        bs = bdrv_filter_or_cow_bs(bs);
    }
    error_setg(errp, "Bitmap '%s' is not found", name);
    return NULL;
}

static BdrvDirtyBitmap *find_external(const BlockDirtyBitmap *ref,
                                      Error **errp)
{
    BlockDriverState *bs = bdrv_lookup_node(ref->node, errp);
    BdrvDirtyBitmap *bitmap;

    if (!bs) {
        return NULL;
    }
    bitmap = bdrv_find_dirty_bitmap(bs, ref->name);
    if (!bitmap) {
        error_setg(errp, "Dirty bitmap '%s' not found", ref->name);
    }
    return bitmap;
}

static bool use_bitmap(NBDExport *exp, const BlockDirtyBitmapOrStr *ref,
                       Error **errp)
{
    BlockDriverState *bs = blk_bs(exp->common.blk);
    BdrvDirtyBitmap *bitmap;

    bitmap = ref->type == QTYPE_QSTRING
             ? find_in_chain(bs, ref->u.local, errp)
             : find_external(&ref->u.external, errp);
    if (!bitmap || !bdrv_dirty_bitmap_check(bitmap, BDRV_BITMAP_ALLOW_RO,
                                            errp)) {
        return false;
    }
    if (!exp->common.writable && bdrv_is_writable(bs) &&
        bdrv_dirty_bitmap_enabled(bitmap)) {
        error_setg(errp, "Enabled bitmap '%s' incompatible with readonly "
                   "export", bdrv_dirty_bitmap_name(bitmap));
        return false;
    }
    if (strlen(bdrv_dirty_bitmap_name(bitmap)) > BDRV_BITMAP_MAX_NAME_SIZE) {
        error_setg(errp, "Bitmap name is too long");
        return false;
    }
    bdrv_dirty_bitmap_set_busy(bitmap, true);
    /* It may be of a node that nobody else uses any more some day. */
    bdrv_ref(bdrv_dirty_bitmap_bs(bitmap));
    exp->bitmaps[exp->nr_bitmaps++] = bitmap;
    return true;
}

static bool use_bitmaps(NBDExport *exp, const BlockDirtyBitmapOrStrList *list,
                        Error **errp)
{
    size_t n = 0;

    for (const BlockDirtyBitmapOrStrList *l = list; l; l = l->next) {
        n++;
    }
    exp->bitmaps = g_new0(BdrvDirtyBitmap *, n);
    for (const BlockDirtyBitmapOrStrList *l = list; l; l = l->next) {
        if (!use_bitmap(exp, l->value, errp)) {
            return false;
        }
    }
    return true;
}

/* --- life --- */

static void free_parts(NBDExport *exp)
{
    for (unsigned i = 0; i < exp->nr_bitmaps; i++) {
        BlockDriverState *bs = bdrv_dirty_bitmap_bs(exp->bitmaps[i]);

        bdrv_dirty_bitmap_set_busy(exp->bitmaps[i], false);
        bdrv_unref(bs);
    }
    g_free(exp->bitmaps);
    g_free(exp->name);
    g_free(exp->description);
}

static bool check_names(const char *name, const char *description,
                        Error **errp)
{
    if (strlen(name) > NBD_MAX_STRING_SIZE) {
        error_setg(errp, "export name '%s' too long", name);
        return false;
    }
    if (description && strlen(description) > NBD_MAX_STRING_SIZE) {
        error_setg(errp, "description '%s' too long", description);
        return false;
    }
    if (nbd_export_find(name, strlen(name))) {
        error_setg(errp, "NBD server already has export named '%s'", name);
        return false;
    }
    return true;
}

static bool nbd_export_create(BlockExport *common, BlockExportOptions *options,
                              Error **errp)
{
    static uint64_t last_serial;
    NBDExport *exp = (NBDExport *)common;
    const BlockExportOptionsNbd *nbd = &options->u.nbd;
    const char *name = nbd->name ?: options->node_name;

    if (!nbd_server_is_running()) {
        error_setg(errp, "NBD server not running");
        return false;
    }
    if (!check_names(name, nbd->description, errp)) {
        return false;
    }
    exp->serial = ++last_serial;
    exp->name = g_strdup(name);
    exp->description = g_strdup(nbd->description);
    exp->allocation_depth = nbd->has_allocation_depth &&
                            nbd->allocation_depth;
    if (!use_bitmaps(exp, nbd->bitmaps, errp)) {
        free_parts(exp);
        return false;
    }
    QTAILQ_INSERT_TAIL(&nbd_exports, exp, next);
    return true;
}

static void nbd_export_request_shutdown(BlockExport *common)
{
    nbd_server_disconnect((NBDExport *)common);
}

static void nbd_export_delete(BlockExport *common)
{
    NBDExport *exp = (NBDExport *)common;

    QTAILQ_REMOVE(&nbd_exports, exp, next);
    free_parts(exp);
}

const BlockExportDriver blk_exp_nbd = {
    .type = BLOCK_EXPORT_TYPE_NBD,
    .instance_size = sizeof(NBDExport),
    .supports_inactive = true,
    .supports_multithread = true,
    .create = nbd_export_create,
    .request_shutdown = nbd_export_request_shutdown,
    .delete = nbd_export_delete,
};
