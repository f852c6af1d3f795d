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
#include "qobject/qjson.h"

typedef struct Authz {
    char *identity;             /* the only one, if not NULL */
    AuthZListProperties *list;  /* else the list, if not NULL */
    char *filename;             /* else where the list is */
} Authz;

static void authz_free(Authz *a)
{
    if (a) {
        g_free(a->identity);
        g_free(a->filename);
        qapi_free_AuthZListProperties(a->list);
        g_free(a);
    }
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
    Authz *a = g_new0(Authz, 1);

    a->identity = g_strdup(options->u.authz_simple.identity);
    return a;
}

static void *list_create(const ObjectOptions *options, Error **errp)
{
    Authz *a = g_new0(Authz, 1);

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
    a = g_new0(Authz, 1);
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
    authz_free(data);
}

const UserObjectClass authz_simple_class = {
    .type = OBJECT_TYPE_AUTHZ_SIMPLE,
    .create = simple_create,
    .destroy = authz_destroy,
};

const UserObjectClass authz_list_class = {
    .type = OBJECT_TYPE_AUTHZ_LIST,
    .create = list_create,
    .destroy = authz_destroy,
};

const UserObjectClass authz_list_file_class = {
    .type = OBJECT_TYPE_AUTHZ_LISTFILE,
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

bool authz_is_allowed(const UserObject *authz, const char *identity,
                      Error **errp)
{
    const Authz *a = user_object_data(authz);
    AuthZListProperties *list = a->list;
    bool allowed;

    if (a->identity) {
        allowed = !strcmp(a->identity, identity);
    } else {
        if (!list) {
            list = read_list(a->filename, errp);
            if (!list) {
                return false;
            }
        }
        allowed = list_allows(list, identity);
        if (list != a->list) {
            qapi_free_AuthZListProperties(list);
        }
    }
    if (!allowed) {
        error_setg(errp, "%s denies '%s'", user_object_id(authz), identity);
    }
    return allowed;
}
