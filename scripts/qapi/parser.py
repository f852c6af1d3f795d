# SPDX-License-Identifier: GPL-2.0-or-later
"""Read schema files: the JSON-like syntax, comments, documentation, includes.

The syntax is JSON with single-quoted strings only, no numbers and no null;
`#` starts a comment; a comment block between two `##` lines is documentation
and belongs to the definition after it when it starts with `@NAME:`.
"""

import os
import re

from common import QAPIError, SourcePos

_TOKEN = re.compile(r'''
    (?P<space>[ \t\r]+)
  | (?P<newline>\n)
  | (?P<doc>^\#\#[ \t]*\n(?:\#.*\n)*?\#\#[ \t]*$)
  | (?P<comment>\#.*)
  | (?P<string>'[^'\\\n]*')
  | (?P<word>true|false)
  | (?P<punct>[{}\[\]:,])
''', re.VERBOSE | re.MULTILINE)

_SECTION = re.compile(r'^(Since|Returns|Errors|Notes?|Examples?|TODO|Features)'
                      r':(.*)$')


class Members(dict):
    """An object of the schema that remembers the line of each key."""

    def __init__(self, pos):
        super().__init__()
        self.pos = pos
        self.key_pos = {}


class Doc:
    """A documentation block, split up by what it describes.

    name      the definition it is for, None for free text
    body      text about the definition itself
    members   {member: text}
    features  {feature: text}
    sections  {'Since': text, ...}
    """

    def __init__(self, pos, text):
        self.pos = pos
        self.name = None
        self.members = {}
        self.features = {}
        self.sections = {}
        self._parse(text)

    def _parse(self, text):
        body = []
        current = body
        buffers = []
        target = self.members
        blank = False
        for num, line in enumerate(text.split('\n')[1:-1], 1):
            if line not in ('#',) and not line.startswith('# '):
                raise QAPIError(SourcePos(self.pos.fname, self.pos.line + num),
                                "documentation lines start with '# '")
            line = line[2:]
            head = re.match(r'^@([A-Za-z0-9_.-]+):(.*)$', line)
            section = _SECTION.match(line)
            if head and self.name is None and not any(body):
                self.name = head.group(1)
            elif head and self.name is not None:
                if any(buf[0] is target and buf[1] == head.group(1)
                       for buf in buffers):
                    raise QAPIError(
                        SourcePos(self.pos.fname, self.pos.line + num),
                        "'%s' is documented twice" % head.group(1))
                current = [head.group(2).strip()]
                buffers.append((target, head.group(1), current))
            elif section and section.group(1) == 'Features':
                target = self.features
                current = []
            elif section:
                current = [section.group(2).strip()]
                buffers.append((self.sections, section.group(1), current))
            else:
                if (blank and line.strip() and not line.startswith(' ')
                        and current is not body):
                    current = body
                current.append(line.strip())
            blank = not line.strip()
        self.body = _join(body)
        for where, key, lines in buffers:
            where[key] = _join(lines)


def _join(lines):
    return re.sub(r'\s+', ' ', ' '.join(lines)).strip()


class Expr:
    """One top-level definition and its documentation (or None)."""

    def __init__(self, members, doc):
        self.members = members
        self.pos = members.pos
        self.doc = doc


class SchemaFile:
    """Parses one file; `exprs` gets those of included files in place."""

    def __init__(self, fname, seen=None, including=()):
        self.fname = fname
        self.seen = seen if seen is not None else set()
        self.chain = tuple(including) + (os.path.abspath(fname),)
        self.seen.add(self.chain[-1])
        self.exprs = []
        with open(fname, encoding='utf-8') as handle:
            text = handle.read()
        if not text.endswith('\n'):
            text += '\n'
        self.tokens = list(self._lex(text))
        self.index = 0
        self._parse()

    def _pos(self, line):
        return SourcePos(self.fname, line)

    def _lex(self, text):
        offset, line = 0, 1
        while offset < len(text):
            match = _TOKEN.match(text, offset)
            if not match:
                raise QAPIError(self._pos(line), 'stray %r'
                                % text[offset:offset + 10].split('\n')[0])
            kind, value = match.lastgroup, match.group()
            if kind == 'comment' and re.match(r'^##[ \t]*$', value):
                raise QAPIError(self._pos(line),
                                "documentation block is not closed by '##'")
            if kind not in ('space', 'newline', 'comment'):
                yield kind, value, self._pos(line)
            line += value.count('\n')
            offset = match.end()
        yield 'end', 'end of file', self._pos(line)

    def _next(self):
        token = self.tokens[self.index]
        if token[0] != 'end':
            self.index += 1
        return token

    def _expect(self, text, where):
        _, value, pos = self._next()
        if value != text:
            raise QAPIError(pos, "expected '%s' %s, got %s"
                            % (text, where, value))

    def _parse(self):
        doc = None
        while True:
            kind, value, pos = self._next()
            if kind == 'doc':
                if doc and doc.name:
                    raise QAPIError(doc.pos, "documentation of '%s' is not"
                                    " followed by a definition" % doc.name)
                doc = Doc(pos, value)
                continue
            if kind == 'end':
                if doc and doc.name:
                    raise QAPIError(doc.pos, "documentation of '%s' is not"
                                    " followed by a definition" % doc.name)
                return
            if value != '{':
                raise QAPIError(pos, "expected '{', got %s" % value)
            members = self._object(pos)
            if 'include' in members:
                self._include(members)
            else:
                self.exprs.append(Expr(members,
                                       doc if doc and doc.name else None))
            doc = None

    def _include(self, members):
        name = members['include']
        if len(members) != 1 or not isinstance(name, str):
            raise QAPIError(members.pos, "'include' takes one file name")
        path = os.path.join(os.path.dirname(self.fname), name)
        full = os.path.abspath(path)
        if full in self.chain:
            raise QAPIError(members.pos, "'%s' includes itself" % name)
        if full in self.seen:
            return
        if not os.path.exists(path):
            raise QAPIError(members.pos, "no such file '%s'" % name)
        self.exprs += SchemaFile(path, self.seen, self.chain).exprs

    def _object(self, pos):
        members = Members(pos)
        if self.tokens[self.index][1] == '}':
            self._next()
            return members
        while True:
            kind, key, kpos = self._next()
            if kind != 'string':
                raise QAPIError(kpos, 'expected a member name, got %s' % key)
            key = key[1:-1]
            if key in members:
                raise QAPIError(kpos, "member '%s' appears twice" % key)
            self._expect(':', "after '%s'" % key)
            members.key_pos[key] = kpos
            members[key] = self._value()
            kind, value, vpos = self._next()
            if value == '}':
                return members
            if value != ',':
                raise QAPIError(vpos, "expected ',' or '}', got %s" % value)

    def _array(self):
        items = []
        if self.tokens[self.index][1] == ']':
            self._next()
            return items
        while True:
            items.append(self._value())
            _, value, pos = self._next()
            if value == ']':
                return items
            if value != ',':
                raise QAPIError(pos, "expected ',' or ']', got %s" % value)

    def _value(self):
        kind, value, pos = self._next()
        if kind == 'string':
            return value[1:-1]
        if kind == 'word':
            return value == 'true'
        if value == '{':
            return self._object(pos)
        if value == '[':
            return self._array()
        raise QAPIError(pos, 'expected a value, got %s' % value)
