/* SPDX-License-Identifier: GPL-2.0-or-later */
/* TLS credentials as objects. */
#include "util/osdep.h"
#include "objects/secret.h"
#include "objects/tls-creds.h"

static bool is_server(const TlsCredsProperties *p)
{
    return p->has_endpoint &&
           p->endpoint == QCRYPTO_TLS_CREDS_ENDPOINT_SERVER;
}

static bool check_dir(const TlsCredsProperties *p, Error **errp)
{
    if (!p->dir) {
        error_setg(errp, "Missing 'dir' property value");
    }
    return p->dir;
}

static void *x509_create(const ObjectOptions *options, Error **errp)
{
    const TlsCredsX509Properties *o = &options->u.tls_creds_x509;
    const TlsCredsProperties *p = qapi_TlsCredsX509Properties_base(o);
    g_auto(SecretCopy) password = { 0 };
    CryptoTLSX509 args = {
        .server = is_server(p),
        .dir = p->dir,
        .verify_peer = !p->has_verify_peer || p->verify_peer,
        .sanity_check = !o->has_sanity_check || o->sanity_check,
        .priority = p->priority,
    };

    if (!check_dir(p, errp) ||
        (o->passwordid && !secret_lookup_text(o->passwordid, &password,
                                              errp))) {
        return NULL;
    }
    args.password = (char *)password.data;
    return crypto_tls_creds_new_x509(&args, errp);
}

static void *psk_create(const ObjectOptions *options, Error **errp)
{
    const TlsCredsPskProperties *o = &options->u.tls_creds_psk;
    const TlsCredsProperties *p = qapi_TlsCredsPskProperties_base(o);
    CryptoTLSPSK args = {
        .server = is_server(p),
        .dir = p->dir,
        .username = o->username,
        .priority = p->priority,
    };

    if (!check_dir(p, errp)) {
        return NULL;
    }
    if (p->has_verify_peer) {
        error_setg(errp, "The option 'verify-peer' is for certificates only");
        return NULL;
    }
    return crypto_tls_creds_new_psk(&args, errp);
}

static void creds_destroy(void *data)
{
    crypto_tls_creds_free(data);
}

/* --- types --- */

static const QomProperty creds_properties[] = {
    { "verify-peer", "bool", user_object_get_option, .initial = "true" },
    { "dir", "string", user_object_get_option },
    { "endpoint", "QCryptoTLSCredsEndpoint", user_object_get_option,
      .initial = "\"client\"" },
    { "priority", "string", user_object_get_option },
    { }
};

static const QomType creds_type = {
    .name = "tls-creds",
    .parent = &qom_type_object,
    .abstract = true,
    .properties = creds_properties,
    .members = qapi_TlsCredsProperties_members,
};

static const QomProperty x509_properties[] = {
    { "sanity-check", "bool", user_object_get_option, .initial = "true" },
    { "passwordid", "string", user_object_get_option },
    { }
};

static const QomProperty psk_properties[] = {
    { "username", "string", user_object_get_option },
    { }
};

const UserObjectClass tls_creds_x509_class = {
    .type = OBJECT_TYPE_TLS_CREDS_X509,
    .qom = {
        .name = "tls-creds-x509",
        .parent = &creds_type,
        .user_creatable = true,
        .properties = x509_properties,
        .members = qapi_TlsCredsX509Properties_members,
    },
    .create = x509_create,
    .destroy = creds_destroy,
};

const UserObjectClass tls_creds_psk_class = {
    .type = OBJECT_TYPE_TLS_CREDS_PSK,
    .qom = {
        .name = "tls-creds-psk",
        .parent = &creds_type,
        .user_creatable = true,
        .properties = psk_properties,
        .members = qapi_TlsCredsPskProperties_members,
    },
    .create = psk_create,
    .destroy = creds_destroy,
};

/* --- uses --- */

UserObject *tls_creds_use(const char *id, bool server, Error **errp)
{
    ObjectType type = OBJECT_TYPE__MAX;
    const CryptoTLSCreds *creds = user_object_find_data(id, &type);

    if (!creds) {
        error_setg(errp, "No TLS credentials with id '%s'", id);
        return NULL;
    }
    if (type != OBJECT_TYPE_TLS_CREDS_X509 &&
        type != OBJECT_TYPE_TLS_CREDS_PSK) {
        error_setg(errp, "Object with id '%s' is not TLS credentials", id);
        return NULL;
    }
    if (crypto_tls_creds_for_server(creds) != server) {
        error_setg(errp, "Expected TLS credentials for a %s endpoint",
                   server ? "server" : "client");
        return NULL;
    }
    return user_object_use(id, type, errp);
}
