/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Escapes in JSON strings, both ways. */
#include "util/osdep.h"
#include "json-string.h"

/* Escape letters and what they stand for, at the same index. */
static const char escape_letters[] = "bfnrt";
static const char escape_values[] = "\b\f\n\r\t";

/* Four hex digits at @p, or -1. */
static int hex4(const char *p, const char *end)
{
    int i, val = 0;

    if (end - p < 4) {
        return -1;
    }
    for (i = 0; i < 4; i++) {
        if (!g_ascii_isxdigit(p[i])) {
            return -1;
        }
        val = val * 16 + g_ascii_xdigit_value(p[i]);
    }
    return val;
}

/* Noncharacters are refused as the halves of surrogate pairs are. */
static bool is_character(gunichar ch)
{
    return ch <= 0x10ffff && (ch & ~0x7ffu) != 0xd800
           && (ch & 0xfffe) != 0xfffe && !(ch >= 0xfdd0 && ch <= 0xfdef);
}

static void append_character(GString *out, gunichar ch)
{
    if (ch) {
        g_string_append_unichar(out, ch);
    } else {
        g_string_append_len(out, "\xc0\x80", 2);
    }
}

/* Decode \uXXXX, or two that make a pair; @p is at the 'u'.  Returns where it ends,
 * or NULL and *@problem. */
static const char *decode_hex(GString *out, const char *p, const char *end,
                              char **problem)
{
    const char *start = p - 1;
    int first = hex4(p + 1, end);
    int second;
    gunichar ch = first;

    if (first < 0) {
        *problem = g_strdup_printf("%.*s is not a valid Unicode character",
                                   (int)MIN(6, end - start), start);
        return NULL;
    }
    p += 5;
    if (first >= 0xd800 && first <= 0xdbff && end - p >= 2
        && p[0] == '\\' && p[1] == 'u') {
        second = hex4(p + 2, end);
        if (second >= 0xdc00 && second <= 0xdfff) {
            ch = 0x10000 + ((first & 0x3ff) << 10) + (second & 0x3ff);
            p += 6;
        }
    }
    if (!is_character(ch)) {
        *problem = g_strdup_printf("%.*s is not a valid Unicode character",
                                   (int)(p - start), start);
        return NULL;
    }
    append_character(out, ch);
    return p;
}

/* Decode the escape whose letter is at @p. */
static const char *decode_escape(GString *out, const char *p, const char *end,
                                 char **problem)
{
    const char *letter;

    if (*p == 'u') {
        return decode_hex(out, p, end, problem);
    }
    letter = strchr(escape_letters, *p);
    if (letter) {
        g_string_append_c(out, escape_values[letter - escape_letters]);
    } else if (strchr("\"'\\/", *p)) {
        g_string_append_c(out, *p);
    } else {
        *problem = g_strdup("invalid escape sequence in string");
        return NULL;
    }
    return p + 1;
}

char *json_string_decode(const char *token, size_t len, char **problem)
{
    GString *out = g_string_sized_new(len);
    const char *p = token + 1;
    const char *end = token + len - 1;

    assert(len >= 2 && token[0] == *end);
    while (p < end) {
        gunichar ch;

        if (*p == '\\') {
            assert(p + 1 < end);
            p = decode_escape(out, p + 1, end, problem);
            if (!p) {
                g_string_free(out, TRUE);
                return NULL;
            }
            continue;
        }
        ch = g_utf8_get_char_validated(p, end - p);
        if (!is_character(ch)) {
            *problem = g_strdup("invalid UTF-8 sequence in string");
            g_string_free(out, TRUE);
            return NULL;
        }
        g_string_append_len(out, p, g_utf8_skip[(guchar)*p]);
        p += g_utf8_skip[(guchar)*p];
    }
    return g_string_free(out, FALSE);
}

static void encode_utf16(GString *out, gunichar ch)
{
    if (ch >= 0x10000) {
        g_string_append_printf(out, "\\u%04X", 0xd7c0 + (ch >> 10));
        ch = 0xdc00 + (ch & 0x3ff);
    }
    g_string_append_printf(out, "\\u%04X", ch);
}

/* Encode the character at @p and return where it ends. */
static const char *encode_char(GString *out, const char *p)
{
    const char *value = strchr(escape_values, *p);
    gunichar ch;

    if (value) {
        g_string_append_c(out, '\\');
        g_string_append_c(out, escape_letters[value - escape_values]);
        return p + 1;
    }
    if (*p == '"' || *p == '\\') {
        g_string_append_c(out, '\\');
    }
    if (*p >= 0x20 && *p < 0x7f) {
        g_string_append_c(out, *p);
        return p + 1;
    }
    if (!strncmp(p, "\xc0\x80", 2)) {
        encode_utf16(out, 0);
        return p + 2;
    }
    ch = g_utf8_get_char_validated(p, -1);
    if (ch == (gunichar)-1 || ch == (gunichar)-2) {
        encode_utf16(out, 0xfffd);
        return p + 1;
    }
    encode_utf16(out, ch);
    return g_utf8_next_char(p);
}

void json_string_encode(GString *out, const char *text)
{
    const char *p = text;

    g_string_append_c(out, '"');
    while (*p) {
        p = encode_char(out, p);
    }
    g_string_append_c(out, '"');
}
