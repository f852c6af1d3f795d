#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# group: convert
# formats: raw qcow2
"""convert --max-memory: what a memory cgroup of its own counts, buffers, page
cache and all, stays near the limit. Needs root and a memory controller."""
import itertools
import os
import shutil
import subprocess
import tempfile
import time

import iotests
from iotests import tools

MIB = 1 << 20
SIZE = 192 * MIB
LIMIT = 16 * MIB
# The program itself, tables, and what the kernel keeps for open files.
PROGRAM = 40 * MIB


class Cgroup:
    """A memory cgroup, v1 or v2."""
    numbers = itertools.count()

    def __init__(self, test):
        name = f'qemu-img-test-{os.getpid()}-{next(self.numbers)}'
        if os.path.isdir('/sys/fs/cgroup/memory'):
            self.dir = f'/sys/fs/cgroup/memory/{name}'
            self.peak_file = 'memory.max_usage_in_bytes'
            self.limit_file = 'memory.limit_in_bytes'
        elif os.path.exists('/sys/fs/cgroup/cgroup.controllers'):
            self.dir = f'/sys/fs/cgroup/{name}'
            self.peak_file = 'memory.peak'
            self.limit_file = 'memory.max'
        else:
            test.skipTest('there is no cgroup file system')
        if os.geteuid():
            test.skipTest('needs root')
        os.mkdir(self.dir)
        test.addCleanup(os.rmdir, self.dir)
        if not os.path.exists(f'{self.dir}/{self.peak_file}'):
            test.skipTest('the kernel does not count memory in cgroups')

    def limit(self, size):
        with open(f'{self.dir}/{self.limit_file}', 'w', encoding='ascii') as f:
            f.write(str(size))

    def enter(self):
        with open(f'{self.dir}/cgroup.procs', 'w', encoding='ascii') as f:
            f.write(str(os.getpid()))

    def peak(self):
        with open(f'{self.dir}/{self.peak_file}', encoding='ascii') as f:
            return int(f.read())


def is_on_disk(path):
    """A file system in memory is all page cache, which nobody can drop."""
    kind = subprocess.run(['stat', '-f', '-c', '%T', path], check=True,
                          capture_output=True, text=True).stdout.strip()
    return kind not in ('tmpfs', 'ramfs')


class MaxMemory(iotests.TestCase):
    def setUp(self):
        super().setUp()
        if not is_on_disk(self.dir):
            place = next(filter(is_on_disk, ['/var/tmp', os.path.dirname(
                tools.qemu_img())]), None)
            if not place:
                self.skipTest('all file systems are in memory')
            self.dir = tempfile.mkdtemp(prefix='iotest-', dir=place)
            self.addCleanup(shutil.rmtree, self.dir)
        block = self.rng().randbytes(MIB)
        with open(self.path('raw'), 'wb') as f:
            for i in range(SIZE // MIB):
                f.write(block[i:] + block[:i])
            f.flush()
            os.fsync(f.fileno())
            os.posix_fadvise(f.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)

    def peak(self, *args):
        group = Cgroup(self)
        done = subprocess.run(
            [tools.qemu_img(), 'convert', '-f', 'raw', '-O', self.fmt, *args,
             'raw', 'out'], cwd=self.dir, preexec_fn=group.enter, check=False,
            capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stderr)
        peak = group.peak()
        self.assert_same('raw', 'out', a_fmt='raw')
        return peak

    def test_limit(self):
        self.assertLess(self.peak('--max-memory', str(LIMIT)), LIMIT + PROGRAM)

    def test_without_limit_it_is_more(self):
        self.assertGreater(self.peak(), 2 * (LIMIT + PROGRAM))

    def seconds(self, *args, **kwargs):
        """Until all is on disk."""
        start = time.monotonic()
        done = subprocess.run(
            [tools.qemu_img(), 'convert', '-f', 'raw', '-O', self.fmt, *args,
             'large', 'out'], cwd=self.dir, check=False, capture_output=True,
            text=True, **kwargs)
        self.assertEqual(done.returncode, 0, done.stderr)
        with open(self.path('out'), 'rb') as f:
            os.fsync(f.fileno())
        return time.monotonic() - start

    if iotests.LONG:
        def test_large_in_a_small_cgroup(self):
            """200 GiB, 8 GiB of it data, where the kernel allows 128 MiB."""
            block = self.rng().randbytes(MIB)
            with open(self.path('large'), 'wb') as f:
                for i in range(8192):
                    f.seek(i * 25 * MIB)
                    f.write(block[i:] + block[:i])
                f.truncate(8192 * 25 * MIB)
                f.flush()
                os.fsync(f.fileno())
            direct = self.seconds('-t', 'none', '-T', 'none')
            for mode in ((), ('-t', 'none', '-T', 'none')):
                os.unlink(self.path('out'))
                group = Cgroup(self)
                group.limit(128 * MIB)
                bounded = self.seconds('--max-memory', '64M', *mode,
                                       preexec_fn=group.enter)
                print(f'# {direct:.1f} s without limit, -t none -T none; '
                      f'{bounded:.1f} s in 128 MiB {" ".join(mode)}: speeds '
                      f'are as {direct / bounded:.2f} to 1, peak '
                      f'{group.peak() / MIB:.0f} MiB')
                self.assertLessEqual(group.peak(), 128 * MIB)
                self.assert_same('large', 'out', a_fmt='raw')

    def test_too_little(self):
        self.img_fails('memory limit', 'convert', '--max-memory', '1k', 'raw',
                       'out')
        self.img_fails('too little', 'convert', '--max-memory', '3M', '-O',
                       'qcow2', '-o', 'cluster_size=2M', '-f', 'raw', 'raw',
                       'out')

    def test_least(self):
        self.img('convert', '--max-memory', '1M', '-f', 'raw', '-O', self.fmt,
                 'raw', 'out')
        self.assert_same('raw', 'out', a_fmt='raw')


if __name__ == '__main__':
    iotests.main()
