/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Listening sockets in the main loop; see the header. */
#include "util/osdep.h"
#include "sockets/listener.h"
#include "sockets/sockets.h"
#include "util/aio.h"

/* After an accept() for which there was no descriptor or no memory. */
#define PAUSE_NS (100 * SCALE_MS)

/* --- the file of a socket --- */

struct SocketFile {
    char *path;         /* from the root */
    dev_t dev;
    ino_t ino;
};

/* What a listener at @addr has just made; NULL if it has none. The process may
 * leave its directory. */
static SocketFile *find_file(const SocketAddress *addr)
{
    SocketFile *file;
    struct stat st;

    if (addr->type != SOCKET_ADDRESS_TYPE_UNIX ||
        (addr->u.q_unix.has_abstract && addr->u.q_unix.abstract) ||
        lstat(addr->u.q_unix.path, &st) < 0) {
        return NULL;
    }
    file = g_new(SocketFile, 1);
    file->path = g_canonicalize_filename(addr->u.q_unix.path, NULL);
    file->dev = st.st_dev;
    file->ino = st.st_ino;
    return file;
}

/* Unless somebody has put another one in its place. Frees; NULL is fine. */
static void remove_file(SocketFile *file)
{
    struct stat st;

    if (!file) {
        return;
    }
    if (lstat(file->path, &st) == 0 && st.st_dev == file->dev &&
        st.st_ino == file->ino) {
        unlink(file->path);
    }
    g_free(file->path);
    g_free(file);
}

/* --- connections --- */

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

bool socket_listener_open(SocketListener *l, const SocketAddress *addr,
                          int backlog,
                          void (*incoming)(void *opaque, int fd),
                          void *opaque, Error **errp)
{
    *l = (SocketListener) { .fd = socket_listen(addr, backlog, errp),
                            .incoming = incoming, .opaque = opaque };
    if (l->fd < 0) {
        return false;
    }
    l->file = find_file(addr);
    socket_set_nonblock(l->fd, true);
    aio_timer_init(qemu_get_aio_context(), &l->pause, QEMU_CLOCK_REALTIME,
                   SCALE_NS, pause_is_over, l);
    return true;
}

void socket_listener_switch(SocketListener *l, bool on)
{
    if (l->fd >= 0 && l->on != on) {
        l->on = on;
        timer_del(&l->pause);
        set_handler(l, on);
    }
}

void socket_listener_close(SocketListener *l)
{
    if (l->fd >= 0) {
        socket_listener_switch(l, false);
        remove_file(l->file);
        close(l->fd);
        l->fd = -1;
    }
}
