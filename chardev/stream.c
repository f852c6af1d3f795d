/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The stream of a character device: bytes in both directions over descriptors
 * of a connection.
 *
 *   not connected --stream_connect--> connected --+--> not connected
 *                                         |       |
 *                              end of input       +-- writing fails,
 *                                         |       |   chardev_abort(),
 *                                         v       |   chardev_disconnect()
 *                                    writing only-+   and all is sent
 *
 * A kind may move the bytes in a way of its own, and lack a descriptor to wait
 * for.
 *
 * The end is always reached in the bottom half, so that no caller of
 * chardev_write() sees its connection vanish in between.
 */
#include "util/osdep.h"
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include "char-int.h"

#define READ_SIZE 4096

static void stream_update(Chardev *chr);

/* --- reading --- */

static void stream_end_input(Chardev *chr)
{
    chr->input_ended = true;
    stream_update(chr);
    chr->fe->input_ended(chr->fe_opaque);
}

static void fds_arrived(Chardev *chr, struct msghdr *msg)
{
    for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
        const int *fds = (const int *)CMSG_DATA(c);
        size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);

        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) {
            continue;
        }
        if (chr->fe->fds) {
            chr->fe->fds(chr->fe_opaque, fds, n);
            continue;
        }
        for (size_t i = 0; i < n; i++) {
            close(fds[i]);
        }
    }
}

/* As read(). The kernel ends a read behind a message with descriptors. */
static ssize_t stream_receive(Chardev *chr, char *buf, size_t len)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(CHARDEV_MAX_FDS * sizeof(int))];
    } control;
    struct iovec iov = { .iov_base = buf, .iov_len = len };
    struct msghdr msg = {
        .msg_iov = &iov,
        .msg_iovlen = 1,
        .msg_control = &control,
        .msg_controllen = sizeof(control),
    };
    ssize_t n;

    if (chr->klass->receive) {
        return chr->klass->receive(chr, buf, len);
    }
    if (!chr->passes_fds) {
        return read(chr->in_fd, buf, len);
    }
    n = recvmsg(chr->in_fd, &msg, MSG_CMSG_CLOEXEC);
    if (n >= 0) {
        fds_arrived(chr, &msg);
    }
    return n;
}

static void stream_readable(void *opaque)
{
    Chardev *chr = opaque;
    char buf[READ_SIZE];
    size_t max = chr->fe->can_read(chr->fe_opaque);
    ssize_t n;

    if (!max) {
        /* Until chardev_accept_input(). */
        stream_update(chr);
        return;
    }
    n = stream_receive(chr, buf, MIN(max, sizeof(buf)));
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
        return;
    }
    if (n <= 0) {
        stream_end_input(chr);
        return;
    }
    chr->fe->read(chr->fe_opaque, buf, n);
}

/*
 * Nobody uses the device. A peer that went without a word must not keep the next
 * one out; what others send has time until somebody wants it.
 */
static void stream_readable_unused(void *opaque)
{
    Chardev *chr = opaque;
    int waiting;

    if (ioctl(chr->in_fd, FIONREAD, &waiting) < 0 || waiting > 0) {
        chr->input_waits = true;
    } else {
        chr->broken = true;
        qemu_bh_schedule(chr->bh);
    }
    stream_update(chr);
}

void chardev_accept_input(Chardev *chr)
{
    stream_update(chr);
}

/* --- writing --- */

static void stream_break(Chardev *chr)
{
    chr->broken = true;
    g_string_truncate(chr->out, 0);
    qemu_bh_schedule(chr->bh);
}

/* A terminal that nobody has open is never writable again, and says no more. */
static bool hung_up(int fd)
{
    struct pollfd pfd = { .fd = fd };

    return poll(&pfd, 1, 0) == 1 && (pfd.revents & (POLLHUP | POLLERR));
}

/* As write(). */
static ssize_t stream_write(Chardev *chr, const char *buf, size_t len)
{
    ssize_t n = chr->klass->send ? chr->klass->send(chr, buf, len)
                                 : write(chr->out_fd, buf, len);

    if (n > 0) {
        chardev_output_write_all(&chr->log, buf, n);
    } else if (n < 0 && errno == EAGAIN) {
        errno = hung_up(chr->out_fd) ? EPIPE : EAGAIN;
    }
    return n;
}

/* What can go at once; false if no more will ever do. */
static bool send_now(Chardev *chr)
{
    size_t done = 0;
    bool ok = true;

    while (done < chr->out->len) {
        ssize_t n = stream_write(chr, chr->out->str + done,
                                 chr->out->len - done);

        if (n >= 0) {
            done += n;
        } else if (errno != EINTR) {
            ok = errno == EAGAIN;
            break;
        }
    }
    g_string_erase(chr->out, 0, done);
    return ok;
}

static void stream_send(Chardev *chr)
{
    if (chr->broken) {
        return;
    }
    if (!send_now(chr)) {
        stream_break(chr);
    } else if (!chr->out->len && chr->ending) {
        qemu_bh_schedule(chr->bh);
    }
}

static void stream_writable(void *opaque)
{
    Chardev *chr = opaque;

    stream_send(chr);
    stream_update(chr);
}

void chardev_write(Chardev *chr, const char *buf, size_t len)
{
    bool idle = !chr->out->len;

    if (!chr->connected || chr->broken || chr->ending) {
        return;
    }
    g_string_append_len(chr->out, buf, len);
    if (idle) {
        stream_send(chr);
        stream_update(chr);
    }
}

void chardev_stream_flush(Chardev *chr)
{
    if (chr->connected) {
        send_now(chr);
        g_string_truncate(chr->out, 0);
    }
}

size_t chardev_pending(const Chardev *chr)
{
    return chr->out->len;
}

/* --- handlers --- */

static void set_handlers(Chardev *chr, IOHandler *on_read,
                         IOHandler *on_write)
{
    AioContext *ctx = qemu_get_aio_context();

    if (chr->in_fd == chr->out_fd && chr->in_fd >= 0) {
        aio_set_fd_handler(ctx, chr->in_fd, on_read, on_write, chr);
        return;
    }
    if (chr->in_fd >= 0) {
        aio_set_fd_handler(ctx, chr->in_fd, on_read, NULL, chr);
    }
    if (chr->out_fd >= 0) {
        aio_set_fd_handler(ctx, chr->out_fd, NULL, on_write, chr);
    }
}

static IOHandler *wanted_reader(Chardev *chr)
{
    if (!chr->fe) {
        return chr->klass->next_peer_waits && !chr->input_waits
               ? stream_readable_unused : NULL;
    }
    return chr->fe_opened && !chr->input_ended && !chr->ending &&
           chr->fe->can_read(chr->fe_opaque) > 0 ? stream_readable : NULL;
}

static void stream_update(Chardev *chr)
{
    bool ok = chr->connected && !chr->broken;

    if (chr->connected) {
        set_handlers(chr, ok ? wanted_reader(chr) : NULL,
                     ok && chr->out->len > 0 ? stream_writable : NULL);
    }
}

/* --- connections --- */

static void stream_disconnect(Chardev *chr)
{
    set_handlers(chr, NULL, NULL);
    chr->connected = false;
    chr->in_fd = chr->out_fd = -1;
    g_string_truncate(chr->out, 0);
    if (chr->fe_opened) {
        chr->fe_opened = false;
        chr->fe->closed(chr->fe_opaque);
    }
    chr->klass->disconnected(chr);
}

static void stream_bh(void *opaque)
{
    Chardev *chr = opaque;

    if (!chr->connected) {
        return;
    }
    if (chr->broken || (chr->ending && !chr->out->len)) {
        stream_disconnect(chr);
        return;
    }
    if (chr->fe && !chr->fe_opened) {
        chr->fe_opened = true;
        chr->fe->opened(chr->fe_opaque);
    }
    stream_update(chr);
}

static bool is_unix_socket(int fd)
{
    int domain;
    socklen_t len = sizeof(domain);

    return getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &len) == 0 &&
           domain == AF_UNIX;
}

void chardev_stream_connect(Chardev *chr, int in_fd, int out_fd)
{
    assert(!chr->connected);
    chr->connected = true;
    chr->in_fd = in_fd;
    chr->out_fd = out_fd;
    chr->passes_fds = is_unix_socket(in_fd);
    chr->input_ended = chr->broken = chr->ending = false;
    chr->input_waits = false;
    qemu_bh_schedule(chr->bh);
}

void chardev_disconnect(Chardev *chr)
{
    chr->ending = true;
    stream_update(chr);
    qemu_bh_schedule(chr->bh);
}

void chardev_abort(Chardev *chr)
{
    if (chr->connected) {
        stream_break(chr);
        stream_update(chr);
    }
}

void chardev_stream_frontend_changed(Chardev *chr)
{
    chr->fe_opened = chr->input_waits = false;
    stream_update(chr);
    if (chr->fe) {
        qemu_bh_schedule(chr->bh);
    }
}

void chardev_stream_init(Chardev *chr)
{
    chr->in_fd = chr->out_fd = -1;
    chr->out = g_string_new(NULL);
    chr->bh = aio_bh_new(qemu_get_aio_context(), stream_bh, chr);
}

void chardev_stream_disable(Chardev *chr)
{
    if (chr->connected) {
        set_handlers(chr, NULL, NULL);
        chr->connected = false;
    }
}

void chardev_stream_destroy(Chardev *chr)
{
    chardev_stream_disable(chr);
    qemu_bh_delete(chr->bh);
    g_string_free(chr->out, TRUE);
}
