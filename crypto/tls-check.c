/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A look at one's own certificates, so that what is wrong with them shows when
 * they are loaded and not as an alert on the other side.
 */
#include "util/osdep.h"
#include "tls-int.h"

#define MAX_CERTS 64

typedef struct Certs {
    const char *path;
    const char *what;       /* "CA", "server", "client" */
    gnutls_x509_crt_t crt[MAX_CERTS];
    unsigned count;
} Certs;

static void certs_clear(Certs *c)
{
    for (unsigned i = 0; i < c->count; i++) {
        gnutls_x509_crt_deinit(c->crt[i]);
    }
    c->count = 0;
}

static bool load(Certs *c, Error **errp)
{
    g_autoptr(GError) gerr = NULL;
    g_autofree char *content = NULL;
    gnutls_datum_t datum;
    gsize len;
    int ret;

    if (!g_file_get_contents(c->path, &content, &len, &gerr)) {
        error_setg(errp, "Cannot load %s cert list %s: %s", c->what, c->path,
                   gerr->message);
        return false;
    }
    datum.data = (unsigned char *)content;
    datum.size = len;
    c->count = MAX_CERTS;
    ret = gnutls_x509_crt_list_import(c->crt, &c->count, &datum,
                                      GNUTLS_X509_FMT_PEM,
                                      GNUTLS_X509_CRT_LIST_IMPORT_FAIL_IF_EXCEED);
    if (ret <= 0) {
        c->count = 0;
        error_setg(errp, "Unable to import %s certificate %s: %s", c->what,
                   c->path, ret ? gnutls_strerror(ret) : "it is empty");
        return false;
    }
    c->count = ret;
    return true;
}

static bool check_times(const Certs *c, gnutls_x509_crt_t crt, Error **errp)
{
    time_t now = time(NULL);

    if (gnutls_x509_crt_get_expiration_time(crt) < now) {
        error_setg(errp, "The %s certificate %s has expired", c->what,
                   c->path);
        return false;
    }
    if (gnutls_x509_crt_get_activation_time(crt) > now) {
        error_setg(errp, "The %s certificate %s is not yet active", c->what,
                   c->path);
        return false;
    }
    return true;
}

/* Whether it is a CA's or not, as it should be. */
static bool check_is_ca(const Certs *c, gnutls_x509_crt_t crt, bool wanted,
                        Error **errp)
{
    unsigned critical;
    int ret = gnutls_x509_crt_get_basic_constraints(crt, &critical, NULL,
                                                    NULL);

    if (ret < 0 && ret != GNUTLS_E_REQUESTED_DATA_NOT_AVAILABLE) {
        error_setg(errp, "Unable to query certificate %s basic constraints: "
                   "%s", c->path, gnutls_strerror(ret));
        return false;
    }
    if (ret > 0 && !wanted) {
        error_setg(errp, "The certificate %s basic constraints show a CA, but "
                   "we need one for a %s", c->path, c->what);
        return false;
    }
    if (ret <= 0 && wanted) {
        error_setg(errp, "The certificate %s basic constraints do not show a "
                   "CA", c->path);
        return false;
    }
    return true;
}

/* One that names purposes must name that of its side. */
static bool check_purpose(const Certs *c, gnutls_x509_crt_t crt, bool server,
                          Error **errp)
{
    const char *wanted = server ? GNUTLS_KP_TLS_WWW_SERVER
                                : GNUTLS_KP_TLS_WWW_CLIENT;
    bool any = false;

    for (unsigned i = 0; i < MAX_CERTS; i++) {
        char oid[128];
        size_t size = sizeof(oid);
        unsigned critical;
        int ret = gnutls_x509_crt_get_key_purpose_oid(crt, i, oid, &size,
                                                      &critical);

        if (ret == GNUTLS_E_REQUESTED_DATA_NOT_AVAILABLE) {
            break;
        }
        any = true;
        if (ret >= 0 && (!strcmp(oid, wanted) ||
                         !strcmp(oid, GNUTLS_KP_ANY))) {
            return true;
        }
    }
    if (any) {
        error_setg(errp, "Certificate %s purpose does not allow use with a TLS "
                   "%s", c->path, c->what);
    }
    return !any;
}

static bool check_chain(const Certs *own, const Certs *ca, Error **errp)
{
    unsigned status = 0;
    int ret = gnutls_x509_crt_list_verify(own->crt, own->count, ca->crt,
                                          ca->count, NULL, 0, 0, &status);

    if (ret < 0 || status) {
        error_setg(errp, "Our own certificate %s failed validation against %s: "
                   "%s", own->path, ca->path,
                   ret < 0 ? gnutls_strerror(ret)
                   : status & GNUTLS_CERT_SIGNER_NOT_FOUND
                   ? "The certificate hasn't got a known issuer"
                   : status & GNUTLS_CERT_INSECURE_ALGORITHM
                   ? "The certificate uses an insecure algorithm"
                   : "The certificate is not trusted");
        return false;
    }
    return true;
}

static bool check_ca(const Certs *ca, Error **errp)
{
    for (unsigned i = 0; i < ca->count; i++) {
        if (!check_times(ca, ca->crt[i], errp) ||
            !check_is_ca(ca, ca->crt[i], true, errp)) {
            return false;
        }
    }
    return true;
}

static bool check_own(const Certs *own, const Certs *ca, bool server,
                      Error **errp)
{
    return check_times(own, own->crt[0], errp) &&
           check_is_ca(own, own->crt[0], false, errp) &&
           check_purpose(own, own->crt[0], server, errp) &&
           check_chain(own, ca, errp);
}

bool crypto_tls_check_certs(const CryptoTLSX509 *args, const char *ca_path,
                            const char *cert_path, Error **errp)
{
    Certs ca = { .path = ca_path, .what = "CA" };
    Certs own = {
        .path = cert_path, .what = args->server ? "server" : "client",
    };
    bool ok = load(&ca, errp) && check_ca(&ca, errp);

    if (ok && cert_path) {
        ok = load(&own, errp) && check_own(&own, &ca, args->server, errp);
    }
    certs_clear(&ca);
    certs_clear(&own);
    return ok;
}
