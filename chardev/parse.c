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

/* What the backend has in common with all others. */
static bool take_common(QDict *opts, ChardevCommon *common, Error **errp)
{
    common->logfile = take_str(opts, "logfile");
    return take_bool(opts, "logappend", &common->has_logappend,
                     &common->logappend, errp);
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
                   errp) ||
        !take_common(opts, qapi_ChardevSocket_base(socket), errp)) {
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

static bool parse_file(QDict *opts, ChardevBackend *backend, Error **errp)
{
    ChardevFile *file = backend->u.file.data = g_new0(ChardevFile, 1);

    file->out = take_str(opts, "path");
    if (!file->out) {
        error_setg(errp, "chardev: file: no filename given");
        return false;
    }
    file->in = take_str(opts, "input-path");
    return take_bool(opts, "append", &file->has_append, &file->append, errp) &&
           take_common(opts, qapi_ChardevFile_base(file), errp);
}

static bool parse_pipe(QDict *opts, ChardevBackend *backend, Error **errp)
{
    ChardevHostdev *pipe = backend->u.pipe.data = g_new0(ChardevHostdev, 1);

    pipe->device = take_str(opts, "path");
    if (!pipe->device) {
        error_setg(errp, "chardev: pipe: no device path given");
        return false;
    }
    return take_common(opts, qapi_ChardevHostdev_base(pipe), errp);
}

static bool parse_pty(QDict *opts, ChardevBackend *backend, Error **errp)
{
    ChardevPty *pty = backend->u.pty.data = g_new0(ChardevPty, 1);

    pty->path = take_str(opts, "path");
    return take_common(opts, qapi_ChardevPty_base(pty), errp);
}

static bool parse_ringbuf(QDict *opts, ChardevRingbuf *ringbuf, Error **errp)
{
    g_autofree char *text = take_str(opts, "size");
    uint64_t size = 0;

    if (text && qemu_strtosz(text, NULL, &size) < 0) {
        error_setg(errp, "Parameter 'size' expects a non-negative number "
                   "below 2^64");
        return false;
    }
    if (size > INT64_MAX) {
        error_setg(errp, "size of ringbuf chardev must be power of two");
        return false;
    }
    /* 0 has always meant the default here. */
    ringbuf->has_size = size != 0;
    ringbuf->size = size;
    return take_common(opts, qapi_ChardevRingbuf_base(ringbuf), errp);
}

static SocketAddressLegacy *new_inet(InetSocketAddress **inet)
{
    SocketAddressLegacy *addr = g_new0(SocketAddressLegacy, 1);

    addr->type = SOCKET_ADDRESS_TYPE_INET;
    *inet = addr->u.inet.data = g_new0(InetSocketAddress, 1);
    return addr;
}

static bool parse_udp(QDict *opts, ChardevBackend *backend, Error **errp)
{
    ChardevUdp *udp = backend->u.udp.data = g_new0(ChardevUdp, 1);
    InetSocketAddress *inet;

    udp->remote = new_inet(&inet);
    inet->host = take_str(opts, "host") ?: g_strdup("localhost");
    inet->port = take_str(opts, "port");
    if (!inet->port) {
        error_setg(errp, "chardev: udp: remote port not specified");
        return false;
    }
    if (!take_bool(opts, "ipv4", &inet->has_ipv4, &inet->ipv4, errp) ||
        !take_bool(opts, "ipv6", &inet->has_ipv6, &inet->ipv6, errp)) {
        return false;
    }
    if (qdict_haskey(opts, "localaddr") || qdict_haskey(opts, "localport")) {
        udp->local = new_inet(&inet);
        inet->host = take_str(opts, "localaddr") ?: g_strdup("");
        inet->port = take_str(opts, "localport") ?: g_strdup("0");
    }
    return take_common(opts, qapi_ChardevUdp_base(udp), errp);
}

static bool parse_stdio(QDict *opts, ChardevBackend *backend, Error **errp)
{
    ChardevStdio *stdio = backend->u.stdio.data = g_new0(ChardevStdio, 1);

    return take_bool(opts, "signal", &stdio->has_signal, &stdio->signal,
                     errp) &&
           take_common(opts, qapi_ChardevStdio_base(stdio), errp);
}

static bool parse_kind(QDict *opts, ChardevBackend *backend, Error **errp)
{
    switch (backend->type) {
    case CHARDEV_BACKEND_KIND_FILE:
        return parse_file(opts, backend, errp);
    case CHARDEV_BACKEND_KIND_PIPE:
        return parse_pipe(opts, backend, errp);
    case CHARDEV_BACKEND_KIND_SOCKET:
        return parse_socket(opts, backend, errp);
    case CHARDEV_BACKEND_KIND_UDP:
        return parse_udp(opts, backend, errp);
    case CHARDEV_BACKEND_KIND_PTY:
        return parse_pty(opts, backend, errp);
    case CHARDEV_BACKEND_KIND_STDIO:
        return parse_stdio(opts, backend, errp);
    case CHARDEV_BACKEND_KIND_RINGBUF:
        backend->u.ringbuf.data = g_new0(ChardevRingbuf, 1);
        return parse_ringbuf(opts, backend->u.ringbuf.data, errp);
    case CHARDEV_BACKEND_KIND_MEMORY:
        backend->u.memory.data = g_new0(ChardevRingbuf, 1);
        return parse_ringbuf(opts, backend->u.memory.data, errp);
    case CHARDEV_BACKEND_KIND_NULL:
        backend->u.null.data = g_new0(ChardevCommon, 1);
        return take_common(opts, backend->u.null.data, errp);
    default:
        g_assert_not_reached();
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
