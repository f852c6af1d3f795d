/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Error objects and message printing.
 *
 * 1. A NULL destination costs no allocation and no formatting.
 * 2. error_abort and error_fatal are recognised by address; their values are
 *    always NULL.
 * 3. errno is the same after every function as before it.
 */
#include "util/osdep.h"
#include "util/error.h"

struct Error {
    char *msg;
    GString *hint;              /* NULL while there is none */
    ErrorClass err_class;
    const char *file, *func;    /* where it was raised; static strings */
    int line;
};

Error *error_abort;
Error *error_fatal;

static const char *progname;

/* Fixed once the program has started. */
static LogLevel max_level = LOG_LEVEL_INFO;
static bool is_journal;         /* what stderr leads to */

static void handle_special(Error **errp, Error *err)
{
    if (errp == &error_abort) {
        fprintf(stderr, "Unexpected error in %s() at %s:%d:\n",
                err->func, err->file, err->line);
        error_report("%s", err->msg);
        if (err->hint) {
            error_printf("%s", err->hint->str);
        }
        abort();
    }
    if (errp == &error_fatal) {
        error_report_err(err);
        exit(1);
    }
}

void error_set_at(Error **errp, const char *file, int line, const char *func,
                  ErrorClass err_class, int os_errno, const char *fmt, ...)
{
    int saved_errno = errno;
    Error *err;
    va_list ap;

    if (!errp) {
        return;
    }
    assert(*errp == NULL);

    err = g_new0(Error, 1);
    va_start(ap, fmt);
    err->msg = g_strdup_vprintf(fmt, ap);
    va_end(ap);
    if (os_errno) {
        char *msg = err->msg;

        err->msg = g_strconcat(msg, ": ", g_strerror(os_errno), NULL);
        g_free(msg);
    }
    err->err_class = err_class;
    err->file = file;
    err->line = line;
    err->func = func;

    handle_special(errp, err);
    *errp = err;
    errno = saved_errno;
}

void error_propagate(Error **dst_errp, Error *local_err)
{
    if (!local_err) {
        return;
    }
    handle_special(dst_errp, local_err);
    if (dst_errp && !*dst_errp) {
        *dst_errp = local_err;
    } else {
        error_free(local_err);
    }
}

void error_propagate_prepend(Error **dst_errp, Error *local_err,
                             const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    error_vprepend(&local_err, fmt, ap);
    va_end(ap);
    error_propagate(dst_errp, local_err);
}

void error_vprepend(Error *const *errp, const char *fmt, va_list ap)
{
    int saved_errno = errno;
    g_autofree char *prefix = NULL;
    char *msg;

    if (!errp || !*errp) {
        return;
    }
    prefix = g_strdup_vprintf(fmt, ap);
    msg = g_strconcat(prefix, (*errp)->msg, NULL);
    g_free((*errp)->msg);
    (*errp)->msg = msg;
    errno = saved_errno;
}

void error_prepend(Error *const *errp, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    error_vprepend(errp, fmt, ap);
    va_end(ap);
}

void error_append_hint(Error *const *errp, const char *fmt, ...)
{
    int saved_errno = errno;
    va_list ap;

    if (!errp || !*errp) {
        return;
    }
    if (!(*errp)->hint) {
        (*errp)->hint = g_string_new(NULL);
    }
    va_start(ap, fmt);
    g_string_append_vprintf((*errp)->hint, fmt, ap);
    va_end(ap);
    errno = saved_errno;
}

const char *error_get_pretty(const Error *err)
{
    return err->msg;
}

const char *error_get_hint(const Error *err)
{
    return err->hint ? err->hint->str : NULL;
}

ErrorClass error_get_class(const Error *err)
{
    return err->err_class;
}

const char *error_class_str(ErrorClass err_class)
{
    switch (err_class) {
    case ERROR_CLASS_GENERIC_ERROR:
        return "GenericError";
    case ERROR_CLASS_COMMAND_NOT_FOUND:
        return "CommandNotFound";
    case ERROR_CLASS_DEVICE_NOT_ACTIVE:
        return "DeviceNotActive";
    case ERROR_CLASS_DEVICE_NOT_FOUND:
        return "DeviceNotFound";
    }
    g_assert_not_reached();
}

Error *error_copy(const Error *err)
{
    Error *copy = g_new0(Error, 1);

    *copy = *err;
    copy->msg = g_strdup(err->msg);
    if (err->hint) {
        copy->hint = g_string_new(err->hint->str);
    }
    return copy;
}

void error_free(Error *err)
{
    int saved_errno = errno;

    if (!err) {
        return;
    }
    g_free(err->msg);
    if (err->hint) {
        g_string_free(err->hint, TRUE);
    }
    g_free(err);
    errno = saved_errno;
}

void error_free_or_abort(Error **errp)
{
    assert(errp && *errp);
    error_free(*errp);
    *errp = NULL;
}

Error **errp_guard_enter(ErrpGuard *guard, Error **errp)
{
    guard->local = NULL;
    guard->outer = errp;
    /*
     * NULL hides that an error happened, and error_fatal exits before a hint
     * can be added: both need an object of our own.  error_abort does not: it
     * is most useful where the error is raised.
     */
    guard->active = !errp || errp == &error_fatal;
    return guard->active ? &guard->local : errp;
}

void errp_guard_leave(ErrpGuard *guard)
{
    if (guard->active) {
        error_propagate(guard->outer, guard->local);
    }
}

/* Whether stderr is what the service manager says is its journal. */
static bool find_journal(void)
{
    const char *stream = g_getenv("JOURNAL_STREAM");
    struct stat st;
    g_autofree char *mine = NULL;

    if (!stream || fstat(STDERR_FILENO, &st) < 0) {
        return false;
    }
    mine = g_strdup_printf("%ju:%ju", (uintmax_t)st.st_dev,
                           (uintmax_t)st.st_ino);
    return !strcmp(stream, mine);
}

void error_init(const char *argv0)
{
    const char *slash = strrchr(argv0, '/');

    progname = slash ? slash + 1 : argv0;
    is_journal = find_journal();
}

bool error_set_log_level(const char *name)
{
    static const struct {
        const char *name;
        LogLevel level;
    } levels[] = {
        { "error", LOG_LEVEL_ERROR },
        { "warning", LOG_LEVEL_WARNING },
        { "info", LOG_LEVEL_INFO },
        { "debug", LOG_LEVEL_DEBUG },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(levels); i++) {
        if (!strcmp(name, levels[i].name)) {
            max_level = levels[i].level;
            return true;
        }
    }
    return false;
}

const char *error_level_prefix(LogLevel level)
{
    static const char prefixes[][4] = {
        [LOG_LEVEL_ERROR] = "<3>",
        [LOG_LEVEL_WARNING] = "<4>",
        [LOG_LEVEL_INFO] = "<6>",
        [LOG_LEVEL_DEBUG] = "<7>",
    };

    return is_journal ? prefixes[level] : "";
}

void error_set_progname(const char *name)
{
    progname = name;
}

const char *error_get_progname(void)
{
    return progname;
}

static void print_line(LogLevel level, const char *kind, const char *fmt,
                       va_list ap) G_GNUC_PRINTF(3, 0);

static void print_line(LogLevel level, const char *kind, const char *fmt,
                       va_list ap)
{
    int saved_errno = errno;
    g_autofree char *msg = NULL;

    if (level > max_level) {
        return;
    }
    msg = g_strdup_vprintf(fmt, ap);
    fprintf(stderr, "%s%s%s%s%s\n", error_level_prefix(level),
            progname ? progname : "", progname ? ": " : "", kind, msg);
    errno = saved_errno;
}

void error_vreport(const char *fmt, va_list ap)
{
    print_line(LOG_LEVEL_ERROR, "", fmt, ap);
}

void warn_vreport(const char *fmt, va_list ap)
{
    print_line(LOG_LEVEL_WARNING, "warning: ", fmt, ap);
}

void error_report(const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    error_vreport(fmt, ap);
    va_end(ap);
}

void warn_report(const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    warn_vreport(fmt, ap);
    va_end(ap);
}

void info_report(const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    print_line(LOG_LEVEL_INFO, "info: ", fmt, ap);
    va_end(ap);
}

void error_printf(const char *fmt, ...)
{
    int saved_errno = errno;
    va_list ap;

    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    errno = saved_errno;
}

/* A hint is of whole lines. */
static void print_hint(LogLevel level, const char *hint)
{
    g_auto(GStrv) lines = g_strsplit(hint, "\n", -1);

    for (int i = 0; level <= max_level && lines[i] && lines[i + 1]; i++) {
        error_printf("%s%s\n", error_level_prefix(level), lines[i]);
    }
}

static void report_and_free(Error *err, LogLevel level,
                            void (*report)(const char *fmt, ...))
{
    report("%s", err->msg);
    if (err->hint) {
        print_hint(level, err->hint->str);
    }
    error_free(err);
}

void error_report_err(Error *err)
{
    report_and_free(err, LOG_LEVEL_ERROR, error_report);
}

void warn_report_err(Error *err)
{
    report_and_free(err, LOG_LEVEL_WARNING, warn_report);
}

void error_reportf_err(Error *err, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    error_vprepend(&err, fmt, ap);
    va_end(ap);
    error_report_err(err);
}

void warn_reportf_err(Error *err, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    error_vprepend(&err, fmt, ap);
    va_end(ap);
    warn_report_err(err);
}
