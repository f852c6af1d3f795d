/* SPDX-License-Identifier: GPL-2.0-or-later */
/* IOThreads as objects. */
#include "util/osdep.h"
#include "objects/iothread.h"
#include "qobject/qnum.h"
#include "util/iothread.h"

/* --- settings --- */

static int64_t *setting(IOThreadSettings *s, const char *name)
{
    const struct {
        const char *name;
        int64_t *value;
    } all[] = {
        { "aio-max-batch", &s->aio_max_batch },
        { "poll-max-ns", &s->poll_max_ns },
        { "poll-grow", &s->poll_grow },
        { "poll-shrink", &s->poll_shrink },
    };

    for (int i = 0; i < ARRAY_SIZE(all); i++) {
        if (!strcmp(all[i].name, name)) {
            return all[i].value;
        }
    }
    g_assert_not_reached();
}

static bool set_setting(IOThreadSettings *s, const char *name, int64_t value,
                        Error **errp)
{
    if (value < 0) {
        error_setg(errp, "%s value must be in range [0, %" PRId64 "]", name,
                   INT64_MAX);
        return false;
    }
    *setting(s, name) = value;
    return true;
}

static QObject *get_property(const QomObject *obj, const QomProperty *p)
{
    IOThreadSettings s =
        *iothread_get_settings(user_object_data(obj->instance));

    return QOBJECT(qnum_from_int(*setting(&s, p->name)));
}

static bool set_property(void *instance, const QomProperty *p, Visitor *v,
                         Error **errp)
{
    IOThread *thread = user_object_data(instance);
    IOThreadSettings s = *iothread_get_settings(thread);
    int64_t value;

    if (!visit_type_int(v, p->name, &value, errp) ||
        !set_setting(&s, p->name, value, errp)) {
        return false;
    }
    iothread_set_settings(thread, &s);
    return true;
}

/* --- the object --- */

static void *iothread_object_create(const ObjectOptions *options, Error **errp)
{
    const IothreadProperties *o = &options->u.iothread;
    IOThreadSettings s = { 0 };
    IOThread *thread;

    /* What is absent is 0. */
    if (!set_setting(&s, "aio-max-batch", o->aio_max_batch, errp) ||
        !set_setting(&s, "poll-max-ns", o->poll_max_ns, errp) ||
        !set_setting(&s, "poll-grow", o->poll_grow, errp) ||
        !set_setting(&s, "poll-shrink", o->poll_shrink, errp)) {
        return NULL;
    }
    thread = iothread_new(options->id, errp);
    if (thread) {
        iothread_set_settings(thread, &s);
    }
    return thread;
}

static void iothread_object_destroy(void *data)
{
    iothread_free(data);
}

static const QomProperty loop_properties[] = {
    { "aio-max-batch", "int", get_property, set_property, "0" },
    { }
};

static const QomProperty iothread_properties[] = {
    { "poll-max-ns", "int", get_property, set_property, "0" },
    { "poll-grow", "int", get_property, set_property, "0" },
    { "poll-shrink", "int", get_property, set_property, "0" },
    { }
};

static const QomType loop_type = {
    .name = "event-loop-base",
    .parent = &qom_type_object,
    .abstract = true,
    .user_creatable = true,
    .properties = loop_properties,
    .members = qapi_EventLoopBaseProperties_members,
};

const UserObjectClass iothread_class = {
    .type = OBJECT_TYPE_IOTHREAD,
    .qom = {
        .name = "iothread",
        .parent = &loop_type,
        .properties = iothread_properties,
        .members = qapi_IothreadProperties_members,
    },
    .create = iothread_object_create,
    .destroy = iothread_object_destroy,
};
