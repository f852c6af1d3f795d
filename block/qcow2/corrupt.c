/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Finding out that an image is corrupt.
 *
 * A node that met something fatal is stopped: from then on it writes nothing,
 * neither data nor metadata, and goes on reading. What its caches hold and the
 * disk does not stays in memory, where it is read, and is never written, for
 * nobody knows any more whose clusters these are. Flushing fails. Only a reopen
 * (reload.c), which reads everything again, ends that.
 */
#include "util/osdep.h"
#include "util/atomic.h"
#include "util/error.h"
#include "block/qcow2/qcow2.h"
#include "qapi/qapi-events.h"

void qcow2_stop(BlockDriverState *bs, const char *reason)
{
    BDRVQcow2State *s = bs->opaque;

    if (qcow2_is_stopped(s)) {
        return;
    }
    s->stop_reason = g_strdup(reason);
    /* Requests that hold no lock look at it, and others at the reason. */
    qatomic_store_release(&s->stopped, true);
    /* Open itself may find out, before there are any. */
    if (s->l2_table_cache) {
        qcow2_cache_stop(s->l2_table_cache);
        qcow2_cache_stop(s->refcount_block_cache);
    }
}

int qcow2_check_not_stopped(BlockDriverState *bs, Error **errp)
{
    BDRVQcow2State *s = bs->opaque;

    if (!qcow2_is_stopped(s)) {
        return 0;
    }
    error_setg(errp, "Image is corrupt, and nothing is written to it: %s",
               s->stop_reason);
    error_append_hint(errp, "Repair it with 'qemu-img check -r all', then "
                      "reopen the node.\n");
    return -EUCLEAN;
}

void coroutine_fn qcow2_signal_corruption(BlockDriverState *bs, bool fatal,
                                          int64_t offset, int64_t size,
                                          const char *fmt, ...)
{
    BDRVQcow2State *s = bs->opaque;
    g_autofree char *message = NULL;
    va_list ap;

    fatal = fatal && s->writable;
    /* Salvaging, damage is expected, and noted elsewhere. */
    if (s->salvage || qcow2_is_stopped(s) ||
        (qatomic_read(&s->signaled_corruption) && !fatal)) {
        return;
    }
    va_start(ap, fmt);
    message = g_strdup_vprintf(fmt, ap);
    va_end(ap);

    qatomic_set(&s->signaled_corruption, true);
    /* First of all: nothing else may be written, whatever happens below. */
    if (fatal) {
        qcow2_stop(bs, message);
    }
    qapi_event_send_block_image_corrupted("", bs->node_name, message,
                                          offset >= 0, offset, size >= 0,
                                          size, fatal);
    if (!fatal) {
        fprintf(stderr, "qcow2: Image is corrupt: %s; further non-fatal "
                "corruption events will be suppressed\n", message);
        return;
    }
    fprintf(stderr, "qcow2: Marking image as corrupt: %s; further corruption "
            "events will be suppressed\n", message);
    /* A version 2 header, or a broken disk, cannot keep the mark. */
    qcow2_mark_corrupt(bs);
}
