/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The inside of monitors. Main thread. */
#ifndef MONITOR_MONITOR_INT_H
#define MONITOR_MONITOR_INT_H

#include "chardev/char.h"
#include "monitor/monitor.h"
#include "qobject/json-parser.h"
#include "util/queue.h"

/* What a client sent and has not been looked at: value or err is set. */
typedef struct MonitorInput {
    QObject *value;
    Error *err;
    GArray *fds;                /* that came with it and are not taken, or NULL */
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
    GArray *pending_fds;        /* came with the beginning of the next value */
    GArray *read_fds;           /* came with what is read now */
    unsigned nr_values;         /* that it had so far */
    MonitorInput *last_input;   /* the last of them, if it is in the queue */

    /* Outlives clients. */
    GHashTable *named_fds;      /* name -> int, by getfd; NULL: none ever */

    QTAILQ_ENTRY(Monitor) next;
};

typedef QTAILQ_HEAD(MonitorList, Monitor) MonitorList;
extern MonitorList monitors;

/* Sends @dict (borrowed) as a line. */
void monitor_send(Monitor *mon, QDict *dict);

/* --- fds.c --- */

/*
 * Arrays of descriptors, which they close when they are freed. Appends to *@fds, or
 * makes one; what is beyond CHARDEV_MAX_FDS is closed.
 */
void monitor_fds_add(GArray **fds, const int *more, size_t n);
/* The first one, or -1. The others are closed; @fds (or NULL) is empty then. */
int monitor_fds_take(GArray *fds);
void monitor_fds_free(GArray *fds);

/* events.c: ready to take events in any thread / none come any more. */
void monitor_events_init(void);
void monitor_events_cleanup(void);

#endif
