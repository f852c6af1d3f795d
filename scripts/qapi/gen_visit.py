# SPDX-License-Identifier: GPL-2.0-or-later
"""Emit qapi-visit.h and qapi-visit.c."""

from common import c_string, guarded
from entities import Alternate, Array, Enum, Object


def _decl(typ):
    if isinstance(typ, Enum):
        text = ('bool visit_type_{0}(Visitor *v, const char *name,\n'
                '    {0} *obj, Error **errp);\n')
    else:
        text = ('bool visit_type_{0}(Visitor *v, const char *name,\n'
                '    {0} **obj, Error **errp);\n')
    if isinstance(typ, Object):
        text = ('bool visit_type_{0}_members(Visitor *v, {0} *obj,\n'
                '    Error **errp);\n') + text
    return guarded([typ.cond], text.format(typ.c_name))


def _enum(typ):
    return guarded([typ.cond], '''
bool visit_type_{0}(Visitor *v, const char *name, {0} *obj, Error **errp)
{{
    int value = *obj;
    bool ok = visit_type_enum(v, name, &value, &{0}_lookup, errp);

    *obj = value;
    return ok;
}}
'''.format(typ.c_name))


def _list(typ):
    return guarded([typ.cond], '''
bool visit_type_{0}(Visitor *v, const char *name, {0} **obj, Error **errp)
{{
    bool ok = false;
    {0} *tail;
    size_t size = sizeof(**obj);

    if (!visit_start_list(v, name, (GenericList **)obj, size, errp)) {{
        return false;
    }}
    for (tail = *obj; tail;
         tail = ({0} *)visit_next_list(v, (GenericList *)tail, size)) {{
        if (!visit_type_{1}(v, NULL, &tail->value, errp)) {{
            goto out_obj;
        }}
    }}
    ok = visit_check_list(v, errp);
out_obj:
    visit_end_list(v, (void **)obj);
    if (!ok && visit_is_input(v)) {{
        qapi_free_{0}(*obj);
        *obj = NULL;
    }}
    return ok;
}}
'''.format(typ.c_name, typ.element.c_name))


def _visit_member(member):
    call = ('visit_type_%s(v, %s, &obj->%s, errp)'
            % (member.type.c_name, c_string(member.name), member.c_name))
    if not member.optional:
        text = '    if (!%s) {\n        return false;\n    }\n' % call
        return guarded([member.cond], text)
    if member.has_flag:
        flag = 'obj->has_' + member.c_name.removeprefix('q_')
        head = '    if (visit_optional(v, %s, &%s)) {\n' % (
            c_string(member.name), flag)
    else:
        head = ('    present = obj->%s != NULL;\n'
                '    if (visit_optional(v, %s, &present)) {\n'
                % (member.c_name, c_string(member.name)))
    return guarded([member.cond], head + '        if (!%s) {\n'
                   '            return false;\n        }\n    }\n' % call)


def object_members(typ, static=False):
    body = ''.join(_visit_member(m) for m in typ.members)
    if typ.base:
        body = ('    if (!visit_type_%s_members(v, (%s *)obj, errp)) {\n'
                '        return false;\n    }\n'
                % (typ.base.c_name, typ.base.c_name)) + body
    if typ.branches:
        body += '    switch (obj->%s) {\n' % typ.tag.c_name
        for branch in typ.branches:
            body += guarded([branch.cond], (
                '    case %s:\n'
                '        return visit_type_%s_members(v, &obj->u.%s, errp);\n'
                % (typ.tag.type.const(branch.name), branch.type.c_name,
                   branch.c_name)))
        body += '    default:\n        break;\n    }\n'
    if any(m.optional and not m.has_flag for m in typ.members):
        body = '    bool present;\n\n' + body
    return guarded([typ.cond], '''
{2}bool visit_type_{0}_members(Visitor *v, {0} *obj, Error **errp)
{{
{1}    return true;
}}
'''.format(typ.c_name, body, 'static ' if static else ''))


def _object(typ):
    return object_members(typ) + guarded([typ.cond], '''
bool visit_type_{0}(Visitor *v, const char *name, {0} **obj, Error **errp)
{{
    bool ok = false;

    if (!visit_start_struct(v, name, (void **)obj, sizeof({0}), errp)) {{
        return false;
    }}
    if (!*obj) {{
        /* a dealloc visitor met a part that was never built */
        ok = true;
        goto out_obj;
    }}
    if (!visit_type_{0}_members(v, *obj, errp)) {{
        goto out_obj;
    }}
    ok = visit_check_struct(v, errp);
out_obj:
    visit_end_struct(v, (void **)obj);
    if (!ok && visit_is_input(v)) {{
        qapi_free_{0}(*obj);
        *obj = NULL;
    }}
    return ok;
}}
'''.format(typ.c_name))


def _alternate_case(branch):
    head = '    case QTYPE_%s:\n' % branch.type.qtype
    if not isinstance(branch.type, Object):
        return guarded([branch.cond], head + (
            '        ok = visit_type_%s(v, name, &(*obj)->u.%s, errp);\n'
            '        break;\n' % (branch.type.c_name, branch.c_name)))
    return guarded([branch.cond], head + '''\
        if (!visit_start_struct(v, name, NULL, 0, errp)) {{
            break;
        }}
        if (visit_type_{0}_members(v, &(*obj)->u.{1}, errp)) {{
            ok = visit_check_struct(v, errp);
        }}
        visit_end_struct(v, NULL);
        break;
'''.format(branch.type.c_name, branch.c_name))


def _alternate(typ):
    cases = ''.join(_alternate_case(b) for b in typ.branches)
    return guarded([typ.cond], '''
bool visit_type_{0}(Visitor *v, const char *name, {0} **obj, Error **errp)
{{
    bool ok = false;

    if (!visit_start_alternate(v, name, (GenericAlternate **)obj,
                               sizeof(**obj), errp)) {{
        return false;
    }}
    if (!*obj) {{
        /* a dealloc visitor met a part that was never built */
        ok = true;
        goto out_obj;
    }}
    switch ((*obj)->type) {{
{1}    case QTYPE_NONE:
        /* allocated, but its branch was never read */
        assert(visit_is_dealloc(v));
        ok = true;
        break;
    default:
        assert(visit_is_input(v));
        visit_error_type(v, name, "{0}", errp);
        /* nothing in u is valid: leave nothing for the destructor there */
        (*obj)->type = QTYPE_NONE;
    }}
out_obj:
    visit_end_alternate(v, (void **)obj);
    if (!ok && visit_is_input(v)) {{
        qapi_free_{0}(*obj);
        *obj = NULL;
    }}
    return ok;
}}
'''.format(typ.c_name, cases))


def gen_header(schema, names):
    out = ['''/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Generated by scripts/qapi from the schema; do not edit.
 *
 * visit_type_Foo() carries one Foo between C and whatever the visitor stands
 * for.  On failure it sets @errp and returns false; with an input visitor *@obj
 * is then NULL and nothing is leaked.  visit_type_Foo_members() does the members
 * only, for a struct the caller has started; on failure the caller frees.
 */
#ifndef {guard}VISIT_H
#define {guard}VISIT_H

#include "{visit_below}"
#include "{types}"

'''.format(**names)]
    out += [_decl(typ) for typ in schema.user_types()]
    out += [_decl(arr) for arr in schema.own_arrays(names)]
    out.append('\n#endif /* %sVISIT_H */\n' % names['guard'])
    return ''.join(out)


def gen_source(schema, names):
    out = ['''/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Generated by scripts/qapi from the schema; do not edit. */
#include "util/osdep.h"
#include "util/error.h"
#include "{visit}"
'''.format(**names)]
    emit = {Enum: _enum, Object: _object, Alternate: _alternate, Array: _list}
    for typ in schema.user_types() + schema.own_arrays(names):
        out.append(emit[type(typ)](typ))
    return ''.join(out)
