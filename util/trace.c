/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Trace events: the list of groups, switching by pattern, and output.
 *
 * The groups register before main() and never go away.  The output file is
 * guarded by trace_lock, so that an emitting thread never sees a closed one.
 */
#include "util/osdep.h"
#include <fnmatch.h>
#include "util/trace.h"

static TraceGroup *groups;      /* fixed once main() runs */
static GMutex trace_lock;
static FILE *trace_file;        /* NULL: stderr; under trace_lock */

void trace_register_group(TraceGroup *group)
{
    group->next = groups;
    groups = group;
}

void trace_emit(const TraceEvent *event, const char *fmt, ...)
{
    int saved_errno = errno;
    int64_t now_us = g_get_real_time();
    g_autofree char *msg = NULL;
    g_autofree char *line = NULL;
    va_list ap;
    FILE *fp;

    va_start(ap, fmt);
    msg = g_strdup_vprintf(fmt, ap);
    va_end(ap);
    line = g_strdup_printf("%d@%" PRId64 ".%06" PRId64 ":%s%s%s\n",
                           (int)getpid(), now_us / G_USEC_PER_SEC,
                           now_us % G_USEC_PER_SEC, event->name,
                           *msg ? " " : "", msg);

    g_mutex_lock(&trace_lock);
    fp = trace_file ? trace_file : stderr;
    if (fp == stderr) {
        fputs(error_level_prefix(LOG_LEVEL_DEBUG), fp);
    }
    fputs(line, fp);
    fflush(fp);
    g_mutex_unlock(&trace_lock);
    errno = saved_errno;
}

TraceEvent *trace_event_name(const char *name)
{
    for (TraceGroup *group = groups; group; group = group->next) {
        for (TraceEvent *const *ev = group->events; *ev; ev++) {
            if (!strcmp((*ev)->name, name)) {
                return *ev;
            }
        }
    }
    return NULL;
}

static int compare_names(gconstpointer a, gconstpointer b)
{
    const TraceEvent *x = *(TraceEvent *const *)a, *y = *(TraceEvent *const *)b;

    return strcmp(x->name, y->name);
}

GPtrArray *trace_events_matching(const char *pattern)
{
    GPtrArray *events = g_ptr_array_new();

    for (TraceGroup *group = groups; group; group = group->next) {
        for (TraceEvent *const *ev = group->events; *ev; ev++) {
            if (!fnmatch(pattern, (*ev)->name, 0)) {
                g_ptr_array_add(events, *ev);
            }
        }
    }
    g_ptr_array_sort(events, compare_names);
    return events;
}

bool trace_is_pattern(const char *name)
{
    return strpbrk(name, "*?[");
}

void trace_event_enable(TraceEvent *event, bool enable)
{
    __atomic_store_n(&event->enabled, enable, __ATOMIC_RELAXED);
}

unsigned int trace_enable_events(const char *pattern, bool enable)
{
    g_autoptr(GPtrArray) events = NULL;

    if (*pattern == '-') {
        enable = !enable;
        pattern++;
    }
    events = trace_events_matching(pattern);
    for (guint i = 0; i < events->len; i++) {
        trace_event_enable(events->pdata[i], enable);
    }
    return events->len;
}

void trace_list_events(FILE *fp)
{
    g_autoptr(GPtrArray) events = trace_events_matching("*");

    for (guint i = 0; i < events->len; i++) {
        fprintf(fp, "%s\n", ((TraceEvent *)events->pdata[i])->name);
    }
}

bool trace_set_file(const char *filename, Error **errp)
{
    FILE *fp = NULL, *old;

    if (filename) {
        fp = fopen(filename, "we");
        if (!fp) {
            error_setg_errno(errp, errno, "Could not open trace file '%s'",
                             filename);
            return false;
        }
    }
    g_mutex_lock(&trace_lock);
    old = trace_file;
    trace_file = fp;
    g_mutex_unlock(&trace_lock);
    if (old) {
        fclose(old);
    }
    return true;
}

/* --- the option --- */

typedef struct TraceOpt {
    char *enable;
    char *events;
    char *file;
} TraceOpt;

static void trace_opt_clear(TraceOpt *opt)
{
    g_free(opt->enable);
    g_free(opt->events);
    g_free(opt->file);
}

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(TraceOpt, trace_opt_clear)

/* The text up to a single comma; *@p is moved behind that, or to the end. */
static char *next_item(const char **p)
{
    GString *item = g_string_new(NULL);
    const char *s = *p;

    for (; *s; s++) {
        if (*s == ',') {
            s++;
            if (*s != ',') {
                break;
            }
        }
        g_string_append_c(item, *s);
    }
    *p = s;
    return g_string_free(item, FALSE);
}

static bool parse_opt(const char *optarg, TraceOpt *opt, Error **errp)
{
    const char *p = optarg;

    do {
        g_autofree char *item = next_item(&p);
        char *value = strchr(item, '=');
        char **where = NULL;

        if (!value) {
            /* Only the first item may leave out its name. */
            where = opt->enable || opt->events || opt->file ? NULL
                                                            : &opt->enable;
            value = item;
        } else {
            *value++ = '\0';
            where = !strcmp(item, "enable") ? &opt->enable :
                    !strcmp(item, "events") ? &opt->events :
                    !strcmp(item, "file") ? &opt->file : NULL;
        }
        if (!where) {
            error_setg(errp, "Invalid parameter '%s'", item);
            return false;
        }
        g_free(*where);
        *where = g_strdup(value);
    } while (*p);
    return true;
}

static void enable_or_warn(const char *pattern)
{
    const char *name = *pattern == '-' ? pattern + 1 : pattern;

    if (trace_enable_events(pattern, true) == 0 && !trace_is_pattern(name)) {
        warn_report("trace event '%s' does not exist", name);
    }
}

static void enable_from_text(const char *text)
{
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);

    for (char **line = lines; *line; line++) {
        g_strstrip(*line);
        if (**line && **line != '#') {
            enable_or_warn(*line);
        }
    }
}

bool trace_opt_is_help(const char *optarg)
{
    return !strcmp(optarg, "help") || !strcmp(optarg, "?");
}

bool trace_init_from_opt(const char *optarg, Error **errp)
{
    g_auto(TraceOpt) opt = { 0 };
    g_autofree char *text = NULL;
    g_autoptr(GError) gerr = NULL;

    if (!parse_opt(optarg, &opt, errp)) {
        return false;
    }
    if (opt.events && !g_file_get_contents(opt.events, &text, NULL, &gerr)) {
        error_setg(errp, "Could not read trace events: %s", gerr->message);
        return false;
    }
    if (opt.file && !trace_set_file(opt.file, errp)) {
        return false;
    }
    if (opt.enable && *opt.enable) {
        enable_or_warn(opt.enable);
    }
    if (text) {
        enable_from_text(text);
    }
    return true;
}
