/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The IOThread that a node is at home in. */
#include "util/osdep.h"
#include "block/block_int.h"
#include "block/home.h"

bool bdrv_set_home(BlockDriverState *bs, const char *id, Error **errp)
{
    UserObject *home = id ? user_object_use(id, OBJECT_TYPE_IOTHREAD, NULL)
                          : NULL;

    if (id && !home) {
        error_setg(errp, "Cannot find iothread %s", id);
        return false;
    }
    user_object_unuse(bs->home);
    bs->home = home;
    return true;
}

UserObject *bdrv_home(BlockDriverState *bs)
{
    while (bs && !bs->home) {
        bs = bdrv_primary_bs(bs);
    }
    return bs ? bs->home : NULL;
}
