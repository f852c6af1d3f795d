/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * --chardev BACKEND,id=ID,...: the traditional flat options as the backend's
 * typed ones. Every option is taken out of the dictionary when it is used, and
 * what is left at the end was meant for somebody else.
 */
#include "util/osdep.h"
#include "char-int.h"
#include "qobject/qdict.h"
#include "util/cutils.h"

static char *take_str(QDict *opts, const char *name)
{
    char *value = g_strdup(qdict_get_try_str(opts, name));

    qdict_del(opts, name);
    return value;
}

/* *@has and *@value stay as they are if it was not given. */
static bool take_bool(QDict *opts, const char *name, bool *has, bool *value,
                      Error **errp)
{
    g_autofree char *text = take_str(opts, name);

    if (!text) {
        return true;
    }
    if (has) {
        *has = true;
    }
    return qapi_bool_parse(name, text, value, errp);
}

static bool take_to(QDict *opts, InetSocketAddress *inet, Error **errp)
{
    g_autofree char *text = take_str(opts, "to");
    uint64_t to;

    if (!text) {
        return true;
    }
    if (parse_uint_full(text, 10, &to) < 0 || to > UINT16_MAX) {
        error_setg(errp, "Parameter 'to' expects a port number");
        return false;
    }
    inet->has_to = true;
    inet->to = to;
    return true;
}

static bool parse_unix(QDict *opts, char *path, SocketAddressLegacy *addr,
                       Error **errp)
{
    UnixSocketAddress *un = g_new0(UnixSocketAddress, 1);

    addr->type = SOCKET_ADDRESS_TYPE_UNIX;
    addr->u.q_unix.data = un;
    un->path = path;
    return take_bool(opts, "abstract", &un->has_abstract, &un->abstract,
                     errp) &&
           take_bool(opts, "tight", &un->has_tight, &un->tight, errp);
}

static bool parse_inet(QDict *opts, char *host, SocketAddressLegacy *addr,
                       Error **errp)
{
    InetSocketAddress *inet = g_new0(InetSocketAddress, 1);

    addr->type = SOCKET_ADDRESS_TYPE_INET;
    addr->u.inet.data = inet;
    inet->host = host ?: g_strdup("");
    inet->port = take_str(opts, "port");
    return take_to(opts, inet, errp) &&
           take_bool(opts, "ipv4", &inet->has_ipv4, &inet->ipv4, errp) &&
           take_bool(opts, "ipv6", &inet->has_ipv6, &inet->ipv6, errp);
}

static bool parse_address(QDict *opts, SocketAddressLegacy *addr,
                          Error **errp)
{
    char *path = take_str(opts, "path");
    char *host = take_str(opts, "host");
    char *fd = take_str(opts, "fd");
    bool has_port = qdict_haskey(opts, "port");

    if (!!path + !!fd + (host || has_port) != 1) {
        error_setg(errp, path || fd || host || has_port
                         ? "None or one of 'path', 'fd' or 'host' option "
                           "required."
                         : "chardev: socket: no host given");
        g_free(path);
        g_free(host);
        g_free(fd);
        return false;
    }
    if (path) {
        return parse_unix(opts, path, addr, errp);
    }
    if (fd) {
        addr->type = SOCKET_ADDRESS_TYPE_FD;
        addr->u.fd.data = g_new0(FdSocketAddress, 1);
        addr->u.fd.data->str = fd;
        return true;
    }
    if (!has_port) {
        error_setg(errp, "chardev: socket: no port given");
        g_free(host);
        return false;
    }
    return parse_inet(opts, host, addr, errp);
}

static bool parse_socket(QDict *opts, ChardevBackend *backend, Error **errp)
{
    ChardevSocket *socket = g_new0(ChardevSocket, 1);

    backend->u.socket.data = socket;
    /* Unlike chardev-add's, this server option is off if left out, and a
     * server waits if not told otherwise. */
    socket->has_server = true;
    if (!take_bool(opts, "server", NULL, &socket->server, errp)) {
        return false;
    }
    if (socket->server) {
        socket->has_wait = socket->wait = true;
    }
    if (!take_bool(opts, "wait", &socket->has_wait, &socket->wait, errp) ||
        !take_bool(opts, "nodelay", &socket->has_nodelay, &socket->nodelay,
                   errp)) {
        return false;
    }
    if (socket->has_wait && !socket->server) {
        error_setg(errp, "'wait' option is incompatible with socket in client "
                   "connect mode");
        return false;
    }
    socket->addr = g_new0(SocketAddressLegacy, 1);
    return parse_address(opts, socket->addr, errp);
}

static bool parse_kind(QDict *opts, ChardevBackend *backend, Error **errp)
{
    ChardevStdio *stdio;

    switch (backend->type) {
    case CHARDEV_BACKEND_KIND_SOCKET:
        return parse_socket(opts, backend, errp);
    case CHARDEV_BACKEND_KIND_STDIO:
        stdio = backend->u.stdio.data = g_new0(ChardevStdio, 1);
        return take_bool(opts, "signal", &stdio->has_signal, &stdio->signal,
                         errp);
    default:
        backend->u.null.data = g_new0(ChardevCommon, 1);
        return true;
    }
}

ChardevBackend *chardev_parse_backend(QDict *opts, Error **errp)
{
    g_autoptr(ChardevBackend) backend = g_new0(ChardevBackend, 1);
    g_autofree char *name = take_str(opts, "backend");
    int kind = qapi_enum_parse(&ChardevBackendKind_lookup, name, -1, NULL);

    if (!name) {
        error_setg(errp, "chardev: missing backend");
        return NULL;
    }
    if (kind < 0) {
        error_setg(errp, "'%s' is not a valid char driver name", name);
        return NULL;
    }
    backend->type = kind;
    if (!parse_kind(opts, backend, errp)) {
        return NULL;
    }
    if (qdict_size(opts)) {
        error_setg(errp, "Invalid parameter '%s'",
                   qdict_entry_key(qdict_first(opts)));
        return NULL;
    }
    return g_steal_pointer(&backend);
}
