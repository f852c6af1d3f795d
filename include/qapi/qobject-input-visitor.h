/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Input visitors that read QObjects.  Both are strict: a member the type does
 * not have, a missing one, a wrong type or value is an error that names the member
 * by its full path, such as 'file.filename' or 'children[1].driver'.
 * At most 1024 levels are read.
 */
#ifndef QAPI_QOBJECT_INPUT_VISITOR_H
#define QAPI_QOBJECT_INPUT_VISITOR_H

#include "qapi/visitor.h"
#include "qobject/qdict.h"

/* For values with JSON's types.  Takes a reference of its own to @obj. */
Visitor *qobject_input_visitor_new(QObject *obj);

/*
 * For values from a command line, where every scalar is a string: as
 * keyval_parse() and qdict_crumple() make them.  A size may have a suffix (k, M,
 * ...), a bool is on/off.  Takes a reference of its own to @obj.
 */
Visitor *qobject_input_visitor_new_keyval(QObject *obj);

/*
 * For flat dictionaries with dotted keys whose values are strings or have JSON's
 * types (both are accepted): as filenames, -o lists and `json:` make when they
 * are merged.  NULL and an error if the keys do not nest.
 */
Visitor *qobject_input_visitor_new_flat_confused(QDict *qdict, Error **errp);

/*
 * For one argument of the command line: JSON if it starts with '{', else keyval
 * syntax with @implied_key (or NULL).  NULL and an error if it cannot be parsed.
 */
Visitor *qobject_input_visitor_new_str(const char *str,
                                       const char *implied_key,
                                       Error **errp);

#endif /* QAPI_QOBJECT_INPUT_VISITOR_H */
