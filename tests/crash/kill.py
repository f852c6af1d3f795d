#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# group: crash
# formats: qcow2
"""A program that dies (kill -9) in the middle of writing leaves an image that
checks without corruption and reads as it may. The page cache survives, so this
is about restart, not about the order of flushes (that is explore.c)."""
import os
import random
import subprocess
import time

import iotests
from iotests import process, tools

UNIT = 4096
MIB = 1 << 20


class Killed(iotests.TestCase):
    def assert_usable(self, image):
        """No corruption by our check and the distribution's; leaks may be."""
        result = self.img('check', '-f', 'qcow2', image, rc=None)
        self.assertIn(result.rc, (0, 3), result.describe())
        if tools.ref_img():
            result = self.ref('check', '-f', 'qcow2', image, rc=None)
            self.assertIn(result.rc, (0, 3), result.describe())

    def run_and_kill(self, args, delay, stdin=None, stdout=None):
        """Returns whether the program was still alive."""
        child = subprocess.Popen(args, cwd=self.dir, stdin=stdin,
                                 stdout=stdout or subprocess.DEVNULL,
                                 stderr=subprocess.DEVNULL)
        time.sleep(delay)
        alive = child.poll() is None
        child.kill()
        child.wait()
        return alive


class Convert(Killed):
    def setUp(self):
        super().setUp()
        rng = self.rng()
        # Data that compresses, data that does not, and holes.
        with open(self.path('source'), 'wb') as f:
            for _ in range(rng.randrange(24, 40)):
                kind = rng.randrange(3)
                size = rng.randrange(1, 2 * MIB) // 512 * 512
                if kind == 0:
                    f.seek(size, os.SEEK_CUR)
                else:
                    f.write(rng.randbytes(size) if kind == 1
                            else rng.randbytes(64) * (size // 64))
            f.truncate(f.tell())

    def convert(self, *options):
        return [tools.qemu_img(), 'convert', '-f', 'raw', '-O', 'qcow2',
                *options, 'source', 'target']

    def check_rounds(self, *options, existing=None):
        rng = self.rng()
        rounds = 60 if tools.LONG else 4
        start = time.monotonic()
        if existing:
            self.create('target', *existing)
        self._run(self.convert(*options), 0)
        length = time.monotonic() - start
        killed = 0
        while rounds > 0 or not killed:
            if existing:
                self.create('target', *existing)
            if self.run_and_kill(self.convert(*options),
                                 rng.uniform(0, length)):
                killed += 1
            else:
                length *= .8        # the first one was slower
            rounds -= 1
            self.wait_unlocked('target')
            # Before there is a header there is no image.
            if self.read_file('target', 0, 4) == b'QFI\xfb':
                self.assert_usable('target')
        if existing:
            self.create('target', *existing)
        self._run(self.convert(*options), 0)
        self.assert_same('source', 'target', a_fmt='raw', b_fmt='qcow2')

    def test_plain(self):
        self.check_rounds()

    def test_out_of_order(self):
        self.check_rounds('-W', '-m', '16')

    def test_compressed(self):
        self.check_rounds('-c')

    def test_small_clusters(self):
        self.check_rounds('-o', 'cluster_size=4k,refcount_bits=1')

    def test_preallocated(self):
        self.check_rounds('-o', 'preallocation=metadata')

    def test_existing_target(self):
        size = os.stat(self.path('source')).st_size
        self.check_rounds('-n', existing=['-o', 'cluster_size=16k',
                                          str(size)])


class Model:
    """What each unit of the disk may read as: the value (a byte, 0 zeroes) at
    the last flush, or any one written since."""

    def __init__(self, size):
        self.values = [{0} for _ in range(size // UNIT)]
        self.last = [0] * (size // UNIT)

    def begin(self, first, nb, value):
        for i in range(first, first + nb):
            self.values[i].add(value)

    def end(self, first, nb, value):
        self.last[first:first + nb] = [value] * nb

    def flushed(self):
        self.values = [{v} for v in self.last]

    def wrong(self, data):
        for i, legal in enumerate(self.values):
            seen = data[i * UNIT:(i + 1) * UNIT]
            if not any(seen == bytes([v]) * UNIT for v in legal):
                return f'unit {i} reads {seen[:8].hex()}…, not one of {legal}'
        return None


class RandomWrites(Killed):
    SIZE = 4 * MIB
    CLUSTER = 16384

    def command(self, rng):
        """(text, first unit, units, value); flushes have no units."""
        nb = rng.randrange(1, 3 * self.CLUSTER // UNIT)
        first = rng.randrange(self.SIZE // UNIT - nb)
        value = rng.randrange(1, 256)
        kind = rng.randrange(12)
        if kind == 0:
            return 'flush', 0, 0, 0
        if kind < 7:
            text = f'write -P {value}'
        elif kind < 9:
            per = self.CLUSTER // UNIT
            first, nb = first // per * per, per
            text = f'write -c -P {value}'
        else:
            text, value = rng.choice(['write -z', 'write -zu']), 0
        return f'{text} {first * UNIT} {nb * UNIT}', first, nb, value

    def play(self, image, rng, model, seconds):
        """Feeds commands to a qemu-io that is killed; the model learns what
        it may have done."""
        commands = [self.command(rng) for _ in range(400)]
        self.write_file('commands', ''.join(f'{c[0]}\n' for c in
                                            commands).encode())
        with open(self.path('commands'), 'rb') as source, \
                open(self.path('output'), 'wb') as output:
            self.run_and_kill([tools.qemu_io(), '-f', 'qcow2', image], seconds,
                              stdin=source, stdout=output)
        # A prompt comes before each command, after the one before has ended.
        started = self.read_file('output').decode().count(process.PROMPT)
        for i, (text, first, nb, value) in enumerate(commands[:started]):
            if text != 'flush':
                model.begin(first, nb, value)
                if i < started - 1:
                    model.end(first, nb, value)
            elif i < started - 1:
                model.flushed()
        return started

    def check_rounds(self, *create):
        rng = self.rng()
        left = 80 if tools.LONG else 5
        slow, done = 1, 0
        self.create('a', *create, str(self.SIZE))
        model = Model(self.SIZE)
        while left > 0 or not done:
            # Now and then so early that it is just being opened.
            seconds = slow * rng.choice([.005, .02, .05, .1])
            started = self.play('a', rng, model, seconds)
            done += started
            left -= 1
            if not started:
                slow *= 1.5     # such machine, so busy, or a sanitizer
            self.wait_unlocked('a')
            # Opening it for writing repairs an image that is marked dirty.
            self.io('a', 'read 0 512')
            self.assert_usable('a')
            self.img('convert', '-f', 'qcow2', '-O', 'raw', 'a', 'raw')
            data = self.read_file('raw')
            self.assertIsNone(model.wrong(data))
            # That is the truth from here on.
            model.last = [data[i] for i in range(0, self.SIZE, UNIT)]
            model.flushed()

    def test_plain(self):
        self.check_rounds('-o', f'cluster_size={self.CLUSTER}')

    def test_lazy_refcounts(self):
        self.check_rounds('-o', f'cluster_size={self.CLUSTER},'
                          'lazy_refcounts=on')

    def test_wide_refcounts(self):
        self.check_rounds('-o', f'cluster_size={self.CLUSTER},'
                          'refcount_bits=64')

    def test_version_2(self):
        self.check_rounds('-o', f'cluster_size={self.CLUSTER},compat=0.10')

    def test_backing_file(self):
        self.img('create', '-q', '-f', 'raw', 'base', str(self.SIZE))
        self.check_rounds('-o', f'cluster_size={self.CLUSTER}', '-b', 'base',
                          '-F', 'raw')


class Resize(Killed):
    def test_resize(self):
        rng = self.rng()
        self.create('a', '-o', 'cluster_size=4k', '8M')
        self.io('a', 'write -P 7 0 1M')
        for _ in range(60 if tools.LONG else 6):
            size = rng.randrange(1, 256) * MIB
            self.run_and_kill([tools.qemu_img(), 'resize', '-q', '--shrink',
                               '-f', 'qcow2', 'a', str(size)],
                              rng.uniform(0, .03))
            self.wait_unlocked('a')
            self.assert_usable('a')
            self.io('a', 'read -P 7 0 1M')


if __name__ == '__main__':
    random.seed(tools.SEED)
    iotests.main()
