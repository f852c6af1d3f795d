/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The way of events from whoever notices them to whoever delivers them. The
 * functions qapi_event_send_*() of "qapi/qapi-events.h" end here.
 *
 * The block layer is also part of programs without a monitor: then nobody
 * listens, and nothing is made of an event.
 */
#ifndef QAPI_EVENT_H
#define QAPI_EVENT_H

#include "qobject/qdict.h"

/* What is known of a kind of event. Static storage. */
typedef struct QapiEventInfo {
    const char *name;
    bool throttled;             /* at most one a second; the last one counts */
    const char *throttle_key;   /* for each value of this string member apart;
                                 * NULL: for all together */
} QapiEventInfo;

/* @data (NULL: none) belongs to it. Called in any thread, must not yield. */
typedef void QapiEventEmitter(const QapiEventInfo *info, QDict *data);

/* NULL: nobody listens (the default). At start and end, in the main thread,
 * while no other thread sends events. */
void qapi_event_set_emitter(QapiEventEmitter *emitter);

/* Whether somebody listens. Any thread. */
bool qapi_event_wanted(void);
/* Hands an event on; takes over @data. Any thread. */
void qapi_event_emit(const QapiEventInfo *info, QDict *data);

#endif /* QAPI_EVENT_H */
