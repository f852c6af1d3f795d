/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Files as a character device: what is sent is written to one, and what is in
 * another one comes in until its end. A full disk loses output, not the device.
 */
#include "util/osdep.h"
#include <fcntl.h>
#include "char-int.h"
#include "util/fd.h"

typedef struct FileChardev {
    int in_fd;                  /* -1: none */
    ChardevOutput out;
} FileChardev;

static void file_close(Chardev *chr)
{
    FileChardev *s = chr->opaque;

    if (s->in_fd >= 0) {
        qemu_close(s->in_fd);
    }
    chardev_output_close(&s->out, false);
    g_free(s);
}

static bool file_open(Chardev *chr, const ChardevBackend *backend,
                      Error **errp)
{
    const ChardevFile *opts = backend->u.file.data;
    bool append = opts->has_append && opts->append;
    FileChardev *s = chr->opaque = g_new0(FileChardev, 1);

    s->in_fd = s->out.fd = -1;
    if (opts->in) {
        s->in_fd = qemu_open(opts->in, O_RDONLY | O_NOCTTY | O_NONBLOCK, errp);
    }
    if ((opts->in && s->in_fd < 0) ||
        !chardev_output_open(&s->out, opts->out, append, errp)) {
        file_close(chr);
        return false;
    }
    chardev_output_begin(&s->out, append);
    chardev_stream_connect(chr, s->in_fd, s->out.fd);
    return true;
}

static ssize_t file_send(Chardev *chr, const char *buf, size_t len)
{
    FileChardev *s = chr->opaque;

    return chardev_output_write(&s->out, buf, len);
}

static void file_disconnected(Chardev *chr)
{
}

const ChardevClass chardev_class_file = {
    .qom = {
        .name = "chardev-file",
        .parent = &chardev_fd_type,
    },
    .open = file_open,
    .close = file_close,
    .disconnected = file_disconnected,
    .send = file_send,
};
