/* SPDX-License-Identifier: GPL-2.0-or-later */
<<<<<<< HEAD
/* Finding out that an image is corrupt. */
=======
/*
 * What happens when metadata turns out to be impossible.
 *
 * On a writable image a fatal finding ends all use of it: the corrupt bit is
 * set on disk, so that nobody writes before a repair, and the node answers
 * -ENOMEDIUM from then on. Otherwise the request alone fails. Either is said
 * once per node: one damaged table can make thousands of requests fail.
 */
>>>>>>> qcow2b
#include "util/osdep.h"
#include "util/atomic.h"
#include "block/qcow2/qcow2.h"

void coroutine_fn qcow2_signal_corruption(BlockDriverState *bs, bool fatal,
                                          int64_t offset, int64_t size,
                                          const char *fmt, ...)
{
    BDRVQcow2State *s = bs->opaque;
<<<<<<< HEAD
    g_autofree char *message = NULL;
    va_list ap;

    fatal = fatal && s->writable;
    if (qatomic_read(&s->unusable) ||
        (qatomic_read(&s->signaled_corruption) && !fatal)) {
        return;
    }
    va_start(ap, fmt);
    message = g_strdup_vprintf(fmt, ap);
    va_end(ap);

    qatomic_set(&s->signaled_corruption, true);
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
=======
    g_autofree char *text = NULL;
    bool mark = fatal && s->writable;
    va_list ap;
    int ret;

    /* A fatal finding is told even if lesser ones were before. */
    if (mark ? qatomic_read(&s->unusable)
             : qatomic_xchg(&s->signaled_corruption, true)) {
        return;
    }
    va_start(ap, fmt);
    text = g_strdup_vprintf(fmt, ap);
    va_end(ap);

    if (!mark) {
        error_printf("qcow2: Image is corrupt: %s; further non-fatal "
                     "corruption events will be suppressed\n", text);
        return;
    }
    error_printf("qcow2: Marking image as corrupt: %s; further corruption "
                 "events will be suppressed\n", text);
    qatomic_set(&s->signaled_corruption, true);
    qatomic_set(&s->unusable, true);
    ret = qcow2_mark_corrupt(bs);
    /* Version 2 has no such bit. */
    if (ret < 0 && ret != -ENOTSUP) {
        error_printf("qcow2: Could not mark the image as corrupt: %s\n",
                     strerror(-ret));
    }
>>>>>>> qcow2b
}
