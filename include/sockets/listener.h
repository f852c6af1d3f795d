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
#include "util/timer.h"

typedef struct SocketListener {
    int fd;
    bool on;
    QEMUTimer pause;
    void (*incoming)(void *opaque, int fd);
    void *opaque;
} SocketListener;

/*
 * For the listening socket @fd, which becomes non-blocking and stays the caller's.
 * @incoming gets each connection, non-blocking and the callee's; it may switch
 * the listener off. It is off at first.
 */
void socket_listener_init(SocketListener *l, int fd,
                          void (*incoming)(void *opaque, int fd),
                          void *opaque);
/* Off: clients wait in the queue of the socket. At the end, too. */
void socket_listener_switch(SocketListener *l, bool on);

#endif
