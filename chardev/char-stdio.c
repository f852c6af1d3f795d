/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Standard input and output as a character device: there is one connection, from
 * the start until input ends. Another process may share the terminal or pipe, so
 * that flags and settings changed here are put back at the end.
 */
#include "util/osdep.h"
#include <fcntl.h>
#include <termios.h>
#include "char-int.h"

typedef struct StdioChardev {
    int old_flags[2];
    bool has_old_tty;
    struct termios old_tty;
} StdioChardev;

/* The device that has them; there is one pair in a process. */
static Chardev *stdio_user;

static void set_terminal(StdioChardev *s, bool signals)
{
    struct termios tty;

    if (signals || tcgetattr(STDIN_FILENO, &tty) < 0) {
        return;
    }
    s->old_tty = tty;
    s->has_old_tty = true;
    tty.c_lflag &= ~ISIG;
    tcsetattr(STDIN_FILENO, TCSANOW, &tty);
}

static bool stdio_open(Chardev *chr, const ChardevBackend *backend,
                       Error **errp)
{
    const ChardevStdio *opts = backend->u.stdio.data;
    StdioChardev *s;

    if (stdio_user) {
        error_setg(errp, "stdio already in use by character device '%s'",
                   stdio_user->id);
        return false;
    }
    s = chr->opaque = g_new0(StdioChardev, 1);
    stdio_user = chr;
    for (int fd = 0; fd < 2; fd++) {
        s->old_flags[fd] = fcntl(fd, F_GETFL);
        if (s->old_flags[fd] >= 0) {
            fcntl(fd, F_SETFL, s->old_flags[fd] | O_NONBLOCK);
        }
    }
    set_terminal(s, !opts->has_signal || opts->signal);
    chardev_stream_connect(chr, STDIN_FILENO, STDOUT_FILENO);
    return true;
}

static void stdio_close(Chardev *chr)
{
    StdioChardev *s = chr->opaque;

    if (s->has_old_tty) {
        tcsetattr(STDIN_FILENO, TCSANOW, &s->old_tty);
    }
    /* In the other order: both may be one open file. */
    for (int fd = 1; fd >= 0; fd--) {
        if (s->old_flags[fd] >= 0) {
            fcntl(fd, F_SETFL, s->old_flags[fd]);
        }
    }
    stdio_user = NULL;
    g_free(s);
}

static void stdio_disconnected(Chardev *chr)
{
}

const ChardevClass chardev_class_stdio = {
    .qom = {
        .name = "chardev-stdio",
        .parent = &chardev_fd_type,
    },
    .open = stdio_open,
    .close = stdio_close,
    .disconnected = stdio_disconnected,
};
