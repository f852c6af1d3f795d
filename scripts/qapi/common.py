# SPDX-License-Identifier: GPL-2.0-or-later
"""Names, errors and C text helpers shared by the parts of the generator."""

import re


class SourcePos:
    """Where something in the schema was written."""

    def __init__(self, fname, line):
        self.fname = fname
        self.line = line

    def __str__(self):
        return '%s:%d' % (self.fname, self.line)


class QAPIError(Exception):
    """A mistake in the schema, with the place of it in front."""

    def __init__(self, pos, msg):
        super().__init__('%s: %s' % (pos, msg))


# Words a C member cannot be called: keywords, and what system headers turn
# into macros.
_C_WORDS = frozenset('''
    auto break case char const continue default do double else enum extern
    float for goto if inline int long register restrict return short signed
    sizeof static struct switch typedef union unsigned void volatile while
    asm bool typeof unix linux errno i386 mips sparc
'''.split())


def c_name(name, protect=True):
    """Turn a schema name into a C identifier."""
    ident = re.sub(r'[^A-Za-z0-9_]', '_', name)
    if protect and (ident in _C_WORDS or ident[0].isdigit()):
        return 'q_' + ident
    return ident


def upper_name(name):
    """CamelCase, dashes and dots to UPPER_SNAKE: 'OnOffAuto' -> ON_OFF_AUTO."""
    name = re.sub(r'([a-z0-9])([A-Z])', r'\1_\2', name)
    name = re.sub(r'([A-Z])([A-Z][a-z])', r'\1_\2', name)
    return c_name(name, False).upper()


def enum_const(type_name, value, prefix=None):
    if prefix is None:
        prefix = upper_name(type_name)
    return prefix + '_' + c_name(value, False).upper()


def c_string(text):
    """A C string literal; None gives NULL."""
    if text is None:
        return 'NULL'
    out = []
    for byte in text.encode('utf-8'):
        char = chr(byte)
        if char in '"\\':
            out.append('\\' + char)
        elif char == '\n':
            out.append('\\n')
        elif 0x20 <= byte < 0x7f:
            out.append(char)
        else:
            out.append('\\%03o' % byte)
    return '"' + ''.join(out) + '"'


def cond_expr(cond):
    """A schema 'if' condition as a preprocessor expression."""
    if isinstance(cond, str):
        return 'defined(%s)' % cond
    (oper, arg), = cond.items()
    if oper == 'not':
        return '!(%s)' % cond_expr(arg)
    glue = ' && ' if oper == 'all' else ' || '
    return glue.join('(%s)' % cond_expr(item) for item in arg)


def guarded(conds, text):
    """Wrap C text into the #if of each condition; None means none."""
    for cond in conds:
        if cond is not None:
            text = '#if %s\n%s#endif\n' % (cond_expr(cond), text)
    return text
