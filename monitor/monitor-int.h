/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The inside of monitors. Main thread. */
#ifndef MONITOR_MONITOR_INT_H
#define MONITOR_MONITOR_INT_H

#include "chardev/char.h"
#include "monitor/monitor.h"
#include "qobject/json-parser.h"
#include "util/queue.h"

/* What a client sent and has not been looked at: one of the two is set. */
typedef struct MonitorInput {
    QObject *value;
    Error *err;
} MonitorInput;

struct Monitor {
    Chardev *chr;
    bool pretty;

    /* About the client that is there. */
    bool open;
    unsigned session;           /* counts clients */
    bool negotiated;
    bool oob_enabled;
    bool input_ended;           /* it ends when the queue is empty */
    bool running;               /* a command of this session */
    JSONMessageParser parser;
    GQueue queue;               /* MonitorInput */

    QTAILQ_ENTRY(Monitor) next;
};

typedef QTAILQ_HEAD(MonitorList, Monitor) MonitorList;
extern MonitorList monitors;

/* Sends @dict (borrowed) as a line. */
void monitor_send(Monitor *mon, QDict *dict);

/* events.c: ready to take events in any thread / none come any more. */
void monitor_events_init(void);
void monitor_events_cleanup(void);

#endif
