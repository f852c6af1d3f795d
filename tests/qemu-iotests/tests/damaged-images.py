#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# group: quick
# formats: qcow2
"""Images cut off or with any byte changed: a clear error or correct service,
never a crash, a hang or a write outside of what is ours."""
import os
import re
import struct

import iotests
from iotests import LONG
from iotests.qcow2_bytes import Qcow2Bytes


class DamagedImages(iotests.TestCase):
    def setUp(self):
        super().setUp()
        self.create('good', '4M')
        self.io('good', 'write -P 1 0 256k', 'write -c -P 2 512k 64k',
                'write -z 1M 64k')
        self.good = self.read_file('good')

    def survives(self, *commands):
        """Every command ends by itself, within the time limit; those that fail
        say something."""
        for command in commands or (['info', 'a'], ['check', 'a'],
                                    ['map', '--output=json', 'a'],
                                    ['convert', '-O', 'raw', 'a', 'out']):
            result = self.img(*command, rc=None)
            if result.rc not in (0, 2, 3):
                self.assertNotEqual(result.stderr.strip(), '',
                                    result.describe())

    def test_cut_off(self):
        for length in [0, 1, 3, 4, 7, 8, 71, 72, 103, 104, 111, 112, 511, 512,
                       65535, 65536, 65537, 131072, 196608, 262144,
                       len(self.good) - 1]:
            with self.subTest(length):
                self.write_file('a', self.good[:length])
                self.survives()
                if 8 <= length < 72:
                    self.img_fails('.', 'info', '-f', 'qcow2', 'a')

    def test_a_table_of_rubbish_does_not_flood_the_terminal(self):
        self.create('a', '-o', 'cluster_size=4k', '256G')
        with Qcow2Bytes(self.path('a')) as image:
            offset, entries = image.l1_offset, image.l1_size
        rubbish = self.rng().randbytes(8 * entries)
        self.patch_file('a', offset, rubbish)
        for args in (), ('-r', 'all'):
            result = self.img('check', *args, 'a', rc=2)
            lines = result.stderr.splitlines()
            self.assertLess(len(lines), 100000)
            self.assertIn('(more lines like this are counted, not shown)',
                          lines)
            count = re.search(r'(\d+) errors were found', result.stdout)
            self.assertGreater(int(count[1]), entries // 2)

    def test_other_files(self):
        for content in (b'', b'\0' * 512, b'QFI\xfb', b'QFI\xfb\0\0\0\2',
                        b'QFI\xfb\0\0\0\3' + b'\xff' * 600, os.urandom(70000)):
            self.write_file('a', content)
            self.survives(['info', 'a'])
            self.img_fails('.', 'info', '-f', 'qcow2', 'a')

    def test_fields_of_the_header(self):
        fields = {'version': (4, 4), 'backing offset': (8, 8),
                  'backing size': (16, 4), 'cluster bits': (20, 4),
                  'size': (24, 8), 'crypt': (32, 4), 'l1 size': (36, 4),
                  'l1 offset': (40, 8), 'reftable offset': (48, 8),
                  'reftable clusters': (56, 4), 'snapshots': (60, 4),
                  'snapshot offset': (64, 8), 'incompatible': (72, 8),
                  'refcount order': (96, 4), 'header length': (100, 4),
                  'compression': (104, 1)}
        values = (0, 1, 2, 7, 8, 22, 31, 64, 72, 0xff, 0x200, 0x7fffffff,
                  0xffffffff, 1 << 40, (1 << 63) - 512, (1 << 63), (1 << 64) - 1,
                  (1 << 64) - 512)
        random = self.rng()
        for name, (offset, width) in fields.items():
            for value in values if LONG else random.sample(values, 9):
                if value >= 1 << 8 * width:
                    continue
                with self.subTest(f'{name}={value:#x}'):
                    self.write_file('a', self.good)
                    self.patch_file('a', offset, value.to_bytes(width, 'big'))
                    self.survives(['info', 'a'], ['check', 'a'])
                    self.io('a', 'read 0 4M', rc=None, options=['-r'])

    def test_unknown_features_are_refused_by_name(self):
        self.write_file('a', self.good)
        with Qcow2Bytes(self.path('a')) as image:
            image.set_u64(72, 1 << 63)
        self.img_fails('[Uu]nsupported.*feature', 'info', 'a')

    def test_entries_of_the_tables(self):
        values = (1, 512, 0x1ff, 0xffffffffffffffff, 1 << 62, 1 << 63,
                  (1 << 62) | 0xffff, (1 << 56) - 65536, 1 << 40,
                  (1 << 63) | 65536, (1 << 62) | (1 << 61))
        for table in ('l1', 'l2', 'reft'):
            for value in values:
                with self.subTest(f'{table} {value:#x}'):
                    self.write_file('a', self.good)
                    with Qcow2Bytes(self.path('a')) as image:
                        if table == 'l2':
                            image.set_l2(0, 0, value)
                        else:
                            getattr(image, f'set_{table}')(0, value)
                    self.survives()
                    self.io('a', 'write -P 7 0 64k', 'write -P 7 3M 64k',
                            'discard 0 1M', rc=None)

    def test_random_bytes(self):
        rng = self.rng()
        for i in range(2000 if LONG else 60):
            data = bytearray(self.good)
            end = rng.choice((112, 65536, len(data)))
            for _ in range(rng.choice((1, 1, 2, 8))):
                data[rng.randrange(end)] = rng.randrange(256)
            with self.subTest(i):
                self.write_file('a', bytes(data))
                self.survives(['info', 'a'], ['check', 'a'])
                self.io('a', 'read 0 4M', 'write -P 7 100k 100k',
                        'write -z 300k 300k', 'discard 0 1M', 'flush', rc=None)
                self.img('check', '-r', 'all', 'a', rc=None)
                self.survives(['check', 'a'])

    def test_snapshot_table_out_of_bounds(self):
        for count, offset in ((1, 1 << 40), (65537, 65536), (0xffffffff, 65536),
                              (1, 65537)):
            with self.subTest(f'{count} {offset}'):
                self.write_file('a', self.good)
                self.patch_file('a', 60, struct.pack('>IQ', count, offset))
                self.survives()


if __name__ == '__main__':
    iotests.main()
