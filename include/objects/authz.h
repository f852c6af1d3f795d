/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Objects that say who may do something: by an identity, which for TLS is the
 * distinguished name in the client's certificate.
 */
#ifndef OBJECTS_AUTHZ_H
#define OBJECTS_AUTHZ_H

#include "objects/object.h"

/* For objects/object.c. */
extern const UserObjectClass authz_list_class;
extern const UserObjectClass authz_list_file_class;
extern const UserObjectClass authz_simple_class;

/* Takes a use of object @id; NULL with @errp if there is none, or it is of
 * another kind. Give it back with user_object_unuse(). */
UserObject *authz_use(const char *id, Error **errp);

/*
 * Whether @identity may; false with @errp says why not. What cannot be decided
 * is denied. Any thread.
 */
bool authz_is_allowed(const UserObject *authz, const char *identity,
                      Error **errp);

#endif
