/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * File I/O of coroutines: through the ring of the context that runs them, or
 * through the thread pool if it has none.
 */
#include "util/osdep.h"
#include "util/aio.h"
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

static int coroutine_fn co_rw(bool is_write, int fd, const struct iovec *iov,
                              int niov, uint64_t offset, int rwf_flags)
{
    PoolRw rw = { is_write, fd, iov, niov, offset, rwf_flags };

    assert(qemu_in_coroutine() && offset <= INT64_MAX);
#ifdef CONFIG_LINUX_IO_URING
    AioContext *ctx = qemu_get_current_aio_context();

    if (aio_context_has_uring(ctx)) {
        return aio_uring_ring_rw(ctx, is_write, fd, iov, niov, offset,
                                 rwf_flags);
    }
#endif
    return thread_pool_submit_co(pool_rw, &rw);
}

int coroutine_fn aio_uring_co_readv(int fd, const struct iovec *iov, int niov,
                                    uint64_t offset)
{
    return co_rw(false, fd, iov, niov, offset, 0);
}

int coroutine_fn aio_uring_co_writev(int fd, const struct iovec *iov,
                                     int niov, uint64_t offset, int rwf_flags)
{
    return co_rw(true, fd, iov, niov, offset, rwf_flags);
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

int coroutine_fn aio_uring_co_fsync(int fd, bool datasync)
{
    PoolFsync s = { fd, datasync };

    assert(qemu_in_coroutine());
#ifdef CONFIG_LINUX_IO_URING
    AioContext *ctx = qemu_get_current_aio_context();

    if (aio_context_has_uring(ctx)) {
        return aio_uring_ring_fsync(ctx, fd, datasync);
    }
#endif
    return thread_pool_submit_co(pool_fsync, &s);
}
