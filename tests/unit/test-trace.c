/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Trace events: switching, output, the option. */
#include "util/osdep.h"
#include "trace/tests-unit.h"

static char *out_path;

static void all_off(void)
{
    trace_enable_events("*", false);
}

/* Send the output to a fresh file. */
static void out_begin(void)
{
    trace_set_file(out_path, &error_abort);
}

/* What was printed since, with PID@SECONDS.MICROSECONDS cut off each line. */
static char *out_end(void)
{
    g_autofree char *text = NULL;
    g_autofree char *prefix =
        g_strdup_printf("^%d@[0-9]+\\.[0-9]{6}:", (int)getpid());
    g_autoptr(GRegex) regex = g_regex_new(prefix, G_REGEX_MULTILINE, 0, NULL);

    trace_set_file(NULL, &error_abort);
    g_assert_true(g_file_get_contents(out_path, &text, NULL, NULL));
    return g_regex_replace_literal(regex, text, -1, 0, "", 0, NULL);
}

static void test_switch(void)
{
    g_autofree char *out = NULL, *want = NULL;

    g_assert_false(trace_test_plain_enabled());
    out_begin();
    trace_test_plain();
    g_assert_cmpuint(trace_enable_events("test_plain", true), ==, 1);
    g_assert_true(trace_test_plain_enabled());
    g_assert_false(trace_test_args_enabled());
    trace_test_plain();
    trace_test_other(1);
    g_assert_cmpuint(trace_enable_events("test_*", true), ==, 3);
    errno = EXDEV;
    trace_test_args(out_path, 4096, "x");
    g_assert_cmpint(errno, ==, EXDEV);
    g_assert_cmpuint(trace_enable_events("-test_o?her", true), ==, 1);
    trace_test_other(2);
    all_off();
    trace_test_plain();

    out = out_end();
    want = g_strdup_printf("test_plain no arguments\n"
                           "test_args ptr %p offset 0x1000 name 'x' 100%%\n",
                           out_path);
    g_assert_cmpstr(out, ==, want);
}

/* An event that is off does not print, but its arguments are ordinary C. */
static void test_names(void)
{
    g_assert_nonnull(trace_event_name("test_args"));
    g_assert_null(trace_event_name("test_nothing"));
    g_assert_cmpuint(trace_enable_events("test_nothing", true), ==, 0);
    g_assert_true(trace_opt_is_help("help"));
    g_assert_false(trace_opt_is_help("test_args"));
}

static void test_list(void)
{
    char *text = NULL;
    size_t len;
    FILE *fp = open_memstream(&text, &len);

    trace_list_events(fp);
    fclose(fp);
    g_assert_nonnull(strstr(text, "test_args\ntest_other\ntest_plain\n"));
    free(text);
}

static void test_opt(void)
{
    g_autofree char *events = g_strconcat(out_path, ",x", NULL);
    g_autofree char *opt =
        g_strdup_printf("enable=test_plain,events=%s,,x,file=%s",
                        out_path, out_path);
    g_autofree char *out = NULL;

    trace_init_from_opt("test_*", &error_abort);
    g_assert_true(trace_test_other_enabled());
    g_assert_true(trace_test_plain_enabled());
    all_off();

    g_assert_true(g_file_set_contents(events, "# comment\n\n  test_other \n"
                                      "test_args\n-test_args\n", -1, NULL));
    trace_init_from_opt(opt, &error_abort);
    unlink(events);
    g_assert_true(trace_test_other_enabled());
    g_assert_true(trace_test_plain_enabled());
    g_assert_false(trace_test_args_enabled());
    trace_test_other(7);
    all_off();
    out = out_end();
    g_assert_cmpstr(out, ==, "test_other n 7\n");
}

static void expect_error(const char *opt, const char *want)
{
    g_autoptr(Error) err = NULL;

    g_assert_false(trace_init_from_opt(opt, &err));
    g_assert_true(g_str_has_prefix(error_get_pretty(err), want));
    g_assert_false(trace_test_plain_enabled());
}

static void test_opt_errors(void)
{
    expect_error("enable=test_plain,foo=3", "Invalid parameter 'foo'");
    expect_error("enable=test_plain,bar", "Invalid parameter 'bar'");
    expect_error("test_plain,events=/nonexistent/x",
                 "Could not read trace events: ");
    expect_error("test_plain,file=/nonexistent/x",
                 "Could not open trace file '/nonexistent/x': No such file");
}

static void test_unknown(void)
{
    if (g_test_subprocess()) {
        error_init("frob");
        trace_init_from_opt("test_nothing", &error_abort);
        trace_init_from_opt("test_nothing*", &error_abort);
        return;
    }
    g_test_trap_subprocess(NULL, 0, 0);
    g_test_trap_assert_passed();
    g_test_trap_assert_stderr("frob: warning: trace event 'test_nothing' "
                              "does not exist\n");
}

/* Lines of several threads do not mix. */
static gpointer emitter(gpointer opaque)
{
    for (int i = 0; i < 1000; i++) {
        trace_test_other(GPOINTER_TO_UINT(opaque));
    }
    return NULL;
}

static void test_threads(void)
{
    g_autofree char *out = NULL;
    g_auto(GStrv) lines = NULL;
    GThread *threads[3];
    int seen[3] = { 0 };

    out_begin();
    trace_enable_events("test_other", true);
    for (guint i = 0; i < 3; i++) {
        threads[i] = g_thread_new("emitter", emitter, GUINT_TO_POINTER(i));
    }
    for (guint i = 0; i < 3; i++) {
        g_thread_join(threads[i]);
    }
    all_off();
    out = out_end();
    lines = g_strsplit(out, "\n", -1);
    for (char **line = lines; **line; line++) {
        unsigned int n;

        g_assert_cmpint(sscanf(*line, "test_other n %u", &n), ==, 1);
        g_assert_cmpuint(n, <, 3);
        seen[n]++;
    }
    for (int i = 0; i < 3; i++) {
        g_assert_cmpint(seen[i], ==, 1000);
    }
}

int main(int argc, char **argv)
{
    int fd, ret;

    g_test_init(&argc, &argv, NULL);
    fd = g_file_open_tmp("test-trace-XXXXXX", &out_path, NULL);
    close(fd);
    g_test_add_func("/trace/switch", test_switch);
    g_test_add_func("/trace/names", test_names);
    g_test_add_func("/trace/list", test_list);
    g_test_add_func("/trace/opt", test_opt);
    g_test_add_func("/trace/opt-errors", test_opt_errors);
    g_test_add_func("/trace/unknown", test_unknown);
    g_test_add_func("/trace/threads", test_threads);
    ret = g_test_run();
    unlink(out_path);
    g_free(out_path);
    return ret;
}
