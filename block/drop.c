/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Dropping part of a backing chain: whatever leads to its top leads to its
 * base afterwards, and the images above can be told so.
 *
 * The headers are written when the new graph is in place but may still be
 * given up, with the nodes concerned at rest. If one cannot be written, those
 * written before get their former names again and the graph goes back.
 */
#include "util/osdep.h"
#include "block/block_int.h"
#include "block/graph-internal.h"
#include "block/reopen.h"

/* A node whose header names the top of what is dropped. */
typedef struct Overlay {
    BlockDriverState *bs;       /* a reference */
    /* What its header said, NULL for nothing, and what it says of itself. */
    char *header_file;
    char *header_format;
    char *node_file;
    char *node_format;
    bool was_read_only;         /* writable only for this */
    bool written;
} Overlay;

static void overlay_free(void *opaque)
{
    Overlay *o = opaque;

    if (o->was_read_only) {
        Error *err = NULL;

        /* It may write no more, whatever else there is to complain about. */
        if (bdrv_reopen_set_read_only(o->bs, true, &err) < 0) {
            error_free(err);
        }
    }
    g_free(o->header_file);
    g_free(o->header_format);
    g_free(o->node_file);
    g_free(o->node_format);
    bdrv_unref(o->bs);
    g_free(o);
}

static bool overlay_make_writable(Overlay *o, Error **errp)
{
    if (!bdrv_is_read_only(o->bs)) {
        return true;
    }
    if (bdrv_reopen_set_read_only(o->bs, false, errp) < 0) {
        return false;
    }
    o->was_read_only = true;
    return true;
}

/* All overlays of @top, writable; NULL on failure. */
static GPtrArray *find_overlays(BlockDriverState *top, Error **errp)
{
    g_autoptr(GPtrArray) overlays = g_ptr_array_new_with_free_func(overlay_free);
    BdrvChild *c;

    QLIST_FOREACH(c, &top->parents, next_parent) {
        if (c->klass->parent_is_bds && (c->role & BDRV_CHILD_COW)) {
            Overlay *o = g_new0(Overlay, 1);

            o->bs = bdrv_ref(c->opaque);
            o->header_file = g_strdup(o->bs->header_backing_file);
            o->header_format = g_strdup(o->bs->header_backing_format);
            o->node_file = g_strdup(o->bs->backing_file);
            o->node_format = g_strdup(o->bs->backing_format);
            g_ptr_array_add(overlays, o);
        }
    }
    for (guint i = 0; i < overlays->len; i++) {
        if (!overlay_make_writable(overlays->pdata[i], errp)) {
            return NULL;
        }
    }
    return g_steal_pointer(&overlays);
}

static bool write_headers(GPtrArray *overlays, const char *file,
                          const char *format, Error **errp)
{
    for (guint i = 0; i < overlays->len; i++) {
        Overlay *o = overlays->pdata[i];
        int ret = bdrv_change_backing_file(o->bs, file, format);

        if (ret < 0) {
            error_setg_errno(errp, -ret, "Could not update the backing file "
                             "of '%s'", bdrv_get_node_name(o->bs));
            return false;
        }
        o->written = true;
    }
    return true;
}

static void restore_headers(GPtrArray *overlays)
{
    for (guint i = 0; i < overlays->len; i++) {
        Overlay *o = overlays->pdata[i];

        if (o->written) {
            bdrv_change_backing_file(o->bs, o->header_file,
                                     o->header_file && o->header_format[0]
                                     ? o->header_format : NULL);
            g_strlcpy(o->bs->backing_file, o->node_file,
                      sizeof(o->bs->backing_file));
            g_strlcpy(o->bs->backing_format, o->node_format,
                      sizeof(o->bs->backing_format));
        }
    }
}

/* The dropped part goes away with its edges, and all edges into @top move:
 * nobody else may rely on them. */
static bool check_claims(BlockDriverState *top, BlockDriverState *base,
                         BdrvClaimOwner *owner, Error **errp)
{
    BdrvChild *c;

    for (BlockDriverState *bs = top; bs != base; bs = c->bs) {
        c = bdrv_filter_or_cow_child(bs);
        if (!bdrv_claim_may_change(c, owner, errp)) {
            return false;
        }
    }
    QLIST_FOREACH(c, &top->parents, next_parent) {
        if (!bdrv_claim_may_change(c, owner, errp)) {
            return false;
        }
    }
    return true;
}

/* With @overlays NULL no header is written. */
static bool drop(BlockDriverState *top, BlockDriverState *base,
                 GPtrArray *overlays, const char *file, const char *format,
                 BdrvClaimOwner *owner, Error **errp)
{
    GraphChange change;
    bool ok;

    graph_change_init(&change);
    graph_change_add_node(&change, top);
    graph_change_add_node(&change, base);
    graph_change_lock(&change);
    graph_change_keep_limits(&change, top);
    ok = bdrv_replace_node_tran(top, base, owner, change.tran, errp) &&
         graph_change_settle(&change, top, base, errp);
    if (ok && overlays) {
        /* Writing takes the read side of the lock. */
        bdrv_graph_wrunlock();
        ok = write_headers(overlays, file, format, errp);
        if (!ok) {
            restore_headers(overlays);
        }
        bdrv_graph_wrlock();
    }
    return graph_change_end(&change, ok);
}

bool bdrv_drop_intermediate_as(BlockDriverState *top, BlockDriverState *base,
                               const char *file, const char *format,
                               BdrvClaimOwner *owner, Error **errp)
{
    g_autoptr(GPtrArray) overlays = NULL;

    assert(top != base && bdrv_chain_contains(top, base));
    if (!check_claims(top, base, owner, errp)) {
        return false;
    }
    if (file) {
        overlays = find_overlays(top, errp);
        if (!overlays) {
            return false;
        }
    }
    return drop(top, base, overlays, file, format, owner, errp);
}

bool bdrv_drop_intermediate(BlockDriverState *top, BlockDriverState *base,
                            const char *backing_file_str,
                            BdrvClaimOwner *owner, Error **errp)
{
    return bdrv_drop_intermediate_as(
        top, base, backing_file_str,
        bdrv_skip_filters(base)->drv->format_name, owner, errp);
}
