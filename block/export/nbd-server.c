/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The listening socket and the clients.
 *
 * With as many clients as are allowed, further ones wait in the socket's queue.
 * The handshake has a time limit, so nobody occupies a place by saying nothing.
 */
#include "util/osdep.h"
#include "nbd-int.h"
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include "block/nbd-server.h"
#include "objects/authz.h"
#include "objects/tls-creds.h"
#include "sockets/listener.h"
#include "util/aio.h"

#define BACKLOG 1024

typedef struct NBDServer {
    UserObject *creds;          /* NULL: no TLS; a use of it */
    UserObject *authz;          /* NULL: whoever has a certificate; a use */
    SocketListener listener;    /* its fd is -1 when the server ends */
    uint32_t max_connections;
    uint32_t handshake_secs;
    unsigned nr_clients;
    QTAILQ_HEAD(, NBDClient) clients;
} NBDServer;

static NBDServer *server;       /* NULL: not running */

static void (*gone_cb)(void *opaque);
static void *gone_opaque;

/* --- clients --- */

void nbd_client_disconnect(NBDClient *client)
{
    /* Whoever waits for the socket, in whatever thread, sees its end. */
    shutdown(client->stream.fd, SHUT_RDWR);
}

void nbd_server_disconnect(const NBDExport *exp)
{
    NBDClient *client;

    if (server) {
        QTAILQ_FOREACH(client, &server->clients, next) {
            if (client->exp == exp || client->asked_about == exp) {
                nbd_client_disconnect(client);
            }
        }
    }
}

bool nbd_server_single_client(void)
{
    return server->max_connections == 1;
}

CryptoTLSCreds *nbd_server_creds(void)
{
    return server->creds ? user_object_data(server->creds) : NULL;
}

bool nbd_server_admits(const char *name, Error **errp)
{
    if (!server->authz) {
        return true;
    }
    if (!name) {
        error_setg(errp, "The client has no certificate");
        return false;
    }
    return authz_is_allowed(server->authz, name, errp);
}

static void update_listening(void);

static void client_end(NBDClient *client)
{
    bool had_export = client->exp;

    QTAILQ_REMOVE(&server->clients, client, next);
    server->nr_clients--;
    nbd_stream_clear(&client->stream);
    close(client->stream.fd);
    if (client->exp) {
        blk_exp_unref(&client->exp->common);
    }
    nbd_meta_clear(&client->meta);
    g_free(client);
    update_listening();
    aio_wait_kick();
    if (had_export && gone_cb) {
        gone_cb(gone_opaque);
    }
}

static void handshake_too_long(void *opaque)
{
    nbd_client_disconnect(opaque);
}

static void coroutine_fn client_entry(void *opaque)
{
    NBDClient *client = opaque;
    bool serve;

    if (server->handshake_secs) {
        timer_mod_ns(&client->timer, get_clock() + server->handshake_secs *
                                     NANOSECONDS_PER_SECOND);
    }
    serve = nbd_handshake(client);
    timer_del(&client->timer);
    if (serve) {
        aio_co_reschedule_self(client->ctx);
        nbd_serve(client);
        aio_co_reschedule_self(qemu_get_aio_context());
    }
    client_end(client);
}

static void client_begin(void *opaque, int fd)
{
    NBDClient *client = g_new0(NBDClient, 1);
    int on = 1;

    /* Those that are not for this kind of socket fail. */
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
    nbd_stream_init(&client->stream, fd);
    aio_timer_init(qemu_get_aio_context(), &client->timer, QEMU_CLOCK_REALTIME,
                   SCALE_NS, handshake_too_long, client);
    QTAILQ_INSERT_TAIL(&server->clients, client, next);
    server->nr_clients++;
    aio_co_enter(qemu_get_aio_context(),
                 qemu_coroutine_create(client_entry, client));
    update_listening();
}

/* --- listening --- */

static bool is_full(void)
{
    return server->max_connections &&
           server->nr_clients >= server->max_connections;
}

static void update_listening(void)
{
    socket_listener_switch(&server->listener, !is_full());
}

/* --- life --- */

/* Uses of the objects for TLS, as far as they are wanted. */
static bool use_tls(const NBDServerConfig *config, UserObject **creds,
                    UserObject **authz, Error **errp)
{
    if (config->tls_authz && !config->tls_creds) {
        error_setg(errp, "tls-authz needs tls-creds");
        return false;
    }
    if (!config->tls_creds) {
        return true;
    }
    *creds = tls_creds_use(config->tls_creds, true, errp);
    if (!*creds || !config->tls_authz) {
        return *creds;
    }
    /* Else it would be asked for nobody, or about nobody. */
    if (!crypto_tls_creds_know_peer(user_object_data(*creds))) {
        error_setg(errp, "tls-authz needs TLS credentials of type "
                   "tls-creds-x509 with verify-peer=on");
        return false;
    }
    *authz = authz_use(config->tls_authz, errp);
    return *authz;
}

bool nbd_server_start(const NBDServerConfig *config, Error **errp)
{
    NBDServer *s;

    if (server) {
        error_setg(errp, "NBD server already running");
        return false;
    }
    s = g_new0(NBDServer, 1);
    if (!use_tls(config, &s->creds, &s->authz, errp) ||
        !socket_listener_open(&s->listener, config->addr, BACKLOG,
                              client_begin, NULL, errp)) {
        user_object_unuse(s->authz);
        user_object_unuse(s->creds);
        g_free(s);
        return false;
    }
    s->max_connections = config->max_connections;
    s->handshake_secs = config->handshake_secs;
    QTAILQ_INIT(&s->clients);
    server = s;
    update_listening();
    return true;
}

bool nbd_server_start_options(const NbdServerOptions *o, Error **errp)
{
    NBDServerConfig config = {
        .addr = o->addr,
        .tls_creds = o->tls_creds,
        .tls_authz = o->tls_authz,
        .max_connections = o->has_max_connections
                           ? o->max_connections : NBD_DEFAULT_MAX_CONNECTIONS,
        .handshake_secs = o->has_handshake_max_seconds
                          ? o->handshake_max_seconds
                          : NBD_DEFAULT_HANDSHAKE_MAX_SECS,
    };

    return nbd_server_start(&config, errp);
}

bool nbd_server_is_running(void)
{
    return server;
}

unsigned nbd_server_nr_clients(void)
{
    return server ? server->nr_clients : 0;
}

void nbd_server_set_gone_cb(void (*cb)(void *opaque), void *opaque)
{
    gone_cb = cb;
    gone_opaque = opaque;
}

void nbd_server_stop(void)
{
    NBDClient *client;

    if (!server) {
        return;
    }
    socket_listener_close(&server->listener);
    blk_exp_close_all_type(BLOCK_EXPORT_TYPE_NBD);
    QTAILQ_FOREACH(client, &server->clients, next) {
        nbd_client_disconnect(client);      /* those in their handshake */
    }
    AIO_WAIT_WHILE(NULL, server->nr_clients);
    user_object_unuse(server->authz);
    user_object_unuse(server->creds);
    g_free(server);
    server = NULL;
}
