/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One attempt to get a connection: a thread of the pool connects, since that may
 * block for minutes, and the handshake follows in a coroutine of the main thread.
 *
 * The thread cannot be called back. Whoever does not want to wait any more leaves
 * it alone: the dial is its own, and closes the socket that nobody waits for.
 */
#include "util/osdep.h"
#include "block/net/nbd-client.h"
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include "qapi/clone-visitor.h"
#include "qapi/qapi-visit.h"
#include "sockets/sockets.h"
#include "util/aio.h"
#include "util/thread-pool.h"

/* Main thread, but for what the pool does in between. */
typedef struct NBDDial {
    SocketAddress *addr;
    int fd;
    Error *err;
    bool done;
    NBDAttempt *attempt;    /* who waits; NULL: nobody any more */
} NBDDial;

static int dial_thread(void *opaque)
{
    NBDDial *dial = opaque;
    int on = 1;

    dial->fd = socket_connect(dial->addr, &dial->err);
    if (dial->fd >= 0) {
        socket_set_nonblock(dial->fd, true);
        /* Fails for those that are not TCP. */
        setsockopt(dial->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    }
    return 0;
}

static void dial_free(NBDDial *dial)
{
    if (dial->fd >= 0) {
        close(dial->fd);
    }
    error_free(dial->err);
    qapi_free_SocketAddress(dial->addr);
    g_free(dial);
}

static void coroutine_fn dial_entry(void *opaque)
{
    NBDDial *dial = opaque;
    int ret = thread_pool_submit_co(dial_thread, dial);

    if (ret < 0) {
        error_setg_errno(&dial->err, -ret, "Failed to start a thread");
    }
    dial->done = true;
    if (!dial->attempt) {
        dial_free(dial);
    } else if (dial->attempt->co) {
        aio_co_wake(g_steal_pointer(&dial->attempt->co));
    }
}

/* A connected socket, or -1. */
static int coroutine_fn dial(NBDAttempt *a, const SocketAddress *addr,
                             Error **errp)
{
    NBDDial *dial;
    int fd;

    if (a->cancelled) {
        error_setg(errp, "Connecting was given up");
        return -1;
    }
    if (addr->type == SOCKET_ADDRESS_TYPE_FD && a->fd_used) {
        /* The number may be that of another socket by now. */
        error_setg(errp, "A socket that was passed can be used only once");
        return -1;
    }
    a->fd_used = true;
    dial = g_new0(NBDDial, 1);
    dial->addr = QAPI_CLONE(SocketAddress, addr);
    dial->fd = -1;
    dial->attempt = a;
    a->dial = dial;
    aio_co_enter(qemu_get_aio_context(),
                 qemu_coroutine_create(dial_entry, dial));
    while (!dial->done && !a->cancelled) {
        a->co = qemu_coroutine_self();
        qemu_coroutine_yield();
    }
    a->dial = NULL;
    if (!dial->done) {
        dial->attempt = NULL;
        error_setg(errp, "Connecting was given up");
        return -1;
    }
    fd = dial->fd;
    dial->fd = -1;
    error_propagate(errp, g_steal_pointer(&dial->err));
    dial_free(dial);
    return fd;
}

static void too_long(void *opaque)
{
    NBDAttempt *a = opaque;

    a->too_long = true;
    shutdown(a->conn->stream.fd, SHUT_RDWR);
}

static bool coroutine_fn shake_hands(NBDAttempt *a,
                                     const BlockdevOptionsNbd *o,
                                     CryptoTLSCreds *creds, Error **errp)
{
    NBDWanted wanted = {
        .export = o->export ?: "",
        .context = o->x_dirty_bitmap ?: NBD_META_BASE_ALLOCATION,
        .creds = creds,
        .hostname = o->tls_hostname,
    };
    bool ok;

    if (!wanted.hostname && o->server->type == SOCKET_ADDRESS_TYPE_INET) {
        wanted.hostname = o->server->u.inet.host;
    }
    aio_timer_init(qemu_get_aio_context(), &a->timer, QEMU_CLOCK_REALTIME,
                   SCALE_NS, too_long, a);
    timer_mod_ns(&a->timer, get_clock() + NBD_CLIENT_HANDSHAKE_SECS *
                            NANOSECONDS_PER_SECOND);
    ok = nbd_negotiate(&a->conn->stream, &wanted, &a->conn->info, errp);
    timer_del(&a->timer);
    if (ok && (a->cancelled || a->too_long)) {
        error_setg(errp, "Connecting was given up");
        ok = false;
    } else if (!ok && a->too_long) {
        error_append_hint(errp, "The server took more than %d seconds\n",
                          NBD_CLIENT_HANDSHAKE_SECS);
    }
    return ok;
}

NBDConn *coroutine_fn nbd_connect(NBDAttempt *a, const BlockdevOptionsNbd *o,
                                  CryptoTLSCreds *creds, Error **errp)
{
    NBDConn *c;
    int fd = dial(a, o->server, errp);

    if (fd < 0) {
        return NULL;
    }
    if (a->cancelled) {
        close(fd);
        error_setg(errp, "Connecting was given up");
        return NULL;
    }
    c = nbd_conn_new(fd);
    a->conn = c;
    if (!shake_hands(a, o, creds, errp)) {
        a->conn = NULL;
        nbd_conn_free(c, false);
        return NULL;
    }
    a->conn = NULL;
    c->since_ns = get_clock();
    return c;
}

void nbd_connect_cancel(NBDAttempt *a)
{
    a->cancelled = true;
    if (a->dial && a->co) {
        aio_co_wake(g_steal_pointer(&a->co));
    }
    if (a->conn) {
        shutdown(a->conn->stream.fd, SHUT_RDWR);
    }
}
