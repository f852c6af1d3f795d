/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A thread that does nothing but run the loop of its own AioContext. */
#ifndef UTIL_IOTHREAD_H
#define UTIL_IOTHREAD_H

#include "util/osdep.h"

typedef struct IOThread IOThread;

/*
 * Starts one; its loop runs when this returns. @id names the thread and is
 * copied. NULL and @errp set on failure. Main thread.
 */
IOThread *iothread_new(const char *id, Error **errp);
/*
 * Runs what is already scheduled in the loop, stops and joins the thread.
 * Nothing may be scheduled in its context afterwards. Accepts NULL. Main
 * thread, outside coroutines.
 */
void iothread_free(IOThread *iothread);

/* What aio_context_set_poll_params() and aio_context_set_aio_params() take; all
 * 0 at first. Main thread. */
typedef struct IOThreadSettings {
    int64_t poll_max_ns;
    int64_t poll_grow;
    int64_t poll_shrink;
    int64_t aio_max_batch;
} IOThreadSettings;
/* From the next turn of the loop on. */
void iothread_set_settings(IOThread *iothread, const IOThreadSettings *s);
const IOThreadSettings *iothread_get_settings(const IOThread *iothread);

/* Valid while @iothread is; take a reference to keep it longer. */
AioContext *iothread_get_aio_context(IOThread *iothread);
const char *iothread_get_id(IOThread *iothread);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(IOThread, iothread_free)

#endif /* UTIL_IOTHREAD_H */
