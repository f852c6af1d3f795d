/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Changing the options of an image: what is common to all formats. */
#include "util/osdep.h"
#include "block/amend.h"
#include "block/activate.h"
#include "block/block_int.h"
#include "qapi/util.h"

static bool can_amend(const BlockDriver *drv, Error **errp)
{
    if (!drv->bdrv_amend) {
        error_setg(errp, "Format driver '%s' does not support option "
                   "amendment", drv->format_name);
        return false;
    }
    return true;
}

static bool check_names(const BlockDriver *drv, QDict *options, Error **errp)
{
    const QDictEntry *e;

    for (e = qdict_first(options); e; e = qdict_next(options, e)) {
        const char *name = qdict_entry_key(e);
        ERRP_GUARD();

        if (qapi_member_find(drv->amend_options, name)) {
            continue;
        }
        error_setg(errp, "Invalid parameter '%s'", name);
        if (qapi_member_find(drv->create_options, name)) {
            error_append_hint(errp, "This option is only supported for image "
                              "creation\n");
        }
        return false;
    }
    return true;
}

int bdrv_amend_options(BlockDriverState *bs, QDict *options,
                       const BdrvAmendArgs *args, Error **errp)
{

    if (!can_amend(bs->drv, errp)) {
        return -ENOTSUP;
    }
    if (!check_names(bs->drv, options, errp)) {
        return -EINVAL;
    }
    if (!bdrv_check_active(bs, errp)) {
        return -EPERM;
    }
    if (!(bs->open_flags & BDRV_O_RDWR)) {
        error_setg(errp, "Node '%s' is read-only", bs->node_name);
        return -EACCES;
    }
    return bs->drv->bdrv_amend(bs, options, args, errp);
}

bool bdrv_print_amend_options(BlockDriver *drv, Error **errp)
{
    const QapiMemberInfo *tables[] = { drv->amend_options, NULL };
    g_autoptr(GString) text = g_string_new(NULL);

    if (!can_amend(drv, errp)) {
        return false;
    }
    qapi_members_help(tables, text);
    printf("Amend options for '%s':\n%s", drv->format_name, text->str);
    return true;
}
