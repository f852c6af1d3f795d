#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# group: rw quick
# formats: qcow2
"""Stored bitmaps that one side writes are used by the other."""
import iotests
from iotests.qcow2_bitmaps import AUTO, IN_USE, Bitmaps, bitmaps

M = 1 << 20


class Side:
    """One of the two sets of programs."""

    def __init__(self, img, io):
        self.img = img
        self.io = lambda image, *commands: io(image, *commands, fmt='qcow2')


class BothWays(iotests.TestCase):
    def setUp(self):
        super().setUp()
        self.need_reference()
        self.ours = Side(self.img, self.io)
        self.theirs = Side(self.ref, self.ref_io)

    def make(self, side, opts, size='16M'):
        side.img('create', '-q', '-f', 'qcow2', '-o', opts, 'a', size)
        side.img('bitmap', '--add', '-g', '4k', 'a', 'on')
        side.img('bitmap', '--add', '--disable', 'a', 'off')

    def pair(self, writer, reader, opts):
        """One records, the other reads, records on and merges."""
        self.make(writer, opts)
        writer.io('a', 'write -P 1 1M 64k', 'write -z 5M 8k', 'discard 7M 1M',
                  'write -P 2 16376k 4k')
        expected = [[M, M + 65536], [5 * M, 5 * M + 8192], [7 * M, 8 * M],
                    [16376 << 10, 16380 << 10]]
        found = bitmaps(self.path('a'))
        self.assertEqual(found['on'].dirty, expected)
        self.assertEqual(found['off'].dirty, [])
        self.assertEqual([found['on'].flags, found['off'].flags], [AUTO, 0])

        reader.io('a', 'write -P 3 2M 4k')
        expected.insert(1, [2 * M, 2 * M + 4096])
        self.assertEqual(bitmaps(self.path('a'))['on'].dirty, expected)

        reader.img('bitmap', '--add', '-g', '4k', 'a', 'copy')
        reader.img('bitmap', '--disable', '--merge', 'on', 'a', 'copy')
        found = bitmaps(self.path('a'))
        self.assertEqual(found['copy'].dirty, expected)
        self.assertEqual(found['copy'].flags, 0)
        writer.img('bitmap', '--clear', 'a', 'on')
        writer.img('bitmap', '--remove', 'a', 'off')
        found = bitmaps(self.path('a'))
        self.assertEqual(found['on'].dirty, [])
        self.assertEqual(sorted(found), ['copy', 'on'])
        self.img('check', '-f', 'qcow2', 'a')
        self.ref('check', '-f', 'qcow2', 'a')

    def test_pairs(self):
        for opts in ('cluster_size=64k', 'cluster_size=512', 'cluster_size=2M',
                     'refcount_bits=1,cluster_size=4k', 'lazy_refcounts=on',
                     'compression_type=zstd'):
            for w, r in ((self.ours, self.theirs), (self.theirs, self.ours),
                         (self.ours, self.ours)):
                with self.subTest(opts, ours=w is self.ours):
                    self.pair(w, r, opts)

    def test_all_dirty(self):
        """Ours stores no data for what is set all over."""
        self.make(self.ours, 'cluster_size=512', '9M')
        self.ours.io('a', 'write -z 0 9M')
        self.theirs.img('bitmap', '--merge', 'on', 'a', 'off')
        self.assertEqual(bitmaps(self.path('a'))['off'].dirty, [[0, 9 * M]])
        self.theirs.img('bitmap', '--add', '-g', '512', 'a', 'third')
        self.theirs.img('bitmap', '--merge', 'off', 'a', 'third')
        self.ours.img('bitmap', '--clear', '--merge', 'third', 'a', 'on')
        self.assertEqual(bitmaps(self.path('a'))['on'].dirty, [[0, 9 * M]])
        self.ref('check', '-f', 'qcow2', 'a')

    def test_other_sizes(self):
        for size in ('512', '3584', '1M', '100G', '2199023256064'):
            with self.subTest(size):
                self.ours.img('create', '-q', '-f', 'qcow2', 'b', size)
                self.ours.img('bitmap', '--add', 'b', 'x')
                self.ours.io('b', 'write -P 1 0 512')
                self.theirs.img('bitmap', '--add', 'b', 'y')
                self.theirs.img('bitmap', '--merge', 'x', 'b', 'y')
                self.ours.img('bitmap', '--merge', 'y', '--remove', 'b', 'y')
                self.ref('check', '-f', 'qcow2', 'b')
                self.assertEqual(list(bitmaps(self.path('b'))), ['x'])

    def test_killed(self):
        """Whoever dies, the other finds the bitmap inconsistent; those that
        were not in use only we keep."""
        for program, clean in ((None, ['off']),
                               (iotests.ref_io(), [])):
            with self.subTest(program):
                self.make(self.ours, 'cluster_size=64k')
                p = self.io_process('-f', 'qcow2', 'a', program=program)
                p.cmd('write -P 1 0 64k')
                p.kill()
                found = bitmaps(self.path('a'))
                self.assertEqual([n for n in found
                                  if not found[n].flags & IN_USE], clean)
                for side in (self.ours, self.theirs):
                    r = side.img('bitmap', '--clear', 'a', 'on', rc=1)
                    self.assertIn("Bitmap 'on' is inconsistent and cannot be "
                                  "used", r.stderr)
                self.theirs.img('bitmap', '--remove', 'a', 'on')
                self.ours.img('bitmap', '--remove', 'a', 'off')
                self.ref('check', '-f', 'qcow2', 'a')

    def test_foreign_writer(self):
        """Theirs drops void bitmaps; ours keeps them, as what they are."""
        self.make(self.theirs, 'cluster_size=64k')
        with Bitmaps(self.path('a')) as b:
            b.clear_autoclear()
        self.ours.io('a', 'write -P 1 0 64k')
        with Bitmaps(self.path('a')) as b:
            self.assertEqual((b.valid, b.count), (False, 2))
        self.ours.img('bitmap', '--add', 'a', 'new')
        found = bitmaps(self.path('a'))
        self.assertEqual([found[n].flags for n in ('on', 'off', 'new')],
                         [IN_USE | AUTO, IN_USE, AUTO])
        self.theirs.io('a', 'write -P 1 1M 64k')
        self.assertEqual(bitmaps(self.path('a'))['new'].dirty,
                         [[M, M + 65536]])
        self.ours.img('check', '-r', 'leaks', 'a')
        self.ref('check', '-f', 'qcow2', 'a')

    def test_resize(self):
        for side, other in ((self.ours, self.theirs),
                            (self.theirs, self.ours)):
            self.make(side, 'cluster_size=64k')
            side.io('a', 'write 1M 64k', 'write 15M 64k')
            side.img('resize', '-q', 'a', '40G')
            other.io('a', 'write 39G 64k')
            other.img('resize', '-q', '--shrink', 'a', '4M')
            side.io('a', 'write 3M 4k')
            found = bitmaps(self.path('a'))
            self.assertEqual(found['on'].dirty, [[M, M + 65536],
                                                 [3 * M, 3 * M + 4096]])
            self.assertEqual(found['off'].flags, 0)
            self.ref('check', '-f', 'qcow2', 'a')
            self.img('check', '-f', 'qcow2', 'a')

    def test_convert(self):
        for side, other in ((self.ours, self.theirs),
                            (self.theirs, self.ours)):
            self.make(other, 'cluster_size=64k')
            other.io('a', 'write 1M 64k')
            side.img('convert', '--bitmaps', '-O', 'qcow2', '-o',
                     'cluster_size=4k', 'a', 'b')
            a, b = bitmaps(self.path('a')), bitmaps(self.path('b'))
            self.assertEqual(sorted(a), sorted(b))
            for name in a:
                self.assertEqual(a[name][:4], b[name][:4])
            other.io('b', 'write 2M 4k')
            self.assertEqual(len(bitmaps(self.path('b'))['on'].dirty), 2)
            self.ref('check', '-f', 'qcow2', 'b')


if __name__ == '__main__':
    iotests.main()
