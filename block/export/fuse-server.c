/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Requests of FUSE: reading, telling apart, answering. */
#include "util/osdep.h"
#include <sys/uio.h>
#include "fuse-server.h"
#include "util/aio.h"

/* Buffers of FUSE_DISK_MAX_IO that a queue keeps for later. */
#define MAX_SPARE_BUFFERS 8
/* Requests taken in one turn of the loop: others have their turn as well. */
#define MAX_TAKEN 32
/* What the kernel may have under way on behalf of nobody who waits. */
#define MAX_BACKGROUND 64

/* The oldest protocol that sends what is read here as it is laid out here. */
#define MIN_MINOR 28

#ifndef FUSE_DIRECT_IO_ALLOW_MMAP
#define FUSE_DIRECT_IO_ALLOW_MMAP (1ULL << 36)
#endif

typedef struct Queue {
    FuseServer *server;
    AioContext *ctx;
    int fd;

    /* Of ctx's thread. */
    bool ended;                 /* by the kernel, or stopped */
    bool full;                  /* not reading because of in_flight */
    unsigned in_flight;         /* requests, and attach() */
    Coroutine *idle_waiter;     /* until in_flight is 0 */
    void *buffers[MAX_SPARE_BUFFERS];
    unsigned nb_buffers;
} Queue;

struct FuseServer {
    FuseDisk *disk;
    const FuseServerOps *ops;
    void *opaque;
    unsigned nb_queues;
    Queue queues[];
};

/* A request and its answer. */
typedef struct Request {
    Queue *q;
    struct {
        struct fuse_in_header head;
        union {
            struct fuse_init_in init;
            struct fuse_setattr_in setattr;
            struct fuse_read_in read;
            struct fuse_write_in write;
            struct fuse_fallocate_in fallocate;
            struct fuse_lseek_in lseek;
        };
    } in;
    size_t body_len;            /* of what follows in.head, without data */
    void *data;                 /* written or read; of FUSE_DISK_MAX_IO */
    size_t data_len;            /* received */
    union {
        struct fuse_init_out init;
        struct fuse_attr_out attr;
        struct fuse_open_out open;
        struct fuse_write_out write;
        struct fuse_lseek_out lseek;
        struct fuse_statfs_out statfs;
    } out;
    void *reply;                /* out or data */
} Request;

/* The data of a write is received behind this. */
#define FRONT (sizeof(struct fuse_in_header) + sizeof(struct fuse_write_in))

/* --- buffers --- */

static void *buffer_get(Queue *q)
{
    return q->nb_buffers ? q->buffers[--q->nb_buffers]
                         : blk_blockalign(q->server->disk->blk,
                                          FUSE_DISK_MAX_IO);
}

static void buffer_put(Queue *q, void *buffer)
{
    if (buffer && q->nb_buffers < MAX_SPARE_BUFFERS) {
        q->buffers[q->nb_buffers++] = buffer;
    } else {
        qemu_vfree(buffer);
    }
}

static void request_free(Request *r)
{
    buffer_put(r->q, r->data);
    g_free(r);
}

/* --- what is asked for: bytes of the reply, or -errno --- */

static ssize_t coroutine_fn do_init(Request *r)
{
    const struct fuse_init_in *in = &r->in.init;
    struct fuse_init_out *out = &r->out.init;
    uint64_t flags = in->flags;
    const uint64_t wanted = FUSE_ASYNC_READ | FUSE_BIG_WRITES |
        FUSE_ASYNC_DIO | FUSE_MAX_PAGES | FUSE_INIT_EXT |
        FUSE_DIRECT_IO_ALLOW_MMAP |
        /* Like a disk, it does not become empty because somebody opens it. */
        FUSE_ATOMIC_O_TRUNC;

    *out = (struct fuse_init_out) { .major = FUSE_KERNEL_VERSION };
    if (in->major > FUSE_KERNEL_VERSION) {
        return sizeof(*out);            /* it asks again, in ours */
    }
    if (in->major < FUSE_KERNEL_VERSION || in->minor < MIN_MINOR) {
        return -EPROTO;
    }
    if (flags & FUSE_INIT_EXT) {
        flags |= (uint64_t)in->flags2 << 32;
    }
    flags &= wanted;
    out->minor = FUSE_KERNEL_MINOR_VERSION;
    out->max_readahead = in->max_readahead;
    out->flags = flags;
    out->flags2 = flags >> 32;
    out->max_background = MAX_BACKGROUND;
    out->congestion_threshold = MAX_BACKGROUND * 3 / 4;
    out->max_write = FUSE_DISK_MAX_IO;
    out->max_pages = FUSE_DISK_MAX_IO / qemu_real_host_page_size();
    out->time_gran = 1;
    return sizeof(*out);
}

static ssize_t coroutine_fn do_getattr(Request *r)
{
    int ret;

    /* Nobody tells the kernel of changes: it has to ask each time. */
    r->out.attr = (struct fuse_attr_out) { 0 };
    ret = fuse_disk_co_getattr(r->q->server->disk, &r->out.attr.attr);
    return ret < 0 ? ret : sizeof(r->out.attr);
}

static ssize_t coroutine_fn do_setattr(Request *r)
{
    int ret = fuse_disk_co_setattr(r->q->server->disk, &r->in.setattr);

    return ret < 0 ? ret : do_getattr(r);
}

static ssize_t coroutine_fn do_open(Request *r)
{
    /* Others may write to the node: what a cache has may be old. */
    r->out.open = (struct fuse_open_out) {
        .open_flags = FOPEN_DIRECT_IO | FOPEN_PARALLEL_DIRECT_WRITES,
    };
    return sizeof(r->out.open);
}

static ssize_t coroutine_fn do_read(Request *r)
{
    r->data = buffer_get(r->q);
    r->reply = r->data;
    return fuse_disk_co_read(r->q->server->disk, r->in.read.offset,
                             r->in.read.size, r->data);
}

static ssize_t coroutine_fn do_write(Request *r)
{
    ssize_t n;

    if (r->in.write.size != r->data_len) {
        return -EINVAL;
    }
    n = fuse_disk_co_write(r->q->server->disk, r->in.write.offset,
                           r->in.write.size, r->data);
    r->out.write = (struct fuse_write_out) { .size = MAX(n, 0) };
    return n < 0 ? n : sizeof(r->out.write);
}

static ssize_t coroutine_fn do_flush(Request *r)
{
    return fuse_disk_co_flush(r->q->server->disk);
}

static ssize_t coroutine_fn do_fallocate(Request *r)
{
    return fuse_disk_co_fallocate(r->q->server->disk, &r->in.fallocate);
}

static ssize_t coroutine_fn do_lseek(Request *r)
{
    int64_t offset = fuse_disk_co_lseek(r->q->server->disk, &r->in.lseek);

    r->out.lseek.offset = offset;
    return offset < 0 ? offset : sizeof(r->out.lseek);
}

static ssize_t coroutine_fn do_statfs(Request *r)
{
    r->out.statfs = (struct fuse_statfs_out) {
        .st = { .bsize = 512, .frsize = 512, .namelen = 255 },
    };
    return sizeof(r->out.statfs);
}

static ssize_t coroutine_fn do_nothing(Request *r)
{
    return 0;
}

typedef struct Handler {
    ssize_t coroutine_fn (*fn)(Request *r);
    size_t min_body;
} Handler;

static const Handler handlers[] = {
    [FUSE_GETATTR] = { do_getattr },
    [FUSE_SETATTR] = { do_setattr, sizeof(struct fuse_setattr_in) },
    [FUSE_OPEN] = { do_open },
    [FUSE_READ] = { do_read, sizeof(struct fuse_read_in) },
    [FUSE_WRITE] = { do_write, sizeof(struct fuse_write_in) },
    [FUSE_STATFS] = { do_statfs },
    [FUSE_RELEASE] = { do_nothing },
    [FUSE_FSYNC] = { do_flush },
    [FUSE_FLUSH] = { do_flush },
    /* Without flags2 before version 7.36. */
    [FUSE_INIT] = { do_init, offsetof(struct fuse_init_in, flags2) },
    [FUSE_DESTROY] = { do_nothing },
    [FUSE_FALLOCATE] = { do_fallocate, sizeof(struct fuse_fallocate_in) },
    [FUSE_LSEEK] = { do_lseek, sizeof(struct fuse_lseek_in) },
};

static ssize_t coroutine_fn carry_out(Request *r)
{
    uint32_t opcode = r->in.head.opcode;
    const Handler *h = opcode < ARRAY_SIZE(handlers) ? &handlers[opcode]
                                                     : NULL;
    ssize_t ret;

    if (!h || !h->fn) {
        return -ENOSYS;
    }
    if (r->body_len < h->min_body) {
        return -EINVAL;
    }
    if (opcode != FUSE_INIT && opcode != FUSE_DESTROY &&
        r->in.head.nodeid != FUSE_ROOT_ID) {
        return -ESTALE;
    }
    ret = h->fn(r);
    /* ENOSYS would tell the kernel never to ask again: not even for fsync. */
    return ret == -ENOSYS || ret <= -512 ? -EIO : ret;
}

/* --- reading and answering --- */

static void on_readable(void *opaque);

static void set_reading(Queue *q, bool on)
{
    aio_set_fd_handler(q->ctx, q->fd, on ? on_readable : NULL, NULL, q);
}

static void end_queue(Queue *q, int error)
{
    FuseServer *s = q->server;

    if (q->ended) {
        return;
    }
    q->ended = true;
    if (!q->full) {
        set_reading(q, false);
    }
    if (s->ops && s->ops->ended) {
        s->ops->ended(s->opaque, error);
    }
}

static void answer(Request *r, ssize_t ret)
{
    struct fuse_out_header head = {
        .unique = r->in.head.unique,
        .error = MIN(ret, 0),
        .len = sizeof(head) + MAX(ret, 0),
    };
    struct iovec iov[] = {
        { &head, sizeof(head) }, { r->reply, MAX(ret, 0) },
    };
    ssize_t n = RETRY_ON_EINTR(writev(r->q->fd, iov, ret > 0 ? 2 : 1));

    /* ENOENT: nobody waits any more. ENODEV: nobody at all is there. */
    if (n < 0 && errno != ENOENT && errno != ENODEV) {
        end_queue(r->q, -errno);
    }
}

static void work_done(Queue *q)
{
    if (--q->in_flight == 0 && q->idle_waiter) {
        aio_co_wake(q->idle_waiter);
    }
}

static void coroutine_fn request_entry(void *opaque)
{
    Request *r = opaque;
    Queue *q = r->q;
    FuseServer *s = q->server;

    answer(r, carry_out(r));
    request_free(r);
    if (q->full && !q->ended) {
        set_reading(q, true);
    }
    q->full = false;
    if (s->ops && s->ops->idle) {
        s->ops->idle(s->opaque);
    }
    work_done(q);
}

/* These have no answer, and nothing to do. */
static bool is_note(uint32_t opcode)
{
    return opcode == FUSE_FORGET || opcode == FUSE_BATCH_FORGET ||
           opcode == FUSE_INTERRUPT;
}

static void start(Request *r)
{
    Queue *q = r->q;
    FuseServer *s = q->server;

    if (is_note(r->in.head.opcode)) {
        request_free(r);
        return;
    }
    if (r->in.head.opcode != FUSE_WRITE) {
        buffer_put(q, g_steal_pointer(&r->data));
    }
    if (++q->in_flight == FUSE_SERVER_MAX_REQUESTS) {
        q->full = true;
        set_reading(q, false);
    }
    if (s->ops && s->ops->busy) {
        s->ops->busy(s->opaque);
    }
    qemu_coroutine_enter(qemu_coroutine_create(request_entry, r));
}

/* Takes the @n bytes received apart. False if they are no request. */
static bool parse(Request *r, size_t n)
{
    const size_t head = sizeof(r->in.head);

    if (n < head || r->in.head.len != n) {
        return false;
    }
    r->data_len = n > FRONT ? n - FRONT : 0;
    r->body_len = n - head;
    if (r->in.head.opcode == FUSE_WRITE) {
        r->body_len -= r->data_len;
    } else {
        memcpy((uint8_t *)&r->in + FRONT, r->data,
               MIN(r->data_len, sizeof(r->in) - FRONT));
    }
    return true;
}

/* One message. False if there is none now, or never again. */
static bool receive(Queue *q)
{
    Request *r = g_new0(Request, 1);
    struct iovec iov[2];
    ssize_t n;

    r->q = q;
    r->reply = &r->out;
    r->data = buffer_get(q);
    iov[0] = (struct iovec) { &r->in, FRONT };
    iov[1] = (struct iovec) { r->data, FUSE_DISK_MAX_IO };
    n = RETRY_ON_EINTR(readv(q->fd, iov, 2));
    if (n > 0 && parse(r, n)) {
        start(r);
        return true;
    }
    request_free(r);
    if (n > 0) {
        end_queue(q, -EPROTO);
    } else if (n == 0 || errno == ENODEV) {
        end_queue(q, 0);
    } else if (errno == ENOENT) {
        return true;            /* given up while it was being read */
    } else if (errno != EAGAIN) {
        end_queue(q, -errno);
    }
    return false;
}

static void on_readable(void *opaque)
{
    Queue *q = opaque;

    for (unsigned i = 0; i < MAX_TAKEN && !q->ended && !q->full; i++) {
        if (!receive(q)) {
            break;
        }
    }
}

/* --- life --- */

static void attach(void *opaque)
{
    Queue *q = opaque;

    if (!q->ended) {
        set_reading(q, true);
    }
    work_done(q);
}

FuseServer *fuse_server_new(FuseDisk *disk, const FuseServerOps *ops,
                            void *opaque, const int *fds, AioContext **ctx,
                            unsigned n)
{
    FuseServer *s = g_malloc0(sizeof(*s) + n * sizeof(Queue));

    s->disk = disk;
    s->ops = ops;
    s->opaque = opaque;
    s->nb_queues = n;
    for (unsigned i = 0; i < n; i++) {
        s->queues[i] = (Queue) { .server = s, .ctx = ctx[i], .fd = fds[i],
                                 .in_flight = 1 };
        fcntl(fds[i], F_SETFL, fcntl(fds[i], F_GETFL) | O_NONBLOCK);
        aio_bh_schedule_oneshot(ctx[i], attach, &s->queues[i]);
    }
    return s;
}

static void coroutine_fn stop_queue(Queue *q)
{
    aio_co_reschedule_self(q->ctx);
    if (!q->ended && !q->full) {
        set_reading(q, false);
    }
    q->ended = true;
    while (q->in_flight) {
        q->idle_waiter = qemu_coroutine_self();
        qemu_coroutine_yield();
    }
    for (unsigned i = 0; i < q->nb_buffers; i++) {
        qemu_vfree(q->buffers[i]);
    }
    aio_co_reschedule_self(qemu_get_aio_context());
}

void coroutine_fn fuse_server_co_stop(FuseServer *s)
{
    for (unsigned i = 0; i < s->nb_queues; i++) {
        stop_queue(&s->queues[i]);
    }
    g_free(s);
}
