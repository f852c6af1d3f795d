#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# group: quick backing
# formats: qcow2
"""Chains of images: how a backing file is named, found, shown and refused."""
import os

import iotests


class BackingChain(iotests.TestCase):
    def overlay(self, name, backing, *args, fmt='qcow2'):
        self.img('create', '-q', '-f', 'qcow2', '-b', backing, '-F', fmt,
                 name, *args)

    def test_size_comes_from_the_backing_file(self):
        self.img('create', '-q', '-f', 'raw', 'base', '3M')
        self.overlay('top', 'base', fmt='raw')
        self.assertEqual(self.img_json('info', 'top')['virtual-size'], 3 << 20)

    def test_own_size_wins_and_the_rest_reads_zero(self):
        self.write_file('base', b'\x11' * 65536)
        self.overlay('top', 'base', '1M', fmt='raw')
        self.assert_content('top', b'\x11' * 65536 + bytes((1 << 20) - 65536))
        self.overlay('short', 'base', '16k', fmt='raw')
        self.assert_content('short', b'\x11' * 16384)

    def test_format_must_be_given(self):
        self.img('create', '-q', '-f', 'qcow2', 'base', '1M')
        self.img_fails('Backing file specified without backing format',
                       'create', '-f', 'qcow2', '-b', 'base', 'top')
        self.assertFalse(os.path.exists(self.path('top')))

    def test_missing_backing_file(self):
        self.img_fails('none', 'create', '-f', 'qcow2', '-b', 'none', '-F',
                       'raw', 'top')
        self.img('create', '-q', '-u', '-f', 'qcow2', '-b', 'none', '-F', 'raw',
                 'top', '1M')
        self.assertEqual(self.img_json('info', 'top')['backing-filename'],
                         'none')
        self.io_fails('Could not open backing file.*none', 'top', 'length')

    def test_unopened_backing_needs_a_size(self):
        self.img_fails('size', 'create', '-u', '-f', 'qcow2', '-b', 'none',
                       '-F', 'raw', 'top')

    def test_name_is_relative_to_the_image(self):
        os.makedirs(self.path('d/e'))
        self.write_file('d/base', b'\x22' * 65536)
        self.overlay('d/e/top', '../base', fmt='raw')
        info = self.img_json('info', 'd/e/top')
        self.assertEqual(info['backing-filename'], '../base')
        self.assertEqual(info['full-backing-filename'], 'd/e/../base')
        self.assertIn('backing file: ../base (actual path: d/e/../base)',
                      self.img('info', 'd/e/top').stdout)
        self.io('d/e/top', 'read -P 0x22 0 64k')
        # By an absolute path, and with the working directory elsewhere.
        self.io(self.path('d/e/top'), 'read -P 0x22 0 64k')

    def test_absolute_name(self):
        base = self.write_file('base', b'\x33' * 65536)
        os.makedirs(self.path('d'))
        self.overlay('d/top', base, fmt='raw')
        self.io('d/top', 'read -P 0x33 0 64k')
        self.assertEqual(self.img_json('info', 'd/top')['backing-filename'],
                         base)

    def test_info_of_the_whole_chain(self):
        self.img('create', '-q', '-f', 'raw', 'base', '1M')
        self.overlay('mid', 'base', fmt='raw')
        self.overlay('top', 'mid')
        chain = self.img_json('info', '--backing-chain', 'top')
        self.assertEqual([i['filename'] for i in chain], ['top', 'mid', 'base'])
        self.assertEqual([i['format'] for i in chain],
                         ['qcow2', 'qcow2', 'raw'])
        text = self.img('info', '--backing-chain', 'top').stdout
        blocks = [b for b in text.split('\n\n') if b.startswith('image: ')]
        self.assertEqual([b.split('\n')[0] for b in blocks],
                         ['image: top', 'image: mid', 'image: base'])

    def test_depth_of_the_data(self):
        self.write_file('base', b'\x44' * (192 << 10))
        self.overlay('mid', 'base', fmt='raw')
        self.overlay('top', 'mid')
        self.io('mid', 'write -P 1 64k 64k')
        self.io('top', 'write -P 2 128k 64k')
        ranges = self.img_json('map', 'top')
        self.assertEqual([(r['start'], r['length'], r['depth'])
                          for r in ranges],
                         [(0, 65536, 2), (65536, 65536, 1),
                          (131072, 65536, 0)])

    def test_loop_is_refused(self):
        self.img('create', '-q', '-f', 'qcow2', 'a', '1M')
        self.overlay('b', 'a')
        self.img('create', '-q', '-u', '-f', 'qcow2', '-b', 'b', '-F', 'qcow2',
                 'a', '1M')
        # Without the chain nothing is wrong with it.
        self.img('info', 'a')
        self.img_fails('infinite loop|loop', 'info', '--backing-chain', 'a')
        self.io_fails("can't open", 'a', 'length')
        self.img_fails('.', 'convert', '-U', 'a', 'out')

    def test_loop_to_itself_is_refused(self):
        self.img_fails('same filename', 'create', '-u', '-f', 'qcow2', '-b', 'a',
                       '-F', 'qcow2', 'a', '1M')
        self.img('create', '-q', '-u', '-f', 'qcow2', '-b', 'a', '-F', 'qcow2',
                 'b', '1M')
        os.rename(self.path('b'), self.path('a'))
        self.img_fails('infinite loop|loop', 'info', '--backing-chain', 'a')
        self.io_fails("can't open", 'a', 'length')

    def test_long_chain(self):
        self.write_file('0', b'\x55' * 65536)
        self.overlay('1', '0', fmt='raw')
        for i in range(2, 60):
            self.overlay(str(i), str(i - 1))
        self.io('59', 'read -P 0x55 0 64k', 'write -P 1 4k 4k',
                'read -P 0x55 8k 4k', 'read -P 1 4k 4k')
        self.io('58', 'read -P 0x55 0 64k')

    def test_backing_file_is_not_written(self):
        base = self.write_file('base', b'\x66' * 65536)
        self.overlay('top', 'base', fmt='raw')
        before = os.stat(base).st_mtime_ns
        self.io('top', 'write -P 1 0 4k', 'discard 4k 32k', 'write -z 40k 8k')
        self.assertEqual(self.read_file('base'), b'\x66' * 65536)
        self.assertEqual(os.stat(base).st_mtime_ns, before)

    def test_backing_replaced_by_options(self):
        self.write_file('base', b'\x01' * 65536)
        self.write_file('other', b'\x02' * 65536)
        self.overlay('top', 'base', fmt='raw')
        self.io('driver=qcow2,file.filename=top,backing.driver=raw,'
                'backing.file.filename=other', 'read -P 2 0 64k', fmt=None,
                options=['--image-opts'])
        self.io('json:{"driver":"qcow2","backing":null,'
                '"file":{"driver":"file","filename":"top"}}',
                'read -P 0 0 64k', fmt=None)


if __name__ == '__main__':
    iotests.main()
