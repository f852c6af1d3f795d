#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# group: quick
# formats: raw qcow2
"""resize: both ways, relative and absolute; data stays, the new part is 0."""
import itertools

import iotests


class Resize(iotests.TestCase):
    def setUp(self):
        super().setUp()
        self.create('a', '1M')
        self.io('a', 'write -P 7 0 1M')

    def resize(self, *args, **kwargs):
        return self.img('resize', '-f', self.fmt, *args, **kwargs)

    def length(self):
        return self.img_json('info', '-f', self.fmt, 'a')['virtual-size']

    def test_grow(self):
        self.assertEqual(self.resize('a', '3M').stdout, 'Image resized.\n')
        self.assert_content('a', b'\7' * (1 << 20) + bytes(2 << 20))
        self.assert_clean('a')

    def test_relative(self):
        self.resize('a', '+512k')
        self.assertEqual(self.length(), 3 << 19)
        self.resize('--shrink', 'a', '-1M')
        self.assertEqual(self.length(), 1 << 19)
        self.assert_content('a', b'\7' * (1 << 19))
        self.assert_clean('a')

    def test_shrink_is_asked_for(self):
        result = self.resize('a', '512k', rc=1)
        self.assertIn('--shrink', result.stderr)
        self.assert_content('a', b'\7' * (1 << 20))

    def test_shrink_then_grow_reads_zero(self):
        self.resize('--shrink', 'a', '100352')
        self.resize('a', '1M')
        self.assert_content('a', b'\7' * 100352 + bytes((1 << 20) - 100352))
        self.assert_clean('a')

    def test_grow_by_metadata_of_several_tables(self):
        if self.fmt != 'qcow2':
            return
        self.img('create', '-q', '-f', 'qcow2', '-o', 'cluster_size=512',
                 'a', '64k')
        self.io('a', 'write -P 3 0 64k')
        self.resize('a', '32M')
        self.io('a', 'write -P 4 31M 1M', 'read -P 3 0 64k',
                'read -P 0 64k 30M', 'read -P 4 31M 1M')
        self.assert_clean('a')

    def test_growing_above_a_backing_file_hides_its_tail(self):
        if self.fmt != 'qcow2':
            return
        self.write_file('base', b'\1' * (1 << 20))
        self.img('create', '-q', '-f', 'qcow2', '-b', 'base', '-F', 'raw',
                 'top', '512k')
        self.resize('top', '1M')
        self.assert_content('top', b'\1' * (1 << 19) + bytes(1 << 19))
        self.assert_clean('top')

    def test_preallocation(self):
        modes = ['falloc', 'full'] + ['metadata'] * (self.fmt == 'qcow2')
        for mode in modes:
            with self.subTest(mode):
                self.create('p', '1M')
                self.resize(f'--preallocation={mode}', 'p', '4M')
                self.assert_clean('p')
                info = self.img_json('info', '-f', self.fmt, 'p')
                self.assertEqual(info['virtual-size'], 4 << 20)
                if mode != 'metadata':
                    self.assertGreaterEqual(info['actual-size'], 3 << 20)

    def test_preallocation_over_backing_file(self):
        """The last cluster goes on showing what it did, and nothing new."""
        if self.fmt != 'qcow2':
            return
        for backing, mode, extended in itertools.product(
                (1001, 1020, 4096), ('metadata', 'falloc'), ('off', 'on')):
            with self.subTest(f'{backing}k {mode} {extended}'):
                self.write_file('base', b'\x44' * (backing << 10))
                self.create('a', '-o', f'extended_l2={extended}', '-b', 'base',
                            '-F', 'raw', '1001k')
                self.resize(f'--preallocation={mode}', 'a', '1500k')
                self.io('a', 'read -P 0x44 0 1001k', 'read -P 0 1001k 499k')
                self.assert_clean('a')

    def test_preallocation_only_for_growing(self):
        self.resize('--preallocation=full', '--shrink', 'a', '512k', rc=1)
        self.assertEqual(self.length(), 1 << 20)

    def test_bad_arguments(self):
        self.resize('a', rc=1)
        self.resize('a', 'x', rc=1)
        self.resize('--preallocation=nope', 'a', '2M', rc=1)
        self.resize('none', '2M', rc=1)
        self.resize('--shrink', 'a', '-2M', rc=1)
        self.assertEqual(self.length(), 1 << 20)

    def test_quiet(self):
        self.assertEqual(self.resize('-q', 'a', '2M').stdout, '')


if __name__ == '__main__':
    iotests.main()
