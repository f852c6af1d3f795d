/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What takes the place of TLS in builds without GnuTLS. */
#include "util/osdep.h"
#include "crypto/tls.h"

static void *refuse(Error **errp)
{
    error_setg(errp, "This build has no support for TLS (GnuTLS)");
    return NULL;
}

CryptoTLSCreds *crypto_tls_creds_new_x509(const CryptoTLSX509 *args,
                                          Error **errp)
{
    return refuse(errp);
}

CryptoTLSCreds *crypto_tls_creds_new_psk(const CryptoTLSPSK *args,
                                         Error **errp)
{
    return refuse(errp);
}

void crypto_tls_creds_free(CryptoTLSCreds *creds)
{
    assert(!creds);
}

bool crypto_tls_creds_for_server(const CryptoTLSCreds *creds)
{
    g_assert_not_reached();
}

bool crypto_tls_creds_know_peer(const CryptoTLSCreds *creds)
{
    g_assert_not_reached();
}

CryptoTLSSession *crypto_tls_session_new(CryptoTLSCreds *creds,
                                         const char *hostname, int fd,
                                         Error **errp)
{
    return refuse(errp);
}

void crypto_tls_session_free(CryptoTLSSession *s)
{
    assert(!s);
}

int crypto_tls_handshake(CryptoTLSSession *s, Error **errp)
{
    g_assert_not_reached();
}

const char *crypto_tls_peer_name(const CryptoTLSSession *s)
{
    g_assert_not_reached();
}

const char *crypto_tls_alert(const CryptoTLSSession *s)
{
    g_assert_not_reached();
}

ssize_t crypto_tls_read(CryptoTLSSession *s, void *buf, size_t len)
{
    g_assert_not_reached();
}

ssize_t crypto_tls_write(CryptoTLSSession *s, const void *buf, size_t len)
{
    g_assert_not_reached();
}

void crypto_tls_bye(CryptoTLSSession *s)
{
    g_assert_not_reached();
}
