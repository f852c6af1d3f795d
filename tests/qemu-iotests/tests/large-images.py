#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# group: quick
# formats: raw qcow2
"""Images far larger than the disk that they lie on."""
import iotests


class LargeImages(iotests.TestCase):
    def test_ends_of_a_large_disk(self):
        size = 8 << 40 if self.fmt == 'raw' else 2 << 50
        self.create('a', str(size))
        info = self.img_json('info', '-f', self.fmt, 'a')
        self.assertEqual(info['virtual-size'], size)
        self.io('a', 'write -P 1 0 64k', f'write -P 2 {size - 65536} 64k',
                f'read -P 1 0 64k', f'read -P 2 {size - 65536} 64k',
                f'read -P 0 {size // 2} 1M')
        ranges = self.img_json('map', '-f', self.fmt, 'a')
        self.assertEqual([r['length'] for r in ranges if r['data']],
                         [65536, 65536])
        self.assert_clean('a')
        self.io_fails('Input/output error', 'a', f'write {size} 512')

    def test_largest_of_each_cluster_size(self):
        """The L1 table has at most 32 MiB."""
        if self.fmt == 'raw':
            return
        for bits in (9, 12, 16):
            with self.subTest(1 << bits):
                size = 1 << (bits + bits - 3 + 22)
                self.create('a', '-o', f'cluster_size={1 << bits}', str(size))
                self.io('a', f'write -P 1 {size - 512} 512',
                        f'read -P 1 {size - 512} 512')
                self.assert_clean('a')
                self.img_fails('.', 'create', '-f', 'qcow2', '-o',
                               f'cluster_size={1 << bits}', 'b',
                               str(size * 2))
                self.img_fails('.', 'resize', 'a', str(size * 2))
                self.assert_clean('a')

    def test_convert_a_large_sparse_disk(self):
        self.create('a', '2T')
        self.io('a', 'write -P 1 1T 1M')
        for fmt in ('raw', 'qcow2'):
            self.img('convert', '-f', self.fmt, '-O', fmt, 'a', 'b')
            self.img('compare', '-f', self.fmt, '-F', fmt, 'a', 'b')
            info = self.img_json('info', '-f', fmt, 'b')
            self.assertLess(info['actual-size'], 4 << 20)


if __name__ == '__main__':
    iotests.main()
