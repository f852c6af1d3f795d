#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Turn a QAPI schema into C: main.py -o OUTDIR SCHEMA.

Writes qapi-types.[ch] and qapi-visit.[ch] into OUTDIR, each only if its text
changes.  A mistake in the schema is reported as FILE:LINE: MESSAGE with exit
status 1.
"""

import argparse
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
sys.dont_write_bytecode = True

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


def main():
    args = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    args.add_argument('-o', '--output-dir', default='.')
    args.add_argument('schema')
    args = args.parse_args()
    try:
        schema = Schema(args.schema)
        files = {
            'qapi-types.h': gen_types.gen_header(schema),
            'qapi-types.c': gen_types.gen_source(schema),
            'qapi-visit.h': gen_visit.gen_header(schema),
            'qapi-visit.c': gen_visit.gen_source(schema),
        }
    except (QAPIError, OSError, UnicodeDecodeError) as err:
        print(err, file=sys.stderr)
        return 1
    for name, text in files.items():
        write(os.path.join(args.output_dir, name), text)
    return 0


if __name__ == '__main__':
    sys.exit(main())
