#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""What must hold for every file of the tree: a licence line on top, header
guards, include order, no tabs and no blanks at the end of lines, includes that
point down the layers, help for each option. TAP."""
import os
import re
import sys

TOP = os.path.dirname(os.path.dirname(os.path.dirname(
    os.path.abspath(__file__))))
SPDX = 'SPDX-License-Identifier: GPL-2.0-or-later'
# What each directory may include from, besides itself and what is above it in
# this list. The longest prefix counts.
LAYERS = ('util', 'qobject', 'qapi', 'sockets', 'objects', 'block', 'chardev',
          'monitor', 'blockdev', 'img', 'io')
DRIVERS = ('block/file', 'block/formats', 'block/qcow2', 'block/filters')


def files():
    for directory, subdirs, names in os.walk(TOP):
        subdirs[:] = sorted(d for d in subdirs
                            if not d.startswith(('build', '.git'))
                            and d != '__pycache__')
        for name in sorted(names):
            path = os.path.join(directory, name)
            if not os.path.islink(path):
                yield os.path.relpath(path, TOP)


def read(path):
    with open(os.path.join(TOP, path), encoding='utf-8') as f:
        return f.read()


def is_source(path):
    return path.endswith(('.c', '.h', '.py', '.json', 'meson.build')) or \
        os.path.basename(path) in ('Makefile', 'check', 'setup', 'demo',
                                   'bench', 'build')


def licence(path, text):
    head = text.split('\n')[:2]
    if not any(SPDX in line for line in head):
        yield 1, f'the first line is not "{SPDX}"'


def blanks(path, text):
    for number, line in enumerate(text.split('\n'), 1):
        if line != line.rstrip():
            yield number, 'blanks at the end of the line'
        if '\t' in line and not path.endswith('Makefile'):
            yield number, 'a tab'
    if not text.endswith('\n') or text.endswith('\n\n'):
        yield text.count('\n'), 'does not end in exactly one newline'


def guard(path, text):
    if path.endswith('.h') and not re.search(
            r'(?m)^#ifndef (\w+)\n#define \1\b|^#pragma once', text):
        yield 1, 'no header guard'


def osdep_first(path, text):
    if path.endswith('.c'):
        match = re.search(r'(?m)^#include (.*)$', text)
        if match and match[1] != '"util/osdep.h"':
            yield 1, f'the first include is {match[1]}, not "util/osdep.h"'


def layers(path, text):
    path = path[len('include/'):] if path.startswith('include/') else path
    own = path.split('/')[0]
    if own not in LAYERS:
        return
    above = LAYERS[LAYERS.index(own) + 1:]
    driver = next((d for d in DRIVERS if path.startswith(d + '/')), None)
    for number, line in enumerate(text.split('\n'), 1):
        match = re.match(r'#include "([^"]+)"', line)
        if not match:
            continue
        target = match[1]
        if target.split('/')[0] in above and target != 'qapi/util.h' and \
                not (own == 'qobject' and target.startswith('qapi/')):
            yield number, f'{target} is a layer above'
        other = next((d for d in DRIVERS if target.startswith(d + '/')), None)
        if driver and other and driver != other:
            yield number, f'{target} belongs to another driver'


def options_have_help(path, text):
    """Each long option of a command, or another name of it, is in its --help:
    man page and completion are made from that."""
    if not path.startswith('img/') or '.help =' not in text:
        return
    told = text[text.index('.usage ='):]
    names = {}
    for name, value in re.findall(
            r'\{ "([\w-]+)", (?:no|required|optional)_argument, NULL, (\S+) \}',
            text):
        names.setdefault(value, []).append(name)
    for group in names.values():
        if group != ['help'] and not any(
                re.search(rf'--{name}\b', told) for name in group):
            yield 1, f'--help does not tell of --{group[0]}'


RULES = {'licence line': licence, 'blanks': blanks, 'header guards': guard,
         'osdep.h first': osdep_first, 'includes point down': layers,
         'options have help': options_have_help}


def main():
    sources = {path: read(path) for path in files() if is_source(path)}
    print(f'1..{len(RULES)}')
    failed = 0
    for number, (name, rule) in enumerate(RULES.items(), 1):
        problems = [f'{path}:{line}: {message}'
                    for path, text in sources.items()
                    for line, message in rule(path, text)]
        failed += bool(problems)
        print(f'{"not ok" if problems else "ok"} {number} - {name}')
        for problem in problems:
            print(f'# {problem}')
    return 1 if failed else 0


if __name__ == '__main__':
    sys.exit(main())
