/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Finding out that an image is corrupt. */
#include "util/osdep.h"
#include "util/atomic.h"
#include "block/qcow2/qcow2.h"
#include "qapi/qapi-events.h"

void coroutine_fn qcow2_signal_corruption(BlockDriverState *bs, bool fatal,
                                          int64_t offset, int64_t size,
                                          const char *fmt, ...)
{
    BDRVQcow2State *s = bs->opaque;
    g_autofree char *message = NULL;
    va_list ap;

    fatal = fatal && s->writable;
    /* Salvaging, damage is expected, and noted elsewhere. */
    if (s->salvage || qatomic_read(&s->unusable) ||
        (qatomic_read(&s->signaled_corruption) && !fatal)) {
        return;
    }
    va_start(ap, fmt);
    message = g_strdup_vprintf(fmt, ap);
    va_end(ap);

    qatomic_set(&s->signaled_corruption, true);
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
    /* First of all: nothing else may be written, whatever happens below. */
    qatomic_set(&s->unusable, true);
    /* A version 2 header, or a broken disk, cannot keep the mark. */
    qcow2_mark_corrupt(bs);
}
