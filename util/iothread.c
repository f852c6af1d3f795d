/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A thread and its event loop. */
#include "util/osdep.h"
#include "util/aio.h"
#include "util/error.h"
#include "util/iothread.h"
#include "util/thread.h"

struct IOThread {
    char *id;
    IOThreadSettings settings;  /* the main thread's */
    QemuThread thread;
    /* Set by the thread before started */
    AioContext *ctx;
    Error *err;
    QemuSemaphore started;
    bool stopping; /* atomic */
};

static void *iothread_run(void *opaque)
{
    IOThread *iothread = opaque;
    AioContext *ctx = aio_context_new(&iothread->err);

    iothread->ctx = ctx;
    qemu_sem_post(&iothread->started);
    if (!ctx) {
        return NULL;
    }
    while (!qatomic_load_acquire(&iothread->stopping)) {
        aio_poll(ctx, true);
    }
    /* What was scheduled before the stop still runs. */
    while (aio_poll(ctx, false)) {
        continue;
    }
    aio_context_unref(ctx);
    return NULL;
}

IOThread *iothread_new(const char *id, Error **errp)
{
    IOThread *iothread = g_new0(IOThread, 1);
    int ret;

    iothread->id = g_strdup(id);
    qemu_sem_init(&iothread->started, 0);
    ret = qemu_thread_try_create(&iothread->thread, id, iothread_run,
                                 iothread, QEMU_THREAD_JOINABLE);
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Could not start IOThread '%s'", id);
    } else {
        qemu_sem_wait(&iothread->started);
        if (iothread->ctx) {
            return iothread;
        }
        qemu_thread_join(&iothread->thread);
        error_propagate(errp, iothread->err);
    }
    qemu_sem_destroy(&iothread->started);
    g_free(iothread->id);
    g_free(iothread);
    return NULL;
}

void iothread_free(IOThread *iothread)
{
    if (!iothread) {
        return;
    }
    /* For the notify: the thread drops its reference when it stops. */
    aio_context_ref(iothread->ctx);
    qatomic_store_release(&iothread->stopping, true);
    aio_notify(iothread->ctx);
    qemu_thread_join(&iothread->thread);
    aio_context_unref(iothread->ctx);
    qemu_sem_destroy(&iothread->started);
    g_free(iothread->id);
    g_free(iothread);
}

void iothread_set_settings(IOThread *iothread, const IOThreadSettings *s)
{
    iothread->settings = *s;
    aio_context_set_poll_params(iothread->ctx, s->poll_max_ns, s->poll_grow,
                                s->poll_shrink);
    aio_context_set_aio_params(iothread->ctx, s->aio_max_batch);
}

const IOThreadSettings *iothread_get_settings(const IOThread *iothread)
{
    return &iothread->settings;
}

AioContext *iothread_get_aio_context(IOThread *iothread)
{
    return iothread->ctx;
}

const char *iothread_get_id(IOThread *iothread)
{
    return iothread->id;
}
