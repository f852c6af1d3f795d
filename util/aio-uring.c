/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The event loop on io_uring: one ring per context for file I/O, polls,
 * wake-ups and, as the time limit of the wait, timers.
 *
 * 1. Only the context's thread touches the ring (the kernel is told so, which
 *    saves it locks and interrupts of running threads).
 * 2. Requests are put into the ring; the next turn of the loop submits them
 *    all and collects completions with one system call. In between only
 *    EAGER_SUBMIT of reads and writes are submitted, or a full ring.
 * 3. Collecting completions runs no callback and submits nothing.
 * 4. A request lives on the stack of the coroutine that waits for it, or in a
 *    handler: the ring's user_data is its address. Requests whose completion
 *    is of no interest have user_data 0.
 * 5. wake_fd is read by a request of the ring; it is submitted again together
 *    with whatever comes next, so a wake-up costs the sleeper nothing extra.
 */
#include "util/osdep.h"
#ifdef CONFIG_LINUX_IO_URING
#include <poll.h>
#include "util/aio.h"
#include "util/error.h"
#include "aio-int.h"
#include "coroutine-int.h"
#include "trace/util.h"

#define SQ_ENTRIES 256
#define CQ_ENTRIES 2048

/*
 * So many entries, if the user does not say how many, are not kept from the
 * kernel until the loop's turn ends. The device idles while requests that it
 * could work on are still being prepared: with 64 reads of 4 KiB in flight some
 * eight come together in a turn, and submitting at two to four takes a tenth
 * off the time of each, at the price of a system call for every fourth.
 */
#define EAGER_SUBMIT 4

/* Without these we would have to work around the kernel at every request. */
#define NEEDED_FEATURES                                                     \
    (IORING_FEAT_NODROP | IORING_FEAT_SUBMIT_STABLE | IORING_FEAT_FAST_POLL)

static void collect(AioContext *ctx)
{
    struct io_uring_cqe *cqe;

    while (io_uring_cq_ready(&ctx->ring)) {
        AioUringReq *req;
        unsigned head;
        int res = 0;

        req = NULL;
        io_uring_for_each_cqe(&ctx->ring, head, cqe) {
            /* liburing's own time limits, on kernels where it needs them */
            if (cqe->user_data != LIBURING_UDATA_TIMEOUT) {
                req = io_uring_cqe_get_data(cqe);
                res = cqe->res;
            }
            break;
        }
        io_uring_cq_advance(&ctx->ring, 1);
        if (req) {
            req->complete(ctx, req, res);
        }
    }
}

static void submit_failed(int ret)
{
    fprintf(stderr, "io_uring_enter: %s\n", strerror(-ret));
    abort();
}

/* Interrupted, or out of room that completions occupy: later is fine. */
static bool may_retry(int ret)
{
    return ret == -EINTR || ret == -EAGAIN || ret == -EBUSY || ret == -ETIME;
}

static struct io_uring_sqe *get_sqe(AioContext *ctx)
{
    struct io_uring_sqe *sqe;

    while (!(sqe = io_uring_get_sqe(&ctx->ring))) {
        int ret = io_uring_submit(&ctx->ring);

        trace_aio_uring_full(ctx, ret);
        if (ret < 0) {
            if (!may_retry(ret)) {
                submit_failed(ret);
            }
            collect(ctx);
        }
    }
    return sqe;
}

/* Enough to submit. */
static bool batch_is_full(AioContext *ctx)
{
    int64_t batch = qatomic_read(&ctx->max_batch) ?: EAGER_SUBMIT;

    return io_uring_sq_ready(&ctx->ring) >= batch;
}

static bool kernel_has_more(AioContext *ctx)
{
    unsigned flags = __atomic_load_n(ctx->ring.sq.kflags, __ATOMIC_RELAXED);
    unsigned wanted = IORING_SQ_CQ_OVERFLOW;

#ifdef IORING_SQ_TASKRUN
    wanted |= IORING_SQ_TASKRUN;
#endif
    return flags & wanted;
}

/* ------------------------------------------------------------- wake-ups */

static void wake_complete(AioContext *ctx, AioUringReq *req, int res)
{
    ctx->wake_armed = false;
}

static void wake_arm(AioContext *ctx)
{
    struct io_uring_sqe *sqe = get_sqe(ctx);

    io_uring_prep_read(sqe, ctx->wake_fd, &ctx->wake_buf,
                       sizeof(ctx->wake_buf), 0);
    io_uring_sqe_set_data(sqe, &ctx->wake_req);
    ctx->wake_armed = true;
}

/* ---------------------------------------------------------------- backend */

static int init_ring(struct io_uring *ring)
{
    static const unsigned flags[] = {
#if defined(IORING_SETUP_DEFER_TASKRUN) && defined(IORING_SETUP_SINGLE_ISSUER)
        IORING_SETUP_SUBMIT_ALL | IORING_SETUP_SINGLE_ISSUER |
            IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_TASKRUN_FLAG,
#endif
#ifdef IORING_SETUP_COOP_TASKRUN
        IORING_SETUP_SUBMIT_ALL | IORING_SETUP_COOP_TASKRUN |
            IORING_SETUP_TASKRUN_FLAG,
#endif
        0,
    };
    int ret = -EINVAL;

    /* The kernel refuses flags that it does not know. */
    for (int i = 0; i < ARRAY_SIZE(flags) && ret == -EINVAL; i++) {
        struct io_uring_params p = {
            .flags = flags[i] | IORING_SETUP_CQSIZE,
            .cq_entries = CQ_ENTRIES,
        };
        ret = io_uring_queue_init_params(SQ_ENTRIES, ring, &p);
    }
    return ret;
}

static int uring_setup(AioContext *ctx, Error **errp)
{
    int ret = init_ring(&ctx->ring);

    if (ret == 0 &&
        (ctx->ring.features & NEEDED_FEATURES) != NEEDED_FEATURES) {
        io_uring_queue_exit(&ctx->ring);
        ret = -ENOSYS;
    }
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Could not set up io_uring");
        return ret;
    }
    io_uring_ring_dontfork(&ctx->ring);
    ctx->wake_req.complete = wake_complete;
    return 0;
}

static void uring_cleanup(AioContext *ctx)
{
    io_uring_queue_exit(&ctx->ring);
}

static int enter_kernel(AioContext *ctx, int64_t timeout_ns)
{
    struct io_uring_cqe *cqe;
    struct __kernel_timespec ts;

    if (io_uring_cq_ready(&ctx->ring)) {
        timeout_ns = 0; /* there is work already */
    }
    if (timeout_ns == 0) {
        if (kernel_has_more(ctx)) {
            return io_uring_submit_and_get_events(&ctx->ring);
        }
        return io_uring_sq_ready(&ctx->ring) ? io_uring_submit(&ctx->ring)
                                             : 0;
    }
    if (timeout_ns < 0) {
        return io_uring_submit_and_wait(&ctx->ring, 1);
    }
    ts.tv_sec = timeout_ns / NANOSECONDS_PER_SECOND;
    ts.tv_nsec = timeout_ns % NANOSECONDS_PER_SECOND;
    return io_uring_submit_and_wait_timeout(&ctx->ring, &cqe, 1, &ts, NULL);
}

static void uring_wait(AioContext *ctx, int64_t timeout_ns)
{
    int ret;

    if (!ctx->wake_armed && timeout_ns != 0) {
        wake_arm(ctx);
    }
    ret = enter_kernel(ctx, timeout_ns);
    if (ret < 0 && !may_retry(ret)) {
        submit_failed(ret);
    }
    collect(ctx);
}

/* --------------------------------------------------------------- handlers */

static void poll_complete(AioContext *ctx, AioUringReq *req, int res)
{
    AioHandler *h = container_of(req, AioHandler, poll);

    h->armed = false;
    h->cancelling = false;
    if (h->deleted) {
        aio_fd_released(ctx, h);
    } else if (res >= 0) {
        aio_fd_event(ctx, h, res & (h->events | POLLERR | POLLHUP));
    } else {
        /* Cancelled because of other events: poll again. Else report. */
        aio_fd_event(ctx, h, res == -ECANCELED ? 0 : POLLERR);
    }
}

static void poll_arm(AioContext *ctx, AioHandler *h)
{
    struct io_uring_sqe *sqe = get_sqe(ctx);

    h->poll.complete = poll_complete;
    io_uring_prep_poll_add(sqe, h->fd, h->events);
    io_uring_sqe_set_data(sqe, &h->poll);
    h->armed = true;
}

static void poll_cancel(AioContext *ctx, AioHandler *h)
{
    if (!h->cancelling) {
        struct io_uring_sqe *sqe = get_sqe(ctx);

        io_uring_prep_poll_remove(sqe, (uintptr_t)&h->poll);
        io_uring_sqe_set_data(sqe, NULL);
        h->cancelling = true;
    }
}

static void uring_watch(AioContext *ctx, AioHandler *h)
{
    if (h->armed) {
        poll_cancel(ctx, h); /* and poll again when it is gone */
    } else if (!h->running && !h->on_ready) {
        poll_arm(ctx, h);
    }
}

static void uring_rewatch(AioContext *ctx, AioHandler *h)
{
    if (!h->armed && !h->running && !h->on_ready) {
        poll_arm(ctx, h);
    }
}

static void uring_unwatch(AioContext *ctx, AioHandler *h)
{
    int ret;

    /*
     * At once, and with the work that this leaves to us: a poll that goes on
     * would keep the file open after the caller has closed it.
     */
    poll_cancel(ctx, h);
    ret = io_uring_submit_and_get_events(&ctx->ring);
    if (ret < 0 && !may_retry(ret)) {
        submit_failed(ret);
    }
}

const AioBackend aio_backend_uring = {
    .name = "io_uring",
    .setup = uring_setup,
    .cleanup = uring_cleanup,
    .wait = uring_wait,
    .watch = uring_watch,
    .rewatch = uring_rewatch,
    .unwatch = uring_unwatch,
};

/* -------------------------------------------------------------- coroutines */

typedef struct CoUringReq {
    AioUringReq base;
    Coroutine *co;
    int res;
} CoUringReq;

static void co_complete(AioContext *ctx, AioUringReq *base, int res)
{
    CoUringReq *req = container_of(base, CoUringReq, base);

    req->res = res;
    aio_co_wake(req->co);
}

static void coroutine_fn prepare_wait(CoUringReq *req,
                                      struct io_uring_sqe *sqe)
{
    *req = (CoUringReq){
        .base.complete = co_complete,
        .co = qemu_coroutine_self(),
    };
    io_uring_sqe_set_data(sqe, &req->base);
}

static int coroutine_fn co_wait(struct io_uring_sqe *sqe)
{
    CoUringReq req;

    prepare_wait(&req, sqe);
    qemu_coroutine_yield();
    return req.res;
}

static bool interrupted(int res)
{
    return res == -EINTR || res == -EAGAIN;
}

int coroutine_fn aio_uring_co_poll(AioContext *ctx, int fd, int events)
{
    struct io_uring_sqe *sqe = get_sqe(ctx);

    io_uring_prep_poll_add(sqe, fd, events);
    return co_wait(sqe);
}

/* ---------------------------------------------------------------- file I/O */

/* What cannot be submitted now is so by the next turn, which sees the error. */
static int coroutine_fn co_wait_rw(AioContext *ctx, struct io_uring_sqe *sqe)
{
    CoUringReq req;

    prepare_wait(&req, sqe);
    if (batch_is_full(ctx)) {
        io_uring_submit(&ctx->ring);
    }
    qemu_coroutine_yield();
    return req.res;
}

int coroutine_fn aio_uring_ring_rw(AioContext *ctx, bool is_write, int fd,
                                   const struct iovec *iov, int niov,
                                   uint64_t offset, int rwf_flags)
{
    int ret;

    do {
        struct io_uring_sqe *sqe = get_sqe(ctx);

        if (niov == 1 && iov->iov_len <= INT_MAX) {
            /* Saves the kernel the import of the vector. */
            if (is_write) {
                io_uring_prep_write(sqe, fd, iov->iov_base, iov->iov_len,
                                    offset);
            } else {
                io_uring_prep_read(sqe, fd, iov->iov_base, iov->iov_len,
                                   offset);
            }
        } else if (is_write) {
            io_uring_prep_writev(sqe, fd, iov, niov, offset);
        } else {
            io_uring_prep_readv(sqe, fd, iov, niov, offset);
        }
        sqe->rw_flags = rwf_flags;
        ret = co_wait_rw(ctx, sqe);
    } while (unlikely(interrupted(ret)));
    return ret;
}

int coroutine_fn aio_uring_ring_fsync(AioContext *ctx, int fd, bool datasync)
{
    int ret;

    do {
        struct io_uring_sqe *sqe = get_sqe(ctx);

        io_uring_prep_fsync(sqe, fd, datasync ? IORING_FSYNC_DATASYNC : 0);
        ret = co_wait(sqe);
    } while (unlikely(interrupted(ret)));
    return ret;
}
#endif /* CONFIG_LINUX_IO_URING */
