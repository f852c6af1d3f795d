/* SPDX-License-Identifier: GPL-2.0-or-later */
/* TLS credentials as objects. Main thread. */
#ifndef OBJECTS_TLS_CREDS_H
#define OBJECTS_TLS_CREDS_H

#include "crypto/tls.h"
#include "objects/object.h"

extern const UserObjectClass tls_creds_psk_class;
extern const UserObjectClass tls_creds_x509_class;

/*
 * Takes a use of object @id, which must be credentials for that side; give it
 * back with user_object_unuse(). What user_object_data() has is a CryptoTLSCreds.
 * NULL with @errp.
 */
UserObject *tls_creds_use(const char *id, bool server, Error **errp);

#endif
