/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * AioContext: the event loop of one thread. It runs coroutines that are ready,
 * bottom halves, timers, handlers of file descriptors, and file I/O.
 *
 * 1. A context belongs to the thread that created it: only that thread polls
 *    it, sets fd handlers and submits I/O. Scheduling work in it (coroutines,
 *    bottom halves, timers, notify) is open to every thread.
 * 2. One turn of the loop enters the kernel at most once, carrying everything
 *    that was submitted since the last turn, on io_uring; without io_uring
 *    (refused by the kernel, QEMU_AIO_NO_URING=1 in the environment, or not
 *    built in) epoll waits and file I/O goes to the thread pool. Which of the
 *    two runs changes no result.
 * 3. Callbacks run outside coroutines, and may poll the same loop again.
 *
 * Unless said otherwise functions work in any thread, in coroutines or not,
 * and do not yield.
 */
#ifndef UTIL_AIO_H
#define UTIL_AIO_H

#include "util/osdep.h"
#include "util/atomic.h"
#include "util/coroutine.h"
#include "util/timer.h"

typedef void QEMUBHFunc(void *opaque);
typedef void IOHandler(void *opaque);

/* --------------------------------------------------------------- contexts */

/*
 * A loop for the calling thread, which must have none; the caller owns one
 * reference. NULL and @errp set when descriptors or memory are refused.
 */
AioContext *aio_context_new(Error **errp);
void aio_context_ref(AioContext *ctx);
/* The last reference goes when no handler, timer or I/O is left in @ctx. */
void aio_context_unref(AioContext *ctx);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(AioContext, aio_context_unref)

/* The calling thread's context, NULL if it has none. */
AioContext *qemu_get_current_aio_context(void);
/* The main thread's; NULL before qemu_init_main_loop(). */
AioContext *qemu_get_aio_context(void);
/*
 * Makes the calling thread the main thread and gives it a loop. Once, before
 * other threads start; after fork() of a daemon, not before. 0 or -errno.
 */
int qemu_init_main_loop(Error **errp);
/* False as well before qemu_init_main_loop(). */
bool qemu_in_main_thread(void);
bool aio_context_in_main_thread(AioContext *ctx);
/* True when file I/O and polls of @ctx use io_uring. */
bool aio_context_has_uring(AioContext *ctx);
/*
 * Makes sure that aio_native_* in @ctx need no thread to stand in. False with
 * @errp if the kernel or the build does not have it. In @ctx's thread.
 */
bool aio_context_setup_native(AioContext *ctx, Error **errp);

/*
 * Before it sleeps the loop of @ctx looks for work for up to @max_ns; 0 (so at
 * first): not at all. Within that the time adapts: it is multiplied by @grow
 * (0: 2) when it was too short, and divided by @shrink (0: set to 0) when work
 * is rarer than that. None is negative. Any thread; from the next turn on.
 */
void aio_context_set_poll_params(AioContext *ctx, int64_t max_ns, int64_t grow,
                                 int64_t shrink);
/* What it has come to; for tests, in @ctx's thread. */
int64_t aio_context_poll_ns(AioContext *ctx);
/*
 * The most reads and writes that enter the kernel together; 0 (so at first):
 * what is best for most. Any thread; from the next requests on.
 */
void aio_context_set_aio_params(AioContext *ctx, int64_t max_batch);

/* Code that only the main thread runs; code that any thread runs. */
#define GLOBAL_STATE_CODE() assert(qemu_in_main_thread())
#define IO_CODE() ((void)0)
#define IO_OR_GS_CODE() ((void)0)

/* ------------------------------------------------------------------ loop */

/*
 * One turn. With @blocking it sleeps until there is something to do or a
 * notify; without, it does what is ready. True if anything ran. Only in
 * @ctx's thread and outside coroutines.
 */
bool aio_poll(AioContext *ctx, bool blocking);
/* Makes a sleeping or the next blocking aio_poll() of @ctx return. */
void aio_notify(AioContext *ctx);

/*
 * @io_read when @fd is readable or hung up, @io_write when it is writable or
 * has an error, again and again while that is so; NULL for no interest, both
 * NULL to remove, always before closing @fd. Regular files are always ready.
 * Only in @ctx's thread. A handler may remove itself and others.
 */
void aio_set_fd_handler(AioContext *ctx, int fd, IOHandler *io_read,
                        IOHandler *io_write, void *opaque);

/* --------------------------------------------------------- bottom halves */

/* Calls @cb(@opaque) once, in a later turn of @ctx's loop. */
void aio_bh_schedule_oneshot(AioContext *ctx, QEMUBHFunc *cb, void *opaque);
/* A callback to be scheduled many times. qemu_bh_delete() it. */
QEMUBH *aio_bh_new(AioContext *ctx, QEMUBHFunc *cb, void *opaque);
/*
 * Runs it once in a later turn, however often this is called before. In the
 * callback it schedules the next turn.
 */
void qemu_bh_schedule(QEMUBH *bh);
/* It does not run until scheduled again. In @ctx's thread. */
void qemu_bh_cancel(QEMUBH *bh);
/* Cancels, and frees it later. Accepts NULL. */
void qemu_bh_delete(QEMUBH *bh);

/* ------------------------------------------------------------- coroutines */

/*
 * The way to continue a coroutine that waits: queues @co in the context where
 * it last ran. It may not have yielded yet; if the caller is in its thread,
 * no lock and no system call is used.
 */
void aio_co_wake(Coroutine *co);
/*
 * Queues @co, which is new, or has yielded, or runs in @ctx already, to be
 * entered in @ctx's thread. Also how to start a coroutine in another thread.
 */
void aio_co_schedule(AioContext *ctx, Coroutine *co);
/*
 * Enters @co at once when the caller is in @ctx's thread outside coroutines;
 * else as aio_co_schedule().
 */
void aio_co_enter(AioContext *ctx, Coroutine *co);
/* Goes on in @new_ctx's thread; returns at once when it is there. */
void coroutine_fn aio_co_reschedule_self(AioContext *new_ctx);
/* Lets everything else that is ready run first. */
void coroutine_fn qemu_co_yield_to_loop(void);

/*
 * Waits until @fd has one of @events (POLLIN, POLLOUT). Returns the events of
 * poll(2), which may be POLLERR or POLLHUP, or -errno. @fd stays open; to end
 * the wait early shut the socket down. Per descriptor, at most one coroutine
 * waits for each event and there is no fd handler at the same time.
 */
int coroutine_fn qemu_co_wait_fd(int fd, int events);
void coroutine_fn yield_until_fd_readable(int fd);

/* ------------------------------------------------------------ waiting */

/* Of AIO_WAIT_WHILE(). */
AioContext *aio_wait_begin_(void);
void aio_wait_end_(AioContext *ctx);

/*
 * Polls the current thread's loop while @cond is true; whoever makes it false
 * in another thread calls aio_wait_kick() afterwards. Outside coroutines, in
 * a thread that has a context. @ctx only documents what is waited for, and
 * may be NULL. @cond reads what other threads write with qatomic_*, or takes
 * their lock. Value: true if it had to wait.
 */
#define AIO_WAIT_WHILE(ctx, cond)                                           \
    ({                                                                      \
        bool aw_waited_ = false;                                            \
        (void)(ctx);                                                        \
        if (cond) {                                                         \
            AioContext *aw_ctx_ = aio_wait_begin_();                        \
            while (cond) {                                                  \
                aio_poll(aw_ctx_, true);                                    \
                aw_waited_ = true;                                          \
            }                                                               \
            aio_wait_end_(aw_ctx_);                                         \
        }                                                                   \
        aw_waited_;                                                         \
    })
#define AIO_WAIT_WHILE_UNLOCKED(ctx, cond) AIO_WAIT_WHILE(ctx, cond)

/* Makes every AIO_WAIT_WHILE() look at its condition. Cheap without waiters. */
void aio_wait_kick(void);
/*
 * Runs @cb(@opaque) in @ctx's thread and waits for its end. The caller is
 * outside coroutines and has a context; its own loop runs meanwhile.
 */
void aio_wait_bh_oneshot(AioContext *ctx, QEMUBHFunc *cb, void *opaque);

/* ------------------------------------------------------------- file I/O */

/*
 * For the current context. @iov and its memory stay valid until the return;
 * @offset and lengths are bytes and, with O_DIRECT, aligned as the file
 * demands; at most IOV_MAX elements. They return the bytes moved, which may
 * be fewer than asked (end of file, signal: the caller goes on from there),
 * or -errno; fsync returns 0 or -errno. EINTR and EAGAIN are retried.
 *
 * @rwf_flags are RWF_* of pwritev2(2), 0 for none. @datasync: fdatasync.
 *
 * aio_threads_* use the thread pool (a read that the page cache can answer
 * needs no thread); aio_uring_* use io_uring, and aio_native_* Linux AIO, which
 * is for O_DIRECT only; or threads where there is none.
 */
int coroutine_fn aio_uring_co_readv(int fd, const struct iovec *iov, int niov,
                                    uint64_t offset);
int coroutine_fn aio_uring_co_writev(int fd, const struct iovec *iov,
                                     int niov, uint64_t offset,
                                     int rwf_flags);
int coroutine_fn aio_uring_co_fsync(int fd, bool datasync);
int coroutine_fn aio_native_co_readv(int fd, const struct iovec *iov, int niov,
                                     uint64_t offset);
int coroutine_fn aio_native_co_writev(int fd, const struct iovec *iov,
                                      int niov, uint64_t offset,
                                      int rwf_flags);
int coroutine_fn aio_threads_co_readv(int fd, const struct iovec *iov,
                                      int niov, uint64_t offset);
int coroutine_fn aio_threads_co_writev(int fd, const struct iovec *iov,
                                       int niov, uint64_t offset,
                                       int rwf_flags);
int coroutine_fn aio_threads_co_fsync(int fd, bool datasync);

/*
 * The same at once in this thread, for files that have no place but memory and
 * for lengths that are copied faster than handed over. The loop gets its turn
 * now and then.
 */
int coroutine_fn aio_inline_co_readv(int fd, const struct iovec *iov, int niov,
                                     uint64_t offset);
int coroutine_fn aio_inline_co_writev(int fd, const struct iovec *iov,
                                      int niov, uint64_t offset,
                                      int rwf_flags);

#endif /* UTIL_AIO_H */
