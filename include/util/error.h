/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Error objects, and the messages a program prints.
 *
 * A function that can fail takes `Error **errp` as its last parameter and also
 * tells failure by its return value.  The caller passes
 *   - NULL when the reason does not matter: nothing is allocated;
 *   - the address of an `Error *` that is NULL: it receives an object the
 *     caller owns and frees, reports or propagates;
 *   - &error_abort when failure would be a bug: the process aborts where the
 *     error is raised, naming the source line;
 *   - &error_fatal when failure ends a program: reported on stderr, exit(1).
 *
 * Invariant: one `Error *` variable receives at most one error; raising a
 * second one into it aborts.
 *
 * A message is one phrase without newline or final stop.  A hint is advice for
 * a human, is made of whole lines, and is only shown where a human reads.
 *
 * Unless said otherwise everything here may be called from any thread, in
 * coroutine context or out of it, never yields and keeps errno.  An Error
 * object itself belongs to one thread at a time.
 */
#ifndef UTIL_ERROR_H
#define UTIL_ERROR_H

#include <glib.h>
#include <stdarg.h>
#include <stdbool.h>

typedef struct Error Error;

/* What a QMP client may tell apart; anything else is GenericError. */
typedef enum ErrorClass {
    ERROR_CLASS_GENERIC_ERROR,
    ERROR_CLASS_COMMAND_NOT_FOUND,
    ERROR_CLASS_DEVICE_NOT_ACTIVE,
    ERROR_CLASS_DEVICE_NOT_FOUND,
} ErrorClass;

/* Destinations with a meaning of their own; never read or assign them. */
extern Error *error_abort;
extern Error *error_fatal;

/* --- raising --- */

/*
 * Raise an error of class GENERIC_ERROR.  A macro, so that the source position
 * can be kept for error_abort.
 */
#define error_setg(errp, ...) \
    error_set_at((errp), __FILE__, __LINE__, __func__, \
                 ERROR_CLASS_GENERIC_ERROR, 0, __VA_ARGS__)

/* The same with ": " and strerror(@os_errno) appended; @os_errno is positive,
 * or 0 for no suffix. */
#define error_setg_errno(errp, os_errno, ...) \
    error_set_at((errp), __FILE__, __LINE__, __func__, \
                 ERROR_CLASS_GENERIC_ERROR, (os_errno), __VA_ARGS__)

/* Raise an error of another class than GENERIC_ERROR. */
#define error_set(errp, err_class, ...) \
    error_set_at((errp), __FILE__, __LINE__, __func__, \
                 (err_class), 0, __VA_ARGS__)

/* Raise "Could not open 'FILENAME': REASON"; @os_errno is positive. */
#define error_setg_file_open(errp, os_errno, filename) \
    error_setg_errno((errp), (os_errno), "Could not open '%s'", (filename))

/* What the macros above call.  Use them instead. */
void error_set_at(Error **errp, const char *file, int line, const char *func,
                  ErrorClass err_class, int os_errno, const char *fmt, ...)
    G_GNUC_PRINTF(7, 8);

/* --- handing on --- */

/*
 * Give @local_err (may be NULL: nothing happens) to the caller.  Takes
 * ownership: it is stored in @dst_errp, or freed if that is NULL or holds an
 * error already (the first error wins), or acted upon for
 * error_abort/error_fatal.
 */
void error_propagate(Error **dst_errp, Error *local_err);

/* error_prepend() on @local_err, then error_propagate().  Takes ownership. */
void error_propagate_prepend(Error **dst_errp, Error *local_err,
                             const char *fmt, ...) G_GNUC_PRINTF(3, 4);

/*
 * Put text in front of the message in *@errp; separators are the caller's.
 * Nothing happens if @errp or *@errp is NULL.  A function that uses this (or
 * error_append_hint) on its own errp parameter needs ERRP_GUARD(), or users of
 * error_fatal do not see the text.
 */
void error_prepend(Error *const *errp, const char *fmt, ...)
    G_GNUC_PRINTF(2, 3);
void error_vprepend(Error *const *errp, const char *fmt, va_list ap)
    G_GNUC_PRINTF(2, 0);

/* Append to the hint of *@errp, under the rules of error_prepend().  Hints end
 * with a newline. */
void error_append_hint(Error *const *errp, const char *fmt, ...)
    G_GNUC_PRINTF(2, 3);

/* --- looking at --- */

/*
 * The message / the hint (NULL if none); valid as long as @err is unchanged.
 */
const char *error_get_pretty(const Error *err);
const char *error_get_hint(const Error *err);
ErrorClass error_get_class(const Error *err);

/* The class as QMP spells it, e.g. "GenericError".  Static storage. */
const char *error_class_str(ErrorClass err_class);

/* A deep copy that the caller frees. */
Error *error_copy(const Error *err);

/* Free @err; NULL is fine. */
void error_free(Error *err);

/* Assert that *@errp holds an error, free it and set *@errp to NULL. */
void error_free_or_abort(Error **errp);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(Error, error_free)

/* --- ERRP_GUARD --- */

typedef struct ErrpGuard {
    Error *local;       /* what the function raises while guarded */
    Error **outer;      /* the caller's errp, NULL if that is used directly */
    bool active;
} ErrpGuard;

Error **errp_guard_enter(ErrpGuard *guard, Error **errp);
void errp_guard_leave(ErrpGuard *guard);

/*
 * First statement of a function that dereferences its `errp` parameter, or
 * calls error_prepend()/error_append_hint() on it.  From there on `errp` is
 * never NULL, and *errp tells whether an error was raised, whatever the caller
 * passed. The error reaches the caller when the scope ends.
 */
#define ERRP_GUARD()                                                    \
    __attribute__((cleanup(errp_guard_leave))) ErrpGuard errp_guard_;   \
    errp = errp_guard_enter(&errp_guard_, errp)

/* --- printing, for programs; libraries raise errors instead --- */

/*
 * Set the prefix of messages to the last path component of @argv0.  Called
 * once at program start before there are other threads; @argv0 must stay
 * valid.
 */
void error_init(const char *argv0);

/*
 * Set the prefix to exactly @name, which must stay valid; NULL for no prefix.
 */
void error_set_progname(const char *name);

/* The prefix in use, or NULL. */
const char *error_get_progname(void);

/*
 * How grave a message is; the numbers are those of syslog. Trace events are of level
 * debug.
 */
typedef enum LogLevel {
    LOG_LEVEL_ERROR = 3,
    LOG_LEVEL_WARNING = 4,
    LOG_LEVEL_INFO = 6,
    LOG_LEVEL_DEBUG = 7,
} LogLevel;

/*
 * Print no message that is less grave than the level called @name: "error",
 * "warning", "info" (what holds at first) or "debug". False if there is none of that
 * name.  Once at program start before there are other threads.
 */
bool error_set_log_level(const char *name);

/*
 * What goes in front of a line of @level on stderr: "<N>" where that is the journal
 * of systemd, which takes it for the level, or "".
 */
const char *error_level_prefix(LogLevel level);

/*
 * Print one line on stderr: "PROGNAME: MESSAGE", with "warning: " or "info: "
 * before the message for the other two.  A line is written by one call, so
 * that lines of several threads do not mix.
 */
void error_report(const char *fmt, ...) G_GNUC_PRINTF(1, 2);
void error_vreport(const char *fmt, va_list ap) G_GNUC_PRINTF(1, 0);
void warn_report(const char *fmt, ...) G_GNUC_PRINTF(1, 2);
void warn_vreport(const char *fmt, va_list ap) G_GNUC_PRINTF(1, 0);
void info_report(const char *fmt, ...) G_GNUC_PRINTF(1, 2);

/* Print on stderr as it is, without prefix or newline. */
void error_printf(const char *fmt, ...) G_GNUC_PRINTF(1, 2);

/* Print @err, then its hint if any, and free it. */
void error_report_err(Error *err);
void warn_report_err(Error *err);

/* error_prepend(), then print and free. */
void error_reportf_err(Error *err, const char *fmt, ...) G_GNUC_PRINTF(2, 3);
void warn_reportf_err(Error *err, const char *fmt, ...) G_GNUC_PRINTF(2, 3);

/*
 * Print only the first time this place in the program is reached; true if it
 * printed.  Safe in any thread.
 */
#define error_report_once(...) \
    ({ static gint once_; \
       bool first_ = g_atomic_int_compare_and_exchange(&once_, 0, 1); \
       if (first_) { error_report(__VA_ARGS__); } \
       first_; })
#define warn_report_once(...) \
    ({ static gint once_; \
       bool first_ = g_atomic_int_compare_and_exchange(&once_, 0, 1); \
       if (first_) { warn_report(__VA_ARGS__); } \
       first_; })

#endif /* UTIL_ERROR_H */
