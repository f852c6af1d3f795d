/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Visitors carry QAPI types between C structs and something else.
 *
 * A visitor is one of four kinds:
 *   input    reads something and builds the C value    qobject-input-visitor.h
 *   output   writes the C value into something         qobject-output-visitor.h
 *   clone    builds a second C value                    clone-visitor.h
 *   dealloc  frees the C value                          dealloc-visitor.h
 *
 * Programs call the generated visit_type_Foo() from "qapi/qapi-visit.h":
 *
 *     Visitor *v = qobject_input_visitor_new(obj);
 *     BlockdevOptions *opts;
 *     if (!visit_type_BlockdevOptions(v, NULL, &opts, errp)) { ... }
 *     visit_free(v);
 *
 * @name is the member's name in the object being visited; it is ignored in
 * lists, and for the outermost value it is NULL or what messages should say.
 * Functions returning bool set @errp exactly when they return false.  Only input
 * visitors can fail.  A visitor belongs to one thread; nothing here yields.
 */
#ifndef QAPI_VISITOR_H
#define QAPI_VISITOR_H

#include "qapi/util.h"
#include "qobject/qobject.h"

typedef struct Visitor Visitor;

/*
 * Finish an output visitor: *@opaque, whose address was given to its constructor,
 * receives the result.  Called after a successful visit of one value; does
 * nothing for other kinds.
 */
void visit_complete(Visitor *v, void *opaque);

/* Free @v; NULL is fine.  What it built for the caller stays. */
void visit_free(Visitor *v);

/*
 * Begin, check and end an object.  @obj NULL means that the members are stored in
 * memory the caller has; else input and clone set *@obj to @size zeroed (copied)
 * bytes.  check fails for members nobody asked for.  Each successful start needs
 * an end, which must get the same @obj.
 */
bool visit_start_struct(Visitor *v, const char *name, void **obj,
                        size_t size, Error **errp);
bool visit_check_struct(Visitor *v, Error **errp);
void visit_end_struct(Visitor *v, void **obj);

/* The same for a list: start gives its first element in *@list (NULL for an empty
 * list), next the one after @tail or NULL. */
bool visit_start_list(Visitor *v, const char *name, GenericList **list,
                      size_t size, Error **errp);
GenericList *visit_next_list(Visitor *v, GenericList *tail, size_t size);
bool visit_check_list(Visitor *v, Error **errp);
void visit_end_list(Visitor *v, void **list);

/* The same for an alternate; input sets (*@obj)->type by what it sees. */
bool visit_start_alternate(Visitor *v, const char *name,
                           GenericAlternate **obj, size_t size,
                           Error **errp);
void visit_end_alternate(Visitor *v, void **obj);

/* Whether the optional member @name is there: input sets *@present, the others
 * use it.  Returns *@present. */
bool visit_optional(Visitor *v, const char *name, bool *present);

bool visit_is_input(Visitor *v);
bool visit_is_dealloc(Visitor *v);

/* Raise "Invalid parameter type for 'PATH', expected: @expected", where PATH is
 * the way from the outermost value to member @name. */
void visit_error_type(Visitor *v, const char *name, const char *expected,
                      Error **errp);

/* One scalar.  Strings and objects that input sets belong to the caller. */
bool visit_type_enum(Visitor *v, const char *name, int *obj,
                     const QEnumLookup *lookup, Error **errp);
bool visit_type_int(Visitor *v, const char *name, int64_t *obj, Error **errp);
bool visit_type_int8(Visitor *v, const char *name, int8_t *obj, Error **errp);
bool visit_type_int16(Visitor *v, const char *name, int16_t *obj,
                      Error **errp);
bool visit_type_int32(Visitor *v, const char *name, int32_t *obj,
                      Error **errp);
bool visit_type_int64(Visitor *v, const char *name, int64_t *obj,
                      Error **errp);
bool visit_type_uint8(Visitor *v, const char *name, uint8_t *obj,
                      Error **errp);
bool visit_type_uint16(Visitor *v, const char *name, uint16_t *obj,
                       Error **errp);
bool visit_type_uint32(Visitor *v, const char *name, uint32_t *obj,
                       Error **errp);
bool visit_type_uint64(Visitor *v, const char *name, uint64_t *obj,
                       Error **errp);
bool visit_type_size(Visitor *v, const char *name, uint64_t *obj,
                     Error **errp);
bool visit_type_bool(Visitor *v, const char *name, bool *obj, Error **errp);
bool visit_type_str(Visitor *v, const char *name, char **obj, Error **errp);
bool visit_type_number(Visitor *v, const char *name, double *obj,
                       Error **errp);
bool visit_type_any(Visitor *v, const char *name, QObject **obj,
                    Error **errp);
bool visit_type_null(Visitor *v, const char *name, QNull **obj,
                     Error **errp);

#endif /* QAPI_VISITOR_H */
