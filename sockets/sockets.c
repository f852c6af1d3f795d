/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Making sockets: listening and connected ones of every kind of address. */
#include "util/osdep.h"
#include <fcntl.h>
#include <linux/vm_sockets.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/un.h>
#include "sockets/sockets.h"
#include "qapi/clone-visitor.h"
#include "qapi/qapi-visit.h"
#include "util/cutils.h"

int socket_set_nonblock(int fd, bool nonblock)
{
    int flags = fcntl(fd, F_GETFL);

    if (flags < 0) {
        return -errno;
    }
    flags = nonblock ? flags | O_NONBLOCK : flags & ~O_NONBLOCK;
    return fcntl(fd, F_SETFL, flags) < 0 ? -errno : 0;
}

static int new_socket(int family, int protocol, Error **errp)
{
    int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, protocol);

    if (fd < 0) {
        error_setg_errno(errp, errno, "Failed to create socket");
    }
    return fd;
}

/* Closes @fd and gives -1; errno stays. */
static int discard(int fd)
{
    int saved_errno = errno;

    if (fd >= 0) {
        close(fd);
    }
    errno = saved_errno;
    return -1;
}

/* --- inet --- */

static int wanted_family(const InetSocketAddress *addr, Error **errp)
{
    bool v4 = !addr->has_ipv4 || addr->ipv4;
    bool v6 = !addr->has_ipv6 || addr->ipv6;

    /* Asking for one of them alone leaves the other out. */
    if (addr->has_ipv4 && addr->ipv4 && !addr->has_ipv6) {
        v6 = false;
    }
    if (addr->has_ipv6 && addr->ipv6 && !addr->has_ipv4) {
        v4 = false;
    }
    if (!v4 && !v6) {
        error_setg(errp, "Cannot disable IPv4 and IPv6 at same time");
        return -1;
    }
    return v4 && v6 ? AF_UNSPEC : v4 ? AF_INET : AF_INET6;
}

static struct addrinfo *resolve(const InetSocketAddress *addr,
                                const char *port, int type, bool passive,
                                Error **errp)
{
    struct addrinfo hints = {
        .ai_socktype = type,
        .ai_flags = passive ? AI_PASSIVE : 0,
    };
    struct addrinfo *list;
    int family = wanted_family(addr, errp);
    int ret;

    if (family < 0) {
        return NULL;
    }
    hints.ai_family = family;
    if (addr->has_numeric && addr->numeric) {
        hints.ai_flags |= AI_NUMERICHOST | AI_NUMERICSERV;
    }
    ret = getaddrinfo(addr->host[0] ? addr->host : NULL, port, &hints, &list);
    if (ret) {
        error_setg(errp, "address resolution failed for %s:%s: %s",
                   addr->host, port, gai_strerror(ret));
        return NULL;
    }
    return list;
}

static int listen_at(const struct addrinfo *ai, int backlog)
{
    int on = 1;
    int fd = socket(ai->ai_family, ai->ai_socktype | SOCK_CLOEXEC,
                    ai->ai_protocol);

    if (fd < 0) {
        return -1;
    }
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (ai->ai_family == AF_INET6) {
        int v6only = 0;

        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &v6only, sizeof(v6only));
    }
    if (bind(fd, ai->ai_addr, ai->ai_addrlen) < 0 || listen(fd, backlog) < 0) {
        return discard(fd);
    }
    return fd;
}

static int listen_port(const InetSocketAddress *addr, const char *port,
                       int backlog, Error **errp)
{
    struct addrinfo *list = resolve(addr, port, SOCK_STREAM, true, errp);
    int fd = -1;

    if (!list) {
        errno = EINVAL;
        return -1;
    }
    for (struct addrinfo *ai = list; ai && fd < 0; ai = ai->ai_next) {
        fd = listen_at(ai, backlog);
    }
    if (fd < 0) {
        int saved_errno = errno;

        error_setg_errno(errp, errno, "Failed to listen on %s:%s", addr->host,
                         port);
        errno = saved_errno;
    }
    freeaddrinfo(list);
    return fd;
}

static int listen_inet(const InetSocketAddress *addr, int backlog,
                       Error **errp)
{
    uint64_t first;

    if (!addr->has_to) {
        return listen_port(addr, addr->port, backlog, errp);
    }
    if (parse_uint_full(addr->port, 10, &first) < 0 || first > addr->to) {
        error_setg(errp, "port '%s' is not a number up to %u", addr->port,
                   addr->to);
        return -1;
    }
    for (uint64_t port = first; ; port++) {
        g_autofree char *text = g_strdup_printf("%" PRIu64, port);
        Error *err = NULL;
        int fd = listen_port(addr, text, backlog, &err);

        if (fd >= 0) {
            return fd;
        }
        if (errno != EADDRINUSE || port == addr->to) {
            error_propagate(errp, err);
            return -1;
        }
        error_free(err);
    }
}

static int connect_retrying(int fd, const void *sa, socklen_t len)
{
    int ret;

    do {
        ret = connect(fd, sa, len);
    } while (ret < 0 && errno == EINTR);
    return ret;
}

static int connect_inet(const InetSocketAddress *addr, Error **errp)
{
    struct addrinfo *list = resolve(addr, addr->port, SOCK_STREAM, false,
                                    errp);
    int fd = -1;
    int on = 1;

    if (!list) {
        return -1;
    }
    for (struct addrinfo *ai = list; ai && fd < 0; ai = ai->ai_next) {
        fd = socket(ai->ai_family, ai->ai_socktype | SOCK_CLOEXEC,
                    ai->ai_protocol);
        if (fd >= 0 && connect_retrying(fd, ai->ai_addr, ai->ai_addrlen) < 0) {
            fd = discard(fd);
        }
    }
    if (fd < 0) {
        error_setg_errno(errp, errno, "Failed to connect to '%s:%s'",
                         addr->host, addr->port);
    } else if (addr->has_keep_alive && addr->keep_alive) {
        setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
    }
    freeaddrinfo(list);
    return fd;
}

/* --- datagrams --- */

static int bind_any(const struct addrinfo *list, Error **errp)
{
    int on = 1;
    int fd = -1;

    for (const struct addrinfo *ai = list; ai && fd < 0; ai = ai->ai_next) {
        fd = socket(ai->ai_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        if (fd >= 0) {
            setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
            if (bind(fd, ai->ai_addr, ai->ai_addrlen) < 0) {
                fd = discard(fd);
            }
        }
    }
    if (fd < 0) {
        error_setg_errno(errp, errno, "Failed to bind socket");
    }
    return fd;
}

/* A socket at @local, if it is not NULL, that sends to @ai. */
static int dgram_to(const struct addrinfo *ai, const InetSocketAddress *local,
                    Error **errp)
{
    InetSocketAddress addr = { .host = (char *)"", .port = (char *)"0" };
    struct addrinfo *list;
    int family, fd;

    if (local) {
        addr = *local;
    }
    family = wanted_family(&addr, errp);
    if (family != AF_UNSPEC && family != ai->ai_family) {
        error_setg(errp, "The local address is of another family than the "
                   "remote one");
        return -1;
    }
    addr.has_ipv4 = addr.has_ipv6 = true;
    addr.ipv4 = ai->ai_family == AF_INET;
    addr.ipv6 = ai->ai_family == AF_INET6;
    list = resolve(&addr, addr.port, SOCK_DGRAM, true, errp);
    if (!list) {
        return -1;
    }
    fd = bind_any(list, errp);
    freeaddrinfo(list);
    if (fd >= 0 && connect_retrying(fd, ai->ai_addr, ai->ai_addrlen) < 0) {
        error_setg_errno(errp, errno, "Failed to connect socket");
        return discard(fd);
    }
    return fd;
}

static bool fits_datagrams(const SocketAddress *addr, Error **errp)
{
    if (addr->type != SOCKET_ADDRESS_TYPE_INET) {
        error_setg(errp, "socket type unsupported for datagram");
        return false;
    }
    if (addr->u.inet.has_to || addr->u.inet.has_keep_alive) {
        error_setg(errp, "'to' and 'keep-alive' are for streams");
        return false;
    }
    return true;
}

int socket_dgram(const SocketAddress *remote, const SocketAddress *local,
                 Error **errp)
{
    const InetSocketAddress *to = &remote->u.inet;
    struct addrinfo *list;
    int fd = -1;

    if (!fits_datagrams(remote, errp) ||
        (local && !fits_datagrams(local, errp))) {
        return -1;
    }
    list = resolve(to, to->port, SOCK_DGRAM, false, errp);
    if (!list) {
        return -1;
    }
    for (struct addrinfo *ai = list; ai && fd < 0; ai = ai->ai_next) {
        fd = dgram_to(ai, local ? &local->u.inet : NULL,
                      ai->ai_next ? NULL : errp);
    }
    freeaddrinfo(list);
    return fd;
}

/* --- unix --- */

static bool unix_address(const UnixSocketAddress *addr,
                         struct sockaddr_un *sun, socklen_t *len, Error **errp)
{
    bool abstract = addr->has_abstract && addr->abstract;
    bool tight = !addr->has_tight || addr->tight;
    size_t path_len = strlen(addr->path);
    /* A name in the abstract namespace has a zero in front, a path one behind;
     * the latter may be left out where there is no room. */
    size_t room = sizeof(sun->sun_path) - (abstract ? 1 : 0);

    if (path_len > room) {
        error_setg(errp, "UNIX socket path '%s' is too long", addr->path);
        error_append_hint(errp, "Path must be less than %zu bytes\n", room);
        return false;
    }
    if (!path_len && !abstract) {
        error_setg(errp, "UNIX socket path is empty");
        return false;
    }
    memset(sun, 0, sizeof(*sun));
    sun->sun_family = AF_UNIX;
    memcpy(sun->sun_path + (abstract ? 1 : 0), addr->path, path_len);
    *len = sizeof(*sun);
    if (abstract && tight) {
        *len = offsetof(struct sockaddr_un, sun_path) + 1 + path_len;
    }
    return true;
}

/* A socket file that nobody listens on any more is in the way of nobody. */
static void remove_dead_socket(const UnixSocketAddress *addr,
                               const struct sockaddr_un *sun, socklen_t len)
{
    struct stat st;
    int fd;

    if ((addr->has_abstract && addr->abstract) ||
        lstat(addr->path, &st) < 0 || !S_ISSOCK(st.st_mode)) {
        return;
    }
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd >= 0) {
        if (connect(fd, (const struct sockaddr *)sun, len) < 0 &&
            errno == ECONNREFUSED) {
            unlink(addr->path);
        }
        close(fd);
    }
}

static int listen_unix(const UnixSocketAddress *addr, int backlog,
                       Error **errp)
{
    struct sockaddr_un sun;
    socklen_t len;
    int fd;

    if (!unix_address(addr, &sun, &len, errp)) {
        return -1;
    }
    fd = new_socket(AF_UNIX, 0, errp);
    if (fd < 0) {
        return -1;
    }
    remove_dead_socket(addr, &sun, len);
    if (bind(fd, (struct sockaddr *)&sun, len) < 0) {
        error_setg_errno(errp, errno, "Failed to bind socket to %s",
                         addr->path);
        return discard(fd);
    }
    if (listen(fd, backlog) < 0) {
        error_setg_errno(errp, errno, "Failed to listen on %s", addr->path);
        return discard(fd);
    }
    return fd;
}

static int connect_unix(const UnixSocketAddress *addr, Error **errp)
{
    struct sockaddr_un sun;
    socklen_t len;
    int fd;

    if (!unix_address(addr, &sun, &len, errp)) {
        return -1;
    }
    fd = new_socket(AF_UNIX, 0, errp);
    if (fd >= 0 && connect_retrying(fd, &sun, len) < 0) {
        error_setg_errno(errp, errno, "Failed to connect to '%s'",
                         addr->path);
        return discard(fd);
    }
    return fd;
}

/* --- vsock --- */

static bool vsock_number(const char *what, const char *text, unsigned *number,
                         Error **errp)
{
    uint64_t value;

    if (parse_uint_full(text, 10, &value) < 0 || value > UINT32_MAX) {
        error_setg(errp, "Failed to parse %s '%s'", what, text);
        return false;
    }
    *number = value;
    return true;
}

static int open_vsock(const VsockSocketAddress *addr, int backlog,
                      bool listening, Error **errp)
{
    struct sockaddr_vm svm = { .svm_family = AF_VSOCK };
    int fd;

    if (!vsock_number("cid", addr->cid, &svm.svm_cid, errp) ||
        !vsock_number("port", addr->port, &svm.svm_port, errp)) {
        return -1;
    }
    fd = new_socket(AF_VSOCK, 0, errp);
    if (fd < 0) {
        return -1;
    }
    if (listening ? bind(fd, (struct sockaddr *)&svm, sizeof(svm)) < 0 ||
                    listen(fd, backlog) < 0
                  : connect_retrying(fd, &svm, sizeof(svm)) < 0) {
        error_setg_errno(errp, errno, "Failed to %s vsock:%s:%s",
                         listening ? "listen on" : "connect to", addr->cid,
                         addr->port);
        return discard(fd);
    }
    return fd;
}

/* --- descriptors that are there already --- */

static int (*fd_source)(const char *name, bool take, Error **errp);

void socket_set_fd_source(int (*source)(const char *name, bool take,
                                        Error **errp))
{
    fd_source = source;
}

/* The descriptor that @text numbers or names. */
static int find_fd(const char *text, Error **errp)
{
    uint64_t fd;

    if (fd_source && !g_ascii_isdigit(text[0])) {
        return fd_source(text, false, errp);
    }
    if (parse_uint_full(text, 10, &fd) < 0 || fd > INT_MAX) {
        error_setg(errp, "'%s' is not the number of a file descriptor", text);
        return -1;
    }
    return fd;
}

static int inherited_fd(const FdSocketAddress *addr, bool listening,
                        Error **errp)
{
    int fd = find_fd(addr->str, errp);
    int accepting, type;
    socklen_t len = sizeof(type);

    if (fd < 0) {
        return -1;
    }
    if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) < 0) {
        error_setg_errno(errp, errno, "File descriptor '%s' is not a socket",
                         addr->str);
        return -1;
    }
    len = sizeof(accepting);
    if (type != SOCK_STREAM ||
        getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &accepting, &len) < 0 ||
        (listening && !accepting)) {
        error_setg(errp, "File descriptor '%s' is not a %s stream socket",
                   addr->str, listening ? "listening" : "connected");
        return -1;
    }
    fcntl(fd, F_SETFD, FD_CLOEXEC);
    if (!g_ascii_isdigit(addr->str[0])) {
        fd_source(addr->str, true, &error_abort);
    }
    return fd;
}

bool socket_address_take_fd(SocketAddress *addr, Error **errp)
{
    int fd;

    if (addr->type != SOCKET_ADDRESS_TYPE_FD ||
        g_ascii_isdigit(addr->u.fd.str[0])) {
        return true;
    }
    fd = inherited_fd(&addr->u.fd, false, errp);
    if (fd < 0) {
        return false;
    }
    g_free(addr->u.fd.str);
    addr->u.fd.str = g_strdup_printf("%d", fd);
    return true;
}

/* --- all kinds --- */

int socket_listen(const SocketAddress *addr, int backlog, Error **errp)
{
    switch (addr->type) {
    case SOCKET_ADDRESS_TYPE_INET:
        return listen_inet(&addr->u.inet, backlog, errp);
    case SOCKET_ADDRESS_TYPE_UNIX:
        return listen_unix(&addr->u.q_unix, backlog, errp);
    case SOCKET_ADDRESS_TYPE_VSOCK:
        return open_vsock(&addr->u.vsock, backlog, true, errp);
    case SOCKET_ADDRESS_TYPE_FD:
        return inherited_fd(&addr->u.fd, true, errp);
    default:
        g_assert_not_reached();
    }
}

int socket_connect(const SocketAddress *addr, Error **errp)
{
    switch (addr->type) {
    case SOCKET_ADDRESS_TYPE_INET:
        return connect_inet(&addr->u.inet, errp);
    case SOCKET_ADDRESS_TYPE_UNIX:
        return connect_unix(&addr->u.q_unix, errp);
    case SOCKET_ADDRESS_TYPE_VSOCK:
        return open_vsock(&addr->u.vsock, 0, false, errp);
    case SOCKET_ADDRESS_TYPE_FD:
        return inherited_fd(&addr->u.fd, false, errp);
    default:
        g_assert_not_reached();
    }
}

int socket_accept(int listen_fd)
{
    int fd;

    do {
        fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    } while (fd < 0 && (errno == EINTR || errno == ECONNABORTED));
    return fd;
}

/* --- addresses --- */

static SocketAddress *inet_address(const struct sockaddr *sa, socklen_t len,
                                   Error **errp)
{
    char host[NI_MAXHOST], port[NI_MAXSERV];
    SocketAddress *addr;
    int ret = getnameinfo(sa, len, host, sizeof(host), port, sizeof(port),
                          NI_NUMERICHOST | NI_NUMERICSERV);

    if (ret) {
        error_setg(errp, "Cannot format numeric socket address: %s",
                   gai_strerror(ret));
        return NULL;
    }
    addr = g_new0(SocketAddress, 1);
    addr->type = SOCKET_ADDRESS_TYPE_INET;
    addr->u.inet.host = g_strdup(host);
    addr->u.inet.port = g_strdup(port);
    return addr;
}

static SocketAddress *unix_to_address(const struct sockaddr_un *sun,
                                      socklen_t len)
{
    SocketAddress *addr = g_new0(SocketAddress, 1);
    size_t path_len = len - offsetof(struct sockaddr_un, sun_path);
    const char *path = sun->sun_path;

    addr->type = SOCKET_ADDRESS_TYPE_UNIX;
    if (path_len && !path[0]) {
        addr->u.q_unix.has_abstract = addr->u.q_unix.abstract = true;
        path++;
        path_len--;
    }
    addr->u.q_unix.path = g_strndup(path, path_len);
    return addr;
}

SocketAddress *socket_local_address(int fd, Error **errp)
{
    union {
        struct sockaddr any;
        struct sockaddr_un un;
        struct sockaddr_vm vm;
        struct sockaddr_storage storage;
    } sa;
    socklen_t len = sizeof(sa);
    SocketAddress *addr;

    if (getsockname(fd, &sa.any, &len) < 0) {
        error_setg_errno(errp, errno, "Unable to query local socket address");
        return NULL;
    }
    switch (sa.any.sa_family) {
    case AF_INET:
    case AF_INET6:
        return inet_address(&sa.any, len, errp);
    case AF_UNIX:
        return unix_to_address(&sa.un, len);
    case AF_VSOCK:
        addr = g_new0(SocketAddress, 1);
        addr->type = SOCKET_ADDRESS_TYPE_VSOCK;
        addr->u.vsock.cid = g_strdup_printf("%u", sa.vm.svm_cid);
        addr->u.vsock.port = g_strdup_printf("%u", sa.vm.svm_port);
        return addr;
    default:
        error_setg(errp, "socket family %d unsupported", sa.any.sa_family);
        return NULL;
    }
}

SocketAddress *socket_address_flatten(const SocketAddressLegacy *legacy)
{
    SocketAddress *addr = g_new0(SocketAddress, 1);

    addr->type = legacy->type;
    switch (legacy->type) {
    case SOCKET_ADDRESS_TYPE_INET:
        QAPI_CLONE_MEMBERS(InetSocketAddress, &addr->u.inet,
                           legacy->u.inet.data);
        break;
    case SOCKET_ADDRESS_TYPE_UNIX:
        QAPI_CLONE_MEMBERS(UnixSocketAddress, &addr->u.q_unix,
                           legacy->u.q_unix.data);
        break;
    case SOCKET_ADDRESS_TYPE_VSOCK:
        QAPI_CLONE_MEMBERS(VsockSocketAddress, &addr->u.vsock,
                           legacy->u.vsock.data);
        break;
    case SOCKET_ADDRESS_TYPE_FD:
        QAPI_CLONE_MEMBERS(FdSocketAddress, &addr->u.fd, legacy->u.fd.data);
        break;
    default:
        g_assert_not_reached();
    }
    return addr;
}

char *socket_uri(const SocketAddress *addr)
{
    switch (addr->type) {
    case SOCKET_ADDRESS_TYPE_INET:
        return g_strdup_printf("tcp:%s:%s", addr->u.inet.host,
                               addr->u.inet.port);
    case SOCKET_ADDRESS_TYPE_UNIX:
        return g_strdup_printf("unix:%s", addr->u.q_unix.path);
    case SOCKET_ADDRESS_TYPE_VSOCK:
        return g_strdup_printf("vsock:%s:%s", addr->u.vsock.cid,
                               addr->u.vsock.port);
    case SOCKET_ADDRESS_TYPE_FD:
        return g_strdup_printf("fd:%s", addr->u.fd.str);
    default:
        g_assert_not_reached();
    }
}
