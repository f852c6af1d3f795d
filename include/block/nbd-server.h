/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The NBD server of the process: one listening socket, whose clients choose among
 * the exports of type nbd by name. Main thread, outside coroutines.
 */
#ifndef BLOCK_NBD_SERVER_H
#define BLOCK_NBD_SERVER_H

#include "util/osdep.h"
#include "util/error.h"
#include "qapi/qapi-types.h"

#define NBD_DEFAULT_MAX_CONNECTIONS 100
#define NBD_DEFAULT_HANDSHAKE_MAX_SECS 10

typedef struct NBDServerConfig {
    const SocketAddress *addr;
    const char *tls_creds;      /* id of an object; NULL: no TLS */
    const char *tls_authz;      /* id of one that says who may; or NULL */
    uint32_t max_connections;   /* 0: as many as there are */
    uint32_t handshake_secs;    /* 0: for ever */
} NBDServerConfig;

/* False with @errp: it runs already, or cannot listen. @config is borrowed. */
bool nbd_server_start(const NBDServerConfig *config, Error **errp);
/* As the command nbd-server-start and the option --nbd-server. */
bool nbd_server_start_options(const NbdServerOptions *options, Error **errp);
bool nbd_server_is_running(void);
/* All exports of type nbd end first; polls until they have. */
void nbd_server_stop(void);

/* The connections there are, in their handshake or beyond. */
unsigned nbd_server_nr_clients(void);
/* @cb(@opaque) whenever a client that had chosen an export is gone; NULL for
 * nobody. */
void nbd_server_set_gone_cb(void (*cb)(void *opaque), void *opaque);

#endif
