/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Datagrams as a character device: each piece of output is one, or as many as
 * are needed. Whether somebody is there cannot be told, and what does not
 * arrive is lost: there is one connection, and it does not end.
 */
#include "util/osdep.h"
#include <sys/socket.h>
#include "char-int.h"
#include "sockets/sockets.h"

#define MAX_DATAGRAM 65507      /* UDP over IPv4 */

typedef struct UdpChardev {
    int fd;
} UdpChardev;

static void udp_close(Chardev *chr)
{
    UdpChardev *s = chr->opaque;

    close(s->fd);
    g_free(s);
}

static bool udp_open(Chardev *chr, const ChardevBackend *backend,
                     Error **errp)
{
    const ChardevUdp *opts = backend->u.udp.data;
    g_autoptr(SocketAddress) remote = socket_address_flatten(opts->remote);
    g_autoptr(SocketAddress) local = opts->local
                                     ? socket_address_flatten(opts->local)
                                     : NULL;
    int fd = socket_dgram(remote, local, errp);
    UdpChardev *s;

    if (fd < 0) {
        return false;
    }
    socket_set_nonblock(fd, true);
    s = chr->opaque = g_new0(UdpChardev, 1);
    s->fd = fd;
    chardev_stream_connect(chr, fd, fd);
    return true;
}

/* Nothing that can be said about a datagram is an end. */
static ssize_t udp_receive(Chardev *chr, void *buf, size_t len)
{
    UdpChardev *s = chr->opaque;
    ssize_t n = recv(s->fd, buf, len, 0);

    if (n <= 0) {
        errno = EAGAIN;
        return -1;
    }
    return n;
}

static ssize_t udp_send(Chardev *chr, const char *buf, size_t len)
{
    UdpChardev *s = chr->opaque;
    size_t part = MIN(len, MAX_DATAGRAM);
    ssize_t n = send(s->fd, buf, part, 0);

    if (n < 0 && errno == ECONNREFUSED) {
        /* That was about an earlier one. */
        n = send(s->fd, buf, part, 0);
    }
    return n < 0 && errno != EAGAIN && errno != EINTR ? (ssize_t)part : n;
}

static void udp_disconnected(Chardev *chr)
{
    UdpChardev *s = chr->opaque;

    chardev_stream_connect(chr, s->fd, s->fd);
}

const ChardevClass chardev_class_udp = {
    .qom = {
        .name = "chardev-udp",
        .parent = &chardev_type,
    },
    .open = udp_open,
    .close = udp_close,
    .disconnected = udp_disconnected,
    .receive = udp_receive,
    .send = udp_send,
};
