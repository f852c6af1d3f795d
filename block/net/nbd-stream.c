/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Bytes of an NBD connection. Reading goes through a small buffer, so that many
 * requests come with one system call; what is long goes where it belongs at once,
 * and the same call fills the buffer with what is behind it.
 */
#include "util/osdep.h"
#include <poll.h>
#include <sys/socket.h>
#include "block/nbd-stream.h"
#include "util/aio.h"

void nbd_stream_init(NBDStream *s, int fd)
{
    s->fd = fd;
    s->head = s->tail = 0;
    s->drained = true;
}

static size_t take_buffered(NBDStream *s, void *buf, size_t len)
{
    size_t n = MIN(len, s->tail - s->head);

    memcpy(buf, s->buf + s->head, n);
    s->head += n;
    return n;
}

/* At least one byte, into @buf first and then into the empty buffer. Returns
 * those in @buf, 0 at the end of the connection, -errno. */
static ssize_t coroutine_fn receive(NBDStream *s, void *buf, size_t len)
{
    struct iovec iov[2] = {
        { .iov_base = buf, .iov_len = len },
        { .iov_base = s->buf, .iov_len = sizeof(s->buf) },
    };
    struct msghdr msg = { .msg_iov = iov, .msg_iovlen = 2 };
    ssize_t n;

    for (;;) {
        if (s->drained) {
            int ret = qemu_co_wait_fd(s->fd, POLLIN);

            if (ret < 0) {
                return ret;
            }
            s->drained = false;
        }
        n = recvmsg(s->fd, &msg, MSG_DONTWAIT);
        if (n >= 0) {
            break;
        }
        if (errno == EAGAIN || errno == EWOULDBLOCK) {
            s->drained = true;
        } else if (errno != EINTR) {
            return -errno;
        }
    }
    s->drained = n < len + sizeof(s->buf);
    s->head = 0;
    s->tail = n > len ? n - len : 0;
    return MIN(n, len);
}

int coroutine_fn nbd_stream_read(NBDStream *s, void *buf, size_t len)
{
    uint8_t *p = buf;
    size_t n = take_buffered(s, p, len);

    while (n < len) {
        ssize_t ret = receive(s, p + n, len - n);

        if (ret <= 0) {
            return ret < 0 ? ret : -ECONNRESET;
        }
        n += ret;
    }
    return 0;
}

int coroutine_fn nbd_stream_read_qiov(NBDStream *s, QEMUIOVector *qiov,
                                      size_t offset, size_t len)
{
    int ret = 0;

    for (int i = 0; len && ret >= 0; i++) {
        struct iovec *iov = &qiov->iov[i];

        if (offset >= iov->iov_len) {
            offset -= iov->iov_len;
        } else {
            size_t n = MIN(len, iov->iov_len - offset);

            ret = nbd_stream_read(s, (uint8_t *)iov->iov_base + offset, n);
            offset = 0;
            len -= n;
        }
    }
    return ret;
}

int coroutine_fn nbd_stream_skip(NBDStream *s, uint64_t len)
{
    g_autofree uint8_t *scratch = NULL;
    uint64_t buffered = MIN(len, s->tail - s->head);

    s->head += buffered;
    len -= buffered;
    if (len) {
        scratch = g_malloc(65536);
    }
    while (len) {
        size_t n = MIN(len, 65536);
        int ret = nbd_stream_read(s, scratch, n);

        if (ret < 0) {
            return ret;
        }
        len -= n;
    }
    return 0;
}

int coroutine_fn nbd_stream_write(NBDStream *s, struct iovec *iov,
                                  unsigned niov)
{
    struct msghdr msg = { 0 };

    while (niov) {
        ssize_t n;

        msg.msg_iov = iov;
        msg.msg_iovlen = MIN(niov, IOV_MAX);
        n = sendmsg(s->fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n >= 0) {
            iov_discard_front(&iov, &niov, n);
            while (niov && !iov->iov_len) {
                iov++;
                niov--;
            }
        } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
            int ret = qemu_co_wait_fd(s->fd, POLLOUT);

            if (ret < 0) {
                return ret;
            }
        } else if (errno != EINTR) {
            return -errno;
        }
    }
    return 0;
}

void nbd_stream_try_write(NBDStream *s, const void *buf, size_t len)
{
    ssize_t n = send(s->fd, buf, len, MSG_DONTWAIT | MSG_NOSIGNAL);

    (void)n;
}
