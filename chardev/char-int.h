/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The inside of character devices.
 *
 * A kind makes a connection in whatever way and gives its descriptors to the
 * stream, which moves bytes until the connection ends and then tells the kind.
 */
#ifndef CHARDEV_CHAR_INT_H
#define CHARDEV_CHAR_INT_H

#include "chardev/char.h"
#include "util/aio.h"
#include "util/queue.h"

typedef struct ChardevClass {
    ChardevBackendKind kind;
    /* Sets chr->opaque; may connect the stream at once. */
    bool (*open)(Chardev *chr, const ChardevBackend *backend, Error **errp);
    /* The stream is disconnected. Frees chr->opaque. */
    void (*close)(Chardev *chr);
    /* The connection has ended and its descriptors are no longer used by the
     * stream: the kind closes them, and waits for the next one if it can. */
    void (*disconnected)(Chardev *chr);
    /* For query-chardev; caller frees. */
    char *(*filename)(Chardev *chr);
} ChardevClass;

struct Chardev {
    char *id;
    const ChardevClass *klass;
    void *opaque;               /* of the kind */

    const ChardevFrontend *fe;  /* NULL: nobody uses it */
    void *fe_opaque;
    bool fe_opened;             /* it was told of this connection */

    /* The stream. */
    bool connected;
    int in_fd, out_fd;          /* may be the same; -1 if not connected */
    bool passes_fds;            /* in_fd is a UNIX socket */
    bool input_ended;
    bool broken;                /* writing failed; ended by bh */
    bool ending;                /* chardev_disconnect() was called */
    GString *out;               /* not yet sent */
    QEMUBH *bh;                 /* tells the front end, ends the connection */

    QTAILQ_ENTRY(Chardev) next;
};

extern const ChardevClass chardev_class_null;
extern const ChardevClass chardev_class_socket;
extern const ChardevClass chardev_class_stdio;

/* The connection is there; descriptors are non-blocking and stay the kind's. */
void chardev_stream_connect(Chardev *chr, int in_fd, int out_fd);

/* The stream's part of making and freeing. */
void chardev_stream_init(Chardev *chr);
void chardev_stream_destroy(Chardev *chr);
/* The front end changed. */
void chardev_stream_frontend_changed(Chardev *chr);

/* --chardev's options for this backend, apart from "backend" and "id", which
 * are taken out of @opts; what is left is unknown. */
ChardevBackend *chardev_parse_backend(QDict *opts, Error **errp);

#endif
