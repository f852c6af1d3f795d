/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * File I/O through Linux AIO (io_submit), for files opened with O_DIRECT: on
 * others the kernel carries requests out before it returns.
 *
 * One kernel context per AioContext, made when it is first needed.
 *
 * 1. Only the AioContext's thread comes here.
 * 2. Requests wait in a list; each turn of the loop submits them together,
 *    as far as the kernel context has room.
 * 3. Completions make event_fd readable. It has a handler exactly while
 *    something is in flight, so an idle context has nothing to take down.
 * 4. A request lives on the stack of the coroutine that waits for it.
 */
#include "util/osdep.h"
#ifdef CONFIG_LINUX_AIO
#include <libaio.h>
#include <sys/eventfd.h>
#include "util/aio.h"
#include "util/error.h"
#include "aio-int.h"
#include "trace/util.h"

/* In flight at most; the system has some 64 Ki for all processes. */
#define MAX_EVENTS 512
/* Handed over, or fetched, with one system call. */
#define BATCH 128

/* Result of a request that the kernel did not take. */
#define NOT_SUBMITTED INT_MIN

typedef struct NativeReq {
    struct iocb iocb;
    Coroutine *co;
    int ret;
    QSIMPLEQ_ENTRY(NativeReq) next;
} NativeReq;

struct AioNative {
    io_context_t io;
    int event_fd;
    QSIMPLEQ_HEAD(, NativeReq) pending;
    unsigned in_flight;
};

/* ------------------------------------------------------------ completions */

static void finish(NativeReq *req, int ret)
{
    req->ret = ret;
    aio_co_wake(req->co);
}

static void collect(AioNative *n)
{
    struct io_event events[BATCH];
    struct timespec now = { 0 };
    int i, nr;

    do {
        nr = io_getevents(n->io, 0, BATCH, events, &now);
        for (i = 0; i < nr; i++) {
            NativeReq *req = container_of(events[i].obj, NativeReq, iocb);

            n->in_flight--;
            finish(req, (int)(long)events[i].res);
        }
    } while (nr == BATCH || nr == -EINTR);
    assert(nr >= 0);
}

static void on_event(void *opaque)
{
    AioContext *ctx = opaque;
    AioNative *n = ctx->native;
    uint64_t count;

    /* Before collecting: what completes after that makes it readable again. */
    if (RETRY_ON_EINTR(read(n->event_fd, &count, sizeof(count))) < 0) {
        assert(errno == EAGAIN);
    }
    collect(n);
    if (!n->in_flight) {
        aio_set_fd_handler(ctx, n->event_fd, NULL, NULL, NULL);
    }
}

/* ------------------------------------------------------------- submission */

static unsigned gather(AioContext *ctx, struct iocb **iocbs)
{
    AioNative *n = ctx->native;
    int64_t batch = qatomic_read(&ctx->max_batch) ?: BATCH;
    unsigned room = MIN(MIN(BATCH, batch), MAX_EVENTS - n->in_flight);
    unsigned nr = 0;
    NativeReq *req;

    QSIMPLEQ_FOREACH(req, &n->pending, next) {
        if (nr == room) {
            break;
        }
        iocbs[nr++] = &req->iocb;
    }
    return nr;
}

static NativeReq *take_pending(AioNative *n)
{
    NativeReq *req = QSIMPLEQ_FIRST(&n->pending);

    QSIMPLEQ_REMOVE_HEAD(&n->pending, next);
    return req;
}

/* Submits one batch. False if there is no point in trying again at once. */
static bool submit_batch(AioContext *ctx)
{
    AioNative *n = ctx->native;
    struct iocb *iocbs[BATCH];
    unsigned nr = gather(ctx, iocbs);
    int ret;

    if (!nr) {
        return false;
    }
    ret = io_submit(n->io, nr, iocbs);
    if (ret == -EINTR) {
        return true;
    }
    if (ret == -EAGAIN && n->in_flight) {
        return false;   /* completions will make room */
    }
    if (ret < 0) {
        /* It is the first one that was refused. */
        finish(take_pending(n), ret == -EAGAIN ? NOT_SUBMITTED : ret);
        return true;
    }
    if (ret > 0 && !n->in_flight) {
        aio_set_fd_handler(ctx, n->event_fd, on_event, NULL, ctx);
    }
    n->in_flight += ret;
    while (ret--) {
        take_pending(n);
    }
    return true;
}

void aio_native_submit(AioContext *ctx)
{
    while (submit_batch(ctx)) {
        continue;
    }
}

/* ---------------------------------------------------------------- context */

static int setup(AioContext *ctx)
{
    AioNative *n;
    int ret;

    if (ctx->native) {
        return 0;
    }
    n = g_new0(AioNative, 1);
    QSIMPLEQ_INIT(&n->pending);
    n->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (n->event_fd < 0) {
        ret = -errno;
        g_free(n);
        return ret;
    }
    ret = io_setup(MAX_EVENTS, &n->io);
    if (ret < 0) {
        close(n->event_fd);
        g_free(n);
        return ret;
    }
    ctx->native = n;
    return 0;
}

bool aio_context_setup_native(AioContext *ctx, Error **errp)
{
    int ret = setup(ctx);

    if (ret < 0) {
        error_setg_errno(errp, -ret, "Could not set up Linux AIO");
        if (ret == -EAGAIN) {
            error_append_hint(errp, "The limit is /proc/sys/fs/aio-max-nr.\n");
        }
        return false;
    }
    return true;
}

void aio_native_cleanup(AioContext *ctx)
{
    AioNative *n = ctx->native;

    if (n) {
        assert(!n->in_flight && QSIMPLEQ_EMPTY(&n->pending));
        io_destroy(n->io);
        close(n->event_fd);
        g_free(n);
        ctx->native = NULL;
    }
}

/* -------------------------------------------------------------- coroutines */

static void prepare(struct iocb *iocb, bool is_write, int fd,
                    const struct iovec *iov, int niov, uint64_t offset,
                    int rwf_flags)
{
    if (niov == 1 && is_write) {
        io_prep_pwrite(iocb, fd, iov->iov_base, iov->iov_len, offset);
    } else if (niov == 1) {
        io_prep_pread(iocb, fd, iov->iov_base, iov->iov_len, offset);
    } else if (is_write) {
        io_prep_pwritev(iocb, fd, iov, niov, offset);
    } else {
        io_prep_preadv(iocb, fd, iov, niov, offset);
    }
    iocb->aio_rw_flags = rwf_flags;
}

int coroutine_fn aio_native_rw(AioContext *ctx, bool is_write, int fd,
                               const struct iovec *iov, int niov,
                               uint64_t offset, int rwf_flags)
{
    NativeReq req = { .co = qemu_coroutine_self() };
    int ret = setup(ctx);

    if (ret < 0) {
        trace_aio_native_unavailable(ctx, ret);
    }
    while (ret == 0) {
        prepare(&req.iocb, is_write, fd, iov, niov, offset, rwf_flags);
        io_set_eventfd(&req.iocb, ctx->native->event_fd);
        QSIMPLEQ_INSERT_TAIL(&ctx->native->pending, &req, next);
        qemu_coroutine_yield();
        if (req.ret == NOT_SUBMITTED) {
            break;
        }
        if (req.ret != -EINTR && req.ret != -EAGAIN) {
            return req.ret;
        }
    }
    return is_write ? aio_threads_co_writev(fd, iov, niov, offset, rwf_flags)
                    : aio_threads_co_readv(fd, iov, niov, offset);
}
#endif
