/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Character devices: byte streams to the outside that come and go, each with an
 * id and at most one user (its front end).
 *
 * Everything here runs in the main thread, outside coroutines; nothing blocks but
 * what chardev_new() is told to wait for.
 */
#ifndef CHARDEV_CHAR_H
#define CHARDEV_CHAR_H

#include "util/osdep.h"
#include "objects/qom.h"
#include "util/error.h"
#include "qapi/qapi-types.h"

/* Descriptors with one message; more are lost. */
#define CHARDEV_MAX_FDS 16

typedef struct Chardev Chardev;

/* The user of a chardev. Callbacks must not free the chardev. */
typedef struct ChardevFrontend {
    /* Somebody is there; what was sent before is gone. */
    void (*opened)(void *opaque);
    /*
     * Nothing more comes in, but what is written may still be read. The
     * front end calls chardev_disconnect() when it has nothing more to say.
     */
    void (*input_ended)(void *opaque);
    /* Nobody is there any more; also after chardev_disconnect(). */
    void (*closed)(void *opaque);
    /* How many bytes are welcome; 0 until chardev_accept_input(). */
    size_t (*can_read)(void *opaque);
    /* At most as many as that. */
    void (*read)(void *opaque, const char *buf, size_t len);
    /*
     * Descriptors, at most CHARDEV_MAX_FDS of them, came with what the next call of
     * read() will bring, more precisely with the last of the messages in there. They
     * belong to the front end. NULL: not wanted.
     */
    void (*fds)(void *opaque, const int *fds, size_t n);
} ChardevFrontend;

/*
 * Makes the device @id (a new id). @backend is borrowed. NULL with @errp set:
 * the id is bad or taken, the address cannot be had.
 */
Chardev *chardev_new(const char *id, const ChardevBackend *backend,
                     Error **errp);
/* From an argument of --chardev. */
Chardev *chardev_new_from_option(const char *text, Error **errp);
/* NULL if there is none of that id. */
Chardev *chardev_find(const char *id);
const char *chardev_id(const Chardev *chr);
/* Name of the pseudo terminal that it is; NULL if it is none. */
const char *chardev_pty(const Chardev *chr);
/* The one made after @chr; the first of all for NULL. NULL: no more. */
Chardev *chardev_next(const Chardev *chr);
const QomType *chardev_qom_type(const Chardev *chr);
const QomType *chardev_kind_qom_type(ChardevBackendKind kind);
/* Fails while it has a front end. */
bool chardev_remove(Chardev *chr, Error **errp);
/* At the end of the program; front ends have gone. Sends what it can. */
void chardev_free_all(void);
/* Names of the kinds, NULL-terminated. */
const char *const *chardev_kinds(void);

/*
 * @fe (static) with @opaque uses @chr from now on; fails if somebody does.
 * If somebody is connected already, opened() comes from the event loop.
 */
bool chardev_attach(Chardev *chr, const ChardevFrontend *fe, void *opaque,
                    Error **errp);
/* No callback comes any more. */
void chardev_detach(Chardev *chr);

/*
 * Sends @len bytes, later if they cannot go at once; they are dropped if nobody is
 * connected.
 */
void chardev_write(Chardev *chr, const char *buf, size_t len);
/* Bytes that wait to be sent. */
size_t chardev_pending(const Chardev *chr);
/* can_read() may give another answer than 0. */
void chardev_accept_input(Chardev *chr);
/* Ends the connection as soon as what waits has been sent; the device lives on
 * and may be connected again. */
void chardev_disconnect(Chardev *chr);
/* The same at once; what waits is lost. */
void chardev_abort(Chardev *chr);

#endif
