/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Error objects, the special destinations, and what is printed. */
#include "util/osdep.h"
#include "util/error.h"

static bool fail(Error **errp)
{
    error_setg(errp, "disk %d is gone", 3);
    error_append_hint(errp, "Look under the desk.\n");
    return false;
}

/* Adds to the message and needs to know that there is one. */
static bool fail_guarded(Error **errp)
{
    ERRP_GUARD();

    fail(errp);
    g_assert_nonnull(*errp);
    error_prepend(errp, "Opening: ");
    error_append_hint(errp, "And under the %s.\n", "sofa");
    return false;
}

static void test_set(void)
{
    Error *err = NULL;

    errno = EXDEV;
    fail(&err);
    g_assert_cmpint(errno, ==, EXDEV);
    g_assert_cmpstr(error_get_pretty(err), ==, "disk 3 is gone");
    g_assert_cmpstr(error_get_hint(err), ==, "Look under the desk.\n");
    g_assert_cmpint(error_get_class(err), ==, ERROR_CLASS_GENERIC_ERROR);
    error_free_or_abort(&err);
    g_assert_null(err);

    error_set(&err, ERROR_CLASS_DEVICE_NOT_FOUND, "no '%s'", "vda");
    g_assert_cmpint(error_get_class(err), ==, ERROR_CLASS_DEVICE_NOT_FOUND);
    g_assert_cmpstr(error_class_str(error_get_class(err)), ==,
                    "DeviceNotFound");
    g_assert_null(error_get_hint(err));
    error_free_or_abort(&err);

    /* A NULL destination is no trouble. */
    fail(NULL);
    fail_guarded(NULL);
    error_free(NULL);
}

static void test_errno(void)
{
    g_autoptr(Error) err = NULL, err2 = NULL, err3 = NULL;
    g_autofree char *want = g_strdup_printf("x: %s", strerror(ENOSPC));

    error_setg_errno(&err, ENOSPC, "x");
    g_assert_cmpstr(error_get_pretty(err), ==, want);
    error_setg_errno(&err2, 0, "%s", "100%d");
    g_assert_cmpstr(error_get_pretty(err2), ==, "100%d");
    error_setg_file_open(&err3, ENOENT, "a.img");
    g_assert_cmpstr(error_get_pretty(err3), ==,
                    "Could not open 'a.img': No such file or directory");
}

static void test_prepend(void)
{
    g_autoptr(Error) err = NULL;
    g_autoptr(Error) copy = NULL;

    fail_guarded(&err);
    g_assert_cmpstr(error_get_pretty(err), ==, "Opening: disk 3 is gone");
    g_assert_cmpstr(error_get_hint(err), ==,
                    "Look under the desk.\nAnd under the sofa.\n");

    copy = error_copy(err);
    error_prepend(&err, "%s: ", "a");
    g_assert_cmpstr(error_get_pretty(err), ==, "a: Opening: disk 3 is gone");
    g_assert_cmpstr(error_get_pretty(copy), ==, "Opening: disk 3 is gone");
    g_assert_cmpstr(error_get_hint(copy), ==, error_get_hint(err));
}

/*
 * The first error wins, later ones and those without a destination are freed.
 */
static void test_propagate(void)
{
    g_autoptr(Error) err = NULL;
    Error *local = NULL;

    error_propagate(&err, NULL);
    g_assert_null(err);

    error_setg(&local, "one");
    error_propagate(&err, g_steal_pointer(&local));
    error_setg(&local, "two");
    error_propagate(&err, g_steal_pointer(&local));
    g_assert_cmpstr(error_get_pretty(err), ==, "one");

    error_setg(&local, "three");
    error_propagate(NULL, g_steal_pointer(&local));

    error_free_or_abort(&err);
    error_setg(&local, "four");
    error_propagate_prepend(&err, local, "%d: ", 4);
    g_assert_cmpstr(error_get_pretty(err), ==, "4: four");
}

static void sub_abort(void)
{
    fail(&error_abort);
}

static void sub_twice(void)
{
    Error *err = NULL;

    fail(&err);
    fail(&err);
}

static void sub_fatal(void)
{
    error_init("/usr/bin/frob");
    fail_guarded(&error_fatal);
}

static void sub_fatal_propagated(void)
{
    Error *err = NULL;

    error_init("frob");
    fail(&err);
    error_propagate(&error_fatal, err);
}

static void sub_report(void)
{
    Error *err = NULL;

    error_report("no %s", "prefix");
    error_init("./frob");
    error_report("one");
    warn_report("two");
    info_report("three");
    fail(&err);
    error_reportf_err(err, "four: ");
    err = NULL;
    fail(&err);
    warn_report_err(err);
    for (int i = 0; i < 3; i++) {
        warn_report_once("once");
    }
    error_set_progname(NULL);
    error_report("end");
}

static void run_sub(const char *path, const char *stderr_pattern, bool pass)
{
    g_test_trap_subprocess(path, 0, 0);
    if (pass) {
        g_test_trap_assert_passed();
    } else {
        g_test_trap_assert_failed();
    }
    g_test_trap_assert_stderr(stderr_pattern);
}

static void test_abort(void)
{
    run_sub("/error/subprocess/abort",
            "Unexpected error in fail() at *test-error.c:*\n"
            "*disk 3 is gone\n*", false);
    run_sub("/error/subprocess/twice", "*rror_set_at*", false);
}

static void test_fatal(void)
{
    /* The hint is there although the error began with error_fatal. */
    run_sub("/error/subprocess/fatal", "frob: Opening: disk 3 is gone\n"
            "Look under the desk.\nAnd under the sofa.\n", false);
    run_sub("/error/subprocess/fatal-propagated", "frob: disk 3 is gone\n"
            "Look under the desk.\n", false);
}

static void test_report(void)
{
    run_sub("/error/subprocess/report",
            "no prefix\n"
            "frob: one\n"
            "frob: warning: two\n"
            "frob: info: three\n"
            "frob: four: disk 3 is gone\nLook under the desk.\n"
            "frob: warning: disk 3 is gone\nLook under the desk.\n"
            "frob: warning: once\n"
            "end\n", true);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/error/set", test_set);
    g_test_add_func("/error/errno", test_errno);
    g_test_add_func("/error/prepend", test_prepend);
    g_test_add_func("/error/propagate", test_propagate);
    g_test_add_func("/error/abort", test_abort);
    g_test_add_func("/error/fatal", test_fatal);
    g_test_add_func("/error/report", test_report);
    g_test_add_func("/error/subprocess/abort", sub_abort);
    g_test_add_func("/error/subprocess/twice", sub_twice);
    g_test_add_func("/error/subprocess/fatal", sub_fatal);
    g_test_add_func("/error/subprocess/fatal-propagated", sub_fatal_propagated);
    g_test_add_func("/error/subprocess/report", sub_report);
    return g_test_run();
}
