/* SPDX-License-Identifier: GPL-2.0-or-later */
/* QMP commands about character devices of all kinds. */
#include "util/osdep.h"
#include "char-int.h"
#include "qapi/qapi-commands.h"

static ChardevInfo *describe(Chardev *chr)
{
    ChardevInfo *info = g_new0(ChardevInfo, 1);

    info->label = g_strdup(chr->id);
    info->filename = chr->klass->filename
                     ? chr->klass->filename(chr)
                     : g_strdup(ChardevBackendKind_str(chr->kind));
    info->frontend_open = chr->fe != NULL;
    return info;
}

ChardevInfoList *qmp_query_chardev(Error **errp)
{
    ChardevInfoList *list = NULL, **tail = &list;

    for (Chardev *c = chardev_next(NULL); c; c = chardev_next(c)) {
        QAPI_LIST_APPEND(tail, describe(c));
    }
    return list;
}

ChardevBackendInfoList *qmp_query_chardev_backends(Error **errp)
{
    ChardevBackendInfoList *list = NULL, **tail = &list;

    for (int i = 0; i < CHARDEV_BACKEND_KIND__MAX; i++) {
        ChardevBackendInfo *info = g_new0(ChardevBackendInfo, 1);

        info->name = g_strdup(ChardevBackendKind_str(i));
        QAPI_LIST_APPEND(tail, info);
    }
    return list;
}

/* @chr is what became of making @id; NULL: @err tells why, which it takes. */
static ChardevReturn *made(const Chardev *chr, const char *id, Error *err,
                           Error **errp)
{
    ChardevReturn *ret;

    if (!chr) {
        error_propagate_prepend(errp, err, "Failed to add chardev '%s': ", id);
        return NULL;
    }
    ret = g_new0(ChardevReturn, 1);
    ret->pty = g_strdup(chr->pty);
    return ret;
}

ChardevReturn *qmp_chardev_add(const char *id, ChardevBackend *backend,
                               Error **errp)
{
    Error *err = NULL;
    Chardev *chr;

    if (!chardev_id_is_new(id, errp)) {
        return NULL;
    }
    chr = chardev_new(id, backend, &err);
    return made(chr, id, err, errp);
}

ChardevReturn *qmp_chardev_change(const char *id, ChardevBackend *backend,
                                  Error **errp)
{
    Chardev *chr = chardev_find(id);
    Error *err = NULL;

    if (!chr) {
        error_setg(errp, "Chardev '%s' does not exist", id);
        return NULL;
    }
    if (chr->fe) {
        error_setg(errp, "Chardev user does not support chardev hotswap");
        return NULL;
    }
    chr = chardev_change(chr, backend, &err);
    return made(chr, id, err, errp);
}

static Chardev *find(const char *id, Error **errp)
{
    Chardev *chr = chardev_find(id);

    if (!chr) {
        error_setg(errp, "Chardev '%s' not found", id);
    }
    return chr;
}

void qmp_chardev_remove(const char *id, Error **errp)
{
    Chardev *chr = find(id, errp);

    if (chr) {
        chardev_remove(chr, errp);
    }
}

void qmp_chardev_send_break(const char *id, Error **errp)
{
    /* The users there are, monitors, take no notice of a break. */
    find(id, errp);
}
