/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Trace events: one line of text for one decision of the program, printed only
 * while the event is switched on.  Off, an event costs one test of a bool.
 *
 * To add one, write a line in the `trace-events` file of your directory
 *
 *     my_event(void *bs, int64_t offset) "bs %p offset %" PRId64
 *
 * include "trace/DIR.h" and call trace_my_event(bs, offset).  Events are
 * printed as
 *
 *     PID@SECONDS.MICROSECONDS:my_event bs 0x55d0c0ffee00 offset 4096
 *
 * on stderr, or in the file of trace_set_file().  A line is written by one
 * call, so that lines of several threads do not mix.
 *
 * Events may be raised in any thread, coroutine or not; this never yields and
 * keeps errno.  Switching events is possible at any time, in the main thread.
 */
#ifndef UTIL_TRACE_H
#define UTIL_TRACE_H

#include <stdbool.h>
#include <stdio.h>
#include <glib.h>
#include "util/error.h"

/* What the generated code consists of. */
typedef struct TraceEvent {
    const char *name;
    bool enabled;       /* atomic, relaxed */
} TraceEvent;

typedef struct TraceGroup {
    TraceEvent *const *events;  /* up to a NULL */
    struct TraceGroup *next;
} TraceGroup;

static inline bool trace_event_enabled(const TraceEvent *event)
{
    return __builtin_expect(__atomic_load_n(&event->enabled,
                                            __ATOMIC_RELAXED), false);
}

void trace_emit(const TraceEvent *event, const char *fmt, ...)
    G_GNUC_PRINTF(2, 3);

/* Before main() only; @group must live for ever. */
void trace_register_group(TraceGroup *group);

/* --- for programs --- */

/* What --help says about the option. */
#define TRACE_OPT_SYNTAX "[[enable=]<pattern>][,events=<file>][,file=<file>]"

/* True if the argument of -T/--trace asks for trace_list_events(). */
bool trace_opt_is_help(const char *optarg);

/* Print the names of all events of this program, sorted, one a line. */
void trace_list_events(FILE *fp);

/*
 * Do what the argument of one -T/--trace says (a comma in a file name is
 * written twice): switch on the events that a pattern, or each line of a file,
 * matches, and direct the output to a file.  Settings of several options add
 * up. An event name without wildcards that nothing has is worth a warning
 * only, as other versions of the program may have it.  False and @errp for a
 * bad option or file; nothing is changed then.
 */
bool trace_init_from_opt(const char *optarg, Error **errp);

/*
 * Switch the events whose name matches @pattern (shell-style * and ?) on or
 * off, and return how many match.  A leading '-' inverts @enable.
 */
unsigned int trace_enable_events(const char *pattern, bool enable);

/*
 * The events (TraceEvent) whose name matches @pattern, sorted by name; perhaps
 * none. Caller unrefs.
 */
GPtrArray *trace_events_matching(const char *pattern);
void trace_event_enable(TraceEvent *event, bool enable);
/* Whether @name has wildcards, so that it need not match any event. */
bool trace_is_pattern(const char *name);

/* The event of this name, or NULL. */
TraceEvent *trace_event_name(const char *name);

/*
 * Send the output to @filename, which is emptied; NULL for stderr.  False and
 * @errp if it cannot be opened, and then nothing changes.
 */
bool trace_set_file(const char *filename, Error **errp);

#endif /* UTIL_TRACE_H */
