/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Streaming JSON parser for connections: values follow one another without
 * framing, in pieces of any size.
 *
 * Limits per value: 64 MiB of text, 2 Mi tokens, 1024 levels of nesting.  After a
 * lexical error, or a limit, the input is skipped up to the next newline or
 * control character; after any other error parsing goes on behind the value.
 * A control character (other than tab, CR, LF) or the byte 0xFF outside of all
 * rules makes one error and resets the parser: clients synchronise with it.
 * Rules of qobject/qobject.h apply.
 */
#ifndef QOBJECT_JSON_PARSER_H
#define QOBJECT_JSON_PARSER_H

#include "qobject/qobject.h"
#include "util/error.h"

#define JSON_MAX_TOKEN_BYTES (64 * 1024 * 1024)
#define JSON_MAX_TOKENS (2 * 1024 * 1024)
#define JSON_MAX_NESTING 1024

typedef struct JSONMessageParser {
    /* gets each value, or the error in its place: exactly one is not NULL and
     * belongs to the callee; called from within feed and flush, and must not
     * call the parser again */
    void (*emit)(void *opaque, QObject *json, Error *err);
    void *opaque;
    va_list *ap;                /* values for %-interpolation, or NULL */
    struct JSONLexer *lexer;
    GArray *tokens;             /* of the value being collected */
    GString *text;              /* of those tokens */
    guint8 *openers;            /* stack of '{' and '[' */
    unsigned depth;
} JSONMessageParser;

/* Prepare @parser; destroy it with json_message_parser_destroy(). */
void json_message_parser_init(JSONMessageParser *parser,
                              void (*emit)(void *opaque, QObject *json,
                                           Error *err),
                              void *opaque, va_list *ap);

/* Parse @size more bytes; calls emit zero or more times. */
void json_message_parser_feed(JSONMessageParser *parser,
                              const char *buffer, size_t size);

/* The input ends here: a value left incomplete makes an error.  The parser is
 * ready for new input. */
void json_message_parser_flush(JSONMessageParser *parser);

/* Whether the input so far ends in the middle of an object or array. */
bool json_message_parser_in_value(const JSONMessageParser *parser);

void json_message_parser_destroy(JSONMessageParser *parser);

#endif /* QOBJECT_JSON_PARSER_H */
