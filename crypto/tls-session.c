/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One connection with TLS. GnuTLS lets a thread read while another one writes, but
 * for messages that change keys in between; the lock, which is held for a call that
 * does not wait, covers these.
 */
#include "util/osdep.h"
#include "tls-int.h"
#include <poll.h>
#include "util/lockable.h"
#include "util/thread.h"

struct CryptoTLSSession {
    CryptoTLSCreds *creds;
    char *hostname;
    char *peer_name;
    const char *alert;  /* what the other side ended it with, or NULL */
    QemuMutex lock;
    gnutls_session_t session;
};

static bool set_up(CryptoTLSSession *s, int fd, Error **errp)
{
    CryptoTLSCreds *creds = s->creds;
    int ret = gnutls_init(&s->session,
                          (creds->server ? GNUTLS_SERVER : GNUTLS_CLIENT) |
                          GNUTLS_NONBLOCK | GNUTLS_NO_SIGNAL);

    if (ret >= 0) {
        ret = gnutls_priority_set_direct(s->session, creds->priority, NULL);
    }
    if (ret >= 0 && creds->x509) {
        ret = gnutls_credentials_set(s->session, GNUTLS_CRD_CERTIFICATE,
                                     creds->x509);
    } else if (ret >= 0) {
        ret = gnutls_credentials_set(s->session, GNUTLS_CRD_PSK,
                                     creds->server
                                     ? (void *)creds->psk_server
                                     : (void *)creds->psk_client);
    }
    if (ret < 0) {
        error_setg(errp, "Cannot set TLS up: %s", gnutls_strerror(ret));
        return false;
    }
    if (creds->server && creds->x509) {
        gnutls_certificate_server_set_request(s->session,
                                              creds->verify_peer
                                              ? GNUTLS_CERT_REQUIRE
                                              : GNUTLS_CERT_IGNORE);
    }
    if (s->hostname && !creds->server && creds->x509) {
        gnutls_server_name_set(s->session, GNUTLS_NAME_DNS, s->hostname,
                               strlen(s->hostname));
    }
    gnutls_transport_set_int(s->session, fd);
    return true;
}

CryptoTLSSession *crypto_tls_session_new(CryptoTLSCreds *creds,
                                         const char *hostname, int fd,
                                         Error **errp)
{
    CryptoTLSSession *s;

    if (!creds->server && creds->x509 && creds->verify_peer && !hostname) {
        error_setg(errp, "No hostname for certificate validation");
        return NULL;
    }
    s = g_new0(CryptoTLSSession, 1);
    s->creds = creds;
    s->hostname = g_strdup(hostname);
    qemu_mutex_init(&s->lock);
    if (!set_up(s, fd, errp)) {
        crypto_tls_session_free(s);
        return NULL;
    }
    return s;
}

void crypto_tls_session_free(CryptoTLSSession *s)
{
    if (s) {
        if (s->session) {
            gnutls_deinit(s->session);
        }
        qemu_mutex_destroy(&s->lock);
        g_free(s->hostname);
        g_free(s->peer_name);
        g_free(s);
    }
}

/* --- the other side's certificate --- */

static const char *verdict(unsigned status)
{
    if (status & GNUTLS_CERT_EXPIRED) {
        return "The certificate has expired";
    }
    if (status & GNUTLS_CERT_NOT_ACTIVATED) {
        return "The certificate is not yet activated";
    }
    if (status & GNUTLS_CERT_REVOKED) {
        return "The certificate has been revoked";
    }
    if (status & GNUTLS_CERT_SIGNER_NOT_FOUND) {
        return "The certificate hasn't got a known issuer";
    }
    if (status & GNUTLS_CERT_INSECURE_ALGORITHM) {
        return "The certificate uses an insecure algorithm";
    }
    return "The certificate is not trusted";
}

/* Looks into the certificate itself, which the library has verified. */
static bool look_at_cert(CryptoTLSSession *s, Error **errp)
{
    unsigned count = 0;
    const gnutls_datum_t *certs = gnutls_certificate_get_peers(s->session,
                                                               &count);
    gnutls_x509_crt_t crt;
    gnutls_datum_t name = { 0 };
    bool ok;

    if (!certs || !count) {
        error_setg(errp, "The peer has no certificate");
        return false;
    }
    if (gnutls_x509_crt_init(&crt) < 0) {
        g_error("out of memory");
    }
    ok = gnutls_x509_crt_import(crt, &certs[0], GNUTLS_X509_FMT_DER) >= 0 &&
         gnutls_x509_crt_get_dn2(crt, &name) >= 0;
    if (!ok) {
        error_setg(errp, "The peer's certificate cannot be read");
    } else {
        s->peer_name = g_strndup((char *)name.data, name.size);
        if (!s->creds->server &&
            !gnutls_x509_crt_check_hostname(crt, s->hostname)) {
            error_setg(errp, "Certificate does not match the hostname %s",
                       s->hostname);
            ok = false;
        }
    }
    gnutls_free(name.data);
    gnutls_x509_crt_deinit(crt);
    return ok;
}

static bool judge(CryptoTLSSession *s, Error **errp)
{
    unsigned status = 0;
    int ret;

    if (!s->creds->x509 || !s->creds->verify_peer) {
        return true;
    }
    ret = gnutls_certificate_verify_peers2(s->session, &status);
    if (ret < 0) {
        error_setg(errp, "Verify failed: %s", gnutls_strerror(ret));
        return false;
    }
    if (status) {
        error_setg(errp, "Verify failed: %s", verdict(status));
        return false;
    }
    return look_at_cert(s, errp);
}

static const char *alert_name(const CryptoTLSSession *s)
{
    return gnutls_alert_get_name(gnutls_alert_get(s->session)) ?:
           "unknown alert";
}

int crypto_tls_handshake(CryptoTLSSession *s, Error **errp)
{
    int ret = gnutls_handshake(s->session);

    if (ret == GNUTLS_E_AGAIN || ret == GNUTLS_E_INTERRUPTED) {
        return gnutls_record_get_direction(s->session) ? POLLOUT : POLLIN;
    }
    if (ret == GNUTLS_E_FATAL_ALERT_RECEIVED) {
        error_setg(errp, "TLS handshake failed: the other side says: %s",
                   alert_name(s));
        return -1;
    }
    if (ret < 0 && !gnutls_error_is_fatal(ret)) {
        return POLLIN;      /* a warning */
    }
    if (ret < 0) {
        error_setg(errp, "TLS handshake failed: %s", gnutls_strerror(ret));
        /* For the other side to know. */
        gnutls_alert_send_appropriate(s->session, ret);
        return -1;
    }
    return judge(s, errp) ? 0 : -1;
}

const char *crypto_tls_peer_name(const CryptoTLSSession *s)
{
    return s->peer_name;
}

const char *crypto_tls_alert(const CryptoTLSSession *s)
{
    return s->alert;
}

/* --- data --- */

static ssize_t result(ssize_t ret)
{
    if (ret >= 0) {
        return ret;
    }
    if (ret == GNUTLS_E_AGAIN || ret == GNUTLS_E_INTERRUPTED ||
        !gnutls_error_is_fatal(ret)) {
        return -EAGAIN;
    }
    return ret == GNUTLS_E_PREMATURE_TERMINATION || ret == GNUTLS_E_PULL_ERROR
           ? -ECONNRESET : ret == GNUTLS_E_PUSH_ERROR ? -EPIPE : -EIO;
}

ssize_t crypto_tls_read(CryptoTLSSession *s, void *buf, size_t len)
{
    ssize_t ret;

    QEMU_LOCK_GUARD(&s->lock);
    ret = gnutls_record_recv(s->session, buf, len);
    if (ret == GNUTLS_E_FATAL_ALERT_RECEIVED) {
        s->alert = alert_name(s);
    }
    return result(ret);
}

ssize_t crypto_tls_write(CryptoTLSSession *s, const void *buf, size_t len)
{
    QEMU_LOCK_GUARD(&s->lock);
    return result(gnutls_record_send(s->session, buf, len));
}

void crypto_tls_bye(CryptoTLSSession *s)
{
    QEMU_LOCK_GUARD(&s->lock);
    gnutls_bye(s->session, GNUTLS_SHUT_WR);
}
