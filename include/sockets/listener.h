/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Connections of a listening socket, in the main loop. Main thread.
 *
 * Where there is no descriptor or no memory for one, nobody is asked for a while:
 * the socket would say at once that somebody waits.
 */
#ifndef SOCKETS_LISTENER_H
#define SOCKETS_LISTENER_H

#include "util/osdep.h"
#include "util/error.h"
#include "util/timer.h"
#include "qapi/qapi-types.h"

typedef struct SocketFile SocketFile;

typedef struct SocketListener {
    int fd;             /* -1: closed */
    SocketFile *file;   /* or NULL */
    bool on;
    QEMUTimer pause;
    void (*incoming)(void *opaque, int fd);
    void *opaque;
} SocketListener;

/*
 * Listens at @addr, see socket_listen(). @incoming gets each connection,
 * non-blocking and the callee's; it may switch the listener off. It is off at
 * first. False with @errp: it is closed.
 */
bool socket_listener_open(SocketListener *l, const SocketAddress *addr,
                          int backlog,
                          void (*incoming)(void *opaque, int fd),
                          void *opaque, Error **errp);
/* Off: clients wait in the queue of the socket. Nothing if it is closed. */
void socket_listener_switch(SocketListener *l, bool on);
/* Its file goes, unless somebody has put another one in its place. Nothing if it
 * is closed. */
void socket_listener_close(SocketListener *l);

#endif
