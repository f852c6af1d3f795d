/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Keeping the page cache of the files below a node small. */
#include "util/osdep.h"
#include "block/block_int.h"
#include "block/io-internal.h"

int coroutine_fn bdrv_co_writeback(BlockDriverState *bs)
{
    g_autoptr(GQueue) queue = g_queue_new();
    g_autoptr(GHashTable) seen = g_hash_table_new(NULL, NULL);
    int ret = 0;

    g_queue_push_tail(queue, bs);
    while (ret >= 0 && (bs = g_queue_pop_head(queue))) {
        BdrvChild *c;

        if (!bs->drv || !g_hash_table_add(seen, bs)) {
            continue;
        }
        if (bs->drv->bdrv_co_writeback) {
            bdrv_inc_in_flight(bs);
            ret = bs->drv->bdrv_co_writeback(bs);
            bdrv_dec_in_flight(bs);
        }
        QTAILQ_FOREACH(c, &bs->children, next) {
            g_queue_push_tail(queue, c->bs);
        }
    }
    return ret;
}
