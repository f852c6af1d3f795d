/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Authorization objects: one identity, a list of rules, or a file with such a
 * list, which is read again for each question, so that whoever changes it need
 * not tell.
 */
#include "util/osdep.h"
#include <fnmatch.h>
#include "objects/authz.h"
#include "qapi/clone-visitor.h"
#include "qapi/qapi-visit.h"
#include "qapi/qobject-input-visitor.h"
#include "qapi/qobject-output-visitor.h"
#include "qobject/qjson.h"
#include "util/lockable.h"

typedef struct Authz {
    QemuMutex lock;             /* a leaf; what qom-set can change */
    char *identity;             /* the only one, if not NULL */
    AuthZListProperties *list;  /* else the list, if not NULL */
    char *filename;             /* else where the list is; fixed */
} Authz;

static Authz *authz_new(void)
{
    Authz *a = g_new0(Authz, 1);

    qemu_mutex_init(&a->lock);
    return a;
}

/* --- lists --- */

static bool rule_matches(const QAuthZListRule *rule, const char *identity)
{
    return rule->has_format && rule->format == Q_AUTHZ_LIST_FORMAT_GLOB
               ? !fnmatch(rule->match, identity, 0)
               : !strcmp(rule->match, identity);
}

/* The first rule that matches decides, else the policy of the list. */
static bool list_allows(const AuthZListProperties *list, const char *identity)
{
    for (const QAuthZListRuleList *e = list->has_rules ? list->rules : NULL; e;
         e = e->next) {
        if (rule_matches(e->value, identity)) {
            return e->value->policy == Q_AUTHZ_LIST_POLICY_ALLOW;
        }
    }
    return list->has_policy && list->policy == Q_AUTHZ_LIST_POLICY_ALLOW;
}

/* NULL with @errp. Caller frees. */
static AuthZListProperties *read_list(const char *filename, Error **errp)
{
    g_autofree char *text = NULL;
    g_autoptr(GError) err = NULL;
    AuthZListProperties *list = NULL;
    QObject *json;
    Visitor *v;

    if (!g_file_get_contents(filename, &text, NULL, &err)) {
        error_setg(errp, "Unable to read '%s': %s", filename, err->message);
        return NULL;
    }
    json = qobject_from_json(text, errp);
    if (!json) {
        error_prepend(errp, "'%s': ", filename);
        return NULL;
    }
    v = qobject_input_visitor_new(json);
    if (!visit_type_AuthZListProperties(v, NULL, &list, errp)) {
        error_prepend(errp, "'%s': ", filename);
    }
    visit_free(v);
    qobject_unref(json);
    return list;
}

/* --- objects --- */

static void *simple_create(const ObjectOptions *options, Error **errp)
{
    Authz *a = authz_new();

    a->identity = g_strdup(options->u.authz_simple.identity);
    return a;
}

static void *list_create(const ObjectOptions *options, Error **errp)
{
    Authz *a = authz_new();

    a->list = QAPI_CLONE(AuthZListProperties, &options->u.authz_list);
    return a;
}

static void *list_file_create(const ObjectOptions *options, Error **errp)
{
    const AuthZListFileProperties *o = &options->u.authz_listfile;
    AuthZListProperties *list = read_list(o->filename, errp);
    Authz *a;

    if (!list) {
        return NULL;
    }
    a = authz_new();
    if (o->has_refresh && !o->refresh) {
        a->list = list;
    } else {
        qapi_free_AuthZListProperties(list);
        a->filename = g_canonicalize_filename(o->filename, NULL);
    }
    return a;
}

static void authz_destroy(void *data)
{
    Authz *a = data;

    g_free(a->identity);
    g_free(a->filename);
    qapi_free_AuthZListProperties(a->list);
    qemu_mutex_destroy(&a->lock);
    g_free(a);
}

/* --- properties --- */

static Authz *authz_of(const QomObject *obj)
{
    return user_object_data(obj->instance);
}

static QObject *get_identity(const QomObject *obj, const QomProperty *p)
{
    return qom_value_str(authz_of(obj)->identity);
}

static bool set_identity(void *instance, const QomProperty *p, Visitor *v,
                         Error **errp)
{
    Authz *a = user_object_data(instance);
    char *identity;

    if (!visit_type_str(v, p->name, &identity, errp)) {
        return false;
    }
    QEMU_LOCK_GUARD(&a->lock);
    g_free(a->identity);
    a->identity = identity;
    return true;
}

static QObject *get_policy(const QomObject *obj, const QomProperty *p)
{
    const AuthZListProperties *list = authz_of(obj)->list;

    return qom_value_str(QAuthZListPolicy_str(
        list->has_policy ? list->policy : Q_AUTHZ_LIST_POLICY_DENY));
}

static bool set_policy(void *instance, const QomProperty *p, Visitor *v,
                       Error **errp)
{
    Authz *a = user_object_data(instance);
    QAuthZListPolicy policy;

    if (!visit_type_QAuthZListPolicy(v, p->name, &policy, errp)) {
        return false;
    }
    QEMU_LOCK_GUARD(&a->lock);
    a->list->has_policy = true;
    a->list->policy = policy;
    return true;
}

static QObject *get_rules(const QomObject *obj, const QomProperty *p)
{
    AuthZListProperties *list = authz_of(obj)->list;
    QAuthZListRuleList *rules = list->has_rules ? list->rules : NULL;
    QObject *result;
    Visitor *v = qobject_output_visitor_new(&result);

    visit_type_QAuthZListRuleList(v, NULL, &rules, &error_abort);
    visit_complete(v, &result);
    visit_free(v);
    return result;
}

static bool set_rules(void *instance, const QomProperty *p, Visitor *v,
                      Error **errp)
{
    Authz *a = user_object_data(instance);
    QAuthZListRuleList *rules;

    if (!visit_type_QAuthZListRuleList(v, p->name, &rules, errp)) {
        return false;
    }
    QEMU_LOCK_GUARD(&a->lock);
    qapi_free_QAuthZListRuleList(a->list->rules);
    a->list->has_rules = true;
    a->list->rules = rules;
    return true;
}

static const QomProperty simple_properties[] = {
    { "identity", "string", get_identity, set_identity },
    { }
};

static const QomProperty list_properties[] = {
    { "policy", "QAuthZListPolicy", get_policy, set_policy, "\"deny\"" },
    { "rules", "QAuthZListRule", get_rules, set_rules, "[]" },
    { }
};

static const QomProperty list_file_properties[] = {
    { "filename", "string", user_object_get_option },
    { "refresh", "bool", user_object_get_option, .initial = "true" },
    { }
};

/* --- types --- */

static const QomType authz_type = {
    .name = "authz",
    .parent = &qom_type_object,
    .abstract = true,
};

const UserObjectClass authz_simple_class = {
    .type = OBJECT_TYPE_AUTHZ_SIMPLE,
    .qom = {
        .name = "authz-simple",
        .parent = &authz_type,
        .user_creatable = true,
        .properties = simple_properties,
        .members = qapi_AuthZSimpleProperties_members,
    },
    .create = simple_create,
    .destroy = authz_destroy,
};

const UserObjectClass authz_list_class = {
    .type = OBJECT_TYPE_AUTHZ_LIST,
    .qom = {
        .name = "authz-list",
        .parent = &authz_type,
        .user_creatable = true,
        .properties = list_properties,
        .members = qapi_AuthZListProperties_members,
    },
    .create = list_create,
    .destroy = authz_destroy,
};

const UserObjectClass authz_list_file_class = {
    .type = OBJECT_TYPE_AUTHZ_LISTFILE,
    .qom = {
        .name = "authz-listfile",
        .parent = &authz_type,
        .user_creatable = true,
        .properties = list_file_properties,
        .members = qapi_AuthZListFileProperties_members,
    },
    .create = list_file_create,
    .destroy = authz_destroy,
};

/* --- questions --- */

UserObject *authz_use(const char *id, Error **errp)
{
    ObjectType type = OBJECT_TYPE__MAX;

    if (!user_object_find_data(id, &type)) {
        error_setg(errp, "Cannot find QAuthZ object ID %s", id);
        return NULL;
    }
    if (type != OBJECT_TYPE_AUTHZ_LIST && type != OBJECT_TYPE_AUTHZ_LISTFILE &&
        type != OBJECT_TYPE_AUTHZ_SIMPLE) {
        error_setg(errp, "Object '%s' is not a QAuthZ subclass", id);
        return NULL;
    }
    return user_object_use(id, type, errp);
}

/* What the object itself says. */
static bool is_allowed(Authz *a, const char *identity)
{
    QEMU_LOCK_GUARD(&a->lock);
    return a->identity ? !strcmp(a->identity, identity)
                       : list_allows(a->list, identity);
}

bool authz_is_allowed(const UserObject *authz, const char *identity,
                      Error **errp)
{
    Authz *a = user_object_data(authz);
    bool allowed;

    if (a->filename) {
        g_autoptr(AuthZListProperties) list = read_list(a->filename, errp);

        if (!list) {
            return false;
        }
        allowed = list_allows(list, identity);
    } else {
        allowed = is_allowed(a, identity);
    }
    if (!allowed) {
        error_setg(errp, "%s denies '%s'", user_object_id(authz), identity);
    }
    return allowed;
}
