/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * File descriptors of an event loop: callbacks, and coroutines that wait.
 *
 * A backend reports events while it collects them, and callbacks run later,
 * one by one from a list: a callback may change or delete any handler, its
 * own included, or poll the loop again. A deleted handler leaves the table at
 * once and becomes a zombie until neither a callback nor the kernel uses it.
 */
#include "util/osdep.h"
#include <poll.h>
#include "util/aio.h"
#include "aio-int.h"

#define READ_EVENTS (POLLIN | POLLHUP | POLLERR)
#define WRITE_EVENTS (POLLOUT | POLLHUP | POLLERR)

void aio_fd_init(AioContext *ctx)
{
    ctx->handlers = g_hash_table_new(NULL, NULL);
    QTAILQ_INIT(&ctx->ready_handlers);
    QLIST_INIT(&ctx->always_handlers);
    QLIST_INIT(&ctx->zombie_handlers);
}

void aio_fd_cleanup(AioContext *ctx)
{
    AioHandler *h, *next;

    assert(g_hash_table_size(ctx->handlers) == 0);
    g_hash_table_destroy(ctx->handlers);
    QLIST_FOREACH_SAFE(h, &ctx->zombie_handlers, next, next) {
        assert(!h->running);
        g_free(h);
    }
}

/* ---------------------------------------------------------------- handlers */

static AioHandler *find_handler(AioContext *ctx, int fd)
{
    return g_hash_table_lookup(ctx->handlers, GINT_TO_POINTER(fd));
}

static AioHandler *get_handler(AioContext *ctx, int fd)
{
    AioHandler *h = find_handler(ctx, fd);

    if (!h) {
        h = g_new0(AioHandler, 1);
        h->fd = fd;
        g_hash_table_insert(ctx->handlers, GINT_TO_POINTER(fd), h);
    }
    return h;
}

static void free_unused(AioHandler *h)
{
    if (h->deleted && !h->armed && !h->running) {
        QLIST_REMOVE(h, next);
        g_free(h);
    }
}

static void delete_handler(AioContext *ctx, AioHandler *h)
{
    g_hash_table_remove(ctx->handlers, GINT_TO_POINTER(h->fd));
    h->deleted = true;
    h->events = 0;
    h->io_read = h->io_write = NULL;
    if (h->on_ready) {
        QTAILQ_REMOVE(&ctx->ready_handlers, h, ready_next);
        ctx->nr_ready_handlers--;
        h->on_ready = false;
    }
    if (h->always) {
        QLIST_REMOVE(h, next);
    }
    QLIST_INSERT_HEAD(&ctx->zombie_handlers, h, next);
    if (h->armed) {
        ctx->backend->unwatch(ctx, h);
    }
    free_unused(h);
}

void aio_fd_set_always(AioContext *ctx, AioHandler *h)
{
    h->always = true;
    QLIST_INSERT_HEAD(&ctx->always_handlers, h, next);
}

/* Deletes the handler if there is no event left to wait for. */
static void set_events(AioContext *ctx, AioHandler *h, int events)
{
    if (!events) {
        delete_handler(ctx, h);
    } else if (h->events != events) {
        h->events = events;
        if (!h->always) {
            ctx->backend->watch(ctx, h);
        }
    }
}

void aio_set_fd_handler(AioContext *ctx, int fd, IOHandler *io_read,
                        IOHandler *io_write, void *opaque)
{
    AioHandler *h;

    assert(ctx == qemu_get_current_aio_context());
    if (!io_read && !io_write) {
        h = find_handler(ctx, fd);
        if (h) {
            delete_handler(ctx, h);
        }
        return;
    }
    h = get_handler(ctx, fd);
    assert(!h->co_read && !h->co_write);
    h->io_read = io_read;
    h->io_write = io_write;
    h->opaque = opaque;
    set_events(ctx, h, (io_read ? POLLIN : 0) | (io_write ? POLLOUT : 0));
}

/* ------------------------------------------------------------------ events */

void aio_fd_event(AioContext *ctx, AioHandler *h, int revents)
{
    h->revents |= revents;
    if (!h->on_ready) {
        QTAILQ_INSERT_TAIL(&ctx->ready_handlers, h, ready_next);
        ctx->nr_ready_handlers++;
        h->on_ready = true;
    }
}

void aio_fd_released(AioContext *ctx, AioHandler *h)
{
    free_unused(h);
}

bool aio_fd_collect_always(AioContext *ctx)
{
    AioHandler *h;

    QLIST_FOREACH(h, &ctx->always_handlers, next) {
        aio_fd_event(ctx, h, h->events);
    }
    return !QLIST_EMPTY(&ctx->always_handlers);
}

static void wake_waiter(AioContext *ctx, AioHandler *h, Coroutine *co,
                        int *result, int revents)
{
    /* One coroutine may wait for both directions. */
    if (h->co_read == co) {
        h->co_read = NULL;
    }
    if (h->co_write == co) {
        h->co_write = NULL;
    }
    *result = revents;
    aio_co_wake(co);
}

static bool dispatch_waiters(AioContext *ctx, AioHandler *h, int revents)
{
    if (h->co_read && (revents & READ_EVENTS)) {
        wake_waiter(ctx, h, h->co_read, h->co_read_result, revents);
    }
    if (h->co_write && (revents & WRITE_EVENTS)) {
        wake_waiter(ctx, h, h->co_write, h->co_write_result, revents);
    }
    set_events(ctx, h,
               (h->co_read ? POLLIN : 0) | (h->co_write ? POLLOUT : 0));
    return true;
}

/* True if a callback ran or a coroutine was woken. */
static bool dispatch_one(AioContext *ctx, AioHandler *h, int revents)
{
    bool progress = false;

    if (!revents) {
        return false;
    }
    if (h->co_read || h->co_write) {
        return dispatch_waiters(ctx, h, revents);
    }
    if (h->io_read && (revents & READ_EVENTS)) {
        h->io_read(h->opaque);
        progress = true;
    }
    /* The first callback may have changed or deleted h. */
    if (h->io_write && (revents & WRITE_EVENTS)) {
        h->io_write(h->opaque);
        progress = true;
    }
    return progress;
}

bool aio_fd_dispatch(AioContext *ctx)
{
    bool progress = false;
    unsigned n;

    for (n = ctx->nr_ready_handlers; n > 0 && ctx->nr_ready_handlers; n--) {
        AioHandler *h = QTAILQ_FIRST(&ctx->ready_handlers);
        int revents = h->revents;

        QTAILQ_REMOVE(&ctx->ready_handlers, h, ready_next);
        ctx->nr_ready_handlers--;
        h->on_ready = false;
        h->revents = 0;

        h->running++;
        progress |= dispatch_one(ctx, h, revents);
        h->running--;
        if (h->deleted) {
            free_unused(h);
        } else if (!h->always && ctx->backend->rewatch) {
            ctx->backend->rewatch(ctx, h);
        }
    }
    return progress;
}

/* -------------------------------------------------------------- coroutines */

int coroutine_fn aio_fd_co_wait(AioContext *ctx, int fd, int events)
{
    AioHandler *h = get_handler(ctx, fd);
    Coroutine *self = qemu_coroutine_self();
    int result = 0;

    assert(!h->io_read && !h->io_write);
    if (events & POLLIN) {
        assert(!h->co_read);
        h->co_read = self;
        h->co_read_result = &result;
    }
    if (events & POLLOUT) {
        assert(!h->co_write);
        h->co_write = self;
        h->co_write_result = &result;
    }
    set_events(ctx, h,
               (h->co_read ? POLLIN : 0) | (h->co_write ? POLLOUT : 0));
    qemu_coroutine_yield();
    return result;
}

int coroutine_fn qemu_co_wait_fd(int fd, int events)
{
    AioContext *ctx = qemu_get_current_aio_context();

    assert((events & (POLLIN | POLLOUT)) && qemu_in_coroutine());
#ifdef CONFIG_LINUX_IO_URING
    if (aio_context_has_uring(ctx)) {
        return aio_uring_co_poll(ctx, fd, events);
    }
#endif
    return aio_fd_co_wait(ctx, fd, events & (POLLIN | POLLOUT));
}

void coroutine_fn yield_until_fd_readable(int fd)
{
    qemu_co_wait_fd(fd, POLLIN);
}
