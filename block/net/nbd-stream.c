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

/* Bytes of data in a record of TLS, at most. */
#define TLS_RECORD 16384

void nbd_stream_init(NBDStream *s, int fd)
{
    s->fd = fd;
    s->tls = NULL;
    s->head = s->tail = 0;
    s->drained = true;
    s->moved = 0;
}

static size_t take_buffered(NBDStream *s, void *buf, size_t len)
{
    size_t n = MIN(len, s->tail - s->head);

    memcpy(buf, s->buf + s->head, n);
    s->head += n;
    return n;
}

/* At least one byte, 0 at the end, -errno. GnuTLS has a buffer of its own. */
static ssize_t coroutine_fn receive_tls(NBDStream *s, void *buf, size_t len)
{
    for (;;) {
        ssize_t n = crypto_tls_read(s->tls, buf, len);
        int ret;

        if (n != -EAGAIN) {
            qatomic_inc(&s->moved);
            return n;
        }
        ret = qemu_co_wait_fd(s->fd, POLLIN);
        if (ret < 0) {
            return ret;
        }
    }
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
    qatomic_inc(&s->moved);
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
        ssize_t ret = s->tls ? receive_tls(s, p + n, len - n)
                             : receive(s, p + n, len - n);

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

bool nbd_stream_has_more(const NBDStream *s)
{
    return s->head < s->tail;
}

static int coroutine_fn send_tls(NBDStream *s, const uint8_t *p, size_t len)
{
    while (len) {
        ssize_t n = crypto_tls_write(s->tls, p, len);

        if (n >= 0) {
            qatomic_inc(&s->moved);
            p += n;
            len -= n;
        } else if (n == -EAGAIN) {
            int ret = qemu_co_wait_fd(s->fd, POLLOUT);

            if (ret < 0) {
                return ret;
            }
        } else {
            return n;
        }
    }
    return 0;
}

/* In whole records: short pieces are put together. */
static int coroutine_fn write_tls(NBDStream *s, struct iovec *iov,
                                  unsigned niov)
{
    g_autofree uint8_t *record = g_malloc(TLS_RECORD);
    int ret = 0;

    while (niov && ret >= 0) {
        size_t len = TLS_RECORD;

        if (iov->iov_len >= TLS_RECORD) {
            ret = send_tls(s, iov->iov_base, len);
        } else {
            len = iov_to_buf(iov, niov, 0, record, TLS_RECORD);
            ret = send_tls(s, record, len);
        }
        iov_discard_front(&iov, &niov, len);
        while (niov && !iov->iov_len) {
            iov++;
            niov--;
        }
    }
    return ret;
}

/* After a write that returned @n: if it could not go on, waits until it can.
 * 0 or -errno. */
static int coroutine_fn after_write(NBDStream *s, ssize_t n)
{
    int ret;

    if (n >= 0) {
        qatomic_inc(&s->moved);
        return 0;
    }
    if (errno == EINTR) {
        return 0;
    }
    if (errno != EAGAIN && errno != EWOULDBLOCK) {
        return -errno;
    }
    ret = qemu_co_wait_fd(s->fd, POLLOUT);
    return MIN(ret, 0);
}

static int coroutine_fn write_plain(NBDStream *s, struct iovec *iov,
                                    unsigned niov)
{
    struct msghdr msg = { 0 };

    while (niov) {
        ssize_t n;
        int ret;

        msg.msg_iov = iov;
        msg.msg_iovlen = MIN(niov, IOV_MAX);
        n = sendmsg(s->fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
        ret = after_write(s, n);
        if (ret < 0) {
            return ret;
        }
        iov_discard_front(&iov, &niov, MAX(n, 0));
        while (niov && !iov->iov_len) {
            iov++;
            niov--;
        }
    }
    return 0;
}

int coroutine_fn nbd_stream_write(NBDStream *s, struct iovec *iov,
                                  unsigned niov)
{
    return s->tls ? write_tls(s, iov, niov) : write_plain(s, iov, niov);
}

int coroutine_fn nbd_stream_splice(NBDStream *s, int pipe, size_t len)
{
    assert(!s->tls);
    while (len) {
        ssize_t n = splice(pipe, NULL, s->fd, NULL, len, SPLICE_F_NONBLOCK);
        int ret = n ? after_write(s, n) : -EIO;     /* 0: there was less */

        if (ret < 0) {
            return ret;
        }
        len -= MAX(n, 0);
    }
    return 0;
}

void nbd_stream_try_write(NBDStream *s, const void *buf, size_t len)
{
    ssize_t n = s->tls ? crypto_tls_write(s->tls, buf, len)
                       : send(s->fd, buf, len, MSG_DONTWAIT | MSG_NOSIGNAL);

    (void)n;
}

bool coroutine_fn nbd_stream_start_tls(NBDStream *s, CryptoTLSCreds *creds,
                                       const char *hostname, Error **errp)
{
    CryptoTLSSession *tls;
    int ret;

    /* It was sent in the clear, by whomever. */
    if (nbd_stream_has_more(s)) {
        error_setg(errp, "Unexpected data before the start of TLS");
        return false;
    }
    tls = crypto_tls_session_new(creds, hostname, s->fd, errp);
    if (!tls) {
        return false;
    }
    while ((ret = crypto_tls_handshake(tls, errp)) > 0) {
        ret = qemu_co_wait_fd(s->fd, ret);
        if (ret < 0) {
            error_setg_errno(errp, -ret, "TLS handshake failed");
            break;
        }
    }
    if (ret < 0) {
        crypto_tls_session_free(tls);
        return false;
    }
    s->tls = tls;
    return true;
}

void nbd_stream_clear(NBDStream *s)
{
    if (s->tls) {
        crypto_tls_bye(s->tls);
        crypto_tls_session_free(s->tls);
        s->tls = NULL;
    }
}
