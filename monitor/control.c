/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Commands about the monitor itself and about what can be said to it. */
#include "util/osdep.h"
#include "monitor/monitor.h"
#include "qapi/qapi-commands.h"
#include "qapi/qapi-introspect.h"
#include "qobject/qjson.h"

VersionInfo *monitor_version(void)
{
    VersionInfo *info = g_new0(VersionInfo, 1);
    g_auto(GStrv) parts = g_strsplit(QEMU_VERSION, ".", 3);
    int n = g_strv_length(parts);

    info->qemu = g_new0(VersionTriple, 1);
    info->qemu->major = n > 0 ? atoi(parts[0]) : 0;
    info->qemu->minor = n > 1 ? atoi(parts[1]) : 0;
    info->qemu->micro = n > 2 ? atoi(parts[2]) : 0;
    info->package = g_strdup("");
    return info;
}

void qmp_qmp_capabilities(bool has_enable, QMPCapabilityList *enable,
                          Error **errp)
{
    monitor_negotiate(monitor_cur(), enable, errp);
}

VersionInfo *qmp_query_version(Error **errp)
{
    return monitor_version();
}

CommandInfoList *qmp_query_commands(Error **errp)
{
    CommandInfoList *list = NULL, **tail = &list;

    for (const QmpCommand *cmd = monitor_commands(); cmd->name; cmd++) {
        CommandInfo *info = g_new0(CommandInfo, 1);

        info->name = g_strdup(cmd->name);
        QAPI_LIST_APPEND(tail, info);
    }
    return list;
}

void qmp_query_qmp_schema(QDict *args, QObject **ret, Error **errp)
{
    if (qdict_size(args)) {
        error_setg(errp, "Parameter '%s' is unexpected",
                   qdict_entry_key(qdict_first(args)));
        return;
    }
    *ret = qobject_from_json(qmp_schema_json, &error_abort);
}
