/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Commands about trace events. */
#include "util/osdep.h"
#include "qapi/qapi-commands.h"
#include "util/error.h"
#include "util/trace.h"

/* The events that @name means; NULL with @errp. Caller unrefs. */
static GPtrArray *events_of(const char *name, Error **errp)
{
    GPtrArray *events = trace_events_matching(name);

    if (!events->len && !trace_is_pattern(name)) {
        error_setg(errp, "unknown event \"%s\"", name);
        g_ptr_array_unref(events);
        return NULL;
    }
    return events;
}

TraceEventInfoList *qmp_trace_event_get_state(const char *name, Error **errp)
{
    g_autoptr(GPtrArray) events = events_of(name, errp);
    TraceEventInfoList *list = NULL, **tail = &list;

    for (guint i = 0; events && i < events->len; i++) {
        const TraceEvent *event = g_ptr_array_index(events, i);
        TraceEventInfo *info = g_new0(TraceEventInfo, 1);

        info->name = g_strdup(event->name);
        info->state = trace_event_enabled(event) ? TRACE_EVENT_STATE_ENABLED
                                                 : TRACE_EVENT_STATE_DISABLED;
        QAPI_LIST_APPEND(tail, info);
    }
    return list;
}

void qmp_trace_event_set_state(const char *name, bool enable,
                               bool has_ignore_unavailable,
                               bool ignore_unavailable, Error **errp)
{
    g_autoptr(GPtrArray) events = events_of(name, errp);

    for (guint i = 0; events && i < events->len; i++) {
        trace_event_enable(g_ptr_array_index(events, i), enable);
    }
}
