/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What all visitors have in common: calling hooks, integer ranges, enums.
 */
#include "util/osdep.h"
#include "util/error.h"
#include "qapi/visitor-impl.h"

void visit_complete(Visitor *v, void *opaque)
{
    if (v->complete) {
        v->complete(v, opaque);
    }
}

void visit_free(Visitor *v)
{
    if (v) {
        v->free(v);
    }
}

bool visit_is_input(Visitor *v)
{
    return v->type == VISITOR_INPUT;
}

bool visit_is_dealloc(Visitor *v)
{
    return v->type == VISITOR_DEALLOC;
}

static char *path_of(Visitor *v, const char *name)
{
    if (v->full_name) {
        return v->full_name(v, name);
    }
    return g_strdup(name ? name : "<anonymous>");
}

void visit_error_type(Visitor *v, const char *name, const char *expected,
                      Error **errp)
{
    g_autofree char *path = path_of(v, name);

    error_setg(errp, "Invalid parameter type for '%s', expected: %s", path,
               expected);
}

/* --- objects, lists, alternates --- */

bool visit_start_struct(Visitor *v, const char *name, void **obj,
                        size_t size, Error **errp)
{
    return !v->start_struct || v->start_struct(v, name, obj, size, errp);
}

bool visit_check_struct(Visitor *v, Error **errp)
{
    return !v->check_struct || v->check_struct(v, errp);
}

void visit_end_struct(Visitor *v, void **obj)
{
    if (v->end_struct) {
        v->end_struct(v, obj);
    }
}

bool visit_start_list(Visitor *v, const char *name, GenericList **list,
                      size_t size, Error **errp)
{
    return !v->start_list || v->start_list(v, name, list, size, errp);
}

GenericList *visit_next_list(Visitor *v, GenericList *tail, size_t size)
{
    return v->next_list(v, tail, size);
}

bool visit_check_list(Visitor *v, Error **errp)
{
    return !v->check_list || v->check_list(v, errp);
}

void visit_end_list(Visitor *v, void **list)
{
    if (v->end_list) {
        v->end_list(v, list);
    }
}

bool visit_start_alternate(Visitor *v, const char *name,
                           GenericAlternate **obj, size_t size,
                           Error **errp)
{
    assert(size >= sizeof(GenericAlternate));
    return !v->start_alternate ||
           v->start_alternate(v, name, obj, size, errp);
}

void visit_end_alternate(Visitor *v, void **obj)
{
    if (v->end_alternate) {
        v->end_alternate(v, obj);
    }
}

bool visit_optional(Visitor *v, const char *name, bool *present)
{
    if (v->optional) {
        v->optional(v, name, present);
    }
    return *present;
}

/* --- integers --- */

bool visit_type_int64(Visitor *v, const char *name, int64_t *obj,
                      Error **errp)
{
    return !v->type_int64 || v->type_int64(v, name, obj, errp);
}

bool visit_type_int(Visitor *v, const char *name, int64_t *obj, Error **errp)
{
    return visit_type_int64(v, name, obj, errp);
}

bool visit_type_uint64(Visitor *v, const char *name, uint64_t *obj,
                       Error **errp)
{
    return !v->type_uint64 || v->type_uint64(v, name, obj, errp);
}

bool visit_type_size(Visitor *v, const char *name, uint64_t *obj,
                     Error **errp)
{
    if (v->type_size) {
        return v->type_size(v, name, obj, errp);
    }
    return visit_type_uint64(v, name, obj, errp);
}

static bool range_error(Visitor *v, const char *name, const char *type,
                        Error **errp)
{
    g_autofree char *path = path_of(v, name);

    error_setg(errp, "Parameter '%s' expects %s", path, type);
    return false;
}

/* The narrow types go through the 64 bit hooks, so that there is one place for
 * the limits; *@obj changes only on success. */
static bool visit_sint(Visitor *v, const char *name, int64_t *val,
                       int64_t min, int64_t max, const char *type,
                       Error **errp)
{
    int64_t wide = *val;

    if (!visit_type_int64(v, name, &wide, errp)) {
        return false;
    }
    if (wide < min || wide > max) {
        assert(visit_is_input(v));
        return range_error(v, name, type, errp);
    }
    *val = wide;
    return true;
}

static bool visit_uint(Visitor *v, const char *name, uint64_t *val,
                       uint64_t max, const char *type, Error **errp)
{
    uint64_t wide = *val;

    if (!visit_type_uint64(v, name, &wide, errp)) {
        return false;
    }
    if (wide > max) {
        assert(visit_is_input(v));
        return range_error(v, name, type, errp);
    }
    *val = wide;
    return true;
}

#define VISIT_SINT(bits)                                                \
bool visit_type_int##bits(Visitor *v, const char *name,                 \
                          int##bits##_t *obj, Error **errp)             \
{                                                                       \
    int64_t val = *obj;                                                 \
    bool ok = visit_sint(v, name, &val, INT##bits##_MIN, INT##bits##_MAX, \
                         "int" #bits "_t", errp);                       \
    *obj = val;                                                         \
    return ok;                                                          \
}

#define VISIT_UINT(bits)                                                \
bool visit_type_uint##bits(Visitor *v, const char *name,                \
                           uint##bits##_t *obj, Error **errp)           \
{                                                                       \
    uint64_t val = *obj;                                                \
    bool ok = visit_uint(v, name, &val, UINT##bits##_MAX,               \
                         "uint" #bits "_t", errp);                      \
    *obj = val;                                                         \
    return ok;                                                          \
}

VISIT_SINT(8)
VISIT_SINT(16)
VISIT_SINT(32)
VISIT_UINT(8)
VISIT_UINT(16)
VISIT_UINT(32)

/* --- other scalars --- */

bool visit_type_bool(Visitor *v, const char *name, bool *obj, Error **errp)
{
    return !v->type_bool || v->type_bool(v, name, obj, errp);
}

bool visit_type_str(Visitor *v, const char *name, char **obj, Error **errp)
{
    return !v->type_str || v->type_str(v, name, obj, errp);
}

bool visit_type_number(Visitor *v, const char *name, double *obj,
                       Error **errp)
{
    return !v->type_number || v->type_number(v, name, obj, errp);
}

bool visit_type_any(Visitor *v, const char *name, QObject **obj,
                    Error **errp)
{
    return !v->type_any || v->type_any(v, name, obj, errp);
}

bool visit_type_null(Visitor *v, const char *name, QNull **obj,
                     Error **errp)
{
    return !v->type_null || v->type_null(v, name, obj, errp);
}

static bool input_enum(Visitor *v, const char *name, int *obj,
                       const QEnumLookup *lookup, Error **errp)
{
    g_autofree char *text = NULL;
    g_autofree char *path = NULL;
    int val;

    if (!visit_type_str(v, name, &text, errp)) {
        return false;
    }
    val = qapi_enum_parse(lookup, text, -1, NULL);
    if (val < 0) {
        path = path_of(v, name);
        error_setg(errp, "Parameter '%s' does not accept value '%s'", path,
                   text);
        return false;
    }
    *obj = val;
    return true;
}

bool visit_type_enum(Visitor *v, const char *name, int *obj,
                     const QEnumLookup *lookup, Error **errp)
{
    char *text;

    switch (v->type) {
    case VISITOR_INPUT:
        return input_enum(v, name, obj, lookup, errp);
    case VISITOR_OUTPUT:
        text = (char *)qapi_enum_lookup(lookup, *obj);
        return visit_type_str(v, name, &text, errp);
    default:
        return true;
    }
}
