/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A new pseudo terminal as a character device. Somebody is there from the
 * moment that it is opened until the last one closes it:
 *
 *   hung up --opened: inotify tells--> connected --closed: input ends--> hung up
 *
 * The watch stays all the time. What it says is only a reason to look: a
 * terminal that was opened before the last connection has ended is found then.
 * Who comes before the end of a connection was seen goes on with that one.
 */
#include "util/osdep.h"
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <termios.h>
#include "char-int.h"

typedef struct PtyChardev {
    int fd;                     /* the master's side */
    int watch_fd;               /* tells that the other side was opened */
    char *link;                 /* symbolic link to it that is ours, or NULL */
} PtyChardev;

/* Our own look at the other side; -1 with errno. */
static int open_slave(PtyChardev *s)
{
    return ioctl(s->fd, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
}

/* Whether somebody has it open, or has left something there. */
static bool somebody_there(PtyChardev *s)
{
    struct pollfd pfd = { .fd = s->fd, .events = POLLIN };

    return poll(&pfd, 1, 0) == 0 || (pfd.revents & POLLIN) ||
           !(pfd.revents & POLLHUP);
}

/* What nobody has read was for somebody else: what has not come through to the
 * other side yet, then what has. */
static void drop_unread(PtyChardev *s)
{
    int fd = open_slave(s);

    tcflush(s->fd, TCOFLUSH);
    if (fd >= 0) {
        tcflush(fd, TCIFLUSH);
        close(fd);
    }
}

static void pty_look(Chardev *chr)
{
    PtyChardev *s = chr->opaque;

    if (!chr->connected && somebody_there(s)) {
        chardev_stream_connect(chr, s->fd, s->fd);
    }
}

static void pty_disconnected(Chardev *chr)
{
    drop_unread(chr->opaque);
    pty_look(chr);
}

static void pty_opened(void *opaque)
{
    Chardev *chr = opaque;
    PtyChardev *s = chr->opaque;
    union {
        struct inotify_event align;
        char bytes[4096];
    } events;

    while (read(s->watch_fd, &events, sizeof(events)) > 0) {
        continue;
    }
    pty_look(chr);
}

static void pty_close(Chardev *chr)
{
    PtyChardev *s = chr->opaque;
    g_autofree char *target = s->link ? g_file_read_link(s->link, NULL) : NULL;

    if (target && !strcmp(target, chr->pty)) {
        unlink(s->link);
    }
    if (s->watch_fd >= 0) {
        aio_set_fd_handler(qemu_get_aio_context(), s->watch_fd, NULL, NULL,
                           NULL);
        close(s->watch_fd);
    }
    if (s->fd >= 0) {
        close(s->fd);
    }
    g_free(s->link);
    g_free(s);
}

/* Bytes go through as they are. */
static bool set_raw(int fd)
{
    struct termios tty;

    if (tcgetattr(fd, &tty) < 0) {
        return false;
    }
    cfmakeraw(&tty);
    return tcsetattr(fd, TCSAFLUSH, &tty) == 0;
}

static bool make_terminal(Chardev *chr, Error **errp)
{
    PtyChardev *s = chr->opaque;
    char name[64];
    int slave = -1;

    s->fd = posix_openpt(O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
    if (s->fd >= 0 && grantpt(s->fd) == 0 && unlockpt(s->fd) == 0 &&
        ptsname_r(s->fd, name, sizeof(name)) == 0) {
        slave = open_slave(s);
    }
    /* While our side of it is open, as there is no hang-up before the first
     * time that it is closed. */
    if (slave < 0 || !set_raw(slave)) {
        error_setg_errno(errp, errno, "Failed to create PTY");
        if (slave >= 0) {
            close(slave);
        }
        return false;
    }
    chr->pty = g_strdup(name);
    close(slave);
    return true;
}

static bool watch_terminal(Chardev *chr, Error **errp)
{
    PtyChardev *s = chr->opaque;

    s->watch_fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    if (s->watch_fd < 0 ||
        inotify_add_watch(s->watch_fd, chr->pty, IN_OPEN) < 0) {
        error_setg_errno(errp, errno, "Could not watch '%s'", chr->pty);
        return false;
    }
    aio_set_fd_handler(qemu_get_aio_context(), s->watch_fd, pty_opened, NULL,
                       chr);
    return true;
}

static bool pty_open(Chardev *chr, const ChardevBackend *backend,
                     Error **errp)
{
    const char *path = backend->u.pty.data->path;
    PtyChardev *s = chr->opaque = g_new0(PtyChardev, 1);

    s->fd = s->watch_fd = -1;
    if (!make_terminal(chr, errp) || !watch_terminal(chr, errp)) {
        pty_close(chr);
        return false;
    }
    if (path && symlink(chr->pty, path) < 0) {
        error_setg_errno(errp, errno, "Failed to create PTY symlink '%s'",
                         path);
        pty_close(chr);
        return false;
    }
    /* Found again from another working directory. */
    s->link = path ? g_canonicalize_filename(path, NULL) : NULL;
    return true;
}

static char *pty_filename(Chardev *chr)
{
    return g_strdup_printf("pty:%s", chr->pty);
}

const ChardevClass chardev_class_pty = {
    .qom = {
        .name = "chardev-pty",
        .parent = &chardev_type,
    },
    .open = pty_open,
    .close = pty_close,
    .disconnected = pty_disconnected,
    .next_peer_waits = true,
    .filename = pty_filename,
};
