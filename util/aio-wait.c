/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * AIO_WAIT_WHILE(): loops that wait for a condition another thread changes.
 *
 * The waiter announces itself, then tests; the kicker changes, then looks for
 * waiters. Both with full barriers, so one of them sees the other.
 */
#include "util/osdep.h"
#include "util/aio.h"
#include "aio-int.h"

static unsigned nr_waiting; /* atomic; contexts in the list */
static struct {
    QemuMutex lock;
    QLIST_HEAD(, AioContext) list;
} waiting = { .lock = QEMU_MUTEX_INITIALIZER };

AioContext *aio_wait_begin_(void)
{
    AioContext *ctx = qemu_get_current_aio_context();

    assert(ctx && !qemu_in_coroutine());
    if (ctx->wait_depth++ == 0) {
        qemu_mutex_lock(&waiting.lock);
        QLIST_INSERT_HEAD(&waiting.list, ctx, waiting_next);
        qemu_mutex_unlock(&waiting.lock);
        qatomic_inc(&nr_waiting);
    }
    smp_mb();
    return ctx;
}

void aio_wait_end_(AioContext *ctx)
{
    if (--ctx->wait_depth == 0) {
        qatomic_dec(&nr_waiting);
        qemu_mutex_lock(&waiting.lock);
        QLIST_REMOVE(ctx, waiting_next);
        qemu_mutex_unlock(&waiting.lock);
    }
}

void aio_wait_kick(void)
{
    AioContext *ctx;

    smp_mb();
    if (qatomic_read(&nr_waiting) == 0) {
        return;
    }
    qemu_mutex_lock(&waiting.lock);
    QLIST_FOREACH(ctx, &waiting.list, waiting_next) {
        aio_notify(ctx);
    }
    qemu_mutex_unlock(&waiting.lock);
}

typedef struct WaitBH {
    QEMUBHFunc *cb;
    void *opaque;
    bool done; /* atomic */
} WaitBH;

static void wait_bh(void *opaque)
{
    WaitBH *w = opaque;

    w->cb(w->opaque);
    qatomic_store_release(&w->done, true);
    /* w may be gone from here on. */
    aio_wait_kick();
}

void aio_wait_bh_oneshot(AioContext *ctx, QEMUBHFunc *cb, void *opaque)
{
    WaitBH w = { .cb = cb, .opaque = opaque };

    aio_bh_schedule_oneshot(ctx, wait_bh, &w);
    AIO_WAIT_WHILE(ctx, !qatomic_load_acquire(&w.done));
}
