/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * JSON string literals from and to text.
 *
 * A NUL character, which C text cannot hold, is kept as the two bytes C0 80 between
 * both directions.
 */
#ifndef QOBJECT_JSON_STRING_H
#define QOBJECT_JSON_STRING_H

#include <glib.h>

/*
 * The text of the literal of @len bytes (with quotes) at @token; the caller frees.
 * If it is not valid: NULL and a phrase saying why in *@problem, freed likewise.
 */
char *json_string_decode(const char *token, size_t len, char **problem);

/* Append @text as a literal in ASCII. */
void json_string_encode(GString *out, const char *text);

#endif /* QOBJECT_JSON_STRING_H */
