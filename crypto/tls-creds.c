/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * TLS credentials: files of a directory, with the names that QEMU and libvirt
 * give them.
 */
#include "util/osdep.h"
#include "tls-int.h"

#define DEFAULT_PRIORITY "NORMAL"
/* Kinds of key exchange for keys that both sides know. */
#define PSK_PRIORITY ":+ECDHE-PSK:+DHE-PSK:+PSK"
#define DEFAULT_USERNAME "qemu"

static bool gnutls_failed(int ret, const char *what, const char *path,
                          Error **errp)
{
    if (ret < 0) {
        error_setg(errp, "Cannot load %s '%s': %s", what, path,
                   gnutls_strerror(ret));
    }
    return ret < 0;
}

/* Path of @name if there is such a file; if not, NULL, with @errp if it is
 * required. */
static char *find_file(const char *dir, const char *name, bool required,
                       Error **errp)
{
    g_autofree char *path = g_build_filename(dir, name, NULL);

    if (access(path, R_OK) == 0) {
        return g_steal_pointer(&path);
    }
    if (required || errno != ENOENT) {
        error_setg_errno(errp, errno, "Unable to access credentials %s", path);
    }
    return NULL;
}

/* --- certificates --- */

static bool load_ca(CryptoTLSCreds *creds, const char *path, Error **errp)
{
    int ret = gnutls_certificate_set_x509_trust_file(creds->x509, path,
                                                     GNUTLS_X509_FMT_PEM);

    return !gnutls_failed(ret, "CA certificate", path, errp);
}

static bool load_own(CryptoTLSCreds *creds, const CryptoTLSX509 *args,
                     const char *cert, const char *key, Error **errp)
{
    int ret = gnutls_certificate_set_x509_key_file2(
        creds->x509, cert, key, GNUTLS_X509_FMT_PEM, args->password, 0);

    return !gnutls_failed(ret, "certificate and key", cert, errp);
}

static bool load_crl(CryptoTLSCreds *creds, const char *path, Error **errp)
{
    int ret = gnutls_certificate_set_x509_crl_file(creds->x509, path,
                                                   GNUTLS_X509_FMT_PEM);

    return !gnutls_failed(ret, "list of revoked certificates", path, errp);
}

static bool load_x509(CryptoTLSCreds *creds, const CryptoTLSX509 *args,
                      Error **errp)
{
    ERRP_GUARD();
    const char *side = args->server ? "server" : "client";
    g_autofree char *cert_name = g_strdup_printf("%s-cert.pem", side);
    g_autofree char *key_name = g_strdup_printf("%s-key.pem", side);
    g_autofree char *ca = find_file(args->dir, "ca-cert.pem", true, errp);
    g_autofree char *cert = NULL, *key = NULL, *crl = NULL;

    if (ca) {
        cert = find_file(args->dir, cert_name, args->server, errp);
    }
    if (cert) {
        key = find_file(args->dir, key_name, true, errp);
    }
    if (!*errp) {
        crl = find_file(args->dir, "ca-crl.pem", false, errp);
    }
    if (*errp) {
        return false;
    }
    return (!args->sanity_check ||
            crypto_tls_check_certs(args, ca, cert, errp)) &&
           load_ca(creds, ca, errp) &&
           (!cert || load_own(creds, args, cert, key, errp)) &&
           (!crl || load_crl(creds, crl, errp));
}

/* A typing error shows now and not with the first client. */
static bool check_priority(const CryptoTLSCreds *creds, Error **errp)
{
    gnutls_priority_t priority;
    const char *where;
    int ret = gnutls_priority_init(&priority, creds->priority, &where);

    if (ret < 0) {
        error_setg(errp, "Unable to set TLS session priority %s: %s",
                   creds->priority, gnutls_strerror(ret));
        return false;
    }
    gnutls_priority_deinit(priority);
    return true;
}

CryptoTLSCreds *crypto_tls_creds_new_x509(const CryptoTLSX509 *args,
                                          Error **errp)
{
    CryptoTLSCreds *creds = g_new0(CryptoTLSCreds, 1);

    creds->server = args->server;
    creds->verify_peer = args->verify_peer;
    creds->priority = g_strdup(args->priority ?: DEFAULT_PRIORITY);
    if (gnutls_certificate_allocate_credentials(&creds->x509) < 0) {
        g_error("out of memory");
    }
    gnutls_certificate_set_known_dh_params(creds->x509,
                                           GNUTLS_SEC_PARAM_MEDIUM);
    if (!check_priority(creds, errp) || !load_x509(creds, args, errp)) {
        crypto_tls_creds_free(creds);
        return NULL;
    }
    return creds;
}

/* --- keys that both sides know --- */

/* The key of @username in hexadecimal digits, from lines NAME:KEY; the caller
 * wipes it. */
static char *find_key(const char *path, const char *username, Error **errp)
{
    g_autoptr(GError) gerr = NULL;
    char *content, *key = NULL;
    gsize len;
    size_t name_len = strlen(username);

    if (!g_file_get_contents(path, &content, &len, &gerr)) {
        error_setg(errp, "Cannot read PSK file %s: %s", path, gerr->message);
        return NULL;
    }
    for (char *line = content; line; ) {
        char *end = strpbrk(line, "\r\n");

        if (!strncmp(line, username, name_len) && line[name_len] == ':') {
            line += name_len + 1;
            key = g_strndup(line, end ? (size_t)(end - line) : strlen(line));
            break;
        }
        line = end ? end + 1 : NULL;
    }
    gnutls_memset(content, 0, len);
    g_free(content);
    if (!key) {
        error_setg(errp, "Username %s not found in PSK file %s", username,
                   path);
    }
    return key;
}

static bool load_psk_client(CryptoTLSCreds *creds, const char *path,
                            const char *username, Error **errp)
{
    char *key = find_key(path, username, errp);
    gnutls_datum_t datum;
    int ret;

    if (!key) {
        return false;
    }
    datum.data = (unsigned char *)key;
    datum.size = strlen(key);
    ret = gnutls_psk_allocate_client_credentials(&creds->psk_client);
    if (ret >= 0) {
        ret = gnutls_psk_set_client_credentials(creds->psk_client, username,
                                                &datum, GNUTLS_PSK_KEY_HEX);
    }
    gnutls_memset(key, 0, datum.size);
    g_free(key);
    return !gnutls_failed(ret, "key of", path, errp);
}

static bool load_psk_server(CryptoTLSCreds *creds, const char *path,
                            Error **errp)
{
    int ret = gnutls_psk_allocate_server_credentials(&creds->psk_server);

    if (ret >= 0) {
        ret = gnutls_psk_set_server_credentials_file(creds->psk_server, path);
    }
    if (ret >= 0) {
        ret = gnutls_psk_set_server_known_dh_params(creds->psk_server,
                                                    GNUTLS_SEC_PARAM_MEDIUM);
    }
    return !gnutls_failed(ret, "keys", path, errp);
}

CryptoTLSCreds *crypto_tls_creds_new_psk(const CryptoTLSPSK *args,
                                         Error **errp)
{
    g_autofree char *path = NULL;
    CryptoTLSCreds *creds;
    bool ok;

    if (args->server && args->username) {
        error_setg(errp, "username should not be set when endpoint=server");
        return NULL;
    }
    path = find_file(args->dir, "keys.psk", true, errp);
    if (!path) {
        return NULL;
    }
    creds = g_new0(CryptoTLSCreds, 1);
    creds->server = args->server;
    creds->priority = g_strdup_printf("%s" PSK_PRIORITY,
                                      args->priority ?: DEFAULT_PRIORITY);
    ok = check_priority(creds, errp) &&
         (args->server ? load_psk_server(creds, path, errp)
                       : load_psk_client(creds, path,
                                         args->username ?: DEFAULT_USERNAME,
                                         errp));
    if (!ok) {
        crypto_tls_creds_free(creds);
        return NULL;
    }
    return creds;
}

/* --- both --- */

void crypto_tls_creds_free(CryptoTLSCreds *creds)
{
    if (!creds) {
        return;
    }
    if (creds->x509) {
        gnutls_certificate_free_credentials(creds->x509);
    }
    if (creds->psk_server) {
        gnutls_psk_free_server_credentials(creds->psk_server);
    }
    if (creds->psk_client) {
        gnutls_psk_free_client_credentials(creds->psk_client);
    }
    g_free(creds->priority);
    g_free(creds);
}

bool crypto_tls_creds_for_server(const CryptoTLSCreds *creds)
{
    return creds->server;
}

bool crypto_tls_creds_know_peer(const CryptoTLSCreds *creds)
{
    return creds->x509 && creds->verify_peer;
}
