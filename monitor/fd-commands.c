/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Commands about descriptors that clients pass. */
#include "util/osdep.h"
#include "monitor/monitor.h"
#include "qapi/qapi-commands.h"
#include "util/fdset.h"

/* --- by name --- */

void qmp_getfd(const char *fdname, Error **errp)
{
    int fd = monitor_take_fd(errp);

    if (fd < 0) {
        return;
    }
    if (g_ascii_isdigit(fdname[0])) {
        close(fd);
        error_setg(errp, "Parameter 'fdname' expects a name not starting with "
                   "a digit");
        return;
    }
    monitor_name_fd(monitor_cur(), fdname, fd);
}

void qmp_closefd(const char *fdname, Error **errp)
{
    if (!monitor_close_named_fd(monitor_cur(), fdname)) {
        error_setg(errp, "File descriptor named '%s' not found", fdname);
    }
}

/* --- in sets --- */

AddfdInfo *qmp_add_fd(bool has_fdset_id, int64_t fdset_id, const char *opaque,
                      Error **errp)
{
    int fd = monitor_take_fd(errp);
    const FdsetMember *m;
    AddfdInfo *info;

    if (fd < 0) {
        return NULL;
    }
    if (has_fdset_id && fdset_id < 0) {
        close(fd);
        error_setg(errp, "Parameter 'fdset-id' expects a non-negative value");
        return NULL;
    }
    m = fdset_add(has_fdset_id ? fdset_id : -1, fd, opaque);
    info = g_new0(AddfdInfo, 1);
    info->fdset_id = m->set;
    info->fd = m->fd;
    return info;
}

void qmp_remove_fd(int64_t fdset_id, bool has_fd, int64_t fd, Error **errp)
{
    g_autofree char *name = NULL;

    /* -1 would mean all of them. */
    if ((!has_fd || (fd >= 0 && fd <= INT_MAX)) &&
        fdset_remove(fdset_id, has_fd ? fd : -1)) {
        return;
    }
    name = has_fd ? g_strdup_printf("fdset-id:%" PRId64 ", fd:%" PRId64,
                                    fdset_id, fd)
                  : g_strdup_printf("fdset-id:%" PRId64, fdset_id);
    error_setg(errp, "File descriptor named '%s' not found", name);
}

FdsetInfoList *qmp_query_fdsets(Error **errp)
{
    FdsetInfoList *list = NULL, **tail = &list;
    FdsetFdInfoList **fds = NULL;
    FdsetInfo *info = NULL;

    for (const FdsetMember *m = fdset_next(NULL); m; m = fdset_next(m)) {
        FdsetFdInfo *fd = g_new0(FdsetFdInfo, 1);

        if (!info || info->fdset_id != m->set) {
            info = g_new0(FdsetInfo, 1);
            info->fdset_id = m->set;
            fds = &info->fds;
            QAPI_LIST_APPEND(tail, info);
        }
        fd->fd = m->fd;
        fd->opaque = g_strdup(m->opaque);
        QAPI_LIST_APPEND(fds, fd);
    }
    return list;
}
