/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * JSON: values and texts both ways, error messages, limits, streams cut at every
 * byte, and random input.
 */
#include "util/osdep.h"
#include "util/error.h"
#include "qobject/json-parser.h"
#include "qobject/qdict.h"
#include "qobject/qjson.h"
#include "qobject/qlist.h"
#include "qobject/qnum.h"
#include "qobject/qstring.h"

/* text -> value -> text */
static void test_values(void)
{
    static const struct {
        const char *in, *out;
    } cases[] = {
        { "null", "null" }, { " true ", "true" }, { "false\n", "false" },
        { "0", "0" }, { "-0", "0" }, { "-1", "-1" },
        { "9223372036854775807", "9223372036854775807" },
        { "-9223372036854775808", "-9223372036854775808" },
        { "9223372036854775808", "9223372036854775808" },
        { "18446744073709551615", "18446744073709551615" },
        { "18446744073709551616", "1.8446744073709552e+19" },
        { "-9223372036854775809", "-9.2233720368547758e+18" },
        { "1.5", "1.5" }, { "0.1", "0.10000000000000001" }, { "1e3", "1000" },
        { "2E-1", "0.20000000000000001" }, { "\"\"", "\"\"" },
        { "'it\"s'", "\"it\\\"s\"" }, { "'it\\'s'", "\"it's\"" },
        { "\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"", "\"\\\"\\\\/\\b\\f\\n\\r\\t\"" },
        { "\"\\u0041\\u00e9\\u20AC\"", "\"A\\u00E9\\u20AC\"" },
        { "\"\xc3\xa9\xe2\x82\xac\xf0\x9d\x84\x9e\"",
          "\"\\u00E9\\u20AC\\uD834\\uDD1E\"" },
        { "\"\\ud834\\udd1e\\u0000\\u007f\"",
          "\"\\uD834\\uDD1E\\u0000\\u007F\"" },
        { "[]", "[]" }, { "{}", "{}" }, { "[ 1,2 , [3]]", "[1, 2, [3]]" },
        { "{'a':{'b':[{}]}}", "{\"a\": {\"b\": [{}]}}" },
    };
    size_t i;

    for (i = 0; i < ARRAY_SIZE(cases); i++) {
        g_autoptr(QObject) obj = qobject_from_json(cases[i].in, &error_abort);
        g_autoptr(GString) text = qobject_to_json(obj);

        g_assert_cmpstr(text->str, ==, cases[i].out);
    }
}

/* Messages are those of qemu-img 7.2 on json: names. */
static void test_errors(void)
{
    static const struct {
        const char *in, *msg;
    } cases[] = {
        { "", "Expecting a JSON value" },
        { "  ", "Expecting a JSON value" },
        { "{} {}", "Expecting at most one JSON value" },
        { "{\"a\":1}}", "Expecting at most one JSON value" },
        { "{", "JSON parse error, premature EOI" },
        { "[1", "JSON parse error, premature EOI" },
        { "{'a':{'b':1}", "JSON parse error, premature EOI" },
        { "{'a':}", "JSON parse error, expecting value" },
        { "{'a':1,}", "JSON parse error, expecting value" },
        { "[1,]", "JSON parse error, expecting value" },
        { "[,]", "JSON parse error, expecting value" },
        { "{,}", "JSON parse error, expecting value" },
        { "{'a':[}", "JSON parse error, expecting value" },
        { "{]", "JSON parse error, expecting value" },
        { "}", "JSON parse error, expecting value" },
        { ",", "JSON parse error, expecting value" },
        { ":", "JSON parse error, expecting value" },
        { "{'a' 1}", "JSON parse error, missing : in object pair" },
        { "{'a':1,'b'}", "JSON parse error, missing : in object pair" },
        { "{a:1}", "JSON parse error, invalid keyword 'a'" },
        { "{'a':nul}", "JSON parse error, invalid keyword 'nul'" },
        { "{1:2}", "JSON parse error, key is not a string in object" },
        { "{[1]:2}", "JSON parse error, key is not a string in object" },
        { "{null:2}", "JSON parse error, key is not a string in object" },
        { "{'a':1,'a':2}", "JSON parse error, duplicate key" },
        { "{'a':1]", "JSON parse error, expected separator in dict" },
        { "{'a':1 'b':2}", "JSON parse error, expected separator in dict" },
        { "{'a':0x1}", "JSON parse error, expected separator in dict" },
        { "[1 2]", "JSON parse error, expected separator in list" },
        { "{'a':01}", "JSON parse error, stray '01'" },
        { "{'a':-}", "JSON parse error, stray '-}'" },
        { "{'a':1.}", "JSON parse error, stray '1.}'" },
        { "{'a':1e}", "JSON parse error, stray '1e}'" },
        { "{'a':--1}", "JSON parse error, stray '--'" },
        { "{'a':+1}", "JSON parse error, stray '+'" },
        { "{'a':&}", "JSON parse error, stray '&'" },
        { "{'a':%d}", "JSON parse error, stray '%'" },
        { "{'a':Null}", "JSON parse error, stray 'N'" },
        { "{'a':'b", "JSON parse error, stray ''b'" },
        { "{'a':'\t'}", "JSON parse error, stray ''\t'" },
        { "{'a':'x\n'}", "JSON parse error, stray ''x\n'" },
        { "'\\q'", "JSON parse error, invalid escape sequence in string" },
        { "'\\ud800'",
          "JSON parse error, \\ud800 is not a valid Unicode character" },
        { "'\\ud834\\u0041'",
          "JSON parse error, \\ud834 is not a valid Unicode character" },
        { "'\\udc00'",
          "JSON parse error, \\udc00 is not a valid Unicode character" },
        { "'\\ufffe'",
          "JSON parse error, \\ufffe is not a valid Unicode character" },
        { "'\\u12'",
          "JSON parse error, \\u12 is not a valid Unicode character" },
        { "'\\u12zz'",
          "JSON parse error, \\u12zz is not a valid Unicode character" },
        { "'\xed\xa0\x80'",
          "JSON parse error, invalid UTF-8 sequence in string" },
        { "'\xc3'", "JSON parse error, invalid UTF-8 sequence in string" },
        { "'\x80'", "JSON parse error, invalid UTF-8 sequence in string" },
        { "'\xef\xbf\xbe'",
          "JSON parse error, invalid UTF-8 sequence in string" },
        { "'\xff'", "JSON parse error, stray ''\xff'" },
        { "1e999", "JSON parse error, number '1e999' is out of range" },
    };
    size_t i;

    for (i = 0; i < ARRAY_SIZE(cases); i++) {
        Error *err = NULL;

        g_assert_null(qobject_from_json(cases[i].in, &err));
        g_assert_cmpstr(error_get_pretty(err), ==, cases[i].msg);
        error_free(err);
    }
}

static void test_pretty(void)
{
    g_autoptr(QObject) obj = qobject_from_json(
        "[{'a': [1, {'b': true}, []]}, {}]", &error_abort);
    g_autoptr(GString) text = qobject_to_json_pretty(obj, true);
    g_autoptr(GString) line = NULL;

    g_assert_cmpstr(text->str, ==,
                    "[\n"
                    "    {\n"
                    "        \"a\": [\n"
                    "            1,\n"
                    "            {\n"
                    "                \"b\": true\n"
                    "            },\n"
                    "            [\n"
                    "            ]\n"
                    "        ]\n"
                    "    },\n"
                    "    {\n"
                    "    }\n"
                    "]");
    line = qobject_to_json_pretty(obj, false);
    g_assert_cmpstr(line->str, ==, "[{\"a\": [1, {\"b\": true}, []]}, {}]");
}

/* Bytes that are not UTF-8 can come from file names; the output stays JSON. */
static void test_bad_utf8_out(void)
{
    g_autoptr(QString) qs = qstring_from_str("a\xff\xc3z\x80");
    g_autoptr(GString) text = qobject_to_json(QOBJECT(qs));

    g_assert_cmpstr(text->str, ==, "\"a\\uFFFD\\uFFFDz\\uFFFD\"");
}

/* --- streams --- */

/* Log each value and error of a stream, one a line. */
static void log_emit(void *opaque, QObject *json, Error *err)
{
    GString *log = opaque;

    g_assert_true((json == NULL) != (err == NULL));
    if (err) {
        g_string_append_printf(log, "!%s\n", error_get_pretty(err));
    } else {
        g_autoptr(GString) text = qobject_to_json(json);

        g_string_append_printf(log, "%s\n", text->str);
    }
    qobject_unref(json);
    error_free(err);
}

static char *parse_stream(const char *data, size_t len, size_t piece)
{
    JSONMessageParser parser;
    GString *log = g_string_new("");
    size_t i;

    json_message_parser_init(&parser, log_emit, log, NULL);
    for (i = 0; i < len; i += piece) {
        json_message_parser_feed(&parser, data + i, MIN(piece, len - i));
    }
    json_message_parser_flush(&parser);
    json_message_parser_destroy(&parser);
    return g_string_free(log, FALSE);
}

/* The result does not depend on how the stream is cut. */
static void test_stream(void)
{
    static const char data[] =
        "{'a':1}{'b':2}\r\n[3] 4 'x'\n"
        "{'c': &} {'lost': 1}\n{'d':5}"
        "{'e':}{'f':6}"
        "\x01{'g':7}\xff{'h':\x02 {'i':8}\n]{'j':9}";
    static const char want[] =
        "{\"a\": 1}\n{\"b\": 2}\n[3]\n4\n\"x\"\n"
        "!JSON parse error, stray '&'\n{\"d\": 5}\n"
        "!JSON parse error, expecting value\n{\"f\": 6}\n"
        "!JSON parse error, stray '\x01'\n{\"g\": 7}\n"
        "!JSON parse error, stray '\xff'\n"
        "!JSON parse error, stray '\x02'\n{\"i\": 8}\n"
        "!JSON parse error, expecting value\n{\"j\": 9}\n";
    size_t piece;

    for (piece = 1; piece < sizeof(data); piece++) {
        g_autofree char *log = parse_stream(data, sizeof(data) - 1, piece);

        g_assert_cmpstr(log, ==, want);
    }
}

/* A parser that was flushed in the middle starts afresh. */
static void test_flush(void)
{
    JSONMessageParser parser;
    GString *log = g_string_new("");

    json_message_parser_init(&parser, log_emit, log, NULL);
    json_message_parser_feed(&parser, "{'a':", 5);
    json_message_parser_flush(&parser);
    json_message_parser_feed(&parser, "{'a':1}", 7);
    json_message_parser_flush(&parser);
    json_message_parser_feed(&parser, "tru", 3);
    json_message_parser_feed(&parser, "e", 1);
    json_message_parser_flush(&parser);
    json_message_parser_destroy(&parser);
    g_assert_cmpstr(log->str, ==, "!JSON parse error, premature EOI\n"
                    "{\"a\": 1}\ntrue\n");
    g_string_free(log, TRUE);
}

static char *repeat(const char *text, size_t n)
{
    GString *out = g_string_new("");

    while (n--) {
        g_string_append(out, text);
    }
    return g_string_free(out, FALSE);
}

static void check_limit(char *text, const char *msg)
{
    g_autoptr(QObject) obj = NULL;
    Error *err = NULL;

    obj = qobject_from_json(text, &err);
    if (msg) {
        g_assert_null(obj);
        g_assert_cmpstr(error_get_pretty(err), ==, msg);
        error_free(err);
    } else {
        g_assert_null(err);
        g_assert_nonnull(obj);
    }
    g_free(text);
}

static void test_limits(void)
{
    g_autofree char *open = repeat("[", 1024);
    g_autofree char *close = repeat("]", 1024);
    g_autofree char *dicts = repeat("{'a':", 1000000);
    g_autofree char *ones = repeat("1,", (JSON_MAX_TOKENS - 4) / 2);
    g_autofree char *big = g_strnfill(JSON_MAX_TOKEN_BYTES - 2, 'x');

    check_limit(g_strconcat(open, close, NULL), NULL);
    check_limit(g_strconcat("[", open, close, "]", NULL),
                "JSON nesting depth limit exceeded");
    check_limit(g_steal_pointer(&dicts), "JSON nesting depth limit exceeded");
    check_limit(g_strconcat("[", ones, "1]", NULL), NULL);
    check_limit(g_strconcat("[", ones, "1,1,1]", NULL),
                "JSON token count limit exceeded");
    check_limit(g_strconcat("'", big, "'", NULL), NULL);
    check_limit(g_strconcat("'x", big, "'", NULL),
                "JSON token size limit exceeded");
    check_limit(g_strconcat("'", big, "xxxxxx", NULL),
                "JSON token size limit exceeded");
}

/* --- random input --- */

static void random_value(GRand *rand, GString *out, int depth)
{
    static const char *const scalars[] = {
        "null", "true", "false", "0", "-17", "18446744073709551615", "1.25",
        "\"\"", "'a\"b'", "\"\\u00e9\\n\"", "\"\xe2\x82\xac\"",
    };
    int i, n;

    if (depth == 0 || g_rand_int_range(rand, 0, 3) == 0) {
        g_string_append(out, scalars[g_rand_int_range(rand, 0,
                                                      ARRAY_SIZE(scalars))]);
        return;
    }
    n = g_rand_int_range(rand, 0, 4);
    if (g_rand_boolean(rand)) {
        g_string_append_c(out, '[');
        for (i = 0; i < n; i++) {
            g_string_append(out, i ? "," : "");
            random_value(rand, out, depth - 1);
        }
        g_string_append_c(out, ']');
    } else {
        g_string_append_c(out, '{');
        for (i = 0; i < n; i++) {
            g_string_append_printf(out, "%s\"k%d\":", i ? ", " : "", i);
            random_value(rand, out, depth - 1);
        }
        g_string_append_c(out, '}');
    }
}

/* What is written reads back equal, on one line or several; damaged text makes
 * values or errors, never a crash, however it is cut. */
static void test_random(void)
{
    guint32 seed = g_test_rand_int();
    GRand *rand = g_rand_new_with_seed(seed);
    int round;

    g_test_message("seed %u", seed);
    for (round = 0; round < 3000; round++) {
        GString *text = g_string_new("");
        g_autoptr(QObject) obj = NULL;
        g_autoptr(QObject) again = NULL;
        g_autoptr(QObject) pretty = NULL;
        g_autoptr(GString) json = NULL;
        g_autoptr(GString) lines = NULL;
        g_autofree char *whole = NULL;
        g_autofree char *pieces = NULL;
        int i;

        random_value(rand, text, 5);
        obj = qobject_from_json(text->str, &error_abort);
        json = qobject_to_json(obj);
        lines = qobject_to_json_pretty(obj, true);
        again = qobject_from_json(json->str, &error_abort);
        pretty = qobject_from_json(lines->str, &error_abort);
        g_assert_true(qobject_is_equal(obj, again));
        g_assert_true(qobject_is_equal(obj, pretty));

        for (i = g_rand_int_range(rand, 1, 6); i; i--) {
            gsize at = g_rand_int_range(rand, 0, text->len);
            static const char junk[] = "{}[]:,\"'\\u-0.eE+nt \n\xff\x80\x01";

            text->str[at] = junk[g_rand_int_range(rand, 0, sizeof(junk) - 1)];
        }
        whole = parse_stream(text->str, text->len, text->len);
        pieces = parse_stream(text->str, text->len,
                              g_rand_int_range(rand, 1, 8));
        g_assert_cmpstr(whole, ==, pieces);
        g_string_free(text, TRUE);
    }
    g_rand_free(rand);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/json/values", test_values);
    g_test_add_func("/json/errors", test_errors);
    g_test_add_func("/json/pretty", test_pretty);
    g_test_add_func("/json/bad-utf8-out", test_bad_utf8_out);
    g_test_add_func("/json/stream", test_stream);
    g_test_add_func("/json/flush", test_flush);
    g_test_add_func("/json/limits", test_limits);
    g_test_add_func("/json/random", test_random);
    return g_test_run();
}
