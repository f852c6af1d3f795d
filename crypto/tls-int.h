/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the parts of TLS share. */
#ifndef CRYPTO_TLS_INT_H
#define CRYPTO_TLS_INT_H

#include "util/osdep.h"
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include "crypto/tls.h"

/* Fixed once made; sessions of any thread read it. */
struct CryptoTLSCreds {
    bool server;
    bool verify_peer;       /* with x509 */
    char *priority;
    /* One of them. */
    gnutls_certificate_credentials_t x509;
    gnutls_psk_server_credentials_t psk_server;
    gnutls_psk_client_credentials_t psk_client;
};

/* --- tls-check.c --- */

/* What is in @dir for the side that @args is about: certificates that are valid
 * now, made for what they are used for. False with @errp. */
bool crypto_tls_check_certs(const CryptoTLSX509 *args, const char *ca_path,
                            const char *cert_path, Error **errp);

#endif
