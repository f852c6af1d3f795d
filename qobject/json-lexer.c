/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The lexer: a state per position inside a token.
 *
 * A token that can go on ends when a byte arrives that cannot belong to it; the
 * byte is then looked at again from the start state.  A byte that cannot
 * follow at all ends the token as JSON_ERROR, itself included.
 */
#include "util/osdep.h"
#include "json-lexer.h"

enum {
    LEX_START,
    LEX_STRING,
    LEX_ESCAPE,         /* behind a backslash */
    LEX_MINUS,          /* needs a digit */
    LEX_ZERO,           /* nothing but a fraction or exponent */
    LEX_DIGITS,
    LEX_POINT,          /* needs a digit */
    LEX_FRACTION,
    LEX_EXP,            /* needs a sign or digit */
    LEX_EXP_SIGN,       /* needs a digit */
    LEX_EXP_DIGITS,
    LEX_KEYWORD,
    LEX_INTERP,
    LEX_SKIP,           /* ignoring the rest of a line */
};

/* Bytes clients send to get parser and lexer into a known state. */
static bool is_reset(unsigned char ch)
{
    return (ch < 0x20 && ch != '\t' && ch != '\r' && ch != '\n') || ch == 0xff;
}

void json_lexer_init(JSONLexer *lexer, bool interpolate,
                     void (*token)(void *opaque, JSONTokenType type,
                                   const char *text, size_t len),
                     void *opaque)
{
    *lexer = (JSONLexer) {
        .token = token, .opaque = opaque, .interpolate = interpolate,
        .text = g_string_new(""), .state = LEX_START,
    };
}

void json_lexer_destroy(JSONLexer *lexer)
{
    g_string_free(lexer->text, TRUE);
}

static void lex_emit(JSONLexer *lexer, JSONTokenType type)
{
    /* the receiver may set another state */
    lexer->state = LEX_START;
    lexer->token(lexer->opaque, type, lexer->text->str, lexer->text->len);
    g_string_truncate(lexer->text, 0);
}

static void lex_error(JSONLexer *lexer, unsigned char ch)
{
    lex_emit(lexer, JSON_ERROR);
    if (is_reset(ch) || ch == '\n') {
        lexer->state = LEX_START;
    }
}

void json_lexer_skip_line(JSONLexer *lexer)
{
    lexer->state = LEX_SKIP;
}

static int lex_start(JSONLexer *lexer, unsigned char ch)
{
    static const struct {
        char ch;
        JSONTokenType type;
    } marks[] = {
        { '{', JSON_LCURLY }, { '}', JSON_RCURLY }, { '[', JSON_LSQUARE },
        { ']', JSON_RSQUARE }, { ':', JSON_COLON }, { ',', JSON_COMMA },
    };
    size_t i;

    if (ch == ' ' || ch == '\t' || ch == '\r' || ch == '\n') {
        return LEX_START;
    }
    g_string_append_c(lexer->text, ch);
    for (i = 0; i < ARRAY_SIZE(marks); i++) {
        if (marks[i].ch == ch) {
            lex_emit(lexer, marks[i].type);
            return lexer->state;
        }
    }
    switch (ch) {
    case '"':
    case '\'':
        lexer->quote = ch;
        return LEX_STRING;
    case '-':
        return LEX_MINUS;
    case '0':
        return LEX_ZERO;
    case '1' ... '9':
        return LEX_DIGITS;
    case 'a' ... 'z':
        return LEX_KEYWORD;
    case '%':
        if (lexer->interpolate) {
            return LEX_INTERP;
        }
        break;
    }
    return -1;
}

static int lex_string(JSONLexer *lexer, unsigned char ch)
{
    /* no control characters, and no bytes that UTF-8 never uses */
    if (ch < 0x20 || ch == 0xc0 || ch == 0xc1 || ch > 0xf4) {
        return -1;
    }
    if (lexer->state == LEX_ESCAPE) {
        return LEX_STRING;
    }
    if (ch == '\\') {
        return LEX_ESCAPE;
    }
    return LEX_STRING;
}

/* The state behind @ch within a number, -1 for a mistake, -2 if the number ended
 * before @ch. */
static int lex_number(JSONLexer *lexer, unsigned char ch)
{
    bool digit = g_ascii_isdigit(ch);
    bool exponent = ch == 'e' || ch == 'E';

    switch (lexer->state) {
    case LEX_MINUS:
        return ch == '0' ? LEX_ZERO : digit ? LEX_DIGITS : -1;
    case LEX_ZERO:
        return digit ? -1 : ch == '.' ? LEX_POINT : exponent ? LEX_EXP : -2;
    case LEX_DIGITS:
        return digit ? LEX_DIGITS : ch == '.' ? LEX_POINT
               : exponent ? LEX_EXP : -2;
    case LEX_POINT:
        return digit ? LEX_FRACTION : -1;
    case LEX_FRACTION:
        return digit ? LEX_FRACTION : exponent ? LEX_EXP : -2;
    case LEX_EXP:
        return digit ? LEX_EXP_DIGITS
               : ch == '+' || ch == '-' ? LEX_EXP_SIGN : -1;
    case LEX_EXP_SIGN:
        return digit ? LEX_EXP_DIGITS : -1;
    case LEX_EXP_DIGITS:
        return digit ? LEX_EXP_DIGITS : -2;
    }
    g_assert_not_reached();
}

static JSONTokenType lex_ended_type(int state)
{
    switch (state) {
    case LEX_ZERO:
    case LEX_DIGITS:
        return JSON_INTEGER;
    case LEX_FRACTION:
    case LEX_EXP_DIGITS:
        return JSON_FLOAT;
    case LEX_KEYWORD:
        return JSON_KEYWORD;
    case LEX_INTERP:
        return JSON_INTERP;
    default:
        return JSON_ERROR;
    }
}

/* One step; false if the token ended before @ch, which is still to be read. */
static bool lex_step(JSONLexer *lexer, unsigned char ch)
{
    int next;

    switch (lexer->state) {
    case LEX_SKIP:
        if (ch == '\n' || is_reset(ch)) {
            lexer->state = LEX_START;
        }
        return true;
    case LEX_START:
        next = lex_start(lexer, ch);
        if (next < 0) {
            lex_error(lexer, ch);
        } else {
            lexer->state = next;
        }
        return true;
    case LEX_STRING:
        if (ch == (unsigned char)lexer->quote) {
            g_string_append_c(lexer->text, ch);
            lex_emit(lexer, JSON_STRING);
            return true;
        }
        next = lex_string(lexer, ch);
        break;
    case LEX_ESCAPE:
        next = lex_string(lexer, ch);
        break;
    case LEX_KEYWORD:
        next = g_ascii_islower(ch) ? LEX_KEYWORD : -2;
        break;
    case LEX_INTERP:
        next = g_ascii_isalnum(ch) ? LEX_INTERP : -2;
        break;
    default:
        next = lex_number(lexer, ch);
        break;
    }
    if (next == -2) {
        lex_emit(lexer, lex_ended_type(lexer->state));
        return false;
    }
    g_string_append_c(lexer->text, ch);
    if (next == -1) {
        lex_error(lexer, ch);
    } else {
        lexer->state = next;
    }
    return true;
}

void json_lexer_feed(JSONLexer *lexer, unsigned char ch)
{
    while (!lex_step(lexer, ch)) {
        /* the start state, or skipping, takes any byte */
    }
}

void json_lexer_flush(JSONLexer *lexer)
{
    if (lexer->state != LEX_START && lexer->state != LEX_SKIP) {
        lex_emit(lexer, lex_ended_type(lexer->state));
    }
    lexer->state = LEX_START;
}
