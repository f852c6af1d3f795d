/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * From one JSON value that a client sent to the call of a command and the
 * answer. Knows the protocol's rules about requests, nothing about connections.
 */
#ifndef MONITOR_QMP_DISPATCH_H
#define MONITOR_QMP_DISPATCH_H

#include "util/error.h"
#include "qobject/qdict.h"

typedef enum QmpCommandOptions {
    QCO_NO_OPTIONS = 0,
    QCO_ALLOW_OOB = 1 << 0,     /* may run out of band: never blocks */
    QCO_COROUTINE = 1 << 1,     /* runs in a coroutine, may yield */
    QCO_DEPRECATED = 1 << 2,
    QCO_UNSTABLE = 1 << 3,
} QmpCommandOptions;

/*
 * Checks @args (borrowed) against the schema, runs the command and sets
 * *@ret for the caller, or leaves it NULL if there is nothing to return.
 */
typedef void QmpCommandFunc(QDict *args, QObject **ret, Error **errp);

typedef struct QmpCommand {
    const char *name;
    QmpCommandFunc *func;
    unsigned options;           /* QmpCommandOptions */
} QmpCommand;

/* A request that was understood so far as the protocol goes. */
typedef struct QmpRequest {
    QObject *id;                /* NULL: none was given */
    QDict *args;
    const QmpCommand *command;  /* NULL: the request is refused with err */
    bool oob;                   /* came as exec-oob */
    Error *err;
} QmpRequest;

/*
 * Reads @value (borrowed) as a request for one of @commands (NULL name ends
 * the table). @parse_error (taken over) stands for a value that could not be
 * parsed; @value is NULL then. @oob_enabled: the client may use exec-oob.
 * Never NULL: what is wrong is in the result.
 */
QmpRequest *qmp_request_new(const QmpCommand *commands, QObject *value,
                            Error *parse_error, bool oob_enabled);
/* NULL is fine. */
void qmp_request_free(QmpRequest *req);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(QmpRequest, qmp_request_free)

/*
 * Runs the request (if it is not refused already) and returns the answer for
 * the client, with its id. A QCO_COROUTINE command: in a coroutine; the others:
 * outside. Main thread.
 */
QDict *qmp_request_run(QmpRequest *req);

/* {"error": ...} of @err, which stays the caller's; with @id if not NULL. */
QDict *qmp_error_response(const Error *err, QObject *id);

/* The command of that name in @commands, or NULL. */
const QmpCommand *qmp_find_command(const QmpCommand *commands,
                                   const char *name);

#endif /* MONITOR_QMP_DISPATCH_H */
