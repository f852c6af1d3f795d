/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Sockets from addresses as the schema has them. All descriptors made here are
 * close-on-exec; those of type 'fd' become so.
 *
 * Main thread or any other, outside coroutines. Name lookups and connecting
 * may block for as long as the network takes: not for threads that serve
 * requests.
 */
#ifndef SOCKETS_SOCKETS_H
#define SOCKETS_SOCKETS_H

#include "util/osdep.h"
#include "util/error.h"
#include "qapi/qapi-types.h"

/*
 * A listening stream socket, or -1 with @errp. A socket file that nobody
 * listens on is replaced. For 'inet' with port 0 or `to`, ask
 * socket_local_address() which one it became.
 */
int socket_listen(const SocketAddress *addr, int backlog, Error **errp);
/* A connected stream socket, or -1 with @errp. */
int socket_connect(const SocketAddress *addr, Error **errp);

/*
 * A blocking socket for datagrams to @remote and from there, at @local or (NULL)
 * at a port that the system chooses; -1 with @errp. Both are of type 'inet'.
 */
int socket_dgram(const SocketAddress *remote, const SocketAddress *local,
                 Error **errp);

/*
 * The next connection of @listen_fd, close-on-exec and non-blocking; -1 with
 * errno (EAGAIN: nobody waits).
 */
int socket_accept(int listen_fd);

/* The address a socket is bound to; caller frees; NULL with @errp. */
SocketAddress *socket_local_address(int fd, Error **errp);

/* The legacy form as the other one; caller frees. */
SocketAddress *socket_address_flatten(const SocketAddressLegacy *legacy);

/* "unix:/run/x", "tcp:host:port" …, for people; caller frees. */
char *socket_uri(const SocketAddress *addr);

/* 0 or -errno. */
int socket_set_nonblock(int fd, bool nonblock);

/*
 * Where names come from that are used in place of numbers of descriptors:
 * source(name, take, errp) gives the descriptor, with @take to keep, or -1. None
 * at first. In the main thread only: socket_address_take_fd().
 */
void socket_set_fd_source(int (*source)(const char *name, bool take,
                                        Error **errp));
/*
 * Makes a number of a name in @addr, for another thread: the descriptor has been
 * taken, and the next socket_connect() gives it away. Main thread. False with
 * @errp: it cannot be connected to, and stays where it is.
 */
bool socket_address_take_fd(SocketAddress *addr, Error **errp);

#endif
