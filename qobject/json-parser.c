/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The streaming parser.
 *
 * Tokens are collected until they make up a whole value, that is until every
 * bracket is closed (or one is closed that is not the innermost); then they are
 * parsed at once.  So a mistake inside a value is reported once, and parsing goes
 * on behind the value.
 *
 * Nothing recurses: nesting is kept in `openers` while collecting and in a stack of
 * containers while parsing.
 */
#include "util/osdep.h"
#include <math.h>
#include "qobject/json-parser.h"
#include "qobject/qbool.h"
#include "qobject/qdict.h"
#include "qobject/qlist.h"
#include "qobject/qnull.h"
#include "qobject/qnum.h"
#include "qobject/qstring.h"
#include "json-lexer.h"
#include "json-string.h"

typedef struct Token {
    JSONTokenType type;
    size_t offset, len;         /* in parser->text */
} Token;

/* --- parsing of a collected value --- */

/* A container being filled: its member name is set between ':' and ','. */
typedef struct Level {
    QObject *container;         /* owned by the level above, or the result */
    char *key;
} Level;

typedef enum {
    WANT_VALUE,
    WANT_VALUE_OR_END,          /* behind '[' */
    WANT_KEY,
    WANT_KEY_OR_END,            /* behind '{' */
    WANT_COLON,
    WANT_SEPARATOR,
    DONE,
} Want;

typedef struct Parse {
    JSONMessageParser *parser;
    GArray *levels;
    QObject *result;
    Want want;
    Error **errp;
} Parse;

static void G_GNUC_PRINTF(2, 3) parse_error(Parse *parse, const char *fmt, ...)
{
    g_autofree char *msg = NULL;
    va_list ap;

    va_start(ap, fmt);
    msg = g_strdup_vprintf(fmt, ap);
    va_end(ap);
    error_setg(parse->errp, "JSON parse error, %s", msg);
}

static Level *top_level(Parse *parse)
{
    return &g_array_index(parse->levels, Level, parse->levels->len - 1);
}

static QObject *parse_keyword(Parse *parse, const char *text)
{
    if (!strcmp(text, "true") || !strcmp(text, "false")) {
        return QOBJECT(qbool_from_bool(text[0] == 't'));
    }
    if (!strcmp(text, "null")) {
        return QOBJECT(qnull());
    }
    parse_error(parse, "invalid keyword '%s'", text);
    return NULL;
}

/* @integer tells the syntax of @text; what fits no integer becomes a double. */
static QObject *parse_number(Parse *parse, const char *text, bool integer)
{
    double dbl;

    if (integer) {
        int64_t i64;
        uint64_t u64;

        errno = 0;
        i64 = g_ascii_strtoll(text, NULL, 10);
        if (!errno) {
            return QOBJECT(qnum_from_int(i64));
        }
        errno = 0;
        u64 = g_ascii_strtoull(text, NULL, 10);
        if (!errno && text[0] != '-') {
            return QOBJECT(qnum_from_uint(u64));
        }
    }
    dbl = g_ascii_strtod(text, NULL);
    if (!isfinite(dbl)) {
        parse_error(parse, "number '%.40s' is out of range", text);
        return NULL;
    }
    return QOBJECT(qnum_from_double(dbl));
}

static QObject *parse_interpolation(Parse *parse, const char *text)
{
    va_list *ap = parse->parser->ap;

    if (!strcmp(text, "%p")) {
        return va_arg(*ap, QObject *);
    } else if (!strcmp(text, "%i")) {
        return QOBJECT(qbool_from_bool(va_arg(*ap, int)));
    } else if (!strcmp(text, "%d")) {
        return QOBJECT(qnum_from_int(va_arg(*ap, int)));
    } else if (!strcmp(text, "%ld")) {
        return QOBJECT(qnum_from_int(va_arg(*ap, long)));
    } else if (!strcmp(text, "%lld")) {
        return QOBJECT(qnum_from_int(va_arg(*ap, long long)));
    } else if (!strcmp(text, "%u")) {
        return QOBJECT(qnum_from_uint(va_arg(*ap, unsigned)));
    } else if (!strcmp(text, "%lu")) {
        return QOBJECT(qnum_from_uint(va_arg(*ap, unsigned long)));
    } else if (!strcmp(text, "%llu")) {
        return QOBJECT(qnum_from_uint(va_arg(*ap, unsigned long long)));
    } else if (!strcmp(text, "%s")) {
        return QOBJECT(qstring_from_str(va_arg(*ap, const char *)));
    } else if (!strcmp(text, "%f")) {
        return QOBJECT(qnum_from_double(va_arg(*ap, double)));
    }
    parse_error(parse, "invalid interpolation '%s'", text);
    return NULL;
}

/* The value of a token that is one by itself, or an empty container. */
static QObject *parse_token(Parse *parse, const Token *token)
{
    const char *text = parse->parser->text->str + token->offset;
    char *string, *problem;

    switch (token->type) {
    case JSON_LCURLY:
        return QOBJECT(qdict_new());
    case JSON_LSQUARE:
        return QOBJECT(qlist_new());
    case JSON_KEYWORD:
        return parse_keyword(parse, text);
    case JSON_INTEGER:
        return parse_number(parse, text, true);
    case JSON_FLOAT:
        return parse_number(parse, text, false);
    case JSON_INTERP:
        return parse_interpolation(parse, text);
    case JSON_STRING:
        string = json_string_decode(text, token->len, &problem);
        if (!string) {
            parse_error(parse, "%s", problem);
            g_free(problem);
            return NULL;
        }
        return QOBJECT(qstring_adopt(string));
    default:
        parse_error(parse, "expecting value");
        return NULL;
    }
}

static bool parse_value(Parse *parse, const Token *token)
{
    QObject *value = parse_token(parse, token);
    Level level = { .container = value };

    if (!value) {
        return false;
    }
    if (!parse->levels->len) {
        parse->result = value;
    } else if (qobject_type(top_level(parse)->container) == QTYPE_QLIST) {
        qlist_append_obj(qobject_to(QList, top_level(parse)->container),
                         value);
    } else {
        Level *top = top_level(parse);

        qdict_put_obj(qobject_to(QDict, top->container), top->key, value);
        g_clear_pointer(&top->key, g_free);
    }
    if (token->type == JSON_LCURLY || token->type == JSON_LSQUARE) {
        g_array_append_val(parse->levels, level);
        parse->want = token->type == JSON_LCURLY ? WANT_KEY_OR_END
                                                 : WANT_VALUE_OR_END;
    } else {
        parse->want = parse->levels->len ? WANT_SEPARATOR : DONE;
    }
    return true;
}

static bool parse_key(Parse *parse, const Token *token)
{
    g_autoptr(QObject) value = parse_token(parse, token);
    Level *top = top_level(parse);
    const char *key;

    if (!value) {
        return false;
    }
    if (qobject_type(value) != QTYPE_QSTRING) {
        parse_error(parse, "key is not a string in object");
        return false;
    }
    key = qstring_get_str(qobject_to(QString, value));
    if (qdict_haskey(qobject_to(QDict, top->container), key)) {
        parse_error(parse, "duplicate key");
        return false;
    }
    top->key = g_strdup(key);
    parse->want = WANT_COLON;
    return true;
}

static void parse_close(Parse *parse)
{
    g_array_set_size(parse->levels, parse->levels->len - 1);
    parse->want = parse->levels->len ? WANT_SEPARATOR : DONE;
}

static bool parse_separator(Parse *parse, const Token *token)
{
    bool dict = qobject_type(top_level(parse)->container) == QTYPE_QDICT;

    if (token->type == JSON_COMMA) {
        parse->want = dict ? WANT_KEY : WANT_VALUE;
        return true;
    }
    if (token->type == (dict ? JSON_RCURLY : JSON_RSQUARE)) {
        parse_close(parse);
        return true;
    }
    parse_error(parse, "expected separator in %s", dict ? "dict" : "list");
    return false;
}

static bool parse_step(Parse *parse, const Token *token)
{
    switch (parse->want) {
    case WANT_VALUE_OR_END:
        if (token->type == JSON_RSQUARE) {
            parse_close(parse);
            return true;
        }
        return parse_value(parse, token);
    case WANT_VALUE:
        return parse_value(parse, token);
    case WANT_KEY_OR_END:
        if (token->type == JSON_RCURLY) {
            parse_close(parse);
            return true;
        }
        return parse_key(parse, token);
    case WANT_KEY:
        return parse_key(parse, token);
    case WANT_COLON:
        if (token->type != JSON_COLON) {
            parse_error(parse, "missing : in object pair");
            return false;
        }
        parse->want = WANT_VALUE;
        return true;
    case WANT_SEPARATOR:
        return parse_separator(parse, token);
    default:
        g_assert_not_reached();
    }
}

static void level_clear(gpointer data)
{
    g_free(((Level *)data)->key);
}

/* Parse the collected tokens: a value for the caller, or NULL and an error. */
static QObject *parse_tokens(JSONMessageParser *parser, Error **errp)
{
    Parse parse = {
        .parser = parser, .errp = errp, .want = WANT_VALUE,
        .levels = g_array_new(FALSE, FALSE, sizeof(Level)),
    };
    bool ok = true;
    guint i;

    g_array_set_clear_func(parse.levels, level_clear);
    for (i = 0; ok && i < parser->tokens->len; i++) {
        /* tokens end where a value does */
        assert(parse.want != DONE);
        ok = parse_step(&parse, &g_array_index(parser->tokens, Token, i));
    }
    if (ok && parse.want != DONE) {
        parse_error(&parse, "premature EOI");
        ok = false;
    }
    g_array_free(parse.levels, TRUE);
    if (!ok) {
        qobject_unref(parse.result);
        return NULL;
    }
    return parse.result;
}

/* --- collecting --- */

static void message_reset(JSONMessageParser *parser)
{
    g_array_set_size(parser->tokens, 0);
    g_string_truncate(parser->text, 0);
    parser->depth = 0;
}

static void message_error(JSONMessageParser *parser, Error *err)
{
    message_reset(parser);
    json_lexer_skip_line(parser->lexer);
    parser->emit(parser->opaque, NULL, err);
}

static void message_complete(JSONMessageParser *parser)
{
    Error *err = NULL;
    QObject *json = parse_tokens(parser, &err);

    message_reset(parser);
    parser->emit(parser->opaque, json, err);
}

/* Track brackets; true if the value ends with this token. */
static bool message_nesting(JSONMessageParser *parser, JSONTokenType type)
{
    JSONTokenType opener;

    switch (type) {
    case JSON_LCURLY:
    case JSON_LSQUARE:
        assert(parser->depth < JSON_MAX_NESTING);
        parser->openers[parser->depth++] = type;
        return false;
    case JSON_RCURLY:
    case JSON_RSQUARE:
        opener = type == JSON_RCURLY ? JSON_LCURLY : JSON_LSQUARE;
        if (!parser->depth || parser->openers[parser->depth - 1] != opener) {
            return true;
        }
        return --parser->depth == 0;
    default:
        return parser->depth == 0;
    }
}

static Error *message_limits(JSONMessageParser *parser, JSONTokenType type,
                             size_t len)
{
    Error *err = NULL;
    bool opens = type == JSON_LCURLY || type == JSON_LSQUARE;

    if (parser->text->len + len > JSON_MAX_TOKEN_BYTES) {
        error_setg(&err, "JSON token size limit exceeded");
    } else if (parser->tokens->len >= JSON_MAX_TOKENS) {
        error_setg(&err, "JSON token count limit exceeded");
    } else if (opens && parser->depth >= JSON_MAX_NESTING) {
        error_setg(&err, "JSON nesting depth limit exceeded");
    }
    return err;
}

static void message_token(void *opaque, JSONTokenType type, const char *text,
                          size_t len)
{
    JSONMessageParser *parser = opaque;
    Token token = { .type = type, .offset = parser->text->len, .len = len };
    Error *err;

    if (type == JSON_ERROR) {
        err = NULL;
        error_setg(&err, "JSON parse error, stray '%.*s'%s",
                   (int)MIN(len, 200), text, len > 200 ? "..." : "");
        message_error(parser, err);
        return;
    }
    err = message_limits(parser, type, len);
    if (err) {
        message_error(parser, err);
        return;
    }
    g_string_append_len(parser->text, text, len);
    g_string_append_c(parser->text, '\0');
    g_array_append_val(parser->tokens, token);
    if (message_nesting(parser, type)) {
        message_complete(parser);
    }
}

void json_message_parser_init(JSONMessageParser *parser,
                              void (*emit)(void *opaque, QObject *json,
                                           Error *err),
                              void *opaque, va_list *ap)
{
    *parser = (JSONMessageParser) {
        .emit = emit, .opaque = opaque, .ap = ap,
        .lexer = g_new0(JSONLexer, 1),
        .tokens = g_array_new(FALSE, FALSE, sizeof(Token)),
        .text = g_string_new(""),
        .openers = g_malloc(JSON_MAX_NESTING),
    };
    json_lexer_init(parser->lexer, ap != NULL, message_token, parser);
}

void json_message_parser_feed(JSONMessageParser *parser,
                              const char *buffer, size_t size)
{
    size_t i;

    for (i = 0; i < size; i++) {
        json_lexer_feed(parser->lexer, buffer[i]);
        if (parser->lexer->text->len > JSON_MAX_TOKEN_BYTES) {
            Error *err = NULL;

            error_setg(&err, "JSON token size limit exceeded");
            g_string_truncate(parser->lexer->text, 0);
            message_error(parser, err);
        }
    }
}

void json_message_parser_flush(JSONMessageParser *parser)
{
    json_lexer_flush(parser->lexer);
    if (parser->tokens->len) {
        message_complete(parser);
    }
}

bool json_message_parser_in_value(const JSONMessageParser *parser)
{
    return parser->tokens->len;
}

void json_message_parser_destroy(JSONMessageParser *parser)
{
    json_lexer_destroy(parser->lexer);
    g_free(parser->lexer);
    g_array_free(parser->tokens, TRUE);
    g_string_free(parser->text, TRUE);
    g_free(parser->openers);
}
