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
    QomType qom;                /* its instance is the Chardev */
    /* Sets chr->opaque; may connect the stream at once. What it does to files
     * that were there it does last: a failure has changed nothing. */
    bool (*open)(Chardev *chr, const ChardevBackend *backend, Error **errp);
    /* The stream is disconnected. Frees chr->opaque. */
    void (*close)(Chardev *chr);
    /* The connection has ended and its descriptors are no longer used by the
     * stream: the kind closes them, and waits for the next one if it can. */
    void (*disconnected)(Chardev *chr);
    /* As read() and write() on the descriptors of the connection, in place of
     * them; NULL: those. A send that fails ends the connection. */
    ssize_t (*receive)(Chardev *chr, void *buf, size_t len);
    ssize_t (*send)(Chardev *chr, const char *buf, size_t len);
    /* A peer that goes may be followed by another one. */
    bool next_peer_waits;
    /* For query-chardev; caller frees. NULL: the name of the kind. */
    char *(*filename)(Chardev *chr);
} ChardevClass;

/* A file that is written. */
typedef struct ChardevOutput {
    int fd;                     /* -1: none */
    char *path;
    bool created;
    bool failing;               /* the last write failed, and it was told */
} ChardevOutput;

struct Chardev {
    char *id;
    ChardevBackendKind kind;
    const ChardevClass *klass;
    void *opaque;               /* of the kind */
    char *pty;                  /* set by a kind that has one */
    ChardevOutput log;          /* what was sent also goes there */

    const ChardevFrontend *fe;  /* NULL: nobody uses it */
    void *fe_opaque;
    bool fe_opened;             /* it was told of this connection */

    /* The stream. */
    bool connected;
    int in_fd, out_fd;          /* may be the same; -1: nothing to wait for */
    bool passes_fds;            /* in_fd is a UNIX socket */
    bool input_ended;
    bool input_waits;           /* it came while nobody used the device */
    bool broken;                /* writing failed; ended by bh */
    bool ending;                /* chardev_disconnect() was called */
    GString *out;               /* not yet sent */
    QEMUBH *bh;                 /* tells the front end, ends the connection */

    QTAILQ_ENTRY(Chardev) next;
};

/* What the types of all kinds derive from. */
extern const QomType chardev_type;
/* What those do that are files of this process. */
extern const QomType chardev_fd_type;

extern const ChardevClass chardev_class_file;
extern const ChardevClass chardev_class_memory;
extern const ChardevClass chardev_class_null;
extern const ChardevClass chardev_class_pipe;
extern const ChardevClass chardev_class_pty;
extern const ChardevClass chardev_class_ringbuf;
extern const ChardevClass chardev_class_socket;
extern const ChardevClass chardev_class_stdio;
extern const ChardevClass chardev_class_udp;

/* The connection is there; descriptors are non-blocking and stay the kind's. No
 * input comes without @in_fd; without @out_fd the kind's send() takes all. */
void chardev_stream_connect(Chardev *chr, int in_fd, int out_fd);

/* Sends what waits and can go at once, and forgets the rest. */
void chardev_stream_flush(Chardev *chr);
/* No longer uses the descriptors, and tells nobody. */
void chardev_stream_disable(Chardev *chr);

/* The stream's part of making and freeing. */
void chardev_stream_init(Chardev *chr);
void chardev_stream_destroy(Chardev *chr);
/* The front end changed. */
void chardev_stream_frontend_changed(Chardev *chr);

/*
 * Opens @path for writing, or makes it. Nothing is changed in a file that was
 * there until chardev_output_begin(), after which nothing must fail; before
 * that, chardev_output_close() with @undo also removes what was made.
 */
bool chardev_output_open(ChardevOutput *out, const char *path, bool append,
                         Error **errp);
void chardev_output_begin(ChardevOutput *out, bool append);
void chardev_output_close(ChardevOutput *out, bool undo);
/*
 * As write(), but that what cannot be written is lost, which is told once until
 * writing works again: the device goes on. Of errors only EAGAIN and EINTR are
 * left.
 */
ssize_t chardev_output_write(ChardevOutput *out, const char *buf, size_t len);
/* The same with all of it, where nobody waits; nothing if there is no file. */
void chardev_output_write_all(ChardevOutput *out, const char *buf, size_t len);

/* False with @errp: it is no id, or there is a device with it. */
bool chardev_id_is_new(const char *id, Error **errp);
/* The device that @backend describes, known to nobody; @errp if it fails. */
Chardev *chardev_open(const char *id, const ChardevBackend *backend,
                      Error **errp);
/* @chr, without user, becomes what @backend says; NULL with @errp: it is as it
 * was. */
Chardev *chardev_change(Chardev *chr, const ChardevBackend *backend,
                        Error **errp);

/* --chardev's options for this backend, apart from "backend" and "id", which
 * are taken out of @opts; what is left is unknown. */
ChardevBackend *chardev_parse_backend(QDict *opts, Error **errp);

#endif
