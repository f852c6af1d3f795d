#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The schema generator: each mistake is reported with file and line, and what is
right comes out as C.  TAP on stdout; run it from anywhere."""

import ast
import json
import os
import re
import subprocess
import sys
import tempfile

GENERATOR = os.path.join(os.path.dirname(os.path.abspath(__file__)),
                         '..', '..', 'scripts', 'qapi', 'main.py')

# (schema, line of the mistake, message)
MISTAKES = {
    'stray': ("{ 'enum': 'E', 'data': [ \"a\" ] }", 1, 'stray'),
    'number': ("{ 'enum': 'E',\n  'data': 3 }", 2, 'stray'),
    'no-comma': ("{ 'enum': 'E'\n  'data': [] }", 2, "expected ',' or '}'"),
    'no-colon': ("{ 'enum' 'E' }", 1, "expected ':' after 'enum'"),
    'open-end': ("{ 'enum': 'E',\n", 2, 'expected a member name'),
    'twice': ("{ 'enum': 'E',\n 'data': [], 'data': [] }", 2,
              "member 'data' appears twice"),
    'unclosed-doc': ("##\n# @E:\n", 1, "not closed by '##'"),
    'doc-other-name': ("##\n# @X:\n##\n{ 'enum': 'E', 'data': [] }", 1,
                       "documentation is for 'X'"),
    'doc-nothing': ("##\n# @X:\n##\n", 1, 'not followed by a definition'),
    'doc-unknown-member': ("##\n# @E:\n#\n# @b: no\n##\n"
                           "{ 'enum': 'E', 'data': [ 'a' ] }", 1,
                           "'b' is documented but is not part of 'E'"),
    'doc-member-twice': ("##\n# @E:\n#\n# @a: x\n# @a: y\n##\n"
                         "{ 'enum': 'E', 'data': [ 'a' ] }", 5,
                         "'a' is documented twice"),
    'no-kind': ("{ 'foo': 'E' }", 1, 'expected exactly one of'),
    'two-kinds': ("{ 'enum': 'E', 'struct': 'S', 'data': {} }", 1,
                  'expected exactly one of'),
    'lacks-data': ("{ 'struct': 'S' }", 1, "struct 'S' lacks 'data'"),
    'unknown-key': ("{ 'struct': 'S',\n  'data': {},\n  'x': 'y' }", 3,
                    "struct 'S' does not take 'x'"),
    'bad-type-name': ("{ 'struct': 'lower', 'data': {} }", 1, 'bad name'),
    'bad-event-name': ("{ 'event': 'lower' }", 1, 'bad name'),
    'bad-command-name': ("{ 'command': 'Upper' }", 1, 'bad name'),
    'list-name': ("{ 'struct': 'FooList', 'data': {} }", 1,
                  "must not end in 'List'"),
    'defined-twice': ("{ 'struct': 'S', 'data': {} }\n"
                      "{ 'enum': 'S', 'data': [] }", 2, 'already defined'),
    'builtin-name': ("{ 'command': 'int' }", 1, 'already defined'),
    'bad-member': ("{ 'struct': 'S', 'data': {\n  '1x': 'int' } }", 2,
                   'has a bad name'),
    'reserved-member': ("{ 'struct': 'S', 'data': { 'has-x': 'int' } }", 1,
                        'has a bad name'),
    'reserved-u': ("{ 'struct': 'S', 'data': { 'u': 'int' } }", 1,
                   'has a bad name'),
    'unknown-type': ("{ 'struct': 'S', 'data': { 'a': 'int',\n"
                     " 'b': 'Foo' } }", 2, "unknown type 'Foo'"),
    'bad-list': ("{ 'struct': 'S', 'data': { 'a': [ 'int', 'str' ] } }", 1,
                 'one element type'),
    'member-clash': ("{ 'struct': 'S', 'data': { 'a-b': 'int',\n"
                     " 'a_b': 'int' } }", 2, "collides with 'a-b'"),
    'base-clash': ("{ 'struct': 'B', 'data': { 'a': 'int' } }\n"
                   "{ 'struct': 'S', 'base': 'B', 'data': { 'a': 'int' } }",
                   2, "collides with 'a'"),
    'base-unknown': ("{ 'struct': 'S', 'base': 'X', 'data': {} }", 1,
                     'must be a struct'),
    'base-loop': ("{ 'struct': 'A', 'base': 'B', 'data': {} }\n"
                  "{ 'struct': 'B', 'base': 'A', 'data': {} }", 1,
                  'its own base'),
    'enum-dup': ("{ 'enum': 'E', 'data': [ 'a-b', 'a_b' ] }", 1,
                 'collides with another'),
    'enum-value': ("{ 'enum': 'E', 'data': [ 'a b' ] }", 1, 'bad value'),
    'enum-max': ("{ 'enum': 'E', 'data': [ '_max' ] }", 1, 'bad value'),
    'tag-missing': ("{ 'enum': 'E', 'data': [ 'a' ] }\n"
                    "{ 'union': 'U', 'base': { 't': 'E' },\n"
                    "  'discriminator': 'x', 'data': {} }", 2,
                    'discriminator of union'),
    'tag-optional': ("{ 'enum': 'E', 'data': [ 'a' ] }\n"
                     "{ 'union': 'U', 'base': { '*t': 'E' },\n"
                     "  'discriminator': 't', 'data': {} }", 2,
                     'required enum member'),
    'branch-unknown': ("{ 'enum': 'E', 'data': [ 'a' ] }\n"
                       "{ 'struct': 'S', 'data': {} }\n"
                       "{ 'union': 'U', 'base': { 't': 'E' },\n"
                       "  'discriminator': 't', 'data': { 'b': 'S' } }", 4,
                       "branch 'b' is not a value of 'E'"),
    'branch-scalar': ("{ 'enum': 'E', 'data': [ 'a' ] }\n"
                      "{ 'union': 'U', 'base': { 't': 'E' },\n"
                      "  'discriminator': 't', 'data': { 'a': 'int' } }", 3,
                      'must be a struct'),
    'branch-clash': ("{ 'enum': 'E', 'data': [ 'a' ] }\n"
                     "{ 'struct': 'S', 'data': { 't': 'int' } }\n"
                     "{ 'union': 'U', 'base': { 't': 'E' },\n"
                     "  'discriminator': 't', 'data': { 'a': 'S' } }", 4,
                     'collides with the base'),
    'by-value-loop': ("{ 'enum': 'E', 'data': [ 'a' ] }\n"
                      "{ 'union': 'U', 'base': { 't': 'E' },\n"
                      "  'discriminator': 't', 'data': { 'a': 'U2' } }\n"
                      "{ 'union': 'U2', 'base': { 's': 'E' },\n"
                      "  'discriminator': 's', 'data': { 'a': 'U' } }", 4,
                      'contains itself'),
    'alternate-same': ("{ 'enum': 'E', 'data': [ 'a' ] }\n"
                       "{ 'alternate': 'A', 'data': { 's': 'str',\n"
                       "  'e': 'E' } }", 3, "cannot be told from 's'"),
    'alternate-str-num': ("{ 'alternate': 'A', 'data': { 's': 'str',"
                          " 'i': 'int' } }", 1, 'beside a number'),
    'alternate-empty': ("{ 'alternate': 'A', 'data': {} }", 1, 'is empty'),
    'bad-if': ("{ 'struct': 'S', 'data': {}, 'if': 'foo(bar)' }", 1,
               'CONFIG_ name'),
    'bad-if-list': ("{ 'struct': 'S', 'data': {}, 'if': { 'all': [] } }", 1,
                    'list of conditions'),
    'bad-feature': ("{ 'struct': 'S', 'data': {}, 'features': [ [] ] }", 1,
                    'a feature is a name'),
    'feature-twice': ("{ 'struct': 'S', 'data': {},"
                      " 'features': [ 'a', 'a' ] }", 1, 'appears twice'),
    'command-data': ("{ 'command': 'c', 'data': 'int' }", 1,
                     'must be a struct'),
    'command-boxed': ("{ 'command': 'c', 'data': { 'a': 'int' },"
                      " 'boxed': true }", 1, 'needs a named type'),
    'command-flag': ("{ 'command': 'c', 'allow-oob': 'yes' }", 1,
                     'must be true or false'),
    'command-returns': ("{ 'command': 'c', 'returns': 'Foo' }", 1,
                        "unknown type 'Foo'"),
    'command-doc': ("##\n# @c:\n#\n# @b: no\n##\n"
                    "{ 'command': 'c', 'data': { 'a': 'int' } }", 1,
                    "'b' is documented but"),
    'throttle-member': ("{ 'event': 'E', 'data': { 'a': 'int' },\n"
                        "  'throttle': 'a' }", 1, 'name of a string member'),
    'throttle-nothing': ("{ 'event': 'E', 'throttle': 'a' }", 1,
                         'name of a string member'),
    'event-doc': ("##\n# @E:\n#\n# @b: no\n##\n"
                  "{ 'event': 'E', 'data': { 'a': 'int' } }", 1,
                  "'b' is documented but"),
    'no-include': ("{ 'include': 'absent.json' }", 1, 'no such file'),
    'self-include': ("{ 'include': 'schema.json' }", 1, 'includes itself'),
}

GOOD = """
# a comment
{ 'include': 'other.json' }
{ 'include': 'other.json' }
{ 'pragma': { 'doc-required': true } }

##
# = Free text
##

##
# @E:
#
# Some values.
#
# @a: first
#     and more
#
# Since: 1.0
##
{ 'enum': 'E', 'prefix': 'PRE',
  'data': [ 'a', { 'name': 'b-c', 'if': 'CONFIG_B' } ] }

##
# @Derived:
#
# @flag: says \\"so\\"
#
# Features:
# @unstable: may go
##
{ 'struct': 'Derived', 'base': 'Other',
  'data': { '*flag': 'bool', '*name': 'str', '*list': [ 'E' ],
            '*errno': 'int', 'default': { 'type': 'size',
            'if': { 'any': [ 'CONFIG_X', { 'not': 'CONFIG_Y' } ] } } },
  'features': [ 'unstable' ] }
{ 'union': 'U', 'base': { 't': 'E' }, 'discriminator': 't',
  'data': { 'b-c': 'Derived' }, 'if': 'CONFIG_U' }
{ 'alternate': 'A', 'data': { 'o': 'Derived', 's': 'str', 'n': 'null' } }
{ 'command': 'do-it', 'data': { '*x': 'int' }, 'returns': [ 'Derived' ],
  'allow-oob': true }
{ 'command': 'do-boxed', 'data': 'U', 'boxed': true, 'coroutine': true,
  'features': [ 'unstable' ], 'if': 'CONFIG_U' }
{ 'command': 'do-raw', 'gen': false }
{ 'event': 'IT_HAPPENED', 'data': 'Derived', 'boxed': true }
{ 'event': 'AGAIN', 'data': { 'who': 'str', '*n': 'int' },
  'throttle': 'who' }
{ 'event': 'ALWAYS', 'throttle': '*' }
"""

OTHER = "{ 'struct': 'Other', 'data': { 'o': 'number' } }\n"

EXPECTED = {
  'qapi-types.h': [
    'typedef enum E {\n    PRE_A,\n#if defined(CONFIG_B)\n    PRE_B_C,\n'
    '#endif\n    PRE__MAX,\n} E;',
    'struct Derived {\n    double o;\n    bool has_flag;\n    bool flag;\n'
    '    char *name;\n    bool has_list;\n    EList *list;\n'
    '    bool has_errno;\n    int64_t q_errno;\n'
    '#if (defined(CONFIG_X)) || (!(defined(CONFIG_Y)))\n'
    '    uint64_t q_default;\n#endif\n};',
    'struct A {\n    QType type;\n    union {\n        Derived o;\n'
    '        char *s;\n        QNull *n;\n    } u;\n};',
    '#if defined(CONFIG_U)\n\nstruct U {\n    E t;',
    'static inline Other *qapi_Derived_base(const Derived *obj)',
],
  'qapi-commands.h': [
    'DerivedList *qmp_do_it(bool has_x, int64_t x,\n',
    'void qmp_do_raw(QDict *args, QObject **ret, Error **errp);',
    '#if defined(CONFIG_U)\ncoroutine_fn void qmp_do_boxed(U *arg,\n'
    '    Error **errp);\n#endif',
    'extern const QmpCommand qmp_commands[];',
  ],
  'qapi-commands.c': [
    '    { "do-it", marshal_do_it, QCO_ALLOW_OOB },\n',
    '    { "do-raw", qmp_do_raw, QCO_NO_OPTIONS },\n',
    '    { "do-boxed", marshal_do_boxed, QCO_COROUTINE | QCO_UNSTABLE },\n',
  ],
  'qapi-events.h': [
    'void qapi_event_send_it_happened(Derived *data);',
    'void qapi_event_send_again(const char *who,\n    bool has_n, int64_t n);',
    'void qapi_event_send_always(void);',
  ],
  'qapi-events.c': [
    '.name = "IT_HAPPENED", .throttled = false, .throttle_key = NULL,',
    '.name = "AGAIN", .throttled = true, .throttle_key = "who",',
    '.name = "ALWAYS", .throttled = true, .throttle_key = NULL,',
  ],
}

# Conditions of the schema and what query-qmp-schema then knows.
INTROSPECTION = [
    ((), ['do-it', 'do-raw', 'IT_HAPPENED', 'AGAIN', 'ALWAYS']),
    (('CONFIG_U', 'CONFIG_B', 'CONFIG_X', 'CONFIG_Y'),
     ['do-boxed', 'do-it', 'do-raw', 'IT_HAPPENED', 'AGAIN', 'ALWAYS']),
    (('CONFIG_U', 'CONFIG_Y'),
     ['do-boxed', 'do-it', 'do-raw', 'IT_HAPPENED', 'AGAIN', 'ALWAYS']),
]


def generate(directory, schema):
    with open(os.path.join(directory, 'schema.json'), 'w',
              encoding='utf-8') as handle:
        handle.write(schema)
    with open(os.path.join(directory, 'other.json'), 'w',
              encoding='utf-8') as handle:
        handle.write(OTHER)
    return subprocess.run([sys.executable, GENERATOR, '-o', directory,
                           'schema.json'], cwd=directory, text=True,
                          capture_output=True, check=False)


def check_mistake(schema, line, message):
    with tempfile.TemporaryDirectory() as directory:
        res = generate(directory, schema)
        prefix = 'schema.json:%d: ' % line
        if (res.returncode != 1 or not res.stderr.startswith(prefix)
                or message not in res.stderr):
            return 'expected %s...%s, got %d %s' % (prefix, message,
                                                    res.returncode, res.stderr)
        if os.path.exists(os.path.join(directory, 'qapi-types.h')):
            return 'output was written'
    return None


def check_good():
    with tempfile.TemporaryDirectory() as directory:
        res = generate(directory, GOOD)
        if res.returncode or res.stderr:
            return res.stderr
        for name, parts in EXPECTED.items():
            with open(os.path.join(directory, name),
                      encoding='utf-8') as handle:
                text = handle.read()
            for part in parts:
                if part not in text:
                    return '%s lacks %r' % (name, part)
        path = os.path.join(directory, 'qapi-types.h')
        # text that stays the same is not written again
        os.utime(path, (1, 1))
        generate(directory, GOOD)
        if os.stat(path).st_mtime != 1:
            return 'unchanged output was written again'
    return None


def introspect(directory, defines):
    """The JSON as a C compiler sees it under these conditions."""
    with open(os.path.join(directory, 'qapi-introspect.c'),
              encoding='utf-8') as handle:
        text = handle.read()
    text = text[text.index('const char qmp_schema_json'):]
    res = subprocess.run(
        [os.environ.get('CC', 'cc').split()[-1], '-E', '-P', '-x', 'c', '-']
        + ['-D' + name for name in defines],
        input=text, text=True, capture_output=True, check=True)
    pieces = re.findall(r'"((?:[^"\\]|\\.)*)"', res.stdout)
    return json.loads(''.join(ast.literal_eval('"%s"' % p) for p in pieces))


def check_introspection():
    with tempfile.TemporaryDirectory() as directory:
        generate(directory, GOOD)
        for defines, names in INTROSPECTION:
            schema = introspect(directory, defines)
            found = [e['name'] for e in schema
                     if e['meta-type'] in ('command', 'event')]
            if sorted(found) != sorted(names):
                return '%s: found %s' % (defines, found)
            enum = next(e for e in schema if e['meta-type'] == 'enum')
            if ('b-c' in enum['values']) != ('CONFIG_B' in defines):
                return '%s: values %s' % (defines, enum['values'])
    return None


def main():
    checks = [(name, lambda args=args: check_mistake(*args))
              for name, args in MISTAKES.items()]
    checks.append(('good', check_good))
    checks.append(('introspection', check_introspection))
    print('1..%d' % len(checks))
    failed = 0
    for num, (name, check) in enumerate(checks, 1):
        problem = check()
        failed += problem is not None
        print('%s %d - %s' % ('not ok' if problem else 'ok', num, name))
        if problem:
            print('# ' + problem.strip().replace('\n', '\n# '))
    return failed != 0


if __name__ == '__main__':
    sys.exit(main())
