# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs the test files of a directory, several at a time, and counts."""
import argparse
import concurrent.futures
import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass

from . import tap, tools

FORMATS = ('raw', 'qcow2')
# A whole file; its programs have shorter limits of their own.
FILE_TIMEOUT = 300


@dataclass(frozen=True)
class TestFile:
    """A test and what its header says."""
    path: str
    groups: tuple
    formats: tuple      # 'any': it does not matter, run once
    parts: int          # a long run does so many parts of it at a time

    @property
    def name(self):
        return os.path.basename(self.path)[:-len('.py')]


def read_header(path):
    fields = {'group': '', 'formats': 'any', 'parts': '1'}
    with open(path, encoding='utf-8') as f:
        for line in f:
            match = re.fullmatch(r'#\s*(\w+):\s*(.*)\n', line)
            if match and match[1] in fields:
                fields[match[1]] = match[2]
            if line.startswith('import') or line.startswith('from'):
                break
    formats = tuple(fields['formats'].split())
    unknown = set(formats) - set(FORMATS) - {'any'}
    if unknown or not formats:
        sys.exit(f'{path}: unknown format in header: {" ".join(unknown)}')
    return TestFile(path, tuple(fields['group'].split()), formats,
                    int(fields['parts']))


def find_tests(directory):
    paths = [os.path.join(directory, name)
             for name in sorted(os.listdir(directory)) if name.endswith('.py')]
    # What is not executable is a module of the tests.
    return [read_header(path) for path in paths if os.access(path, os.X_OK)]


def select(tests, names, group, formats):
    """(test, format) pairs to run, in the order of the files."""
    known = {t.name for t in tests}
    names = [n[:-len('.py')] if n.endswith('.py') else n for n in names]
    names = [os.path.basename(n) for n in names]
    for name in names:
        if name not in known:
            sys.exit(f'no test is called {name}')
    if group and not any(group in t.groups for t in tests):
        sys.exit(f'no test is in group {group}')
    pairs = []
    for test in tests:
        if (names and test.name not in names) or \
           (group and group not in test.groups):
            continue
        if test.formats == ('any',):
            pairs.append((test, formats[0]))
        else:
            pairs += [(test, f) for f in formats if f in test.formats]
    return pairs


def split(pairs):
    """(test, format, part) triples; a part is what case.main() takes."""
    for test, fmt in pairs:
        parts = test.parts if tools.LONG else 1
        for i in range(parts):
            yield test, fmt, f'{i + 1}/{parts}'


def run_file(test, fmt, part):
    """(output, exit status, seconds)"""
    start = time.monotonic()
    env = dict(os.environ, IMGFMT=fmt, IOTEST_PART=part,
               PYTHONDONTWRITEBYTECODE='1')
    try:
        done = subprocess.run([sys.executable, test.path], env=env,
                              stdin=subprocess.DEVNULL, check=False,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              text=True, errors='replace',
                              timeout=FILE_TIMEOUT * (10 if tools.LONG else 1))
        output, rc = done.stdout, done.returncode
    except subprocess.TimeoutExpired as e:
        output = (e.stdout or b'').decode(errors='replace') + '\nTimed out\n'
        rc = 1
    return output, rc, time.monotonic() - start


def report(test, fmt, part, output, rc, seconds):
    """Prints the outcome of one file, or of a part; returns its counts."""
    parsed = tap.parse(output)
    counts = parsed.counts
    if rc != 0 and not counts.failed:
        counts.failed += 1
    state = 'FAIL' if counts.failed else 'ok'
    if not counts.failed and not counts.passed:
        state = 'skip'
    name = test.name if part == '1/1' else f'{test.name} ({part})'
    print(f'{state:4} {name} {fmt}: {counts.total()} tests, '
          f'{seconds:.1f} s', flush=True)
    if counts.failed:
        # What passed is of no interest here.
        sys.stdout.write(''.join(f'    {line}\n'
                                 for line in output.splitlines()
                                 if not line.startswith('ok ')))
        print(f'    again: SEED={tools.SEED} {os.path.relpath(test.path)} '
              f'-{fmt}')
    for name, reason in parsed.skips:
        print(f'    skipped {name}: {reason}')
    return counts


def parse_args(argv, description):
    # QEMU's spelling: formats are options with one dash.
    formats = [a[1:] for a in argv if a[:1] == '-' and a[1:] in FORMATS]
    argv = [a for a in argv if not (a[:1] == '-' and a[1:] in FORMATS)]
    parser = argparse.ArgumentParser(
        description=description,
        usage='%(prog)s [-raw] [-qcow2] [-g group] [-j jobs] [-l] [name...]')
    parser.add_argument('names', nargs='*', metavar='name')
    parser.add_argument('-g', '--group')
    parser.add_argument('-j', '--jobs', type=int,
                        default=min(os.cpu_count() or 1, 8))
    parser.add_argument('-l', '--list', action='store_true',
                        help='print the tests and their groups')
    args = parser.parse_args(argv)
    args.formats = formats or list(FORMATS)
    return args


def main(directory, description):
    args = parse_args(sys.argv[1:], description)
    tests = find_tests(directory)
    pairs = select(tests, args.names, args.group, args.formats)
    if args.list:
        for test, fmt in pairs:
            print(f'{test.name} {fmt}: {" ".join(test.groups)}')
        return 0
    print(f'SEED={tools.SEED} {tools.qemu_img()}', flush=True)
    total = tap.Counts()
    with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
        futures = {pool.submit(run_file, *run): run for run in split(pairs)}
        for future in concurrent.futures.as_completed(futures):
            total.add(report(*futures[future], *future.result()))
    print(total)
    return 1 if total.failed else 0
