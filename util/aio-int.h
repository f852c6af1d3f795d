/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Inside of the event loop: aio.c (the loop, bottom halves, coroutines),
 * aio-fd.c (descriptors), aio-spin.c, aio-wait.c, and the two ways to wait in the kernel,
 * aio-uring.c and aio-epoll.c.
 */
#ifndef UTIL_AIO_INT_H
#define UTIL_AIO_INT_H

#include "util/aio.h"
#include "timer-int.h"

#ifdef CONFIG_LINUX_IO_URING
#include <liburing.h>

/* Something whose completion the ring reports; its address is user_data. */
typedef struct AioUringReq AioUringReq;
struct AioUringReq {
    /*
     * In ctx's thread, while completions are being collected: it may queue
     * work for the loop, but neither run callbacks nor submit.
     */
    void (*complete)(AioContext *ctx, AioUringReq *req, int res);
};
#endif

/*
 * Interest in one descriptor, alive from the first interest until it is
 * deleted and neither the kernel nor the loop refers to it.
 */
typedef struct AioHandler {
    int fd;
    int events; /* wanted, of poll(2); 0 once deleted */
    IOHandler *io_read;
    IOHandler *io_write;
    void *opaque;
    /* Instead of callbacks: coroutines that wait, and where results go */
    Coroutine *co_read;
    Coroutine *co_write;
    int *co_read_result;
    int *co_write_result;

    bool deleted;
    bool always;      /* a file that is always ready and cannot be polled */
    bool on_ready;    /* in AioContext.ready_handlers */
    unsigned running; /* callbacks on the C stack */
    int revents;      /* what happened, while on_ready */
    QTAILQ_ENTRY(AioHandler) ready_next;
    QLIST_ENTRY(AioHandler) next; /* in always_handlers or zombie_handlers */

    bool armed; /* known to the kernel */
#ifdef CONFIG_LINUX_IO_URING
    bool cancelling; /* armed, and a removal is on its way */
    AioUringReq poll;
#endif
} AioHandler;

#ifdef CONFIG_LINUX_AIO
typedef struct AioNative AioNative;
#endif

typedef struct AioBackend {
    const char *name;
    /* 0, or -errno with nothing left behind. */
    int (*setup)(AioContext *ctx, Error **errp);
    void (*cleanup)(AioContext *ctx);
    /*
     * Submits, waits for up to @timeout_ns (0 not at all, -1 for ever), and
     * queues what happened in ready_handlers and ready. Runs no callback.
     */
    void (*wait)(AioContext *ctx, int64_t timeout_ns);
    /* Makes the kernel watch for h->events, not 0, which have changed. */
    void (*watch)(AioContext *ctx, AioHandler *h);
    /* After each event that was handled; may be NULL. */
    void (*rewatch)(AioContext *ctx, AioHandler *h);
    /* Stops watching; the descriptor may be closed when this returns. */
    void (*unwatch)(AioContext *ctx, AioHandler *h);
} AioBackend;

extern const AioBackend aio_backend_epoll;
#ifdef CONFIG_LINUX_IO_URING
extern const AioBackend aio_backend_uring;
#endif

struct AioContext {
    /* Fixed */
    const AioBackend *backend;
    int wake_fd; /* an eventfd */
    TimerGroup timers;

    /* Atomic, any thread */
    unsigned refcnt;
    bool sleeping; /* the loop needs a write to wake_fd to see new work */
    bool notified; /* the next blocking poll shall not block */
    QSLIST_HEAD(, Coroutine) remote_ready;
    QSLIST_HEAD(, QEMUBH) remote_bh;

    /* The rest belongs to the context's thread. Ready, in order: */
    QSIMPLEQ_HEAD(, Coroutine) ready;
    unsigned nr_ready;
    QSIMPLEQ_HEAD(, QEMUBH) bh;
    unsigned nr_bh;
    QTAILQ_HEAD(, AioHandler) ready_handlers;
    unsigned nr_ready_handlers;

    GHashTable *handlers; /* fd to AioHandler, without deleted ones */
    QLIST_HEAD(, AioHandler) always_handlers;
    QLIST_HEAD(, AioHandler) zombie_handlers; /* deleted, but still in use */

    /* The first three atomic, any thread; all 0: aio-spin.c is not used. */
    struct {
        int64_t max_ns;
        int64_t grow;
        int64_t shrink;
        int64_t ns;     /* to spin the next time */
    } spin;
    int64_t max_batch; /* atomic, any thread; 0: as the engine likes */

    unsigned nr_inline; /* file I/O that needed no waiting, see aio-file.c */

#ifdef CONFIG_LINUX_AIO
    AioNative *native; /* NULL until it is needed */
#endif

    unsigned wait_depth; /* AIO_WAIT_WHILE on the C stack */
    QLIST_ENTRY(AioContext) waiting_next;

#ifdef CONFIG_LINUX_IO_URING
    struct io_uring ring;
    AioUringReq wake_req;
    uint64_t wake_buf;
    bool wake_armed;
#endif
    int epoll_fd;
};

/* ---- aio.c ---- */

/* What other threads gave counts as well. */
bool aio_work_is_ready(AioContext *ctx);

/* ---- aio-spin.c ---- */

/* Looks for work, from @start_ns on; true: there is some. */
bool aio_spin(AioContext *ctx, int64_t start_ns);
/* After a sleep: how long to spin the next time. */
void aio_spin_adapt(AioContext *ctx, int64_t start_ns);

/* ---- aio-fd.c ---- */

void aio_fd_init(AioContext *ctx);
/* After the backend's cleanup. */
void aio_fd_cleanup(AioContext *ctx);
/* For backends, in watch(): the kernel cannot poll this file. */
void aio_fd_set_always(AioContext *ctx, AioHandler *h);
/* For backends: @revents happened to @h; 0 only asks for rewatch(). */
void aio_fd_event(AioContext *ctx, AioHandler *h, int revents);
/* For backends: the kernel has let go of @h, which is deleted. */
void aio_fd_released(AioContext *ctx, AioHandler *h);
/* Marks handlers as ready whose files always are; true if there are any. */
bool aio_fd_collect_always(AioContext *ctx);
/* Runs callbacks of ready handlers, each once. */
bool aio_fd_dispatch(AioContext *ctx);
/* qemu_co_wait_fd() by way of handlers. */
int coroutine_fn aio_fd_co_wait(AioContext *ctx, int fd, int events);

#ifdef CONFIG_LINUX_AIO
/* ---- aio-native.c ---- */
/* Hands over what waits for it; may make coroutines ready. */
void aio_native_submit(AioContext *ctx);
/* Idle. Accepts that there is nothing. */
void aio_native_cleanup(AioContext *ctx);
int coroutine_fn aio_native_rw(AioContext *ctx, bool is_write, int fd,
                               const struct iovec *iov, int niov,
                               uint64_t offset, int rwf_flags);
#endif

#ifdef CONFIG_LINUX_IO_URING
/* ---- aio-uring.c ---- */
int coroutine_fn aio_uring_co_poll(AioContext *ctx, int fd, int events);
int coroutine_fn aio_uring_ring_rw(AioContext *ctx, bool is_write, int fd,
                                   const struct iovec *iov, int niov,
                                   uint64_t offset, int rwf_flags);
int coroutine_fn aio_uring_ring_fsync(AioContext *ctx, int fd, bool datasync);
#endif

#endif /* UTIL_AIO_INT_H */
