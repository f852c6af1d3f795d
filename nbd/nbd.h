/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The parts of qemu-nbd. Main thread, outside coroutines. */
#ifndef NBD_NBD_H
#define NBD_NBD_H

#include "util/osdep.h"
#include "block/block-backend.h"

/* What the command line says; strings are borrowed from it. */
typedef struct NbdArgs {
    const char *filename;       /* NULL with @list */
    const char *fmt;
    bool image_opts;
    int flags;                  /* BDRV_O_* */
    bool writethrough;
    bool snapshot;              /* writes go to a temporary overlay */
    const char *load_snapshot;
    const char *detect_zeroes;
    uint64_t offset;            /* bytes */

    SocketAddress *addr;        /* where to listen or to connect */
    const char *tls_creds;      /* id of an object; NULL: no TLS */
    const char *tls_authz;      /* id of an object; NULL: all may */
    const char *tls_hostname;   /* with @list; NULL: the host of @addr */
    uint32_t shared;            /* clients at the same time; 0: any number */
    uint32_t handshake_secs;
    bool persistent;
    bool verbose;
    bool list;
    bool fork;
    const char *pid_file;

    const char *name;
    const char *description;
    bool allocation_depth;
    strList *bitmaps;

    GPtrArray *objects;         /* definitions, in order */
} NbdArgs;

/* --- options.c --- */

/* Exits for help, and with 1 after a message. */
void nbd_parse_args(NbdArgs *args, int argc, char **argv);

/* --- image.c --- */

/* The node to export; the caller owns the backend. NULL after a message. */
BlockBackend *nbd_open_image(const NbdArgs *args);

/* --- list.c --- */

/* Prints the exports of the server at a->addr. False with @errp. */
bool nbd_list(const NbdArgs *a, Error **errp);

#endif
