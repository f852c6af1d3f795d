/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Objects: references, dictionaries, lists, numbers, flat and nested form. */
#include "util/osdep.h"
#include "util/error.h"
#include "qobject/qbool.h"
#include "qobject/qdict.h"
#include "qobject/qjson.h"
#include "qobject/qlist.h"
#include "qobject/qnull.h"
#include "qobject/qnum.h"
#include "qobject/qstring.h"

static void assert_json(const QObject *obj, const char *json)
{
    g_autoptr(GString) text = qobject_to_json(obj);

    g_assert_cmpstr(text->str, ==, json);
}

static void assert_error(Error **errp, const char *msg)
{
    g_assert_nonnull(*errp);
    g_assert_cmpstr(error_get_pretty(*errp), ==, msg);
    error_free(*errp);
    *errp = NULL;
}

/* A container owns one reference; what the caller holds outlives it. */
static void test_references(void)
{
    QString *qs = qstring_from_str("x");
    QDict *dict = qdict_new();

    qdict_put(dict, "a", qobject_ref(qs));
    g_assert_cmpuint(qs->base.refcnt, ==, 2);
    qobject_unref(dict);
    g_assert_cmpuint(qs->base.refcnt, ==, 1);
    g_assert_cmpstr(qstring_get_str(qs), ==, "x");
    qobject_unref(qs);
    qobject_unref((QDict *)NULL);
    g_assert_null(qobject_to(QDict, NULL));
}

/* Members stay in order of insertion, also when a value is replaced. */
static void test_dict_order(void)
{
    g_autoptr(QDict) dict = qdict_new();
    const QDictEntry *entry;
    GString *keys = g_string_new("");

    qdict_put_int(dict, "z", 1);
    qdict_put_int(dict, "a", 2);
    qdict_put_int(dict, "m", 3);
    qdict_put_int(dict, "z", 4);
    qdict_del(dict, "a");
    qdict_del(dict, "absent");
    qdict_put_int(dict, "a", 5);
    for (entry = qdict_first(dict); entry; entry = qdict_next(dict, entry)) {
        g_string_append(keys, qdict_entry_key(entry));
    }
    g_assert_cmpstr(keys->str, ==, "zma");
    g_assert_cmpint(qdict_get_int(dict, "z"), ==, 4);
    g_assert_cmpuint(qdict_size(dict), ==, 3);
    g_string_free(keys, TRUE);
}

/* The order qemu-img 7.2 prints the members of an image's description in. */
static void test_print_order(void)
{
    static const char *const order[] = {
        "virtual-size", "filename", "cluster-size", "format", "actual-size",
        "format-specific", "dirty-flag", NULL
    };
    g_autoptr(QDict) dict = qdict_new();
    g_autoptr(GPtrArray) entries = NULL;
    int i;

    for (i = 6; i >= 0; i--) {
        qdict_put_int(dict, order[i], i);
    }
    entries = qdict_entries_in_print_order(dict);
    for (i = 0; order[i]; i++) {
        g_assert_cmpstr(qdict_entry_key(g_ptr_array_index(entries, i)), ==,
                        order[i]);
    }
}

static void test_dict_get(void)
{
    g_autoptr(QDict) dict = qdict_from_jsonf_nofail(
        "{ 's': 'text', 'i': %d, 'b': true, 'd': {}, 'l': [], 'n': null,"
        "  'u': %llu, 'f': 1.5, 'x': %s, 'p': %p, 'bool': %i }",
        -3, (unsigned long long)UINT64_MAX, "%d", qlist_new(), 1);

    g_assert_cmpstr(qdict_get_try_str(dict, "s"), ==, "text");
    g_assert_cmpstr(qdict_get_try_str(dict, "x"), ==, "%d");
    g_assert_null(qdict_get_try_str(dict, "i"));
    g_assert_cmpint(qdict_get_try_int(dict, "i", 7), ==, -3);
    g_assert_cmpint(qdict_get_try_int(dict, "u", 7), ==, 7);
    g_assert_cmpint(qdict_get_try_int(dict, "f", 7), ==, 7);
    g_assert_cmpint(qdict_get_try_int(dict, "absent", 7), ==, 7);
    g_assert_true(qdict_get_try_bool(dict, "b", false));
    g_assert_true(qdict_get_bool(dict, "bool"));
    g_assert_true(qdict_get_try_bool(dict, "s", true));
    g_assert_nonnull(qdict_get_qdict(dict, "d"));
    g_assert_null(qdict_get_qdict(dict, "l"));
    g_assert_nonnull(qdict_get_qlist(dict, "p"));
    g_assert_cmpfloat(qdict_get_double(dict, "f"), ==, 1.5);
    g_assert_true(qdict_haskey(dict, "n"));
    g_assert_false(qdict_haskey(dict, "absent"));
}

static void test_dict_whole(void)
{
    g_autoptr(QDict) a = qdict_from_jsonf_nofail("{'a': 1, 'b': 2}");
    g_autoptr(QDict) b = qdict_from_jsonf_nofail("{'b': 3, 'c': 4}");
    g_autoptr(QDict) clone = qdict_clone_shallow(a);
    g_autoptr(QDict) sub = NULL;
    g_autoptr(QDict) opts = qdict_from_jsonf_nofail(
        "{'file.x': 1, 'file': 2, 'file.y.z': 3, 'other': 4}");

    qdict_join(a, b, false);
    assert_json(QOBJECT(a), "{\"a\": 1, \"b\": 2, \"c\": 4}");
    assert_json(QOBJECT(b), "{\"b\": 3}");
    qdict_join(a, b, true);
    g_assert_cmpint(qdict_get_int(a, "b"), ==, 3);
    g_assert_cmpuint(qdict_size(b), ==, 0);
    g_assert_cmpint(qdict_get_int(clone, "b"), ==, 2);

    qdict_extract_subqdict(opts, &sub, "file.");
    g_assert_cmpuint(qdict_size(sub), ==, 2);
    g_assert_cmpint(qdict_get_int(sub, "y.z"), ==, 3);
    g_assert_cmpuint(qdict_size(opts), ==, 2);
    qdict_extract_subqdict(opts, NULL, "oth");
    g_assert_cmpuint(qdict_size(opts), ==, 1);

    qdict_set_default_str(opts, "file", "no");
    qdict_set_default_str(opts, "new", "yes");
    g_assert_cmpint(qdict_get_int(opts, "file"), ==, 2);
    g_assert_cmpstr(qdict_get_str(opts, "new"), ==, "yes");
    qdict_copy_default(opts, a, "c");
    qdict_copy_default(opts, a, "absent");
    g_assert_cmpint(qdict_get_int(opts, "c"), ==, 4);
}

static void test_rename_keys(void)
{
    static const QDictRenames renames[] = {
        { "old", "new" }, { "gone", "there" }, { NULL }
    };
    g_autoptr(QDict) dict = qdict_from_jsonf_nofail("{'old': 1}");
    Error *err = NULL;

    g_assert_true(qdict_rename_keys(dict, renames, &error_abort));
    assert_json(QOBJECT(dict), "{\"new\": 1}");
    qdict_put_int(dict, "old", 2);
    g_assert_false(qdict_rename_keys(dict, renames, &err));
    assert_error(&err, "'new' and its alias 'old' can't be used at the same "
                 "time");
}

static void test_list(void)
{
    g_autoptr(QList) list = qlist_new();
    g_autoptr(QList) copy = NULL;
    QObject *obj;

    g_assert_true(qlist_empty(list));
    g_assert_null(qlist_pop(list));
    qlist_append_int(list, 1);
    qlist_append_str(list, "two");
    qlist_append_bool(list, true);
    qlist_append_null(list);
    copy = qlist_copy(list);
    obj = qlist_pop(list);
    g_assert_cmpint(qnum_get_int(qobject_to(QNum, obj)), ==, 1);
    qobject_unref(obj);
    g_assert_cmpuint(qlist_size(list), ==, 3);
    while ((obj = qlist_pop(list))) {
        qobject_unref(obj);
    }
    qlist_append_int(list, 9);
    assert_json(QOBJECT(list), "[9]");
    assert_json(QOBJECT(copy), "[1, \"two\", true, null]");
}

static void test_numbers(void)
{
    g_autoptr(QNum) i = qnum_from_int(-1);
    g_autoptr(QNum) u = qnum_from_uint(UINT64_MAX);
    g_autoptr(QNum) small = qnum_from_uint(5);
    g_autoptr(QNum) five = qnum_from_int(5);
    g_autoptr(QNum) d = qnum_from_double(5);
    int64_t sval;
    uint64_t uval;

    g_assert_false(qnum_get_try_uint(i, &uval));
    g_assert_false(qnum_get_try_int(u, &sval));
    g_assert_false(qnum_get_try_int(d, &sval));
    g_assert_true(qnum_get_try_int(small, &sval));
    g_assert_cmpint(sval, ==, 5);
    g_assert_true(qnum_is_equal(small, five));
    g_assert_false(qnum_is_equal(d, five));
    g_assert_false(qnum_is_equal(i, u));
}

/* Comparison ignores the order of members, nothing else. */
static void test_equal(void)
{
    static const struct {
        const char *x, *y;
        bool equal;
    } cases[] = {
        { "{'a': 1, 'b': [1, {}]}", "{'b': [1, {}], 'a': 1}", true },
        { "[1, 2]", "[2, 1]", false },
        { "[1]", "[1, 1]", false },
        { "{'a': null}", "{'b': null}", false },
        { "{'a': {'b': {'c': 'x'}}}", "{'a': {'b': {'c': 'y'}}}", false },
        { "1", "1.0", false },
        { "'1'", "1", false },
        { "18446744073709551615", "18446744073709551615", true },
    };
    size_t i;

    for (i = 0; i < ARRAY_SIZE(cases); i++) {
        g_autoptr(QObject) x = qobject_from_json(cases[i].x, &error_abort);
        g_autoptr(QObject) y = qobject_from_json(cases[i].y, &error_abort);

        g_assert_cmpint(qobject_is_equal(x, y), ==, cases[i].equal);
        g_assert_cmpint(qobject_is_equal(y, x), ==, cases[i].equal);
    }
    g_assert_true(qobject_is_equal(NULL, NULL));
}

/* A value nested a million times is freed, compared, printed and flattened
 * without exhausting the stack. */
static void test_deep(void)
{
    QObject *values[2];
    int i, k;

    for (k = 0; k < 2; k++) {
        values[k] = QOBJECT(qnull());
        for (i = 0; i < 1000000; i++) {
            QList *list = qlist_new();

            qlist_append(list, values[k]);
            values[k] = QOBJECT(list);
        }
    }
    g_assert_true(qobject_is_equal(values[0], values[1]));
    g_string_free(qobject_to_json(values[0]), TRUE);
    qobject_unref(values[0]);
    qobject_unref(values[1]);
}

static void check_flatten(const char *nested, const char *flat)
{
    g_autoptr(QObject) obj = qobject_from_json(nested, &error_abort);
    g_autoptr(QObject) want = qobject_from_json(flat, &error_abort);
    g_autoptr(QObject) back = NULL;
    g_autoptr(QObject) orig = qobject_from_json(nested, &error_abort);

    qdict_flatten(qobject_to(QDict, obj));
    g_assert_true(qobject_is_equal(obj, want));
    back = qdict_crumple(qobject_to(QDict, obj), &error_abort);
    g_assert_true(qobject_is_equal(back, orig));
}

static void test_flatten(void)
{
    check_flatten("{'a': {'b': {'c': 1}}, 'l': [1, {'x': 2}, []], 'e': {}}",
                  "{'a.b.c': 1, 'l.0': 1, 'l.1.x': 2, 'l.2': [], 'e': {}}");
    check_flatten("{}", "{}");
}

static void check_crumple(const char *flat, const char *json, const char *msg)
{
    g_autoptr(QObject) src = qobject_from_json(flat, &error_abort);
    g_autoptr(QObject) res = NULL;
    Error *err = NULL;

    res = qdict_crumple(qobject_to(QDict, src), &err);
    if (msg) {
        g_assert_null(res);
        assert_error(&err, msg);
    } else {
        g_assert_null(err);
        assert_json(res, json);
    }
}

static void test_crumple(void)
{
    g_autofree char *deep = NULL;
    GString *key = g_string_new("{'a");
    int i;

    check_crumple("{'0.a': 1, '1': 2}", "[{\"a\": 1}, 2]", NULL);
    check_crumple("{'a..b': 1, 'c..d.e': 2}",
                  "{\"a.b\": 1, \"c.d\": {\"e\": 2}}", NULL);
    check_crumple("{'l.10': 10, 'l.0': 0, 'l.1': 1, 'l.2': 2, 'l.3': 3,"
                  " 'l.4': 4, 'l.5': 5, 'l.6': 6, 'l.7': 7, 'l.8': 8,"
                  " 'l.9': 9}",
                  "{\"l\": [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10]}", NULL);
    check_crumple("{'a': 1, 'a.b': 2}", NULL,
                  "Cannot mix scalar and non-scalar keys");
    check_crumple("{'a.b': 1, 'a': 2}", NULL,
                  "Cannot mix scalar and non-scalar keys");
    check_crumple("{'a': {}, 'a.b': 2}", NULL,
                  "Cannot mix scalar and non-scalar keys");
    check_crumple("{'l.0': 1, 'l.x': 2}", NULL,
                  "Cannot mix list and non-list keys");
    check_crumple("{'l.0': 1, 'l.2': 2}", NULL, "Missing list index 1");
    check_crumple("{'l.00': 1}", NULL, "Missing list index 0");
    check_crumple("{'a': [1]}", NULL, "Value of 'a' is not a scalar");
    for (i = 0; i < 1024; i++) {
        g_string_append(key, ".a");
    }
    g_string_append(key, "': 1}");
    deep = g_string_free(key, FALSE);
    check_crumple(deep, NULL, "Parameter 'a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a."
                  "a.a....' is nested too deeply");
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/qobject/references", test_references);
    g_test_add_func("/qobject/dict-order", test_dict_order);
    g_test_add_func("/qobject/print-order", test_print_order);
    g_test_add_func("/qobject/dict-get", test_dict_get);
    g_test_add_func("/qobject/dict-whole", test_dict_whole);
    g_test_add_func("/qobject/rename-keys", test_rename_keys);
    g_test_add_func("/qobject/list", test_list);
    g_test_add_func("/qobject/numbers", test_numbers);
    g_test_add_func("/qobject/equal", test_equal);
    g_test_add_func("/qobject/deep", test_deep);
    g_test_add_func("/qobject/flatten", test_flatten);
    g_test_add_func("/qobject/crumple", test_crumple);
    return g_test_run();
}
