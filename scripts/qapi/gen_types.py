# SPDX-License-Identifier: GPL-2.0-or-later
"""Emit qapi-types.h and qapi-types.c."""

from common import QAPIError, c_string, guarded, upper_name
from entities import Alternate, Array, Enum, Object

_KINDS = {'string': 'STR', 'int': 'INT', 'number': 'NUMBER',
          'boolean': 'BOOL', 'null': 'NULL', 'array': 'LIST',
          'object': 'OBJECT', 'value': 'ANY'}


def member_kind(typ):
    if isinstance(typ, Enum):
        return 'QAPI_KIND_ENUM'
    if isinstance(typ, Alternate):
        return 'QAPI_KIND_ALTERNATE'
    if typ.name == 'size':
        return 'QAPI_KIND_SIZE'
    return 'QAPI_KIND_' + _KINDS[typ.json_type]


def _by_value(typ):
    """Types that the C struct of `typ` embeds, so must come before it."""
    if isinstance(typ, (Object, Alternate)):
        return [b.type for b in typ.branches if isinstance(b.type, Object)]
    return []


def struct_order(schema):
    order, state = [], {}
    for root in schema.user_types():
        if not isinstance(root, (Object, Alternate)):
            continue
        stack = [(root, iter(_by_value(root)))]
        if state.setdefault(root.name, 'open') == 'done':
            continue
        while stack:
            typ, rest = stack[-1]
            for dep in rest:
                if state.get(dep.name) == 'open':
                    raise QAPIError(typ.pos, "'%s' contains itself"
                                    % dep.name)
                if dep.name not in state:
                    state[dep.name] = 'open'
                    stack.append((dep, iter(_by_value(dep))))
                    break
            else:
                state[typ.name] = 'done'
                order.append(typ)
                stack.pop()
    return order


def _enum_decl(enum):
    body = ''.join(guarded([val.cond], '    %s,\n' % enum.const(val.name))
                   for val in enum.values)
    prefix = enum.prefix or upper_name(enum.name)
    return guarded([enum.cond], '''
typedef enum {name} {{
{body}    {prefix}__MAX,
}} {name};

extern const QEnumLookup {name}_lookup;
#define {name}_str(val) qapi_enum_lookup(&{name}_lookup, (val))
'''.format(name=enum.c_name, body=body, prefix=prefix))


def _enum_def(enum):
    body = ''.join(guarded([val.cond], '    [%s] = %s,\n'
                           % (enum.const(val.name), c_string(val.name)))
                   for val in enum.values)
    prefix = enum.prefix or upper_name(enum.name)
    return guarded([enum.cond], '''
static const char *const {name}_values[] = {{
{body}    NULL
}};
const QEnumLookup {name}_lookup = {{
    .array = {name}_values,
    .size = {prefix}__MAX,
}};
'''.format(name=enum.c_name, body=body, prefix=prefix))


def _member_decl(member):
    text = ''
    if member.has_flag:
        text += '    bool has_%s;\n' % member.c_name.removeprefix('q_')
    text += '    %s;\n' % member.type.c_member(member.c_name)
    return guarded([member.cond], text)


def _variants_decl(typ):
    text = '    union {\n'
    for branch in typ.branches:
        ctype = (branch.type.c_name if isinstance(branch.type, Object)
                 else branch.type.c_type())
        sep = '' if ctype.endswith('*') else ' '
        text += guarded([branch.cond], '        %s%s%s;\n'
                        % (ctype, sep, branch.c_name))
    return text + '    } u;\n'


def struct_decl(typ):
    if isinstance(typ, Alternate):
        body = '    QType type;\n' + _variants_decl(typ)
    else:
        body = ''.join(_member_decl(m) for m in typ.all_members())
        if typ.branches:
            body += '    /* tagged by %s */\n' % typ.tag.c_name
            body += _variants_decl(typ)
        if not body:
            body = '    char qapi_dummy_for_empty_struct;\n'
    return guarded([typ.cond], '\nstruct %s {\n%s};\n' % (typ.c_name, body))


def _upcast(typ):
    if not isinstance(typ, Object) or not typ.base:
        return ''
    return guarded([typ.cond], '''
static inline {base} *qapi_{name}_base(const {name} *obj)
{{
    return ({base} *)obj;
}}
'''.format(name=typ.c_name, base=typ.base.c_name))


def _free_decl(typ):
    return guarded([typ.cond], '''
void qapi_free_{name}({name} *obj);
G_DEFINE_AUTOPTR_CLEANUP_FUNC({name}, qapi_free_{name})
'''.format(name=typ.c_name))


def _free_def(typ):
    return guarded([typ.cond], '''
void qapi_free_{name}({name} *obj)
{{
    Visitor *v;

    if (!obj) {{
        return;
    }}
    v = qapi_dealloc_visitor_new();
    visit_type_{name}(v, NULL, &obj, NULL);
    visit_free(v);
}}
'''.format(name=typ.c_name))


def _array_decl(array):
    return guarded([array.cond], '''
struct {name} {{
    {name} *next;
    {value};
}};
'''.format(name=array.c_name, value=array.element.c_member('value')))


def _table_decl(typ):
    return guarded([typ.cond],
                   'extern const QapiMemberInfo qapi_%s_members[];\n'
                   % typ.c_name)


def _table_def(typ):
    body = ''
    for member in typ.all_members():
        elem = member.type
        name = ('[%s]' % elem.element.name if isinstance(elem, Array)
                else elem.name)
        values = ('&%s_lookup' % elem.c_name if isinstance(elem, Enum)
                  else 'NULL')
        body += guarded([member.cond], '''    {{
        .name = {name}, .type = {type},
        .kind = {kind}, .optional = {opt}, .values = {values},
        .doc = {doc},
    }},
'''.format(name=c_string(member.name), type=c_string(name),
           kind=member_kind(elem), opt=str(member.optional).lower(),
           values=values, doc=c_string(member.doc)))
    return guarded([typ.cond],
                   '\nconst QapiMemberInfo qapi_%s_members[] = {\n%s'
                   '    { .name = NULL }\n};\n' % (typ.c_name, body))


_HEADER = '''/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Generated by scripts/qapi from the schema; do not edit.
 *
 * For a schema type Foo there is
 *   - struct Foo with its members (base members first); an optional member is
 *     absent when its pointer is NULL, or has_MEMBER is false where there is a
 *     has_MEMBER (scalars, enums, lists); a union keeps its branches in u.
 *   - qapi_free_Foo(), which accepts NULL and half-built objects and frees
 *     everything below, and g_autoptr(Foo).  Allocate with g_new0(Foo, 1).
 *   - FooList: singly linked, an empty list is NULL; see QAPI_LIST_APPEND.
 *   - enum Foo: constants PREFIX_VALUE, PREFIX__MAX, and Foo_str(value).
 *   - qapi_Foo_members[]: name, type and doc text of each member, the table
 *     ends with a NULL name.
 * Reading and writing: see qapi-visit.h and qapi/visitor.h.
 */
#ifndef {guard}TYPES_H
#define {guard}TYPES_H

#include "{types_below}"

'''


def gen_header(schema, names):
    types = schema.user_types()
    arrays = schema.own_arrays(names)
    structs = struct_order(schema)
    out = [_HEADER.format(**names)]
    for typ in structs + arrays:
        out.append(guarded([typ.cond], 'typedef struct {0} {0};\n'
                           .format(typ.c_name)))
    out += [_enum_decl(typ) for typ in types if isinstance(typ, Enum)]
    out += [_array_decl(arr) for arr in arrays]
    out += [struct_decl(typ) for typ in structs]
    out += [_upcast(typ) for typ in structs]
    out += [_free_decl(typ) for typ in structs + arrays]
    out.append('\n')
    out += [_table_decl(typ) for typ in structs if isinstance(typ, Object)]
    out.append('\n#endif /* %sTYPES_H */\n' % names['guard'])
    return ''.join(out)


def gen_source(schema, names):
    structs = struct_order(schema)
    out = ['''/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Generated by scripts/qapi from the schema; do not edit. */
#include "util/osdep.h"
#include "qapi/dealloc-visitor.h"
#include "{types}"
#include "{visit}"
'''.format(**names)]
    out += [_enum_def(typ) for typ in schema.user_types()
            if isinstance(typ, Enum)]
    out += [_free_def(typ)
            for typ in structs + schema.own_arrays(names)]
    out += [_table_def(typ) for typ in structs if isinstance(typ, Object)]
    return ''.join(out)
