/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The character devices of the program: by id, each with its front end. */
#include "util/osdep.h"
#include "char-int.h"
#include "qapi/qapi-commands.h"
#include "qobject/keyval.h"
#include "util/id.h"

static const ChardevClass *const classes[CHARDEV_BACKEND_KIND__MAX] = {
    [CHARDEV_BACKEND_KIND_NULL] = &chardev_class_null,
    [CHARDEV_BACKEND_KIND_SOCKET] = &chardev_class_socket,
    [CHARDEV_BACKEND_KIND_STDIO] = &chardev_class_stdio,
};

static QTAILQ_HEAD(, Chardev) chardevs = QTAILQ_HEAD_INITIALIZER(chardevs);

const char *const *chardev_kinds(void)
{
    return ChardevBackendKind_lookup.array;
}

Chardev *chardev_find(const char *id)
{
    Chardev *chr;

    QTAILQ_FOREACH(chr, &chardevs, next) {
        if (!strcmp(chr->id, id)) {
            return chr;
        }
    }
    return NULL;
}

const char *chardev_id(const Chardev *chr)
{
    return chr->id;
}

static void chardev_free(Chardev *chr)
{
    chardev_stream_destroy(chr);
    g_free(chr->id);
    g_free(chr);
}

Chardev *chardev_new(const char *id, const ChardevBackend *backend,
                     Error **errp)
{
    Chardev *chr;

    if (!id_wellformed(id)) {
        error_setg(errp, "Parameter 'id' expects an identifier");
        error_append_hint(errp, ID_RULES_HINT);
        return NULL;
    }
    if (chardev_find(id)) {
        error_setg(errp, "Chardev with id '%s' already exists", id);
        return NULL;
    }
    chr = g_new0(Chardev, 1);
    chr->id = g_strdup(id);
    chr->klass = classes[backend->type];
    chardev_stream_init(chr);
    if (!chr->klass->open(chr, backend, errp)) {
        chardev_free(chr);
        return NULL;
    }
    QTAILQ_INSERT_TAIL(&chardevs, chr, next);
    return chr;
}

Chardev *chardev_new_from_option(const char *text, Error **errp)
{
    g_autoptr(QDict) opts = keyval_parse_opts(text, "backend", NULL);
    g_autofree char *id = g_strdup(qdict_get_try_str(opts, "id"));
    g_autoptr(ChardevBackend) backend = NULL;

    qdict_del(opts, "id");
    backend = chardev_parse_backend(opts, errp);
    if (!backend) {
        return NULL;
    }
    if (!id) {
        error_setg(errp, "chardev: no id specified");
        return NULL;
    }
    return chardev_new(id, backend, errp);
}

static void chardev_destroy(Chardev *chr)
{
    QTAILQ_REMOVE(&chardevs, chr, next);
    if (chr->connected) {
        /* The answer to "quit", for one. A peer that does not read loses it. */
        while (chr->out->len) {
            ssize_t n = write(chr->out_fd, chr->out->str, chr->out->len);

            if (n <= 0) {
                break;
            }
            g_string_erase(chr->out, 0, n);
        }
    }
    chardev_stream_destroy(chr);
    chr->klass->close(chr);
    g_free(chr->id);
    g_free(chr);
}

bool chardev_remove(Chardev *chr, Error **errp)
{
    if (chr->fe) {
        error_setg(errp, "Chardev '%s' is busy", chr->id);
        return false;
    }
    chardev_destroy(chr);
    return true;
}

void chardev_free_all(void)
{
    Chardev *chr;

    while ((chr = QTAILQ_FIRST(&chardevs))) {
        assert(!chr->fe);
        chardev_destroy(chr);
    }
}

bool chardev_attach(Chardev *chr, const ChardevFrontend *fe, void *opaque,
                    Error **errp)
{
    if (chr->fe) {
        error_setg(errp, "Device '%s' is in use", chr->id);
        return false;
    }
    chr->fe = fe;
    chr->fe_opaque = opaque;
    chardev_stream_frontend_changed(chr);
    return true;
}

void chardev_detach(Chardev *chr)
{
    chr->fe = NULL;
    chardev_stream_frontend_changed(chr);
}

/* --- commands --- */

ChardevInfoList *qmp_query_chardev(Error **errp)
{
    ChardevInfoList *list = NULL, **tail = &list;
    Chardev *chr;

    QTAILQ_FOREACH(chr, &chardevs, next) {
        ChardevInfo *info = g_new0(ChardevInfo, 1);

        info->label = g_strdup(chr->id);
        info->filename = chr->klass->filename(chr);
        info->frontend_open = chr->fe != NULL;
        QAPI_LIST_APPEND(tail, info);
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

ChardevReturn *qmp_chardev_add(const char *id, ChardevBackend *backend,
                               Error **errp)
{
    return chardev_new(id, backend, errp) ? g_new0(ChardevReturn, 1) : NULL;
}

void qmp_chardev_remove(const char *id, Error **errp)
{
    Chardev *chr = chardev_find(id);

    if (!chr) {
        error_setg(errp, "Chardev '%s' not found", id);
        return;
    }
    chardev_remove(chr, errp);
}
