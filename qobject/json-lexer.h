/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Cuts JSON text, given byte by byte, into tokens.  For json-parser.c. */
#ifndef QOBJECT_JSON_LEXER_H
#define QOBJECT_JSON_LEXER_H

#include <glib.h>
#include <stdbool.h>

typedef enum JSONTokenType {
    JSON_LCURLY,
    JSON_RCURLY,
    JSON_LSQUARE,
    JSON_RSQUARE,
    JSON_COLON,
    JSON_COMMA,
    JSON_INTEGER,
    JSON_FLOAT,
    JSON_KEYWORD,
    JSON_STRING,        /* with its quotes and escapes */
    JSON_INTERP,        /* a % conversion */
    JSON_ERROR,         /* text that is no token */
} JSONTokenType;

typedef struct JSONLexer {
    /* gets each token; the text is only valid during the call */
    void (*token)(void *opaque, JSONTokenType type, const char *text,
                  size_t len);
    void *opaque;
    GString *text;      /* the token so far */
    int state;
    char quote;
    bool interpolate;   /* whether '%' starts a token */
} JSONLexer;

void json_lexer_init(JSONLexer *lexer, bool interpolate,
                     void (*token)(void *opaque, JSONTokenType type,
                                   const char *text, size_t len),
                     void *opaque);
void json_lexer_destroy(JSONLexer *lexer);

void json_lexer_feed(JSONLexer *lexer, unsigned char ch);

/* The input ends: what was begun becomes a token. */
void json_lexer_flush(JSONLexer *lexer);

/* Ignore input up to the next newline or control character. */
void json_lexer_skip_line(JSONLexer *lexer);

#endif /* QOBJECT_JSON_LEXER_H */
