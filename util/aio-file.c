/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * File I/O of coroutines: by the thread pool, or by the ring of the context
 * that runs them, for which the thread pool stands in if there is none.
 */
#include "util/osdep.h"
#include "util/aio.h"
#include "util/error.h"
#include "util/thread-pool.h"
#include "aio-int.h"

bool aio_context_has_uring(AioContext *ctx)
{
#ifdef CONFIG_LINUX_IO_URING
    return ctx->backend == &aio_backend_uring;
#else
    return false;
#endif
}

#define INLINE_PER_TURN 64

typedef struct PoolRw {
    bool is_write;
    int fd;
    const struct iovec *iov;
    int niov;
    uint64_t offset;
    int rwf_flags;
} PoolRw;

static int pool_rw(void *opaque)
{
    const PoolRw *rw = opaque;
    ssize_t n;

    do {
        n = rw->is_write ? pwritev2(rw->fd, rw->iov, rw->niov, rw->offset,
                                    rw->rwf_flags)
                         : preadv2(rw->fd, rw->iov, rw->niov, rw->offset,
                                   rw->rwf_flags);
    } while (n < 0 && (errno == EINTR || errno == EAGAIN));
    /* The kernel moves at most INT_MAX rounded down to a page at once. */
    return n < 0 ? -errno : n;
}

/*
 * Reads what the page cache has without the cost of two changes of threads.
 * Negative when a thread has to do it. Not with O_DIRECT, where it would wait
 * for the disk.
 */
static ssize_t read_cached(const PoolRw *rw)
{
    int flags = fcntl(rw->fd, F_GETFL);

    if (flags < 0 || (flags & O_DIRECT)) {
        return -1;
    }
    return preadv2(rw->fd, rw->iov, rw->niov, rw->offset, RWF_NOWAIT);
}

/* A coroutine that always finds its data must not keep the loop for itself. */
static void coroutine_fn yield_sometimes(void)
{
    AioContext *ctx = qemu_get_current_aio_context();

    if (++ctx->nr_inline % INLINE_PER_TURN == 0) {
        qemu_co_yield_to_loop();
    }
}

int coroutine_fn aio_threads_co_readv(int fd, const struct iovec *iov,
                                      int niov, uint64_t offset)
{
    PoolRw rw = { false, fd, iov, niov, offset, 0 };
    ssize_t n;

    assert(qemu_in_coroutine() && offset <= INT64_MAX);
    n = read_cached(&rw);
    if (n < 0) {
        return thread_pool_submit_co(pool_rw, &rw);
    }
    yield_sometimes();
    return n;
}

int coroutine_fn aio_threads_co_writev(int fd, const struct iovec *iov,
                                       int niov, uint64_t offset,
                                       int rwf_flags)
{
    PoolRw rw = { true, fd, iov, niov, offset, rwf_flags };

    assert(qemu_in_coroutine() && offset <= INT64_MAX);
    return thread_pool_submit_co(pool_rw, &rw);
}

static int coroutine_fn inline_rw(const PoolRw *rw)
{
    int ret;

    assert(qemu_in_coroutine() && rw->offset <= INT64_MAX);
    ret = pool_rw((void *)rw);
    yield_sometimes();
    return ret;
}

int coroutine_fn aio_inline_co_readv(int fd, const struct iovec *iov, int niov,
                                     uint64_t offset)
{
    PoolRw rw = { false, fd, iov, niov, offset, 0 };

    return inline_rw(&rw);
}

int coroutine_fn aio_inline_co_writev(int fd, const struct iovec *iov,
                                      int niov, uint64_t offset,
                                      int rwf_flags)
{
    PoolRw rw = { true, fd, iov, niov, offset, rwf_flags };

    return inline_rw(&rw);
}

typedef struct PoolFsync {
    int fd;
    bool datasync;
} PoolFsync;

static int pool_fsync(void *opaque)
{
    const PoolFsync *s = opaque;
    int ret =
        RETRY_ON_EINTR(s->datasync ? fdatasync(s->fd) : fsync(s->fd));

    return ret < 0 ? -errno : 0;
}

int coroutine_fn aio_threads_co_fsync(int fd, bool datasync)
{
    PoolFsync s = { fd, datasync };

    assert(qemu_in_coroutine());
    return thread_pool_submit_co(pool_fsync, &s);
}

/* The current context if it has a ring, else NULL. */
static AioContext *ring_context(void)
{
    AioContext *ctx = qemu_get_current_aio_context();

    assert(ctx && qemu_in_coroutine());
    return aio_context_has_uring(ctx) ? ctx : NULL;
}

int coroutine_fn aio_uring_co_readv(int fd, const struct iovec *iov, int niov,
                                    uint64_t offset)
{
    AioContext *ctx = ring_context();

    assert(offset <= INT64_MAX);
#ifdef CONFIG_LINUX_IO_URING
    if (ctx) {
        return aio_uring_ring_rw(ctx, false, fd, iov, niov, offset, 0);
    }
#endif
    assert(!ctx);
    return aio_threads_co_readv(fd, iov, niov, offset);
}

int coroutine_fn aio_uring_co_writev(int fd, const struct iovec *iov,
                                     int niov, uint64_t offset, int rwf_flags)
{
    AioContext *ctx = ring_context();

    assert(offset <= INT64_MAX);
#ifdef CONFIG_LINUX_IO_URING
    if (ctx) {
        return aio_uring_ring_rw(ctx, true, fd, iov, niov, offset,
                                 rwf_flags);
    }
#endif
    assert(!ctx);
    return aio_threads_co_writev(fd, iov, niov, offset, rwf_flags);
}

int coroutine_fn aio_native_co_readv(int fd, const struct iovec *iov, int niov,
                                     uint64_t offset)
{
    assert(qemu_in_coroutine() && offset <= INT64_MAX);
#ifdef CONFIG_LINUX_AIO
    return aio_native_rw(qemu_get_current_aio_context(), false, fd, iov, niov,
                         offset, 0);
#else
    return aio_threads_co_readv(fd, iov, niov, offset);
#endif
}

int coroutine_fn aio_native_co_writev(int fd, const struct iovec *iov,
                                      int niov, uint64_t offset,
                                      int rwf_flags)
{
    assert(qemu_in_coroutine() && offset <= INT64_MAX);
#ifdef CONFIG_LINUX_AIO
    return aio_native_rw(qemu_get_current_aio_context(), true, fd, iov, niov,
                         offset, rwf_flags);
#else
    return aio_threads_co_writev(fd, iov, niov, offset, rwf_flags);
#endif
}

#ifndef CONFIG_LINUX_AIO
bool aio_context_setup_native(AioContext *ctx, Error **errp)
{
    error_setg(errp, "Linux AIO is not built in");
    return false;
}
#endif

int coroutine_fn aio_uring_co_fsync(int fd, bool datasync)
{
    AioContext *ctx = ring_context();

#ifdef CONFIG_LINUX_IO_URING
    if (ctx) {
        return aio_uring_ring_fsync(ctx, fd, datasync);
    }
#endif
    assert(!ctx);
    return aio_threads_co_fsync(fd, datasync);
}
