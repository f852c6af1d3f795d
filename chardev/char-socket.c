/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Character devices on stream sockets. A server has one connection at a time:
 * while there is one the listening socket is not looked at, and further clients
 * wait in its queue.
 */
#include "util/osdep.h"
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include "char-int.h"
#include "qapi/qapi-visit.h"
#include "qapi/qobject-output-visitor.h"
#include "qobject/qbool.h"
#include "sockets/listener.h"
#include "sockets/sockets.h"

#define BACKLOG 128

typedef struct SocketChardev {
    SocketAddress *addr;
    bool server;
    bool nodelay;
    SocketListener listener;    /* closed for a client */
    int fd;                     /* -1: not connected */
} SocketChardev;

static void socket_connected(Chardev *chr, int fd)
{
    SocketChardev *s = chr->opaque;
    int on = 1;

    s->fd = fd;
    if (s->nodelay && s->addr->type == SOCKET_ADDRESS_TYPE_INET) {
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    }
    chardev_stream_connect(chr, fd, fd);
}

static void socket_incoming(void *opaque, int fd)
{
    Chardev *chr = opaque;
    SocketChardev *s = chr->opaque;

    socket_listener_switch(&s->listener, false);
    socket_connected(chr, fd);
}

static void socket_disconnected(Chardev *chr)
{
    SocketChardev *s = chr->opaque;

    close(s->fd);
    s->fd = -1;
    socket_listener_switch(&s->listener, true);
}

static char *socket_filename(Chardev *chr)
{
    SocketChardev *s = chr->opaque;
    g_autofree char *uri = socket_uri(s->addr);

    return g_strdup_printf("%s%s%s", s->fd < 0 ? "disconnected:" : "", uri,
                           s->server ? ",server=on" : "");
}

/* The first connection of a server that waits for it. */
static bool socket_wait(Chardev *chr, Error **errp)
{
    SocketChardev *s = chr->opaque;
    g_autofree char *name = socket_filename(chr);
    struct pollfd pfd = { .fd = s->listener.fd, .events = POLLIN };
    int fd = -1;

    info_report("QEMU waiting for connection on: %s", name);
    while (fd < 0) {
        if (poll(&pfd, 1, -1) < 0 && errno == EINTR) {
            error_setg(errp, "Interrupted while waiting for a connection");
            return false;
        }
        fd = socket_accept(s->listener.fd);
        if (fd < 0 && errno != EAGAIN) {
            error_setg_errno(errp, errno, "Unable to accept connection");
            return false;
        }
    }
    socket_connected(chr, fd);
    return true;
}

static bool socket_serve(Chardev *chr, bool wait, Error **errp)
{
    SocketChardev *s = chr->opaque;
    SocketAddress *local;

    if (!socket_listener_open(&s->listener, s->addr, BACKLOG, socket_incoming,
                              chr, errp)) {
        return false;
    }
    if (s->addr->type == SOCKET_ADDRESS_TYPE_INET) {
        /* The port may have been chosen by the system. */
        local = socket_local_address(s->listener.fd, NULL);
        if (local) {
            qapi_free_SocketAddress(s->addr);
            s->addr = local;
        }
    }
    if (wait) {
        return socket_wait(chr, errp);
    }
    socket_listener_switch(&s->listener, true);
    return true;
}

static void socket_close(Chardev *chr)
{
    SocketChardev *s = chr->opaque;

    if (s->fd >= 0) {
        close(s->fd);
    }
    socket_listener_close(&s->listener);
    qapi_free_SocketAddress(s->addr);
    g_free(s);
    chr->opaque = NULL;
}

static bool socket_open(Chardev *chr, const ChardevBackend *backend,
                        Error **errp)
{
    const ChardevSocket *opts = backend->u.socket.data;
    SocketChardev *s = g_new0(SocketChardev, 1);
    bool wait = opts->has_wait && opts->wait;

    chr->opaque = s;
    s->addr = socket_address_flatten(opts->addr);
    s->server = !opts->has_server || opts->server;
    s->nodelay = opts->has_nodelay && opts->nodelay;
    s->listener.fd = s->fd = -1;
    if (s->server) {
        if (!socket_serve(chr, wait, errp)) {
            socket_close(chr);
            return false;
        }
        return true;
    }
    if (wait) {
        error_setg(errp, "'wait' option is incompatible with socket in client "
                   "connect mode");
        socket_close(chr);
        return false;
    }
    s->fd = socket_connect(s->addr, errp);
    if (s->fd < 0) {
        socket_close(chr);
        return false;
    }
    socket_set_nonblock(s->fd, true);
    socket_connected(chr, s->fd);
    return true;
}

/* --- properties --- */

static QObject *get_connected(const QomObject *obj, const QomProperty *p)
{
    const Chardev *chr = obj->instance;

    return QOBJECT(qbool_from_bool(chr->connected));
}

static QObject *get_addr(const QomObject *obj, const QomProperty *p)
{
    const Chardev *chr = obj->instance;
    SocketChardev *s = chr->opaque;
    QObject *result;
    Visitor *v = qobject_output_visitor_new(&result);

    visit_type_SocketAddress(v, NULL, &s->addr, &error_abort);
    visit_complete(v, &result);
    visit_free(v);
    return result;
}

static const QomProperty socket_properties[] = {
    { "addr", "SocketAddress", get_addr },
    { "connected", "bool", get_connected },
    { }
};

const ChardevClass chardev_class_socket = {
    .qom = {
        .name = "chardev-socket",
        .parent = &chardev_type,
        .properties = socket_properties,
    },
    .open = socket_open,
    .close = socket_close,
    .disconnected = socket_disconnected,
    .next_peer_waits = true,
    .filename = socket_filename,
};
