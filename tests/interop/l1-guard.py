#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# group: quick
# formats: qcow2
"""Programs that do not know the L1 guard write the image by every path that
they have: afterwards we read what they wrote, the guard is right or off, and
nobody finds a leak. What they leave of the autoclear bit is told, not
assumed."""
import shutil

import iotests
from iotests.qcow2_bytes import Qcow2Bytes

BIT = 1 << 63
SIZE = '8M'


class L1Guard(iotests.TestCase):
    """Clusters of 1 KiB: an L2 table maps 128 KiB, and the L1 table has 64
    entries."""
    OPTS = 'cluster_size=1k,l1_guard=on'

    def make(self, name='a.qcow2', opts='', *, data=True):
        opts = self.OPTS + (',' + opts if opts else '')
        self.img('create', '-q', '-f', 'qcow2', '-o', opts, name, SIZE)
        if data:
            self.io(name, 'write -P 1 0 128k', 'write -P 2 1280k 32k',
                    'write -P 3 5M 8k', fmt='qcow2')
        self.assertEqual(self.state(name), 'on')
        return name

    def make_late(self):
        """The area is not what they take first: there is free space before
        it."""
        self.img('create', '-q', '-f', 'qcow2', '-o', 'cluster_size=1k',
                 'a.qcow2', SIZE)
        self.io('a.qcow2', 'write -P 4 0 512k', 'write -P 1 512k 128k',
                'write -P 2 1280k 32k', 'write -P 3 5M 8k', fmt='qcow2')
        self.img('amend', '-f', 'qcow2', '-o', 'l1_guard=on', 'a.qcow2')
        self.io('a.qcow2', 'discard 0 512k', 'write -P 6 1280k 1k', fmt='qcow2',
                options=['-d', 'unmap'])
        return 'a.qcow2'

    def state(self, name):
        info = self.img_json('info', '-f', 'qcow2', name)
        return info['format-specific']['data'].get('l1-guard')

    def bit(self, name):
        with Qcow2Bytes(self.path(name)) as image:
            return bool(image.u64(88) & BIT)

    def theirs(self, name):
        self.ref('convert', '-f', 'qcow2', '-O', 'raw', name, 'theirs.raw')
        return self.read_file('theirs.raw')

    def ours(self, name):
        self.img('convert', '-f', 'qcow2', '-O', 'raw', name, 'ours.raw')
        return self.read_file('ours.raw')

    def judge(self, name, states=(None,)):
        """After they wrote: same data, no fault, and it can be written."""
        expected = self.theirs(name)
        self.ref('check', '-f', 'qcow2', name)
        self.assertEqual(self.ours(name), expected)
        self.assertIn(self.state(name), states)
        self.img('check', '-f', 'qcow2', name)
        self.io(name, 'write -P 9 6400k 512k', fmt='qcow2')
        self.assertIn(self.state(name), (None, 'on'))
        expected = bytearray(expected)
        expected[6400 << 10:6912 << 10] = b'\x09' * (512 << 10)
        self.assertEqual(self.theirs(name), bytes(expected))
        self.ref('check', '-f', 'qcow2', name)
        self.img('check', '-f', 'qcow2', name)

    # --- paths that open for writing, and clear the bit ---

    def test_nothing(self):
        """They only read it."""
        name = self.make()
        self.theirs(name)
        self.ref('check', '-f', 'qcow2', name)
        self.ref('info', name)
        self.assertTrue(self.bit(name))
        self.judge(name, ('on',))

    def test_write(self):
        name = self.make()
        self.ref_io(name, 'write -P 5 2560k 128k', 'write -P 6 0 64k',
                    fmt='qcow2')
        self.assertFalse(self.bit(name))
        self.judge(name)

    def test_snapshot(self):
        name = self.make()
        self.ref('snapshot', '-c', 's', name)
        self.ref_io(name, 'write -P 5 0 128k', fmt='qcow2')
        self.judge(name)
        self.ref('snapshot', '-a', 's', name)
        self.judge(name)
        self.ref('snapshot', '-d', 's', name)
        self.judge(name)

    def test_resize(self):
        name = self.make()
        self.ref('resize', '-q', '-f', 'qcow2', name, '64M')
        self.ref_io(name, 'write -P 5 50M 128k', fmt='qcow2')
        self.ref('check', '-f', 'qcow2', name)
        self.assertIsNone(self.state(name))
        self.ref('resize', '-q', '-f', 'qcow2', '--shrink', name, SIZE)
        self.judge(name)

    def test_amend(self):
        for option in ('lazy_refcounts=on', 'refcount_bits=64',
                       'compat=0.10'):
            with self.subTest(option):
                name = self.make()
                self.ref('amend', '-f', 'qcow2', '-o', option, name)
                self.judge(name)

    def test_check_repair(self):
        """A leak for it to repair."""
        for what in ('all', 'leaks'):
            with self.subTest(what):
                name = self.make()
                with Qcow2Bytes(self.path(name)) as image:
                    free = image.l2(0, 127) & (1 << 56) - 1
                    image.set_l2(0, 127, 0)
                self.ref('check', '-f', 'qcow2', '-r', what, name, rc=None)
                self.assertNotEqual(free, 0)
                self.judge(name, (None, 'on'))

    def test_rebase(self):
        name = self.make()
        self.ref('create', '-q', '-f', 'qcow2', 'base', SIZE)
        self.ref('rebase', '-u', '-f', 'qcow2', '-b', 'base', '-F', 'qcow2',
                 name)
        self.judge(name)

    # --- read-only first, then writable: the bit stays ---

    def overlay(self, base, *commands, size=SIZE):
        self.ref('create', '-q', '-f', 'qcow2', '-b', base, '-F', 'qcow2',
                 'top', size)
        self.ref_io('top', *commands, fmt='qcow2')

    def test_commit(self):
        """New L2 tables, and none."""
        for make in (self.make, self.make_late):
            for commands in (['write -P 5 2560k 128k', 'write -P 6 7680k 8k'],
                             ['write -P 5 0 64k'], ['write -z 0 1M']):
                base = make()
                self.overlay(base, *commands)
                self.ref('commit', '-q', '-f', 'qcow2', 'top')
                self.judge(base, (None, 'void', 'outdated', 'on'))

    def test_commit_is_told(self):
        """What this test is for: L1 entries change under the bit."""
        base = self.make_late()
        self.overlay(base, 'write -P 5 2560k 128k')
        self.ref('commit', '-q', '-f', 'qcow2', 'top')
        if not self.bit(base):
            self.skipTest('this qemu-img clears the bit')
        result = self.img('info', '-f', 'qcow2', base)
        self.assertIn('l1 guard: outdated', result.stdout)
        self.assertIn('out of date', result.stderr)
        result = self.img('check', '-f', 'qcow2', '-r', 'all', base)
        self.assertIn('anew', result.stdout + result.stderr)
        self.assertEqual(self.state(base), 'on')
        self.judge(base, ('on',))

    def test_commit_grows(self):
        """The base gets as long as the overlay: another L1 table."""
        base = self.make()
        self.overlay(base, 'write -P 5 50M 1M', size='64M')
        self.ref('commit', '-q', '-f', 'qcow2', 'top')
        self.ref('check', '-f', 'qcow2', base)
        self.assertIn(self.state(base), (None, 'void'))
        self.img('check', '-f', 'qcow2', base)
        self.io(base, 'read -P 5 50M 1M', 'read -P 1 0 128k', fmt='qcow2')
        self.io(base, 'write -P 8 40M 64k', fmt='qcow2')
        self.assertIsNone(self.state(base))
        self.ref('check', '-f', 'qcow2', base)
        self.ref_io(base, 'read -P 5 50M 1M', 'read -P 8 40M 64k', fmt='qcow2')

    def test_commit_takes_the_area(self):
        """They allocate its clusters, which are free for them."""
        base = self.make(data=False)
        self.overlay(base, 'write -P 5 0 1M')
        self.ref('commit', '-q', '-f', 'qcow2', 'top')
        self.judge(base, (None, 'void', 'outdated'))

    def test_commit_twice(self):
        """What they wrote, then we, then they again."""
        base = self.make()
        for i, place in enumerate((2, 3, 4)):
            self.overlay(base, f'write -P {i + 20} {place}M 128k')
            self.ref('commit', '-q', '-f', 'qcow2', 'top')
            self.judge(base, (None, 'outdated', 'on', 'void'))
            self.img('amend', '-f', 'qcow2', '-o', 'l1_guard=on', base)
            self.assertEqual(self.state(base), 'on')

    def test_commit_with_snapshot(self):
        """L2 tables that a snapshot shares are copied."""
        base = self.make_late()
        self.img('snapshot', '-c', 's', base)
        self.assertEqual(self.state(base), 'on')
        self.overlay(base, 'write -P 5 0 64k', 'write -P 6 1536k 8k')
        self.ref('commit', '-q', '-f', 'qcow2', 'top')
        self.judge(base, (None, 'void', 'outdated', 'on'))

    def test_reopen(self):
        """qemu-io: read-only, then writable."""
        name = self.make_late()
        self.ref_io(name, 'read 0 64k', 'reopen -w', 'write -P 5 2560k 128k',
                    'write -P 6 0 64k', 'discard 1280k 32k', fmt='qcow2',
                    options=['-r'])
        self.judge(name, (None, 'outdated', 'on'))

    # --- ours again ---

    def test_old_extension(self):
        """With the bit clear the extension is nothing, and our next header
        does not have it."""
        name = self.make()
        self.ref_io(name, 'write -P 5 0 64k', fmt='qcow2')
        with Qcow2Bytes(self.path(name)) as image:
            self.assertEqual(image.u32(image.u32(100)), 0x4c314744)
            image.write(image.u32(100) + 8, b'\xff' * 8)
        self.assertIsNone(self.state(name))
        self.img('rebase', '-u', '-f', 'qcow2', '-b', '', name)
        with open(self.path(name), 'rb') as file:
            self.assertNotIn(b'L1GD', file.read(4096))
        self.judge(name)

    def test_convert(self):
        name = self.make()
        expected = self.theirs(name)
        self.img('convert', '-f', 'qcow2', '-O', 'qcow2', '-o', self.OPTS,
                 name, 'b.qcow2')
        self.assertEqual(self.state('b.qcow2'), 'on')
        self.assertEqual(self.theirs('b.qcow2'), expected)
        self.judge('b.qcow2', ('on',))

    def test_plan_and_undo(self):
        name = self.make()
        with Qcow2Bytes(self.path(name)) as image:
            l1 = image.u64(40)
            image.write(l1, b'\0' * 512)
        shutil.copy(self.path(name), self.path('damaged'))
        self.img('info', '-f', 'qcow2', name)
        self.assertEqual(self.state(name), 'mismatch')
        self.img('check', '-f', 'qcow2', name, rc=2)
        self.img('check', '-f', 'qcow2', '-r', 'all', '--plan', name,
                 rc=None)
        self.assertEqual(self.read_file(name), self.read_file('damaged'))
        self.img('check', '-f', 'qcow2', '-r', 'all', '--undo', 'undo', name)
        self.assertEqual(self.state(name), 'on')
        self.io(name, 'read -P 1 0 128k', 'read -P 2 1280k 32k',
                'read -P 3 5M 8k', fmt='qcow2')
        self.img('undo', 'undo', name)
        self.assertEqual(self.read_file(name), self.read_file('damaged'))
        self.img('check', '-f', 'qcow2', '-r', 'all', name)
        self.judge(name, ('on',))

    def test_refused(self):
        self.img('create', '-q', '-f', 'qcow2', '-o', 'compat=0.10,l1_guard=on',
                 'b', SIZE, rc=1)
        name = self.make()
        self.img('amend', '-f', 'qcow2', '-o', 'compat=0.10', name, rc=1)
        self.assertEqual(self.state(name), 'on')
        self.img('amend', '-f', 'qcow2', '-o', 'l1_guard=off', name)
        self.assertFalse(self.bit(name))
        self.img('amend', '-f', 'qcow2', '-o', 'compat=0.10', name)
        self.img('amend', '-f', 'qcow2', '-o', 'compat=1.1,l1_guard=on', name)
        self.judge(name, ('on',))
        self.img('amend', '-f', 'qcow2', '-o', 'compat=0.10,l1_guard=off',
                 name)
        self.ref('check', '-f', 'qcow2', name)


if __name__ == '__main__':
    iotests.main()
