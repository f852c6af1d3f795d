/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * QMP servers: each monitor talks to one client at a time over a character
 * device.
 *
 * Everything runs in the main thread. Commands run one after the other, whatever
 * monitor they come from, outside coroutines unless the schema says
 * 'coroutine'; while one polls the event loop the others wait. A command out of
 * band runs as soon as it has been read.
 *
 * Limits for a client: those of qobject/json-parser.h for one value; at most
 * MONITOR_QUEUE_MAX requests wait (1 without oob), then nothing more is read; nor
 * is anything read while more than MONITOR_OUTPUT_PAUSE bytes of answers were
 * not fetched; at MONITOR_OUTPUT_MAX bytes the connection is cut.
 */
#ifndef MONITOR_MONITOR_H
#define MONITOR_MONITOR_H

#include "monitor/qmp-dispatch.h"
#include "qapi/event.h"
#include "qapi/qapi-types.h"

#define MONITOR_QUEUE_MAX 8
#define MONITOR_OUTPUT_PAUSE (64 * 1024)
#define MONITOR_OUTPUT_MAX (64 * 1024 * 1024)

typedef struct Monitor Monitor;

/*
 * Once, before the first monitor: @commands (NULL name ends) are what clients
 * can call; qmp_capabilities must be among them. Events are delivered from now
 * on.
 */
void monitor_init(const QmpCommand *commands);
/* All monitors go; no events any more. Requests that wait are dropped. */
void monitor_cleanup(void);

/* A monitor on the character device that @options (borrowed) name. */
bool monitor_new(const MonitorOptions *options, Error **errp);

/* The commands of monitor_init(). */
const QmpCommand *monitor_commands(void);

/* The monitor whose command runs; NULL outside of commands. */
Monitor *monitor_cur(void);
/*
 * The descriptor that came with the command that runs, or -1 with @errp. Caller
 * closes.
 */
int monitor_take_fd(Error **errp);
/* @name means @fd, which is taken over, and is not what it meant before. */
void monitor_name_fd(Monitor *mon, const char *name, int fd);
/* False if there is none of that name. */
bool monitor_close_named_fd(Monitor *mon, const char *name);
/*
 * What the client of the command that runs has named @name by getfd; -1 with @errp.
 * With @take the name is gone, and the descriptor the caller's.
 */
int monitor_named_fd(const char *name, bool take, Error **errp);
/* qmp_capabilities for @mon; false with @errp if not all can be enabled. */
bool monitor_negotiate(Monitor *mon, QMPCapabilityList *enable, Error **errp);
/* The version as the greeting has it; caller frees. */
VersionInfo *monitor_version(void);

#endif
