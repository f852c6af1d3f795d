/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A pair of FIFOs as a character device, PATH.in and PATH.out, or else one file
 * PATH for both directions. They are open for reading and writing, so that
 * peers come and go unnoticed: there is one connection, from the start. When it
 * is cut, because nobody reads, the next one begins at once.
 */
#include "util/osdep.h"
#include <fcntl.h>
#include "char-int.h"
#include "util/fd.h"

typedef struct PipeChardev {
    int in_fd, out_fd;          /* may be the same */
} PipeChardev;

static int open_end(const char *path, const char *suffix, Error **errp)
{
    g_autofree char *name = g_strdup_printf("%s%s", path, suffix);

    return qemu_open(name, O_RDWR | O_NOCTTY | O_NONBLOCK, errp);
}

static void close_ends(PipeChardev *s)
{
    if (s->out_fd >= 0 && s->out_fd != s->in_fd) {
        qemu_close(s->out_fd);
    }
    if (s->in_fd >= 0) {
        qemu_close(s->in_fd);
    }
}

static bool open_ends(PipeChardev *s, const char *path, Error **errp)
{
    Error *err = NULL;

    s->in_fd = open_end(path, ".in", &err);
    s->out_fd = s->in_fd < 0 ? -1 : open_end(path, ".out", &err);
    if (s->out_fd >= 0) {
        return true;
    }
    if (errno != ENOENT) {
        /* It is meant, but cannot be had. */
        error_propagate(errp, err);
        return false;
    }
    error_free(err);
    close_ends(s);
    s->in_fd = s->out_fd = open_end(path, "", errp);
    return s->in_fd >= 0;
}

static void pipe_close(Chardev *chr)
{
    close_ends(chr->opaque);
    g_free(chr->opaque);
}

static bool pipe_open(Chardev *chr, const ChardevBackend *backend,
                      Error **errp)
{
    PipeChardev *s = chr->opaque = g_new0(PipeChardev, 1);

    if (!open_ends(s, backend->u.pipe.data->device, errp)) {
        pipe_close(chr);
        return false;
    }
    chardev_stream_connect(chr, s->in_fd, s->out_fd);
    return true;
}

/* The next peer is not to read what the last one left. */
static void drop_unread(PipeChardev *s)
{
    char buf[4096];
    ssize_t n;

    do {
        n = read(s->out_fd, buf, sizeof(buf));
    } while (n > 0 || (n < 0 && errno == EINTR));
}

static void pipe_disconnected(Chardev *chr)
{
    PipeChardev *s = chr->opaque;

    if (chr->input_ended) {
        return;         /* no FIFO: its end stays the end */
    }
    if (s->in_fd != s->out_fd) {
        drop_unread(s);
    }
    chardev_stream_connect(chr, s->in_fd, s->out_fd);
}

const ChardevClass chardev_class_pipe = {
    .qom = {
        .name = "chardev-pipe",
        .parent = &chardev_fd_type,
    },
    .open = pipe_open,
    .close = pipe_close,
    .disconnected = pipe_disconnected,
};
