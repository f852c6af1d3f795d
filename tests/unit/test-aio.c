/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The event loop: bottom halves, wake-ups between threads, descriptors, file
 * I/O. Runs twice in the suite: on io_uring, and with QEMU_AIO_NO_URING=1.
 */
#include "util/osdep.h"
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include "util/aio.h"
#include "util/error.h"
#include "util/iothread.h"
#include "util/lockable.h"
#include "util/thread.h"

static AioContext *ctx;

/* Starts @entry in the main loop and runs the loop until *done. */
static void run_to_end(CoroutineEntry *entry, void *opaque, bool *done)
{
    *done = false;
    qemu_coroutine_enter(qemu_coroutine_create(entry, opaque));
    AIO_WAIT_WHILE(NULL, !qatomic_load_acquire(done));
}

/* ----------------------------------------------------------------- basics */

static void test_contexts(void)
{
    g_assert_true(qemu_get_aio_context() == ctx);
    g_assert_true(qemu_get_current_aio_context() == ctx);
    g_assert_true(qemu_in_main_thread());
    g_assert_false(aio_poll(ctx, false));
    g_test_message("file I/O by %s",
                   aio_context_has_uring(ctx) ? "io_uring" : "threads");
    if (g_strcmp0(g_getenv("QEMU_AIO_NO_URING"), "1") == 0) {
        g_assert_false(aio_context_has_uring(ctx));
    }
}

static void test_notify(void)
{
    /* Would hang if the notify before the poll were lost. */
    aio_notify(ctx);
    g_assert_false(aio_poll(ctx, true));
    g_assert_false(aio_poll(ctx, false));
}

/* ----------------------------------------------------------- bottom halves */

typedef struct BHData {
    QEMUBH *bh;
    int runs;
    int again;
} BHData;

static void bh_count(void *opaque)
{
    BHData *d = opaque;

    d->runs++;
    if (d->again > 0) {
        d->again--;
        qemu_bh_schedule(d->bh);
    }
}

static void bh_delete_itself(void *opaque)
{
    BHData *d = opaque;

    d->runs++;
    qemu_bh_delete(d->bh);
}

static void test_bh(void)
{
    BHData d = { 0 };

    d.bh = aio_bh_new(ctx, bh_count, &d);
    g_assert_false(aio_poll(ctx, false));
    qemu_bh_schedule(d.bh);
    qemu_bh_schedule(d.bh);
    g_assert_true(aio_poll(ctx, true));
    g_assert_cmpint(d.runs, ==, 1);
    g_assert_false(aio_poll(ctx, false));

    qemu_bh_schedule(d.bh);
    qemu_bh_cancel(d.bh);
    g_assert_false(aio_poll(ctx, false));
    g_assert_cmpint(d.runs, ==, 1);

    /* One that schedules itself does not keep the loop in one turn. */
    d.again = 10;
    qemu_bh_schedule(d.bh);
    aio_poll(ctx, false);
    g_assert_cmpint(d.runs, <, 11);
    while (aio_poll(ctx, false)) {
        continue;
    }
    g_assert_cmpint(d.runs, ==, 12);

    qemu_bh_schedule(d.bh);
    qemu_bh_delete(d.bh);
    g_assert_false(aio_poll(ctx, false));
    g_assert_cmpint(d.runs, ==, 12);

    d.bh = aio_bh_new(ctx, bh_delete_itself, &d);
    qemu_bh_schedule(d.bh);
    g_assert_true(aio_poll(ctx, true));
    g_assert_cmpint(d.runs, ==, 13);
    aio_poll(ctx, false);
}

static void append(void *opaque)
{
    GString *s = ((void **)opaque)[0];

    g_string_append_c(s, GPOINTER_TO_INT(((void **)opaque)[1]));
}

static void *schedule_from_thread(void *opaque)
{
    void **args = opaque;

    for (int i = 0; i < 3; i++) {
        aio_bh_schedule_oneshot(ctx, append, &args[2 * i]);
    }
    return NULL;
}

/* In the order they were scheduled, from this thread and from another. */
static void test_bh_order(void)
{
    g_autoptr(GString) s = g_string_new("");
    void *args[] = { s, GINT_TO_POINTER('a'), s, GINT_TO_POINTER('b'),
                     s, GINT_TO_POINTER('c') };
    QemuThread t;

    schedule_from_thread(args);
    g_assert_true(aio_poll(ctx, true));
    g_assert_cmpstr(s->str, ==, "abc");

    qemu_thread_create(&t, "bh", schedule_from_thread, args,
                       QEMU_THREAD_JOINABLE);
    qemu_thread_join(&t);
    g_assert_true(aio_poll(ctx, true));
    g_assert_cmpstr(s->str, ==, "abcabc");
}

/* A callback may run the loop, and sees what others scheduled. */
static void bh_nested(void *opaque)
{
    BHData inner = { 0 };

    inner.bh = aio_bh_new(ctx, bh_count, &inner);
    qemu_bh_schedule(inner.bh);
    AIO_WAIT_WHILE(NULL, inner.runs == 0);
    qemu_bh_delete(inner.bh);
    ++*(int *)opaque;
}

static void test_bh_nested(void)
{
    int runs = 0;

    for (int i = 0; i < 3; i++) {
        aio_bh_schedule_oneshot(ctx, bh_nested, &runs);
    }
    AIO_WAIT_WHILE(NULL, runs < 3);
    while (aio_poll(ctx, false)) {
        continue;
    }
    g_assert_cmpint(runs, ==, 3);
}

/* ----------------------------------------------------------------- threads */

static void check_in_iothread(void *opaque)
{
    g_assert_true(qemu_get_current_aio_context() == opaque);
    g_assert_false(qemu_in_main_thread());
}

static void test_wait_bh(void)
{
    g_autoptr(IOThread) t = iothread_new("wait-bh", &error_abort);
    AioContext *tctx = iothread_get_aio_context(t);

    g_assert_cmpstr(iothread_get_id(t), ==, "wait-bh");
    for (int i = 0; i < 1000; i++) {
        aio_wait_bh_oneshot(tctx, check_in_iothread, tctx);
    }
    aio_wait_bh_oneshot(ctx, bh_nested, &(int){ 0 });
}

/* A coroutine goes from thread to thread and back. */
typedef struct Travel {
    AioContext *there[2];
    int trips;
    bool done;
} Travel;

static void coroutine_fn travel(void *opaque)
{
    Travel *t = opaque;

    for (int i = 0; i < t->trips; i++) {
        aio_co_reschedule_self(t->there[i % 2]);
        g_assert_true(qemu_get_current_aio_context() == t->there[i % 2]);
        g_assert_true(qemu_coroutine_get_aio_context(qemu_coroutine_self()) ==
                      t->there[i % 2]);
    }
    aio_co_reschedule_self(ctx);
    g_assert_true(qemu_in_main_thread());
    t->done = true;
}

static void test_reschedule_self(void)
{
    g_autoptr(IOThread) a = iothread_new("a", &error_abort);
    g_autoptr(IOThread) b = iothread_new("b", &error_abort);
    Travel t = { { iothread_get_aio_context(a), iothread_get_aio_context(b) },
                 10000 };

    run_to_end(travel, &t, &t.done);
}

/*
 * Two coroutines in two threads wake each other. The partner often wakes
 * before the other has yielded: the flag decides, the wake must not be lost.
 */
typedef struct PingPong {
    Coroutine *co[2];
    unsigned turn;      /* atomic: number of the next move */
    unsigned waiting[2]; /* atomic */
    unsigned moves;
    unsigned running; /* atomic */
} PingPong;

static void coroutine_fn play(PingPong *p, unsigned me)
{
    for (unsigned move = me; move < p->moves; move += 2) {
        while (qatomic_load_acquire(&p->turn) != move) {
            qatomic_xchg(&p->waiting[me], 1);
            /* Unless the other has moved since: then it may not wake us. */
            if (qatomic_load_seq_cst(&p->turn) == move &&
                qatomic_xchg(&p->waiting[me], 0)) {
                break;
            }
            qemu_coroutine_yield();
        }
        qatomic_xchg(&p->turn, move + 1);
        if (qatomic_xchg(&p->waiting[!me], 0)) {
            aio_co_wake(p->co[!me]);
        }
    }
    qatomic_dec(&p->running);
    aio_wait_kick();
}

static void coroutine_fn play_0(void *opaque)
{
    play(opaque, 0);
}

static void coroutine_fn play_1(void *opaque)
{
    play(opaque, 1);
}

static void test_ping_pong(void)
{
    g_autoptr(IOThread) a = iothread_new("ping", &error_abort);
    g_autoptr(IOThread) b = iothread_new("pong", &error_abort);
    PingPong p = { .moves = 100000, .running = 2 };
    int64_t start = get_clock();

    p.co[0] = qemu_coroutine_create(play_0, &p);
    p.co[1] = qemu_coroutine_create(play_1, &p);
    aio_co_schedule(iothread_get_aio_context(a), p.co[0]);
    aio_co_schedule(iothread_get_aio_context(b), p.co[1]);
    AIO_WAIT_WHILE(NULL, qatomic_load_acquire(&p.running));
    g_assert_cmpuint(p.turn, ==, p.moves);
    g_test_message("wake across threads: %.0f ns",
                   (get_clock() - start) / (double)p.moves);
}

/* Thousands of coroutines started from two threads in a third. */
typedef struct Storm {
    AioContext *target;
    unsigned done; /* atomic */
} Storm;

static void coroutine_fn storm_co(void *opaque)
{
    Storm *s = opaque;

    for (int i = 0; i < 3; i++) {
        qemu_co_yield_to_loop();
        g_assert_true(qemu_get_current_aio_context() == s->target);
    }
    qatomic_inc(&s->done);
    aio_wait_kick();
}

static void *storm_thread(void *opaque)
{
    Storm *s = opaque;

    for (int i = 0; i < 1000; i++) {
        aio_co_enter(s->target, qemu_coroutine_create(storm_co, s));
    }
    return NULL;
}

static void test_storm(void)
{
    g_autoptr(IOThread) t = iothread_new("storm", &error_abort);
    Storm s = { iothread_get_aio_context(t) };
    QemuThread threads[2];

    for (int i = 0; i < 2; i++) {
        qemu_thread_create(&threads[i], "storm", storm_thread, &s,
                           QEMU_THREAD_JOINABLE);
    }
    AIO_WAIT_WHILE(NULL, qatomic_load_acquire(&s.done) < 2000);
    for (int i = 0; i < 2; i++) {
        qemu_thread_join(&threads[i]);
    }
}

/* A wake for itself, before the yield, from its own thread. */
static void coroutine_fn wake_before_yield(void *opaque)
{
    for (int i = 0; i < 100; i++) {
        aio_co_wake(qemu_coroutine_self());
        qemu_coroutine_yield();
    }
    *(bool *)opaque = true;
}

static void test_wake_before_yield(void)
{
    bool done;

    run_to_end(wake_before_yield, &done, &done);
}

/* Waking runs nobody: it queues. */
static void coroutine_fn yield_then_set(void *opaque)
{
    qemu_coroutine_yield();
    *(bool *)opaque = true;
}

static void test_wake_is_not_enter(void)
{
    bool done = false;
    Coroutine *co = qemu_coroutine_create(yield_then_set, &done);

    aio_co_enter(ctx, co);
    aio_co_wake(co);
    g_assert_false(done);
    g_assert_true(aio_poll(ctx, true));
    g_assert_true(done);
}

/* ------------------------------------------------------------- descriptors */

typedef struct FdData {
    int fd;
    int reads;
    int writes;
    int other_fd;
} FdData;

static void fd_read(void *opaque)
{
    FdData *d = opaque;
    uint64_t v;

    g_assert_cmpint(read(d->fd, &v, sizeof(v)), ==, sizeof(v));
    d->reads += v;
}

static void fd_count_only(void *opaque)
{
    ((FdData *)opaque)->reads++;
}

static void fd_write(void *opaque)
{
    ((FdData *)opaque)->writes++;
}

static void test_fd_handler(void)
{
    FdData d = { .fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK) };

    aio_set_fd_handler(ctx, d.fd, fd_read, NULL, &d);
    g_assert_false(aio_poll(ctx, false));
    for (int i = 1; i <= 3; i++) {
        eventfd_write(d.fd, 1);
        g_assert_true(aio_poll(ctx, true));
        g_assert_cmpint(d.reads, ==, i);
        g_assert_false(aio_poll(ctx, false));
    }

    /* Level: as long as nobody reads, it goes on. */
    aio_set_fd_handler(ctx, d.fd, fd_count_only, NULL, &d);
    eventfd_write(d.fd, 1);
    d.reads = 0;
    while (d.reads < 5) {
        aio_poll(ctx, true);
    }

    /* Events change while the kernel watches. */
    aio_set_fd_handler(ctx, d.fd, NULL, fd_write, &d);
    d.reads = 0;
    while (d.writes < 5) {
        aio_poll(ctx, true);
    }
    g_assert_cmpint(d.reads, ==, 0);
    aio_set_fd_handler(ctx, d.fd, fd_read, fd_write, &d);
    while (d.reads < 1) {
        aio_poll(ctx, true);
    }

    aio_set_fd_handler(ctx, d.fd, NULL, NULL, NULL);
    eventfd_write(d.fd, 1);
    d.reads = d.writes = 0;
    for (int i = 0; i < 5; i++) {
        aio_poll(ctx, false);
    }
    g_assert_cmpint(d.reads + d.writes, ==, 0);
    close(d.fd);
}

/* Handlers that remove themselves and each other. */
static void fd_remove_both(void *opaque)
{
    FdData *d = opaque;

    d->reads++;
    aio_set_fd_handler(ctx, d->fd, NULL, NULL, NULL);
    aio_set_fd_handler(ctx, d->other_fd, NULL, NULL, NULL);
}

static void test_fd_remove_in_callback(void)
{
    for (int round = 0; round < 50; round++) {
        FdData d[2] = { { .fd = eventfd(1, EFD_CLOEXEC) },
                        { .fd = eventfd(1, EFD_CLOEXEC) } };

        d[0].other_fd = d[1].fd;
        d[1].other_fd = d[0].fd;
        for (int i = 0; i < 2; i++) {
            aio_set_fd_handler(ctx, d[i].fd, fd_remove_both, NULL, &d[i]);
        }
        while (d[0].reads + d[1].reads == 0) {
            aio_poll(ctx, true);
        }
        aio_poll(ctx, false);
        g_assert_cmpint(d[0].reads + d[1].reads, ==, 1);
        close(d[0].fd);
        close(d[1].fd);
    }
}

/* The loop keeps no file open behind the back of who closes it. */
static void test_fd_close(void)
{
    FdData d = { 0 };
    int sv[2];
    char c;

    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM, 0, sv), ==, 0);
    aio_set_fd_handler(ctx, sv[0], fd_count_only, NULL, &d);
    aio_poll(ctx, false);
    aio_set_fd_handler(ctx, sv[0], NULL, NULL, NULL);
    close(sv[0]);
    g_assert_cmpint(read(sv[1], &c, 1), ==, 0);
    close(sv[1]);
}

/* A regular file is always ready, which epoll by itself refuses to say. */
static void test_fd_regular(void)
{
    FILE *f = tmpfile();
    FdData d = { 0 };

    aio_set_fd_handler(ctx, fileno(f), fd_count_only, NULL, &d);
    while (d.reads < 3) {
        aio_poll(ctx, true);
    }
    aio_set_fd_handler(ctx, fileno(f), NULL, NULL, NULL);
    d.reads = 0;
    aio_poll(ctx, false);
    g_assert_cmpint(d.reads, ==, 0);
    fclose(f);
}

typedef struct CoFd {
    int sv[2];
    size_t total;
    bool sent, received;
} CoFd;

static void coroutine_fn co_send(void *opaque)
{
    CoFd *c = opaque;
    static const char buf[5000];
    size_t left = c->total;

    while (left > 0) {
        ssize_t n = write(c->sv[0], buf, MIN(left, sizeof(buf)));

        if (n < 0) {
            g_assert_cmpint(errno, ==, EAGAIN);
            g_assert_cmpint(qemu_co_wait_fd(c->sv[0], POLLOUT), ==, POLLOUT);
        } else {
            left -= n;
        }
    }
    shutdown(c->sv[0], SHUT_WR);
    c->sent = true;
}

static void coroutine_fn co_receive(void *opaque)
{
    CoFd *c = opaque;
    char buf[3000];
    size_t got = 0;
    ssize_t n;

    while ((n = read(c->sv[1], buf, sizeof(buf))) != 0) {
        if (n < 0) {
            g_assert_cmpint(errno, ==, EAGAIN);
            yield_until_fd_readable(c->sv[1]);
        } else {
            got += n;
        }
    }
    g_assert_cmpuint(got, ==, c->total);
    c->received = true;
}

static void test_co_wait_fd(void)
{
    CoFd c = { .total = 3000000 };

    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM, 0, c.sv), ==, 0);
    g_assert_cmpint(qemu_fd_set_nonblock(c.sv[0], true), ==, 0);
    g_assert_cmpint(qemu_fd_set_nonblock(c.sv[1], true), ==, 0);
    qemu_coroutine_enter(qemu_coroutine_create(co_receive, &c));
    qemu_coroutine_enter(qemu_coroutine_create(co_send, &c));
    AIO_WAIT_WHILE(NULL, !c.sent || !c.received);
    close(c.sv[0]);
    close(c.sv[1]);
}

/* ---------------------------------------------------------------- file I/O */

#define BLOCK 4096

/* The engines: same rules, same results. */
typedef struct Engine {
    int coroutine_fn (*readv)(int fd, const struct iovec *iov, int niov,
                              uint64_t offset);
    int coroutine_fn (*writev)(int fd, const struct iovec *iov, int niov,
                               uint64_t offset, int rwf_flags);
    int coroutine_fn (*fsync)(int fd, bool datasync);
} Engine;

static const Engine by_uring = { aio_uring_co_readv, aio_uring_co_writev,
                                 aio_uring_co_fsync };
static const Engine by_native = { aio_native_co_readv, aio_native_co_writev,
                                  aio_threads_co_fsync };
static const Engine by_inline = { aio_inline_co_readv, aio_inline_co_writev,
                                  aio_threads_co_fsync };
static const Engine by_threads = { aio_threads_co_readv, aio_threads_co_writev,
                                   aio_threads_co_fsync };

typedef struct FileIo {
    const Engine *engine;
    int fd;
    unsigned in_flight;
    bool is_write;
    bool *touched;
} FileIo;

typedef struct FileReq {
    FileIo *io;
    unsigned block;
} FileReq;

static void fill(uint8_t *buf, unsigned block)
{
    for (int i = 0; i < BLOCK; i += 4) {
        uint32_t v = block * 2654435761u + i;
        memcpy(buf + i, &v, 4);
    }
}

static void coroutine_fn file_req(void *opaque)
{
    g_autofree FileReq *req = opaque;
    FileIo *io = req->io;
    g_autofree uint8_t *buf = g_malloc(BLOCK);
    g_autofree uint8_t *want = g_malloc(BLOCK);
    struct iovec iov[2] = { { buf, 1000 }, { buf + 1000, BLOCK - 1000 } };
    int ret;

    fill(want, req->block);
    if (io->is_write) {
        memcpy(buf, want, BLOCK);
        ret = io->engine->writev(io->fd, iov, 2, (uint64_t)req->block * BLOCK,
                                 0);
    } else {
        ret = io->engine->readv(io->fd, iov, 2, (uint64_t)req->block * BLOCK);
        g_assert_cmpmem(buf, BLOCK, want, BLOCK);
    }
    g_assert_cmpint(ret, ==, BLOCK);
    g_assert_false(io->touched[req->block]);
    io->touched[req->block] = true;
    io->in_flight--;
}

/* All of them at once: several times what the ring has room for. */
static void run_blocks(FileIo *io, unsigned nr)
{
    g_autofree bool *touched = g_new0(bool, nr);

    io->touched = touched;
    io->in_flight = nr;
    for (unsigned i = 0; i < nr; i++) {
        FileReq *req = g_new(FileReq, 1);

        req->io = io;
        req->block = (i * 7919ull) % nr;
        qemu_coroutine_enter(qemu_coroutine_create(file_req, req));
    }
    AIO_WAIT_WHILE(NULL, io->in_flight > 0);
}

static void test_file_many(const void *engine)
{
    FILE *f = tmpfile();
    FileIo io = { .engine = engine, .fd = fileno(f), .is_write = true };

    run_blocks(&io, 3000);
    io.is_write = false;
    run_blocks(&io, 3000);
    fclose(f);
}

typedef struct Edges {
    const Engine *engine;
    bool done;
} Edges;

static void coroutine_fn file_edges(void *opaque)
{
    Edges *e = opaque;
    const Engine *by = e->engine;
    FILE *f = tmpfile();
    int fd = fileno(f);
    char buf[100];
    struct iovec iov = { buf, 100 };
    int closed;

    memset(buf, 'x', 100);
    g_assert_cmpint(by->writev(fd, &iov, 1, 10, 0), ==, 100);
    g_assert_cmpint(by->writev(fd, &iov, 1, 0, RWF_DSYNC), ==, 100);
    g_assert_cmpint(by->fsync(fd, true), ==, 0);
    g_assert_cmpint(by->fsync(fd, false), ==, 0);
    /* Short at the end of the file, 0 behind it, as the caller decides. */
    g_assert_cmpint(by->readv(fd, &iov, 1, 60), ==, 50);
    g_assert_cmpint(by->readv(fd, &iov, 1, 110), ==, 0);
    g_assert_cmpint(by->readv(fd, NULL, 0, 0), ==, 0);
    fclose(f);

    closed = dup(STDERR_FILENO);
    close(closed);
    g_assert_cmpint(by->readv(closed, &iov, 1, 0), ==, -EBADF);
    g_assert_cmpint(by->writev(closed, &iov, 1, 0, 0), ==, -EBADF);
    g_assert_cmpint(by->fsync(closed, true), ==, -EBADF);
    f = fopen("/dev/null", "r");
    g_assert_cmpint(by->writev(fileno(f), &iov, 1, 0, 0), ==,
                    -EBADF);
    fclose(f);
    e->done = true;
}

static void test_file_edges(const void *engine)
{
    Edges e = { engine };

    run_to_end(file_edges, &e, &e.done);
}

/* Reads that never wait still let the loop run. */
typedef struct Fair {
    const Engine *engine;
    bool stop;
} Fair;

static void coroutine_fn read_until_stopped(void *opaque)
{
    Fair *fair = opaque;
    FILE *f = tmpfile();
    char c = 'x';
    struct iovec iov = { &c, 1 };

    g_assert_cmpint(pwrite(fileno(f), &c, 1, 0), ==, 1);
    while (!fair->stop) {
        g_assert_cmpint(fair->engine->readv(fileno(f), &iov, 1, 0), ==, 1);
    }
    fclose(f);
}

static void stop_reading(void *opaque)
{
    ((Fair *)opaque)->stop = true;
}

static void test_file_fair(const void *engine)
{
    Fair fair = { engine };

    aio_bh_schedule_oneshot(ctx, stop_reading, &fair);
    qemu_coroutine_enter(qemu_coroutine_create(read_until_stopped, &fair));
    while (aio_poll(ctx, false)) {
        continue;
    }
    g_assert_true(fair.stop);
}

/* Threads do I/O on one file, each in its own loop. */
typedef struct ThreadIo {
    const Engine *engine;
    int fd;
    unsigned first;
    unsigned count;
    unsigned *running; /* atomic */
} ThreadIo;

static void coroutine_fn thread_io(void *opaque)
{
    ThreadIo *t = opaque;
    g_autofree uint8_t *buf = g_malloc(BLOCK);
    g_autofree uint8_t *want = g_malloc(BLOCK);
    struct iovec iov = { buf, BLOCK };
    AioContext *here = qemu_get_current_aio_context();

    for (unsigned i = t->first; i < t->first + t->count; i++) {
        fill(want, i);
        memcpy(buf, want, BLOCK);
        g_assert_cmpint(t->engine->writev(t->fd, &iov, 1,
                                          (uint64_t)i * BLOCK, 0),
                        ==, BLOCK);
        memset(buf, 0, BLOCK);
        g_assert_cmpint(
            t->engine->readv(t->fd, &iov, 1, (uint64_t)i * BLOCK), ==,
            BLOCK);
        g_assert_cmpmem(buf, BLOCK, want, BLOCK);
        g_assert_true(qemu_get_current_aio_context() == here);
    }
    qatomic_dec(t->running);
    aio_wait_kick();
}

static void test_file_threads(const void *engine)
{
    g_autoptr(IOThread) a = iothread_new("io-a", &error_abort);
    g_autoptr(IOThread) b = iothread_new("io-b", &error_abort);
    AioContext *where[] = { iothread_get_aio_context(a),
                            iothread_get_aio_context(b), ctx };
    FILE *f = tmpfile();
    unsigned running = 30;
    ThreadIo t[30];

    for (int i = 0; i < 30; i++) {
        t[i] = (ThreadIo){ engine, fileno(f), i * 50, 50, &running };
        aio_co_enter(where[i % 3], qemu_coroutine_create(thread_io, &t[i]));
    }
    AIO_WAIT_WHILE(NULL, qatomic_load_acquire(&running));
    fclose(f);
}

/* Numbers for the reader, no pass or fail: 4 KiB reads from the page cache. */
typedef struct Iops {
    int fd;
    unsigned blocks;
    unsigned left;
    unsigned running;
} Iops;

static void coroutine_fn iops_worker(void *opaque)
{
    Iops *s = opaque;
    g_autofree uint8_t *buf = g_malloc(BLOCK);
    struct iovec iov = { buf, BLOCK };

    while (s->left > 0) {
        unsigned n = s->left--;
        aio_uring_co_readv(s->fd, &iov, 1,
                           (n * 7919ull) % s->blocks * BLOCK);
    }
    s->running--;
}

static void test_iops(void)
{
    FILE *f = tmpfile();
    g_autofree uint8_t *buf = g_malloc0(1 << 20);
    unsigned total = 100000;

    for (int i = 0; i < 16; i++) {
        g_assert_cmpint(qemu_write_full(fileno(f), buf, 1 << 20), ==, 1 << 20);
    }
    for (unsigned depth = 1; depth <= 64; depth *= 8) {
        Iops s = { fileno(f), 16 * 256, total, depth };
        int64_t start = get_clock();

        for (unsigned i = 0; i < depth; i++) {
            qemu_coroutine_enter(qemu_coroutine_create(iops_worker, &s));
        }
        AIO_WAIT_WHILE(NULL, s.running > 0);
        g_test_message("depth %2u: %.0f reads/s", depth,
                       total * 1e9 / (get_clock() - start));
    }
    fclose(f);
}

static void add_file_tests(const char *name, const Engine *engine)
{
    g_autofree char *many = g_strdup_printf("/aio/file/%s/many", name);
    g_autofree char *edges = g_strdup_printf("/aio/file/%s/edges", name);
    g_autofree char *loops = g_strdup_printf("/aio/file/%s/three-loops", name);

    g_test_add_data_func(many, engine, test_file_many);
    g_test_add_data_func(edges, engine, test_file_edges);
    g_test_add_data_func(loops, engine, test_file_threads);
}

int main(int argc, char **argv)
{
    int ret;

    g_test_init(&argc, &argv, NULL);
    qemu_init_main_loop(&error_abort);
    ctx = qemu_get_aio_context();

    g_test_add_func("/aio/contexts", test_contexts);
    g_test_add_func("/aio/notify", test_notify);
    g_test_add_func("/aio/bh/basics", test_bh);
    g_test_add_func("/aio/bh/order", test_bh_order);
    g_test_add_func("/aio/bh/nested", test_bh_nested);
    g_test_add_func("/aio/wake/before-yield", test_wake_before_yield);
    g_test_add_func("/aio/wake/is-not-enter", test_wake_is_not_enter);
    g_test_add_func("/aio/threads/wait-bh", test_wait_bh);
    g_test_add_func("/aio/threads/reschedule-self", test_reschedule_self);
    g_test_add_func("/aio/threads/ping-pong", test_ping_pong);
    g_test_add_func("/aio/threads/storm", test_storm);
    g_test_add_func("/aio/fd/handler", test_fd_handler);
    g_test_add_func("/aio/fd/remove-in-callback", test_fd_remove_in_callback);
    g_test_add_func("/aio/fd/close", test_fd_close);
    g_test_add_func("/aio/fd/regular", test_fd_regular);
    g_test_add_func("/aio/fd/coroutine", test_co_wait_fd);
    add_file_tests("uring", &by_uring);
    add_file_tests("native", &by_native);
    add_file_tests("inline", &by_inline);
    add_file_tests("threads", &by_threads);
    g_test_add_data_func("/aio/file/inline/fair", &by_inline, test_file_fair);
    g_test_add_data_func("/aio/file/threads/fair", &by_threads,
                         test_file_fair);
    g_test_add_func("/aio/cost/iops", test_iops);
    ret = g_test_run();
    aio_context_unref(ctx);
    return ret;
}
