/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Metadata contexts: their names and numbers, and those that a client chose. */
#include "util/osdep.h"
#include "nbd-int.h"

void nbd_meta_clear(NBDMeta *meta)
{
    g_free(meta->bitmaps);
    *meta = (NBDMeta) { 0 };
}

unsigned nbd_meta_ids(const NBDExport *exp)
{
    return NBD_META_ID_BITMAP + exp->nr_bitmaps;
}

char *nbd_meta_name(const NBDExport *exp, unsigned id)
{
    switch (id) {
    case NBD_META_ID_BASE:
        return g_strdup(NBD_META_BASE_ALLOCATION);
    case NBD_META_ID_DEPTH:
        return exp->allocation_depth ? g_strdup(NBD_META_ALLOCATION_DEPTH)
                                     : NULL;
    default:
        return g_strconcat(NBD_META_DIRTY_BITMAP, bdrv_dirty_bitmap_name(
                               exp->bitmaps[id - NBD_META_ID_BITMAP]), NULL);
    }
}

/* "base:", "qemu:", "qemu:dirty-bitmap:": all that begin so. */
static bool is_group(const char *q, size_t len)
{
    static const char *const groups[] = {
        "base:", "qemu:", NBD_META_DIRTY_BITMAP,
    };

    for (size_t i = 0; i < ARRAY_SIZE(groups); i++) {
        if (len == strlen(groups[i]) && !memcmp(q, groups[i], len)) {
            return true;
        }
    }
    return false;
}

bool nbd_meta_matches(NBDExport *exp, unsigned id, const char *q, size_t len,
                      bool list)
{
    g_autofree char *name = nbd_meta_name(exp, id);

    if (!name) {
        return false;
    }
    if (strlen(name) == len && !memcmp(q, name, len)) {
        return true;
    }
    return list && is_group(q, len) && !strncmp(name, q, len);
}

void nbd_meta_choose(NBDMeta *meta, NBDExport *exp, unsigned id)
{
    if (nbd_meta_chosen(meta, id)) {
        return;
    }
    if (id == NBD_META_ID_BASE) {
        meta->base = true;
    } else if (id == NBD_META_ID_DEPTH) {
        meta->depth = true;
    } else {
        if (!meta->bitmaps) {
            meta->bitmaps = g_new0(bool, exp->nr_bitmaps);
        }
        meta->bitmaps[id - NBD_META_ID_BITMAP] = true;
    }
    meta->count++;
}

bool nbd_meta_chosen(const NBDMeta *meta, unsigned id)
{
    switch (id) {
    case NBD_META_ID_BASE:
        return meta->base;
    case NBD_META_ID_DEPTH:
        return meta->depth;
    default:
        return meta->bitmaps && meta->bitmaps[id - NBD_META_ID_BITMAP];
    }
}
