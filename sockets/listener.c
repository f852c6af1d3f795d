/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Listening sockets in the main loop; see the header. */
#include "util/osdep.h"
#include "sockets/listener.h"
#include "sockets/sockets.h"
#include "util/aio.h"

/* After an accept() for which there was no descriptor or no memory. */
#define PAUSE_NS (100 * SCALE_MS)

static void readable(void *opaque);

static void set_handler(SocketListener *l, bool on)
{
    aio_set_fd_handler(qemu_get_aio_context(), l->fd, on ? readable : NULL,
                       NULL, l);
}

static void readable(void *opaque)
{
    SocketListener *l = opaque;

    while (l->on) {
        int fd = socket_accept(l->fd);

        if (fd < 0) {
            if (errno != EAGAIN) {
                set_handler(l, false);
                timer_mod_ns(&l->pause, get_clock() + PAUSE_NS);
            }
            return;
        }
        l->incoming(l->opaque, fd);
    }
}

static void pause_is_over(void *opaque)
{
    set_handler(opaque, true);
}

void socket_listener_init(SocketListener *l, int fd,
                          void (*incoming)(void *opaque, int fd),
                          void *opaque)
{
    *l = (SocketListener) { .fd = fd, .incoming = incoming,
                            .opaque = opaque };
    socket_set_nonblock(fd, true);
    aio_timer_init(qemu_get_aio_context(), &l->pause, QEMU_CLOCK_REALTIME,
                   SCALE_NS, pause_is_over, l);
}

void socket_listener_switch(SocketListener *l, bool on)
{
    if (l->on != on) {
        l->on = on;
        timer_del(&l->pause);
        set_handler(l, on);
    }
}
