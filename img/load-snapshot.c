/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The option -l of convert and measure: which snapshot an image shows. */
#include "util/osdep.h"
#include "block/snapshot.h"
#include "img/img.h"
#include "qobject/keyval.h"
#include "qobject/qdict.h"

#define ID "snapshot.id"
#define NAME "snapshot.name"

/* Whether @text is a list of options rather than an id or a name. */
static bool is_option_list(const char *text)
{
    return g_str_has_prefix(text, "snapshot.");
}

/* "snapshot.id=I,snapshot.name=N" in any order; false after a message. */
static bool load_by_list(BlockDriverState *bs, const char *text, Error **errp)
{
    g_autoptr(QDict) opts = keyval_parse_opts(text, NULL, NULL);
    const QDictEntry *e;

    for (e = qdict_first(opts); e; e = qdict_next(opts, e)) {
        const char *key = qdict_entry_key(e);

        if (strcmp(key, ID) && strcmp(key, NAME)) {
            error_setg(errp, "Invalid parameter '%s'", key);
            return false;
        }
    }
    return bdrv_snapshot_load_tmp(bs, qdict_get_try_str(opts, ID),
                                  qdict_get_try_str(opts, NAME), errp) == 0;
}

bool img_load_snapshot(BlockBackend *blk, const char *text)
{
    Error *err = NULL;

    if (is_option_list(text)) {
        load_by_list(blk_bs(blk), text, &err);
    } else {
        bdrv_snapshot_load_tmp_by_id_or_name(blk_bs(blk), text, &err);
    }
    if (err) {
        error_reportf_err(err, "Failed to load snapshot: ");
        return false;
    }
    return true;
}
