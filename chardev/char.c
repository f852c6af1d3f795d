/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The character devices of the program: by id, each with its front end. */
#include "util/osdep.h"
#include "char-int.h"
#include "qobject/keyval.h"
#include "util/id.h"

static const ChardevClass *const classes[CHARDEV_BACKEND_KIND__MAX] = {
    [CHARDEV_BACKEND_KIND_FILE] = &chardev_class_file,
    [CHARDEV_BACKEND_KIND_MEMORY] = &chardev_class_memory,
    [CHARDEV_BACKEND_KIND_NULL] = &chardev_class_null,
    [CHARDEV_BACKEND_KIND_PIPE] = &chardev_class_pipe,
    [CHARDEV_BACKEND_KIND_PTY] = &chardev_class_pty,
    [CHARDEV_BACKEND_KIND_RINGBUF] = &chardev_class_ringbuf,
    [CHARDEV_BACKEND_KIND_SOCKET] = &chardev_class_socket,
    [CHARDEV_BACKEND_KIND_STDIO] = &chardev_class_stdio,
    [CHARDEV_BACKEND_KIND_UDP] = &chardev_class_udp,
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

const char *chardev_pty(const Chardev *chr)
{
    return chr->pty;
}

/* --- as the commands qom-* see them --- */

const QomType chardev_type = {
    .name = "chardev",
    .parent = &qom_type_object,
    .abstract = true,
};

const QomType chardev_fd_type = {
    .name = "chardev-fd",
    .parent = &chardev_type,
    .abstract = true,
};

Chardev *chardev_next(const Chardev *chr)
{
    return chr ? QTAILQ_NEXT(chr, next) : QTAILQ_FIRST(&chardevs);
}

const QomType *chardev_qom_type(const Chardev *chr)
{
    return &chr->klass->qom;
}

const QomType *chardev_kind_qom_type(ChardevBackendKind kind)
{
    return &classes[kind]->qom;
}

/* --- making and freeing --- */

/* The kind's part has gone, or never was. */
static void chardev_free(Chardev *chr, bool undo)
{
    chardev_stream_destroy(chr);
    chardev_output_close(&chr->log, undo);
    g_free(chr->pty);
    g_free(chr->id);
    g_free(chr);
}

/* What all kinds have. */
static const ChardevCommon *common_options(const ChardevBackend *backend)
{
    switch (backend->type) {
    case CHARDEV_BACKEND_KIND_FILE:
        return qapi_ChardevFile_base(backend->u.file.data);
    case CHARDEV_BACKEND_KIND_PIPE:
        return qapi_ChardevHostdev_base(backend->u.pipe.data);
    case CHARDEV_BACKEND_KIND_SOCKET:
        return qapi_ChardevSocket_base(backend->u.socket.data);
    case CHARDEV_BACKEND_KIND_UDP:
        return qapi_ChardevUdp_base(backend->u.udp.data);
    case CHARDEV_BACKEND_KIND_PTY:
        return qapi_ChardevPty_base(backend->u.pty.data);
    case CHARDEV_BACKEND_KIND_NULL:
        return backend->u.null.data;
    case CHARDEV_BACKEND_KIND_STDIO:
        return qapi_ChardevStdio_base(backend->u.stdio.data);
    case CHARDEV_BACKEND_KIND_RINGBUF:
        return qapi_ChardevRingbuf_base(backend->u.ringbuf.data);
    case CHARDEV_BACKEND_KIND_MEMORY:
        return qapi_ChardevRingbuf_base(backend->u.memory.data);
    default:
        g_assert_not_reached();
    }
}

Chardev *chardev_open(const char *id, const ChardevBackend *backend,
                      Error **errp)
{
    const ChardevCommon *common = common_options(backend);
    bool append = common->has_logappend && common->logappend;
    Chardev *chr = g_new0(Chardev, 1);

    chr->id = g_strdup(id);
    chr->kind = backend->type;
    chr->klass = classes[backend->type];
    chr->log.fd = -1;
    chardev_stream_init(chr);
    if (common->logfile &&
        !chardev_output_open(&chr->log, common->logfile, append, errp)) {
        chardev_free(chr, true);
        return NULL;
    }
    if (!chr->klass->open(chr, backend, errp)) {
        chardev_free(chr, true);
        return NULL;
    }
    if (common->logfile) {
        chardev_output_begin(&chr->log, append);
    }
    return chr;
}

bool chardev_id_is_new(const char *id, Error **errp)
{
    if (!id_wellformed(id)) {
        error_setg(errp, "Parameter 'id' expects an identifier");
        error_append_hint(errp, ID_RULES_HINT);
        return false;
    }
    if (chardev_find(id)) {
        error_setg(errp, "Chardev with id '%s' already exists", id);
        return false;
    }
    if (qom_type_property(&qom_type_container, id)) {
        error_setg(errp, "Failed to add chardev '%s': attempt to add duplicate "
                   "property '%s' to object (type 'container')", id, id);
        return false;
    }
    return true;
}

Chardev *chardev_new(const char *id, const ChardevBackend *backend,
                     Error **errp)
{
    Chardev *chr;

    if (!chardev_id_is_new(id, errp)) {
        return NULL;
    }
    chr = chardev_open(id, backend, errp);
    if (chr) {
        QTAILQ_INSERT_TAIL(&chardevs, chr, next);
    }
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
    /* The answer to "quit", for one. A peer that does not read loses it. */
    chardev_stream_flush(chr);
    chardev_stream_disable(chr);
    chr->klass->close(chr);
    chardev_free(chr, false);
}

Chardev *chardev_change(Chardev *chr, const ChardevBackend *backend,
                        Error **errp)
{
    Chardev *changed;

    assert(!chr->fe);
    changed = chardev_open(chr->id, backend, errp);
    if (changed) {
        QTAILQ_INSERT_AFTER(&chardevs, chr, changed, next);
        chardev_destroy(chr);
    }
    return changed;
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
