#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# group: quick
# formats: any
"""Both qemu-img answer the same command lines alike: output, exit status, and
what becomes of the files. The lines are in tests/interop/command_tables/."""
import functools
import hashlib
import json
import os
import re
import shlex
import shutil
import tempfile
import unittest

import command_tables
import iotests
from iotests import tools
from iotests.process import run

MiB = 1 << 20
# What depends on time, or what later versions of the reference print, too.
VOLATILE = [
    (r'Run completed in [0-9.]+ seconds', 'Run completed'),
    (r'\d{4}-\d\d-\d\d \d\d:\d\d:\d\d', 'DATE'),
    (r'(?m)^disk size: .*\n', ''),
    # Ours name a node without a name by its file.
    (r"'?#block\d+'?", 'NODE'),
    # Later versions say where help is, and what the file below looks like.
    (r"Try 'qemu-img( \w+)? --help' for more information\n", ''),
    (r"(?m)^Child node '/file':\n(    .*\n)+", ''),
    # Ours say more about a stored bitmap.
    (r'(?m)^            (status: consistent|count: \d+)\n', ''),
]
# The same in JSON.
MORE = {'children', 'status', 'count', 'actual-size', 'compressed', 'date-sec',
        'date-nsec'}


def make_images(directory):
    """All files that the tables name, by the distribution's programs."""
    def img(*args, rc=0):
        result = run([tools.ref_img(), *args], cwd=directory)
        assert rc is None or result.rc == rc, result.describe()

    def io(image, *commands):
        args = [tools.ref_io(), image]
        for command in commands:
            args += ['-c', command]
        result = run(args, cwd=directory)
        assert result.rc == 0, result.describe()

    def write(name, data):
        with open(os.path.join(directory, name), 'wb') as f:
            f.write(data)

    data = b''.join(hashlib.sha256(b'%d' % i).digest() * 32
                    for i in range(256)) + bytes(512 << 10) + \
        b'text ' * 52428 + b'....' + bytes(256 << 10)
    data = data[:MiB].ljust(MiB, b'\0')
    write('plain.raw', data)
    write('other.raw', data[:70000] + b'?' + data[70001:])
    write('longer.raw', data + bytes(65536))
    write('odd.raw', data[:5250])
    write('empty.raw', b'')
    write('tiny.raw', bytes(4096))
    with open(os.path.join(directory, 'zero.raw'), 'wb') as f:
        f.truncate(MiB)
    for name, args in (
            ('q', ''), ('v2', '-o compat=0.10'), ('packed', '-c'),
            ('zstd', '-c -o compression_type=zstd'),
            ('small', '-o cluster_size=4k,refcount_bits=64'),
            ('base', ''), ('snap', ''), ('maps', ''), ('leak', ''),
            ('broken', ''), ('dirty', '-o lazy_refcounts=on'),
            ('base2', '')):
        img('convert', '-O', 'qcow2', *args.split(), 'plain.raw',
            name + '.qcow2')
    io('base2.qcow2', 'write -P 5 64k 64k')

    def overlay(name, backing, *size, fmt='qcow2', opts=()):
        img('create', '-q', '-f', 'qcow2', '-b', backing, '-F', fmt, *opts,
            name, *size)

    overlay('over.qcow2', 'base.qcow2')
    io('over.qcow2', 'write -P 1 100k 100k', 'write -z 300k 64k')
    overlay('top.qcow2', 'over.qcow2')
    io('top.qcow2', 'write -P 2 0 4k', 'discard 512k 64k')
    overlay('shorter.qcow2', 'base.qcow2', '512k')
    io('shorter.qcow2', 'write -P 3 128k 64k')
    overlay('longer.qcow2', 'base.qcow2', '2M')
    io('longer.qcow2', 'write -P 3 1M 64k')
    overlay('rawback.qcow2', 'plain.raw', fmt='raw')
    io('rawback.qcow2', 'write -P 3 128k 64k')
    overlay('lost.qcow2', 'nothing', '1M', opts=['-u'])
    overlay('loop.qcow2', 'loop2.qcow2', '1M', opts=['-u'])
    overlay('loop2.qcow2', 'loop.qcow2', '1M', opts=['-u'])
    img('snapshot', '-c', 's1', 'snap.qcow2')
    io('snap.qcow2', 'write -P 4 64k 64k')
    img('snapshot', '-c', 's2', 'snap.qcow2')
    io('snap.qcow2', 'write -P 5 0 100k')
    img('bitmap', '--add', '--disable', '-g', '64k', 'maps.qcow2', 'b0')
    img('bitmap', '--add', 'maps.qcow2', 'b1')
    io('maps.qcow2', 'write -P 6 128k 64k')
    damage(directory)


def patch(path, offset, data):
    with open(path, 'r+b') as f:
        f.seek(offset)
        f.write(data)


def be(path, offset, length=8):
    with open(path, 'rb') as f:
        f.seek(offset)
        return int.from_bytes(f.read(length), 'big')


def damage(directory):
    """A leaked cluster, an entry of nonsense, a mark of a crash, a bitmap that
    was in use."""
    leak, broken, dirty, used = (os.path.join(directory, name + '.qcow2')
                                 for name in ('leak', 'broken', 'dirty',
                                              'used'))
    # Two more clusters counted, behind the file's end.
    block = be(leak, be(leak, 48)) & ~511
    end = os.path.getsize(leak) >> 16
    os.truncate(leak, (end + 2) << 16)
    patch(leak, block + 2 * end, b'\0\1\0\1')
    # The second data cluster is the first one's.
    table = be(broken, be(broken, 40)) & ((1 << 56) - 512)
    patch(broken, table + 8, be(broken, table).to_bytes(8, 'big'))
    patch(dirty, 72, (1).to_bytes(8, 'big'))
    shutil.copy(os.path.join(directory, 'maps.qcow2'), used)
    mark_in_use(used)


def mark_in_use(path):
    """Sets the flag of each entry of the bitmap directory."""
    at = 104
    while be(path, at, 4) != 0x23852875:
        at += 8 + (be(path, at + 4, 4) + 7) // 8 * 8
    count, size, offset = be(path, at + 8, 4), be(path, at + 16), \
        be(path, at + 24)
    entry = offset
    for _ in range(count):
        patch(path, entry + 12, (be(path, entry + 12, 4) | 1).to_bytes(4,
                                                                        'big'))
        entry += (24 + be(path, entry + 18, 2) + be(path, entry + 20, 4) +
                  7) // 8 * 8
    assert entry == offset + size


def without_more(value):
    if isinstance(value, list):
        return [without_more(entry) for entry in value]
    if isinstance(value, dict):
        return {key: without_more(entry) for key, entry in value.items()
                if key not in MORE}
    return value


def normal(text):
    try:
        return json.dumps(without_more(json.loads(text)))
    except ValueError:
        pass
    for pattern, replacement in VOLATILE:
        text = re.sub(pattern, replacement, text)
    return text


class Side:
    """One of the programs, in a directory of its own."""

    def __init__(self, program, directory, images):
        self.program = program
        self.directory = directory
        self.images = images
        shutil.copytree(images, directory)

    def run(self, text):
        """(exit status, stdout, stderr, {file: what is in it})"""
        result = run([self.program, *shlex.split(text)], cwd=self.directory)
        return (result.rc, normal(result.stdout), normal(result.stderr),
                self.changes())

    def changes(self):
        """Describes each file that is not as it was, and puts it back."""
        seen = {}
        for name in sorted({*os.listdir(self.directory),
                            *os.listdir(self.images)}):
            now, then = (os.path.join(d, name)
                         for d in (self.directory, self.images))
            if not os.path.exists(now):
                seen[name] = 'gone'
            elif not os.path.exists(then):
                seen[name] = describe(now)
            elif same_bytes(now, then):
                continue
            elif (text := describe(now)) != original(then):
                seen[name] = text
            if os.path.exists(now):
                os.unlink(now)
            if os.path.exists(then):
                shutil.copy2(then, now)
        return seen


def describe(path):
    """What a user sees of a file. Bytes that mean nothing may differ."""
    directory, name = os.path.split(path)
    with open(path, 'rb') as f:
        data = f.read() if os.path.getsize(path) < 64 * MiB else b'large'
    if data[:4] != b'QFI\xfb':
        return f'{len(data)} bytes {hashlib.sha256(data).hexdigest()[:16]}'

    def ref(*args):
        return run([tools.ref_img(), *args], cwd=directory)

    info = ref('info', '--output=json', '-f', 'qcow2', name)
    check = ref('check', '-q', '-f', 'qcow2', name)
    guest = 'large'
    if info.rc == 0 and json.loads(info.stdout)['virtual-size'] < 64 * MiB:
        out = os.path.join(os.path.dirname(directory), 'guest')
        ref('convert', '-f', 'qcow2', '-O', 'raw', name, out)
        if os.path.exists(out):
            with open(out, 'rb') as f:
                guest = hashlib.sha256(f.read()).hexdigest()[:16]
            os.unlink(out)
    return '\n'.join((normal(info.stdout), f'check {check.rc}', guest))


original = functools.lru_cache(maxsize=None)(describe)


def same_bytes(a, b):
    sa, sb = os.stat(a), os.stat(b)
    if sa.st_size != sb.st_size:
        return False
    if sa.st_mtime_ns == sb.st_mtime_ns:
        return True
    if sa.st_size > 64 * MiB:
        return False
    with open(a, 'rb') as fa, open(b, 'rb') as fb:
        return fa.read() == fb.read()


PARTS = ('exit status', 'stdout', 'stderr', 'files')


class CommandLines(iotests.TestCase):
    @classmethod
    def setUpClass(cls):
        if not tools.ref_img() or not tools.ref_io():
            raise unittest.SkipTest("the distribution's qemu-utils are not "
                                    'installed')
        cls.top = tempfile.mkdtemp(prefix='iotest-')
        cls.addClassCleanup(shutil.rmtree, cls.top, ignore_errors=True)
        images = os.path.join(cls.top, 'images')
        os.mkdir(images)
        make_images(images)
        cls.ours = Side(tools.qemu_img(), os.path.join(cls.top, 'a'), images)
        cls.theirs = Side(tools.ref_img(), os.path.join(cls.top, 'b'), images)

    def compare(self, line):
        """What differs; None if that is as the table says."""
        ours, theirs = self.ours.run(line.text), self.theirs.run(line.text)
        diff = [f'{part}:\n  ours:   {a!r}\n  theirs: {b!r}'
                for part, a, b in zip(PARTS, ours, theirs) if a != b]
        if not line.reason:
            return '\n'.join(diff)
        if not diff:
            return f'is alike now, though marked: {line.reason}'
        want = theirs[0] if line.rc is None else line.rc
        if ours[0] != want:
            return f'exit status {ours[0]}, not {want}\n' + '\n'.join(diff)
        if ours[3] != theirs[3] and not line.files:
            return '\n'.join(diff)
        return ''


def add_test(name, lines):
    def test(self):
        wrong = 0
        for line in lines:
            diff = self.compare(line)
            if diff:
                wrong += 1
                print(f'# {line.text}')
                for text in diff.split('\n'):
                    print(f'#   {text}')
        self.assertEqual(wrong, 0, f'of {len(lines)} command lines')

    setattr(CommandLines, f'test_{name}', test)


TABLES = dict(command_tables.tables())
for table, table_lines in TABLES.items():
    add_test(table, table_lines)


class Tables(unittest.TestCase):
    def test_there_are_enough(self):
        lines = [line.text for t in TABLES.values() for line in t]
        self.assertGreaterEqual(len(lines), 400)
        self.assertEqual(len(lines), len(set(lines)))


if __name__ == '__main__':
    iotests.main()
