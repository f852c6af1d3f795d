# SPDX-License-Identifier: GPL-2.0-or-later
"""Emit qapi-introspect.h and qapi-introspect.c: the answer of query-qmp-schema.

It is a C string of JSON, in pieces between #if lines.  Only types that commands
and events reach are part of it, and their names are numbers, since a client must
not rely on them.
"""

from common import QAPIError, c_string, guarded
from entities import Alternate, Array, Builtin, Enum, Object

_EMPTY = Object('q_empty', None, None, [], None)


class Json:
    """Text with conditions: a list of (conditions, text)."""

    def __init__(self):
        self.parts = []

    def text(self, text, cond=None):
        if cond is None and self.parts and self.parts[-1][0] is None:
            self.parts[-1] = (None, self.parts[-1][1] + text)
        else:
            self.parts.append((cond, text))

    def items(self, items):
        """A list of (condition, text), each with a comma if there is an item
        before it."""
        before = []         # conditions; None: there certainly is
        self.text('[')
        for cond, text in items:
            if None in before:
                self.text(',' + text, cond)
            else:
                if before:
                    comma = {'any': list(before)}
                    self.text(',', {'all': [cond, comma]} if cond else comma)
                self.text(text, cond)
            before.append(cond)
        self.text(']')


def _quote(text):
    return '"%s"' % text


def _features(features):
    if not features:
        return ''
    for name, cond in features:
        if cond is not None:
            raise QAPIError('schema', "feature '%s' has a condition" % name)
    return ', "features": [%s]' % ', '.join(_quote(f[0]) for f in features)


class Introspection:
    def __init__(self, schema):
        self.numbers = {}
        self.queue = []
        self.out = []       # Json for each entity
        for cmd in sorted(schema.commands.values(), key=lambda c: c.name):
            self._command(cmd)
        for event in sorted(schema.events.values(), key=lambda e: e.name):
            self._event(event)
        while self.queue:
            self._type(self.queue.pop(0))

    def _ref(self, typ):
        if isinstance(typ, Builtin):
            name = {'string': 'str', 'boolean': 'bool',
                    'value': 'any'}.get(typ.json_type, typ.json_type)
            if name not in self.numbers:
                self.numbers[name] = name
                self.queue.append((name, typ))
            return name
        if isinstance(typ, Array):
            name = '[%s]' % self._ref(typ.element)
            if name not in self.numbers:
                self.numbers[name] = name
                self.queue.append((name, typ))
            return name
        if typ.name not in self.numbers:
            self.numbers[typ.name] = str(len(self.numbers))
            self.queue.append((self.numbers[typ.name], typ))
        return self.numbers[typ.name]

    def _entity(self, name, meta, features, cond, more=''):
        json = Json()
        json.cond = cond
        json.text('{"name": "%s", "meta-type": "%s"%s%s'
                  % (name, meta, _features(features), more))
        self.out.append(json)
        return json

    def _command(self, cmd):
        self._entity(cmd.name, 'command', cmd.features, cmd.cond,
                     ', "arg-type": "%s", "ret-type": "%s"%s}'
                     % (self._ref(cmd.arg or _EMPTY),
                        self._ref(cmd.ret or _EMPTY),
                        ', "allow-oob": true' if cmd.flags['allow-oob']
                        else ''))

    def _event(self, event):
        self._entity(event.name, 'event', event.features, event.cond,
                     ', "arg-type": "%s"}' % self._ref(event.arg or _EMPTY))

    def _type(self, item):
        name, typ = item
        if isinstance(typ, Builtin):
            self._entity(name, 'builtin', [], None,
                         ', "json-type": "%s"}' % typ.json_type)
        elif isinstance(typ, Array):
            self._entity(name, 'array', [], typ.cond,
                         ', "element-type": "%s"}' % self._ref(typ.element))
        elif isinstance(typ, Enum):
            self._enum(name, typ)
        elif isinstance(typ, Alternate):
            json = self._entity(name, 'alternate', typ.features, typ.cond,
                                ', "members": ')
            json.items((b.cond, '{"type": "%s"}' % self._ref(b.type))
                       for b in typ.branches)
            json.text('}')
        else:
            self._object(name, typ)

    def _enum(self, name, enum):
        json = self._entity(name, 'enum', enum.features, enum.cond,
                            ', "members": ')
        json.items((v.cond, '{"name": "%s"%s}' % (v.name,
                                                  _features(v.features)))
                   for v in enum.values)
        json.text(', "values": ')
        json.items((v.cond, _quote(v.name)) for v in enum.values)
        json.text('}')

    def _member(self, member):
        return '{"name": "%s", "type": "%s"%s%s}' % (
            member.name, self._ref(member.type),
            ', "default": null' if member.optional else '',
            _features(member.features))

    def _object(self, name, obj):
        json = self._entity(name, 'object', obj.features, obj.cond,
                            ', "members": ')
        json.items((m.cond, self._member(m)) for m in obj.all_members())
        if obj.tag:
            branches = {b.name: b for b in obj.branches}
            cases = []
            for value in obj.tag.type.values:
                branch = branches.get(value.name)
                cases.append((branch.cond if branch else value.cond,
                              '{"case": "%s", "type": "%s"}' % (
                                  value.name,
                                  self._ref(branch.type if branch
                                            else _EMPTY))))
            json.text(', "tag": "%s", "variants": ' % obj.tag.name)
            json.items(cases)
        json.text('}')


def gen_header(schema, names):
    return '''/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Generated by scripts/qapi from the schema; do not edit. */
#ifndef {guard}INTROSPECT_H
#define {guard}INTROSPECT_H

/* What query-qmp-schema returns, as JSON. */
extern const char {symbol}qmp_schema_json[];

#endif /* {guard}INTROSPECT_H */
'''.format(**names)


def gen_source(schema, names):
    out = ['''/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Generated by scripts/qapi from the schema; do not edit. */
#include "util/osdep.h"
#include "{introspect}"

const char {symbol}qmp_schema_json[] =
'''.format(**names)]
    comma = '['
    # The first is one without condition.
    entities = Introspection(schema).out
    entities.sort(key=lambda json: json.cond is not None)
    for json in entities:
        text = '    %s\n' % c_string(comma)
        for cond, piece in json.parts:
            text += guarded([cond], '    %s\n' % c_string(piece))
        out.append(guarded([json.cond], text))
        comma = ',\n'
    out.append('    "]";\n')
    return ''.join(out)
