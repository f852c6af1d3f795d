#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# group: quick convert file
# formats: raw
"""What depends on the file system below: finding holes in each way, and copies
that the kernel makes. On tmpfs, and as root on ext4, xfs and btrfs in loop
devices."""
import fcntl
import os
import shutil
import struct
import subprocess

import iotests

MIB = 1 << 20
BLOCK = 65536
FS_IOC_FIEMAP = 0xc020660b
SHARED = 0x2000


def shared_bytes(path):
    """How much of a file's data is in blocks of other files, too."""
    with open(path, 'rb') as f:
        os.fsync(f.fileno())
        n = 4096
        header = struct.pack('=QQLLLL', 0, (1 << 64) - 1, 1, 0, n, 0)
        buf = bytearray(header + bytes(n * 56))
        fcntl.ioctl(f.fileno(), FS_IOC_FIEMAP, buf)
    mapped = struct.unpack_from('=L', buf, 20)[0]
    total = 0
    for i in range(mapped):
        length, = struct.unpack_from('=Q', buf, 32 + i * 56 + 16)
        flags, = struct.unpack_from('=L', buf, 32 + i * 56 + 40)
        total += length if flags & SHARED else 0
    return total


class OnFileSystem:
    """mount() makes the file system at self.fs."""
    def setUp(self):
        super().setUp()
        self.fs = self.path('fs')
        os.mkdir(self.fs)
        self.mount()

    def run_mount(self, *args):
        if not shutil.which(args[0]):
            self.skipTest(f'there is no {args[0]}')
        done = subprocess.run(args, check=False, capture_output=True, text=True)
        if done.returncode:
            self.skipTest(f'{args[0]}: {done.stderr.strip()}')

    # --- holes ---

    def make_fragments(self, n=300):
        """Every second block is data, some of it not on disk yet; and in front
        of the end a preallocated block, which reads as zeroes."""
        with open(f'{self.fs}/a', 'wb') as f:
            f.truncate((2 * n + 4) * BLOCK)
            for i in range(n):
                f.seek((2 * i + 1) * BLOCK)
                f.write(bytes([i % 255 + 1]) * BLOCK)
                if i == n // 2:
                    f.flush()
                    os.fsync(f.fileno())
            f.flush()
            try:
                os.posix_fallocate(f.fileno(), (2 * n + 2) * BLOCK, BLOCK)
            except OSError:
                pass

    def data(self, mode):
        found = self.img_json('map', '--image-opts', 'driver=raw,file.filename='
                              f'fs/a,file.extents={mode}')
        return [(e['start'], e['length']) for e in found if not e['zero']]

    def test_every_way_finds_the_data(self):
        n = 300
        self.make_fragments(n)
        want = [((2 * i + 1) * BLOCK, BLOCK) for i in range(n)]
        for mode in ('seek', 'fiemap', 'auto'):
            found = self.data(mode)
            self.assertEqual([e for e in found if e[0] < 2 * n * BLOCK], want,
                             mode)
        self.assertEqual(self.data('off'), [(0, (2 * n + 4) * BLOCK)])

    def test_convert_in_every_way(self):
        self.make_fragments()
        for mode in ('seek', 'fiemap', 'auto', 'off'):
            self.img('convert', '--image-opts', '-O', 'raw',
                     f'driver=raw,file.filename=fs/a,file.extents={mode}',
                     'out')
            self.assert_same('fs/a', 'out')

    # --- offload ---

    def offload(self, source, fmt, *args):
        self.img('convert', '-C', '-f', fmt, '-O', 'raw', *args, source,
                 'fs/out')
        self.assert_same(source, 'fs/out', a_fmt=fmt)
        return shared_bytes(f'{self.fs}/out') if self.SHARES else 0

    def test_raw_to_raw(self):
        self.write_file('fs/a', self.rng().randbytes(8 * MIB))
        self.assertEqual(self.offload('fs/a', 'raw'), self.SHARES * 8 * MIB)

    def test_qcow2_to_raw(self):
        self.write_file('raw', self.rng().randbytes(8 * MIB))
        self.img('convert', '-f', 'raw', '-O', 'qcow2', 'raw', 'fs/a')
        self.assertEqual(self.offload('fs/a', 'qcow2'), self.SHARES * 8 * MIB)

    def test_qcow2_chain_to_raw(self):
        """Zero clusters, a short backing file, compressed clusters."""
        self.write_file('raw', self.rng().randbytes(8 * MIB))
        self.img('convert', '-f', 'raw', '-O', 'qcow2', 'raw', 'fs/base')
        self.img('create', '-q', '-f', 'qcow2', '-b', 'base', '-F', 'qcow2',
                 'fs/a', '12M')
        self.io('fs/a', 'write -z 1M 1M', 'write -P 5 3M 192k',
                'write -P 6 9M 64k', fmt='qcow2')
        shared = self.offload('fs/a', 'qcow2')
        if self.SHARES:
            self.assertGreater(shared, 6 * MIB)
        self.io('fs/a', 'write -c -P 7 6M 64k', fmt='qcow2')
        self.offload('fs/a', 'qcow2')


class Tmpfs(OnFileSystem, iotests.TestCase):
    SHARES = 0

    def mount(self):
        if os.geteuid():
            self.skipTest('needs root')
        self.run_mount('mount', '-t', 'tmpfs', 'none', self.fs)
        self.addCleanup(subprocess.run, ['umount', '-l', self.fs], check=False)


class Loop(OnFileSystem):
    def mount(self):
        if os.geteuid():
            self.skipTest('needs root')
        disk = self.path('disk')
        with open(disk, 'wb') as f:
            f.truncate(self.DISK)
        self.run_mount(*self.MKFS, disk)
        self.run_mount('mount', '-o', 'loop', disk, self.fs)
        self.addCleanup(subprocess.run, ['umount', '-l', self.fs], check=False)


class Ext4(Loop, iotests.TestCase):
    MKFS = ('mkfs.ext4', '-q')
    DISK = 160 * MIB
    SHARES = 0


class Xfs(Loop, iotests.TestCase):
    MKFS = ('mkfs.xfs', '-q')
    DISK = 400 * MIB
    SHARES = 1


class Btrfs(Loop, iotests.TestCase):
    MKFS = ('mkfs.btrfs', '-q')
    DISK = 400 * MIB
    SHARES = 1


if __name__ == '__main__':
    iotests.main()
