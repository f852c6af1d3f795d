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

/* How -o help calls the type of a value. */
static const char *help_type(QapiKind kind)
{
    switch (kind) {
    case QAPI_KIND_SIZE:
        return "size";
    case QAPI_KIND_INT:
    case QAPI_KIND_NUMBER:
        return "num";
    case QAPI_KIND_BOOL:
        return "bool (on/off)";
    default:
        return "str";
    }
}

static int compare_names(const void *a, const void *b)
{
    const QapiMemberInfo *const *x = a, *const *y = b;

    return strcmp((*x)->name, (*y)->name);
}

void qapi_members_help(const QapiMemberInfo *const *tables, GString *out)
{
    g_autoptr(GPtrArray) sorted = g_ptr_array_new();
    g_autoptr(GHashTable) seen = g_hash_table_new(g_str_hash, g_str_equal);
    const QapiMemberInfo *m;
    guint i;

    for (; *tables; tables++) {
        for (m = *tables; m->name; m++) {
            if (g_hash_table_add(seen, (gpointer)m->name)) {
                g_ptr_array_add(sorted, (gpointer)m);
            }
        }
    }
    g_ptr_array_sort(sorted, compare_names);
    for (i = 0; i < sorted->len; i++) {
        g_autofree char *head = NULL;

        m = g_ptr_array_index(sorted, i);
        head = g_strdup_printf("%s=<%s>", m->name, help_type(m->kind));
        if (m->doc) {
            g_string_append_printf(out, "  %-22s - %s\n", head, m->doc);
        } else {
            g_string_append_printf(out, "  %s\n", head);
        }
    }
}
