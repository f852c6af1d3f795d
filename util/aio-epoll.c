/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The event loop on epoll, for kernels and sandboxes without io_uring. It
 * waits for descriptors only; file I/O runs in the thread pool.
 */
#include "util/osdep.h"
#include <poll.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include "util/aio.h"
#include "util/error.h"
#include "aio-int.h"

#define EVENTS_PER_WAIT 64

/* poll(2) and epoll agree on the events that we use. */
QEMU_BUILD_BUG_ON(EPOLLIN != POLLIN || EPOLLOUT != POLLOUT ||
                  EPOLLERR != POLLERR || EPOLLHUP != POLLHUP);

static int epoll_setup(AioContext *ctx, Error **errp)
{
    struct epoll_event ev = { .events = EPOLLIN, .data.ptr = NULL };

    ctx->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (ctx->epoll_fd < 0 ||
        epoll_ctl(ctx->epoll_fd, EPOLL_CTL_ADD, ctx->wake_fd, &ev) < 0) {
        int err = errno;
        error_setg_errno(errp, err, "Could not set up epoll");
        if (ctx->epoll_fd >= 0) {
            close(ctx->epoll_fd);
        }
        return -err;
    }
    return 0;
}

static void epoll_cleanup(AioContext *ctx)
{
    close(ctx->epoll_fd);
}

/* Timers have nanoseconds; only older kernels make us round them up to ms. */
static int wait_ns(int epfd, struct epoll_event *events, int max,
                   int64_t timeout_ns)
{
#ifdef SYS_epoll_pwait2
    static bool refused; /* atomic */

    if (!qatomic_read(&refused)) {
        struct timespec ts = {
            .tv_sec = timeout_ns / NANOSECONDS_PER_SECOND,
            .tv_nsec = timeout_ns % NANOSECONDS_PER_SECOND,
        };
        int n = syscall(SYS_epoll_pwait2, epfd, events, max,
                        timeout_ns < 0 ? NULL : &ts, NULL, 0);

        if (n >= 0 || (errno != ENOSYS && errno != EPERM)) {
            return n;
        }
        qatomic_set(&refused, true);
    }
#endif
    return epoll_wait(epfd, events, max,
                      timeout_ns < 0
                          ? -1
                          : MIN(DIV_ROUND_UP(timeout_ns, SCALE_MS), INT_MAX));
}

static void epoll_backend_wait(AioContext *ctx, int64_t timeout_ns)
{
    struct epoll_event events[EVENTS_PER_WAIT];
    int n;

    if (timeout_ns == 0 && g_hash_table_size(ctx->handlers) == 0) {
        return; /* work from other threads is found without asking */
    }
    n = wait_ns(ctx->epoll_fd, events, EVENTS_PER_WAIT, timeout_ns);
    assert(n >= 0 || errno == EINTR);
    for (int i = 0; i < n; i++) {
        AioHandler *h = events[i].data.ptr;

        if (h) {
            aio_fd_event(ctx, h, events[i].events);
        } else {
            uint64_t count;
            ssize_t got = RETRY_ON_EINTR(
                read(ctx->wake_fd, &count, sizeof(count)));
            assert(got == sizeof(count));
        }
    }
}

static void epoll_watch(AioContext *ctx, AioHandler *h)
{
    struct epoll_event ev = { .events = h->events, .data.ptr = h };

    if (epoll_ctl(ctx->epoll_fd, h->armed ? EPOLL_CTL_MOD : EPOLL_CTL_ADD,
                  h->fd, &ev) == 0) {
        h->armed = true;
        return;
    }
    /* Regular files; any other reason is a caller who closed the file. */
    assert(errno == EPERM && !h->armed);
    aio_fd_set_always(ctx, h);
}

static void epoll_unwatch(AioContext *ctx, AioHandler *h)
{
    epoll_ctl(ctx->epoll_fd, EPOLL_CTL_DEL, h->fd, NULL);
    h->armed = false;
}

const AioBackend aio_backend_epoll = {
    .name = "epoll",
    .setup = epoll_setup,
    .cleanup = epoll_cleanup,
    .wait = epoll_backend_wait,
    .watch = epoll_watch,
    .unwatch = epoll_unwatch,
};
