/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Option strings of the command line: KEY=VALUE,KEY=VALUE,...
 * In values ",," stands for one comma.
 */
#ifndef QOBJECT_KEYVAL_H
#define QOBJECT_KEYVAL_H

#include "qobject/qdict.h"

/*
 * Parse @params strictly into nested objects with string values: "a.b=c" gives
 * {"a": {"b": "c"}}, and a parent whose members are 0..n-1 becomes a list.
 *
 * Keys are names of letters, digits, '-' and '_' that start with a letter (or
 * 'x-...', or a plain index), joined by dots; each at most 127 bytes.
 * @implied_key (or NULL) is the key of a first part without '='; such a value
 * cannot hold a comma.
 * A part "help" or "?" sets *@p_help; if @p_help is NULL asking for help is an
 * error.
 * The caller owns the result; NULL and an error otherwise.
 */
QDict *keyval_parse(const char *params, const char *implied_key,
                    bool *p_help, Error **errp);

/* The same, with the result merged into @qdict (which is returned); values given
 * later win.  On failure @qdict may hold part of the new ones. */
QDict *keyval_parse_into(QDict *qdict, const char *params,
                         const char *implied_key, bool *p_help, Error **errp);

/*
 * Parse @params in the traditional way of -o and --image-opts into one flat
 * dictionary; keys keep their dots, the last of equal keys wins.  A part without
 * '=' means "on"; when it starts with "no" it means "off" for the rest of the
 * name.  For a part "help" or "?" *@p_help is set and the rest still parsed; it is
 * an ordinary name if @p_help is NULL.  The first part may lack its key if
 * @implied_key is given.  The caller owns the result; never fails.
 */
QDict *keyval_parse_opts(const char *params, const char *implied_key,
                         bool *p_help);

/* Whether @list can be one piece of several -o lists that are joined by commas:
 * not empty, no comma in front, no single comma at the end. */
bool is_valid_option_list(const char *list);

/* Whether @name asks for help: "help" or "?". */
bool is_help_option(const char *name);

/* Whether one part of the comma-separated @list asks for help. */
bool has_help_option(const char *list);

#endif /* QOBJECT_KEYVAL_H */
