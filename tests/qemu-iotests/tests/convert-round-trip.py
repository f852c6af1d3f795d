#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# group: quick convert
# formats: raw qcow2
"""convert to every format and back gives the same guest data; the result is
what the distribution's tools see too."""
import os

import iotests


class ConvertRoundTrip(iotests.TestCase):
    SIZE = (9 << 20) + 512

    def source(self):
        """A raw file with data, zeroes and holes of all lengths."""
        rng = self.rng()
        data = bytearray(self.SIZE)
        path = self.path('source')
        with open(path, 'wb') as f:
            f.truncate(self.SIZE)
            offset = 0
            while offset < self.SIZE:
                length = min(rng.choice((512, 4096, 65536, 1 << 20))
                             * rng.randint(1, 9), self.SIZE - offset)
                kind = rng.choice(('data', 'pattern', 'zero', 'hole', 'hole'))
                if kind != 'hole':
                    block = {'data': rng.randbytes(length),
                             'pattern': bytes([rng.randint(1, 255)]) * length,
                             'zero': bytes(length)}[kind]
                    f.seek(offset)
                    f.write(block)
                    data[offset:offset + length] = block
                offset += length
        return bytes(data)

    def convert(self, *args, src='source', src_fmt='raw'):
        self.img('convert', '-f', src_fmt, '-O', self.fmt, *args, src, 'out')

    def check_result(self, data):
        self.assert_content('out', data)
        self.assert_clean('out')
        self.ref('compare', '-f', 'raw', '-F', self.fmt, 'source', 'out')

    def test_there_and_back(self):
        data = self.source()
        self.convert()
        self.check_result(data)
        self.img('convert', '-f', self.fmt, '-O', 'raw', 'out', 'back')
        self.assertEqual(self.read_file('back'), data)

    def test_source_by_the_distribution(self):
        data = self.source()
        self.ref('convert', '-f', 'raw', '-O', self.fmt, 'source', 'theirs')
        self.convert(src='theirs', src_fmt=self.fmt)
        self.check_result(data)

    def test_workers_and_order(self):
        data = self.source()
        for args in (['-m', '1'], ['-m', '16'], ['-m', '16', '-W'], ['-W']):
            with self.subTest(' '.join(args)):
                self.convert(*args)
                self.check_result(data)

    def test_cache_modes(self):
        data = self.source()
        for mode in ('writeback', 'writethrough', 'unsafe', 'none',
                     'directsync'):
            with self.subTest(mode):
                self.convert('-t', mode, '-T', 'writeback')
                self.check_result(data)

    def test_sparse_sizes(self):
        data = self.source()
        for size in ('0', '512', '4k', '64k', '16M'):
            with self.subTest(size):
                self.convert('-S', size)
                self.check_result(data)
                if size == '0':
                    ranges = self.img_json('map', '-f', self.fmt, 'out')
                    self.assertTrue(all(r['data'] for r in ranges), ranges)

    def test_holes_stay_holes(self):
        self.write_file('source', b'')
        os.truncate(self.path('source'), 1 << 30)
        with open(self.path('source'), 'r+b') as f:
            f.seek(500 << 20)
            f.write(b'\1' * 65536)
        self.convert()
        used = self.img_json('info', '-f', self.fmt, 'out')['actual-size']
        self.assertLess(used, 1 << 20)

    def test_copy_offloading(self):
        data = self.source()
        self.convert('-C')
        self.check_result(data)

    def test_rate_limit(self):
        data = self.source()
        self.convert('-r', '1G')
        self.check_result(data)

    def test_probed_formats(self):
        data = self.source()
        self.img('convert', '-O', self.fmt, 'source', 'out')
        self.check_result(data)

    def test_replaces_what_was_there(self):
        data = self.source()
        self.write_file('out', b'\xff' * (20 << 20))
        self.convert()
        self.check_result(data)


if __name__ == '__main__':
    iotests.main()
