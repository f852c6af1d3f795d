/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Enum names, yes/no words and member tables. */
#include "util/osdep.h"
#include "util/error.h"
#include "qapi/util.h"

const char *qapi_enum_lookup(const QEnumLookup *lookup, int val)
{
    assert(val >= 0 && val < lookup->size);
    return lookup->array[val];
}

int qapi_enum_parse(const QEnumLookup *lookup, const char *buf,
                    int def, Error **errp)
{
    int i;

    if (!buf) {
        return def;
    }
    for (i = 0; i < lookup->size; i++) {
        if (!strcmp(buf, lookup->array[i])) {
            return i;
        }
    }
    error_setg(errp, "invalid parameter value: %s", buf);
    return def;
}

bool qapi_bool_parse(const char *name, const char *value, bool *obj,
                     Error **errp)
{
    static const char *const yes[] = { "on", "yes", "true", "y", NULL };
    static const char *const no[] = { "off", "no", "false", "n", NULL };

    if (g_strv_contains(yes, value)) {
        *obj = true;
        return true;
    }
    if (g_strv_contains(no, value)) {
        *obj = false;
        return true;
    }
    error_setg(errp, "Parameter '%s' expects 'on' or 'off'", name);
    return false;
}

const QapiMemberInfo *qapi_member_find(const QapiMemberInfo *members,
                                       const char *name)
{
    for (; members->name; members++) {
        if (!strcmp(members->name, name)) {
            return members;
        }
    }
    return NULL;
}
