/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Requests of QMP: what they must look like, running them, answers. */
#include "util/osdep.h"
#include "util/coroutine.h"
#include "monitor/qmp-dispatch.h"
#include "qobject/qstring.h"

const QmpCommand *qmp_find_command(const QmpCommand *commands,
                                   const char *name)
{
    for (const QmpCommand *cmd = commands; cmd->name; cmd++) {
        if (!strcmp(cmd->name, name)) {
            return cmd;
        }
    }
    return NULL;
}

/* What a request consists of; borrowed from it. */
typedef struct RequestMembers {
    const char *name;
    const char *exec;           /* "execute" or "exec-oob" */
    QDict *args;                /* NULL: none given */
} RequestMembers;

static bool read_member(RequestMembers *m, const char *key, QObject *value,
                        bool oob_enabled, Error **errp)
{
    if (!strcmp(key, "id")) {
        return true;
    }
    if (!strcmp(key, "execute") || (!strcmp(key, "exec-oob") && oob_enabled)) {
        QString *name = qobject_to(QString, value);

        if (!name) {
            error_setg(errp, "QMP input member '%s' must be a string", key);
            return false;
        }
        if (m->exec) {
            error_setg(errp, "QMP input member '%s' clashes with '%s'", key,
                       m->exec);
            return false;
        }
        m->exec = key;
        m->name = qstring_get_str(name);
        return true;
    }
    if (!strcmp(key, "arguments")) {
        m->args = qobject_to(QDict, value);
        if (!m->args) {
            error_setg(errp, "QMP input member 'arguments' must be an object");
            return false;
        }
        return true;
    }
    error_setg(errp, "QMP input member '%s' is unexpected", key);
    return false;
}

static bool read_members(RequestMembers *m, QDict *dict, bool oob_enabled,
                         Error **errp)
{
    const QDictEntry *e;

    for (e = qdict_first(dict); e; e = qdict_next(dict, e)) {
        if (!read_member(m, qdict_entry_key(e), qdict_entry_value(e),
                         oob_enabled, errp)) {
            return false;
        }
    }
    if (!m->exec) {
        error_setg(errp, "QMP input lacks member 'execute'");
        return false;
    }
    return true;
}

static bool find_command(QmpRequest *req, const QmpCommand *commands,
                         const RequestMembers *m, Error **errp)
{
    const QmpCommand *cmd = qmp_find_command(commands, m->name);

    if (!cmd) {
        error_set(errp, ERROR_CLASS_COMMAND_NOT_FOUND,
                  "The command %s has not been found", m->name);
        return false;
    }
    req->oob = !strcmp(m->exec, "exec-oob");
    if (req->oob && !(cmd->options & QCO_ALLOW_OOB)) {
        error_setg(errp, "The command %s does not support OOB", m->name);
        return false;
    }
    req->args = m->args ? qobject_ref(m->args) : qdict_new();
    req->command = cmd;
    return true;
}

QmpRequest *qmp_request_new(const QmpCommand *commands, QObject *value,
                            Error *parse_error, bool oob_enabled)
{
    QmpRequest *req = g_new0(QmpRequest, 1);
    QDict *dict = qobject_to(QDict, value);
    RequestMembers m = { 0 };

    if (parse_error) {
        req->err = parse_error;
        return req;
    }
    if (!dict) {
        error_setg(&req->err, "QMP input must be a JSON object");
        return req;
    }
    req->id = qobject_ref(qdict_get(dict, "id"));
    if (read_members(&m, dict, oob_enabled, &req->err)) {
        find_command(req, commands, &m, &req->err);
    }
    return req;
}

void qmp_request_free(QmpRequest *req)
{
    if (req) {
        qobject_unref(req->id);
        qobject_unref(req->args);
        error_free(req->err);
        g_free(req);
    }
}

QDict *qmp_error_response(const Error *err, QObject *id)
{
    QDict *rsp = qdict_new();
    QDict *body = qdict_new();

    qdict_put_str(body, "class", error_class_str(error_get_class(err)));
    qdict_put_str(body, "desc", error_get_pretty(err));
    qdict_put_obj(rsp, "error", QOBJECT(body));
    if (id) {
        qdict_put_obj(rsp, "id", qobject_ref(id));
    }
    return rsp;
}

QDict *qmp_request_run(QmpRequest *req)
{
    QObject *ret = NULL;
    Error *err = NULL;
    QDict *rsp;

    if (req->err) {
        return qmp_error_response(req->err, req->id);
    }
    assert(qemu_in_coroutine() == !!(req->command->options & QCO_COROUTINE));
    req->command->func(req->args, &ret, &err);
    if (err) {
        assert(!ret);
        rsp = qmp_error_response(err, req->id);
        error_free(err);
        return rsp;
    }
    rsp = qdict_new();
    qdict_put_obj(rsp, "return", ret ? ret : QOBJECT(qdict_new()));
    if (req->id) {
        qdict_put_obj(rsp, "id", qobject_ref(req->id));
    }
    return rsp;
}
