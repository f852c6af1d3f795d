#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Everything that README.md and the pages of docs/ name in `backticks` exists:
functions, files, types, environment variables, make targets; and so do the
functions that their examples call, and the files that they link to. TAP."""
import glob
import os
import re
import sys

TOP = os.path.dirname(os.path.dirname(os.path.dirname(
    os.path.abspath(__file__))))
CODE = ('.c', '.h', '.py', '.json', '.build', '.txt')
# Made by the build.
GENERATED = ('qapi/qapi-',)
# What fills directories of the build directory.
MAKERS = {'docs': 'docs/meson.build', 'bench': 'tests/bench/bench'}
# Stand for a name of the reader's choice.
PLACEHOLDERS = ('NAME', 'Foo', 'PATTERN')


def source_files():
    for directory, subdirs, files in os.walk(TOP):
        subdirs[:] = [d for d in subdirs if not d.startswith(('build', '.git'))
                      and d not in ('docs', '__pycache__')]
        for name in files:
            path = os.path.join(directory, name)
            if name.endswith(CODE) or os.access(path, os.X_OK) \
               or name in ('Makefile', 'trace-events', 'run'):
                yield path


def words_of_tree():
    """(identifiers, names that are followed by a parenthesis)"""
    words, calls = set(), set()
    for path in source_files():
        if os.path.islink(path):
            continue
        with open(path, encoding='utf-8', errors='replace') as f:
            text = f.read()
        words.update(re.findall(r'[A-Za-z_][A-Za-z0-9_-]*', text))
        words.update(re.findall(r'\w+', text))
        calls.update(re.findall(r'\b(\w+)\s*\(', text))
    return words, calls


def make_targets():
    with open(os.path.join(TOP, 'Makefile'), encoding='utf-8') as f:
        return set(re.findall(r'(?m)^([a-z-]+):', f.read()))


def made_files():
    """Files of the build directory that are no programs: each is named,
    between quotes, where it is made."""
    made = set()
    for directory, maker in MAKERS.items():
        with open(os.path.join(TOP, maker), encoding='utf-8') as f:
            made.update(f'build/{directory}/{name}' for name in
                        re.findall(r"'([\w-]+\.[a-z]+)'", f.read()))
    return made


class Checker:
    def __init__(self):
        self.words, self.calls = words_of_tree()
        self.targets = make_targets()
        self.made = made_files()

    def file_missing(self, path):
        # build/tests/unit/test-x is made from tests/unit/test-x.c.
        built = re.fullmatch(r'build/(tests/unit/test-[\w-]+|[\w-]+)', path)
        if built:
            return not os.path.exists(os.path.join(TOP, built[1] + '.c'))
        if path.rstrip('/') in ('build', 'build-asan', 'build-tsan'):
            return False
        if path.startswith(GENERATED):
            return False
        # Nothing is asked of a build directory, which may be absent or old.
        if path.startswith('build/'):
            return path not in self.made
        # A manual page has a template.
        return not (glob.glob(os.path.join(TOP, path)) or
                    os.path.exists(os.path.join(TOP, path + '.in')))

    def complaint(self, span):
        """What is wrong with a span in backticks, or None."""
        if any(p in span for p in PLACEHOLDERS):
            return None
        call = re.fullmatch(r'(\w+)\(\)', span)
        if call:
            return (None if call[1] in self.calls
                    else f'no function is called {span}')
        command = re.match(r'make ([a-z-]+)', span)
        if command:
            return (None if command[1] in self.targets
                    else f'the Makefile has no target {command[1]}')
        first = span.split()[0]
        if re.fullmatch(r'\.?[\w.*-]+(/[\w.*-]+)+/?', first) or re.fullmatch(
                r'[\w-]+/|[\w-]+\.(c|h|py|md|json|sh)', first):
            name = first
            if '/' not in name and self.find_by_name(name):
                return None
            return f'no file is called {name}' if self.file_missing(name) \
                else None
        if re.fullmatch(r'test-[\w-]+', span):
            return self.complaint(f'build/tests/unit/{span}')
        # Identifiers that can only be ours.
        if re.fullmatch(r'\w*[a-z]_\w+|[A-Z][A-Z0-9]+_\w+|[A-Z]\w*[a-z]\w*',
                        span) and span not in self.words:
            return f'{span} occurs nowhere'
        return None

    @staticmethod
    def find_by_name(name):
        return any(os.path.basename(p) == name for p in source_files())

    def check_page(self, page):
        with open(page, encoding='utf-8') as f:
            lines = f.read().splitlines()
        problems = []
        for number, line in enumerate(lines, 1):
            found = [self.complaint(span)
                     for span in re.findall(r'`([^`]+)`', line)]
            if line.startswith('    '):
                for name in re.findall(r'(?<![.\w])([a-z]\w*_\w+)\(', line):
                    found.append(self.complaint(f'{name}()'))
            for target in re.findall(r'\]\(([^)#:]+)\)', line):
                path = os.path.join(os.path.dirname(page), target)
                if not os.path.exists(path):
                    found.append(f'no file {target} to link to')
            problems += [f'{os.path.relpath(page, TOP)}:{number}: {p}'
                         for p in found if p]
        return problems


def main():
    pages = [os.path.join(TOP, 'README.md')] + sorted(
        glob.glob(os.path.join(TOP, 'docs', '**', '*.md'), recursive=True))
    checker = Checker()
    print(f'1..{len(pages)}')
    failed = 0
    for number, page in enumerate(pages, 1):
        problems = checker.check_page(page)
        failed += bool(problems)
        print(f'{"not ok" if problems else "ok"} {number} - '
              f'{os.path.relpath(page, TOP)}')
        for problem in problems:
            print(f'# {problem}')
    return 1 if failed else 0


if __name__ == '__main__':
    sys.exit(main())
