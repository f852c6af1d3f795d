/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * TLS, by GnuTLS. Builds without it refuse to make credentials, and say so.
 *
 * Credentials are what one side proves itself with and judges the other by; a
 * session is one connection. Credentials outlive their sessions.
 */
#ifndef CRYPTO_TLS_H
#define CRYPTO_TLS_H

#include "util/osdep.h"
#include "util/error.h"

/* --- credentials; main thread --- */

typedef struct CryptoTLSCreds CryptoTLSCreds;

/* Borrowed. */
typedef struct CryptoTLSX509 {
    bool server;                /* the side they are for */
    const char *dir;            /* ca-cert.pem and the others are there */
    bool verify_peer;           /* the other side needs a certificate */
    bool sanity_check;          /* look at the own certificates */
    const char *password;       /* of the private key; NULL: none */
    const char *priority;       /* GnuTLS' string; NULL: the default */
} CryptoTLSX509;

typedef struct CryptoTLSPSK {
    bool server;
    const char *dir;            /* keys.psk is there */
    const char *username;       /* of a client; NULL: "qemu" */
    const char *priority;
} CryptoTLSPSK;

/* NULL with @errp. */
CryptoTLSCreds *crypto_tls_creds_new_x509(const CryptoTLSX509 *args,
                                          Error **errp);
CryptoTLSCreds *crypto_tls_creds_new_psk(const CryptoTLSPSK *args,
                                         Error **errp);
/* No session uses them. NULL is fine. */
void crypto_tls_creds_free(CryptoTLSCreds *creds);
bool crypto_tls_creds_for_server(const CryptoTLSCreds *creds);
/* Whether sessions know the other side by its certificate. */
bool crypto_tls_creds_know_peer(const CryptoTLSCreds *creds);

/* --- sessions --- */

typedef struct CryptoTLSSession CryptoTLSSession;

/*
 * Over the connected, non-blocking socket @fd, which stays the caller's.
 * @hostname: what the server's certificate must be for; needed by clients that
 * verify it. NULL with @errp.
 */
CryptoTLSSession *crypto_tls_session_new(CryptoTLSCreds *creds,
                                         const char *hostname, int fd,
                                         Error **errp);
/* NULL is fine. */
void crypto_tls_session_free(CryptoTLSSession *s);

/*
 * Goes on with the handshake and, at its end, judges the other side. 0 when that
 * is done; POLLIN or POLLOUT: what to wait for before the next call; -1 with
 * @errp.
 */
int crypto_tls_handshake(CryptoTLSSession *s, Error **errp);
/* The distinguished name in the other side's certificate, or NULL; the
 * session's. */
const char *crypto_tls_peer_name(const CryptoTLSSession *s);

/* After a read that failed: why the other side gave up, in TLS' words, or NULL
 * if it did not say. With TLS 1.3 a server's verdict comes only after the
 * client's handshake has ended. */
const char *crypto_tls_alert(const CryptoTLSSession *s);

/*
 * Bytes, 0 at the orderly end of the connection, -EAGAIN if the socket is to
 * be waited for (reads: POLLIN, writes: POLLOUT; then a write is repeated with the
 * same data), or -errno. One thread may read while another one writes.
 */
ssize_t crypto_tls_read(CryptoTLSSession *s, void *buf, size_t len);
ssize_t crypto_tls_write(CryptoTLSSession *s, const void *buf, size_t len);
/* Tells the other side that nothing follows, without waiting. */
void crypto_tls_bye(CryptoTLSSession *s);

#endif
