/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Emptying a node whose content its backing file has, too: after a commit. */
#include "util/osdep.h"
#include "block/block_int.h"
#include "block/io-internal.h"

int coroutine_fn bdrv_co_make_empty(BdrvChild *child)
{
    BlockDriverState *bs = child->bs;
    int ret;

    assert(child->perm & BLK_PERM_WRITE);
    if (!bs->drv) {
        return -ENOMEDIUM;
    }
    if (!(bs->open_flags & BDRV_O_RDWR)) {
        return -EPERM;
    }
    if (!bs->backing || !bs->drv->bdrv_co_make_empty) {
        return -ENOTSUP;
    }
    bdrv_inc_in_flight(bs);
    ret = bs->drv->bdrv_co_make_empty(bs);
    bdrv_driver_changed(bs);
    bdrv_dec_in_flight(bs);
    return ret;
}

static int coroutine_fn make_empty_entry(void *opaque)
{
    return bdrv_co_make_empty(opaque);
}

int bdrv_make_empty(BdrvChild *child)
{
    return bdrv_run_co(make_empty_entry, child);
}
