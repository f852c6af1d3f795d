#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# group: rw quick
# formats: qcow2
"""qemu-img bitmap: what it does, what it refuses, and that a call that fails
has changed nothing."""
import iotests
from iotests.qcow2_bitmaps import AUTO, bitmaps

K, M = 1 << 10, 1 << 20


class BitmapCommand(iotests.TestCase):
    def setUp(self):
        super().setUp()
        self.create('a', '64M')

    def bitmap(self, *args):
        self.img('bitmap', *args)
        self.assert_clean('a')
        return bitmaps(self.path('a'))

    def refused(self, message, *args):
        """Nothing at all has changed."""
        before = self.read_file('a')
        self.img_fails(message, 'bitmap', *args)
        self.assertEqual(self.read_file('a'), before)

    def test_life(self):
        b = self.bitmap('--add', 'a', 'x')['x']
        self.assertEqual((b.flags, b.granularity, b.dirty), (AUTO, 64 * K, []))
        self.io('a', 'write 1M 64k', 'read 3M 1M')
        b = bitmaps(self.path('a'))['x']
        self.assertEqual(b.dirty, [[M, M + 64 * K]])
        self.assertEqual(self.bitmap('--disable', 'a', 'x')['x'].flags, 0)
        self.io('a', 'write 2M 64k')
        self.assertEqual(bitmaps(self.path('a'))['x'].dirty, b.dirty)
        self.assertEqual(self.bitmap('--enable', 'a', 'x')['x'].flags, AUTO)
        self.assertEqual(self.bitmap('--clear', 'a', 'x')['x'].dirty, [])
        self.assertEqual(self.bitmap('--remove', 'a', 'x'), {})

    def test_granularity(self):
        for g, n in (('512', 512), ('4k', 4 * K), ('2G', 1 << 31)):
            b = self.bitmap('--add', '-g', g, 'a', 'g' + g)['g' + g]
            self.assertEqual(b.granularity, n)
        for bad in ('1000', '256', '1'):
            self.refused('Granularity must be power of 2 and at least 512',
                         '--add', '-g', bad, 'a', 'x')
        self.refused('Granularity must be power of 2', '--add', '-g', '4G',
                     'a', 'x')

    def test_default_granularity(self):
        for cluster, expected in (('512', 4096), ('8k', 8192), ('2M', 65536)):
            self.create('b', '-o', f'cluster_size={cluster}', '1M')
            self.img('bitmap', '--add', 'b', 'x')
            self.assertEqual(bitmaps(self.path('b'))['x'].granularity,
                             expected)

    def test_order_of_actions(self):
        self.bitmap('--add', 'a', 'x')
        self.io('a', 'write 0 64k')
        self.assertEqual(self.bitmap('--add', '--merge', 'x', '--disable', 'a',
                                     'y')['y'].dirty, [[0, 64 * K]])
        b = self.bitmap('--remove', '--add', '-g', '4k', '--disable', 'a',
                        'x')['x']
        self.assertEqual((b.flags, b.granularity, b.dirty), (0, 4 * K, []))
        b = self.bitmap('--clear', '--merge', 'y', '--enable', 'a', 'x')['x']
        self.assertEqual((b.flags, b.dirty), (AUTO, [[0, 64 * K]]))

    def test_all_or_nothing(self):
        self.bitmap('--add', 'a', 'x')
        self.io('a', 'write 0 64k')
        self.refused("Operation merge on bitmap new failed: Dirty bitmap "
                     "'nope' not found", '--add', '--merge', 'nope', 'a',
                     'new')
        self.refused("Operation merge on bitmap x failed", '--clear',
                     '--disable', '--merge', 'nope', 'a', 'x')
        self.refused("Operation clear on bitmap x failed", '--remove',
                     '--clear', 'a', 'x')
        self.refused("Operation add on bitmap x failed: Bitmap already exists",
                     '--clear', '--add', 'a', 'x')
        self.assertEqual(bitmaps(self.path('a'))['x'].dirty, [[0, 64 * K]])

    def test_refused(self):
        self.bitmap('--add', 'a', 'x')
        for message, *args in (
                ('Need at least one of --add', 'a', 'x'),
                ('Expecting filename and bitmap name', '--add', 'a'),
                ('-F only supported with -b', '--merge', 'x', '-F', 'raw', 'a',
                 'x'),
                ('source file only supported with --merge', '--add', '-b', 'a',
                 'a', 'y'),
                ('granularity only supported with --add', '--clear', '-g',
                 '4k', 'a', 'x'),
                ('Bitmap name cannot be empty', '--add', 'a', ''),
                ('Bitmap name too long|Name length', '--add', 'a', 'x' * 1024),
                ("Dirty bitmap 'y' not found", '--remove', 'a', 'y'),
                ('mutually exclusive', '--add', '--image-opts', '-f', 'qcow2',
                 'a', 'y')):
            with self.subTest(args):
                self.refused(message, *args)
        self.bitmap('--add', 'a', 'x' * 1023)

    def test_other_images(self):
        self.img('create', '-q', '-f', 'raw', 'r', '1M')
        self.img_fails("Can't store persistent bitmaps to .*not supported",
                       'bitmap', '--add', '-f', 'raw', 'r', 'x')
        self.create('v2', '-o', 'compat=0.10', '1M')
        self.img_fails('Cannot store dirty bitmaps in qcow2 v2 files',
                       'bitmap', '--add', 'v2', 'x')
        self.create('big', '-o', 'cluster_size=2M', '1P')
        self.img_fails('Too much space', 'bitmap', '--add', '-g', '512', 'big',
                       'x')

    def test_merge_from_another_image(self):
        self.create('b', '64M')
        self.img('bitmap', '--add', '-g', '4k', 'b', 'src')
        self.io('b', 'write 5M 4k')
        self.bitmap('--add', 'a', 'x')
        b = self.bitmap('--merge', 'src', '-b', 'b', '-F', 'qcow2', 'a',
                        'x')['x']
        self.assertEqual(b.dirty, [[5 * M, 5 * M + 64 * K]])
        self.create('c', '32M')
        self.img('bitmap', '--add', 'c', 'src')
        self.refused('Bitmaps are of different sizes', '--merge', 'src', '-b',
                     'c', 'a', 'x')

    def test_without_the_backing_file(self):
        self.img('create', '-q', '-u', '-f', 'qcow2', '-b', 'none', '-F',
                 'raw', 'top', '1M')
        self.img('bitmap', '--add', 'top', 'x')
        self.img('bitmap', '--image-opts', '--add',
                 'driver=qcow2,file.filename=top', 'y')
        self.assertEqual(list(bitmaps(self.path('top'))), ['x', 'y'])

    def test_remove_all(self):
        for name in 'xyz':
            self.bitmap('--add', 'a', name)
        self.assertEqual(self.bitmap('--remove-all', 'a'), {})
        self.assertNotIn('bitmaps', self.img('info', 'a').stdout)
        self.bitmap('--add', 'a', 'x')
        self.assertEqual(list(self.bitmap('--remove-all', '--add', 'a',
                                          'y')), ['y'])

    def test_many(self):
        for i in range(60):
            self.img('bitmap', '--add', 'a', f'bitmap-{i}-' + 'n' * i * 10)
        self.io('a', 'write 0 1M')
        found = bitmaps(self.path('a'))
        self.assertEqual(len(found), 60)
        for b in found.values():
            self.assertEqual(b.dirty, [[0, M]])
        self.assert_clean('a')

    def test_read_only_reopen(self):
        """What was recorded is stored when the node becomes read-only."""
        self.bitmap('--add', 'a', 'x')
        p = self.io_process('-f', 'qcow2', 'a')
        p.cmd('write 0 64k')
        self.assertTrue(bitmaps(self.path('a'))['x'].flags & 1)
        p.cmd('reopen -r')
        b = bitmaps(self.path('a'))['x']
        self.assertEqual((b.flags, b.dirty), (AUTO, [[0, 64 * K]]))
        p.cmd('reopen -w')
        self.assertEqual(bitmaps(self.path('a'))['x'].flags, AUTO)
        p.cmd('write 1M 64k')
        self.assertTrue(bitmaps(self.path('a'))['x'].flags & 1)
        p.quit()
        self.assertEqual(len(bitmaps(self.path('a'))['x'].dirty), 2)
        self.assert_clean('a')

    def test_nothing_written(self):
        """Opening for writing alone changes nothing."""
        self.bitmap('--add', 'a', 'x')
        before = self.read_file('a')
        self.io('a', 'read 0 64k', 'flush')
        self.assertEqual(self.read_file('a'), before)


if __name__ == '__main__':
    iotests.main()
