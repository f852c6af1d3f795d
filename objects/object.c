/* SPDX-License-Identifier: GPL-2.0-or-later */
/* User-made objects by id, and their types. */
#include "util/osdep.h"
#include "crypto/cipher.h"
#include "objects/authz.h"
#include "objects/iothread.h"
#include "objects/object.h"
#include "objects/secret.h"
#include "objects/throttle-group.h"
#include "objects/tls-creds.h"
#include "qapi/qapi-visit.h"
#include "qapi/qobject-input-visitor.h"
#include "qapi/qobject-output-visitor.h"
#include "qobject/qdict.h"
#include "qobject/qjson.h"
#include "util/id.h"
#include "util/queue.h"

struct UserObject {
    char *id;
    const UserObjectClass *klass;
    void *data;
    QDict *options;     /* what it was made with, but for a secret's data */
    unsigned uses;
    QTAILQ_ENTRY(UserObject) next;
};

static QTAILQ_HEAD(ObjectList, UserObject) objects =
    QTAILQ_HEAD_INITIALIZER(objects);

static const UserObjectClass *const classes[OBJECT_TYPE__MAX] = {
    [OBJECT_TYPE_AUTHZ_LIST] = &authz_list_class,
    [OBJECT_TYPE_AUTHZ_LISTFILE] = &authz_list_file_class,
    [OBJECT_TYPE_AUTHZ_SIMPLE] = &authz_simple_class,
    [OBJECT_TYPE_IOTHREAD] = &iothread_class,
    [OBJECT_TYPE_SECRET] = &secret_class,
    [OBJECT_TYPE_SECRET_KEYRING] = &secret_keyring_class,
    [OBJECT_TYPE_THROTTLE_GROUP] = &throttle_group_class,
    [OBJECT_TYPE_TLS_CREDS_PSK] = &tls_creds_psk_class,
    [OBJECT_TYPE_TLS_CREDS_X509] = &tls_creds_x509_class,
};

/* --- by id --- */

static UserObject *find_object(const char *id)
{
    UserObject *obj;

    QTAILQ_FOREACH(obj, &objects, next) {
        if (!strcmp(obj->id, id)) {
            return obj;
        }
    }
    return NULL;
}

/* Caller unrefs. */
static QDict *keep_options(const ObjectOptions *options)
{
    ObjectOptions shown = *options, *p = &shown;
    QObject *result;
    Visitor *v = qobject_output_visitor_new(&result);

    if (shown.qom_type == OBJECT_TYPE_SECRET) {
        shown.u.secret.data = NULL;
    }
    visit_type_ObjectOptions(v, NULL, &p, &error_abort);
    visit_complete(v, &result);
    visit_free(v);
    return qobject_to(QDict, result);
}

UserObject *user_object_add(const ObjectOptions *options, Error **errp)
{
    const UserObjectClass *klass = classes[options->qom_type];
    UserObject *obj;
    void *data;

    if (!id_wellformed(options->id)) {
        error_setg(errp, "Parameter 'id' expects an identifier");
        error_append_hint(errp, ID_RULES_HINT);
        return NULL;
    }
    if (find_object(options->id) ||
        qom_type_property(&qom_type_container, options->id)) {
        error_setg(errp, "attempt to add duplicate property '%s' to object "
                   "(type 'container')", options->id);
        return NULL;
    }
    data = klass->create(options, errp);
    if (!data) {
        return NULL;
    }
    obj = g_new0(UserObject, 1);
    obj->id = g_strdup(options->id);
    obj->klass = klass;
    obj->data = data;
    obj->options = keep_options(options);
    QTAILQ_INSERT_TAIL(&objects, obj, next);
    return obj;
}

UserObject *user_object_add_from_option(const char *text, Error **errp)
{
    Visitor *v = qobject_input_visitor_new_str(text, "qom-type", errp);
    g_autoptr(ObjectOptions) options = NULL;
    UserObject *obj;

    if (!v) {
        return NULL;
    }
    visit_type_ObjectOptions(v, NULL, &options, errp);
    visit_free(v);
    if (!options) {
        return NULL;
    }
    obj = user_object_add(options, errp);
    if (options->qom_type == OBJECT_TYPE_SECRET && options->u.secret.data) {
        crypto_wipe(options->u.secret.data, strlen(options->u.secret.data));
    }
    return obj;
}

/* --- help --- */

static void print_properties(ObjectType type)
{
    const QapiMemberInfo *members = classes[type]->qom.members;

    if (!members->name) {
        printf("There are no options for %s.\n", ObjectType_str(type));
        return;
    }
    printf("%s options:\n", ObjectType_str(type));
    for (; members->name; members++) {
        printf("  %s=<%s> - %s\n", members->name, members->type,
               members->doc ?: "");
    }
}

bool user_object_print_help(const char *text)
{
    g_auto(GStrv) parts = g_strsplit(text, ",", -1);
    const char *name;
    int type;

    if (!parts[0] || !strcmp(text, "help") || !strcmp(text, "?")) {
        printf("List of user creatable objects:\n");
        for (type = 0; type < OBJECT_TYPE__MAX; type++) {
            printf("  %s\n", ObjectType_str(type));
        }
        return true;
    }
    if (!g_strv_contains((const char *const *)parts, "help")) {
        return false;
    }
    name = g_str_has_prefix(parts[0], "qom-type=")
           ? parts[0] + strlen("qom-type=") : parts[0];
    type = qapi_enum_parse(&ObjectType_lookup, name, -1, NULL);
    if (type < 0) {
        return false;
    }
    print_properties(type);
    return true;
}

/* --- removing --- */

static void remove_object(UserObject *obj)
{
    assert(!obj->uses);
    QTAILQ_REMOVE(&objects, obj, next);
    obj->klass->destroy(obj->data);
    qobject_unref(obj->options);
    g_free(obj->id);
    g_free(obj);
}

bool user_object_del(const char *id, Error **errp)
{
    UserObject *obj = find_object(id);

    if (!obj) {
        error_setg(errp, "object '%s' not found", id);
        return false;
    }
    if (obj->uses) {
        error_setg(errp, "object '%s' is in use, can not be deleted", id);
        return false;
    }
    remove_object(obj);
    return true;
}

void user_object_del_all(void)
{
    UserObject *obj;

    while ((obj = QTAILQ_LAST(&objects))) {
        remove_object(obj);
    }
}

/* --- as the commands qom-* see them --- */

UserObject *user_object_next(const UserObject *obj)
{
    return obj ? QTAILQ_NEXT(obj, next) : QTAILQ_FIRST(&objects);
}

const QomType *user_object_qom_type(const UserObject *obj)
{
    return &obj->klass->qom;
}

const QomType *user_object_type_info(ObjectType type)
{
    return classes[type] ? &classes[type]->qom : NULL;
}

QObject *user_object_get_option(const QomObject *obj, const QomProperty *p)
{
    const UserObject *o = obj->instance;
    QObject *value = qdict_get(o->options, p->name);

    if (value) {
        return qobject_ref(value);
    }
    return p->initial ? qobject_from_json(p->initial, &error_abort)
                      : qom_value_str(NULL);
}

/* --- uses --- */

const void *user_object_find_data(const char *id, ObjectType *type)
{
    const UserObject *obj = find_object(id);

    if (!obj) {
        return NULL;
    }
    *type = obj->klass->type;
    return obj->data;
}

UserObject *user_object_use(const char *id, ObjectType type, Error **errp)
{
    UserObject *obj = find_object(id);

    if (!obj) {
        error_setg(errp, "%s object '%s' not found", ObjectType_str(type), id);
        return NULL;
    }
    if (obj->klass->type != type) {
        error_setg(errp, "object '%s' is a %s, not a %s", id,
                   ObjectType_str(obj->klass->type), ObjectType_str(type));
        return NULL;
    }
    obj->uses++;
    return obj;
}

void user_object_unuse(UserObject *obj)
{
    if (obj) {
        assert(obj->uses);
        obj->uses--;
    }
}

void *user_object_data(const UserObject *obj)
{
    return obj->data;
}

const char *user_object_id(const UserObject *obj)
{
    return obj->id;
}
