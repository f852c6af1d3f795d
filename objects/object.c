/* SPDX-License-Identifier: GPL-2.0-or-later */
/* User-made objects by id, and their types. */
#include "util/osdep.h"
#include "crypto/cipher.h"
#include "objects/authz.h"
#include "objects/object.h"
#include "objects/secret.h"
#include "objects/throttle-group.h"
#include "objects/tls-creds.h"
#include "qapi/qapi-visit.h"
#include "qapi/qobject-input-visitor.h"
#include "util/id.h"
#include "util/queue.h"

struct UserObject {
    char *id;
    const UserObjectClass *klass;
    void *data;
    unsigned uses;
    QTAILQ_ENTRY(UserObject) next;
};

static QTAILQ_HEAD(ObjectList, UserObject) objects =
    QTAILQ_HEAD_INITIALIZER(objects);

/* --- iothread --- */

static void *iothread_object_create(const ObjectOptions *options, Error **errp)
{
    return iothread_new(options->id, errp);
}

static void iothread_object_destroy(void *data)
{
    iothread_free(data);
}

static const UserObjectClass iothread_class = {
    .type = OBJECT_TYPE_IOTHREAD,
    .create = iothread_object_create,
    .destroy = iothread_object_destroy,
};

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
    if (find_object(options->id)) {
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

static const QapiMemberInfo *type_members(ObjectType type)
{
    switch (type) {
    case OBJECT_TYPE_AUTHZ_LIST:
        return qapi_AuthZListProperties_members;
    case OBJECT_TYPE_AUTHZ_LISTFILE:
        return qapi_AuthZListFileProperties_members;
    case OBJECT_TYPE_AUTHZ_SIMPLE:
        return qapi_AuthZSimpleProperties_members;
    case OBJECT_TYPE_IOTHREAD:
        return qapi_IothreadProperties_members;
    case OBJECT_TYPE_SECRET:
        return qapi_SecretProperties_members;
    case OBJECT_TYPE_SECRET_KEYRING:
        return qapi_SecretKeyringProperties_members;
    case OBJECT_TYPE_THROTTLE_GROUP:
        return qapi_ThrottleGroupProperties_members;
    case OBJECT_TYPE_TLS_CREDS_PSK:
        return qapi_TlsCredsPskProperties_members;
    case OBJECT_TYPE_TLS_CREDS_X509:
        return qapi_TlsCredsX509Properties_members;
    default:
        g_assert_not_reached();
    }
}

static void print_properties(ObjectType type)
{
    const QapiMemberInfo *members = type_members(type);

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
