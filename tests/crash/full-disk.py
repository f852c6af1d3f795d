#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# group: crash
# formats: qcow2
"""The file system is full: the program says so, the image checks without
corruption, what was flushed is there, and when there is space again work goes
on. On a small ext4 in a loop device and on a small tmpfs; both need root, or a
user namespace for the tmpfs."""
import os
import shutil
import subprocess
import sys

import iotests
from iotests import tools

MIB = 1 << 20
FULL = 'No space left on device'
IN_NAMESPACE = 'CRASH_TEST_IN_NAMESPACE'


def enter_namespace():
    """Not root: become it in a user namespace, if that may be."""
    if os.geteuid() == 0 or IN_NAMESPACE in os.environ:
        return
    command = ['unshare', '--map-root-user', '--mount']
    if shutil.which('unshare') and subprocess.run(
            command + ['true'], check=False, capture_output=True).returncode == 0:
        os.environ[IN_NAMESPACE] = '1'
        os.execvp('unshare', command + [sys.executable] + sys.argv)


class Full:
    """On the file system that mount() makes at self.full."""
    SIZE = 24 * MIB

    def setUp(self):
        super().setUp()
        self.full = self.path('full')
        os.mkdir(self.full)
        self.mount()
        self.addCleanup(subprocess.run, ['umount', '-l', self.full],
                        check=False)

    def run_mount(self, *args):
        done = subprocess.run(args, check=False, capture_output=True, text=True)
        if done.returncode:
            self.skipTest(f'{args[0]}: {done.stderr.strip()}')

    def fill(self, leave):
        """Other files take all but about leave bytes."""
        stat = os.statvfs(self.full)
        size = stat.f_bavail * stat.f_bsize - leave
        with open(f'{self.full}/other', 'wb') as f:
            os.posix_fallocate(f.fileno(), 0, size)

    def make_room(self):
        os.unlink(f'{self.full}/other')

    def assert_usable(self, image):
        result = self.img('check', '-f', 'qcow2', image, rc=None)
        self.assertIn(result.rc, (0, 3), result.describe())
        if tools.ref_img():
            result = self.ref('check', '-f', 'qcow2', image, rc=None)
            self.assertIn(result.rc, (0, 3), result.describe())

    def check_convert(self, *options, fails=True):
        self.write_file('source', self.rng().randbytes(16 * MIB))
        self.fill(6 * MIB)
        result = self.img_fails(FULL, 'convert', '-f', 'raw', '-O', 'qcow2',
                                *options, 'source', 'full/target')
        self.assertEqual(len(result.stderr.splitlines()), 1,
                         result.describe())
        if os.path.exists(f'{self.full}/target') and \
                self.read_file('full/target', 0, 4) == b'QFI\xfb':
            self.assert_usable('full/target')
        self.make_room()
        self.img('convert', '-f', 'raw', '-O', 'qcow2', *options, 'source',
                 'full/target')
        self.assert_same('source', 'full/target', a_fmt='raw', b_fmt='qcow2')

    def test_convert(self):
        self.check_convert()

    def test_convert_out_of_order(self):
        self.check_convert('-W', '-m', '16')

    def test_convert_compressed(self):
        self.check_convert('-c')

    def test_convert_preallocated(self):
        self.check_convert('-o', 'preallocation=metadata')

    def test_create_preallocated(self):
        self.fill(6 * MIB)
        for mode in ('falloc', 'full'):
            self.img_fails(FULL, 'create', '-q', '-f', 'qcow2', '-o',
                           f'preallocation={mode}', 'full/new', '16M')
        self.make_room()
        self.img('create', '-q', '-f', 'qcow2', '-o', 'preallocation=full',
                 'full/new', '16M')
        self.assert_clean('full/new')

    def check_writes(self, *options):
        """Writes until the file system is full, and on."""
        self.img('create', '-q', '-f', 'qcow2', *options, 'full/a', '64M')
        self.fill(4 * MIB)
        qio = self.io_process('-f', 'qcow2', 'full/a')
        step = 128 * 1024
        good, failed = [], 0
        for i in range(80):
            # Apart, so that there are many tables.
            offset = i * 397 % 512 * step
            text = qio.cmd(f'write -P {i + 1} {offset} {step}')
            if 'wrote' in text:
                good.append((i + 1, offset))
            else:
                self.assertIn(FULL, text)
                failed += 1
        self.assertGreater(failed, 0)
        self.assertGreater(len(good), 0)
        flushed = FULL not in qio.cmd('flush')
        if flushed:
            self.verify(good, step)
        self.make_room()
        text = qio.cmd(f'write -P 200 {63 * MIB} {step}') + qio.cmd('flush')
        self.assertNotIn('failed', text)
        self.assertNotIn(FULL, text)
        self.assertEqual(qio.quit()[0], 1)  # commands failed in it
        self.verify(good + [(200, 63 * MIB)], step)
        self.assert_usable('full/a')
        self.img('check', '-q', '-r', 'leaks', '--orphans=free', '-f', 'qcow2',
                 'full/a')
        self.assert_clean('full/a')

    def verify(self, good, step):
        self.io('full/a', *(f'read -P {value} {offset} {step}'
                            for value, offset in good),
                options=['-r', '-U'])

    def test_writes(self):
        self.check_writes()

    def test_writes_small_clusters(self):
        self.check_writes('-o', 'cluster_size=4k,refcount_bits=64')

    def test_writes_lazy(self):
        self.check_writes('-o', 'lazy_refcounts=on')

    def test_resize(self):
        self.img('create', '-q', '-f', 'qcow2', 'full/a', '1M')
        self.io('full/a', 'write -P 9 0 1M')
        self.fill(2 * MIB)
        self.img_fails(FULL, 'resize', '-f', 'qcow2',
                       '--preallocation=full', 'full/a', '20M')
        self.assert_usable('full/a')
        self.io('full/a', 'read -P 9 0 1M')
        self.make_room()
        self.img('resize', '-q', '-f', 'qcow2', '--preallocation=full',
                 'full/a', '12M')
        self.io('full/a', 'read -P 9 0 1M', 'read -P 0 1M 11M')
        self.assert_usable('full/a')


class Ext4(Full, iotests.TestCase):
    def mount(self):
        if not shutil.which('mkfs.ext4'):
            self.skipTest('there is no mkfs.ext4')
        with open(self.path('disk'), 'wb') as f:
            f.truncate(self.SIZE + 8 * MIB)
        self.run_mount('mkfs.ext4', '-q', '-m', '0', self.path('disk'))
        self.run_mount('mount', '-o', 'loop', self.path('disk'), self.full)


class Tmpfs(Full, iotests.TestCase):
    def mount(self):
        self.run_mount('mount', '-t', 'tmpfs', '-o', f'size={self.SIZE}',
                       'tmpfs', self.full)


if __name__ == '__main__':
    enter_namespace()
    iotests.main()
