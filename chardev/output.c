/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A file that a character device writes: its output, or a log of that. */
#include "util/osdep.h"
#include <fcntl.h>
#include <sys/stat.h>
#include "char-int.h"
#include "util/fd.h"

/* A FIFO without reader is an error rather than a reason to wait. */
#define OPEN_FLAGS (O_WRONLY | O_NOCTTY | O_NONBLOCK)

bool chardev_output_open(ChardevOutput *out, const char *path, bool append,
                         Error **errp)
{
    int flags = OPEN_FLAGS | (append ? O_APPEND : 0);
    Error *err = NULL;
    int fd = qemu_open(path, flags, &err);
    bool created = false;

    if (fd < 0 && errno == ENOENT) {
        fd = qemu_create(path, flags | O_EXCL, 0666, NULL);
        created = fd >= 0;
    }
    if (fd < 0) {
        error_propagate(errp, err);
        return false;
    }
    error_free(err);
    *out = (ChardevOutput) {
        .fd = fd, .path = g_strdup(path), .created = created,
    };
    return true;
}

void chardev_output_begin(ChardevOutput *out, bool append)
{
    struct stat st;

    if (!append && fstat(out->fd, &st) == 0 && S_ISREG(st.st_mode) &&
        ftruncate(out->fd, 0) < 0) {
        warn_report("Could not truncate '%s': %s", out->path,
                    strerror(errno));
    }
}

void chardev_output_close(ChardevOutput *out, bool undo)
{
    if (out->fd < 0) {
        return;
    }
    if (undo && out->created) {
        unlink(out->path);
    }
    qemu_close(out->fd);
    g_free(out->path);
    *out = (ChardevOutput) { .fd = -1 };
}

static void tell_loss(ChardevOutput *out)
{
    if (!out->failing) {
        out->failing = true;
        warn_report("Could not write to '%s', output is lost: %s", out->path,
                    strerror(errno));
    }
}

ssize_t chardev_output_write(ChardevOutput *out, const char *buf, size_t len)
{
    ssize_t n = write(out->fd, buf, len);

    if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
        return n;
    }
    if (n < 0) {
        tell_loss(out);
        return len;
    }
    out->failing = false;
    return n;
}

void chardev_output_write_all(ChardevOutput *out, const char *buf, size_t len)
{
    if (out->fd < 0) {
        return;
    }
    if (qemu_write_full(out->fd, buf, len) == len) {
        out->failing = false;
    } else {
        tell_loss(out);
    }
}
