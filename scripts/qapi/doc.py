#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The reference of QMP from the schema: doc.py [--man] [--version V] SCHEMA OUTPUT.

Commands, events, and the types that they reach, in alphabetical order; as
Markdown, or as a manual page.
"""

import argparse
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
sys.dont_write_bytecode = True

from common import QAPIError    # noqa: E402
from entities import Alternate, Array, Builtin, Enum    # noqa: E402
from schema import Schema       # noqa: E402


def type_name(typ):
    return '[%s]' % typ.element.name if isinstance(typ, Array) else typ.name


def reachable(schema):
    """Named types that commands and events use, sorted."""
    found, queue = {}, []

    def add(typ):
        while isinstance(typ, Array):
            typ = typ.element
        if typ and not isinstance(typ, Builtin) and typ.name not in found:
            found[typ.name] = typ
            queue.append(typ)

    for entity in list(schema.commands.values()) + list(
            schema.events.values()):
        add(entity.arg)
        add(getattr(entity, 'ret', None))
    while queue:
        typ = queue.pop()
        if isinstance(typ, Enum):
            continue
        for member in typ.branches + ([] if isinstance(typ, Alternate)
                                      else typ.all_members()):
            add(member.type)
    return [found[name] for name in sorted(found)
            if not getattr(found[name], 'implicit', False)]


class Markdown:
    def __init__(self):
        self.out = []

    def title(self, version):
        self.out.append('# QMP reference\n\nOf version %s. Made from the'
                        ' schema by scripts/qapi/doc.py.\n' % version)

    def section(self, text):
        self.out.append('## %s\n' % text)

    def entry(self, name, kind):
        self.out.append('### %s\n\n*%s*\n' % (name, kind))

    def text(self, text):
        self.out.append(text + '\n')

    def members(self, heading, rows):
        self.out.append('| %s | type | |\n| --- | --- | --- |\n%s' % (
            heading, ''.join('| `%s` | `%s` | %s |\n' % row for row in rows)))

    def result(self):
        return '\n'.join(self.out)


class Man:
    def __init__(self):
        self.out = ['.\\" SPDX-License-Identifier: GPL-2.0-or-later']

    @staticmethod
    def quote(text):
        text = text.replace('\\', '\\e').replace('-', '\\-')
        return '\\&' + text if text[:1] in ".'" else text

    def title(self, version):
        self.out += ['.TH QEMU-STORAGE-DAEMON-QMP-REF 7 "" "%s" "Disk images"'
                     % version, '.SH NAME',
                     'qemu-storage-daemon-qmp-ref \\- commands and events of '
                     'the storage daemon']

    def section(self, text):
        self.out.append('.SH ' + text.upper())

    def entry(self, name, kind):
        self.out += ['.SS "%s"' % self.quote(name),
                     '.I %s' % self.quote(kind), '.br']

    def text(self, text):
        self.out += [self.quote(text), '.br']

    def members(self, heading, rows):
        for name, typ, text in rows:
            self.out += ['.TP', '\\fB%s\\fR: \\fI%s\\fR'
                         % (self.quote(name), self.quote(typ)),
                         self.quote(text) or '\\&']
        self.out.append('.PP')

    def result(self):
        return '\n'.join(self.out) + '\n'


def member_rows(members):
    return [(('*' if m.optional else '') + m.name, type_name(m.type),
             m.doc or '') for m in members]


def arguments(out, heading, typ, boxed):
    if typ is None:
        return
    if boxed or not typ.implicit:
        out.text('%s: as %s' % (heading.capitalize(), typ.name))
    elif typ.members:
        out.members(heading, member_rows(typ.members))


def describe(out, entity, kind):
    doc = entity.doc
    features = [name for name, _ in entity.features]
    out.entry(entity.name, kind + (', ' + ', '.join(features)
                                   if features else ''))
    if doc and doc.body:
        out.text(doc.body)
    if doc and 'Returns' in doc.sections:
        out.text('Returns %s.' % doc.sections['Returns'])
    for name, text in (doc.features.items() if doc else ()):
        out.text('%s: %s' % (name, text))


def command(out, cmd):
    describe(out, cmd, 'command' + (', may run out of band'
                                    if cmd.flags['allow-oob'] else ''))
    arguments(out, 'argument', cmd.arg, cmd.boxed)
    if cmd.ret:
        out.text('Type of the result: %s' % type_name(cmd.ret))
    if cmd.doc and 'Since' in cmd.doc.sections:
        out.text('In QEMU since %s.' % cmd.doc.sections['Since'])


def event(out, evt):
    describe(out, evt, 'event' + (', at most once a second'
                                  if evt.throttle else ''))
    arguments(out, 'data', evt.arg, evt.boxed)


def a_type(out, typ):
    kind = ('enumeration' if isinstance(typ, Enum) else
            'alternate' if isinstance(typ, Alternate) else
            'union' if typ.tag else 'structure')
    out.entry(typ.name, kind)
    if getattr(typ, 'doc', None) and typ.doc.body:
        out.text(typ.doc.body)
    if isinstance(typ, Enum):
        out.members('value', [(v.name, '', v.doc or '') for v in typ.values])
        return
    if not isinstance(typ, Alternate) and typ.all_members():
        out.members('member', member_rows(typ.all_members()))
    if typ.branches:
        what = ('told apart by its JSON type' if isinstance(typ, Alternate)
                else 'and, depending on %s' % typ.tag.name)
        out.text(what + ':')
        out.members('case', [(b.name, type_name(b.type), b.doc or '')
                             for b in typ.branches])


def generate(schema, out, version):
    out.title(version)
    out.section('Commands')
    for name in sorted(schema.commands):
        command(out, schema.commands[name])
    out.section('Events')
    for name in sorted(schema.events):
        event(out, schema.events[name])
    out.section('Types')
    for typ in reachable(schema):
        a_type(out, typ)
    return out.result()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--man', action='store_true')
    parser.add_argument('--version', default='')
    parser.add_argument('schema')
    parser.add_argument('output')
    args = parser.parse_args()
    try:
        text = generate(Schema(args.schema), Man() if args.man else Markdown(),
                        args.version)
    except (QAPIError, OSError) as err:
        print(err, file=sys.stderr)
        return 1
    with open(args.output, 'w', encoding='utf-8') as handle:
        handle.write(text)
    return 0


if __name__ == '__main__':
    sys.exit(main())
