/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Secrets: passphrases and keys that users define once, by whatever way hides
 * them best, and name by id. They are wiped when they are removed; whoever gets
 * a copy wipes it after use. Main thread.
 */
#ifndef OBJECTS_SECRET_H
#define OBJECTS_SECRET_H

#include "objects/object.h"

extern const UserObjectClass secret_class;
extern const UserObjectClass secret_keyring_class;

/* A copy of a secret. */
typedef struct SecretCopy {
    uint8_t *data;      /* a zero byte follows */
    size_t len;
} SecretCopy;

/* Wipes and frees it. */
void secret_copy_clear(SecretCopy *s);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(SecretCopy, secret_copy_clear)

/* Secret @id. False with @errp: there is none, or the object is none. */
bool secret_lookup(const char *id, SecretCopy *s, Error **errp);
/* The same; it must be text in UTF-8 (passphrases). */
bool secret_lookup_text(const char *id, SecretCopy *s, Error **errp);

#endif
