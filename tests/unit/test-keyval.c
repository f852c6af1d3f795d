/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Option strings.  Messages are those of qemu-storage-daemon 7.2.
 */
#include "util/osdep.h"
#include "util/error.h"
#include "qobject/keyval.h"
#include "qobject/qjson.h"

static void test_strict(void)
{
    g_autofree char *longest = g_strnfill(127, 'k');
    g_autofree char *ok = g_strconcat(longest, "=v", NULL);
    g_autofree char *too_long = g_strconcat(longest, "k=v", NULL);
    g_autofree char *too_long_part = g_strconcat("a.", longest, "k=v", NULL);
    g_autofree char *long_json = g_strdup_printf("{\"%s\": \"v\"}", longest);
    g_autofree char *long_msg = g_strdup_printf("Parameter '%sk' is too long",
                                                longest);
    g_autofree char *part_msg = g_strdup_printf("Parameter fragment '%sk' is "
                                                "too long", longest);
    const struct {
        const char *in, *implied, *out, *msg;
    } cases[] = {
        { "", NULL, "{}" },
        { "a=1", NULL, "{\"a\": \"1\"}" },
        { "a=1,b=2", NULL, "{\"a\": \"1\", \"b\": \"2\"}" },
        { "a=1,", NULL, "{\"a\": \"1\"}" },
        { "a=", NULL, "{\"a\": \"\"}" },
        { "a=1,a=2", NULL, "{\"a\": \"2\"}" },
        { "a=x,,y,b=,,", NULL, "{\"a\": \"x,y\", \"b\": \",\"}" },
        { "a=b=c", NULL, "{\"a\": \"b=c\"}" },
        { "a.b.c=1,a.d=2", NULL,
          "{\"a\": {\"b\": {\"c\": \"1\"}, \"d\": \"2\"}}" },
        { "l.0=x,l.1=y", NULL, "{\"l\": [\"x\", \"y\"]}" },
        { "l.1.a=y,l.0.a=x", NULL,
          "{\"l\": [{\"a\": \"x\"}, {\"a\": \"y\"}]}" },
        { "l.0.0=x", NULL, "{\"l\": [[\"x\"]]}" },
        { "raw,size=1", "driver", "{\"driver\": \"raw\", \"size\": \"1\"}" },
        { "driver=raw,,x", "driver", "{\"driver\": \"raw,x\"}" },
        { "raw,,x=1", "driver", NULL, "Invalid parameter ''" },
        { "driver=raw", "driver", "{\"driver\": \"raw\"}" },
        { ok, NULL, long_json },
        { "=", "i", NULL, "Invalid parameter ''" },
        { ",", "i", NULL, "Invalid parameter ''" },
        { ",a=1", NULL, NULL, "Invalid parameter ''" },
        { "a", NULL, NULL, "Expected '=' after parameter 'a'" },
        { "driver=raw,file", "driver", NULL,
          "Expected '=' after parameter 'file'" },
        { "b.c", NULL, NULL, "Expected '=' after parameter 'b.c'" },
        { "file.=a", NULL, NULL, "Invalid parameter 'file.'" },
        { ".a=b", NULL, NULL, "Invalid parameter '.a'" },
        { "a..b=3", NULL, NULL, "Invalid parameter 'a..b'" },
        { "1a=3", NULL, NULL, "Invalid parameter '1a'" },
        { "a.1a=3", NULL, NULL, "Invalid parameter 'a.1a'" },
        { "0=3", NULL, NULL, "Invalid parameter '0'" },
        { "a b=3", NULL, NULL, "Invalid parameter 'a b'" },
        { too_long, NULL, NULL, long_msg },
        { too_long_part, NULL, NULL, part_msg },
        { "a.0=1,a.2=1", NULL, NULL, "Parameter 'a.1' missing" },
        { "a.00=1", NULL, NULL, "Parameter 'a.0' missing" },
        { "a=x,a.b=1", NULL, NULL, "Parameters 'a.*' used inconsistently" },
        { "a.b=1,a=x", NULL, NULL, "Parameters 'a.*' used inconsistently" },
        { "a.0=1,a.b=1", NULL, NULL, "Parameters 'a.*' used inconsistently" },
        { "a.b.0=1,a.b.c=1", NULL, NULL,
          "Parameters 'a.b.*' used inconsistently" },
        { "help", NULL, NULL, "Help is not available for this option" },
        { "a=1,?", NULL, NULL, "Help is not available for this option" },
        { "help", "i", NULL, "Help is not available for this option" },
    };
    size_t i;

    for (i = 0; i < ARRAY_SIZE(cases); i++) {
        Error *err = NULL;
        g_autoptr(QDict) dict = keyval_parse(cases[i].in, cases[i].implied,
                                             NULL, &err);

        if (cases[i].msg) {
            g_assert_null(dict);
            g_assert_cmpstr(error_get_pretty(err), ==, cases[i].msg);
            error_free(err);
        } else {
            g_autoptr(QObject) want = qobject_from_json(cases[i].out,
                                                        &error_abort);

            g_assert_null(err);
            g_assert_true(qobject_is_equal(QOBJECT(dict), want));
        }
    }
}

static void test_help(void)
{
    bool help;
    g_autoptr(QDict) a = keyval_parse("x,help", "i", &help, &error_abort);
    g_autoptr(QDict) b = NULL;
    g_autoptr(QDict) c = NULL;

    g_assert_true(help);
    g_assert_cmpstr(qdict_get_try_str(a, "i"), ==, "x");
    b = keyval_parse("help=1", NULL, &help, &error_abort);
    g_assert_false(help);
    c = keyval_parse("a=help,b=x,,help", NULL, &help, &error_abort);
    g_assert_false(help);
    g_assert_cmpstr(qdict_get_try_str(c, "a"), ==, "help");
}

/* Merging: later values win, lists can be continued. */
static void test_into(void)
{
    g_autoptr(QDict) dict = keyval_parse("a=1,l.0=x,o.p=2", NULL, NULL,
                                         &error_abort);
    g_autoptr(QObject) want = qobject_from_json(
        "{'a': '2', 'l': ['x', 'y'], 'o': {'p': '2', 'q': '3'}}",
        &error_abort);
    Error *err = NULL;

    g_assert_nonnull(keyval_parse_into(dict, "a=2,l.1=y,o.q=3", NULL, NULL,
                                       &error_abort));
    g_assert_true(qobject_is_equal(QOBJECT(dict), want));
    g_assert_null(keyval_parse_into(dict, "a.b=2", NULL, NULL, &err));
    g_assert_cmpstr(error_get_pretty(err), ==,
                    "Parameters 'a.*' used inconsistently");
    error_free(err);
}

/* Keys with many parts are refused, not recursed into. */
static void test_deep(void)
{
    GString *key = g_string_new("a");
    Error *err = NULL;
    int i;

    for (i = 0; i < 100000; i++) {
        g_string_append(key, ".a");
    }
    g_string_append(key, "=1");
    g_assert_null(keyval_parse(key->str, NULL, NULL, &err));
    g_assert_nonnull(strstr(error_get_pretty(err), "nested too deeply"));
    error_free(err);
    g_string_free(key, TRUE);
}

static void test_traditional(void)
{
    static const struct {
        const char *in, *implied, *out;
        bool help;
    } cases[] = {
        { "", NULL, "{}" },
        { "lazy_refcounts", NULL, "{'lazy_refcounts': 'on'}" },
        { "nolazy_refcounts", NULL, "{'lazy_refcounts': 'off'}" },
        { "a=1,lazy_refcounts,b=2", NULL,
          "{'a': '1', 'lazy_refcounts': 'on', 'b': '2'}" },
        { "backing_file=x,,y,a", NULL, "{'backing_file': 'x,y', 'a': 'on'}" },
        { "file.filename=a,file.driver=b", NULL,
          "{'file.filename': 'a', 'file.driver': 'b'}" },
        { "a=1,a=2", NULL, "{'a': '2'}" },
        { "=1", NULL, "{'': '1'}" },
        { "x,y", "id", "{'id': 'x', 'y': 'on'}" },
        { "a,help", NULL, "{'a': 'on'}", true },
        { "?", NULL, "{}", true },
        { "help=1", NULL, "{'help': '1'}" },
    };
    size_t i;

    for (i = 0; i < ARRAY_SIZE(cases); i++) {
        bool help;
        g_autoptr(QDict) dict = keyval_parse_opts(cases[i].in,
                                                  cases[i].implied, &help);
        g_autoptr(QObject) want = qobject_from_json(cases[i].out,
                                                    &error_abort);

        g_assert_true(qobject_is_equal(QOBJECT(dict), want));
        g_assert_cmpint(help, ==, cases[i].help);
    }
    g_assert_true(is_valid_option_list("a=1"));
    g_assert_true(is_valid_option_list("a=1,,"));
    g_assert_false(is_valid_option_list("a=1,"));
    g_assert_false(is_valid_option_list("a=1,,,"));
    g_assert_false(is_valid_option_list(",a=1"));
    g_assert_false(is_valid_option_list(""));
    g_assert_false(is_valid_option_list(",,"));
    g_assert_true(has_help_option("a=1,help"));
    g_assert_true(has_help_option("?,a"));
    g_assert_false(has_help_option("a=help,b=x,,help"));
}

/* Any text gives a dictionary or an error. */
static void test_random(void)
{
    static const char alphabet[] = "aab01.,,==-?_ help";
    guint32 seed = g_test_rand_int();
    GRand *rand = g_rand_new_with_seed(seed);
    int round;

    g_test_message("seed %u", seed);
    for (round = 0; round < 20000; round++) {
        char text[24];
        int i, len = g_rand_int_range(rand, 0, sizeof(text) - 1);
        g_autoptr(QDict) strict = NULL;
        g_autoptr(QDict) flat = NULL;
        Error *err = NULL;
        bool help;

        for (i = 0; i < len; i++) {
            text[i] = alphabet[g_rand_int_range(rand, 0,
                                                sizeof(alphabet) - 1)];
        }
        text[len] = '\0';
        strict = keyval_parse(text, round % 2 ? "a" : NULL, &help, &err);
        g_assert_true((strict == NULL) == (err != NULL));
        error_free(err);
        flat = keyval_parse_opts(text, round % 2 ? "a" : NULL, &help);
        g_assert_nonnull(flat);
    }
    g_rand_free(rand);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/keyval/strict", test_strict);
    g_test_add_func("/keyval/help", test_help);
    g_test_add_func("/keyval/into", test_into);
    g_test_add_func("/keyval/deep", test_deep);
    g_test_add_func("/keyval/traditional", test_traditional);
    g_test_add_func("/keyval/random", test_random);
    return g_test_run();
}
