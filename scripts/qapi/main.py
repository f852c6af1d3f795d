#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Turn a QAPI schema into C: main.py -o OUTDIR SCHEMA.

Writes PREFIXqapi-X.[ch] into OUTDIR, X being types, visit, commands, events and
introspect, each only if its text changes.  A mistake in the schema is reported as FILE:LINE: MESSAGE with exit
status 1.
"""

import argparse
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
sys.dont_write_bytecode = True

import gen_commands     # noqa: E402
import gen_events       # noqa: E402
import gen_introspect   # noqa: E402
import gen_types        # noqa: E402
import gen_visit        # noqa: E402
from common import QAPIError    # noqa: E402
from schema import Schema       # noqa: E402


def write(path, text):
    try:
        with open(path, encoding='utf-8') as handle:
            if handle.read() == text:
                return
    except FileNotFoundError:
        pass
    with open(path, 'w', encoding='utf-8') as handle:
        handle.write(text)


EMITTERS = {
    'types': gen_types,
    'visit': gen_visit,
    'commands': gen_commands,
    'events': gen_events,
    'introspect': gen_introspect,
}


def names_for(prefix, include):
    """What emitters need to refer to each other's output."""
    symbol = prefix.replace('-', '_')
    names = {'symbol': symbol, 'guard': symbol.upper() + 'QAPI_'}
    # Lists of builtin types are part of the schema without prefix.
    names['builtins'] = not prefix
    names['types_below'] = 'qapi/%s.h' % ('qapi-types' if prefix else 'util')
    names['visit_below'] = 'qapi/%s.h' % ('qapi-visit' if prefix
                                          else 'visitor')
    for part in EMITTERS:
        names[part] = '%s%sqapi-%s.h' % (include + '/' if include else '',
                                         prefix, part)
    return names


def main():
    args = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    args.add_argument('-o', '--output-dir', default='.')
    args.add_argument('-p', '--prefix', default='',
                      help='of file names and of symbols without type names')
    args.add_argument('-i', '--include', default='qapi',
                      help='directory in #include lines')
    args.add_argument('schema')
    args = args.parse_args()
    names = names_for(args.prefix, args.include)
    files = {}
    try:
        schema = Schema(args.schema)
        for part, emitter in EMITTERS.items():
            base = '%sqapi-%s' % (args.prefix, part)
            files[base + '.h'] = emitter.gen_header(schema, names)
            files[base + '.c'] = emitter.gen_source(schema, names)
    except (QAPIError, OSError, UnicodeDecodeError) as err:
        print(err, file=sys.stderr)
        return 1
    for name, text in files.items():
        write(os.path.join(args.output_dir, name), text)
    return 0


if __name__ == '__main__':
    sys.exit(main())
